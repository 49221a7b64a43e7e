"""Who begins and who speeds up: the activity of tenants in bins of seconds, as a gateway would count it.

A tenant who has just asked asks again. So the earliest sign of more load is not the sum of requests, in which one
tenant's beginning drowns, but the tenants one by one: how many begin a session, and by how much the faster ones are
faster than before. Both are sums over tenants, which a metrics system gives without naming anybody.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from controller.core.activity import BIN_S, CHANNELS, LONGEST, RISES, SESSION_GAP_S
from controller.core.types import FloatArray

_PAIRS = np.array(RISES, np.int64)


class ActivityMeter:
    """Counts requests bin by bin, in order of time. `tiers`: how many."""

    def __init__(self, tiers: int, from_s: float) -> None:
        self._tiers = tiers
        self.end_s = float(np.ceil(from_s / BIN_S) * BIN_S)
        self._last = np.empty(0)
        self._ring = np.empty((0, LONGEST), np.float32)
        self._tier = np.empty(0, np.int64)
        self._busy = np.empty(0, np.int64)
        self._busies = 0

    def count(
        self,
        arrived_s: FloatArray,
        tier: npt.NDArray[np.int64],
        tenant: npt.NDArray[np.int64],
        until_s: float,
    ) -> FloatArray:
        """The whole bins from `end_s` to until_s: shape (channels, tiers, bins). The requests are those that arrived in
        them, in order of time; earlier and later ones are passed over.
        """
        bins = max(0, int((until_s - self.end_s + 1e-6) // BIN_S))
        out = np.zeros((CHANNELS, self._tiers, bins))
        if bins:
            self._reach(int(tenant.max()) + 1 if len(tenant) else 0)
            inside = slice(*np.searchsorted(arrived_s, (self.end_s, self.end_s + bins * BIN_S)))
            first_bin = round(self.end_s / BIN_S)
            self._busies = _count(
                *(arrived_s[inside], tier[inside], tenant[inside], self.end_s, first_bin, out),
                *(self._last, self._ring, self._tier, self._busy, self._busies, _PAIRS),
            )
            self.end_s += bins * BIN_S
        return out

    def _reach(self, tenants: int) -> None:
        have = len(self._last)
        if tenants > have:
            size = max(tenants, 2 * have)
            self._last = np.concatenate([self._last, np.full(size - have, -np.inf)])
            self._ring = np.concatenate([self._ring, np.zeros((size - have, LONGEST), np.float32)])
            self._tier = np.concatenate([self._tier, np.zeros(size - have, np.int64)])
            self._busy = np.concatenate([self._busy, np.zeros(size - have, np.int64)])


@njit(cache=True)
def _count(  # type: ignore[no-untyped-def]
    arrived_s, tier, tenant, start_s, first_bin, out, last, ring, tier_of, busy, busies, pairs
):
    """Fills out (channels, tiers, bins); returns how many tenants are busy. `ring[tenant, bin % LONGEST]` are its
    requests a second; a tenant is busy while its ring holds any.
    """
    q = 0
    longest = ring.shape[1]
    for b in range(out.shape[2]):
        column = (first_bin + b) % longest
        for i in range(busies):
            ring[busy[i], column] = 0.0
        end_s = start_s + (b + 1) * BIN_S
        while q < len(arrived_s) and arrived_s[q] < end_s:
            t, k = tier[q], tenant[q]
            out[0, t, b] += 1.0 / BIN_S
            if k >= 0:
                if arrived_s[q] - last[k] > SESSION_GAP_S:
                    out[1, t, b] += 1.0 / BIN_S
                if arrived_s[q] - last[k] > longest * BIN_S or last[k] == -np.inf:
                    known = False
                    for i in range(busies):
                        if busy[i] == k:
                            known = True
                    if not known:
                        ring[k, :] = 0.0
                        busy[busies] = k
                        busies += 1
                tier_of[k] = t
                last[k] = arrived_s[q]
                ring[k, column] += 1.0 / BIN_S
            q += 1
        i = 0
        while i < busies:
            k = busy[i]
            if end_s - last[k] > longest * BIN_S:
                busies -= 1
                busy[i] = busy[busies]
                continue
            for p in range(len(pairs)):
                width, early = pairs[p, 0], pairs[p, 1]
                now = 0.0
                for j in range(width):
                    now += ring[k, (column - j) % longest]
                before = 0.0
                for j in range(width, early):
                    before += ring[k, (column - j) % longest]
                rise = now / width - before / (early - width)
                if rise > 0:
                    out[2 + p, tier_of[k], b] += rise
            i += 1
    return busies
