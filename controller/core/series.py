"""Regular series of offered load: built from samples, resampled, clipped, cleaned, summed.

A `Series` never hides a gap: what was not measured is NaN, never 0. The offered load of a step is the work that arrived
in it divided by its length, `work_s / step_s`: the number of reference GPUs that this work keeps busy (erlangs).
Calendar features are arithmetic on epoch seconds, in UTC, so that no clock and no time zone table is needed.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from controller.core.types import FloatArray, Sample, Series

MINUTE_S: Final = 60.0
HOUR_S: Final = 3600.0
DAY_S: Final = 86400.0
WEEK_S: Final = 604800.0
EPOCH_WEEKDAY: Final = 3
"""1970-01-01 was a Thursday; Monday is 0."""

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def load_series(
    samples: Iterable[Sample], start_s: float, end_s: float, step_s: float = MINUTE_S, tiers: Iterable[str] = ()
) -> dict[str, Series]:
    """Offered load per tier over the whole steps of [start_s, end_s), from samples of one minute.

    Samples may come in any order; of two for the same minute the later in the iteration counts. Samples outside the
    window are ignored, so that a clock that jumps into the past or the future moves nothing. Longer steps are means of
    their minutes. `tiers` names those that must be present even without a sample (all NaN). ValueError for a step that
    isn't a whole number of minutes.
    """
    first, count = _whole_steps(start_s, end_s, step_s)
    minutes = count * round(step_s / MINUTE_S)
    values: dict[str, FloatArray] = {tier: np.full(minutes, np.nan) for tier in tiers}
    for sample in samples:
        path = values.setdefault(sample.tier, np.full(minutes, np.nan))
        since_s = sample.minute_s - first
        if 0 <= since_s < minutes * MINUTE_S:
            path[int(since_s // MINUTE_S)] = sample.work_s / MINUTE_S
    return {tier: resample(sanitise(Series(first, MINUTE_S, path)), step_s) for tier, path in values.items()}


def _whole_steps(start_s: float, end_s: float, step_s: float) -> tuple[float, int]:
    if not step_s > 0 or step_s % MINUTE_S:
        raise ValueError(f"a step must be a positive number of whole minutes, not {step_s} s")
    first = float(np.ceil(start_s / step_s) * step_s)
    return first, max(0, int((end_s - first) // step_s))


def sanitise(series: Series) -> Series:
    """Negative and infinite values are unknown: NaN."""
    values = np.asarray(series.values, dtype=np.float64)
    bad = ~np.isfinite(values) | (values < 0)
    return series if not bad.any() else Series(series.start_s, series.step_s, np.where(bad, np.nan, values))


def clip(series: Series, start_s: float = -np.inf, end_s: float = np.inf) -> Series:
    """The steps that lie wholly within [start_s, end_s). A view, not a copy."""
    count = len(series.values)
    low = 0 if start_s <= series.start_s else int(np.ceil((start_s - series.start_s) / series.step_s))
    high = count if end_s >= series.end_s else int((end_s - series.start_s) // series.step_s)
    low = min(low, count)
    return Series(series.start_s + low * series.step_s, series.step_s, series.values[low : max(low, high)])


def until(series: Series, end_s: float) -> Series:
    """The series as known at end_s: later steps cut off, and steps not yet measured added as NaN."""
    cut = clip(series, end_s=end_s)
    missing = int((end_s - cut.end_s) // series.step_s)
    if missing <= 0:
        return cut
    return Series(cut.start_s, cut.step_s, np.concatenate([cut.values, np.full(missing, np.nan)]))


def resample(series: Series, step_s: float) -> Series:
    """Means over longer steps, aligned to multiples of step_s since the epoch; NaN where all of a step is missing.

    A step that the series doesn't reach the end of is left out: half a step is not a measurement of it. ValueError
    when step_s isn't a multiple of the series' own step.
    """
    ratio = step_s / series.step_s
    width = round(ratio)
    if width < 1 or abs(ratio - width) > 1e-9:
        raise ValueError(f"can't resample steps of {series.step_s} s to {step_s} s: not a multiple")
    if width == 1 and series.start_s % step_s == 0:
        return series
    first = float(np.floor(series.start_s / step_s) * step_s)
    lead = round((series.start_s - first) / series.step_s)
    count = (lead + len(series.values)) // width
    if count == 0:
        return Series(first, step_s, np.empty(0))
    padded = np.concatenate([np.full(lead, np.nan), series.values])[: count * width].reshape(count, width)
    known = np.isfinite(padded)
    number = known.sum(axis=1)
    total = np.where(known, padded, 0.0).sum(axis=1)
    return Series(first, step_s, np.where(number > 0, total / np.maximum(number, 1), np.nan))


def filled(series: Series, short_s: float = 1800.0) -> Series:
    """Without gaps, for models that can't take NaN; each step by what was known before it alone, so that a backtest
    sees no more than there was to see.

    For short_s into a gap the last value holds; from there on what was there a day earlier, where that is known or was
    filled. What lies before the first known value takes it; nothing known at all stays NaN.
    """
    values = series.values
    gaps = ~np.isfinite(values)
    if not gaps.any() or gaps.all():
        return series
    index = np.arange(len(values))
    before = np.maximum.accumulate(np.where(gaps, -1, index))
    out = values[np.where(before < 0, int(np.argmin(gaps)), before)]
    day = round(DAY_S / series.step_s)
    late = gaps & (before >= 0) & ((index - before) * series.step_s > short_s)
    earlier = (index >= day) & (before[np.maximum(index - day, 0)] >= 0)
    for i in np.flatnonzero(late & earlier):  # in order: a gap of days repeats the day before it
        out[i] = out[i - day]
    return Series(series.start_s, series.step_s, out)


def total(series: Iterable[Series]) -> Series:
    """The sum of series of one step, over the time that all cover; NaN wherever one of them is.

    Cumulative loads by priority (premium; premium + standard; …) are made with it. ValueError for none, for different
    steps, or for steps that don't line up.
    """
    parts = list(series)
    if not parts:
        raise ValueError("the sum of no series has no time")
    step_s = parts[0].step_s
    start_s, end_s = max(p.start_s for p in parts), min(p.end_s for p in parts)
    for part in parts:
        offset = (part.start_s - start_s) / step_s
        if part.step_s != step_s or abs(offset - round(offset)) > 1e-6:
            raise ValueError("series to be summed must have the same steps")
    cut = [clip(part, start_s, max(start_s, end_s)) for part in parts]
    return Series(start_s, step_s, np.sum([part.values for part in cut], axis=0))


def cumulative(loads: Mapping[str, Series], order: Iterable[str]) -> dict[str, Series]:
    """Running sums in the order of priority, under joined names: a, a+b, a+b+c."""
    names: list[str] = []
    sums: dict[str, Series] = {}
    for name in order:
        names.append(name)
        sums["+".join(names)] = loads[name] if len(names) == 1 else total([sums["+".join(names[:-1])], loads[name]])
    return sums


def times_s(series: Series) -> FloatArray:
    """When each step starts."""
    return series.start_s + series.step_s * np.arange(len(series.values), dtype=np.float64)


def hour_of_day(at_s: FloatArray) -> FloatArray:
    """Hours since midnight UTC, in [0, 24)."""
    return np.mod(at_s, DAY_S) / HOUR_S


def weekday(at_s: FloatArray) -> IntArray:
    """Monday 0 … Sunday 6, by UTC."""
    return ((np.floor_divide(at_s, DAY_S).astype(np.int64)) + EPOCH_WEEKDAY) % 7


def is_weekend(at_s: FloatArray) -> BoolArray:
    """Saturday or Sunday, by UTC."""
    return np.asarray(weekday(at_s) >= 5)
