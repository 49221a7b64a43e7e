"""Points of a signal, judged before any is kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.points import CLOCK_SLACK_S, FARTHEST_S, KEPT_S, BadFile, BadPoint, checked, points_of

NOW_S = 1_732_514_400.0  # 2024-11-25 06:00


@given(
    st.lists(st.tuples(st.floats(NOW_S - KEPT_S + 1, NOW_S), st.floats(-1e9, 1e9)), min_size=1, max_size=30),
    st.randoms(use_true_random=False),
)
def test_order_and_repetition_change_nothing(points: list[tuple[float, float]], chance: object):
    once = dict(points)
    shuffled = list(once.items()) * 2
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert checked(shuffled, NOW_S, False) == tuple(sorted(once.items()))


@pytest.mark.parametrize(
    ("at_s", "value", "column", "problem"),
    [
        (NOW_S, float("nan"), "value", "not a finite number"),
        (NOW_S, float("inf"), "value", "not a finite number"),
        (NOW_S, 1e300, "value", "absurd"),
        (float("nan"), 1.0, "at", "not a number of seconds"),
        (-5.0, 1.0, "at", "not a number of seconds"),
        (NOW_S + CLOCK_SLACK_S + 1, 1.0, "at", "ahead of now"),
        (NOW_S * 1000, 1.0, "at", "ahead of now"),
        (NOW_S - KEPT_S - 1, 1.0, "at", "no point is of the last 60 days"),
    ],
)
def test_what_cannot_be_kept_is_named(at_s: float, value: float, column: str, problem: str):
    with pytest.raises(BadPoint, match=problem) as bad:
        checked([(at_s, value)], NOW_S, False)
    assert bad.value.column == column


def test_a_plan_may_reach_ahead_and_old_points_are_left_out():
    points = [(NOW_S - KEPT_S - 5, 1.0), (NOW_S, 2.0), (NOW_S + FARTHEST_S, 3.0)]
    assert checked(points, NOW_S, True) == tuple(points[1:])
    with pytest.raises(BadPoint):
        checked([(NOW_S + FARTHEST_S + 1, 1.0)], NOW_S, True)
    with pytest.raises(BadPoint, match="there is no point"):
        checked([], NOW_S, False)


def test_a_file_is_read_as_it_stands():
    text = (
        "\ufeffwhen?,At , VALUE\nx,2024-11-25T06:00:00Z,1.5\n\ny,2024-11-25T07:30:00+01:00,\nz,2024-11-25T05:00Z,-2\n"
    )
    assert points_of(text, "a.csv") == ((NOW_S, 1.5), (NOW_S - 3600, -2.0))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a.csv: row 1, column at: no column has this name; the header has nothing"),
        ("at,at,value\n", "column at: more than one column has this name"),
        ("at,value\n2024-11-25T06:00:00Z,1,2\n", "row 2, column value: the row has 3 of 2 columns"),
        ("at,value\n2024-11-25T06:00:00,1\n", "row 2, column at: the time '2024-11-25T06:00:00' has no zone"),
        ("at,value\nyesterday,1\n", "row 2, column at: the time 'yesterday' can't be read"),
        ("at,value\n2024-11-25T06:00:00Z,1\n2024-11-25T07:00:00Z,much\n", "row 3, column value: 'much' is no finite"),
        ("at,value\n2024-11-25T06:00:00Z,nan\n", "no finite number; leave blank what is not known"),
        ("at,value\n2024-11-25T06:00:00Z,\n", "there is no value"),
        ('at,value\n"2024', "is not CSV"),
    ],
)
def test_a_bad_file_is_refused_with_its_place_and_remedy(text: str, said: str):
    with pytest.raises(BadFile) as bad:
        points_of(text, "a.csv")
    assert said in str(bad.value)
    assert "\n" not in str(bad.value)


def test_too_many_are_refused():
    text = "at,value\n" + "2024-11-25T06:00:00Z,1\n" * 4
    with pytest.raises(BadFile, match="over 3 values"):
        points_of(text, "a.csv", most=3)
