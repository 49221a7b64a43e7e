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


class ForecastParameters(SQLModel, table=True):
    """What one line of forecasts (a series on a grid) has learned, so that a restarted controller goes on with it."""

    __tablename__ = "forecast_parameters"
    __table_args__ = (UniqueConstraint("service", "tier", "step_s"),)
    id: int | None = Field(default=None, primary_key=True)
    service: str = Field(index=True)
    tier: str
    step_s: int
    at: datetime
    leader: str
    payload: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))


class ForecastStanding(SQLModel, table=True):
    """How one line of forecasts stands now: who leads and who serves, and what came of what was issued.

    `coverage`: for each horizon its `ahead_s` and the shares of steps at or below the quantiles 0.8, 0.9, 0.95, as the
    model gave them (`raw`) and as they were issued (`issued`); null: nothing came true yet. `pinball` is the leader's
    in the backtest, `live_*` are over the last `window_h` hours.
    """

    __tablename__ = "forecast_standing"
    __table_args__ = (UniqueConstraint("service", "tier", "step_s"),)
    id: int | None = Field(default=None, primary_key=True)
    service: str = Field(index=True)
    tier: str
    step_s: int
    at: datetime
    leader: str
    serving: str
    pinball: float | None
    live_pinball: float | None
    live_naive_pinball: float | None
    live_points: int
    window_h: float
    coverage: list[dict[str, Any]] = Field(sa_column=Column(JSON, nullable=False))
    signals: list[str] = Field(sa_column=Column(JSON, nullable=False))
    signals_dropped: str
    fitted_at: datetime | None
    selected_at: datetime | None
    history_s: float | None
    judgement: str
