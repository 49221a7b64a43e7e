"""Services, their tiers, and envelope versions. An envelope is never edited: a change is a new version."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column, UniqueConstraint
from sqlmodel import Field, SQLModel


class Service(SQLModel, table=True):
    """`mode`: how far Heddle may go for it, below the process's own; who set it, why and when."""

    __tablename__ = "service"
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True, index=True)
    mode: str = "act"
    mode_author: str = ""
    mode_reason: str = ""
    mode_at: datetime | None = None
    created_at: datetime


class Tier(SQLModel, table=True):
    """A tier of a service. Priority 0 is served first."""

    __tablename__ = "tier"
    __table_args__ = (UniqueConstraint("service", "name"),)
    id: int | None = Field(default=None, primary_key=True)
    service: str = Field(index=True)
    name: str
    priority: int
    tenants_percent: float


class EnvelopeVersion(SQLModel, table=True):
    """One version of the envelope; the greatest rules. `document` has the form of
    `controller.core.envelope.to_document`.
    """

    __tablename__ = "envelope_version"
    __table_args__ = (UniqueConstraint("service", "version"),)
    id: int | None = Field(default=None, primary_key=True)
    service: str = Field(index=True)
    version: int
    document: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    spend_cap_usd_per_hour: float | None = None
    author: str
    reason: str
    created_at: datetime
    intent_id: int | None = None
