"""Jobs, the rules they run under, and what the guard did to them."""

import pandas as pd
from sqlmodel import col, select

from dashboard.queries.read import MAX_ROWS, brief, first, frame
from models.enums import JobState
from models.guardrails import GuardrailEvent, GuardrailRule
from models.jobs import JobRow

ALIVE = (JobState.QUEUED.value, JobState.RUNNING.value, JobState.SUSPENDED.value)

BURNS = (JobState.QUEUED.value, JobState.RUNNING.value)


@brief
def read_jobs(alive_only: bool = False) -> pd.DataFrame:
    """Jobs, those alive first, then the newest; all columns of the table, at most 500."""
    statement = select(JobRow)
    if alive_only:
        statement = statement.where(col(JobRow.state).in_(ALIVE))
    found = frame(
        statement.order_by(col(JobRow.state).in_(ALIVE).desc(), col(JobRow.submitted_at).desc()).limit(MAX_ROWS)
    )
    return found


@brief
def read_job(job_id: str) -> dict[str, object] | None:
    """One job as a mapping of its columns."""
    row = first(select(JobRow).where(JobRow.id == job_id))
    return None if row is None else dict(row._mapping)


@brief
def read_rules() -> pd.DataFrame:
    """The rule in force under each name: the greatest version. All columns."""
    found = frame(
        select(GuardrailRule).order_by(col(GuardrailRule.name), col(GuardrailRule.version).desc()).limit(MAX_ROWS)
    )
    return found.drop_duplicates("name") if not found.empty else found


@brief
def read_events(job_id: str | None = None) -> pd.DataFrame:
    """What the guard judged, newest first, at most 500; all columns."""
    statement = select(GuardrailEvent)
    if job_id:
        statement = statement.where(GuardrailEvent.job_id == job_id)
    return frame(statement.order_by(col(GuardrailEvent.at).desc(), col(GuardrailEvent.id).desc()).limit(MAX_ROWS))
