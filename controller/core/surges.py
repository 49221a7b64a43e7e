"""Surges: rises that the slow forecast knows of and the minutes can't see yet.

The minute grid is led by what just happened and looks an hour ahead; a peak that comes every Tuesday at nine is in the
ten-minute grid a day before. Here are the coming intervals in which that grid (`slow_grid`) needs more than is there
(`surges_ahead`) and the capacity to make ready before they begin (`prepare`); `surge_verdicts` says what became of one.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from controller.core.plan import COMING, speeds, staying
from controller.core.series import DAY_S, WEEK_S
from controller.core.slow_grid import Needs, SlowGrid, level_of, mean_load, rises_of, slow_grid, step_at
from controller.core.surge_verdicts import (
    PEAK_WITHIN_S,
    clock_of,
    covered,
    held,
    judged,
    numbers_of,
    still_claimed,
    withdrawn,
)
from controller.core.types import Observation, Reason, Surge, SurgeEvidence
from models.enums import Limit, ReplicaState, SurgeStatus

_EVENT = re.compile(r"event '([^']*)'")


@dataclass(frozen=True, slots=True)
class SurgesAhead:
    """The intervals ahead, soonest first, in [made_s, until_s). `highest`: the largest need in it at all, rise or not.
    `ready`, `coming`, `highest` in reference GPUs. `until_s` None: there is no slow forecast, and so nothing is known.
    """

    made_s: float
    until_s: float | None
    ready: float
    coming: float
    highest: float | None
    surges: tuple[Surge, ...]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Capacity (reference GPUs) to have ready for surges within the look-ahead; 0: none is in reach."""

    capacity: float
    reason: Reason | None


def surges_ahead(seen: Observation, tracked: Sequence[Surge] = ()) -> SurgesAhead:
    """The maximal intervals ahead whose need exceeds what is ready and coming, with their evidence.

    `tracked` are surges that a plan already follows: what they cover is not named again. Some thousand evaluations of
    `expected_miss`; to be called once a slow forecast, not once a tick.
    """
    ready, coming = _there(seen)
    slow = slow_grid(seen)
    if slow is None:
        return SurgesAhead(seen.now_s, None, ready, coming, None, ())
    need = Needs(seen, slow)
    highest = 0.0
    first = step_at(slow, seen.now_s)
    for step in range(first, slow.count):
        if need.exceeds(step, highest):
            highest = float(need.of(step))
    found: list[Surge] = []
    step = first
    rises = rises_of(seen, slow)
    while highest > ready + coming and step < slow.count:
        if not (rises(step) and not covered(slow, step, tracked) and need.exceeds(step, ready + coming)):
            step += 1
            continue
        surge = _surge(seen, slow, need, rises, step, ready + coming)
        found.append(surge)
        step = max(step + 1, step_at(slow, surge.end_s))
    return SurgesAhead(seen.now_s, slow.begins(slow.count), ready, coming, highest, tuple(found))


def prepare(
    seen: Observation, tracked: Sequence[Surge], look_ahead_s: float, required: float
) -> tuple[Prepared, tuple[Surge, ...]]:
    """What to have ready for surges that begin within look_ahead_s, and the surges to remember until the next tick.

    `required`: what is needed without them (reference GPUs). The need is known ahead and deterministic, so it isn't
    held beyond its time: a surge that has come is the fast need's from then on, and one that did not come leaves
    nothing behind.
    """
    slow = slow_grid(seen)
    need = None if slow is None else Needs(seen, slow)
    kept = [judged(seen, surge) for surge in tracked if surge.end_s > seen.now_s]
    if slow is None or need is None:
        return Prepared(0.0, None), tuple(kept)
    kept = [withdrawn(seen, slow, surge) for surge in kept]
    rises = rises_of(seen, slow)
    kept = [still_claimed(slow, rises, surge) for surge in kept]
    first = step_at(slow, seen.now_s)
    last = min(slow.count, max(first + 1, math.ceil((seen.now_s + look_ahead_s - slow.start_s) / slow.step_s - 1e-9)))
    for step in range(first, last):
        if rises(step) and not covered(slow, step, kept) and need.exceeds(step, required):
            surge = _surge(seen, slow, need, rises, step, required)
            kept = [each for each in kept if each.start_s != surge.start_s]  # one that was withdrawn is back
            kept.append(judged(seen, replace(surge, status=SurgeStatus.PREPARING)))
    best, capacity = None, 0.0
    for number, surge in enumerate(kept):
        if not held(seen, surge, look_ahead_s):
            continue
        until = step_at(slow, min(surge.end_s, surge.start_s + PEAK_WITHIN_S))
        steps = range(max(first, step_at(slow, surge.start_s)), min(slow.count, max(until, first + 1)))
        # A forecast made anew wavers: what was asked for isn't let go until the surge is judged.
        most = max((float(need.of(step)) for step in steps), default=0.0)
        kept[number] = surge = replace(surge, prepared=max(surge.prepared, most))
        if surge.prepared > capacity:
            best, capacity = surge, surge.prepared
    return Prepared(capacity, None if best is None else _said(seen, best, capacity)), tuple(kept)


def foreseen(seen: Observation, tracked: Sequence[Surge], look_ahead_s: float) -> dict[str, float]:
    """How far the load may rise by surges that have begun: the p99 of each key, erlangs, within their first hour.

    What rises to there was made ready already; to carry the rise on as if it were a burst would buy it twice.
    """
    slow = slow_grid(seen)
    begun = [each for each in tracked if each.start_s <= seen.now_s and held(seen, each, look_ahead_s)]
    if slow is None or not begun:
        return {}
    first = step_at(slow, seen.now_s)
    last = max(step_at(slow, min(each.end_s, each.start_s + PEAK_WITHIN_S)) for each in begun)
    window = slow.loads[:, -1, first : max(last, first + 1)]
    return {key: float(window[k].max()) for k, key in enumerate(slow.keys)} if window.size else {}


def _surge(
    seen: Observation, slow: SlowGrid, need: Needs, rises: Callable[[int], bool], first: int, capacity: float
) -> Surge:
    """The surge that begins with step `first`: as long as steps rise and need more than `capacity`."""
    last = first + 1
    while last < slow.count and rises(last) and need.exceeds(last, capacity):
        last += 1
    peak = max(range(first, last), key=need.of)
    early = range(first, min(last, first + max(1, round(PEAK_WITHIN_S / slow.step_s))))
    levels = [level_of(seen, key) or 0.0 for key in slow.keys]
    gains = [max(float(slow.loads[k, 0, step]) for step in early) - levels[k] for k in range(len(slow.keys))]
    k = int(np.argmax(gains))
    expected = levels[k] + gains[k]
    half = (levels[k] + expected) / 2
    judge = slow.begins(next((step for step in early if slow.loads[k, 0, step] >= half), first))
    onset = _onset(seen, slow.keys[k], judge - slow.step_s, judge + slow.step_s, half)
    ready, coming = _there(seen)
    lead_s = seen.boot_s + seen.load_model_s
    return Surge(
        service=seen.service,
        key=slow.keys[k],
        start_s=slow.begins(first),
        end_s=slow.begins(last),
        peak_s=slow.begins(peak),
        provision_by_s=slow.begins(first) - lead_s,
        judge_s=max(slow.begins(first), judge if onset is None else onset),
        need=float(need.of(peak)),
        ready=ready,
        coming=coming,
        level=levels[k],
        expected=expected,
        evidence=_evidence(seen, slow, k, peak),
    )


def _onset(seen: Observation, key: str, from_s: float, to_s: float, midpoint: float) -> float | None:
    """The minute of the rise: when, a week or else a day before [from_s, to_s), two minutes in a row first reached the
    midpoint, from below it. None: they did not. The slow grid knows the hour, what was measured knows the minute.
    """
    series = seen.load.get(key)
    if series is None:
        return None
    for back_s in (WEEK_S, DAY_S):
        first = math.floor((from_s - back_s - series.start_s) / series.step_s + 1e-9)
        last = math.ceil((to_s - back_s - series.start_s) / series.step_s - 1e-9)
        if first < 0 or last + 1 > len(series.values):
            continue
        pairs = np.minimum(series.values[first:last], series.values[first + 1 : last + 1])
        high = np.flatnonzero(pairs >= midpoint)
        if len(high) and high[0] > 0:
            return float(series.start_s + series.step_s * (first + int(high[0])) + back_s)
    return None


def _evidence(seen: Observation, slow: SlowGrid, k: int, step: int) -> SurgeEvidence:
    forecast, at_s = slow.forecasts[k], slow.begins(step)
    numbers = forecast.reason.numbers
    return SurgeEvidence(
        model=forecast.model,
        step_s=slow.step_s,
        pinball=numbers.get("pinball"),
        coverage_p90=numbers.get("coverage_p90"),
        quantiles=forecast.quantiles,
        loads=tuple(slow.loads[k, :, step].tolist()),
        yesterday=mean_load(seen, slow.keys[k], at_s - DAY_S, at_s - DAY_S + slow.step_s),
        last_week=mean_load(seen, slow.keys[k], at_s - WEEK_S, at_s - WEEK_S + slow.step_s),
        events=tuple(dict.fromkeys(_EVENT.findall(forecast.reason.text))),
    )


def _there(seen: Observation) -> tuple[float, float]:
    """Reference GPUs that serve, and that are on their way."""
    speed, here = speeds(seen), staying(seen)
    ready = sum(speed[each.offer_id] for each in here if each.state is ReplicaState.READY)
    return ready, sum(speed[each.offer_id] for each in here if each.state in COMING)


def _said(seen: Observation, surge: Surge, capacity: float) -> Reason:
    facts = surge.evidence
    when = f"from {clock_of(surge.start_s)} to {clock_of(surge.end_s)}"
    week = "" if facts.last_week is None else f", {facts.last_week:.1f} at that time last week"
    text = (
        f"a surge is forecast {when}: {facts.model} expects {surge.expected:.1f} GPUs in use (p50) against "
        f"{surge.level:.1f} over the last hour{week}; {capacity:.0f} GPUs are made ready before it"
    )
    numbers = {"required": capacity, "starts_in_s": max(0.0, surge.start_s - seen.now_s)}
    return Reason(Limit.SURGE_AHEAD, text, numbers_of(surge) | numbers)
