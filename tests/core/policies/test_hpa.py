"""The Kubernetes autoscaler's parameters and rate policies; its formula has worked examples in `test_plan_policies`."""

from controller.core.policies.hpa import Hpa
from models.enums import Limit
from tests.core.observed import NOW
from tests.core.policies.timeline import Timeline, pods


def test_a_lower_target_holds_more() -> None:
    assert Timeline(Hpa(target=0.5), 15.0, pods(20)).tick(12).desired == 24
    assert Timeline(Hpa(), 15.0, pods(20)).tick(12).desired == 20  # ratio 0.857, and it starts with its scale


def test_the_down_window_is_as_long_as_asked() -> None:
    for down_s in (300.0, 900.0):
        desired = Timeline(Hpa(down_s=down_s), 15.0, pods(20)).follow([14] + [2] * 80)
        assert desired.index(3) == down_s / 15


def test_the_tolerance_is_as_wide_as_asked() -> None:
    assert Timeline(Hpa(tolerance=0.1), 15.0, pods(10)).tick(8).desired == 12
    assert Timeline(Hpa(tolerance=0.2), 15.0, pods(10)).tick(8).desired == 10


def test_the_ceiling_holds() -> None:
    assert Timeline(Hpa(ceiling=25), 15.0, pods(10)).follow([100] * 4) == [20, 25, 25, 25]


def test_scale_up_at_most_doubles_or_adds_four_in_a_period() -> None:
    assert Timeline(Hpa(), 15.0, pods(1)).follow([1000] * 6) == [5, 10, 20, 40, 80, 160]


def test_two_looks_within_a_period_share_its_allowance() -> None:
    """Started 5 s apart, the second look may not double what the first has just doubled."""
    assert Timeline(Hpa(), 5.0, pods(10)).follow([1000] * 7) == [20, 20, 20, 40, 40, 40, 80]


def test_without_telemetry_it_holds() -> None:
    timeline = Timeline(Hpa(), 15.0, pods(10))
    plan = timeline.tick(100, telemetry_s=NOW - 3600)
    assert (plan.actions, plan.desired, plan.bound.limit) == ((), 10, Limit.STALE_TELEMETRY)
    assert timeline.tick(100).desired == 20
