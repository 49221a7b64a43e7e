"""Money adds up: laws of accrual, and the sums that a page shows."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core import finance
from controller.core.types import Offer
from models.enums import Market

START_S = datetime(2024, 11, 25, 6, tzinfo=UTC).timestamp()
HOUR = 3600.0


def hours(count: int, start_s: float = START_S) -> np.ndarray:
    return start_s + HOUR * np.arange(count)


def spend(intervals: list[tuple[float, float, float]], count: int) -> np.ndarray:
    start, end, price = (np.array(column, dtype=float) for column in zip(*intervals, strict=True))
    return finance.hourly_spend(START_S + start, START_S + end, price, hours(count))


def test_an_interval_is_cut_at_the_hours_it_crosses():
    assert spend([(1800, 9000, 2.0)], 4) == pytest.approx([1.0, 2.0, 1.0, 0.0])


def test_what_lies_outside_the_hours_asked_for_does_not_count():
    assert spend([(-7200, 1800, 4.0), (90_000, 93_600, 4.0)], 2) == pytest.approx([2.0, 0.0])


def test_an_interval_that_ends_on_the_hour_leaves_the_next_hour_at_exactly_zero():
    assert spend([(0, 3600, 1.3)], 2).tolist() == [1.3, 0.0]


def test_hours_need_not_be_contiguous():
    usd = finance.hourly_spend(
        np.array([START_S]), np.array([START_S + 4 * HOUR]), np.array([1.5]), START_S + np.array([0.0, 3 * HOUR])
    )
    assert usd == pytest.approx([1.5, 1.5])


def test_an_unknown_price_makes_only_the_hours_it_touches_unknown():
    usd = spend([(0, 7200, 1.0), (3700, 3800, float("nan"))], 3)
    assert usd[0] == 1.0
    assert np.isnan(usd[1])
    assert usd[2] == 0.0


def test_no_intervals_and_no_hours():
    none = np.array([])
    assert finance.hourly_spend(none, none, none, hours(2)).tolist() == [0.0, 0.0]
    assert finance.hourly_spend(hours(1), hours(1) + 1, np.array([1.0]), none).size == 0


@pytest.mark.parametrize(
    ("start", "end", "asked"),
    [(10.0, 5.0, 0.0), (0.0, float("inf"), 0.0), (float("nan"), 1.0, 0.0), (0.0, 5.0, 1.0)],
)
def test_impossible_intervals_are_refused(start: float, end: float, asked: float):
    with pytest.raises(ValueError):
        finance.hourly_spend(
            np.array([START_S + start]), np.array([START_S + end]), np.array([1.0]), np.array([START_S + asked])
        )


INTERVALS = st.lists(
    st.tuples(st.floats(0, 80_000), st.floats(0, 80_000), st.floats(0, 40)).map(
        lambda i: (min(i[:2]), max(i[:2]), i[2])
    ),
    min_size=1,
    max_size=20,
)


@given(INTERVALS)
def test_hours_add_up_to_the_whole_and_are_never_negative(intervals):
    usd = spend(intervals, 24)
    assert (usd >= 0).all()
    assert usd.sum() == pytest.approx(sum(p * (e - s) / HOUR for s, e, p in intervals), abs=1e-6)


@given(INTERVALS, st.floats(0, 80_000))
def test_spend_in_the_hour_is_what_accrued_in_it_until_now(intervals, now):
    start, end, price = (np.array(column, dtype=float) for column in zip(*intervals, strict=True))
    got = finance.spend_in_hour(START_S + start, START_S + end, price, START_S + now)
    since = now - now % HOUR
    by_hand = sum(p * max(0.0, min(e, now) - max(s, since)) / HOUR for s, e, p in intervals)
    assert got == pytest.approx(by_hand, abs=1e-6)


def test_cost_of_a_replica_is_by_the_second():
    assert finance.cost_usd(3.6, START_S, START_S + 1.5) == pytest.approx(0.0015)
    with pytest.raises(ValueError):
        finance.cost_usd(1.0, 10, 9)


def test_the_present_hour_projected_and_left():
    now_s = START_S + 45 * 60
    assert finance.projected_hour_usd(30.0, 40.0, now_s) == pytest.approx(40.0)
    assert finance.dollars_left(50.0, 30.0) == 20.0
    assert finance.dollars_left(50.0, 60.0) == -10.0
    assert finance.burn_allowed(50.0, 30.0, now_s) == pytest.approx(80.0)
    assert finance.burn_allowed(50.0, 60.0, now_s) == 0.0
    assert finance.dollars_left(None, 30.0) is None
    assert finance.burn_allowed(None, 30.0, now_s) is None


@given(st.floats(1, 500), st.floats(0, 500), st.floats(0, 3599))
def test_the_burn_allowed_ends_the_hour_at_the_cap(cap, accrued, into):
    now_s = START_S + into
    burn = finance.burn_allowed(cap, accrued, now_s)
    assert finance.projected_hour_usd(accrued, burn, now_s) == pytest.approx(max(cap, accrued))


def offer(offer_id: str, price: float, speed: float = 1.0, market: Market = Market.ON_DEMAND) -> Offer:
    return Offer(offer_id, "aws", "us-west-2", "usw2-az1", "x", "A10G", 1, market, price, speed)


def test_the_cheapest_is_by_speed_not_by_price():
    slow, fast = offer("slow", 1.006), offer("fast", 1.861, 2.0)
    spot = offer("spot", 0.43, 1.0, Market.SPOT)
    assert finance.cheapest_per_speed([slow, fast, spot], Market.ON_DEMAND) is fast
    assert finance.cheapest_per_speed([slow, fast, spot]) is spot
    assert finance.cheapest_per_speed([slow], Market.SPOT) is None
    assert finance.cheapest_per_speed([offer("b", 1.0), offer("a", 1.0)]).id == "a"
    assert finance.cheapest_per_speed([offer("unknown", float("nan")), slow]) is slow


def test_the_preview_of_an_override():
    assert finance.replicas_usd(1.5, 4, START_S, START_S + 5400) == pytest.approx(9.0)
    assert finance.replicas_usd(1.5, 4, START_S, START_S - 1) == 0.0


def test_today_and_the_month_begin_at_midnight_utc():
    now_s = datetime(2024, 12, 1, 1, 30, tzinfo=UTC).timestamp()
    rows = finance.hour_start(now_s) - HOUR * np.arange(30)
    usd = np.ones(30)
    assert finance.spend_today(rows, usd, now_s) == 2.0
    assert finance.month_to_date(rows, usd, now_s) == 2.0
    later_s = now_s + 86400
    assert finance.spend_today(rows, usd, later_s) == 0.0
    assert finance.month_to_date(rows, usd, later_s) == 2.0


def test_amounts_for_people():
    assert finance.dollars(1204.5) == "$1,204.50"
    assert finance.dollars(-3) == "−$3.00"
    assert finance.dollars(0.0) == "$0.00"
    assert finance.dollars(0.001) == "under $0.01"
    assert finance.dollars(None) == finance.dollars(float("nan")) == "—"
