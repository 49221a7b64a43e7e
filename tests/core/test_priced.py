"""Capacity at the price of a miss: the newsvendor's laws, and a price that would have kept the promise."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.activity import BIN_S
from controller.core.forecast.lead import Rehearsal, lead_bins_of, learn
from controller.core.priced import (
    FLUID,
    HOLD,
    MEAN_SHARE,
    SHARED,
    Priced,
    capacity_at,
    expected,
    learn_prices,
    overload,
)
from controller.core.queueing import target_wait_s
from controller.core.types import FloatArray, TierTarget
from tests.core.observed import tier
from tests.core.shots import DAY, activity, of_sessions, sessions

LEAD_S, WORK_S, SCV, STARTED = 240.0, 30.0, 0.5, 15
BINS = 3 * DAY
ONE = (tier("all", 0, 100, "p95", 5_000),)
TWO = (tier("premium", 0, 30, "mean", 500), tier("standard", 1, 70, "p95", 10_000))


def at(mean: float, deviation: float, price: float, borne: float = 0.0) -> float:
    return float(capacity_at(np.array([mean]), np.array([deviation]), price, borne)[0])


# --- what a price asks for ---

means, deviations, prices = st.floats(0, 500), st.floats(1e-3, 200), st.floats(-2, 4)
more = st.floats(0.01, 100)


def test_the_margin_is_where_one_more_gpu_spares_what_it_costs() -> None:
    """m·φ((c − m)/s)/s, the load that it keeps from waiting, at the price: one."""
    mean, deviation, price = 20.0, 5.0, 1.5
    capacity = at(mean, deviation, price)
    z = (capacity - mean) / deviation
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    assert capacity > mean
    assert 10**price * mean * density / deviation == pytest.approx(1.0)


@settings(max_examples=200)
@given(means, deviations, prices, st.floats(0, 0.4), st.floats(0, 3))
def test_a_dearer_miss_never_needs_less(mean, deviation, price, borne, dearer) -> None:
    assert at(mean, deviation, price + dearer, borne) >= at(mean, deviation, price, borne)


@settings(max_examples=200)
@given(means, deviations, prices, st.floats(0, 0.4), more)
def test_a_larger_mean_never_needs_less(mean, deviation, price, borne, extra) -> None:
    assert at(mean + extra, deviation, price, borne) >= at(mean, deviation, price, borne)


@settings(max_examples=200)
@given(st.floats(0.3, 500), st.floats(0.001, 1), st.floats(0.001, 1), prices)
def test_a_wider_forecast_needs_more_up_to_where_nothing_helps(mean, low, high, price) -> None:
    """Of a forecast so wide that a GPU rarely meets the load, it is worth less again: beyond x = e^−½."""
    widest = math.exp(-0.5) * mean * 10**price / math.sqrt(2 * math.pi)
    narrow, wide = sorted((low, high))
    assert at(mean, wide * widest, price) >= at(mean, narrow * widest, price) - 1e-9
    assert at(mean, 2 * widest, price) == pytest.approx(mean)


@settings(max_examples=200)
@given(means, deviations, prices, st.floats(0, 0.4), st.floats(0, 0.4))
def test_what_may_be_borne_is_never_added(mean, deviation, price, borne, extra) -> None:
    less = at(mean, deviation, price, min(borne + extra, 1.0))
    assert 0 <= less <= at(mean, deviation, price, borne)
    assert at(mean, deviation, price) >= mean


@settings(max_examples=200)
@given(st.floats(0.3, 100), deviations, prices, st.floats(0, 0.4), st.floats(1, 50))
def test_times_as_much_needs_times_as_much(mean, deviation, price, borne, times) -> None:
    assert at(times * mean, times * deviation, price, borne) == pytest.approx(times * at(mean, deviation, price, borne))


def test_overload_is_borne_by_those_who_may_wait_and_never_by_a_mean() -> None:
    assert overload(tier("t", 0, 100, "mean", 30_000), WORK_S, SCV) == 0.0
    borne = [overload(tier("t", 0, 100, "p99", ms), WORK_S, SCV) for ms in (0.0, 5_000, 10_000, 600_000)]
    assert borne == pytest.approx([0.0, 0.1, 0.2, 0.4])


# --- what price it is ---


@pytest.fixture(scope="module")
def values():
    return of_sessions(sessions(BINS, tiers=2, each=0.3))


@pytest.fixture(scope="module")
def one(values):
    return activity(values[:, :1])


@pytest.fixture(scope="module")
def two(values):
    return activity(values)


def prices_of(of, tiers: tuple[TierTarget, ...], work_s: float = WORK_S) -> dict[int, Priced]:
    return dict(learn_prices(of, tiers, range(len(tiers)), LEAD_S, work_s, SCV, STARTED))


def past_of(of, k: int) -> Rehearsal:
    found = learn(of, k, lead_bins_of(LEAD_S), max(1, round(WORK_S / BIN_S)))
    assert found is not None
    return found[1]


def asked_of(priced: Priced, past: Rehearsal, target: TierTarget, there: FloatArray | None = None) -> FloatArray:
    """What is asked for in each bin of the past: by the formula, held, and never below what runs or is there anyway."""
    wanted = capacity_at(WORK_S * past.mean, WORK_S * past.deviation, priced.price, overload(target, WORK_S, SCV))
    back = round(HOLD * lead_bins_of(LEAD_S))
    held = np.array([wanted[max(0, i - back) : i + 1].max() for i in range(len(wanted))])
    path = np.maximum(np.maximum(held, WORK_S * past.rate), priced.least)
    return path if there is None else np.maximum(path, there)


def waits_of(path: FloatArray, past: Rehearsal) -> FloatArray:
    """Lindley's recursion of the work that waits, on replicas that come so many bins late and go at once."""
    waits, backlog = np.zeros(len(path)), 0.0
    for i, rate in enumerate(past.rate):
        ready = float(np.ceil(path[max(0, i - STARTED) : i + 1] - 1e-9).min())
        backlog = max(0.0, backlog + (WORK_S * rate - ready) * BIN_S)
        waits[i] = backlog / max(ready, 1.0)
    return waits


def missed(waits: FloatArray, past: Rehearsal, target: TierTarget) -> float:
    weight = past.rate / past.rate.sum()
    late = waits if target.statistic == "mean" else waits > target_wait_s(target, WORK_S, SCV)
    return float(late @ weight)


def test_of_too_little_no_price_is_learned(values) -> None:
    assert prices_of(activity(values[:, :1, :DAY]), ONE) == {}


@pytest.mark.parametrize(
    "target", [ONE[0], tier("all", 0, 100, "p99", 5_000), tier("all", 0, 100, "mean", 2_000)], ids=lambda t: t.statistic
)
def test_the_promise_would_have_been_kept(one, target: TierTarget) -> None:
    """By a reckoning of its own, request by request of the same days; and with a price a little lower it would not."""
    priced, past = prices_of(one, (target,))[0], past_of(one, 0)
    share = {"p95": FLUID * 0.05, "p99": FLUID * 0.01, "mean": MEAN_SHARE * 2.0}[target.statistic]
    assert priced.allowed == pytest.approx(share)
    found = missed(waits_of(asked_of(priced, past, target), past), past, target)
    assert found == pytest.approx(priced.rehearsed, abs=1e-9)
    assert found <= priced.allowed
    cheaper = replace(priced, price=priced.price - 0.2)
    assert missed(waits_of(asked_of(cheaper, past, target), past), past, target) > priced.allowed


@pytest.mark.parametrize("statistic", ["p90", "p95", "p99", "p99.9"])
def test_a_promise_to_more_of_them_costs_at_least_as_much(one, statistic: str) -> None:
    lenient, strict = tier("all", 0, 100, "p80", 5_000), tier("all", 0, 100, statistic, 5_000)
    past = past_of(one, 0)
    low, high = (float(asked_of(prices_of(one, (each,))[0], past, each).sum()) for each in (lenient, strict))
    assert high >= low
    assert low >= float((WORK_S * past.rate).sum())


def test_a_shorter_wait_costs_at_least_as_much(one) -> None:
    past = past_of(one, 0)
    targets = [tier("all", 0, 100, "p99", ms) for ms in (30_000, 10_000, 3_000, 500)]
    costs = [float(asked_of(prices_of(one, (each,))[0], past, each).sum()) for each in targets]
    assert costs == sorted(costs)


def test_what_is_there_for_those_below_serves_those_above(two) -> None:
    """Premium beside a standard tier needs less of its own than alone, and both promises hold."""
    both = prices_of(two, TWO)
    assert sorted(both) == [0, 1]
    alone = dict(learn_prices(two, TWO, [0], LEAD_S, WORK_S, SCV, STARTED))
    assert both[0].model.key == alone[0].model.key == 0
    assert both[1].model.key == 1
    standard, premium = past_of(two, 1), past_of(two, 0)
    there = asked_of(both[1], standard, TWO[1])
    path = asked_of(both[0], premium, TWO[0], there)
    assert missed(waits_of(path, premium), premium, TWO[0]) == pytest.approx(both[0].rehearsed, abs=1e-9)
    assert both[0].rehearsed <= both[0].allowed
    of_both, of_one = (float(asked_of(each[0], premium, TWO[0]).sum()) for each in (both, alone))
    assert of_both < of_one
    assert float(path.sum()) < float(there.sum()) + of_one


def test_a_tier_with_others_below_it_is_held_to_less(two) -> None:
    below = (replace(TWO[1], priority=0, name="standard"), tier("background", 1, 70, "p100", 7_200_000))
    found = dict(learn_prices(two, below, [0], LEAD_S, WORK_S, SCV, STARTED))
    assert found[0].allowed == pytest.approx(SHARED * 0.05)


def test_ten_times_the_load_takes_about_ten_times_the_capacity(values) -> None:
    once, tenfold = activity(values[:, :1]), activity(10 * values[:, :1])
    low, high = (expected(prices_of(each, ONE)[0], each, ONE[0], WORK_S, SCV) for each in (once, tenfold))
    assert high.mean == pytest.approx(10 * low.mean, rel=1e-6)
    assert high.deviation == pytest.approx(10 * low.deviation, rel=1e-4)
    past, more_past = past_of(once, 0), past_of(tenfold, 0)
    costs = [
        float(asked_of(prices_of(of, ONE)[0], history, ONE[0]).sum())
        for of, history in ((once, past), (tenfold, more_past))
    ]
    # A replica is whole, which weighs more on a small fleet.
    assert costs[1] == pytest.approx(10 * costs[0], rel=0.1)


def test_what_is_expected_now_has_its_margin_and_its_least(one) -> None:
    priced = prices_of(one, ONE)[0]
    found = expected(priced, one, ONE[0], WORK_S, SCV)
    by_hand = at(found.mean, found.deviation, priced.price, overload(ONE[0], WORK_S, SCV))
    assert found.capacity == pytest.approx(max(by_hand, priced.least))
    assert (found.price, found.least) == (priced.price, priced.least)
    assert expected(replace(priced, least=1e4), one, ONE[0], WORK_S, SCV).capacity == 1e4


def test_an_urgent_service_that_nobody_uses_needs_nothing() -> None:
    none = activity(np.zeros((7, 1, BINS)))
    found = expected(prices_of(none, ONE)[0], none, ONE[0], WORK_S, SCV)
    assert found.capacity == pytest.approx(0.0, abs=1e-3)
