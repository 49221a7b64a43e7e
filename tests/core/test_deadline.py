"""A job with a deadline never misses it, whatever the zone does, and is cheap where the zone is kind."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.deadline import IDLE, ON_DEMAND, SPOT, Deadline, UpDown, choose

STEP_S = 600.0


def carried_out(up: list[bool], work: int, ticks: int, changeover: int, price: float = 0.3) -> tuple[bool, float]:
    """In time, and its cost in on-demand ticks. A start pays the changeover in whole ticks; spot is lost at a tick."""
    on, changing, cost, zone, total = IDLE, 0, 0.0, UpDown(), (work * STEP_S, ticks * STEP_S)
    for tick in range(ticks):
        is_up = up[tick]
        if tick:
            zone = zone.seen(up[tick - 1], is_up, STEP_S / 3600)
        if on == SPOT and not is_up:
            on = IDLE
        job = Deadline(work * STEP_S, (ticks - tick) * STEP_S, changeover * STEP_S, STEP_S, price)
        choice, reason = choose(job, on, is_up, zone, total)
        assert is_up or choice != SPOT
        assert reason.text
        if choice != on:
            on, changing = choice, changeover
        cost += (0.0, price, 1.0)[on]
        if on != IDLE and changing:
            changing -= 1
        elif on != IDLE:
            work -= 1
            if not work:
                return True, cost
    return False, cost


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(1, 40), st.integers(1, 3), st.integers(0, 30))
def test_no_deadline_is_missed_whatever_the_zone_does(
    data: st.DataObject, work: int, changeover: int, slack: int
) -> None:
    ticks = work + changeover + 1 + slack
    up = data.draw(st.lists(st.booleans(), min_size=ticks, max_size=ticks))
    assert carried_out(up, work, ticks, changeover)[0]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12))
def test_a_zone_that_flaps_costs_no_more_than_all_on_demand_and_what_slack_can_waste(up: int, down: int) -> None:
    series = (([True] * up + [False] * down) * 60)[:60]
    in_time, cost = carried_out(series, 40, 60, 1)
    assert in_time
    assert cost <= 41 + 0.3 * 20


def test_a_zone_that_stays_is_used_throughout() -> None:
    assert carried_out([True] * 60, 40, 60, 1) == (True, pytest.approx(0.3 * 41))


def test_a_zone_that_is_never_up_costs_on_demand_and_one_changeover() -> None:
    assert carried_out([False] * 60, 40, 60, 1) == (True, pytest.approx(41.0))


def test_without_slack_it_is_on_demand_to_the_end_and_says_so() -> None:
    choice, reason = choose(Deadline(3600.0, 4000.0, 300.0, 195.0, 0.3), SPOT, True, UpDown(), (7200.0, 9000.0))
    assert choice == ON_DEMAND
    assert "on demand to the end" in reason.text


def test_work_that_is_done_runs_on_nothing() -> None:
    assert choose(Deadline(0.0, 4000.0, 300.0, 195.0, 0.3), SPOT, True, UpDown(), (7200.0, 9000.0))[0] == IDLE


def test_rates_are_learned_from_what_was_seen() -> None:
    zone = UpDown()
    rng = np.random.default_rng(3)
    is_up = True
    for _ in range(20_000):
        change = rng.random() < (0.05 if is_up else 0.2)
        zone = zone.seen(is_up, is_up != change, 0.1)
        is_up = is_up != change
    assert zone.falls_per_hour == pytest.approx(0.5, rel=0.1)
    assert zone.rises_per_hour == pytest.approx(2.0, rel=0.1)


def test_a_zone_that_goes_sooner_than_a_changeover_takes_is_not_entered() -> None:
    job, total = Deadline(20 * 3600.0, 24 * 3600.0, 600.0, 600.0, 0.3), (20 * 3600.0, 24 * 3600.0)
    flapping = UpDown(up_h=5.0, falls=100.0, down_h=5.0, rises=100.0)
    lasting = UpDown(up_h=100.0, falls=20.0, down_h=5.0, rises=20.0)
    assert choose(job, ON_DEMAND, True, flapping, total)[0] != SPOT
    assert choose(job, ON_DEMAND, True, lasting, total)[0] == SPOT
    assert choose(job, IDLE, False, lasting, total)[0] == IDLE
