"""The slow forecast of the tiers that can't wait: where it rises above what the minutes expect, and what it needs.

A step counts as a rise only if its *median* is above what the minute forecast holds for likely (its p90), above `RISE`
times the level of the last hour, and beyond the noise of counting: the slow grid is sure of what the fast one doesn't
expect. Upper quantiles alone, which on a noisy service are always high, prepare for nothing; bursts have their reserve.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from controller.core.capacity import (
    Outlook,
    cumulative,
    deferrable,
    execution,
    expected_miss,
    known_forecast,
    servers_needed,
)
from controller.core.types import FloatArray, Forecast, Observation, TierTarget

SLOW_STEPS_S = (600.0, 3600.0)
"""The slow grids, the finer first: the hourly one stands in where the other has nothing."""
RISE = 1.5
"""A rise is at least this times the mean load of the last hour."""
NOISE = 2.0
"""And at least this times its square root above that level."""
LEVEL_S = 3600.0


@dataclass(frozen=True, slots=True)
class SlowGrid:
    """The slow forecast of the tiers that can't be deferred: `loads` (tiers, quantiles, steps), each tier with those
    above it and non-decreasing along axis 0.
    """

    keys: tuple[str, ...]
    tiers: tuple[TierTarget, ...]
    forecasts: tuple[Forecast, ...]
    loads: FloatArray
    start_s: float
    step_s: float

    @property
    def count(self) -> int:
        return int(self.loads.shape[2])

    def begins(self, step: int) -> float:
        return self.start_s + step * self.step_s

    def outlook(self, k: int, step: int) -> Outlook:
        above = self.loads[k - 1, :, step] if k else np.zeros(self.loads.shape[1])
        return Outlook.of(self.loads[k, :, step], above)


class Needs:
    """The need of each step of the slow grid, computed when asked for; what recurs is remembered (`servers_needed`)."""

    def __init__(self, seen: Observation, slow: SlowGrid) -> None:
        self._slow = slow
        self._execution = execution(seen)
        self._lead_s = seen.boot_s + seen.load_model_s

    def of(self, step: int) -> int:
        """The fewest reference GPUs that hold every tier's target over the step's outlook."""
        slow = self._slow
        return max(
            servers_needed(tier, slow.outlook(k, step), *self._execution, self._lead_s)
            for k, tier in enumerate(slow.tiers)
        )

    def exceeds(self, step: int, capacity: float) -> bool:
        """`of(step) > capacity`, by one evaluation a tier instead of a search."""
        slow, servers = self._slow, math.floor(capacity + 1e-9)
        for k, tier in enumerate(slow.tiers):
            outlook = slow.outlook(k, step)
            if max(outlook.load) <= 0:
                if math.ceil(outlook.above[0]) > servers:
                    return True
            elif expected_miss(servers, tier, outlook, *self._execution, self._lead_s) > 1:
                return True
        return False


def slow_grid(seen: Observation) -> SlowGrid | None:
    """The finest slow grid on which every tier that can't be deferred is forecast."""
    tiers = seen.envelope.tiers
    urgent = [k for k in range(len(tiers)) if not deferrable(tiers[k])]
    keys = tuple(cumulative(tiers, k) for k in urgent)
    for step_s in SLOW_STEPS_S:
        found = tuple(seen.forecasts.get((key, step_s)) for key in keys)
        known = tuple(each for each in found if each is not None and np.isfinite(each.values).all())
        if not known or len(known) < len(found) or len({(each.start_s, each.values.shape) for each in known}) > 1:
            continue
        loads = np.maximum.accumulate(np.stack([np.maximum(each.values, 0.0) for each in known]), axis=0)
        return SlowGrid(keys, tuple(tiers[k] for k in urgent), known, loads, known[0].start_s, step_s)
    return None


def rises_of(seen: Observation, slow: SlowGrid) -> Callable[[int], bool]:
    """Whether a step's median is a rise of any tier: above `RISE` levels and the minutes' p90 until its end."""
    limits = [_limit(seen, slow, key) for key in slow.keys]

    def rises(step: int) -> bool:
        return any(slow.loads[k, 0, step] > limits[k][step] for k in range(len(limits)))

    return rises


def _limit(seen: Observation, slow: SlowGrid, key: str) -> FloatArray:
    """What a key's median must exceed at each step of the slow grid. Infinite where no level is known."""
    level = level_of(seen, key)
    if level is None:
        return np.full(slow.count, np.inf)
    # x - NOISE·√x > level, solved for x.
    least = max(RISE * level, (NOISE / 2 + math.sqrt(NOISE**2 / 4 + level)) ** 2)
    fast = known_forecast(seen, key)
    if fast is None:
        return np.full(slow.count, least)
    path = np.maximum.accumulate(np.nan_to_num(fast.at(0.9)))
    ends = slow.start_s + slow.step_s * np.arange(1, slow.count + 1)
    at = np.clip(np.ceil((ends - fast.start_s) / fast.step_s).astype(np.int64) - 1, 0, len(path) - 1)
    limit: FloatArray = np.maximum(path[at], least)
    return limit


def level_of(seen: Observation, key: str) -> float | None:
    """Mean load of the tiers joined over the measured minutes of the last hour; None: none was measured."""
    return mean_load(seen, key, seen.now_s - LEVEL_S, seen.now_s)


def mean_load(seen: Observation, key: str, from_s: float, to_s: float) -> float | None:
    """Mean of the measured minutes that lie in [from_s, to_s), erlangs; None: none was measured."""
    series = seen.load.get(key)
    if series is None:
        return None
    first = max(0, math.ceil((from_s - series.start_s) / series.step_s - 1e-9))
    last = max(first, math.floor((to_s - series.start_s) / series.step_s + 1e-9))
    window = series.values[first:last]
    known = window[np.isfinite(window)]
    return float(known.mean()) if len(known) else None


def measured_minutes(seen: Observation, key: str, from_s: float) -> int:
    """How many whole minutes since from_s were measured."""
    series = seen.load.get(key)
    if series is None:
        return 0
    first = max(0, math.ceil((from_s - series.start_s) / series.step_s - 1e-9))
    return int(np.isfinite(series.values[first:]).sum())


def step_at(slow: SlowGrid, at_s: float) -> int:
    """The step of the grid that at_s lies in; 0 before its start."""
    return max(0, math.floor((at_s - slow.start_s) / slow.step_s + 1e-9))
