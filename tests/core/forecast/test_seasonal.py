"""The rhythm of days: yesterday, the profile of the day type, and that of the weekday."""

import numpy as np
import pytest

from controller.core.forecast.base import Fitted, model_named
from controller.core.forecast.seasonal import PROFILE, expected_profile, expected_weekday
from controller.core.series import DAY_S, HOUR_S, clip, resample
from controller.core.types import Series
from tests.core.forecast.demands import MONDAY_S, busy, demand, with_tuesday_peak

TUESDAY_S = MONDAY_S + 29 * DAY_S
PEAK_S = TUESDAY_S + 9 * HOUR_S


@pytest.fixture(scope="module")
def history() -> Series:
    return demand(16)


def test_seasonal_naive_has_yesterday_for_its_median(history: Series) -> None:
    model = model_named("seasonal_naive_24h")
    found = model.predict(model.fit(history, 60), history, history.end_s, 60)
    yesterday = history.values[-1440:-1380]
    np.testing.assert_allclose(found[0], np.minimum(yesterday, found[1]))


def test_the_band_is_wider_where_the_load_is_higher(history: Series) -> None:
    coarse = resample(history, 600.0)
    found = PROFILE.predict(PROFILE.fit(coarse, 144), coarse, history.end_s, 144)
    width = found[4] - found[0]
    assert width[found[0].argmax()] > 3 * width[found[0] < 0.1].mean()


def test_a_burst_now_raises_the_next_minutes_more_than_the_next_hour(history: Series) -> None:
    fitted = PROFILE.fit(history, 60)
    at_noon = clip(history, end_s=history.end_s - 12 * 3600)
    values = at_noon.values.copy()
    values[-5:] += 20.0
    calm = PROFILE.predict(fitted, at_noon, at_noon.end_s, 60)
    burst = PROFILE.predict(fitted, Series(at_noon.start_s, 60.0, values), at_noon.end_s, 60)
    assert (burst >= calm - 1e-9).all()
    assert burst[0, 0] - calm[0, 0] > burst[0, 59] - calm[0, 59]


def test_a_profile_knows_weekends_and_only_days_before() -> None:
    series = demand(14)
    expected = expected_profile(series).reshape(-1, 1440)
    assert np.isnan(expected[0]).all()
    saturday, friday = expected[12], expected[11]  # of the second week
    assert np.nansum(saturday) < 0.85 * np.nansum(friday)
    changed = series.values.copy()
    changed[10 * 1440 :] = 99.0
    other = expected_profile(Series(series.start_s, 60.0, changed)).reshape(-1, 1440)
    np.testing.assert_array_equal(expected[:10], other[:10])


def test_a_weekday_is_expected_from_the_same_weekdays_before_it_alone() -> None:
    series = resample(with_tuesday_peak(28), 3600.0)
    by_type = expected_profile(series)
    expected = expected_weekday(series, by_type).reshape(-1, 24)
    tuesday, thursday = expected[22], expected[24]
    assert tuesday[10] > 3 * thursday[10]
    np.testing.assert_allclose(tuesday[14], thursday[14], rtol=0.05)
    np.testing.assert_array_equal(expected[1:7], by_type.reshape(-1, 24)[1:7])
    changed = series.values.copy()
    changed[15 * 24 :] = 99.0
    late = Series(series.start_s, 3600.0, changed)
    other = expected_weekday(late, expected_profile(late)).reshape(-1, 24)
    np.testing.assert_array_equal(expected[:15], other[:15])


def _at(fitted: Fitted, series: Series, made_s: float, at_s: float, steps: int) -> float:
    """The median at one time, of a forecast made at another."""
    path = model_named(fitted.model).predict(fitted, clip(series, end_s=made_s), made_s, steps)[0]
    return float(path[round((at_s - made_s) / series.step_s)])


@pytest.mark.parametrize(("step_s", "steps"), [(600.0, 144), (3600.0, 24)])
def test_a_tuesday_peak_is_seen_two_hours_and_a_day_ahead(step_s: float, steps: int) -> None:
    series = resample(with_tuesday_peak(31), step_s)
    fitted = model_named("weekly_profile").fit(clip(series, end_s=TUESDAY_S - DAY_S), steps)
    inside_s = PEAK_S + HOUR_S
    actual = float(series.values[round((inside_s - series.start_s) / step_s)])
    quiet = float(series.values[round((inside_s + DAY_S - series.start_s) / step_s)])
    assert actual > 4 * quiet
    for hours_ahead in (2, 23):
        median = _at(fitted, series, inside_s - hours_ahead * HOUR_S, inside_s, steps)
        assert 0.75 * actual < median < 1.25 * actual
    wednesday = _at(fitted, series, inside_s + DAY_S - 2 * HOUR_S, inside_s + DAY_S, steps)
    assert wednesday < 1.6 * quiet


def test_the_minute_grid_sees_the_peak_before_it_begins() -> None:
    series = with_tuesday_peak(31)
    fitted = model_named("weekly_profile").fit(clip(series, end_s=TUESDAY_S), 60)
    made_s = PEAK_S - 1800.0
    path = model_named("weekly_profile").predict(fitted, clip(series, end_s=made_s), made_s, 60)[0]
    assert path[55] > 2.5 * path[0]


def test_a_rhythm_that_shifts_by_an_hour_is_learned_again_within_days() -> None:
    """Clocks of local time change while the calendar is UTC: the old hour is expected first, a week on the new one."""
    before, after = busy(14), busy(22, shift_s=HOUR_S)
    values = np.concatenate([before.values, after.values[14 * 1440 :]])
    expected = expected_profile(resample(Series(before.start_s, 60.0, values), 600.0)).reshape(-1, 144)
    actual = resample(after, 600.0).values.reshape(-1, 144)
    missed = np.abs(expected[:22] - actual).sum(axis=1) / actual.sum(axis=1)
    assert missed[14] > 0.08
    assert missed[21] < 0.03
