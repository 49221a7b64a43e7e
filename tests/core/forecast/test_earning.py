"""What a series must spend before an expensive model is worth its processor time."""

import pytest

from controller.core.forecast.base import names_for
from controller.core.forecast.earning import (
    CHEAP,
    FIT_S,
    PROCESSOR_USD_PER_H,
    SAVED_SHARE,
    earned,
    expensive_for,
    ranked,
)


@pytest.mark.parametrize("spend", [None, float("nan"), float("inf")])
def test_an_unknown_spend_earns_nothing(spend: float | None) -> None:
    assert earned(spend).yes is False
    assert earned(spend).reason == "cheap models only: what it spends is unknown"


def test_a_series_earns_where_the_saving_exceeds_the_cost() -> None:
    even_usd = FIT_S * PROCESSOR_USD_PER_H / 3600.0 / SAVED_SHARE
    assert earned(even_usd * 1.01).yes and not earned(even_usd * 0.99).yes
    assert earned(0.0).reason == "cheap models only: 0.5% of $0.00 a day is $0.00000, fitting costs $0.00007"
    assert earned(240.0).reason == "all models: 0.5% of $240.00 a day is $1.20000, fitting costs $0.00007"


def test_those_that_spend_most_come_first() -> None:
    spend = {"d": 10.0, "c": 10.0, "rich": 900.0, "poor": 0.0, "unknown": float("nan")}
    assert ranked(spend) == ["rich", "c", "d"]


@pytest.mark.parametrize("step_s", [60.0, 600.0, 3600.0])
def test_every_model_of_a_grid_is_cheap_or_expensive(step_s: float) -> None:
    assert set(expensive_for(step_s)) == set(names_for(step_s)) - set(CHEAP)
