"""Surges: rises that the slow forecast knows of and the minutes can't see yet.

The minute grid is led by what just happened and looks an hour ahead; a peak that comes every Tuesday at nine is in the
ten-minute grid a day before. Here are the coming intervals in which that grid needs more than is there
(`surges_ahead`), the capacity to make ready before they begin (`prepare`), and what is done when one fails to come.

A step of the slow grid counts as a rise only if its *median* is above what the minute forecast holds for likely (its
p90), above `RISE` times the level of the last hour, and beyond the noise of counting: the slow grid is sure of what
the fast one doesn't expect. Upper quantiles alone, which on a noisy service are always high, prepare for nothing;
bursts have their reserve.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

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
from controller.core.plan import COMING, speeds, staying
from controller.core.types import (
    FloatArray,
    Forecast,
    Observation,
    Reason,
    Surge,
    SurgeEvidence,
    TierTarget,
)
from models.enums import Limit, ReplicaState, SurgeStatus

SLOW_STEPS_S = (600.0, 3600.0)
"""The slow grids, the finer first: the hourly one stands in where the other has nothing."""
RISE = 1.5
"""A rise is at least this times the mean load of the last hour."""
NOISE = 2.0
"""And at least this times its square root above that level."""
LEVEL_S = 3600.0
PEAK_WITHIN_S = 3600.0
"""A surge is prepared for, and judged by, what is expected within its first hour: a slow grid doesn't tell the minute
of a rise, and a peak later in the day is a surge of its own."""
LARGER = 1.25
"""Within a surge that came, or did not come, a median this times what it was judged by is a surge of its own."""
EVIDENCE_S = 120.0
"""Two whole minutes are the least that says whether a surge has come."""
LATE_S = 600.0
"""A surge that was said not to come has come late when the mean load of so long is nearer to what was expected."""
DAY_S, WEEK_S = 86400.0, 7 * 86400.0
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


@dataclass(frozen=True, slots=True)
class _Slow:
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


def evidence_s(lead_s: float) -> float:
    """How long after its start a surge is judged: half the lead time, so that what it doesn't need has gone within one
    lead time, and two whole minutes at least."""
    return max(EVIDENCE_S, lead_s / 2)


def surges_ahead(seen: Observation, tracked: Sequence[Surge] = ()) -> SurgesAhead:
    """The maximal intervals ahead whose need exceeds what is ready and coming, with their evidence.

    `tracked` are surges that a plan already follows: what they cover is not named again. Some thousand evaluations of
    `expected_miss`; to be called once a slow forecast, not once a tick.
    """
    ready, coming = _there(seen)
    slow = _slow(seen)
    if slow is None:
        return SurgesAhead(seen.now_s, None, ready, coming, None, ())
    need = _Needs(seen, slow)
    highest = 0.0
    first = _step_at(slow, seen.now_s)
    for step in range(first, slow.count):
        if need.exceeds(step, highest):
            highest = float(need.of(step))
    found: list[Surge] = []
    step = first
    rises = _rises(seen, slow)
    while highest > ready + coming and step < slow.count:
        if not (rises(step) and not _covered(slow, step, tracked) and need.exceeds(step, ready + coming)):
            step += 1
            continue
        surge = _surge(seen, slow, need, rises, step, ready + coming)
        found.append(surge)
        step = max(step + 1, _step_at(slow, surge.end_s))
    return SurgesAhead(seen.now_s, slow.begins(slow.count), ready, coming, highest, tuple(found))


def prepare(
    seen: Observation, tracked: Sequence[Surge], look_ahead_s: float, required: float
) -> tuple[Prepared, tuple[Surge, ...]]:
    """What to have ready for surges that begin within look_ahead_s, and the surges to remember until the next tick.

    `required`: what is needed without them (reference GPUs). The need is known ahead and deterministic, so it isn't
    held beyond its time: a surge that has come is the fast need's from then on, and one that did not come leaves
    nothing behind.
    """
    slow = _slow(seen)
    need = None if slow is None else _Needs(seen, slow)
    kept = [_judged(seen, surge) for surge in tracked if surge.end_s > seen.now_s]
    if slow is None or need is None:
        return Prepared(0.0, None), tuple(kept)
    kept = [_withdrawn(seen, slow, surge) for surge in kept]
    rises = _rises(seen, slow)
    kept = [_still_claimed(slow, rises, surge) for surge in kept]
    first = _step_at(slow, seen.now_s)
    last = min(slow.count, max(first + 1, math.ceil((seen.now_s + look_ahead_s - slow.start_s) / slow.step_s - 1e-9)))
    for step in range(first, last):
        if rises(step) and not _covered(slow, step, kept) and need.exceeds(step, required):
            surge = _surge(seen, slow, need, rises, step, required)
            kept = [each for each in kept if each.start_s != surge.start_s]  # one that was withdrawn is back
            kept.append(_judged(seen, replace(surge, status=SurgeStatus.PREPARING)))
    best, capacity = None, 0.0
    for number, surge in enumerate(kept):
        if not _held(seen, surge, look_ahead_s):
            continue
        until = _step_at(slow, min(surge.end_s, surge.start_s + PEAK_WITHIN_S))
        steps = range(max(first, _step_at(slow, surge.start_s)), min(slow.count, max(until, first + 1)))
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
    slow = _slow(seen)
    begun = [each for each in tracked if each.start_s <= seen.now_s and _held(seen, each, look_ahead_s)]
    if slow is None or not begun:
        return {}
    first = _step_at(slow, seen.now_s)
    last = max(_step_at(slow, min(each.end_s, each.start_s + PEAK_WITHIN_S)) for each in begun)
    window = slow.loads[:, -1, first : max(last, first + 1)]
    return {key: float(window[k].max()) for k, key in enumerate(slow.keys)} if window.size else {}


def missed(tracked: Sequence[Surge], now_s: float, lead_s: float) -> Reason | None:
    """Why what was made ready is let go: a surge, judged within the last lead time, did not come; None otherwise."""
    since_s = now_s - evidence_s(lead_s) - lead_s
    surge = next(
        (each for each in tracked if each.status is SurgeStatus.DID_NOT_COME and each.judge_s >= since_s), None
    )
    if surge is None:
        return None
    what, why = outcome(surge)
    text = f"{what[:1].lower()}{what[1:]}: {why}; nothing is held for it until {_clock(surge.end_s)}"
    return Reason(Limit.SURGE_MISSED, text, _numbers(surge) | {"observed": surge.observed})


def outcome(surge: Surge) -> tuple[str, str]:
    """What became of a surge, and why that is said, in two texts."""
    name = f"The surge of {_clock(surge.start_s)}"
    claim = f"the {surge.expected:.1f} that {surge.evidence.model} expected"
    seen = f"{surge.observed:.1f} GPUs in use" if surge.observed is not None else "not observed"
    if surge.status is SurgeStatus.DID_NOT_COME:
        return f"{name} did not come", f"{seen} since, nearer to the {surge.level:.1f} before than to {claim}"
    if surge.status is SurgeStatus.CAME:
        return f"{name} came", f"{seen} since, nearer to {claim} than to the {surge.level:.1f} before"
    if surge.status is SurgeStatus.CAME_LATE:
        return f"{name} came late", f"{seen} lately, nearer to {claim} than to the {surge.level:.1f} before"
    if surge.status is SurgeStatus.WITHDRAWN:
        return f"{name} is no longer forecast", f"the forecast made since is nearer to the {surge.level:.1f} before"
    return (
        f"{name} is prepared for",
        f"{surge.evidence.model} expects {surge.expected:.1f} GPUs in use against {surge.level:.1f} over the last "
        f"hour; {surge.need:.0f} hold the targets at its peak",
    )


class _Needs:
    """The need of each step of the slow grid, computed when asked for; what recurs is remembered (`servers_needed`)."""

    def __init__(self, seen: Observation, slow: _Slow) -> None:
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


def _slow(seen: Observation) -> _Slow | None:
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
        return _Slow(keys, tuple(tiers[k] for k in urgent), known, loads, known[0].start_s, step_s)
    return None


def _rises(seen: Observation, slow: _Slow) -> Callable[[int], bool]:
    """Whether a step's median is a rise of any tier: above `RISE` levels and the minutes' p90 until its end."""
    limits = [_limit(seen, slow, key) for key in slow.keys]

    def rises(step: int) -> bool:
        return any(slow.loads[k, 0, step] > limits[k][step] for k in range(len(limits)))

    return rises


def _limit(seen: Observation, slow: _Slow, key: str) -> FloatArray:
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


def _measured(seen: Observation, key: str, from_s: float) -> int:
    """How many whole minutes since from_s were measured."""
    series = seen.load.get(key)
    if series is None:
        return 0
    first = max(0, math.ceil((from_s - series.start_s) / series.step_s - 1e-9))
    return int(np.isfinite(series.values[first:]).sum())


def _surge(
    seen: Observation, slow: _Slow, need: _Needs, rises: Callable[[int], bool], first: int, capacity: float
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


def _evidence(seen: Observation, slow: _Slow, k: int, step: int) -> SurgeEvidence:
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


def _held(seen: Observation, surge: Surge, look_ahead_s: float) -> bool:
    """Whether capacity is held for the surge. Two minutes say that it came, not that less of it would do: as long as
    any scale-in waits, its need stands."""
    come = surge.status is SurgeStatus.CAME and seen.now_s < surge.judge_s + look_ahead_s
    return surge.status is SurgeStatus.PREPARING or come


def _judged(seen: Observation, surge: Surge) -> Surge:
    """The surge with what the minutes since its start say of it. Nothing measured says nothing."""
    lead_s = seen.boot_s + seen.load_model_s
    if surge.status is SurgeStatus.DID_NOT_COME:
        lately = mean_load(seen, surge.key, max(surge.judge_s, seen.now_s - LATE_S), seen.now_s)
        late = lately is not None and lately >= surge.midpoint
        return replace(surge, status=SurgeStatus.CAME_LATE, observed=lately) if late else surge
    if surge.status is not SurgeStatus.PREPARING or seen.now_s < surge.judge_s + evidence_s(lead_s):
        return surge
    if _measured(seen, surge.key, surge.judge_s) < EVIDENCE_S / 60.0:
        return surge
    observed = mean_load(seen, surge.key, surge.judge_s, seen.now_s)
    if observed is None:
        return surge
    if observed >= surge.midpoint:
        return replace(surge, status=SurgeStatus.CAME, observed=observed)
    names = surge.key.split("+")
    in_flight = sum(queue.running + queue.queued for queue in seen.queues if queue.tier in names)
    if in_flight >= surge.midpoint:  # it may be coming just now
        return surge
    return replace(surge, status=SurgeStatus.DID_NOT_COME, observed=observed)


def _withdrawn(seen: Observation, slow: _Slow, surge: Surge) -> Surge:
    """A surge that has not begun and that the forecast, made anew, no longer expects."""
    if surge.status is not SurgeStatus.PREPARING or surge.judge_s <= seen.now_s or surge.key not in slow.keys:
        return surge
    first, k = _step_at(slow, surge.start_s), slow.keys.index(surge.key)
    last = min(slow.count, max(first + 1, _step_at(slow, min(surge.end_s, surge.start_s + PEAK_WITHIN_S))))
    expected = float(slow.loads[k, 0, first:last].max()) if first < last else 0.0
    return surge if expected >= surge.midpoint else replace(surge, status=SurgeStatus.WITHDRAWN)


def _still_claimed(slow: _Slow, rises: Callable[[int], bool], surge: Surge) -> Surge:
    """A surge that did not come ends when the forecast stops claiming it: saying it again is no new evidence."""
    if surge.status is not SurgeStatus.DID_NOT_COME or surge.key not in slow.keys:
        return surge
    k, step = slow.keys.index(surge.key), _step_at(slow, surge.end_s)
    while step < slow.count and rises(step) and slow.loads[k, 0, step] <= LARGER * surge.expected:
        step += 1
    return replace(surge, end_s=max(surge.end_s, slow.begins(step)))


def _covered(slow: _Slow, step: int, tracked: Sequence[Surge]) -> bool:
    """Whether the step belongs to a surge that is followed already, and isn't a larger one within it."""
    at_s = slow.begins(step)
    for surge in tracked:
        if surge.status is SurgeStatus.WITHDRAWN or not surge.start_s - 1e-9 <= at_s < surge.end_s - 1e-9:
            continue
        if surge.status is SurgeStatus.PREPARING or surge.key not in slow.keys:
            return True
        if slow.loads[slow.keys.index(surge.key), 0, step] <= LARGER * surge.expected:
            return True
    return False


def _step_at(slow: _Slow, at_s: float) -> int:
    return max(0, math.floor((at_s - slow.start_s) / slow.step_s + 1e-9))


def _there(seen: Observation) -> tuple[float, float]:
    """Reference GPUs that serve, and that are on their way."""
    speed, here = speeds(seen), staying(seen)
    ready = sum(speed[each.offer_id] for each in here if each.state is ReplicaState.READY)
    return ready, sum(speed[each.offer_id] for each in here if each.state in COMING)


def _said(seen: Observation, surge: Surge, capacity: float) -> Reason:
    facts = surge.evidence
    when = f"from {_clock(surge.start_s)} to {_clock(surge.end_s)}"
    week = "" if facts.last_week is None else f", {facts.last_week:.1f} at that time last week"
    text = (
        f"a surge is forecast {when}: {facts.model} expects {surge.expected:.1f} GPUs in use (p50) against "
        f"{surge.level:.1f} over the last hour{week}; {capacity:.0f} GPUs are made ready before it"
    )
    numbers = {"required": capacity, "starts_in_s": max(0.0, surge.start_s - seen.now_s)}
    return Reason(Limit.SURGE_AHEAD, text, _numbers(surge) | numbers)


def _numbers(surge: Surge) -> dict[str, float | None]:
    return {
        "level": surge.level,
        "expected": surge.expected,
        "peak_need_gpus": surge.need,
        "last_week": surge.evidence.last_week,
        "yesterday": surge.evidence.yesterday,
    }


def _clock(at_s: float) -> str:
    """The time of day, UTC: "09:00"."""
    minute = round(at_s % DAY_S / 60.0) % 1440
    return f"{minute // 60:02d}:{minute % 60:02d}"
