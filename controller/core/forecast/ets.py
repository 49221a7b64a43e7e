"""Exponential smoothing, as parameters only: estimated by statsmodels, carried on by a recursion of ours that is equal
to the library's (tests hold it so). Predicting from parameters costs microseconds where a library's result object costs
milliseconds and megabytes.
"""

import warnings
from collections.abc import Mapping

import numpy as np

from controller.core.forecast.base import CannotFit, Fitted, IntArray, day_steps
from controller.core.forecast.carried import path_features, place
from controller.core.forecast.paths import Parameters, PathModel
from controller.core.series import DAY_S
from controller.core.types import FloatArray, Series


class Ets(PathModel):
    """Exponential smoothing: additive error, damped trend, additive daily season (statsmodels ETSModel)."""

    name = "ets"
    description = "exponential smoothing with a daily season"
    expensive = True
    reach_s = DAY_S
    warm_up_s = 2 * DAY_S

    def learn(self, history: Series, steps: int) -> Parameters:
        if float(np.ptp(history.values)) == 0.0:
            raise CannotFit("a constant series has nothing to smooth")
        arrays, numbers = estimated(history.values, day_steps(history.step_s))
        numbers = {**numbers, "start_s": history.start_s, "highest": float(history.values.max())}
        return smooth(arrays, numbers, history.values), numbers

    def kept(self, arrays: dict[str, FloatArray], numbers: dict[str, float], step_s: float) -> Parameters:
        done = len(arrays["level"]) - 1
        rest = {"level": arrays["level"][-1:], "trend": arrays["trend"][-1:], "season": arrays["season"][done:]}
        return rest, {**numbers, "start_s": numbers["start_s"] + done * step_s}

    def features(self, fitted: Fitted, series: Series, origins: IntArray, ahead: IntArray) -> FloatArray:
        numbers = fitted.numbers
        offset, at = place(fitted, series, origins)
        arrays = dict(fitted.arrays)
        done = len(arrays["level"]) - 1
        if int(at[-1]) > done:
            arrays = smooth(arrays, numbers, series.values[offset + done : offset + int(at[-1])])
        season = day_steps(series.step_s)
        # `season` begins one season before `start_s`, so that index i is what was written a season before step i
        path = run_on(arrays, numbers, at, ahead) + arrays["season"][at[:, None] + ahead[None, :] % season]
        return path_features(path, 3.0 * numbers["highest"])


def estimated(values: FloatArray, season: int | None) -> Parameters:
    """Smoothing weights and first states of an additive damped-trend model, by statsmodels' maximum likelihood.

    `season` in steps; None: without one. Raises CannotFit when the library finds no finite parameters.
    """
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            model = ETSModel(
                values,
                error="add",
                trend="add",
                damped_trend=True,
                seasonal="add" if season else None,
                seasonal_periods=season,
                initialization_method="heuristic",
            )
            found = model.fit(disp=False, maxiter=60)
        except (ValueError, np.linalg.LinAlgError) as error:
            raise CannotFit(f"exponential smoothing of {len(values)} steps failed: {error}") from error
    named = dict(zip(model.param_names, np.asarray(found.params, dtype=np.float64), strict=False))
    numbers = {
        "alpha": float(named["smoothing_level"]),
        "beta": float(named["smoothing_trend"]),
        "gamma": float(named.get("smoothing_seasonal", 0.0)),
        "phi": float(named["damping_trend"]),
    }
    start = np.asarray(found.initial_state, dtype=np.float64)
    if not (np.isfinite(start).all() and all(np.isfinite(number) for number in numbers.values())):
        raise CannotFit("exponential smoothing found no finite parameters")
    return {"level": start[:1], "trend": start[1:2], "season": start[2:] if season else np.zeros(1)}, numbers


def smooth(arrays: Mapping[str, FloatArray], numbers: Mapping[str, float], values: FloatArray) -> dict[str, FloatArray]:
    """The states carried on through `values`: level and trend before each step, and the season as written at each."""
    alpha, beta, gamma, phi = (numbers[name] for name in ("alpha", "beta", "gamma", "phi"))
    levels, trends, season = (arrays[name].tolist() for name in ("level", "trend", "season"))
    done = len(levels) - 1
    level, trend = levels[-1], trends[-1]
    for i, value in enumerate(values.tolist()):
        before = season[done + i]
        error = value - (level + phi * trend + before)
        level, trend = level + phi * trend + alpha * error, phi * trend + beta * error
        levels.append(level)
        trends.append(trend)
        season.append(before + gamma * error)
    return {"level": np.asarray(levels), "trend": np.asarray(trends), "season": np.asarray(season)}


def run_on(arrays: Mapping[str, FloatArray], numbers: Mapping[str, float], at: IntArray, ahead: IntArray) -> FloatArray:
    """Level and damped trend from the states before the steps `at`, shape (len(at), len(ahead)), without a season."""
    damping = np.cumsum(numbers["phi"] ** np.arange(1, int(ahead[-1]) + 2))[ahead]
    path: FloatArray = arrays["level"][at][:, None] + arrays["trend"][at][:, None] * damping[None, :]
    return path


ETS = Ets()
