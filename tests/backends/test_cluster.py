"""The simulated cluster around the engine: what it bills, what it measures, what it tells."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.backends.base import UnknownSubject
from controller.backends.simulated.cluster import SimulatedCluster, Site
from controller.backends.simulated.jobs import JobSpec, JobsSim
from controller.core.activity import BIN_S
from controller.core.types import TierTarget
from models.enums import ActionStatus, LatencyOf, ReplicaState
from tests.backends.small_world import (
    BOOT_S,
    COLD_S,
    FAST,
    OFFERS,
    ON_DEMAND,
    SPOT_1,
    SPOT_2,
    T0,
    TIERS,
    arrivals,
    cluster,
    release,
    start,
    zone,
)

HOUR = 3600.0
PRICE = {offer.id: offer.price_usd_per_hour for offer in OFFERS}


def billed_by_hand(simulated: SimulatedCluster, hour_s: float) -> float:
    """Dollars of one clock hour from the bare rows: each interval's seconds inside it × its price."""
    total = 0.0
    for row in simulated.engine.a.replica[: simulated.engine.replicas]:
        end_s = simulated.engine.now_s if math.isnan(row["ended"]) else float(row["ended"])
        inside = min(end_s, hour_s + HOUR) - max(float(row["requested"]), hour_s)
        total += max(0.0, inside) / HOUR * OFFERS[row["offer"]].price_usd_per_hour
    return total


def test_a_replica_is_billed_from_request_to_release() -> None:
    simulated = cluster()
    simulated.advance(T0 + 600)
    replica = simulated.apply(start("a-1", FAST.id)).replica_id
    simulated.advance(T0 + 600 + 1800)
    simulated.apply(release("a-2", replica))
    simulated.advance(T0 + 3599)
    hour = simulated.state().hours[-1]
    assert (hour.hour_s, hour.jobs_usd) == (T0, 0.0)
    assert hour.replicas_usd == pytest.approx(0.5 * FAST.price_usd_per_hour)


def test_a_bill_is_split_at_the_clock_hour() -> None:
    simulated = cluster()
    simulated.advance(T0 + 3000)
    simulated.apply(start("a-1"))
    simulated.advance(T0 + 3 * HOUR + 900)
    before, here = simulated.state().hours
    assert (before.hour_s, here.hour_s) == (T0 + 2 * HOUR, T0 + 3 * HOUR)
    assert before.replicas_usd == pytest.approx(1.0)
    assert here.replicas_usd == pytest.approx(0.25)


def test_jobs_are_billed_beside_replicas() -> None:
    jobs = JobsSim(OFFERS, T0)
    simulated = cluster(jobs=jobs)
    simulated.submit(JobSpec("j-1", "n", "images", "t", "background", T0, math.inf, FAST.id, gpu_count=2))
    simulated.advance(T0 + HOUR + 1800)
    before, here = simulated.state().hours
    assert (before.replicas_usd, before.jobs_usd) == pytest.approx((0.0, 2 * FAST.price_usd_per_hour))
    assert here.jobs_usd == pytest.approx(FAST.price_usd_per_hour)


steps = st.lists(
    st.tuples(
        st.sampled_from([15.0, 60.0, 599.0, 1801.5, 3600.0]),
        st.sampled_from(["wait", ON_DEMAND.id, SPOT_1.id, FAST.id, "release"]),
        st.integers(0, 9),
    ),
    max_size=25,
)


@settings(max_examples=60)
@given(steps)
def test_every_hours_bill_is_intervals_times_price(taken: list[tuple[float, str, int]]) -> None:
    simulated = cluster({"z1": zone((0, -1), (2000, 0), (5000, 3), (9000, 1))})
    simulated.engine.expect(arrivals(*((37.0 * n, 45.0, n % 3) for n in range(300))))
    told: dict[float, float] = {}
    for number, (wait_s, what, which) in enumerate(taken):
        if what == "release" and which < simulated.engine.replicas:
            simulated.apply(release(f"a-{number}", f"r-{which:06d}"))
        elif what in PRICE:
            simulated.apply(start(f"a-{number}", what))
        simulated.advance(simulated.engine.now_s + wait_s)
        told |= {hour.hour_s: hour.replicas_usd for hour in simulated.state().hours}
    for hour_s, usd in told.items():
        assert usd == pytest.approx(billed_by_hand(simulated, hour_s), abs=1e-9)


def test_a_replica_boots_then_loads_then_serves() -> None:
    simulated = cluster()
    simulated.apply(start("a-1"))
    seen = []
    for at in (0, BOOT_S - 1, BOOT_S, COLD_S - 1, COLD_S):
        simulated.advance(T0 + at)
        (replica,) = simulated.state().replicas
        seen.append((replica.state, replica.ready_s))
    assert seen == [
        (ReplicaState.BOOTING, None),
        (ReplicaState.BOOTING, None),
        (ReplicaState.LOADING, None),
        (ReplicaState.LOADING, None),
        (ReplicaState.READY, T0 + COLD_S),
    ]


def test_load_times_are_sampled_and_the_seed_decides() -> None:
    def ready(seed: int) -> list[float]:
        simulated = cluster(load_times_s=np.linspace(5, 95, 19), seed=seed)
        for n in range(60):
            simulated.apply(start(f"a-{n}"))
        return (simulated.engine.a.replica["ready"][:60] - T0 - BOOT_S).tolist()

    one = ready(1)
    assert one == ready(1)
    assert one != ready(2)
    assert len(set(one)) > 10
    assert set(np.round(one, 6)) <= set(np.round(np.linspace(5, 95, 19), 6))


def test_a_lost_zone_tells_notice_then_loss_then_interruption() -> None:
    simulated = cluster({"z1": zone((0, -1))})
    simulated.apply(start("a-1", SPOT_1.id))
    simulated.engine.expect(arrivals((300, 1000, 2)))
    simulated.advance(T0 + 400)
    goes_s = simulated.lose_zone("z1", 1200.0)
    assert goes_s == T0 + 400 + 120
    simulated.advance(T0 + 415)
    told = simulated.state()
    assert [(n.kind, n.at_s - T0, n.offer_id) for n in told.notices] == [("notice", 400, SPOT_1.id)]
    assert [(r.gone_s, r.busy, r.running_tier) for r in told.replicas] == [(goes_s, True, "background")]
    simulated.advance(T0 + 521)
    told = simulated.state()
    assert sorted(notice.kind for notice in told.notices) == ["interrupted", "lost"]
    assert [(r.state, r.gone_s) for r in told.gone] == [(ReplicaState.LOST, goes_s)]
    assert simulated.apply(start("a-2", SPOT_1.id)).status is ActionStatus.REFUSED
    simulated.advance(goes_s + 1200)
    assert simulated.apply(start("a-3", SPOT_1.id)).status is ActionStatus.ACCEPTED


def test_a_zone_that_was_already_falling_stays_lost_past_the_demo() -> None:
    simulated = cluster({"z1": zone((0, -1), (1000, 0), (9000, -1))})
    simulated.advance(T0 + 500)
    simulated.lose_zone("z1", 1200.0)
    simulated.advance(T0 + 3000)
    assert simulated.apply(start("a-1", SPOT_1.id)).status is ActionStatus.REFUSED
    simulated.advance(T0 + 9000)
    assert simulated.apply(start("a-2", SPOT_1.id)).status is ActionStatus.ACCEPTED
    with pytest.raises(UnknownSubject, match="z9"):
        simulated.lose_zone("z9", 60.0)


def test_a_zone_without_a_series_gives_any_number() -> None:
    simulated = cluster({"z1": zone((0, 1))})
    answers = [simulated.apply(start(f"a-{n}", SPOT_2.id)).status for n in range(50)]
    assert set(answers) == {ActionStatus.ACCEPTED}
    answers = [simulated.apply(start(f"b-{n}", SPOT_1.id)).status for n in range(2)]
    assert answers == [ActionStatus.ACCEPTED, ActionStatus.REFUSED]


# --- telemetry ---


def test_minutes_before_the_cluster_was_there_are_absent() -> None:
    simulated = cluster()
    simulated.advance(T0 + 150)
    samples = simulated.samples("images", T0 - HOUR, T0 + 150)
    assert sorted({sample.minute_s - T0 for sample in samples}) == [0, 60]
    assert all(sample.arrivals == 0 and sample.work_s == 0 and sample.wait_mean_s is None for sample in samples)


def test_samples_count_arrivals_and_waits_by_tier() -> None:
    simulated = cluster()
    simulated.apply(start("a-1"))
    simulated.engine.expect(arrivals((10, 30, 1), (20, 30, 1), (70, 30, 2)))
    simulated.advance(T0 + 600)
    found = {(s.tier, s.minute_s - T0): s for s in simulated.samples("images", T0, T0 + 600)}
    assert len(found) == 10 * len(TIERS)
    assert found["standard", 0].arrivals == 2
    assert found["background", 60].arrivals == 1
    # Starts at 200, 230 and 260, in the minutes of 180 and 240.
    assert found["standard", 180].started == 2
    assert found["standard", 180].wait_mean_s == pytest.approx((190 + 210) / 2)
    assert found["standard", 180].wait_max_s == pytest.approx(210)
    assert found["background", 240].wait_mean_s == pytest.approx(190)
    assert found["premium", 180].started == 0
    assert found["premium", 180].wait_p95_s is None


def test_silent_telemetry_grows_old_and_work_goes_on() -> None:
    simulated = cluster()
    simulated.apply(start("a-1"))
    simulated.engine.expect(arrivals((300, 10, 0)))
    simulated.advance(T0 + 120)
    simulated.silence(T0 + 900)
    simulated.advance(T0 + 600)
    assert simulated.telemetry_s("images") == T0 + 120
    assert simulated.samples("images", T0 + 120, T0 + 600) == ()
    simulated.advance(T0 + 900)
    assert simulated.telemetry_s("images") == T0 + 900
    assert sum(s.started for s in simulated.samples("images", T0 + 240, T0 + 900)) == 1


def test_silence_tells_nothing_of_tenants_and_what_was_missed_comes_after_it() -> None:
    simulated = cluster()
    simulated.engine.expect(arrivals((30, 10, 0), (300, 10, 0)))
    simulated.advance(T0 + 120)
    simulated.silence(T0 + 900)
    simulated.advance(T0 + 600)
    told = simulated.activity("images", T0, T0 + 600)
    assert told is not None
    assert (told[0], told[1].shape[2]) == (T0, 8)
    assert told[1][0, 0].sum() * BIN_S == pytest.approx(1)
    assert simulated.activity("images", T0 + 120, T0 + 600) is None
    simulated.advance(T0 + 900)
    after = simulated.activity("images", T0 + 120, T0 + 900)
    assert after is not None
    assert (after[0], after[1].shape[2]) == (T0 + 120, 52)
    assert after[1][0, 0].sum() * BIN_S == pytest.approx(1)


def test_tenants_are_told_apart_by_the_cluster_and_after_a_restart_too(tmp_path: Path) -> None:
    """One asks on and on, another begins: a session of each, and the requests of both."""
    simulated = cluster()
    simulated.keep_in(tmp_path / "c.npz")
    asked = [(15.0 * n + 1, 5, 0) for n in range(40)] + [(400.0, 5, 1), (410.0, 5, 1)]
    ordered = arrivals(*asked)
    simulated.engine.expect(replace(ordered, tenant=ordered.tier * 7))
    simulated.advance(T0 + 600)
    told = simulated.activity("images", T0, T0 + 600)
    assert told is not None
    assert told[1][0].sum(axis=1) * BIN_S == pytest.approx([40, 2, 0])
    assert told[1][1].sum(axis=1) * BIN_S == pytest.approx([1, 1, 0])
    assert told[1][1, 1, 26] * BIN_S == pytest.approx(1)
    simulated.save()
    again = cluster()
    assert again.restore(tmp_path / "c.npz")
    found = again.activity("images", T0 + 15, T0 + 600)
    assert found is not None
    assert found[0] == T0 + 15
    assert found[1][0] == pytest.approx(told[1][0][:, 1:])


def test_background_work_gives_way_to_every_tier_above_and_standard_to_the_first_alone() -> None:
    def running(*requests: tuple[float, float, int]) -> list[int]:
        simulated = cluster()
        simulated.start(ON_DEMAND.id, ready_at_once=True)
        simulated.engine.expect(arrivals(*requests))
        simulated.advance(T0 + 20)
        return [queue.running for queue in simulated.queues("images")]

    assert running((1, 100, 2), (10, 100, 1)) == [0, 1, 0]
    assert running((1, 100, 2), (10, 100, 0)) == [1, 0, 0]
    assert running((1, 100, 1), (10, 100, 0)) == [1, 0, 0]
    # Among those who wait seconds nothing is lost but by the first; and no work of below displaces any.
    urgent = (*TIERS[:2], TierTarget("patient", 2, 30, "p95", LatencyOf.WAIT, 60_000))
    assert Site("images", urgent, OFFERS, np.array([20.0]), {}).may_preempt().tolist() == [
        [False, True, True],
        [False, False, False],
        [False, False, False],
    ]
    assert cluster().site.may_preempt().tolist() == [[False, True, True], [False, False, True], [False, False, False]]
    assert not replace(cluster().site, preempts=False).may_preempt().any()
    assert not replace(cluster().site, fifo=True).may_preempt().any()


def target(statistic: str, ms: float, of: LatencyOf = LatencyOf.WAIT, window_s: float = HOUR) -> TierTarget:
    return TierTarget("standard", 1, 50, statistic, of, ms, window_s)


def test_latency_is_the_statistic_over_the_window() -> None:
    simulated = cluster()
    simulated.start(ON_DEMAND.id, ready_at_once=True)
    simulated.engine.expect(arrivals(*((100.0, 10.0, 1) for _ in range(5))))
    simulated.advance(T0 + 200)
    # Waits of 0, 10, 20, 30, 40 s.
    assert simulated.latency("images", target("mean", 1e6)).value_ms == pytest.approx(20_000)
    assert simulated.latency("images", target("p50", 1e6)).value_ms == pytest.approx(20_000)
    assert simulated.latency("images", target("p100", 1e6)).value_ms == pytest.approx(40_000)
    assert simulated.latency("images", target("mean", 1e6, LatencyOf.END_TO_END)).value_ms == pytest.approx(30_000)
    reading = simulated.latency("images", target("mean", 1e6, window_s=75.0))
    assert (reading.value_ms, reading.count) == (pytest.approx(35_000), 2)


def test_nothing_measured_is_unknown() -> None:
    simulated = cluster()
    simulated.advance(T0 + 300)
    reading = simulated.latency("images", target("mean", 200))
    assert (reading.value_ms, reading.count) == (None, 0)


def test_a_queue_that_never_moves_is_late_all_the_same() -> None:
    simulated = cluster()
    simulated.engine.expect(arrivals((10, 10, 1), (20, 10, 1)))
    simulated.advance(T0 + 100)
    reading = simulated.latency("images", target("p100", 85_000))
    assert (reading.value_ms, reading.count) == (pytest.approx(90_000), 1)
    assert simulated.latency("images", target("p100", 1e9)).value_ms is None


def test_queues_tell_what_waits_and_for_how_long() -> None:
    simulated = cluster(work_mean_s=40.0)
    simulated.start(ON_DEMAND.id, ready_at_once=True)
    simulated.engine.expect(arrivals((0, 500, 1), (10, 10, 1), (30, 10, 2), (50, 10, 2)))
    simulated.advance(T0 + 60)
    premium, standard, background = simulated.queues("images")
    assert (premium.queued, premium.running, premium.oldest_wait_s) == (0, 0, 0.0)
    assert (standard.queued, standard.running, standard.oldest_wait_s) == (1, 1, 50.0)
    assert (background.queued, background.oldest_wait_s, background.backlog_s) == (2, 30.0, 80.0)


# --- keeping ---


def test_the_whole_future_is_the_same_after_a_restart(tmp_path: Path) -> None:
    def world() -> SimulatedCluster:
        return cluster(
            {"z1": zone((0, 2), (4000, 0), (6000, 5))}, jobs=JobsSim(OFFERS, T0), load_times_s=np.arange(5.0, 60.0)
        )

    def begin(simulated: SimulatedCluster) -> None:
        simulated.submit(JobSpec("j-1", "n", "images", "t", "background", T0, 9000.0, FAST.id, checkpoints=True))
        simulated.engine.expect(arrivals(*((31.0 * n, 20.0 + n % 50, n % 3) for n in range(400))))
        for n, offer in enumerate((ON_DEMAND, ON_DEMAND, SPOT_1, SPOT_1)):
            simulated.apply(start(f"a-{n}", offer.id))
        simulated.advance(T0 + 3950.0)

    def go_on(simulated: SimulatedCluster) -> list[object]:
        told: list[object] = [simulated.state()]
        for n in range(60):
            simulated.advance(T0 + 3950.0 + 150.0 * (n + 1))
            simulated.apply(start(f"b-{n}", OFFERS[n % 4].id))
            told += [
                simulated.state(),
                simulated.queues("images"),
                simulated.samples("images", T0 + 60.0 * n, T0 + 1e6),
            ]
        return told

    straight, saved, again = world(), world(), world()
    begin(straight)
    begin(saved)
    saved.keep_in(tmp_path / "state.npz")
    saved.save()
    assert again.restore(tmp_path / "state.npz")
    # Even the news that nobody has read yet: the notices of the fall at 4000 s.
    assert {notice.kind for notice in saved.state().notices} == {"notice"}
    assert go_on(again) == go_on(straight)


def test_a_state_of_other_offers_is_refused(tmp_path: Path) -> None:
    simulated = cluster()
    simulated.keep_in(tmp_path / "state.npz")
    simulated.save()
    with pytest.raises(ValueError, match="other offers"):
        cluster(offers=(ON_DEMAND,)).restore(tmp_path / "state.npz")
    assert cluster().restore(tmp_path / "nothing.npz") is False
