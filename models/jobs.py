"""Batch jobs and their attempts, as observed."""

from datetime import datetime

from sqlmodel import Field, SQLModel


class JobRow(SQLModel, table=True):
    __tablename__ = "job"
    id: str = Field(primary_key=True)
    name: str
    service: str = Field(index=True)
    tenant: str
    tier: str
    state: str = Field(index=True)
    offer_id: str
    gpu_count: int = 1
    price_usd_per_hour: float | None = None
    submitted_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    running_s: float = 0.0
    cost_usd: float | None = None
    progress_ratio: float | None = None
    progress_at: datetime | None = None
    checkpoints: bool = False
    attempts: int = 0
    cost_limit_usd: float | None = None
    expected_s: float | None = None
    projected_usd: float | None = None


class JobAttempt(SQLModel, table=True):
    """One run of a job on one offer, with the price paid."""

    __tablename__ = "job_attempt"
    id: int | None = Field(default=None, primary_key=True)
    job_id: str = Field(index=True)
    number: int
    offer_id: str
    price_usd_per_hour: float | None
    started_at: datetime
    ended_at: datetime | None = None
    running_s: float = 0.0
    cost_usd: float | None = None
    ended_why: str = ""
