"""Knative's autoscaler as timelines of 2 s ticks: windows, panic and its end."""

import pytest

from controller.core.policies.kpa import Kpa
from controller.core.types import Plan
from models.enums import Limit
from tests.core.observed import NOW
from tests.core.policies.timeline import Timeline, pods


def steady(in_flight: int, ready: int, **parameters: float) -> Timeline:
    """A pool that has served so many for two minutes and is past its first panic."""
    timeline = Timeline(Kpa(**parameters), 2.0, pods(ready))
    for _ in range(60):
        timeline.tick(in_flight)
    return timeline


def test_it_begins_in_panic_with_what_is_there() -> None:
    """A restart keeps its scale for a stable window: panic ends once more than 60 s have passed."""
    timeline = Timeline(Kpa(), 2.0, pods(10))
    desired = [timeline.tick(0).desired for _ in range(32)]
    assert desired[:31] == [10] * 31
    assert desired[31] == 5  # at most halved: max-scale-down-rate 2


def test_a_single_replica_begins_calmly() -> None:
    assert Timeline(Kpa(), 2.0, pods(1)).tick(0).desired == 1


def test_a_calm_pool_follows_the_mean_of_a_minute() -> None:
    timeline = steady(7, 10)
    assert timeline.tick(7).desired == 10  # 7 / 0.7
    # 29 readings of 7 and one of 12 in the minute: 7.17 / 0.7 = 10.24; the panic window's (7, 7, 12) is far below panic
    plan = timeline.tick(12)
    assert plan.desired == 11
    assert "panic" not in plan.bound.text
    assert plan.bound.numbers["stable"] == pytest.approx((29 * 7 + 12) / 30)
    assert plan.bound.numbers["panic"] == pytest.approx((7 + 7 + 12) / 3)


def test_panic_begins_at_twice_what_is_ready() -> None:
    """10 ready: 20 replicas' worth over 6 s, more than 19 × 0.7 = 13.3 on average."""
    below = steady(7, 10)
    for _ in range(3):
        plan = below.tick(13)
    assert "panic" not in plan.bound.text
    above = steady(7, 10)
    wanted: list[Plan] = [above.tick(14) for _ in range(3)]
    assert ["in panic" in plan.bound.text for plan in wanted] == [False, False, True]
    assert wanted[-1].desired == 20  # 14 / 0.7, where the stable mean of 7.7 asks for 11


def test_panic_never_scales_down_and_ends_a_stable_window_after_the_last_cause() -> None:
    timeline = steady(7, 10)
    for _ in range(3):
        timeline.tick(28)
    timeline.replicas = pods(40)
    # What was in the panic window stays a cause on 40 replicas no longer: 28 / 0.7 / 40 is 1.
    calm = [timeline.tick(7) for _ in range(31)]
    assert [plan.desired for plan in calm[:30]] == [40] * 30
    assert all("in panic" in plan.bound.text for plan in calm[:30])
    assert "panic" not in calm[30].bound.text
    assert calm[30].desired == 20  # the mean asks for 10, and it halves at most


def test_more_cause_extends_the_panic() -> None:
    timeline = steady(7, 10)
    for _ in range(3):
        timeline.tick(28)
    for _ in range(20):
        timeline.tick(28)  # nothing has become ready: still panicking, its end put off
    timeline.replicas = pods(40)
    assert [timeline.tick(7).desired for _ in range(30)] == [40] * 30


def test_the_scale_down_delay_keeps_the_highest_recommendation() -> None:
    at_once, delayed = steady(7, 10), steady(7, 10, down_s=60.0)
    assert [at_once.tick(0).desired for _ in range(30)][-1] == 5
    desired = [delayed.tick(0).desired for _ in range(40)]
    # The mean asks for ten as long as 6.3 are in flight, that is for two more ticks; a minute later that is forgotten.
    assert desired[:31] == [10] * 31
    assert desired[31] == 9


def test_one_replica_stays_and_the_ceiling_holds() -> None:
    timeline = Timeline(Kpa(ceiling=5), 2.0, pods(1))
    assert timeline.tick(0).desired == 1
    assert timeline.tick(100).desired == 5


def test_without_telemetry_it_holds() -> None:
    timeline = steady(7, 10)
    plan = timeline.tick(100, telemetry_s=NOW - 3600)
    assert (plan.actions, plan.desired, plan.bound.limit) == ((), 10, Limit.STALE_TELEMETRY)
