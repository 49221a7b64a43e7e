"""What tenants do, in bins of fifteen seconds: requests, sessions begun, and the rises of those who speed up.

Finer than the minutes of telemetry, and told by tenant before it is summed, so that a beginning is seen within a bin or
two. The lead-time forecast (`forecast.lead`) is learned from it.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from controller.core.types import Activity, FloatArray

BIN_S: Final = 15.0
SESSION_GAP_S: Final = 900.0
"""A tenant's request after so long a silence begins a session."""
RISES: Final = ((2, 6), (4, 12), (4, 8), (8, 24), (8, 40))
"""(recent, whole): by how much a tenant's mean rate in its last `recent` bins is above that in the bins before them, as
far back as `whole`; summed over the tenants who are faster."""
LONGEST: Final = 48
"""Bins that a tenant's rate is remembered for."""
CHANNELS: Final = 2 + len(RISES)
"""Requests, sessions begun, rises: each a second."""


class ActivityLog:
    """Grows an `Activity` bin by bin. Keeps at least `keep_bins` of the newest."""

    def __init__(self, tiers: int, keep_bins: int = 14 * 5760) -> None:
        self._tiers, self._keep = tiers, keep_bins
        self._start_s: float | None = None
        self._count = 0
        self._sums: FloatArray = np.zeros((CHANNELS, tiers, 1))
        self._known: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)

    @property
    def end_s(self) -> float | None:
        """The end of the newest bin; None: none is known."""
        return None if self._start_s is None else self._start_s + self._count * BIN_S

    def add(self, start_s: float, values: FloatArray, known: Sequence[bool] | npt.NDArray[np.bool_] | None = None) -> None:
        """Bins from start_s on, by tier (channels, tiers, m). Those that are known already are passed over; a gap
        before them repeats the newest.
        """
        if self._start_s is None:
            self._start_s = start_s
        skip = round((self._start_s + self._count * BIN_S - start_s) / BIN_S)
        if skip < 0:
            newest = self._sums[:, :, self._count] - self._sums[:, :, max(0, self._count - 1)]
            newest = np.diff(newest, axis=1, prepend=0.0)
            self._append(np.repeat(newest[:, :, None], -skip, axis=2), np.zeros(-skip, np.bool_))
            skip = 0
        fresh = values[:, :, skip:]
        if fresh.shape[2]:
            marks = np.ones(fresh.shape[2], np.bool_) if known is None else np.asarray(known, np.bool_)[skip:]
            self._append(fresh, marks)

    def _append(self, values: FloatArray, known: npt.NDArray[np.bool_]) -> None:
        m, count = values.shape[2], self._count
        if count + m + 1 > self._sums.shape[2]:
            drop = max(0, count - self._keep)
            size = max(2 * (count - drop + m), 4 * 5760) + 1
            sums = np.zeros((CHANNELS, self._tiers, size))
            sums[:, :, : count - drop + 1] = self._sums[:, :, drop : count + 1] - self._sums[:, :, drop, None]
            marks = np.zeros(size - 1, np.bool_)
            marks[: count - drop] = self._known[drop:count]
            self._sums, self._known, self._count = sums, marks, count - drop
            self._start_s = (self._start_s or 0.0) + drop * BIN_S
            count = self._count
        joined = np.cumsum(values, axis=1)
        self._sums[:, :, count + 1 : count + m + 1] = self._sums[:, :, count, None] + np.cumsum(joined, axis=2)
        self._known[count : count + m] = known
        self._count = count + m

    def read(self) -> Activity | None:
        """Everything kept; None: nothing was measured yet. It doesn't change when more is added."""
        if self._start_s is None:
            return None
        return Activity(self._start_s, BIN_S, self._sums[:, :, : self._count + 1], self._known[: self._count])
