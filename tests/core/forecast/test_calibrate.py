"""Calibration: coverage comes to what it should be whatever the demand does, and nothing is known before its time."""

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from controller.core.forecast.base import GRIDS, IntArray
from controller.core.forecast.calibrate import (
    Calibration,
    bucket_ends,
    calibrated,
    coverage,
    fresh,
    observe,
    observe_many,
    rehearsed,
)
from controller.core.series import WEEK_S
from controller.core.types import QUANTILES, FloatArray

HOUR_STEPS = 24
NEAR = 2  # steps ahead that are corrected fast
Z = np.asarray(ndtri(np.asarray(QUANTILES)), dtype=np.float64)
SIDE = slice(QUANTILES.index(0.8), QUANTILES.index(0.95) + 1)
NOISE = 0.1


def noise(count: int, seed: int, memory: float = 0.0) -> FloatArray:
    """Standard normal; each remembers the share `memory` of the one before."""
    pushes = np.random.default_rng(seed).normal(size=count)
    out = pushes.copy()
    for i in range(1, count):
        out[i] = memory * out[i - 1] + np.sqrt(1.0 - memory**2) * pushes[i]
    return out


def outcomes(values: FloatArray, count: int) -> FloatArray:
    return values[np.arange(count)[:, None] + np.arange(HOUR_STEPS)]


def band(path: FloatArray, spread: FloatArray | float) -> FloatArray:
    """Normal quantiles (origins, quantiles, steps) around a path (origins,) that goes on as it is."""
    wide = np.broadcast_to(np.asarray(spread), path.shape)
    quantiles = path[:, None] + Z[None, :] * wide[:, None]
    return np.repeat(np.maximum(quantiles, 0.0)[:, :, None], HOUR_STEPS, axis=2)


def day_before(values: FloatArray, count: int) -> FloatArray:
    """The mean of the 24 values before each origin."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(count)
    first = np.maximum(at - 24, 0)
    return np.where(at > 0, (sums[at] - sums[first]) / np.maximum(at - first, 1), values[0])


def covered(forecasts: FloatArray, actual: FloatArray, steps: int = NEAR) -> FloatArray:
    """Share of outcomes at or below each quantile."""
    hit = actual[:, None, :steps] <= forecasts[:, :, :steps] + 1e-9
    return np.asarray(hit.mean(axis=(0, 2)), dtype=np.float64)


def miss(forecasts: FloatArray, actual: FloatArray, steps: int = NEAR) -> float:
    """How far the coverage of 0.8 to 0.95 is off at worst."""
    return float(np.abs(covered(forecasts, actual, steps) - np.asarray(QUANTILES))[SIDE].max())


@pytest.mark.parametrize("memory", [0.0, 0.9])
@pytest.mark.parametrize("claimed", [0.3, 3.0], ids=["too narrow", "too wide"])
def test_a_wrong_spread_is_put_right(claimed: float, memory: float) -> None:
    count = 24 * 60
    actual = outcomes(10.0 * (1.0 + NOISE * noise(count + HOUR_STEPS, 1, memory)), count)
    raw = band(np.full(count, 10.0), 10.0 * NOISE * claimed)
    _, shown = rehearsed(fresh(3600.0, HOUR_STEPS), np.arange(count), raw, actual)
    late = slice(count // 2, None)
    assert miss(raw[late], actual[late]) > 0.1
    assert miss(shown[late], actual[late]) < 0.05
    assert miss(shown[late], actual[late], HOUR_STEPS) < miss(raw[late], actual[late], HOUR_STEPS)


@pytest.mark.parametrize("seed", [0, 1])
def test_quantiles_that_cross_do_not_drive_each_other_apart(seed: int) -> None:
    """Much too wide a band, outcomes that stay long on one side: corrections cross, and must come back."""
    count = 24 * 60
    actual = outcomes(10.0 * (1.0 + NOISE * noise(count + HOUR_STEPS, seed, 0.9)), count)
    raw = band(np.full(count, 10.0), 3.0 * 10.0 * NOISE)
    _, shown = rehearsed(fresh(3600.0, HOUR_STEPS), np.arange(count), raw, actual)
    assert shown.max() <= raw.max() + 1e-9
    assert shown.min() >= actual.min() - 10.0 * NOISE
    assert miss(shown[count // 2 :], actual[count // 2 :]) < 0.06


def test_demand_that_grows_by_40_percent_a_week_stays_covered() -> None:
    count = 24 * 42
    at = np.arange(count + HOUR_STEPS)
    values = 10.0 * 1.4 ** (at * 3600.0 / WEEK_S) * (1.0 + NOISE * noise(len(at), 3))
    actual, path = outcomes(values, count), day_before(values, count)
    raw = band(path, 0.7 * NOISE * path)  # behind by half a day, and too narrow
    _, shown = rehearsed(fresh(3600.0, HOUR_STEPS), np.arange(count), raw, actual)
    late = slice(24 * 14, None)
    assert miss(raw[late], actual[late]) > 0.1
    assert miss(shown[late], actual[late]) < 0.04


def test_a_change_of_level_is_covered_again_in_the_following_days() -> None:
    """The level doubles, and what is unforeseen with it; the path follows within a day, the band never does."""
    count, edge = 24 * 34, 24 * 20
    at = np.arange(count + HOUR_STEPS)
    values = np.where(at < edge, 10.0, 20.0) * (1.0 + NOISE * noise(len(at), 4))
    actual, path = outcomes(values, count), day_before(values, count)
    raw = band(path, 10.0 * NOISE)
    _, shown = rehearsed(fresh(3600.0, HOUR_STEPS), np.arange(count), raw, actual)
    before, after = slice(24 * 10, edge - HOUR_STEPS), slice(edge + 24 * 3, edge + 24 * 13)
    assert miss(shown[before], actual[before]) < 0.05
    assert miss(raw[after], actual[after]) > 0.1
    assert miss(shown[after], actual[after]) < 0.05


def test_what_is_right_already_is_left_alone() -> None:
    count = 24 * 40
    actual = outcomes(10.0 * (1.0 + NOISE * noise(count + HOUR_STEPS, 5)), count)
    raw = band(np.full(count, 10.0), 10.0 * NOISE)
    _, shown = rehearsed(fresh(3600.0, HOUR_STEPS), np.arange(count), raw, actual)
    assert np.abs(shown - raw)[:, SIDE].mean() < 0.3 * 10.0 * NOISE
    assert miss(shown, actual) < 0.03


@pytest.mark.parametrize("murmur", [0.0, 0.02], ids=["silent", "nearly silent"])
def test_silent_nights_leave_the_days_covered(murmur: float) -> None:
    """Half of the hours are forecast silent and are: they lie under every quantile, and the days' band, which is right,
    must not be narrowed until all hours together come to 0.9."""
    count = 24 * 60
    at = np.arange(count + HOUR_STEPS)
    day = (at % 24) >= 12
    values = np.where(day, 10.0 * (1.0 + NOISE * noise(len(at), 11)), 0.0)
    path = outcomes(np.where(day, 10.0, murmur), count)
    raw = np.maximum(path[:, None, :] * (1.0 + NOISE * Z[None, :, None]), 0.0)
    actual = outcomes(values, count)
    _, shown = rehearsed(fresh(3600.0, HOUR_STEPS), np.arange(count), raw, actual)
    late, busy = slice(count // 2, None), path[count // 2 :, :NEAR] > 1.0
    hit = actual[late, None, :NEAR] <= shown[late, :, :NEAR]
    by_day = np.array([hit[:, q][busy].mean() for q in range(len(QUANTILES))])
    assert np.abs(by_day - np.asarray(QUANTILES))[SIDE].max() < 0.04
    assert hit[:, QUANTILES.index(0.9)].mean() > 0.93, "over all hours, the silent ones too"


def learned(steps: int = HOUR_STEPS, step_s: float = 3600.0, seed: int = 6) -> Calibration:
    """After some outcomes, most of them above what was forecast."""
    generator = np.random.default_rng(seed)
    at = generator.integers(0, steps, 500)
    raw = np.sort(generator.exponential(5.0, (500, len(QUANTILES))), axis=1)
    return observe_many(fresh(step_s, steps), at, raw, generator.exponential(12.0, 500))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, HOUR_STEPS), st.floats(0.0, 1e6))
def test_what_is_shown_is_in_order_and_not_negative(seed: int, steps: int, unit: float) -> None:
    generator = np.random.default_rng(seed)
    known = fresh(3600.0, HOUR_STEPS)
    known = replace(known, shift=generator.normal(0.0, 5.0, known.shift.shape))
    values = np.sort(unit * generator.exponential(1.0, (3, len(QUANTILES), steps)), axis=1)
    values[0, :, 0] = np.nan
    shown = calibrated(known, values)
    assert shown.shape == values.shape
    np.testing.assert_array_equal(np.isnan(shown), np.isnan(values))
    rest = shown[1:]
    assert (rest >= 0).all() and (np.diff(rest, axis=1) >= 0).all()


def test_nothing_learned_corrects_nothing_and_too_many_steps_are_refused() -> None:
    values = band(np.array([3.0, 7.0]), 1.0)
    np.testing.assert_array_equal(calibrated(fresh(3600.0, HOUR_STEPS), values), values)
    with pytest.raises(ValueError, match="24 steps, the calibration is of 12"):
        calibrated(fresh(3600.0, 12), values)


def test_one_path_is_corrected_as_many_are() -> None:
    values, known = band(np.array([3.0, 7.0]), 1.0), learned()
    np.testing.assert_array_equal(calibrated(known, values)[1], calibrated(known, values[1]))
    np.testing.assert_array_equal(calibrated(known, values)[:, :, :5], calibrated(known, values[:, :, :5]))


def test_what_is_not_known_teaches_nothing() -> None:
    known, raw = learned(), np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    gap = raw.copy()
    gap[2] = np.nan
    for after in (observe(known, 3, raw, float("nan")), observe(known, 3, gap, 9.0), observe(known, 3, gap * gap, 9.0)):
        assert after.to_json() == known.to_json()
    both = observe_many(known, np.array([3, 3]), np.stack([raw, raw]), np.array([9.0, np.nan]))
    assert both.to_json() == observe(known, 3, raw, 9.0).to_json()


def test_an_outcome_moves_its_own_horizon_only_and_towards_itself() -> None:
    bare, raw = fresh(3600.0, HOUR_STEPS), np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    high, low = observe(bare, 0, raw, 9.0), observe(bare, 0, raw, 0.0)
    assert (high.shift[0, 1:] > 0).all() and (low.shift[0, 1:] < 0).all()
    assert not high.shift[1:].any() and not low.shift[1:].any()
    assert not high.shift[:, 0].any(), "the median stays what the models are compared by"


@pytest.mark.parametrize(("step_s", "steps"), [*GRIDS, (1800.0, 48)])
def test_json_there_and_back(step_s: float, steps: int) -> None:
    known = learned(steps, step_s)
    back = Calibration.from_json(json.loads(json.dumps(known.to_json(), allow_nan=False)))
    assert back.to_json() == known.to_json() and back.ends == known.ends
    values = np.sort(np.random.default_rng(1).exponential(3.0, (len(QUANTILES), steps)), axis=0)
    np.testing.assert_array_equal(calibrated(back, values), calibrated(known, values))
    again = observe(back, steps - 1, values[:, -1], 100.0)
    assert again.to_json() == observe(known, steps - 1, values[:, -1], 100.0).to_json()


BROKEN: dict[str, dict[str, Any]] = {
    "another grid": {"steps": 3},
    "no steps": {"steps": 0},
    "steps in words": {"steps": "many"},
    "an unknown step": {"step_s": float("nan")},
    "a shift too short": {"shift": [[0.0] * len(QUANTILES)]},
    "a ragged shift": {"shift": [[0.0], [0.0, 1.0]]},
    "an unknown number": {"weight": [float("nan")] * 7},
    "an infinite number": {"weight": [float("inf")] * 7},
    "nothing": {"covered": None},
    "words": {"covered": "all"},
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_json_is_refused(what: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        Calibration.from_json({**learned().to_json(), **BROKEN[what]})


@pytest.mark.parametrize("name", ["step_s", "steps", "shift", "covered", "raw_covered", "weight", "spread"])
def test_json_that_lacks_a_part_is_refused(name: str) -> None:
    stored = learned().to_json()
    del stored[name]
    with pytest.raises(KeyError):
        Calibration.from_json(stored)


@pytest.mark.parametrize(
    ("step_s", "steps"),
    [*GRIDS, (1800.0, 48), (3600.0, 1), (60.0, 1), (86400.0, 7), (420.0, 100), (1000.0, 58), (7200.0, 12)],
)
def test_buckets_cover_every_step_once(step_s: float, steps: int) -> None:
    ends = bucket_ends(step_s, steps)
    assert ends[-1] == steps and ends[0] > 0
    assert all(low < high for low, high in pairwise(ends))
    width = np.diff((0, *ends))
    raw = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    every = observe_many(fresh(step_s, steps), np.arange(steps), np.tile(raw, (steps, 1)), np.full(steps, 2.5))
    np.testing.assert_allclose(every.weight, 1.0)
    for step in {0, steps // 2, steps - 1}:
        weight = observe(fresh(step_s, steps), step, raw, 2.5).weight
        b = int(np.searchsorted(ends, step, side="right"))
        assert weight[b] == pytest.approx(1.0 / width[b]) and np.count_nonzero(weight) == 1


def test_longer_horizons_are_corrected_apart() -> None:
    assert len(bucket_ends(60.0, 60)) > 2
    assert bucket_ends(600.0, 144)[-1] == 144 and len(bucket_ends(600.0, 144)) > 4
    hours = [end * 3600.0 for end in bucket_ends(3600.0, 24)]
    tens = [end * 600.0 for end in bucket_ends(600.0, 144)]
    assert set(hours) <= set(tens), "the same horizons on both grids"


def taken_one_by_one(
    calibration: Calibration, origins: IntArray, values: FloatArray, actual: FloatArray
) -> tuple[Calibration, FloatArray, set[tuple[int, int]]]:
    """What `rehearsed` says it does, in the plainest way: at each origin all that is over by then and wasn't taken."""
    taken: set[tuple[int, int]] = set()
    out = np.empty_like(values)
    steps = values.shape[2]
    for i in range(len(origins) + 1):
        now = origins[i] if i < len(origins) else origins[-1] + steps
        over = [(k, j) for k in range(i) for j in range(steps) if origins[k] + j + 1 <= now and (k, j) not in taken]
        if over:
            at = np.array([j for _, j in over])
            raw = np.stack([values[k, :, j] for k, j in over])
            calibration = observe_many(calibration, at, raw, np.array([actual[k, j] for k, j in over]))
        assert not taken & set(over)
        taken |= set(over)
        if i < len(origins):
            out[i] = calibrated(calibration, values[i])
    return calibration, out, taken


def past(count: int, seed: int) -> tuple[IntArray, FloatArray, FloatArray]:
    """Origins at uneven distances, forecasts that differ, outcomes with gaps."""
    generator = np.random.default_rng(seed)
    origins = np.cumsum(generator.integers(1, 9, count)).astype(np.int64)
    values = np.sort(generator.exponential(5.0, (count, len(QUANTILES), HOUR_STEPS)), axis=1)
    actual = generator.exponential(6.0, (count, HOUR_STEPS))
    actual[generator.random(actual.shape) < 0.1] = np.nan
    return origins, values, actual


@pytest.mark.parametrize("seed", range(5))
def test_each_step_of_each_origin_counts_once_and_when_it_is_over(seed: int) -> None:
    origins, values, actual = past(40, seed)
    bare = fresh(3600.0, HOUR_STEPS)
    found, shown = rehearsed(bare, origins, values, actual)
    plain, plainly, taken = taken_one_by_one(bare, origins, values, actual)
    assert len(taken) == actual.size
    np.testing.assert_allclose(shown, plainly)
    for name in ("shift", "covered", "raw_covered", "weight", "spread"):
        np.testing.assert_allclose(getattr(found, name), getattr(plain, name))


def test_another_future_changes_nothing_before_it() -> None:
    origins, values, actual = past(60, 9)
    bare = fresh(3600.0, HOUR_STEPS)
    _, shown = rehearsed(bare, origins, values, actual)
    for cut in (0, 1, 17, 40, 59):
        known = origins[:, None] + np.arange(HOUR_STEPS) < origins[cut]
        _, other = rehearsed(bare, origins, values, np.where(known, actual, 1e4))
        np.testing.assert_array_equal(other[: cut + 1], shown[: cut + 1])
        if cut < 50:
            assert (other[cut + 1 :] != shown[cut + 1 :]).any()


def test_a_past_of_nothing_leaves_all_as_it_was() -> None:
    known = learned()
    none = np.empty((0, len(QUANTILES), HOUR_STEPS))
    found, shown = rehearsed(known, np.empty(0, dtype=np.int64), none, np.empty((0, HOUR_STEPS)))
    assert found.to_json() == known.to_json() and shown.shape == none.shape


def test_coverage_is_what_was_really_covered() -> None:
    count = 24 * 8
    actual = outcomes(10.0 * (1.0 + NOISE * noise(count + HOUR_STEPS, 7)), count)
    raw = band(np.full(count, 10.0), 4.0 * NOISE)
    bare = fresh(3600.0, HOUR_STEPS)
    assert np.isnan(coverage(bare)).all() and np.isnan(coverage(bare, raw=True)).all()
    found, shown = rehearsed(bare, np.arange(count), raw, actual)
    ends = bucket_ends(3600.0, HOUR_STEPS)
    for b, (low, high) in enumerate(zip((0, *ends), ends, strict=False)):
        measured = slice(low, high)
        # what is shown forgets, and is judged by the correction at the outcome instead of at the origin
        np.testing.assert_allclose(
            coverage(found, raw=True)[b], covered(raw[:, :, measured], actual[:, measured], high), atol=0.06
        )
        np.testing.assert_allclose(
            coverage(found)[b], covered(shown[:, :, measured], actual[:, measured], high), atol=0.12
        )
    assert (np.diff(coverage(found), axis=1) >= -1e-12).all()


def test_coverage_of_the_first_outcomes_and_of_horizons_without_any() -> None:
    raw = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    one = observe(fresh(3600.0, HOUR_STEPS), 0, raw, 3.5)
    np.testing.assert_array_equal(coverage(one)[0], [0.0, 0.0, 0.0, 1.0, 1.0])
    assert np.isnan(coverage(one)[1:]).all()
    two = observe(one, 0, raw, 0.5)
    np.testing.assert_allclose(coverage(two, raw=True)[0], [0.5, 0.5, 0.5, 1.0, 1.0], atol=0.01)
