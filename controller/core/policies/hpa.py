"""The Kubernetes Horizontal Pod Autoscaler, as a baseline: requests in flight per ready replica against a target.

Algorithm and defaults of `autoscaling/v2` (Kubernetes documentation, "Horizontal Pod Autoscaling: algorithm
details"): tolerance 0.1; replicas that are not ready count as idle when scaling up; scale-down takes the highest
recommendation of 300 s; scale-up at most doubles or adds 4 in a period of 15 s, whichever is more. On demand, one
pool, one queue without tiers.
"""

import math
from dataclasses import dataclass

from controller.core.finance import cheapest_per_speed
from controller.core.plan import one_pool_plan
from controller.core.policies.base import Memory
from controller.core.types import Observation, Plan, Reason
from models.enums import Limit, Market, ReplicaState

TOLERANCE = 0.1
DOWN_WINDOW_S = 300.0
MINIMUM = 1


@dataclass(frozen=True, slots=True)
class Scaled:
    """Replicas: by the ratio alone, after the scale-down window, and after the limit on scaling up."""

    raw: int
    steady: int
    desired: int


@dataclass(frozen=True, slots=True)
class Hpa:
    target: float = 0.7
    name: str = "hpa"
    fifo: bool = True
    forecasts: bool = False

    def plan(self, seen: Observation, memory: Memory, plan_id: str) -> tuple[Plan, Memory]:
        offer = cheapest_per_speed([standing.offer for standing in seen.offers if standing.usable], Market.ON_DEMAND)
        in_flight = sum(queue.queued + queue.running for queue in seen.queues)
        ready = sum(replica.state is ReplicaState.READY for replica in seen.replicas)
        coming = sum(replica.state in (ReplicaState.BOOTING, ReplicaState.LOADING) for replica in seen.replicas)
        scaled, memory = self.scale(in_flight, ready, coming, memory, seen.now_s)
        reason = Reason(
            Limit.LATENCY_TARGET,
            f"{in_flight} in flight on {ready} ready replicas against {self.target:g} each: {scaled.raw} replicas",
            {"in_flight": in_flight, "ready": ready, "coming": coming, "target": self.target},
        )
        plan = one_pool_plan(seen, plan_id, self.name, offer, scaled.raw, scaled.steady, scaled.desired, reason)
        return plan, memory

    def scale(self, in_flight: float, ready: int, coming: int, memory: Memory, now_s: float) -> tuple[Scaled, Memory]:
        """The replicas that it wants, by what is in flight, and what it remembers."""
        current = ready + coming
        raw = self._recommend(in_flight, ready, coming)
        if memory.since_s is None:
            # As `recordInitialRecommendation` does: a restart keeps the scale for its window.
            memory = memory.recommend(now_s, current, DOWN_WINDOW_S)
        memory = memory.recommend(now_s, raw, DOWN_WINDOW_S)
        steady = max(raw, min(current, int(memory.highest())))
        limited = min(steady, max(2 * current, current + 4))
        return Scaled(raw, steady, max(MINIMUM, limited)), memory

    def _recommend(self, in_flight: float, ready: int, coming: int) -> int:
        current = ready + coming
        if ready == 0:
            return max(current, MINIMUM)
        ratio = in_flight / ready / self.target
        if abs(ratio - 1) <= TOLERANCE + 1e-9:
            return current
        if ratio > 1 and coming:
            ratio = in_flight / current / self.target
            return current if ratio <= 1 + TOLERANCE + 1e-9 else math.ceil(ratio * current - 1e-9)
        return math.ceil(ratio * ready - 1e-9)
