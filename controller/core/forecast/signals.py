"""Outside series that may say something of demand: social sentiment, bookings, marketing spend.

Here are the values only. `regressors` turns them into features, `admission` decides which of them a model may use.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from controller.core.forecast.events import Event
from controller.core.types import FloatArray, Series

STEPS_S: Final = (60.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 21600.0, 43200.0, 86400.0, 604800.0)
"""A pushed signal is read as one of these steps: the shortest that is not below its usual distance."""
ABSURD: Final = 1e15
"""Larger numbers are nobody's sentiment or spend, and would drown the others in sums: unknown."""
MOST_STEPS: Final = 200_000


@dataclass(frozen=True, slots=True)
class Signal:
    """An outside series, NaN where unknown. `known_ahead`: its future is known too, as with bookings or a plan.

    A value is known when its step has ended. It is stale when that was more than `stale_after_s` ago.
    """

    name: str
    series: Series
    known_ahead: bool
    stale_after_s: float


@dataclass(frozen=True, slots=True)
class SignalUse:
    """How a fitted model uses a signal: the value lag_s before each step, less `mean`, over `scale`, times `sign`."""

    name: str
    lag_s: float
    mean: float
    scale: float
    sign: float


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a signal may be used, and on what evidence: pinball on the same held-out steps without and with it.

    `gain` is the share of the loss that it saves. All three are NaN where nothing could be measured, and `note` says
    why.
    """

    name: str
    pinball_without: float
    pinball_with: float
    gain: float
    admitted: bool
    note: str


@dataclass(frozen=True, slots=True)
class Outside:
    """What is known of a service beside its own load."""

    signals: tuple[Signal, ...] = ()
    events: tuple[Event, ...] = ()


def regular(at_s: Sequence[float] | FloatArray, values: Sequence[float] | FloatArray) -> Series | None:
    """Points in any order as a regular series: means over the shortest of STEPS_S that is not below their usual
    distance. Of two points of one time the later in the sequence counts. None: no point is a number.

    A value covers what follows its time, until the next step. Points far apart from the rest leave gaps, NaN.
    """
    times, numbers = np.asarray(at_s, dtype=np.float64), np.asarray(values, dtype=np.float64)
    sound = np.isfinite(times) & np.isfinite(numbers) & (np.abs(numbers) < ABSURD)
    times, numbers = times[sound], numbers[sound]
    if not len(times):
        return None
    order = np.argsort(times, kind="stable")
    times, numbers = times[order], numbers[order]
    last = np.append(times[1:] != times[:-1], True)
    times, numbers = times[last], numbers[last]
    apart = float(np.median(np.diff(times))) if len(times) > 1 else 3600.0
    step_s = next((step for step in STEPS_S if step >= apart * 0.999), STEPS_S[-1])
    index = np.floor(times / step_s).astype(np.int64)
    index, numbers = index[index > index[-1] - MOST_STEPS], numbers[index > index[-1] - MOST_STEPS]
    place = index - index[0]
    count = np.bincount(place)
    mean = np.bincount(place, weights=numbers) / np.maximum(count, 1)
    return Series(float(index[0]) * step_s, step_s, np.where(count > 0, mean, np.nan))
