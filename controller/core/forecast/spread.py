"""From a model's features to quantiles: linear quantile regression, one for each step ahead, on past origins.

The noise of this demand grows with its level and its bursts are lopsided, so a fixed band around a path is wrong
nearly everywhere. Regressing the quantiles themselves on the level, the profile or a model's path (Koenker & Bassett
1978) lets the band breathe with them. Slopes are kept from going negative: more load a moment ago never means less
expected.

Solved by the majorise-minimise iteration of Hunter & Lange (2000), for all steps and quantiles at once.
"""

from typing import Final

import numpy as np

from controller.core.forecast.base import IntArray
from controller.core.types import QUANTILES, FloatArray

ITERATIONS: Final = 35
RELAXATION: Final = 1.5
"""Steps are lengthened by this, which halves the iterations; the result is within 0.3 % of the least loss."""
KNOTS: Final = 12
FEWEST_ORIGINS: Final = 30


def knots(steps: int, count: int = KNOTS) -> IntArray:
    """The steps ahead that are fitted, dense at first: what is true in a minute is soon not; between them the
    coefficients are interpolated."""
    if steps <= count:
        return np.arange(steps, dtype=np.int64)
    return np.unique(np.round(np.geomspace(1, steps, count)).astype(np.int64) - 1)


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
    x = x.copy()
    x[:, :, 1:] /= scale
    y = y / scale

    knot_count, row_count, width = x.shape
    outer = (x[:, :, :, None] * x[:, :, None, :]).reshape(knot_count, row_count, width * width)
    tilt = 2.0 * np.asarray(quantiles) - 1.0
    pull = tilt[None, :, None] * (weight[:, None, :] @ x)  # (knots, quantiles, features)
    ridge = np.full((knot_count, len(quantiles), width), 1e-6)
    beta = np.zeros((knot_count, len(quantiles), width))
    transposed = np.swapaxes(x, 1, 2)
    near_y = y[:, None, :]
    for i in range(iterations):
        softness = max(1e-3, 0.3 * 0.6**i)
        pressure = weight[:, None, :] / (softness + np.abs(near_y - beta @ transposed))
        left = (pressure @ outer).reshape(knot_count, len(quantiles), width, width)
        left = left + ridge[..., None] * np.eye(width)
        right = (pressure * near_y) @ x + pull
        found = np.linalg.solve(left, right[..., None])[..., 0]
        beta = found if i < 3 else beta + RELAXATION * (found - beta)
        if i >= 5:
            negative = beta < 0
            negative[:, :, 0] = False
            ridge = np.where(negative, 1e9, ridge)
    beta[:, :, 1:] = np.maximum(beta[:, :, 1:], 0.0)
    beta[:, :, 0] += _weighted_quantiles(near_y - beta @ transposed, weight, quantiles)
    beta[:, :, 0] *= scale
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
