"""What beats what, for the policies of every class."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.limits import BURST, RESERVE, burn_left, limited_plan
from controller.core.types import Observation, Plan, Reason, Spend
from models.enums import Limit, OverrideKind, ReplicaState
from tests.core.observed import A10G, L40S, NOW, envelope, observation, override, released, replica, started

WHY = Reason(Limit.LATENCY_TARGET, "two are needed")


def planned(seen: Observation, count: int = 2) -> Plan:
    return limited_plan(seen, "p", "rendering", [A10G] * count, A10G, count, (WHY,), {"usd_per_hour": 1.0})


def test_what_is_missing_is_started_and_the_surplus_goes_coming_first() -> None:
    assert started(planned(observation())) == [A10G.id] * 2
    here = (replica(1), replica(2, busy=True), replica(3, state=ReplicaState.BOOTING), replica(4, L40S))
    plan = planned(observation(replicas=here), 1)
    gone = {action.replica_id for action in plan.actions}
    assert gone == {"r-000001", "r-000003", "r-000004"}
    assert plan.bound is WHY


def test_floor_ceiling_and_pin_set_the_count() -> None:
    floor = planned(observation(envelope=envelope(floor=5)))
    assert (floor.desired, floor.bound.limit) == (5, Limit.FLOOR)
    ceiling = planned(observation(envelope=envelope(ceiling=1)))
    assert (ceiling.desired, ceiling.bound.limit) == (1, Limit.CEILING)
    pin = planned(observation(envelope=envelope(ceiling=1), overrides=(override(OverrideKind.PIN, 4),)))
    assert (pin.desired, pin.bound.limit) == (4, Limit.OVERRIDE)


def test_the_cap_beats_a_pin_that_is_not_signed() -> None:
    over = observation(envelope=envelope(2.0), overrides=(override(OverrideKind.PIN, 9),))
    plan = planned(over)
    assert plan.bound.limit is Limit.SPEND_CAP
    assert plan.desired == 1
    signed = replace(over, overrides=(override(OverrideKind.PIN, 9, signed_over_cap=True),))
    assert planned(signed).desired == 9


def test_what_burns_beside_the_service_is_not_its_own_to_burn() -> None:
    seen = observation(envelope=envelope(10.0), spend=Spend(NOW, 0.0, 3.0, 4.0))
    assert burn_left(seen) == pytest.approx(10 * (1 - RESERVE) - 4)
    late = replace(seen, now_s=NOW + 3000)
    assert burn_left(late) == pytest.approx(10 * BURST - 4)
    assert burn_left(replace(seen, spend=Spend(NOW, 0.0, 0.0, 99.0))) == 0.0
    assert burn_left(observation()) is None


@given(st.integers(0, 30), st.floats(0.5, 60), st.floats(0, 60), st.floats(0, 60), st.floats(0, 3599))
def test_the_plan_never_burns_more_than_is_left(
    count: int, cap: float, accrued: float, beside: float, into_s: float
) -> None:
    seen = observation(
        now_s=NOW + into_s, telemetry_s=NOW + into_s, envelope=envelope(cap), spend=Spend(NOW, accrued, 0.0, beside)
    )
    left = burn_left(seen)
    assert left is not None
    assert planned(seen, count).desired * A10G.price_usd_per_hour <= left + 1e-6


def test_stale_telemetry_keeps_what_is_there_even_over_the_cap() -> None:
    here = tuple(replica(n) for n in range(6))
    plan = planned(observation(replicas=here, telemetry_s=None, envelope=envelope(1.0)))
    assert released(plan) == []
    assert plan.bound.limit is Limit.STALE_TELEMETRY


def test_a_freeze_holds() -> None:
    plan = planned(observation(overrides=(override(OverrideKind.FREEZE),)))
    assert (plan.actions, plan.bound.limit) == ((), Limit.FREEZE)


def test_an_idle_replica_under_notice_is_given_back() -> None:
    leaving = replica(9, gone_s=NOW + 60)
    plan = planned(observation(replicas=(leaving,)))
    assert [action.replica_id for action in plan.actions if action.replica_id] == [leaving.id]
    assert len(started(plan)) == 2
