"""The forecaster as the loop uses it: cheap between fits, honest about gaps, and never brought down by a fit."""

import json
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest

from controller import fits as fits_module
from controller import forecaster as forecaster_module
from controller.core.forecast.base import GRIDS
from controller.core.forecast.events import Event
from controller.core.forecast.parameters import fitted_to_json, to_json
from controller.core.forecast.select import select
from controller.core.forecast.signals import Outside
from controller.core.series import DAY_S, HOUR_S, clip
from controller.core.types import QUANTILES, Forecast, Series
from controller.fits import FitJob, Refit, fit_series
from controller.fitting import FitPool
from controller.forecaster import Forecaster
from controller.lines import Change

START_S = 1_732_492_800.0


def demand(days: float, scale: float = 1.0) -> Series:
    generator = np.random.default_rng(4)
    at_s = START_S + 60.0 * np.arange(int(days * 1440))
    rate = np.clip(8 * np.sin(at_s / DAY_S * 2 * np.pi), 0, None)
    return Series(START_S, 60.0, generator.poisson(rate * 2.0) / 2.0 * scale)


def at(loads: dict[str, Series], now_s: float) -> dict[str, Series]:
    return {key: clip(series, end_s=now_s) for key, series in loads.items()}


LOADS = {"premium": demand(7), "premium+standard": demand(7, 3.0)}
NOW_S = START_S + 6 * DAY_S + 6 * HOUR_S


CHEAP = ("naive", "seasonal_naive_24h", "profile", "autoreg_fourier")


@pytest.fixture(scope="module", autouse=True)
def cheap() -> Iterator[None]:
    """Fits in this process choose among few models: how they are chosen is tested in tests/core/forecast."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fits_module, "select", partial(select, names=CHEAP))
        yield


@pytest.fixture(scope="module")
def fitted(cheap: None) -> Forecaster:
    forecaster = Forecaster()
    forecaster.refit("images", at(LOADS, NOW_S), NOW_S)
    return forecaster


class Never(Executor):
    """A pool in which nothing ever ends."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        return Future()


class Breaking(Executor):
    """A pool whose workers die."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(RuntimeError("worker died"))
        return future


def test_a_forecast_for_every_key_and_grid(fitted: Forecaster) -> None:
    found = fitted.forecast("images", at(LOADS, NOW_S), NOW_S + 7)
    assert set(found) == {(key, step_s) for key in LOADS for step_s, _ in GRIDS}
    for (key, step_s), forecast in found.items():
        assert (forecast.service, forecast.tier, forecast.made_s) == ("images", key, NOW_S + 7)
        assert forecast.start_s == NOW_S
        assert forecast.values.shape == (len(QUANTILES), dict(GRIDS)[step_s])
        assert (np.diff(forecast.values, axis=0) >= 0).all()
        assert forecast.model in forecast.reason.text and "leads" in forecast.reason.text
        assert forecast.reason.numbers["pinball"] is not None


def test_within_a_step_nothing_is_computed_again(fitted: Forecaster) -> None:
    noon = fitted.forecast("images", at(LOADS, NOW_S), NOW_S)
    later = fitted.forecast("images", at(LOADS, NOW_S), NOW_S + 45)
    assert all(later[line] is noon[line] for line in noon)
    next_minute = fitted.forecast("images", at(LOADS, NOW_S + 60), NOW_S + 60)
    assert next_minute["premium", 60.0] is not noon["premium", 60.0]
    assert next_minute["premium", 600.0] is noon["premium", 600.0]


def test_a_minute_that_arrives_late_is_taken_in(fitted: Forecaster) -> None:
    now_s = NOW_S + 3600
    early = fitted.forecast("images", at(LOADS, now_s - 60), now_s)
    assert "not measured" in early["premium", 60.0].reason.text
    whole = fitted.forecast("images", at(LOADS, now_s), now_s + 15)
    assert "not measured" not in whole["premium", 60.0].reason.text


def test_an_hour_of_ticks_fits_nothing_and_forecasts_each_step_once(
    fitted: Forecaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What keeps a tick cheap. How cheap it is, is measured in docs/benchmarks.md."""

    def no_fit(*_: object, **__: object) -> Any:
        raise AssertionError("a fit in a tick")

    monkeypatch.setattr(forecaster_module, "fit_series", no_fit)
    for name in ("refit", "select"):
        monkeypatch.setattr(fits_module, name, no_fit)
    made: dict[tuple[str, float], list[Forecast]] = {}
    for tick in range(4 * 60):
        now_s = NOW_S + 2 * HOUR_S + 15 * tick
        for line, forecast in fitted.forecast("images", at(LOADS, now_s - now_s % 60), now_s).items():
            before = made.setdefault(line, [])
            if not any(forecast is one for one in before):
                before.append(forecast)
    assert {line: len(found) for line, found in made.items()} == {line: HOUR_S / line[1] for line in made}


def test_before_any_fit_the_level_goes_on_and_says_so() -> None:
    found = Forecaster().forecast("images", at(LOADS, NOW_S), NOW_S)["premium", 60.0]
    assert found.model == "persistence"
    assert "not fitted yet" in found.reason.text
    assert np.isfinite(found.values).all()


@pytest.mark.parametrize(
    ("values", "model"), [([], "none"), ([np.nan] * 100, "none"), ([7.0], "persistence")], ids=["empty", "gaps", "one"]
)
def test_next_to_nothing_is_forecast_with_a_reason(values: list[float], model: str) -> None:
    loads = {"premium": Series(NOW_S - 60.0 * len(values), 60.0, np.array(values, dtype=np.float64))}
    forecaster = Forecaster()
    forecaster.refit("images", loads, NOW_S)
    found = forecaster.forecast("images", loads, NOW_S)["premium", 60.0]
    assert found.model == model
    assert "no model can be fitted" in found.reason.text
    assert np.isnan(found.values).all() if model == "none" else (found.values == 7.0).all()


def test_telemetry_that_stopped_is_bridged_by_the_day_before_and_said() -> None:
    forecaster = Forecaster()
    forecaster.refit("images", at(LOADS, NOW_S), NOW_S)
    hour = forecaster.forecast("images", at(LOADS, NOW_S), NOW_S + HOUR_S)["premium", 60.0]
    assert "the last 60 min before it were not measured" in hour.reason.text
    assert hour.reason.numbers["not_measured_s"] == HOUR_S
    assert np.isfinite(hour.values).all()
    noon = forecaster.forecast("images", at(LOADS, NOW_S), NOW_S + DAY_S)["premium", 60.0]
    assert "the last 1440 min" in noon.reason.text
    assert noon.at(0.5).mean() == pytest.approx(LOADS["premium"].values[-1080:-1020].mean(), rel=0.5)


def test_a_day_of_refits() -> None:
    forecaster = Forecaster()
    loads = at(LOADS, NOW_S)
    assert forecaster.refit_due("images", NOW_S) is Refit.SELECT
    said = forecaster.refit("images", loads, NOW_S)
    assert len(said) == len(LOADS) * len(GRIDS) and all("leads" in change.what for change in said)
    assert forecaster.refit_due("images", NOW_S + HOUR_S) is None
    assert forecaster.refit_due("images", NOW_S + 6 * HOUR_S) is Refit.UPDATE
    assert forecaster.refit("images", at(LOADS, NOW_S + 6 * HOUR_S), NOW_S + 6 * HOUR_S, Refit.UPDATE) == []
    assert forecaster.refit_due("images", NOW_S + 7 * HOUR_S) is None
    assert forecaster.refit_due("images", NOW_S + DAY_S) is Refit.SELECT


def test_too_little_history_is_tried_again_within_the_hour() -> None:
    forecaster = Forecaster()
    now_s = START_S + DAY_S
    forecaster.refit("images", at(LOADS, now_s), now_s)
    assert forecaster.refit_due("images", now_s + HOUR_S) is Refit.SELECT


def test_scores_of_every_model_and_who_leads(fitted: Forecaster) -> None:
    table = fitted.scores("images")
    assert {(key, step_s) for key, step_s, _ in table} == {(key, step_s) for key in LOADS for step_s, _ in GRIDS}
    for line, leader in fitted.leaders("images").items():
        assert [score.model for key, step_s, score in table if (key, step_s) == line and score.leads] == [leader]
    assert fitted.scores("elsewhere") == []


def test_fits_travel_to_a_process_and_back() -> None:
    forecaster = Forecaster(grids=((600.0, 144),))
    loads = at({"premium": LOADS["premium"]}, NOW_S)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert forecaster.refit_async(pool, "images", loads, NOW_S) == 1
        assert forecaster.refit_due("images", NOW_S + 2 * DAY_S) is None, "one at a time"
    said = forecaster.collect(NOW_S)
    assert len(said) == 1 and "leads" in said[0].what
    found = forecaster.forecast("images", loads, NOW_S)["premium", 600.0]
    assert found.model == forecaster.leaders("images")["premium", 600.0]
    assert np.isfinite(found.values).all()
    assert forecaster.refit_due("images", NOW_S + HOUR_S) is None


def test_a_fit_that_hangs_is_given_up_and_the_last_one_stays() -> None:
    wall = [0.0]
    forecaster = Forecaster(time_limit_s=120, elapsed_s=lambda: wall[0])
    loads = at(LOADS, NOW_S)
    forecaster.refit("images", loads, NOW_S)
    leaders = forecaster.leaders("images")
    forecaster.refit_async(Never(), "images", loads, NOW_S)
    wall[0] = 119.0
    assert forecaster.collect(NOW_S) == []
    wall[0] = 121.0
    assert "took over 120 s" in forecaster.collect(NOW_S)[0].what
    assert forecaster.leaders("images") == leaders
    assert "given up" in forecaster.forecast("images", loads, NOW_S)["premium", 60.0].reason.text


def hang(job: FitJob) -> Any:
    """A fit that never ends."""
    threading.Event().wait(3600)


def test_a_fit_that_really_hangs_in_a_process_is_given_up_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecaster_module, "fit_series", hang)
    forecaster = Forecaster(grids=((600.0, 144),), time_limit_s=1.0)
    loads = at({"premium": LOADS["premium"]}, NOW_S)
    pool = FitPool(1)
    try:
        forecaster.refit_async(pool, "images", loads, NOW_S)
        said: list[Change] = []
        while not said:
            said = forecaster.collect(NOW_S)
            found = forecaster.forecast("images", loads, NOW_S)["premium", 600.0]
            assert np.isfinite(found.values).all(), "the tick goes on meanwhile"
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    assert [change.what for change in said] == ["images/premium at 600 s: the fit took over 1 s and was given up"]
    found = forecaster.forecast("images", loads, NOW_S)["premium", 600.0]
    assert found.model == "persistence" and "given up" in found.reason.text
    assert forecaster.refit_due("images", NOW_S + HOUR_S) is Refit.SELECT


def test_a_worker_that_dies_is_a_reason_not_a_crash() -> None:
    forecaster = Forecaster()
    loads = at(LOADS, NOW_S)
    forecaster.refit_async(Breaking(), "images", loads, NOW_S)
    assert all("worker died" in change.what for change in forecaster.collect(NOW_S))
    found = forecaster.forecast("images", loads, NOW_S)["premium", 60.0]
    assert found.model == "persistence" and "worker died" in found.reason.text
    assert forecaster.refit_due("images", NOW_S + HOUR_S) is Refit.SELECT


def test_jobs_and_outcomes_are_plain() -> None:
    history = clip(LOADS["premium"], end_s=NOW_S)
    first = fit_series(FitJob("images", "premium", history, 60, Refit.SELECT, None))
    outcome = fit_series(pickle.loads(pickle.dumps(FitJob("images", "premium", history, 60, Refit.SELECT, None))))
    again = pickle.loads(pickle.dumps(outcome))
    assert again.fitted is not None and outcome.fitted is not None
    assert first.fitted is not None
    for other in (again, first):
        assert other.fitted is not None and other.fitted.model == outcome.fitted.model
        assert json.dumps(fitted_to_json(other.fitted)) == json.dumps(fitted_to_json(outcome.fitted))
        assert [fitted.model for fitted in other.beside] == [fitted.model for fitted in outcome.beside]


# --- what happens by itself ---


def test_drift_is_refitted_for_the_lines_that_drifted_only(fitted: Forecaster) -> None:
    forecaster = Forecaster()
    loads = at(LOADS, NOW_S)
    forecaster.restore(
        "images", [(*place, to_json(each)) for place, each in fitted.parameters("images").items()], NOW_S
    )
    assert forecaster.refit_due("images", NOW_S) is None
    line = next(line for line in forecaster.lines("images") if (line.key, line.step_s) == ("premium", 600.0))
    line.drift = "drift: tested"
    assert forecaster.refit_due("images", NOW_S) is Refit.DRIFT
    assert forecaster.refit_async(Never(), "images", loads, NOW_S, Refit.DRIFT) == 1
    assert forecaster.refit_due("images", NOW_S) is None, "it is being done"
    other = Forecaster()
    other.restore("images", [(*place, to_json(each)) for place, each in fitted.parameters("images").items()], NOW_S)
    line = next(line for line in other.lines("images") if (line.key, line.step_s) == ("premium", 600.0))
    line.drift = "drift: tested"
    other.refit("images", loads, NOW_S, Refit.DRIFT)
    assert other.refit_due("images", NOW_S) is None
    assert other.refit_due("images", NOW_S + DAY_S) is Refit.SELECT


def test_an_event_tells_in_the_next_tick(fitted: Forecaster) -> None:
    before = fitted.forecast("images", at(LOADS, NOW_S), NOW_S)["premium", 600.0]
    sale = Event("sale", "campaign", NOW_S + HOUR_S, NOW_S + 2 * HOUR_S, 2.0)
    fitted.know("images", Outside((), (sale,)))
    after = fitted.forecast("images", at(LOADS, NOW_S), NOW_S + 15)["premium", 600.0]
    np.testing.assert_allclose(after.values[:, 6:12], 2.0 * before.values[:, 6:12])
    assert "event 'sale'" in after.reason.text
    fitted.know("images", Outside())
    again = fitted.forecast("images", at(LOADS, NOW_S), NOW_S + 30)["premium", 600.0]
    np.testing.assert_array_equal(again.values, before.values)


# --- restarts ---


def test_a_restarted_controller_forecasts_at_once_and_fits_nothing_before_it_is_due(fitted: Forecaster) -> None:
    loads = at(LOADS, NOW_S)
    stored = json.loads(json.dumps([(*place, to_json(each)) for place, each in fitted.parameters("images").items()]))
    again = Forecaster()
    assert again.restore("images", [tuple(row) for row in stored], NOW_S + HOUR_S) == []
    assert again.leaders("images") == fitted.leaders("images")
    found, before = again.forecast("images", loads, NOW_S), fitted.forecast("images", loads, NOW_S)
    for line, forecast in before.items():
        np.testing.assert_array_equal(found[line].values, forecast.values)
    assert again.refit_due("images", NOW_S + HOUR_S) is None
    assert again.refit_due("images", NOW_S + 8 * HOUR_S) is Refit.UPDATE
    assert again.refit_due("images", NOW_S + DAY_S) is Refit.SELECT
    assert again.scores("images") == fitted.scores("images")


def test_what_was_stored_by_another_version_is_fitted_anew_with_a_word(fitted: Forecaster) -> None:
    stored = [(*place, to_json(each)) for place, each in fitted.parameters("images").items()]
    stored[0] = (*stored[0][:2], {**stored[0][2], "schema": 99})
    stored[1] = (*stored[1][:2], "rubbish")
    again = Forecaster()
    said = again.restore("images", [*stored, ("premium", 7.0, {})], NOW_S)
    assert len(said) == 2 and "schema 99" in said[0].what and "fitted anew" in said[1].what
    assert again.refit_due("images", NOW_S) is Refit.SELECT
    found = again.forecast("images", at(LOADS, NOW_S), NOW_S)
    assert all(np.isfinite(forecast.values).all() for forecast in found.values())
    assert sum(forecast.model == "persistence" for forecast in found.values()) == 2


def test_nothing_stored_is_a_first_start() -> None:
    forecaster = Forecaster()
    assert forecaster.restore("images", [], NOW_S) == []
    assert forecaster.refit_due("images", NOW_S) is Refit.SELECT
