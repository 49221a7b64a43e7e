"""The statistical models, as parameters only; the recursions are ours and equal to statsmodels' (tests hold them so).

Predicting from parameters costs microseconds where a library's result object costs milliseconds and megabytes. The
exponential smoothing is estimated by statsmodels; an autoregression is one least-squares problem and solved as one, for
the library's decompositions of it took most of a refit.
"""

import warnings
from collections.abc import Mapping
from typing import Final

import numpy as np

from controller.core.forecast.base import CannotFit, Fitted, IntArray, day_steps
from controller.core.forecast.paths import Parameters, PathModel
from controller.core.series import DAY_S, is_weekend
from controller.core.types import FloatArray, Series

HARMONICS: Final = 4
LONGEST_FIT_STEPS: Final = 5760
"""Four days of minutes, forty of ten minutes: twenty parameters need no more, and time goes with length."""


def calendar(start_s: float, step_s: float, count: int) -> FloatArray:
    """Fourier terms of the day and a weekend mark, shape (count, 2·HARMONICS + 1), from the time alone."""
    at_s = start_s + step_s * np.arange(count, dtype=np.float64)
    angle = 2.0 * np.pi * np.mod(at_s, DAY_S) / DAY_S
    terms = [wave(k * angle) for k in range(1, HARMONICS + 1) for wave in (np.sin, np.cos)]
    return np.stack([*terms, is_weekend(at_s).astype(np.float64)], axis=1)


class AutoRegFourier(PathModel):
    """Autoregression on chosen lags with Fourier terms of the day and a weekend mark, by least squares."""

    name = "autoreg_fourier"
    description = "autoregression with Fourier terms of the day"
    expensive = True
    reach_s = DAY_S
    warm_up_s = DAY_S

    def learn(self, history: Series, steps: int) -> Parameters:
        values = history.values[-LONGEST_FIT_STEPS:]
        start_s = history.end_s - len(values) * history.step_s
        if float(np.ptp(values)) == 0.0:
            raise CannotFit("a constant series has nothing to regress")
        lags = _lags(history.step_s)
        if len(values) < 2 * (lags[-1] + 2 * HARMONICS):
            raise CannotFit(f"{len(values)} steps, autoregression over {lags[-1]} needs more than twice as many")
        exogenous = calendar(start_s, history.step_s, len(values))
        index = np.arange(lags[-1], len(values))
        past = [values[index - lag] for lag in lags]
        design = np.concatenate([np.ones((len(index), 1)), np.stack(past, axis=1), exogenous[index]], axis=1)
        gram = design.T @ design
        gram[np.diag_indices_from(gram)] += 1e-9 * np.trace(gram)  # a history without a weekend has no weekend mark
        parameters = np.linalg.solve(gram, design.T @ values[index])
        arrays = {"lag": parameters[1 : 1 + len(lags)], "seasonal": parameters[1 + len(lags) :]}
        return arrays, {"constant": float(parameters[0]), "highest": float(values.max())}

    def features(self, fitted: Fitted, series: Series, origins: IntArray, ahead: IntArray) -> FloatArray:
        lags = np.asarray(_lags(series.step_s))
        reach, last = int(lags[-1]), int(ahead[-1])
        first = int(origins[0])
        drift = fitted.numbers["constant"] + (
            calendar(series.start_s + first * series.step_s, series.step_s, int(origins[-1]) - first + last + 1)
            @ fitted.arrays["seasonal"]
        )
        past = np.empty((len(origins), reach + last + 1))
        past[:, :reach] = series.values[origins[:, None] + np.arange(-reach, 0)[None, :]]
        ceiling = 3.0 * fitted.numbers["highest"]
        at = origins - first
        for h in range(last + 1):
            step = past[:, reach + h - lags] @ fitted.arrays["lag"] + drift[at + h]
            past[:, reach + h] = np.clip(step, 0.0, ceiling)
        out = np.ones((len(origins), len(ahead), 2))
        out[:, :, 1] = past[:, reach + ahead]
        return out


def _lags(step_s: float) -> tuple[int, ...]:
    return (1, 2, 3, 4, 5, 8, 12, 20, 30, 60) if step_s < 600 else (1, 2, 3, 6, 12, 144)


class Ets(PathModel):
    """Exponential smoothing: additive error, damped trend, additive daily season (statsmodels ETSModel)."""

    name = "ets"
    description = "exponential smoothing with a daily season"
    expensive = True
    reach_s = DAY_S
    warm_up_s = 2 * DAY_S

    def learn(self, history: Series, steps: int) -> Parameters:
        from statsmodels.tsa.exponential_smoothing.ets import ETSModel

        if float(np.ptp(history.values)) == 0.0:
            raise CannotFit("a constant series has nothing to smooth")
        season = day_steps(history.step_s)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = ETSModel(
                history.values,
                error="add",
                trend="add",
                damped_trend=True,
                seasonal="add",
                seasonal_periods=season,
                initialization_method="heuristic",
            )
            found = model.fit(disp=False, maxiter=60)
        named = dict(zip(model.param_names, np.asarray(found.params, dtype=np.float64), strict=False))
        numbers = {
            "alpha": float(named["smoothing_level"]),
            "beta": float(named["smoothing_trend"]),
            "gamma": float(named["smoothing_seasonal"]),
            "phi": float(named["damping_trend"]),
            "start_s": history.start_s,
        }
        start = np.asarray(found.initial_state, dtype=np.float64)
        if not (np.isfinite(start).all() and all(np.isfinite(number) for number in numbers.values())):
            raise CannotFit("exponential smoothing found no finite parameters")
        arrays = {"level": start[:1], "trend": start[1:2], "season": start[2:]}
        return _smooth(arrays, numbers, history.values), numbers

    def kept(self, arrays: dict[str, FloatArray], numbers: dict[str, float], step_s: float) -> Parameters:
        done = len(arrays["level"]) - 1
        rest = {"level": arrays["level"][-1:], "trend": arrays["trend"][-1:], "season": arrays["season"][done:]}
        return rest, {**numbers, "start_s": numbers["start_s"] + done * step_s}

    def features(self, fitted: Fitted, series: Series, origins: IntArray, ahead: IntArray) -> FloatArray:
        numbers = fitted.numbers
        offset = round((numbers["start_s"] - series.start_s) / series.step_s)
        at = origins - offset
        if offset < 0 or int(at[0]) < 0:
            raise CannotFit("exponential smoothing can't go back before its last fit, nor on without what came since")
        arrays = dict(fitted.arrays)
        done = len(arrays["level"]) - 1
        if int(at[-1]) > done:
            arrays = _smooth(arrays, numbers, series.values[offset + done : offset + int(at[-1])])
        phi, season = numbers["phi"], day_steps(series.step_s)
        damping = np.cumsum(phi ** np.arange(1, int(ahead[-1]) + 2))[ahead]
        out = np.ones((len(origins), len(ahead), 2))
        # `season` begins one season before `start_s`, so that index i is what was written a season before step i
        path = arrays["level"][at][:, None] + arrays["trend"][at][:, None] * damping[None, :]
        out[:, :, 1] = np.maximum(path + arrays["season"][at[:, None] + ahead[None, :] % season], 0.0)
        return out


def _smooth(
    arrays: Mapping[str, FloatArray], numbers: Mapping[str, float], values: FloatArray
) -> dict[str, FloatArray]:
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


AUTOREG_FOURIER = AutoRegFourier()
ETS = Ets()
