"""The strongest peer that could be put together from parts: a tuned HPA on spot, with priorities and a limit.

Replicas by the HPA's rule on requests in flight, spot with an on-demand fallback as SpotHedge places it, a queue that
serves tiers by priority, at most 100 replicas. Its defaults, a target of 0.5 and a scale-down window of 900 s, were
tuned for latency on traffic like that of the benchmarks: it has the advantage of hindsight.
"""

from dataclasses import dataclass, field, replace

from controller.core.plan import COMING, staying
from controller.core.policies.base import Memory
from controller.core.policies.hpa import SYNC_S, Behaviour, HpaMemory, in_flight_reason, recommend
from controller.core.policies.parameter import parameter
from controller.core.policies.pool import Pool, unmeasured
from controller.core.policies.spot_placement import Placement, markets_of, placed_plan
from controller.core.types import Observation, Plan


@dataclass(frozen=True, slots=True)
class HpaSpotMemory(HpaMemory):
    """`scale`: the replicas that were last asked for, which the HPA calls current; None: none were yet."""

    scale: int | None = None
    placement: Placement = field(default_factory=Placement)


@dataclass(frozen=True, slots=True)
class HpaSpot:
    target: float = parameter(0.5, "requests in flight per ready replica", above=0)
    down_s: float = parameter(900.0, "window of the highest recommendation, for scale-down", least=0)
    base: int = parameter(0, "replicas always on demand", least=0)
    overprovision: int = parameter(0, "spot replicas over the target", least=0)
    tiers: bool = parameter(True, "tiers are served by priority")
    ceiling: int | None = parameter(100, "most replicas before over-provisioning", least=1, optional=True)
    name: str = "hpa_spot"
    forecasts: bool = False
    tick_s: float = SYNC_S

    @property
    def fifo(self) -> bool:
        """One queue for all where tiers aren't served by priority."""
        return not self.tiers

    def plan(self, seen: Observation, memory: Memory, plan_id: str) -> tuple[Plan, Memory]:
        if (held := unmeasured(seen, plan_id, self.name)) is not None:
            return held, memory
        known, here = HpaSpotMemory.of(memory), staying(seen)
        ready = sum(replica.state not in COMING for replica in here)
        scale = len(here) if known.scale is None else known.scale
        in_flight = sum(queue.queued + queue.running for queue in seen.queues)
        # On demand stands in for spot that comes: the scale counts a replica once, so what is missing of it comes.
        pool = Pool(None, in_flight, ready, max(0, scale - ready))
        raw = recommend(pool, self.target)
        behaviour = Behaviour(self.down_s, self.ceiling)
        _, desired, known = behaviour.scale(seen.now_s, pool.current, raw, known)
        plan, placement = placed_plan(
            seen,
            plan_id,
            self.name,
            desired,
            markets_of(seen),
            known.placement,
            in_flight_reason(pool, self.target, raw),
            self.overprovision,
            self.base,
        )
        return plan, replace(known, scale=desired, placement=placement)
