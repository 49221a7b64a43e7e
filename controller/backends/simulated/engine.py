"""The simulated cluster's engine: a growing set of arrays around the compiled event loop, by number and not by name.

One engine serves the embedded cluster, replays and benchmarks. Deterministic: the same calls give the same history.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from controller.backends.simulated import kernel
from controller.backends.simulated.arrivals import Arrivals
from controller.backends.simulated.kernel import Arrays
from controller.core.types import FloatArray

IntArray = npt.NDArray[np.int64]

_LOG_ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class ZoneSeries:
    """What can be held in a zone from each `change_s` on: `capacity`, −1 meaning any number. First change at −inf
    or the start.
    """

    change_s: FloatArray
    capacity: IntArray


@dataclass(frozen=True, slots=True)
class LogRow:
    at_s: float
    kind: int
    replica: int
    request: int


class Engine:
    """Requests, replicas and zones by number.

    `queue_of[t]` is the queue of tier t (0 is served first); `may_preempt[c, d]`: queue c may take a running
    replica from d.
    """

    def __init__(
        self,
        start_s: float,
        queue_of: Sequence[int],
        may_preempt: npt.NDArray[np.bool_],
        *,
        zones: Sequence[ZoneSeries] = (),
        notice_s: float = 120.0,
        max_preemptions: int = 2,
        work_mean_s: float = 30.0,
        work_scv: float = 0.5,
    ) -> None:
        self._notice_s = notice_s
        self._pools: list[tuple[bool, float]] = []
        tier = np.zeros(len(queue_of), kernel.TIER)
        tier["queue"], tier["mean"], tier["square"] = queue_of, work_mean_s, work_mean_s**2 * (1 + work_scv)
        tier["factor"] = 1.0
        queue = np.zeros(max(queue_of) + 1, kernel.QUEUE)
        queue["head"] = queue["tail"] = -1
        zone = np.zeros(len(zones), kernel.ZONE)
        zone["capacity"] = kernel.NO_LIMIT
        self.a = Arrays(
            request=np.empty(0, kernel.REQUEST),
            replica=np.empty(0, kernel.REPLICA),
            heap=np.empty(0, np.int64),
            idle=np.empty((0, 0), np.int64),
            idles=np.empty(0, np.int64),
            order=np.empty((2, 0), np.int64),
            queue=queue,
            tier=tier,
            may_preempt=np.asarray(may_preempt, np.bool_),
            zone=zone,
            zone_event=np.empty(0, kernel.ZONE_EVENT),
            log=np.empty(_LOG_ROWS, kernel.LOG),
            counts=np.zeros(kernel.COUNTS, np.int64),
            now=np.array([start_s]),
        )
        self.a.counts[kernel.MAX_PREEMPTIONS] = max_preemptions
        self.set_zones(zones)

    @property
    def now_s(self) -> float:
        return float(self.a.now[0])

    @property
    def requests(self) -> int:
        """Requests known, arrived or not."""
        return int(self.a.counts[kernel.N_REQUESTS])

    @property
    def arrived(self) -> int:
        return int(self.a.counts[kernel.NEXT_ARRIVAL])

    @property
    def replicas(self) -> int:
        return int(self.a.counts[kernel.N_REPLICAS])

    @property
    def unfinished(self) -> bool:
        """Does a request still have to arrive, wait or run?"""
        return self.arrived < self.requests or bool(self.a.tier["queued"].any() or self.a.tier["running"].any())

    def first_after(self, at_s: float) -> int:
        """Index of the first request that arrived at or after at_s: bisection on the rows, without copying a column."""
        lo, hi = 0, self.arrived
        while lo < hi:
            middle = (lo + hi) // 2
            if self.a.request[middle]["arrived"] < at_s:
                lo = middle + 1
            else:
                hi = middle
        return lo

    def expect(self, arrivals: Arrivals) -> None:
        """Add requests to come. Those before now arrive now; they mix with the ones already expected, in time order."""
        first, old, a = self.arrived, self.requests, self.a
        fresh = np.zeros(len(arrivals), kernel.REQUEST)
        fresh["arrived"] = np.maximum(arrivals.arrived_s, self.now_s)
        fresh["work"], fresh["tier"] = arrivals.work_s, arrivals.tier
        fresh["tenant"] = -1 if arrivals.tenant is None else arrivals.tenant
        fresh["started"] = fresh["finished"] = np.nan
        fresh["replica"] = fresh["after"] = -1
        coming = np.concatenate([a.request[first:old], fresh])
        coming = coming[np.argsort(coming["arrived"], kind="stable")]
        end = first + len(coming)
        if end > len(a.request):
            self.a = a = a._replace(request=_grown(a.request, end))
        a.request[first:end] = coming
        a.counts[kernel.N_REQUESTS] = end

    def _pool(self, spot: bool, speed: float) -> int:
        """The pool of replicas that are alike to a queue. The first queue likes on demand, since nobody takes it
        away, and leaves spot to the others; either likes the fastest.
        """
        if (spot, speed) not in self._pools:
            self._pools.append((spot, speed))
            idle = np.zeros((len(self._pools), len(self.a.replica)), np.int64)
            idle[:-1] = self.a.idle
            numbers = range(len(self._pools))
            first = sorted(numbers, key=lambda p: (self._pools[p][0], -self._pools[p][1]))
            rest = sorted(numbers, key=lambda p: (not self._pools[p][0], -self._pools[p][1]))
            self.a = self.a._replace(
                idle=idle, idles=np.append(self.a.idles, 0).astype(np.int64), order=np.array([first, rest], np.int64)
            )
        return self._pools.index((spot, speed))

    def set_zones(self, zones: Sequence[ZoneSeries]) -> None:
        """Replace what is to come in every zone; the capacity in force now is read from the series.

        Nobody is lost by the call itself: a zone over its new capacity loses the excess at the next `advance`.
        """
        rows: list[tuple[float, float, int, int, bool]] = []
        now = self.now_s
        for zone, series in enumerate(zones):
            changes, capacity = series.change_s, np.where(series.capacity < 0, kernel.NO_LIMIT, series.capacity)
            at = int(np.searchsorted(changes, now, side="right")) - 1
            before = int(capacity[at]) if at >= 0 else kernel.NO_LIMIT
            if before != self.a.zone[zone]["capacity"]:
                # At once, so that a start asked for before the next `advance` is refused; what is over it goes then.
                self.a.zone[zone]["capacity"] = before
                rows.append((now, now, zone, before, False))
            for t, to in zip(changes[at + 1 :].tolist(), capacity[at + 1 :].tolist(), strict=True):
                if to < before:
                    rows.append((max(now, t - self._notice_s), t, zone, to, True))
                rows.append((t, t, zone, to, False))
                before = to
        # A notice stands before the change of the same instant.
        rows.sort(key=lambda row: (row[0], not row[4]))
        self.a = self.a._replace(zone_event=np.array(rows, kernel.ZONE_EVENT))
        self.a.counts[kernel.NEXT_ZONE_EVENT] = 0

    def forget(self, before_s: float) -> int:
        """Drop the requests that arrived before then, up to the first that has not finished; how many. Numbers of
        the rest move.
        """
        n, a = self.arrived, self.a
        done = (a.request["arrived"][:n] < before_s) & ~np.isnan(a.request["finished"][:n])
        k = int(done.argmin()) if not done.all() else n
        if k == 0:
            return 0
        request = _grown(a.request[k : self.requests].copy(), self.requests - k)
        request["after"] = np.where(request["after"] >= 0, request["after"] - k, -1)
        for records, fields in ((a.replica[: self.replicas], ("running",)), (a.queue, ("head", "tail"))):
            for name in fields:
                records[name] = np.where(records[name] >= 0, records[name] - k, -1)
        self.a = a._replace(request=request)
        self.a.counts[kernel.N_REQUESTS] -= k
        self.a.counts[kernel.NEXT_ARRIVAL] -= k
        return k

    def advance(self, until_s: float) -> None:
        """Let time pass. Time never goes back: an earlier until_s does nothing."""
        if until_s >= self.now_s:
            kernel.advance(self.a, float(until_s))

    def room(self, zone: int) -> int:
        """How many more replicas the zone would give now."""
        return int(self.a.zone[zone]["capacity"] - self.a.zone[zone]["held"])

    def _pending_fall(self, zone: int) -> float:
        """When a replica started now would be lost by a fall already announced; infinity if it would not."""
        first = int(self.a.counts[kernel.NEXT_ZONE_EVENT])
        for event in self.a.zone_event[first:]:
            if event["at"] > self.now_s + self._notice_s:
                break
            if event["zone"] == zone and not event["notice"] and self.a.zone[zone]["held"] >= event["to"]:
                return float(event["at"])
        return float("inf")

    def start(
        self, *, speed: float, spot: bool, zone: int, cold_start_s: float, ready_at_once: bool = False
    ) -> int | None:
        """A new replica, ready cold_start_s from now; its number, or None where the zone (−1: no limit) has no room."""
        if zone >= 0 and self.room(zone) <= 0:
            return None
        r, now, pool = self.replicas, self.now_s, self._pool(spot, speed)
        if r >= len(self.a.replica):
            size = max(1024, 2 * r)
            idle = np.zeros((len(self._pools), size), np.int64)
            idle[:, :r] = self.a.idle[:, :r]
            heap = np.zeros(size, np.int64)
            heap[:r] = self.a.heap[:r]
            self.a = self.a._replace(replica=_grown(self.a.replica, size), idle=idle, heap=heap)
        row = self.a.replica[r]
        row["speed"], row["pool"], row["zone"], row["requested"] = speed, pool, zone, now
        row["ready"] = now if ready_at_once else now + cold_start_s
        row["gone"], row["ended"], row["finish"] = np.inf, np.nan, np.inf
        row["state"], row["running"], row["idle_at"] = kernel.COMING, -1, -1
        self.a.counts[kernel.N_REPLICAS] = r + 1
        kernel.join(self.a, r, self._pending_fall(zone) if zone >= 0 else np.inf)
        if ready_at_once:
            kernel.ready_now(self.a, r)
        return r

    def release(self, replica: int) -> bool:
        """Let it go, after the request that it runs. True: it is gone already."""
        return bool(kernel.release(self.a, replica))

    def live(self) -> IntArray:
        """Numbers of the replicas that have not ended, ascending."""
        return np.sort(self.a.heap[: self.a.counts[kernel.HEAP]])

    def take_log(self) -> tuple[LogRow, ...]:
        """What happened by itself since the last call, oldest first."""
        rows = self.a.log[: int(self.a.counts[kernel.LOGS])].tolist()
        self.a.counts[kernel.LOGS] = 0
        return tuple(LogRow(*row) for row in rows)

    def work_scv(self) -> float:
        """Squared coefficient of variation of execution seconds, over the tiers' latest requests."""
        mean, square = float(self.a.tier["mean"].mean()), float(self.a.tier["square"].mean())
        return max(0.0, square / mean**2 - 1.0) if mean > 0 else 1.0

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Every array, cut to what is in use; `restore` gives the same engine again."""
        n, m = self.requests, self.replicas
        arrays = {name: array for name, array in self.a._asdict().items() if name != "log"}
        arrays |= {
            "request": self.a.request[:n],
            "replica": self.a.replica[:m],
            "heap": self.a.heap[:m],
            "idle": self.a.idle[:, :m],
        }
        arrays["pools"] = np.array(self._pools, np.float64).reshape(-1, 2)
        return {name: array.copy() for name, array in arrays.items()}

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Become the engine whose snapshot this is."""
        self._pools = [(bool(spot), float(speed)) for spot, speed in arrays["pools"]]
        kept = {name: np.ascontiguousarray(arrays[name]).copy() for name in Arrays._fields if name != "log"}
        names = kept["tier"].dtype.names or ()
        if "factor" not in names:  # saved before tiers could be served by variants
            tier = np.ones(len(kept["tier"]), kernel.TIER)
            for name in names:
                tier[name] = kept["tier"][name]
            kept["tier"] = tier
        kept["request"] = _with_tenants(kept["request"])
        self.a = self.a._replace(**kept)
        self.a.counts[kernel.LOGS] = 0


def _with_tenants(saved: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Requests of a snapshot; in those of earlier versions nobody is told apart."""
    if saved.dtype == kernel.REQUEST:
        return saved
    request = np.zeros(len(saved), kernel.REQUEST)
    request["tenant"] = -1
    for name in saved.dtype.names or ():
        request[name] = saved[name]
    return request


def _grown(old: npt.NDArray[Any], need: int) -> npt.NDArray[Any]:
    grown = np.zeros(max(need, 2 * len(old), 1024), old.dtype)
    grown[: len(old)] = old
    return grown
