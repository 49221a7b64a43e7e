"""From an observation to a plan: what beats what, what a plan never does, and the baselines against worked examples."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.activity import BIN_S, ActivityLog
from controller.core.finance import HOUR_S
from controller.core.limits import BURST, RESERVE
from controller.core.plan import hold, staying
from controller.core.policies.base import Memory
from controller.core.policies.heddle import Heddle
from controller.core.policies.hpa import Hpa
from controller.core.policies.static import Static
from controller.core.types import Authority, FloatArray, Observation, Offer, Plan, QueueReading, Reason, Spend
from models.enums import ActionKind, Limit, Market, Mode, OverrideKind, ReplicaState
from tests.core.observed import (
    A10G,
    BY_ID,
    L40S,
    NOW,
    OFFERS,
    SPOT,
    TIERS,
    carried_out,
    envelope,
    fleet,
    forecasts,
    observation,
    override,
    queues,
    released,
    replica,
    standings,
    started,
)
from tests.core.shots import DAY, of_sessions, sessions

POLICY = Heddle()
LONG_S = 3 * HOUR_S
# Has watched so long that nothing is held for its sake.
SETTLED = Memory(since_s=NOW - LONG_S, reserves=(0.0, 0.0, 0.0), reserves_s=NOW)


def plan(seen: Observation, memory: Memory = SETTLED) -> Plan:
    return POLICY.plan(seen, memory, "p-000001")[0]


def automatic(**changes: Any) -> int:
    """What the plan alone would hold on an empty fleet."""
    return plan(observation(**changes)).desired


def spend(accrued: float = 0.0, jobs: float = 0.0) -> Spend:
    return Spend(NOW, accrued, 0.0, jobs)


# --- a calm plan ---


def test_an_empty_fleet_is_filled_and_every_action_is_numbered_and_explained() -> None:
    made = plan(observation())
    assert made.desired == sum(made.desired_by_offer.values()) == len(made.actions) > 0
    assert [action.id for action in made.actions] == [f"a-p-000001-{n + 1}" for n in range(len(made.actions))]
    assert Counter(started(made)) == made.desired_by_offer
    assert all(action.service == "images" and action.reason for action in made.actions)
    assert made.bound in made.reasons
    assert made.required <= made.stabilized
    assert {option["option"] for option in made.options} == {"mixed", "all on demand", "all on spot"}


def test_the_same_observation_gives_the_same_plan() -> None:
    seen = observation(replicas=fleet({SPOT[0].id: 5}))
    assert POLICY.plan(seen, SETTLED, "p-1") == POLICY.plan(seen, SETTLED, "p-1")


def test_pending_replicas_count_as_capacity_that_is_coming() -> None:
    """No second start for a need that is already being met (25, 26)."""
    empty = observation()
    coming = replace(empty, replicas=fleet(plan(empty).desired_by_offer, ReplicaState.BOOTING))
    assert plan(coming).actions == ()
    assert plan(coming).desired == plan(empty).desired


def test_replicas_that_leave_do_not_count() -> None:
    empty = observation()
    counts = plan(empty).desired_by_offer
    leaving = tuple(replace(each, gone_s=NOW + 100, busy=True) for each in fleet(counts))
    draining = tuple(replace(each, state=ReplicaState.DRAINING, busy=True) for each in fleet(counts))
    assert len(started(plan(replace(empty, replicas=leaving)))) >= plan(empty).desired
    assert len(started(plan(replace(empty, replicas=draining)))) == plan(empty).desired


def test_a_replica_under_notice_that_runs_nothing_is_let_go() -> None:
    leaving = replica(7, SPOT[0], gone_s=NOW + 100)
    assert released(plan(observation(replicas=(leaving,)))) == [SPOT[0].id]
    assert released(plan(observation(replicas=(replace(leaving, busy=True),)))) == []


# --- scale-in ---


def big(count: int = 40, busy: int = 0, **changes: Any) -> Observation:
    """As many as one likes: four on demand, the rest in even parts on the spot zones; every so many of them busy."""
    spread = {SPOT[n].id: len(range(n, count - 4, 3)) for n in range(3)}
    every = count // busy if busy else count + 1
    held = (replace(each, busy=n % every == every - 1) for n, each in enumerate(fleet({A10G.id: 4, **spread})))
    return observation(replicas=tuple(held), **changes)


def test_surplus_goes_idle_before_busy_and_newest_first() -> None:
    seen = big(40, busy=10)
    gone = {str(action.replica_id) for action in plan(seen).actions if action.kind is ActionKind.RELEASE_REPLICA}
    assert gone
    busy = {each.id for each in seen.replicas if each.busy}
    assert not gone & busy
    for each in SPOT:
        mine = sorted(one.id for one in seen.replicas if one.offer_id == each.id and not one.busy)
        leaving = [identifier for identifier in mine if identifier in gone]
        assert leaving == mine[len(mine) - len(leaving) :]


def test_nothing_goes_while_what_runs_and_waits_needs_it() -> None:
    """The forecast says quiet, the queue says not yet (AWS: never scale in from a forecast)."""
    quiet = forecasts(TIERS, 0.1, 0.1, 0.1)
    made = plan(big(10, busy=10, forecasts=quiet, queues=queues(TIERS, (5, 5, 0), (0, 1, 0))))
    assert released(made) == []


def test_a_forecast_alone_scales_nothing_in() -> None:
    """Measured load and what is in flight stay; only the forecast collapses."""
    calm = observation()
    held = carried_out(calm, plan(calm))
    lower = forecasts(TIERS, 0.0, 0.0, 0.0)
    made = plan(replace(held, forecasts=lower))
    serving = sum(BY_ID[each.offer_id].speed_ratio for each in held.replicas)
    leaves = sum(BY_ID[identifier].speed_ratio for identifier in released(made))
    assert serving - leaves >= 7.0


def test_a_restart_keeps_the_current_scale() -> None:
    made = plan(big(40), Memory(reserves=(0.0, 0.0, 0.0), reserves_s=NOW))
    assert released(made) == []
    assert made.desired == 40
    assert made.bound.limit is Limit.SCALE_IN_CHECK


def test_a_move_to_other_offers_starts_first_and_lets_go_when_the_new_serve() -> None:
    dear = observation(replicas=fleet({A10G.id: 12}, busy=7))
    first = plan(dear)
    assert started(first)
    later = carried_out(dear, first)
    serving = sum(BY_ID[each.offer_id].speed_ratio for each in later.replicas if each.state is ReplicaState.READY)
    assert serving >= 7


def test_a_restart_moves_to_other_offers_without_going_below_what_it_found() -> None:
    dear = fleet({A10G.id: 10, **{each.id: 10 for each in SPOT}})
    seen, memory = observation(replicas=dear), Memory(reserves=(0.0, 0.0, 0.0), reserves_s=NOW)
    first, memory = POLICY.plan(seen, memory, "p-1")
    assert started(first)
    assert released(first) == []
    later, _ = POLICY.plan(carried_out(seen, first), memory, "p-2")
    assert released(later)
    assert len(carried_out(carried_out(seen, first), later).replicas) == 40


# --- the lead-time forecast ---


STEADY = of_sessions(sessions(3 * DAY, tiers=3, each=0.06))
"""Three days of three tiers; the newest bin ends now."""


def with_activity(values: FloatArray = STEADY, age_s: float = 0.0, **changes: Any) -> Observation:
    log = ActivityLog(3)
    log.add(NOW - age_s - BIN_S * values.shape[2], values)
    return observation(**{"own": (3.0, 6.0, 3.0), **changes, "activity": log.read()})


def reason_of(made: Plan, name: str) -> Reason:
    return next(reason for reason in made.reasons if reason.text.startswith(f"{name}: "))


@pytest.fixture(scope="module")
def taught() -> Memory:
    """What the planner remembers once it has learned."""
    return POLICY.plan(with_activity(), SETTLED, "p-1")[1]


def test_what_tenants_do_is_learned_and_the_reason_names_the_forecast_and_the_price(taught) -> None:
    assert sorted(taught.learned) == [0, 1]
    assert taught.learned_s == NOW
    calm = queues(TIERS, (0, 0, 0))
    made, memory = POLICY.plan(with_activity(queues=calm), taught, "p-1")
    assert memory.learned is taught.learned
    for name in ("premium", "standard"):
        why = reason_of(made, name)
        assert why.limit is Limit.LATENCY_TARGET
        assert "when a replica started now can serve" in why.text
        assert "at the price of a miss" in why.text
        assert why.numbers["load_deviation"] > 0
        assert why.numbers["miss_price"] > 0
        assert f"{why.numbers['load_mean']:.1f} ± {why.numbers['load_deviation']:.1f}" in why.text
    assert (
        made.required
        >= reason_of(made, "standard").numbers["required"]
        > reason_of(made, "standard").numbers["load_mean"]
    )


def test_more_in_flight_than_was_foreseen_is_answered_at_once(taught) -> None:
    foreseen = reason_of(plan(with_activity(queues=queues(TIERS, (0, 0, 0))), taught), "standard").numbers["required"]
    many = int(foreseen) + 20
    for running, waiting in (((2, many, 0), (0, 0, 0)), ((2, 5, 0), (0, many - 5, 0))):
        made = plan(with_activity(queues=queues(TIERS, running, waiting)), taught)
        why = reason_of(made, "standard")
        assert why.numbers["required"] == many + 2
        assert f"more than the {foreseen:.1f} foreseen" in why.text
        assert why.limit is (Limit.BACKLOG if any(waiting) else Limit.LATENCY_TARGET)
        assert made.required == many + 2


def test_activity_that_is_old_or_missing_leaves_quantiles_and_reserves_to_decide(taught) -> None:
    for seen in (with_activity(age_s=61.0), observation((3.0, 6.0, 3.0))):
        assert "fewest that hold" in reason_of(plan(seen, taught), "premium").text
    assert "at the price of a miss" in reason_of(plan(with_activity(age_s=59.0), taught), "premium").text


def test_a_planner_that_stepped_back_does_not_go_by_the_lead_time_forecast(taught) -> None:
    made = plan(with_activity(authority=Authority(False, "it lost $60 to $50", {})), taught)
    assert all("at the price of a miss" not in reason.text for reason in made.reasons)


def test_it_is_learned_as_soon_as_two_days_are_measured() -> None:
    young = with_activity(STEADY[:, :, : 2 * DAY])
    _, memory = POLICY.plan(young, SETTLED, "p-1")
    assert not memory.learned
    older = replace(young, activity=with_activity(STEADY[:, :, : 2 * DAY + 100]).activity, now_s=NOW + 15)
    made, memory = POLICY.plan(older, memory, "p-2")
    assert sorted(memory.learned) == [0, 1]
    assert "at the price of a miss" in reason_of(made, "premium").text


def test_another_promise_gets_a_price_of_its_own_at_once(taught) -> None:
    """Not when the next half day has passed."""
    strict = (TIERS[0], replace(TIERS[1], statistic="p99.9", target_ms=1_000.0), TIERS[2])
    seen = with_activity(envelope=envelope(tiers=strict), queues=queues(TIERS, (0, 0, 0)), now_s=NOW + 1)
    made, memory = POLICY.plan(seen, taught, "p-1")
    assert memory.learned_s == NOW + 1
    assert memory.learned[1].allowed < taught.learned[1].allowed
    before = plan(with_activity(queues=queues(TIERS, (0, 0, 0))), taught)
    numbers = [reason_of(each, "standard").numbers["required"] for each in (made, before)]
    assert numbers[0] > numbers[1]


def test_background_work_waits_for_what_is_free_and_is_pressed_only_near_its_deadline(taught) -> None:
    """A hundred minutes of it wait: the fleet stays what the urgent tiers need, until the deadline comes near."""

    def asked(oldest_s: float, count: int) -> tuple[int, Reason]:
        background = QueueReading("background", count, 0, count * 30.0, oldest_s)
        seen = with_activity(queues=(*queues(TIERS, (3, 6, 0))[:2], background))
        made = plan(seen, taught)
        return made.required, reason_of(made, "background")

    urgent, nothing = asked(0.0, 0)
    assert nothing.numbers["required"] == 0.0
    young, why = asked(60.0, 30)
    assert young == urgent
    assert 0 < why.numbers["required"] <= urgent
    late, why = asked(6_900.0, 200)
    assert late > urgent
    assert late == pytest.approx(why.numbers["required"], abs=1)


# --- what beats what ---


def test_stale_telemetry_scales_nothing_in_and_still_out() -> None:
    stale = {"telemetry_s": NOW - 181.0}
    assert plan(big(40, **stale)).actions == ()
    assert plan(big(40, **stale)).bound.limit is Limit.STALE_TELEMETRY
    assert plan(big(40, telemetry_s=NOW - 179.0)).bound.limit is not Limit.STALE_TELEMETRY
    assert "181" in plan(big(40, **stale)).bound.text
    assert started(plan(observation(**stale)))
    never = plan(big(40, telemetry_s=None))
    assert never.actions == ()
    assert "never" in never.bound.text


def test_stale_telemetry_beats_even_the_cap() -> None:
    made = plan(big(40, telemetry_s=None, envelope=envelope(1.0)))
    assert released(made) == []
    assert made.bound.limit is Limit.STALE_TELEMETRY


@pytest.mark.parametrize(
    ("kind", "service"), [(OverrideKind.PAUSE, "*"), (OverrideKind.PAUSE, "images"), (OverrideKind.FREEZE, "images")]
)
def test_stale_telemetry_does_not_lift_a_pause(kind: OverrideKind, service: str) -> None:
    """In an incident both come together: what an operator stopped stays stopped, out as well as in."""
    made = plan(observation(telemetry_s=None, overrides=(override(kind, service=service),)))
    assert made.actions == ()


@pytest.mark.parametrize(
    ("stop", "limit"),
    [
        (override(OverrideKind.PAUSE, service="*"), Limit.FLEET_PAUSE),
        (override(OverrideKind.PAUSE), Limit.FREEZE),
        (override(OverrideKind.FREEZE), Limit.FREEZE),
    ],
)
def test_a_pause_or_freeze_holds_what_is_there(stop, limit) -> None:
    for seen in (big(40, overrides=(stop,)), observation(overrides=(stop,))):
        made = plan(seen)
        assert made.actions == ()
        assert made.desired == len(seen.replicas)
        assert made.bound.limit is limit
        assert "ana" in made.bound.text
        assert "an incident" in made.bound.text


def test_the_fleets_pause_beats_a_services_freeze_and_both_beat_the_cap() -> None:
    pause, freeze = override(OverrideKind.PAUSE, service="*", id=2), override(OverrideKind.FREEZE)
    assert plan(big(overrides=(freeze, pause))).bound.limit is Limit.FLEET_PAUSE
    made = plan(big(40, overrides=(freeze,), envelope=envelope(1.0)))
    assert (made.actions, made.bound.limit) == ((), Limit.FREEZE)


def test_the_cap_beats_a_pin_unless_it_is_signed() -> None:
    pin = override(OverrideKind.PIN, 30)
    capped = plan(observation(overrides=(pin,), envelope=envelope(5.0)))
    assert capped.bound.limit is Limit.SPEND_CAP
    assert capped.desired < 30
    signed = plan(observation(overrides=(replace(pin, signed_over_cap=True),), envelope=envelope(5.0)))
    assert (signed.desired, signed.bound.limit) == (30, Limit.OVERRIDE)
    assert plan(observation(overrides=(pin,))).desired == 30


def test_a_pin_beats_floor_ceiling_and_plan_both_ways() -> None:
    ruling = envelope(floor=5, ceiling=20)
    for count in (0, 2, 33):
        made = plan(big(10, envelope=ruling, overrides=(override(OverrideKind.PIN, count),)))
        assert (made.desired, made.bound.limit) == (count, Limit.OVERRIDE)
        assert len(started(made)) - len(released(made)) == count - 10
        assert "ana" in made.bound.text


def test_floor_and_ceiling_beat_the_plan() -> None:
    alone = automatic()
    low = plan(observation(envelope=envelope(floor=alone + 4)))
    assert (low.desired, low.bound.limit, low.bound.numbers["plan"]) == (alone + 4, Limit.FLOOR, alone)
    high = plan(observation(envelope=envelope(ceiling=alone - 3)))
    assert (high.desired, high.bound.limit) == (alone - 3, Limit.CEILING)
    inside = plan(observation(envelope=envelope(floor=1, ceiling=alone)))
    assert (inside.desired, inside.bound.limit) == (alone, plan(observation()).bound.limit)


def test_the_cap_beats_the_floor() -> None:
    made = plan(observation(envelope=envelope(4.0, floor=30)))
    assert made.bound.limit is Limit.SPEND_CAP
    assert made.desired < 30


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.ADVISE])
def test_below_act_the_plan_is_shown_and_not_done(mode: Mode) -> None:
    made = plan(observation(mode=mode))
    assert made.actions == ()
    assert made.desired == automatic()
    assert made.bound.limit is Limit.MODE


def test_a_planner_that_stepped_back_goes_by_the_recent_load_and_says_so() -> None:
    # Measured: ten erlangs. Forecast: six times as many.
    wild = forecasts(TIERS, 12.0, 30.0, 18.0)
    led = plan(observation(forecasts=wild))
    net = plan(observation(forecasts=wild, authority=Authority(False, "it lost $60 to $50", {"planner_usd": 60.0})))
    assert net.desired == plan(observation(forecasts={})).desired < led.desired
    assert net.reasons[0].limit is Limit.FORECAST and net.reasons[0].text == "it lost $60 to $50"
    assert all(reason.text != "it lost $60 to $50" for reason in led.reasons)


# --- the cap ---


def test_a_binding_cap_sheds_from_the_back_and_says_so() -> None:
    demand = (4.0, 10.0, 0.5)
    free = plan(observation(demand))
    full = sum(BY_ID[identifier].price_usd_per_hour * count for identifier, count in free.desired_by_offer.items())
    shed = []
    for cap in (full * 1.2, full * 0.75, full * 0.3, 0.6):
        made = plan(observation(demand, envelope=envelope(cap)))
        shed.append(made.shed)
    assert shed[0] == ()
    assert all(each == ("background", "standard", "premium")[: len(each)] for each in shed)
    assert [len(each) for each in shed] == sorted(len(each) for each in shed)
    assert shed[-1] == ("background", "standard", "premium")
    bound = plan(observation(demand, envelope=envelope(full * 0.3))).bound
    assert bound.limit is Limit.SPEND_CAP
    assert bound.numbers["cap"] == pytest.approx(full * 0.3)


def test_the_operators_order_of_degradation_is_followed() -> None:
    ruling = envelope(0.6, degrade=("standard", "background", "premium"))
    assert plan(observation((4.0, 10.0, 0.5), envelope=ruling)).shed == ("standard", "background", "premium")


def test_a_used_up_hour_lets_everything_go() -> None:
    late = observation(
        replicas=fleet({SPOT[0].id: 5}, busy=5), envelope=envelope(5.0), spend=replace(spend(4.999), hour_start_s=NOW)
    )
    made = plan(late)
    assert made.desired == 0
    assert len(released(made)) == 5


spends = st.tuples(st.floats(0, 60), st.floats(0, 20), st.floats(0, HOUR_S - 1))
counts = st.fixed_dictionaries({each.id: st.integers(0, 8) for each in OFFERS})
load = st.integers(0, 200).map(lambda tenths: tenths / 10)
demands = st.tuples(load, load, load)


@settings(max_examples=150)
@given(demands, counts, st.floats(1, 60), spends)
def test_the_cap_is_never_exceeded_by_the_planned_mix(own, held, cap, spent) -> None:
    accrued, jobs, into_s = spent
    now_s = NOW + into_s
    seen = observation(
        own,
        now_s=now_s,
        telemetry_s=now_s,
        replicas=fleet(held),
        envelope=envelope(cap),
        spend=Spend(NOW, accrued, 0.0, jobs),
    )
    made = plan(seen)
    burn = sum(BY_ID[identifier].price_usd_per_hour * count for identifier, count in made.desired_by_offer.items())
    left_h = (NOW + HOUR_S - now_s) / HOUR_S
    if burn > 0:
        assert accrued + (burn + jobs) * left_h <= cap * (1 - RESERVE) + 1e-6
        assert burn + jobs <= cap * BURST + 1e-6
    # Half-applied it holds too: at most what was there, less what is let go, plus what is started.
    after = carried_out(seen, made)
    assert Counter(each.offer_id for each in after.replicas) <= Counter(held) | Counter(made.desired_by_offer)


@settings(max_examples=80)
@given(demands, counts, st.sampled_from([None, 3.0, 8.0, 30.0]), st.integers(0, 5))
def test_a_fleet_that_is_as_desired_is_left_alone(own, held, cap, floor) -> None:
    """Idempotent: carry the plan out, observe the same demand, and there is nothing to do."""
    seen = observation(own, replicas=fleet(held), envelope=envelope(cap, floor=floor))
    made, memory = POLICY.plan(seen, SETTLED, "p-1")
    for _ in range(4):
        seen = carried_out(seen, made)
        made, memory = POLICY.plan(seen, memory, "p-1")
        if not made.actions:
            break
    assert made.actions == ()
    again, _ = POLICY.plan(carried_out(seen, made), memory, "p-1")
    assert again.actions == ()


@settings(max_examples=80)
@given(demands)
def test_losing_any_one_zone_leaves_the_first_tier_its_base(own) -> None:
    made = plan(observation(own))
    kept = sum(
        BY_ID[identifier].speed_ratio * count
        for identifier, count in made.desired_by_offer.items()
        if BY_ID[identifier].market is Market.ON_DEMAND
    )
    assert kept >= own[0]


@settings(max_examples=80)
@given(demands, st.integers(0, 2), st.floats(0.1, 10))
def test_more_demand_never_plans_less(own, which, extra) -> None:
    more = tuple(value + extra * (k == which) for k, value in enumerate(own))
    low, high = (plan(observation(each, queues=queues(TIERS, (0, 0, 0)))) for each in (own, more))
    assert high.required >= low.required


@settings(max_examples=80)
@given(demands, counts, st.sampled_from([None, 10.0]), st.booleans())
def test_actions_join_observed_and_desired(own, held, cap, stale) -> None:
    seen = observation(own, replicas=fleet(held), envelope=envelope(cap), telemetry_s=NOW - 1000 if stale else NOW)
    made = plan(seen)
    up, down, here = Counter(started(made)), Counter(released(made)), Counter(held)
    assert len({action.id for action in made.actions}) == len(made.actions)
    for identifier in BY_ID:
        want, have = made.desired_by_offer.get(identifier, 0), here[identifier]
        assert up[identifier] == max(0, want - have)
        assert down[identifier] <= max(0, have - want)
    if stale:
        assert not down


def test_unusable_offers_are_never_started() -> None:
    barred = {f"o{i}": {"usable": False, "why_not": "price unknown"} for i in (0, 1, 2)}
    made = plan(observation(offers=standings(**barred)))
    assert made.desired > 0
    assert not {A10G.id, SPOT[0].id, SPOT[1].id} & set(started(made))


def test_with_nothing_on_sale_the_plan_says_so_and_holds() -> None:
    made = plan(observation(offers=()))
    assert made.actions == ()
    assert Limit.NO_CAPACITY in {reason.limit for reason in made.reasons}


def test_hold_keeps_the_counts() -> None:
    seen = observation(replicas=fleet({A10G.id: 2, SPOT[0].id: 3}))
    kept = hold(seen, "p-1", "heddle", Reason(Limit.FREEZE, "why"), 9)
    assert (kept.desired, kept.desired_by_offer, kept.actions) == (5, {A10G.id: 2, SPOT[0].id: 3}, ())
    assert len(staying(seen)) == 5


# --- HPA ---


def pods(ready: int, coming: int = 0) -> tuple[Any, ...]:
    up = fleet({L40S.id: ready})
    late = tuple(replica(500 + n, L40S, ReplicaState.LOADING) for n in range(coming))
    return up + late


def hpa(
    in_flight: int, ready: int, coming: int = 0, memory: Memory = SETTLED, now_s: float = NOW
) -> tuple[Plan, Memory]:
    seen = observation(
        replicas=pods(ready, coming), queues=queues(TIERS, (in_flight, 0, 0)), now_s=now_s, telemetry_s=now_s
    )
    return Hpa().plan(seen, memory, "p-1")


@pytest.mark.parametrize(
    ("in_flight", "ready", "coming", "desired", "why"),
    [
        (14, 10, 0, 20, "1.4 a replica against 0.7: twice as many"),
        (7, 10, 0, 10, "exactly on target"),
        (76, 100, 0, 100, "ratio 1.086: within the tolerance"),
        (78, 100, 0, 112, "ratio 1.114: outside it, 78 / 0.7 rounded up"),
        (64, 100, 0, 100, "ratio 0.914: within the tolerance"),
        (62, 100, 0, 89, "ratio 0.886: outside it"),
        (14, 10, 10, 20, "those not ready count as idle: 14 on 20 is on target"),
        (21, 10, 10, 30, "21 on 20 is 1.5 times the target"),
        (9, 10, 10, 20, "idle ones turn a scale-up into a scale-down: hold"),
        (4, 10, 10, 6, "a scale-down looks at ready ones only: 4 / 0.7"),
        (100, 2, 0, 6, "at most four more or twice as many a period"),
        (1000, 10, 0, 20, "at most twice as many"),
        (5, 0, 3, 3, "nothing ready, nothing known: hold"),
        (5, 0, 0, 1, "the minimum"),
        (0, 10, 0, 1, "never below one"),
    ],
)
def test_hpa_worked_examples(in_flight, ready, coming, desired, why) -> None:
    assert hpa(in_flight, ready, coming)[0].desired == desired, why


def test_hpa_starts_and_stops_on_one_pool_on_demand() -> None:
    up, _ = hpa(14, 10)
    assert started(up) == [L40S.id] * 10
    down, _ = hpa(0, 10)
    assert released(down) == [L40S.id] * 9
    assert (Hpa().fifo, Hpa().forecasts) == (True, False)


def test_hpa_scales_down_to_the_highest_recommendation_of_five_minutes() -> None:
    memory, ready, seen = SETTLED, 20, []
    for tick in range(24):
        made, memory = hpa(14 if tick == 0 else 2, ready, memory=memory, now_s=NOW + 15.0 * tick)
        ready = made.desired
        seen.append(ready)
    assert seen[:20] == [20] * 20
    assert seen[21:] == [3, 3, 3]


def test_hpa_scales_up_at_once() -> None:
    _, memory = hpa(2, 5)
    assert hpa(7, 5, memory=memory, now_s=NOW + 15)[0].desired == 10


def test_hpa_after_a_restart_keeps_its_scale_for_its_window() -> None:
    """Kubernetes takes the present count as its first recommendation."""
    made, memory = hpa(0, 10, memory=Memory())
    assert made.desired == 10
    assert hpa(0, 10, memory=memory, now_s=NOW + 285)[0].desired == 10
    assert hpa(0, 10, memory=memory, now_s=NOW + 315)[0].desired == 1


# --- static ---


def test_static_is_the_peak_over_seventy_percent_whatever_happens() -> None:
    policy = Static(peak_load=21.0)
    for own in ((0.0, 0.0, 0.0), (50.0, 50.0, 50.0)):
        made, _ = policy.plan(observation(own), Memory(), "p-1")
        assert made.desired == 15  # 21 / 0.7 / speed 2
        assert started(made) == [L40S.id] * 15
    made, _ = policy.plan(observation(replicas=pods(15)), Memory(), "p-1")
    assert made.actions == ()
    made, _ = policy.plan(observation(replicas=pods(18)), Memory(), "p-1")
    assert len(released(made)) == 3
    assert Static(0.0).plan(observation(), Memory(), "p-1")[0].desired == 1


@pytest.mark.parametrize("policy", [Static(5.0), Hpa()], ids=lambda each: each.name)
def test_baselines_without_an_offer_hold(policy: Static | Hpa) -> None:
    spot_only: tuple[Offer, ...] = SPOT
    made, _ = policy.plan(observation(offers=standings(spot_only), replicas=pods(3)), Memory(), "p-1")
    assert (made.actions, made.desired, made.bound.limit) == ((), 3, Limit.NO_CAPACITY)
