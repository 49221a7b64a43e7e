"""The lower bound on cases that can be solved by hand, and as a law: no schedule that can be carried out is cheaper."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.bound import NoSchedule, Waiting, lower_bound

HOUR = 3600.0


def waiting(*requests: tuple[float, float], slack_s: float = 0.0) -> Waiting:
    return Waiting(np.array([at for at, _ in requests]), np.array([long for _, long in requests]), slack_s)


def prices(slots: int, usd_per_hour: float = 3600.0) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """At $3,600 an hour a replica-second is a dollar."""
    return np.full(slots, usd_per_hour)


def test_one_request_costs_its_work_and_its_start() -> None:
    bound = lower_bound([waiting((120.0, 180.0))], prices(10), lead_s=240.0, start_s=0.0)
    assert bound.usd == pytest.approx(180 + 240, rel=1e-5)
    assert bound.serving == pytest.approx([0, 0, 1, 1, 1, 0, 0, 0, 0, 0], abs=1e-5)


def test_a_short_gap_is_held_and_a_long_one_is_not() -> None:
    pair = [waiting((0.0, 60.0), (180.0, 60.0))]
    # Two minutes idle against a start of five, or of one.
    assert lower_bound(pair, prices(6), 300.0, 0.0).usd == pytest.approx(60 + 120 + 60 + 300, rel=1e-5)
    assert lower_bound(pair, prices(6), 60.0, 0.0).usd == pytest.approx(60 + 60 + 2 * 60, rel=1e-5)


def test_what_is_there_at_the_beginning_needs_no_start() -> None:
    pair = [waiting((0.0, 60.0), (0.0, 60.0))]
    assert lower_bound(pair, prices(3), 300.0, 0.0, first=1).usd == pytest.approx(120 + 300, rel=1e-5)


def test_patience_spreads_two_at_once_over_one_replica() -> None:
    pair = ((0.0, 60.0), (0.0, 60.0))
    assert lower_bound([waiting(*pair)], prices(4), 300.0, 0.0).usd == pytest.approx(120 + 600, rel=1e-5)
    assert lower_bound([waiting(*pair, slack_s=60.0)], prices(4), 300.0, 0.0).usd == pytest.approx(120 + 300, rel=1e-5)


def test_patient_work_waits_for_the_cheap_hours() -> None:
    price = np.array([3600.0] * 4 + [1200.0] * 16)
    assert lower_bound([waiting((0.0, 60.0), slack_s=600.0)], price, 0.0, 0.0).usd == pytest.approx(20, rel=1e-4)
    assert lower_bound([waiting((0.0, 60.0), slack_s=60.0)], price, 0.0, 0.0).usd == pytest.approx(60, rel=1e-4)


def test_a_cap_moves_what_may_wait_to_the_next_hour_or_there_is_no_schedule() -> None:
    urgent, patient = waiting((0.0, 1800.0)), waiting((0.0, 1800.0), slack_s=2 * HOUR)
    slots = 180
    free = lower_bound([urgent, patient], prices(slots, 2.0), 0.0, 0.0)
    assert free.usd == pytest.approx(2.0, rel=1e-4)
    capped = lower_bound([urgent, patient], prices(slots, 2.0), 0.0, 0.0, cap_usd_per_hour=1.2)
    assert capped.done[1][:60].sum() <= 360 * (1 + 1e-3)
    with pytest.raises(NoSchedule):
        lower_bound([urgent], prices(slots, 2.0), 0.0, 0.0, cap_usd_per_hour=0.5)


requests = st.lists(st.tuples(st.floats(0, 900), st.floats(5, 300)), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None)
@given(requests, st.floats(0, 400), st.floats(0, 120))
def test_no_schedule_without_waits_is_cheaper(each: list[tuple[float, float]], lead_s: float, slack_s: float) -> None:
    """One replica a request, started for it and gone after it, is a schedule; so is one that holds them all."""
    bound = lower_bound([waiting(*each, slack_s=slack_s)], prices(25), lead_s, 0.0).usd
    work = sum(long for _, long in each)
    assert bound <= (work + lead_s * len(each)) * (1 + 1e-4)
    assert bound >= work * (1 - 1e-4)
    spans = [(at, at + long) for at, long in each]
    most = max(sum(a <= at < b for a, b in spans) for at, _ in spans)
    begins, ends = min(a for a, _ in spans), max(b for _, b in spans)
    assert bound <= most * (ends - begins + lead_s) * (1 + 1e-4)
