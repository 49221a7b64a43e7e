"""What may be asked for: an envelope, an override. Each becomes an intent; the next tick applies or refuses it."""

from datetime import datetime, timedelta
from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import func
from sqlmodel import Session, col, select

from controller.api.answers import EnvelopeAccepted, IntentAnswer, ProblemAnswer
from controller.api.context import InContext, InSession
from controller.api.problems import Problem
from controller.core.envelope import EnvelopeError, EnvelopeFacts, check_envelope, parse_envelope
from controller.core.mode import lesser
from models.enums import IntentKind, Market, Mode, OverrideKind
from models.fleet import ControllerPulse
from models.intents import Intent, new_intent
from models.offers import OfferRow
from models.services import EnvelopeVersion, Service, Tier
from models.telemetry import DemandMinute

router = APIRouter(prefix="/v1", tags=["asking"])
LONGEST_OVERRIDE = timedelta(days=31)
WHOLE_FLEET = "*"


class _Ask(BaseModel):
    model_config = ConfigDict(extra="forbid")

    author: str = Field(min_length=1, max_length=200, description="Who asks; kept in the ledger.")
    reason: str = Field(min_length=1, max_length=2000, description="Why; kept in the ledger.")


class AskEnvelope(_Ask):
    """A new version of a service's envelope. `base_version`: the one it was written against."""

    service: str = Field(default="images", max_length=100)
    document: dict[str, Any]
    base_version: int = Field(ge=0)
    signed: bool = Field(
        default=False, description="The warnings, and that it may well not hold, are known and accepted."
    )


class AskOverride(_Ask):
    """A pin, freeze or pause until `ends_at` (the controller's time). Service "*" with kind pause: the whole fleet."""

    service: str = Field(default="images", max_length=100)
    kind: OverrideKind
    replicas: int | None = Field(default=None, ge=0, le=100_000)
    ends_at: AwareDatetime
    signed_over_cap: bool = False


class AskMode(_Ask):
    """How far Heddle may go for a service."""

    mode: Mode


class AskOffers(BaseModel):
    """How the offers of a replay differ from those in force."""

    model_config = ConfigDict(extra="forbid")

    without_spot: bool = False
    without_zones: list[str] = Field(default=[], max_length=100)
    price_factors: dict[Market, float] = Field(default={}, description="Market to times its price.")


class AskReplay(_Ask):
    """A what-if run over a past window of whole hours; without `from` and `to` the last seven days."""

    service: str = Field(default="images", max_length=100)
    policy: str = Field(min_length=1, max_length=200, description="As `controller replay --policy` takes it.")
    envelope: dict[str, Any] | None = Field(default=None, description="Null: the one in force.")
    offers: AskOffers = AskOffers()
    from_: AwareDatetime | None = Field(default=None, alias="from")
    to: AwareDatetime | None = None
    baselines: bool = Field(default=False, description="With what it is compared with: heddle and hpa as things are.")


@router.post("/envelopes", status_code=202)
def ask_envelope(ask: AskEnvelope, context: InContext, session: InSession, response: Response) -> EnvelopeAccepted:
    """Writes an intent. 422 names the field, the reason and the nearest feasible value; 409: a newer version exists."""
    known_service(session, ask.service)
    try:
        envelope = parse_envelope(ask.document, ask.service)
    except EnvelopeError as error:
        raise refused(f"document.{error.field}", error.reason, error.nearest) from error
    problems = check_envelope(envelope, _facts(session, ask.service))
    for problem in problems:
        if problem.severity == "refuse":
            raise refused(f"document.{problem.field}", problem.reason, problem.nearest)
    latest = session.exec(select(func.max(EnvelopeVersion.version)).where(EnvelopeVersion.service == ask.service)).one()
    if ask.base_version != (latest or 0):
        raise Problem(
            409,
            "A newer version exists",
            f"The envelope of {ask.service} is at version {latest or 0}, this change was made to {ask.base_version}.",
            field="base_version",
            reason="is not the latest",
            nearest=str(latest or 0),
        )
    payload = {"document": ask.document, "base_version": ask.base_version, "signed": ask.signed}
    intent = _written(session, context, response, IntentKind.APPLY_ENVELOPE, ask, ask.service, payload)
    warnings = [
        ProblemAnswer(field=problem.field, reason=problem.reason, nearest=problem.nearest) for problem in problems
    ]
    return EnvelopeAccepted(intent=intent, warnings=warnings)


@router.post("/overrides", status_code=202)
def ask_override(ask: AskOverride, context: InContext, session: InSession, response: Response) -> IntentAnswer:
    """Writes an intent. 422 where it could never hold: no end ahead, a pin without a number."""
    now = context.now()
    _check_end(ask.ends_at, now)
    if ask.kind is OverrideKind.RELAX_CAP:
        raise refused("kind", "a cap is relaxed only by approving the envelope's own step", OverrideKind.PIN.value)
    if ask.kind is OverrideKind.PIN and ask.replicas is None:
        raise refused("replicas", "a pin needs a number of replicas", "0")
    if ask.kind is not OverrideKind.PIN and ask.replicas is not None:
        raise refused("replicas", f"a {ask.kind.value} has no number of replicas", None)
    ends_at = ask.ends_at.isoformat()
    if ask.service == WHOLE_FLEET:
        if ask.kind is not OverrideKind.PAUSE:
            raise refused("kind", "the whole fleet can only be paused", OverrideKind.PAUSE.value)
        return _written(session, context, response, IntentKind.PAUSE_FLEET, ask, WHOLE_FLEET, {"ends_at": ends_at})
    known_service(session, ask.service)
    payload = {
        "kind": ask.kind.value,
        "replicas": ask.replicas,
        "ends_at": ends_at,
        "signed_over_cap": ask.signed_over_cap,
    }
    return _written(session, context, response, IntentKind.OVERRIDE, ask, ask.service, payload)


@router.post("/services/{service}/mode", status_code=202)
def ask_mode(service: str, ask: AskMode, context: InContext, session: InSession, response: Response) -> IntentAnswer:
    """Writes an intent. 422 above the mode that the controller was started with."""
    known_service(session, service)
    pulse = session.get(ControllerPulse, 1)
    ceiling = Mode(pulse.mode) if pulse else Mode.ACT
    if lesser(ask.mode, ceiling) is not ask.mode:
        raise refused("mode", f"the controller was started in mode {ceiling.value}", ceiling.value)
    return _written(session, context, response, IntentKind.SET_MODE, ask, service, {"mode": ask.mode.value})


@router.post("/replays", status_code=202)
def ask_replay(ask: AskReplay, context: InContext, session: InSession, response: Response) -> IntentAnswer:
    """Writes an intent. 422 where the envelope is none; what else can't be replayed is refused by the next tick."""
    known_service(session, ask.service)
    if ask.envelope is not None:
        try:
            parse_envelope(ask.envelope, ask.service)
        except EnvelopeError as error:
            raise refused(f"envelope.{error.field}", error.reason, error.nearest) from error
    if (ask.from_ is None) != (ask.to is None):
        raise refused(
            "from" if ask.from_ is None else "to", "a window has a beginning and an end: give both or none", None
        )
    payload = {
        "policy": ask.policy,
        "envelope": ask.envelope,
        "offers": ask.offers.model_dump(mode="json"),
        "from": ask.from_ and ask.from_.isoformat(),
        "to": ask.to and ask.to.isoformat(),
        "baselines": ask.baselines,
    }
    return _written(session, context, response, IntentKind.ASK_REPLAY, ask, ask.service, payload)


def _written(
    session: Session,
    context: InContext,
    response: Response,
    kind: IntentKind,
    ask: _Ask,
    service: str,
    payload: dict[str, Any],
) -> IntentAnswer:
    try:
        intent: Intent = new_intent(
            kind, author=ask.author, reason=ask.reason, created_at=context.now(), service=service, payload=payload
        )
    except ValueError as error:
        field: Literal["author", "reason"] = "reason" if ask.author.strip() else "author"
        raise refused(field, str(error), None) from error
    session.add(intent)
    session.commit()
    session.refresh(intent)
    response.headers["Location"] = f"/v1/intents/{intent.id}"
    return IntentAnswer.model_validate(intent)


def _check_end(ends_at: datetime, now: datetime) -> None:
    if ends_at <= now:
        raise refused("ends_at", f"must be after the controller's now, {now.isoformat()}", None)
    if ends_at > now + LONGEST_OVERRIDE:
        latest = (now + LONGEST_OVERRIDE).isoformat()
        raise refused("ends_at", f"must be within {LONGEST_OVERRIDE.days} days", latest)


def known_service(session: Session, name: str) -> None:
    """Raises the 422 of a service that isn't there, naming those that are."""
    names = session.exec(select(Service.name).order_by(col(Service.name))).all()
    if name not in names:
        raise refused("service", f"there is no service {name!r}", ", ".join(names) or None)


def _facts(session: Session, service: str) -> EnvelopeFacts:
    """What an envelope is held against. A fact not known yet is 0, which refuses nothing."""
    tiers = tuple(session.exec(select(Tier.name).where(Tier.service == service).order_by(col(Tier.priority))))
    cheapest = session.exec(select(func.min(OfferRow.price_usd_per_hour)).where(col(OfferRow.usable).is_(True))).one()
    newest = session.exec(select(func.max(DemandMinute.at)).where(DemandMinute.service == service)).one()
    mean_s = None
    if newest is not None:
        measured = select(func.sum(DemandMinute.work_s) / func.nullif(func.sum(DemandMinute.arrivals), 0)).where(
            DemandMinute.service == service, DemandMinute.at > newest - timedelta(days=1), DemandMinute.step_s == 60
        )
        mean_s = session.exec(measured).one()
    return EnvelopeFacts(tiers, float(mean_s or 0.0), float(cheapest or 0.0))


def refused(field: str, reason: str, nearest: str | None) -> Problem:
    """The 422 of a field."""
    detail = f"{field}: {reason}" + (f" (nearest: {nearest})" if nearest else "")
    return Problem(422, "Refused", detail, field=field, reason=reason, nearest=nearest)
