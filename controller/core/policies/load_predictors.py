"""The next value of a short series of loads, by the predictors that NVIDIA Dynamo's planner offers.

All: leading zeros are skipped, what isn't finite is 0, fewer than five values give the last, equal ones give it too,
and no forecast is negative. *constant*: the last value. *kalman*: a local linear trend with Dynamo's fixed noises.
*arima*: Dynamo searches an order with pmdarima's `auto_arima` once and updates its parameters each time. Here the order
is the one of least AIC among p, q ≤ 2, with d by a KPSS test, and its parameters are estimated each time by the method
of Hannan and Rissanen (*Biometrika* 69, 1982; statsmodels'), which takes milliseconds where likelihood takes seconds.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from controller.core.types import FloatArray

FEWEST: Final = 5
MOST_LAGS: Final = 2
# Residuals of the first values rest on what came before them, which nobody knows.
_WARM_UP: Final = 5


@dataclass(frozen=True, slots=True)
class Order:
    """ARIMA(p, d, q), on log(1 + load) where `logged`."""

    p: int
    d: int
    q: int
    logged: bool = False


@dataclass(frozen=True, slots=True)
class _Arma:
    """An ARMA estimated on values: one step ahead of them, and the variance that was missed within."""

    ahead: float
    variance: float


def cleaned(values: Sequence[float] | FloatArray) -> FloatArray:
    """Finite values from the first that isn't zero on; the last alone where all are zero."""
    known = np.nan_to_num(np.asarray(values, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    first = np.flatnonzero(known)
    return known[first[0] :] if len(first) else known[-1:]


def is_plain(values: FloatArray) -> bool:
    """Too short or too even for anything but the last value."""
    return len(values) < FEWEST or bool(np.ptp(values) == 0.0)


def constant(values: FloatArray) -> float:
    """The last value; 0 where there is none."""
    return max(0.0, float(values[-1])) if len(values) else 0.0


def kalman(values: FloatArray) -> float:
    """One step ahead by a Kalman filter: F = [[1, 1], [0, 1]], H = [1, 0], P₀ = 1000 I, Q = diag(1, 0.1), R = 10,
    beginning at the first value without a trend.
    """
    if is_plain(values):
        return constant(values)
    level, trend = float(values[0]), 0.0
    p00, p01, p11 = 1000.0, 0.0, 1000.0
    for value in values.tolist():
        gain_level, gain_trend = p00 / (p00 + 10.0), p01 / (p00 + 10.0)
        missed = value - level
        level, trend = level + gain_level * missed, trend + gain_trend * missed
        p00, p01, p11 = (1 - gain_level) * p00, (1 - gain_level) * p01, p11 - gain_trend * p01
        level, p00, p01, p11 = level + trend, p00 + 2 * p01 + p11 + 1.0, p01 + p11, p11 + 0.1
    return max(0.0, level)


def arima_order(values: FloatArray) -> Order | None:
    """The order to forecast with; None where there is too little to tell. Some 50 ms."""
    if is_plain(values):
        return None
    d = _differences(values)
    best, least = Order(0, d, 0), math.inf
    for p in range(MOST_LAGS + 1):
        for q in range(MOST_LAGS + 1):
            order = Order(p, d, q)
            found = _estimated(values, order)
            if found is None or found.variance <= 0:
                continue
            aic = (len(values) - d) * math.log(found.variance) + 2 * (p + q + 1)
            if aic < least:
                best, least = order, aic
    # Without lags it is a mean or a last value; Dynamo tries again on the logarithm.
    return best if best.p or best.q else Order(0, d, 0, logged=True)


def arima(values: FloatArray, order: Order | None) -> float:
    """One step ahead by an order found earlier; the last value where it can't be estimated."""
    if order is None or is_plain(values):
        return constant(values)
    found = _estimated(np.log1p(values) if order.logged else values, order)
    if found is None:
        return constant(values)
    return max(0.0, math.expm1(min(found.ahead, 50.0)) if order.logged else found.ahead)


def _differences(values: FloatArray) -> int:
    """How often to difference until a KPSS test at 5 % finds no trend: at most once."""
    from statsmodels.tsa.stattools import kpss

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return int(float(kpss(values, regression="c", nlags="auto")[1]) < 0.05)
        except (ValueError, OverflowError):
            return 1


def _estimated(values: FloatArray, order: Order) -> _Arma | None:
    """None where the method finds no parameters, or some by which the series would run away."""
    from statsmodels.tsa.arima.estimators.hannan_rissanen import hannan_rissanen

    given = np.diff(values, n=order.d)
    mean = 0.0 if order.d else float(given.mean())
    off = given - mean
    ar = ma = np.empty(0)
    if order.p or order.q:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                found, _ = hannan_rissanen(off, order.p, order.q, demean=False)
                if not (found.is_stationary and found.is_invertible):
                    return None
            except (ValueError, np.linalg.LinAlgError, IndexError):
                return None
        ar, ma = np.asarray(found.ar_params, np.float64), np.asarray(found.ma_params, np.float64)
    past, missed = [0.0] * MOST_LAGS, [0.0] * MOST_LAGS
    squares = list[float]()
    for value in [*off.tolist(), math.nan]:
        expected = sum(c * x for c, x in zip(ar.tolist(), past, strict=False))
        expected += sum(c * x for c, x in zip(ma.tolist(), missed, strict=False))
        squares.append((value - expected) ** 2)
        past, missed = [value, *past[:-1]], [value - expected, *missed[:-1]]
    ahead = expected + mean + (float(values[-1]) if order.d else 0.0)
    kept = squares[_WARM_UP:-1] or squares[:-1]
    variance = sum(kept) / len(kept)
    return _Arma(ahead, variance) if math.isfinite(ahead) and math.isfinite(variance) else None
