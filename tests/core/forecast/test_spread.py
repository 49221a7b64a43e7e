"""Quantile regression finds quantiles, in any unit, with slopes that never turn."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.forecast.spread import knots, regress_quantiles
from controller.core.types import QUANTILES


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


def test_knots_are_dense_at_first_and_reach_the_end() -> None:
    at = knots(144)
    assert at[0] == 0 and at[-1] == 143
    assert (np.diff(at) > 0).all() and np.diff(at)[0] < np.diff(at)[-1]
    np.testing.assert_array_equal(knots(5), range(5))
