"""Quantile regression finds quantiles, in any unit, with slopes that never turn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from controller.core.forecast.backtest import evaluate, targets_of
from controller.core.forecast.base import model_named
from controller.core.forecast.regression import weighted_quantile
from controller.core.forecast.spread import ROWS, around_knots, gathered, knots, regress_quantiles
from controller.core.series import DAY_S, clip, resample
from controller.core.types import QUANTILES
from tests.core.forecast.demands import busy


def test_regression_finds_the_quantiles_of_noise_that_grows_with_level() -> None:
    generator = np.random.default_rng(5)
    level = generator.uniform(0, 10, 20_000)
    targets = level * generator.exponential(1.0, 20_000)
    features = np.stack([np.ones_like(level), level], axis=1)[None]
    found = regress_quantiles(features, targets[None], np.ones((1, 20_000)))[0]
    np.testing.assert_allclose(found[:, 1], -np.log1p(-np.array(QUANTILES)), rtol=0.1)
    covered = (targets[None, :] <= found @ features[0].T).mean(axis=1)
    np.testing.assert_allclose(covered, QUANTILES, atol=0.01)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_regression_scales_with_its_units_and_keeps_slopes_positive(seed: int, unit: float) -> None:
    generator = np.random.default_rng(seed)
    x = generator.exponential(1.0, (1, 200, 2))
    features = np.concatenate([np.ones((1, 200, 1)), x], axis=2)
    targets = np.maximum(3 - x[..., 0] + generator.normal(size=(1, 200)), 0)
    weights = np.ones((1, 200))
    found = regress_quantiles(features, targets, weights)
    assert (found[..., 1:] >= 0).all()
    scaled = features.copy()
    scaled[..., 1:] *= unit
    other = regress_quantiles(scaled, targets * unit, weights)
    np.testing.assert_allclose(other[..., 0], found[..., 0] * unit, rtol=1e-3, atol=1e-3 * unit)
    np.testing.assert_allclose(other[..., 1:], found[..., 1:], rtol=1e-3, atol=1e-3)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.0, 1.0, 2.5, 4.0]), st.floats(0.01, 5.0)), min_size=1, max_size=60),
    st.sampled_from(QUANTILES),
)
def test_a_weighted_quantile_is_the_least_value_that_bears_its_share(
    pairs: list[tuple[float, float]], quantile: float
) -> None:
    values, weights = (np.array(part) for part in zip(*pairs, strict=True))
    found = weighted_quantile(values.copy(), weights.copy(), quantile)
    wanted = quantile * weights.sum()
    assert found in values
    assert weights[values <= found].sum() >= wanted * (1 - 1e-9)
    assert weights[values < found].sum() <= wanted * (1 + 1e-9)


def test_the_regression_loses_hardly_more_than_linear_programming() -> None:
    """Against the exact minimum, found by scipy's solver of the linear programme that quantile regression is."""
    generator = np.random.default_rng(7)
    x = np.concatenate([np.ones((150, 1)), generator.exponential(1.0, (150, 3))], axis=1)
    y = x @ np.array([0.2, 1.0, 0.5, 0.0]) * generator.gamma(4.0, 0.25, 150)
    found = regress_quantiles(x[None], y[None], np.ones((1, 150)))[0]
    for quantile, coefficients in zip(QUANTILES, found, strict=True):
        cost = np.concatenate([np.zeros(4), np.full(150, quantile), np.full(150, 1 - quantile)])
        both = np.concatenate([x, np.eye(150), -np.eye(150)], axis=1)
        exact = linprog(cost, A_eq=both, b_eq=y, bounds=[(None, None), *[(0, None)] * 303])
        rest = y - x @ coefficients
        assert np.maximum(quantile * rest, (quantile - 1) * rest).sum() <= 1.01 * exact.fun + 1e-9


def test_features_that_are_one_and_the_same_share_the_slope() -> None:
    generator = np.random.default_rng(8)
    level = generator.uniform(1.0, 9.0, 400)
    targets = (level * generator.gamma(4.0, 0.25, 400))[None]
    features = np.stack([np.ones_like(level), level, level], axis=1)[None]
    both = regress_quantiles(features, targets, np.ones((1, 400)))[0]
    one = regress_quantiles(features[:, :, :2], targets, np.ones((1, 400)))[0]
    np.testing.assert_allclose(both[:, 1:].sum(axis=1), one[:, 1], rtol=0.02)


def test_knots_are_dense_at_first_and_reach_the_end() -> None:
    at = knots(144)
    assert at[0] == 0 and at[-1] == 143
    assert (np.diff(at) > 0).all() and np.diff(at)[0] < np.diff(at)[-1]
    np.testing.assert_array_equal(knots(5), range(5))


@pytest.mark.parametrize("origins", [1, 37, 72, 400, ROWS - 1])
@pytest.mark.parametrize("steps", [1, 7, 24, 48, 60, 144])
def test_a_knot_learns_from_the_steps_around_it_and_from_no_other_knots(steps: int, origins: int) -> None:
    at = knots(steps)
    groups = around_knots(at, steps, origins)
    every = np.concatenate(groups)
    assert len(groups) == len(at) and len(set(every.tolist())) == len(every)
    assert every.min() >= 0 and every.max() < steps
    for i, group in enumerate(groups):
        assert (np.diff(group) > 0).all()
        assert i == 0 or group[0] > (at[i - 1] + at[i]) // 2 - 1
        assert group[0] <= at[i] <= group[-1]
        assert len(group) <= -(-ROWS // origins)
    if steps * origins <= ROWS:
        np.testing.assert_array_equal(every, np.arange(steps))


@pytest.mark.parametrize("steps", [1, 7, 24, 60, 144])
def test_with_many_origins_a_knot_learns_from_itself_alone(steps: int) -> None:
    at = knots(steps)
    for origins in (ROWS, 3 * ROWS):
        groups = around_knots(at, steps, origins)
        np.testing.assert_array_equal(np.concatenate(groups), at)


@pytest.mark.parametrize(("origins", "steps"), [(5, 24), (130, 24), (ROWS, 24), (1, 3)])
def test_every_row_has_its_own_target_and_weight(origins: int, steps: int) -> None:
    at = knots(steps)
    groups = around_knots(at, steps, origins)
    origin, step = np.arange(origins)[:, None], np.arange(steps)[None, :]
    features = np.stack(np.broadcast_arrays(1.0, origin, step), axis=2).astype(np.float64)
    targets = (1000.0 * origin + step).astype(np.float64)
    weights = 1.0 / (1.0 + np.arange(origins))
    x, y, weight = gathered(features, targets, weights, groups)
    assert x.shape == (*y.shape, 3) and y.shape == weight.shape
    for k, group in enumerate(groups):
        real = np.isfinite(y[k])
        assert real.sum() == origins * len(group) and real[: real.sum()].all()
        np.testing.assert_array_equal(y[k, real], 1000.0 * x[k, real, 1] + x[k, real, 2])
        np.testing.assert_array_equal(weight[k, real], weights[x[k, real, 1].astype(int)])
        pairs = {(int(o), int(s)) for o, s in x[k, real, 1:]}
        assert pairs == {(o, int(s)) for o in range(origins) for s in group}
        assert not weight[k, ~real].any()


def test_padding_changes_nothing() -> None:
    generator = np.random.default_rng(9)
    features = np.concatenate([np.ones((90, 4, 1)), generator.exponential(2.0, (90, 4, 1))], axis=2)
    targets = features[:, :, 1] * generator.exponential(1.0, (90, 4))
    weights = generator.uniform(0.5, 1.0, 90)
    groups = [np.array([0]), np.array([1, 2, 3])]
    together = regress_quantiles(*gathered(features, targets, weights, groups))
    alone = regress_quantiles(*gathered(features, targets, weights, groups[:1]))
    # the unit of the numbers is common to all knots, so the last digits differ; one row in a hundred tells little
    np.testing.assert_allclose(together[0, :-1], alone[0, :-1], rtol=0.02, atol=0.02)


@pytest.mark.parametrize("name", ["naive", "seasonal_naive_24h", "profile", "autoreg_fourier"])
def test_four_days_of_hours_are_enough_for_a_spread(name: str) -> None:
    series = resample(busy(6), 3600.0)
    known = clip(series, end_s=series.start_s + 4 * DAY_S)
    model = model_named(name)
    fitted = model.fit(known, 24)
    origins = np.arange(len(known.values), len(series.values) - 24, dtype=np.int64)
    score = evaluate(model.predict_many(fitted, series, origins, 24), targets_of(series, origins, 24))
    assert score.points == len(origins) * 24
    assert score.coverage_of(0.9) > 0.75 and score.coverage_of(0.8) < 1.0
