"""Signals as features: aligned to the grid of the load, lagged, standardised.

A signal's column stands after the model's own features. Its value at a step is the signal's, `lag_s` earlier, in
standard deviations from its mean, times the mean load of the day before the origin: so it is in units of load, and
what it is worth grows with the service. Where that value isn't known yet at the origin the newest that is stands in,
in training as in prediction; when that is older than the signal allows the column is unknown, NaN.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from controller.core.forecast.base import CannotFit, IntArray, day_steps
from controller.core.forecast.signals import ABSURD, Signal, SignalUse
from controller.core.series import DAY_S, WEEK_S
from controller.core.types import FloatArray, Series

LONGEST_LAG_S: Final = 2 * DAY_S
FEWEST_PAIRS: Final = 48
"""Steps at which both signal and load must be known for a lag to be judged."""
FARTHEST: Final = 5.0
"""Standard deviations: a spike beyond what was learned from says no more than that it is high."""
HORIZONS: Final = 6
LONGEST_PATIENCE_S: Final = 30 * DAY_S

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Aligned:
    """A signal on the load's steps: `values` from `first_s` on, and for each index the last one at or before it that
    is a number (-1: none)."""

    first_s: float
    step_s: float
    values: FloatArray
    newest: IntArray


def columns(
    uses: Sequence[SignalUse],
    signals: Sequence[Signal],
    history: Series,
    levels: FloatArray,
    origins: IntArray,
    ahead: IntArray,
) -> FloatArray:
    """Features (origins, ahead, len(uses)). Origin i is at the start of step i of `history`; `levels` is the load that
    a standard deviation is measured in, for each origin. NaN where a signal is missing or stale at that origin."""
    out = np.full((len(origins), len(ahead), len(uses)), np.nan)
    named = {signal.name: signal for signal in signals}
    for i, use in enumerate(uses):
        signal = named.get(use.name)
        if signal is not None and len(origins):
            raw = _at(signal, history, use.lag_s, origins, ahead)
            score = np.clip((raw - use.mean) / use.scale, -FARTHEST, FARTHEST) * use.sign
            out[:, :, i] = score * levels[:, None]
    return out


def require(uses: Sequence[SignalUse], signals: Sequence[Signal], history: Series, steps: int) -> None:
    """Raises CannotFit, naming the signal and its age, unless each is known well enough at the end of `history`."""
    named = {signal.name: signal for signal in signals}
    for use in uses:
        signal = named.get(use.name)
        if signal is None:
            raise CannotFit(f"signal {use.name} is missing")
        trouble = unfit(signal, history, steps, use.lag_s)
        if trouble:
            raise CannotFit(f"signal {use.name} {trouble}")


def unfit(signal: Signal, history: Series, steps: int, lag_s: float = 0.0) -> str:
    """Why the signal can't be used at the end of `history` for `steps` steps ahead; blank when it can."""
    origin = np.array([len(history.values)], dtype=np.int64)
    if np.isfinite(_at(signal, history, lag_s, origin, np.arange(steps, dtype=np.int64))).all():
        return ""
    known = np.flatnonzero(np.isfinite(signal.series.values))
    if not len(known):
        return "has no value"
    last_s = signal.series.start_s + (int(known[-1]) + 1) * signal.series.step_s
    if signal.known_ahead:
        short_s = history.end_s + steps * history.step_s - lag_s - last_s
        if short_s > 0:
            return f"is known to {_length(short_s)} short of the horizon, allowed {_length(signal.stale_after_s)}"
        return "has a gap in the time to forecast"
    if signal.series.start_s >= history.end_s:
        return "has no value of the past"
    return (
        f"is stale: last value {_length(max(0.0, history.end_s - last_s))} old, allowed {_length(signal.stale_after_s)}"
    )


def use_of(signal: Signal, history: Series, steps: int) -> SignalUse:
    """How `signal` is best used for `history`: the lag at which it goes with the load's level, its mean and deviation.

    Correlated is the logarithm of the load less its daily rhythm with the signal less its own, so that two daily
    rhythms alone are no relation. The lag is the one whose squared correlation is greatest over the steps ahead, each
    with the value that would be known at the origin; of equal ones the shortest. Raises CannotFit naming the signal.
    """
    return _best(signal, history, steps)[0]


def strength(signal: Signal, history: Series, steps: int) -> float:
    """The mean squared correlation by which `use_of` chose the lag, 0 to 1. Raises CannotFit as it does."""
    return _best(signal, history, steps)[1]


def _best(signal: Signal, history: Series, steps: int) -> tuple[SignalUse, float]:
    step_s, count = history.step_s, len(history.values)
    longest = max(1, min(round(LONGEST_LAG_S / step_s), count // 3))
    aligned = _aligned(signal, history.start_s - longest * step_s, step_s, longest + count)
    seen = aligned.values[np.isfinite(aligned.values)]
    if len(seen) < FEWEST_PAIRS:
        trouble = "" if len(seen) else unfit(signal, history, steps)
        if trouble:
            raise CannotFit(f"signal {signal.name} {trouble}")
        raise CannotFit(f"signal {signal.name} is known at {len(seen)} past steps, {FEWEST_PAIRS} are needed")
    low, high = np.quantile(seen, (0.01, 0.99))
    held = np.clip(seen, low, high)
    mean, scale = float(held.mean()), float(held.std())
    if not scale > 1e-9 * max(abs(mean), 1e-300):
        raise CannotFit(f"signal {signal.name} is constant")
    load = _without_rhythm(_logarithm(history.values), history.start_s, step_s)
    x = _without_rhythm(np.clip(aligned.values, low, high), aligned.first_s, step_s)
    correlation = _lagged_correlation(load, x, longest)
    if not np.isfinite(correlation).any():
        raise CannotFit(f"signal {signal.name} has fewer than {FEWEST_PAIRS} steps in common with the load")
    correlation = np.where(np.isfinite(correlation), correlation, 0.0)
    lags = np.arange(longest + 1)
    ahead = np.unique(np.linspace(0, min(steps, longest) - 1, HORIZONS).astype(np.int64))
    real = lags[:, None] if signal.known_ahead else np.maximum(lags[:, None], ahead[None, :] + 1)
    found = correlation[np.minimum(real, longest)]
    squared = (found**2).mean(axis=1)
    best = int(np.argmax(squared > squared.max() * (1.0 - 1e-9)))
    sign = -1.0 if float(found[best].sum()) < 0 else 1.0
    trouble = unfit(signal, history, steps, best * step_s)
    if trouble:
        raise CannotFit(f"signal {signal.name} {trouble}")
    return SignalUse(signal.name, best * step_s, mean, scale, sign), float(squared[best])


def day_levels(values: FloatArray, origins: IntArray, step_s: float) -> FloatArray:
    """The mean of the day before each origin, of values without gaps."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    first = np.maximum(origins - day_steps(step_s), 0)
    return np.asarray((sums[origins] - sums[first]) / np.maximum(origins - first, 1), dtype=np.float64)


def _at(signal: Signal, history: Series, lag_s: float, origins: IntArray, ahead: IntArray) -> FloatArray:
    """The signal's value for each step ahead of each origin, as known at the origin."""
    step_s = history.step_s
    lag = round(lag_s / step_s)
    patience = int(min(signal.stale_after_s, LONGEST_PATIENCE_S) // step_s)
    low, high = int(origins[0]) - lag - patience - 1, int(origins[-1]) + int(ahead[-1]) + 1
    aligned = _aligned(signal, history.start_s + low * step_s, step_s, high - low)
    wanted = origins[:, None] + ahead[None, :] - lag - low
    if signal.known_ahead:
        used = aligned.newest[wanted]
        fresh = wanted - used <= patience
    else:  # a value is known when the signal's own step has ended
        begun_s, own_s = signal.series.start_s, signal.series.step_s
        at_s = history.start_s + origins * step_s
        edge_s = begun_s + np.floor((at_s - begun_s) / own_s) * own_s
        known = np.floor((edge_s - aligned.first_s) / step_s).astype(np.int64) - 1
        target = np.minimum(wanted, np.maximum(known, 0)[:, None])
        used = aligned.newest[target]
        # what stands in is as old as it is at the origin, or, where the lag reaches back, at the step it stands for
        since_s = np.minimum(at_s[:, None], aligned.first_s + (wanted + 1) * step_s)
        fresh = since_s - (aligned.first_s + (used + 1) * step_s) <= signal.stale_after_s + 1e-6
        newest = aligned.newest[np.maximum(known, 0)]
        age_s = at_s - (aligned.first_s + (newest + 1) * step_s)
        fresh &= ((known >= 0) & (newest >= 0) & (age_s <= signal.stale_after_s + 1e-6))[:, None]
    fresh &= used >= 0
    return np.where(fresh, aligned.values[np.maximum(used, 0)], np.nan)


def _aligned(signal: Signal, first_s: float, step_s: float, count: int) -> _Aligned:
    """Means over the load's steps of what the signal says of them, whatever its own step; NaN where less than half of a
    step is known."""
    series = signal.series
    sound = np.isfinite(series.values) & (np.abs(series.values) < ABSURD)
    edges_s = first_s + step_s * np.arange(count + 1, dtype=np.float64)
    own_s = series.start_s + series.step_s * np.arange(len(series.values) + 1, dtype=np.float64)
    middle = float(np.median(series.values[sound])) if sound.any() else 0.0  # smaller sums, less rounding
    total = np.concatenate([[0.0], np.cumsum(np.where(sound, series.values - middle, 0.0) * series.step_s)])
    mass = np.concatenate([[0.0], np.cumsum(sound * series.step_s)])
    amount = np.diff(np.interp(edges_s, own_s, total))
    length = np.diff(np.interp(edges_s, own_s, mass))
    enough = length >= 0.5 * step_s - 1e-6
    values = np.where(enough, middle + amount / np.where(enough, length, 1.0), np.nan)
    return _Aligned(first_s, step_s, values, np.maximum.accumulate(np.where(enough, np.arange(count), -1)))


def _logarithm(values: FloatArray) -> FloatArray:
    """The logarithm, calmed near zero by a tenth of the mean."""
    known = values[np.isfinite(values)]
    calm = 0.1 * float(known.mean()) + 1e-9 if len(known) else 1.0
    return np.asarray(np.log(np.maximum(values, 0.0) + calm), dtype=np.float64)


def _without_rhythm(values: FloatArray, start_s: float, step_s: float) -> FloatArray:
    """Less the mean of the same hour of the day: of the same hour of the week, once there are three weeks."""
    weeks = len(values) * step_s >= 3 * WEEK_S
    at_s = start_s + step_s * np.arange(len(values), dtype=np.float64)
    hour = (np.mod(at_s, WEEK_S if weeks else DAY_S) // 3600.0).astype(np.int64)
    known = np.isfinite(values)
    number = np.bincount(hour[known], minlength=168)
    mean = np.bincount(hour[known], weights=values[known], minlength=168) / np.maximum(number, 1)
    return np.asarray(values - mean[hour], dtype=np.float64)


def _lagged_correlation(load: FloatArray, x: FloatArray, longest: int) -> FloatArray:
    """Correlation of load[i] with x[i + longest - lag] for lags 0 … longest, over what is known of both; NaN where that
    is less than FEWEST_PAIRS. `x` begins `longest` steps before the load. By fast Fourier transform."""
    size = 1 << int(len(x) + len(load)).bit_length()
    both = [_unit(load), _unit(x)]
    (a, a_known), (b, b_known) = ((np.where(np.isfinite(v), v, 0.0), np.isfinite(v).astype(np.float64)) for v in both)

    def sums(left: FloatArray, right: FloatArray) -> FloatArray:
        spectrum = np.conj(np.fft.rfft(left, size)) * np.fft.rfft(right, size)
        return np.asarray(np.fft.irfft(spectrum, size)[: longest + 1][::-1], dtype=np.float64)

    number = np.maximum(np.round(sums(a_known, b_known)), 0.0)
    safe = np.maximum(number, 1.0)
    mean_a, mean_b = sums(a, b_known) / safe, sums(a_known, b) / safe
    spread_a = sums(a * a, b_known) / safe - mean_a**2
    spread_b = sums(a_known, b * b) / safe - mean_b**2
    sound = (number >= FEWEST_PAIRS) & (spread_a > 1e-9) & (spread_b > 1e-9)
    together = sums(a, b) / safe - mean_a * mean_b
    return np.where(sound, together / np.sqrt(np.where(sound, spread_a * spread_b, 1.0)), np.nan)


def _unit(values: FloatArray) -> FloatArray:
    known = values[np.isfinite(values)]
    spread = float(known.std()) if len(known) else 0.0
    return np.asarray((values - known.mean()) / spread, dtype=np.float64) if spread > 0 else values


def _length(seconds: float) -> str:
    """A length of time in one unit."""
    for size, unit in ((DAY_S, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"
