"""Forecasts as issued, kept until what they spoke of is known: what calibration and standing learn from.

Not every forecast is followed, only those of origins some way apart (`follows`), and of those far ahead not every step
(`followed`): the steps left out say nearly the same. Each pair of origin and step is handed out once, with what came,
and never with an unknown number: a late minute is waited for, a gap is given up after `PATIENCE_S`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from controller.core.forecast.base import IntArray
from controller.core.series import HOUR_S, clip, resample
from controller.core.types import FloatArray, Series

SETTLE_S: Final = 120.0
"""After a step has ended: minutes arrive late."""
PATIENCE_S: Final = HOUR_S
NEAR_S: Final = 2 * HOUR_S

BoolArray = npt.NDArray[np.bool_]
Float32Array = npt.NDArray[np.float32]
"""Seven digits are more than a load has, and halve what is kept."""


@dataclass(frozen=True, slots=True)
class Issued:
    """One forecast under way. `raw` and `shown` have each model's quantiles (quantiles, n) at the n steps followed,
    before and after calibration; `waiting` (n,) marks the steps that were not handed out yet."""

    origin_s: float
    step_s: float
    steps: IntArray
    raw: Mapping[str, Float32Array]
    shown: Mapping[str, Float32Array]
    waiting: BoolArray


@dataclass(frozen=True, slots=True)
class Came:
    """Steps of one issued forecast that are known now. `index` (m,) are their places in `issued.steps`."""

    issued: Issued
    index: IntArray
    actual: FloatArray

    @property
    def steps(self) -> IntArray:
        """How many steps ahead, from 0, shape (m,)."""
        steps: IntArray = self.issued.steps[self.index]
        return steps

    @property
    def ends_s(self) -> FloatArray:
        """When each step ended."""
        return np.asarray(self.issued.origin_s + (self.steps + 1) * self.issued.step_s, dtype=np.float64)

    @property
    def weights(self) -> FloatArray:
        """How many steps of the grid each stands for."""
        near = (self.steps + 1) * self.issued.step_s <= NEAR_S
        return np.where(near, 1.0, float(_stride(self.issued.step_s)))


def apart_s(step_s: float) -> float:
    """Between origins that are followed: ten minutes on the minute grid, an hour on the others."""
    return 600.0 if step_s < 600.0 else max(HOUR_S, step_s)


def _stride(step_s: float) -> int:
    return max(1, round(HOUR_S / step_s))


def followed(origin_s: float, step_s: float, steps: int) -> IntArray:
    """Which steps of an origin are followed: all to NEAR_S ahead, then one an hour, others at each next origin, so that
    in the course of hours all are."""
    ahead = np.arange(steps, dtype=np.int64)
    turn = round(origin_s / apart_s(step_s))
    kept: IntArray = ahead[((ahead + 1) * step_s <= NEAR_S) | ((ahead + turn) % _stride(step_s) == 0)]
    return kept


def follows(pending: Sequence[Issued], last_s: float, origin_s: float, step_s: float) -> bool:
    """Whether the forecast at this origin is one to follow: due by its time, and no origin twice."""
    return origin_s % apart_s(step_s) == 0 and origin_s > max([last_s, *(each.origin_s for each in pending)])


def issue(
    origin_s: float, step_s: float, steps: IntArray, raw: Mapping[str, FloatArray], shown: Mapping[str, FloatArray]
) -> Issued:
    """What is kept of the forecasts (quantiles, all steps) made at an origin."""
    return Issued(
        origin_s,
        step_s,
        steps,
        {model: values[:, steps].astype(np.float32) for model, values in raw.items()},
        {model: values[:, steps].astype(np.float32) for model, values in shown.items()},
        np.ones(len(steps), dtype=np.bool_),
    )


def settle(pending: Sequence[Issued], series: Series, now_s: float) -> tuple[tuple[Came, ...], tuple[Issued, ...]]:
    """What of `pending` is known by now from minutes of load, and what is still waited for.

    A step is known when it ended SETTLE_S ago and at least half of it was measured. One that isn't PATIENCE_S after
    its end is given up. Nothing is known before its time, whatever the series says: a clock set back is waited for.
    """
    if not pending:
        return (), ()
    step_s = pending[0].step_s
    # Nothing is searched for when no step can have ended: the usual case within a step.
    first_s = min(
        each.origin_s + float(each.steps[each.waiting].min()) * step_s for each in pending if each.waiting.any()
    )
    if first_s + step_s + SETTLE_S > now_s:
        return (), tuple(pending)
    actual = measured(clip(series, first_s, now_s - SETTLE_S), step_s)
    came: list[Came] = []
    left: list[Issued] = []
    for each in pending:
        starts_s = each.origin_s + each.steps * step_s
        place = np.round((starts_s - actual.start_s) / step_s).astype(np.int64)
        inside = each.waiting & (place >= 0) & (place < len(actual.values)) & (starts_s + step_s + SETTLE_S <= now_s)
        value = np.full(len(place), np.nan)
        value[inside] = actual.values[place[inside]]
        known = np.isfinite(value)
        if known.any():
            came.append(Came(each, np.flatnonzero(known), value[known]))
        waiting = each.waiting & ~known & (starts_s + step_s + PATIENCE_S > now_s)
        if waiting.any():
            left.append(replace(each, waiting=waiting))
    return tuple(came), tuple(left)


def measured(series: Series, step_s: float) -> Series:
    """Means over longer steps, NaN where less than half of one was measured: what is judged by must be known better
    than what is predicted from."""
    if step_s == series.step_s:
        return series
    share = resample(Series(series.start_s, series.step_s, np.isfinite(series.values).astype(np.float64)), step_s)
    mean = resample(series, step_s)
    return Series(mean.start_s, step_s, np.where(share.values >= 0.5, mean.values, np.nan))
