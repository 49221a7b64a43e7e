"""Autoregression with Fourier terms, as parameters only; the recursion is ours.

It is one least-squares problem and solved as one: the parameters equal statsmodels' AutoReg (a test holds them so),
whose decompositions took most of a refit.
"""

from typing import Final

import numpy as np

from controller.core.forecast.base import CannotFit, Fitted, IntArray
from controller.core.forecast.calendar import HARMONICS, calendar, week_harmonics, week_harmonics_of
from controller.core.forecast.paths import Parameters, PathModel
from controller.core.series import DAY_S
from controller.core.types import FloatArray, Series

LONGEST_FIT_STEPS: Final = 5760
"""Four days of minutes, forty of ten minutes: twenty parameters need no more, and time goes with length."""


class AutoRegFourier(PathModel):
    """Autoregression on chosen lags with Fourier terms of the day (of the week too, from two weeks of history on) and a
    weekend mark, by least squares."""

    name = "autoreg_fourier"
    description = "autoregression with Fourier terms of the day and the week"
    expensive = True
    reach_s = DAY_S
    warm_up_s = DAY_S

    def learn(self, history: Series, steps: int) -> Parameters:
        values = history.values[-LONGEST_FIT_STEPS:]
        start_s = history.end_s - len(values) * history.step_s
        if float(np.ptp(values)) == 0.0:
            raise CannotFit("a constant series has nothing to regress")
        lags = lags_for(history.step_s)
        if len(values) < 2 * (lags[-1] + 2 * HARMONICS):
            raise CannotFit(f"{len(values)} steps, autoregression over {lags[-1]} needs more than twice as many")
        exogenous = calendar(start_s, history.step_s, len(values), week_harmonics(len(values) * history.step_s))
        index = np.arange(lags[-1], len(values))
        past = [values[index - lag] for lag in lags]
        design = np.concatenate([np.ones((len(index), 1)), np.stack(past, axis=1), exogenous[index]], axis=1)
        gram = design.T @ design
        gram[np.diag_indices_from(gram)] += 1e-9 * np.trace(gram)  # a history without a weekend has no weekend mark
        parameters = np.linalg.solve(gram, design.T @ values[index])
        arrays = {"lag": parameters[1 : 1 + len(lags)], "seasonal": parameters[1 + len(lags) :]}
        return arrays, {"constant": float(parameters[0]), "highest": float(values.max())}

    def features(self, fitted: Fitted, series: Series, origins: IntArray, ahead: IntArray) -> FloatArray:
        lags = np.asarray(lags_for(series.step_s))
        reach, last = int(lags[-1]), int(ahead[-1])
        first = int(origins[0])
        seasonal = fitted.arrays["seasonal"]
        count = int(origins[-1]) - first + last + 1
        start_s = series.start_s + first * series.step_s
        terms = calendar(start_s, series.step_s, count, week_harmonics_of(len(seasonal)))
        drift = fitted.numbers["constant"] + terms @ seasonal
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


def lags_for(step_s: float) -> tuple[int, ...]:
    """The lags, in steps, that an autoregression looks at: the last hours finely, and the same step yesterday (at one
    minute an hour back only: yesterday's minute is noise, and the Fourier terms have its rhythm)."""
    if step_s < 600:
        return (1, 2, 3, 4, 5, 8, 12, 20, 30, 60)
    return (1, 2, 3, 6, 12, 144) if step_s < 3600 else (1, 2, 3, 6, 12, 24)


AUTOREG_FOURIER = AutoRegFourier()
