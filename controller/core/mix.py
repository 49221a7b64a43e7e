"""Which offers carry the capacity: the mix, in order of importance, and what an operator's limits make of it.

The first tier's base stands on demand, so that losing every spot zone at once leaves it whole; spot carries the rest,
spread so that losing any one zone leaves the first tier whole; what spot can't give falls back to on demand. The order
is the order of importance: cutting the list short (a cap, a ceiling) sheds the lowest tiers first.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controller.core.prices import price_problem
from controller.core.types import Offer, OfferStanding, Reason
from models.enums import Market

REFUSED_FOR_S = 300.0
LOST_FOR_S = 900.0


@dataclass(frozen=True, slots=True)
class Mix:
    """Offers in order of importance, one entry a replica, and why. Replicas of one offer fill its nodes in turn; a node
    is billed whole.
    """

    offers: tuple[Offer, ...]
    reason: Reason

    @property
    def counts(self) -> Mapping[str, int]:
        """Replicas of each offer."""
        return Counter(offer.id for offer in self.offers)

    @property
    def nodes(self) -> Mapping[str, int]:
        """Nodes of each offer that its replicas stand on."""
        gpus = {offer.id: offer.gpu_count for offer in self.offers}
        return {offer_id: nodes_for(count, gpus[offer_id]) for offer_id, count in self.counts.items()}

    @property
    def capacity(self) -> float:
        return sum(offer.speed_ratio for offer in self.offers)

    @property
    def usd_per_hour(self) -> float:
        price = {offer.id: offer.price_usd_per_hour for offer in self.offers}
        return sum(price[offer_id] * count for offer_id, count in self.nodes.items())


def nodes_for(replicas: int, gpu_count: int) -> int:
    """Nodes that so many replicas stand on."""
    return -(-replicas // gpu_count)


def spot_usable(standing: OfferStanding, now_s: float) -> str:
    """Why a spot offer is not to be started on now; empty: it is."""
    if not standing.usable:
        return standing.why_not
    if standing.notice:
        return "is being taken back"
    if standing.refused_s is not None and now_s - standing.refused_s < REFUSED_FOR_S:
        return f"had no capacity {now_s - standing.refused_s:.0f} s ago"
    if standing.lost_s is not None and now_s - standing.lost_s < LOST_FOR_S:
        return f"was taken back {now_s - standing.lost_s:.0f} s ago"
    return ""


def price_known(standing: OfferStanding) -> bool:
    """May the offer be used, and is its price one that a budget can count?"""
    return standing.usable and not price_problem(standing.offer.price_usd_per_hour)


def resize(mix: Mix, replicas: int, standings: Sequence[OfferStanding], now_s: float, held: Mapping[str, int]) -> Mix:
    """The mix with exactly so many replicas: cut from its end, or filled up as a larger mix would be. The reason is
    kept.
    """
    if replicas <= len(mix.offers):
        return Mix(mix.offers[: max(0, replicas)], mix.reason)
    chosen = list(mix.offers)
    known = [s for s in standings if price_known(s)]
    on_demand = [s.offer for s in known if s.offer.market is Market.ON_DEMAND]
    spot = [s.offer for s in known if s.offer.market is Market.SPOT and not spot_usable(s, now_s)]
    while len(chosen) < replicas:
        count = Counter(offer.id for offer in chosen)
        in_zone = Counter(offer.zone for offer in chosen if offer.market is Market.SPOT)
        # What is there already comes first: a count that is held must not be held by other replicas at every tick.
        here = [s.offer for s in known if count[s.offer.id] < held.get(s.offer.id, 0)]
        # … then the idle GPUs of nodes that are billed anyway.
        idle = [s.offer for s in known if count[s.offer.id] % s.offer.gpu_count]
        open_ = here or idle or spot or on_demand
        if not open_:
            break
        chosen.append(min(open_, key=lambda offer: (in_zone[offer.zone], offer.price_usd_per_hour, offer.id)))
    return Mix(tuple(chosen), mix.reason)


def within_burn(mix: Mix, usd_per_hour: float) -> Mix:
    """The longest part of the mix, taken in order of importance, whose price stays within usd_per_hour."""
    kept: list[Offer] = []
    count: Counter[str] = Counter()
    spent = 0.0
    for offer in mix.offers:
        # The first replica of a node pays for all of it.
        price = 0.0 if count[offer.id] % offer.gpu_count else offer.price_usd_per_hour
        if spent + price <= usd_per_hour + 1e-9:
            kept.append(offer)
            count[offer.id] += 1
            spent += price
    return Mix(tuple(kept), mix.reason)
