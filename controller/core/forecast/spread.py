"""From a model's features to quantiles: linear quantile regression, one for each step ahead, on past origins.

The noise of this demand grows with its level and its bursts are lopsided, so a fixed band around a path is wrong
nearly everywhere. Regressing the quantiles themselves on the level, the profile or a model's path (Koenker & Bassett
1978) lets the band breathe with them. Slopes are kept from going negative: more load a moment ago never means less
expected.

Solved by the majorise-minimise iteration of Hunter & Lange (2000), compiled in `regression`.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from controller.core.forecast.base import IntArray
from controller.core.types import QUANTILES, FloatArray

ITERATIONS: Final = 35
"""The result is within 0.3 % of the least loss."""
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
    from controller.core.forecast.regression import minimised  # compiled: only where something is fitted

    usable = np.isfinite(targets) & np.isfinite(features).all(axis=2)
    weight = np.where(usable, weights, 0.0)
    weight /= np.maximum(weight.sum(axis=1), 1e-300)[:, None]
    size = (weight * np.where(usable, np.abs(targets), 0.0)).sum(axis=1)
    scale = max(float(size.max(initial=0.0)), 1e-9)
    x = np.array(features, dtype=np.float64)
    x[:, :, 1:] /= scale
    levels = np.asarray(quantiles, dtype=np.float64)
    beta: FloatArray = minimised(x, targets / scale, weight, usable, levels, iterations)
    beta[:, :, 0] *= scale
    return beta


def quantiles_of(spread: FloatArray, features: FloatArray) -> FloatArray:
    """Quantiles (…, quantiles, steps) from features (…, steps, features)."""
    paths: FloatArray = np.einsum("sqf,...sf->...qs", spread[: features.shape[-2]], features)
    return paths


def recency(ages_s: FloatArray, half_life_s: float) -> FloatArray:
    """Weights of past origins: half for each half-life, for demand that grows and changes."""
    return np.asarray(np.exp2(-ages_s / half_life_s), dtype=np.float64)
