"""The model of the queue: an exact flow, more capacity never hurts, priority protects, and a known answer."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.fluid import Demand, flow, in_system, missed, over_target, wait_s, waits
from controller.core.queueing import tier_wait_s
from models.enums import LatencyOf
from tests.core.observed import NOW, TIERS, tier

amount = st.floats(0, 60, allow_nan=False)


def demand(*loads: float, steps: int = 240, work_s: float = 30.0, tiers=TIERS) -> Demand:
    table = np.repeat(np.array(loads)[:, None], steps, axis=1)
    return Demand(NOW, 15.0, tiers[: len(loads)], table, table, work_s, 0.5)


@given(amount, amount, amount, st.floats(1, 300), st.floats(1, 300))
def test_a_step_in_two_halves_is_the_same_step(inside, load, capacity, step_s, work_s):
    whole = flow(inside, load, capacity, step_s, work_s)
    half = flow(flow(inside, load, capacity, step_s / 2, work_s), load, capacity, step_s / 2, work_s)
    assert whole == pytest.approx(half, rel=1e-6, abs=1e-6)


@given(amount, amount, amount, st.floats(0, 20), st.floats(1, 300))
def test_more_servers_leave_no_more_in_the_system(inside, load, capacity, more, work_s):
    assert flow(inside, load, capacity + more, 15.0, work_s) <= flow(inside, load, capacity, 15.0, work_s) + 1e-9


def test_what_fits_settles_at_its_load():
    found = in_system(demand(4.0), np.full(240, 10.0), np.zeros(1))
    assert found[0, -1] == pytest.approx(4.0)
    # One mean execution in, all but 1/e of it is there.
    assert found[0, 1] == pytest.approx(4.0 * (1 - math.exp(-1)))


def test_what_does_not_fit_piles_up_by_what_it_lacks():
    # Twelve erlangs on ten servers: two servers' work a second waits, which is 2/30 requests.
    found = in_system(demand(12.0), np.full(240, 10.0))
    assert found[0, -1] == pytest.approx(12.0 + 2.0 * 3600 / 30)


def test_a_calm_queue_waits_by_erlang():
    calm = demand(4.0, 6.0)
    capacity = np.full(240, 13.0)
    found = waits(calm, in_system(calm, capacity), capacity, fifo=False)
    assert found[0, -1] == pytest.approx(tier_wait_s(13, 4.0, 0.0, 30.0, None, 1.0, 0.5))
    assert found[1, -1] == pytest.approx(tier_wait_s(13, 6.0, 4.0, 30.0, 0.95, 1.0, 0.5))


def test_priority_keeps_the_first_tier_whole_where_a_queue_in_line_does_not():
    crowded = demand(2.0, 9.0)
    capacity = np.full(240, 10.0)
    by_priority, in_line = (missed(crowded, capacity, fifo=fifo) for fifo in (False, True))
    assert not by_priority[0].any() and by_priority[1, -1]
    assert in_line[0].all()


def test_nothing_serves_for_ever():
    assert wait_s(None, 3.0, 0.0, 0.0, 30.0, 0.5) == math.inf
    assert wait_s(None, 12.0, 11.0, 10.0, 30.0, 0.5) == math.inf
    assert wait_s(None, 0.0, 0.0, 0.0, 30.0, 0.5) == 0.0


@settings(max_examples=60)
@given(st.lists(st.floats(0, 30), min_size=4, max_size=12), st.integers(1, 40), st.integers(0, 20), st.booleans())
def test_a_target_held_is_held_with_more(loads, servers, more, fifo):
    row = np.repeat(np.array(loads), 4)
    varied = Demand(NOW, 15.0, TIERS[:2], np.array([row / 3, row]), np.array([row, row]), 30.0, 0.5)
    few, many = (missed(varied, np.full(len(row), float(n)), fifo=fifo) for n in (servers, servers + more))
    # The wait by chance reads loads in tenths of an erlang, so that a hair's breadth may turn either way.
    assert (many & ~few).sum() <= 1


def test_a_target_below_the_execution_is_always_missed():
    short = tier("premium", 0, 100, "mean", 20_000, of=LatencyOf.END_TO_END)
    one = demand(1.0, tiers=(short,))
    assert over_target(one, np.zeros((1, 240))).all()
