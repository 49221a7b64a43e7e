"""Prospects made by hand: three days of measured minutes with a daily wave and noise, and a forecast of the fourth."""

from dataclasses import replace
from typing import Any

import numpy as np

from controller.core.prospect import Prospect
from controller.core.types import QUANTILES, FloatArray
from tests.core.observed import NOW, TIERS, standings

SPREAD = np.array([1.0, 1.06, 1.1, 1.14, 1.25])


def wave(count: int, step_s: float, start_s: float = NOW) -> FloatArray:
    """A day's shape, 0.4 at its low and 1.6 at its high."""
    at = start_s + step_s * (np.arange(count) + 0.5)
    day: FloatArray = 1.0 + 0.6 * np.sin(2 * np.pi * at / 86400.0)
    return day


def prospect(own: tuple[float, ...] = (2.0, 5.0, 3.0), **changes: Any) -> Prospect:
    """`own`: each tier's mean load in GPUs. Minutes are counts of 30 s requests, so that they are as noisy as such."""
    minutes, steps = 3 * 1440, 144
    rng = np.random.default_rng(11)
    shape = wave(minutes, 60.0, NOW - 60.0 * minutes)
    measured = np.stack([rng.poisson(load * 2 * shape) / 2.0 for load in own])
    middle = np.cumsum(np.array(own))[:, None, None] * wave(steps, 600.0)[None, None, :]
    base: dict[str, Any] = {
        "service": "images",
        "now_s": NOW,
        "tiers": tuple(tier.name for tier in TIERS),
        "shares_percent": tuple(tier.tenants_percent for tier in TIERS),
        "tier_salt": "a",
        "start_s": NOW,
        "step_s": 600.0,
        "quantiles": QUANTILES,
        "loads": middle * SPREAD[None, :, None],
        "minutes_end_s": NOW,
        "minutes": measured,
        "offers": standings(),
        "waiting": (0.0, 0.0, 0.0),
        "capacity": 40.0,
        "accrued_usd": 0.0,
        "jobs_usd_per_hour": 0.0,
        "lead_s": 240.0,
        "work_mean_s": 30.0,
        "work_scv": 0.5,
    }
    return replace(Prospect(**base), **changes)
