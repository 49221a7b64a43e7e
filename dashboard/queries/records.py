"""The ledger, settlements, intents and envelope versions: what is kept for good."""

from datetime import timedelta
from typing import Any

import pandas as pd
from sqlalchemy import or_
from sqlmodel import col, select

from dashboard.queries.read import MAX_ROWS, brief, frame
from dashboard.queries.standing import read_standing
from models.intents import Intent
from models.ledger import LedgerEntry, Settlement, SideBySide
from models.services import EnvelopeVersion


@brief
def read_ledger(hours: float | None, kinds: tuple[str, ...] = (), search: str = "", actor: str = "") -> pd.DataFrame:
    """Entries newest first, at most 500: id, at, kind, service, actor, subject, what, why, numbers, plan_id,
    intent_id, epoch.
    """
    standing = read_standing()
    statement: Any = select(LedgerEntry)
    if hours is not None:
        statement = statement.where(LedgerEntry.at >= standing.now - timedelta(hours=hours))
    if kinds:
        statement = statement.where(col(LedgerEntry.kind).in_(kinds))
    if actor:
        statement = statement.where(LedgerEntry.actor == actor)
    if search.strip():
        wanted = f"%{search.strip()}%"
        fields = (LedgerEntry.what, LedgerEntry.why, LedgerEntry.subject, LedgerEntry.actor, LedgerEntry.plan_id)
        statement = statement.where(or_(*(col(field).ilike(wanted) for field in fields)))
    return frame(statement.order_by(col(LedgerEntry.at).desc(), col(LedgerEntry.id).desc()).limit(MAX_ROWS))


@brief
def read_actors() -> list[str]:
    """Who wrote the last 500 entries."""
    newest = frame(select(LedgerEntry.actor).order_by(col(LedgerEntry.id).desc()).limit(MAX_ROWS))
    return sorted(set(newest["actor"]))


@brief
def read_settlements(hours: float | None = None) -> pd.DataFrame:
    """Closed clock hours, newest first, at most 500, with every column of `Settlement`. Unknown amounts are NaN."""
    standing = read_standing()
    statement = select(Settlement).where(Settlement.service == standing.service)
    if hours is not None:
        statement = statement.where(Settlement.hour >= standing.now - timedelta(hours=hours))
    found = frame(statement.order_by(col(Settlement.hour).desc()).limit(MAX_ROWS))
    amounts = [name for name in [*SideBySide.model_fields, "slo_minutes", "unknown_minutes"] if name in found]
    return found.astype(dict.fromkeys(amounts, float))


@brief
def read_intents(limit: int = 100) -> pd.DataFrame:
    """What operators asked for, newest first: id, kind, service, payload, author, reason, created_at, status,
    status_reason, settled_at.
    """
    return frame(select(Intent).order_by(col(Intent.id).desc()).limit(limit))


@brief
def read_envelopes() -> pd.DataFrame:
    """Envelope versions, newest first, at most 200: version, document, spend_cap_usd_per_hour, author, reason,
    created_at.
    """
    standing = read_standing()
    return frame(
        select(EnvelopeVersion)
        .where(EnvelopeVersion.service == standing.service)
        .order_by(col(EnvelopeVersion.version).desc())
        .limit(200)
    )
