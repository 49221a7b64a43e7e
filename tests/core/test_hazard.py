"""How often replicas are taken back: nothing seen is the prior, much seen is what was seen, and old news fades."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.hazard import HALF_LIFE_S, PRIOR_PER_HOUR, Exposure

HOUR_S = 3600.0


def test_without_exposure_it_is_the_prior() -> None:
    assert Exposure(0.0).per_hour == PRIOR_PER_HOUR
    assert Exposure(0.0).until(HOUR_S, replicas=0).per_hour == PRIOR_PER_HOUR


def test_many_replica_hours_say_what_they_saw() -> None:
    """A hundred replicas, ten of them taken back in each hour: 0.1 an hour."""
    seen = Exposure(0.0)
    for hour in range(1, 49):
        seen = seen.until(hour * HOUR_S, replicas=100, interruptions=10)
    assert seen.per_hour == pytest.approx(0.1, rel=0.05)


def test_an_interruption_a_half_life_ago_counts_half() -> None:
    seen = Exposure(0.0).until(0.0, 0, 4).until(HALF_LIFE_S, 0)
    assert seen.interruptions == pytest.approx(2.0)


@given(st.lists(st.tuples(st.floats(0, 1e5), st.integers(0, 50), st.integers(0, 5)), max_size=20))
def test_a_rate_is_positive_finite_and_rises_with_an_interruption(steps: list[tuple[float, int, int]]) -> None:
    seen, now_s = Exposure(0.0), 0.0
    for passed_s, replicas, taken in steps:
        now_s += passed_s
        seen = seen.until(now_s, replicas, taken)
    assert 0 < seen.per_hour < 1e6
    assert seen.until(now_s, 1, 1).per_hour > seen.until(now_s, 1).per_hour
