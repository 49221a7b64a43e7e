"""Pools by the minute, and the offers they are made of."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.core.types import Offer, OfferStanding, Replica
from controller.store.convert import finite, floored, moment, moment_or_none
from controller.store.ledger import Ledger
from models.enums import Market, ReplicaState
from models.offers import OfferRow
from models.telemetry import FleetMinute

_MARKETS = frozenset(market.value for market in Market)
_COMING = (ReplicaState.BOOTING, ReplicaState.LOADING)


@dataclass(frozen=True, slots=True)
class PoolMinute:
    """A pool (service × offer) at at_s. `capacity`: reference GPUs ready, replicas × speed.

    `busy_ratio` is None where none is ready.
    """

    service: str
    offer_id: str
    at_s: float
    desired: int
    ready: int
    coming: int
    draining: int
    busy_ratio: float | None
    capacity: float
    usd_per_hour: float


def pool_minutes(
    service: str,
    at_s: float,
    replicas: Sequence[Replica],
    desired_by_offer: Mapping[str, int],
    offers: Mapping[str, Offer],
) -> tuple[PoolMinute, ...]:
    """A service's pools that have replicas or shall. An offer that `offers` lacks counts as speed 1 and no dollars.

    Every replica present is billed, one that boots or drains too.
    """
    pools: dict[str, list[Replica]] = {offer_id: [] for offer_id, count in desired_by_offer.items() if count}
    for replica in replicas:
        if replica.service == service:
            pools.setdefault(replica.offer_id, []).append(replica)
    minutes: list[PoolMinute] = []
    for offer_id, members in sorted(pools.items()):
        states = Counter(member.state for member in members)
        serving = [member for member in members if member.state is ReplicaState.READY]
        offer = offers.get(offer_id)
        minutes.append(
            PoolMinute(
                service=service,
                offer_id=offer_id,
                at_s=at_s,
                desired=desired_by_offer.get(offer_id, 0),
                ready=len(serving),
                coming=sum(states[state] for state in _COMING),
                draining=states[ReplicaState.DRAINING],
                busy_ratio=sum(member.busy for member in serving) / len(serving) if serving else None,
                capacity=len(serving) * (offer.speed_ratio if offer else 1.0),
                usd_per_hour=len(members) * (offer.price_usd_per_hour if offer else 0.0),
            )
        )
    return tuple(minutes)


class Pools(Ledger):
    """A pool is service × offer. What did not change is not written."""

    _pool_minute: dict[tuple[str, str], float] | None = None
    _offers: dict[str, tuple[Any, ...]] | None = None

    def record_fleet(self, minutes: Sequence[PoolMinute]) -> None:
        """At most one row a pool and minute, stamped with the minute's start; the first reading of a minute stays."""
        with self._lock:
            written = self._pool_minute = self._pool_minute or {}
            rows: list[dict[str, Any]] = []
            for pool in minutes:
                at_s, key = floored(pool.at_s, 60.0), (pool.service, pool.offer_id)
                if written.get(key) == at_s:
                    continue
                written[key] = at_s
                rows.append(
                    {
                        "service": pool.service,
                        "offer_id": pool.offer_id,
                        "market": market_of(pool.offer_id),
                        "at": moment(at_s),
                        "desired": pool.desired,
                        "ready": pool.ready,
                        "coming": pool.coming,
                        "draining": pool.draining,
                        "busy_ratio": finite(pool.busy_ratio),
                        "capacity": pool.capacity,
                        "usd_per_hour": pool.usd_per_hour,
                    }
                )
            if rows:
                with self._write():
                    for row in rows:
                        self._pending.put(FleetMinute, row)

    def record_offers(self, standings: Sequence[OfferStanding], problems: Mapping[str, str], now_s: float) -> int:
        """Upserts the offers whose standing changed and returns how many. `problems`: offer id → why it fails closed.

        `read_at` is when the row last changed. An offer named in `problems` alone, with no standing, is not written:
        there is nothing to show of it but the problem, which its reader enters.
        """
        with self._lock:
            image = self._offers = self._offers or {}
            rows: list[dict[str, Any]] = []
            for standing in standings:
                offer = standing.offer
                why_not = problems.get(offer.id) or standing.why_not
                usable = standing.usable and offer.id not in problems
                price = finite(offer.price_usd_per_hour)
                seen = (offer, usable, why_not, standing.refused_s, standing.lost_s)
                if image.get(offer.id) == seen:
                    continue
                image[offer.id] = seen
                rows.append(
                    {
                        "id": offer.id,
                        "provider": offer.provider,
                        "region": offer.region,
                        "zone": offer.zone,
                        "instance_type": offer.instance_type,
                        "gpu": offer.gpu,
                        "gpu_count": offer.gpu_count,
                        "market": offer.market.value,
                        "price_usd_per_hour": price,
                        "speed_ratio": offer.speed_ratio,
                        "usable": usable,
                        "why_not": why_not,
                        "read_at": moment(now_s),
                        "refused_at": moment_or_none(standing.refused_s),
                        "lost_at": moment_or_none(standing.lost_s),
                    }
                )
            if rows:
                with self._write():
                    for row in rows:
                        self._pending.put(OfferRow, row)
            return len(rows)

    def _forget(self) -> None:
        self._pool_minute = self._offers = None
        super()._forget()


def market_of(offer_id: str) -> str:
    """The market in an offer's id, "g5.xlarge/usw2-az1/spot"; on demand where it names none."""
    word = offer_id.rpartition("/")[2]
    return word if word in _MARKETS else Market.ON_DEMAND.value
