"""What was issued is handed out once it is known: each step of each origin once, never unknown, never early."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.forecast.base import GRIDS
from controller.core.forecast.issued import (
    NEAR_S,
    PATIENCE_S,
    SETTLE_S,
    Issued,
    apart_s,
    followed,
    follows,
    issue,
    measured,
    settle,
)
from controller.core.series import DAY_S, HOUR_S
from controller.core.types import QUANTILES, Series

START_S = 1_732_492_800.0
SLOW = (600.0, 144)


def made(origin_s: float, step_s: float, steps: int) -> Issued:
    """A forecast whose 0.5 quantile at step j is j."""
    values = np.arange(steps) + np.zeros((len(QUANTILES), 1))
    return issue(origin_s, step_s, followed(origin_s, step_s, steps), {"profile": values}, {"profile": values + 0.5})


def minutes(values: np.ndarray) -> Series:
    return Series(START_S, 60.0, np.asarray(values, dtype=np.float64))


@pytest.mark.parametrize(("step_s", "steps"), GRIDS)
def test_all_near_steps_are_followed_and_in_a_day_all_the_others(step_s: float, steps: int) -> None:
    near = np.flatnonzero((np.arange(steps) + 1) * step_s <= NEAR_S)
    seen = set()
    for turn in range(24):
        kept = followed(START_S + turn * apart_s(step_s), step_s, steps)
        assert set(near) <= set(kept) and len(kept) <= 60
        seen |= set(kept.tolist())
    assert seen == set(range(steps))


@pytest.mark.parametrize(("step_s", "steps"), GRIDS)
def test_weights_make_up_for_the_steps_left_out(step_s: float, steps: int) -> None:
    one = made(START_S, step_s, steps)
    (came,), _ = settle((one,), minutes(np.ones(3 * 1440)), START_S + steps * step_s + SETTLE_S)
    assert came.weights.sum() == pytest.approx(steps, rel=0.05)


@pytest.mark.parametrize(("step_s", "steps"), GRIDS)
def test_origins_are_followed_some_way_apart_and_none_twice(step_s: float, steps: int) -> None:
    origins = START_S + step_s * np.arange(int(DAY_S / step_s))
    last_s, taken = float("-inf"), []
    for origin_s in [*origins, *origins]:  # the clock was set back by a day
        if follows((), last_s, origin_s, step_s):
            last_s = origin_s
            taken.append(origin_s)
    assert (np.diff(taken) == apart_s(step_s)).all() and len(taken) == DAY_S / apart_s(step_s)
    one = made(START_S, step_s, steps)
    assert not follows((one,), float("-inf"), START_S, step_s)


def test_a_step_is_known_when_it_has_ended_and_minutes_had_time_to_come() -> None:
    one, load = made(START_S, *SLOW), minutes(np.arange(1440.0))
    assert settle((one,), load, START_S + 600 + SETTLE_S - 1) == ((), (one,))
    (came,), (left,) = settle((one,), load, START_S + 600 + SETTLE_S)
    assert came.steps.tolist() == [0] and came.actual.tolist() == [4.5]
    assert came.ends_s.tolist() == [START_S + 600]
    assert left.waiting.sum() == one.waiting.sum() - 1
    assert settle((left,), load, START_S + 600 + SETTLE_S) == ((), (left,))


def test_what_was_said_of_a_step_stays_with_it() -> None:
    one = made(START_S, *SLOW)
    (came,), _ = settle((one,), minutes(np.ones(1440)), START_S + 2 * HOUR_S + SETTLE_S)
    assert (one.raw["profile"][:, came.index] == came.steps).all()
    assert (one.shown["profile"][:, came.index] == came.steps + 0.5).all()


def test_late_minutes_are_waited_for_and_a_gap_is_given_up() -> None:
    load = np.ones(1440)
    load[:10] = np.nan
    pending = (made(START_S, *SLOW),)
    came, pending = settle(pending, minutes(load), START_S + 1200 + SETTLE_S)
    assert came[0].steps.tolist() == [1]
    load[:10] = 7.0
    came, pending = settle(pending, minutes(load), START_S + 1260 + SETTLE_S)
    assert came[0].steps.tolist() == [0] and came[0].actual.tolist() == [7.0]
    load[20:30] = np.nan
    came, pending = settle(pending, minutes(load), START_S + 1800 + PATIENCE_S)
    assert 2 not in came[0].steps
    load[20:30] = 7.0
    came, _ = settle(pending, minutes(load), START_S + 1800 + PATIENCE_S)
    assert all(2 not in each.steps for each in came), "given up is given up"


def test_a_step_measured_for_less_than_half_is_a_gap() -> None:
    values = np.full(30, 3.0)
    values[:6], values[10:15] = np.nan, np.nan
    assert np.isnan(measured(minutes(values), 600.0).values).tolist() == [True, False, False]
    assert measured(minutes(values), 60.0).values is not None


def test_nothing_pending_costs_nothing() -> None:
    assert settle((), minutes(np.ones(10)), START_S) == ((), ())


@settings(max_examples=60, deadline=None)
@given(
    grid=st.sampled_from(GRIDS),
    moves=st.lists(st.one_of(st.floats(1, 7200), st.floats(-7200, -1)), min_size=5, max_size=60),
    gaps=st.lists(st.integers(0, 2879), max_size=200),
    late_s=st.floats(0, 900),
)
def test_each_pair_of_origin_and_step_once_and_never_unknown(
    grid: tuple[float, int], moves: list[float], gaps: list[int], late_s: float
) -> None:
    """Whatever the clock does, whatever is late or missing."""
    step_s, steps = grid
    load = np.ones(2880)
    load[gaps] = np.nan
    seen: Counter[tuple[float, int]] = Counter()
    pending: tuple[Issued, ...] = ()
    now_s, last_s = START_S + DAY_S / 2, float("-inf")
    for move in moves:
        now_s = min(max(now_s + move, START_S), START_S + 2 * DAY_S - 1)
        known = max(0, int((now_s - late_s - START_S) // 60))
        came, pending = settle(pending, minutes(load[:known]), now_s)
        for each in came:
            assert np.isfinite(each.actual).all()
            assert (each.ends_s + SETTLE_S <= now_s).all()
            seen.update((each.issued.origin_s, int(step)) for step in each.steps)
        origin_s = float(np.floor(now_s / apart_s(step_s)) * apart_s(step_s))
        if follows(pending, last_s, origin_s, step_s):
            pending, last_s = (*pending, made(origin_s, step_s, steps)), origin_s
        assert len(pending) <= 26
    assert max(seen.values(), default=1) == 1
