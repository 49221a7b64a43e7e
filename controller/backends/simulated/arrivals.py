"""Requests of the simulated service, made from a recorded trace: replicated, jittered, and repeated when the trace
ends.

Each recorded request becomes `scale` copies; copy k of row i arrives within ±jitter_s of the record, by a hash of
(seed, i, k, repeat). So any window can be made on its own, in any order, and is the same each time.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from controller.core.types import FloatArray

WEEK_S = 7 * 86400.0


def uniform(seed: int, row: npt.NDArray[np.int64], copy: npt.NDArray[np.int64], repeat: int = 0) -> FloatArray:
    """Uniform numbers in [0, 1), broadcast over row and copy: splitmix64 (Steele, Lea, Flood 2014) of the four
    numbers.
    """
    with np.errstate(over="ignore"):
        key = np.uint64(seed) * np.uint64(0xD1342543DE82EF95) + np.uint64(repeat) * np.uint64(0xA24BAED4963EE407)
        of_row = row.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z: npt.NDArray[np.uint64] = of_row + copy.astype(np.uint64) * np.uint64(0x2545F4914F6CDD1D) + key
        for _ in range(2):
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z = z ^ (z >> np.uint64(31))
    numbers: FloatArray = (z >> np.uint64(11)).astype(np.float64) / float(1 << 53)
    return numbers


@dataclass(frozen=True, slots=True)
class Recorded:
    """Recorded requests (n,), sorted by arrival. `work_s`: execution seconds on the reference GPU; `tier`: its
    index; `tenant`: a number for each, None where nobody is told apart.
    """

    arrived_s: FloatArray
    work_s: FloatArray
    tier: npt.NDArray[np.int64]
    tenant: npt.NDArray[np.int64] | None = None

    def tenants(self, rows: slice) -> npt.NDArray[np.int64]:
        """The tenants of some rows; −1 where nobody is told apart."""
        if self.tenant is None:
            return np.full(len(self.arrived_s[rows]), -1, np.int64)
        return self.tenant[rows]


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Requests to come (m,), sorted by arrival. `tenant` as in `Recorded`."""

    arrived_s: FloatArray
    work_s: FloatArray
    tier: npt.NDArray[np.int64]
    tenant: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.arrived_s)


def _sorted(
    arrived_s: FloatArray, work_s: FloatArray, tier: npt.NDArray[np.int64], tenant: npt.NDArray[np.int64]
) -> Arrivals:
    order = np.argsort(arrived_s, kind="stable")
    return Arrivals(arrived_s[order], work_s[order], tier[order], tenant[order])


def replicate(recorded: Recorded, scale: int, jitter_s: float, seed: int, from_s: float, to_s: float) -> Arrivals:
    """Every copy of the records in [from_s, to_s). A copy jittered to before from_s is mirrored to after it."""
    lo, hi = np.searchsorted(recorded.arrived_s, [from_s, to_s])
    row = np.arange(lo, hi, dtype=np.int64)[:, None]
    copy = np.arange(scale, dtype=np.int64)[None, :]
    arrived = recorded.arrived_s[lo:hi, None] + (2 * uniform(seed, row, copy) - 1) * jitter_s
    arrived = from_s + np.abs(arrived - from_s)
    shape = (hi - lo, scale)
    return _sorted(
        arrived.ravel(),
        np.broadcast_to(recorded.work_s[lo:hi, None], shape).ravel().copy(),
        np.broadcast_to(recorded.tier[lo:hi, None], shape).ravel().copy(),
        np.broadcast_to(recorded.tenants(slice(lo, hi))[:, None], shape).ravel().copy(),
    )


class Feed:
    """The endless demand of the embedded cluster: the trace, then its last week again and again on later dates."""

    def __init__(self, recorded: Recorded, scale: int, jitter_s: float, seed: int, trace_end_s: float) -> None:
        self._recorded, self._scale, self._jitter_s, self._seed = recorded, scale, jitter_s, seed
        self._end_s = trace_end_s

    def with_recorded(self, recorded: Recorded) -> "Feed":
        """The same feed over the same requests in other tiers."""
        return Feed(recorded, self._scale, self._jitter_s, self._seed, self._end_s)

    def repeats(self, at_s: float) -> int:
        """How many times the last week has begun again by at_s."""
        return max(0, int(np.ceil((at_s - self._end_s) / WEEK_S)))

    def between(self, from_s: float, to_s: float) -> Arrivals:
        """The copies that arrive in [from_s, to_s)."""
        parts = [self._part(from_s, to_s, repeat) for repeat in range(self.repeats(to_s + self._jitter_s) + 1)]
        return _sorted(
            np.concatenate([part[0] for part in parts]),
            np.concatenate([part[1] for part in parts]),
            np.concatenate([part[2] for part in parts]),
            np.concatenate([part[3] for part in parts]),
        )

    def _part(
        self, from_s: float, to_s: float, repeat: int
    ) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        shift = repeat * WEEK_S
        first = self._end_s - WEEK_S if repeat else -np.inf
        lo = np.searchsorted(self._recorded.arrived_s, max(first, from_s - shift - self._jitter_s))
        hi = np.searchsorted(self._recorded.arrived_s, min(self._end_s, to_s - shift + self._jitter_s))
        row = np.arange(lo, max(lo, hi), dtype=np.int64)[:, None]
        copy = np.arange(self._scale, dtype=np.int64)[None, :]
        arrived = self._recorded.arrived_s[lo : max(lo, hi), None] + shift
        arrived = (arrived + (2 * uniform(self._seed, row, copy, repeat) - 1) * self._jitter_s).ravel()
        keep = (arrived >= from_s) & (arrived < to_s)
        rows = np.repeat(row.ravel(), self._scale)[keep]
        tenant = self._recorded.tenants(slice(None))
        return arrived[keep], self._recorded.work_s[rows], self._recorded.tier[rows], tenant[rows]

    def surge(self, number: int, factor: float, from_s: float, to_s: float) -> Arrivals:
        """Extra requests of an injected surge, so that `factor` times as many arrive as in the hour before from_s.

        After a quiet hour the trace's mean rate over its last week stands in: three times nothing is no surge. The
        extra requests are drawn from that week.
        """
        last_week = int(np.searchsorted(self._recorded.arrived_s, self._end_s - WEEK_S))
        rows = len(self._recorded.arrived_s) - last_week
        rate = max(len(self.between(from_s - 3600.0, from_s)) / 3600.0, rows * self._scale / WEEK_S)
        index = np.arange(int(max(0.0, factor - 1.0) * rate * (to_s - from_s)), dtype=np.int64)
        pick = last_week + (uniform(self._seed, index, index * 0 + number, 1_000_003) * rows).astype(np.int64)
        at = from_s + uniform(self._seed, index, index * 0 + number, 1_000_033) * (to_s - from_s)
        tenant = self._recorded.tenants(slice(None))[pick]
        return _sorted(at, self._recorded.work_s[pick], self._recorded.tier[pick], tenant)
