"""A small model of one service's queue: what waits, by priority or first come, on a capacity that changes.

The number in the system follows the fluid limit of a many-server queue (Mandelbaum, Massey and Reiman, "Strong
approximations for Markovian service networks", Queueing Systems 30, 1998): dm/dt = (load − min(m, capacity)) / s, with
s the mean execution and load in erlangs. Under priorities the tiers 0…k together are such a queue by themselves, so
each tier is told from the two sums around it. On top of the fluid comes the wait by chance at the load that is served,
Erlang C with the Allen–Cunneen correction (`queueing`). Everything runs on reference GPUs: a replica of speed v counts
as v of them.

It is coarse, and made to compare: policies that go through it on the same minutes share its error.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from controller.core.capacity import KNEE
from controller.core.queueing import probability_of, target_wait_s, tier_wait_s
from controller.core.types import FloatArray, TierTarget

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Demand:
    """What arrived, on a regular grid. `loads` (erlangs) and `requests` (arrivals in the step) have shape (tiers,
    steps), tiers by priority; nothing in them is unknown.
    """

    start_s: float
    step_s: float
    tiers: tuple[TierTarget, ...]
    loads: FloatArray
    requests: FloatArray
    work_mean_s: float
    work_scv: float

    @property
    def steps(self) -> int:
        return int(self.loads.shape[1])

    def since(self, step: int) -> "Demand":
        """The same from a step on."""
        return replace(
            self,
            start_s=self.start_s + step * self.step_s,
            loads=self.loads[:, step:],
            requests=self.requests[:, step:],
        )


def flow(inside: float, load: float, capacity: float, step_s: float, work_s: float) -> float:
    """The number in the system a step later, at constant load and capacity: the exact solution of the fluid's equation.

    Below the capacity it decays towards the load, above it the queue grows or drains in a straight line.
    """
    left_s = step_s
    if inside > capacity:
        if load >= capacity:
            return inside + (load - capacity) * left_s / work_s
        drained_s = (inside - capacity) / (capacity - load) * work_s
        if drained_s >= left_s:
            return inside - (capacity - load) * left_s / work_s
        inside, left_s = capacity, left_s - drained_s
    elif load > capacity:
        filled_s = work_s * math.log((load - inside) / (load - capacity))
        if filled_s < left_s:
            return capacity + (load - capacity) * (left_s - filled_s) / work_s
    return load + (inside - load) * math.exp(-left_s / work_s)


def in_system(demand: Demand, capacity: FloatArray, start: FloatArray | None = None) -> FloatArray:
    """Requests of tiers 0…k that run or wait at the end of each step, shape (tiers, steps).

    `start`: as many before the first step, shape (tiers,); None: what the first load keeps busy.
    """
    loads = np.cumsum(demand.loads, axis=0)
    found: FloatArray = np.empty_like(loads)
    for k, row in enumerate(loads.tolist()):
        inside = row[0] if start is None else float(start[k])
        for step, (load, servers) in enumerate(zip(row, capacity.tolist(), strict=True)):
            inside = flow(inside, load, servers, demand.step_s, demand.work_mean_s)
            found[k, step] = inside
    return found


def waits(demand: Demand, inside: FloatArray, capacity: FloatArray, *, fifo: bool) -> FloatArray:
    """Each tier's statistic of the wait in each step, seconds, shape (tiers, steps).

    `inside`: as `in_system` gives it. `fifo`: one queue for all tiers, in which everybody waits alike.
    """
    rows = range(len(demand.tiers))
    return np.array([tier_waits(demand, inside, capacity, k, fifo=fifo) for k in rows])


def tier_waits(demand: Demand, inside: FloatArray, capacity: FloatArray, k: int, *, fifo: bool) -> FloatArray:
    """One tier's row of `waits`, shape (steps,)."""
    both = inside[-1 if fifo else k].tolist()
    above = [0.0] * len(both) if fifo or k == 0 else inside[k - 1].tolist()
    work_s, scv, probability = demand.work_mean_s, demand.work_scv, probability_of(demand.tiers[k].statistic)
    found: FloatArray = np.array(
        [
            wait_s(probability, own, upper, count, work_s, scv)
            for own, upper, count in zip(both, above, capacity.tolist(), strict=True)
        ]
    )
    return found


def wait_s(probability: float | None, both: float, above: float, capacity: float, work_s: float, scv: float) -> float:
    """The wait of a tier, its mean (`probability` None) or a quantile: `both` requests of it and of the tiers above are
    in the system, `above` of those alone. Infinite where nothing is left to serve it.
    """
    queued = max(0.0, both - capacity)
    free = capacity - min(above, capacity)
    if free < 1e-9 or capacity < 1:
        return math.inf if both > above + 1e-9 or queued > 0 else 0.0
    # As in `capacity.expected_miss`: past the knee the steady wait is that at the knee.
    fits = min(1.0, KNEE * math.floor(capacity) / both) if both > 0 else 1.0
    own = max(0.0, both - above)
    steady = _steady_wait_s(
        math.floor(capacity), round(own * fits, 1), round(above * fits, 1), work_s, probability, scv
    )
    return steady + queued * work_s / free


@lru_cache(maxsize=65536)
def _steady_wait_s(
    servers: int, own: float, above: float, work_s: float, probability: float | None, scv: float
) -> float:
    """The wait by chance; loads come in tenths of an erlang, so that the same ones recur."""
    if own <= 0:
        return 0.0
    total = own + above
    if total >= servers:  # the rounding has carried it past the knee
        own, above = own * KNEE * servers / total, above * KNEE * servers / total
    return tier_wait_s(servers, own, above, work_s, probability, 1.0, scv)


def missed(demand: Demand, capacity: FloatArray, *, fifo: bool, start: FloatArray | None = None) -> BoolArray:
    """Whether each tier's target is missed in each step, shape (tiers, steps)."""
    return over_target(demand, waits(demand, in_system(demand, capacity, start), capacity, fifo=fifo))


def over_target(demand: Demand, waited_s: FloatArray) -> BoolArray:
    """Whether each wait, shape (tiers, steps), is over its tier's target."""
    limits = np.array([target_wait_s(tier, demand.work_mean_s, demand.work_scv) for tier in demand.tiers])
    over: BoolArray = waited_s > limits[:, None]
    return over
