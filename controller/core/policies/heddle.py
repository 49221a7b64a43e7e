"""Heddle's policy: staff the forecast's quantiles for each tier's target, on the cheapest mix, below the cap.

Observation → need (capacity) → stabilized → surges ahead → mix of offers → limits → actions. What beats what: missing
telemetry, fleet-wide pause, freeze, spend cap, override, floor and ceiling, plan. Each stage leaves its reason; the one
that decided is the plan's `bound`.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from controller.core.capacity import Need, burst_reserves, deferrable, execution, need
from controller.core.degradation import steps_in_force
from controller.core.finance import burn_allowed
from controller.core.forecast.lead import lead_bins_of
from controller.core.limits import BURST, RESERVE, paused, pin_of, stale
from controller.core.mix import Mix, resize, within_burn
from controller.core.mix_choice import Needed, Terms, choose_mix, greedy_mix
from controller.core.plan import COMING, Actions, hold, release_order, speeds, staying
from controller.core.policies.base import Memory
from controller.core.priced import HOLD, Expected, expected, learn_prices
from controller.core.stabilize import may_release, stabilize
from controller.core.surge_verdicts import missed
from controller.core.surges import Prepared, foreseen, prepare
from controller.core.types import Observation, Plan, Reason, Replica
from models.enums import Limit, Mode, ReplicaState

RESERVES_EVERY_S = 3600.0
LEARN_EVERY_S = 43200.0
# What a burst needs is gone in a quarter of an hour: a move has to earn its restart within that.
HOLD_S = 900.0
# Activity older than this says nothing of what comes.
FRESH_S = 60.0
# The on-demand base follows the first tier's load no faster than this: a replica moved is a restart paid.
BASE_WINDOW_S = 1800.0


@dataclass(frozen=True, slots=True)
class Heddle:
    name: str = "heddle"
    fifo: bool = False
    forecasts: bool = True

    def plan(self, seen: Observation, memory: Memory, plan_id: str) -> tuple[Plan, Memory]:
        lead_s = seen.boot_s + seen.load_model_s
        stepped_back = _stepped_back(seen)
        if stepped_back is not None:
            seen = replace(seen, forecasts={}, activity=None)  # the recent load stands for every quantile
        memory = _learn(seen, memory, lead_s)
        ahead = _expect(seen, memory)
        window_s = HOLD * lead_s if ahead else 2 * lead_s
        if memory.reserves_s is None or seen.now_s - memory.reserves_s >= RESERVES_EVERY_S:
            memory = replace(memory, reserves=burst_reserves(seen), reserves_s=seen.now_s)
        wanted = need(seen, 2 * lead_s, memory.reserves, foreseen(seen, memory.surges, 2 * lead_s), ahead)
        speed = speeds(seen)
        here = staying(seen)
        current = sum(speed[replica.offer_id] for replica in here)
        steady, memory = stabilize(wanted.total, current, memory, seen.now_s, window_s)
        memory = memory.need_base(seen.now_s, wanted.base, wanted.first, BASE_WINDOW_S)
        # A surge is known ahead, with its end: its need joins after the window that holds on to what bursts needed.
        prepared, surges = prepare(seen, memory.surges, 2 * lead_s, wanted.total)
        memory = replace(memory, surges=surges)
        wanted, capacity = _with_surge(wanted, prepared), max(steady.capacity, prepared.capacity)
        reasons = (*wanted.reasons, steady.reason)
        if stepped_back is not None:
            reasons = (stepped_back, *reasons)
        required = math.ceil(wanted.total)
        stop, still = stale(seen), paused(seen)
        if still is not None:
            return hold(seen, plan_id, self.name, stop or still, required, (*reasons, still), surges), memory
        held = Counter(replica.offer_id for replica in here)
        asked = Needed(capacity, memory.base(), min(memory.first(), capacity))
        mix = choose_mix(seen.offers, asked, held, seen.now_s, Terms(lead_s=lead_s, horizon_s=HOLD_S))
        reasons = (*reasons, mix.reason)
        bound = wanted.reason if steady.reason.limit is Limit.NONE else steady.reason
        gone = missed(surges, seen.now_s, lead_s) if current > mix.capacity else None
        surge = prepared.reason if capacity > steady.capacity else gone
        if surge is not None:
            bound, reasons = surge, (*reasons, surge)
        mix, counted = _count_limits(seen, mix, held)
        mix, capped = _cap(seen, mix)
        for reason in (counted, capped):
            if reason is not None:
                bound, reasons = reason, (*reasons, reason)
        shed = () if capped is None else _shed(seen, mix, wanted)
        if capped is not None and shed:
            capped = replace(capped, text=f"{capped.text}; in force: {', '.join(shed)}")
            bound, reasons = capped, (*reasons[:-1], capped)
        actions = Actions(seen, plan_id)
        must = capped is not None or bound.limit in (Limit.OVERRIDE, Limit.CEILING)
        self._start(mix, held, bound, actions)
        # What a restart finds stays until what replaces it serves; later what is needed now is enough to wait for.
        least = mix.capacity if steady.reason.limit is Limit.SCALE_IN_CHECK else min(mix.capacity, wanted.total)
        kept = (
            None if stop is not None else self._release(seen, mix, here, speed, wanted.now, least, must, bound, actions)
        )
        if stop is not None:
            bound, reasons = stop, (*reasons, stop)
        elif kept is not None:
            reasons = (*reasons, kept)
        taken = tuple(actions.taken) if seen.mode is Mode.ACT else ()
        if seen.mode is not Mode.ACT and actions.taken:
            bound = Reason(
                Limit.MODE, f"mode is {seen.mode.value}: {len(actions.taken)} actions are shown and not done", {}
            )
            reasons = (*reasons, bound)
        plan = Plan(
            id=plan_id,
            service=seen.service,
            made_s=seen.now_s,
            policy=self.name,
            required=required,
            stabilized=math.ceil(capacity - 1e-9),
            desired=len(mix.offers),
            desired_by_offer=dict(mix.counts),
            actions=taken,
            bound=bound,
            reasons=reasons,
            shed=shed,
            options=_options(seen, capacity, memory.base(), held, mix) if actions.taken else (),
            numbers=_numbers(seen, wanted, capacity, mix, current, prepared),
            surges=surges,
        )
        return plan, memory

    def _start(self, mix: Mix, held: Mapping[str, int], bound: Reason, actions: Actions) -> None:
        counts = mix.counts
        for offer_id in dict.fromkeys(offer.id for offer in mix.offers):
            actions.start(offer_id, counts[offer_id] - held.get(offer_id, 0), bound.text)

    def _release(
        self,
        seen: Observation,
        mix: Mix,
        here: list[Replica],
        speed: Mapping[str, float],
        now: float,
        least: float,
        must: bool,
        bound: Reason,
        actions: Actions,
    ) -> Reason | None:
        """Let the surplus go as far as it may: `least` has to serve on, and the load that runs or waits `now` to fit.
        Returns why some of it stays.
        """
        for replica in seen.replicas:
            if replica.gone_s is not None and not replica.busy and replica.state is not ReplicaState.RELEASED:
                actions.release(replica, "is being taken back and runs nothing")
        surplus = Counter(replica.offer_id for replica in here)
        surplus.subtract(mix.counts)
        serving = sum(speed[r.offer_id] for r in here if r.state is ReplicaState.READY)
        kept = 0
        for replica in sorted(here, key=release_order):
            if surplus[replica.offer_id] <= 0:
                continue
            ready = replica.state not in COMING
            own = speed[replica.offer_id]
            # Moving to another offer: the old replica serves until the new one does.
            free = not ready or must or (serving - own >= least - 1e-9 and may_release(serving, own, now))
            if not free:
                kept += 1
                continue
            surplus[replica.offer_id] -= 1
            serving -= own if ready else 0.0
            actions.release(replica, bound.text)
        if not kept:
            return None
        text = f"{kept} surplus replicas stay: {now:.0f} requests run or wait on {serving:.1f} GPUs that serve now"
        return Reason(Limit.SCALE_IN_CHECK, text, {"kept": kept, "serving": serving, "load_now": now})


def _stepped_back(seen: Observation) -> Reason | None:
    """Why forecasts count for nothing; None while the planner leads."""
    authority = seen.authority
    return None if authority.leads else Reason(Limit.FORECAST, authority.reason, authority.numbers)


def _learn(seen: Observation, memory: Memory, lead_s: float) -> Memory:
    """The lead-time forecast and the price of a miss, learned anew now and then from what tenants did until now, and
    at once when the targets change: a price holds the promise that it was rehearsed for. Until enough is measured every
    tick asks again, which costs nothing.
    """
    fresh = memory.learned_s is not None and seen.now_s - memory.learned_s < LEARN_EVERY_S
    if seen.activity is None or (fresh and memory.learned and memory.learned_for == seen.envelope.tiers):
        return memory
    urgent = [k for k, tier in enumerate(seen.envelope.tiers) if not deferrable(tier)]
    started = max(1, lead_bins_of(lead_s) - 1)
    learned = learn_prices(seen.activity, seen.envelope.tiers, urgent, lead_s, *execution(seen), started)
    return replace(memory, learned=learned, learned_s=seen.now_s, learned_for=seen.envelope.tiers)


def _expect(seen: Observation, memory: Memory) -> Mapping[int, Expected]:
    """What each urgent tier needs one lead time from now; empty where nothing is learned or nothing new is measured."""
    activity, tiers = seen.activity, seen.envelope.tiers
    if activity is None or seen.now_s - activity.end_s > FRESH_S:
        return {}
    work = execution(seen)
    return {k: expected(priced, activity, tiers[k], *work) for k, priced in memory.learned.items()}


def _count_limits(seen: Observation, mix: Mix, held: Mapping[str, int]) -> tuple[Mix, Reason | None]:
    pin = pin_of(seen)
    count = len(mix.offers)
    if pin is not None and pin.replicas is not None:
        text = f"pinned at {pin.replicas} replicas by {pin.author}: {pin.reason}"
        reason = Reason(Limit.OVERRIDE, text, {"pinned": pin.replicas, "automatic": count})
        return resize(mix, pin.replicas, seen.offers, seen.now_s, held), reason
    floor, ceiling = seen.envelope.floor, seen.envelope.ceiling
    if count < floor:
        reason = Reason(
            Limit.FLOOR,
            f"floor of {floor} replicas; the plan alone would hold {count}",
            {"floor": floor, "plan": count},
        )
        return resize(mix, floor, seen.offers, seen.now_s, held), reason
    if ceiling is not None and count > ceiling:
        reason = Reason(
            Limit.CEILING, f"ceiling of {ceiling} replicas; the plan alone would hold {count}", {"ceiling": ceiling}
        )
        return resize(mix, ceiling, seen.offers, seen.now_s, held), reason
    return mix, None


def _cap(seen: Observation, mix: Mix) -> tuple[Mix, Reason | None]:
    cap = seen.envelope.spend_cap_usd_per_hour
    pin = pin_of(seen)
    if cap is None or (pin is not None and pin.signed_over_cap):
        return mix, None
    left = burn_allowed(cap * (1 - RESERVE), seen.spend.accrued_usd, seen.now_s)
    allowed = min(left if left is not None else math.inf, cap * BURST) - seen.spend.jobs_usd_per_hour
    if mix.usd_per_hour <= allowed + 1e-9:
        return mix, None
    cut = within_burn(mix, max(0.0, allowed))
    text = (
        f"spend cap ${cap:.2f}/h: ${seen.spend.accrued_usd:.2f} of this hour is spent, "
        f"jobs burn ${seen.spend.jobs_usd_per_hour:.2f}/h, so ${max(0.0, allowed):.2f}/h may burn; "
        f"{len(mix.offers)} replicas would burn ${mix.usd_per_hour:.2f}/h, {len(cut.offers)} fit"
    )
    numbers = {"cap": cap, "accrued": seen.spend.accrued_usd, "allowed": allowed, "wanted": mix.usd_per_hour}
    return cut, Reason(Limit.SPEND_CAP, text, numbers)


def _shed(seen: Observation, mix: Mix, wanted: Need) -> tuple[str, ...]:
    """Which steps of giving way are in force on this mix, in the envelope's order."""
    tiers = seen.envelope.degrade
    if wanted.total - mix.capacity <= 1e-9:
        return ()
    if mix.capacity >= wanted.first - 1e-9:
        tiers = tiers[: 1 if mix.capacity >= wanted.urgent - 1e-9 else max(1, len(tiers) - 1)]
    return steps_in_force(seen.envelope, tiers)


def _options(
    seen: Observation, capacity: float, base: float, held: Mapping[str, int], chosen: Mix
) -> tuple[Mapping[str, str | float | None], ...]:
    """The chosen mix beside all on demand and all on spot, priced."""
    options: list[Mapping[str, str | float | None]] = []
    for name, on_demand in (("mixed", base), ("all on demand", capacity), ("all on spot", 0.0)):
        mix = greedy_mix(seen.offers, capacity, on_demand, held, seen.now_s)
        same = mix.counts == chosen.counts and all(option["why"] != "chosen" for option in options)
        why = (
            "chosen"
            if same
            else "the first tier would hang on spot"
            if on_demand == 0
            else "dearer"
            if mix.usd_per_hour > chosen.usd_per_hour
            else mix.reason.text
        )
        options.append(
            {"option": name, "replicas": float(len(mix.offers)), "usd_per_hour": mix.usd_per_hour, "why": why}
        )
    return tuple(options)


def _with_surge(wanted: Need, ahead: Prepared) -> Need:
    """What is needed, by the minutes or by a surge ahead, whichever is more."""
    if ahead.reason is None or ahead.capacity <= wanted.total:
        return wanted
    urgent = max(wanted.urgent, ahead.capacity)
    return replace(wanted, total=ahead.capacity, urgent=urgent, reason=ahead.reason)


def _numbers(
    seen: Observation, wanted: Need, capacity: float, mix: Mix, current: float, ahead: Prepared
) -> Mapping[str, float | None]:
    surge = {} if ahead.reason is None else {"surge_gpus": ahead.capacity}
    return {
        **surge,
        "required_gpus": wanted.total,
        "first_tier_gpus": wanted.first,
        "stabilized_gpus": capacity,
        "current_gpus": current,
        "load_now": wanted.now,
        "usd_per_hour": mix.usd_per_hour,
        "accrued_usd": seen.spend.accrued_usd,
        "telemetry_age_s": seen.telemetry_age_s,
    }
