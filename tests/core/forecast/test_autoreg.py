"""The autoregression is statsmodels', and its lags suit the grid."""

import numpy as np
import pytest

from controller.core.forecast.autoreg import AUTOREG_FOURIER, lags_for
from controller.core.forecast.calendar import WEEK_HARMONICS, calendar
from controller.core.series import resample
from tests.core.forecast.demands import demand


@pytest.mark.parametrize(("step_s", "lags"), [(600.0, [1, 2, 3, 6, 12, 144]), (3600.0, [1, 2, 3, 6, 12, 24])])
def test_our_autoregression_is_statsmodels(step_s: float, lags: list[int]) -> None:
    from statsmodels.tsa.ar_model import AutoReg

    series = resample(demand(16), step_s)
    arrays, numbers = AUTOREG_FOURIER.learn(series, 24)
    outside = calendar(series.start_s, step_s, len(series.values), WEEK_HARMONICS)
    theirs = AutoReg(series.values, lags=lags, trend="c", exog=outside).fit().params
    ours = np.concatenate([[numbers["constant"]], arrays["lag"], arrays["seasonal"]])
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_a_week_is_left_out_while_history_is_short() -> None:
    short, _ = AUTOREG_FOURIER.learn(resample(demand(10), 600.0), 144)
    assert len(short["seasonal"]) == calendar(0.0, 600.0, 1).shape[1]


def test_lags_reach_a_day_back_but_for_minutes() -> None:
    assert lags_for(3600.0)[-1] == 24 and lags_for(600.0)[-1] == 144 and lags_for(60.0)[-1] == 60
