"""What operators ask for, applied or refused by the tick: each intent once, each with a plain reason.

The status of an intent is set in the transaction that holds its effect, so a crash leaves it either pending and
without effect, or settled. What reaches outside the database (jobs, the demo's controls) is done just before that
transaction: a job's action has an id made of the intent's, so that doing it again after a crash does nothing twice;
a demo control may, in that instant, be done again.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from controller import outside_intents, replay_intents
from controller.backends.base import BackendUnavailable, UnknownSubject
from controller.core.degradation import relaxation_of, relaxed_cap
from controller.core.envelope import EnvelopeError, EnvelopeFacts, check_envelope, parse_envelope
from controller.core.feasibility import Feasibility, in_words, judge
from controller.core.guard import ENDED, Rule, RuleError
from controller.core.mode import lesser
from controller.core.types import Action, ActionResult, Envelope
from controller.payload import Payload, Refused
from controller.replay_intents import ReplayFacts
from controller.store import Store
from controller.store.convert import moment
from controller.store.guardrails import by_hand_id
from controller.store.intents import AlreadySettled
from controller.store.overrides import FLEET
from models.enums import (
    ActionKind,
    ActionStatus,
    GuardAction,
    IntentKind,
    IntentStatus,
    JobState,
    LedgerKind,
    Mode,
    OverrideKind,
    RuleMetric,
)
from models.intents import Intent

LONGEST_S = 7 * 24 * 3600.0
MOST_REPLICAS = 1000
_SLACK_S = 60.0

_JOB_ACTIONS = {
    IntentKind.KILL_JOB: (ActionKind.KILL_JOB, "killed", (JobState.QUEUED, JobState.RUNNING, JobState.SUSPENDED)),
    IntentKind.SUSPEND_JOB: (ActionKind.SUSPEND_JOB, "suspended", (JobState.QUEUED, JobState.RUNNING)),
    IntentKind.RESUME_JOB: (ActionKind.RESUME_JOB, "resumed", (JobState.SUSPENDED,)),
}
_LEDGER: Mapping[str, LedgerKind] = {
    IntentKind.APPLY_ENVELOPE: LedgerKind.ENVELOPE,
    IntentKind.OVERRIDE: LedgerKind.OVERRIDE,
    IntentKind.END_OVERRIDE: LedgerKind.OVERRIDE,
    IntentKind.PAUSE_FLEET: LedgerKind.PAUSE,
    IntentKind.RESUME_FLEET: LedgerKind.PAUSE,
    IntentKind.APPROVE_RELAXATION: LedgerKind.OVERRIDE,
    IntentKind.KILL_JOB: LedgerKind.GUARDRAIL,
    IntentKind.SUSPEND_JOB: LedgerKind.GUARDRAIL,
    IntentKind.RESUME_JOB: LedgerKind.GUARDRAIL,
    IntentKind.SET_RULE: LedgerKind.GUARDRAIL,
    IntentKind.ADD_EVENT: LedgerKind.FORECAST,
    IntentKind.CANCEL_EVENT: LedgerKind.FORECAST,
    IntentKind.ADD_SIGNAL: LedgerKind.FORECAST,
    IntentKind.REMOVE_SIGNAL: LedgerKind.FORECAST,
    IntentKind.SET_MODE: LedgerKind.MODE,
    IntentKind.ASK_REPLAY: LedgerKind.REPLAY,
    IntentKind.CANCEL_REPLAY: LedgerKind.REPLAY,
}


class DemoControls(Protocol):
    """The hand on the simulated world. Raises ValueError or UnknownSubject, with the reason for the operator."""

    def pause(self) -> None:
        """Stops the virtual clock."""

    def resume(self) -> None:
        """Lets it run again."""

    def set_speed(self, x: float) -> None:
        """Virtual seconds a real second."""

    def surge(self, factor: float, minutes: float, now_s: float) -> None:
        """Multiplies arrivals from now."""

    def lose_zone(self, zone: str, minutes: float, now_s: float) -> None:
        """Takes a zone's capacity away from now."""

    def start_runaway(self, now_s: float) -> None:
        """Submits a job that never finishes."""

    def reset(self) -> None:
        """Begins the demo again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an intent. PENDING: it could not be tried yet, and `reason` says why."""

    intent_id: int
    kind: str
    status: IntentStatus
    reason: str


class _NotYet(Exception):
    """The cluster can't be asked now: the intent waits for the next tick."""


class Intake:
    """Takes pending intents in the order in which they were written.

    `facts` gives what a service's envelope is checked against; `act` does an action on a job, once by its id, and makes
    it survive a restart (the backend's `apply`, then `save`); `demo` is None where the cluster is real; `ceiling` is
    the mode that the process was started with, which no service may exceed; `replays` is None where what-if runs are
    switched off.
    """

    def __init__(
        self,
        store: Store,
        facts: Callable[[str], EnvelopeFacts],
        act: Callable[[Action], ActionResult],
        demo: DemoControls | None = None,
        ceiling: Mode = Mode.ACT,
        replays: ReplayFacts | None = None,
    ) -> None:
        self._store = store
        self._facts = facts
        self._act = act
        self._demo = demo
        self._ceiling = ceiling
        self._replays = replays

    def take(self, now_s: float) -> tuple[Outcome, ...]:
        """Applies or refuses every pending intent. A bad one is refused; only the database's own failures escape."""
        taken = (self._take_one(intent, now_s) for intent in self._store.pending_intents())
        return tuple(outcome for outcome in taken if outcome is not None)

    def _take_one(self, intent: Intent, now_s: float) -> Outcome | None:
        assert intent.id is not None
        try:
            done = self._apply(intent, Payload(intent.payload), now_s)
        except Refused as refusal:
            return self._refuse(intent, str(refusal), now_s)
        except _NotYet as wait:
            if intent.status_reason != str(wait):
                self._store.note_intent(intent.id, str(wait))
            return Outcome(intent.id, intent.kind, IntentStatus.PENDING, str(wait))
        except AlreadySettled:
            return None
        except Exception as error:  # a defect of ours must not stop the tick; a lost database refuses the refusal too
            return self._refuse(intent, f"Heddle failed on it: {type(error).__name__}: {error}", now_s)
        return Outcome(intent.id, intent.kind, IntentStatus.APPLIED, done)

    def _refuse(self, intent: Intent, reason: str, now_s: float) -> Outcome:
        assert intent.id is not None
        with self._store.batch():
            self._store.settle_intent(intent.id, IntentStatus.REFUSED, reason, now_s)
            self._store.enter(
                LedgerKind.DEMO if intent.kind.startswith("demo_") else _LEDGER.get(intent.kind, LedgerKind.CONTROLLER),
                now_s=now_s,
                actor=intent.author,
                service="" if intent.service == FLEET else intent.service,
                subject=f"intent {intent.id}",
                what=f"Refused {intent.kind.replace('_', ' ')}: {reason}",
                why=intent.reason,
                intent_id=intent.id,
            )
        return Outcome(intent.id, intent.kind, IntentStatus.REFUSED, reason)

    def _apply(self, intent: Intent, payload: Payload, now_s: float) -> str:
        if intent.kind not in tuple(IntentKind):
            raise Refused(f"there is no intent of kind {intent.kind!r}")
        kind = IntentKind(intent.kind)
        if kind in _JOB_ACTIONS:
            return self._job(kind, intent, payload, now_s)
        if kind.value.startswith("demo_"):
            return self._control(kind, intent, payload, now_s)
        known: dict[IntentKind, Callable[[Intent, Payload, float], str]] = {
            IntentKind.APPLY_ENVELOPE: self._envelope,
            IntentKind.OVERRIDE: self._override,
            IntentKind.END_OVERRIDE: self._end_override,
            IntentKind.PAUSE_FLEET: self._pause_fleet,
            IntentKind.RESUME_FLEET: self._resume_fleet,
            IntentKind.APPROVE_RELAXATION: self._relaxation,
            IntentKind.SET_RULE: self._rule,
            IntentKind.SET_MODE: self._mode,
            IntentKind.ADD_EVENT: partial(outside_intents.add_event, self._store),
            IntentKind.CANCEL_EVENT: partial(outside_intents.cancel_event, self._store),
            IntentKind.ADD_SIGNAL: partial(outside_intents.add_signal, self._store),
            IntentKind.REMOVE_SIGNAL: partial(outside_intents.remove_signal, self._store),
            IntentKind.ASK_REPLAY: partial(replay_intents.ask_replay, self._store, self._replays),
            IntentKind.CANCEL_REPLAY: partial(replay_intents.cancel_replay, self._store, self._replays),
        }
        with self._store.batch():
            done = known[kind](intent, payload, now_s)
            self._settle(intent, done, now_s)
        return done

    def _settle(self, intent: Intent, done: str, now_s: float) -> None:
        assert intent.id is not None
        self._store.settle_intent(intent.id, IntentStatus.APPLIED, done, now_s)

    def _envelope(self, intent: Intent, payload: Payload, now_s: float) -> str:
        current = self._store.envelope(intent.service)
        if current is None:
            raise Refused(f"there is no service {intent.service!r}")
        base = payload.whole("base_version", 0)
        if base != current.version:
            newest = self._store.envelope_history(intent.service)[0]
            raise Refused(
                f"v{base} is no longer current: v{newest.version} was applied at "
                f"{newest.created_at:%Y-%m-%d %H:%M} UTC by {newest.author}"
            )
        signed = payload.flag("signed", False)
        try:
            wanted = parse_envelope(payload.get("document"), intent.service, current.version)
        except EnvelopeError as error:
            raise Refused(str(error)) from error
        if replace(wanted, version=current.version) == current:
            raise Refused(f"it says what v{current.version} says already: nothing would change")
        for problem in check_envelope(wanted, self._facts(intent.service)):
            if problem.severity == "refuse" or not signed:
                nearest = f" (nearest: {problem.nearest})" if problem.nearest else ""
                sign = "" if problem.severity == "refuse" else "; sign it to apply it all the same"
                raise Refused(f"{problem.field}: {problem.reason}{nearest}{sign}")
        verdict = self._verdict(wanted, intent.service, now_s)
        if verdict.must_be_signed and not signed:
            raise Refused(f"{in_words(verdict)}; sign it to apply it all the same")
        version = self._store.add_envelope(
            intent.service,
            payload.get("document"),
            intent.author,
            intent.reason,
            now_s,
            intent.id,
            note=f"signed, knowing that {in_words(verdict)}" if verdict.must_be_signed else "",
            numbers={
                "probability": verdict.probability,
                "probability_shown": payload.number_or_none("probability", 0, 1),
                "signed": signed,
            },
        )
        return f"envelope v{version} rules from now"

    def _verdict(self, wanted: Envelope, service: str, now_s: float) -> Feasibility:
        """The same question that the page asked, of what is known now."""
        prospect = self._store.prospect(service)
        if prospect is None or prospect.stale(now_s):
            age = "there is no prospect of the next day yet" if prospect is None else "the last forecast is too old"
            return Feasibility(None, age)
        return judge(prospect, wanted)

    def _override(self, intent: Intent, payload: Payload, now_s: float) -> str:
        kind = payload.word("kind", OverrideKind)
        envelope = self._store.envelope(intent.service)
        if intent.service == FLEET and kind is not OverrideKind.PAUSE:
            raise Refused(f"the whole fleet can be paused only; a {kind.value} is for one service")
        if envelope is None and intent.service != FLEET:
            raise Refused(f"there is no service {intent.service!r}")
        if kind is OverrideKind.RELAX_CAP:
            raise Refused("a cap is relaxed only as the envelope's own step has it: approve that")
        ends_s = _ends(payload, now_s)
        signed = payload.flag("signed_over_cap", False)
        replicas = payload.whole("replicas", 0, MOST_REPLICAS) if kind is OverrideKind.PIN else None
        cap = envelope.spend_cap_usd_per_hour if envelope else None
        if replicas and cap is not None and not signed:
            self._within_cap(intent.service, replicas, cap)
        return self._put_override(intent, kind, replicas, now_s, ends_s, signed and replicas is not None)

    def _within_cap(self, service: str, replicas: int, cap: float) -> None:
        price = self._facts(service).cheapest_usd_per_hour
        if not math.isfinite(price) or price <= 0:
            raise Refused(f"no offer has a known price, so {replicas} replicas can't be held against the cap; sign it")
        if replicas * price > cap + 1e-9:
            raise Refused(
                f"{replicas} replicas cost at least ${replicas * price:.2f}/h (${price:.3f} each), above the cap of "
                f"${cap:.2f}/h, and the pin is not signed as exceeding it (nearest: {int(cap / price)} replicas)"
            )

    def _put_override(
        self, intent: Intent, kind: OverrideKind, replicas: int | None, now_s: float, ends_s: float, signed: bool
    ) -> str:
        service = FLEET if intent.kind == IntentKind.PAUSE_FLEET else intent.service
        added = self._store.add_override(
            service,
            kind,
            replicas=replicas,
            author=intent.author,
            reason=intent.reason,
            now_s=now_s,
            ends_s=ends_s,
            signed_over_cap=signed,
            intent_id=intent.id,
        )
        return f"override {added.id} is in force until {moment(ends_s):%Y-%m-%d %H:%M} UTC"

    def _end_override(self, intent: Intent, payload: Payload, now_s: float) -> str:
        override_id = payload.whole("override_id", 1)
        row = self._store.override(override_id)
        if row is None:
            raise Refused(f"there is no override {override_id}")
        if row.ended_at is not None:
            raise Refused(f"override {override_id} ended at {row.ended_at:%Y-%m-%d %H:%M} UTC: {row.ended_why}")
        self._store.end_override(
            override_id, author=intent.author, reason=intent.reason, now_s=now_s, intent_id=intent.id
        )
        return f"override {override_id} ended"

    def _pause_fleet(self, intent: Intent, payload: Payload, now_s: float) -> str:
        return self._put_override(intent, OverrideKind.PAUSE, None, now_s, _ends(payload, now_s), False)

    def _relaxation(self, intent: Intent, payload: Payload, now_s: float) -> str:
        """The envelope's step "cap relaxed for N minutes", approved while somebody gives way for the cap."""
        envelope = self._store.envelope(intent.service)
        if envelope is None:
            raise Refused(f"there is no service {intent.service!r}")
        step = relaxation_of(envelope)
        if step is None:
            raise Refused(f"envelope v{envelope.version} has no step that relaxes the cap")
        if not self._store.in_force(intent.service):
            raise Refused("nobody gives way for the cap now: there is nothing to relax it for")
        ends_s, cap = now_s + step.minutes * 60, relaxed_cap(envelope, step)
        added = self._store.add_override(
            intent.service,
            OverrideKind.RELAX_CAP,
            replicas=None,
            author=intent.author,
            reason=intent.reason,
            now_s=now_s,
            ends_s=ends_s,
            cap_usd_per_hour=cap,
            intent_id=intent.id,
        )
        return f"override {added.id}: the cap is ${cap:,.2f}/h until {moment(ends_s):%Y-%m-%d %H:%M} UTC"

    def _resume_fleet(self, intent: Intent, payload: Payload, now_s: float) -> str:
        paused = [each for each in self._store.overrides(now_s) if each.service == FLEET]
        if not paused:
            raise Refused("the fleet is not paused")
        for each in paused:
            self._store.end_override(
                each.id, author=intent.author, reason=intent.reason, now_s=now_s, intent_id=intent.id
            )
        return "the fleet's pause ended"

    def _mode(self, intent: Intent, payload: Payload, now_s: float) -> str:
        mode = payload.word("mode", Mode)
        if self._store.envelope(intent.service) is None:
            raise Refused(f"there is no service {intent.service!r}")
        if lesser(mode, self._ceiling) is not mode:
            raise Refused(
                f"the controller was started in mode {self._ceiling.value} and goes no further "
                f"(nearest: {self._ceiling.value})"
            )
        if mode is self._store.mode(intent.service):
            raise Refused(f"{intent.service} is in mode {mode.value} already")
        self._store.set_mode(
            intent.service, mode, author=intent.author, reason=intent.reason, now_s=now_s, intent_id=intent.id
        )
        return f"{intent.service} is in mode {mode.value}"

    def _rule(self, intent: Intent, payload: Payload, now_s: float) -> str:
        threshold = None if payload.get("threshold") is None else payload.number("threshold", 0, above=True)
        try:
            rule = Rule(
                name=payload.text("name", 60),
                version=1,
                metric=payload.word("metric", RuleMetric),
                threshold=threshold,
                action=payload.word("action", GuardAction),
                grace_s=payload.number("grace_s", 0),
                dry_run=payload.flag("dry_run", False),
                enabled=payload.flag("enabled", True),
            )
        except RuleError as error:
            raise Refused(str(error)) from error
        version = self._store.add_rule(
            rule, author=intent.author, reason=intent.reason, now_s=now_s, intent_id=intent.id
        )
        return f"rule {rule.name} v{version} rules from now"

    def _job(self, kind: IntentKind, intent: Intent, payload: Payload, now_s: float) -> str:
        assert intent.id is not None
        action_kind, past, possible = _JOB_ACTIONS[kind]
        job_id = payload.text("job_id")
        job = self._store.job_row(job_id)
        if job is None:
            raise Refused(f"there is no job {job_id!r}")
        begun = self._store.action_status(by_hand_id(intent.id)) is not None
        if not begun and JobState(job.state) not in possible:
            at = f" at {job.finished_at:%Y-%m-%d %H:%M} UTC" if job.finished_at and job.state in ENDED else ""
            raise Refused(f"job {job_id} is {job.state}{at}, so it can't be {past}")
        action = self._store.request_by_hand(
            action_kind, job, author=intent.author, reason=intent.reason, intent_id=intent.id, now_s=now_s
        )
        try:
            result = self._act(action)
        except BackendUnavailable as error:
            raise _NotYet(f"waits: the cluster can't be asked now ({error})") from error
        except UnknownSubject as error:
            result = ActionResult(action.id, ActionStatus.REFUSED, f"the cluster has no job {job_id} ({error})")
        if result.status is ActionStatus.REFUSED:
            self._store.record_results((result,), now_s)
            raise Refused(result.detail or f"the cluster refused to have job {job_id} {past}")
        seen = result.status is ActionStatus.CONFIRMED
        done = f"job {job_id} is {past}" if seen else f"job {job_id} is to be {past}: the cluster accepted it"
        with self._store.batch():
            self._store.record_results((result,), now_s)
            self._settle(intent, done, now_s)
            self._store.enter(
                LedgerKind.GUARDRAIL,
                now_s=now_s,
                actor=intent.author,
                service=job.service,
                subject=job_id,
                what=f"Job {job_id} ({job.name}) {past} by hand",
                why=intent.reason,
                numbers={"cost_usd": job.cost_usd, "running_s": job.running_s, "progress_ratio": job.progress_ratio},
                intent_id=intent.id,
            )
        return done

    def _control(self, kind: IntentKind, intent: Intent, payload: Payload, now_s: float) -> str:
        if self._demo is None:
            raise Refused("demo controls work on the simulated cluster only; this cluster is real")
        try:
            done = _control_demo(self._demo, kind, payload, now_s)
        except BackendUnavailable as error:
            raise _NotYet(f"waits: the cluster can't be asked now ({error})") from error
        except (ValueError, UnknownSubject) as error:
            raise Refused(str(error)) from error
        with self._store.batch():
            self._settle(intent, done, now_s)
            self._store.enter(
                LedgerKind.DEMO,
                now_s=now_s,
                actor=intent.author,
                subject=kind.value.removeprefix("demo_").replace("_", " "),
                what=f"Demo: {done}",
                why=intent.reason,
                intent_id=intent.id,
            )
        return done


def _control_demo(demo: DemoControls, kind: IntentKind, payload: Payload, now_s: float) -> str:
    if kind is IntentKind.DEMO_PAUSE:
        demo.pause()
        return "virtual time stands still"
    if kind is IntentKind.DEMO_RESUME:
        demo.resume()
        return "virtual time runs again"
    if kind is IntentKind.DEMO_SPEED:
        speed = payload.number("speed", 0, 3600, above=True)
        demo.set_speed(speed)
        return f"virtual time runs at {speed:g}×"
    if kind is IntentKind.DEMO_SURGE:
        factor, minutes = payload.number("factor", 1, 20, above=True), payload.number("minutes", 1, 1440)
        demo.surge(factor, minutes, now_s)
        return f"arrivals are {factor:g}× for {minutes:g} min"
    if kind is IntentKind.DEMO_LOSE_ZONE:
        zone, minutes = payload.text("zone", 80), payload.number("minutes", 1, 1440)
        demo.lose_zone(zone, minutes, now_s)
        return f"zone {zone} is lost for {minutes:g} min"
    if kind is IntentKind.DEMO_RUNAWAY:
        demo.start_runaway(now_s)
        return "a runaway job was submitted"
    demo.reset()
    return "the demo began again"


def _ends(payload: Payload, now_s: float) -> float:
    ends_s = payload.moment_s("ends_at")
    if ends_s <= now_s:
        raise Refused(f"ends_at {moment(ends_s):%Y-%m-%d %H:%M} UTC is past: it is {moment(now_s):%Y-%m-%d %H:%M} UTC")
    if ends_s > now_s + LONGEST_S + _SLACK_S:
        latest = moment(now_s + LONGEST_S)
        raise Refused(f"ends_at is more than 7 days ahead (nearest: {latest:%Y-%m-%d %H:%M} UTC)")
    return ends_s
