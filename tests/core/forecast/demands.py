"""Demands that the tests of forecasting share: what they look like is known, so that what a model should see is."""

import numpy as np

from controller.core.series import DAY_S, hour_of_day, times_s, weekday
from controller.core.types import Series

MONDAY_S = 1_732_492_800.0  # 2024-11-25
MINUTES = 1440


def demand(days: int, seed: int = 1) -> Series:
    """Evening peaks, silent nights, weekends at half, Poisson-like noise."""
    generator = np.random.default_rng(seed)
    at_s = MONDAY_S + 60.0 * np.arange(days * MINUTES)
    hour = (at_s % DAY_S) / 3600
    rate = np.clip(12 * np.sin((hour - 9) / 24 * 2 * np.pi), 0, None)
    rate = np.where((at_s - MONDAY_S) // DAY_S % 7 >= 5, rate / 2, rate)
    return Series(MONDAY_S, 60.0, generator.poisson(rate * 2.3) / 2.3)


def busy(days: int, seed: int = 2, shift_s: float = 0.0) -> Series:
    """A daily wave that never falls silent: 4 to 16, highest at 12:00 (earlier by shift_s), with a little noise."""
    generator = np.random.default_rng(seed)
    at_s = MONDAY_S + 60.0 * np.arange(days * MINUTES)
    wave = 10 - 6 * np.cos((at_s + shift_s) % DAY_S / DAY_S * 2 * np.pi)
    return Series(MONDAY_S, 60.0, np.maximum(wave + 0.5 * generator.normal(size=len(at_s)), 0.5))


def uneven(days: int, seed: int = 6) -> Series:
    """As `busy`, around it a deviation that fades over some hours."""
    calm, generator = busy(days, seed), np.random.default_rng(seed)
    pushes = generator.normal(size=len(calm.values))
    deviation = np.zeros(len(pushes))
    for i in range(1, len(pushes)):
        deviation[i] = 0.997 * deviation[i - 1] + 0.1 * pushes[i]
    return Series(calm.start_s, 60.0, np.maximum(calm.values + 20.0 + deviation, 0.0))


def with_tuesday_peak(days: int, seed: int = 4) -> Series:
    """As `busy`, five times as high on Tuesdays from 09:00 to 11:00."""
    calm = busy(days, seed)
    at_s = times_s(calm)
    peak = (weekday(at_s) == 1) & (hour_of_day(at_s) >= 9) & (hour_of_day(at_s) < 11)
    return Series(calm.start_s, 60.0, np.where(peak, 5.0, 1.0) * calm.values)


def contagious(days: int, seed: int = 3) -> Series:
    """A self-exciting demand: jobs breed jobs, half of them come of those of the last minutes."""
    generator = np.random.default_rng(seed)
    count = days * MINUTES
    base = 0.3 + 0.2 * np.sin(np.arange(count) / MINUTES * 2 * np.pi)
    fade = np.exp(-1.0 / 8.0)
    values, excited = np.zeros(count), 0.0
    for i in range(count):
        values[i] = generator.poisson(base[i] + 0.5 * excited)
        excited = fade * excited + (1.0 - fade) * values[i]
    return Series(MONDAY_S, 60.0, values)
