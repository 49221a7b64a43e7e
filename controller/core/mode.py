"""How far Heddle may go: the order of modes, and what a fleet lacks or has too many of where it may not act."""

from collections import Counter
from collections.abc import Mapping

from controller.core.plan import staying
from controller.core.types import Observation, Plan
from models.enums import Mode

_ORDER = tuple(Mode)


def lesser(one: Mode, other: Mode) -> Mode:
    """The mode that goes less far."""
    return min(one, other, key=_ORDER.index)


def would_change(plan: Plan, seen: Observation) -> Mapping[str, int] | None:
    """Replicas by offer that the plan would start (above 0) or release, where nothing may be done; None in act mode."""
    if seen.mode is Mode.ACT:
        return None
    change = Counter(plan.desired_by_offer)
    change.subtract(Counter(replica.offer_id for replica in staying(seen)))
    return {offer_id: count for offer_id, count in sorted(change.items()) if count}
