"""The ledger: who or what did which thing, when, why, with numbers. Kept, never pruned or edited."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column, UniqueConstraint
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


class SideBySide(SQLModel):
    """Four fleets through one model of the queue: as it was (`fleet`), as it was decided (`planned`, the same where
    decisions were carried out), a shadow HPA's, and the best in hindsight.

    `*_usd`: replicas; `*_slo_minutes`: all tiers; `*_miss_usd`: those minutes at their price. `saved_usd` is against
    the shadow, `regret_usd` against hindsight, `would_save_usd` what the decisions would have saved; misses are priced
    in all three. None: unknown.
    """

    fleet_usd: float | None = None
    fleet_slo_minutes: float | None = None
    fleet_miss_usd: float | None = None
    planned_usd: float | None = None
    planned_slo_minutes: float | None = None
    planned_miss_usd: float | None = None
    shadow_usd: float | None = None
    shadow_slo_minutes: float | None = None
    shadow_miss_usd: float | None = None
    hindsight_usd: float | None = None
    hindsight_slo_minutes: float | None = None
    hindsight_miss_usd: float | None = None
    saved_usd: float | None = None
    regret_usd: float | None = None
    would_save_usd: float | None = None


class Settlement(SideBySide, table=True):
    """One service's closed clock hour: what it cost, which terms held, and how that compares.

    `usd` and `slo_minutes` are measured, jobs included in the first. `planner_led`: the planner was asked in this hour,
    not the reactive net; `authority` says who is from here on (leads, reason, numbers). `overridden`: an operator's
    hand was on the service, so the hour says nothing of the planner.
    """

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
    slo_minutes: float | None = None
    unknown_minutes: int | None = None
    mode: str = "act"
    planner_led: bool = True
    overridden: bool = False
    authority: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    notes: str = ""


class DecisionSettlement(SideBySide, table=True):
    """A decision's part of a settled hour: from its plan, or the hour's beginning, until the next plan or its end."""

    __tablename__ = "decision_settlement"
    __table_args__ = (UniqueConstraint("plan_id", "hour"),)
    id: int | None = Field(default=None, primary_key=True)
    service: str = Field(index=True)
    plan_id: str = Field(index=True)
    hour: datetime = Field(index=True)
    from_at: datetime
    to_at: datetime
