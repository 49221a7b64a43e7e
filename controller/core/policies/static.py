"""A fixed fleet sized for the peak of history, as a baseline: the largest ten-minute mean load / 0.7, on demand."""

import math
from dataclasses import dataclass

from controller.core.finance import cheapest_per_speed
from controller.core.plan import one_pool_plan
from controller.core.policies.base import Memory
from controller.core.policies.parameter import parameter
from controller.core.types import Observation, Plan, Reason
from models.enums import Limit, Market

UTILISATION = 0.7
NOTHING_SOLD = Reason(Limit.NO_CAPACITY, "no usable on-demand offer has a known price", {})


@dataclass(frozen=True, slots=True)
class Static:
    """`peak_load`: the largest ten-minute mean of offered load, in erlangs of the reference GPU."""

    peak_load: float
    utilisation: float = parameter(UTILISATION, "share of the fleet that the peak may keep busy", above=0, most=1)
    name: str = "static"
    fifo: bool = True
    forecasts: bool = False

    def plan(self, seen: Observation, memory: Memory, plan_id: str) -> tuple[Plan, Memory]:
        offer = cheapest_per_speed([standing.offer for standing in seen.offers if standing.usable], Market.ON_DEMAND)
        if offer is None:
            return one_pool_plan(seen, plan_id, self.name, None, 0, 0, 0, NOTHING_SOLD), memory
        wanted = max(1, math.ceil(self.peak_load / self.utilisation / offer.speed_ratio - 1e-9))
        speed = offer.speed_ratio
        text = f"peak load {self.peak_load:.1f} / {self.utilisation:g} / speed {speed:g} = {wanted} replicas, always"
        reason = Reason(Limit.NONE, text, {"peak_load": self.peak_load, "utilisation": self.utilisation})
        return one_pool_plan(seen, plan_id, self.name, offer, wanted, wanted, wanted, reason), memory
