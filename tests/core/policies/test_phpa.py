"""PHPA as a timeline: the HPA's count until there is a season to go by, then the larger of the two."""

import math

import pytest

from controller.core.policies.holt_winters import one_step
from controller.core.policies.hpa import Hpa
from controller.core.policies.phpa import Phpa, PhpaMemory
from tests.core.policies.timeline import Timeline, pods

RISING = list(range(7, 7 + 24))


def test_it_is_the_hpa_until_its_seasons_are_long_enough() -> None:
    """Season 6: sixteen syncs, the sixteenth is the first with a forecast."""
    assert Timeline(Phpa(), 15.0, pods(10)).follow(RISING[:15]) == Timeline(Hpa(), 15.0, pods(10)).follow(RISING[:15])


def test_a_rise_is_answered_before_it_is_there() -> None:
    ahead, behind = Timeline(Phpa(), 15.0, pods(10)), Timeline(Hpa(), 15.0, pods(10))
    assert ahead.follow(RISING)[-1] > behind.follow(RISING)[-1]


def test_the_forecast_is_that_of_its_own_history() -> None:
    timeline = Timeline(Phpa(), 15.0, pods(10))
    timeline.follow(RISING[:19])
    assert isinstance(timeline.memory, PhpaMemory)
    plan = timeline.tick(30)
    history = timeline.memory.history
    assert len(history) == 20
    foreseen = math.ceil(one_step(history, 6, 0.9, 0.1, 0.1) - 1e-9)
    assert plan.bound.numbers["foreseen"] == foreseen
    assert plan.required == max(history[-1], foreseen)


def test_four_seasons_are_kept() -> None:
    timeline = Timeline(Phpa(), 15.0, pods(10))
    timeline.follow([7] * 60)
    assert isinstance(timeline.memory, PhpaMemory)
    assert timeline.memory.history == (10,) * 24


@pytest.mark.parametrize(("decision", "wanted"), [("maximum", 14), ("minimum", 10), ("mean", 12)])
def test_the_decision_picks_of_the_two(decision: str, wanted: int) -> None:
    assert Phpa(decision=decision)._decided(10, 14) == wanted


def test_a_history_that_can_never_be_long_enough_is_refused() -> None:
    with pytest.raises(ValueError, match="2 seasons of 4 are 8 values, and a forecast needs 14"):
        Phpa(season=4, seasons=2)
