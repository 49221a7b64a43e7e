"""The event loop of the simulated cluster, compiled: requests, queues, replicas and zones as flat arrays.

Discrete events, processed in time order; at one instant a replica's event comes before a zone's, a zone's before an
arrival. Each replica has at most one next event (ready, finish or loss), so one indexed heap of replicas holds them
all and nothing in it is ever out of date. Queues are linked lists in order of arrival: a request that lost its
replica goes back to its own place. Nothing here is random: who loses a replica of a partly lost zone follows a hash
of its number.

Only numbers live here; names, offers and Heddle's own types are the business of `engine`.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

F8 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int64]
B1 = npt.NDArray[np.bool_]
Records = npt.NDArray[Any]

# States of a replica.
COMING, IDLE, BUSY, DRAINING, LEAVING, RELEASED, LOST = 0, 1, 2, 3, 4, 5, 6
# COMING boots or loads. DRAINING runs its last request. LEAVING is idle under an interruption notice: it takes no work.

# Kinds of log rows.
LOG_NOTICE, LOG_LOST, LOG_INTERRUPTED, LOG_PREEMPTED = 0, 1, 2, 3

# Indices of `Arrays.counts`.
N_REQUESTS, NEXT_ARRIVAL, N_REPLICAS, HEAP, NEXT_ZONE_EVENT, LOGS, PREEMPTED, INTERRUPTED, MAX_PREEMPTIONS = range(9)
COUNTS = 9

NO_LIMIT = 1 << 40
INF = np.inf


# `tenant` is −1 where a request has none.
REQUEST = np.dtype(
    [
        *((name, np.float64) for name in ("arrived", "work", "started", "finished")),
        *((name, np.int64) for name in ("tier", "replica", "after")),
        *((name, np.int32) for name in ("attempts", "preemptions", "tenant")),
    ]
)
REPLICA = np.dtype(
    [
        *((name, np.float64) for name in ("speed", "requested", "ready", "gone", "ended", "finish")),
        *((name, np.int64) for name in ("running", "heap_at", "idle_at")),
        *((name, np.int32) for name in ("zone", "pool", "state", "offer")),
    ]
)
QUEUE = np.dtype([(name, np.int64) for name in ("head", "tail", "queued")])
TIER = np.dtype(
    [
        *((name, np.int64) for name in ("queue", "queued", "running")),
        *((name, np.float64) for name in ("mean", "square", "factor")),
    ]
)
ZONE = np.dtype([("capacity", np.int64), ("held", np.int64)])
ZONE_EVENT = np.dtype(
    [("at", np.float64), ("falls", np.float64), ("zone", np.int64), ("to", np.int64), ("notice", np.int64)]
)
LOG = np.dtype([("at", np.float64), ("kind", np.int64), ("replica", np.int64), ("request", np.int64)])


class Arrays(NamedTuple):
    """The whole state, as few arrays as can be: a compiled call counts a reference for each.

    Requests (n,), replicas (m,), the heap (m,) of live replicas by next event, queues (classes,), tiers (t,), zones
    (z,), zone events (e,), log (l,). `idle[p, :idles[p]]` are the idle replicas of pool p; `order[0]` is the order
    in which the first class looks through the pools, `order[1]` that of the others.
    """

    request: Records
    replica: Records
    heap: I8
    idle: I8
    idles: I8
    order: I8
    queue: Records
    tier: Records
    may_preempt: B1
    zone: Records
    zone_event: Records
    log: Records
    counts: I8
    now: F8


# Weight of the newest execution in the running mean of execution seconds: about the last 300 requests count.
_MEAN_WEIGHT = 1.0 / 300.0


@njit(cache=True, inline="always")
def _key(a: Arrays, r: int) -> float:
    s = a.replica[r].state
    if s == COMING:
        return min(a.replica[r].ready, a.replica[r].gone)
    if s == BUSY or s == DRAINING:
        return min(a.replica[r].finish, a.replica[r].gone)
    if s == IDLE or s == LEAVING:
        return a.replica[r].gone
    return INF


@njit(cache=True)
def _sift(a: Arrays, i: int) -> None:
    heap, replica = a.heap, a.replica
    n = a.counts[HEAP]
    r = heap[i]
    key = _key(a, r)
    while i > 0:
        up = (i - 1) // 2
        if _key(a, heap[up]) <= key:
            break
        heap[i] = heap[up]
        replica[heap[i]].heap_at = i
        i = up
    while True:
        down = 2 * i + 1
        if down >= n:
            break
        if down + 1 < n and _key(a, heap[down + 1]) < _key(a, heap[down]):
            down += 1
        if _key(a, heap[down]) >= key:
            break
        heap[i] = heap[down]
        replica[heap[i]].heap_at = i
        i = down
    heap[i] = r
    replica[r].heap_at = i


@njit(cache=True)
def _leave_heap(a: Arrays, r: int) -> None:
    i = a.replica[r].heap_at
    a.counts[HEAP] -= 1
    last = a.heap[a.counts[HEAP]]
    a.replica[r].heap_at = -1
    if last != r:
        a.heap[i] = last
        a.replica[last].heap_at = i
        _sift(a, i)


@njit(cache=True)
def _to_idle(a: Arrays, r: int) -> None:
    p = a.replica[r].pool
    a.replica[r].state = IDLE
    a.replica[r].idle_at = a.idles[p]
    a.idle[p, a.idles[p]] = r
    a.idles[p] += 1


@njit(cache=True)
def _from_idle(a: Arrays, r: int) -> None:
    p, i = a.replica[r].pool, a.replica[r].idle_at
    a.idles[p] -= 1
    last = a.idle[p, a.idles[p]]
    a.idle[p, i] = last
    a.replica[last].idle_at = i
    a.replica[r].idle_at = -1


@njit(cache=True)
def _log(a: Arrays, at_s: float, kind: int, r: int, request: int) -> None:
    i = a.counts[LOGS]
    if i < len(a.log):
        row = a.log[i]
        row.at, row.kind, row.replica, row.request = at_s, kind, r, request
        a.counts[LOGS] = i + 1


@njit(cache=True)
def _enqueue(a: Arrays, q: int) -> None:
    """Put request q into its queue, in order of arrival. A new one goes to the end; one sent back is near the front."""
    c = a.tier[a.request[q].tier].queue
    a.queue[c].queued += 1
    a.tier[a.request[q].tier].queued += 1
    if a.queue[c].head < 0:
        a.queue[c].head = a.queue[c].tail = q
        a.request[q].after = -1
    elif q > a.queue[c].tail:
        a.request[a.queue[c].tail].after = q
        a.request[q].after = -1
        a.queue[c].tail = q
    elif q < a.queue[c].head:
        a.request[q].after = a.queue[c].head
        a.queue[c].head = q
    else:
        i = a.queue[c].head
        while a.request[i].after >= 0 and a.request[i].after < q:
            i = a.request[i].after
        a.request[q].after = a.request[i].after
        a.request[i].after = q


@njit(cache=True)
def _start(a: Arrays, q: int, r: int, at_s: float) -> None:
    a.replica[r].state = BUSY
    a.replica[r].running = q
    a.replica[r].finish = at_s + a.request[q].work / (a.replica[r].speed * a.tier[a.request[q].tier].factor)
    a.request[q].started = at_s
    a.request[q].replica = r
    a.request[q].attempts += 1
    a.tier[a.request[q].tier].running += 1
    _sift(a, a.replica[r].heap_at)


@njit(cache=True)
def _best_idle(a: Arrays, c: int) -> int:
    """The idle replica for a request of queue c, −1 for none: the pools in the queue's order, the latest to fall
    idle first, so that the rest idle on and can be let go.
    """
    row = 0 if c == 0 else 1
    for i in range(len(a.idles)):
        p = a.order[row, i]
        if a.idles[p] > 0:
            return a.idle[p, a.idles[p] - 1]
    return -1


@njit(cache=True)
def _victim(a: Arrays, c: int) -> int:
    """The running replica that class c may take: of the lowest class, the one that has lost least by it."""
    best, best_class, best_started = -1, -1, -INF
    for i in range(a.counts[HEAP]):
        r = a.heap[i]
        if a.replica[r].state != BUSY or a.replica[r].gone < INF:
            continue
        q = a.replica[r].running
        d = a.tier[a.request[q].tier].queue
        if not a.may_preempt[c, d] or a.request[q].preemptions >= a.counts[MAX_PREEMPTIONS]:
            continue
        if d > best_class or (d == best_class and a.request[q].started > best_started):
            best, best_class, best_started = r, d, a.request[q].started
    return best


@njit(cache=True)
def _unstart(a: Arrays, r: int) -> int:
    """Take the running request off r; the caller queues it again."""
    q = a.replica[r].running
    a.replica[r].running = -1
    a.tier[a.request[q].tier].running -= 1
    a.request[q].started = np.nan
    a.request[q].replica = -1
    return q


@njit(cache=True)
def _place(a: Arrays, q: int, at_s: float) -> None:
    c = a.tier[a.request[q].tier].queue
    r = _best_idle(a, c)
    if r >= 0:
        _from_idle(a, r)
        _start(a, q, r, at_s)
        return
    # Where its own queue waits already, it waits behind it: no victim was found for the head either.
    r = _victim(a, c) if a.queue[c].head < 0 and a.may_preempt[c].any() else -1
    if r >= 0:
        loser = _unstart(a, r)
        a.request[loser].preemptions += 1
        a.counts[PREEMPTED] += 1
        _log(a, at_s, LOG_PREEMPTED, r, loser)
        _enqueue(a, loser)
        _start(a, q, r, at_s)
    else:
        _enqueue(a, q)


@njit(cache=True)
def _next_queued(a: Arrays) -> int:
    for c in range(len(a.queue)):
        q = a.queue[c].head
        if q >= 0:
            a.queue[c].head = a.request[q].after
            if a.queue[c].head < 0:
                a.queue[c].tail = -1
            a.queue[c].queued -= 1
            a.tier[a.request[q].tier].queued -= 1
            return q
    return -1


@njit(cache=True)
def _offer_work(a: Arrays, r: int, at_s: float) -> None:
    """Replica r is free (its state is not IDLE): give it the next request, or let it idle."""
    q = _next_queued(a)
    if q >= 0:
        _start(a, q, r, at_s)
    else:
        _to_idle(a, r)
        _sift(a, a.replica[r].heap_at)


@njit(cache=True)
def _end(a: Arrays, r: int, at_s: float, state: int) -> None:
    if a.replica[r].zone >= 0:
        a.zone[a.replica[r].zone].held -= 1
    a.replica[r].ended = at_s
    a.replica[r].state = state
    _leave_heap(a, r)


@njit(cache=True)
def _lose(a: Arrays, r: int, at_s: float) -> None:
    q = -1
    s = a.replica[r].state
    if s == IDLE:
        _from_idle(a, r)
    if s == BUSY or s == DRAINING:
        q = _unstart(a, r)
        a.counts[INTERRUPTED] += 1
        _log(a, at_s, LOG_INTERRUPTED, r, q)
    if s == COMING:
        a.replica[r].ready = np.nan
    _log(a, at_s, LOG_LOST, r, q)
    _end(a, r, at_s, LOST)
    if q >= 0:
        _place(a, q, at_s)


@njit(cache=True)
def _warn(a: Arrays, r: int, at_s: float, gone_s: float) -> None:
    a.replica[r].gone = gone_s
    if a.replica[r].state == IDLE:
        _from_idle(a, r)
        a.replica[r].state = LEAVING
    _log(a, at_s, LOG_NOTICE, r, -1)
    _sift(a, a.replica[r].heap_at)


@njit(cache=True, inline="always")
def _hash(r: int) -> np.uint64:
    """Which replica a partly lost zone takes first (splitmix64 of its number)."""
    z = np.uint64(r) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(cache=True)
def _shrink(a: Arrays, zone: int, to: int, at_s: float, gone_s: float) -> None:
    """Bring the replicas of a zone that will stay to at most `to`: warn (gone_s later) or lose (gone_s not later)
    the rest.
    """
    while True:
        staying, worst = 0, -1
        worst_hash = np.uint64(0)
        for i in range(a.counts[HEAP]):
            r = a.heap[i]
            if a.replica[r].zone == zone and (a.replica[r].gone > gone_s or gone_s <= at_s):
                staying += 1
                h = _hash(r)
                if worst < 0 or h > worst_hash:
                    worst, worst_hash = r, h
        if staying <= to or worst < 0:
            return
        if gone_s > at_s:
            _warn(a, worst, at_s, gone_s)
        else:
            _lose(a, worst, at_s)


@njit(cache=True)
def _replica_event(a: Arrays, r: int, at_s: float) -> None:
    s = a.replica[r].state
    if a.replica[r].gone <= at_s and not ((s == BUSY or s == DRAINING) and a.replica[r].finish <= at_s):
        _lose(a, r, at_s)
    elif s == COMING:
        if a.replica[r].gone < INF:
            a.replica[r].state = LEAVING
            _sift(a, a.replica[r].heap_at)
        else:
            _offer_work(a, r, at_s)
    else:
        q = a.replica[r].running
        a.request[q].finished = at_s
        a.replica[r].running = -1
        t = a.request[q].tier
        a.tier[t].running -= 1
        work = a.request[q].work / a.tier[t].factor
        a.tier[t].mean += _MEAN_WEIGHT * (work - a.tier[t].mean)
        a.tier[t].square += _MEAN_WEIGHT * (work * work - a.tier[t].square)
        if s == DRAINING:
            _end(a, r, at_s, RELEASED)
        elif a.replica[r].gone < INF:
            a.replica[r].state = LEAVING
            _sift(a, a.replica[r].heap_at)
        else:
            _offer_work(a, r, at_s)


@njit(cache=True)
def advance(a: Arrays, until_s: float) -> None:
    """Process every event up to and including until_s."""
    while True:
        t_replica = INF
        if a.counts[HEAP] > 0:
            t_replica = _key(a, a.heap[0])
        i, z = a.counts[NEXT_ARRIVAL], a.counts[NEXT_ZONE_EVENT]
        t_arrival = a.request[i].arrived if i < a.counts[N_REQUESTS] else INF
        t_zone = a.zone_event[z].at if z < len(a.zone_event) else INF
        if t_replica <= until_s and t_replica <= t_zone and t_replica <= t_arrival:
            a.now[0] = max(a.now[0], t_replica)
            _replica_event(a, a.heap[0], t_replica)
        elif t_zone <= until_s and t_zone <= t_arrival:
            a.now[0] = max(a.now[0], t_zone)
            a.counts[NEXT_ZONE_EVENT] = z + 1
            zone = a.zone_event[z].zone
            if a.zone_event[z].notice:
                falls_s = a.zone_event[z].falls
                _shrink(a, zone, a.zone_event[z].to, t_zone, falls_s)
            else:
                a.zone[zone].capacity = a.zone_event[z].to
                _shrink(a, zone, a.zone_event[z].to, t_zone, t_zone)
        elif t_arrival <= until_s:
            a.now[0] = max(a.now[0], t_arrival)
            a.counts[NEXT_ARRIVAL] = i + 1
            _place(a, i, t_arrival)
        else:
            a.now[0] = max(a.now[0], until_s)
            return


@njit(cache=True)
def join(a: Arrays, r: int, gone_s: float) -> None:
    """Replica r, whose row is filled in, enters the cluster; gone_s below infinity: under notice from the start."""
    a.heap[a.counts[HEAP]] = r
    a.replica[r].heap_at = a.counts[HEAP]
    a.counts[HEAP] += 1
    if a.replica[r].zone >= 0:
        a.zone[a.replica[r].zone].held += 1
    _sift(a, a.replica[r].heap_at)
    if gone_s < INF:
        _warn(a, r, a.now[0], gone_s)


@njit(cache=True)
def ready_now(a: Arrays, r: int) -> None:
    """A replica of the first fleet: serves from now."""
    _offer_work(a, r, a.now[0])


@njit(cache=True)
def release(a: Arrays, r: int) -> bool:
    """Let r go: at once if it runs nothing, else after its request. True: gone already.

    One that its zone is taking back counts as lost all the same.
    """
    s = a.replica[r].state
    if s == BUSY:
        a.replica[r].state = DRAINING
        return False
    if s == DRAINING or s >= RELEASED:
        return s >= RELEASED
    if s == IDLE:
        _from_idle(a, r)
    if s == COMING:
        a.replica[r].ready = np.nan
    _end(a, r, a.now[0], RELEASED if a.replica[r].gone == INF else LOST)
    return True
