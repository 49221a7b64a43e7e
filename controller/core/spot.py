"""Spot by what was seen of it: a zone's hazard, what an hour in it is worth, where to serve, what stands behind.

A zone's losses are taken for a Poisson process whose rate changes slowly: what was seen counts half after a week. The
rate is unknown, so it has a gamma distribution: before anything was seen one loss in two hours; after, the losses and
hours seen are added (the conjugate posterior).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from controller.core.types import Offer, Reason
from models.enums import Limit

HALF_LIFE_S = 7 * 86400.0
PRIOR_LOSSES = 1.0
PRIOR_PER_HOUR = 0.5


@dataclass(frozen=True, slots=True)
class Hazard:
    """Losses of a zone per hour of holding something in it: mean and standard deviation of what is believed."""

    per_hour: float
    sd_per_hour: float


@dataclass(frozen=True, slots=True)
class ZoneRecord:
    """What has been seen of spot in a zone. Counts and hours decay; `at_s` is until when.

    `held_h`: hours in which at least one replica was held; `losses`: events in which the zone took replicas back, not
    replicas, since a zone takes them together. `up`: what was last seen of it, None: nothing. `seen_up_s`: when it was
    last seen to be up without a loss or refusal since.
    """

    at_s: float
    held_h: float = 0.0
    losses: float = 0.0
    starts: float = 0.0
    refusals: float = 0.0
    up: bool | None = None
    seen_s: float = -math.inf
    seen_up_s: float | None = None

    def started(self, now_s: float) -> "ZoneRecord":
        """A start was accepted."""
        now = self._decayed(now_s)
        return replace(now, starts=now.starts + 1, up=True, seen_s=now_s, seen_up_s=now_s)

    def refused(self, now_s: float) -> "ZoneRecord":
        """A start was refused. Had it been seen up before, it was lost in between, whoever held it."""
        now = self._decayed(now_s)
        fell = self.seen_up_s is not None
        hours = 0.0 if self.seen_up_s is None else (now_s - self.seen_up_s) / 3600
        return replace(
            now,
            refusals=now.refusals + 1,
            losses=now.losses + fell,
            held_h=now.held_h + hours,
            up=False,
            seen_s=now_s,
            seen_up_s=None,
        )

    def held(self, now_s: float) -> "ZoneRecord":
        """Something was held in it from `at_s` until now."""
        now = self._decayed(now_s)
        return replace(now, held_h=now.held_h + (now_s - self.at_s) / 3600, up=True, seen_s=now_s, seen_up_s=now_s)

    def lost(self, now_s: float) -> "ZoneRecord":
        """It took back what was held until now; `held` has been told of the time."""
        now = self._decayed(now_s)
        return replace(now, losses=now.losses + 1, up=False, seen_s=now_s, seen_up_s=None)

    def hazard(self, now_s: float) -> Hazard:
        now = self._decayed(now_s)
        shape = PRIOR_LOSSES + now.losses
        hours = PRIOR_LOSSES / PRIOR_PER_HOUR + now.held_h
        return Hazard(shape / hours, math.sqrt(shape) / hours)

    def _decayed(self, now_s: float) -> "ZoneRecord":
        keep = 0.5 ** (max(0.0, now_s - self.at_s) / HALF_LIFE_S)
        return replace(
            self,
            at_s=max(now_s, self.at_s),
            held_h=self.held_h * keep,
            losses=self.losses * keep,
            starts=self.starts * keep,
            refusals=self.refusals * keep,
        )


def worth_usd_per_hour(offer: Offer, hazard: Hazard, restart_usd: float, instead_usd_per_hour: float) -> float:
    """What an hour of a replica of the offer saves against paying `instead_usd_per_hour` for the same speed.

    `restart_usd`: what a loss costs, all told (the boot that is paid again, the work, the wait). Below 0: not worth it.
    """
    return instead_usd_per_hour - offer.price_usd_per_hour - hazard.per_hour * restart_usd


@dataclass(frozen=True, slots=True)
class Place:
    """Spot of one zone as it can be had: the offer and the zone's record."""

    offer: Offer
    record: ZoneRecord


@dataclass(frozen=True, slots=True)
class Ranked:
    """Offers to ask for spot, best first, what an hour of each saves, and whether a spare of the best is worth it."""

    offer_ids: tuple[str, ...]
    worth_usd_per_hour: tuple[float, ...]
    spare: bool
    reason: Reason


def rank_places(
    places: Sequence[Place],
    on_demand_usd_per_hour: float,
    cold_start_s: float,
    short_usd_per_hour: float,
    now_s: float,
) -> Ranked:
    """Where to hold replicas that must always be there: the places that are worth it, best first.

    All of them go to the first that accepts: over two zones as many replicas are lost in an hour, in twice as many
    events. A loss costs a boot and, for as long as a cold start takes, a replica less, at `short_usd_per_hour`. A spare
    in another zone is held only where it is cheaper than being short without it.
    """
    cold_h = cold_start_s / 3600
    found = []
    for place in places:
        hazard = place.record.hazard(now_s)
        restart = cold_h * (place.offer.price_usd_per_hour + short_usd_per_hour)
        worth = worth_usd_per_hour(place.offer, hazard, restart, on_demand_usd_per_hour)
        found.append((worth, place.offer, hazard))
    found.sort(key=lambda entry: (-entry[0], entry[1].id))
    worthy = [entry for entry in found if entry[0] > 0]
    if not worthy:
        text = f"no spot is worth it: on demand at ${on_demand_usd_per_hour:.2f}/h costs less than its losses"
        return Ranked((), (), False, Reason(Limit.NO_CAPACITY, text, {"places": len(places)}))
    worth, offer, hazard = worthy[0]
    short = hazard.per_hour * cold_h * short_usd_per_hour
    spare = len(worthy) > 1 and short > worthy[1][1].price_usd_per_hour
    text = (
        f"{offer.zone} first: lost {hazard.per_hour:.2f} ± {hazard.sd_per_hour:.2f} times an hour, "
        f"worth ${worth:.2f}/h against on demand; a spare {'pays' if spare else 'would cost more than being short'}"
    )
    numbers = {"hazard_per_hour": hazard.per_hour, "worth_usd_per_hour": worth, "short_usd_per_hour": short}
    ids, values = tuple(entry[1].id for entry in worthy), tuple(entry[0] for entry in worthy)
    return Ranked(ids, values, spare, Reason(Limit.NONE, text, numbers))


def on_demand_behind(need: int, spot_ready: int, spot_coming: int, on_demand_held: int) -> int:
    """On-demand replicas to hold behind spot: what spot that serves or boots doesn't cover, and what is there already
    until spot serves. None is started beside spot that boots as fast.
    """
    return max(0, need - spot_ready - spot_coming, min(on_demand_held, need - spot_ready))
