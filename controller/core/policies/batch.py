"""Batch: work that may wait for its deadline, done where and when it is cheapest.

Until it must, it runs on spot only: as much at once as the spend cap leaves in a valley, at least as much as ends in
time. From the must-start time on it runs on demand, as many replicas as end in time if every spot replica goes at once
and what runs there begins again. Known are the work that waits and runs and the minutes in which it came; the time
left of each part follows from these, first come first served.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from controller.core.finance import cheapest_per_speed
from controller.core.limits import burn_left, limited_plan
from controller.core.mix import spot_usable
from controller.core.mix_choice import SPOT_WORTH
from controller.core.plan import staying
from controller.core.policies.base import Memory
from controller.core.types import FloatArray, Observation, Offer, Plan, QueueReading, Reason, Replica, TierTarget
from models.enums import Limit, Market

# A replica that is started works at least this many lead times: a start costs as much as one of them.
LEADS = 6.0
# An order given at a tick is seen at the next, and its effect at the one after.
TICKS_S = 30.0
# Executions differ: the longest of a few is about this many standard deviations above the mean.
LONGEST_SIGMAS = 3.0
# Of what may burn this share stays free for the services beside it.
HEADROOM = 0.1


@dataclass(frozen=True, slots=True)
class Work:
    """Undone work: `ahead_s[i]` reference execution seconds have to be done by `left_s[i]` from now, the latter
    counted to when their last execution must begin; rising. `items`: requests, `total_s`: their work.
    """

    ahead_s: FloatArray
    left_s: FloatArray
    items: int
    total_s: float


@dataclass(frozen=True, slots=True)
class Batch:
    name: str = "batch"
    fifo: bool = False
    forecasts: bool = False

    def plan(self, seen: Observation, memory: Memory, plan_id: str) -> tuple[Plan, Memory]:
        work = undone(seen)
        lead_s = seen.boot_s + seen.load_model_s
        usable = [standing.offer for standing in seen.offers if standing.usable]
        on_demand = cheapest_per_speed(usable, Market.ON_DEMAND)
        offers = {standing.offer.id: standing.offer for standing in seen.offers}
        here = [replica for replica in staying(seen) if replica.offer_id in offers]
        fixed = [replica for replica in here if offers[replica.offer_id].market is not Market.SPOT]
        kept, extra, why = _on_demand(seen, work, fixed, offers, on_demand, lead_s)
        certain = [offers[replica.offer_id] for replica in fixed][:kept]
        if on_demand is not None:
            certain += [on_demand] * extra
        spot, spot_why = _spot(seen, work, here, offers, on_demand, lead_s, len(certain))
        reasons = [spot_why, why] if why.limit is Limit.DEADLINE else [why, spot_why]
        wanted = [*certain, *spot]
        numbers = {
            "items": work.items,
            "work_left_s": work.total_s,
            "time_left_s": float(work.left_s[0]) if work.items else None,
            "usd_per_hour": sum(offer.price_usd_per_hour for offer in wanted),
        }
        return limited_plan(seen, plan_id, self.name, wanted, on_demand, len(wanted), reasons, numbers), memory


def undone(seen: Observation) -> Work:
    """What waits and runs, by when it has to be done."""
    queues = {queue.tier: queue for queue in seen.queues}
    parts = [_parts(seen, tier, queues[tier.name]) for tier in seen.envelope.tiers if tier.name in queues]
    left_s = np.concatenate([np.empty(0), *(left for left, _ in parts)])
    work_s = np.concatenate([np.empty(0), *(work for _, work in parts)])
    order = np.argsort(left_s, kind="stable")
    items = sum(queue.queued + queue.running for queue in seen.queues)
    return Work(np.cumsum(work_s[order]), left_s[order], items, float(work_s.sum()))


def _parts(seen: Observation, tier: TierTarget, queue: QueueReading) -> tuple[FloatArray, FloatArray]:
    """Time left and work of a tier, a part for each minute in which it came.

    First come is first served, so that what is undone is what came last. What the minutes do not account for is taken
    to be as old as the oldest.
    """
    work_s = queue.backlog_s + queue.running * seen.work_mean_s
    if not queue.queued + queue.running:
        return np.empty(0), np.empty(0)
    deadline_s = tier.target_ms / 1000
    series = seen.load.get(tier.name)
    ages: FloatArray = np.empty(0)
    parts: FloatArray = np.empty(0)
    newest_s = 0.0
    if series is not None and len(series.values):
        newest_s = seen.now_s - series.end_s
        minutes = np.nan_to_num(series.values[-int(2 * deadline_s // series.step_s + 60) :]) * series.step_s
        came = np.diff(np.minimum(np.cumsum(minutes[::-1]), work_s), prepend=0.0)
        counted = np.flatnonzero(came > 0)
        ages = np.asarray(newest_s + series.step_s * (counted + 1), np.float64)
        parts = np.asarray(came[counted], np.float64)
    rest_s = work_s - float(parts.sum())
    if rest_s > 1e-6:
        # What came since the last whole minute is not in the series yet: it is not older than the oldest known.
        age_s = max(newest_s, queue.oldest_wait_s, float(ages.max(initial=0.0)))
        ages, parts = np.append(ages, age_s), np.append(parts, rest_s)
    margin_s = TICKS_S + seen.work_mean_s * (1 + LONGEST_SIGMAS * math.sqrt(seen.work_scv))
    return deadline_s - ages - margin_s, parts


def _on_demand(
    seen: Observation,
    work: Work,
    fixed: Sequence[Replica],
    offers: dict[str, Offer],
    offer: Offer | None,
    lead_s: float,
) -> tuple[int, int, Reason]:
    """How many replicas that nobody takes back to keep and to add, so that every part ends in time without spot."""
    kept = min(len(fixed), work.items)
    if not work.items:
        return 0, 0, Reason(Limit.NONE, "nothing waits or runs", {})
    if offer is None:
        return kept, 0, Reason(Limit.NO_CAPACITY, "no usable on-demand offer has a known price", {})
    must_s = _must_start_s(seen, work, offer, lead_s)
    soonest = float(np.min(must_s))
    numbers = {"work_left_s": work.total_s, "time_left_s": float(work.left_s[0]), "must_start_in_s": soonest}
    if soonest > 0 and not fixed:
        text = (
            f"{work.items} items, {work.total_s:,.0f} s of work, the first to begin within {work.left_s[0]:,.0f} s: "
            f"on demand must start in {soonest:,.0f} s, spot may do it until then"
        )
        return 0, 0, Reason(Limit.NONE, text, numbers)
    due = must_s <= 0
    supply_s = np.zeros(len(work.left_s))
    for replica in fixed[:kept]:
        ready_in_s = 0.0 if replica.ready_s is not None else max(0.0, replica.requested_s + lead_s - seen.now_s)
        supply_s += np.maximum(0.0, work.left_s - ready_in_s) * offers[replica.offer_id].speed_ratio
    short_s = np.where(due, work.ahead_s - supply_s, 0.0)
    # A replica that starts now works from a lead time on, and runs one item at least.
    each_s = np.maximum(work.left_s - lead_s, seen.work_mean_s) * offer.speed_ratio
    extra = max(0, min(math.ceil(float(np.max(short_s / each_s)) - 1e-9), work.items - kept))
    text = (
        f"{work.items} items, {work.total_s:,.0f} s of work, the first to begin within {work.left_s[0]:,.0f} s: "
        f"on demand had to start, {kept + extra} replicas end in time even if all spot is lost"
    )
    return kept, extra, Reason(Limit.DEADLINE, text, {**numbers, "on_demand": kept + extra})


def _must_start_s(seen: Observation, work: Work, offer: Offer, lead_s: float) -> FloatArray:
    """For each part how long on demand may still wait: the part is done in `LEADS` lead times, or in as many as the
    cap pays for.
    """
    allowed = burn_left(seen)
    most = work.items if allowed is None else min(work.items, int(allowed / offer.price_usd_per_hour))
    needs_s = np.maximum(LEADS * lead_s, work.ahead_s / (max(1, most) * offer.speed_ratio))
    return work.left_s - lead_s - needs_s


def _spot(
    seen: Observation,
    work: Work,
    here: Sequence[Replica],
    offers: dict[str, Offer],
    on_demand: Offer | None,
    lead_s: float,
    certain: int,
) -> tuple[list[Offer], Reason]:
    """The spot replicas: what is held as long as there is work for it, and what to add now."""
    count = Counter(r.offer_id for r in here if offers[r.offer_id].market is Market.SPOT)
    held = [offers[offer_id] for offer_id in count.elements()]
    room = max(0, work.items - certain)
    kept = held[:room]
    worth = math.inf if on_demand is None else on_demand.usd_per_speed_hour * SPOT_WORTH
    open_ = [
        standing.offer
        for standing in seen.offers
        if standing.offer.market is Market.SPOT
        and standing.offer.usd_per_speed_hour <= worth
        and not spot_usable(standing, seen.now_s)
    ]
    if not work.items or not room:
        return kept, Reason(Limit.NONE, "no work is left for spot", {"spot": len(kept)})
    if not open_:
        text = f"no zone has spot that is worth it: {len(kept)} spot replicas are kept, the rest waits"
        return kept, Reason(Limit.NO_CAPACITY, text, {"spot": len(kept)})
    cheapest = min(open_, key=lambda offer: (offer.usd_per_speed_hour, offer.id))
    each_s = np.maximum(work.left_s - lead_s, seen.work_mean_s) * cheapest.speed_ratio
    steady = math.ceil(float(np.max(work.ahead_s / each_s)) - 1e-9)
    allowed = burn_left(seen)
    wanted, limit, text = steady, Limit.NONE, f"{steady} replicas end in time"
    if allowed is not None:
        fits = int(allowed * (1 - HEADROOM) / cheapest.price_usd_per_hour)
        worthwhile = math.ceil(work.total_s / (LEADS * lead_s * cheapest.speed_ratio) - 1e-9)
        valley = min(fits, worthwhile)
        if valley > steady:
            wanted, limit = valley, Limit.VALLEY
            text += f"; ${allowed:.2f}/h may burn beside the other services, so {valley} fill the valley"
    wanted = min(wanted, room)
    chosen = list(kept)
    in_zone = Counter(offer.zone for offer in chosen)
    while len(chosen) < wanted:
        best = min(open_, key=lambda offer: (in_zone[offer.zone], offer.usd_per_speed_hour, offer.id))
        chosen.append(best)
        in_zone[best.zone] += 1
    return chosen, Reason(limit, f"spot: {text}", {"steady": steady, "spot": len(chosen)})
