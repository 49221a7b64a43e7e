"""Where things stand now: the clock, the controller's pulse, the envelope in force and how each of its terms is
held.
"""

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import col, func, select

from controller.core.mode import lesser
from dashboard import clock
from dashboard.queries.read import brief, first, rows
from models.enums import EnvelopeStatus, IntentStatus, Mode
from models.fleet import ClockRow, ControllerLease, ControllerPulse
from models.intents import Intent, OverrideRow
from models.ledger import Settlement
from models.services import EnvelopeVersion, Service, Tier
from models.telemetry import FleetMinute, TermReading

SPEND = "spend"
_LEASE_PATIENCE_S = 60.0
_WORST_FIRST = [status.value for status in EnvelopeStatus]


def _setting(name: str, default: float) -> float:
    try:
        return float(os.environ.get(name) or default)
    except ValueError:
        return default


@dataclass(frozen=True)
class Term:
    """An envelope term as last measured. Tiers in ms, spend in dollars of the clock hour. `name`: a tier or "spend"."""

    name: str
    at: datetime
    value: float | None
    limit: float | None
    forecast_p90: float | None
    status: str


@dataclass(frozen=True)
class Standing:
    """Everything that the strip, the banners and the age of things are told from. `now` is virtual, `wall` is not.

    `mode` is what Heddle may do: the service's, below the process's own (`ceiling`). `mode_author` is empty where no
    operator has set it. `planner_leads` False: it has stepped back, and `authority` says why.
    """

    now: datetime
    wall: datetime
    started: bool
    starting: bool
    simulated: bool
    speed: float
    paused: bool
    repeats: int
    service: str
    tiers: tuple[str, ...]
    mode: str
    ceiling: str
    mode_author: str
    mode_reason: str
    mode_at: datetime | None
    planner_leads: bool
    authority: str
    policy: str
    version: int | None
    document: dict[str, Any] | None
    cap: float | None
    terms: tuple[Term, ...]
    down: bool
    silent_s: float | None
    stale: bool
    telemetry_age_s: float | None
    tick_at: datetime | None
    tick_wall_at: datetime | None
    ticks: int
    ticks_late: int
    guards_late: int
    last_error: str
    fleet_paused_until: datetime | None
    frozen_until: datetime | None
    pending: int

    def term(self, name: str) -> Term | None:
        return next((term for term in self.terms if term.name == name), None)

    @property
    def tick_age_s(self) -> float | None:
        return None if self.tick_wall_at is None else max(0.0, (self.wall - self.tick_wall_at).total_seconds())

    @property
    def status(self) -> str:
        """The worst of the terms; stale when telemetry is, unknown without any."""
        found = [term.status for term in self.terms] or [EnvelopeStatus.UNKNOWN.value]
        if self.stale or self.down:
            found.append(EnvelopeStatus.STALE.value)
        return min(found, key=_WORST_FIRST.index)

    def aged(self, status: str) -> str:
        """A term's status as it may be shown now: what held is stale once nothing fresh stands behind it."""
        old = self.stale or self.down
        return min(status, EnvelopeStatus.STALE.value, key=_WORST_FIRST.index) if old else status

    def latency(self, tier: str) -> dict[str, Any]:
        """What the envelope in force promises a tier: of, statistic, target_ms, window_s.

        Empty when nothing is known.
        """
        body = ((self.document or {}).get("tiers") or {}).get(tier) or {}
        return dict(body.get("latency") or {})


def term_name(stored: str) -> str:
    """A tier or "spend" from a stored term such as "premium" or "latency:premium"."""
    return stored.replace(".", ":").rsplit(":", 1)[-1].removeprefix("wait_").removesuffix("_wait")


def latest_terms(service: str) -> tuple[Term, ...]:
    """Each term's last reading; nothing older than the last 64 readings."""
    found: dict[str, Term] = {}
    newest = select(TermReading).where(TermReading.service == service).order_by(col(TermReading.at).desc()).limit(64)
    for row in rows(newest):
        name = term_name(row.term)
        found.setdefault(name, Term(name, row.at, row.value, row.limit, row.forecast_p90, row.status))
    return tuple(found.values())


def _active(service: str, kind: str, now: datetime) -> datetime | None:
    row = first(
        select(OverrideRow.ends_at)
        .where(
            OverrideRow.service == service,
            OverrideRow.kind == kind,
            OverrideRow.ends_at > now,
            col(OverrideRow.ended_at).is_(None),
        )
        .order_by(col(OverrideRow.ends_at).desc())
    )
    return row.ends_at if row else None


@brief
def read_standing() -> Standing:
    """One reading of where things stand. The controller counts as down after 3 silent tick intervals, at least 10 s."""
    wall = clock.wall_now()
    ticking, pulse, lease = (first(select(table)) for table in (ClockRow, ControllerPulse, ControllerLease))
    # Before the first tick there is no clock: the newest minute of the hours simulated so far stands in.
    newest = None if ticking else first(select(func.max(FleetMinute.at).label("at")))
    now = newest.at if newest and newest.at else wall
    if ticking:
        now = clock.virtual_now(ticking.virtual_at, ticking.wall_at, ticking.speed, ticking.paused, wall)
    paused = bool(ticking and ticking.paused)
    seen = pulse.tick_wall_at if pulse else None
    if lease and paused:
        seen = max(filter(None, (seen, lease.renewed_at)))
    silent = None if seen is None else max(0.0, (wall - seen).total_seconds())
    speed = max(ticking.speed, 1e-6) if ticking else 1.0
    patience = max(10.0, 3 * _setting("HEDDLE_TICK_S", 15.0) / speed) if not paused else 60.0
    renewed = max(0.0, (wall - lease.renewed_at).total_seconds()) if lease and not lease.released else None
    starting = pulse is not None and pulse.tick_at is None and renewed is not None and renewed < _LEASE_PATIENCE_S
    down = not starting and (bool(lease and lease.released) or silent is None or silent > patience)
    if down and pulse and pulse.tick_at and ticking:
        now = min(now, pulse.tick_at + timedelta(seconds=3 * _setting("HEDDLE_TICK_S", 15.0)))
    service_row = first(select(Service).order_by(col(Service.id)))
    service = service_row.name if service_row else "images"
    envelope = first(
        select(EnvelopeVersion).where(EnvelopeVersion.service == service).order_by(col(EnvelopeVersion.version).desc())
    )
    ceiling = (pulse.mode if pulse else None) or Mode.ACT.value
    asked = (service_row.mode if service_row else None) or ceiling
    settled = first(
        select(Settlement.authority).where(Settlement.service == service).order_by(col(Settlement.hour).desc())
    )
    authority = (settled.authority if settled else None) or {}
    telemetry_at = pulse.telemetry_at if pulse else None
    reference = pulse.tick_at if pulse and pulse.tick_at else now
    telemetry_age = None if telemetry_at is None else max(0.0, (reference - telemetry_at).total_seconds())
    stale = bool(pulse and pulse.tick_at) and (
        telemetry_age is None or telemetry_age > _setting("HEDDLE_STALE_AFTER_S", 180.0)
    )
    pending = first(
        select(func.count().label("n")).select_from(Intent).where(Intent.status == IntentStatus.PENDING.value)
    )
    tiers = rows(select(Tier.name).where(Tier.service == service).order_by(col(Tier.priority)))
    names = tuple(row.name for row in tiers) or tuple((envelope.document.get("tiers") or {}) if envelope else ())
    return Standing(
        now=now,
        wall=wall,
        started=pulse is not None,
        starting=starting,
        simulated=bool(pulse and pulse.backend == "simulated"),
        speed=ticking.speed if ticking else 1.0,
        paused=paused,
        repeats=ticking.repeats if ticking else 0,
        service=service,
        tiers=names,
        mode=lesser(Mode(asked), Mode(ceiling)).value,
        ceiling=ceiling,
        mode_author=service_row.mode_author if service_row else "",
        mode_reason=service_row.mode_reason if service_row else "",
        mode_at=service_row.mode_at if service_row else None,
        planner_leads=bool(authority.get("leads", True)),
        authority=str(authority.get("reason") or ""),
        policy=pulse.policy if pulse else "",
        version=envelope.version if envelope else None,
        document=envelope.document if envelope else None,
        cap=envelope.spend_cap_usd_per_hour if envelope else None,
        terms=latest_terms(service),
        down=down,
        silent_s=silent,
        stale=stale,
        telemetry_age_s=telemetry_age,
        tick_at=pulse.tick_at if pulse else None,
        tick_wall_at=pulse.tick_wall_at if pulse else None,
        ticks=pulse.ticks if pulse else 0,
        ticks_late=pulse.ticks_late if pulse else 0,
        guards_late=pulse.guards_late if pulse else 0,
        last_error=pulse.last_error if pulse else "",
        fleet_paused_until=_active("*", "pause", now) or _active(service, "pause", now),
        frozen_until=_active(service, "freeze", now),
        pending=int(pending.n) if pending else 0,
    )
