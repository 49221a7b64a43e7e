"""What may be replayed, told before a second of computing is spent on it."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.types import Offer
from controller.core.what_if import (
    DAY_S,
    HOUR_S,
    LONGEST_WINDOW_S,
    OfferChange,
    WhatIf,
    WhatIfError,
    check_window,
    flat,
    usual_window,
    what_if_of,
)
from models.enums import Market

FIRST = datetime(2024, 11, 15, 16, 57, 50, tzinfo=UTC).timestamp()
HOUR = st.integers(0, 40 * 24).map(lambda hours: FIRST + hours * HOUR_S + 11.0)


def offer(zone: str, market: Market, price: float) -> Offer:
    name = f"g5.xlarge/{zone}/{market.value}"
    return Offer(name, "aws", "us-west-2", zone, "g5.xlarge", "A10G", 1, market, price, 1.0)


OFFERS = (offer("az1", Market.ON_DEMAND, 1.0), offer("az1", Market.SPOT, 0.4), offer("az2", Market.SPOT, 0.5))


def what_if(**changes: Any) -> WhatIf:
    document = {"spend_cap_usd_per_hour": 40.0, "tiers": {}}
    given = {
        "policy": "hpa", "envelope": document, "envelope_version": 3, "offers": OfferChange(), "from_s": 0.0,
        "to_s": 7200.0, "scale": 20, "jitter_s": 300.0, "boot_s": 180.0, "seed": 7,
    }  # fmt: skip
    return WhatIf(**{**given, **changes})


@given(HOUR)
def test_the_usual_window_is_one_that_may_be_replayed(now_s: float) -> None:
    try:
        from_s, to_s = usual_window(FIRST, now_s)
    except WhatIfError as error:
        assert now_s - FIRST < 4 * HOUR_S
        assert "2024-11-15 16:57" in str(error)
        return
    check_window(from_s, to_s, FIRST, now_s)
    assert now_s - to_s < HOUR_S
    if now_s - FIRST > 3 * DAY_S:  # a day is left before it, and no more than must be
        assert from_s - FIRST >= DAY_S
        assert to_s - from_s == LONGEST_WINDOW_S or from_s - FIRST < DAY_S + HOUR_S


@pytest.mark.parametrize(
    ("from_h", "to_h", "field", "says"),
    [
        (30.5, 50, "from", "whole hour"),
        (30, 50.01, "to", "whole hour"),
        (50, 50, "to", "after from"),
        (30, 300, "to", "not over yet"),
        (40, 240, "from", "7 days at most"),
        (17, 50, "from", "an hour must be recorded"),
    ],
)
def test_a_window_that_cant_be_replayed_is_named(from_h: float, to_h: float, field: str, says: str) -> None:
    midnight, now_s = datetime(2024, 11, 15, tzinfo=UTC).timestamp(), FIRST + 10 * DAY_S
    with pytest.raises(WhatIfError, match=says) as refused:
        check_window(midnight + from_h * HOUR_S, midnight + to_h * HOUR_S, FIRST, now_s)
    assert refused.value.field == field


def test_a_nearest_window_is_one_that_may_be_replayed() -> None:
    now_s = FIRST + 12 * DAY_S
    to_s = (now_s // HOUR_S) * HOUR_S
    with pytest.raises(WhatIfError) as refused:
        check_window(to_s - 8 * DAY_S, to_s, FIRST, now_s)
    assert refused.value.nearest == "2024-11-20 16:00 UTC"
    check_window(datetime(2024, 11, 20, 16, tzinfo=UTC).timestamp(), to_s, FIRST, now_s)
    assert to_s - datetime(2024, 11, 20, 16, tzinfo=UTC).timestamp() == LONGEST_WINDOW_S


def test_offers_are_left_out_and_repriced() -> None:
    change = OfferChange(without_zones=("az2",), price_factors=(("on_demand", 2.0),))
    left = change.apply(OFFERS)
    assert [(each.id, each.price_usd_per_hour) for each in left] == [
        ("g5.xlarge/az1/on_demand", 2.0),
        ("g5.xlarge/az1/spot", 0.4),
    ]
    assert change.told() == "on-demand × 2, without az2"
    assert [each.market for each in OfferChange(without_spot=True).apply(OFFERS)] == [Market.ON_DEMAND]
    assert OfferChange().apply(OFFERS) == OFFERS


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (OfferChange(without_zones=("az9",)), "no offer is in zone 'az9'"),
        (OfferChange(without_zones=("az1",)), "no on-demand offer is left"),
    ],
)
def test_offers_that_leave_nothing_to_begin_with_are_refused(change: OfferChange, says: str) -> None:
    with pytest.raises(WhatIfError, match=says):
        change.apply(OFFERS)


@given(
    st.booleans(),
    st.lists(st.sampled_from(["az1", "az2"]), unique=True),
    st.dictionaries(st.sampled_from(["spot", "on_demand"]), st.floats(0.1, 9)),
    st.integers(0, 900).map(lambda hours: FIRST // HOUR_S * HOUR_S + hours * HOUR_S),
)
def test_a_document_tells_the_same_run(spot: bool, zones: list[str], prices: dict[str, float], from_s: float) -> None:
    offers = OfferChange(spot, tuple(zones), tuple(prices.items()))
    asked = what_if(offers=offers, from_s=from_s, to_s=from_s + HOUR_S)
    assert what_if_of(asked.document()) == asked


def test_a_run_is_told_in_one_line() -> None:
    told = what_if(envelope_version=None, offers=OfferChange(without_spot=True)).told()
    assert told == "hpa, an envelope of its own, offers without spot, 1970-01-01 00:00 to 1970-01-01 02:00 UTC"


def test_a_summary_is_one_row_of_a_comparison() -> None:
    summary = {"policy": "hpa", "window": ["a", "b"], "cost_usd": 3.0, "tiers": {"premium": {"wait_mean_s": None}}}
    assert flat(summary) == {"from": "a", "to": "b", "policy": "hpa", "cost_usd": 3.0, "premium_wait_mean_s": None}
