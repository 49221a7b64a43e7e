"""Which offers carry the capacity: a greedy mix of on-demand and spot, most important replica first.

The first tier's base stands on demand, so that losing every spot zone at once leaves it whole; the rest goes to
spot, one replica at a time to the usable zone that has fewest, cheapest per unit of speed; what spot can't give
falls back to on demand. The order is the order of importance: cutting the list short (a cap, a ceiling) sheds the
lowest tiers first.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controller.core.types import Offer, OfferStanding, Reason
from models.enums import Limit, Market

REFUSED_FOR_S = 300.0
LOST_FOR_S = 900.0
# Share of the spot replicas that one zone may keep while another can be started on.
MOST_IN_A_ZONE = 0.5
# A spot offer dearer than this share of on demand isn't worth its interruptions.
SPOT_WORTH = 0.85


@dataclass(frozen=True, slots=True)
class Mix:
    """Offers in order of importance, one entry a replica, and why."""

    offers: tuple[Offer, ...]
    reason: Reason

    @property
    def counts(self) -> Mapping[str, int]:
        return Counter(offer.id for offer in self.offers)

    @property
    def capacity(self) -> float:
        return sum(offer.speed_ratio for offer in self.offers)

    @property
    def usd_per_hour(self) -> float:
        return sum(offer.price_usd_per_hour for offer in self.offers)


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


def _on_demand(standings: Sequence[OfferStanding]) -> Offer | None:
    offers = [s.offer for s in standings if s.usable and s.offer.market is Market.ON_DEMAND]
    return min(offers, key=lambda offer: (offer.usd_per_speed_hour, offer.id), default=None)


def cheapest_cover(standings: Sequence[OfferStanding], capacity: float) -> list[Offer]:
    """On-demand offers that carry `capacity` for the fewest dollars: whole replicas of the cheapest per speed, and
    for what is left of one the cheapest single replica that carries it. Empty where nothing is sold on demand.
    """
    bulk = _on_demand(standings)
    if bulk is None or capacity <= 1e-9:
        return []
    chosen: list[Offer] = [bulk] * int((capacity + 1e-9) // bulk.speed_ratio)
    left = capacity - len(chosen) * bulk.speed_ratio
    if left > 1e-9:
        enough = [
            s.offer
            for s in standings
            if s.usable and s.offer.market is Market.ON_DEMAND and s.offer.speed_ratio >= left - 1e-9
        ]
        chosen.append(min(enough, key=lambda offer: (offer.price_usd_per_hour, offer.id), default=bulk))
    return chosen


def _kept_on_demand(standings: Sequence[OfferStanding], base: float, held: Mapping[str, int]) -> list[Offer]:
    """On-demand replicas that are there already, cheapest per unit of speed first, as far as `base` needs them."""
    kept: list[Offer] = []
    here = [
        s.offer for s in standings if s.usable and s.offer.market is Market.ON_DEMAND and held.get(s.offer.id, 0) > 0
    ]
    for offer in sorted(here, key=lambda offer: (offer.usd_per_speed_hour, offer.id)):
        need = math.ceil((base - sum(one.speed_ratio for one in kept)) / offer.speed_ratio - 1e-9)
        kept += [offer] * max(0, min(need, held[offer.id]))
    return kept


def _sticky_cover(standings: Sequence[OfferStanding], capacity: float, held: Mapping[str, int]) -> list[Offer]:
    """On-demand replicas that carry `capacity`: those that are there first, then the cheapest."""
    kept = _kept_on_demand(standings, capacity, held)
    return kept + cheapest_cover(standings, capacity - sum(offer.speed_ratio for offer in kept))


def _first_to_carry(offers: Sequence[Offer], capacity: float) -> int:
    """How many of the offers, from the first, carry `capacity`."""
    carried, count = 0.0, 0
    while count < len(offers) and carried < capacity - 1e-9:
        carried, count = carried + offers[count].speed_ratio, count + 1
    return count


def greedy_mix(
    standings: Sequence[OfferStanding], capacity: float, base: float, held: Mapping[str, int], now_s: float
) -> Mix:
    """A mix of at least `capacity`, its first `base` on demand (both in reference GPUs).

    Sticky: what is `held` (replicas per offer, none under notice) is taken before anything is started, since moving
    costs a restart, but no zone keeps more than its share while another is open; a zone that can't be started on keeps
    what it has.
    """
    # An unknown price fails closed: a budget can't hold what it can't count.
    standings = [s for s in standings if math.isfinite(s.offer.price_usd_per_hour)]
    on_demand_part = _sticky_cover(standings, min(base, capacity), held)
    spot_part: list[Offer] = []
    carried = sum(offer.speed_ratio for offer in on_demand_part)
    on_demand = _on_demand(standings)
    limit = math.inf if on_demand is None else on_demand.usd_per_speed_hour * SPOT_WORTH
    spot = [
        s.offer for s in standings if s.offer.market is Market.SPOT and s.usable and s.offer.usd_per_speed_hour <= limit
    ]
    cannot = {s.offer.id: why for s in standings if s.offer.market is Market.SPOT and (why := spot_usable(s, now_s))}
    # After a refusal one replica asks whether there is capacity again; the rest don't wait for its answer.
    probing = {s.offer.id for s in standings if s.refused_s is not None}
    most = math.ceil((capacity - carried) * MOST_IN_A_ZONE)
    count: Counter[str] = Counter()
    in_zone: Counter[str] = Counter()
    while carried < capacity - 1e-9:
        here = [offer for offer in spot if count[offer.id] < held.get(offer.id, 0)]
        fresh = [offer for offer in spot if offer.id not in cannot]
        fresh = [o for o in fresh if o.id not in probing or count[o.id] <= held.get(o.id, 0)]
        open_ = [offer for offer in here if in_zone[offer.zone] < most] or fresh or here
        if not open_:
            break
        best = min(open_, key=lambda offer: (in_zone[offer.zone], offer.usd_per_speed_hour, offer.id))
        count[best.id] += 1
        in_zone[best.zone] += 1
        spot_part.append(best)
        carried += best.speed_ratio
    if carried < capacity - 1e-9:
        # Bought as one: a base and a remainder each rounded up would be dearer, and would settle only at the next tick.
        by_spot = sum(offer.speed_ratio for offer in spot_part)
        on_demand_part = _sticky_cover(standings, capacity - by_spot, held)
        carried = by_spot + sum(offer.speed_ratio for offer in on_demand_part)
    on_base = _first_to_carry(on_demand_part, base)
    fallback = on_demand_part[on_base:]
    chosen = [*on_demand_part[:on_base], *spot_part, *fallback]
    names = (
        ", ".join(f"{n} × {offer_id}" for offer_id, n in Counter(offer.id for offer in chosen).items()) or "no replica"
    )
    text = f"{names} carry {carried:.1f} of {capacity:.1f} GPUs, {on_base} on demand for the first tier"
    if cannot:
        text += "; not started on: " + ", ".join(f"{offer_id} ({why})" for offer_id, why in sorted(cannot.items()))
    limit_word = Limit.NO_CAPACITY if carried < capacity - 1e-9 or fallback else Limit.NONE
    return Mix(
        tuple(chosen), Reason(limit_word, text, {"capacity": capacity, "carried": carried, "fallback": len(fallback)})
    )


def resize(mix: Mix, replicas: int, standings: Sequence[OfferStanding], now_s: float, held: Mapping[str, int]) -> Mix:
    """The mix with exactly so many replicas: cut from its end, or filled up as a larger mix would be. The reason is
    kept.
    """
    if replicas <= len(mix.offers):
        return Mix(mix.offers[: max(0, replicas)], mix.reason)
    chosen = list(mix.offers)
    known = [s for s in standings if s.usable and math.isfinite(s.offer.price_usd_per_hour)]
    on_demand = [s.offer for s in known if s.offer.market is Market.ON_DEMAND]
    spot = [s.offer for s in known if s.offer.market is Market.SPOT and not spot_usable(s, now_s)]
    while len(chosen) < replicas:
        count = Counter(offer.id for offer in chosen)
        in_zone = Counter(offer.zone for offer in chosen if offer.market is Market.SPOT)
        # What is there already comes first: a count that is held must not be held by other replicas at every tick.
        here = [s.offer for s in known if count[s.offer.id] < held.get(s.offer.id, 0)]
        open_ = here or spot or on_demand
        if not open_:
            break
        chosen.append(min(open_, key=lambda offer: (in_zone[offer.zone], offer.price_usd_per_hour, offer.id)))
    return Mix(tuple(chosen), mix.reason)


def within_burn(mix: Mix, usd_per_hour: float) -> Mix:
    """The longest part of the mix, taken in order of importance, whose price stays within usd_per_hour."""
    kept: list[Offer] = []
    spent = 0.0
    for offer in mix.offers:
        if spent + offer.price_usd_per_hour <= usd_per_hour + 1e-9:
            kept.append(offer)
            spent += offer.price_usd_per_hour
    return Mix(tuple(kept), mix.reason)
