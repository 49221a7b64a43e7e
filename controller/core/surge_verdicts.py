"""What is said of a surge that a plan follows: whether it came, came late, did not come, or is no longer forecast."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from controller.core.series import DAY_S
from controller.core.slow_grid import SlowGrid, mean_load, measured_minutes, step_at
from controller.core.types import Observation, Reason, Surge
from models.enums import Limit, SurgeStatus

PEAK_WITHIN_S = 3600.0
"""A surge is prepared for, and judged by, what is expected within its first hour: a slow grid doesn't tell the minute
of a rise, and a peak later in the day is a surge of its own."""
LARGER = 1.25
"""Within a surge that came, or did not come, a median this times what it was judged by is a surge of its own."""
EVIDENCE_S = 120.0
"""Two whole minutes are the least that says whether a surge has come."""
LATE_S = 600.0
"""A surge that was said not to come has come late when the mean load of so long is nearer to what was expected."""


def evidence_s(lead_s: float) -> float:
    """How long after its start a surge is judged: half the lead time, so that what it doesn't need has gone within one
    lead time, and two whole minutes at least."""
    return max(EVIDENCE_S, lead_s / 2)


def held(seen: Observation, surge: Surge, look_ahead_s: float) -> bool:
    """Whether capacity is held for the surge. Two minutes say that it came, not that less of it would do: as long as
    any scale-in waits, its need stands."""
    come = surge.status is SurgeStatus.CAME and seen.now_s < surge.judge_s + look_ahead_s
    return surge.status is SurgeStatus.PREPARING or come


def judged(seen: Observation, surge: Surge) -> Surge:
    """The surge with what the minutes since its start say of it. Nothing measured says nothing."""
    lead_s = seen.boot_s + seen.load_model_s
    if surge.status is SurgeStatus.DID_NOT_COME:
        lately = mean_load(seen, surge.key, max(surge.judge_s, seen.now_s - LATE_S), seen.now_s)
        late = lately is not None and lately >= surge.midpoint
        return replace(surge, status=SurgeStatus.CAME_LATE, observed=lately) if late else surge
    if surge.status is not SurgeStatus.PREPARING or seen.now_s < surge.judge_s + evidence_s(lead_s):
        return surge
    if measured_minutes(seen, surge.key, surge.judge_s) < EVIDENCE_S / 60.0:
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


def withdrawn(seen: Observation, slow: SlowGrid, surge: Surge) -> Surge:
    """A surge that has not begun and that the forecast, made anew, no longer expects."""
    if surge.status is not SurgeStatus.PREPARING or surge.judge_s <= seen.now_s or surge.key not in slow.keys:
        return surge
    first, k = step_at(slow, surge.start_s), slow.keys.index(surge.key)
    last = min(slow.count, max(first + 1, step_at(slow, min(surge.end_s, surge.start_s + PEAK_WITHIN_S))))
    expected = float(slow.loads[k, 0, first:last].max()) if first < last else 0.0
    return surge if expected >= surge.midpoint else replace(surge, status=SurgeStatus.WITHDRAWN)


def still_claimed(slow: SlowGrid, rises: Callable[[int], bool], surge: Surge) -> Surge:
    """A surge that did not come ends when the forecast stops claiming it: saying it again is no new evidence."""
    if surge.status is not SurgeStatus.DID_NOT_COME or surge.key not in slow.keys:
        return surge
    k, step = slow.keys.index(surge.key), step_at(slow, surge.end_s)
    while step < slow.count and rises(step) and slow.loads[k, 0, step] <= LARGER * surge.expected:
        step += 1
    return replace(surge, end_s=max(surge.end_s, slow.begins(step)))


def covered(slow: SlowGrid, step: int, tracked: Sequence[Surge]) -> bool:
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


def missed(tracked: Sequence[Surge], now_s: float, lead_s: float) -> Reason | None:
    """Why what was made ready is let go: a surge, judged within the last lead time, did not come; None otherwise."""
    since_s = now_s - evidence_s(lead_s) - lead_s
    surge = next(
        (each for each in tracked if each.status is SurgeStatus.DID_NOT_COME and each.judge_s >= since_s), None
    )
    if surge is None:
        return None
    what, why = outcome(surge)
    text = f"{what[:1].lower()}{what[1:]}: {why}; nothing is held for it until {clock_of(surge.end_s)}"
    return Reason(Limit.SURGE_MISSED, text, numbers_of(surge) | {"observed": surge.observed})


def outcome(surge: Surge) -> tuple[str, str]:
    """What became of a surge, and why that is said, in two texts."""
    name = f"The surge of {clock_of(surge.start_s)}"
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


def numbers_of(surge: Surge) -> dict[str, float | None]:
    """What every reason about a surge tells in numbers."""
    return {
        "level": surge.level,
        "expected": surge.expected,
        "peak_need_gpus": surge.need,
        "last_week": surge.evidence.last_week,
        "yesterday": surge.evidence.yesterday,
    }


def clock_of(at_s: float) -> str:
    """The time of day, UTC: "09:00"."""
    minute = round(at_s % DAY_S / 60.0) % 1440
    return f"{minute // 60:02d}:{minute % 60:02d}"
