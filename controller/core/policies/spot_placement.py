"""Which market and which zone, as SkyServe's SpotHedge decides it for a number of replicas.

Spot in the zone that is cheapest among those that last gave a replica, other zones first; on demand for as long as spot
replicas are missing. Mao et al., *SkyServe: Serving AI Models across Regions and Clouds with Spot Instances* (EuroSys
2025), and the `dynamic_fallback` placer of SkyPilot. Two things are kinder to it here than there: a zone counts as
preempted and the fallback begins at the notice, where SkyServe, which knows no notices, learns of the loss at its end
(a replica under notice still counts as one, so that its successor on spot comes when it is gone); and zones of one
price take turns, where SkyPilot takes the first. On demand, replicas are of the spot type where that is sold.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from controller.core.finance import cheapest_per_speed
from controller.core.plan import Actions, hold, release_order, staying
from controller.core.types import Observation, Offer, OfferStanding, Plan, Reason
from models.enums import Limit, Market, Mode, ReplicaState

FEWEST_ACTIVE = 2


@dataclass(frozen=True, slots=True)
class Placement:
    """`preempted`: spot offers that last took a replica back or refused one. `looked_s`: what is older was seen."""

    preempted: frozenset[str] = frozenset()
    looked_s: float = -math.inf

    def look(self, seen: Observation, locations: Sequence[OfferStanding]) -> "Placement":
        """What became of each location since the last look."""
        preempted = set(self.preempted)
        for standing in sorted(locations, key=lambda each: each.offer.id):
            lost_s, refused_s = standing.lost_s, standing.refused_s
            # A refusal is dated by the tick that asked, which was the last look.
            if (lost_s is not None and lost_s > self.looked_s) or (
                refused_s is not None and refused_s >= self.looked_s
            ):
                preempted.add(standing.offer.id)
                if sum(each.offer.id not in preempted for each in locations) < FEWEST_ACTIVE:
                    preempted.clear()
        for replica in staying(seen):
            if replica.ready_s is not None and replica.ready_s > self.looked_s:
                preempted.discard(replica.offer_id)
        return Placement(frozenset(preempted), seen.now_s)

    def choose(self, locations: Sequence[Offer], used: Counter[str], count: int) -> list[str]:
        """Offers of so many new spot replicas, beside those `used` already."""
        active = [offer for offer in locations if offer.id not in self.preempted]
        used, chosen = Counter(used), list[str]()
        for _ in range(count if active else 0):
            fresh = [offer for offer in active if not used[offer.id]]
            best = min(fresh or active, key=lambda offer: (offer.price_usd_per_hour, used[offer.id], offer.id))
            used[best.id] += 1
            chosen.append(best.id)
        return chosen


@dataclass(frozen=True, slots=True)
class Markets:
    """Where a service may run: zones of one spot type, and an on-demand offer."""

    spot: tuple[OfferStanding, ...]
    on_demand: Offer | None

    @property
    def speed(self) -> float:
        """Of a replica that is counted."""
        offer = self.spot[0].offer if self.spot else self.on_demand
        return 1.0 if offer is None else offer.speed_ratio


def markets_of(seen: Observation) -> Markets:
    """The spot type that is cheapest for its speed, in its zones, and on demand the same type, or else the cheapest."""
    usable = [standing for standing in seen.offers if standing.usable]
    best = cheapest_per_speed([standing.offer for standing in usable], Market.SPOT)
    on_demand = [standing.offer for standing in usable if standing.offer.market is Market.ON_DEMAND]
    if best is None:
        return Markets((), cheapest_per_speed(on_demand))
    spot = [s for s in usable if s.offer.market is Market.SPOT and s.offer.instance_type == best.instance_type]
    known = tuple(standing for standing in spot if math.isfinite(standing.offer.price_usd_per_hour))
    same = cheapest_per_speed(offer for offer in on_demand if offer.instance_type == best.instance_type)
    return Markets(known, same or cheapest_per_speed(on_demand))


def market_split(
    target: int, spot_ready: int, overprovision: int = 0, base: int = 0, fallback: bool = True
) -> tuple[int, int]:
    """(spot replicas to keep, on-demand replicas): S* = T + E − B and O* = min(B + max(0, S* − ready spot), T).

    On demand fills in for spot that doesn't serve yet, never for what is over-provisioned.
    """
    spot = max(0, target + overprovision - base)
    return spot, min(base + (max(0, spot - spot_ready) if fallback else 0), target)


def placed_plan(
    seen: Observation,
    plan_id: str,
    policy: str,
    target: int,
    markets: Markets,
    placement: Placement,
    reason: Reason,
    overprovision: int = 0,
    base: int = 0,
) -> tuple[Plan, Placement]:
    """The plan that brings spot and on demand to their counts. Without a spot offer all of it is on demand."""
    if not markets.spot and markets.on_demand is None:
        word = Reason(Limit.NO_CAPACITY, "no usable offer has a known price: held", {})
        return hold(seen, plan_id, policy, word, target), placement
    placement = placement.look(seen, markets.spot)
    on_spot = {s.offer.id for s in seen.offers if s.offer.market is Market.SPOT}
    here = staying(seen)
    spot_here = [replica for replica in here if replica.offer_id in on_spot]
    other_here = [replica for replica in here if replica.offer_id not in on_spot]
    leaving = sum(replica.gone_s is not None and replica.offer_id in on_spot for replica in seen.replicas)
    spot_ready = sum(replica.state is ReplicaState.READY for replica in spot_here)
    spot, on_demand = market_split(target, spot_ready, overprovision, base) if markets.spot else (0, target)
    on_demand = len(other_here) if markets.on_demand is None else on_demand
    used = Counter(replica.offer_id for replica in spot_here)
    fresh = placement.choose([s.offer for s in markets.spot], used, spot - len(spot_here) - leaving)
    text = f"{reason.text}; {spot} on spot ({spot_ready} serve), {on_demand} on demand"
    reason = Reason(reason.limit, text, {**reason.numbers, "spot_ready": spot_ready})
    actions, counts = Actions(seen, plan_id), Counter(replica.offer_id for replica in here)
    for offer_id in fresh:
        actions.start(offer_id, 1, text)
        counts[offer_id] += 1
    if markets.on_demand is not None and on_demand > len(other_here):
        actions.start(markets.on_demand.id, on_demand - len(other_here), text)
        counts[markets.on_demand.id] += on_demand - len(other_here)
    for group, wanted in ((spot_here, spot), (other_here, on_demand)):
        for replica in sorted(group, key=release_order)[: max(0, len(group) - wanted)]:
            actions.release(replica, text)
            counts[replica.offer_id] -= 1
    counts = +counts
    plan = Plan(
        id=plan_id,
        service=seen.service,
        made_s=seen.now_s,
        policy=policy,
        required=target,
        stabilized=target,
        desired=counts.total(),
        desired_by_offer=dict(counts),
        actions=tuple(actions.taken) if seen.mode is Mode.ACT else (),
        bound=reason,
        reasons=(reason,),
    )
    return plan, placement
