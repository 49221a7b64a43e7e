"""What is known from outside: events that operators entered, signals, and what the backtest made of them."""

from datetime import datetime, timedelta
from typing import Any

import pandas as pd
from sqlalchemy import func
from sqlmodel import col, select

from dashboard.queries.read import brief, each, frame, pick, rows
from dashboard.queries.standing import read_standing
from models.forecasts import ForecastParameters
from models.signals import EventRow, SignalRow, SignalValue

SHOWN = 200


@brief
def read_events(cancelled: bool = False) -> pd.DataFrame:
    """Events of the service, the latest first, at most 200: id, name, kind, starts_at, ends_at, factor (None: of
    unknown size), author, reason, cancelled_at, cancelled_why.
    """
    statement: Any = select(EventRow).where(EventRow.service == read_standing().service)
    if not cancelled:
        statement = statement.where(col(EventRow.cancelled_at).is_(None))
    found = frame(statement.order_by(col(EventRow.starts_at).desc(), col(EventRow.id).desc()).limit(SHOWN))
    for name in ("starts_at", "ends_at", "cancelled_at"):
        found[name] = pd.to_datetime(found[name], utc=True)
    return found


def spans(since: datetime, until: datetime) -> list[tuple[datetime, datetime, str]]:
    """(from, until, name) of the events that touch a time, for a chart."""
    return [
        (row.starts_at, row.ends_at, str(row.name_))
        for row in each(read_events().rename(columns={"name": "name_"}))
        if row.starts_at < until and row.ends_at > since
    ]


@brief
def read_signals() -> pd.DataFrame:
    """Signals of the service by name: name, unit, known_ahead, stale_after_s, author, count, newest_at (None: no
    value), age_s against now and stale.

    The age is from the end of the newest value's step, as the forecaster counts it; a step is the usual distance.
    """
    standing = read_standing()
    newest = func.max(SignalValue.at).label("newest_at")
    oldest = func.min(SignalValue.at).label("oldest_at")
    statement = (
        pick(SignalRow, "id", "name", "unit", "known_ahead", "stale_after_s", "author")
        .add_columns(func.count(col(SignalValue.id)).label("count"), newest, oldest)
        .where(SignalRow.service == standing.service)
        .join(SignalValue, col(SignalValue.signal_id) == col(SignalRow.id), isouter=True)
        .group_by(col(SignalRow.id))
        .order_by(col(SignalRow.name))
    )
    found = frame(statement)
    found["newest_at"] = pd.to_datetime(found["newest_at"], utc=True)
    found["oldest_at"] = pd.to_datetime(found["oldest_at"], utc=True)
    apart_s = (found["newest_at"] - found["oldest_at"]).dt.total_seconds() / (found["count"] - 1).clip(lower=1)
    age_s = (pd.Timestamp(standing.now) - found["newest_at"]).dt.total_seconds() - apart_s
    found["age_s"] = age_s.clip(lower=0.0)
    found["stale"] = (found["age_s"] > found["stale_after_s"]) | found["newest_at"].isna()
    return found


@brief
def read_admissions() -> dict[str, list[dict[str, Any]]]:
    """By signal: what the last selection of each tier and grid made of it (tier, step_s, at, leader, admitted, gain,
    note). `gain` is the share of pinball loss saved, None where it wasn't measured.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    judged: Any = (
        pick(ForecastParameters, "tier", "step_s", "at", "leader")
        .add_columns(col(ForecastParameters.payload)["admissions"])  # the rest of the payload is large
        .where(ForecastParameters.service == read_standing().service)
        .order_by(col(ForecastParameters.tier), col(ForecastParameters.step_s))
    )
    told: list[Any] = list(rows(judged))
    for tier, step_s, at, leader, admissions in told:
        line = {"tier": tier, "step_s": step_s, "at": at, "leader": leader}
        for verdict in admissions or []:
            facts = {name: verdict.get(name) for name in ("admitted", "gain", "note")}
            found.setdefault(str(verdict.get("name")), []).append(line | facts)
    return found


def upcoming(found: pd.DataFrame, now: datetime) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Events in progress or ahead, the next first, and those past, the latest first."""
    ahead = found["ends_at"] > now
    return found[ahead].iloc[::-1], found[~ahead]


def until_default(now: datetime) -> tuple[datetime, datetime]:
    """The next full hour and a day later: where a new event begins."""
    start = (now + timedelta(hours=1)).replace(minute=0, second=0, microsecond=0)
    return start, start + timedelta(days=1)
