"""ARIMA errors: filtered and forecast by us as statsmodels does, and worth their time where the level wanders."""

import warnings

import numpy as np
import pytest

from controller.core.forecast.arima import ARIMA_FOURIER, ORDERS, estimated
from controller.core.forecast.base import Fitted, model_named
from controller.core.forecast.calendar import WEEK_HARMONICS, calendar
from controller.core.series import DAY_S, clip, resample
from controller.core.types import Series
from tests.core.forecast.demands import MONDAY_S, busy, uneven


def bare(arrays: dict[str, np.ndarray], numbers: dict[str, float], series: Series, steps: int) -> Fitted:
    return Fitted("arima_fourier", series.step_s, steps, series.end_s, np.empty((0, 0, 0)), arrays, numbers)


@pytest.mark.parametrize("order", ORDERS)
def test_our_forecast_is_statsmodels(order: tuple[int, int, int]) -> None:
    """From parameters alone, and after three more days carried on by our filter."""
    from statsmodels.tsa.arima.model import ARIMA

    series = resample(uneven(21), 3600.0)
    known = clip(series, end_s=MONDAY_S + 18 * DAY_S)
    arrays, numbers = estimated(known, order)
    kept = bare(*ARIMA_FOURIER.kept(arrays, numbers, 3600.0), series, 24)
    terms = calendar(series.start_s, 3600.0, len(series.values) + 24, WEEK_HARMONICS)
    params = [numbers["constant"]] if order[1] == 0 else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit_again = ARIMA(
            known.values / numbers["scale"],
            exog=terms[: len(known.values)],
            order=order,
            trend="c" if params else "n",
        ).fit(method="hannan_rissanen", gls_kwargs={"max_iter": 4})
        for seen in (known, series):
            count = len(seen.values)
            model = ARIMA(seen.values / numbers["scale"], exog=terms[:count], order=order, trend="c" if params else "n")
            theirs = numbers["scale"] * model.filter(fit_again.params).forecast(24, exog=terms[count : count + 24])
            ours = ARIMA_FOURIER.features(kept, seen, np.array([count]), np.arange(24))[0, :, 1]
            np.testing.assert_allclose(ours, np.maximum(theirs, 0.0), rtol=1e-6)


def test_a_wandering_level_is_followed_where_a_fixed_one_is_not() -> None:
    """On a rhythm whose level is a random walk, beating yesterday over the next hours."""
    generator = np.random.default_rng(11)
    calm = resample(busy(20), 3600.0)
    level = 40 + np.cumsum(generator.normal(size=len(calm.values)))
    series = Series(calm.start_s, 3600.0, np.maximum(calm.values + level, 0.0))
    known = clip(series, end_s=MONDAY_S + 16 * DAY_S)
    origins = np.arange(16 * 24, 19 * 24)
    index = origins[:, None] + np.arange(6)[None, :]

    def error(name: str) -> float:
        model = model_named(name)
        found = model.predict_many(model.fit(known, 24), series, origins, 6)[:, 0, :]
        return float(np.abs(found - series.values[index]).mean())

    assert error("arima_fourier") < 0.7 * error("seasonal_naive_24h")
