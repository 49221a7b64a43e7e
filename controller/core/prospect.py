"""What a drafted envelope is judged by: the forecast of the next day, the minutes behind it, offers and the fleet.

One value for the page and the controller, so that both come to the same probability.
"""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from controller.core.capacity import cumulative, execution
from controller.core.mix import price_known, spot_usable
from controller.core.plan import speeds, staying
from controller.core.series import clip
from controller.core.slow_grid import SLOW_STEPS_S
from controller.core.types import Envelope, FloatArray, Observation, Offer, OfferStanding, Series
from models.enums import Market

HISTORY_S = 7 * 86400.0
STALE_S = 3 * 3600.0
"""A prospect older than this is of another day: nothing is judged by it."""
MINUTE_S = 60.0

# How the fields are kept: as they are, as lists, and those of an offer and its standing.
_PLAIN = (
    "service", "now_s", "tier_salt", "start_s", "step_s", "minutes_end_s", "capacity", "accrued_usd",
    "jobs_usd_per_hour", "lead_s", "work_mean_s", "work_scv",
)  # fmt: skip
_LISTS = ("tiers", "shares_percent", "quantiles", "waiting")
_OFFER = (
    "id", "provider", "region", "zone", "instance_type", "gpu", "gpu_count", "price_usd_per_hour", "speed_ratio",
)  # fmt: skip
_STANDING = ("usable", "why_not", "refused_s", "lost_s", "notice", "hazard_per_hour")


@dataclass(frozen=True, slots=True)
class Prospect:
    """What is known at `now_s` of the next day. Loads in reference GPUs.

    `loads` (tiers, quantiles, steps): the forecast of tiers 0…k together, first step at `start_s`; None: unknown.
    `minutes` (tiers, n): each tier's own load, measured until `minutes_end_s`, at most a week; gaps are NaN.
    `waiting`: each tier's waiting work in GPU-minutes; `capacity`: reference GPUs that stay; `lead_s`: from asking for
    a replica to its serving; `accrued_usd`: of the present clock hour; `jobs_usd_per_hour`: what jobs burn now.
    """

    service: str
    now_s: float
    tiers: tuple[str, ...]
    shares_percent: tuple[float, ...]
    tier_salt: str
    start_s: float
    step_s: float
    quantiles: tuple[float, ...]
    loads: FloatArray | None
    minutes_end_s: float
    minutes: FloatArray
    offers: tuple[OfferStanding, ...]
    waiting: tuple[float, ...]
    capacity: float
    accrued_usd: float
    jobs_usd_per_hour: float
    lead_s: float
    work_mean_s: float
    work_scv: float

    def joined(self, k: int) -> Series:
        """The measured load of tiers 0…k together, a minute with a gap in any of them a gap."""
        start_s = self.minutes_end_s - MINUTE_S * self.minutes.shape[1]
        return Series(start_s, MINUTE_S, self.minutes[: k + 1].sum(axis=0))

    def stale(self, now_s: float) -> bool:
        """Is it too old at now_s to judge by?"""
        return now_s - self.now_s > STALE_S

    def why_nothing(self) -> str:
        """Why nothing can be said of any envelope; empty: something can."""
        if self.loads is None:
            return "there is no forecast of the next day yet"
        if not np.isfinite(self.minutes).any():
            return "no minute of load has been measured yet"
        if not any(self._sold(each) for each in self.offers):
            return "no offer can be bought at a known price"
        return ""

    def _sold(self, standing: OfferStanding) -> bool:
        """Can a replica be started on the offer now, at a price that a budget can count?"""
        market = standing.offer.market
        startable = market is Market.ON_DEMAND or (market is Market.SPOT and not spot_usable(standing, self.now_s))
        return price_known(standing) and startable

    def why_unknown(self, envelope: Envelope) -> str:
        """Why nothing can be said of this envelope; empty: something can."""
        if nothing := self.why_nothing():
            return nothing
        asked = tuple(tier.name for tier in envelope.tiers)
        if asked != self.tiers:
            return f"the forecast is of the tiers {', '.join(self.tiers)}, not of {', '.join(asked)}"
        shares = tuple(tier.tenants_percent for tier in envelope.tiers)
        if shares != self.shares_percent or envelope.tier_salt != self.tier_salt:
            return "the tenants would be in other tiers than those that are forecast"
        return ""


def prospect_of(seen: Observation) -> Prospect:
    """From what a tick saw. A fact that is missing stays unknown."""
    tiers = seen.envelope.tiers
    start_s, step_s, quantiles, loads = _forecast(seen)
    names = [tier.name for tier in tiers]
    minutes_end_s, minutes = seen.now_s, np.empty((len(tiers), 0))
    if names and all(name in seen.load for name in names):
        parts = [clip(seen.load[name], seen.now_s - HISTORY_S, seen.now_s) for name in names]
        count = min(len(part.values) for part in parts)
        minutes = np.stack([part.values[len(part.values) - count :] for part in parts])
        minutes_end_s = parts[0].end_s
    queues = {queue.tier: queue.backlog_s / MINUTE_S for queue in seen.queues}
    speed = speeds(seen)
    work_s, scv = execution(seen)
    return Prospect(
        service=seen.service,
        now_s=seen.now_s,
        tiers=tuple(names),
        shares_percent=tuple(tier.tenants_percent for tier in tiers),
        tier_salt=seen.envelope.tier_salt,
        start_s=start_s,
        step_s=step_s,
        quantiles=quantiles,
        loads=loads,
        minutes_end_s=minutes_end_s,
        minutes=minutes,
        offers=seen.offers,
        waiting=tuple(queues.get(name, 0.0) for name in names),
        capacity=sum(speed[replica.offer_id] for replica in staying(seen)),
        accrued_usd=seen.spend.accrued_usd,
        jobs_usd_per_hour=seen.spend.jobs_usd_per_hour,
        lead_s=seen.boot_s + seen.load_model_s,
        work_mean_s=work_s,
        work_scv=scv,
    )


def _forecast(seen: Observation) -> tuple[float, float, tuple[float, ...], FloatArray | None]:
    """The finest slow grid on which the tiers are forecast, joined by priority."""
    tiers = seen.envelope.tiers
    for step_s in SLOW_STEPS_S:
        found = [seen.forecasts.get((cumulative(tiers, k), step_s)) for k in range(len(tiers))]
        known = [each for each in found if each is not None and np.isfinite(each.values).all()]
        if not known or len(known) < len(found) or len({(each.start_s, each.values.shape) for each in known}) > 1:
            continue
        loads = np.maximum.accumulate(np.stack([np.maximum(each.values, 0.0) for each in known]), axis=0)
        return known[0].start_s, step_s, known[0].quantiles, loads
    return seen.now_s, SLOW_STEPS_S[0], (), None


def packed(prospect: Prospect) -> tuple[dict[str, Any], bytes]:
    """A document of JSON's kinds, and the minutes as compressed float32, for keeping. Loads are kept to four digits."""
    offers = [
        {
            **{name: getattr(each.offer, name) for name in _OFFER},
            "market": each.offer.market.value,
            **{name: getattr(each, name) for name in _STANDING},
        }
        for each in prospect.offers
    ]
    document = {name: getattr(prospect, name) for name in _PLAIN}
    document |= {name: list(getattr(prospect, name)) for name in _LISTS}
    loads = None if prospect.loads is None else np.round(prospect.loads, 4).tolist()
    document |= {"loads": loads, "offers": offers, "tier_count": prospect.minutes.shape[0]}
    return document, zlib.compress(np.round(prospect.minutes, 3).astype("<f4").tobytes())


def unpacked(document: Mapping[str, Any], minutes: bytes) -> Prospect:
    """The prospect that was packed. ValueError or KeyError for anything else."""
    offers = tuple(
        OfferStanding(
            Offer(**{name: _number_or_nan(name, each[name]) for name in _OFFER}, market=Market(each["market"])),
            **{name: each[name] for name in _STANDING},
        )
        for each in document["offers"]
    )
    loads = document["loads"]
    values = np.frombuffer(zlib.decompress(minutes), "<f4").astype(np.float64)
    facts: dict[str, Any] = {name: document[name] for name in _PLAIN}
    facts |= {name: tuple(document[name]) for name in _LISTS}
    return Prospect(
        **facts,
        loads=None if loads is None else np.array(loads, np.float64),
        minutes=values.reshape(int(document["tier_count"]), -1),
        offers=offers,
    )


def _number_or_nan(name: str, value: Any) -> Any:
    """JSON has no NaN: a price that is not known is kept as null."""
    return math.nan if name == "price_usd_per_hour" and value is None else value
