"""What operators ask for, from the row that the dashboard writes to the row that it reads back."""

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, SQLModel, select

from controller.backends.base import BackendUnavailable, UnknownSubject
from controller.core.envelope import EnvelopeFacts, to_document
from controller.core.types import Action, ActionResult, Job
from controller.intake import DemoControls, Intake
from controller.lease import LeaseLost, acquire, check_epoch
from controller.store import Store
from controller.store.convert import moment
from models.database import open_engine
from models.enums import ActionKind, ActionStatus, IntentKind, IntentStatus, JobState, LedgerKind, Mode
from models.guardrails import GuardrailEvent
from models.intents import Intent, OverrideRow, new_intent
from models.ledger import LedgerEntry
from models.plans import ActionRow
from models.services import EnvelopeVersion, Service
from tests.core.observed import envelope
from tests.core.prospects import prospect

NOW = datetime(2024, 11, 25, 6, tzinfo=UTC).timestamp()
HOUR = 3600.0
TIERS = ("premium", "standard", "background")


def document(cap: float | None = 50.0, **changes: Any) -> dict[str, Any]:
    share = dict(zip(TIERS, (20, 50, 30), strict=True))
    tiers = {
        name: {"tenants_percent": share[name], "latency": {"of": "wait", "statistic": "mean", "target_ms": 200}}
        for name in TIERS
    }
    return {"spend_cap_usd_per_hour": cap, "tier_salt": "a", "tiers": tiers, **changes}


def sample(cap: float) -> dict[str, Any]:
    """The targets that come with Heddle."""
    return to_document(envelope(cap))


def job(state: JobState = JobState.RUNNING) -> Job:
    ended_s = NOW - 60 if state is JobState.KILLED else None
    return Job(
        "j-0004", "loop", "images", "acme", "background", state, "g5.xlarge/us-west-2/on_demand", 1, 1.0, NOW - 900,
        NOW - 800, ended_s, 800.0, 12.4, None, None, False, 1, 10.0, 600.0,
    )  # fmt: skip


class Cluster:
    """Remembers each action by its id, as a backend must."""

    def __init__(self) -> None:
        self.done: dict[str, ActionResult] = {}
        self.seen: list[Action] = []
        self.down = False
        self.answer = ActionStatus.ACCEPTED

    def apply(self, action: Action) -> ActionResult:
        if self.down:
            raise BackendUnavailable("no route to it")
        if action.job_id == "j-0099":
            raise UnknownSubject("j-0099")
        self.seen.append(action)
        return self.done.setdefault(action.id, ActionResult(action.id, self.answer, "has ended already"))


class Demo:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def pause(self) -> None:
        self.calls.append(("pause",))

    def resume(self) -> None:
        self.calls.append(("resume",))

    def set_speed(self, x: float) -> None:
        self.calls.append(("speed", x))

    def surge(self, factor: float, minutes: float, now_s: float) -> None:
        self.calls.append(("surge", factor, minutes, now_s))

    def lose_zone(self, zone: str, minutes: float, now_s: float) -> None:
        if zone != "usw2-az1":
            raise UnknownSubject(f"no spot zone {zone!r}; there are usw2-az1")
        self.calls.append(("lose", zone, minutes, now_s))

    def start_runaway(self, now_s: float) -> None:
        self.calls.append(("runaway", now_s))

    def reset(self) -> None:
        self.calls.append(("reset",))


class Room:
    """The operators' side of the database, and a controller on the other."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.cluster = Cluster()
        self.demo: Demo | None = Demo()
        self.facts = EnvelopeFacts(TIERS, 8.0, 0.5)
        self.epoch = acquire(engine, "test")
        self.store = Store(engine, lambda: self.epoch, check_epoch)
        self.store.seed("images", document(), now_s=NOW - 600)
        self.restart()

    def knows_ahead(self, made_s: float = NOW) -> None:
        """A forecast of the next day, made at made_s, of a fleet that 12 dollars an hour can carry."""
        self.store.record_prospect(prospect(now_s=made_s, start_s=made_s, minutes_end_s=made_s))

    def restart(self) -> None:
        """A controller that remembers only what the database does; the cluster lives on."""
        self.store = Store(self.engine, lambda: self.epoch, check_epoch)
        demo: DemoControls | None = self.demo
        self.intake = Intake(self.store, lambda service: self.facts, self.cluster.apply, demo)

    def asks(self, kind: IntentKind | str, payload: Any, service: str = "images", author: str = "ana") -> int:
        intent = new_intent(
            IntentKind.OVERRIDE, author=author, reason="a launch", created_at=moment(NOW), service=service
        )
        intent.kind, intent.payload = str(kind), payload
        with Session(self.engine) as session:
            session.add(intent)
            session.commit()
            assert intent.id is not None
            return intent.id

    def told(self, intent_id: int) -> tuple[str, str]:
        with Session(self.engine) as session:
            intent = session.get(Intent, intent_id)
            assert intent is not None
            return intent.status, intent.status_reason

    def hears(
        self, kind: IntentKind | str, payload: Any, service: str = "images", now_s: float = NOW
    ) -> tuple[str, str]:
        """Asks, lets one tick pass, and reads what became of it."""
        number = self.asks(kind, payload, service)
        self.intake.take(NOW)
        return self.told(number)

    def rows(self, model: type[Any]) -> list[Any]:
        with Session(self.engine) as session:
            return list(session.exec(select(model).order_by(*model.__table__.primary_key.columns)).all())

    def last_entry(self) -> LedgerEntry:
        entry = self.rows(LedgerEntry)[-1]
        assert isinstance(entry, LedgerEntry)
        return entry

    def runs(self, a_job: Job) -> None:
        self.store.record_jobs([a_job], NOW)


@pytest.fixture
def room(empty_database: str) -> Iterator[Room]:
    engine = open_engine(empty_database)
    SQLModel.metadata.create_all(engine)
    yield Room(engine)
    engine.dispose()


def until(hours: float, now_s: float = NOW) -> str:
    return moment(now_s + hours * HOUR).isoformat()


def envelope_of(doc: Any, base: int = 1, **more: Any) -> dict[str, Any]:
    return {"document": doc, "base_version": base, "signed": False, **more}


def pin(replicas: Any = 4, hours: float = 2.0, **more: Any) -> dict[str, Any]:
    return {"kind": "pin", "replicas": replicas, "ends_at": until(hours), "signed_over_cap": False, **more}


class TestMode:
    def test_a_mode_rules_from_the_tick_that_takes_it(self, room: Room):
        assert room.store.mode("images") is Mode.ACT
        assert room.hears(IntentKind.SET_MODE, {"mode": "advise"}) == ("applied", "images is in mode advise")
        assert room.store.mode("images") is Mode.ADVISE
        (service,) = room.rows(Service)
        assert (service.mode, service.mode_author, service.mode_reason) == ("advise", "ana", "a launch")
        entry = room.last_entry()
        assert (entry.kind, entry.what, entry.why) == ("mode", "Mode act → advise", "a launch")
        room.restart()
        assert room.store.mode("images") is Mode.ADVISE

    def test_no_service_goes_further_than_the_process(self, room: Room):
        room.intake = Intake(room.store, lambda service: room.facts, room.cluster.apply, ceiling=Mode.OBSERVE)
        status, reason = room.hears(IntentKind.SET_MODE, {"mode": "advise"})
        assert status == "refused" and "started in mode observe and goes no further (nearest: observe)" in reason
        assert room.hears(IntentKind.SET_MODE, {"mode": "observe"})[0] == "applied"

    @pytest.mark.parametrize(
        ("payload", "service", "reason"),
        [
            ({"mode": "act"}, "images", "in mode act already"),
            ({"mode": "sleep"}, "images", "mode"),
            ({}, "images", "mode"),
            ({"mode": "observe"}, "videos", "there is no service 'videos'"),
        ],
    )
    def test_what_cant_be_is_refused(self, room: Room, payload: Any, service: str, reason: str):
        status, why = room.hears(IntentKind.SET_MODE, payload, service)
        assert status == "refused" and reason in why
        assert room.store.mode("images") is Mode.ACT


class TestEnvelope:
    def test_an_envelope_rules_from_the_tick_that_takes_it(self, room: Room):
        assert room.hears(IntentKind.APPLY_ENVELOPE, envelope_of(document(40.0))) == (
            "applied",
            "envelope v2 rules from now",
        )
        ruling = room.store.envelope("images")
        assert ruling is not None and (ruling.version, ruling.spend_cap_usd_per_hour) == (2, 40.0)
        entry = room.last_entry()
        assert (entry.actor, entry.why, entry.kind) == ("ana", "a launch", "envelope")
        assert entry.what == "Envelope v2: spend cap $50.00/h → $40.00/h"

    def test_of_two_who_edit_the_same_version_the_second_is_told_who_was_first(self, room: Room):
        first = room.asks(IntentKind.APPLY_ENVELOPE, envelope_of(document(40.0)), author="ana")
        second = room.asks(IntentKind.APPLY_ENVELOPE, envelope_of(document(60.0)), author="ben")
        outcomes = room.intake.take(NOW)
        assert [(each.intent_id, each.status) for each in outcomes] == [
            (first, IntentStatus.APPLIED),
            (second, IntentStatus.REFUSED),
        ]
        assert room.told(second) == (
            "refused",
            "v1 is no longer current: v2 was applied at 2024-11-25 06:00 UTC by ana",
        )
        assert len(room.rows(EnvelopeVersion)) == 2
        assert room.last_entry().actor == "ben"

    @pytest.mark.parametrize(
        ("doc", "reason"),
        [
            (document(-5), "spend_cap_usd_per_hour: must be above $0, not -5; null means no cap (nearest: 1)"),
            (document(floors={"images": 200}), "floors: 200 replicas cost at least $100.00/h, above the cap"),
            ("cap: 5", "envelope: must be a mapping"),
            (document(), "it says what v1 says already: nothing would change"),
        ],
    )
    def test_an_infeasible_one_is_refused_with_the_field(self, room: Room, doc: Any, reason: str):
        status, told = room.hears(IntentKind.APPLY_ENVELOPE, envelope_of(doc))
        assert status == "refused" and reason in told
        assert len(room.rows(EnvelopeVersion)) == 1

    def test_a_tier_that_the_service_lacks_is_refused_even_signed(self, room: Room):
        doc = document()
        doc["tiers"] = {"gold": doc["tiers"]["premium"] | {"tenants_percent": 100}}
        status, told = room.hears(IntentKind.APPLY_ENVELOPE, envelope_of(doc, signed=True))
        assert status == "refused" and "the service has no tier 'gold'" in told

    def test_a_warning_needs_a_signature(self, room: Room):
        status, told = room.hears(IntentKind.APPLY_ENVELOPE, envelope_of(document(0.25)))
        assert status == "refused" and told.endswith("sign it to apply it all the same")
        assert room.hears(IntentKind.APPLY_ENVELOPE, envelope_of(document(0.25), signed=True))[0] == "applied"

    def test_one_that_will_hardly_hold_is_refused_unless_it_is_signed(self, room: Room):
        room.knows_ahead()
        poor = sample(6.0)
        status, told = room.hears(IntentKind.APPLY_ENVELOPE, envelope_of(poor))
        assert status == "refused"
        assert "all terms hold over the next day with a probability of under 1%" in told
        assert "breaks first" in told and told.endswith("sign it to apply it all the same")
        assert len(room.rows(EnvelopeVersion)) == 1
        signed = envelope_of(poor, signed=True, probability=0.02)
        assert room.hears(IntentKind.APPLY_ENVELOPE, signed)[0] == "applied"
        entry = room.last_entry()
        assert "signed, knowing that all terms hold over the next day with a probability of under 1%" in entry.what
        assert entry.numbers["probability"] == 0.0 and entry.numbers["probability_shown"] == 0.02
        assert entry.numbers["signed"] is True

    def test_one_that_will_hold_needs_no_signature_and_its_probability_is_kept(self, room: Room):
        room.knows_ahead()
        assert room.hears(IntentKind.APPLY_ENVELOPE, envelope_of(sample(40.0)))[0] == "applied"
        assert room.last_entry().numbers["probability"] > 0.9
        assert "signed" not in room.last_entry().what

    def test_of_what_is_not_known_no_signature_is_asked(self, room: Room):
        room.knows_ahead(made_s=NOW - 4 * HOUR)
        assert room.hears(IntentKind.APPLY_ENVELOPE, envelope_of(sample(6.0)))[0] == "applied"
        assert room.last_entry().numbers["probability"] is None

    def test_a_service_that_is_not_there(self, room: Room):
        assert room.hears(IntentKind.APPLY_ENVELOPE, envelope_of(document(40.0)), service="video") == (
            "refused",
            "there is no service 'video'",
        )


class TestOverride:
    def test_a_pin_holds_until_it_ends_by_itself(self, room: Room):
        assert room.hears(IntentKind.OVERRIDE, pin(4)) == (
            "applied",
            "override 1 is in force until 2024-11-25 08:00 UTC",
        )
        (held,) = room.store.overrides(NOW + HOUR)
        assert (held.replicas, held.author, held.reason) == (4, "ana", "a launch")
        room.store.expire_overrides(NOW + 2 * HOUR)
        assert room.last_entry().why == "ended by itself at its expiry"

    @pytest.mark.parametrize(
        ("payload", "reason"),
        [
            (pin(-1), "replicas must be at least 0 and at most 1000, not -1"),
            (pin(2.5), "replicas must be a whole number, not 2.5"),
            (pin(10**9), "replicas must be at least 0 and at most 1000"),
            (pin(True), "replicas must be a number, not True"),
            (pin(None), "replicas must be a number, not None"),
            (pin(4, -1.0), "ends_at 2024-11-25 05:00 UTC is past: it is 2024-11-25 06:00 UTC"),
            (pin(4, 0.0), "is past"),
            (pin(4, 24 * 7 + 1), "ends_at is more than 7 days ahead (nearest: 2024-12-02 06:00 UTC)"),
            (pin(ends_at="2024-11-25T09:00:00"), "ends_at must say its zone"),
            (pin(ends_at="soon"), "ends_at must be an ISO time"),
            (pin(ends_at=7), "ends_at must be an ISO time"),
            (pin(kind="hold"), "kind must be pin, freeze, pause, relax_cap, not 'hold'"),
            (pin(signed_over_cap="yes"), "signed_over_cap must be true or false"),
            ({"kind": "pin", "replicas": 3}, "the field 'ends_at' is missing"),
            ({}, "the field 'kind' is missing"),
            ([1, 2], "the payload must be an object with fields"),
            ("pin", "the payload must be an object with fields"),
        ],
    )
    def test_a_malformed_one_is_refused_naming_the_field(self, room: Room, payload: Any, reason: str):
        status, told = room.hears(IntentKind.OVERRIDE, payload)
        assert (status, reason in told) == ("refused", True), told
        assert room.rows(OverrideRow) == []
        assert room.last_entry().what == f"Refused override: {told}"

    def test_a_pin_above_the_cap_must_be_signed(self, room: Room):
        assert room.hears(IntentKind.OVERRIDE, pin(100))[0] == "applied"
        status, told = room.hears(IntentKind.OVERRIDE, pin(101))
        assert status == "refused"
        assert told == (
            "101 replicas cost at least $50.50/h ($0.500 each), above the cap of $50.00/h, "
            "and the pin is not signed as exceeding it (nearest: 100 replicas)"
        )
        assert room.hears(IntentKind.OVERRIDE, pin(101, signed_over_cap=True))[0] == "applied"
        (held,) = room.store.overrides(NOW)
        assert (held.replicas, held.signed_over_cap) == (101, True)
        assert "signed as exceeding the cap" in room.last_entry().what

    def test_a_pin_beats_floor_and_ceiling(self, room: Room):
        limits = document(floors={"images": 3}, ceilings={"images": 6})
        assert room.hears(IntentKind.APPLY_ENVELOPE, envelope_of(limits))[0] == "applied"
        for replicas in (0, 9):
            assert room.hears(IntentKind.OVERRIDE, pin(replicas))[0] == "applied"

    def test_an_unknown_price_is_not_a_price_of_zero(self, room: Room):
        room.facts = EnvelopeFacts(TIERS, 8.0, math.nan)
        assert "no offer has a known price" in room.hears(IntentKind.OVERRIDE, pin(4))[1]
        assert room.hears(IntentKind.OVERRIDE, pin(4, signed_over_cap=True))[0] == "applied"

    def test_the_newest_of_a_service_rules(self, room: Room):
        for replicas in (4, 6):
            room.asks(IntentKind.OVERRIDE, pin(replicas))
        room.intake.take(NOW)
        assert [each.replicas for each in room.store.overrides(NOW)] == [6]
        assert [row.ended_why for row in room.rows(OverrideRow)] == ["replaced by pin of 6 replicas of ana", ""]

    def test_ending_one(self, room: Room):
        room.hears(IntentKind.OVERRIDE, {"kind": "freeze", "replicas": None, "ends_at": until(2)})
        assert room.hears(IntentKind.END_OVERRIDE, {"override_id": 9}) == ("refused", "there is no override 9")
        assert room.hears(IntentKind.END_OVERRIDE, {"override_id": 1}) == ("applied", "override 1 ended")
        status, told = room.hears(IntentKind.END_OVERRIDE, {"override_id": 1})
        assert status == "refused" and told.startswith("override 1 ended at 2024-11-25 06:00 UTC: ended by ana")

    def test_the_fleet_is_paused_and_resumed(self, room: Room):
        assert room.hears(IntentKind.RESUME_FLEET, {}, "*") == ("refused", "the fleet is not paused")
        assert room.hears(IntentKind.PAUSE_FLEET, {"ends_at": until(1)}, "*")[0] == "applied"
        assert [each.service for each in room.store.overrides(NOW)] == ["*"]
        assert room.hears(IntentKind.RESUME_FLEET, {}, "*")[0] == "applied"
        assert room.store.overrides(NOW) == ()
        assert room.last_entry().kind == LedgerKind.PAUSE.value

    def test_the_fleet_can_t_be_pinned(self, room: Room):
        assert "paused only" in room.hears(IntentKind.OVERRIDE, pin(4), "*")[1]


class TestJobs:
    def test_a_job_is_killed_by_hand(self, room: Room):
        room.runs(job())
        assert room.hears(IntentKind.KILL_JOB, {"job_id": "j-0004"}, "") == (
            "applied",
            "job j-0004 is to be killed: the cluster accepted it",
        )
        (action,) = room.cluster.seen
        assert (action.kind, action.job_id, action.reason) == (
            ActionKind.KILL_JOB,
            "j-0004",
            "by hand, ana: a launch",
        )
        (event,) = room.rows(GuardrailEvent)
        assert (event.rule, event.action, event.status, event.evidence["cost_usd"]) == (
            "by hand",
            "kill",
            "accepted",
            12.4,
        )
        assert room.store.confirm([], NOW + 15, jobs=[job(JobState.KILLED)]) == (action.id,)
        assert room.rows(GuardrailEvent)[0].status == "confirmed"
        assert room.last_entry().what == "Job j-0004 (loop) killed by hand"

    @pytest.mark.parametrize("crashed_after", ["writing", "doing", "answering"])
    def test_a_crash_at_any_point_kills_once(self, room: Room, crashed_after: str, monkeypatch: pytest.MonkeyPatch):
        room.runs(job())
        number = room.asks(IntentKind.KILL_JOB, {"job_id": "j-0004"}, "")

        class Crash(BaseException):
            pass

        def crash(*_: Any, **__: Any) -> Any:
            raise Crash

        done = room.cluster.apply
        if crashed_after == "writing":
            monkeypatch.setattr(room.intake, "_act", crash)
        elif crashed_after == "doing":
            monkeypatch.setattr(room.intake, "_act", lambda action: (done(action), crash()))
        else:
            monkeypatch.setattr(room.store, "settle_intent", crash)
        with pytest.raises(Crash):
            room.intake.take(NOW)
        assert room.told(number)[0] == "pending"
        room.restart()
        (unfinished,) = room.store.unfinished_actions()
        room.store.record_results([room.cluster.apply(unfinished)], NOW + 5)
        room.runs(job(JobState.KILLED))
        room.intake.take(NOW + 15)
        assert room.told(number)[0] == "applied"
        assert len(room.cluster.done) == 1 == len(room.rows(ActionRow)) == len(room.rows(GuardrailEvent))
        room.intake.take(NOW + 30)
        assert len([entry for entry in room.rows(LedgerEntry) if entry.intent_id == number]) == 1

    def test_an_intent_waits_while_the_cluster_can_t_be_asked(self, room: Room):
        room.runs(job())
        room.cluster.down = True
        number = room.asks(IntentKind.KILL_JOB, {"job_id": "j-0004"}, "")
        (outcome,) = room.intake.take(NOW)
        assert outcome.status is IntentStatus.PENDING
        assert room.told(number) == ("pending", "waits: the cluster can't be asked now (no route to it)")
        room.cluster.down = False
        room.intake.take(NOW + 15)
        assert room.told(number)[0] == "applied"
        assert len(room.rows(ActionRow)) == 1

    @pytest.mark.parametrize(
        ("kind", "state", "reason"),
        [
            (IntentKind.KILL_JOB, JobState.KILLED, "is killed at 2024-11-25 05:59 UTC, so it can't be killed"),
            (IntentKind.SUSPEND_JOB, JobState.SUSPENDED, "is suspended, so it can't be suspended"),
            (IntentKind.RESUME_JOB, JobState.RUNNING, "is running, so it can't be resumed"),
        ],
    )
    def test_what_a_job_s_state_forbids(self, room: Room, kind: IntentKind, state: JobState, reason: str):
        room.runs(job(state))
        status, told = room.hears(kind, {"job_id": "j-0004"}, "")
        assert status == "refused" and reason in told
        assert room.cluster.seen == room.rows(ActionRow) == []

    def test_what_the_cluster_refuses_is_refused_and_remembered(self, room: Room):
        room.runs(job())
        room.cluster.answer = ActionStatus.REFUSED
        assert room.hears(IntentKind.SUSPEND_JOB, {"job_id": "j-0004"}, "") == ("refused", "has ended already")
        assert room.rows(ActionRow)[0].status == "refused"
        assert room.store.unfinished_actions() == ()

    def test_a_job_that_nobody_knows(self, room: Room):
        assert room.hears(IntentKind.KILL_JOB, {"job_id": "j-0001"}, "") == ("refused", "there is no job 'j-0001'")


class TestRules:
    RULE = {  # noqa: RUF012 - never changed
        "name": "duration", "metric": "duration", "threshold": 7200, "action": "throttle", "grace_s": 60,
        "dry_run": True, "enabled": True,
    }  # fmt: skip

    def test_a_rule_s_new_version_rules(self, room: Room):
        assert room.hears(IntentKind.SET_RULE, self.RULE, "") == ("applied", "rule duration v2 rules from now")
        rule = next(each for each in room.store.rules() if each.name == "duration")
        assert (rule.version, rule.threshold, rule.dry_run) == (2, 7200.0, True)
        assert room.last_entry().what.startswith(
            "Rule duration v2: duration over 7200 s → throttle after 60 s, dry run"
        )

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"threshold": None}, "threshold: duration needs a number of seconds"),
            ({"threshold": 0}, "threshold must be above 0"),
            ({"threshold": "long"}, "threshold must be a number, not 'long'"),
            ({"metric": "speed"}, "metric must be cost, projected_cost, duration, no_progress"),
            ({"action": "explode"}, "action must be alert, throttle, kill"),
            ({"grace_s": -1}, "grace_s must be at least 0, not -1"),
            ({"name": " "}, "name must be a text of 1 to 60 characters"),
        ],
    )
    def test_one_that_makes_no_sense_is_refused(self, room: Room, changes: dict[str, Any], reason: str):
        status, told = room.hears(IntentKind.SET_RULE, self.RULE | changes, "")
        assert (status, reason in told) == ("refused", True), told
        assert max(rule.version for rule in room.store.rules()) == 1


class TestDemo:
    @pytest.mark.parametrize(
        ("kind", "payload", "call", "said"),
        [
            (IntentKind.DEMO_PAUSE, {}, ("pause",), "virtual time stands still"),
            (IntentKind.DEMO_RESUME, {}, ("resume",), "virtual time runs again"),
            (IntentKind.DEMO_SPEED, {"speed": 120}, ("speed", 120.0), "virtual time runs at 120×"),
            (
                IntentKind.DEMO_SURGE,
                {"factor": 3, "minutes": 20},
                ("surge", 3.0, 20.0, NOW),
                "arrivals are 3× for 20 min",
            ),
            (
                IntentKind.DEMO_LOSE_ZONE,
                {"zone": "usw2-az1", "minutes": 30},
                ("lose", "usw2-az1", 30.0, NOW),
                "zone usw2-az1 is lost for 30 min",
            ),
            (IntentKind.DEMO_RUNAWAY, {}, ("runaway", NOW), "a runaway job was submitted"),
            (IntentKind.DEMO_RESET, {}, ("reset",), "the demo began again"),
        ],
    )
    def test_a_hand_on_the_simulated_world(
        self, room: Room, kind: IntentKind, payload: dict[str, Any], call: tuple[Any, ...], said: str
    ):
        assert room.hears(kind, payload, "") == ("applied", said)
        assert room.demo is not None and room.demo.calls == [call]
        assert (room.last_entry().kind, room.last_entry().what) == ("demo", f"Demo: {said}")

    @pytest.mark.parametrize(
        ("kind", "payload", "reason"),
        [
            (IntentKind.DEMO_SPEED, {"speed": 0}, "speed must be above 0 and at most 3600, not 0"),
            (IntentKind.DEMO_SURGE, {"factor": 3}, "the field 'minutes' is missing"),
            (IntentKind.DEMO_LOSE_ZONE, {"zone": "mars", "minutes": 5}, "no spot zone 'mars'"),
        ],
    )
    def test_what_the_world_can_t_do(self, room: Room, kind: IntentKind, payload: dict[str, Any], reason: str):
        status, told = room.hears(kind, payload, "")
        assert status == "refused" and reason in told
        assert room.last_entry().kind == "demo"

    def test_a_real_cluster_has_no_demo_controls(self, room: Room):
        room.demo = None
        room.restart()
        status, told = room.hears(IntentKind.DEMO_SURGE, {"factor": 3, "minutes": 20}, "")
        assert status == "refused" and "simulated cluster only" in told


class TestAlways:
    def test_intents_are_taken_in_their_order_and_once(self, room: Room):
        numbers = [room.asks(IntentKind.OVERRIDE, pin(replicas)) for replicas in (1, 2, 3)]
        assert [outcome.intent_id for outcome in room.intake.take(NOW)] == numbers
        assert room.intake.take(NOW + 15) == ()
        assert len(room.rows(OverrideRow)) == 3

    def test_a_bad_intent_stops_neither_the_tick_nor_the_next_intent(self, room: Room, monkeypatch: pytest.MonkeyPatch):
        def breaks(*_: Any, **__: Any) -> None:
            raise KeyError("a defect of ours")

        bad = room.asks(IntentKind.OVERRIDE, pin(4))
        odd = room.asks("make_coffee", {})
        good = room.asks(IntentKind.APPLY_ENVELOPE, envelope_of(document(40.0)))
        monkeypatch.setattr(room.store, "add_override", breaks)
        room.intake.take(NOW)
        assert room.told(bad) == ("refused", "Heddle failed on it: KeyError: 'a defect of ours'")
        assert room.told(odd) == ("refused", "there is no intent of kind 'make_coffee'")
        assert room.told(good)[0] == "applied"

    def test_status_and_effect_are_one(self, room: Room, monkeypatch: pytest.MonkeyPatch):
        def power_cut(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        number = room.asks(IntentKind.OVERRIDE, pin(4))
        monkeypatch.setattr(room.store, "settle_intent", power_cut)
        with pytest.raises(KeyboardInterrupt):
            room.intake.take(NOW)
        assert room.told(number)[0] == "pending"
        assert room.rows(OverrideRow) == []
        room.restart()
        room.intake.take(NOW + 15)
        assert room.told(number)[0] == "applied"
        assert len(room.rows(OverrideRow)) == 1

    def test_a_controller_that_was_overtaken_settles_nothing(self, room: Room, monkeypatch: pytest.MonkeyPatch):
        number = room.asks(IntentKind.OVERRIDE, pin(4))
        room.epoch += 1
        with pytest.raises(LeaseLost):
            room.intake.take(NOW)
        assert room.told(number) == ("pending", "")

    def test_every_intent_leaves_a_ledger_entry_of_its_author(self, room: Room):
        room.runs(job())
        asked: list[tuple[IntentKind, Any]] = [
            (IntentKind.OVERRIDE, pin(4)),
            (IntentKind.OVERRIDE, pin(-4)),
            (IntentKind.PAUSE_FLEET, {"ends_at": until(1)}),
            (IntentKind.RESUME_FLEET, {}),
            (IntentKind.KILL_JOB, {"job_id": "j-0004"}),
            (IntentKind.SET_RULE, TestRules.RULE),
            (IntentKind.DEMO_SURGE, {"factor": 2, "minutes": 5}),
            (IntentKind.APPLY_ENVELOPE, envelope_of(document(41.0))),
        ]
        numbers = [room.asks(kind, payload) for kind, payload in asked]
        room.intake.take(NOW)
        found: Callable[[int], list[LedgerEntry]] = lambda number: [  # noqa: E731
            entry for entry in room.rows(LedgerEntry) if entry.intent_id == number
        ]
        for number in numbers:
            assert {(entry.actor, entry.why) for entry in found(number)} == {("ana", "a launch")}
