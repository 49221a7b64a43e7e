"""The log of what tenants do: tiers joined, gaps marked, views that stay as they were read."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.activity import BIN_S, CHANNELS, ActivityLog
from controller.core.types import Activity, FloatArray

T0 = 1_732_492_800.0
TIERS = 3


def drawn(bins: int, seed: int = 1) -> FloatArray:
    """Bins by tier, as a meter gives them: shape (channels, tiers, bins)."""
    return np.random.default_rng(seed).poisson(3.0, (CHANNELS, TIERS, bins)) / BIN_S


def read(log: ActivityLog) -> Activity:
    found = log.read()
    assert found is not None
    return found


def bins_of(activity: Activity) -> FloatArray:
    """Each bin of each tier alone, out of the sums of joined ones."""
    return np.diff(np.diff(activity.sums, axis=2), axis=1, prepend=0.0)


def test_of_nothing_measured_nothing_is_read() -> None:
    log = ActivityLog(TIERS)
    assert log.read() is None
    assert log.end_s is None


def test_tiers_are_joined_from_the_first_down() -> None:
    log = ActivityLog(TIERS)
    values = np.zeros((CHANNELS, TIERS, 2))
    values[0, :, 0], values[0, :, 1] = (1.0, 2.0, 4.0), (0.0, 1.0, 0.0)
    log.add(T0, values)
    activity = read(log)
    assert activity.sums[0].tolist() == [[0.0, 1.0, 1.0], [0.0, 3.0, 4.0], [0.0, 7.0, 8.0]]
    assert (activity.start_s, activity.step_s, activity.bins, activity.end_s) == (T0, BIN_S, 2, T0 + 2 * BIN_S)
    assert activity.known.all()


cuts = st.lists(st.integers(0, 60), max_size=6).map(lambda found: sorted({0, 60, *found}))


@settings(max_examples=40)
@given(cuts, st.integers(0, 5))
def test_it_does_not_matter_in_how_many_parts_it_is_told_nor_what_is_told_twice(edges: list[int], again: int) -> None:
    values, log = drawn(60), ActivityLog(TIERS)
    for low, high in pairwise(edges):
        from_bin = max(0, low - again)
        log.add(T0 + BIN_S * from_bin, values[:, :, from_bin:high])
    activity = read(log)
    assert activity.bins == 60
    assert bins_of(activity) == pytest.approx(values)


def test_a_gap_repeats_the_newest_and_is_marked_unknown() -> None:
    values, log = drawn(5), ActivityLog(TIERS)
    log.add(T0, values)
    log.add(T0 + 9 * BIN_S, drawn(2, seed=2))
    activity = read(log)
    assert activity.known.tolist() == [True] * 5 + [False] * 4 + [True] * 2
    found = bins_of(activity)
    assert found[:, :, 5:9] == pytest.approx(np.repeat(values[:, :, 4:5], 4, axis=2))
    assert found[:, :, 9:] == pytest.approx(drawn(2, seed=2))


def test_bins_told_as_unknown_stay_unknown() -> None:
    log = ActivityLog(TIERS)
    log.add(T0, drawn(4), [True, False, False, True])
    log.add(T0 + 2 * BIN_S, drawn(4), [True, True, False, True])
    assert read(log).known.tolist() == [True, False, False, True, False, True]


def test_what_was_read_does_not_change_when_more_is_added() -> None:
    log = ActivityLog(TIERS, keep_bins=6000)
    log.add(T0, drawn(10))
    before = read(log)
    sums, known = before.sums.copy(), before.known.copy()
    for part in range(40):  # past where it grows and drops
        log.add(T0 + BIN_S * (10 + 1000 * part), drawn(1000, seed=part))
        assert np.array_equal(before.sums, sums)
        assert np.array_equal(before.known, known)
    assert read(log).end_s == T0 + BIN_S * 40_010 == log.end_s


def test_growing_and_dropping_keep_the_newest_and_their_sums() -> None:
    keep, parts = 6000, 60
    log, told = ActivityLog(TIERS, keep_bins=keep), [drawn(1000, seed=part) for part in range(parts)]
    for part, values in enumerate(told):
        log.add(T0 + BIN_S * 1000 * part, values, np.arange(1000) % 7 != part % 7)
    activity = read(log)
    assert activity.end_s == T0 + BIN_S * 1000 * parts
    assert keep <= activity.bins < 1000 * parts
    assert bins_of(activity) == pytest.approx(np.concatenate(told, axis=2)[:, :, -activity.bins :], abs=1e-9)
    known = np.concatenate([np.arange(1000) % 7 != part % 7 for part in range(parts)])
    assert np.array_equal(activity.known, known[-activity.bins :])
    assert not activity.sums[:, :, 0].any()
