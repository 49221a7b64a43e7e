"""Demand made from a record: every copy once, near its record, in whatever windows it is asked for."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.backends.simulated.arrivals import WEEK_S, Arrivals, Feed, Recorded, replicate, uniform

DAY_S = 86400.0
END_S = 14 * DAY_S


def recorded(times: list[float], tiers: int = 3) -> Recorded:
    """Work tells the row: 1, 2, 3 … seconds."""
    at = np.sort(np.array(times, float))
    return Recorded(at, np.arange(1.0, len(at) + 1), np.arange(len(at)) % tiers)


def feed(times: list[float], scale: int = 3, jitter_s: float = 300.0, seed: int = 7) -> Feed:
    return Feed(recorded(times), scale, jitter_s, seed, END_S)


def same(one: Arrivals, other: Arrivals) -> bool:
    """The same requests; those of one instant in any order."""
    return all(
        np.array_equal(np.sort(getattr(one, name)), np.sort(getattr(other, name)))
        for name in ("arrived_s", "work_s", "tier")
    )


times_of_trace = st.lists(st.floats(0, END_S, exclude_max=True), min_size=1, max_size=30)


@given(times_of_trace, st.integers(1, 5), st.floats(0, 2000), st.integers(0, 9))
def test_every_record_gives_its_copies_near_it(times: list[float], scale: int, jitter_s: float, seed: int) -> None:
    made = replicate(recorded(times), scale, jitter_s, seed, 0.0, END_S)
    assert len(made) == len(times) * scale
    assert (np.diff(made.arrived_s) >= 0).all()
    record = recorded(times).arrived_s[made.work_s.astype(int) - 1]
    assert (np.abs(made.arrived_s - record) <= jitter_s + 1e-6).all()
    assert (made.arrived_s >= 0).all()
    assert np.array_equal(np.bincount(made.work_s.astype(int))[1:], np.full(len(times), scale))
    assert np.array_equal(made.tier, (made.work_s.astype(int) - 1) % 3)


def test_only_records_of_the_window_are_copied_and_none_comes_before_it() -> None:
    made = replicate(recorded([50.0, 100.0, 199.0, 200.0]), 50, 300.0, 1, 100.0, 200.0)
    assert set(made.work_s.tolist()) == {2.0, 3.0}
    assert made.arrived_s.min() >= 100.0
    # What is jittered past the end still comes: the window is of records.
    assert made.arrived_s.max() > 200.0


def test_no_jitter_and_one_copy_is_the_record() -> None:
    made = replicate(recorded([10.0, 20.0]), 1, 0.0, 5, 0.0, 100.0)
    assert made.arrived_s.tolist() == [10.0, 20.0]


def test_another_seed_is_another_day_of_the_same_demand() -> None:
    times = list(np.linspace(0, DAY_S, 200))
    one, again, other = (replicate(recorded(times), 5, 300.0, seed, 0.0, DAY_S * 2) for seed in (1, 1, 2))
    assert np.array_equal(one.arrived_s, again.arrived_s)
    assert not np.array_equal(one.arrived_s, other.arrived_s)


def test_jitter_is_uniform() -> None:
    made = uniform(3, np.arange(20_000), np.arange(20_000) % 20)
    assert made.min() >= 0
    assert made.max() < 1
    # Kolmogorov–Smirnov at 1 in 1000: 1.95 / √n.
    gap = np.abs(np.sort(made) - (np.arange(20_000) + 0.5) / 20_000).max()
    assert gap < 1.95 / np.sqrt(20_000)
    rows = made.reshape(-1, 20)
    assert abs(np.corrcoef(rows[:-1, 0], rows[1:, 0])[0, 1]) < 4 / np.sqrt(len(rows))


@settings(max_examples=60)
@given(times_of_trace, st.lists(st.floats(0, 40 * DAY_S), min_size=1, max_size=6))
def test_windows_join_without_loss_or_double(times: list[float], cuts: list[float]) -> None:
    source = feed(times)
    edges = [0.0, *sorted(cuts), 40 * DAY_S]
    whole = source.between(0.0, 40 * DAY_S)
    parts = []
    for low, high in pairwise(edges):
        parts.append(source.between(low, high))
        assert ((parts[-1].arrived_s >= low) & (parts[-1].arrived_s < high)).all()
    columns = ([getattr(part, name) for part in parts] for name in ("arrived_s", "work_s", "tier"))
    assert same(Arrivals(*map(np.concatenate, columns)), whole)


def test_when_the_trace_ends_its_last_week_repeats_on_later_dates() -> None:
    first_week, second_week = [2 * DAY_S + 7.0], [7 * DAY_S + 400.0, 9 * DAY_S, 14 * DAY_S - 400.0]
    source = feed([*first_week, *second_week], scale=4)
    assert [source.repeats(at) for at in (0.0, END_S, END_S + 1, END_S + WEEK_S, END_S + WEEK_S + 1)] == [0, 0, 1, 1, 2]
    for repeat in (1, 2, 5):
        begins_s = END_S + (repeat - 1) * WEEK_S
        made = source.between(begins_s, begins_s + WEEK_S)
        assert sorted(made.work_s.tolist()) == [2.0] * 4 + [3.0] * 4 + [4.0] * 4
        record = np.array([0, *second_week])[made.work_s.astype(int) - 1] + repeat * WEEK_S
        assert (np.abs(made.arrived_s - record) <= 300.0).all()
        # Same weekday and hour, not the same second.
        assert not np.array_equal(made.arrived_s - repeat * WEEK_S, source.between(7 * DAY_S, END_S).arrived_s)


def test_copies_that_are_jittered_past_the_end_come_too() -> None:
    source = feed([END_S - 1.0], scale=40)
    assert len(source.between(0.0, END_S)) + len(source.between(END_S, END_S + 301.0)) == 40


def test_other_tiers_keep_the_same_requests() -> None:
    source = feed([100.0, 5000.0, 9000.0])
    before = source.between(0.0, DAY_S)
    moved = Recorded(recorded([100.0, 5000.0, 9000.0]).arrived_s, np.array([1.0, 2.0, 3.0]), np.zeros(3, np.int64))
    after = source.with_recorded(moved).between(0.0, DAY_S)
    assert np.array_equal(before.arrived_s, after.arrived_s)
    assert set(after.tier.tolist()) == {0}


@pytest.mark.parametrize("factor", [2.0, 4.0])
def test_a_surge_adds_requests_of_the_last_week_inside_its_minutes(factor: float) -> None:
    source = feed(list(np.linspace(0, END_S - 1, 20_000)), scale=2)
    extra = source.surge(1, factor, 1000.0, 4600.0)
    twice = source.surge(1, 1 + 2 * (factor - 1), 1000.0, 4600.0)
    assert len(extra) > 0
    assert abs(len(twice) - 2 * len(extra)) <= 1
    assert (extra.arrived_s >= 1000.0).all()
    assert (extra.arrived_s < 4600.0).all()
    assert extra.work_s.min() > 10_000 - 1
    assert np.array_equal(source.surge(1, factor, 1000.0, 4600.0).arrived_s, extra.arrived_s)
    assert not np.array_equal(source.surge(2, factor, 1000.0, 4600.0).arrived_s, extra.arrived_s)
    assert len(source.surge(3, 1.0, 1000.0, 4600.0)) == 0
