"""Models of the daily rhythm: the same hour yesterday, the same hour last week, and a profile × level
by day type or by weekday."""

from typing import Final

import numpy as np

from controller.core.forecast.base import Fitted, IntArray, day_steps
from controller.core.forecast.paths import Parameters, PathModel, mean_before, running_sum
from controller.core.series import DAY_S, WEEK_S, is_weekend
from controller.core.types import FloatArray, Series

SMOOTH_S: Final = 3600.0
OTHER_DAY_TYPE: Final = 0.1
"""Weight of a weekday in a weekend's profile and the reverse: two weeks of history hold too few weekends alone."""
DAY_HALF_LIFE: Final = 3.0
AHEAD_DAYS: Final = 3
WEEKDAY_HALF_LIFE: Final = 28.0
PRIOR_DAYS: Final = 0.5


class SeasonalNaive(PathModel):
    """What was one season ago, as it was; the band is learned."""

    point_feature = 1

    def __init__(self, name: str, season_s: float, description: str) -> None:
        self.name, self.season_s, self.description = name, season_s, description
        self.reach_s = season_s
        self.warm_up_s = season_s

    def features(self, fitted: Fitted, series: Series, origins: IntArray, ahead: IntArray) -> FloatArray:
        season = round(self.season_s / series.step_s)
        index = origins[:, None] + ahead[None, :] - season
        out = np.ones((len(origins), len(ahead), 2))
        out[:, :, 1] = np.where(index >= 0, series.values[np.maximum(index, 0)], np.nan)
        return out


class Profile(PathModel):
    """What just happened (means of the last 1 to 240 minutes) and the day-type profile × the last day's level, each
    weighed anew for every step ahead: minutes ahead the last minutes rule, hours ahead the profile does."""

    name = "profile"
    description = "weekday and weekend profile × recent level, shrunk from the last minutes' load by horizon"
    reach_s = DAY_S
    warm_up_s = DAY_S

    def learn(self, history: Series, steps: int) -> Parameters:
        """The profile expected at each step of history and three days past it, from the days before each alone, so
        that the features of past origins are honest."""
        return {"profile": expected_profile(history)}, {"profile_start_s": history.start_s}

    def kept(self, arrays: dict[str, FloatArray], numbers: dict[str, float], step_s: float) -> Parameters:
        """The last day, by which the level is measured, and the days to come."""
        days = (AHEAD_DAYS + 2) * day_steps(step_s)
        cut = max(0, len(arrays["profile"]) - days)
        return {name: array[cut:] for name, array in arrays.items()}, {
            "profile_start_s": numbers["profile_start_s"] + cut * step_s
        }

    def features(self, fitted: Fitted, series: Series, origins: IntArray, ahead: IntArray) -> FloatArray:
        step_s = series.step_s
        sums = running_sum(series.values)
        windows = [max(1, round(seconds / step_s)) for seconds in _windows(step_s)]
        out = np.ones((len(origins), len(ahead), len(windows) + 2))
        for i, width in enumerate(windows):
            out[:, :, i + 1] = mean_before(sums, origins, width)[:, None]
        out[:, :, -1] = self.expected(fitted, series, origins, ahead)
        return out

    def expected(
        self, fitted: Fitted, series: Series, origins: IntArray, ahead: IntArray, stored: str = "profile"
    ) -> FloatArray:
        """The stored profile × the level of the last day, shape (origins, ahead); the level where there is none."""
        day = day_steps(series.step_s)
        profile = _stored_profile(fitted, series, int(origins[-1]) + int(ahead[-1]) + 1, stored)
        known = np.where(np.isnan(profile), 0.0, profile)
        last_day = mean_before(running_sum(series.values), origins, day)
        calm = 0.05 * last_day + 1e-9
        ratio = (last_day + calm) / (mean_before(running_sum(known), origins, day) + calm)
        found = profile[origins[:, None] + ahead[None, :]] * np.minimum(np.maximum(ratio, 0.2), 5.0)[:, None]
        return np.where(np.isfinite(found), found, last_day[:, None])


class WeeklyProfile(Profile):
    """As Profile, with the profile of the same weekday beside that of the day type: a Tuesday's peak is Tuesday's."""

    name = "weekly_profile"
    description = "profile of the same weekday × recent level, beside the day-type profile"
    warm_up_s = 2 * WEEK_S

    def learn(self, history: Series, steps: int) -> Parameters:
        arrays, numbers = super().learn(history, steps)
        return {**arrays, "weekday": expected_weekday(history, arrays["profile"])}, numbers

    def features(self, fitted: Fitted, series: Series, origins: IntArray, ahead: IntArray) -> FloatArray:
        weekday = self.expected(fitted, series, origins, ahead, "weekday")
        return np.concatenate([super().features(fitted, series, origins, ahead), weekday[:, :, None]], axis=2)


def _windows(step_s: float) -> tuple[float, ...]:
    return (60.0, 300.0, 1200.0, 3600.0, 14400.0) if step_s < 600 else (600.0, 3600.0, 10800.0)


def _stored_profile(fitted: Fitted, series: Series, length: int, name: str) -> FloatArray:
    """A fitted profile on the indices of `series`; past its end its last day repeats, before its start it is NaN."""
    stored, day = fitted.arrays[name], day_steps(series.step_s)
    offset = round((series.start_s - fitted.numbers["profile_start_s"]) / series.step_s)
    if offset >= 0 and offset + length <= len(stored):
        return stored[offset : offset + length]
    index = np.arange(length) + offset
    late = index >= len(stored)
    index = np.where(late, len(stored) - day + (index - len(stored)) % day, index)
    return np.where(index >= 0, stored[np.maximum(index, 0)], np.nan)


def expected_profile(history: Series) -> FloatArray:
    """The load expected at each step of history and of the days after it, from the days before it alone.

    A day's weight halves every three days; a day of the other type (weekday, weekend) counts less. Smoothed over an
    hour. NaN where no earlier day is known.
    """
    past, lead, midnights_s = _by_days(history)
    weekend = is_weekend(midnights_s)
    out = np.full(past.shape, np.nan)
    for d in range(1, len(past)):
        weight = np.exp2(-(d - np.arange(d)) / DAY_HALF_LIFE)
        mean, mass = _weighted(past[:d], weight * np.where(weekend[:d] == weekend[d], 1.0, OTHER_DAY_TYPE))
        out[d] = np.where(mass > 0, mean, np.nan)
    return out.ravel()[lead:]


def expected_weekday(history: Series, day_type: FloatArray) -> FloatArray:
    """As `expected_profile`, from earlier days of the same weekday: their weight halves every four weeks, and what the
    day type lets expect (`day_type`, from `expected_profile`) counts as half a day more, for one Tuesday is no rule.
    Where no day of that weekday is known it is what the day type lets expect."""
    past, lead, _ = _by_days(history)
    prior = np.concatenate([np.full(lead, np.nan), day_type]).reshape(past.shape)
    out = prior.copy()
    for d in range(7, len(past)):
        same = np.arange(d - 7, -1, -7)
        mean, mass = _weighted(past[same], np.exp2(-(d - same) / WEEKDAY_HALF_LIFE))
        shrunk = (mass * mean + PRIOR_DAYS * prior[d]) / (mass + PRIOR_DAYS)
        out[d] = np.where(np.isfinite(prior[d]), shrunk, np.where(mass > 0, mean, np.nan))
    return out.ravel()[lead:]


def _by_days(history: Series) -> tuple[FloatArray, int, FloatArray]:
    """History smoothed over an hour as (days, steps of a day), with AHEAD_DAYS empty days after it; the steps before
    its start on the first day; and when each day begins, UTC."""
    step_s, day = history.step_s, day_steps(history.step_s)
    lead = round((history.start_s % DAY_S) / step_s)
    count = len(history.values)
    days = -(-(lead + count) // day) + AHEAD_DAYS
    grid = np.full(days * day, np.nan)
    grid[lead : lead + count] = smoothed(history.values, max(1, round(SMOOTH_S / step_s)))
    midnight_s = history.start_s - lead * step_s
    return grid.reshape(days, day), lead, midnight_s + DAY_S * np.arange(days, dtype=np.float64) + 1.0


def _weighted(days: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weighted mean of what is known at each step of the day, and the weight it rests on."""
    known = np.isfinite(days)
    mass = weight @ known
    return (weight @ np.where(known, days, 0.0)) / np.maximum(mass, 1e-12), mass


def smoothed(values: FloatArray, width: int) -> FloatArray:
    """Centred moving mean; at the ends over what there is. The last half-width of an origin a day away is seen through
    it, a leak of minutes at the far end of the day-ahead grid only."""
    sums = running_sum(values)
    index = np.arange(len(values))
    low, high = np.maximum(index - width // 2, 0), np.minimum(index + width // 2 + 1, len(values))
    return np.asarray((sums[high] - sums[low]) / (high - low), dtype=np.float64)


SEASONAL_NAIVE_24H = SeasonalNaive("seasonal_naive_24h", DAY_S, "the same minute yesterday")
SEASONAL_NAIVE_168H = SeasonalNaive("seasonal_naive_168h", WEEK_S, "the same minute last week")
PROFILE = Profile()
WEEKLY_PROFILE = WeeklyProfile()
