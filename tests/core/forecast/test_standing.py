"""A leader is demoted on evidence, promoted on evidence, and never by a coin toss."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.forecast.base import GRIDS
from controller.core.forecast.standing import (
    BASELINES,
    DRIFT_H,
    KEPT_H,
    LEVELS,
    MARGIN,
    WINDOW_H,
    Standing,
    begun,
    coverage,
    drifted,
    judged,
    live,
    scored,
    window_h,
)
from controller.core.series import HOUR_S
from controller.core.types import QUANTILES, FloatArray

START_S = 1_732_492_800.0
LEADER, NAIVE, WEEKLY, RUNNER = "profile", *BASELINES, "autoreg_fourier"
TEN_MINUTES = 600.0


def around(middle: FloatArray | float, width: float = 1.0, count: int = 1) -> FloatArray:
    """Quantiles about a middle, shape (quantiles, count)."""
    return np.asarray(middle) + width * (np.asarray(QUANTILES)[:, None] - 0.5) * np.ones(count)


def step(
    standing: Standing, at_s: float, actual: float, issued: dict[str, FloatArray], ahead_s: float = TEN_MINUTES
) -> Standing:
    ones = np.ones(1)
    return scored(standing, at_s * ones, ahead_s * ones, ones, actual * ones, issued, issued)


def run(
    standing: Standing,
    from_s: float,
    hours: float,
    errors: dict[str, float],
    noise: np.random.Generator | None = None,
) -> tuple[Standing, list[tuple[float, str]]]:
    """Ten-minute steps, each model off by so much, judged each half hour; who came to serve, in hours from from_s."""
    changes = []
    for half in range(1, round(hours * 2) + 1):
        now_s = from_s + half * HOUR_S / 2
        ones = np.ones(3)
        actual = 10.0 + (noise.normal(size=3) if noise else 0.0 * ones)
        issued = {model: around(10.0 + error, 2.0, 3) for model, error in errors.items()}
        ends_s = now_s - TEN_MINUTES * np.array([2.0, 1.0, 0.0])
        standing = scored(standing, ends_s, TEN_MINUTES * ones, ones, actual, issued, issued)
        standing, verdict = judged(standing, now_s)
        if verdict.changed:
            changes.append((half / 2, standing.serving))
    return standing, changes


def test_pinball_is_the_mean_over_quantiles_of_koenker_and_bassett() -> None:
    standing = step(begun(LEADER), START_S, 7.0, {LEADER: np.full((5, 1), 5.0)})
    found = live(standing, LEADER, START_S, WINDOW_H)
    assert found.pinball == pytest.approx(2.0 * np.mean(QUANTILES))
    assert (found.points, found.load, found.against_leader) == (1, 7.0, 1.0)


def test_steps_far_ahead_weigh_as_many_as_they_stand_for() -> None:
    flat = np.full((5, 2), 5.0)
    two = np.array([1.0, 3.0])
    standing = scored(
        begun(LEADER), START_S + np.zeros(2), two, two, np.array([6.0, 7.0]), {LEADER: flat}, {LEADER: flat}
    )
    assert live(standing, LEADER, START_S, WINDOW_H).pinball == pytest.approx(np.mean(QUANTILES) * (1 + 2 * 3) / 4)


def test_coverage_of_raw_and_issued_quantiles_near_and_far() -> None:
    low, high = np.full((5, 4), 1.0), np.full((5, 4), 9.0)
    ahead_s = np.array([600.0, 7200.0, 7800.0, 86_400.0])
    actual = np.array([5.0, 5.0, 5.0, 10.0])
    standing = scored(begun(LEADER), np.full(4, START_S), ahead_s, np.ones(4), actual, {LEADER: low}, {LEADER: high})
    near, far = coverage(standing, LEADER, START_S, 24.0)
    assert near.raw == (0.0,) * len(LEVELS) and near.issued == (1.0,) * len(LEVELS)
    assert far.raw == (0.0,) * len(LEVELS) and far.issued == (0.75,) * len(LEVELS)
    nothing = coverage(begun(LEADER), LEADER, START_S, 24.0)
    assert np.isnan([*nothing[0].raw, *nothing[1].issued]).all()


@pytest.mark.parametrize("actual", [np.nan, np.inf])
def test_what_is_unknown_counts_for_nothing(actual: float) -> None:
    assert step(begun(LEADER), START_S, actual, {LEADER: around(10.0)}).hours == {}
    assert step(begun(LEADER), START_S, 10.0, {LEADER: np.full((5, 1), np.nan)}).hours == {}
    assert step(begun(LEADER), START_S, 10.0, {NAIVE: around(10.0)}).hours == {}, "no score without the leader's"


def test_too_few_points_change_nothing_and_it_says_so() -> None:
    standing, changes = run(begun(LEADER), START_S, 2.0, {LEADER: 9.0, NAIVE: 0.0})
    assert changes == [] and standing.serving == LEADER
    _, verdict = judged(standing, START_S + 2 * HOUR_S)
    assert not verdict.changed
    assert "12 points over 3 h are too few" in verdict.text or "12 points over 2 h are too few" in verdict.text


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), error=st.floats(0.0, 20.0), days=st.integers(1, 2))
def test_equal_scores_never_change_anything(seed: int, error: float, days: int) -> None:
    generator = np.random.default_rng(seed)
    errors = {LEADER: error, NAIVE: error, RUNNER: error, WEEKLY: error}
    standing, changes = run(begun(LEADER), START_S, 24.0 * days, errors, generator)
    assert changes == [] and not standing.demoted


def coin_toss(seed: int) -> list[float]:
    """Two forecasts that are equally good and err independently, for two days: when another came to serve, in hours."""
    generator = np.random.default_rng(seed)
    standing, changes = begun(LEADER), []
    for i in range(6 * 48):
        at_s = START_S + (i + 1) * TEN_MINUTES
        issued = {model: around(10.0 + 0.2 * generator.normal(), 2.0) for model in (LEADER, NAIVE)}
        standing = step(standing, at_s, 10.0 + generator.normal(), issued)
        standing, verdict = judged(standing, at_s)
        if verdict.changed:
            changes.append((at_s - START_S) / HOUR_S)
    return changes


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_changes_by_chance_lie_a_window_apart(seed: int) -> None:
    assert (np.diff(coin_toss(seed)) >= WINDOW_H).all()


def test_changes_by_chance_are_few() -> None:
    assert np.mean([len(coin_toss(seed)) for seed in range(12)]) <= 2.0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), worse=st.floats(6.0, 50.0), before=st.integers(0, 30))
def test_a_leader_that_breaks_is_demoted_within_the_window_and_an_hour(seed: int, worse: float, before: int) -> None:
    generator = np.random.default_rng(seed)
    standing, changes = run(begun(LEADER), START_S, before, {LEADER: 0.0, NAIVE: 3.0}, generator)
    assert changes == []
    standing, changes = run(standing, START_S + before * HOUR_S, WINDOW_H + 1, {LEADER: worse, NAIVE: 3.0}, generator)
    assert [who for _, who in changes] == [NAIVE]
    assert changes[0][0] <= WINDOW_H + 1


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), out=st.integers(7, 40))
def test_a_leader_that_recovers_is_promoted(seed: int, out: int) -> None:
    generator = np.random.default_rng(seed)
    standing, changes = run(begun(LEADER), START_S, out, {LEADER: 12.0, NAIVE: 3.0}, generator)
    assert [who for _, who in changes] == [NAIVE]
    standing, changes = run(standing, START_S + out * HOUR_S, 2 * WINDOW_H + 1, {LEADER: 0.0, NAIVE: 3.0}, generator)
    assert [who for _, who in changes] == [LEADER]
    assert not standing.demoted


def test_after_a_change_the_next_needs_a_window_of_its_own() -> None:
    standing, changes = run(begun(LEADER), START_S, 4.0, {LEADER: 6.0, NAIVE: 3.0})
    assert len(changes) == 1
    demoted_h = changes[0][0]
    _, changes = run(standing, START_S + 4 * HOUR_S, 24.0, {LEADER: 0.0, NAIVE: 9.0})
    assert changes[0][0] + 4 - demoted_h >= WINDOW_H


def test_the_change_tells_both_scores() -> None:
    standing = begun(LEADER)
    for i in range(36):
        issued = {LEADER: np.full((5, 1), 6.0), NAIVE: np.full((5, 1), 9.0)}
        standing = step(standing, START_S + i * TEN_MINUTES, 10.0, issued)
    after, verdict = judged(standing, START_S + 6 * HOUR_S)
    assert verdict.changed and after.demoted
    assert verdict.text == (
        "profile is demoted, seasonal_naive_24h serves: live pinball 3.312 against 0.828 over the last 6 h (36 points)"
    )
    assert verdict.numbers["loser_pinball"] == pytest.approx(4 * np.mean(QUANTILES))
    assert verdict.numbers["winner_pinball"] == pytest.approx(np.mean(QUANTILES))
    assert (verdict.numbers["points"], verdict.numbers["window_h"]) == (36.0, WINDOW_H)


def test_the_best_of_the_rivals_serves_but_only_a_seasonal_naive_demotes() -> None:
    _, changes = run(begun(LEADER), START_S, 8.0, {LEADER: 6.0, NAIVE: 6.0, RUNNER: 0.0})
    assert changes == [], "the backtest chose the leader over the runner-up; naive must beat it to doubt that"
    _, changes = run(begun(LEADER), START_S, 8.0, {LEADER: 9.0, NAIVE: 6.0, RUNNER: 0.0})
    assert [who for _, who in changes] == [RUNNER]
    _, changes = run(begun(LEADER), START_S, 8.0, {LEADER: 9.0, NAIVE: 9.0, WEEKLY: 2.0})
    assert [who for _, who in changes] == [WEEKLY]


def test_a_seasonal_naive_that_leads_is_judged_by_the_other() -> None:
    _, changes = run(begun(NAIVE), START_S, 8.0, {NAIVE: 6.0, RUNNER: 0.0})
    assert changes == []
    _, changes = run(begun(NAIVE), START_S, 8.0, {NAIVE: 6.0, WEEKLY: 0.0})
    assert [who for _, who in changes] == [WEEKLY]


def test_a_rival_followed_only_now_and_then_is_no_rival() -> None:
    standing = begun(LEADER)
    for i in range(48):
        issued = {LEADER: around(16.0)} | ({NAIVE: around(10.0)} if i % 2 else {})
        standing, verdict = judged(step(standing, START_S + i * TEN_MINUTES, 10.0, issued), START_S + i * TEN_MINUTES)
        assert not verdict.changed


def test_who_serves_but_is_not_followed_any_more_gives_way() -> None:
    standing, _ = run(begun(LEADER), START_S, 8.0, {LEADER: 9.0, NAIVE: 6.0, RUNNER: 0.0})
    assert standing.serving == RUNNER
    standing, changes = run(standing, START_S + 8 * HOUR_S, 24.0, {LEADER: 9.0, NAIVE: 9.0})
    assert changes[0][1] == LEADER


def test_evidence_is_bounded_and_old_evidence_goes() -> None:
    standing, _ = run(begun(LEADER), START_S, 100.0, {LEADER: 0.0, NAIVE: 0.0})
    assert len(standing.hours) == KEPT_H
    assert live(standing, LEADER, START_S + 200 * HOUR_S, WINDOW_H).points == 0


def test_a_clock_set_back_judges_by_what_is_over() -> None:
    standing, _ = run(begun(LEADER), START_S, 12.0, {LEADER: 0.0, NAIVE: 0.0})
    assert live(standing, LEADER, START_S + 2 * HOUR_S, WINDOW_H).points < 24
    standing, verdict = judged(standing, START_S - 1000 * HOUR_S)
    assert not verdict.changed and "too few" in verdict.text


@pytest.mark.parametrize("step_s", [step_s for step_s, _ in GRIDS])
def test_a_window_spans_two_dozen_steps_at_least(step_s: float) -> None:
    assert window_h(step_s) >= WINDOW_H
    assert window_h(step_s) * HOUR_S / step_s >= 24


def steady(error: float, level: float = 10.0, width: float = 4.0) -> Standing:
    standing = begun(LEADER)
    for i in range(144):
        standing = step(standing, START_S + i * TEN_MINUTES, level + error, {LEADER: around(level, width)})
    return standing


def test_drift_is_a_loss_beyond_the_backtest_in_gpus_and_in_relation_to_the_load() -> None:
    now_s = START_S + 24 * HOUR_S
    fine = live(steady(0.0), LEADER, now_s, DRIFT_H).pinball
    assert drifted(steady(0.0), fine, 10.0, now_s) is None
    broken = drifted(steady(5.0), fine, 10.0, now_s)
    assert broken is not None and "in the backtest" in broken.text and broken.numbers["backtest_pinball"] == fine
    peak = steady(0.0, level=100.0, width=40.0)
    assert drifted(peak, fine, 10.0, now_s) is None, "ten times the load and the error is a peak"
    assert drifted(peak, fine, float("nan"), now_s) is not None, "of an unknown load the loss alone counts"


def test_drift_is_a_quantile_that_no_longer_covers() -> None:
    standing = begun(LEADER)
    for i in range(144):
        standing = step(standing, START_S + i * TEN_MINUTES, 10.0 + 1.9 * (i % 3 == 0), {LEADER: around(10.0, 4.0)})
    found = drifted(standing, 100.0, 10.0, START_S + 24 * HOUR_S)
    assert found is not None and "67% of the load lay under the 0.9 quantile" in found.text


def test_some_hours_that_are_missed_wholly_are_no_drift() -> None:
    """Six hours in a row above the 0.9 quantile of all origins, the other eighteen below it: one event, not a habit."""
    standing = begun(LEADER)
    for i in range(144):
        standing = step(standing, START_S + i * TEN_MINUTES, 10.0 + 1.9 * (i < 36), {LEADER: around(10.0, 4.0)})
    now_s = START_S + 24 * HOUR_S
    assert coverage(standing, LEADER, now_s, DRIFT_H)[-1].issued[LEVELS.index(0.9)] == 0.75
    assert drifted(standing, 100.0, 10.0, now_s) is None


def test_six_hours_are_not_judged_by_a_backtest_of_whole_days() -> None:
    standing = begun(LEADER)
    for i in range(36):
        standing = step(standing, START_S + i * TEN_MINUTES, 15.0, {LEADER: around(10.0)})
    assert drifted(standing, 0.1, 10.0, START_S + 6 * HOUR_S) is None


def test_drift_needs_evidence() -> None:
    standing = step(begun(LEADER), START_S, 99.0, {LEADER: around(1.0)})
    assert drifted(standing, 0.1, 1.0, START_S) is None
    assert drifted(begun(LEADER), None, float("nan"), START_S) is None
    assert MARGIN > 0
