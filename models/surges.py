"""Surges that the slow forecast knows of, and what became of them."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column, UniqueConstraint
from sqlmodel import Field, SQLModel


class SurgeRow(SQLModel, table=True):
    """An interval that needs more than is there. GPUs are of the reference; `level` and `expected` are loads."""

    __tablename__ = "surge"
    __table_args__ = (UniqueConstraint("service", "start_at"),)
    id: int | None = Field(default=None, primary_key=True)
    service: str = Field(index=True)
    start_at: datetime
    end_at: datetime = Field(index=True)
    peak_at: datetime
    provision_by: datetime
    made_at: datetime
    tiers: str
    need_gpus: float
    ready_gpus: float
    coming_gpus: float
    level: float
    expected: float
    observed: float | None
    status: str
    evidence: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))


class SurgeLook(SQLModel, table=True):
    """The last look ahead of a service. `until` None: there was no slow forecast, so nothing is known."""

    __tablename__ = "surge_look"
    __table_args__ = (UniqueConstraint("service"),)
    id: int | None = Field(default=None, primary_key=True)
    service: str
    at: datetime
    until: datetime | None
    ready_gpus: float
    coming_gpus: float
    highest_gpus: float | None
