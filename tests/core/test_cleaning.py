"""What can't be true is unknown or bounded; what may be true stays as it is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from controller.core.cleaning import SPIKE, bounded, ceiling_of, cleaned, without_outages, without_spikes
from controller.core.types import Series

DAY = 1440
NAN = float("nan")


def days(count: int, silent_nights: bool = False) -> Series:
    values = np.tile(5.0 + 3.0 * np.sin(np.arange(DAY) / DAY * 2 * np.pi), count)
    if silent_nights:
        values[np.arange(len(values)) % DAY < 300] = 0.0
    return Series(0.0, 60.0, values)


def silent(series: Series, first: int, minutes: int) -> Series:
    values = series.values.copy()
    values[first : first + minutes] = 0.0
    return Series(series.start_s, series.step_s, values)


@pytest.mark.parametrize("minutes", [10, 45, 360])
@pytest.mark.parametrize("day", [0, 3, 6])
def test_a_silence_where_other_days_are_busy_is_an_outage(minutes: int, day: int) -> None:
    first = day * DAY + 700
    found = without_outages(silent(days(7), first, minutes)).values
    assert np.isnan(found[first : first + minutes]).all()
    assert np.isfinite(np.delete(found, np.arange(first, first + minutes))).all()


def test_the_outage_that_goes_on_is_unknown_too() -> None:
    series = silent(days(7), 7 * DAY - 30, 30)
    assert np.isnan(without_outages(series).values[-30:]).all()


@pytest.mark.parametrize("minutes", [1, 9, 361, 1440])
def test_a_moment_without_work_and_a_silence_of_many_hours_are_believed(minutes: int) -> None:
    series = silent(days(7), 3 * DAY + 700, minutes)
    assert without_outages(series) is series


def test_silent_nights_and_a_break_at_the_same_hour_are_believed() -> None:
    nights = days(7, silent_nights=True)
    assert without_outages(nights) is nights
    lunch = days(7)
    for day in range(7):
        lunch = silent(lunch, day * DAY + 720, 60)
    assert without_outages(lunch) is lunch


def test_two_days_are_no_evidence_and_nor_is_a_time_of_little_load() -> None:
    short = silent(days(3), 2 * DAY + 700, 60)
    assert without_outages(short) is short
    values = days(7).values.copy()
    values[np.arange(len(values)) % DAY < 400] = 0.01
    quiet = silent(Series(0.0, 60.0, values), 3 * DAY + 100, 60)
    assert without_outages(quiet) is quiet


def test_days_that_were_not_measured_are_no_evidence() -> None:
    values = silent(days(7), 3 * DAY + 700, 60).values.copy()
    values[: 3 * DAY] = NAN
    values[5 * DAY :] = NAN
    series = Series(0.0, 60.0, values)
    assert without_outages(series) is series


def test_a_coarse_step_without_work_is_judged_alike() -> None:
    coarse = Series(0.0, 3600.0, days(7).values.reshape(-1, 60).mean(axis=1))
    values = coarse.values.copy()
    values[3 * 24 + 12] = 0.0
    found = without_outages(Series(0.0, 3600.0, values)).values
    assert np.flatnonzero(np.isnan(found)).tolist() == [3 * 24 + 12]


def test_a_spike_is_lowered_and_a_surge_is_not() -> None:
    values = days(7).values.copy()
    values[5000] = 1e9
    values[7000:7030] = 40.0  # fivefold, for half an hour
    found = without_spikes(Series(0.0, 60.0, values)).values
    assert found[5000] == SPIKE * 40.0
    np.testing.assert_array_equal(np.delete(found, 5000), np.delete(values, 5000))


def test_two_spikes_do_not_excuse_each_other() -> None:
    values = np.full(100, 2.0)
    values[[3, 70]] = 1e9
    assert ceiling_of(values) == 2.0 * SPIKE


def test_a_seldom_used_service_keeps_its_jobs_and_little_evidence_bounds_nothing() -> None:
    values = np.zeros(5000)
    values[[100, 900, 2500, 4000]] = [2.0, 3.0, 2.0, 5.0]
    series = Series(0.0, 60.0, values)
    assert without_spikes(series) is series
    assert ceiling_of(np.array([0.0, 1e9, NAN])) == np.inf
    assert ceiling_of(np.empty(0)) == np.inf


def test_bounding_leaves_unknown_unknown() -> None:
    np.testing.assert_array_equal(bounded(Series(0, 60.0, np.array([1.0, NAN, 9.0])), 4.0).values, [1.0, NAN, 4.0])


def test_the_clean_is_left_alone() -> None:
    series = days(7)
    assert cleaned(series) is series


ANY = arrays.arrays(np.float64, st.integers(0, 60), elements=st.floats(allow_nan=True, allow_infinity=True, width=64))


@given(ANY, st.sampled_from([60.0, 600.0, 3600.0]))
def test_whatever_comes_in_nothing_absurd_comes_out(values: np.ndarray, step_s: float) -> None:
    found = cleaned(Series(0.0, step_s, values)).values
    known = found[np.isfinite(found)]
    assert len(found) == len(values) and not np.isinf(found).any()
    assert (known >= 0).all()
    assert (known <= np.where(np.isfinite(values), np.abs(values), 0.0).max(initial=0.0)).all()
