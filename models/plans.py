"""Plans and their actions, written before anything is done."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column
from sqlmodel import Field, SQLModel


class PlanRow(SQLModel, table=True):
    """A decision: what was seen, what was wanted, which limit bound.

    A tick that changes nothing updates `held_until` of the last. `would_change`: replicas by offer that it would start
    (above 0) or release, where the mode let nothing be done. `would_by_offer`: what the planner would hold while the
    reactive net acts.
    """

    __tablename__ = "plan"
    id: str = Field(primary_key=True)
    service: str = Field(index=True)
    made_at: datetime = Field(index=True)
    held_until: datetime
    epoch: int
    policy: str
    envelope_version: int
    required: int
    stabilized: int
    desired: int
    observed_ready: int
    observed_coming: int
    desired_by_offer: dict[str, int] = Field(sa_column=Column(JSON, nullable=False))
    bound_limit: str
    bound_text: str
    reasons: list[dict[str, Any]] = Field(sa_column=Column(JSON, nullable=False))
    options: list[dict[str, Any]] = Field(sa_column=Column(JSON, nullable=False))
    numbers: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    prices: dict[str, float] = Field(sa_column=Column(JSON, nullable=False))
    shed: list[str] = Field(sa_column=Column(JSON, nullable=False))
    action_count: int = 0
    mode: str = "act"
    would_change: dict[str, int] | None = Field(default=None, sa_column=Column(JSON, nullable=True))
    would_by_offer: dict[str, int] | None = Field(default=None, sa_column=Column(JSON, nullable=True))


class ActionRow(SQLModel, table=True):
    """One thing done at most once. REQUESTED is committed before the backend is called."""

    __tablename__ = "action"
    id: str = Field(primary_key=True)
    plan_id: str | None = Field(default=None, index=True)
    kind: str
    service: str = Field(index=True)
    offer_id: str | None = None
    replica_id: str | None = None
    job_id: str | None = None
    reason: str
    status: str = Field(index=True)
    detail: str = ""
    epoch: int
    requested_at: datetime = Field(index=True)
    confirmed_at: datetime | None = None
