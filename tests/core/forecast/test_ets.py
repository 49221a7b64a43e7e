"""Of exponential smoothing only the parameters are kept; the recursion is ours and forecasts what the library would."""

import warnings

import numpy as np

from controller.core.forecast.base import Fitted
from controller.core.forecast.ets import ETS
from controller.core.series import DAY_S, clip, resample
from tests.core.forecast.demands import MONDAY_S, demand


def test_our_exponential_smoothing_is_statsmodels() -> None:
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    series = clip(resample(demand(6), 600.0), end_s=MONDAY_S + 5 * DAY_S)
    arrays, numbers = ETS.learn(series, 144)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ETSModel(
            series.values,
            error="add",
            trend="add",
            damped_trend=True,
            seasonal="add",
            seasonal_periods=144,
            initialization_method="heuristic",
        )
        theirs = np.asarray(model.fit(disp=False, maxiter=60).forecast(144))
    fitted = Fitted("ets", 600.0, 144, series.end_s, np.empty((0, 0, 0)), arrays, numbers)
    origins = np.array([len(series.values)])
    ours = ETS.features(fitted, series, origins, np.arange(144))[0, :, 1]
    np.testing.assert_allclose(ours, np.maximum(theirs, 0.0), rtol=1e-6, atol=1e-6)
