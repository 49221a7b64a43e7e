"""Dynamo's planner as a timeline of 5 s ticks: a floor by demand, and single steps above it."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from controller.core.policies.dynamo import Dynamo, demand_windows, fewest_replicas, next_wait_s
from controller.core.queueing import mean_wait_s
from controller.core.types import Series
from models.enums import Limit
from tests.core.observed import NOW, TIERS, names
from tests.core.policies.timeline import Timeline, measured, pods

WORK_S = 15.0
"""30 s on the reference GPU; the pool's machine is twice as fast."""
QUIET = {"load": measured([0.1] * 30)}


def dynamo(ready: int, coming: int = 0, **parameters: object) -> Timeline:
    return Timeline(Dynamo(predictor="constant", **parameters), 5.0, pods(ready, coming))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("in_flight", "ready", "wait_s"), [(0, 10, 0.0), (9, 10, 0.0), (10, 10, 1.5), (13, 10, 6.0), (1, 1, 15.0)]
)
def test_how_long_the_next_one_waits(in_flight: int, ready: int, wait_s: float) -> None:
    assert next_wait_s(in_flight, ready, WORK_S) == wait_s


@pytest.mark.parametrize(
    ("in_flight", "desired", "why"),
    [
        (10, 11, "the next would wait 1.5 s, over 0.5: one more"),
        (40, 11, "however long: one"),
        (9, 10, "one is free, but joined on nine the next would wait: 9 · 10 / 9 = 10 in flight"),
        (8, 9, "8 · 10 / 9 = 8.9 in flight wait for nothing: one less"),
        (0, 9, "one at a time"),
    ],
)
def test_the_fast_loop(in_flight, desired, why) -> None:
    assert dynamo(10).tick(in_flight, **QUIET).desired == desired, why


def test_nothing_changes_while_a_replica_is_coming() -> None:
    assert dynamo(10, 1).tick(40, **QUIET).desired == 11
    assert dynamo(10, 1).tick(0, **QUIET).desired == 11


def test_no_replica_serves_and_one_is_started() -> None:
    assert dynamo(0).tick(3, load={}).desired == 1
    assert dynamo(1).tick(0, load={}).desired == 1


def test_the_floor_is_the_fewest_replicas_that_keep_the_wait() -> None:
    for load in (0.0, 0.3, 4.0, 20.0, 150.0):
        n = fewest_replicas(load, WORK_S, 0.5, 0.5)
        assert mean_wait_s(n, load, WORK_S, 1.0, 0.5) <= 0.5
        assert n == 1 or n - 1 <= load or mean_wait_s(n - 1, load, WORK_S, 1.0, 0.5) > 0.5


def test_the_fast_loop_never_goes_below_the_floor() -> None:
    timeline = dynamo(30)
    calm = {"load": measured([20.0] * 30)}
    floor = fewest_replicas(10.0, WORK_S, 0.5, 0.5)
    assert 10 < floor < 20
    counts = []
    for _ in range(30):
        plan = timeline.tick(0, **calm)
        counts.append(plan.desired)
        timeline.replicas = pods(plan.desired)
    assert counts[:3] == [29, 28, 27]
    assert set(counts[-5:]) == {floor}
    assert plan.bound.numbers["floor"] == floor


def test_the_slow_loop_looks_every_180_s_and_adds_at_most_eight() -> None:
    timeline = dynamo(2)

    def surge() -> Mapping[str, Mapping[str, Series]]:
        return {"load": measured([200.0] * 30, timeline.now_s)}

    assert timeline.tick(0, **QUIET).desired == 2
    before = [timeline.tick(1, **surge()).bound.numbers["floor"] for _ in range(35)]
    assert set(before) == {2}
    assert timeline.tick(1, **surge()).desired == 10
    timeline.replicas = pods(2, 8)
    [timeline.tick(1, **surge()) for _ in range(35)]
    assert timeline.tick(1, **surge()).desired == 18


@pytest.mark.parametrize("predictor", ["arima", "kalman", "constant"])
def test_every_predictor_sees_a_rise(predictor: str) -> None:
    rise = Series(NOW - 60.0 * 240, 60.0, np.linspace(2.0, 40.0, 240) + np.random.default_rng(2).normal(0, 0.5, 240))
    timeline = Timeline(Dynamo(predictor=predictor, step=100), 5.0, pods(1))
    plan = timeline.tick(1, load={names(TIERS, 2): rise})
    demand = plan.bound.numbers["demand"]
    assert demand is not None
    assert 38.0 < demand < 43.0


def test_windows_end_with_the_newest_minute() -> None:
    series = Series(NOW - 420.0, 60.0, np.array([9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    assert demand_windows(series, NOW).tolist() == [2.0, 5.0]
    assert demand_windows(series, NOW + 60.0).tolist() == [3.0, 5.5], "a minute that hasn't come in doesn't count"
    assert np.isnan(demand_windows(series, NOW + 200.0)[-1])
    assert len(demand_windows(None, NOW)) == 0
    long = Series(NOW - 60.0 * 5000, 60.0, np.ones(5000))
    assert len(demand_windows(long, NOW)) == 480


def test_a_budget_holds_and_silence_holds() -> None:
    assert dynamo(10, ceiling=10).tick(40, **QUIET).desired == 10
    plan = dynamo(10).tick(40, telemetry_s=NOW - 3600)
    assert (plan.actions, plan.desired, plan.bound.limit) == ((), 10, Limit.STALE_TELEMETRY)


def test_demand_that_is_not_known_leaves_the_floor_at_one() -> None:
    plan = dynamo(10).tick(9, load={})
    assert (plan.desired, plan.bound.numbers["demand"]) == (10, None)


def steps_of(made: Callable[[], Timeline]) -> list[int]:
    return made().follow([14, 14, 3, 3, 3], **QUIET)


def test_the_same_day_gives_the_same_steps() -> None:
    assert steps_of(lambda: dynamo(10)) == steps_of(lambda: dynamo(10)) == [11, 12, 11, 10, 9]
