"""Delivery: always there, cheap, and nobody takes it back."""

from dataclasses import replace

import numpy as np
import pytest

from controller.core.policies.base import Memory
from controller.core.policies.delivery import SHRINK_AFTER_S, SPARE, Delivery
from controller.core.types import Observation, QueueReading, Series
from models.enums import Limit, Market
from tests.backends.driven import Driven
from tests.backends.small_world import T0, arrivals, cluster, zone
from tests.backends.small_world import TIERS as SMALL_TIERS
from tests.backends.small_world import offer as small_offer
from tests.core.observed import NOW, SPOT, TIERS, envelope, observation, offer, replica, standings, started

CPU = offer("c5a.large", "az1", Market.ON_DEMAND, 0.077)
CPU_SPOT = offer("c5a.large", "az1", Market.SPOT, 0.01)
SERVERLESS = offer("fn", "az1", Market.SERVERLESS, 0.01)
IDLE = tuple(QueueReading(each.name, 0, 0, 0.0, 0.0) for each in TIERS)


def seen(erlangs: float = 2.0, now_s: float = NOW, **changes: object) -> Observation:
    load = {each.name: Series(now_s - 7200, 60.0, np.full(120, erlangs / 3)) for each in TIERS}
    base: dict[str, object] = {
        "now_s": now_s, "telemetry_s": now_s, "offers": standings([CPU, CPU_SPOT, SERVERLESS]), "load": load,
        "queues": IDLE, "forecasts": {}, "work_mean_s": 1.0, "boot_s": 60.0, "load_model_s": 5.0,
    }  # fmt: skip
    return observation(**{**base, **changes})  # type: ignore[arg-type]


def test_the_fleet_is_on_demand_however_cheap_the_rest() -> None:
    plan, _ = Delivery().plan(seen(), Memory(), "p")
    assert set(started(plan)) == {CPU.id}
    assert plan.desired >= 3 + SPARE


def test_with_spot_alone_nothing_is_bought_and_it_says_so() -> None:
    plan, _ = Delivery().plan(seen(offers=standings(SPOT)), Memory(), "p")
    assert plan.actions == ()
    assert any(reason.limit is Limit.NO_CAPACITY for reason in plan.reasons)


def test_a_spot_replica_that_it_finds_is_let_go() -> None:
    plan, _ = Delivery().plan(seen(replicas=(replica(1, CPU_SPOT),)), Memory(), "p")
    assert [action.replica_id for action in plan.actions if action.replica_id] == ["r-000001"]


def test_it_is_sized_by_all_but_the_busiest_hundredth_of_the_day() -> None:
    spiky = np.full(1440, 1.0)
    spiky[:10] = 50.0
    load = {TIERS[0].name: Series(NOW - 86400, 60.0, spiky)}
    plan, _ = Delivery().plan(seen(load=load), Memory(), "p")
    assert plan.reasons[0].numbers["load_p99"] == pytest.approx(1.0)


def test_it_grows_at_once_and_shrinks_after_six_hours() -> None:
    memory, sizes = Memory(), {}
    for hours in np.arange(0.0, 9.0, 0.25):
        erlangs = 6.0 if hours == 1.0 else 2.0
        plan, memory = Delivery().plan(seen(erlangs, NOW + hours * 3600), memory, "p")
        sizes[float(hours)] = plan.desired
    assert sizes[1.0] > sizes[0.75]
    assert all(sizes[h] == sizes[1.0] for h in sizes if 1.0 <= h < 1.0 + SHRINK_AFTER_S / 3600)
    assert sizes[8.0] == sizes[0.75]


def test_what_waits_is_answered_before_the_next_sizing() -> None:
    _, memory = Delivery().plan(seen(), Memory(), "p")
    waiting = (QueueReading("premium", 900, 4, 900.0, 30.0), *IDLE[1:])
    plan, memory = Delivery().plan(seen(now_s=NOW + 15, queues=waiting), memory, "p")
    assert plan.bound.limit is Limit.BACKLOG
    assert plan.desired == 4 + 14
    after, _ = Delivery().plan(seen(now_s=NOW + 30), memory, "p")
    assert after.desired == plan.desired


def test_what_waits_at_the_hour_of_sizing_is_answered_too() -> None:
    waiting = (QueueReading("premium", 900, 4, 900.0, 30.0), *IDLE[1:])
    plan, _ = Delivery().plan(seen(queues=waiting), Memory(), "p")
    assert plan.desired == 4 + 14


def test_after_a_restart_it_keeps_what_it_finds() -> None:
    here = tuple(replica(n, CPU) for n in range(9))
    plan, memory = Delivery().plan(seen(replicas=here), Memory(), "p")
    assert (plan.desired, plan.actions) == (9, ())
    later, _ = Delivery().plan(seen(now_s=NOW + SHRINK_AFTER_S + 60, replicas=here), memory, "p")
    assert later.desired < 9


def test_a_storm_that_takes_every_spot_zone_is_not_felt() -> None:
    """All spot is lost twice while a request comes every two seconds."""
    offers = (
        small_offer(Market.ON_DEMAND, price=0.077, kind="c5a"),
        small_offer(Market.SPOT, "z1", 0.02, kind="c5a"),
        small_offer(Market.SPOT, "z2", 0.02, kind="c5a"),
    )
    gone = zone((0.0, -1), (600.0, 0), (900.0, -1), (1500.0, 0))
    fleet = cluster({"z1": gone, "z2": gone}, offers=offers, boot_s=60.0, load_times_s=np.array([5.0]), work_mean_s=1.0)
    fleet.engine.expect(arrivals(*[(300.0 + 2 * n, 1.0, n % 3) for n in range(900)]))
    loop = Driven(fleet, Delivery(), envelope(tiers=SMALL_TIERS)).until(2400.0)
    markets = {offers[int(row["offer"])].market for row in fleet.engine.a.replica[: fleet.engine.replicas]}
    assert markets == {Market.ON_DEMAND}
    assert all(replica_.gone_s is None for replica_ in fleet.state().replicas)
    assert loop.waits().max() == 0.0
    assert loop.now_s > T0


def test_without_telemetry_it_does_not_shrink() -> None:
    here = tuple(replica(n, CPU) for n in range(9))
    small = Memory().recommend(NOW - 60, 4, SHRINK_AFTER_S)
    plan, _ = Delivery().plan(replace(seen(replicas=here), telemetry_s=NOW - 900), small, "p")
    assert plan.actions == ()
    assert plan.bound.limit is Limit.STALE_TELEMETRY
