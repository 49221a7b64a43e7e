"""Laws of the simulator: who runs where and when, what a zone's loss does; nothing depends on how time is cut."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.backends.simulated import kernel
from controller.backends.simulated.arrivals import Arrivals
from controller.backends.simulated.engine import Engine, ZoneSeries
from controller.core.queueing import mean_wait_s

ALL_PREEMPT_BELOW = np.array([[False, True, True], [False, False, True], [False, False, False]])
FIRST_ONLY = np.array([[False, True, True], [False, False, False], [False, False, False]])
NOBODY = np.zeros((3, 3), bool)


def engine(preempt: Any = NOBODY, zones: Iterable[ZoneSeries] = (), **changes: Any) -> Engine:
    return Engine(0.0, [0, 1, 2], preempt, zones=tuple(zones), **changes)


def demand(*requests: tuple[float, float, int]) -> Arrivals:
    """(arrival, work, tier) each."""
    ordered = sorted(requests, key=lambda request: request[0])
    return Arrivals(*(np.array([row[i] for row in ordered], kind) for i, kind in enumerate((float, float, np.int64))))


def series(*changes: tuple[float, int]) -> ZoneSeries:
    return ZoneSeries(np.array([at for at, _ in changes], float), np.array([to for _, to in changes], np.int64))


def on_demand(simulated: Engine, *, ready: bool = True, cold_s: float = 100.0, speed: float = 1.0) -> int:
    number = simulated.start(speed=speed, spot=False, zone=-1, cold_start_s=cold_s, ready_at_once=ready)
    assert number is not None
    return number


def spot(simulated: Engine, zone: int = 0, cold_s: float = 10.0) -> int | None:
    return simulated.start(speed=1.0, spot=True, zone=zone, cold_start_s=cold_s)


def rows(simulated: Engine) -> Any:
    return simulated.a.request[: simulated.requests]


def replicas(simulated: Engine) -> Any:
    return simulated.a.replica[: simulated.replicas]


def starts(simulated: Engine) -> list[float]:
    return [float(value) for value in rows(simulated)["started"]]


# --- one replica, by hand ---


def test_requests_run_one_at_a_time_in_order_of_arrival() -> None:
    simulated = engine()
    on_demand(simulated)
    simulated.expect(demand((0, 10, 1), (1, 5, 1), (2, 5, 1), (40, 1, 1)))
    simulated.advance(100)
    assert starts(simulated) == [0, 10, 15, 40]
    assert [float(value) for value in rows(simulated)["finished"]] == [10, 15, 20, 41]


def test_a_fast_replica_takes_less_time() -> None:
    simulated = engine()
    on_demand(simulated, speed=2.0)
    simulated.expect(demand((0, 10, 0)))
    simulated.advance(100)
    assert rows(simulated)["finished"][0] == 5


def test_nothing_starts_before_the_replica_is_ready() -> None:
    simulated = engine()
    on_demand(simulated, ready=False, cold_s=100.0)
    simulated.expect(demand((0, 10, 1), (50, 10, 0)))
    simulated.advance(300)
    # At 100 both wait: the higher tier goes first although it came later.
    assert starts(simulated) == [110, 100]


def test_the_faster_idle_replica_serves_first_and_the_first_tier_prefers_on_demand() -> None:
    simulated = engine(zones=[series((-math.inf, -1))])
    slow, fast = on_demand(simulated, speed=1.0), on_demand(simulated, speed=2.0)
    cheap = spot(simulated)
    simulated.advance(20)
    simulated.expect(demand((30, 10, 0), (31, 10, 0), (32, 10, 0)))
    simulated.advance(33)
    assert rows(simulated)["replica"].tolist() == [fast, slow, cheap]
    simulated.advance(60)
    simulated.expect(demand((70, 10, 2), (71, 10, 2)))
    simulated.advance(72)
    assert rows(simulated)["replica"].tolist()[3:] == [cheap, fast]


def test_a_released_replica_ends_its_request_and_takes_no_other() -> None:
    simulated = engine()
    only = on_demand(simulated)
    simulated.expect(demand((0, 10, 1), (1, 10, 1)))
    simulated.advance(5)
    assert simulated.release(only) is False
    assert simulated.release(only) is False
    simulated.advance(50)
    assert replicas(simulated)["ended"][only] == 10
    assert starts(simulated)[0] == 0
    assert math.isnan(starts(simulated)[1])
    assert simulated.release(only) is True
    assert simulated.unfinished


def test_idle_and_coming_replicas_are_gone_at_once() -> None:
    simulated = engine()
    idle, coming = on_demand(simulated), on_demand(simulated, ready=False)
    simulated.advance(5)
    assert simulated.release(idle) is True
    assert simulated.release(coming) is True
    simulated.advance(500)
    assert replicas(simulated)["ended"].tolist() == [5, 5]
    assert math.isnan(replicas(simulated)["ready"][coming])
    assert len(simulated.live()) == 0


# --- preemption ---


def test_a_higher_tier_takes_the_newest_run_of_the_lowest_and_it_starts_again_from_zero() -> None:
    simulated = engine(FIRST_ONLY)
    on_demand(simulated), on_demand(simulated), on_demand(simulated)
    simulated.expect(demand((0, 100, 2), (10, 100, 2), (20, 100, 1), (30, 5, 0)))
    simulated.advance(31)
    first, newest, standard, premium = rows(simulated)
    assert premium["started"] == 30
    assert math.isnan(newest["started"])
    assert (first["started"], standard["started"]) == (0, 20)
    simulated.advance(500)
    assert (newest["started"], newest["finished"]) == (35, 135)
    assert rows(simulated)["attempts"].tolist() == [1, 2, 1, 1]
    assert simulated.a.counts[kernel.PREEMPTED] == 1
    assert [row.kind for row in simulated.take_log()] == [kernel.LOG_PREEMPTED]
    assert simulated.take_log() == ()


def test_only_allowed_tiers_preempt() -> None:
    simulated = engine(FIRST_ONLY)
    on_demand(simulated)
    simulated.expect(demand((0, 100, 2), (10, 5, 1)))
    simulated.advance(300)
    assert starts(simulated) == [0, 100]
    simulated = engine(ALL_PREEMPT_BELOW)
    on_demand(simulated)
    simulated.expect(demand((0, 100, 2), (10, 5, 1)))
    simulated.advance(300)
    assert starts(simulated) == [15, 10]


def test_a_request_is_preempted_only_so_often() -> None:
    simulated = engine(FIRST_ONLY, max_preemptions=2)
    on_demand(simulated)
    simulated.expect(demand((0, 100, 2), (10, 1, 0), (20, 1, 0), (30, 1, 0)))
    simulated.advance(300)
    assert rows(simulated)["attempts"].tolist() == [3, 1, 1, 1]
    # The third premium request waits for it: 21 + 100.
    assert starts(simulated) == [21, 10, 20, 121]


def test_a_preempted_request_keeps_its_place_in_its_tier() -> None:
    simulated = engine(FIRST_ONLY)
    on_demand(simulated)
    simulated.expect(demand((0, 50, 2), (1, 50, 2), (10, 5, 0)))
    simulated.advance(300)
    assert starts(simulated) == [15, 65, 10]


def test_a_single_queue_ignores_tiers() -> None:
    simulated = Engine(0.0, [0, 0, 0], np.zeros((1, 1), bool))
    on_demand(simulated)
    simulated.expect(demand((0, 10, 2), (1, 10, 1), (2, 10, 0)))
    simulated.advance(100)
    assert starts(simulated) == [0, 10, 20]


# --- spot ---


def test_a_zone_gives_a_notice_two_minutes_ahead_and_then_takes_its_replicas() -> None:
    simulated = engine(zones=[series((-math.inf, -1), (1000, 0))])
    busy, idle = spot(simulated), spot(simulated)
    simulated.advance(870)
    simulated.expect(demand((870, 500, 2)))
    simulated.advance(879.9)
    assert replicas(simulated)["gone"].tolist() == [math.inf, math.inf]
    simulated.advance(880)
    assert replicas(simulated)["gone"].tolist() == [1000, 1000]
    # Under notice nothing new is begun; what runs goes on to the end.
    simulated.expect(demand((900, 5, 0)))
    simulated.advance(999)
    assert math.isnan(starts(simulated)[1])
    assert sorted(simulated.live().tolist()) == [busy, idle]
    simulated.advance(1000)
    assert len(simulated.live()) == 0
    assert replicas(simulated)["ended"].tolist() == [1000, 1000]
    kinds = [row.kind for row in simulated.take_log()]
    assert kinds.count(kernel.LOG_NOTICE) == kinds.count(kernel.LOG_LOST) == 2
    assert kinds.count(kernel.LOG_INTERRUPTED) == simulated.a.counts[kernel.INTERRUPTED] == 1
    # The interrupted request is queued again, at its own place, and starts from zero.
    on_demand(simulated)
    simulated.advance(2000)
    assert rows(simulated)["attempts"].tolist() == [2, 1]
    assert starts(simulated) == [1005, 1000]
    assert rows(simulated)["finished"].tolist() == [1505, 1005]


def test_a_request_that_ends_with_the_zone_is_not_interrupted() -> None:
    simulated = engine(zones=[series((-math.inf, -1), (1000, 0))])
    spot(simulated)
    simulated.expect(demand((500, 500, 2)))
    simulated.advance(1001)
    assert rows(simulated)["finished"][0] == 1000
    assert simulated.a.counts[kernel.INTERRUPTED] == 0
    assert replicas(simulated)["ended"][0] == 1000


def test_the_notice_is_shorter_where_the_tick_does_not_allow_more() -> None:
    simulated = engine(zones=[series((-math.inf, -1), (60, 0))])
    spot(simulated)
    simulated.advance(1)
    assert replicas(simulated)["gone"][0] == 60
    simulated.advance(61)
    assert replicas(simulated)["ended"][0] == 60


def test_a_start_during_a_notice_is_under_notice_at_once() -> None:
    simulated = engine(zones=[series((-math.inf, -1), (1000, 0), (1100, -1))])
    simulated.advance(950)
    late = spot(simulated, cold_s=10)
    assert late is not None
    assert replicas(simulated)["gone"][late] == 1000
    simulated.expect(demand((965, 5, 0)))
    simulated.advance(999)
    assert math.isnan(starts(simulated)[0])
    simulated.advance(1050)
    assert replicas(simulated)["ended"][late] == 1000
    assert spot(simulated) is None
    simulated.advance(1100)
    assert spot(simulated) is not None


def test_a_zone_without_capacity_gives_none_from_the_first_moment() -> None:
    simulated = engine(zones=[series((-math.inf, 0), (300, 2))])
    assert simulated.room(0) == 0
    assert spot(simulated) is None
    simulated.advance(300)
    assert simulated.room(0) == 2
    assert [spot(simulated) is None for _ in range(3)] == [False, False, True]


def test_a_count_is_what_can_be_held_and_the_excess_goes() -> None:
    simulated = engine(zones=[series((-math.inf, 5), (1000, 2), (2000, 4))])
    held = [spot(simulated) for _ in range(5)]
    assert spot(simulated) is None
    simulated.advance(900)
    warned = {number for number in held if number is not None and replicas(simulated)["gone"][number] == 1000}
    assert len(warned) == 3
    simulated.advance(1000)
    assert set(simulated.live().tolist()) == set(held) - warned
    assert spot(simulated) is None
    simulated.advance(2000)
    assert simulated.room(0) == 2


def test_a_replica_let_go_makes_room() -> None:
    simulated = engine(zones=[series((-math.inf, 1))])
    first = spot(simulated)
    assert spot(simulated) is None
    assert first is not None
    simulated.release(first)
    assert spot(simulated) is not None


def test_on_demand_is_never_taken() -> None:
    simulated = engine(zones=[series((-math.inf, 0))])
    keeps = on_demand(simulated)
    simulated.advance(10_000)
    assert simulated.live().tolist() == [keeps]


def test_a_changed_series_takes_nobody_before_the_next_advance() -> None:
    simulated = engine(zones=[series((-math.inf, -1))])
    held = spot(simulated)
    simulated.advance(50)
    simulated.set_zones([series((-math.inf, 0))])
    assert simulated.live().tolist() == [held]
    assert spot(simulated) is None
    simulated.advance(50)
    assert len(simulated.live()) == 0


# --- random small worlds ---

PRIMES = (1.0, 2.0)


@dataclass(frozen=True)
class World:
    """What happens, in order of time: (at, what, argument)."""

    demand: tuple[tuple[float, float, int], ...]
    starts: tuple[tuple[float, int, float, float], ...]
    releases: tuple[tuple[float, int], ...]
    zones: tuple[tuple[tuple[float, int], ...], ...]
    preempt: int
    end_s: float = 4000.0

    def engine(self) -> Engine:
        preempt = (NOBODY, FIRST_ONLY, ALL_PREEMPT_BELOW)[self.preempt]
        return engine(preempt, [series((-math.inf, -1), *zone) for zone in self.zones])

    def events(self) -> list[tuple[float, Callable[[Engine], None]]]:
        done: list[tuple[float, Callable[[Engine], None]]] = [
            (0.0, lambda sim: sim.expect(demand(*self.demand)) if self.demand else None)
        ]
        for at, where, cold_s, speed in self.starts:
            done.append((at, lambda sim, w=where, c=cold_s, v=speed: self._start(sim, w, c, v)))
        for at, number in self.releases:
            done.append((at, lambda sim, n=number: sim.release(n) if n < sim.replicas else None))
        # One that lets everything finish.
        done.append((self.end_s, lambda sim: self._start(sim, -1, 1.0, 1.0)))
        return sorted(done, key=lambda event: event[0])

    def _start(self, sim: Engine, where: int, cold_s: float, speed: float) -> None:
        sim.start(speed=speed, spot=where >= 0, zone=where, cold_start_s=cold_s)

    def run(self, cuts: Iterable[float] = ()) -> Engine:
        simulated = self.engine()
        moments = [(at, 1, act) for at, act in self.events()] + [(at, 0, None) for at in cuts]
        for at, _, act in sorted(moments, key=lambda moment: moment[:2]):
            simulated.advance(at)
            if act is not None:
                act(simulated)
        simulated.advance(100_000.0)
        return simulated


def seconds(low: float, high: float) -> st.SearchStrategy[float]:
    """Quarters of a second: exact in floats, and moments coincide often."""
    return st.integers(int(low * 4), int(high * 4)).map(lambda quarters: quarters / 4)


zone_changes = st.lists(st.tuples(seconds(1, 3000), st.sampled_from([-1, 0, 0, 1, 2])), max_size=4).map(
    lambda changes: tuple(sorted(dict(changes).items()))
)
worlds = st.builds(
    World,
    demand=st.lists(st.tuples(seconds(0, 2000), seconds(0.25, 200), st.integers(0, 2)), max_size=25).map(tuple),
    starts=st.lists(
        st.tuples(seconds(0, 2000), st.integers(-1, 1), seconds(0, 300), st.sampled_from(PRIMES)),
        min_size=1,
        max_size=7,
    ).map(tuple),
    releases=st.lists(st.tuples(seconds(0, 2500), st.integers(0, 6)), max_size=4).map(tuple),
    zones=st.tuples(zone_changes, zone_changes),
    preempt=st.integers(0, 2),
)


@settings(max_examples=150)
@given(worlds)
def test_laws_of_every_world(world: World) -> None:
    simulated = world.run()
    done, fleet = rows(simulated), replicas(simulated)
    assert not simulated.unfinished
    assert len(done) == len(world.demand)
    served = fleet[done["replica"]]
    # A run begins after its request came, on a replica that is ready and not yet gone, and is as long as its work.
    assert (done["started"] >= done["arrived"]).all()
    assert (done["started"] >= served["ready"]).all()
    assert np.allclose(done["finished"] - done["started"], done["work"] / served["speed"])
    ended = np.where(np.isnan(served["ended"]), np.inf, served["ended"])
    assert (done["finished"] <= ended).all()
    # One request a replica at a time.
    for number in range(len(fleet)):
        mine = np.sort(done[done["replica"] == number], order="started")
        assert (mine["started"][1:] >= mine["finished"][:-1]).all()
    # What was begun more than once was preempted or interrupted, and nothing else was.
    count = simulated.a.counts
    assert (done["attempts"] - 1).sum() == count[kernel.PREEMPTED] + count[kernel.INTERRUPTED]
    assert done["preemptions"].sum() == count[kernel.PREEMPTED]
    assert done["preemptions"].max(initial=0) <= 2
    assert (done["preemptions"][done["tier"] == 0] == 0).all()
    if world.preempt == 0:
        assert count[kernel.PREEMPTED] == 0
    # First come, first served inside a tier, among those that ran once; no lower tier starts while a higher waits.
    for early in range(len(done)):
        if done["attempts"][early] > 1:
            continue
        later = done[early + 1 :]
        same = later["tier"] == done["tier"][early]
        assert (later["started"][same] >= done["started"][early]).all()
        lower = done["tier"] > done["tier"][early]
        waiting = (done["started"] > done["arrived"][early]) & (done["started"] < done["started"][early])
        assert not (lower & waiting).any()


@settings(max_examples=80)
@given(worlds)
def test_released_and_warned_replicas_begin_nothing(world: World) -> None:
    simulated = world.run()
    done, fleet, log = rows(simulated), replicas(simulated), simulated.take_log()
    for at, number in world.releases:
        if number < len(fleet) and fleet["requested"][number] < at:
            assert (done["started"][done["replica"] == number] <= at).all()
    for row in log:
        if row.kind == kernel.LOG_NOTICE:
            assert (done["started"][done["replica"] == row.replica] <= row.at_s).all()
            assert fleet["gone"][row.replica] - row.at_s <= 120.0


@settings(max_examples=80)
@given(
    st.lists(st.tuples(seconds(0, 500), seconds(0.25, 100), st.just(1)), min_size=1, max_size=40),
    st.lists(seconds(0, 300), min_size=1, max_size=5),
)
def test_nobody_waits_beside_an_idle_replica(requests: list[tuple[float, float, int]], cold_s: list[float]) -> None:
    """Against the simplest simulator there is: the next in line takes the replica that is free first."""
    simulated = engine()
    for seconds_ in cold_s:
        on_demand(simulated, ready=False, cold_s=seconds_)
    simulated.expect(demand(*requests))
    simulated.advance(100_000)
    free, expected = sorted(cold_s), []
    for arrived, work, _ in sorted(requests, key=lambda request: request[0]):
        expected.append(max(arrived, free[0]))
        free = sorted([*free[1:], expected[-1] + work])
    assert starts(simulated) == expected


@settings(max_examples=80)
@given(worlds, st.lists(seconds(0, 4500), max_size=30))
def test_how_time_is_cut_changes_nothing(world: World, cuts: list[float]) -> None:
    whole, pieces = world.run(), world.run(cuts)
    assert_same(whole, pieces)


@settings(max_examples=40)
@given(worlds)
def test_the_same_world_twice_is_the_same_history(world: World) -> None:
    assert_same(world.run(), world.run())


@settings(max_examples=60)
@given(worlds, seconds(0, 4500))
def test_a_restored_engine_goes_on_alike(world: World, at_s: float) -> None:
    straight, broken = world.engine(), world.engine()
    for simulated, breaks in ((straight, False), (broken, True)):
        restored = False
        current = simulated
        for at, act in world.events():
            if breaks and not restored and at > at_s:
                current.advance(at_s)
                fresh = world.engine()
                fresh.restore(current.snapshot())
                current, restored = fresh, True
            current.advance(at)
            act(current)
        current.advance(100_000.0)
        if breaks:
            broken = current
    assert_same(straight, broken)


@settings(max_examples=60)
@given(worlds, seconds(0, 4500), seconds(0, 2000))
def test_forgetting_what_is_over_changes_nothing_else(world: World, at_s: float, age_s: float) -> None:
    straight, current = world.run(), world.engine()
    dropped = 0
    for at, act in world.events():
        current.advance(at)
        act(current)
        if at <= at_s:
            dropped += current.forget(at - age_s)
    current.advance(100_000.0)
    kept = rows(current)
    assert len(kept) + dropped == len(rows(straight))
    for name in ("arrived", "started", "finished", "tier", "replica", "attempts"):
        assert np.array_equal(rows(straight)[name][dropped:], kept[name], equal_nan=True)
    assert same(replicas(straight), replicas(current), but=("running",))


def assert_same(one: Engine, other: Engine) -> None:
    assert same(rows(one), rows(other))
    assert same(replicas(one), replicas(other), but=("heap_at", "idle_at"))
    assert one.a.counts.tolist()[: kernel.LOGS] == other.a.counts.tolist()[: kernel.LOGS]


def same(one: Any, other: Any, but: tuple[str, ...] = ()) -> bool:
    names = [name for name in one.dtype.names if name not in but]
    return all(np.array_equal(one[name], other[name], equal_nan=one[name].dtype.kind == "f") for name in names)


# --- against theory ---


@pytest.mark.parametrize(("servers", "load"), [(1, 0.7), (5, 4.0), (20, 18.0)])
def test_waits_of_a_steady_queue_are_erlangs(servers: int, load: float) -> None:
    """M/M/c by simulation and by Erlang C. The mean's error comes from 40 batches far longer than a busy period."""
    n, work_s = 400_000, 10.0
    rng = np.random.default_rng(20241125)
    arrived = np.cumsum(rng.exponential(work_s / load, n))
    simulated = engine()
    simulated.expect(Arrivals(arrived, rng.exponential(work_s, n), np.zeros(n, np.int64)))
    for _ in range(servers):
        on_demand(simulated)
    simulated.advance(float(arrived[-1]) + 10_000)
    done = rows(simulated)[n // 50 :]
    wait = done["started"] - done["arrived"]
    batches = np.array([batch.mean() for batch in np.array_split(wait, 40)])
    error = float(batches.std(ddof=1)) / math.sqrt(len(batches))
    expected = mean_wait_s(servers, load, work_s)
    assert error < 0.1 * expected
    assert abs(float(wait.mean()) - expected) < 4 * error


def test_the_first_tier_waits_as_if_it_were_alone() -> None:
    """Preemptive priority: tier 0 sees Erlang C of its own load, whatever runs below it."""
    n, work_s, servers = 200_000, 10.0, 4
    rng = np.random.default_rng(7)
    times = [np.cumsum(rng.exponential(work_s / load, n)) for load in (2.0, 1.5)]
    arrived, tier = np.concatenate(times), np.repeat([0, 2], n)
    order = np.argsort(arrived, kind="stable")
    simulated = engine(FIRST_ONLY, max_preemptions=1_000_000)
    simulated.expect(Arrivals(arrived[order], rng.exponential(work_s, 2 * n), tier[order]))
    for _ in range(servers):
        on_demand(simulated)
    simulated.advance(min(float(times[0][-1]), float(times[1][-1])))
    done = rows(simulated)
    done = done[(done["tier"] == 0) & ~np.isnan(done["started"])]
    wait = done["started"] - done["arrived"]
    batches = np.array([batch.mean() for batch in np.array_split(wait, 40)])
    error = float(batches.std(ddof=1)) / math.sqrt(len(batches))
    assert abs(float(wait.mean()) - mean_wait_s(servers, 2.0, work_s)) < 4 * error
