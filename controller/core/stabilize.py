"""When a fleet may shrink: not on a forecast alone, not on missing telemetry, not if a restart costs more than the
idle time.

`stabilize` turns what is required now into what to hold: the highest requirement of the last window, so that a gap
between two bursts shorter than a restart is bridged. `may_release` is the check before each replica goes.
"""

from dataclasses import dataclass

from controller.core.policies.base import Memory
from controller.core.types import Reason
from models.enums import Limit


@dataclass(frozen=True, slots=True)
class Stabilized:
    capacity: float
    reason: Reason


def stabilize(
    required: float, current: float, memory: Memory, now_s: float, window_s: float
) -> tuple[Stabilized, Memory]:
    """Capacity to hold (reference GPUs). Growing is never delayed. After a restart what is found counts as required
    just now, once: to hold whatever is `current` would take a replica that waits to be replaced for demand, and grow.
    """
    if memory.since_s is None:
        memory = memory.recommend(now_s, max(current, required), window_s)
    memory = memory.recommend(now_s, required, window_s)
    watched_s = now_s - (now_s if memory.since_s is None else memory.since_s)
    held = memory.highest()
    if watched_s < window_s and held > required + 1e-9 and current > required:
        text = f"the controller has watched for {watched_s:.0f} s of {window_s:.0f} s: {held:.1f} GPUs are held"
        numbers = {"current": current, "held": held, "required": required}
        return Stabilized(held, Reason(Limit.SCALE_IN_CHECK, text, numbers)), memory
    if held > required + 1e-9 and current > required:
        text = (
            f"{required:.1f} GPUs required, {held:.1f} within the last {window_s:.0f} s: "
            f"a restart costs as much as idling that long"
        )
        return Stabilized(held, Reason(Limit.IDLE_COST, text, {"held": held, "required": required})), memory
    text = f"{held:.1f} GPUs required"
    return Stabilized(held, Reason(Limit.NONE, text, {"required": required})), memory


def may_release(serving: float, leaving: float, load_now: float) -> bool:
    """May replicas of `leaving` capacity go from `serving` (reference GPUs)? Only if what runs and waits now still
    fits on the rest: at load N/(N−1) of today's, the check of Dynamo's planner (its PR 9294), so that letting go
    does not call back.
    """
    rest = serving - leaving
    return rest >= load_now - 1e-9
