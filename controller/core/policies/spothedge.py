"""SkyServe with SpotHedge, as a baseline: replicas by the rate of requests, on spot with an on-demand fallback.

Algorithm and defaults of SkyPilot's `sky/serve` (request-rate autoscaler with on-demand fallback, placer
`dynamic_fallback`): a decision every 20 s from the requests of the last 60 s, taken up after 300 s of wanting more
(15 decisions) or 1,200 s of wanting less (60); at once from zero. The target rate of a replica is given as the share of
its time that it keeps busy, and the last whole minute stands for the last 60 s. What it places where, and what is
kinder to it here, is in `spot_placement`. One queue without tiers; what waits isn't looked at.
"""

import math
from dataclasses import dataclass, field

from controller.core.plan import staying
from controller.core.policies.base import Memory
from controller.core.policies.parameter import parameter
from controller.core.policies.pool import total_load, unmeasured
from controller.core.policies.spot_placement import Placement, markets_of, placed_plan
from controller.core.types import Observation, Plan, Reason
from models.enums import Limit

DECISION_S = 20.0
MINIMUM = 1


@dataclass(frozen=True, slots=True)
class SpotHedgeMemory(Memory):
    """`above_s`, `below_s`: since when every decision has wanted more, or less, than `target`."""

    target: int | None = None
    above_s: float | None = None
    below_s: float | None = None
    placement: Placement = field(default_factory=Placement)


@dataclass(frozen=True, slots=True)
class SpotHedge:
    target: float = parameter(0.7, "share of a replica's time that its requests keep busy", above=0)
    up_s: float = parameter(300.0, "upscale delay", least=0)
    down_s: float = parameter(1200.0, "downscale delay", least=0)
    overprovision: int = parameter(0, "spot replicas over the target", least=0)
    base: int = parameter(0, "replicas always on demand", least=0)
    ceiling: int | None = parameter(None, "most replicas before over-provisioning", kind=int, least=1)
    name: str = "spothedge"
    fifo: bool = True
    forecasts: bool = False
    tick_s: float = DECISION_S

    def plan(self, seen: Observation, memory: Memory, plan_id: str) -> tuple[Plan, Memory]:
        if (held := unmeasured(seen, plan_id, self.name)) is not None:
            return held, memory
        known = memory if isinstance(memory, SpotHedgeMemory) else SpotHedgeMemory(target=len(staying(seen)))
        markets = markets_of(seen)
        series = total_load(seen)
        newest = math.nan if series is None or not len(series.values) else float(series.values[-1])
        load = newest if math.isfinite(newest) else None
        before = known.target or 0
        # Unknown demand changes nothing.
        wanted = before if load is None else math.ceil(load / self.target / markets.speed - 1e-9)
        target, above_s, below_s = self._after_delay(seen.now_s, known, before, wanted)
        clipped = max(MINIMUM, target if self.ceiling is None else min(target, self.ceiling))
        word = "unknown load" if load is None else f"{load:.1f} erlangs"
        text = f"{word} in the last minute, {self.target:g} a replica: {wanted} replicas, now {clipped}"
        reason = Reason(Limit.LATENCY_TARGET, text, {"load": load, "wanted": wanted, "target": self.target})
        plan, placement = placed_plan(
            seen, plan_id, self.name, clipped, markets, known.placement, reason, self.overprovision, self.base
        )
        return plan, SpotHedgeMemory(
            known.recommendations, known.since_s, target=target, above_s=above_s, below_s=below_s, placement=placement
        )

    def _after_delay(
        self, now_s: float, known: SpotHedgeMemory, before: int, wanted: int
    ) -> tuple[int, float | None, float | None]:
        """The target after hysteresis, and since when more or less is wanted. The decision that completes the count
        comes one interval before the delay is over: 15 of them span 280 s.
        """
        if before == 0:
            return wanted, None, None
        if wanted > before:
            since_s = now_s if known.above_s is None else known.above_s
            done = now_s - since_s >= self.up_s - DECISION_S
            return (wanted, None, None) if done else (before, since_s, None)
        if wanted < before:
            since_s = now_s if known.below_s is None else known.below_s
            done = now_s - since_s >= self.down_s - DECISION_S
            return (wanted, None, None) if done else (before, None, since_s)
        return before, None, None
