"""The clairvoyant's schedule: exact concurrency, gaps held, starts a lead time ahead; and how it is carried out."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.policies.base import Memory
from controller.core.policies.clairvoyant import Clairvoyant, Schedule, concurrency, held, one_pool, work_by
from models.enums import ReplicaState
from tests.core.observed import A10G, NOW, fleet, observation, released, replica, started

requests = st.lists(st.tuples(st.floats(0, 600), st.floats(0.5, 120)), min_size=1, max_size=30)
levels = st.lists(st.integers(0, 6), min_size=1, max_size=60)


def test_concurrency_of_requests_that_nobody_keeps_waiting() -> None:
    arrived, work = np.array([0.0, 10.0, 10.0]), np.array([20.0, 5.0, 40.0])
    # [0,10): one; [10,15): three; [15,20): two; [20,50): one.
    assert concurrency(arrived, work, 0.0, 10.0, 6).tolist() == [1.0, 2.5, 1.0, 1.0, 1.0, 0.0]


@given(requests, st.floats(1, 60))
def test_concurrency_adds_up_to_the_work(each: list[tuple[float, float]], step_s: float) -> None:
    arrived, work = np.array([at for at, _ in each]), np.array([for_s for _, for_s in each])
    slots = int(800 / step_s) + 1
    assert concurrency(arrived, work, 0.0, step_s, slots).sum() * step_s == pytest.approx(work.sum())
    edges = np.linspace(0, 800, 50)
    done = np.clip(edges[:, None] - arrived, 0, work).sum(axis=1)
    assert work_by(edges, arrived, work) == pytest.approx(done - done[0], abs=1e-6)


def test_a_gap_shorter_than_the_lead_time_is_held_and_a_longer_one_is_not() -> None:
    level = np.array([2, 0, 0, 2, 0, 0, 0, 2])
    assert held(level, 2, 3).tolist() == [2, 2, 2, 2, 0, 0, 0, 2]
    assert held(level, 2, 4).tolist() == [2] * 8
    # What is there before the first slot is held for it too.
    assert held(np.array([0, 0, 3]), 2, 3).tolist() == [2, 2, 3]
    assert held(np.array([0, 0, 3]), 2, 2).tolist() == [0, 0, 3]


@given(levels, st.integers(0, 6), st.integers(1, 8))
def test_holding_never_costs_more_than_going_and_coming_again(level: list[int], first: int, lead: int) -> None:
    wanted = np.array(level)
    kept = held(wanted, first, lead)
    assert (kept >= wanted).all()

    def cost(serving: Any) -> int:
        return int(serving.sum() + lead * np.maximum(0, np.diff(serving, prepend=first)).sum())

    assert cost(kept) <= cost(wanted)
    assert (held(kept, first, lead) == kept).all()


@given(levels, st.integers(0, 3), st.lists(st.floats(1, 80), min_size=1, max_size=9), st.floats(0, 90))
def test_what_is_wanted_is_ready_by_its_tick_unless_it_was_too_soon(
    level: list[int], first: int, loads: list[float], boot_s: float
) -> None:
    plan = one_pool(np.array(level, float), 0.0, "x", first, lambda n: np.resize(np.array(loads), n), boot_s, 0.0, 15.0)
    ready = [0.0] * first
    number = 0
    lead = boot_s + max(loads)
    for tick, starts in enumerate(plan.starts):
        for _ in starts:
            ready.append(15.0 * tick + boot_s + float(np.resize(np.array(loads), number + 1)[number]))
            number += 1
        serving = [at for at in ready if at <= 15.0 * tick + 1e-6]
        keep = int(plan.serving["x"][tick])
        for _ in range(len(serving) - keep):
            ready.remove(serving.pop())
        if 15.0 * tick > lead + 15.0:
            assert len(serving) >= max(1, level[tick])


def schedule(serving: list[int], starts: tuple[tuple[str, ...], ...] = ()) -> Schedule:
    return Schedule(NOW, 15.0, starts, {A10G.id: np.array(serving)}, "by hand")


def test_it_starts_what_the_tick_says_and_keeps_what_comes() -> None:
    coming = replica(9, A10G, ReplicaState.LOADING)
    seen = observation(replicas=(*fleet({A10G.id: 2}), coming))
    plan, _ = Clairvoyant(schedule([2], ((A10G.id, A10G.id),))).plan(seen, Memory(), "p")
    assert started(plan) == [A10G.id] * 2
    assert released(plan) == []
    assert plan.bound.numbers == {"serving": 2, "ready": 2, "coming": 1}


def test_the_idle_go_before_the_busy() -> None:
    seen = observation(replicas=fleet({A10G.id: 3}, busy=2))
    plan, _ = Clairvoyant(schedule([2])).plan(seen, Memory(), "p")
    assert [action.replica_id for action in plan.actions] == ["r-000002"]
