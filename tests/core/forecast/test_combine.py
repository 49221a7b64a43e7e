"""The combination: a mean of quantiles by weights that no forecast chose for itself."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.forecast.base import CannotFit, Fitted, model_named, reach_s
from controller.core.forecast.calibrate import bucket_ends
from controller.core.forecast.combine import (
    BEST,
    COMBINATION,
    joined,
    losses_of,
    mean_of,
    rehearsed,
    spread_weights,
    weights_of,
)
from controller.core.series import DAY_S, HOUR_S, clip, resample
from controller.core.types import QUANTILES, FloatArray, Series
from tests.core.forecast.demands import busy

STEPS = 24
BUCKETS = len(bucket_ends(HOUR_S, STEPS))
NAMES = ("naive", "seasonal_naive_24h", "profile")


def monotone(generator: np.random.Generator, *shape: int) -> FloatArray:
    """Random quantile paths (*shape, quantiles, steps) in order."""
    drawn = generator.exponential(10.0 ** generator.uniform(-3, 4), (*shape, len(QUANTILES), STEPS))
    return np.asarray(np.sort(drawn, axis=-2), dtype=np.float64)


def shares(generator: np.random.Generator, members: int) -> FloatArray:
    drawn = generator.uniform(0.01, 1.0, (members, STEPS))
    return np.asarray(drawn / drawn.sum(axis=0), dtype=np.float64)


class TestMean:
    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 10_000), st.integers(1, 6))
    def test_it_is_the_weighted_mean_of_each_quantile_at_each_step(self, seed: int, members: int):
        generator = np.random.default_rng(seed)
        paths = [monotone(generator, 2) for _ in range(members)]
        weights = shares(generator, members)
        found = mean_of(paths, weights)
        for i in range(2):
            for q in range(len(QUANTILES)):
                for j in range(STEPS):
                    plain = sum(weights[m, j] * paths[m][i, q, j] for m in range(members))
                    assert found[i, q, j] == pytest.approx(plain, rel=1e-9)
        assert (np.diff(found, axis=1) >= -1e-9 * found.max()).all()
        np.testing.assert_allclose(mean_of([path[0] for path in paths], weights), found[0], rtol=1e-12)

    def test_one_alone_and_equal_ones_are_themselves(self):
        generator = np.random.default_rng(1)
        path = monotone(generator, 3)
        np.testing.assert_allclose(mean_of([path], np.ones((1, STEPS))), path)
        np.testing.assert_allclose(mean_of([path, path, path], shares(generator, 3)), path)

    def test_a_weight_of_nothing_is_not_heard(self):
        generator = np.random.default_rng(2)
        one, loud = monotone(generator, 3), np.full((3, len(QUANTILES), STEPS), 1e12)
        np.testing.assert_allclose(mean_of([one, loud], np.stack([np.ones(STEPS), np.zeros(STEPS)])), one)

    def test_who_gives_no_number_sits_out_there_and_only_there(self):
        generator = np.random.default_rng(3)
        one, other = monotone(generator, 3), monotone(generator, 3)
        weights = shares(generator, 2)
        whole = mean_of([one, other], weights)
        partial = other.copy()
        partial[1, 4, 7] = np.nan
        found = mean_of([one, partial], weights)
        np.testing.assert_allclose(found[1, :, 7], one[1, :, 7])
        whole[1, :, 7] = found[1, :, 7]
        np.testing.assert_allclose(found, whole)
        assert np.isnan(mean_of([np.full_like(one, np.nan)] * 2, weights)).all()

    def test_silence_stays_silence(self):
        zero = np.zeros((2, len(QUANTILES), STEPS))
        np.testing.assert_array_equal(mean_of([zero, zero], np.full((2, STEPS), 0.5)), zero)


class TestWeights:
    def test_the_better_weighs_more_and_they_sum_to_one(self):
        found = weights_of(np.array([[1.0, 4.0, 0.0], [2.0, 2.0, 0.0], [4.0, 1.0, 1.0]]))
        np.testing.assert_allclose(found.sum(axis=0), 1.0)
        assert found[0, 0] > found[1, 0] > found[2, 0] and found[2, 1] > found[1, 1] > found[0, 1]
        assert found[0, 2] == pytest.approx(0.5) and found[2, 2] < 1e-6

    def test_in_each_band_the_best_are_heard_and_none_is_left_out_for_being_bad_in_another(self):
        count = BEST + 3
        near = np.arange(1.0, count + 1)
        losses = np.stack([near, near[::-1]], axis=1)
        found = weights_of(losses)
        np.testing.assert_allclose(found.sum(axis=0), 1.0)
        np.testing.assert_array_equal(found[:, 0] > 0, near <= BEST)
        np.testing.assert_allclose(found[:, 1], found[::-1, 0])
        equal = weights_of(np.ones((count, 1)))
        assert np.count_nonzero(equal) == BEST

    def test_units_do_not_matter(self):
        losses = np.array([[1.0, 3.0], [2.0, 2.0]])
        np.testing.assert_allclose(weights_of(1e4 * losses), weights_of(losses), rtol=1e-6)

    def test_without_a_loss_there_is_no_weight_and_without_any_all_are_alike(self):
        found = weights_of(np.array([[1.0, np.nan], [np.nan, np.nan]]))
        np.testing.assert_allclose(found, [[1.0, 0.5], [0.0, 0.5]])

    def test_each_step_has_the_weights_of_its_bucket(self):
        generator = np.random.default_rng(4)
        weights = generator.uniform(size=(3, BUCKETS))
        weights[:, 2] = 0.0
        found = spread_weights(weights, HOUR_S, STEPS)
        np.testing.assert_allclose(found.sum(axis=0), 1.0)
        ends = bucket_ends(HOUR_S, STEPS)
        for b, (low, high) in enumerate(zip((0, *ends), ends, strict=False)):
            wanted = np.full(3, 1 / 3) if b == 2 else weights[:, b] / weights[:, b].sum()
            np.testing.assert_allclose(found[:, low:high], np.repeat(wanted[:, None], high - low, axis=1))

    def test_losses_are_those_of_what_was_measured(self):
        forecasts = np.full((2, len(QUANTILES), STEPS), 2.0)
        actual = np.full((2, STEPS), 3.0)
        actual[0] = np.nan
        actual[:, -1] = np.nan
        actual[:, 0] = np.nan
        found = losses_of(forecasts, actual, HOUR_S)
        assert np.isnan(found[0])
        np.testing.assert_allclose(found[1:], np.mean(QUANTILES))


class TestRehearsed:
    def test_no_origin_chooses_its_own_weights(self):
        generator = np.random.default_rng(5)
        paths = [monotone(generator, 20) for _ in range(3)]
        actual = generator.exponential(5.0, (20, STEPS))
        found = rehearsed(paths, actual, HOUR_S)
        for mine in (slice(None, 10), slice(10, None)):
            other = actual.copy()
            other[mine] = generator.exponential(50.0, (10, STEPS))
            again = rehearsed(paths, other, HOUR_S)
            np.testing.assert_array_equal(again[mine], found[mine])
            assert (again != found).any()

    def test_the_half_that_is_judged_follows_who_was_better_in_the_other(self):
        good, bad = (np.full((8, len(QUANTILES), STEPS), value) for value in (5.0, 50.0))
        first, second = good.copy(), bad.copy()
        first[4:], second[4:] = 50.0, 5.0  # who is good changes halfway: the weights are wrong in both halves
        found = rehearsed([first, second], np.full((8, STEPS), 5.0), HOUR_S)
        assert (found > 45.0).all()
        found = rehearsed([good, bad], np.full((8, STEPS), 5.0), HOUR_S)
        assert (found < 6.0).all()

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_few_origins_do(self, count: int):
        generator = np.random.default_rng(6)
        paths = [monotone(generator, count) for _ in range(2)]
        found = rehearsed(paths, generator.exponential(5.0, (count, STEPS)), HOUR_S)
        assert found.shape == paths[0].shape and np.isfinite(found).all()
        if count == 1:
            np.testing.assert_allclose(found, (paths[0] + paths[1]) / 2)


@pytest.fixture(scope="module")
def series() -> Series:
    return resample(busy(10), HOUR_S)


@pytest.fixture(scope="module")
def members(series: Series) -> list[Fitted]:
    known = clip(series, end_s=series.end_s - DAY_S)
    return [model_named(name).fit(known, STEPS) for name in NAMES]


@pytest.fixture(scope="module")
def weights() -> FloatArray:
    return np.asarray(np.random.default_rng(7).uniform(0.1, 1.0, (len(NAMES), BUCKETS)), dtype=np.float64)


class TestModel:
    def test_it_is_the_mean_of_its_members(self, series: Series, members: list[Fitted], weights: FloatArray):
        fitted = joined(members, weights)
        found = COMBINATION.predict(fitted, series, series.end_s, STEPS)
        each = [model_named(m.model).predict(m, series, series.end_s, STEPS) for m in members]
        share = weights / weights.sum(axis=0)
        ends = bucket_ends(HOUR_S, STEPS)
        for b, (low, high) in enumerate(zip((0, *ends), ends, strict=False)):
            plain = sum(share[m, b] * each[m][:, low:high] for m in range(len(members)))
            np.testing.assert_allclose(found[:, low:high], plain)
        assert (found >= 0).all() and (np.diff(found, axis=0) >= 0).all()

    def test_one_origin_and_many_say_the_same(self, series: Series, members: list[Fitted], weights: FloatArray):
        fitted = joined(members, weights)
        last = len(series.values)
        origins = np.array([last - 20, last - 3, last])
        many = COMBINATION.predict_many(fitted, series, origins, STEPS)
        for i, origin in enumerate(origins.tolist()):
            made_s = series.start_s + origin * HOUR_S
            one = COMBINATION.predict(fitted, clip(series, end_s=made_s), made_s, STEPS)
            np.testing.assert_allclose(many[i], one, rtol=1e-9)

    def test_a_shorter_horizon_is_the_beginning_of_the_longer(
        self, series: Series, members: list[Fitted], weights: FloatArray
    ):
        fitted = joined(members, weights)
        whole = COMBINATION.predict(fitted, series, series.end_s, STEPS)
        np.testing.assert_allclose(COMBINATION.predict(fitted, series, series.end_s, 7), whole[:, :7])
        origins = np.array([len(series.values)])
        np.testing.assert_allclose(COMBINATION.predict_many(fitted, series, origins, 7)[0], whole[:, :7])

    def test_a_member_that_cannot_sits_out(self, series: Series, members: list[Fitted], weights: FloatArray):
        recent = clip(series, series.end_s - 3 * HOUR_S)
        found = COMBINATION.predict(joined(members, weights), recent, series.end_s, STEPS)
        naive = model_named("naive").predict(members[0], recent, series.end_s, STEPS)
        np.testing.assert_allclose(found, naive)

    def test_when_none_can_each_says_why(self, series: Series, members: list[Fitted], weights: FloatArray):
        recent = clip(series, series.end_s - 3 * HOUR_S)
        with pytest.raises(CannotFit) as refused:
            COMBINATION.predict(joined(members[1:], weights[1:]), recent, series.end_s, STEPS)
        assert "seasonal_naive_24h: " in str(refused.value) and "profile: " in str(refused.value)

    def test_it_is_found_by_name_and_not_fitted_directly(self, series: Series):
        assert model_named("combination") is COMBINATION
        with pytest.raises(CannotFit, match="made by selection"):
            COMBINATION.fit(series, STEPS)

    def test_what_is_joined(self, members: list[Fitted], weights: FloatArray):
        fitted = joined(members, 8.0 * weights)
        np.testing.assert_allclose(fitted.arrays["weights"].sum(axis=0), 1.0)
        assert fitted.members == tuple(members) and fitted.fitted_s == members[0].fitted_s
        assert (fitted.model, fitted.step_s, fitted.steps, fitted.uses) == ("combination", HOUR_S, STEPS, ())
        assert reach_s(fitted) == max(reach_s(member) for member in members)
        assert all(name in fitted.note for name in NAMES)

    def test_one_member_or_two_grids_are_refused(self, series: Series, members: list[Fitted], weights: FloatArray):
        with pytest.raises(ValueError, match="two members"):
            joined(members[:1], weights[:1])
        other: Any = model_named("naive").fit(series, 12)
        with pytest.raises(ValueError, match="one grid"):
            joined([members[0], other], weights[:2])
