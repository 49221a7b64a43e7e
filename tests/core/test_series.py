"""Laws of regular series: a gap is never a zero, a mean is a mean of what is known, sums are honest about gaps."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.series import (
    DAY_S,
    clip,
    cumulative,
    filled,
    hour_of_day,
    is_weekend,
    load_series,
    resample,
    sanitise,
    times_s,
    total,
    until,
    weekday,
)
from controller.core.types import Sample, Series

NAN = float("nan")


def sample(minute_s: float, work_s: float, tier: str = "premium") -> Sample:
    return Sample("images", tier, minute_s, 1, work_s, 0, None, None, None)


def series(*values: float, start_s: float = 0.0, step_s: float = 60.0) -> Series:
    return Series(start_s, step_s, np.array(values, dtype=np.float64))


def test_offered_load_is_the_work_that_arrived_per_second() -> None:
    loads = load_series([sample(0, 120), sample(120, 30)], 0, 240, tiers=("premium", "standard"))
    np.testing.assert_array_equal(loads["premium"].values, [2.0, NAN, 0.5, NAN])
    assert np.isnan(loads["standard"].values).all()


def test_samples_may_come_out_of_order_twice_and_from_outside_the_window() -> None:
    late_word = [sample(60, 60), sample(0, 6), sample(60, 120), sample(-60, 999), sample(600, 999)]
    np.testing.assert_array_equal(load_series(late_word, 0, 120)["premium"].values, [0.1, 2.0])


def test_absurd_samples_are_unknown_not_zero() -> None:
    loads = load_series([sample(0, -5), sample(60, float("inf")), sample(120, 60)], 0, 180)
    np.testing.assert_array_equal(loads["premium"].values, [NAN, NAN, 1.0])


def test_a_window_starts_at_the_next_whole_step() -> None:
    assert load_series([], 30, 200, tiers=["premium"])["premium"].start_s == 60
    with pytest.raises(ValueError, match="positive"):
        load_series([], 0, 60, step_s=0)


def test_resampling_takes_the_mean_of_what_is_known_and_drops_the_unfinished_step() -> None:
    ten = [1.0] * 5 + [NAN] * 5 + [NAN] * 10 + [3.0] * 10 + [9.0] * 4
    coarse = resample(series(*ten), 600)
    np.testing.assert_array_equal(coarse.values, [1.0, NAN, 3.0])
    assert coarse.step_s == 600


def test_resampling_aligns_to_the_epoch() -> None:
    coarse = resample(series(*[2.0] * 12, start_s=480), 600)
    assert coarse.start_s == 0
    np.testing.assert_array_equal(coarse.values, [2.0, 2.0])


def test_resampling_to_what_is_no_multiple_is_refused() -> None:
    with pytest.raises(ValueError, match="not a multiple"):
        resample(series(1.0, 2.0), 90)


@given(st.lists(st.floats(0, 1e6), min_size=20, max_size=60))
def test_resampling_keeps_the_work(values: list[float]) -> None:
    whole = values[: len(values) // 10 * 10]
    coarse = resample(series(*whole), 600)
    assert float(coarse.values.sum() * 600) == pytest.approx(sum(whole) * 60)


def test_clipping_keeps_whole_steps_only() -> None:
    cut = clip(series(0, 1, 2, 3, 4), 61, 239)
    np.testing.assert_array_equal(cut.values, [2.0])
    assert (cut.start_s, cut.end_s) == (120, 180)
    assert len(clip(series(0, 1), 1e9).values) == 0


def test_what_is_known_at_a_time_ends_there_with_gaps_where_nothing_came() -> None:
    np.testing.assert_array_equal(until(series(1, 2, 3), 120).values, [1, 2])
    np.testing.assert_array_equal(until(series(1, 2), 240).values, [1, 2, NAN, NAN])


def test_a_short_gap_is_bridged_and_a_long_one_repeats_the_day_before() -> None:
    hour = 3600.0
    day = np.arange(24, dtype=np.float64)
    values = np.concatenate([day, day, day])
    values[30:40] = NAN
    values[50] = NAN
    full = filled(Series(0, hour, values), short_s=hour)
    np.testing.assert_array_equal(full.values[30:40], [day[5], *day[7:16]])
    assert full.values[50] == day[1]


@given(st.lists(st.one_of(st.just(NAN), st.floats(0.0, 9.0)), min_size=1, max_size=120), st.integers(0, 120))
def test_a_gap_is_filled_by_what_was_known_before_it(values: list[float], cut: int) -> None:
    """The filling of a beginning is the beginning of the filling: what comes later changes nothing, were it a gap."""
    steps = [NAN if value < 3.0 else value for value in values]
    whole = filled(series(*steps, step_s=7200.0), short_s=3 * 3600.0).values
    first = next((i for i, value in enumerate(steps) if value == value), len(steps))
    part = filled(series(*steps[:cut], step_s=7200.0), short_s=3 * 3600.0).values
    np.testing.assert_array_equal(part[first:], whole[first:cut])


def test_filling_leaves_no_gap_unless_nothing_is_known() -> None:
    assert np.isfinite(filled(series(*[NAN] * 50, 7.0, *[NAN] * 50)).values).all()
    assert np.isnan(filled(series(NAN, NAN)).values).all()


def test_sanitising_leaves_good_values_alone() -> None:
    good = series(0.0, 1.0)
    assert sanitise(good) is good


def test_a_sum_is_unknown_where_a_part_is_and_covers_what_all_cover() -> None:
    summed = total([series(1, 2, 3), series(10, NAN, 30, start_s=60)])
    assert summed.start_s == 60
    np.testing.assert_array_equal(summed.values, [12.0, NAN])
    with pytest.raises(ValueError, match="no series"):
        total([])
    with pytest.raises(ValueError, match="same steps"):
        total([series(1), series(1, step_s=600)])


def test_cumulative_sums_follow_priority_under_joined_names() -> None:
    loads = {"background": series(4), "premium": series(1), "standard": series(2)}
    sums = cumulative(loads, ["premium", "standard", "background"])
    assert {name: part.values[0] for name, part in sums.items()} == {
        "premium": 1,
        "premium+standard": 3,
        "premium+standard+background": 7,
    }


@given(st.integers(0, 4_000_000_000))
def test_the_calendar_agrees_with_the_real_one(second: int) -> None:
    when = datetime.fromtimestamp(second, UTC)
    at_s = np.array([float(second)])
    assert weekday(at_s)[0] == when.weekday()
    assert is_weekend(at_s)[0] == (when.weekday() >= 5)
    assert hour_of_day(at_s)[0] == pytest.approx(when.hour + when.minute / 60 + when.second / 3600)


def test_times_are_the_starts_of_steps() -> None:
    np.testing.assert_array_equal(times_s(series(1, 2, start_s=DAY_S)), [DAY_S, DAY_S + 60])
