"""Guardrail rules (versioned) and what they did, each with its evidence."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column, UniqueConstraint
from sqlmodel import Field, SQLModel


class GuardrailRule(SQLModel, table=True):
    """A limit on jobs. The greatest version of a name rules. Threshold units follow the metric: dollars or seconds.

    A null threshold of cost or projected_cost means the job's own `cost_limit_usd`.
    """

    __tablename__ = "guardrail_rule"
    __table_args__ = (UniqueConstraint("name", "version"),)
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(index=True)
    version: int = 1
    metric: str
    threshold: float | None
    action: str
    grace_s: float
    dry_run: bool = False
    enabled: bool = True
    author: str
    reason: str
    created_at: datetime


class GuardrailEvent(SQLModel, table=True):
    """A verdict. Written before the act (`status` requested), completed after it."""

    __tablename__ = "guardrail_event"
    id: int | None = Field(default=None, primary_key=True)
    at: datetime = Field(index=True)
    job_id: str = Field(index=True)
    rule: str
    rule_version: int
    action: str
    dry_run: bool
    text: str
    evidence: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    action_id: str | None = Field(default=None, unique=True)
    status: str
    detail: str = ""
    confirmed_at: datetime | None = None
