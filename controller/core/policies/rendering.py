"""Rendering: serverless replicas that come for a burst of requests and go after it, down to none.

How many: what runs and waits here, and what the stage before will send within a cold start. How long one stays after
its last request is the ski-rental question: to idle costs the price a second, to go and come back costs a cold start.
The stay is the one that would have cost least over the gaps seen so far (the hybrid histogram of Shahrad et al.,
*Serverless in the Wild*, USENIX ATC 2020, with the cost as the measure); with too few of them it is the cold start
itself, which costs at most twice the best in hindsight (Karlin et al., *Competitive snoopy caching*, 1988). Where
the waits of restarts would break the target, it is longer.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr

from controller.core.capacity import deferrable, recent_load
from controller.core.finance import cheapest_per_speed
from controller.core.limits import limited_plan
from controller.core.plan import staying
from controller.core.policies.base import Memory
from controller.core.queueing import probability_of, servers_for
from controller.core.stages import upstream
from controller.core.types import Observation, Offer, Plan, Reason, Replica, StageReading, TierTarget
from models.enums import Limit, Market, ReplicaState

# An arrival waits up to this long to be seen: the time between two ticks.
TICK_S = 15.0
# Gaps that are remembered, and how few of them say too little.
MOST_GAPS = 500
FEWEST_GAPS = 20
# Of a target's wait the part that restarts may take; the rest is for queues.
RESTARTS_SHARE = 0.5
# Without a stage before it the arrivals of this long stand for those to come.
RECENT_S = 120.0


@dataclass(frozen=True, slots=True)
class RenderingMemory(Memory):
    """`idle_since_s[k]`: since when k replicas have been enough; None: more are needed. `gaps`: when such a time ended
    and how long it was, seconds, newest last.
    """

    idle_since_s: tuple[float | None, ...] = ()
    gaps: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """How long a replica stays after its last request, and what the same gaps would have cost: seconds of a replica
    idle and booting, with this stay.
    """

    seconds: float
    idle_s: float
    restart_s: float
    reason: Reason


@dataclass(frozen=True, slots=True)
class Rendering:
    name: str = "rendering"
    fifo: bool = False
    forecasts: bool = False

    def plan(self, seen: Observation, memory: Memory, plan_id: str) -> tuple[Plan, Memory]:
        offer, offers = _offer(seen), {standing.offer.id: standing.offer for standing in seen.offers}
        speed = 1.0 if offer is None else offer.speed_ratio
        required, reason = _required(seen, speed)
        here = staying(seen)
        # After a restart what is found counts as needed just now.
        known = memory if isinstance(memory, RenderingMemory) else RenderingMemory()
        found = len(here) if known.since_s is None else 0
        known = _learn(known, required, seen.now_s)
        stay = keep_alive(seen, known)
        known = known.recommend(seen.now_s, max(required, found), stay.seconds)
        held = max(required, int(known.highest()))
        reasons = [reason]
        # What waits for its first request idles too: a reason only where something stays for it.
        if held > required and len(here) > required:
            reasons.append(stay.reason)
        wanted = [offers[replica.offer_id] for replica in sorted(here, key=_keep_order) if replica.offer_id in offers]
        wanted = wanted[:held]
        if offer is not None:
            wanted += [offer] * (held - len(wanted))
            if offer.market is not Market.SERVERLESS:
                text = f"no serverless offer can be used: {offer.id} stands in, and its idle time is billed as well"
                reasons.insert(0, Reason(Limit.NO_CAPACITY, text, {}))
        elif held > len(wanted):
            reasons.append(Reason(Limit.NO_CAPACITY, "no usable offer has a known price", {"required": required}))
        idle = [r for r in here if r.state is ReplicaState.READY and not r.busy and r.offer_id in offers]
        numbers = {
            **reason.numbers,
            **stay.reason.numbers,
            "idle_usd_per_hour": sum(offers[replica.offer_id].price_usd_per_hour for replica in idle),
            "usd_per_hour": sum(one.price_usd_per_hour for one in wanted),
        }
        return limited_plan(seen, plan_id, self.name, wanted, offer, required, reasons, numbers), known


def _keep_order(replica: Replica) -> tuple[bool, bool]:
    """Busy before idle before coming."""
    return (not replica.busy, replica.state is not ReplicaState.READY)


def _offer(seen: Observation) -> Offer | None:
    """The cheapest serverless offer per unit of speed; without one the cheapest on demand."""
    usable = [standing.offer for standing in seen.offers if standing.usable]
    return cheapest_per_speed(usable, Market.SERVERLESS) or cheapest_per_speed(usable, Market.ON_DEMAND)


def _required(seen: Observation, speed: float) -> tuple[int, Reason]:
    """Replicas for what is here and for what comes within a cold start, and why."""
    cold_s = seen.boot_s + seen.load_model_s
    before = upstream(seen)
    running_before = {} if before is None else {queue.tier: queue.running for queue in before.queues}
    queues = {queue.tier: queue for queue in seen.queues}
    urgent_load = deferred_load = waiting = 0.0
    strictest: TierTarget | None = None
    for tier in seen.envelope.tiers:
        queue = queues.get(tier.name)
        if before is None:
            load = recent_load(seen, tier.name, RECENT_S)
        else:
            # What runs upstream leaves it within an execution, evenly spread.
            load = running_before.get(tier.name, 0) * seen.work_mean_s / max(before.work_mean_s, 0.1)
        if queue is not None:
            waiting += queue.backlog_s / max(tier.target_ms / 1000, cold_s)
        if deferrable(tier):
            deferred_load += load
            continue
        urgent_load += load
        if load > 0 and (strictest is None or tier.target_ms < strictest.target_ms):
            strictest = tier
    here = sum(queue.running + queue.queued for queue in seen.queues)
    running = sum(queue.running for queue in seen.queues)
    coming = sum(running_before.values())
    staffed = deferred_load / speed
    if strictest is not None:
        staffed += servers_for(
            urgent_load, max(seen.work_mean_s, 0.1), strictest, work_scv=seen.work_scv, speed=speed
        ).servers
    wanted = staffed + waiting / speed
    # No request needs two replicas.
    most = here + coming if before is not None else max(here, math.ceil(staffed))
    required = max(running, min(math.ceil(wanted - 1e-9), most))
    numbers = {
        "queued": here - running,
        "running": running,
        "upstream_running": None if before is None else coming,
        "load_ahead": urgent_load + deferred_load,
        "cold_start_s": cold_s,
        "required": required,
    }
    source = "lately arrive" if before is None else f"are ahead from {coming} requests running in {before.service}"
    text = (
        f"{running} run and {here - running} wait here, {urgent_load + deferred_load:.1f} erlangs {source}: "
        f"{required} replicas, each ready {cold_s:.0f} s after it is asked for"
    )
    if required == 0:
        return 0, Reason(Limit.NONE, "nothing runs, waits or is on its way: no replica is needed", numbers)
    if required <= running:
        limit = Limit.NONE
    elif waiting > 0:
        limit = Limit.BACKLOG
    else:
        limit = Limit.LATENCY_TARGET if before is None else Limit.UPSTREAM
    return required, Reason(limit, text, numbers)


def _learn(memory: RenderingMemory, required: int, now_s: float) -> RenderingMemory:
    """Note for each number of replicas since when it has been enough, and the gaps that end now."""
    since = list(memory.idle_since_s)
    ended = [(now_s, now_s - at) for at in since[:required] if at is not None]
    since[:required] = [None] * min(required, len(since))
    since += [None] * (required - len(since))
    for k in range(required, len(since)):
        since[k] = now_s if since[k] is None else since[k]
    return replace(memory, idle_since_s=tuple(since), gaps=(*memory.gaps, *ended)[-MOST_GAPS:])


def keep_alive(seen: Observation, memory: RenderingMemory) -> KeepAlive:
    """The stay that would have cost least over the gaps remembered and keeps restarts within the target."""
    cold_s = seen.boot_s + seen.load_model_s
    gaps = np.sort(np.array([length for _, length in memory.gaps]))
    if len(gaps) < FEWEST_GAPS:
        text = (
            f"a replica stays {cold_s:.0f} s after its last request, as long as a cold start takes, which costs as "
            f"much: only {len(gaps)} gaps are known"
        )
        numbers = {"keep_alive_s": cold_s, "gaps": len(gaps)}
        return KeepAlive(cold_s, 0.0, 0.0, Reason(Limit.IDLE_COST, text, numbers))
    # After staying gaps[i], the i + 1 shortest are bridged; entry 0 is not to stay at all.
    stays = np.concatenate([[0.0], gaps])
    bridged = np.searchsorted(gaps, stays, side="right")
    idle = np.concatenate([[0.0], np.cumsum(gaps)])[bridged] + (len(gaps) - bridged) * stays
    restart = (len(gaps) - bridged) * cold_s
    best = int(np.argmin(idle + restart))
    least, bound = _least_bridged(seen, memory, len(gaps), cold_s)
    limit = Limit.IDLE_COST
    if bridged[best] < least:
        best, limit = int(np.searchsorted(bridged, least)), Limit.LATENCY_TARGET
    seconds = float(stays[best])
    text = (
        f"a replica stays {seconds:.0f} s after its last request: over the last {len(gaps)} gaps {idle[best]:,.0f} s "
        f"idle and {restart[best]:,.0f} s of cold starts, against {len(gaps) * cold_s:,.0f} s for not staying"
    )
    if limit is Limit.LATENCY_TARGET:
        text += f"; shorter would break {bound}"
    numbers = {"keep_alive_s": seconds, "gaps": len(gaps), "gap_idle_s": float(idle[best])}
    return KeepAlive(seconds, float(idle[best]), float(restart[best]), Reason(limit, text, numbers))


def _least_bridged(seen: Observation, memory: RenderingMemory, gaps: int, cold_s: float) -> tuple[int, str]:
    """How many of the gaps have to be bridged for the targets, and which tier says so: each that is not makes one
    request wait for a cold start, less the warning that the stage before gives.
    """
    requests = max(_requests_since(seen, memory.gaps[0][0] - memory.gaps[0][1]), float(gaps))
    allowed: list[tuple[float, str]] = []
    for tier in seen.envelope.tiers:
        if deferrable(tier):
            continue
        probability, target_s = probability_of(tier.statistic), tier.target_ms / 1000
        if probability is None:
            each, total = _visible(upstream(seen), cold_s, 0.0)[0], requests * target_s
        else:
            each, total = _visible(upstream(seen), cold_s, target_s)[1], requests * (1 - probability)
        if each > 0:
            allowed.append((RESTARTS_SHARE * total / each, tier.name))
    most, name = min(allowed, default=(math.inf, ""))
    return (0, "") if most >= gaps else (gaps - math.floor(most), name)


def _visible(before: StageReading | None, cold_s: float, over_s: float) -> tuple[float, float]:
    """Of a cold start that is asked for when its request begins upstream: the mean seconds that the request waits here
    for it, and how likely these are more than `over_s`. Without a stage before, all of it is waited for.

    A request is seen half a tick after it began, on average, and comes when it has executed there, which is taken as
    lognormal: the mean of the shortfall below a bound is that of a put (Black's formula).
    """
    bound_s = cold_s + TICK_S / 2
    if before is None or before.work_mean_s <= 0:
        return bound_s, float(bound_s > over_s)
    sigma = math.sqrt(math.log1p(max(before.work_scv, 1e-6)))
    mu = math.log(before.work_mean_s) - sigma * sigma / 2
    at = (math.log(bound_s) - mu) / sigma
    mean_s = bound_s * float(ndtr(at)) - before.work_mean_s * float(ndtr(at - sigma))
    likely = float(ndtr((math.log(bound_s - over_s) - mu) / sigma)) if bound_s > over_s else 0.0
    return max(0.0, mean_s), likely


def _requests_since(seen: Observation, since_s: float) -> float:
    """Requests that arrived here since then, by the measured load."""
    total = 0.0
    for tier in seen.envelope.tiers:
        series = seen.load.get(tier.name)
        if series is not None:
            first = max(0, int((since_s - series.start_s) // series.step_s))
            total += float(np.nansum(series.values[first:])) * series.step_s
    return total / max(seen.work_mean_s, 0.1)
