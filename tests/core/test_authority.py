"""Forecasts earn their authority: lost hours take it, won hours give it back, unknown hours say nothing."""

from hypothesis import given
from hypothesis import strategies as st

from controller.core.authority import SettledHour, decide
from controller.core.types import Authority

LEADS, STEPPED_BACK = Authority(), Authority(False, "it lost")


def hours(*scores: tuple[float | None, float | None], led: bool = True) -> list[SettledHour]:
    return [SettledHour(3600.0 * n, led, *score) for n, score in enumerate(scores)]


def test_six_lost_hours_in_a_row_take_the_lead():
    found = decide(hours(*[(30.0, 20.0)] * 6), LEADS, 6)
    assert not found.leads
    assert "$180.00 against the shadow's $120.00 over 6 settled hours" in found.reason
    assert found.numbers == {"planner_usd": 180.0, "shadow_usd": 120.0, "hours": 6.0}


def test_five_are_not_enough_and_one_that_was_won_begins_the_count_anew():
    assert decide(hours(*[(30.0, 20.0)] * 5), LEADS, 6).leads
    assert decide(hours(*[(30.0, 20.0)] * 3, (19.0, 20.0), *[(30.0, 20.0)] * 5), LEADS, 6).leads


def test_to_lose_by_less_than_the_margin_is_not_to_lose():
    assert decide(hours(*[(21.9, 20.0)] * 9), LEADS, 6).leads
    assert not decide(hours(*[(22.1, 20.0)] * 9), LEADS, 6).leads


def test_an_unknown_hour_neither_counts_nor_begins_anew():
    lost = [(30.0, 20.0)] * 3
    assert not decide(hours(*lost, (None, 20.0), (12.0, None), *lost), LEADS, 6).leads
    assert decide(hours(*[(None, 20.0)] * 20), LEADS, 6).leads


def test_the_lead_comes_back_on_won_hours_since_it_went():
    before = hours(*[(30.0, 20.0)] * 6)
    won = hours(*[(18.0, 20.0)] * 6, led=False)
    assert not decide([*before, *won[:5]], STEPPED_BACK, 6).leads
    back = decide([*before, *won], STEPPED_BACK, 6)
    assert back.leads and "would have cost $108.00" in back.reason


def test_hours_before_the_last_change_do_not_count():
    history = [*hours(*[(18.0, 20.0)] * 9), *hours((30.0, 20.0), led=False)]
    assert decide(history, STEPPED_BACK, 6) is STEPPED_BACK
    again = [*hours(*[(30.0, 20.0)] * 9, led=False), *hours(*[(30.0, 20.0)] * 5)]
    assert decide(again, LEADS, 6) is LEADS


def test_without_hours_the_planner_always_leads():
    assert decide(hours(*[(30.0, 20.0)] * 60), LEADS, 0).leads


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50)), max_size=12), st.integers(1, 8), st.booleans())
def test_a_change_leaves_the_next_one_as_far_away(scores, count, led):
    now = LEADS if led else STEPPED_BACK
    history = hours(*scores, led=led)
    after = decide(history, now, count)
    if after.leads is not now.leads:
        assert decide(history, after, count).leads is after.leads
