"""Forecasts earn their authority: lost hours take it, won hours give it back, unknown hours say nothing."""

from hypothesis import given
from hypothesis import strategies as st

from controller.core.authority import SettledHour, decide
from controller.core.types import Authority

LEADS, STEPPED_BACK = Authority(), Authority(False, "it lost")
LOST, WON = (30.0, 20.0), (18.0, 20.0)


def hours(*scores: tuple[float | None, float | None], led: bool = True) -> list[SettledHour]:
    return [SettledHour(3600.0 * n, led, *score) for n, score in enumerate(scores)]


def test_six_hours_that_were_lost_take_the_lead():
    found = decide(hours(*[LOST] * 6), LEADS, 6)
    assert not found.leads
    assert "$180.00 against the shadow's $120.00 over 6 settled hours" in found.reason
    assert found.numbers == {"planner_usd": 180.0, "shadow_usd": 120.0, "hours": 6.0}


def test_five_are_not_enough():
    assert decide(hours(*[LOST] * 5), LEADS, 6).leads


def test_one_hour_may_earn_back_what_the_reserve_cost_in_the_others():
    assert decide(hours(*[LOST] * 5, (30.0, 90.0)), LEADS, 6).leads
    assert not decide(hours(*[LOST] * 5, (30.0, 50.0)), LEADS, 6).leads


def test_to_lose_by_less_than_the_margin_is_not_to_lose():
    assert decide(hours(*[(21.9, 20.0)] * 9), LEADS, 6).leads
    assert not decide(hours(*[(22.1, 20.0)] * 9), LEADS, 6).leads


def test_an_unknown_hour_says_nothing():
    assert not decide(hours(*[LOST] * 3, (None, 20.0), (12.0, None), *[LOST] * 3), LEADS, 6).leads
    assert decide(hours(*[(None, 20.0)] * 20, *[LOST] * 5), LEADS, 6).leads


def test_the_lead_comes_back_on_hours_won_since_it_went():
    before = hours(*[LOST] * 6)
    won = hours(*[WON] * 6, led=False)
    assert not decide([*before, *won[:5]], STEPPED_BACK, 6).leads
    back = decide([*before, *won], STEPPED_BACK, 6)
    assert back.leads and "would have cost $108.00" in back.reason


def test_hours_before_the_last_change_do_not_count():
    assert decide([*hours(*[WON] * 9), *hours(LOST, led=False)], STEPPED_BACK, 6) is STEPPED_BACK
    assert decide([*hours(*[LOST] * 9, led=False), *hours(*[LOST] * 5)], LEADS, 6) is LEADS


def test_without_hours_the_planner_always_leads():
    assert decide(hours(*[LOST] * 60), LEADS, 0).leads
    assert decide(hours(*[LOST] * 60, led=False), STEPPED_BACK, 0).leads


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50)), max_size=12), st.integers(1, 8), st.booleans())
def test_a_change_leaves_the_next_one_as_far_away(scores, count, led):
    now = LEADS if led else STEPPED_BACK
    history = hours(*scores, led=led)
    after = decide(history, now, count)
    if after.leads is not now.leads:
        assert decide(history, after, count) is after
