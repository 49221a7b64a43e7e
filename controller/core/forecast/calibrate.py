"""Adaptive conformal calibration: quantiles corrected, per horizon, by how often the truth stayed below them.

A quantile of 0.9 should be exceeded one time in ten. Where the truth exceeds it more often it is moved up, where less
often down, each time by a step in proportion to the miss: quantile tracking, the P part of Angelopoulos, Candès &
Tibshirani (2023), "Conformal PID control for time series prediction", after Gibbs & Candès (2021). Coverage then tends
to the nominal one whatever the demand does, growth and changes of level included; it is measured and shown, not
promised. Corrections count in units of the forecast's own spread, so that they fit a busy hour and a quiet one; and an
outcome counts in proportion to that spread, as it does in the gradient of the pinball loss of the load itself. An hour
that is forecast silent and is silent lies under every quantile: it has no spread to correct and says nothing of the
busy hours. So coverage tends to the nominal one where load is expected, and over all hours it is higher.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from controller.core.forecast.base import IntArray, ordered
from controller.core.types import QUANTILES, FloatArray

BUCKETS_S: Final = (1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 57600.0)
"""Ends of the horizons that are corrected apart; the last reaches to the end of the grid. On the minute grid, which
ends after an hour, they are finer: see `bucket_ends`."""
MINUTE_BUCKETS_S: Final = (300.0, 900.0, 1800.0)
GAIN: Final = 0.1
"""Spreads by which one whole origin moves a quantile that it missed for sure, up to NEAR_S ahead."""
NEAR_S: Final = 7200.0
"""Further ahead the gain falls in inverse proportion to the horizon: what comes is known that much later, and a
correction that answers faster than it hears oscillates."""
SEED_GAIN: Final = 0.01
"""For what a selection held out: those forecasts came from an older fit than the one that will serve, a hint only."""
LEVEL_SHARE: Final = 0.05
"""A spread is never taken as less than this share of the 0.9 quantile: a band of no width could not be moved."""
MOST: Final = 3.0
"""No outcome counts for more than so many usual ones."""
REMEMBERED: Final = 96.0
"""Origins over which the shown coverage and the usual spread forget (a half-life, in whole origins)."""
LARGEST: Final = 20.0
FIRST_CORRECTED: Final = 1
"""The median is left alone: it is what the models are compared by, and it has no side to be safe on."""

_QUANTILES: Final = np.asarray(QUANTILES)
_ARRAYS: Final = ("shift", "covered", "raw_covered", "weight", "spread")


@dataclass(frozen=True, slots=True)
class Calibration:
    """Corrections of one series on one grid, and the coverage that they are made from.

    `shift`, `covered` and `raw_covered` have shape (buckets, quantiles), `weight` (buckets,): how many origins the
    coverage stands on, and `spread` (buckets,): the usual spread of the forecasts, in load. `ends`: the step after each
    bucket's last.
    """

    step_s: float
    steps: int
    ends: tuple[int, ...]
    shift: FloatArray
    covered: FloatArray
    raw_covered: FloatArray
    weight: FloatArray
    spread: FloatArray

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and lists."""
        arrays = {name: getattr(self, name).tolist() for name in _ARRAYS}
        return {"step_s": self.step_s, "steps": self.steps, **arrays}

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> "Calibration":
        """ValueError, KeyError or TypeError when it isn't what `to_json` gave."""
        bare = fresh(float(stored["step_s"]), int(stored["steps"]))
        read: dict[str, Any] = {name: np.asarray(stored[name], dtype=np.float64) for name in _ARRAYS}
        if any(read[name].shape != np.shape(getattr(bare, name)) for name in _ARRAYS):
            raise ValueError("the stored calibration is of another shape")
        if not all(np.isfinite(part).all() for part in read.values()):
            raise ValueError("the stored calibration holds what is no number")
        return replace(bare, **read)


def bucket_ends(step_s: float, steps: int) -> tuple[int, ...]:
    """The step after the last of each bucket; the last is `steps`."""
    edges: Sequence[float] = MINUTE_BUCKETS_S if step_s * steps <= BUCKETS_S[1] else BUCKETS_S
    ends = {round(edge / step_s) for edge in edges if step_s <= edge}
    return (*sorted(end for end in ends if end < steps), steps)


def fresh(step_s: float, steps: int) -> Calibration:
    """No correction, nothing measured."""
    ends = bucket_ends(step_s, steps)
    nothing = np.zeros((len(ends), len(QUANTILES)))
    none = np.zeros(len(ends))
    return Calibration(step_s, steps, ends, nothing, nothing.copy(), nothing.copy(), none, none.copy())


def calibrated(calibration: Calibration, values: FloatArray) -> FloatArray:
    """The forecast (..., quantiles, steps) corrected, not crossing and not negative. NaN stays NaN.

    ValueError for a forecast of more steps than the calibration knows.
    """
    steps = values.shape[-1]
    if steps > calibration.steps:
        raise ValueError(f"{steps} steps, the calibration is of {calibration.steps}")
    shift = calibration.shift[_bucket(calibration, np.arange(steps))].T
    return ordered(values + shift * _scale(values))


def observe(calibration: Calibration, step: int, raw: FloatArray, actual: float) -> Calibration:
    """Take in what came at one step of one origin; `raw` (quantiles,) is the forecast before correction."""
    return observe_many(calibration, np.array([step]), raw[None, :], np.array([actual]))


def observe_many(
    calibration: Calibration, steps: IntArray, raw: FloatArray, actual: FloatArray, gain: float = GAIN
) -> Calibration:
    """Take in n outcomes at once, judged by the correction as it is before them.

    steps (n,), raw (n, quantiles): the forecasts before correction, actual (n,). What isn't known (NaN) counts for
    nothing. Each (origin, step) must come once.
    """
    known = np.isfinite(actual) & np.isfinite(raw).all(axis=1)
    if not known.any():
        return calibration
    tracked = _Tracked.of(calibration, gain)
    tracked.take(_bucket(calibration, steps[known]), raw[known], _scale(raw[known].T)[0], actual[known])
    return tracked.calibration()


def rehearsed(
    calibration: Calibration, origins: IntArray, values: FloatArray, actual: FloatArray, gain: float = GAIN
) -> tuple[Calibration, FloatArray]:
    """The calibration after past forecasts in order, and those forecasts as they would have been corrected.

    origins (n,) increasing indices of the steps they begin at; values (n, quantiles, steps); actual (n, steps), NaN
    where not known. Each forecast is corrected by what was known at its origin: a step j of origin i is known at
    i + j + 1.
    """
    count, _, steps = values.shape
    scale = _scale(values)
    ahead = np.arange(steps)
    # By the first origin that knows of it, `count` for those known only after the last; and in the order of forecasts.
    turn = np.searchsorted(origins, origins[:, None] + ahead + 1)
    turn[~(np.isfinite(actual) & np.isfinite(values).all(axis=1))] = count + 1
    order = np.argsort(turn, axis=None, kind="stable")
    at = np.searchsorted(turn.ravel()[order], np.arange(count + 2))
    raw = np.swapaxes(values, 1, 2).reshape(-1, len(QUANTILES))[order]
    bucket = np.tile(_bucket(calibration, ahead), count)[order]
    unit, came = scale.ravel()[order], actual.ravel()[order]
    tracked = _Tracked.of(calibration, gain)
    shifts = np.empty((count, *calibration.shift.shape))
    for i in range(count + 1):
        some = slice(int(at[i]), int(at[i + 1]))
        if some.start < some.stop:
            tracked.take(bucket[some], raw[some], unit[some], came[some])
        if i < count:
            shifts[i] = tracked.shift
    shift = np.swapaxes(shifts[:, _bucket(calibration, ahead)], 1, 2)
    return tracked.calibration(), ordered(values + shift * scale)


@dataclass(slots=True)
class _Tracked:
    """A calibration on its way through many outcomes: the same numbers, changed in place."""

    start: Calibration
    shift: FloatArray
    covered: FloatArray
    raw_covered: FloatArray
    weight: FloatArray
    spread: FloatArray
    width: FloatArray
    pace: FloatArray

    @classmethod
    def of(cls, start: Calibration, gain: float) -> "_Tracked":
        ends = np.asarray(start.ends, dtype=np.float64)
        pace = gain * np.minimum(1.0, NEAR_S / (ends * start.step_s))
        width = np.diff(ends, prepend=0.0)
        arrays: dict[str, FloatArray] = {name: getattr(start, name).copy() for name in _ARRAYS}
        return cls(start=start, width=width, pace=pace, **arrays)

    def take(self, bucket: IntArray, raw: FloatArray, unit: FloatArray, actual: FloatArray) -> None:
        """n outcomes that are all known, judged by the correction before them: bucket, unit and actual (n,), raw
        (n, quantiles)."""
        corrected = np.maximum(raw + self.shift[bucket] * unit[:, None], 0.0)
        # A quantile moves by its own misses; what is shown is what was issued, in order. By the misses of the ordered
        # ones two that have crossed would each be blamed for the other and drift apart for ever.
        level = actual[:, None] - 1e-9
        hits = np.concatenate([level <= corrected, level <= np.sort(corrected, axis=1), level <= raw], axis=1)
        one = (bucket == np.arange(len(self.width))[:, None]).astype(np.float64)
        number = one.sum(axis=1)
        seen = number > 0
        one, number = one[seen], number[seen]
        share = number / self.width[seen]  # whole origins that this is the outcome of
        before = self.weight[seen] * 0.5 ** (share / REMEMBERED)
        total = before + share
        part = (share / total)[:, None]
        self.weight[seen] = total
        self.spread[seen] += part[:, 0] * (one @ unit / number - self.spread[seen])
        counts = np.minimum(unit / np.maximum(self.spread[bucket], 1e-12), MOST)
        shown, bare = np.split(one @ hits[:, len(QUANTILES) :] / number[:, None], 2, axis=1)
        self.covered[seen] += part * (shown - self.covered[seen])
        self.raw_covered[seen] += part * (bare - self.raw_covered[seen])
        missed = one @ (counts[:, None] * (_QUANTILES - hits[:, : len(QUANTILES)]))
        moved = self.shift[seen] + (self.pace[seen] / self.width[seen])[:, None] * missed
        self.shift[seen, FIRST_CORRECTED:] = np.clip(moved, -LARGEST, LARGEST)[:, FIRST_CORRECTED:]

    def calibration(self) -> Calibration:
        """As it is now."""
        return replace(self.start, **{name: getattr(self, name) for name in _ARRAYS})


def coverage(calibration: Calibration, *, raw: bool = False) -> FloatArray:
    """Share of outcomes at or below each quantile lately, (buckets, quantiles); NaN where nothing was measured."""
    known = calibration.raw_covered if raw else calibration.covered
    return np.where(calibration.weight[:, None] > 0, known, np.nan)


def _bucket(calibration: Calibration, steps: IntArray) -> IntArray:
    """Which bucket each step is in."""
    found: IntArray = np.searchsorted(np.asarray(calibration.ends), steps, side="right").astype(np.int64)
    return found


def _scale(values: FloatArray) -> FloatArray:
    """The unit of correction of each step, (..., 1, steps): the spread from the median to the 0.9 quantile."""
    high = values[..., QUANTILES.index(0.9), :]
    spread = high - values[..., QUANTILES.index(0.5), :]
    unit: FloatArray = np.maximum(spread, LEVEL_SHARE * high)[..., None, :]
    return unit
