"""One service's real loop on a small simulated cluster, tick by tick."""

from collections.abc import Callable, Mapping

import numpy as np

from controller.backends.simulated.cluster import SimulatedCluster
from controller.core.policies.base import Policy
from controller.core.types import Envelope, Forecast, Observation, Plan, Series
from controller.observe import Demand, Observer, OfferBook
from controller.reconcile import Ports, reconcile
from controller.replay import Unrecorded
from tests.backends.small_world import T0

TICK_S = 15.0


class Unforecast:
    """Nothing is forecast: these policies do not ask."""

    def forecast(self, service: str, loads: Mapping[str, Series], now_s: float) -> Mapping[tuple[str, float], Forecast]:
        return {}


class Driven:
    """A cluster, a policy and the plans made so far."""

    def __init__(
        self,
        cluster: SimulatedCluster,
        policy: Policy,
        envelope: Envelope,
        around: Callable[[Observation], Observation] = lambda seen: seen,
    ) -> None:
        site = cluster.site
        self.cluster, self.plans, self.now_s = cluster, list[Plan](), T0
        self.ports = Ports(
            backend=cluster,
            telemetry=cluster,
            work=cluster.work,
            record=Unrecorded(envelope),
            forecasts=Unforecast(),
            observer=Observer(
                site.service,
                OfferBook(site.offers),
                Demand([tier.name for tier in site.tiers]),
                site.boot_s,
                float(np.percentile(site.load_times_s, 90)),
                read_latencies=False,
            ),
            policy=policy,
            around=around,
        )

    def tick(self) -> Plan:
        plan = reconcile(self.now_s, self.ports).plan
        self.plans.append(plan)
        self.now_s += TICK_S
        return plan

    def until(self, after_s: float, also: Callable[[float], None] = lambda now_s: None) -> "Driven":
        """Tick up to after_s from T0; `also` is told each time before the tick."""
        while self.now_s < T0 + after_s:
            also(self.now_s)
            self.tick()
        self.cluster.advance(self.now_s)
        return self

    def held(self, at_s: float) -> int:
        """Replicas that were billed at a time, seconds after T0."""
        rows = self.cluster.engine.a.replica[: self.cluster.engine.replicas]
        ended = np.where(np.isnan(rows["ended"]), np.inf, rows["ended"])
        return int(((rows["requested"] <= T0 + at_s) & (ended > T0 + at_s)).sum())

    def waits(self) -> np.ndarray:
        rows = self.cluster.engine.a.request[: self.cluster.engine.requests]
        return np.asarray(rows["started"] - rows["arrived"])
