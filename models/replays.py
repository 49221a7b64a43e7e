"""What-if runs: what was asked to be replayed, how far it is, and what came of it."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column
from sqlmodel import Field, SQLModel

from models.enums import ReplayStatus


class ReplayRun(SQLModel, table=True):
    """One run. `spec`: a document of `controller.core.what_if`. `summary`: `controller.replay.Summary`; `hourly_usd`:
    the dollars of each clock hour from the window's start. Both are null until it is done.

    `asked_at` is of the controller's clock; `started_at` and `finished_at` are wall time, since they say how long it
    took. `attempts`: how often it began. `baseline`: today's envelope at the time, and offers as they were, for others
    to be compared with. `status_reason`: why it failed, was cancelled or waits again.
    """

    __tablename__ = "replay_run"
    id: int | None = Field(default=None, primary_key=True)
    service: str = Field(index=True)
    spec: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    baseline: bool = False
    author: str
    reason: str
    intent_id: int | None = None
    asked_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    status: str = Field(default=ReplayStatus.PENDING.value, index=True)
    status_reason: str = ""
    attempts: int = 0
    progress_ratio: float = 0.0
    cpu_s: float | None = None
    summary: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=True))
    hourly_usd: list[float] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=True))
