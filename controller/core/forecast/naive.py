"""The floor that every model must beat: what was, goes on."""

import numpy as np

from controller.core.cleaning import cleaned
from controller.core.forecast.base import Fitted, IntArray
from controller.core.forecast.paths import PathModel, mean_before, running_sum
from controller.core.series import HOUR_S
from controller.core.types import QUANTILES, FloatArray, Series

LEVEL_S = 600.0


class Naive(PathModel):
    """The mean of the last ten minutes holds; the band around it is learned for each step ahead."""

    name = "naive"
    description = "the mean of the last 10 minutes goes on"
    reach_s = LEVEL_S
    warm_up_s = HOUR_S
    point_feature = 1

    def features(self, fitted: Fitted, series: Series, origins: IntArray, ahead: IntArray) -> FloatArray:
        level = mean_before(running_sum(series.values), origins, max(1, round(LEVEL_S / series.step_s)))
        out = np.ones((len(origins), len(ahead), 2))
        out[:, :, 1] = level[:, None]
        return out


NAIVE = Naive()


def persistence(recent: Series, steps: int) -> tuple[FloatArray, str]:
    """Quantiles without any fit, and why they are what they are: for a series too short or too broken to learn from.

    The median is the level of the last ten known minutes; higher quantiles are at least that high among what is known.
    Shape (quantiles, steps); NaN, unknown, when nothing is known.
    """
    believed = cleaned(recent).values
    known = believed[np.isfinite(believed)]
    if not len(known):
        return np.full((len(QUANTILES), steps), np.nan), "nothing was measured: the load is unknown"
    level = float(known[-max(1, round(LEVEL_S / recent.step_s)) :].mean())
    heights = np.maximum(np.quantile(known, QUANTILES), level)
    heights[0] = level
    values = np.repeat(np.maximum.accumulate(heights)[:, None], steps, axis=1)
    return values, f"level {level:.2f} goes on, spread as in {len(known)} known steps"
