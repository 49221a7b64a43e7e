"""What is known of a service from outside: series that somebody pushes or uploads, and events that operators enter."""

from datetime import datetime

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field, SQLModel


class SignalRow(SQLModel, table=True):
    """An outside series of a service. `known_ahead`: its future values are known too, as with bookings or a plan.

    `revision` counts the writes that changed it, so that a reader fetches only what is new.
    """

    __tablename__ = "signal"
    __table_args__ = (UniqueConstraint("service", "name"),)
    id: int | None = Field(default=None, primary_key=True)
    service: str = Field(index=True)
    name: str
    unit: str = ""
    known_ahead: bool = False
    stale_after_s: float
    author: str
    created_at: datetime
    revision: int = 0


class SignalValue(SQLModel, table=True):
    """A signal's value at a time. It covers what follows, until the next; a value that isn't known has no row."""

    __tablename__ = "signal_value"
    __table_args__ = (UniqueConstraint("signal_id", "at"), Index("ix_signal_value_revision", "signal_id", "revision"))
    id: int | None = Field(default=None, primary_key=True)
    signal_id: int
    at: datetime = Field(index=True)
    value: float
    revision: int


class EventRow(SQLModel, table=True):
    """A campaign, a holiday, a launch. `factor`: demand in it, times the usual; None: of unknown size."""

    __tablename__ = "event"
    id: int | None = Field(default=None, primary_key=True)
    service: str = Field(index=True)
    name: str
    kind: str
    starts_at: datetime = Field(index=True)
    ends_at: datetime = Field(index=True)
    factor: float | None = None
    author: str
    reason: str
    created_at: datetime
    cancelled_at: datetime | None = None
    cancelled_why: str = ""
    intent_id: int | None = None
