"""Many series at once: the same numbers whoever computes them, cheap models for all, expensive ones where earned."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from controller import many_series
from controller.core.forecast.base import Fitted
from controller.core.forecast.earning import CHEAP
from controller.core.series import DAY_S, HOUR_S
from controller.core.types import QUANTILES, Series
from controller.fitting import DASK, Workers
from controller.many_series import SeriesFit, fit_many

END_S = 1_732_406_400.0


def demand(seed: int, days: int = 10) -> Series:
    generator = np.random.default_rng(seed)
    at_s = END_S - days * DAY_S + HOUR_S * np.arange(days * 24)
    rate = 3.0 + seed + 2.0 * np.sin(at_s / DAY_S * 2 * np.pi)
    return Series(float(at_s[0]), HOUR_S, generator.poisson(rate * 5.0) / 5.0)


HISTORIES = {f"service-{seed}": demand(seed) for seed in range(5)}


def parts_of(fitted: Fitted) -> list[Fitted]:
    return [fitted, *fitted.members]


def assert_same(found: dict[str, SeriesFit], expected: dict[str, SeriesFit]) -> None:
    assert list(found) == list(expected)
    for key, fit in found.items():
        other = expected[key]
        assert fit.fitted is not None and other.fitted is not None
        assert (fit.fitted.model, fit.note, fit.reason) == (other.fitted.model, other.note, other.reason)
        np.testing.assert_allclose(fit.forecast, other.forecast, rtol=1e-9)
        for part, same in zip(parts_of(fit.fitted), parts_of(other.fitted), strict=True):
            assert part.model == same.model
            np.testing.assert_allclose(part.spread, same.spread, rtol=1e-9, atol=1e-12)


@pytest.fixture(scope="module")
def in_place() -> dict[str, SeriesFit]:
    return fit_many(HISTORIES, 24, spend_usd={}, workers=0)


def test_every_series_has_a_forecast_scores_and_a_reason(in_place: dict[str, SeriesFit]) -> None:
    assert list(in_place) == list(HISTORIES)
    for fit in in_place.values():
        assert fit.fitted is not None and {each.model for each in fit.fitted.members or (fit.fitted,)} <= set(CHEAP)
        assert fit.forecast.shape == (len(QUANTILES), 24)
        assert (np.diff(fit.forecast, axis=0) >= 0).all()
        assert [score.model for score in fit.scores if score.leads] == [fit.fitted.model]
        assert {score.model for score in fit.scores} == {*CHEAP, "combination"}
        assert (fit.earned, fit.reason) == (False, "cheap models only: what it spends is unknown")


def test_processes_of_this_machine_give_the_same(in_place: dict[str, SeriesFit], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(many_series, "BATCH", 2)
    assert_same(fit_many(HISTORIES, 24, spend_usd={}, workers=2), in_place)


@contextmanager
def cluster_of_two() -> Iterator[str]:
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", scheduler_port=0, dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address


def test_a_dask_cluster_of_two_workers_gives_the_same(
    in_place: dict[str, SeriesFit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many_series, "BATCH", 1)
    with cluster_of_two() as address:
        assert_same(fit_many(HISTORIES, 24, spend_usd={}, backend=DASK, scheduler=address), in_place)


def test_dask_without_a_scheduler_starts_two_workers_of_its_own(in_place: dict[str, SeriesFit]) -> None:
    workers = Workers(1, DASK)
    try:
        work = many_series._batches(iter(HISTORIES.items()), 24, 1)
        found = {fit.key: fit for done in workers.each(many_series._fit, work) for fit in done.result or ()}
    finally:
        workers.close()
    assert set(found) == set(in_place)
    for key, fit in found.items():
        np.testing.assert_allclose(fit.forecast, in_place[key].forecast, rtol=1e-9)


def test_the_series_that_spend_most_get_every_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_series, "expensive_for", lambda step_s: ("ets",))
    spend = {"service-0": 500.0, "service-1": 0.0001, "service-2": float("nan"), "service-3": 900.0}
    found = fit_many(HISTORIES, 24, spend_usd=spend, workers=0, budget_s=1000.0)
    assert [key for key, fit in found.items() if fit.earned] == ["service-0", "service-3"]
    for fit in found.values():
        assert ("ets" in {score.model for score in fit.scores}) is fit.earned
        assert sum(score.leads for score in fit.scores) == 1
        assert len({score.model for score in fit.scores}) == len(fit.scores)
    assert found["service-0"].reason.startswith("all models: it earns them; ")
    assert "is $0.00000, fitting costs" in found["service-1"].reason
    assert "unknown" in found["service-2"].reason and "unknown" in found["service-4"].reason


def test_when_the_time_is_used_up_the_rest_keep_the_cheap_models_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_series, "expensive_for", lambda step_s: ("ets",))
    clock = iter(range(1000))  # a second each time it is looked at
    found = fit_many(
        HISTORIES,
        24,
        spend_usd={key: 100.0 + i for i, key in enumerate(HISTORIES)},
        workers=0,
        budget_s=2.5,
        elapsed_s=lambda: float(next(clock)),
    )
    assert [key for key, fit in found.items() if fit.earned] == ["service-3", "service-4"]
    assert found["service-0"].reason == "cheap models only: 2 s of expensive fits went to series that spend more"


@pytest.mark.parametrize(
    "values",
    [[], [np.nan] * 300, [5.0], [4.0] * 300, [1e9, *([1.0] * 299)]],
    ids=["empty", "gaps", "one", "constant", "spike"],
)
def test_odd_series_take_nobody_with_them(values: list[float]) -> None:
    odd = Series(END_S - HOUR_S * len(values), HOUR_S, np.array(values, dtype=np.float64))
    found = fit_many({"odd": odd, "usual": HISTORIES["service-0"]}, 24, spend_usd={}, workers=0)
    assert found["usual"].fitted is not None
    assert found["odd"].forecast.shape == (len(QUANTILES), 24)
    assert np.isfinite(found["odd"].forecast).all() == bool(np.isfinite(odd.values).any())
    assert found["odd"].note
