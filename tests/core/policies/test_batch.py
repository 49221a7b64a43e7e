"""Batch: spot while there is time, on demand when there is not, done by its deadline whatever spot does."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.policies.base import Memory
from controller.core.policies.batch import Batch, undone
from controller.core.types import Envelope, Observation, QueueReading, Series, Spend, TierTarget
from models.enums import LatencyOf, Limit, Market
from tests.backends.driven import Driven
from tests.backends.small_world import ON_DEMAND, SPOT_1, SPOT_2, T0, arrivals, cluster, zone
from tests.core.observed import A10G, BY_ID, NOW, SPOT, observation, replica, started

DEADLINE_S = 4 * 3600.0
TIER = TierTarget("catalogue", 0, 100.0, "p100", LatencyOf.END_TO_END, DEADLINE_S * 1000)


def seen(items: int, age_s: float = 0.0, **changes: object) -> Observation:
    """So many items of 60 s, all of the same age."""
    queue = QueueReading("catalogue", items, 0, items * 60.0, age_s)
    base: dict[str, object] = {
        "envelope": Envelope((TIER,), None, degrade=("catalogue",)), "queues": (queue,), "load": {}, "forecasts": {},
        "latencies": (), "work_mean_s": 60.0, "work_scv": 0.0, "boot_s": 180.0, "load_model_s": 20.0,
    }  # fmt: skip
    return observation((1.0,), **{**base, **changes})  # type: ignore[arg-type]


def test_nothing_to_do_holds_nothing() -> None:
    plan, _ = Batch().plan(seen(0), Memory(), "p")
    assert (plan.desired, plan.actions) == (0, ())


def test_with_time_left_it_runs_on_spot_alone() -> None:
    plan, _ = Batch().plan(seen(100), Memory(), "p")
    assert started(plan)
    assert {BY_ID[each].market for each in started(plan)} == {Market.SPOT}
    # 6,000 s of work in nearly four hours: one replica ends in time.
    assert len(started(plan)) == 1


def test_a_valley_under_the_cap_is_filled() -> None:
    capped = seen(100, envelope=Envelope((TIER,), 50.0, degrade=("catalogue",)))
    valley, _ = Batch().plan(replace(capped, spend=Spend(NOW, 0.0, 0.0, 10.0)), Memory(), "p")
    assert valley.bound.limit is Limit.VALLEY
    assert len(started(valley)) == math.ceil(6000 / (6 * 200))
    hill, _ = Batch().plan(replace(capped, spend=Spend(NOW, 0.0, 0.0, 48.5)), Memory(), "p")
    assert len(started(hill)) == 1


def test_without_spot_it_waits_and_says_until_when() -> None:
    taken = tuple(replace(standing, notice=standing.offer.market is Market.SPOT) for standing in seen(1).offers)
    plan, _ = Batch().plan(seen(100, offers=taken), Memory(), "p")
    assert plan.actions == ()
    assert any("on demand must start in" in reason.text for reason in plan.reasons)


def test_at_its_must_start_time_it_goes_on_demand() -> None:
    must_s = DEADLINE_S - 30 - 60 - 200 - max(6 * 200, 6000 / 100)
    early, _ = Batch().plan(seen(100, must_s - 1), Memory(), "p")
    late, _ = Batch().plan(seen(100, must_s + 1), Memory(), "p")
    assert A10G.id not in started(early)
    assert late.bound.limit is Limit.DEADLINE
    fixed = [BY_ID[each] for each in started(late) if BY_ID[each].market is Market.ON_DEMAND]
    assert sum(each.speed_ratio for each in fixed) * 6 * 200 >= 6000


def test_what_runs_on_spot_counts_as_undone() -> None:
    running = replace(seen(0), queues=(QueueReading("catalogue", 0, 5, 0.0, 0.0),))
    assert undone(running).total_s == 5 * 60.0


def test_spot_that_has_work_is_kept() -> None:
    here = tuple(replica(n, SPOT[0], busy=True) for n in range(4))
    plan, _ = Batch().plan(seen(100, replicas=here), Memory(), "p")
    assert plan.desired_by_offer == {SPOT[0].id: 4}


@given(
    st.lists(st.tuples(st.integers(60, 3000), st.integers(0, 6)), min_size=1, max_size=12),
    st.integers(1, 120),
    st.sampled_from([20.0, 60.0, 300.0]),
    st.sampled_from([1.0, 2.0, 6.0]),
)
@settings(max_examples=25, deadline=None)
def test_it_meets_its_deadline_whatever_spot_does(
    changes: list[tuple[int, int]], items: int, work_s: float, hours: float
) -> None:
    """Any series of spot capacity in two zones; on demand can always be had."""
    at, steps = 0.0, []
    for lasts, capacity in changes:
        steps.append((at, capacity))
        at += lasts
    zones = {"z1": zone(*steps), "z2": zone(*[(when + 100, 6 - capacity) for when, capacity in steps])}
    target = replace(TIER, target_ms=hours * 3600_000)
    fleet = cluster(
        zones, tiers=(target,), offers=(ON_DEMAND, SPOT_1, SPOT_2), work_mean_s=work_s, work_scv=0.0, preempts=False
    )
    fleet.engine.expect(arrivals(*[(10.0, work_s, 0)] * items))
    loop = Driven(fleet, Batch(), Envelope((target,), None, degrade=("catalogue",)))
    while fleet.engine.unfinished and loop.now_s < T0 + hours * 3600 + 60:
        loop.tick()
    rows = fleet.engine.a.request[:items]
    assert not fleet.engine.unfinished
    assert float((rows["finished"] - rows["arrived"]).max()) <= hours * 3600
    loop.until(loop.now_s - T0 + 60)
    assert loop.held(loop.now_s - T0) == 0


def test_with_spot_always_there_it_never_pays_for_on_demand() -> None:
    fleet = cluster(tiers=(TIER,), offers=(ON_DEMAND, SPOT_1, SPOT_2), work_mean_s=60.0, work_scv=0.0, preempts=False)
    fleet.engine.expect(arrivals(*[(10.0, 60.0, 0)] * 100))
    loop = Driven(fleet, Batch(), Envelope((TIER,), None, degrade=("catalogue",)))
    while fleet.engine.unfinished:
        loop.tick()
    assert set(fleet.engine.a.replica[: fleet.engine.replicas]["offer"]) <= {1, 2}


def test_a_stream_is_not_judged_by_its_oldest_alone() -> None:
    """Work that came evenly over three hours and waits: most of it has most of its time."""
    load = {"catalogue": Series(NOW - 10_800, 60.0, np.full(180, 0.5))}
    work = undone(seen(90, 10_790.0, load=load))
    assert work.total_s == pytest.approx(5400.0)
    assert float(np.max(work.ahead_s / work.left_s)) < 5400 / work.left_s[0]
