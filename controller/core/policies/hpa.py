"""The Kubernetes Horizontal Pod Autoscaler, as a baseline: requests in flight per ready replica against a target.

Algorithm and defaults of `autoscaling/v2` (Kubernetes documentation, "Horizontal Pod Autoscaling: algorithm
details" and "configurable scaling behavior"): every 15 s, tolerance 0.1; replicas that are not ready count as idle
when scaling up; scale-down takes the highest recommendation of 300 s; scale-up at most doubles or adds 4 in a period
of 15 s, whichever is more. Without metrics nothing is scaled. On demand, one pool, one queue without tiers.
"""

import math
from dataclasses import dataclass, replace
from typing import Self, TypeVar

from controller.core.plan import one_pool_plan
from controller.core.policies.base import Memory
from controller.core.policies.parameter import parameter
from controller.core.policies.pool import Pool, pool_of, unmeasured
from controller.core.types import Observation, Plan, Reason
from models.enums import Limit

SYNC_S = 15.0
TOLERANCE = 0.1
DOWN_WINDOW_S = 300.0
# Scale-up in one period: this many more, or twice as many.
UP_PERIOD_S = 15.0
UP_REPLICAS = 4
MINIMUM = 1


@dataclass(frozen=True, slots=True)
class HpaMemory(Memory):
    """`changes`: when the scale was changed and by how many replicas, within the period that limits scale-up."""

    changes: tuple[tuple[float, int], ...] = ()

    @classmethod
    def of(cls, memory: Memory) -> Self:
        """The memory, as one of this class."""
        return memory if isinstance(memory, cls) else cls(memory.recommendations, memory.since_s)


M = TypeVar("M", bound=HpaMemory)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What follows a recommendation: stabilization, rate policies, and the pool's limits (`ceiling` None: none)."""

    down_s: float = DOWN_WINDOW_S
    ceiling: int | None = None

    def scale(self, now_s: float, current: int, raw: int, memory: M) -> tuple[int, int, M]:
        """(stabilized, desired) replicas, and what to remember."""
        if memory.since_s is None:
            # As `recordInitialRecommendation` does: a restart keeps the scale for its window.
            memory = memory.recommend(now_s, current, self.down_s)
        memory = memory.recommend(now_s, raw, self.down_s)
        steady = max(raw, min(current, int(memory.highest())))
        changes = tuple(change for change in memory.changes if change[0] > now_s - UP_PERIOD_S)
        period_start = max(0, current - sum(by for _, by in changes))
        limited = min(steady, max(period_start + UP_REPLICAS, 2 * period_start, current))
        desired = max(MINIMUM, limited if self.ceiling is None else min(limited, self.ceiling))
        if desired != current:
            changes = (*changes, (now_s, desired - current))
        return steady, desired, replace(memory, changes=changes)


def recommend(pool: Pool, target: float, tolerance: float = TOLERANCE) -> int:
    """Replicas that bring requests in flight per ready replica to the target, before anything limits it."""
    current, tolerated = pool.current, tolerance + 1e-9
    if pool.ready == 0:
        return max(current, MINIMUM)
    ratio = pool.in_flight / pool.ready / target
    if abs(ratio - 1) <= tolerated:
        return current
    if ratio > 1 and pool.coming:
        ratio = pool.in_flight / current / target
        return current if ratio <= 1 + tolerated else math.ceil(ratio * current - 1e-9)
    return math.ceil(ratio * pool.ready - 1e-9)


def in_flight_reason(pool: Pool, target: float, raw: int) -> Reason:
    """What `recommend` went by."""
    text = f"{pool.in_flight} in flight on {pool.ready} ready replicas against {target:g} each: {raw} replicas"
    numbers = {"in_flight": pool.in_flight, "ready": pool.ready, "coming": pool.coming, "target": target}
    return Reason(Limit.LATENCY_TARGET, text, numbers)


@dataclass(frozen=True, slots=True)
class Hpa:
    target: float = parameter(0.7, "requests in flight per ready replica", above=0)
    down_s: float = parameter(DOWN_WINDOW_S, "window of the highest recommendation, for scale-down", least=0)
    tolerance: float = parameter(TOLERANCE, "how far from the target the ratio may be without a change", least=0)
    ceiling: int | None = parameter(None, "most replicas", kind=int, least=1)
    name: str = "hpa"
    fifo: bool = True
    forecasts: bool = False
    tick_s: float = SYNC_S

    def plan(self, seen: Observation, memory: Memory, plan_id: str) -> tuple[Plan, Memory]:
        if (held := unmeasured(seen, plan_id, self.name)) is not None:
            return held, memory
        pool = pool_of(seen)
        raw = recommend(pool, self.target, self.tolerance)
        behaviour = Behaviour(self.down_s, self.ceiling)
        steady, desired, memory = behaviour.scale(seen.now_s, pool.current, raw, HpaMemory.of(memory))
        reason = in_flight_reason(pool, self.target, raw)
        return one_pool_plan(seen, plan_id, self.name, pool.offer, raw, steady, desired, reason), memory
