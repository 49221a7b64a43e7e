"""Events: what they did is taken out of history, what they will do is put on the forecast."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.forecast.events import (
    PRIOR_LOG_SD,
    Event,
    effects,
    expected_without,
    learned_effects,
    shares,
    with_events,
    without_events,
)
from controller.core.series import DAY_S, HOUR_S
from controller.core.types import QUANTILES, Series

MONDAY_S = 1_732_492_800.0  # 2024-11-25
HIGH = QUANTILES.index(0.9)


def rhythm(days: int) -> Series:
    at_s = MONDAY_S + HOUR_S * np.arange(days * 24)
    return Series(MONDAY_S, HOUR_S, 10.0 + 5.0 * np.sin(at_s % DAY_S / DAY_S * 2 * np.pi))


def day(number: int, kind: str = "campaign", factor: float | None = None) -> Event:
    return Event(f"day {number}", kind, MONDAY_S + number * DAY_S, MONDAY_S + (number + 1) * DAY_S, factor)


def during(series: Series, event: Event, factor: float) -> Series:
    share = shares(event, series.start_s, series.step_s, len(series.values))
    return Series(series.start_s, series.step_s, series.values * (1.0 + share * (factor - 1.0)))


def test_an_event_covers_a_part_of_a_step():
    event = Event("launch", "launch", MONDAY_S + 1.25 * HOUR_S, MONDAY_S + 3 * HOUR_S, 3.0)
    np.testing.assert_allclose(shares(event, MONDAY_S, HOUR_S, 5), [0, 0.75, 1, 0, 0])
    values, _ = with_events(np.ones((5, 5)), MONDAY_S, HOUR_S, [event], {})
    np.testing.assert_allclose(values[0], [1, 2.5, 3, 1, 1])


@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_a_known_factor_is_divided_out_of_history(factor: float):
    usual, event = rhythm(14), day(9, factor=factor)
    np.testing.assert_allclose(without_events(during(usual, event, factor), [event], {}).values, usual.values)


def test_an_unknown_event_is_unknown_history_until_its_kind_is_known():
    usual = rhythm(28)
    past = during(during(usual, day(8), 2.0), day(16), 2.0)
    hidden = without_events(past, [day(8)], {})
    assert np.isnan(hidden.values[8 * 24 : 9 * 24]).all()
    assert np.isfinite(hidden.values).sum() == 27 * 24
    learned = learned_effects(past, [day(8), day(16)])
    corrected = without_events(past, [day(8)], learned)
    assert np.isfinite(corrected.values).all()


def test_an_unknown_event_in_progress_is_left_to_the_load():
    usual = rhythm(10)
    under_way = Event("fair", "fair", MONDAY_S + 9.5 * DAY_S, MONDAY_S + 11 * DAY_S, None)
    assert without_events(usual, [under_way], {}) is usual
    values, words = with_events(np.ones((5, 24)), usual.end_s, HOUR_S, [under_way], {})
    assert (values == 1.0).all()
    assert "in progress" in words[0]


def test_effects_are_observed_and_shrunk_with_their_number():
    usual = rhythm(28)
    one = learned_effects(during(usual, day(8), 2.0), [day(8)])["campaign"]
    many = usual
    days = [day(number) for number in (4, 8, 12, 16, 20)]
    for event in days:
        many = during(many, event, 2.0)
    five = learned_effects(many, days)["campaign"]
    assert one.observed == pytest.approx((2.0,))
    assert five.observed == pytest.approx((2.0,) * 5)
    assert 1.0 < one.median < five.median < 2.0
    assert five.factors[HIGH] / five.median < one.factors[HIGH] / one.median


def test_a_holiday_that_empties_the_offices_lowers_the_forecast():
    usual = rhythm(28)
    past = during(during(usual, day(8, "holiday"), 0.5), day(16, "holiday"), 0.5)
    learned = learned_effects(past, [day(8, "holiday"), day(16, "holiday")])
    values, words = with_events(np.ones((5, 24)), MONDAY_S + 28 * DAY_S, HOUR_S, [day(28, "holiday")], learned)
    assert values[0, 0] < 0.7
    assert "2 past events of its kind" in words[0]
    assert "day 28" in words[0]


def test_nothing_of_its_kind_widens_only_above_the_median():
    values, words = with_events(np.ones((5, 1)), MONDAY_S, DAY_S, [day(0)], {})
    np.testing.assert_allclose(values[0], 1.0)
    assert (np.diff(values[:, 0]) > 0).all()
    assert values[HIGH, 0] == pytest.approx(np.exp(1.2815515655 * PRIOR_LOG_SD))
    assert "none of its kind is past" in words[0]


def test_events_elsewhere_say_and_do_nothing():
    values, words = with_events(np.ones((5, 24)), MONDAY_S, HOUR_S, [day(7, factor=3.0)], {})
    assert words == ()
    assert (values == 1.0).all()
    history = rhythm(3)
    assert without_events(history, [day(9)], {}) is history
    assert learned_effects(history, [day(9)]) == {}


def test_two_events_at_once_multiply():
    values, words = with_events(np.ones((5, 1)), MONDAY_S, DAY_S, [day(0, factor=2.0), day(0, "holiday", 0.5)], {})
    np.testing.assert_allclose(values, 1.0)
    assert len(words) == 2


def test_a_closed_day_leaves_nothing_to_learn_from():
    closed = without_events(during(rhythm(7), day(3), 0.0), [day(3, factor=0.0)], {})
    assert np.isnan(closed.values[72:96]).all()


def test_what_is_not_measured_teaches_nothing():
    usual = rhythm(28)
    silent = Series(usual.start_s, usual.step_s, np.where(np.arange(28 * 24) // 24 == 8, np.nan, usual.values))
    assert learned_effects(silent, [day(8)]) == {}
    nothing = Series(usual.start_s, usual.step_s, np.full(28 * 24, np.nan))
    assert learned_effects(nothing, [day(8)]) == {}
    assert effects(usual, [day(27), day(30)], expected_without(usual, [])).keys() == {"campaign"}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-5, 40), st.floats(0.01, 5), st.one_of(st.none(), st.floats(0, 20))),
        max_size=5,
    ),
    st.integers(0, 2**32 - 1),
)
def test_quantiles_stay_in_order_whatever_the_events(spans: list[tuple[float, float, float | None]], seed: int):
    generator = np.random.default_rng(seed)
    history = Series(MONDAY_S, HOUR_S, generator.gamma(2.0, 3.0, 28 * 24))
    events = [
        Event(f"e{i}", "ab"[i % 2], MONDAY_S + at * DAY_S, MONDAY_S + (at + length) * DAY_S, factor)
        for i, (at, length, factor) in enumerate(spans)
    ]
    learned = learned_effects(history, events)
    cleaned = without_events(history, events, learned)
    assert not np.isinf(cleaned.values).any()
    values = np.sort(generator.gamma(2.0, 3.0, (5, 24)), axis=0)
    found, _ = with_events(values, history.end_s, HOUR_S, events, learned)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert (np.diff(found, axis=0) >= -1e-9).all()
