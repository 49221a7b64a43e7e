"""SkyServe's autoscaler as a timeline of 20 s decisions, and the tuned HPA on the same placement."""

import math

from controller.core.policies.hpa_spot import HpaSpot
from controller.core.policies.spothedge import SpotHedge
from controller.core.types import Replica
from models.enums import Limit, ReplicaState
from tests.core.observed import BY_ID, NOW, SPOT, fleet, observation, replica, started
from tests.core.policies.timeline import Timeline, measured


def on_spot(count: int) -> tuple[Replica, ...]:
    return fleet({SPOT[0].id: count})


def decide(timeline: Timeline, load: float, decisions: int) -> list[int]:
    """What is required at each decision with so many erlangs measured."""
    return [timeline.tick(0, load=measured([load], timeline.now_s)).required for _ in range(decisions)]


def test_more_is_taken_up_at_the_fifteenth_decision() -> None:
    timeline = Timeline(SpotHedge(), 20.0, on_spot(10))
    assert decide(timeline, 7.0, 3) == [10] * 3
    assert decide(timeline, 14.0, 16) == [10] * 14 + [20] * 2


def test_less_is_taken_up_at_the_sixtieth() -> None:
    timeline = Timeline(SpotHedge(), 20.0, on_spot(10))
    assert decide(timeline, 3.5, 61) == [10] * 59 + [5] * 2


def test_one_decision_that_wants_no_more_starts_the_count_anew() -> None:
    timeline = Timeline(SpotHedge(), 20.0, on_spot(10))
    assert decide(timeline, 14.0, 14) == [10] * 14
    assert decide(timeline, 7.0, 1) == [10]
    assert decide(timeline, 14.0, 15) == [10] * 14 + [20]


def test_what_is_taken_up_is_what_is_wanted_then() -> None:
    timeline = Timeline(SpotHedge(), 20.0, on_spot(10))
    decide(timeline, 70.0, 14)
    assert decide(timeline, 14.0, 1) == [20]


def test_from_zero_it_jumps() -> None:
    assert decide(Timeline(SpotHedge(), 20.0), 7.0, 1) == [10]


def test_limits_apply_after_the_delay() -> None:
    assert decide(Timeline(SpotHedge(ceiling=6), 20.0), 7.0, 1) == [6]
    assert decide(Timeline(SpotHedge(), 20.0), 0.0, 1) == [1]


def test_unknown_demand_changes_nothing() -> None:
    timeline = Timeline(SpotHedge(), 20.0, on_spot(10))
    assert decide(timeline, math.nan, 70) == [10] * 70
    assert timeline.tick(0, load={}).required == 10
    silent = timeline.tick(0, telemetry_s=NOW - 3600)
    assert (silent.actions, silent.bound.limit) == ((), Limit.STALE_TELEMETRY)


def test_the_over_provisioned_are_on_spot() -> None:
    plan, _ = SpotHedge(overprovision=2).plan(
        observation(load=measured([7.0])), Timeline(SpotHedge(), 20.0).memory, "p-1"
    )
    assert sum(plan.desired_by_offer[offer.id] for offer in SPOT) == 12
    assert len(started(plan)) == 22


def test_the_tuned_hpa_counts_a_replica_once_while_on_demand_stands_in() -> None:
    """Ten wanted: ten on spot come and ten on demand serve. The scale is ten, and 5 in flight are its target."""
    timeline = Timeline(HpaSpot(), 15.0)
    timeline.replicas = on_spot(10)
    assert timeline.tick(5).required == 10
    late = tuple(replica(n, BY_ID[SPOT[0].id], ReplicaState.BOOTING) for n in range(10))
    timeline.replicas = late + tuple(replica(50 + n) for n in range(10))
    plan = timeline.tick(5)
    assert (plan.required, plan.actions) == (10, ())
    assert timeline.tick(10).required == 20


def test_the_tuned_hpa_has_tiers_and_a_limit_unless_told_otherwise() -> None:
    assert HpaSpot().fifo is False
    assert HpaSpot(tiers=False).fifo is True
    timeline = Timeline(HpaSpot(), 15.0, on_spot(80))
    assert timeline.tick(1000).required == 100
    assert Timeline(HpaSpot(ceiling=None), 15.0, on_spot(80)).tick(1000).required == 160
