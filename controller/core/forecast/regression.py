"""The arithmetic of quantile regression, compiled: the iteration of Hunter & Lange (2000) and weighted quantiles.

Nearly all the time of a fit is spent here. As numpy calls the iteration goes over arrays that don't fit the processor's
nearest memory, and several times; compiled it goes once, in blocks that do, and takes a fifth of the time.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

F8 = npt.NDArray[np.float64]
B1 = npt.NDArray[np.bool_]

BLOCK = 256
"""Rows that are summed together: five quantiles of them and their products fit the nearest memory."""
FREE_STEPS = 3
RELAXATION = 1.5
"""After FREE_STEPS steps are lengthened by this, which halves the iterations."""
HELD_FROM = 5
"""From this iteration on a slope that has gone negative is held at 0."""
FIRST_SOFTNESS, SOFTER, LEAST_SOFTNESS = 0.3, 0.6, 1e-3
"""A distance is taken for so much more than it is, or the division by it would blow up; less at each iteration."""
RIDGE, HOLD = 1e-6, 1e9

# Sums may be taken in any order, or they could not be taken several at a time. NaN and infinities keep their meaning.
_FAST = {"reassoc", "contract", "arcp", "nsz"}


@njit(cache=True, fastmath=_FAST, error_model="numpy")
def minimised(features: F8, targets: F8, weights: F8, usable: B1, quantiles: F8, iterations: int) -> F8:
    """Coefficients (knots, quantiles, features) of the least weighted quantile loss.

    features (knots, n, features), the first of them the constant 1, targets and weights (knots, n), usable (knots, n):
    rows that count. Numbers are around 1, and the weights of a knot sum to 1. Slopes are at least 0; the constant is
    the exact quantile of what the slopes leave. LinAlgError when features are too much alike.
    """
    knots, rows, width = features.shape
    count = len(quantiles)
    half = width * (width + 1) // 2
    out = np.zeros((knots, count, width))
    x, y, weight = np.empty((width, rows)), np.empty(rows), np.empty(rows)
    products = np.empty((half + width, rows))
    pressure = np.empty((count, BLOCK))
    sums = np.empty((count, half + width))
    left, right = np.empty((width, width)), np.empty(width)
    rest, mass = np.empty(rows), np.empty(rows)
    for k in range(knots):
        n = 0
        for r in range(rows):
            if usable[k, r]:
                for i in range(width):
                    x[i, n] = features[k, r, i]
                y[n], weight[n] = targets[k, r], weights[k, r]
                n += 1
        if n == 0:
            continue
        p = 0
        for i in range(width):
            for j in range(i, width):
                products[p, :n] = x[i, :n] * x[j, :n]
                p += 1
        for i in range(width):
            products[half + i, :n] = x[i, :n] * y[:n]
        mean = np.empty(width)
        for i in range(width):
            mean[i] = (weight[:n] * x[i, :n]).sum()
        beta = out[k]
        ridge = np.full((count, width), RIDGE)
        for step in range(iterations):
            softness = max(LEAST_SOFTNESS, FIRST_SOFTNESS * SOFTER**step)
            sums[:] = 0.0
            for low in range(0, n, BLOCK):
                size = min(BLOCK, n - low)
                some_y, some_weight = y[low : low + size], weight[low : low + size]
                for q in range(count):
                    line = pressure[q, :size]
                    for r in range(size):
                        line[r] = some_y[r] - beta[q, 0]
                    for i in range(1, width):
                        slope, column = beta[q, i], x[i, low : low + size]
                        for r in range(size):
                            line[r] -= slope * column[r]
                    for r in range(size):
                        line[r] = some_weight[r] / (abs(line[r]) + softness)
                for p in range(half + width):
                    product = products[p, low : low + size]
                    for q in range(count):
                        line = pressure[q, :size]
                        total = 0.0
                        for r in range(size):
                            total += line[r] * product[r]
                        sums[q, p] += total
            for q in range(count):
                p = 0
                for i in range(width):
                    for j in range(i, width):
                        left[j, i] = sums[q, p]
                        p += 1
                    left[i, i] += ridge[q, i]
                    right[i] = sums[q, half + i] + (2.0 * quantiles[q] - 1.0) * mean[i]
                _solve(left, right)
                for i in range(width):
                    longer = 1.0 if step < FREE_STEPS else RELAXATION
                    beta[q, i] += longer * (right[i] - beta[q, i])
                    if step >= HELD_FROM and i > 0 and beta[q, i] < 0.0:
                        ridge[q, i] = HOLD
        for q in range(count):
            rest[:n] = y[:n] - beta[q, 0]
            for i in range(1, width):
                beta[q, i] = max(beta[q, i], 0.0)
                rest[:n] -= beta[q, i] * x[i, :n]
            mass[:n] = weight[:n]
            beta[q, 0] += weighted_quantile(rest[:n], mass[:n], quantiles[q])
    return out


@njit(cache=True)
def _solve(left: F8, right: F8) -> None:
    """Solves left · b = right into `right`, by Cholesky's decomposition in the lower half of `left`. A library's solver
    takes longer to be called than five or six unknowns take to be found."""
    width = len(right)
    for j in range(width):
        for t in range(j):
            left[j, j] -= left[j, t] * left[j, t]
        if not left[j, j] > 0.0:
            raise np.linalg.LinAlgError("features too much alike")
        left[j, j] = np.sqrt(left[j, j])
        for i in range(j + 1, width):
            for t in range(j):
                left[i, j] -= left[i, t] * left[j, t]
            left[i, j] /= left[j, j]
    for i in range(width):
        for t in range(i):
            right[i] -= left[i, t] * right[t]
        right[i] /= left[i, i]
    for i in range(width - 1, -1, -1):
        for t in range(i + 1, width):
            right[i] -= left[t, i] * right[t]
        right[i] /= left[i, i]


@njit(cache=True)
def weighted_quantile(values: F8, weights: F8, quantile: float) -> float:
    """The least of `values` at or below which lies `quantile` of the weight. Reorders both arrays.

    By Hoare's selection, with what equals the pivot apart: many past values are the same zero.
    """
    wanted = quantile * weights.sum()
    low, high = 0, len(values)
    found = values[0]
    while high > low:
        pivot = _median(values[low], values[(low + high) // 2], values[high - 1])
        less, at, more = low, low, high
        below = equal = 0.0
        while at < more:
            value, mass = values[at], weights[at]
            if value < pivot:
                values[at], weights[at] = values[less], weights[less]
                values[less], weights[less] = value, mass
                below += mass
                less += 1
                at += 1
            elif value > pivot:
                more -= 1
                values[at], weights[at] = values[more], weights[more]
                values[more], weights[more] = value, mass
            else:
                equal += mass
                at += 1
        if wanted <= below and less > low:
            high = less
        elif wanted <= below + equal or more == high:
            return float(pivot)
        else:
            found, low, wanted = pivot, more, wanted - below - equal
    return float(found)


@njit(cache=True)
def _median(a: float, b: float, c: float) -> float:
    return max(min(a, b), min(max(a, b), c))
