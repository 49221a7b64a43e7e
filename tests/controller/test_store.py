"""The store as a reader of the database sees it: each test closes with what another process would read."""

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, event
from sqlmodel import Session, SQLModel, select

from controller.backends.base import Notice
from controller.core.guard import DEFAULT_RULES, GuardMemory, Rule, Step, judge, remember
from controller.core.settle import Accounts, DecisionAccounts, Settled
from controller.core.types import (
    Action,
    ActionResult,
    Authority,
    Forecast,
    Job,
    Offer,
    OfferStanding,
    Plan,
    Reason,
    Replica,
    Sample,
    Series,
)
from controller.lease import LeaseLost, acquire, check_epoch, release
from controller.store import Store
from controller.store.pools import PoolMinute, pool_minutes
from controller.store.settlements import Closed
from controller.store.telemetry import TermMinute
from controller.store.transactions import BrokenBatch
from models.database import open_engine
from models.enums import (
    ActionKind,
    ActionStatus,
    EnvelopeStatus,
    GuardAction,
    JobState,
    LedgerKind,
    Limit,
    Market,
    Mode,
    OverrideKind,
    ReplicaState,
    RuleMetric,
)
from models.fleet import ClockRow, ControllerPulse, ReplicaRow
from models.forecasts import ForecastRow, ForecastScore
from models.guardrails import GuardrailEvent, GuardrailRule
from models.intents import OverrideRow
from models.jobs import JobAttempt, JobRow
from models.ledger import DecisionSettlement, LedgerEntry, Settlement
from models.offers import OfferRow
from models.plans import ActionRow, PlanRow
from models.services import EnvelopeVersion, Service, Tier
from models.telemetry import DemandMinute, FleetMinute, SpendHour, TermReading

NOW = datetime(2024, 11, 25, 6, tzinfo=UTC).timestamp()
HOUR, DAY = 3600.0, 86400.0
SPOT, ON_DEMAND = "g5.xlarge/usw2-az1/spot", "g5.xlarge/us-west-2/on_demand"
DOCUMENT: dict[str, Any] = {
    "spend_cap_usd_per_hour": 50,
    "tier_salt": "a",
    "tiers": {
        "premium": {"tenants_percent": 20, "latency": {"of": "wait", "statistic": "mean", "target_ms": 200}},
        "standard": {"tenants_percent": 50, "latency": {"of": "wait", "statistic": "p95", "target_ms": 30000}},
        "background": {"tenants_percent": 30, "latency": {"of": "wait", "statistic": "p100", "target_ms": 7200000}},
    },
}


@pytest.fixture
def engine(empty_database: str) -> Iterator[Engine]:
    engine = open_engine(empty_database)
    SQLModel.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def reopen(engine: Engine) -> Callable[[], Store]:
    """A controller that takes over where the last one stopped: new epoch, nothing in memory."""
    held: list[int] = []

    def open_store() -> Store:
        if held:
            release(engine, held[-1])
        held.append(acquire(engine, "test"))
        epoch = held[-1]
        return Store(engine, lambda: epoch, check_epoch)

    return open_store


@pytest.fixture
def store(reopen: Callable[[], Store]) -> Store:
    return reopen()


def rows(engine: Engine, model: type[Any]) -> list[Any]:
    with Session(engine) as session:
        return list(session.exec(select(model).order_by(*model.__table__.primary_key.columns)).all())


def entries(engine: Engine, kind: LedgerKind) -> list[LedgerEntry]:
    return [entry for entry in rows(engine, LedgerEntry) if entry.kind == kind.value]


def at(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def start(action_id: str, offer: str = SPOT) -> Action:
    return Action(action_id, ActionKind.START_REPLICA, "images", "premium needs it", offer)


def plan(store: Store, *actions: Action, desired: int = 3, limit: Limit = Limit.LATENCY_TARGET, **changes: Any) -> Plan:
    whole = Plan(
        id=store.next_plan_id(),
        service="images",
        made_s=NOW,
        policy="heddle",
        required=desired,
        stabilized=desired,
        desired=desired,
        desired_by_offer={SPOT: desired, ON_DEMAND: 0},
        actions=actions,
        bound=Reason(limit, f"{limit.value} holds {desired}", {"wait_ms": 150.0, "unknown": math.nan}),
        reasons=(Reason(Limit.FORECAST, "load 2.4", {"load": np.float64(2.4)}),),
        options=({"offer": SPOT, "usd": 0.5},),
    )
    return replace(whole, **changes)


def closed(**changes: Any) -> Closed:
    """An hour of which nothing but the bill is known."""
    unknown = Settled(Accounts(), (), 60, ())
    base = Closed("images", NOW, 1.0, None, 1, {}, "x", None, Mode.ACT, True, False, unknown)
    return replace(base, **changes)


def record(store: Store, made: Plan, now_s: float = NOW, version: int = 1) -> str:
    prices = {SPOT: 0.5, ON_DEMAND: None}
    return store.record_plan(made, ready=2, coming=1, prices=prices, envelope_version=version, now_s=now_s)


def replica(name: str, state: ReplicaState = ReplicaState.READY, **changes: Any) -> Replica:
    ready_s = NOW if state in (ReplicaState.READY, ReplicaState.DRAINING) else None
    return replace(Replica(name, "images", SPOT, state, NOW - 300, ready_s, None, False), **changes)


def job(**changes: Any) -> Job:
    whole = Job(
        id="j-0001",
        name="textures",
        service="images",
        tenant="acme",
        tier="background",
        state=JobState.RUNNING,
        offer_id=ON_DEMAND,
        gpu_count=1,
        price_usd_per_hour=2.0,
        submitted_s=NOW - 100,
        started_s=NOW,
        finished_s=None,
        running_s=0.0,
        cost_usd=0.0,
        progress_ratio=0.0,
        progress_at_s=NOW,
        checkpoints=True,
        attempts=1,
        cost_limit_usd=10.0,
        expected_s=3600.0,
    )
    return replace(whole, **changes)


class TestFence:
    def test_a_controller_that_lost_the_lease_writes_nothing_more(self, engine: Engine, reopen: Callable[[], Store]):
        old = reopen()
        record(old, plan(old))
        new = reopen()
        with pytest.raises(LeaseLost):
            record(old, plan(old, start("a-p-000002-1"), desired=4))
        with pytest.raises(LeaseLost), old.batch():
            old.pulse(started_s=NOW)
        record(new, plan(new, start("a-p-000002-1"), desired=5))
        assert [(row.id, row.desired, row.epoch) for row in rows(engine, PlanRow)] == [
            ("p-000001", 3, 1),
            ("p-000002", 5, 2),
        ]
        assert rows(engine, ControllerPulse) == []

    def test_a_batch_is_all_or_nothing_and_memory_follows(self, engine: Engine, store: Store):
        store.seed("images", DOCUMENT, now_s=NOW)
        with pytest.raises(ZeroDivisionError), store.batch():
            store.add_envelope("images", DOCUMENT | {"spend_cap_usd_per_hour": 9}, "ana", "tight", NOW)
            record(store, plan(store, start("a-p-000001-1")))
            store.record_replicas([replica("r-1")], (), {}, NOW)
            store.add_override(
                "images", OverrideKind.FREEZE, replicas=None, author="ana", reason="x", now_s=NOW, ends_s=NOW + HOUR
            )
            assert store.unfinished_actions() != ()
            _ = 1 / 0
        envelope = store.envelope("images")
        assert envelope is not None
        assert (envelope.version, envelope.spend_cap_usd_per_hour) == (1, 50)
        assert store.unfinished_actions() == () == store.overrides(NOW)
        assert store.next_plan_id() == "p-000001"
        assert rows(engine, PlanRow) == rows(engine, ActionRow) == rows(engine, ReplicaRow) == []
        assert store.record_replicas([replica("r-1")], (), {}, NOW) == 1

    def test_a_batch_whose_failure_was_swallowed_is_not_kept(self, engine: Engine, store: Store):
        def fails_quietly() -> None:
            try:
                store.add_envelope("images", {"tiers": {}}, "ana", "x", NOW)
            except ValueError:
                store.record_spend(NOW, "jobs", 1.0, None)

        with pytest.raises(BrokenBatch), store.batch():
            fails_quietly()
        assert rows(engine, SpendHour) == []

    def test_what_a_batch_wrote_is_seen_inside_it_and_by_others_only_after(self, engine: Engine, store: Store):
        with store.batch():
            store.record_samples([sample("premium", 0, 60.0)])
            assert store.load_series("images", "premium", NOW, NOW + 60).values.tolist() == [1.0]
            assert store.sampled_until("images") == NOW + 60
            assert rows(engine, DemandMinute) == []
        assert len(rows(engine, DemandMinute)) == 1

    def test_two_threads_write_side_by_side(self, engine: Engine, store: Store):
        def beat(count: int) -> None:
            for number in range(count):
                store.enter(LedgerKind.CONTROLLER, now_s=NOW + number, subject="thread", what="beat")

        threads = [threading.Thread(target=beat, args=(20,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(rows(engine, LedgerEntry)) == 60


class TestSeedAndEnvelope:
    def test_a_first_start_writes_what_is_needed_once(self, engine: Engine, store: Store, reopen: Callable[[], Store]):
        assert store.envelope("images") is None
        assert store.seed("images", DOCUMENT, now_s=NOW) is True
        assert store.seed("images", DOCUMENT, now_s=NOW + 5) is False
        assert reopen().seed("images", DOCUMENT, now_s=NOW + 9) is False
        assert [row.name for row in rows(engine, Service)] == ["images"]
        assert [(row.name, row.priority, row.tenants_percent) for row in rows(engine, Tier)] == [
            ("premium", 0, 20),
            ("standard", 1, 50),
            ("background", 2, 30),
        ]
        assert len(rows(engine, GuardrailRule)) == len(DEFAULT_RULES)
        assert store.rules() == DEFAULT_RULES
        assert store.tiers("images") == ("premium", "standard", "background")
        assert len(entries(engine, LedgerKind.ENVELOPE)) == 1

    def test_a_new_version_rules_and_says_what_changed(self, engine: Engine, store: Store, reopen: Callable[[], Store]):
        store.seed("images", DOCUMENT, now_s=NOW)
        tighter = DOCUMENT | {"spend_cap_usd_per_hour": 40.0, "floors": {"images": 2}}
        assert store.add_envelope("images", tighter, "ana", "budget", NOW + 60, intent_id=7) == 2
        for each in (store, reopen()):
            envelope = each.envelope("images")
            assert envelope is not None
            assert (envelope.version, envelope.spend_cap_usd_per_hour, envelope.floor) == (2, 40.0, 2)
            assert envelope.tiers[0].target_ms == 200
        entry = entries(engine, LedgerKind.ENVELOPE)[-1]
        assert entry.what == "Envelope v2: spend cap $50.00/h → $40.00/h; floor 0 → 2"
        assert (entry.actor, entry.why, entry.intent_id, at(entry.at)) == ("ana", "budget", 7, NOW + 60)
        assert [row.version for row in store.envelope_history("images")] == [2, 1]
        assert rows(engine, EnvelopeVersion)[0].document["tiers"]["premium"]["latency"]["window_s"] == 3600

    def test_an_envelope_that_is_none_leaves_no_trace(self, engine: Engine, store: Store):
        with pytest.raises(ValueError, match="spend_cap"):
            store.add_envelope("images", DOCUMENT | {"spend_cap_usd_per_hour": -1}, "ana", "x", NOW)
        assert rows(engine, EnvelopeVersion) == rows(engine, LedgerEntry) == []


class TestOverrides:
    def pin(self, store: Store, replicas: int = 5, now_s: float = NOW, hours: float = 2.0, **changes: Any) -> int:
        given: dict[str, Any] = {"author": "ana", "reason": "launch", "replicas": replicas, **changes}
        return store.add_override("images", OverrideKind.PIN, now_s=now_s, ends_s=now_s + hours * HOUR, **given).id

    def test_an_override_rules_until_its_end_and_ends_by_itself(self, engine: Engine, store: Store):
        number = self.pin(store)
        assert [each.id for each in store.overrides(NOW + 2 * HOUR - 1)] == [number]
        assert store.expire_overrides(NOW + 2 * HOUR - 1) == ()
        assert store.overrides(NOW + 2 * HOUR) == ()
        assert [each.id for each in store.expire_overrides(NOW + 2 * HOUR + 10)] == [number]
        assert store.expire_overrides(NOW + 2 * HOUR + 25) == ()
        row = rows(engine, OverrideRow)[0]
        assert (at(row.ended_at), row.ended_why) == (NOW + 2 * HOUR, "ended by itself at its expiry")
        put, ended = entries(engine, LedgerKind.OVERRIDE)
        assert put.what == "Pin of 5 replicas on images until 2024-11-25 08:00 UTC"
        assert (put.actor, put.why) == ("ana", "launch")
        assert (ended.what, ended.why) == ("Pin of 5 replicas on images ended", "ended by itself at its expiry")
        assert ended.actor == "heddle"

    def test_one_that_expired_while_no_controller_ran_ends_at_the_next_start(
        self, engine: Engine, store: Store, reopen: Callable[[], Store]
    ):
        number = self.pin(store)
        again = reopen()
        assert [each.id for each in again.overrides(NOW + 60)] == [number]
        assert [each.id for each in again.expire_overrides(NOW + DAY)] == [number]
        assert at(rows(engine, OverrideRow)[0].ended_at) == NOW + 2 * HOUR

    def test_a_new_override_replaces_the_service_s_former_one(self, engine: Engine, store: Store):
        self.pin(store, 5)
        second = self.pin(store, 7, now_s=NOW + 60, author="ben")
        assert [(each.id, each.replicas) for each in store.overrides(NOW + 61)] == [(second, 7)]
        assert rows(engine, OverrideRow)[0].ended_why == "replaced by pin of 7 replicas of ben"

    def test_the_fleet_s_pause_stands_beside_a_service_s_pin(self, engine: Engine, store: Store):
        self.pin(store)
        pause = store.add_override(
            "*", OverrideKind.PAUSE, replicas=None, author="ben", reason="migration", now_s=NOW, ends_s=NOW + HOUR
        )
        assert {each.service for each in store.overrides(NOW)} == {"images", "*"}
        assert store.end_override(pause.id, author="ben", reason="done", now_s=NOW + 60) is True
        assert store.end_override(pause.id, author="ben", reason="done", now_s=NOW + 60) is False
        assert [entry.what for entry in entries(engine, LedgerKind.PAUSE)] == [
            "Pause on the fleet until 2024-11-25 07:00 UTC",
            "Pause on the fleet ended",
        ]


class TestPlans:
    def test_a_plan_is_whole_in_the_database_before_anything_is_done(self, engine: Engine, store: Store):
        made = plan(store, start("a-p-000001-1"), start("a-p-000001-2"))
        assert record(store, made) == "p-000001"
        row = rows(engine, PlanRow)[0]
        assert (row.action_count, row.bound_limit, row.observed_ready, row.observed_coming) == (
            2,
            "latency_target",
            2,
            1,
        )
        assert row.prices == {SPOT: 0.5}
        assert row.reasons == [{"limit": "forecast", "text": "load 2.4", "numbers": {"load": 2.4}}]
        assert {each.status for each in rows(engine, ActionRow)} == {"requested"}
        assert {each.plan_id for each in rows(engine, ActionRow)} == {"p-000001"}
        entry = entries(engine, LedgerKind.DECISION)[0]
        assert entry.what == f"Keep 3 replicas: start 2 on {SPOT}"
        assert entry.why == "latency_target holds 3"
        assert (entry.numbers["wait_ms"], entry.numbers["unknown"]) == (150.0, None)

    def test_a_tick_that_changes_nothing_extends_the_last_plan(
        self, engine: Engine, store: Store, reopen: Callable[[], Store]
    ):
        record(store, plan(store, start("a-p-000001-1")))
        for tick in range(1, 4):
            assert record(store, plan(store), NOW + 15 * tick) == "p-000001"
        again = reopen()
        assert record(again, plan(again), NOW + 60) == "p-000001"
        assert [(row.id, at(row.held_until)) for row in rows(engine, PlanRow)] == [("p-000001", NOW + 60)]
        assert len(entries(engine, LedgerKind.DECISION)) == 1

    @pytest.mark.parametrize(
        "changes",
        [
            {"desired": 4},
            {"limit": Limit.SPEND_CAP},
            {"desired_by_offer": {ON_DEMAND: 3}},
            {"shed": ("background",)},
            {"actions": (start("a-p-000002-1"),)},
        ],
    )
    def test_a_tick_that_decides_something_new_adds_a_plan(self, engine: Engine, store: Store, changes: dict[str, Any]):
        record(store, plan(store))
        actions = changes.pop("actions", ())
        assert record(store, plan(store, *actions, **changes), NOW + 15) == "p-000002"
        assert len(rows(engine, PlanRow)) == 2 == len(entries(engine, LedgerKind.DECISION))

    def test_a_new_envelope_shows_in_the_plans(self, engine: Engine, store: Store):
        record(store, plan(store))
        assert record(store, plan(store), NOW + 15, version=2) == "p-000002"

    def test_plan_numbers_go_on_after_a_restart(self, store: Store, reopen: Callable[[], Store]):
        record(store, plan(store, id="p-999999"))
        assert store.next_plan_id() == "p-1000000"
        record(store, plan(store, desired=9), NOW)
        assert reopen().next_plan_id() == "p-1000001"

    def test_a_crash_between_plan_and_act_leaves_the_actions_to_apply_again(
        self, engine: Engine, store: Store, reopen: Callable[[], Store]
    ):
        actions = (start("a-p-000001-1"), start("a-p-000001-2", ON_DEMAND))
        record(store, plan(store, *actions))
        after = reopen()
        assert after.unfinished_actions() == actions
        after.record_results([ActionResult("a-p-000001-1", ActionStatus.ACCEPTED, replica_id="r-1")], NOW + 30)
        assert after.unfinished_actions() == actions[1:]
        assert {row.id: row.status for row in rows(engine, ActionRow)} == {
            "a-p-000001-1": "accepted",
            "a-p-000001-2": "requested",
        }

    def test_answers_are_entered_once_a_kind(self, engine: Engine, store: Store):
        record(store, plan(store, *(start(f"a-p-000001-{n}") for n in range(1, 5))))
        results = [ActionResult(f"a-p-000001-{n}", ActionStatus.ACCEPTED, replica_id=f"r-{n}") for n in (1, 2, 3)]
        results.append(ActionResult("a-p-000001-4", ActionStatus.REFUSED, "usw2-az1 has no capacity"))
        store.record_results(results, NOW + 1)
        store.record_results(results, NOW + 2)
        said = [(entry.what, entry.why, entry.plan_id) for entry in entries(engine, LedgerKind.ACTION)]
        assert said == [
            (f"Start 3 replicas ({SPOT}): accepted", "", "p-000001"),
            (f"Start 1 replica ({SPOT}): refused", "usw2-az1 has no capacity", "p-000001"),
        ]
        assert rows(engine, ActionRow)[3].detail == "usw2-az1 has no capacity"

    def test_observation_confirms_what_was_accepted(self, engine: Engine, store: Store, reopen: Callable[[], Store]):
        release_it = Action("a-p-000001-3", ActionKind.RELEASE_REPLICA, "images", "idle", SPOT, "r-9")
        record(store, plan(store, start("a-p-000001-1"), start("a-p-000001-2"), release_it))
        accepted = [ActionResult(f"a-p-000001-{n}", ActionStatus.ACCEPTED, replica_id=f"r-{n}") for n in (1, 2)]
        store.record_results([*accepted, ActionResult("a-p-000001-3", ActionStatus.ACCEPTED)], NOW)

        booting, leaving = replica("r-1", ReplicaState.BOOTING), replica("r-9", ReplicaState.DRAINING)
        assert store.confirm([booting, replace(booting, id="r-2"), leaving], NOW + 15) == ()
        after = reopen()
        assert after.confirm([replica("r-1"), replace(booting, id="r-2")], NOW + 200) == (
            "a-p-000001-1",
            "a-p-000001-3",
        )
        lost = replica("r-2", ReplicaState.LOST)
        assert after.confirm([replica("r-1")], NOW + 215, gone=[lost]) == ("a-p-000001-2",)
        assert after.confirm([replica("r-1")], NOW + 230) == ()
        assert [(row.status, row.detail, at(row.confirmed_at)) for row in rows(engine, ActionRow)] == [
            ("confirmed", "", NOW + 200),
            ("refused", "the replica ended before it was ready", NOW + 215),
            ("confirmed", "", NOW + 200),
        ]

    def test_an_accepted_start_that_never_shows_is_given_up_after_an_hour(self, engine: Engine, store: Store):
        record(store, plan(store, start("a-p-000001-1")))
        store.record_results([ActionResult("a-p-000001-1", ActionStatus.ACCEPTED, replica_id="r-1")], NOW)
        assert store.confirm([], NOW + HOUR) == ()
        assert store.confirm([], NOW + HOUR + 1) == ("a-p-000001-1",)
        assert rows(engine, ActionRow)[0].detail == "the replica was never observed"


class TestReplicasAndOffers:
    def test_a_replica_s_life_is_one_row(self, engine: Engine, store: Store):
        store.record_replicas([replica("r-1", ReplicaState.BOOTING)], (), {SPOT: 0.5}, NOW)
        store.record_replicas([replica("r-1")], (), {SPOT: 9.9}, NOW + 200)
        noticed = replica("r-1", gone_s=NOW + 1000)
        store.record_replicas([noticed], (), {}, NOW + 880)
        store.record_replicas([], [replace(noticed, state=ReplicaState.LOST)], {}, NOW + 1005)
        row = rows(engine, ReplicaRow)[0]
        assert (row.state, row.market, row.price_usd_per_hour) == ("lost", "spot", 0.5)
        assert (at(row.ready_at), at(row.gone_at), at(row.ended_at)) == (NOW, NOW + 1000, NOW + 1000)
        assert row.cost_usd == pytest.approx(0.5 * 1300 / 3600)

    def test_only_what_changed_is_written(self, store: Store, reopen: Callable[[], Store]):
        fleet = [replica(f"r-{n}") for n in range(5)]
        assert store.record_replicas(fleet, (), {}, NOW) == 5
        assert store.record_replicas([replace(each, running_tier="premium") for each in fleet], (), {}, NOW + 1) == 0
        busy = [replace(fleet[0], busy=True), *fleet[1:]]
        assert store.record_replicas(busy, (), {}, NOW + 15) == 0
        assert store.record_replicas(busy, (), {}, NOW + 60) == 1
        assert reopen().record_replicas(busy, (), {}, NOW + 61) == 0

    def test_one_that_ended_while_no_controller_looked_is_closed(self, engine: Engine, store: Store):
        leaving = replica("r-2", ReplicaState.DRAINING)
        store.record_replicas([replica("r-1"), leaving], (), {}, NOW)
        store.record_replicas([], (), {}, NOW + 900)
        assert [(row.state, at(row.ended_at), row.cost_usd) for row in rows(engine, ReplicaRow)] == [
            ("lost", NOW + 900, None),
            ("released", NOW + 900, None),
        ]

    def test_what_the_cluster_took_back_is_one_entry_an_offer(self, engine: Engine, store: Store):
        notices = [Notice(NOW, "lost", "images", SPOT, f"r-{n}", "capacity fell to 3") for n in range(7)]
        notices += [
            Notice(NOW, "interrupted", "images", SPOT, "r-0", ""),
            Notice(NOW, "preempted", "images", SPOT, "r-9", ""),
        ]
        notices += [Notice(NOW, "notice", "images", "g5.xlarge/usw2-az2/spot", "r-8", "")]
        store.record_notices(notices, NOW)
        store.record_notices([Notice(NOW, "preempted", "images", SPOT, "r-9", "")], NOW + 15)
        found = entries(engine, LedgerKind.INTERRUPTION)
        assert [(entry.what, entry.why) for entry in found] == [
            ("Spot zone usw2-az1 took back 7 replicas; 1 running request starts again", "capacity fell to 3"),
            ("Spot zone usw2-az2 gave notice for 1 replica", ""),
        ]
        assert found[0].numbers == {"replicas": 7, "requests_interrupted": 1}

    def test_offers_fail_closed_with_their_why(self, engine: Engine, store: Store):
        offer = Offer(SPOT, "aws", "us-west-2", "usw2-az1", "g5.xlarge", "A10G", 1, Market.SPOT, 0.5)
        standing = OfferStanding(offer, refused_s=NOW - 60)
        assert store.record_offers([standing], {}, NOW) == 1
        assert store.record_offers([standing], {}, NOW + 15) == 0
        assert store.record_offers([standing], {SPOT: "price -1 is absurd"}, NOW + 30) == 1
        row = rows(engine, OfferRow)[0]
        assert (row.usable, row.why_not, at(row.refused_at), at(row.read_at)) == (
            False,
            "price -1 is absurd",
            NOW - 60,
            NOW + 30,
        )

    def test_pools_are_kept_by_the_minute(self, engine: Engine, store: Store):
        offers = {SPOT: Offer(SPOT, "aws", "us-west-2", "usw2-az1", "g5.xlarge", "A10G", 1, Market.SPOT, 0.5, 2.0)}
        fleet = [replica("r-1", busy=True), replica("r-2"), replica("r-3", ReplicaState.LOADING)]
        wanted = {SPOT: 4, ON_DEMAND: 1}
        store.record_fleet(pool_minutes("images", NOW + 5, fleet, wanted, offers))
        store.record_fleet(pool_minutes("images", NOW + 20, fleet[:1], wanted, offers))
        store.record_fleet(pool_minutes("images", NOW + 60, fleet[:1], wanted, offers))
        first, *_ = found = [row for row in rows(engine, FleetMinute) if row.offer_id == SPOT]
        assert [at(row.at) for row in found] == [NOW, NOW + 60]
        assert (first.desired, first.ready, first.coming, first.busy_ratio) == (4, 2, 1, 0.5)
        assert (first.capacity, first.usd_per_hour) == (4.0, 1.5)
        empty = next(row for row in rows(engine, FleetMinute) if row.offer_id == ON_DEMAND)
        assert (empty.ready, empty.busy_ratio, empty.market) == (0, None, "on_demand")


def sample(tier: str, minute: int, work_s: float = 120.0, wait: float | None = 1.0) -> Sample:
    return Sample("images", tier, NOW + 60 * minute, 6, work_s, 6, wait, wait, wait)


class TestTelemetry:
    def test_load_has_its_gaps(self, store: Store, reopen: Callable[[], Store]):
        store.record_samples([sample("premium", 0), sample("premium", 2, 30.0), sample("standard", 1)])
        for each in (store, reopen()):
            series = each.load_series("images", "premium", NOW - 30, NOW + 200)
            assert (series.start_s, series.step_s) == (NOW - 60, 60.0)
            np.testing.assert_array_equal(series.values, [np.nan, 2.0, np.nan, 0.5, np.nan])

    def test_memory_and_database_tell_the_same_load(self, store: Store, reopen: Callable[[], Store]):
        assert np.isnan(store.load_series("images", "premium", NOW, NOW + 120).values).all()
        for minute in (0, 1, 5):
            store.record_samples([sample("premium", minute, 60.0 * minute)])
        store.record_samples([sample("premium", 1, 90.0)])
        expected = [0.0, 1.5, np.nan, np.nan, np.nan, 5.0]
        other = reopen()
        for each in (store, other):
            np.testing.assert_array_equal(each.load_series("images", "premium", NOW, NOW + 360).values, expected)
        np.testing.assert_array_equal(other.load_series("images", "premium", NOW + 60, NOW + 120).values, [1.5])
        np.testing.assert_array_equal(
            store.load_series("images", "premium", NOW - 120, NOW + 60).values, [np.nan, np.nan, 0.0]
        )

    def test_history_from_before_any_telemetry_is_load_by_ten_minutes(self, engine: Engine, store: Store):
        assert np.isnan(store.load_series("images", "premium", NOW - 1800, NOW).values).all()
        values = np.repeat([3.0, np.nan, 5.0], 10)
        values[0], values[11], values[29] = 12.0, 7.0, np.nan
        for _ in range(2):
            store.record_history("images", {"premium": Series(NOW - 1800, 60.0, values)})
        assert [(row.step_s, at(row.at), row.wait_mean_s) for row in rows(engine, DemandMinute)] == [
            (600, NOW - 1800, None),
            (600, NOW - 600, None),
        ]
        series = store.load_series("images", "premium", NOW - 1800, NOW)
        np.testing.assert_allclose(series.values, np.repeat([3.9, np.nan, 5.0], 10))

    def test_a_term_is_read_once_a_minute(self, engine: Engine, store: Store, reopen: Callable[[], Store]):
        def term(at_s: float, value: float | None) -> TermMinute:
            status = EnvelopeStatus.UNKNOWN if value is None else EnvelopeStatus.HELD
            return TermMinute("images", "premium", at_s, value, 200.0, status)

        for second, value in ((0, 150.0), (15, 160.0), (59, 170.0), (60, None)):
            store.record_terms([term(NOW + second, value)])
        reopen().record_terms([term(NOW + 75, 180.0)])
        assert [(at(row.at), row.value, row.status) for row in rows(engine, TermReading)] == [
            (NOW, 150.0, "held"),
            (NOW + 60, 180.0, "held"),
        ]

    def test_spend_is_rewritten_within_its_hour(self, engine: Engine, store: Store):
        for second, usd in ((0, 0.0), (15, 0.2), (3599, 12.0), (3600, 0.1)):
            store.record_spend(NOW + second, "images", usd, 50.0)
        store.record_spend(NOW, "jobs", 1.0, None)
        assert sorted((row.subject, at(row.hour), row.usd, row.cap_usd) for row in rows(engine, SpendHour)) == [
            ("images", NOW, 12.0, 50.0),
            ("images", NOW + HOUR, 0.1, 50.0),
            ("jobs", NOW, 1.0, None),
        ]

    def test_forecasts_are_kept_once_a_step_of_their_grid(
        self, engine: Engine, store: Store, reopen: Callable[[], Store]
    ):
        def made(at_s: float, step_s: float) -> Forecast:
            values = np.array([[1.0, 2.0], [1.123456, math.nan]])
            why = Reason(Limit.FORECAST, "seasonal leads", {"pinball": 0.1})
            return Forecast("images", "premium", at_s, at_s, step_s, (0.5, 0.9), values, "seasonal", why)

        wrote = [store.record_forecasts([made(NOW + s, 60), made(NOW + s, 600)]) for s in (0, 15, 45, 60, 599, 600)]
        assert wrote == [2, 0, 0, 1, 1, 2]
        assert reopen().record_forecasts([made(NOW + 615, 60), made(NOW + 615, 600)]) == 0
        row = rows(engine, ForecastRow)[0]
        assert row.values == [[1.0, 2.0], [1.1235, None]]
        assert (row.quantiles, row.model, row.reason) == ([0.5, 0.9], "seasonal", "seasonal leads")


class TestJobs:
    def test_an_attempt_holds_its_own_seconds_and_dollars(
        self, engine: Engine, store: Store, reopen: Callable[[], Store]
    ):
        assert store.record_jobs([job()], NOW) == 1
        assert store.record_jobs([job()], NOW + 15) == 0
        store.record_jobs([job(running_s=600.0, cost_usd=2.0)], NOW + 600, {"j-0001": 12.5})
        assert rows(engine, JobRow)[0].projected_usd == 12.5
        store.record_jobs([job(running_s=600.0, cost_usd=2.0, state=JobState.SUSPENDED)], NOW + 610)
        again = reopen()
        later = job(running_s=900.0, cost_usd=3.5, attempts=2, state=JobState.SUCCEEDED, finished_s=NOW + 2000)
        again.record_jobs([later], NOW + 2010)
        first, second = rows(engine, JobAttempt)
        assert (first.number, first.running_s, first.cost_usd, at(first.ended_at), first.ended_why) == (
            1,
            600.0,
            2.0,
            NOW + 610,
            "suspended",
        )
        assert (second.number, second.running_s, second.cost_usd) == (2, 300.0, 1.5)
        assert (at(second.ended_at), second.ended_why) == (NOW + 2000, "succeeded")

    def test_an_unknown_cost_stays_unknown(self, engine: Engine, store: Store):
        store.record_jobs([job(cost_usd=None, price_usd_per_hour=None, progress_ratio=None)], NOW)
        assert rows(engine, JobRow)[0].cost_usd is None
        assert rows(engine, JobAttempt)[0].cost_usd is None

    def test_a_verdict_is_written_with_its_evidence_before_the_act_and_once(
        self, engine: Engine, store: Store, reopen: Callable[[], Store]
    ):
        store.seed("images", DOCUMENT, now_s=NOW)
        dear = job(cost_usd=30.0, running_s=900.0, progress_ratio=0.5)
        store.record_jobs([dear], NOW)
        verdicts, _ = judge([dear], store.rules(), GuardMemory(), NOW)
        (action,) = store.record_verdicts(verdicts, NOW)
        assert (action.kind, action.job_id) == (ActionKind.SUSPEND_JOB, "j-0001")
        assert store.record_verdicts([each for each in verdicts if each.acts], NOW) == ()
        event = next(row for row in rows(engine, GuardrailEvent) if row.action_id == action.id)
        assert (event.status, event.action, event.evidence["cost_usd"]) == ("requested", "throttle", 30.0)

        after = reopen()
        assert after.unfinished_actions() == (action,)
        after.record_results([ActionResult(action.id, ActionStatus.ACCEPTED, "stops")], NOW + 1)
        stopped = replace(dear, state=JobState.SUSPENDED)
        assert after.confirm([], NOW + 10, jobs=[stopped]) == (action.id,)
        event = next(row for row in rows(engine, GuardrailEvent) if row.action_id == action.id)
        assert (event.status, event.detail, at(event.confirmed_at)) == ("confirmed", "stops", NOW + 10)
        deed = next(deed for deed in after.deeds() if deed.step is Step.THROTTLE)
        assert (deed.rule, deed.attempt, deed.seen, deed.at_s) == ("cost", 1, True, NOW)
        killed, _ = judge([stopped], after.rules(), remember(after.deeds(), after.resumed()), NOW + 700)
        assert [each.step for each in killed if each.acts] == [Step.KILL]

    def test_an_alert_asks_for_nothing(self, engine: Engine, store: Store):
        rule = Rule("slow", 1, RuleMetric.DURATION, 60.0, GuardAction.ALERT, 0.0)
        verdicts, _ = judge([job(running_s=600.0)], [rule], GuardMemory(), NOW)
        assert store.record_verdicts(verdicts, NOW) == ()
        assert [(row.status, row.action_id) for row in rows(engine, GuardrailEvent)] == [("noted", None)]
        assert rows(engine, ActionRow) == []

    def test_rules_are_versioned(self, engine: Engine, store: Store, reopen: Callable[[], Store]):
        store.seed("images", DOCUMENT, now_s=NOW)
        longer = Rule("duration", 1, RuleMetric.DURATION, 9 * HOUR, GuardAction.ALERT, 0.0, dry_run=True)
        assert store.add_rule(longer, author="ana", reason="long job", now_s=NOW) == 2
        assert [rule.name for rule in store.rules()] == [rule.name for rule in DEFAULT_RULES]
        assert next(rule for rule in reopen().rules() if rule.name == "duration") == replace(longer, version=2)
        assert entries(engine, LedgerKind.GUARDRAIL)[-1].what == (
            "Rule duration v2: duration over 32400 s → alert, dry run, was duration over 21600 s → kill after 600 s"
        )


class TestPulseAndLedger:
    def test_the_tick_and_the_guard_beat_without_erasing_each_other(
        self, engine: Engine, store: Store, reopen: Callable[[], Store]
    ):
        with pytest.raises(ValueError, match="started_s"):
            store.pulse(ticks=1)
        store.pulse(started_s=NOW, ticks=1, tick_s=NOW, tick_wall_s=NOW + 5)
        store.pulse(guards=3, guard_s=NOW + 10)
        reopen().pulse(ticks=2, last_error="x")
        (row,) = rows(engine, ControllerPulse)
        assert (row.ticks, row.guards, row.last_error) == (2, 3, "x")
        assert (at(row.started_at), at(row.guard_at), at(row.tick_wall_at)) == (NOW, NOW + 10, NOW + 5)

    def test_a_restart_goes_on_from_the_clock(self, engine: Engine, store: Store, reopen: Callable[[], Store]):
        assert store.last_clock() is None
        store.clock(kind="virtual", virtual_s=NOW, wall_s=NOW + 9, speed=60.0)
        store.clock(kind="virtual", virtual_s=NOW + 600, wall_s=NOW + 19, speed=60.0, paused=True, repeats=1)
        found = reopen().last_clock()
        assert found is not None
        assert (found.virtual_s, found.wall_s, found.speed, found.paused, found.repeats) == (
            NOW + 600,
            NOW + 19,
            60.0,
            True,
            1,
        )
        assert len(rows(engine, ClockRow)) == 1

    def test_an_hour_is_settled_once(self, engine: Engine, store: Store):
        hour = closed(usd=51.0, cap_usd=50.0, tiers={"premium": {"held": True}}, text="$51.00 of $50.00")
        assert store.settled_until("images") is None
        assert store.settle_hour(hour, Authority(), NOW + HOUR) is True
        assert store.settle_hour(replace(hour, text="again"), Authority(), NOW + HOUR) is False
        assert store.settled_until("images") == NOW + HOUR
        (row,) = rows(engine, Settlement)
        assert (row.within_cap, row.tiers["premium"]["held"]) == (False, True)
        assert [entry.what for entry in entries(engine, LedgerKind.SETTLEMENT)] == ["$51.00 of $50.00"]

    def test_a_failure_that_lasts_does_not_bury_the_ledger(self, engine: Engine, store: Store):
        told = [store.failure("tick", RuntimeError("no network"), NOW + 15 * n) for n in range(60)]
        assert [n for n, each in enumerate(told) if each] == [0, 40]
        store.failure("tick", RuntimeError("disk"), NOW)
        found = entries(engine, LedgerKind.FAILURE)
        assert [(entry.why, entry.numbers) for entry in found] == [
            ("RuntimeError: no network", {}),
            ("RuntimeError: no network", {"repeats": 39}),
            ("RuntimeError: disk", {}),
        ]

    def test_a_reset_forgets_the_run_and_keeps_what_people_did(
        self, engine: Engine, store: Store, reopen: Callable[[], Store]
    ):
        store.seed("images", DOCUMENT, now_s=NOW)
        record(store, plan(store, start("a-p-000001-1")))
        store.record_replicas([replica("r-1")], (), {}, NOW)
        store.add_override(
            "images", OverrideKind.FREEZE, replicas=None, author="ana", reason="x", now_s=NOW, ends_s=NOW + HOUR
        )
        store.start_over(NOW)
        assert rows(engine, PlanRow) == rows(engine, ActionRow) == rows(engine, ReplicaRow) == []
        assert store.overrides(NOW) == () == store.unfinished_actions()
        assert len(entries(engine, LedgerKind.DECISION)) == 1
        assert store.next_plan_id() == "p-000002" == reopen().next_plan_id()
        envelope = store.envelope("images")
        assert envelope is not None and envelope.version == 1


class TestRetention:
    def finish(self, store: Store, now_s: float) -> None:
        for _ in range(40):
            if not any(store.retention(now_s).values()):
                return
        pytest.fail("retention never ends")

    def test_load_keeps_its_shape_through_the_roll_ups(self, engine: Engine, store: Store, reopen: Callable[[], Store]):
        with store.batch():
            store.record_samples([sample("premium", minute, 60.0 + minute // 60) for minute in range(24 * 60)])
        before = store.load_series("images", "premium", NOW, NOW + DAY).values
        for days, step_s, left in ((1.5, 60, 1440), (3.5, 600, 144), (16.0, 3600, 24)):
            self.finish(store, NOW + days * DAY)
            found = rows(engine, DemandMinute)
            assert {row.step_s for row in found} == {step_s}
            assert len(found) == left
            assert sum(row.arrivals for row in found) == 6 * 1440
            after = reopen().load_series("images", "premium", NOW, NOW + DAY).values
            np.testing.assert_allclose(after, before)
            store = reopen()

    def test_a_gap_stays_a_gap_and_a_part_is_a_rate(self, engine: Engine, store: Store):
        store.record_samples([sample("premium", minute) for minute in (0, 1, 2, 3)])
        store.record_samples([sample("premium", minute, wait=float(minute)) for minute in (10, 11, 12, 13, 14)])
        self.finish(store, NOW + 5 * DAY)
        (row,) = rows(engine, DemandMinute)
        assert (at(row.at), row.arrivals, row.work_s, row.started) == (NOW + 600, 60, 1200.0, 60)
        assert (row.wait_mean_s, row.wait_p95_s, row.wait_max_s) == (12.0, 14.0, 14.0)

    def test_readings_thin_out_and_recent_ones_stay(self, engine: Engine, store: Store):
        with store.batch():
            for minute in range(3 * 24 * 60):
                at_s = NOW + 60 * minute
                store.record_terms([TermMinute("images", "premium", at_s, 1.0, 2.0, EnvelopeStatus.HELD)])
                if minute % 10 == 0:
                    store.record_fleet([PoolMinute("images", SPOT, at_s, 1, 1, 0, 0, 0.5, 1.0, 0.5)])
        self.finish(store, NOW + 3 * DAY)
        kept = [at(row.at) for row in rows(engine, TermReading)]
        assert len(kept) == 144 + 2 * 1440
        assert all((each or 0.0) % 600 == 0 for each in kept[:144])
        assert len(rows(engine, FleetMinute)) == 3 * 144
        self.finish(store, NOW + 17 * DAY)
        assert len(rows(engine, TermReading)) == 72 == len(rows(engine, FleetMinute))

    def test_each_call_is_bounded(self, engine: Engine, store: Store):
        with store.batch():
            store.record_samples([sample("premium", minute) for minute in range(3 * 24 * 60)])
        assert store.retention(NOW + 6 * DAY)["demand"] == 24 * 60

    def test_the_ledger_and_what_acted_are_kept(self, engine: Engine, store: Store):
        record(store, plan(store, start("a-p-000001-1")))
        record(store, plan(store, limit=Limit.FREEZE))
        record(store, plan(store, limit=Limit.SPEND_CAP), NOW + 29 * DAY)
        store.record_replicas([replica("r-1"), replica("r-2")], (), {}, NOW)
        store.record_replicas([replica("r-2")], [replica("r-1", ReplicaState.RELEASED)], {}, NOW)
        store.settle_hour(closed(), Authority(), NOW)
        before = len(rows(engine, LedgerEntry))
        self.finish(store, NOW + 30 * DAY)
        assert [row.id for row in rows(engine, PlanRow)] == ["p-000001", "p-000003"]
        assert [row.id for row in rows(engine, ReplicaRow)] == ["r-2"]
        assert len(rows(engine, ActionRow)) == 1 == len(rows(engine, Settlement))
        assert len(rows(engine, LedgerEntry)) == before

    def test_a_decisions_part_of_an_hour_goes_with_its_plan(self, engine: Engine, store: Store):
        record(store, plan(store, start("a-p-000001-1")))
        record(store, plan(store, limit=Limit.FREEZE))
        parts = tuple(DecisionAccounts(f"p-00000{n}", NOW, NOW + HOUR, Accounts()) for n in (1, 2))
        store.settle_hour(closed(settled=Settled(Accounts(), parts, 60, ())), Authority(), NOW + HOUR)
        self.finish(store, NOW + 30 * DAY)
        assert [row.plan_id for row in rows(engine, DecisionSettlement)] == ["p-000001"]

    def test_scores_and_forecasts_do_not_grow_for_ever(self, engine: Engine, store: Store):
        class Score:
            service, tier, step_s, model, origins, leads, note = "images", "premium", 600.0, "seasonal", 8, True, ""
            pinball, wape, coverage_p90 = 0.1, math.nan, 0.9

            def __init__(self, at_s: float) -> None:
                self.at_s = at_s

        store.record_scores([Score(NOW + 600 * step) for step in range(12)])
        assert rows(engine, ForecastScore)[0].wape is None
        self.finish(store, NOW + 3 * DAY)
        assert len(rows(engine, ForecastScore)) == 2
        self.finish(store, NOW + 20 * DAY)
        assert rows(engine, ForecastScore) == []


def test_a_quiet_day_is_a_few_statements(engine: Engine, store: Store):
    """The warm-up's law: a batch costs by what it leaves behind, not by its ticks."""
    seen: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *call: seen.append(call[2]))
    with store.batch():
        for tick in range(5760):
            now_s = NOW + 15 * tick
            record(store, plan(store), now_s)
            store.record_replicas([replica("r-1", busy=tick % 2 == 0)], (), {}, now_s)
            store.record_spend(now_s, "images", tick * 0.01, 50.0)
            store.pulse(started_s=NOW, tick_s=now_s, ticks=tick)
    assert len(seen) < 25
    assert at(rows(engine, PlanRow)[0].held_until) == NOW + 15 * 5759
    assert len(rows(engine, SpendHour)) == 24
