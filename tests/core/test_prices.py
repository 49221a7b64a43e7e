"""Which prices are believed: an unknown or absurd one never is, and why is said."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.mix_choice import Needed, choose_mix
from controller.core.prices import price_problems
from models.enums import Market
from tests.core.observed import NOW, OFFERS, offer, standings

LIKE = [offer(f"k{i}", "az1", Market.ON_DEMAND, 1.0 + i / 10) for i in range(5)]


@pytest.mark.parametrize(
    ("price", "word"),
    [
        (math.nan, "unknown"),
        (math.inf, "unknown"),
        (0.0, "not above 0"),
        (-1.0, "not above 0"),
        (130.0, "times the median"),
        (0.011, "times the median"),
    ],
)
def test_an_unknown_or_absurd_price_is_refused_and_says_why(price: float, word: str) -> None:
    odd = offer("odd", "az1", Market.ON_DEMAND, price)
    problems = price_problems([*LIKE, odd])
    assert list(problems) == [odd.id]
    assert word in problems[odd.id]


def test_a_node_of_eight_gpus_at_eight_times_the_price_is_not_absurd() -> None:
    node = replace(offer("big", "az1", Market.ON_DEMAND, 200.0), gpu_count=8)
    assert not price_problems([*LIKE, node])
    assert price_problems([*LIKE, replace(node, gpu_count=1)])


def test_two_prices_do_not_say_what_is_usual() -> None:
    assert not price_problems([LIKE[0], offer("odd", "az1", Market.ON_DEMAND, 500.0)])


@pytest.mark.parametrize("price", [0.0, -2.0, math.nan])
def test_the_mix_itself_never_buys_what_it_can_not_count(price: float) -> None:
    odd = offer("odd", "az1", Market.ON_DEMAND, price, speed=50.0)
    chosen = choose_mix(standings((*OFFERS, odd)), Needed(7.0, 3.0), {odd.id: 2}, NOW)
    assert odd not in chosen.offers
    assert chosen.capacity >= 7.0
    assert odd.id in chosen.reason.text


@given(st.lists(st.floats(0.5, 5.0), min_size=3, max_size=20))
def test_prices_within_ten_times_of_each_other_are_all_believed(prices: list[float]) -> None:
    assert not price_problems(offer(f"k{i}", "az1", Market.SPOT, price) for i, price in enumerate(prices))
