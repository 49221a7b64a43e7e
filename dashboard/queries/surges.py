"""Surges: what the slow forecast sees coming, and what became of what it saw."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import col, select

from dashboard.queries.read import brief, first, rows
from dashboard.queries.standing import read_standing
from models.enums import SurgeStatus
from models.surges import SurgeLook, SurgeRow

RECENT = timedelta(hours=12)
OPEN = (SurgeStatus.AHEAD.value, SurgeStatus.PREPARING.value)


@dataclass(frozen=True)
class Surge:
    """One interval. GPUs are of the reference; `level`, `expected` and `observed` are loads."""

    start_at: datetime
    end_at: datetime
    peak_at: datetime
    provision_by: datetime
    tiers: str
    need: float
    ready: float
    coming: float
    level: float
    expected: float
    observed: float | None
    status: str
    evidence: dict[str, Any]

    @property
    def shortfall(self) -> float:
        return max(0.0, self.need - self.ready - self.coming)


@dataclass(frozen=True)
class Surges:
    """The last look ahead. `at` None: nobody has looked yet; `until` None: there was no slow forecast to look at.

    `ahead`: what is to come or prepared for; `over`: what became of those that ended lately or were judged.
    """

    at: datetime | None
    until: datetime | None
    ready: float | None
    coming: float | None
    highest: float | None
    ahead: tuple[Surge, ...]
    over: tuple[Surge, ...]


@brief
def read_surges() -> Surges:
    """Of the service, soonest first; what is over newest first."""
    standing = read_standing()
    look = first(select(SurgeLook).where(SurgeLook.service == standing.service))
    found = rows(
        select(SurgeRow)
        .where(SurgeRow.service == standing.service, col(SurgeRow.end_at) > standing.now - RECENT)
        .order_by(col(SurgeRow.start_at))
        .limit(200)
    )
    surges = [
        Surge(
            row.start_at,
            row.end_at,
            row.peak_at,
            row.provision_by,
            row.tiers,
            row.need_gpus,
            row.ready_gpus,
            row.coming_gpus,
            row.level,
            row.expected,
            row.observed,
            row.status,
            dict(row.evidence),
        )
        for row in found
    ]
    return Surges(
        at=look.at if look else None,
        until=look.until if look else None,
        ready=look.ready_gpus if look else None,
        coming=look.coming_gpus if look else None,
        highest=look.highest_gpus if look else None,
        ahead=tuple(each for each in surges if each.status in OPEN and each.end_at > standing.now),
        over=tuple(reversed([each for each in surges if each.status not in OPEN])),
    )
