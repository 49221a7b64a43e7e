"""Scores mean what they say, and selection goes by them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.forecast.backtest import evaluate, pinball, rolling, targets_of
from controller.core.forecast.base import model_named, names_for
from controller.core.forecast.select import hold_out_s, ranked, select
from controller.core.series import DAY_S, resample
from controller.core.types import QUANTILES, Series

START_S = 1_732_492_800.0


def rhythm(days: float, noise: float = 0.3, seed: int = 2) -> Series:
    generator = np.random.default_rng(seed)
    at_s = START_S + 60.0 * np.arange(int(days * 1440))
    load = 6 + 5 * np.sin(at_s / DAY_S * 2 * np.pi)
    return Series(START_S, 60.0, np.maximum(load + noise * generator.normal(size=len(at_s)), 0))


def flat(value: float, origins: int, steps: int) -> np.ndarray:
    return np.full((origins, len(QUANTILES), steps), value)


def test_pinball_charges_each_side_its_own_price() -> None:
    actual = np.array([10.0])
    assert pinball(np.array([8.0]), actual, 0.9)[0] == pytest.approx(1.8)
    assert pinball(np.array([12.0]), actual, 0.9)[0] == pytest.approx(0.2)


@given(st.floats(0.01, 0.99), st.integers(0, 100))
def test_the_true_quantile_has_the_least_loss(q: float, seed: int) -> None:
    sample = np.random.default_rng(seed).exponential(1.0, 2000)
    best = pinball(np.full(2000, np.quantile(sample, q)), sample, q).mean()
    for off in (0.5, 0.9, 1.1, 2.0):
        assert pinball(np.full(2000, np.quantile(sample, q) * off), sample, q).mean() >= best - 1e-9


def test_scores_of_a_known_case() -> None:
    actual = np.array([[1.0, 2.0], [3.0, np.nan]])
    found = evaluate(flat(2.0, 2, 2), actual)
    assert found.points == 3 and found.origins == 2
    assert found.wape == pytest.approx(2 / 6)
    assert found.coverage_of(0.9) == pytest.approx(2 / 3)
    assert found.pinball[QUANTILES.index(0.5)] == pytest.approx(0.5 * 2 / 3)


def test_nothing_measured_is_unknown_not_perfect() -> None:
    found = evaluate(flat(1.0, 1, 2), np.full((1, 2), np.nan))
    assert found.points == 0 and np.isnan(found.loss) and np.isnan(found.wape)


def test_targets_past_the_end_are_unknown() -> None:
    series = Series(0, 60.0, np.arange(4.0))
    np.testing.assert_array_equal(targets_of(series, np.array([2, 3]), 2), [[2, 3], [3, np.nan]])


def test_rolling_origins_refit_on_what_was_known_then() -> None:
    """A step up on the fifth day: forecasts made before it must not know of it."""
    series = resample(rhythm(7), 600.0)
    stepped = series.values.copy()
    edge = 5 * 144
    stepped[edge:] += 50
    model = model_named("profile")
    window = (START_S + 4 * DAY_S, START_S + 5 * DAY_S)
    origins, before = rolling(model, series, *window, 24)
    _, after = rolling(model, Series(series.start_s, 600.0, stepped), *window, 24)
    assert origins[0] == 4 * 144 and len(origins) == 24
    np.testing.assert_array_equal(before, after)


def test_the_best_model_leads_and_the_table_says_why() -> None:
    history = resample(rhythm(8, noise=0.05), 600.0)
    found = select(history, 144)
    measured = {score.model: score.pinball for score in found.scores if score.pinball is not None}
    assert found.fitted is not None
    assert found.fitted.model == ranked(found.scores, None, hold_out_s(history))[0]
    assert measured["naive"] > 3 * measured[found.fitted.model]
    assert [score.model for score in found.scores if score.leads] == [found.fitted.model]
    assert {score.model for score in found.scores} == {*names_for(600.0), "combination"}
    assert found.note.startswith(found.fitted.model) and " leads: pinball " in found.note
    weekly = next(score for score in found.scores if score.model == "seasonal_naive_168h")
    assert weekly.pinball is None and "needs 192.0 h" in weekly.note


@pytest.mark.parametrize(("days", "held_days"), [(1, 0), (3.5, 0), (4, 1), (8, 2)])
def test_short_histories_spare_nothing_for_judging(days: float, held_days: int) -> None:
    assert hold_out_s(rhythm(days)) == held_days * DAY_S


@pytest.mark.parametrize(("days", "leader"), [(2.5, "profile"), (0.5, "naive")])
def test_without_evidence_the_order_is_fixed(days: float, leader: str) -> None:
    found = select(rhythm(days), 60)
    assert found.fitted is not None and found.fitted.model == leader
    assert "too little history" in found.note


@pytest.mark.parametrize("values", [[], [1.0], [np.nan] * 20_000], ids=["empty", "one sample", "all gaps"])
def test_selection_on_nothing_is_empty_with_a_reason(values: list[float]) -> None:
    found = select(Series(START_S, 60.0, np.array(values, dtype=np.float64)), 60)
    assert found.fitted is None
    assert "no model can be fitted" in found.note


def test_a_constant_and_a_spike_are_survived() -> None:
    constant = Series(START_S, 600.0, np.full(8 * 144, 3.0))
    assert select(constant, 144).fitted is not None
    spiked = resample(rhythm(8), 600.0)
    spiked.values[500] = 1e9
    found = select(spiked, 144)
    assert found.fitted is not None
    path = model_named(found.fitted.model).predict(found.fitted, spiked, spiked.end_s, 144)
    assert np.median(path[0]) < 100
