"""Fleets that were not there: a shadow HPA's, the one that decisions would have made, and what hindsight would hold.

Each is a trajectory over the same steps as the fleet that was there, so that all go through the same model of the queue
(`fluid`) and the same bill.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from controller.core.capacity import deferrable
from controller.core.finance import HOUR_S
from controller.core.fluid import Demand, flow, in_system, tier_waits, wait_s
from controller.core.policies.hpa import Behaviour, Hpa, HpaMemory, recommend
from controller.core.policies.pool import Pool
from controller.core.queueing import probability_of, target_wait_s
from controller.core.types import FloatArray, Offer, TierTarget

MOST_SERVERS = 100_000


@dataclass(frozen=True, slots=True)
class Grid:
    """Steps of one length: step i covers [start_s + i·step_s, start_s + (i+1)·step_s)."""

    start_s: float
    step_s: float
    steps: int

    @property
    def edges_s(self) -> FloatArray:
        edges: FloatArray = self.start_s + self.step_s * np.arange(self.steps + 1, dtype=np.float64)
        return edges


@dataclass(frozen=True, slots=True)
class Held:
    """One replica: billed from requested_s, serving from ready_s (None: it never did), both until ended_s (None: it is
    still there). A price that is not known is NaN.
    """

    offer_id: str
    price_usd_per_hour: float
    speed_ratio: float
    requested_s: float
    ready_s: float | None
    ended_s: float | None


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A fleet over the steps of a grid: reference GPUs that serve and dollars in the step, shape (steps,) each."""

    capacity: FloatArray
    usd: FloatArray


def held_fleet(fleet: Sequence[Held], grid: Grid) -> Trajectory:
    """The trajectory of replicas with known times, exact to the second."""
    edges = grid.edges_s
    capacity, usd = np.zeros(grid.steps), np.zeros(grid.steps)
    for each in fleet:
        end_s = edges[-1] if each.ended_s is None else each.ended_s
        usd += _overlap(edges, each.requested_s, end_s) * each.price_usd_per_hour / HOUR_S
        if each.ready_s is not None:
            capacity += _overlap(edges, each.ready_s, end_s) * each.speed_ratio / grid.step_s
    return Trajectory(capacity, usd)


def _overlap(edges: FloatArray, start_s: float, end_s: float) -> FloatArray:
    """Seconds of each step that lie in [start_s, end_s)."""
    inside = np.clip(edges, start_s, max(start_s, end_s))
    return np.diff(inside)


def followed(
    levels: Sequence[tuple[float, Mapping[str, int]]],
    there: Sequence[Held],
    offers: Mapping[str, Offer],
    lead_s: float,
    until_s: float,
) -> tuple[Held, ...]:
    """The replicas, had each level been carried out when it was decided. `levels`: (time, replicas by offer), in order.

    It begins with those of `there` that stand at the first level's time. A start serves a lead time later; what comes
    goes before what serves, the latest first. An offer that `offers` lacks is left out of the levels.
    """
    if not levels:
        return tuple(there)
    first_s = levels[0][0]
    open_: dict[str, list[tuple[float, float]]] = {}
    done: list[Held] = []
    for each in there:
        ended_s = math.inf if each.ended_s is None else each.ended_s
        if each.requested_s <= first_s < ended_s and each.offer_id in offers:
            ready_s = first_s + lead_s if each.ready_s is None else each.ready_s
            open_.setdefault(each.offer_id, []).append((each.requested_s, ready_s))
        elif each.requested_s < first_s:
            done.append(each)
    for at_s, level in levels:
        for offer_id in sorted({*open_, *level} & offers.keys()):
            mine, wanted = open_.setdefault(offer_id, []), level.get(offer_id, 0)
            mine += [(at_s, at_s + lead_s)] * (wanted - len(mine))
            mine.sort()
            while len(mine) > wanted:
                done.append(_held(offers[offer_id], *mine.pop(), at_s))
    for offer_id, mine in open_.items():
        done += [_held(offers[offer_id], requested_s, ready_s, until_s) for requested_s, ready_s in mine]
    return tuple(done)


def _held(offer: Offer, requested_s: float, ready_s: float, ended_s: float) -> Held:
    serves = ready_s if ready_s < ended_s else None
    return Held(offer.id, offer.price_usd_per_hour, offer.speed_ratio, requested_s, serves, ended_s)


def shadow_hpa(demand: Demand, offer: Offer, lead_s: float, capacity: float, least: int, most: int) -> Trajectory:
    """What a Kubernetes HPA would have held on this demand: the formulas of `policies.hpa`, asked at each step.

    It begins with `capacity` reference GPUs that serve; `least` and `most` are its minReplicas and maxReplicas. A
    replica of speed v runs one request at a time. In flight is what the fluid has in the system, and what chance adds
    to it: a count varies by its square root, and the HPA keeps the highest of the looks in its window, of which as many
    are independent as executions fit into it (Blom's approximation of the largest of n normals).
    """
    hpa, memory = Hpa(), HpaMemory()
    behaviour = Behaviour(hpa.down_s, most)
    speed = offer.speed_ratio
    looks = max(1.0, hpa.down_s * speed / demand.work_mean_s)
    above = max(0.0, float(ndtri((looks - 0.375) / (looks + 0.25))))
    load = demand.loads.sum(axis=0).tolist()
    ready, coming = min(max(least, math.ceil(capacity / speed - 1e-9)), most), deque[float]()
    inside = load[0]
    serving, billed = np.zeros(demand.steps), np.zeros(demand.steps)
    for step in range(demand.steps):
        now_s = demand.start_s + step * demand.step_s
        while coming and coming[0] <= now_s:
            coming.popleft()
            ready += 1
        running = min(inside, ready * speed) / speed
        in_flight = running + above * math.sqrt(running) + max(0.0, inside - ready * speed)
        pool = Pool(offer, round(in_flight), ready, len(coming))
        raw = recommend(pool, hpa.target, hpa.tolerance)
        _, wanted, memory = behaviour.scale(now_s, pool.current, raw, memory)
        desired = max(least, wanted)
        coming.extend([now_s + lead_s] * (desired - ready - len(coming)))
        while coming and ready + len(coming) > desired:
            coming.pop()
        ready = min(ready, desired)
        serving[step], billed[step] = ready * speed, ready + len(coming)
        inside = flow(inside, load[step], serving[step], demand.step_s, demand.work_mean_s)
    nodes = np.ceil(billed / offer.gpu_count)
    return Trajectory(serving, nodes * offer.price_usd_per_hour * demand.step_s / HOUR_S)


def oracle(
    demand: Demand, usd_per_speed_hour: float, lead_s: float, floor: int, start: FloatArray, leftover: float
) -> Trajectory:
    """What one who knows the load would hold: at each step the fewest reference GPUs that keep every target, kept over
    gaps shorter than the lead time and started a lead time ahead.

    Deferrable tiers are served on a level: the lowest that keeps their targets and leaves no more than `leftover`
    requests in the system at the end, so that nothing is pushed out of the account. `start`: requests of tiers 0…k in
    the system before the first step that run, shape (tiers,).
    """
    free = in_system(demand, np.full(demand.steps, np.inf), start)
    # A step has to carry what is there at its beginning, too: while a load falls that is more.
    peak = np.maximum(free, np.hstack([start[:, None], free[:, :-1]]))
    urgent = np.full(demand.steps, float(floor))
    limits = [target_wait_s(tier, demand.work_mean_s, demand.work_scv) for tier in demand.tiers]
    for k, tier in enumerate(demand.tiers):
        if deferrable(tier):
            continue
        both = peak[k].tolist()
        above = peak[k - 1].tolist() if k else [0.0] * demand.steps
        asked = demand.requests[k] > 0
        needed = [
            float(_fewest(tier, limits[k], own, upper, demand)) if wanted else 0.0
            for own, upper, wanted in zip(both, above, asked.tolist(), strict=True)
        ]
        urgent = np.maximum(urgent, needed)
    lead = math.ceil(lead_s / demand.step_s)
    leftover = max(leftover, float(free[-1, -1]))
    patient = [(k, limits[k]) for k, tier in enumerate(demand.tiers) if deferrable(tier)]

    def served(level: int) -> bool:
        ready = _ready(np.maximum(urgent, level), lead)
        inside = in_system(demand, ready, start)
        if float(inside[-1, -1]) > leftover + 1e-6:
            return False
        return not any(
            bool((tier_waits(demand, inside, ready, k, fifo=False)[demand.requests[k] > 0] > limit_s).any())
            for k, limit_s in patient
        )

    # On this level nothing ever waits for a server; what misses its target all the same can't be helped by more.
    low, high = -1, max(1, math.ceil(float(free[-1].max())))
    while high - low > 1 and served(high):
        middle = (low + high) // 2
        low, high = (low, middle) if served(middle) else (middle, high)
    need = np.maximum(urgent, high)
    billed = _ahead(need, lead)
    return Trajectory(_ready(need, lead), billed * usd_per_speed_hour * demand.step_s / HOUR_S)


def _fewest(tier: TierTarget, limit_s: float, both: float, above: float, demand: Demand) -> int:
    """The fewest servers that carry the load of the tier and those above, and keep the tier's target."""

    probability = probability_of(tier.statistic)

    def holds(servers: int) -> bool:
        waited_s = wait_s(probability, both, above, float(servers), demand.work_mean_s, demand.work_scv)
        return waited_s <= limit_s

    # Where the target leaves no time to wait nothing holds it: to carry the load is all that can be done.
    low = max(1, math.ceil(both - 1e-9))
    if limit_s <= 0:
        return low
    while not holds(low) and low < MOST_SERVERS:
        low += 1
    return low


def _ahead(need: FloatArray, lead: int) -> FloatArray:
    """The largest need from each step to `lead` steps later: what has to be on its way by then."""
    padded = np.concatenate([need, np.full(lead, -np.inf)])
    found: FloatArray = np.lib.stride_tricks.sliding_window_view(padded, lead + 1).max(axis=1)
    return found


def _ready(need: FloatArray, lead: int) -> FloatArray:
    """What serves: the need, and what stays over gaps in it."""
    found: FloatArray = np.minimum(_ahead(need, lead), _ahead(need[::-1], lead)[::-1])
    return found
