"""Delivery: a small fixed fleet that is always there, on the cheapest offer that nobody takes back.

Sized for the load that 99 of 100 minutes of the last day stayed under, with slack, and one replica to lose. It grows
at once and shrinks only to the largest size of the last six hours.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from controller.core.capacity import deferrable
from controller.core.finance import cheapest_per_speed
from controller.core.limits import limited_plan
from controller.core.plan import staying
from controller.core.policies.base import Memory
from controller.core.queueing import servers_for
from controller.core.stages import upstream
from controller.core.types import Observation, Offer, Plan, Reason, TierTarget
from models.enums import Limit, Market

SLACK = 1.2
SPARE = 1
LOOK_BACK_S = 86400.0
RESIZE_EVERY_S = 600.0
SHRINK_AFTER_S = 6 * 3600.0
# Too few minutes say nothing of their hundredth largest.
FEWEST_MINUTES = 30


@dataclass(frozen=True, slots=True)
class Delivery:
    name: str = "delivery"
    fifo: bool = False
    forecasts: bool = False

    def plan(self, seen: Observation, memory: Memory, plan_id: str) -> tuple[Plan, Memory]:
        # On demand only: a serverless replica goes with its burst, and spot is never used, however cheap.
        usable = [standing.offer for standing in seen.offers if standing.usable]
        offer = cheapest_per_speed(usable, Market.ON_DEMAND)
        speed = 1.0 if offer is None else offer.speed_ratio
        offers = {standing.offer.id: standing.offer for standing in seen.offers}
        here = [replica for replica in staying(seen) if _persistent(offers.get(replica.offer_id))]
        last_s, last = memory.recommendations[-1] if memory.recommendations else (-math.inf, 0.0)
        size, sized = _size(seen, speed) if seen.now_s - last_s >= RESIZE_EVERY_S else (int(last), None)
        urgent = _urgent(seen, speed)
        need = size if urgent is None else max(size, urgent[0])
        if sized is not None:
            # After a restart what is found counts as needed just now.
            found = len(here) if memory.since_s is None else 0
            memory = memory.recommend(seen.now_s, max(need, found), SHRINK_AFTER_S)
        elif need > size:
            # The fleet that was too small is not what to shrink back to a moment later.
            newest = (last_s, float(need))
            memory = replace(memory, recommendations=(*memory.recommendations[:-1], newest))
        held = int(memory.highest())
        reasons = [sized or Reason(Limit.NONE, f"{size} replicas since the last sizing", {"size": size})]
        if held > size:
            text = f"{held} replicas within the last {SHRINK_AFTER_S / 3600:.0f} h: it shrinks no faster"
            reasons.append(Reason(Limit.SCALE_IN_CHECK, text, {"held": held, "size": size}))
        if urgent is not None and urgent[0] >= held:
            reasons.append(urgent[1])
        wanted = [offers[replica.offer_id] for replica in here][:held]
        if offer is not None:
            wanted += [offer] * (held - len(wanted))
        elif held > len(wanted):
            reasons.append(Reason(Limit.NO_CAPACITY, "no usable on-demand offer has a known price", {"size": size}))
        idle = [offers[replica.offer_id] for replica in here if not replica.busy]
        numbers = {
            **reasons[0].numbers,
            "usd_per_hour": sum(one.price_usd_per_hour for one in wanted),
            "idle_usd_per_hour": sum(one.price_usd_per_hour for one in idle),
        }
        return limited_plan(seen, plan_id, self.name, wanted, offer, size, reasons, numbers), memory


def _persistent(offer: Offer | None) -> bool:
    return offer is not None and offer.market is Market.ON_DEMAND


def _strictest(seen: Observation) -> TierTarget:
    """The tightest wait among the tiers that can't be deferred; of all where every one can be."""
    tiers = [tier for tier in seen.envelope.tiers if not deferrable(tier)] or list(seen.envelope.tiers)
    return min(tiers, key=lambda tier: tier.target_ms)


def _size(seen: Observation, speed: float) -> tuple[int, Reason]:
    measured = [seen.load[tier.name] for tier in seen.envelope.tiers if tier.name in seen.load]
    minutes = min((len(series.values) for series in measured), default=0)
    steps = min(minutes, int(LOOK_BACK_S // measured[0].step_s)) if measured else 0
    total = np.sum([series.values[len(series.values) - steps :] for series in measured], axis=0) if steps else []
    known = np.asarray(total)[np.isfinite(total)] if steps else np.empty(0)
    before = upstream(seen)
    if len(known) >= FEWEST_MINUTES:
        load, source = float(np.quantile(known, 0.99)), f"99 % of {len(known)} minutes were under"
    elif before is not None:
        running = sum(queue.running for queue in before.queues)
        load = running * seen.work_mean_s / max(before.work_mean_s, 0.1)
        source = f"{running} requests running in {before.service} bring"
    else:
        load = float(known.mean()) if len(known) else 0.0
        source = f"the mean of {len(known)} known minutes is"
    target = _strictest(seen)
    staffed = servers_for(load * SLACK, max(seen.work_mean_s, 0.01), target, work_scv=seen.work_scv, speed=speed)
    size = staffed.servers + SPARE
    text = (
        f"{source} {load:.2f} erlangs; with {SLACK - 1:.0%} slack {staffed.servers} replicas hold "
        f"{target.statistic} wait {target.target_ms:,.0f} ms, and {SPARE} more may be lost: {size}"
    )
    return size, Reason(Limit.LATENCY_TARGET, text, {"load_p99": load, "size": size, "target_ms": target.target_ms})


def _urgent(seen: Observation, speed: float) -> tuple[int, Reason] | None:
    """Replicas that work off what waits within the target or a boot, beside what runs; None where nothing waits."""
    waiting_s = sum(queue.backlog_s for queue in seen.queues)
    queued = sum(queue.queued for queue in seen.queues)
    within_s = max(_strictest(seen).target_ms / 1000, seen.boot_s + seen.load_model_s)
    if not queued or not within_s > 0:
        return None
    running = sum(queue.running for queue in seen.queues)
    count = running + math.ceil(waiting_s / speed / within_s - 1e-9)
    text = f"{queued} wait and {running} run: {waiting_s:.0f} s of work, done in {within_s:.0f} s by {count} replicas"
    return count, Reason(Limit.BACKLOG, text, {"queued": queued, "running": running, "required": count})
