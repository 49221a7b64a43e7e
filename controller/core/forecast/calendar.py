"""What the time alone says of demand: Fourier terms of the day and of the week, and a weekend mark, in UTC.

Fourier terms as regressors stand for a season that changes slowly (Harvey 1989; Hyndman & Athanasopoulos, Forecasting:
Principles and Practice, dynamic harmonic regression). A rhythm of local time moves by an hour when clocks change: the
terms don't know of it, and a fit learns it anew from the days after.
"""

from typing import Final

import numpy as np

from controller.core.series import DAY_S, WEEK_S, is_weekend
from controller.core.types import FloatArray

HARMONICS: Final = 4
WEEK_HARMONICS: Final = 3
WEEKS_NEEDED_S: Final = 2 * WEEK_S
"""A weekly rhythm can be told from a coincidence once it was seen twice."""


def fourier(at_s: FloatArray, period_s: float, harmonics: int) -> FloatArray:
    """Sine and cosine of the first `harmonics` multiples of 1/period_s, shape (len(at_s), 2·harmonics)."""
    angle = 2.0 * np.pi * np.mod(at_s, period_s) / period_s
    terms = [wave(k * angle) for k in range(1, harmonics + 1) for wave in (np.sin, np.cos)]
    return np.stack(terms, axis=1) if terms else np.empty((len(at_s), 0))


def calendar(start_s: float, step_s: float, count: int, week_harmonics: int = 0) -> FloatArray:
    """Fourier terms of the day, a weekend mark, and Fourier terms of the week where asked for.

    Shape (count, 2·HARMONICS + 1 + 2·week_harmonics).
    """
    at_s = start_s + step_s * np.arange(count, dtype=np.float64)
    weekend = is_weekend(at_s).astype(np.float64)[:, None]
    parts = [fourier(at_s, DAY_S, HARMONICS), weekend, fourier(at_s, WEEK_S, week_harmonics)]
    return np.concatenate(parts, axis=1)


def week_harmonics(history_s: float) -> int:
    """How many harmonics of the week this much history (seconds) can carry."""
    return WEEK_HARMONICS if history_s >= WEEKS_NEEDED_S else 0


def week_harmonics_of(width: int) -> int:
    """How many harmonics of the week `calendar` gave when it had `width` columns."""
    return (width - 2 * HARMONICS - 1) // 2
