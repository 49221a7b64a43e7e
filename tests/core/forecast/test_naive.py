"""The floor, and what is said without any fit."""

import numpy as np

from controller.core.forecast.naive import persistence
from controller.core.types import Series


def test_persistence_needs_no_fit() -> None:
    values, why = persistence(Series(0, 60.0, np.array([np.nan, 3.0])), 4)
    np.testing.assert_array_equal(values, np.full((5, 4), 3.0))
    assert "level 3.00" in why
    values, why = persistence(Series(0, 60.0, np.array([np.nan])), 4)
    assert np.isnan(values).all() and "unknown" in why


def test_persistence_is_not_carried_away_by_one_absurd_minute() -> None:
    known = np.full(200, 3.0)
    known[-5] = 1e9
    values, _ = persistence(Series(0, 60.0, known), 4)
    assert values[0].max() < 10 and values.max() <= 30
