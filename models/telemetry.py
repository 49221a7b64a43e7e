"""Telemetry rolled up by the minute, and later by the hour; raw rows are pruned, roll-ups kept longer."""

from datetime import datetime

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, SQLModel


class DemandMinute(SQLModel, table=True):
    """One tier's minute (`step_s` 60), ten minutes (600) or hour (3600).

    `work_s`: reference execution seconds that arrived.
    """

    __tablename__ = "demand"
    __table_args__ = (UniqueConstraint("service", "tier", "step_s", "at"),)
    id: int | None = Field(default=None, primary_key=True)
    service: str = Field(index=True)
    tier: str
    step_s: int = 60
    at: datetime = Field(index=True)
    arrivals: int
    work_s: float
    started: int
    wait_mean_s: float | None = None
    wait_p95_s: float | None = None
    wait_max_s: float | None = None


class TermReading(SQLModel, table=True):
    """An envelope term as measured at a tick, about once a minute.

    Spend is the term "spend", in dollars of the clock hour.
    """

    __tablename__ = "term_reading"
    __table_args__ = (UniqueConstraint("service", "term", "at"),)
    id: int | None = Field(default=None, primary_key=True)
    service: str = Field(index=True)
    term: str
    at: datetime = Field(index=True)
    value: float | None
    limit: float | None
    forecast_p90: float | None = None
    status: str
    count: int = 0


class FleetMinute(SQLModel, table=True):
    """A pool (service × offer) about once a minute. `busy_ratio` None: nothing ready."""

    __tablename__ = "fleet_minute"
    __table_args__ = (UniqueConstraint("service", "offer_id", "at"),)
    id: int | None = Field(default=None, primary_key=True)
    service: str = Field(index=True)
    offer_id: str
    market: str
    at: datetime = Field(index=True)
    desired: int
    ready: int
    coming: int
    draining: int
    busy_ratio: float | None
    capacity: float
    usd_per_hour: float


class SpendHour(SQLModel, table=True):
    """Dollars accrued in a clock hour; the present hour is rewritten at each tick. `subject`: a service, or "jobs"."""

    __tablename__ = "spend_hour"
    __table_args__ = (UniqueConstraint("subject", "hour"),)
    id: int | None = Field(default=None, primary_key=True)
    subject: str
    hour: datetime = Field(index=True)
    usd: float
    cap_usd: float | None = None
