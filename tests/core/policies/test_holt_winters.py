"""The one-step forecast is statsmodels' own, for any season and weights that it is asked for."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.tsa.holtwinters import ExponentialSmoothing

from controller.core.policies.holt_winters import least_values, one_step

WEIGHTS = st.floats(0.01, 0.99)


def reference(values: list[float], season: int, alpha: float, beta: float, gamma: float) -> float:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        model = ExponentialSmoothing(
            np.array(values), trend="add", seasonal="add", seasonal_periods=season, initialization_method="estimated"
        )
        fitted = model.fit(smoothing_level=alpha, smoothing_trend=beta, smoothing_seasonal=gamma, optimized=False)
    return float(fitted.forecast(1)[0])


@given(season=st.integers(2, 9), extra=st.integers(0, 20), seed=st.integers(0, 99), weights=st.tuples(*[WEIGHTS] * 3))
@settings(max_examples=40, deadline=None)
def test_it_is_what_statsmodels_forecasts(season: int, extra: int, seed: int, weights: tuple[float, ...]) -> None:
    values = np.random.default_rng(seed).poisson(10, least_values(season) + extra).astype(float).tolist()
    # Weights at which the recursion diverges reach large values: relative to those.
    wanted = reference(values, season, *weights)
    assert one_step(values, season, *weights) == pytest.approx(wanted, rel=1e-6, abs=1e-6)


def test_a_rhythm_is_carried_on() -> None:
    rhythm = [2.0, 4.0, 9.0, 5.0]
    assert one_step(rhythm * 4 + [2.0, 4.0], 4, 0.5, 0.1, 0.1) == pytest.approx(9.0, abs=0.3)
    assert one_step([7.0] * 20, 4, 0.9, 0.9, 0.9) == pytest.approx(7.0)


def test_too_few_values_are_refused() -> None:
    assert [least_values(season) for season in (2, 4, 6, 24)] == [12, 14, 16, 48]
    with pytest.raises(ValueError, match="15 values"):
        one_step([1.0] * 15, 6, 0.9, 0.9, 0.9)
