"""The feasible clairvoyant: a schedule made from the requests and zone losses to come, carried out tick by tick.

It is the limit that policies are measured against, not a policy that can be operated. The schedule is made once
before a replay; what it is worth is simulated with the true queue and loads, like any other policy.

One pool: the exact concurrency of a schedule in which nobody waits, c, plus b·√c replicas; held over gaps shorter than
the lead time (boot and model load), since to go and come again is billed for the lead time; each start a lead time
ahead. The smallest b that attains the targets is the caller's to find.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import grey_closing

from controller.core.plan import Actions
from controller.core.policies.base import Memory
from controller.core.types import FloatArray, Observation, Plan, Reason, Replica
from models.enums import Limit, Mode, ReplicaState

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Schedule:
    """What to start and how many ready replicas to keep, by tick: tick i is at start_s + i·step_s.

    `starts[i]`: offer ids to start, one entry a replica, in order. `serving`: int64[ticks] by offer id. After the last
    tick nothing is started and the last count is kept. `label` says which variant it is.
    """

    start_s: float
    step_s: float
    starts: tuple[tuple[str, ...], ...]
    serving: Mapping[str, IntArray]
    label: str

    def at(self, now_s: float) -> int:
        """The tick of a time, −1 before the first."""
        return max(-1, math.floor((now_s - self.start_s) / self.step_s + 1e-6))


@dataclass(frozen=True, slots=True)
class Clairvoyant:
    """Carries out a schedule. Replicas that come are for later and stay; of the ready ones the idle go first."""

    schedule: Schedule
    fifo: bool = True
    name: str = "clairvoyant"
    forecasts: bool = False

    def plan(self, seen: Observation, memory: Memory, plan_id: str) -> tuple[Plan, Memory]:
        schedule = self.schedule
        tick = schedule.at(seen.now_s)
        starts: Sequence[str] = schedule.starts[tick] if 0 <= tick < len(schedule.starts) else ()
        ready: dict[str, list[Replica]] = {}
        coming = 0
        for replica in seen.replicas:
            if replica.state is ReplicaState.READY and replica.gone_s is None:
                ready.setdefault(replica.offer_id, []).append(replica)
            elif replica.state in (ReplicaState.BOOTING, ReplicaState.LOADING):
                coming += 1
        keep = {offer: int(counts[min(tick, len(counts) - 1)]) for offer, counts in schedule.serving.items()}
        here = sum(len(replicas) for replicas in ready.values())
        want = sum(keep.values())
        text = f"{schedule.label}: {want} serve from now, {here} are ready and {coming} come, {len(starts)} start"
        reason = Reason(Limit.FORECAST, text, {"serving": want, "ready": here, "coming": coming})
        actions = Actions(seen, plan_id)
        if seen.mode is Mode.ACT:
            for offer, count in Counter(starts).items():
                actions.start(offer, count, text)
            for offer, replicas in ready.items():
                surplus = len(replicas) - keep.get(offer, 0)
                if surplus > 0:
                    for replica in sorted(replicas, key=lambda r: (r.busy, -r.requested_s))[:surplus]:
                        actions.release(replica, text)
        taken = tuple(actions.taken)
        return Plan(plan_id, seen.service, seen.now_s, self.name, want, want, want, keep, taken, reason), memory


def work_by(edges_s: FloatArray, arrived_s: FloatArray, held_s: FloatArray) -> FloatArray:
    """Replica-seconds that have been worked by each edge if every request began on arrival, the first edge at 0.

    edges_s: float64[k]; arrived_s, held_s: float64[n], in any order. Returns float64[k]: the integral of concurrency.
    """
    origin_s = float(edges_s[0])
    begun, ended = np.sort(arrived_s) - origin_s, np.sort(arrived_s + held_s) - origin_s
    edges = edges_s - origin_s

    def since(times: FloatArray) -> FloatArray:
        count = np.searchsorted(times, edges, side="right")
        total: FloatArray = count * edges - np.concatenate([[0.0], np.cumsum(times)])[count]
        return total

    worked = since(begun) - since(ended)
    worked_before: FloatArray = worked - worked[0]
    return worked_before


def concurrency(arrived_s: FloatArray, held_s: FloatArray, start_s: float, step_s: float, slots: int) -> FloatArray:
    """Mean requests at once in each slot if each began on arrival and held its replica for held_s.

    Returns float64[slots]; slot j is [start_s + j·step_s, start_s + (j+1)·step_s).
    """
    edges = start_s + step_s * np.arange(slots + 1, dtype=np.float64)
    means: FloatArray = np.diff(work_by(edges, arrived_s, held_s)) / step_s
    return np.maximum(0.0, means)


def held(level: IntArray, first: int, lead_slots: int) -> IntArray:
    """The level without its gaps of less than lead_slots slots, replica by replica, counted from `first` replicas that
    are there before slot 0: a closing by a flat window.
    """
    if lead_slots <= 1:
        return level.copy()
    padded = np.concatenate([[first], level, np.zeros(lead_slots, np.int64)])
    padded = np.concatenate([np.zeros(lead_slots, np.int64), padded])
    closed = grey_closing(padded, size=(lead_slots,))
    return np.asarray(closed[lead_slots + 1 : lead_slots + 1 + len(level)], np.int64)


def one_pool(
    level: FloatArray,
    b: float,
    offer_id: str,
    first: int,
    loads_s: Callable[[int], FloatArray],
    boot_s: float,
    start_s: float,
    step_s: float,
) -> Schedule:
    """The schedule that holds level + b·√level ready replicas of one offer, at least one.

    `level`: mean concurrency by tick. `first`: replicas that are ready at tick 0. `loads_s(n)`: the model loads of the
    next n replicas to be started, which are known like everything else.
    """
    wanted = np.maximum(1, np.ceil(level + b * np.sqrt(level) - 1e-9)).astype(np.int64)
    mean_load_s = float(loads_s(max(1, int(_rises(wanted, first).sum()))).mean())
    serving = held(wanted, first, math.ceil((boot_s + mean_load_s) / step_s))
    label = f"concurrency {b:+.2f}·√concurrency"
    return scheduled({offer_id: serving}, {offer_id: first}, loads_s, boot_s, start_s, step_s, label)


def scheduled(
    serving: Mapping[str, IntArray],
    first: Mapping[str, int],
    loads_s: Callable[[int], FloatArray],
    boot_s: float,
    start_s: float,
    step_s: float,
    label: str,
) -> Schedule:
    """When to start so that `serving` replicas of each offer are ready by tick, `first` being ready at tick 0.

    Loads go by the order of starts: what has a long load takes those before it along. One that is there before its time
    stays for it.
    """
    rises = {offer: _rises(counts, first.get(offer, 0)) for offer, counts in serving.items()}
    ticks = np.arange(len(next(iter(serving.values()))))
    needed = [(int(tick), offer) for offer, rise in rises.items() for tick in np.repeat(ticks, rise)]
    needed.sort()
    at = np.array([tick for tick, _ in needed], np.int64)
    lead = (boot_s + loads_s(len(needed))) / step_s
    begin = np.maximum(0, np.floor(at - lead + 1e-6)).astype(np.int64)
    begin = np.minimum.accumulate(begin[::-1])[::-1]
    ready = np.minimum(np.ceil(begin + lead - 1e-6).astype(np.int64), len(ticks) - 1)
    starts: list[list[str]] = [[] for _ in ticks]
    for tick, (_, offer) in zip(begin.tolist(), needed, strict=True):
        starts[tick].append(offer)
    keep = {}
    for offer, counts in serving.items():
        mine = ready[[name == offer for _, name in needed]] if needed else ready
        early = np.cumsum(np.bincount(mine, minlength=len(ticks))) - np.cumsum(rises[offer])
        keep[offer] = counts + np.maximum(0, early)
    return Schedule(start_s, step_s, tuple(tuple(each) for each in starts), keep, label)


def _rises(level: IntArray, first: int) -> IntArray:
    """By how much each slot is above the one before it."""
    return np.maximum(0, np.diff(level, prepend=first))
