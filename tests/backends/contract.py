"""What every backend must do, whatever runs behind it. A backend joins by a subclass that says how to build a `Bench`.

The suite drives time through `Bench.wait`, so that a real cluster may sleep where the simulated one advances.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import pytest

from controller.backends.base import Backend, ClusterState, Telemetry, UnknownSubject
from controller.core.activity import BIN_S, CHANNELS
from controller.core.types import Action, ActionResult, Replica
from models.enums import ActionKind, ActionStatus, ReplicaState

COMING = (ReplicaState.BOOTING, ReplicaState.LOADING)


@dataclass
class Bench:
    """A backend under test. `sold_out` is an offer that exists and has no capacity; `cold_s`: a start takes no longer.

    `occupy(n, work_s)` makes n requests arrive now; `wait(s)` lets time pass; `reopen` gives the same cluster as a new
    controller process would find it after `save`.
    """

    backend: Backend
    telemetry: Telemetry
    service: str
    offer: str
    sold_out: str
    cold_s: float
    occupy: Callable[[int, float], None]
    wait: Callable[[float], None]
    now_s: Callable[[], float]
    reopen: Callable[[], "Bench"]

    def ask(self, kind: ActionKind, identifier: str, **subject: str) -> ActionResult:
        return self.backend.apply(Action(identifier, kind, subject.pop("service", self.service), "a test", **subject))

    def start(self, identifier: str, offer: str | None = None) -> ActionResult:
        return self.ask(ActionKind.START_REPLICA, identifier, offer_id=offer or self.offer)

    def release(self, identifier: str, replica_id: str) -> ActionResult:
        return self.ask(ActionKind.RELEASE_REPLICA, identifier, replica_id=replica_id)

    def ready(self, count: int, prefix: str = "up") -> list[str]:
        """So many replicas that serve; their ids."""
        started = [self.start(f"{prefix}-{n}").replica_id for n in range(count)]
        self.wait(self.cold_s)
        self.backend.state()
        return [identifier for identifier in started if identifier is not None]

    def replica(self, identifier: str) -> Replica | None:
        return next((each for each in self.backend.state().replicas if each.id == identifier), None)


class BackendContract:
    """Subclass, give a `bench` fixture, and every test here runs on that backend."""

    unknown_offer: ClassVar[str] = "no-such-type/nowhere/on_demand"

    def test_a_start_goes_from_coming_to_ready(self, bench: Bench) -> None:
        asked_s = bench.now_s()
        result = bench.start("a-1")
        assert result.status is ActionStatus.ACCEPTED
        assert result.replica_id
        seen = bench.replica(result.replica_id)
        assert seen is not None
        assert seen.state in COMING
        assert seen.ready_s is None
        assert (seen.service, seen.offer_id, seen.requested_s) == (bench.service, bench.offer, asked_s)
        bench.wait(bench.cold_s)
        seen = bench.replica(result.replica_id)
        assert seen is not None
        assert seen.state is ReplicaState.READY
        assert seen.ready_s is not None
        assert asked_s <= seen.ready_s <= bench.now_s()
        assert not seen.busy

    def test_the_same_action_id_is_done_once_and_answered_alike(self, bench: Bench) -> None:
        first = bench.start("a-1")
        bench.wait(1.0)
        assert bench.start("a-1") == first
        assert len(bench.backend.state().replicas) == 1
        bench.wait(bench.cold_s)
        gone = bench.release("a-2", str(first.replica_id))
        assert bench.release("a-2", str(first.replica_id)) == gone

    def test_another_id_is_another_action(self, bench: Bench) -> None:
        assert bench.start("a-1").replica_id != bench.start("a-2").replica_id
        assert len(bench.backend.state().replicas) == 2

    def test_an_empty_market_is_an_answer_with_a_word(self, bench: Bench) -> None:
        result = bench.start("a-1", bench.sold_out)
        assert result.status is ActionStatus.REFUSED
        assert result.detail.strip()
        assert result.replica_id is None
        assert bench.backend.state().replicas == ()
        assert bench.start("a-1", bench.sold_out) == result

    def test_what_does_not_exist_is_an_unknown_subject(self, bench: Bench) -> None:
        for number, (kind, subject) in enumerate(
            [
                (ActionKind.START_REPLICA, {"offer_id": self.unknown_offer}),
                (ActionKind.START_REPLICA, {"offer_id": bench.offer, "service": "no-such-service"}),
                (ActionKind.RELEASE_REPLICA, {"replica_id": "r-999999"}),
                (ActionKind.RELEASE_REPLICA, {"replica_id": "not an id"}),
                (ActionKind.KILL_JOB, {"job_id": "j-9999"}),
                (ActionKind.SUSPEND_JOB, {"job_id": "j-9999"}),
                (ActionKind.RESUME_JOB, {"job_id": "j-9999"}),
            ]
        ):
            with pytest.raises(UnknownSubject):
                bench.ask(kind, f"a-{number}", **subject)
        assert bench.backend.state().replicas == ()

    def test_time_never_goes_back(self, bench: Bench) -> None:
        bench.start("a-1")
        bench.wait(60.0)
        before = bench.backend.state()
        bench.backend.advance(before.at_s - 3600.0)
        after = bench.backend.state()
        assert after.at_s >= before.at_s
        assert {each.id for each in after.replicas} == {each.id for each in before.replicas}

    def test_reading_twice_tells_news_once(self, bench: Bench) -> None:
        (first, second) = bench.ready(2)
        bench.release("down", first)
        news = bench.backend.state()
        assert [each.id for each in news.gone] == [first]
        again = bench.backend.state()
        assert again.replicas == news.replicas
        assert [each.id for each in again.replicas] == [second]
        assert again.gone == ()
        assert again.notices == ()

    def test_an_idle_replica_goes_at_once(self, bench: Bench) -> None:
        (replica,) = bench.ready(1)
        assert bench.release("down", replica).status in (ActionStatus.CONFIRMED, ActionStatus.ACCEPTED)
        bench.wait(bench.cold_s)
        state = bench.backend.state()
        assert state.replicas == ()
        assert [(each.id, each.state) for each in state.gone] == [(replica, ReplicaState.RELEASED)]

    def test_a_busy_replica_drains_and_then_goes(self, bench: Bench) -> None:
        (replica,) = bench.ready(1)
        bench.occupy(1, 50.0)
        bench.wait(10.0)
        assert bench.release("down", replica).status is ActionStatus.ACCEPTED
        seen = bench.replica(replica)
        assert seen is not None
        assert seen.state is ReplicaState.DRAINING
        assert seen.busy
        bench.wait(60.0)
        state = bench.backend.state()
        assert state.replicas == ()
        assert [each.id for each in state.gone] == [replica]

    def test_a_replica_that_still_boots_can_be_let_go(self, bench: Bench) -> None:
        replica = str(bench.start("a-1").replica_id)
        bench.release("a-2", replica)
        bench.wait(bench.cold_s)
        state = bench.backend.state()
        assert state.replicas == ()
        assert [(each.id, each.ready_s) for each in state.gone] == [(replica, None)]

    def test_a_replica_that_came_and_went_between_two_readings_is_told(self, bench: Bench) -> None:
        bench.backend.state()
        replica = str(bench.start("a-1").replica_id)
        bench.release("a-2", replica)
        assert [each.id for each in bench.backend.state().gone] == [replica]

    def test_releasing_twice_under_two_ids_is_no_fault(self, bench: Bench) -> None:
        (replica,) = bench.ready(1)
        bench.release("a-1", replica)
        bench.wait(1.0)
        assert bench.release("a-2", replica).status in (ActionStatus.CONFIRMED, ActionStatus.ACCEPTED)
        assert [each.id for each in bench.backend.state().gone] == [replica]

    def test_money_of_the_present_hour_is_always_told(self, bench: Bench) -> None:
        empty = bench.backend.state()
        assert empty.hours[-1].hour_s <= empty.at_s < empty.hours[-1].hour_s + 3600
        assert empty.hours[-1].replicas_usd == 0
        bench.start("a-1")
        bench.wait(60.0)
        assert bench.backend.state().hours[-1].replicas_usd > 0

    def test_a_restart_finds_the_cluster_as_it_was(self, bench: Bench) -> None:
        serving, leaving = bench.ready(2)
        bench.start("late")
        bench.occupy(1, 500.0)
        bench.wait(5.0)
        down = bench.release("down", leaving)
        refused = bench.start("refused", bench.sold_out)
        bench.backend.save()
        found = bench.reopen()
        before, after = bench.backend.state(), found.backend.state()
        assert after == before
        assert serving in {each.id for each in after.replicas}
        # What was asked for before is known by its id.
        assert found.release("down", leaving) == down
        assert found.start("refused", bench.sold_out) == refused
        assert found.start("up-0").replica_id == serving
        assert {each.id for each in found.backend.state().replicas} == {each.id for each in after.replicas}

    def test_a_restart_forgets_no_replica_that_ended(self, bench: Bench) -> None:
        (replica,) = bench.ready(1)
        bench.release("down", replica)
        bench.backend.save()
        assert [each.id for each in bench.reopen().backend.state().gone] == [replica]

    def test_telemetry_counts_what_arrives_and_what_waits(self, bench: Bench) -> None:
        bench.ready(1)
        bench.wait(60.0 - bench.now_s() % 60.0)
        bench.occupy(3, 30.0)
        bench.wait(1.0)
        queues = bench.telemetry.queues(bench.service)
        assert sum(queue.running for queue in queues) == 1
        assert sum(queue.queued for queue in queues) == 2
        assert all(queue.backlog_s >= 0 for queue in queues)
        minute_s = bench.now_s() // 60 * 60
        assert bench.telemetry.samples(bench.service, minute_s, bench.now_s()) == ()
        bench.wait(60.0)
        samples = bench.telemetry.samples(bench.service, minute_s, bench.now_s())
        assert {sample.minute_s for sample in samples} == {minute_s}
        assert sum(sample.arrivals for sample in samples) == 3
        assert len({sample.tier for sample in samples}) == len(samples) == len(queues)
        assert bench.telemetry.telemetry_s(bench.service) == pytest.approx(bench.now_s(), abs=60.0)

    def test_activity_is_told_in_whole_bins_that_join(self, bench: Bench) -> None:
        begin_s = bench.now_s()
        assert bench.telemetry.activity(bench.service, begin_s, bench.now_s()) is None
        bench.wait(BIN_S - bench.now_s() % BIN_S + 1.0)
        asked_s = bench.now_s()
        bench.occupy(3, 30.0)
        bench.wait(1.0)
        assert bench.telemetry.activity(bench.service, asked_s, bench.now_s()) is None
        bench.wait(3 * BIN_S)
        told = bench.telemetry.activity(bench.service, begin_s, bench.now_s())
        assert told is not None
        from_s, values = told
        until_s = from_s + BIN_S * values.shape[2]
        tiers = len(bench.telemetry.queues(bench.service))
        assert values.shape[:2] == (CHANNELS, tiers)
        assert from_s % BIN_S == 0
        assert begin_s <= from_s <= asked_s
        assert bench.now_s() - BIN_S < until_s <= bench.now_s()
        assert values[0].sum() * BIN_S == pytest.approx(3)
        assert values[0, :, int((asked_s - from_s) // BIN_S)].sum() * BIN_S == pytest.approx(3)
        # What was told ends where the next begins.
        assert bench.telemetry.activity(bench.service, until_s, bench.now_s()) is None
        bench.wait(BIN_S)
        after = bench.telemetry.activity(bench.service, until_s, bench.now_s())
        assert after is not None
        assert after[0] == until_s
        assert not after[1][0].any()

    def test_many_threads_at_once(self, bench: Bench) -> None:
        """One id from eight threads is one replica; readers never see a torn state."""
        answers: list[ActionResult] = []
        states: list[ClusterState] = []
        failures: list[BaseException] = []
        gate = threading.Barrier(8)

        def work(number: int) -> None:
            try:
                gate.wait(timeout=10)
                for step in range(20):
                    answers.append(bench.start(f"a-{step}"))
                    if number == 0:
                        bench.wait(5.0)
                    states.append(bench.backend.state())
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert failures == []
        assert len({answer.replica_id for answer in answers}) == 20
        assert len(bench.backend.state().replicas) == 20
        assert all(len({each.id for each in state.replicas}) == len(state.replicas) for state in states)
