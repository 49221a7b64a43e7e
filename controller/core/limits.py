"""From the replicas that a service's class asks for to its plan, under what beats a plan.

Missing telemetry, fleet-wide pause, freeze, spend cap, override, floor and ceiling, in this order of strength. The
weaker is applied first and the stronger cuts what it left; the reason that decided is the plan's `bound`.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from controller.core.finance import burn_allowed
from controller.core.plan import Actions, hold, release_order, staying
from controller.core.types import Observation, Offer, Override, Plan, Reason, Replica
from models.enums import Limit, Mode, OverrideKind, ReplicaState

# Share of the cap that is kept for what drains and for ticks that come late.
RESERVE = 0.02
# The hour's unspent dollars may be burned at most this much faster than the cap: the next hour begins with the same
# fleet.
BURST = 1.25


def burn_left(seen: Observation) -> float | None:
    """Dollars an hour that this service's replicas may burn; None without a cap, or under a pin signed over it."""
    cap = seen.envelope.spend_cap_usd_per_hour
    pin = pin_of(seen)
    if cap is None or (pin is not None and pin.signed_over_cap):
        return None
    left = burn_allowed(cap * (1 - RESERVE), seen.spend.accrued_usd, seen.now_s)
    return max(0.0, min(math.inf if left is None else left, cap * BURST) - seen.spend.jobs_usd_per_hour)


def stale(seen: Observation) -> Reason | None:
    """Missing or stale telemetry: what is needed may be started, nothing is scaled in, not even for the cap."""
    if not seen.stale:
        return None
    age = seen.telemetry_age_s
    word = "never reported" if age is None else f"is {age:.0f} s old, over {seen.stale_after_s:.0f} s"
    return Reason(Limit.STALE_TELEMETRY, f"telemetry {word}: nothing is scaled in until it reports", {"age_s": age})


def paused(seen: Observation) -> Reason | None:
    """A fleet-wide pause, or a freeze or pause of the service: nothing is started or let go."""
    for override in seen.overrides:
        if override.kind is OverrideKind.PAUSE and override.service == "*":
            text = f"automation of the whole fleet is paused by {override.author}: {override.reason}"
            return Reason(Limit.FLEET_PAUSE, text, {})
    for override in seen.overrides:
        if override.kind in (OverrideKind.FREEZE, OverrideKind.PAUSE):
            verb = "frozen" if override.kind is OverrideKind.FREEZE else "paused"
            return Reason(Limit.FREEZE, f"{seen.service} is {verb} by {override.author}: {override.reason}", {})
    return None


def limited_plan(
    seen: Observation,
    plan_id: str,
    policy: str,
    wanted: Sequence[Offer],
    filler: Offer | None,
    required: int,
    reasons: Sequence[Reason],
    numbers: Mapping[str, float | None],
) -> Plan:
    """The plan that holds `wanted`, one offer a replica, most important first, as far as the limits let it.

    `filler` is what a pin or a floor above `wanted` is filled up with; None: nothing can be bought. The last of
    `reasons` is the one that decided before the limits.
    """
    stop, still = stale(seen), paused(seen)
    if still is not None:
        return hold(seen, plan_id, policy, stop or still, required, (*reasons, still))
    offers, counted = _counted(seen, list(wanted), filler)
    offers, capped = _capped(seen, offers)
    limits = [reason for reason in (counted, capped) if reason is not None]
    target = Counter(offer.id for offer in offers)
    here = staying(seen)
    held = Counter(replica.offer_id for replica in here)
    if stop is not None and held - target:
        limits.append(stop)
        target |= held
    reasons = (*reasons, *limits)
    actions = Actions(seen, plan_id)
    for offer_id, count in target.items():
        actions.start(offer_id, count - held[offer_id], reasons[-1].text)
    if stop is None:
        _release(seen, here, held - target, reasons[-1].text, actions)
    if seen.mode is not Mode.ACT and actions.taken:
        text = f"mode is {seen.mode.value}: {len(actions.taken)} actions are shown and not done"
        reasons = (*reasons, Reason(Limit.MODE, text, {}))
    return Plan(
        id=plan_id,
        service=seen.service,
        made_s=seen.now_s,
        policy=policy,
        required=required,
        stabilized=len(wanted),
        desired=target.total(),
        desired_by_offer=dict(target),
        actions=tuple(actions.taken) if seen.mode is Mode.ACT else (),
        bound=reasons[-1],
        reasons=tuple(reasons),
        numbers={**numbers, "accrued_usd": seen.spend.accrued_usd, "telemetry_age_s": seen.telemetry_age_s},
    )


def _release(seen: Observation, here: Sequence[Replica], surplus: Counter[str], why: str, actions: Actions) -> None:
    for replica in seen.replicas:
        if replica.gone_s is not None and not replica.busy and replica.state is not ReplicaState.RELEASED:
            actions.release(replica, "is being taken back and runs nothing")
    for replica in sorted(here, key=release_order):
        if surplus[replica.offer_id] > 0:
            surplus[replica.offer_id] -= 1
            actions.release(replica, why)


def pin_of(seen: Observation) -> Override | None:
    """The pin in force."""
    return next((o for o in seen.overrides if o.kind is OverrideKind.PIN and o.replicas is not None), None)


def _counted(seen: Observation, offers: list[Offer], filler: Offer | None) -> tuple[list[Offer], Reason | None]:
    pin, count = pin_of(seen), len(offers)
    floor, ceiling = seen.envelope.floor, seen.envelope.ceiling
    if pin is not None and pin.replicas is not None:
        text = f"pinned at {pin.replicas} replicas by {pin.author}: {pin.reason}"
        reason = Reason(Limit.OVERRIDE, text, {"pinned": pin.replicas, "automatic": count})
        return _resized(offers, pin.replicas, filler), reason
    if count < floor:
        text = f"floor of {floor} replicas; the plan alone would hold {count}"
        return _resized(offers, floor, filler), Reason(Limit.FLOOR, text, {"floor": floor, "plan": count})
    if ceiling is not None and count > ceiling:
        text = f"ceiling of {ceiling} replicas; the plan alone would hold {count}"
        return offers[:ceiling], Reason(Limit.CEILING, text, {"ceiling": ceiling, "plan": count})
    return offers, None


def _resized(offers: list[Offer], count: int, filler: Offer | None) -> list[Offer]:
    missing = max(0, count - len(offers)) if filler is not None else 0
    return [*offers[:count], *([filler] * missing if filler is not None else [])]


def _capped(seen: Observation, offers: list[Offer]) -> tuple[list[Offer], Reason | None]:
    allowed = burn_left(seen)
    wanted = sum(offer.price_usd_per_hour for offer in offers)
    if allowed is None or wanted <= allowed + 1e-9:
        return offers, None
    kept: list[Offer] = []
    burn = 0.0
    for offer in offers:
        if burn + offer.price_usd_per_hour <= allowed + 1e-9:
            kept.append(offer)
            burn += offer.price_usd_per_hour
    cap, spend = seen.envelope.spend_cap_usd_per_hour, seen.spend
    text = (
        f"spend cap ${cap:.2f}/h: ${spend.accrued_usd:.2f} of this hour is spent, "
        f"${spend.jobs_usd_per_hour:.2f}/h burn beside this service, so ${allowed:.2f}/h may burn here; "
        f"{len(offers)} replicas would burn ${wanted:.2f}/h, {len(kept)} fit"
    )
    numbers = {"cap": cap, "accrued": spend.accrued_usd, "allowed": allowed, "wanted": wanted}
    return kept, Reason(Limit.SPEND_CAP, text, numbers)
