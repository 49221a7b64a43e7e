"""A chain of clusters: nothing is lost, nothing comes twice, and the step does not matter."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.backends.simulated.arrivals import Arrivals
from controller.backends.simulated.pipeline import SimulatedPipeline, StageWork
from tests.backends.small_world import ON_DEMAND, SPOT_1, T0, arrivals, cluster, zone

WORK = (StageWork(0.0, 1.0), StageWork(2.0, 0.25), StageWork(0.5, 0.0))


def chain(replicas: tuple[int, ...] = (2, 1, 1), **first: Any) -> SimulatedPipeline:
    clusters = [cluster(service=name, **(first if i == 0 else {})) for i, name in enumerate("abc")]
    for each, count in zip(clusters, replicas, strict=True):
        for _ in range(count):
            each.start(ON_DEMAND.id, ready_at_once=True)
    return SimulatedPipeline(clusters, WORK)


requests = st.lists(st.tuples(st.floats(0, 600), st.floats(0.5, 90), st.integers(0, 2)), min_size=1, max_size=40)


@given(requests, st.lists(st.floats(0.1, 400), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_every_request_leaves_once_after_all_its_executions(
    asked: list[tuple[float, float, int]], steps: list[float]
) -> None:
    pipeline = chain()
    pipeline.expect(arrivals(*asked))
    now = T0
    for step in steps:
        now += step
        pipeline.advance(now)
    while pipeline.unfinished:
        now += 500.0
        pipeline.advance(now)
    times = pipeline.times()
    assert times.shape == (len(asked), 3, 3)
    assert np.isfinite(times).all()
    for stage, each in enumerate(pipeline.clusters):
        assert each.engine.requests == len(asked), f"stage {stage}"
    arrived, started, finished = (times[:, :, column] for column in range(3))
    assert (started >= arrived).all()
    assert arrived[:, 1:] == pytest.approx(finished[:, :-1])
    recorded = np.array([work for _, work, _ in sorted(asked, key=lambda one: one[0])])
    executed = np.column_stack([work.of(recorded) for work in WORK])
    assert finished - started == pytest.approx(executed, abs=1e-5)
    assert (times[:, -1, 2] - times[:, 0, 0] >= executed.sum(axis=1) - 1e-5).all()


@given(requests, st.floats(0.5, 200))
@settings(max_examples=40, deadline=None)
def test_the_step_does_not_matter(asked: list[tuple[float, float, int]], step_s: float) -> None:
    one, other = chain(), chain()
    for pipeline in (one, other):
        pipeline.expect(arrivals(*asked))
    for n in range(1, int(900 / step_s) + 1):
        one.advance(T0 + n * step_s)
    for pipeline in (one, other):
        pipeline.advance(T0 + 9000.0)
    np.testing.assert_array_equal(one.times(), other.times())


def test_a_request_that_loses_its_replica_is_handed_on_once() -> None:
    pipeline = chain((0, 1, 1), zones={"z1": zone((0, -1), (100, 0), (150, -1))})
    pipeline.clusters[0].start(SPOT_1.id, ready_at_once=True)
    pipeline.expect(arrivals((90.0, 60.0, 0)))
    pipeline.advance(T0 + 200)
    pipeline.clusters[0].start(ON_DEMAND.id, ready_at_once=True)
    for n in range(100):
        pipeline.advance(T0 + 200 + 10 * n)
    (times,) = pipeline.times()
    assert times[0, 2] == pytest.approx(T0 + 260)
    assert pipeline.clusters[2].engine.requests == 1


def test_a_stage_that_was_let_run_ahead_loses_nothing() -> None:
    pipeline = chain()
    pipeline.expect(arrivals((0.0, 30.0, 0), (5.0, 200.0, 0), (10.0, 40.0, 0)))
    pipeline.clusters[0].advance(T0 + 100)
    pipeline.advance(T0 + 20)
    assert pipeline.clusters[1].engine.requests == 0
    for n in range(1, 40):
        pipeline.advance(T0 + 20 + 10 * n)
    assert np.isfinite(pipeline.times()).all()


def test_tiers_and_work_follow_the_request() -> None:
    pipeline = chain((3, 3, 3))
    pipeline.expect(arrivals((0.0, 80.0, 2), (1.0, 8.0, 0), (2.0, 40.0, 1)))
    pipeline.advance(T0 + 1000)
    rows = pipeline.clusters[1].engine.a.request[:3]
    # In the order in which they finished the first stage.
    assert rows["tier"].tolist() == [0, 1, 2]
    assert rows["work"].tolist() == [4.0, 12.0, 22.0]


def test_requests_are_given_once() -> None:
    pipeline = chain()
    pipeline.expect(arrivals((0.0, 1.0, 0)))
    with pytest.raises(ValueError, match="once"):
        pipeline.expect(Arrivals(np.array([T0 + 5]), np.array([1.0]), np.array([0])))
