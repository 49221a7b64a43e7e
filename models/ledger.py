"""The ledger: who or what did which thing, when, why, with numbers. Kept, never pruned or edited."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column
from sqlmodel import Field, SQLModel


class LedgerEntry(SQLModel, table=True):
    __tablename__ = "ledger_entry"
    id: int | None = Field(default=None, primary_key=True)
    at: datetime = Field(index=True)
    kind: str = Field(index=True)
    service: str = Field(default="", index=True)
    actor: str
    subject: str
    what: str
    why: str = ""
    numbers: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    plan_id: str | None = Field(default=None, index=True)
    intent_id: int | None = Field(default=None, index=True)
    epoch: int = 0


class Settlement(SQLModel, table=True):
    """One service's closed clock hour: what it cost and which terms held."""

    __tablename__ = "settlement"
    id: int | None = Field(default=None, primary_key=True)
    service: str = Field(index=True)
    hour: datetime = Field(index=True)
    usd: float
    cap_usd: float | None
    within_cap: bool | None
    requests: int
    tiers: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    text: str
