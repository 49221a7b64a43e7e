"""Forecasts as made, and how each model did afterwards."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column, UniqueConstraint
from sqlmodel import Field, SQLModel


class ForecastRow(SQLModel, table=True):
    """Quantile paths of offered load. `values[q]` is the path of `quantiles[q]`, first step at `start_at`."""

    __tablename__ = "forecast"
    __table_args__ = (UniqueConstraint("service", "tier", "step_s", "made_at"),)
    id: int | None = Field(default=None, primary_key=True)
    service: str = Field(index=True)
    tier: str
    step_s: int
    made_at: datetime = Field(index=True)
    start_at: datetime
    quantiles: list[float] = Field(sa_column=Column(JSON, nullable=False))
    values: list[list[float]] = Field(sa_column=Column(JSON, nullable=False))
    model: str
    reason: str
    numbers: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))


class ForecastScore(SQLModel, table=True):
    """A model's rolling score for one series and grid. `leads`: this one is used."""

    __tablename__ = "forecast_score"
    __table_args__ = (UniqueConstraint("service", "tier", "step_s", "model", "at"),)
    id: int | None = Field(default=None, primary_key=True)
    service: str = Field(index=True)
    tier: str
    step_s: int
    model: str
    at: datetime = Field(index=True)
    pinball: float | None
    wape: float | None
    coverage_p90: float | None
    origins: int
    leads: bool
    note: str = ""
