"""From a model's features to quantiles: linear quantile regression, one for each step ahead, on past origins.

The noise of this demand grows with its level and its bursts are lopsided, so a fixed band around a path is wrong
nearly everywhere. Regressing the quantiles themselves on the level, the profile or a model's path (Koenker & Bassett
1978) lets the band breathe with them. Slopes are kept from going negative: more load a moment ago never means less
expected.

Solved by the majorise-minimise iteration of Hunter & Lange (2000), for all steps and quantiles at once.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from controller.core.forecast.base import IntArray
from controller.core.types import QUANTILES, FloatArray

BoolArray = npt.NDArray[np.bool_]

ITERATIONS: Final = 35
RELAXATION: Final = 1.5
"""Steps are lengthened by this, which halves the iterations; the result is within 0.3 % of the least loss."""
KNOTS: Final = 12
FEWEST_ORIGINS: Final = 30
ROWS: Final = 1200
"""Past outcomes that a knot is fitted on, where there are so many: a short history gives few origins, and a knot then
learns from the steps around it too."""


def knots(steps: int, count: int = KNOTS) -> IntArray:
    """The steps ahead that are fitted, dense at first: what is true in a minute is soon not; between them the
    coefficients are interpolated."""
    if steps <= count:
        return np.arange(steps, dtype=np.int64)
    return np.unique(np.round(np.geomspace(1, steps, count)).astype(np.int64) - 1)


def around_knots(at: IntArray, steps: int, origins: int) -> list[IntArray]:
    """For each knot the steps ahead that it is fitted on: itself, and with fewer than ROWS origins its neighbours as
    well, halfway to the next knots, as many as make up ROWS."""
    edges = np.concatenate([[0], (at[1:] + at[:-1] + 1) // 2, [steps]])
    each = max(1, -(-ROWS // max(1, origins)))
    found = []
    for knot, low, high in zip(at.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        count = min(each, high - low)
        wide = np.round(np.linspace(low, high - 1, count)).astype(np.int64) if count > 1 else np.array([knot])
        found.append(np.unique(wide))
    return found


def gathered(
    features: FloatArray, targets: FloatArray, weights: FloatArray, groups: Sequence[IntArray]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Features (origins, ahead, features), targets (origins, ahead) and weights (origins,) as rows for each knot.

    Knot k takes the columns groups[k]. Returned are (knots, rows, features), (knots, rows) and (knots, rows); knots
    with fewer rows are padded with NaN targets, which count for nothing.
    """
    origins, _, width = features.shape
    rows = origins * max(len(group) for group in groups)
    x = np.zeros((len(groups), rows, width))
    y, weight = np.full((len(groups), rows), np.nan), np.zeros((len(groups), rows))
    for k, group in enumerate(groups):
        count = origins * len(group)
        x[k, :count] = features[:, group].reshape(count, width)
        y[k, :count] = targets[:, group].ravel()
        weight[k, :count] = np.repeat(weights, len(group))
    return x, y, weight


def between_knots(coefficients: FloatArray, at: IntArray, steps: int) -> FloatArray:
    """Coefficients (knots, quantiles, features) for every step, linear in the logarithm of the step."""
    wanted, known = np.log1p(np.arange(steps)), np.log1p(at.astype(np.float64))
    flat = coefficients.reshape(len(at), -1)
    out = np.stack([np.interp(wanted, known, flat[:, i]) for i in range(flat.shape[1])], axis=1)
    return out.reshape(steps, *coefficients.shape[1:])


def regress_quantiles(
    features: FloatArray,
    targets: FloatArray,
    weights: FloatArray,
    quantiles: tuple[float, ...] = QUANTILES,
    iterations: int = ITERATIONS,
) -> FloatArray:
    """Coefficients (knots, quantiles, features) of `targets` (knots, n) on `features` (knots, n, features).

    The first feature is the constant; the slopes of the others are at least 0. Rows with a NaN count for nothing.
    Constant or collinear features are held by a slight ridge.
    """
    usable = np.isfinite(targets) & np.isfinite(features).all(axis=2)
    weight = np.where(usable, weights, 0.0)
    x = np.where(usable[:, :, None], features, 0.0)
    y = np.where(usable, targets, 0.0)
    mass = weight.sum(axis=1)
    weight = weight / np.maximum(mass, 1e-300)[:, None]
    scale = max(float((weight * np.abs(y)).sum(axis=1).max(initial=0.0)), 1e-9)
    x[:, :, 1:] /= scale
    y /= scale
    beta = np.empty((len(x), len(quantiles), x.shape[2]))
    for some, rows in _of_like_length(usable):
        beta[some] = _minimise(x[some, :rows], y[some, :rows], weight[some, :rows], quantiles, iterations)
    beta[:, :, 0] *= scale
    return beta


def _of_like_length(usable: BoolArray) -> list[tuple[IntArray, int]]:
    """The knots in two lots, those that end with padding and the others, each with the rows that it needs: half of the
    knots of a day of hours have half of the rows, and the time goes with the rows."""
    count = usable.shape[1]
    ends = count - np.argmax(usable[:, ::-1], axis=1)
    ends = np.where(usable.any(axis=1), ends, 1)
    short = ends <= 0.6 * count
    lots = (np.flatnonzero(short), np.flatnonzero(~short))
    return [(lot, int(ends[lot].max())) for lot in lots if len(lot)]


def _minimise(
    x: FloatArray, y: FloatArray, weight: FloatArray, quantiles: tuple[float, ...], iterations: int
) -> FloatArray:
    """The iteration itself, on numbers around 1 and weights whose sum is 1. Nearly all its time goes over arrays of
    (knots, quantiles, rows): one of them is kept and written over."""
    knot_count, row_count, width = x.shape
    row, column = np.triu_indices(width)
    tilt = 2.0 * np.asarray(quantiles) - 1.0
    pull = tilt[None, :, None] * (weight[:, None, :] @ x)  # (knots, quantiles, features)
    ridge = np.full((knot_count, len(quantiles), width), 1e-6)
    beta = np.zeros((knot_count, len(quantiles), width))
    left = np.empty((knot_count, len(quantiles), width, width))
    unit = np.eye(width)
    transposed = np.ascontiguousarray(np.swapaxes(x, 1, 2))
    products = np.concatenate([transposed[:, row] * transposed[:, column], transposed * y[:, None, :]], axis=1)
    sums_of = np.swapaxes(products, 1, 2)  # rows last in memory: twice as fast to sum over
    pressure = np.empty((knot_count, len(quantiles), row_count))
    near_y, near_weight = y[:, None, :], weight[:, None, :]
    for i in range(iterations):
        softness = max(1e-3, 0.3 * 0.6**i)
        np.matmul(beta, transposed, out=pressure)
        np.subtract(near_y, pressure, out=pressure)
        np.abs(pressure, out=pressure)
        pressure += softness
        np.divide(near_weight, pressure, out=pressure)
        sums = pressure @ sums_of
        left[:, :, row, column] = left[:, :, column, row] = sums[:, :, : len(row)]
        right = sums[:, :, len(row) :] + pull
        found = np.linalg.solve(left + ridge[..., None] * unit, right[..., None])[..., 0]
        beta = found if i < 3 else beta + RELAXATION * (found - beta)
        if i >= 5:
            negative = beta < 0
            negative[:, :, 0] = False
            ridge = np.where(negative, 1e9, ridge)
    beta[:, :, 1:] = np.maximum(beta[:, :, 1:], 0.0)
    beta[:, :, 0] += _weighted_quantiles(near_y - beta @ transposed, weight, quantiles)
    return beta


def _weighted_quantiles(residuals: FloatArray, weights: FloatArray, quantiles: tuple[float, ...]) -> FloatArray:
    """The exact quantile of each quantile's residuals (knots, quantiles, n), for the constant: many past values are the
    same zero, and an iteration creeps towards a tie where sorting is there at once."""
    order = np.argsort(residuals, axis=2)
    mass = np.cumsum(np.take_along_axis(np.broadcast_to(weights[:, None, :], residuals.shape), order, axis=2), axis=2)
    at = (mass < np.asarray(quantiles)[None, :, None] * mass[:, :, -1:]).sum(axis=2, keepdims=True)
    at = np.minimum(at, residuals.shape[2] - 1)
    return np.take_along_axis(np.take_along_axis(residuals, order, axis=2), at, axis=2)[:, :, 0]


def quantiles_of(spread: FloatArray, features: FloatArray) -> FloatArray:
    """Quantiles (…, quantiles, steps) from features (…, steps, features)."""
    paths: FloatArray = np.einsum("sqf,...sf->...qs", spread[: features.shape[-2]], features)
    return paths


def recency(ages_s: FloatArray, half_life_s: float) -> FloatArray:
    """Weights of past origins: half for each half-life, for demand that grows and changes."""
    return np.asarray(np.exp2(-ages_s / half_life_s), dtype=np.float64)
