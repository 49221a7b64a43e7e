"""Activity made by hand: sessions begin by chance, and each asks for a while. What comes is known from who began."""

import numpy as np

from controller.core.activity import BIN_S, CHANNELS, ActivityLog
from controller.core.types import Activity, FloatArray

T0 = 1_732_492_800.0
DAY = 5760
SHOT = np.concatenate([np.linspace(0.2, 1.0, 30), np.ones(30), np.linspace(1.0, 0.0, 20)])
"""Requests that a session makes in each bin after it began: slowly more, for twenty minutes in all."""


def sessions(bins: int, tiers: int = 1, seed: int = 5, each: float = 0.1) -> FloatArray:
    """Sessions begun in each bin, of each tier: shape (tiers, bins). More by day than by night, and in clusters."""
    rng = np.random.default_rng(seed)
    day = 1.0 + 0.8 * np.sin(2 * np.pi * np.arange(bins) / DAY)
    bursts = np.convolve(rng.random((bins,)) < 0.004, np.ones(12), mode="full")[:bins] * 8.0
    return rng.poisson(each * (day + bursts), (tiers, bins)).astype(float)


def of_sessions(begun: FloatArray, seed: int = 6, counted: bool = True) -> FloatArray:
    """The bins that those sessions make, rates in requests a second: shape (channels, tiers, bins). `counted`: requests
    come by chance (Poisson), not exactly as expected.
    """
    tiers, bins = begun.shape
    mean = np.stack([np.convolve(row, SHOT)[:bins] for row in begun])
    values = np.zeros((CHANNELS, tiers, bins))
    values[0] = np.random.default_rng(seed).poisson(mean) if counted else mean
    values[1] = begun
    return values / BIN_S


def activity(values: FloatArray, known: FloatArray | None = None) -> Activity:
    log = ActivityLog(values.shape[1])
    log.add(T0, values, None if known is None else known.astype(bool))
    found = log.read()
    assert found is not None
    return found
