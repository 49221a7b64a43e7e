"""A season is that of the days before an origin, never of those after it."""

import numpy as np

from controller.core.forecast.base import Fitted
from controller.core.forecast.decomposition import STL_ETS, season_before
from controller.core.series import DAY_S, clip, resample
from controller.core.types import Series
from tests.core.forecast.demands import MONDAY_S, busy, with_tuesday_peak


def test_a_past_origin_has_not_seen_the_days_after_it() -> None:
    """Changed days change no season estimated before them; the weights of the smoothing are the only thing shared."""
    series = resample(busy(10), 600.0)
    changed = series.values.copy()
    changed[7 * 144 :] = changed[7 * 144 :][::-1] * 3
    seasons = STL_ETS.learn(series, 144)[0]["seasons"]
    other = STL_ETS.learn(Series(series.start_s, 600.0, changed), 144)[0]["seasons"]
    np.testing.assert_array_equal(seasons[:6], other[:6])  # of midnights 2 … 7
    assert np.abs(seasons[-1] - other[-1]).max() > 1


def test_the_season_stands_at_its_own_hour_whatever_the_start() -> None:
    whole = resample(busy(10), 600.0)
    late = clip(whole, MONDAY_S + 5 * 3600.0)
    for series in (whole, late):
        phase = round(series.start_s / 600.0)
        season = season_before(series.values, len(series.values) - 30, phase, 144, 144)
        assert abs(int(season.argmax()) - 72) < 9 and season.argmin() % 135 < 9


def test_a_weekly_season_is_learned_from_three_weeks() -> None:
    series = resample(with_tuesday_peak(29), 3600.0)  # to Monday's end
    fitted = STL_ETS.fit(series, 24)
    path = STL_ETS.predict(fitted, series, series.end_s, 24)[0]
    usual = clip(series, series.end_s - DAY_S).values  # Monday
    assert path[9] > 2 * usual[9] and path[14] < 1.3 * usual[14]


def test_what_is_left_over_is_smoothed_on_after_the_fit() -> None:
    """A level that rises for good after the fit is believed within hours."""
    series = resample(busy(10), 600.0)
    values = series.values.copy()
    values[8 * 144 :] += 20.0
    risen = Series(series.start_s, 600.0, values)
    known = clip(risen, end_s=MONDAY_S + 8 * DAY_S)
    arrays, numbers = STL_ETS.kept(*STL_ETS.learn(known, 144), 600.0)
    fitted = Fitted("stl_ets", 600.0, 144, known.end_s, np.empty((0, 0, 0)), arrays, numbers)
    path = STL_ETS.features(fitted, risen, np.array([8 * 144, 9 * 144]), np.arange(144))[:, :, 1]
    assert abs(path[1].mean() - values[9 * 144 :].mean()) < 3.0
    assert abs(path[0].mean() - values[9 * 144 :].mean()) > 15.0
