"""The Predictive Horizontal Pod Autoscaler, as a baseline: the HPA's count and a Holt-Winters forecast, the larger.

Algorithm and defaults of `predictive-horizontal-pod-autoscaler` (commit c91d060): every sync (15 s) the HPA's
recommendation joins a history of seasons; additive Holt-Winters with given weights forecasts the next; the `decision`
of the two (by default the maximum) goes through the HPA's own behaviour. Its documentation's example is a season of 6
syncs, 4 of them kept, and all weights 0.9. The season is kept here; with those weights the recursion diverges (additive
Holt-Winters is stable for a season's weight up to 1 − alpha: Hyndman et al. 2008, ch. 10), and on bursts it asks for
thousands of replicas, which its default of at most 10 hides. So the trend and the season weigh 0.1, and there is no
limit unless one is given. Its own warning: "a poorly tuned PHPA could easily end up being worse than a normal HPA". On
demand, one pool, one queue without tiers.
"""

import math
from dataclasses import dataclass, replace

from controller.core.plan import one_pool_plan
from controller.core.policies.base import Memory
from controller.core.policies.holt_winters import least_values, one_step
from controller.core.policies.hpa import SYNC_S, Behaviour, HpaMemory, in_flight_reason, recommend
from controller.core.policies.parameter import parameter
from controller.core.policies.pool import pool_of, unmeasured
from controller.core.types import Observation, Plan, Reason

DECISIONS = ("maximum", "minimum", "mean")


@dataclass(frozen=True, slots=True)
class PhpaMemory(HpaMemory):
    """`history`: the HPA's recommendations, one a sync, newest last."""

    history: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Phpa:
    target: float = parameter(0.7, "requests in flight per ready replica", above=0)
    down_s: float = parameter(300.0, "window of the highest recommendation, for scale-down", least=0)
    season: int = parameter(6, "syncs of 15 s in a season", least=2, most=240)
    seasons: int = parameter(4, "seasons of history that are kept", least=2, most=14)
    alpha: float = parameter(0.9, "weight of the newest value in the level", least=0, most=1)
    beta: float = parameter(0.1, "weight of the newest rise in the trend", least=0, most=1)
    gamma: float = parameter(0.1, "weight of the newest value in the season", least=0, most=1)
    decision: str = parameter("maximum", "which of the HPA's count and the forecast counts", choices=DECISIONS)
    ceiling: int | None = parameter(None, "most replicas", kind=int, least=1)
    name: str = "phpa"
    fifo: bool = True
    forecasts: bool = False
    tick_s: float = SYNC_S

    def __post_init__(self) -> None:
        kept, needed = self.season * self.seasons, least_values(self.season)
        if kept < needed:
            raise ValueError(
                f"{self.seasons} seasons of {self.season} are {kept} values, and a forecast needs {needed}"
            )

    def plan(self, seen: Observation, memory: Memory, plan_id: str) -> tuple[Plan, Memory]:
        if (held := unmeasured(seen, plan_id, self.name)) is not None:
            return held, memory
        known, pool = PhpaMemory.of(memory), pool_of(seen)
        counted = recommend(pool, self.target)
        history = (*known.history, counted)[-self.season * self.seasons :]
        known = replace(known, history=history)
        reason, raw = in_flight_reason(pool, self.target, counted), counted
        if len(history) >= least_values(self.season):
            foreseen = math.ceil(one_step(history, self.season, self.alpha, self.beta, self.gamma) - 1e-9)
            raw = max(0, self._decided(counted, foreseen))
            text = f"{reason.text}; Holt-Winters foresees {foreseen}, the {self.decision} is {raw}"
            reason = Reason(reason.limit, text, {**reason.numbers, "foreseen": foreseen})
        steady, desired, known = Behaviour(self.down_s, self.ceiling).scale(seen.now_s, pool.current, raw, known)
        return one_pool_plan(seen, plan_id, self.name, pool.offer, raw, steady, desired, reason), known

    def _decided(self, counted: int, foreseen: int) -> int:
        if self.decision == "mean":
            return (counted + foreseen) // 2
        return max(counted, foreseen) if self.decision == "maximum" else min(counted, foreseen)
