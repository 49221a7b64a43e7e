"""What a forecast has to beat: four ways that people forecast demand with today, given the band they would give it.

Each baseline forecasts a point path; its quantiles are that path plus the empirical quantile of its own errors so far
at the same step ahead (split conformal, as in Stankeviciute et al. 2021), from every earlier origin whose step is known
by then. So a baseline isn't punished for having no band, and knows nothing that the selected forecast doesn't.
"""

import warnings
from typing import Final

import numpy as np

from controller.core.forecast.base import IntArray, day_steps
from controller.core.forecast.seasonal import expected_profile
from controller.core.series import WEEK_S, filled
from controller.core.types import QUANTILES, FloatArray, Series

FEWEST_ERRORS: Final = 12
BASELINES: Final = ("day-type profile", "seasonal naive 168 h", "Holt-Winters", "MSTL")


def points(name: str, series: Series, origins: IntArray, steps: int, period: int | None = None) -> FloatArray:
    """Point forecasts of the steps after each origin, shape (origins, steps), from what lies before it alone.

    `period`: steps in a day, where the series' own step doesn't say. NaN where the baseline can't forecast yet.
    KeyError for an unknown name.
    """
    made = {
        "day-type profile": _profile,
        "seasonal naive 168 h": _last_week,
        "Holt-Winters": _holt_winters,
        "MSTL": _mstl,
    }[name]
    return made(filled(series), origins, steps, period or day_steps(series.step_s))


def banded(path: FloatArray, series: Series, origins: IntArray) -> FloatArray:
    """Quantiles (origins, quantiles, steps) of point paths (origins, steps): each with the errors known at its origin.

    Until FEWEST_ERRORS errors of a step are known the path is its own quantile.
    """
    count, steps = path.shape
    index = origins[:, None] + np.arange(steps)[None, :]
    length = len(series.values)
    actual = np.where(index < length, series.values[np.minimum(index, length - 1)], np.nan)
    error = actual - path
    out = np.repeat(path[:, None, :], len(QUANTILES), axis=1)
    for i in range(count):
        known = np.where(index[:i] < origins[i], error[:i], np.nan)
        enough = np.isfinite(known).sum(axis=0) >= FEWEST_ERRORS
        if enough.any():
            out[i][:, enough] += np.nanquantile(known[:, enough], QUANTILES, axis=0)
    quantiles: FloatArray = np.maximum(out, 0.0)
    return quantiles


def _profile(series: Series, origins: IntArray, steps: int, period: int) -> FloatArray:
    """The mean of the same time of day over the earlier days of the same type, recent days first."""
    out = np.full((len(origins), steps), np.nan)
    known: dict[int, FloatArray] = {}
    for i, origin in enumerate(origins.tolist()):
        day = origin // period
        if day not in known:  # the days that are whole by then
            known = {day: expected_profile(Series(series.start_s, series.step_s, series.values[: day * period]))}
        path = known[day]
        wanted = origin + np.arange(steps)
        out[i] = path[np.minimum(wanted, len(path) - 1)] if len(path) else np.nan
    return out


def _last_week(series: Series, origins: IntArray, steps: int, period: int) -> FloatArray:
    season = round(WEEK_S / series.step_s) if period == day_steps(series.step_s) else 7 * period
    index = origins[:, None] + np.arange(steps)[None, :] - season
    return np.where(index >= 0, series.values[np.maximum(index, 0)], np.nan)


def _holt_winters(series: Series, origins: IntArray, steps: int, period: int) -> FloatArray:
    """Additive Holt-Winters with a damped trend (statsmodels), estimated once a day and carried on between."""
    from statsmodels.tsa.holtwinters import ExponentialSmoothing

    out = np.full((len(origins), steps), np.nan)
    found: dict[str, float] | None = None
    day = -1
    for i, origin in enumerate(origins.tolist()):
        if origin < 2 * period + 10:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = ExponentialSmoothing(
                series.values[:origin],
                trend="add",
                damped_trend=True,
                seasonal="add",
                seasonal_periods=period,
                initialization_method="heuristic",
            )
            if origin // period != day:
                day, found = origin // period, dict(model.fit().params)
            assert found is not None
            fit = model.fit(
                smoothing_level=found["smoothing_level"],
                smoothing_trend=found["smoothing_trend"],
                smoothing_seasonal=found["smoothing_seasonal"],
                damping_trend=found["damping_trend"],
                optimized=False,
            )
            out[i] = np.asarray(fit.forecast(steps))
    return out


def _mstl(series: Series, origins: IntArray, steps: int, period: int) -> FloatArray:
    """MSTL (Bandara et al. 2021, statsmodels) of the day and, from two weeks on, the week; ETS on what is left."""
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel
    from statsmodels.tsa.seasonal import MSTL

    out = np.full((len(origins), steps), np.nan)
    for i, origin in enumerate(origins.tolist()):
        if origin < 2 * period + 10:
            continue
        values = series.values[:origin]
        periods = [period] + ([7 * period] if origin >= 14 * period + 10 else [])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parts = MSTL(values, periods=periods).fit()
            seasonal = np.asarray(parts.seasonal).reshape(origin, -1)
            rest = values - seasonal.sum(axis=1)
            level = ETSModel(rest, error="add", trend="add", damped_trend=True, initialization_method="heuristic")
            path = np.asarray(level.fit(disp=False, maxiter=60).forecast(steps))
        for j, length in enumerate(periods):
            path = path + np.resize(np.roll(seasonal[-length:, j], 0), steps)
        out[i] = path
    return out
