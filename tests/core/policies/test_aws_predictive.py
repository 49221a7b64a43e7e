"""AWS predictive scaling as timelines: the hourly floor and when it is raised, and target tracking above it."""

import numpy as np
import pytest

from controller.core.policies.aws_predictive import AwsPredictive, hourly_forecast
from controller.core.types import Series
from models.enums import Limit
from tests.core.observed import NOW, replica
from tests.core.policies.timeline import Timeline, measured, pods

HOUR = 3600.0


def daily(days: float, end_s: float = NOW) -> Series:
    """7 erlangs, and 14 from 11:00 to 12:00 UTC each day. NOW is 10:00."""
    start_s = end_s - 60.0 * round(days * 1440)
    minute_s = start_s + 60.0 * np.arange(round(days * 1440))
    return Series(start_s, 60.0, np.where((minute_s % 86400) // HOUR == 11, 14.0, 7.0))


def desired(timeline: Timeline, history: Series) -> int:
    plan = timeline.tick(0, load=measured(history.values.tolist(), history.end_s))
    timeline.replicas = pods(plan.desired)
    return plan.desired


def test_the_forecast_repeats_the_day() -> None:
    start_s, loads = hourly_forecast(daily(5), NOW + 1200, 48, 14)
    assert start_s == NOW
    assert loads == pytest.approx([14.0 if (10 + h) % 24 == 11 else 7.0 for h in range(48)])


def test_a_forecast_needs_a_day_and_looks_at_two_weeks() -> None:
    assert len(hourly_forecast(daily(23 / 24), NOW, 48, 14)[1]) == 0
    assert len(hourly_forecast(None, NOW, 48, 14)[1]) == 0
    assert len(hourly_forecast(daily(1), NOW, 48, 14)[1]) == 48
    old = daily(30)
    old.values[: 16 * 1440] = 1000.0
    assert hourly_forecast(old, NOW, 48, 14)[1].max() == pytest.approx(14.0)


def test_an_hour_s_floor_is_raised_five_minutes_before_it_and_never_scales_in() -> None:
    """The machine is twice as fast: 7 / 0.7 / 2 = 5 replicas, and 10 for 11:00."""
    timeline = Timeline(AwsPredictive(), 15.0, pods(1))
    history = daily(5)
    wanted = [desired(timeline, history) for _ in range(4 * 130)]
    minute = {n: wanted[4 * n] for n in range(130)}
    assert [minute[n] for n in (0, 30, 54)] == [5, 5, 5]
    assert [minute[n] for n in (55, 60, 64)] == [10, 10, 10]
    # Idle: what scales in is target tracking, down to the floor and no further.
    assert min(wanted) == 5


def test_the_forecast_is_renewed_every_six_hours() -> None:
    timeline = Timeline(AwsPredictive(), HOUR, pods(5))
    assert desired(timeline, daily(5)) == 5  # at 10:00
    grown = Series(NOW - 5 * 86400, 60.0, daily(5).values * 3)
    floors = [timeline.tick(0, load=measured(grown.values.tolist(), NOW)).bound.numbers["floor"] for _ in range(6)]
    assert floors == [10, 5, 5, 5, 5, 15]


def test_three_minutes_over_the_target_scale_out_in_proportion() -> None:
    timeline = Timeline(AwsPredictive(), 15.0, pods(10))
    counts = [timeline.tick(14, load={}).desired for _ in range(13)]
    assert counts == [10] * 12 + [20]


def test_those_that_come_are_not_asked_for_again() -> None:
    timeline = Timeline(AwsPredictive(), 15.0, pods(10))
    [timeline.tick(14, load={}) for _ in range(13)]
    timeline.replicas = pods(10, 10)
    assert [timeline.tick(14, load={}).desired for _ in range(8)] == [20] * 8


def test_fifteen_quiet_minutes_scale_in_unless_something_comes() -> None:
    timeline = Timeline(AwsPredictive(), 15.0, pods(10))
    assert [timeline.tick(3, load={}).desired for _ in range(61)] == [10] * 60 + [5]
    busy = Timeline(AwsPredictive(), 15.0, pods(10, 1))
    assert {busy.tick(3, load={}).desired for _ in range(70)} == {11}


def test_between_nine_tenths_and_the_target_nothing_happens() -> None:
    timeline = Timeline(AwsPredictive(), 15.0, pods(20))
    assert {timeline.tick(13, load={}).desired for _ in range(100)} == {20}


def test_the_maximum_is_honoured_and_silence_holds() -> None:
    timeline = Timeline(AwsPredictive(ceiling=4), 15.0, (replica(1),))
    history = daily(5)
    assert desired(timeline, history) == 4
    plan = timeline.tick(0, telemetry_s=NOW - HOUR)
    assert (plan.actions, plan.bound.limit) == ((), Limit.STALE_TELEMETRY)
