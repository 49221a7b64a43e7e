"""What-if runs, and how far back the record goes that they can replay."""

from datetime import datetime
from typing import Any

import pandas as pd
from sqlmodel import col, func, select

from dashboard.queries.read import brief, first, frame, lasting
from dashboard.queries.standing import read_standing
from models.enums import ReplayStatus
from models.replays import ReplayRun
from models.telemetry import DemandMinute

SHOWN = 100
OPEN = (ReplayStatus.PENDING.value, ReplayStatus.RUNNING.value)


@brief
def read_runs() -> pd.DataFrame:
    """Runs of the service, newest first, at most 100; all columns of the table."""
    found = frame(
        select(ReplayRun)
        .where(ReplayRun.service == read_standing().service)
        .order_by(col(ReplayRun.id).desc())
        .limit(SHOWN)
    )
    for name in ("asked_at", "started_at", "finished_at"):
        found[name] = pd.to_datetime(found[name], utc=True)
    return found


@lasting
def read_first_recorded() -> datetime | None:
    """When the demand begins that is kept; None while there is none."""
    statement: Any = select(func.min(DemandMinute.at).label("at")).where(
        DemandMinute.service == read_standing().service
    )
    row = first(statement)
    return None if row is None else row.at
