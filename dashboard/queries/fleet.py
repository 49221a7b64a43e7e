"""The fleet now: pools, money, zones, and what needs a person's attention."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd
from sqlmodel import col, func, select

from dashboard.queries.read import brief, first, frame, pick, rows
from dashboard.queries.standing import read_standing
from models.enums import JobState, ReplicaState
from models.fleet import ReplicaRow
from models.jobs import JobRow
from models.offers import OfferRow
from models.telemetry import FleetMinute, SpendHour


@dataclass(frozen=True)
class Money:
    """Dollars.

    The clock hour's accrual and what it will be at its end; today and month to date, UTC days. None: unknown.
    """

    hour_start: datetime
    accrued: float | None
    expected: float | None
    replicas_per_hour: float | None
    jobs_per_hour: float | None
    today: float | None
    month: float | None

    @property
    def per_hour(self) -> float | None:
        if self.replicas_per_hour is None and self.jobs_per_hour is None:
            return None
        return (self.replicas_per_hour or 0.0) + (self.jobs_per_hour or 0.0)


@brief
def read_money() -> Money:
    """Spend as booked: hours from `spend_hour`, the burn from the pools and the jobs that run."""
    standing = read_standing()
    now = standing.now
    hour = now.replace(minute=0, second=0, microsecond=0)
    day, month = hour.replace(hour=0), hour.replace(hour=0, day=1)

    def booked(since: datetime) -> float | None:
        row = first(select(func.sum(SpendHour.usd).label("usd")).where(SpendHour.hour >= since, SpendHour.hour <= now))
        return None if row is None or row.usd is None else float(row.usd)

    pools = read_pools()
    running = first(
        select(func.sum(JobRow.price_usd_per_hour).label("usd"), func.count().label("n")).where(
            JobRow.state == JobState.RUNNING.value
        )
    )
    replicas = float(pools["usd_per_hour"].sum()) if not pools.empty else None
    jobs = None if running is None or (running.n and running.usd is None) else float(running.usd or 0.0)
    if replicas is None and not (running and running.n):
        jobs = None
    accrued = booked(hour)
    spend = standing.term("spend")
    expected = spend.forecast_p90 if spend and spend.forecast_p90 is not None and spend.at >= hour else None
    if expected is None and accrued is not None and replicas is not None:
        expected = accrued + (replicas + (jobs or 0.0)) * (1 - (now - hour).total_seconds() / 3600)
    return Money(hour, accrued, expected, replicas, jobs, booked(day), booked(month))


@brief
def read_pools() -> pd.DataFrame:
    """A row an offer that is wanted or held, as of the newest minute.

    Columns: offer, gpu, instance_type, zone, market, desired, ready, coming, draining, busy_ratio,
    price, usd_per_hour, lost_24h.
    """
    standing = read_standing()
    columns = ["offer_id", "market", "desired", "ready", "coming", "draining", "busy_ratio", "usd_per_hour"]
    newest = first(
        select(func.max(FleetMinute.at).label("at")).where(
            FleetMinute.service == standing.service, FleetMinute.at <= standing.now
        )
    )
    if newest is None or newest.at is None:
        return pd.DataFrame(columns=[*columns, "gpu", "instance_type", "zone", "price", "lost_24h"])
    pools = frame(
        select(*(getattr(FleetMinute, name) for name in columns)).where(
            FleetMinute.service == standing.service, FleetMinute.at == newest.at
        )
    )
    pools = pools[pools[["desired", "ready", "coming", "draining"]].sum(axis=1) > 0]
    offers = frame(pick(OfferRow, "id", "gpu", "instance_type", "zone", "price_usd_per_hour"))
    lost = frame(
        select(ReplicaRow.offer_id, func.count().label("lost_24h"))
        .where(
            ReplicaRow.state == ReplicaState.LOST.value, col(ReplicaRow.ended_at) >= standing.now - timedelta(hours=24)
        )
        .group_by(col(ReplicaRow.offer_id))
    )
    pools = pools.merge(
        offers.rename(columns={"id": "offer_id", "price_usd_per_hour": "price"}), on="offer_id", how="left"
    )
    pools = pools.merge(lost, on="offer_id", how="left")
    pools["lost_24h"] = pools["lost_24h"].fillna(0).astype(int)
    return pools.sort_values(["usd_per_hour", "ready"], ascending=False, ignore_index=True)


def zones() -> list[str]:
    """Zones in which something may be bought."""
    return sorted({str(row.zone) for row in rows(select(OfferRow.zone).distinct()) if row.zone})


def cheapest_usd_per_hour() -> float | None:
    """The lowest price of a usable offer."""
    row = first(select(func.min(OfferRow.price_usd_per_hour).label("usd")).where(col(OfferRow.usable)))
    return None if row is None or row.usd is None else float(row.usd)


@dataclass(frozen=True)
class Fleet:
    """Replicas over all pools, and what one costs an hour in the present mix."""

    desired: int
    ready: int
    coming: int
    draining: int
    usd_per_replica_hour: float | None


def read_fleet() -> Fleet:
    """Sums over `read_pools`."""
    pools = read_pools()
    held = int(pools["ready"].sum() + pools["coming"].sum()) if not pools.empty else 0
    each = float(pools["usd_per_hour"].sum()) / held if held else cheapest_usd_per_hour()
    sums = {
        name: int(pools[name].sum()) if not pools.empty else 0 for name in ("desired", "ready", "coming", "draining")
    }
    return Fleet(usd_per_replica_hour=each, **sums)
