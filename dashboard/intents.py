"""The dashboard's only writer: every act of an operator is one pending intent, which the next tick applies or
refuses.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import Session

from controller.core.mode import lesser
from dashboard import session
from dashboard.queries.records import read_intents
from dashboard.queries.standing import read_standing
from models.enums import GuardAction, IntentKind, Mode, OverrideKind, RuleMetric
from models.intents import new_intent


def submit(kind: IntentKind, reason: str, *, service: str = "", payload: dict[str, Any] | None = None) -> int:
    """Write one pending intent by the present operator and return its number. ValueError when the reason is blank."""
    intent = new_intent(
        kind, author=session.operator(), reason=reason, created_at=read_standing().now, service=service, payload=payload
    )
    with Session(session.engine()) as database:
        database.add(intent)
        database.commit()
        number = intent.id
    read_standing.clear()
    read_intents.clear()
    assert number is not None
    return number


def apply_envelope(
    document: dict[str, Any],
    base_version: int | None,
    reason: str,
    *,
    signed: bool = False,
    probability: float | None = None,
) -> int:
    """Ask for `document` as the next version after `base_version`; `signed` accepts the warnings shown, and the
    `probability` that was shown (None: it was not known).
    """
    payload = {
        "document": document,
        "base_version": base_version or 0,
        "signed": signed,
        "probability": probability,
    }
    return submit(IntentKind.APPLY_ENVELOPE, reason, service=read_standing().service, payload=payload)


def override(
    kind: OverrideKind, replicas: int | None, ends_at: datetime, reason: str, *, signed_over_cap: bool = False
) -> int:
    """Pin, freeze or pause the service until `ends_at` (virtual).

    ValueError for a pin without a count, or an end that has passed.
    """
    standing = read_standing()
    if kind is OverrideKind.PIN and (replicas is None or replicas < 0):
        raise ValueError("a pin needs a number of replicas, 0 or more")
    if ends_at <= standing.now:
        raise ValueError("an override must end after now")
    payload = {
        "kind": kind.value,
        "replicas": replicas if kind is OverrideKind.PIN else None,
        "ends_at": ends_at.isoformat(),
        "signed_over_cap": signed_over_cap,
    }
    return submit(IntentKind.OVERRIDE, reason, service=standing.service, payload=payload)


def end_override(override_id: int, reason: str) -> int:
    """Ask for an override to end now."""
    return submit(
        IntentKind.END_OVERRIDE, reason, service=read_standing().service, payload={"override_id": override_id}
    )


def pause_fleet(ends_at: datetime, reason: str) -> int:
    """Stop every scaling act of the fleet until `ends_at`. ValueError when that has passed."""
    if ends_at <= read_standing().now:
        raise ValueError("a pause must end after now")
    return submit(IntentKind.PAUSE_FLEET, reason, service="*", payload={"ends_at": ends_at.isoformat()})


def resume_fleet(reason: str) -> int:
    """Ask for the fleet-wide pause to end now."""
    return submit(IntentKind.RESUME_FLEET, reason, service="*")


def approve_relaxation(reason: str) -> int:
    """Approve the envelope's step that relaxes the cap for some minutes."""
    return submit(IntentKind.APPROVE_RELAXATION, reason, service=read_standing().service)


def act_on_job(kind: IntentKind, job_id: str, reason: str) -> int:
    """Kill, suspend or resume a job. ValueError for another kind."""
    if kind not in (IntentKind.KILL_JOB, IntentKind.SUSPEND_JOB, IntentKind.RESUME_JOB):
        raise ValueError(f"{kind.value} is not an act on a job")
    return submit(kind, reason, payload={"job_id": job_id})


def set_rule(
    name: str,
    metric: RuleMetric,
    threshold: float | None,
    action: GuardAction,
    grace_s: float,
    reason: str,
    *,
    dry_run: bool,
    enabled: bool,
) -> int:
    """A new version of a rule. ValueError when a threshold of time or money is not above 0."""
    if threshold is not None and threshold <= 0:
        raise ValueError("a threshold must be above 0")
    if threshold is None and metric not in (RuleMetric.COST, RuleMetric.PROJECTED_COST):
        raise ValueError(f"{metric.value} needs a threshold in seconds")
    payload = {
        "name": name,
        "metric": metric.value,
        "threshold": threshold,
        "action": action.value,
        "grace_s": grace_s,
        "dry_run": dry_run,
        "enabled": enabled,
    }
    return submit(IntentKind.SET_RULE, reason, payload=payload)


def set_mode(mode: Mode, reason: str) -> int:
    """Ask for another mode of the service. ValueError above what the controller was started with."""
    standing = read_standing()
    if lesser(mode, Mode(standing.ceiling)) is not mode:
        raise ValueError(f"the controller was started in mode {standing.ceiling} and goes no further")
    return submit(IntentKind.SET_MODE, reason, service=standing.service, payload={"mode": mode.value})


def add_event(name: str, kind: str, starts_at: datetime, ends_at: datetime, factor: float | None, reason: str) -> int:
    """Enter an event; factor None: of unknown size. ValueError when it ends before its beginning or has no name."""
    if ends_at <= starts_at:
        raise ValueError("an event must end after its beginning")
    if not name.strip() or not kind.strip():
        raise ValueError("an event needs a name and a kind")
    payload = {
        "name": name,
        "kind": kind,
        "starts_at": starts_at.isoformat(),
        "ends_at": ends_at.isoformat(),
        "factor": factor,
    }
    return submit(IntentKind.ADD_EVENT, reason, service=read_standing().service, payload=payload)


def cancel_event(event_id: int, reason: str) -> int:
    """Ask for an event to count no longer."""
    return submit(IntentKind.CANCEL_EVENT, reason, service=read_standing().service, payload={"event_id": event_id})


def add_signal(
    name: str,
    points: Sequence[tuple[float, float]],
    reason: str,
    *,
    unit: str = "",
    known_ahead: bool = False,
    stale_after_s: float = 3600.0,
) -> int:
    """Hand a signal's values over: (epoch seconds, value). ValueError when there is none."""
    if not points:
        raise ValueError("a signal needs values")
    payload = {
        "name": name,
        "unit": unit,
        "known_ahead": known_ahead,
        "stale_after_s": stale_after_s,
        "points": [list(point) for point in points],
    }
    return submit(IntentKind.ADD_SIGNAL, reason, service=read_standing().service, payload=payload)


def remove_signal(name: str, reason: str) -> int:
    """Ask for a signal and its values to be forgotten."""
    return submit(IntentKind.REMOVE_SIGNAL, reason, service=read_standing().service, payload={"name": name})


def ask_replay(
    policy: str,
    window: tuple[datetime, datetime],
    reason: str,
    *,
    envelope: dict[str, Any] | None = None,
    offers: dict[str, Any] | None = None,
    baselines: bool = True,
) -> int:
    """Ask for a what-if run over `window`; envelope and offers None: as they are. `baselines`: with those to compare it
    with. ValueError without a policy.
    """
    if not policy.strip():
        raise ValueError("a replay needs a policy")
    payload = {
        "policy": policy.strip(),
        "from": window[0].isoformat(),
        "to": window[1].isoformat(),
        "envelope": envelope,
        "offers": offers,
        "baselines": baselines,
    }
    return submit(IntentKind.ASK_REPLAY, reason, service=read_standing().service, payload=payload)


def cancel_replay(replay_id: int, reason: str) -> int:
    """Ask for a what-if run to end."""
    return submit(IntentKind.CANCEL_REPLAY, reason, service=read_standing().service, payload={"replay_id": replay_id})


def demo(kind: IntentKind, **payload: Any) -> int:
    """A demo control. Its reason is the control itself: nobody has to write one to try something."""
    return submit(kind, "demo control", payload=payload)


def until(hours: float) -> datetime:
    """The virtual moment `hours` from now."""
    return read_standing().now + timedelta(hours=hours)
