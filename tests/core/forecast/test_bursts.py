"""What just happened makes more of itself, for a while."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.forecast.backtest import evaluate, targets_of
from controller.core.forecast.base import Fitted, model_named
from controller.core.forecast.bursts import CUT, SELF_EXCITING, faded, highest_before, scales_for
from controller.core.series import DAY_S, clip
from controller.core.types import Series
from tests.core.forecast.demands import MONDAY_S, contagious


@pytest.fixture(scope="module")
def history() -> Series:
    return contagious(9)


@pytest.fixture(scope="module")
def fitted(history: Series) -> Fitted:
    return SELF_EXCITING.fit(clip(history, end_s=MONDAY_S + 7 * DAY_S), 60)


def test_a_burst_raises_what_comes_next_and_is_forgotten(history: Series, fitted: Fitted) -> None:
    known = clip(history, end_s=MONDAY_S + 8 * DAY_S)
    values = known.values.copy()
    values[-10:] += 6.0
    calm = SELF_EXCITING.predict(fitted, known, known.end_s, 60)[0]
    burst = SELF_EXCITING.predict(fitted, Series(known.start_s, 60.0, values), known.end_s, 60)[0]
    lift = burst - calm
    assert lift[:5].mean() > 0.5
    assert lift[50:].mean() < 0.75 * lift[:5].mean()


def test_a_contagious_demand_is_forecast_better_than_by_level_or_rhythm(history: Series, fitted: Fitted) -> None:
    origins = np.arange(7 * 1440, 9 * 1440 - 60, 10)
    actual = targets_of(history, origins, 60)
    mine = evaluate(SELF_EXCITING.predict_many(fitted, history, origins, 60), actual)
    for name in ("naive", "seasonal_naive_24h"):
        model = model_named(name)
        other = model.fit(clip(history, end_s=MONDAY_S + 7 * DAY_S), 60)
        assert mine.loss < 0.98 * evaluate(model.predict_many(other, history, origins, 60), actual).loss
    assert abs(mine.coverage_of(0.9) - 0.9) < 0.05


def test_no_weight_is_negative(fitted: Fitted) -> None:
    assert (fitted.arrays["weights"] >= 0).all()
    assert fitted.arrays["weights"][:, 1:6].sum(axis=1)[0] > 0.2  # it is recent load that the next minute comes from


@given(st.integers(0, 200), st.sampled_from([1.0, 2.5, 15.0]))
def test_fading_is_the_weighted_mean_of_what_is_near_and_of_nothing_else(seed: int, scale: float) -> None:
    values = np.random.default_rng(seed).exponential(1.0, 120)
    width = round(CUT * scale)
    weights = np.exp(-np.arange(width) / scale)
    weights /= weights.sum()
    at = 100
    expected = float(weights @ values[at - 1 : at - 1 - width : -1])
    assert faded(values, scale)[at] == pytest.approx(expected)
    shorter = values[at - width :]
    assert faded(shorter, scale)[width] == pytest.approx(expected)
    assert faded(np.full(120, 3.0), scale)[at] == pytest.approx(3.0)


def test_the_recent_maximum_is_of_steps_before_only() -> None:
    values = np.array([1.0, 5.0, 2.0, 9.0])
    np.testing.assert_array_equal(highest_before(values, np.array([0, 1, 2, 3, 4]), 2), [0, 1, 5, 5, 9])


def test_coarse_grids_leave_out_what_they_cannot_tell_apart() -> None:
    assert scales_for(60.0)[0] == 120.0
    assert scales_for(600.0) == (300.0, 900.0, 2700.0, 10800.0)
