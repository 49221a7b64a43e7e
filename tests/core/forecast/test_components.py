"""Unobserved components: our Kalman filter is statsmodels', at the fit's end and after it."""

import warnings

import numpy as np
import pytest

from controller.core.forecast.base import Fitted
from controller.core.forecast.components import COMPONENTS, LONGEST_FIT_STEPS, built, estimated
from controller.core.series import DAY_S, WEEK_S, clip, resample
from tests.core.forecast.demands import MONDAY_S, busy


@pytest.mark.parametrize(("step_s", "days"), [(3600.0, 9), (3600.0, 18), (600.0, 9)])
def test_our_forecast_is_statsmodels(step_s: float, days: int) -> None:
    series = resample(busy(days + 1), step_s)
    known = clip(series, end_s=MONDAY_S + days * DAY_S)
    steps = round(DAY_S / step_s)
    arrays, numbers = COMPONENTS.learn(known, steps)
    kept, moved = COMPONENTS.kept(arrays, numbers, step_s)
    fitted = Fitted("components", step_s, steps, known.end_s, np.empty((0, 0, 0)), kept, moved)
    weekly = days >= 14
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        params = estimated((known.values / numbers["scale"])[-LONGEST_FIT_STEPS:], step_s, weekly)
        for seen in (known, series):
            count = len(seen.values)
            theirs = built(seen.values / numbers["scale"], step_s, weekly).filter(params).forecast(steps)
            ours = COMPONENTS.features(fitted, seen, np.array([count]), np.arange(steps))[0, :, 1]
            np.testing.assert_allclose(ours, np.maximum(numbers["scale"] * theirs, 0.0), rtol=1e-5, atol=1e-6)


def test_a_state_not_yet_determined_is_not_known() -> None:
    """Before a week was seen, the season of the week is anything: such origins must not teach the band."""
    series = resample(busy(16), 3600.0)
    arrays, numbers = COMPONENTS.learn(series, 24)
    assert numbers["ready_s"] == series.start_s + 1.5 * WEEK_S
    fitted = Fitted("components", 3600.0, 24, series.end_s, np.empty((0, 0, 0)), arrays, numbers)
    found = COMPONENTS.features(fitted, series, np.array([48, 300]), np.arange(24))
    assert np.isnan(found[0, :, 1]).all() and np.isfinite(found[1]).all()
