"""One step ahead by additive Holt-Winters with given weights, as cheap as a baseline that asks every 15 s needs it.

Recursion and first states are those of statsmodels' `ExponentialSmoothing(trend="add", seasonal="add",
initialization_method="estimated").fit(optimized=False)` (tests hold it so), which takes milliseconds. The first states
are Hyndman's heuristic: Hyndman, Koehler, Ord, Snyder, *Forecasting with Exponential Smoothing* (2008), section 2.6.1.
"""

from collections.abc import Sequence

import numpy as np

from controller.core.types import FloatArray

_CYCLES = 5
_LEVELS = 10


def least_values(season: int) -> int:
    """How many values `one_step` needs for a season of so many steps."""
    return max(2 * season, _LEVELS + 2 * (season // 2))


def one_step(values: Sequence[float], season: int, alpha: float, beta: float, gamma: float) -> float:
    """The next value. ValueError for fewer than `least_values`, or a season of one step."""
    if season < 2 or len(values) < least_values(season):
        raise ValueError(f"{len(values)} values are too few for a season of {season} steps")
    level, trend, first = _first_states(np.asarray(values, np.float64), season)
    seasons = first.tolist()
    for i, value in enumerate(values):
        at = i % season
        expected, before = level + trend, seasons[at]
        seasons[at] = gamma * (value - expected) + (1 - gamma) * before
        risen = alpha * (value - before) + (1 - alpha) * expected
        trend = beta * (risen - level) + (1 - beta) * trend
        level = risen
    return float(level + trend + seasons[len(values) % season])


def _first_states(values: FloatArray, season: int) -> tuple[float, float, FloatArray]:
    """Level, trend and seasonal states before the first value: the first cycles detrended by a centred mean."""
    cycles = max(min(_CYCLES, len(values) // season), -(-least_values(season) // season))
    head = values[: cycles * season]
    weights = np.full(season, 1.0 / season)
    middle = np.convolve(head, weights, "valid")
    lead = season // 2
    if season % 2 == 0:
        middle = (middle[1:] + middle[:-1]) / 2
    grid = np.full(cycles * season, np.nan)
    grid[lead : lead + len(middle)] = head[lead : lead + len(middle)] - middle
    by_phase = np.nanmean(grid.reshape(cycles, season), axis=0)
    early = middle[:_LEVELS]
    # A straight line by least squares; its time counts from 1, so that the level is that of the step before the first.
    time = np.arange(1.0, len(early) + 1)
    off = time - time.mean()
    slope = float(off @ early / (off @ off))
    return float(early.mean()) - slope * float(time.mean()), slope, by_phase - by_phase.mean()
