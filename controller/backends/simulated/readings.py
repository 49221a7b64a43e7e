"""What the simulated service measures of itself: demand by the minute, queues, waits. Reads the engine only."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from controller.backends.simulated.engine import Engine
from controller.core.envelope import measure
from controller.core.types import LatencyReading, QueueReading, Sample, TierTarget
from models.enums import LatencyOf

MINUTE_S = 60.0
# A request that took longer from its arrival to its start than this is no longer looked for.
LOOK_BACK_S = 6 * 3600.0

Waits = tuple[int, float | None, float | None, float | None]
_NO_WAITS: Waits = (0, None, None, None)


def samples(
    engine: Engine, service: str, tiers: Sequence[str], since_s: float, until_s: float, *, waits: bool
) -> tuple[Sample, ...]:
    """The whole minutes of [since_s, until_s), every tier. `waits` False leaves out what takes long to measure."""
    first, last = math.ceil(since_s / MINUTE_S) * MINUTE_S, math.floor(until_s / MINUTE_S) * MINUTE_S
    minutes = int((last - first) // MINUTE_S)
    if minutes <= 0:
        return ()
    rows = engine.a.request[engine.first_after(first) : engine.first_after(last)]
    cell = rows["tier"] * minutes + ((rows["arrived"] - first) // MINUTE_S).astype(np.int64)
    arrivals = np.bincount(cell, minlength=len(tiers) * minutes).reshape(len(tiers), minutes)
    # Execution time of what has just arrived is not known yet: that of the latest to finish stands for it.
    mean = engine.a.tier["mean"]
    found = _waits(engine, len(tiers), first, last) if waits else {}
    return tuple(
        Sample(
            service,
            tier,
            first + MINUTE_S * minute,
            int(arrivals[t, minute]),
            float(arrivals[t, minute] * mean[t]),
            *found.get((t, minute), _NO_WAITS),
        )
        for minute in range(minutes)
        for t, tier in enumerate(tiers)
    )


def _waits(engine: Engine, tiers: int, first_s: float, last_s: float) -> dict[tuple[int, int], Waits]:
    """Starts, mean, p95 and longest wait by (tier, minute) of the start."""
    rows = engine.a.request[engine.first_after(first_s - LOOK_BACK_S) : engine.arrived]
    rows = rows[(rows["started"] >= first_s) & (rows["started"] < last_s)]
    minute = ((rows["started"] - first_s) // MINUTE_S).astype(np.int64)
    found: dict[tuple[int, int], Waits] = {}
    for t in range(tiers):
        mine = rows["tier"] == t
        for m in np.unique(minute[mine]).tolist():
            part = rows[mine & (minute == m)]
            wait = part["started"] - part["arrived"]
            found[t, m] = (len(wait), float(wait.mean()), float(np.percentile(wait, 95)), float(wait.max()))
    return found


def queues(engine: Engine, tiers: Sequence[str]) -> tuple[QueueReading, ...]:
    """What waits and runs now. Where tiers share a queue, the oldest wait is the queue's."""
    found = []
    for row, tier in zip(engine.a.tier, tiers, strict=True):
        head, queued = int(engine.a.queue[int(row["queue"])]["head"]), int(row["queued"])
        oldest_s = engine.now_s - float(engine.a.request[head]["arrived"]) if head >= 0 and queued else 0.0
        found.append(QueueReading(tier, queued, int(row["running"]), queued * float(row["mean"]), oldest_s))
    return tuple(found)


def latency(engine: Engine, tiers: Sequence[str], target: TierTarget) -> LatencyReading:
    """The target's statistic over its window, ending now.

    Those that have waited past the target already count, though their wait is not over: a queue that never moves would
    otherwise look perfect.
    """
    now_s = engine.now_s
    rows = engine.a.request[engine.first_after(now_s - target.window_s - LOOK_BACK_S) : engine.arrived]
    rows = rows[rows["tier"] == tiers.index(target.name)]
    ended = "started" if target.of is LatencyOf.WAIT else "finished"
    done = rows[rows[ended] >= now_s - target.window_s]
    overdue: npt.NDArray[np.float64] = now_s - rows["arrived"][np.isnan(rows[ended])]
    seconds = np.concatenate([done[ended] - done["arrived"], overdue[overdue * 1000 > target.target_ms]])
    value = measure(target.statistic, seconds)
    value_ms = None if value is None else value * 1000
    return LatencyReading(target.name, target.statistic, target.of, target.window_s, value_ms, len(seconds), now_s)
