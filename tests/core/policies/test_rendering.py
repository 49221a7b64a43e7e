"""Serverless rendering: nothing between bursts, and a stay that the gaps pay for."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.limits import burn_left
from controller.core.policies.base import Memory
from controller.core.policies.rendering import FEWEST_GAPS, TICK_S, Rendering, RenderingMemory, _visible, keep_alive
from controller.core.types import Observation, QueueReading, StageReading
from models.enums import Limit, Market, Mode, OverrideKind, ReplicaState, ServiceClass
from tests.backends.driven import Driven
from tests.backends.small_world import T0, arrivals, cluster
from tests.backends.small_world import TIERS as SMALL_TIERS
from tests.backends.small_world import offer as small_offer
from tests.core.observed import NOW, TIERS, envelope, observation, offer, override, replica, standings, started, tier

SERVERLESS = offer("serverless-a10g", "us-west-2", Market.SERVERLESS, 1.5)
IDLE = tuple(QueueReading(each.name, 0, 0, 0.0, 0.0) for each in TIERS)
COLD_S = 10.0
PATIENT = envelope(tiers=(tier("premium", 0, 20, "mean", 60_000), *TIERS[1:]))


def stage(name: str, kind: ServiceClass, work_s: float, running: int = 0, share: float = 0.5) -> StageReading:
    queues = (QueueReading("premium", 0, running, 0.0, 0.0), *IDLE[1:])
    return StageReading(name, kind, work_s, 0.5, share, queues, {})


def seen(running_before: int | None = None, queued: int = 0, **changes: object) -> Observation:
    """Nothing here but what is said; `running_before` requests run in a stage of 30 s before this one of 6 s."""
    queues = (QueueReading("premium", queued, 0, queued * 6.0, 1.0 if queued else 0.0), *IDLE[1:])
    chain = (
        ()
        if running_before is None
        else (
            stage("model", ServiceClass.INFERENCE, 30.0, running_before),
            stage("images", ServiceClass.RENDERING, 6.0),
        )
    )
    tiers = (tier("premium", 0, 20, "mean", 2000), *TIERS[1:])
    base: dict[str, object] = {
        "offers": standings([SERVERLESS]), "queues": queues, "chain": chain, "boot_s": 5.0, "load_model_s": 5.0,
        "work_mean_s": 6.0, "load": {}, "forecasts": {}, "envelope": envelope(tiers=tiers),
    }  # fmt: skip
    return observation(**{**base, **changes})  # type: ignore[arg-type]


def test_nothing_is_held_where_nothing_is_to_be_done() -> None:
    plan, _ = Rendering().plan(seen(0), Memory(), "p")
    assert (plan.desired, plan.actions, plan.bound.limit) == (0, (), Limit.NONE)


def test_the_first_arrival_starts_a_replica_from_zero() -> None:
    plan, _ = Rendering().plan(seen(queued=1), Memory(), "p")
    assert started(plan) == [SERVERLESS.id]
    assert plan.bound.limit is Limit.BACKLOG
    assert plan.numbers["cold_start_s"] == COLD_S


def test_what_runs_upstream_is_prepared_for_before_it_comes() -> None:
    one, _ = Rendering().plan(seen(1), Memory(), "p")
    assert started(one) == [SERVERLESS.id]
    assert one.bound.limit is Limit.UPSTREAM
    many, _ = Rendering().plan(seen(40), Memory(), "p")
    # 40 requests of 30 s leave the model 1.33 a second, 8 erlangs of 6 s.
    assert many.numbers["load_ahead"] == pytest.approx(8.0)
    assert 9 <= many.desired <= 14


def test_no_request_gets_two_replicas() -> None:
    strict = envelope(tiers=(tier("premium", 0, 20, "mean", 1), *TIERS[1:]))
    plan, _ = Rendering().plan(seen(1, envelope=strict), Memory(), "p")
    assert plan.desired == 1


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 50))
def test_more_to_do_never_asks_for_less(fewer: int, more: int, running_before: int) -> None:
    low, high = sorted((fewer, more))
    plans = [Rendering().plan(seen(running_before, queued=queued), Memory(), "p")[0] for queued in (low, high)]
    assert plans[0].desired <= plans[1].desired


def watched() -> RenderingMemory:
    """Of a policy that has run for a while and needed nothing."""
    return RenderingMemory().recommend(NOW - 60, 0, COLD_S)


def test_after_a_restart_what_is_found_stays_for_a_while() -> None:
    plan, memory = Rendering().plan(seen(0, replicas=(replica(1, SERVERLESS),)), Memory(), "p")
    assert plan.actions == ()
    later, _ = Rendering().plan(
        seen(0, replicas=(replica(1, SERVERLESS),), now_s=NOW + 15, telemetry_s=NOW + 15), memory, "p"
    )
    assert [action.replica_id for action in later.actions] == ["r-000001"]


def with_gaps(*lengths: float) -> RenderingMemory:
    return RenderingMemory(gaps=tuple((NOW - 1000.0 + n, length) for n, length in enumerate(lengths)))


def test_with_too_few_gaps_a_replica_stays_as_long_as_a_cold_start() -> None:
    stay = keep_alive(seen(0), with_gaps(*[3.0] * (FEWEST_GAPS - 1)))
    assert stay.seconds == COLD_S


def test_short_gaps_are_bridged_and_long_ones_are_not() -> None:
    assert keep_alive(seen(0, envelope=PATIENT), with_gaps(*[4.0] * 30)).seconds == 4.0
    assert keep_alive(seen(0, envelope=PATIENT), with_gaps(*[400.0] * 30)).seconds == 0.0
    mixed = keep_alive(seen(0, envelope=PATIENT), with_gaps(*[4.0] * 30, *[400.0] * 3))
    assert mixed.seconds == 4.0
    assert "idle" in mixed.reason.text


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.1, 5000.0), min_size=FEWEST_GAPS, max_size=80))
def test_no_other_stay_would_have_cost_less(lengths: list[float]) -> None:
    chosen = keep_alive(seen(4, envelope=PATIENT), with_gaps(*lengths))
    gaps = np.array(lengths)

    def cost(stay_s: float) -> float:
        return float(np.where(gaps <= stay_s, gaps, stay_s + COLD_S).sum())

    assert chosen.idle_s + chosen.restart_s == pytest.approx(cost(chosen.seconds))
    assert all(cost(chosen.seconds) <= cost(other) + 1e-6 for other in (0.0, COLD_S, *lengths))


def test_a_target_that_cold_starts_would_break_keeps_replicas_longer() -> None:
    memory = with_gaps(*[400.0] * 30)
    loose = keep_alive(seen(), memory)
    strict = keep_alive(seen(envelope=envelope()), memory)
    assert loose.reason.limit is Limit.LATENCY_TARGET
    assert strict.seconds == 400.0
    assert strict.reason.limit is Limit.LATENCY_TARGET
    # Warned by a stage that takes much longer than a cold start, nobody waits for one.
    slow = stage("model", ServiceClass.INFERENCE, 600.0), stage("images", ServiceClass.RENDERING, 6.0)
    assert keep_alive(seen(envelope=envelope(), chain=slow), memory).seconds == 0.0


def test_what_is_seen_of_a_cold_start_upstream_agrees_with_a_simulation() -> None:
    """Executions upstream are lognormal with a mean of 30 s; a replica is there 17.5 s after they were seen."""
    before = stage("model", ServiceClass.INFERENCE, 30.0)
    sigma = np.sqrt(np.log1p(before.work_scv))
    runs_s = np.random.default_rng(1).lognormal(np.log(30.0) - sigma**2 / 2, sigma, 200_000)
    shown = np.maximum(0.0, COLD_S + TICK_S / 2 - runs_s)
    mean_s, likely = _visible(before, COLD_S, 2.0)
    assert mean_s == pytest.approx(shown.mean(), rel=0.02)
    assert likely == pytest.approx((shown > 2.0).mean(), rel=0.02)
    assert _visible(None, COLD_S, 2.0) == (COLD_S + TICK_S / 2, 1.0)


def test_idle_dollars_are_shown() -> None:
    waiting = tuple(replica(n, SERVERLESS) for n in range(3))
    plan, _ = Rendering().plan(
        seen(0, replicas=waiting), RenderingMemory(recommendations=((NOW - 5, 3.0),), since_s=NOW - 5), "p"
    )
    assert plan.numbers["idle_usd_per_hour"] == pytest.approx(4.5)
    assert plan.desired == 3
    assert plan.bound.limit is Limit.IDLE_COST


def test_the_cap_a_pause_stale_telemetry_and_a_mode_beat_it() -> None:
    capped = seen(queued=30, envelope=envelope(4.0))
    plan, _ = Rendering().plan(capped, Memory(), "p")
    allowed = burn_left(capped)
    assert allowed is not None
    assert plan.desired * 1.5 <= allowed < (plan.desired + 1) * 1.5
    assert plan.bound.limit is Limit.SPEND_CAP
    paused, _ = Rendering().plan(seen(queued=3, overrides=(override(OverrideKind.PAUSE),)), Memory(), "p")
    assert paused.actions == ()
    old = (replica(1, SERVERLESS), replica(2, SERVERLESS))
    stale, _ = Rendering().plan(seen(0, replicas=old, telemetry_s=NOW - 900), watched(), "p")
    assert (stale.actions, stale.bound.limit) == ((), Limit.STALE_TELEMETRY)
    advised, _ = Rendering().plan(seen(queued=1, mode=Mode.ADVISE), Memory(), "p")
    assert (advised.actions, advised.bound.limit) == ((), Limit.MODE)
    pinned, _ = Rendering().plan(seen(0, overrides=(override(OverrideKind.PIN, 2),)), Memory(), "p")
    assert started(pinned) == [SERVERLESS.id] * 2


def test_without_a_serverless_offer_on_demand_stands_in_and_says_so() -> None:
    plan, _ = Rendering().plan(replace(seen(queued=1), offers=standings()), Memory(), "p")
    assert len(started(plan)) == 1
    assert any(reason.limit is Limit.NO_CAPACITY for reason in plan.reasons)


def test_two_bursts_from_zero_and_nothing_between_them() -> None:
    """20 requests at 100 s and again an hour later. In between not one replica is billed."""
    serverless = small_offer(Market.SERVERLESS, price=1.5, kind="fn")
    fleet = cluster(offers=(serverless,), boot_s=5.0, load_times_s=np.array([5.0]))
    fleet.engine.expect(arrivals(*[(at + n * 0.1, 6.0, 0) for at in (100.0, 3700.0) for n in range(20)]))
    patient = (tier("premium", 0, 20, "mean", 60_000), *SMALL_TIERS[1:])
    loop = Driven(fleet, Rendering(), envelope(tiers=patient)).until(4500.0)
    assert loop.held(90.0) == 0
    assert loop.held(110.0) > 0
    assert [loop.held(at) for at in (1000.0, 2000.0, 3600.0)] == [0, 0, 0]
    assert loop.held(4490.0) == 0
    waits = loop.waits()
    assert np.isfinite(waits).all()
    # The cold start is part of the wait: the first of a burst waits for it, and for the tick that saw it.
    assert waits[0] >= 10.0
    rows = fleet.engine.a.replica[: fleet.engine.replicas]
    second = rows[rows["requested"] > T0 + 3600]
    billed_usd = float((second["ended"] - second["requested"]).sum()) / 3600 * 1.5
    assert fleet.spend().accrued_usd == pytest.approx(billed_usd)
    assert billed_usd >= 20 * 6.0 / 3600 * 1.5


def test_a_strict_target_keeps_replicas_over_the_gaps_it_has_seen() -> None:
    """The same two bursts under a mean wait of 200 ms: after the second the fleet stays as long as the gap was."""
    serverless = small_offer(Market.SERVERLESS, price=1.5, kind="fn")
    fleet = cluster(offers=(serverless,), boot_s=5.0, load_times_s=np.array([5.0]))
    fleet.engine.expect(arrivals(*[(at + n * 0.1, 6.0, 0) for at in (100.0, 3700.0) for n in range(20)]))
    loop = Driven(fleet, Rendering(), envelope(tiers=SMALL_TIERS)).until(4500.0)
    assert loop.held(4490.0) > 0
    assert loop.plans[-1].bound.limit is Limit.LATENCY_TARGET


def test_a_stage_that_sees_upstream_hides_the_cold_start() -> None:
    """One request runs 30 s upstream and then arrives: the replica is ready for it."""
    serverless = small_offer(Market.SERVERLESS, price=1.5, kind="fn")
    fleet = cluster(offers=(serverless,), boot_s=5.0, load_times_s=np.array([5.0]), work_mean_s=6.0)
    fleet.engine.expect(arrivals((130.0, 6.0, 0)))

    def around(look: Observation) -> Observation:
        running = 1 if T0 + 100 <= look.now_s < T0 + 130 else 0
        chain = (
            stage("model", ServiceClass.INFERENCE, 30.0, running),
            replace(stage("images", ServiceClass.RENDERING, 6.0), queues=look.queues),
        )
        return replace(look, chain=chain)

    loop = Driven(fleet, Rendering(), envelope(tiers=SMALL_TIERS), around).until(400.0)
    assert loop.waits().tolist() == [0.0]
    assert loop.held(90.0) == 0
    assert loop.held(390.0) == 0


def test_the_busy_are_not_let_go() -> None:
    here = (replica(1, SERVERLESS, busy=True), replica(2, SERVERLESS), replica(3, SERVERLESS, ReplicaState.BOOTING))
    queues = (QueueReading("premium", 0, 1, 0.0, 0.0), *IDLE[1:])
    plan, _ = Rendering().plan(seen(0, replicas=here, queues=queues), watched(), "p")
    assert {action.replica_id for action in plan.actions} == {"r-000002", "r-000003"}
