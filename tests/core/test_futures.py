"""Futures keep what the forecast and the history say."""

import numpy as np
import pytest

from controller.core.futures import DAY_MINUTES, draw_futures
from controller.core.types import QUANTILES
from tests.core.prospects import prospect


def drawn(count: int = 400, **changes: object):  # type: ignore[no-untyped-def]
    return draw_futures(prospect(**changes), count, np.random.default_rng(3))  # type: ignore[arg-type]


def test_the_day_behind_is_as_measured_and_the_same_in_all() -> None:
    given, futures = prospect(), drawn(20)
    assert futures.loads.shape == (3, 20, 2 * DAY_MINUTES)
    assert (futures.loads[:, :, :DAY_MINUTES] == given.minutes[:, None, -DAY_MINUTES:]).all()


def test_each_joined_load_has_the_forecasts_own_quantiles() -> None:
    given, futures = prospect(), drawn(300)
    assert given.loads is not None
    joined = np.cumsum(futures.loads[:, :, DAY_MINUTES:], axis=0)
    level = joined.reshape(3, 300, 144, 10).mean(axis=3)
    for k in range(3):
        for quantile in (0.8, 0.9):
            share = (level[k] <= given.loads[k, QUANTILES.index(quantile)]).mean()
            assert share == pytest.approx(quantile, abs=0.03)


def test_the_same_seed_draws_the_same_futures() -> None:
    assert (drawn(5).loads == drawn(5).loads).all()


def test_persistence_is_measured_and_unknown_of_a_short_history() -> None:
    assert 0 <= drawn(5).persistence < 0.5  # the noise of the hand-made minutes is independent
    assert drawn(5, minutes=prospect().minutes[:, -1440:]).persistence == 1.0


def test_a_quiet_forecast_gives_quiet_futures() -> None:
    futures = drawn(10, loads=np.zeros((3, 5, 144)))
    assert not futures.loads[:, :, DAY_MINUTES:].any()


def test_nothing_can_be_drawn_of_no_forecast() -> None:
    with pytest.raises(ValueError, match="forecast"):
        drawn(5, loads=None)
