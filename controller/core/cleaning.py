"""Cleaning of measured load before anything learns from it: what can't be true is unknown or bounded, never zero.

The order is `sanitise` (series.py: negative and infinite values are unknown), `without_outages`, `without_spikes`;
`cleaned` does all three. Every fit cleans its history, and every prediction is bounded by what the fit believed. Better
still, clean a series by the minute before it is resampled: an absurd minute within an hour spoils the hour.
"""

from typing import Final

import numpy as np

from controller.core.series import DAY_S, HOUR_S, sanitise
from controller.core.types import FloatArray, Series

OUTAGE_SHORTEST_S: Final = 600.0
OUTAGE_LONGEST_S: Final = 6 * HOUR_S
"""A longer silence is believed: demand may really be gone, and capacity must not stand idle for it for days."""
NEIGHBOUR_S: Final = 1800.0
DAYS_AROUND: Final = 7
DAYS_NEEDED: Final = 3
HIGH: Final = 0.25
SPIKE: Final = 10.0
SPIKE_SHARE: Final = 0.001
SPIKES: Final = 2


def cleaned(series: Series) -> Series:
    """Without what can't be true: see the module."""
    return without_spikes(without_outages(sanitise(series)))


def without_outages(series: Series) -> Series:
    """Zeros that no demand explains are unknown: NaN.

    A run of exact zeros of 10 minutes to 6 hours is taken for an outage of what measures (or of the service) when the
    same time of day, half an hour wider on both sides, was measured on at least three of the seven days before and
    after, had not one zero then, and its load was at least a quarter of the usual. Where nights are silent their zeros
    are so every day, and stay.
    """
    values, step_s, count = series.values, series.step_s, len(series.values)
    zero = values == 0.0
    if not zero.any():
        return series
    first, end = _runs(zero)
    length_s = (end - first) * step_s
    suspect = (length_s >= OUTAGE_SHORTEST_S) & (length_s <= OUTAGE_LONGEST_S)
    first, end = first[suspect], end[suspect]
    if not len(first):
        return series
    known = np.isfinite(values)
    zeros, number, amount = (
        np.concatenate([[0.0], np.cumsum(part)]) for part in (zero, known, np.where(known, values, 0.0))
    )
    day, wide = round(DAY_S / step_s), round(NEIGHBOUR_S / step_s)
    away = day * np.array([k for k in range(-DAYS_AROUND, DAYS_AROUND + 1) if k])
    low, high = first[:, None] - wide + away, end[:, None] + wide + away
    inside = (low >= 0) & (high <= count)
    low, high = np.clip(low, 0, count), np.clip(high, 0, count)
    measured = np.where(inside, number[high] - number[low], 0.0)
    counted = inside & (2 * measured >= high - low)
    silent = (np.where(counted, zeros[high] - zeros[low], 0.0)).sum(axis=1)
    load = np.where(counted, amount[high] - amount[low], 0.0).sum(axis=1)
    load = load / np.maximum(np.where(counted, measured, 0.0).sum(axis=1), 1.0)
    usual = amount[-1] / max(number[-1], 1.0)
    outage = (counted.sum(axis=1) >= DAYS_NEEDED) & (silent == 0) & (load >= HIGH * usual)
    if not outage.any():
        return series
    out = np.array(values, dtype=np.float64)
    for low_i, high_i in zip(first[outage], end[outage], strict=True):
        out[low_i:high_i] = np.nan
    return Series(series.start_s, step_s, out)


def without_spikes(series: Series) -> Series:
    """Values above `ceiling_of` are lowered to it (winsorised): a surge stays one, a billion does not."""
    return bounded(series, ceiling_of(series.values))


def bounded(series: Series, ceiling: float) -> Series:
    """No value above the ceiling; unknown stays unknown."""
    high = series.values > ceiling
    if not high.any():
        return series
    return Series(series.start_s, series.step_s, np.where(high, ceiling, series.values))


def ceiling_of(values: FloatArray) -> float:
    """The most that is believed: ten times the 99.9th percentile, by rank: ten times the largest value but for a
    thousandth of the known ones and two more, so that two absurd samples don't excuse each other in a short series.

    Only of positive values, for a service that is seldom used has zeros at that percentile. Infinite with fewer than
    three of them: nothing to compare with.
    """
    positive = values[np.isfinite(values) & (values > 0)]
    rank = SPIKES + int(SPIKE_SHARE * len(positive))
    if len(positive) <= rank:
        return float("inf")
    largest = np.partition(positive, len(positive) - 1 - rank)[len(positive) - 1 - rank]
    return float(SPIKE * largest)


def _runs(mark: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(first, end) of each run of True, as half-open ranges."""
    edges = np.diff(np.concatenate([[False], mark, [False]]).astype(np.int8))
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
