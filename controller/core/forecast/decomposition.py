"""STL and exponential smoothing: a season by locally weighted regression, and a level that carries on without it.

Cleveland et al. (1990) decompose a whole series, which a forecast can't: at a past origin, a season that has seen the
days after it would make the path too good and the band learned from it too narrow. So the season is estimated anew at
every midnight (UTC) from what lay before it, and each origin uses that of its own day. What is left of the load after
the season of the day is smoothed with a damped trend (statsmodels ETSModel), as STLForecast does.
"""

import warnings
from collections.abc import Mapping
from typing import Final

import numpy as np

from controller.core.forecast.base import CannotFit, Fitted, IntArray, day_steps
from controller.core.forecast.calendar import WEEKS_NEEDED_S
from controller.core.forecast.carried import path_features, place
from controller.core.forecast.ets import estimated, run_on, smooth
from controller.core.forecast.paths import Parameters, PathModel
from controller.core.series import DAY_S
from controller.core.types import FloatArray, Series

LOOK_BACK_DAYS: Final = 28
SMOOTHER: Final = 7
"""Days (or weeks) over which the season at one hour may change: the window of the regression, as STL's own default."""


class StlEts(PathModel):
    """Seasonally adjusted load smoothed with a damped trend, and the season put back."""

    name = "stl_ets"
    description = "STL decomposition by day and week, the rest by exponential smoothing"
    expensive = True
    reach_s = DAY_S
    warm_up_s = 3 * DAY_S

    def learn(self, history: Series, steps: int) -> Parameters:
        values, step_s, count = history.values, history.step_s, len(history.values)
        if float(np.ptp(values)) == 0.0:
            raise CannotFit("a constant series has no season")
        day = day_steps(step_s)
        phase = round(history.start_s / step_s)
        midnights = np.arange(-phase % day, count, day)
        edges = np.append(midnights[midnights >= 2 * day], count).astype(np.int64)
        edges = np.unique(edges)
        width = 7 * day if history.end_s - history.start_s >= WEEKS_NEEDED_S else day
        try:
            seasons = np.stack([season_before(values, int(edge), phase, day, width) for edge in edges])
        except (ValueError, np.linalg.LinAlgError) as error:
            raise CannotFit(f"{count} steps could not be decomposed: {error}") from error
        first = int(edges[0])
        if count - first < day:
            raise CannotFit(f"{count - first} steps remain after the first season, {day} are needed")
        numbers = {
            "start_s": history.start_s + first * step_s,
            "highest": float(values.max()),
        }
        index = np.arange(first, count)
        rest = values[index] - seasons[_day_of(index, edges), (index + phase) % width]
        if float(np.ptp(rest)) < 1e-9 * float(values.max()):
            raise CannotFit("a constant rhythm leaves nothing to smooth")
        arrays, weights = estimated(rest, None)
        arrays = smooth(arrays, weights, rest)
        states = {"level": arrays["level"], "trend": arrays["trend"]}
        return {**states, "seasons": seasons, "edge": (edges - first).astype(np.float64)}, {**numbers, **weights}

    def kept(self, arrays: dict[str, FloatArray], numbers: dict[str, float], step_s: float) -> Parameters:
        done = len(arrays["level"]) - 1
        rest = {name: arrays[name][-1:] for name in ("level", "trend", "seasons")}
        return {**rest, "edge": np.zeros(1)}, {**numbers, "start_s": numbers["start_s"] + done * step_s}

    def features(self, fitted: Fitted, series: Series, origins: IntArray, ahead: IntArray) -> FloatArray:
        numbers, seasons = fitted.numbers, fitted.arrays["seasons"]
        offset, at = place(fitted, series, origins)
        edges = fitted.arrays["edge"].astype(np.int64)
        phase, width = round(numbers["start_s"] / series.step_s), seasons.shape[1]
        states: Mapping[str, FloatArray] = {**fitted.arrays, "season": np.zeros(1)}
        done = len(states["level"]) - 1
        if int(at[-1]) > done:
            index = np.arange(done, int(at[-1]))
            rest = series.values[offset + index] - seasons[_day_of(index, edges), (index + phase) % width]
            states = smooth({**states, "season": np.zeros(done + 1)}, numbers, rest)
        season = seasons[_day_of(at, edges)[:, None], (at[:, None] + ahead[None, :] + phase) % width]
        return path_features(run_on(states, numbers, at, ahead) + season, 3.0 * numbers["highest"])


def _day_of(index: IntArray, edges: IntArray) -> IntArray:
    """Which season holds at each index: the last one estimated at or before it."""
    found: IntArray = np.searchsorted(edges, index, side="right") - 1
    return found


def season_before(values: FloatArray, edge: int, phase: int, day: int, width: int) -> FloatArray:
    """The last season of an STL of the four weeks before index `edge`, shape (width,), indexed by the step since the
    epoch modulo `width`. The load is taken by the hour, for which it takes a fiftieth of the time, and the season
    drawn through the hours. A week that was not seen twice repeats its day."""
    from statsmodels.tsa.seasonal import MSTL, STL

    hour = max(1, day // 24)
    count = min(LOOK_BACK_DAYS * 24, edge // hour)
    past = values[edge - count * hour : edge].reshape(count, hour).mean(axis=1)
    hours = day // hour
    weekly = width > day and count > 14 * hours  # MSTL needs more than two of each
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if weekly:
            skip = {"trend_jump": 6, "low_pass_jump": 6}  # Cleveland et al.: regress at every sixth step, join by lines
            parts = MSTL(past, periods=(hours, 7 * hours), windows=(SMOOTHER, SMOOTHER), stl_kwargs=skip).fit().seasonal
            season = np.asarray(parts, dtype=np.float64).sum(axis=1)[-7 * hours :]
        else:
            season = np.asarray(STL(past, period=hours, seasonal=SMOOTHER).fit().seasonal)[-hours:]
    if not np.isfinite(season).all():
        raise ValueError("a season that is not finite")
    span = len(season) * hour
    centres = (np.arange(len(season)) + 0.5) * hour - 0.5
    by_step = np.tile(np.interp(np.arange(span), centres, season, period=span), width // span)
    out = np.empty(width)
    out[(np.arange(edge - width, edge) + phase) % width] = by_step
    return out


STL_ETS = StlEts()
