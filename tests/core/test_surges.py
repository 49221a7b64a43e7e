"""Surges: what counts as a rise, what is prepared for it, and what follows when it comes, comes late, or doesn't."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.burst import burst_hold
from controller.core.policies.base import Memory
from controller.core.policies.heddle import Heddle
from controller.core.slow_grid import NOISE, RISE, mean_load
from controller.core.surge_verdicts import EVIDENCE_S, LARGER, evidence_s, missed
from controller.core.surges import foreseen, prepare, surges_ahead
from controller.core.types import QUANTILES, Forecast, Observation, Plan, Reason, Series, Surge
from models.enums import Limit, SurgeStatus
from tests.core.observed import (
    A10G,
    BOOT_S,
    LOAD_S,
    NOW,
    TIERS,
    envelope,
    fleet,
    forecasts,
    loads,
    observation,
    queues,
    released,
)

LEAD_S = BOOT_S + LOAD_S
AHEAD_S = 2 * LEAD_S
STEP_S = 600.0
OWN = (2.0, 4.0, 1.0)
SPREAD = np.array([1.0, 1.08, 1.12, 1.16, 1.25])
PEAK = 5.0
KEYS = ("premium", "premium+standard", "premium+standard+background")


def slow(
    factors: Mapping[int, float], made_s: float = NOW, step_s: float = STEP_S, count: int = 144, text: str = "leads"
) -> dict[tuple[str, float], Forecast]:
    """The slow grid: OWN at each step, times the factor of those named."""
    found = {}
    numbers = {"pinball": 0.4, "coverage_p90": 0.91}
    shape = np.array([factors.get(step, 1.0) for step in range(count)])
    start_s = made_s // step_s * step_s
    for k, key in enumerate(KEYS):
        values = SPREAD[:, None] * sum(OWN[: k + 1]) * shape
        reason = Reason(Limit.FORECAST, text, numbers)
        found[key, step_s] = Forecast("images", key, made_s, start_s, step_s, QUANTILES, values, "weekly", reason)
    return found


def seen_at(
    now_s: float, factors: Mapping[int, float], since: Mapping[float, float] | None = None, **changes: object
) -> Observation:
    """OWN measured until NOW and, `since` so many seconds after it, that times a factor; forecasts of the slow grid."""
    minutes = 180 + round((now_s - NOW) / 60)
    measured = loads(TIERS, *OWN, minutes=180)
    at_s = NOW - 10_800 + 60.0 * np.arange(minutes)
    factor = np.ones(minutes)
    for after_s, value in (since or {}).items():
        factor[at_s >= NOW + after_s] = value
    series = {key: Series(NOW - 10_800, 60.0, each.values[0] * factor) for key, each in measured.items()}
    fast = {key: replace(each, made_s=now_s, start_s=now_s // 60 * 60) for key, each in forecasts(TIERS, *OWN).items()}
    made_s = now_s // STEP_S * STEP_S
    shifted = {step - round((made_s - NOW) / STEP_S): value for step, value in factors.items()}
    base: dict[str, object] = {
        "now_s": now_s,
        "telemetry_s": now_s,
        "load": series,
        "forecasts": fast | slow(shifted, made_s),
        "replicas": fleet({A10G.id: 14}),
    }
    return observation(OWN, **{**base, **changes})


TUESDAY = dict.fromkeys(range(6, 18), PEAK)  # an hour from now, two hours long
START_S = NOW + 6 * STEP_S


# --- what is ahead ---


def test_a_surge_ahead_is_named_with_its_evidence() -> None:
    seen = seen_at(NOW, TUESDAY)
    look = surges_ahead(seen)
    (surge,) = look.surges
    assert (surge.start_s, surge.end_s) == (START_S, NOW + 18 * STEP_S)
    assert surge.provision_by_s == START_S - LEAD_S
    assert (surge.ready, surge.coming) == (14.0, 0.0)
    assert surge.need == look.highest
    assert surge.shortfall == surge.need - 14
    assert surge.need > PEAK * 6 * SPREAD[2]
    assert surge.level == pytest.approx(6.0)
    assert surge.expected == pytest.approx(PEAK * 6)
    facts = surge.evidence
    assert (facts.model, facts.step_s, facts.pinball, facts.coverage_p90) == ("weekly", STEP_S, 0.4, 0.91)
    assert facts.loads == pytest.approx(tuple(PEAK * 6 * SPREAD))
    assert (facts.yesterday, facts.last_week) == (None, None)  # three hours are known: unknown is not zero
    assert look.until_s == NOW + 144 * STEP_S


def test_what_was_measured_yesterday_and_a_week_ago_is_told() -> None:
    minutes = 8 * 1440
    series = {key: Series(NOW - 60.0 * minutes, 60.0, np.full(minutes, 6.0)) for key in KEYS}
    for back_s, value in ((86400.0, 7.0), (7 * 86400.0, 29.0)):
        first = round((START_S - back_s - (NOW - 60.0 * minutes)) / 60)
        series[KEYS[1]].values[first : first + 10] = value
    (surge,) = surges_ahead(seen_at(NOW, TUESDAY, load=series)).surges
    assert (surge.evidence.yesterday, surge.evidence.last_week) == (7.0, 29.0)


def test_events_are_told_by_name() -> None:
    text = "profile leads; event 'Black Friday' (campaign, x2 as entered); event 'Launch' (launch, unknown size; none)"
    seen = seen_at(NOW, {})
    seen = replace(seen, forecasts=forecasts(TIERS, *OWN) | slow(TUESDAY, text=text))
    assert surges_ahead(seen).surges[0].evidence.events == ("Black Friday", "Launch")


def test_a_day_without_a_rise_says_how_much_it_needs() -> None:
    look = surges_ahead(seen_at(NOW, {}))
    assert look.surges == ()
    assert look.highest is not None and look.highest <= 14


def test_upper_quantiles_alone_are_no_surge() -> None:
    """A noisy service: its p99 is far above what is ready, all day; its median is not."""
    seen = seen_at(NOW, {})
    wide = {
        key: replace(each, values=each.values * np.array([1.0, 3.0, 5.0, 7.0, 12.0])[:, None])
        for key, each in seen.forecasts.items()
        if key[1] == STEP_S
    }
    seen = replace(seen, forecasts={**seen.forecasts, **wide})
    look = surges_ahead(seen)
    assert look.highest is not None and look.highest > 40
    assert look.surges == ()
    assert prepare(seen, (), 86400.0, 0.0) == prepare(replace(seen, forecasts=forecasts(TIERS, *OWN)), (), 86400.0, 0.0)


def test_what_the_minutes_foresee_is_no_surge() -> None:
    fast = forecasts(TIERS, *(PEAK * own for own in OWN))
    seen = seen_at(NOW, TUESDAY)
    assert surges_ahead(replace(seen, forecasts={**seen.forecasts, **fast})).surges == ()


def test_two_peaks_are_two_surges_and_those_that_are_followed_are_not_named_again() -> None:
    seen = seen_at(NOW, {6: PEAK, 7: PEAK, 40: PEAK})
    first, second = surges_ahead(seen).surges
    assert (first.end_s, second.start_s) == (NOW + 8 * STEP_S, NOW + 40 * STEP_S)
    assert surges_ahead(seen, (replace(first, status=SurgeStatus.PREPARING),)).surges == (second,)


def test_the_hourly_grid_stands_in_where_the_other_is_unknown() -> None:
    seen = seen_at(NOW, {})
    unknown = {
        key: replace(each, values=np.full_like(each.values, np.nan))
        for key, each in seen.forecasts.items()
        if key[1] == STEP_S
    }
    hourly = slow({2: PEAK}, step_s=3600.0, count=24)
    (surge,) = surges_ahead(replace(seen, forecasts={**seen.forecasts, **unknown, **hourly})).surges
    assert (surge.start_s, surge.end_s, surge.evidence.step_s) == (NOW + 7200, NOW + 10_800, 3600.0)


def test_without_a_slow_forecast_nothing_is_known() -> None:
    seen = seen_at(NOW, {})
    seen = replace(seen, forecasts=forecasts(TIERS, *OWN))
    look = surges_ahead(seen)
    assert (look.until_s, look.highest, look.surges) == (None, None, ())
    assert prepare(seen, (), AHEAD_S, 9.0)[0].capacity == 0


def test_a_load_that_is_not_known_is_no_level_to_rise_from() -> None:
    gone = {key: Series(NOW - 3600, 60.0, np.full(60, np.nan)) for key in KEYS}
    assert surges_ahead(seen_at(NOW, TUESDAY, load=gone)).surges == ()
    assert mean_load(seen_at(NOW, {}, load=gone), KEYS[0], NOW - 600, NOW) is None


def test_a_tier_that_can_wait_is_not_prepared_for() -> None:
    seen = seen_at(NOW, {})
    background = {
        key: replace(each, values=each.values * 20) for key, each in seen.forecasts.items() if key[0] == KEYS[2]
    }
    assert surges_ahead(replace(seen, forecasts={**seen.forecasts, **background})).surges == ()
    later = tuple(replace(each, target_ms=3_600_000.0) for each in TIERS)
    assert surges_ahead(seen_at(NOW, TUESDAY, envelope=envelope(tiers=later))).until_s is None


@settings(max_examples=60, deadline=None)
@given(st.floats(0.1, 60), st.integers(0, 30))
def test_a_named_surge_needs_more_than_is_there_and_rises_beyond_the_noise(factor: float, ready: int) -> None:
    seen = seen_at(NOW, dict.fromkeys(range(6, 18), factor), replicas=fleet({A10G.id: ready}))
    look = surges_ahead(seen)
    for surge in look.surges:
        assert surge.need > ready
        assert surge.expected > RISE * surge.level
        assert surge.expected - NOISE * np.sqrt(surge.expected) > surge.level
        assert surge.start_s < surge.end_s <= (look.until_s or 0)
    assert look.highest is not None
    if not look.surges and look.highest > ready:
        assert factor * 6 <= max(RISE * 6, 6 + NOISE * np.sqrt(factor * 6)) + 1e-6 or factor * 6 <= 6 * 1.105


# --- what is prepared ---


def prepared(
    now_s: float, since: Mapping[float, float] | None = None, tracked: tuple[Surge, ...] = ()
) -> tuple[float, tuple[Surge, ...]]:
    found, kept = prepare(seen_at(now_s, TUESDAY, since), tracked, AHEAD_S, 12.0)
    return found.capacity, kept


def opened() -> tuple[Surge, ...]:
    return prepared(START_S - AHEAD_S + 1)[1]


def test_capacity_is_asked_for_a_look_ahead_before_the_start_and_not_earlier() -> None:
    assert prepared(START_S - AHEAD_S - 1) == (0.0, ())
    capacity, (surge,) = prepared(START_S - AHEAD_S + 1)
    assert capacity == surge.need
    assert surge.status is SurgeStatus.PREPARING


def test_the_tick_after_goes_on_with_the_same_surge() -> None:
    capacity, kept = prepared(START_S - LEAD_S, tracked=opened())
    assert kept == opened()
    assert capacity == kept[0].need


def test_a_forecast_that_wavers_lets_nothing_go_before_the_surge_is_judged() -> None:
    asked = opened()[0].prepared
    wavering = dict.fromkeys(TUESDAY, 0.9 * PEAK)
    found, kept = prepare(seen_at(START_S - LEAD_S, wavering), opened(), AHEAD_S, 12.0)
    assert found.capacity == asked == kept[0].prepared
    found, kept = prepare(seen_at(START_S + evidence_s(LEAD_S), wavering), kept, AHEAD_S, 12.0)
    assert found.capacity == 0


def test_a_surge_that_came_is_held_until_any_scale_in_may_be_and_no_longer() -> None:
    after_s = {START_S - NOW: PEAK}
    now_s = START_S + evidence_s(LEAD_S)
    capacity, kept = prepared(now_s, after_s, opened())
    assert [each.status for each in kept] == [SurgeStatus.CAME]
    assert kept[0].observed == pytest.approx(PEAK * 6)
    assert capacity == kept[0].need
    assert prepared(START_S + AHEAD_S + 1, after_s, kept)[0] == 0
    assert prepared(NOW + 18 * STEP_S, after_s, kept)[1] == ()


def test_a_surge_that_does_not_come_is_let_go_after_half_a_lead_time() -> None:
    assert prepared(START_S + evidence_s(LEAD_S) - 1, None, opened())[0] > 0
    now_s = START_S + evidence_s(LEAD_S)
    assert now_s < START_S + LEAD_S
    capacity, kept = prepared(now_s, None, opened())
    assert capacity == 0
    assert [each.status for each in kept] == [SurgeStatus.DID_NOT_COME]
    reason = missed(kept, now_s, LEAD_S)
    assert reason is not None
    assert (reason.limit, reason.numbers["observed"]) == (Limit.SURGE_MISSED, pytest.approx(6.0))
    # It is not believed again while it is claimed, and forgotten at its end.
    for later in (600.0, 3600.0):
        assert prepared(START_S + later, None, kept)[0] == 0
        assert missed(prepared(START_S + later, None, kept)[1], START_S + later, LEAD_S) is None
    assert prepared(NOW + 18 * STEP_S, None, kept)[1] == ()


def test_nothing_measured_says_nothing() -> None:
    """Unknown is not zero: a surge whose minutes are missing has neither come nor failed to."""
    now_s = START_S + 900
    seen = seen_at(now_s, TUESDAY)
    blind = {
        key: Series(each.start_s, 60.0, np.where(np.arange(len(each.values)) < 240, each.values, np.nan))
        for key, each in seen.load.items()
    }
    found, kept = prepare(replace(seen, load=blind), opened(), AHEAD_S, 12.0)
    assert [each.status for each in kept] == [SurgeStatus.PREPARING]
    assert found.capacity > 0


def test_what_is_in_flight_may_be_its_beginning() -> None:
    now_s = START_S + evidence_s(LEAD_S)
    seen = seen_at(now_s, TUESDAY, queues=queues(TIERS, (10, 15, 0)))
    assert prepare(seen, opened(), AHEAD_S, 12.0)[1][0].status is SurgeStatus.PREPARING


def test_a_surge_that_comes_late_is_said_to_and_left_to_the_minutes() -> None:
    gone = prepared(START_S + evidence_s(LEAD_S), None, opened())[1]
    capacity, kept = prepared(START_S + 2400, {START_S - NOW + 1500: PEAK}, gone)
    assert [each.status for each in kept] == [SurgeStatus.CAME_LATE]
    assert capacity == 0


def test_a_larger_rise_within_one_that_did_not_come_is_a_surge_of_its_own() -> None:
    gone = prepared(START_S + evidence_s(LEAD_S), None, opened())[1]
    larger = {**TUESDAY, 12: PEAK * LARGER * 1.05, 13: PEAK * LARGER * 1.05}
    now_s = NOW + 12 * STEP_S - LEAD_S
    found, kept = prepare(seen_at(now_s, larger), gone, AHEAD_S, 12.0)
    assert [each.status for each in kept] == [SurgeStatus.DID_NOT_COME, SurgeStatus.PREPARING]
    assert found.capacity > gone[0].need


def test_a_claim_that_goes_on_is_not_believed_again() -> None:
    gone = prepared(START_S + evidence_s(LEAD_S), None, opened())[1]
    longer = dict.fromkeys(range(6, 30), PEAK)
    now_s = NOW + 18 * STEP_S - 60
    found, kept = prepare(seen_at(now_s, longer), gone, AHEAD_S, 12.0)
    assert found.capacity == 0
    assert kept[0].end_s == NOW + 30 * STEP_S


def test_a_surge_that_the_next_forecast_does_not_expect_is_withdrawn() -> None:
    found, kept = prepare(seen_at(START_S - LEAD_S, {}), opened(), AHEAD_S, 12.0)
    assert found.capacity == 0
    assert [each.status for each in kept] == [SurgeStatus.WITHDRAWN]


def test_it_is_judged_from_the_minute_of_the_rise_a_week_ago() -> None:
    """The slow grid knows the hour; what was measured knows the minute."""
    minutes = 8 * 1440
    series = {key: Series(NOW - 60.0 * minutes, 60.0, np.full(minutes, 6.0)) for key in KEYS}
    first = round((START_S + 420 - 7 * 86400.0 - (NOW - 60.0 * minutes)) / 60)
    for each in series.values():
        each.values[first : first + 110] = 30.0
    (surge,) = surges_ahead(seen_at(NOW, TUESDAY, load=series)).surges
    assert surge.start_s == START_S
    assert surge.judge_s == START_S + 420


def test_a_short_lead_time_still_waits_for_two_minutes() -> None:
    assert evidence_s(60.0) == EVIDENCE_S
    assert evidence_s(3600.0) == 1800.0


def test_a_rise_that_was_foreseen_is_not_carried_on_beyond_it() -> None:
    now_s = START_S + 120
    seen = seen_at(now_s, TUESDAY, {START_S - NOW: PEAK})
    expected = foreseen(seen, opened(), AHEAD_S)
    assert expected[KEYS[1]] == pytest.approx(PEAK * 6 * SPREAD[-1])
    names = ("premium", "standard")
    blind, knowing = (burst_hold(seen, names, 0.0, LEAD_S, limit) for limit in (None, expected[KEYS[1]]))
    assert knowing.high == blind.high
    assert knowing.rise < blind.rise
    assert knowing.high + knowing.rise <= expected[KEYS[1]] + 1e-9
    # More than was foreseen is a burst again.
    assert burst_hold(seen, names, 0.0, LEAD_S, 20.0) == blind
    # Before its start, and when nothing is prepared for, nothing is foreseen.
    assert foreseen(seen_at(START_S - 60, TUESDAY), opened(), AHEAD_S) == {}
    assert foreseen(seen, (), AHEAD_S) == {}


# --- in the plan ---


def planned(
    now_s: float, since: Mapping[float, float] | None = None, memory: Memory | None = None, **changes: object
) -> tuple[Plan, Memory]:
    settled = Memory(since_s=NOW - 10_800, reserves=(0.0, 0.0, 0.0), reserves_s=NOW)
    seen = seen_at(now_s, TUESDAY, since, queues=queues(TIERS, (2, 4, 1)), **changes)
    return Heddle().plan(seen, memory or settled, "p-1")


def test_the_plan_takes_the_larger_need_and_says_why() -> None:
    calm, _ = planned(START_S - AHEAD_S - 60)
    made, memory = planned(START_S - AHEAD_S + 1)
    assert made.required > calm.required
    assert made.bound.limit is Limit.SURGE_AHEAD
    assert made.bound in made.reasons
    assert made.required == made.stabilized == made.numbers["surge_gpus"]
    assert made.surges == memory.surges
    # It does not pass through the window that holds: what the window remembers is the minutes' need.
    assert memory.highest() == calm.numbers["required_gpus"]


def test_a_surge_that_does_not_come_leaves_the_fleet_at_once() -> None:
    _, memory = planned(START_S - AHEAD_S + 1)
    grown = fleet({A10G.id: 36})
    held, memory = planned(START_S + 60, memory=memory, replicas=grown)
    assert not released(held)
    gone, _ = planned(START_S + evidence_s(LEAD_S), memory=memory, replicas=grown)
    assert gone.bound.limit is Limit.SURGE_MISSED
    assert len(released(gone)) > 20
    assert 36 - len(released(gone)) >= 7


def test_the_cap_beats_a_surge() -> None:
    made, _ = planned(START_S - AHEAD_S + 1, envelope=envelope(10.0))
    assert made.bound.limit is Limit.SPEND_CAP
    assert made.desired < made.required
