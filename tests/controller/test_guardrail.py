"""The guard at work on simulated jobs: every act written first and done once, through crashes and outages."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, SQLModel, col, select

from controller.backends.base import BackendUnavailable, ClusterState, UnknownSubject
from controller.backends.simulated.demo_jobs import runaway_job
from controller.backends.simulated.jobs import JobSpec, JobsSim
from controller.core.guard import Step
from controller.core.types import Action, ActionResult, Offer
from controller.guardrail import Guard
from controller.lease import LeaseLost, acquire, check_epoch, release
from controller.store import Store
from models.database import open_engine
from models.enums import ActionKind, ActionStatus, JobState, LedgerKind, Market, Mode
from models.guardrails import GuardrailEvent
from models.ledger import LedgerEntry
from models.plans import ActionRow

T0 = datetime(2024, 11, 25, 6, tzinfo=UTC).timestamp()
OFFER = Offer("g6e.xlarge/usw2-az1/on_demand", "aws", "us-west-2", "usw2-az1", "g6e.xlarge", "L40S", 1,
              Market.ON_DEMAND, 1.861, 2.0)  # fmt: skip
ENVELOPE = {
    "spend_cap_usd_per_hour": 50,
    "tiers": {"all": {"tenants_percent": 100, "latency": {"of": "wait", "statistic": "mean", "target_ms": 200}}},
}


class Crash(BaseException):
    """The controller's process ends here."""


class Cluster:
    """Simulated jobs behind the interface; keeps what it was asked, and can be away, crash or fail on a job."""

    name = "test"

    def __init__(self, engine: Engine, *specs: JobSpec) -> None:
        self.jobs = JobsSim([OFFER], T0)
        for spec in specs:
            self.jobs.submit(spec)
        self.results: dict[str, ActionResult] = {}
        self.done: list[tuple[float, ActionKind, str]] = []
        self.written: list[bool] = []
        self.away = self.deaf = False
        self.crash_at: str | None = None
        self.broken: dict[str, Exception] = {}
        self._engine = engine

    def advance(self, now_s: float) -> None:
        self.jobs.advance(now_s)

    def state(self) -> ClusterState:
        if self.away:
            raise BackendUnavailable("connection refused")
        return ClusterState(self.jobs.now_s, (), (), self.jobs.views(), (), ())

    def apply(self, action: Action) -> ActionResult:
        self._crash("before the act")
        if self.away or self.deaf:
            raise BackendUnavailable("connection refused")
        if action.job_id in self.broken:
            raise self.broken[action.job_id]
        if action.id not in self.results:
            with Session(self._engine) as session:
                row = session.get(ActionRow, action.id)
                self.written.append(row is not None and row.status == ActionStatus.REQUESTED.value)
            act = {ActionKind.SUSPEND_JOB: self.jobs.suspend, ActionKind.KILL_JOB: self.jobs.kill}[action.kind]
            status, detail = act(action.job_id, self.jobs.now_s)
            self.results[action.id] = ActionResult(action.id, status, detail)
            self.done.append((self.jobs.now_s - T0, action.kind, action.job_id))
        self._crash("after the act")
        return self.results[action.id]

    def degrade(self, service: str, speed_factors: Mapping[str, float]) -> None:
        raise AssertionError("the guard serves no tier")

    def save(self) -> None:
        self._crash("at the save")

    def _crash(self, where: str) -> None:
        if self.crash_at == where:
            self.crash_at = None
            raise Crash(where)


@pytest.fixture
def engine(empty_database: str) -> Iterator[Engine]:
    engine = open_engine(empty_database)
    SQLModel.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def start(engine: Engine) -> Callable[..., Guard]:
    """A controller that takes over: a new epoch, nothing in memory."""
    held: list[int] = []

    def started(cluster: Cluster, mode: Mode = Mode.ACT) -> Guard:
        if held:
            release(engine, held[-1])
        held.append(acquire(engine, "test"))
        epoch = held[-1]
        store = Store(engine, lambda: epoch, check_epoch)
        store.seed("images", ENVELOPE, now_s=T0)
        return Guard(store, cluster, mode=lambda: mode)

    return started


def run(guard: Guard, cluster: Cluster, minutes: float, from_minute: float = 0.0, every_s: float = 10.0) -> list[Step]:
    steps = []
    for check in range(int((minutes - from_minute) * 60 / every_s) + 1):
        now_s = T0 + from_minute * 60 + check * every_s
        cluster.advance(now_s)
        steps += [verdict.step for verdict in guard.check(now_s)]
    return steps


def rows(engine: Engine, table):
    with Session(engine) as session:
        return session.exec(select(table).order_by(col(table.id))).all()


def runaway(engine: Engine) -> Cluster:
    return Cluster(engine, runaway_job(T0, 1, [OFFER]))


SUSPENDED = (ActionKind.SUSPEND_JOB, "j-0001")
KILLED = (ActionKind.KILL_JOB, "j-0001")


def acts(cluster: Cluster) -> list[tuple[ActionKind, str]]:
    return [(kind, job_id) for _, kind, job_id in cluster.done]


def test_a_runaway_is_suspended_then_killed_and_all_of_it_is_on_record(engine, start):
    cluster = runaway(engine)
    steps = run(start(cluster), cluster, 60)
    assert steps == [Step.WARN, Step.WARN, Step.THROTTLE, Step.KILL]
    assert acts(cluster) == [SUSPENDED, KILLED]
    assert [at for at, _, _ in cluster.done] == pytest.approx([2260, 2560])
    assert cluster.written == [True, True]
    assert cluster.jobs.views()[0].state is JobState.KILLED
    assert cluster.jobs.views()[0].cost_usd == pytest.approx(4 * 1.861 * 2260 / 3600)

    events = rows(engine, GuardrailEvent)
    assert [(event.action, event.status) for event in events] == [
        ("alert", "noted"),
        ("alert", "noted"),
        ("throttle", "confirmed"),
        ("kill", "confirmed"),
    ]
    assert all(event.evidence["limit"] > 0 and event.text in entry.what for event, entry in zip(
        events, [entry for entry in rows(engine, LedgerEntry) if entry.kind == LedgerKind.GUARDRAIL], strict=True
    ))  # fmt: skip
    assert [(row.kind, row.status) for row in rows(engine, ActionRow)] == [
        ("kill_job", "confirmed"),
        ("suspend_job", "confirmed"),
    ]


def test_a_controller_that_restarts_before_every_check_does_the_same_and_nothing_twice(engine, start):
    cluster = runaway(engine)
    for check in range(61):
        cluster.advance(T0 + check * 60.0)
        start(cluster).check(T0 + check * 60.0)
    assert acts(cluster) == [SUSPENDED, KILLED]
    assert [at for at, _, _ in cluster.done] == pytest.approx([2280, 2580])
    assert [event.evidence["step"] for event in rows(engine, GuardrailEvent)] == ["warn", "warn", "throttle", "kill"]


@pytest.mark.parametrize("where", ["before the act", "after the act", "at the save"])
@pytest.mark.parametrize("act", [0, 1])
def test_a_crash_around_an_act_loses_nothing_and_repeats_nothing(engine, start, where, act):
    cluster = runaway(engine)
    guard = start(cluster)
    minute = 37.5 if act == 0 else 42.0
    run(guard, cluster, minute)
    cluster.crash_at = where
    with pytest.raises(Crash):
        run(guard, cluster, 60, minute)
    assert [row.status for row in rows(engine, ActionRow)].count(ActionStatus.REQUESTED.value) == 1
    run(start(cluster), cluster, 60, 43)
    assert acts(cluster) == [SUSPENDED, KILLED]
    assert {row.status for row in rows(engine, ActionRow)} == {ActionStatus.CONFIRMED.value}
    assert len(rows(engine, GuardrailEvent)) == 4


def test_a_cluster_that_is_away_is_said_once_and_everything_waits(engine, start):
    cluster = runaway(engine)
    guard = start(cluster)
    run(guard, cluster, 30)
    cluster.away = True
    assert run(guard, cluster, 90, 30) == []
    assert cluster.done == []
    said = [entry for entry in rows(engine, LedgerEntry) if entry.kind == LedgerKind.FAILURE]
    assert len(said) == 1
    assert "connection refused" in said[0].why
    cluster.away = False
    assert run(guard, cluster, 102, 90.5) == [Step.THROTTLE, Step.KILL]
    assert acts(cluster) == [SUSPENDED, KILLED]
    back = [entry for entry in rows(engine, LedgerEntry) if entry.subject == "cluster"]
    assert [entry.what for entry in back][1:] == ["The guard goes on: the cluster answers again after 3630 s"]


def test_an_act_that_could_not_be_asked_is_asked_again_under_its_own_id(engine, start):
    cluster = runaway(engine)
    guard = start(cluster)
    cluster.deaf = True
    run(guard, cluster, 40)
    assert cluster.done == []
    (row,) = rows(engine, ActionRow)
    assert row.status == ActionStatus.REQUESTED.value
    assert len([entry for entry in rows(engine, LedgerEntry) if entry.subject == "cluster"]) == 1
    cluster.deaf = False
    run(guard, cluster, 41, 40.2)
    assert acts(cluster) == [SUSPENDED]
    assert [one.id for one in rows(engine, ActionRow)] == [row.id]


def test_a_job_that_the_cluster_no_longer_has_is_a_refusal_on_record(engine, start):
    cluster = runaway(engine)
    cluster.broken["j-0001"] = UnknownSubject("gone")
    run(start(cluster), cluster, 38)
    (row,) = rows(engine, ActionRow)
    assert (row.status, row.detail) == ("refused", "the cluster has no job j-0001 (gone)")
    assert rows(engine, GuardrailEvent)[-1].status == "refused"


def test_the_backends_defect_on_one_job_does_not_shield_another(engine, start):
    cluster = Cluster(engine, runaway_job(T0, 1, [OFFER]), runaway_job(T0, 2, [OFFER]))
    cluster.broken["j-0001"] = ZeroDivisionError("a defect")
    guard = start(cluster)
    run(guard, cluster, 37.5)
    cluster.advance(T0 + 2260)
    with pytest.raises(ZeroDivisionError):
        guard.check(T0 + 2260)
    assert acts(cluster) == [(ActionKind.SUSPEND_JOB, "j-0002")]
    del cluster.broken["j-0001"]
    cluster.advance(T0 + 2270)
    guard.check(T0 + 2270)
    assert acts(cluster) == [(ActionKind.SUSPEND_JOB, "j-0002"), SUSPENDED]


def test_a_controller_that_lost_the_lease_does_nothing(engine, start):
    cluster = runaway(engine)
    old = start(cluster)
    run(old, cluster, 37.5)
    new = start(cluster)
    cluster.advance(T0 + 2260)
    with pytest.raises(LeaseLost):
        old.check(T0 + 2260)
    assert cluster.done == []
    new.check(T0 + 2260)
    assert acts(cluster) == [SUSPENDED]


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.ADVISE])
def test_below_act_the_guard_only_says_what_it_would_do(engine, start, mode):
    cluster = runaway(engine)
    run(start(cluster, mode), cluster, 60)
    assert cluster.done == []
    assert rows(engine, ActionRow) == []
    would = [event for event in rows(engine, GuardrailEvent) if event.action != "alert"]
    assert would
    assert all(event.dry_run and "dry run: would be" in event.text for event in would)


def test_somebody_elses_unfinished_actions_are_left_to_the_tick(engine, start):
    cluster = runaway(engine)
    guard = start(cluster)
    others = Action("a-i000001-1", ActionKind.KILL_JOB, "images", "by hand", job_id="j-0001")
    guard._store.request_action(others, T0)
    run(guard, cluster, 1)
    assert cluster.done == []


def test_it_projects_final_costs_for_the_page(engine, start):
    cluster = runaway(engine)
    guard = start(cluster)
    run(guard, cluster, 24)
    job = cluster.jobs.views()[0]
    assert guard.projected_usd([job])["j-0001"] == pytest.approx(4 * 1.861 / 60 * (24 + 20 * 0.65 / 0.35), rel=1e-3)


def test_a_demonstration_that_began_again_is_guarded_anew(engine, start):
    cluster = runaway(engine)
    guard = start(cluster)
    run(guard, cluster, 60)
    again = runaway(engine)
    guard._store.start_over(T0)
    guard._backend, guard._read = again, lambda: again.state().jobs
    guard.forget()
    run(guard, again, 60)
    assert acts(again) == [SUSPENDED, KILLED]
