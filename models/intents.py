"""What operators ask for. `new_intent` is the one constructor: the dashboard and the HTTP API both use it.

An intent is a request, not a fact: the controller's next tick applies or refuses it and says why.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column
from sqlmodel import Field, SQLModel

from models.enums import IntentKind, IntentStatus


class Intent(SQLModel, table=True):
    __tablename__ = "intent"
    id: int | None = Field(default=None, primary_key=True)
    kind: str = Field(index=True)
    service: str = Field(default="", index=True)
    payload: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    author: str
    reason: str
    created_at: datetime = Field(index=True)
    status: str = Field(default=IntentStatus.PENDING.value, index=True)
    status_reason: str = ""
    settled_at: datetime | None = None


class OverrideRow(SQLModel, table=True):
    """A pin, freeze, pause or relaxed cap in force until `ends_at`, or `ended_at` if it ended early."""

    __tablename__ = "override"
    id: int | None = Field(default=None, primary_key=True)
    service: str = Field(index=True)
    kind: str
    replicas: int | None = None
    author: str
    reason: str
    starts_at: datetime
    ends_at: datetime = Field(index=True)
    ended_at: datetime | None = None
    ended_why: str = ""
    signed_over_cap: bool = False
    cap_usd_per_hour: float | None = None
    intent_id: int | None = None


def new_intent(
    kind: IntentKind,
    *,
    author: str,
    reason: str,
    created_at: datetime,
    service: str = "",
    payload: dict[str, Any] | None = None,
) -> Intent:
    """A pending intent. `created_at` is the controller's virtual now. ValueError when author or reason is blank."""
    if not author.strip():
        raise ValueError("an intent needs an author")
    if not reason.strip():
        raise ValueError("an intent needs a reason: it is kept in the ledger")
    return Intent(
        kind=kind.value,
        service=service,
        payload=payload or {},
        author=author.strip(),
        reason=reason.strip(),
        created_at=created_at,
    )
