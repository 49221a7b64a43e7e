"""The common half of the models: which history counts."""

import numpy as np

from controller.core.forecast.paths import usable
from controller.core.series import DAY_S
from controller.core.types import Series
from tests.core.forecast.demands import MONDAY_S


def test_launch_days_are_left_out_once_and_for_all() -> None:
    values = np.concatenate([np.full(3 * 1440, 0.01), np.full(6 * 1440, 5.0)])
    known = usable(Series(MONDAY_S, 60.0, values))
    assert known.start_s == MONDAY_S + 3 * DAY_S
    assert usable(known).start_s == known.start_s
    values[-700] = 1e9
    assert usable(Series(MONDAY_S, 60.0, values)).start_s == known.start_s
