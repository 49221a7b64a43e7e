"""A service of one pool, tick by tick: what a policy is shown, and what it made of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from controller.core.policies.base import Memory, Policy
from controller.core.types import Plan, Replica, Series
from models.enums import ReplicaState
from tests.core.observed import L40S, NOW, TIERS, names, observation, queues, replica


@dataclass
class Timeline:
    """Each `tick` is so many seconds after the one before; by default what was asked for is ready at once."""

    policy: Policy
    step_s: float
    replicas: tuple[Replica, ...] = ()
    memory: Memory = field(default_factory=Memory)
    now_s: float = NOW
    ticks: int = 0

    def tick(self, in_flight: int, **changes: Any) -> Plan:
        """What it plans with so many requests in flight. `changes`: of the observation."""
        shown = {"replicas": self.replicas, "queues": queues(TIERS, (in_flight, 0, 0)), "telemetry_s": self.now_s}
        seen = observation(now_s=self.now_s, **{**shown, **changes})
        plan, self.memory = self.policy.plan(seen, self.memory, f"p-{self.ticks}")
        self.now_s += self.step_s
        self.ticks += 1
        return plan

    def follow(self, in_flight: Iterable[int], **changes: Any) -> list[int]:
        """What it desires at each of several ticks, its wishes fulfilled in between."""
        desired = []
        for count in in_flight:
            desired.append(self.tick(count, **changes).desired)
            self.replicas = pods(desired[-1])
        return desired


def pods(ready: int, coming: int = 0) -> tuple[Replica, ...]:
    up = tuple(replica(n, L40S) for n in range(ready))
    return up + tuple(replica(500 + n, L40S, ReplicaState.LOADING) for n in range(coming))


def measured(minutes: Iterable[float], end_s: float = NOW) -> Mapping[str, Series]:
    """Load of all tiers together, minute by minute up to end_s."""
    values = np.array(list(minutes), np.float64)
    return {names(TIERS, len(TIERS) - 1): Series(end_s - 60.0 * len(values), 60.0, values)}
