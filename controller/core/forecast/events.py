"""Events that the operator knows of: campaigns, holidays, launches. They multiply demand.

What an event did is taken out of the history that a model learns from, and what one to come will do is put on top of
the forecast. A factor may be above 1 or below (a holiday on which nobody works). Of an event of unknown size only its
kind is known: past events of that kind say what to expect, shrunk towards "nothing" while they are few.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from controller.core.series import DAY_S
from controller.core.types import QUANTILES, FloatArray, Series

PRIOR_LOG_SD: Final = 0.3
"""Of the logarithm of the factor of an event of which nothing is known: one in ten is more than 1.5 times the usual,
one in a hundred more than twice. A judgement, not a measurement; it widens the quantiles above the median only."""
PRIOR_EVENTS: Final = 1.0
"""The prior counts as much as this many past events, all without any effect."""
LEAST_FACTOR: Final = 0.05
"""A step that an event left with less than this share says nothing of what it would have been."""
OBSERVED: Final = (0.1, 10.0)
"""An observed factor is held within these: one absurd hour is not a campaign."""
WEEKS: Final = 4


@dataclass(frozen=True, slots=True)
class Event:
    """Demand between start_s and end_s is `factor` times the usual; None: of unknown size."""

    name: str
    kind: str
    start_s: float
    end_s: float
    factor: float | None


@dataclass(frozen=True, slots=True)
class Effect:
    """What events of a kind did: the factor at each of QUANTILES (non-decreasing), and the factors that were observed.
    Few observations are shrunk towards 1 and widened."""

    kind: str
    factors: tuple[float, ...]
    observed: tuple[float, ...] = field(default=())

    @property
    def median(self) -> float:
        return self.factors[QUANTILES.index(0.5)]


def shares(event: Event, start_s: float, step_s: float, count: int) -> FloatArray:
    """How much of each step of [start_s, …) the event covers, 0 to 1."""
    begins = start_s + step_s * np.arange(count, dtype=np.float64)
    covered = np.minimum(begins + step_s, event.end_s) - np.maximum(begins, event.start_s)
    return np.asarray(np.clip(covered / step_s, 0.0, 1.0), dtype=np.float64)


def without_events(history: Series, events: Sequence[Event], learned: Mapping[str, Effect]) -> Series:
    """History as it would have been: each event's factor divided out, by the share of the step that it covers.

    A known factor is taken at its word; of an unknown one the median effect of its kind is used, and where its kind has
    none its steps are unknown, NaN, as are steps left with almost nothing (LEAST_FACTOR). While such an event is in
    progress at the end of history its steps stay as they are: nothing says more of it than they do.
    """
    count = len(history.values)
    divisor = np.ones(count)
    for event in events:
        share = shares(event, history.start_s, history.step_s, count)
        if not share.any():
            continue
        effect = learned.get(event.kind)
        if event.factor is None and effect is None and event.end_s > history.end_s:
            continue
        factor = event.factor if event.factor is not None else effect.median if effect is not None else np.nan
        divisor *= np.where(share > 0, 1.0 + share * (factor - 1.0), 1.0)
    if (divisor == 1.0).all():
        return history
    sound = np.isfinite(divisor) & (divisor >= LEAST_FACTOR)
    return Series(
        history.start_s, history.step_s, np.where(sound, history.values / np.where(sound, divisor, 1), np.nan)
    )


def expected_without(history: Series, events: Sequence[Event]) -> Series:
    """What each step would have been without the events, from the steps around it in time: the median of the same time
    of the week up to WEEKS weeks before and after, event steps left out; where there is none, of the same time of day
    in the seven days either side. NaN where nothing is known. For looking back only: it sees what came later."""
    values = np.array(history.values, dtype=np.float64)
    for event in events:
        values[shares(event, history.start_s, history.step_s, len(values)) > 0] = np.nan
    day = round(DAY_S / history.step_s)
    out = np.array(values)
    index = np.flatnonzero(_in_any(history, events))
    if len(index):
        weekly = _median_at(values, index, [7 * day * k for k in range(-WEEKS, WEEKS + 1) if k])
        daily = _median_at(values, index, [day * k for k in range(-7, 8) if k])
        out[index] = np.where(np.isfinite(weekly), weekly, daily)
    return Series(history.start_s, history.step_s, out)


def effects(history: Series, events: Sequence[Event], expected: Series) -> dict[str, Effect]:
    """What past events of each kind did, from `expected` on the same steps. Events that began before the history, or
    aren't over at its end, or fell where too little was measured, say nothing; a kind without any is absent.

    An event's factor f solves sum(actual) = sum(expected · (1 + share · (f - 1))). The logarithms of a kind's factors
    are joined with PRIOR_EVENTS events of no effect and of PRIOR_LOG_SD (a normal prior's posterior mean, and its
    variance pooled): quantile q of the factor is exp(mean + z_q · sd).
    """
    seen: dict[str, list[float]] = {}
    for event in sorted(events, key=lambda each: each.start_s):
        if event.start_s < history.start_s or event.end_s > history.end_s:
            continue
        share = shares(event, history.start_s, history.step_s, len(history.values))
        known = (share > 0) & np.isfinite(history.values) & np.isfinite(expected.values)
        usual = float((share * expected.values)[known].sum())
        if 2 * known.sum() < (share > 0).sum() or usual <= 0:
            continue
        extra = float((history.values - expected.values)[known].sum())
        seen.setdefault(event.kind, []).append(float(np.clip(1.0 + extra / usual, *OBSERVED)))
    return {kind: _effect(kind, factors) for kind, factors in seen.items()}


def learned_effects(history: Series, events: Sequence[Event]) -> dict[str, Effect]:
    """`effects` against `expected_without`: what history says of each kind of event."""
    past = [event for event in events if event.start_s < history.end_s]
    return effects(history, past, expected_without(history, past)) if past else {}


def with_events(
    values: FloatArray, start_s: float, step_s: float, events: Sequence[Event], learned: Mapping[str, Effect]
) -> tuple[FloatArray, tuple[str, ...]]:
    """Quantiles (len(QUANTILES), steps) multiplied by the events' factors, and a sentence for each that was applied.

    A known factor multiplies every quantile; of an unknown size each quantile is multiplied by that quantile of what
    its kind did, or of the prior; by neither where one that nothing is known of is in progress at start_s, for the load
    shows it by then. Events that overlap multiply. Quantiles don't cross by it.
    """
    out, said = np.array(values, dtype=np.float64), []
    for event in sorted(events, key=lambda each: each.start_s):
        share = shares(event, start_s, step_s, out.shape[1])
        if not share.any():
            continue
        if event.factor is not None:
            factors = np.full(len(QUANTILES), event.factor)
            size = f"x{event.factor:.3g} as entered"
        else:
            if event.kind not in learned and event.start_s < start_s:
                said.append(f"event '{event.name}' ({event.kind}, unknown size, in progress: the load shows it)")
                continue
            effect = learned.get(event.kind) or _effect(event.kind, [])
            factors = np.asarray(effect.factors)
            size = f"unknown size; {_past(effect)}"
        out = out * (1.0 + share[None, :] * (factors[:, None] - 1.0))
        said.append(f"event '{event.name}' ({event.kind}, {size})")
    return out, tuple(said)


def _past(effect: Effect) -> str:
    median, high = effect.median, effect.factors[QUANTILES.index(0.9)]
    number = len(effect.observed)
    whose = f"{number} past event{'s' if number != 1 else ''} of its kind" if number else "none of its kind is past"
    return f"{whose}: x{median:.2g} median, x{high:.2g} at 0.9"


def _effect(kind: str, observed: Sequence[float]) -> Effect:
    logs = np.log(np.asarray(observed, dtype=np.float64))
    mass = len(logs) + PRIOR_EVENTS
    centre = float(logs.sum() / mass)
    spread = float(((logs - centre) ** 2).sum()) + PRIOR_EVENTS * (PRIOR_LOG_SD**2 + centre**2)
    sd = min(float(np.sqrt(spread / mass)), 1.0)
    factors = np.exp(centre + ndtri(np.asarray(QUANTILES)) * sd)
    return Effect(kind, tuple(factors.tolist()), tuple(observed))


def _in_any(history: Series, events: Sequence[Event]) -> npt.NDArray[np.bool_]:
    inside = np.zeros(len(history.values), dtype=np.bool_)
    for event in events:
        inside |= shares(event, history.start_s, history.step_s, len(history.values)) > 0
    return inside


def _median_at(values: FloatArray, index: npt.NDArray[np.int64], offsets: Sequence[int]) -> FloatArray:
    """The median of values[index + offset] over the offsets; NaN where none is known."""
    at = index[:, None] + np.asarray(offsets)[None, :]
    there = (at >= 0) & (at < len(values))
    found = np.where(there, values[np.clip(at, 0, len(values) - 1)], np.nan)
    known = np.isfinite(found)
    out = np.full(len(index), np.nan)
    some = known.any(axis=1)
    out[some] = np.nanmedian(found[some], axis=1)
    return out
