"""Calendar terms repeat with the day and the week, whatever the start."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from controller.core.forecast.calendar import (
    HARMONICS,
    WEEK_HARMONICS,
    calendar,
    fourier,
    week_harmonics,
    week_harmonics_of,
)
from controller.core.series import DAY_S, WEEK_S


@given(st.integers(0, 60_000), st.sampled_from([600.0, 3600.0]))
def test_terms_depend_on_the_time_alone(offset: int, step_s: float) -> None:
    whole = calendar(0.0, step_s, 30, WEEK_HARMONICS)
    np.testing.assert_allclose(calendar(offset * WEEK_S, step_s, 30, WEEK_HARMONICS), whole, atol=1e-9)
    np.testing.assert_allclose(calendar(5 * step_s, step_s, 25, WEEK_HARMONICS), whole[5:], atol=1e-12)


def test_terms_of_the_day_repeat_daily_and_those_of_the_week_do_not() -> None:
    terms = calendar(0.0, 3600.0, 48, WEEK_HARMONICS)
    day = slice(0, 2 * HARMONICS)
    np.testing.assert_allclose(terms[:24, day], terms[24:, day], atol=1e-12)
    assert np.abs(terms[:24, 2 * HARMONICS + 1 :] - terms[24:, 2 * HARMONICS + 1 :]).max() > 0.5
    assert week_harmonics_of(terms.shape[1]) == WEEK_HARMONICS
    assert week_harmonics_of(calendar(0.0, 3600.0, 4).shape[1]) == 0


def test_a_week_is_spoken_of_after_two() -> None:
    assert week_harmonics(13.9 * DAY_S) == 0
    assert week_harmonics(14 * DAY_S) == WEEK_HARMONICS


def test_waves_are_orthogonal_over_their_period() -> None:
    waves = fourier(3600.0 * np.arange(24), DAY_S, 3)
    np.testing.assert_allclose(waves.T @ waves, 12 * np.eye(6), atol=1e-9)
