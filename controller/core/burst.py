"""Bursts: what no forecast sees coming, and a new replica comes too late for.

A tenant that begins a session multiplies a quiet tier's load within minutes. Two answers, joined: a reserve that is
held all the time, as large as history says it must be, and a lead that follows what has just begun (its level, its
margin, and its rise carried on until a replica started now can serve). History is asked for the reserve *with* that
lead in place, so the better the lead, the smaller the reserve.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from controller.core.queueing import probability_of, target_wait_s
from controller.core.types import FloatArray, Observation, Reason, Series, TierTarget
from models.enums import Limit

# History that the reserve is asked of: a week of minutes.
HISTORY_MINUTES = 7 * 1440
# The few largest bursts of a week carry nearly all of its waiting, and a mean over few events is uncertain by about
# itself: the reserve is sized for a quarter of what the target allows.
MARGIN = 0.25
# The slow level that the reserve stands on, and the square-root margin on what runs now.
SLOW_S = 3600.0
STAFFING = 2.0
# A rise counts from two minutes to the next two, as far as it is beyond the noise of counting: 1.5 standard deviations.
RISE_MINUTES = 2
NOISE = 1.5


@dataclass(frozen=True, slots=True)
class BurstHold:
    """What a tier's bursts ask for: `reserve` above the `slow` level, or `high`, what ran lately, with its margin and
    its `rise` carried on, whichever is more. Reference GPUs.
    """

    capacity: float
    slow: float
    reserve: float
    high: float
    rise: float

    def reason(self, tier: TierTarget, staffed: float) -> Reason:
        """Why, beside what the forecast alone asks for."""
        numbers = {
            "slow_level": self.slow,
            "reserve": self.reserve,
            "high_level": self.high,
            "rise": self.rise,
            "forecast_required": staffed,
        }
        if self.slow + self.reserve >= self.capacity:
            text = (
                f"{tier.name}: {self.slow:.1f} GPUs in use over the last hour and {self.reserve:.1f} held for a burst, "
                f"the fewest that history says keep {tier.statistic} {tier.of.value} {tier.target_ms:,.0f} ms; "
                f"the forecast alone asks for {staffed:.1f}"
            )
        else:
            text = (
                f"{tier.name}: up to {self.high:.1f} GPUs at once in the last minutes, rising by {self.rise:.1f} "
                f"until a new replica can serve; with a margin of {STAFFING:g}·√ that is {self.capacity:.1f}; "
                f"the forecast alone asks for {staffed:.1f}"
            )
        return Reason(Limit.BURST_RESERVE, text, numbers)


def burst_hold(
    seen: Observation, tiers: Sequence[str], reserve: float, lead_s: float, foreseen: float | None = None
) -> BurstHold:
    """What the bursts of these tiers together ask for now. `foreseen`: the load up to which a rise was made ready for;
    a rise to there is not carried on beyond it.

    Each request that runs keeps one GPU busy, whatever length it was expected to have, so what is in flight counts
    beside the measured minutes; of those that wait, only the first tier's: the others may, and the backlog answers.
    """
    series = seen.load.get("+".join(tiers))
    running = sum(queue.running for queue in seen.queues if queue.tier in tiers)
    in_flight = float(running + sum(queue.queued for queue in seen.queues if queue.tier == tiers[0]))
    slow = high = rise = 0.0
    if series is not None and len(series.values):
        lag = max(1, math.ceil(lead_s / series.step_s))
        recent = series.values[-round(SLOW_S / series.step_s) :]
        slow = float(np.nanmean(recent)) if np.isfinite(recent).any() else 0.0
        known = np.nan_to_num(recent[-max(lag, 2 * RISE_MINUTES) :])
        high = float(known[-lag:].max())
        rise = float(_rise(known, lag)[-1])
    high = max(high, in_flight)
    if foreseen is not None and high < foreseen:
        rise = min(rise, foreseen - high)
    capacity = max(slow + reserve, high + STAFFING * math.sqrt(high) + rise)
    return BurstHold(capacity, slow, reserve, high, rise)


def burst_reserve(load: Series, target: TierTarget, work_s: float, scv: float, lead_s: float) -> float:
    """Reference GPUs to hold above the slow level so that bursts keep the target.

    The newsvendor's question asked of history: had the fleet always followed the load lead_s late, with this much held,
    would the target have been kept over these minutes? Backlog by Lindley's recursion in its explicit form, B = S −
    min(S); each minute counts by its load. The smallest reserve that would have done, to half a GPU; 0 for a history
    without load.
    """
    values = np.nan_to_num(load.values[-HISTORY_MINUTES:])
    lag = max(1, math.ceil(lead_s / load.step_s))
    if len(values) <= 2 * lag or values.sum() <= 0:
        return 0.0
    slow, following = lagged(values, lag, round(SLOW_S / load.step_s))
    wait_target = max(target_wait_s(target, work_s, scv), 1e-3)
    probability = probability_of(target.statistic)

    def holds(reserve: float) -> bool:
        capacity = np.maximum(slow + reserve, following)
        excess = np.cumsum((values - capacity) * load.step_s)
        backlog = excess - np.minimum(np.minimum.accumulate(excess), 0.0)
        wait = backlog / np.maximum(capacity, 1.0)
        if probability is None:
            return float(wait @ values) / float(values.sum()) <= wait_target * MARGIN
        return float((wait > wait_target) @ values) / float(values.sum()) <= (1 - probability) * MARGIN

    lo, hi = 0.0, float(values.max())
    while hi - lo > 0.5:
        middle = (lo + hi) / 2
        lo, hi = (lo, middle) if holds(middle) else (middle, hi)
    return hi


def _rise(values: FloatArray, lag: int) -> FloatArray:
    """By how much the load (…, n) will have risen `lag` minutes after each minute, going on as in the last four."""
    sums = np.concatenate([np.zeros((*values.shape[:-1], 2 * RISE_MINUTES)), np.cumsum(values, axis=-1)], axis=-1)
    ends = np.arange(values.shape[-1]) + 2 * RISE_MINUTES
    late = (sums[..., ends] - sums[..., ends - RISE_MINUTES]) / RISE_MINUTES
    early = (sums[..., ends - RISE_MINUTES] - sums[..., ends - 2 * RISE_MINUTES]) / RISE_MINUTES
    rise: FloatArray = np.maximum(0.0, (late - early) / RISE_MINUTES * lag - NOISE * np.sqrt(np.maximum(late, 0.0)))
    return rise


def lagged(values: FloatArray, lag: int, slow: int) -> tuple[FloatArray, FloatArray]:
    """What could be ready for each minute (…, n), decided `lag` minutes before it or, since the fleet holds what it has
    that long, up to twice as long before: the mean of the `slow` minutes, and the level with its margin and rise.
    """
    padded = np.concatenate([np.repeat(values[..., :1], slow + lag, axis=-1), values], axis=-1)
    sums = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(padded, axis=-1)], axis=-1)
    ends = np.arange(values.shape[-1]) + slow
    mean = (sums[..., ends] - sums[..., ends - slow]) / slow
    high = _trailing_max(padded, lag)
    lead = high + STAFFING * np.sqrt(high) + _rise(padded, lag)
    held = _trailing_max(lead, 2 * lag)
    return mean, held[..., ends - 1]


def _trailing_max(values: FloatArray, count: int) -> FloatArray:
    """The largest of each value (…, n) and the count - 1 before it."""
    largest = values.copy()
    for back in range(1, min(count, values.shape[-1])):
        np.maximum(largest[..., back:], values[..., :-back], out=largest[..., back:])
    return largest
