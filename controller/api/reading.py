"""What is so: the tables, read only."""

from datetime import timedelta
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query
from pydantic import AwareDatetime
from sqlmodel import SQLModel, col, select
from sqlmodel.sql.expression import SelectOfScalar

from controller.api.answers import (
    EnvelopeAnswer,
    GuardrailEventAnswer,
    IntentAnswer,
    Item,
    JobAnswer,
    LedgerAnswer,
    OverrideAnswer,
    Page,
    PlanAnswer,
    ReplayAnswer,
    ServiceAnswer,
    SettlementAnswer,
    StatusAnswer,
    SurgeAnswer,
    SurgesAnswer,
    TierAnswer,
)
from controller.api.context import Before, BeforeId, InContext, InSession, Limit
from controller.api.problems import Problem
from models.enums import IntentStatus, JobState, LedgerKind
from models.fleet import ClockRow, ControllerLease, ControllerPulse
from models.guardrails import GuardrailEvent
from models.intents import Intent, OverrideRow
from models.jobs import JobRow
from models.ledger import LedgerEntry, Settlement
from models.plans import PlanRow
from models.replays import ReplayRun
from models.services import EnvelopeVersion, Service, Tier
from models.surges import SurgeLook, SurgeRow

router = APIRouter(prefix="/v1", tags=["reading"])
Row = TypeVar("Row", bound=SQLModel)
OfService = Annotated[str | None, Query(description="Only this service.")]


@router.get("/status")
def status(context: InContext, session: InSession) -> StatusAnswer:
    """The controller's now, pulse and clock. Fields are null before its first tick."""
    known = context.status()
    clock, pulse = session.get(ClockRow, 1), session.get(ControllerPulse, 1)
    lease = session.get(ControllerLease, 1)
    return StatusAnswer(
        now=context.now(),
        ticking=known.ticking,
        detail=known.detail,
        clock=clock and clock.kind,
        speed=clock and clock.speed,
        paused=clock and clock.paused,
        mode=pulse and pulse.mode,
        backend=pulse and pulse.backend,
        policy=pulse and pulse.policy,
        started_at=pulse and pulse.started_at,
        tick_at=pulse and pulse.tick_at,
        tick_ms=pulse and pulse.tick_ms,
        ticks=pulse and pulse.ticks,
        ticks_late=pulse and pulse.ticks_late,
        ticks_failed=pulse and pulse.ticks_failed,
        guards=pulse and pulse.guards,
        guards_late=pulse and pulse.guards_late,
        telemetry_at=pulse and pulse.telemetry_at,
        paused_until=pulse and pulse.paused_until,
        last_error=pulse and pulse.last_error,
        epoch=lease and lease.epoch,
    )


@router.get("/services")
def services(session: InSession) -> list[ServiceAnswer]:
    """Every service, with its tiers and the last plan's numbers."""
    answers = []
    for service in session.exec(select(Service).order_by(col(Service.name))):
        tiers = session.exec(select(Tier).where(Tier.service == service.name).order_by(col(Tier.priority)))
        of_service = select(PlanRow).where(PlanRow.service == service.name)
        plan = session.exec(of_service.order_by(col(PlanRow.made_at).desc()).limit(1)).first()
        versions = select(EnvelopeVersion.version).where(EnvelopeVersion.service == service.name)
        answers.append(
            ServiceAnswer(
                name=service.name,
                mode=service.mode,
                tiers=[TierAnswer.model_validate(tier) for tier in tiers],
                envelope_version=max(session.exec(versions), default=None),
                required=plan and plan.required,
                desired=plan and plan.desired,
                observed_ready=plan and plan.observed_ready,
                observed_coming=plan and plan.observed_coming,
                plan_id=plan and plan.id,
            )
        )
    return answers


@router.get("/envelopes")
def envelopes(
    session: InSession, service: OfService = None, limit: Limit = 50, before: BeforeId = None
) -> Page[EnvelopeAnswer]:
    """Versions, newest first. Not an edit of the older: each is kept."""
    return _page(session, EnvelopeVersion, EnvelopeAnswer, limit, before, service=service)


@router.get("/plans")
def plans(session: InSession, service: OfService = None, limit: Limit = 50, before: Before = None) -> Page[PlanAnswer]:
    """Decisions, newest first, each with its reasons. `before` is a time."""
    query = select(PlanRow).order_by(col(PlanRow.made_at).desc(), col(PlanRow.id).desc()).limit(limit + 1)
    if service is not None:
        query = query.where(PlanRow.service == service)
    if before is not None:
        query = query.where(PlanRow.made_at < before)
    rows = session.exec(query).all()
    more = rows[limit - 1].made_at.isoformat() if len(rows) > limit else None
    return Page(items=[PlanAnswer.model_validate(row) for row in rows[:limit]], next=more)


@router.get("/services/{service}/surges")
def surges(context: InContext, session: InSession, service: str) -> SurgesAnswer:
    """Surges ahead of a service, when provisioning must start, and on what evidence."""
    if session.exec(select(Service).where(Service.name == service)).first() is None:
        raise Problem(404, "No such service", f"There is no service {service}; GET /v1/services lists them.")
    look = session.exec(select(SurgeLook).where(SurgeLook.service == service)).first()
    since = context.now() - timedelta(days=1)
    rows = session.exec(
        select(SurgeRow)
        .where(SurgeRow.service == service, col(SurgeRow.end_at) > since)
        .order_by(col(SurgeRow.start_at))
        .limit(200)
    )
    return SurgesAnswer(
        service=service,
        at=look and look.at,
        until=look and look.until,
        ready_gpus=look and look.ready_gpus,
        coming_gpus=look and look.coming_gpus,
        highest_gpus=look and look.highest_gpus,
        items=[
            SurgeAnswer.model_validate(
                {**row.model_dump(), "shortfall_gpus": max(0.0, row.need_gpus - row.ready_gpus - row.coming_gpus)}
            )
            for row in rows
        ],
    )


@router.get("/settlements")
def settlements(
    session: InSession, service: OfService = None, limit: Limit = 50, before: BeforeId = None
) -> Page[SettlementAnswer]:
    """Closed clock hours, newest first, each beside a shadow HPA and hindsight."""
    return _page(session, Settlement, SettlementAnswer, limit, before, service=service)


@router.get("/intents/{intent_id}")
def intent(session: InSession, intent_id: int) -> IntentAnswer:
    """What became of an intent."""
    found = session.get(Intent, intent_id)
    if found is None:
        raise Problem(404, "No such intent", f"There is no intent {intent_id}.")
    return IntentAnswer.model_validate(found)


@router.get("/intents")
def intents(
    session: InSession, status: IntentStatus | None = None, limit: Limit = 50, before: BeforeId = None
) -> Page[IntentAnswer]:
    """What was asked for, newest first."""
    return _page(session, Intent, IntentAnswer, limit, before, status=status)


@router.get("/replays")
def replays(
    session: InSession, service: OfService = None, limit: Limit = 50, before: BeforeId = None
) -> Page[ReplayAnswer]:
    """What-if runs, newest first: those of an intent have its id."""
    return _page(session, ReplayRun, ReplayAnswer, limit, before, service=service)


@router.get("/replays/{id}")
def replay(id: int, session: InSession) -> ReplayAnswer:
    """One what-if run: how far it is, or what it came to."""
    row = session.get(ReplayRun, id)
    if row is None:
        raise Problem(404, "No such replay", f"There is no replay {id}.")
    return ReplayAnswer.model_validate(row)


@router.get("/overrides")
def overrides(
    context: InContext, session: InSession, active: bool = True, limit: Limit = 50, before: BeforeId = None
) -> Page[OverrideAnswer]:
    """Overrides, newest first; those in force now unless `active=false`."""
    conditions = [col(OverrideRow.ended_at).is_(None), col(OverrideRow.ends_at) > context.now()] if active else []
    return _page(session, OverrideRow, OverrideAnswer, limit, before, *conditions)


@router.get("/ledger")
def ledger(
    session: InSession,
    service: OfService = None,
    kind: LedgerKind | None = None,
    since: AwareDatetime | None = None,
    limit: Limit = 100,
    before: BeforeId = None,
) -> Page[LedgerAnswer]:
    """The ledger, newest first."""
    conditions = [] if since is None else [col(LedgerEntry.at) >= since]
    return _page(session, LedgerEntry, LedgerAnswer, limit, before, *conditions, service=service, kind=kind)


@router.get("/jobs")
def jobs(session: InSession, state: JobState | None = None, limit: Limit = 100) -> list[JobAnswer]:
    """Batch jobs, the last submitted first."""
    query = select(JobRow).order_by(col(JobRow.submitted_at).desc(), col(JobRow.id).desc()).limit(limit)
    if state is not None:
        query = query.where(JobRow.state == state.value)
    return [JobAnswer.model_validate(row) for row in session.exec(query)]


@router.get("/guardrails/events")
def guardrail_events(
    session: InSession, job_id: str | None = None, limit: Limit = 100, before: BeforeId = None
) -> Page[GuardrailEventAnswer]:
    """What the guardrails did and why, newest first."""
    return _page(session, GuardrailEvent, GuardrailEventAnswer, limit, before, job_id=job_id)


def _page(
    session: InSession,
    table: type[Row],
    answer: type[Item],
    limit: int,
    before: int | None,
    *conditions: Any,
    **equal: Any,
) -> Page[Item]:
    """A page of a table by its growing id; `equal` are columns that must have a value, None: any."""
    key: Any = table.id  # type: ignore[attr-defined]
    query: SelectOfScalar[Row] = select(table).where(*conditions).order_by(key.desc()).limit(limit + 1)
    for name, value in equal.items():
        if value is not None:
            query = query.where(getattr(table, name) == value)
    if before is not None:
        query = query.where(key < before)
    rows = session.exec(query).all()
    items = [answer.model_validate(row) for row in rows[:limit]]
    return Page(items=items, next=str(rows[limit - 1].id) if len(rows) > limit else None)  # type: ignore[attr-defined]
