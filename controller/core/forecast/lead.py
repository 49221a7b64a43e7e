"""The lead-time forecast: how much will be asked for when a replica started now can serve.

A regression of the request rate one lead time ahead on what tenants have just done (`activity`): the rates of the last
four hours in ever longer bins, the sessions begun in the last half hour, and the rises of those who speed up. Linear,
so that a week of bins is learned in a fraction of a second, with a ridge penalty (Hoerl & Kennard 1970) on standardised
columns. Its error grows with what it expects, as that of counts does, and more: the variance is a line through it,
learned from errors made on days that the weights had not seen (cross-fitting over contiguous folds).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from controller.core.activity import BIN_S, CHANNELS
from controller.core.types import Activity, FloatArray

RATE_EDGES: Final = (*(0, 1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 48, 60, 80, 120, 160, 240, 480, 960),)
SESSION_EDGES: Final = (0, 1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 48, 60, 80, 120)
RIDGE: Final = 3e-4
"""Penalty on a standardised weight, per row."""
FOLDS: Final = 4
LEARNED_BINS: Final = 7 * 5760
LEAST_BINS: Final = 2 * 5760
"""Two days: fewer have seen no second morning."""


@dataclass(frozen=True, slots=True, eq=False)
class LeadModel:
    """Weights of one joined tier at one lead time. Rates in requests a second; variance = `noise` + `spread` · mean."""

    key: int
    lead_bins: int
    weights: FloatArray
    noise: float
    spread: float

    def deviation(self, mean: FloatArray) -> FloatArray:
        """Standard deviation of the rate that comes, for a mean expected."""
        found: FloatArray = np.sqrt(np.maximum(self.noise + self.spread * mean, 1e-12))
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Rehearsal:
    """What would have been expected on the days learned from, by weights that had not seen them. All (n,): the rate
    expected for `lead_bins` later, its standard deviation, and the rate in each bin.
    """

    mean: FloatArray
    deviation: FloatArray
    rate: FloatArray


def columns(activity: Activity, key: int, at: npt.NDArray[np.int64]) -> FloatArray:
    """What is known at the beginning of bins `at` (m,) of the tiers 0…key: shape (m, columns), the first all ones."""
    found = [np.ones(len(at))]
    found += _means(activity.sums[0, key], at, RATE_EDGES)
    found += _means(activity.sums[1, key], at, SESSION_EDGES)
    for channel in range(2, CHANNELS):
        found += _means(activity.sums[channel, key], at, (0, 1))
    return np.stack(found, axis=1)


def _means(sums: FloatArray, at: npt.NDArray[np.int64], edges: tuple[int, ...]) -> list[FloatArray]:
    points = np.stack([sums[np.maximum(at - edge, 0)] for edge in edges])
    return [(points[i] - points[i + 1]) / (edges[i + 1] - edges[i]) for i in range(len(edges) - 1)]


def smoothed_rate(activity: Activity, key: int, bins: int) -> FloatArray:
    """Mean rate of the `bins` that end with each bin (n,): what is in flight, over its execution time."""
    sums, n = activity.sums[0, key], activity.bins
    ends = np.arange(1, n + 1)
    rate: FloatArray = (sums[ends] - sums[np.maximum(ends - bins, 0)]) / bins
    return np.maximum(rate, 0.0)


def learn(activity: Activity, key: int, lead_bins: int, work_bins: int) -> tuple[LeadModel, Rehearsal] | None:
    """Weights for the tiers 0…key, and their rehearsal on the newest LEARNED_BINS bins. None: fewer than LEAST_BINS
    bins were measured. `work_bins`: the mean execution time, in bins.
    """
    first = max(0, activity.bins - LEARNED_BINS)
    at = np.arange(first, activity.bins + 1)
    if int(activity.known[first:].sum()) < LEAST_BINS + lead_bins:
        return None
    rate = smoothed_rate(activity, key, work_bins)
    design = columns(activity, key, at)
    target_bin = at + lead_bins
    usable = target_bin < activity.bins
    usable[usable] &= activity.known[target_bin[usable]]
    rows, come = np.flatnonzero(usable), rate[target_bin[usable]]
    scale = np.maximum(design[rows].std(axis=0), 1e-9)
    scale[0] = 1.0
    standard = design[rows] / scale
    penalty = RIDGE * len(rows) * np.eye(standard.shape[1])
    penalty[0, 0] = 0.0
    fold = (np.arange(len(rows)) * FOLDS) // len(rows)
    grams = [standard[fold == f].T @ standard[fold == f] for f in range(FOLDS)]
    sides = [standard[fold == f].T @ come[fold == f] for f in range(FOLDS)]
    whole, side = np.sum(grams, axis=0), np.sum(sides, axis=0)
    mean = np.empty(len(at))
    unseen = [np.linalg.solve(whole - grams[f] + penalty, side - sides[f]) / scale for f in range(FOLDS)]
    # A bin that is no row of its own belongs to the fold of the row before it.
    of_bin = fold[np.clip(np.searchsorted(rows, np.arange(len(at)), side="right") - 1, 0, len(rows) - 1)]
    for f in range(FOLDS):
        mean[of_bin == f] = design[of_bin == f] @ unseen[f]
    mean = np.maximum(mean, 0.0)
    error, expected = (come - mean[rows]) ** 2, mean[rows]
    typical = expected + max(float(expected.mean()), 1e-9)
    noise, spread = nnls(np.stack([np.ones(len(rows)), expected], axis=1) / typical[:, None], error / typical)[0]
    weights = np.linalg.solve(whole + penalty, side) / scale
    model = LeadModel(key, lead_bins, weights, float(noise), float(spread))
    return model, Rehearsal(mean[:-1], model.deviation(mean[:-1]), rate[first:])


def expect(model: LeadModel, activity: Activity) -> tuple[float, float]:
    """Mean and standard deviation of the rate `lead_bins` after the newest bin, requests a second."""
    mean = max(0.0, float(columns(activity, model.key, np.array([activity.bins]))[0] @ model.weights))
    return mean, float(model.deviation(np.array([mean]))[0])


def lead_bins_of(lead_s: float) -> int:
    """A lead time in whole bins, rounded up."""
    return max(1, int(np.ceil(lead_s / BIN_S - 1e-9)))
