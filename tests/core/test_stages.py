"""A promise for a whole chain, divided over its stages."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.policies.base import Memory
from controller.core.policies.heddle import Heddle
from controller.core.policies.staged import Staged
from controller.core.stages import LEAST_OF_PLANNED, NO_TIME_MS, planned_share, share, waiting_left_s
from controller.core.types import StageReading
from models.enums import LatencyOf, ServiceClass
from tests.core.observed import TIERS, envelope, observation, tier


def stage(service: str, work_s: float, part: float, wait_s: float | None = None, scv: float = 0.5) -> StageReading:
    kind = {"images": ServiceClass.INFERENCE, "rendering": ServiceClass.RENDERING}.get(service, ServiceClass.DELIVERY)
    waits = {"premium": wait_s}
    return StageReading(service, kind, work_s, scv, part, (), waits)


CHAIN = (stage("images", 26.0, 0.6), stage("rendering", 8.0, 0.3), stage("delivery", 1.0, 0.1))
END_TO_END = tier("premium", 0, 20, "mean", 45_000, of=LatencyOf.END_TO_END)


def test_what_may_be_waited_is_the_promise_less_all_execution() -> None:
    assert waiting_left_s(END_TO_END, CHAIN) == pytest.approx(10.0)
    assert waiting_left_s(replace(END_TO_END, of=LatencyOf.WAIT), CHAIN) == pytest.approx(45.0)


def test_a_percentile_leaves_less() -> None:
    p95 = replace(END_TO_END, statistic="p95", target_ms=100_000)
    assert waiting_left_s(p95, CHAIN) < 100 - 35
    steady = tuple(replace(each, work_scv=0.0) for each in CHAIN)
    assert waiting_left_s(p95, steady) == pytest.approx(65.0)


def test_a_tier_that_executes_longer_has_less_to_wait() -> None:
    heavy = (replace(CHAIN[0], work_by_tier={"premium": (40.0, 0.5)}), *CHAIN[1:])
    assert waiting_left_s(END_TO_END, heavy) == pytest.approx(-4.0)
    assert waiting_left_s(replace(END_TO_END, name="standard"), heavy) == pytest.approx(10.0)


def test_without_measurements_everyone_gets_what_is_planned() -> None:
    shares = [share(END_TO_END, CHAIN, index)[0] for index in range(3)]
    assert [each.target_ms for each in shares] == pytest.approx([6000, 3000, 1000])
    assert {each.of for each in shares} == {LatencyOf.WAIT}


def test_the_first_stage_gets_what_the_others_leave_and_says_so() -> None:
    measured = (CHAIN[0], stage("rendering", 8.0, 0.3, 0.5), stage("delivery", 1.0, 0.1, 0.0))
    target, text = share(END_TO_END, measured, 0)
    assert target.target_ms == pytest.approx(9500)
    assert "45.0 s end to end" in text
    assert "0.5 s in rendering" in text
    assert "9.5 s remain here" in text
    slow = (CHAIN[0], stage("rendering", 8.0, 0.3, 60.0), CHAIN[2])
    assert share(END_TO_END, slow, 0)[0].target_ms == pytest.approx(LEAST_OF_PLANNED * 6000)


def test_a_promise_below_the_execution_is_named_as_such() -> None:
    target, text = share(replace(END_TO_END, target_ms=30_000), CHAIN, 0)
    assert target.target_ms == NO_TIME_MS
    assert "no capacity can hold it" in text


@given(st.floats(36, 4000), st.lists(st.floats(0, 500) | st.none(), min_size=2, max_size=2))
def test_the_shares_of_later_stages_never_move_with_what_is_measured(
    target_s: float, waits_s: list[float | None]
) -> None:
    """Or each would take what another did not use, and all would wait for it."""
    target = replace(END_TO_END, target_ms=target_s * 1000)
    chain = (CHAIN[0], stage("rendering", 8.0, 0.3, waits_s[0]), stage("delivery", 1.0, 0.1, waits_s[1]))
    for index in (1, 2):
        assert share(target, chain, index)[0] == planned_share(target, CHAIN, index)
    assert share(target, chain, 0)[0].target_ms <= waiting_left_s(target, chain) * 1000 + NO_TIME_MS


def test_a_staged_policy_plans_for_its_share_and_gives_the_reason_first() -> None:
    tiers = (END_TO_END, *(replace(each, of=LatencyOf.END_TO_END, target_ms=7_200_000) for each in TIERS[1:]))
    seen = observation(envelope=envelope(tiers=tiers), chain=CHAIN)
    plan, _ = Staged(Heddle()).plan(seen, Memory(), "p")
    assert "remain here" in plan.reasons[0].text
    assert plan.reasons[0].numbers["premium_wait_ms"] == pytest.approx(6000)
    alone, _ = Staged(Heddle()).plan(replace(seen, chain=()), Memory(), "p")
    assert alone == Heddle().plan(replace(seen, chain=()), Memory(), "p")[0]
