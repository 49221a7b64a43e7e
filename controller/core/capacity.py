"""How much capacity the tiers need: from forecast quantiles, waiting-time targets and what already waits.

Capacity is in reference GPUs (speed 1.0). Tiers are served by priority and the first may preempt, so a tier sees
the whole fleet and the load of the tiers above it: the need is computed for the *cumulative* load of tiers 0…k. The
forecast is a distribution, so the wait is an expectation over it: with a load that fits, Erlang C with the
Allen–Cunneen correction (`queueing`); with one that does not, the fluid backlog that it would pile up until more
capacity can be there.

A tier that may wait ten minutes or more is *deferrable*: its work is spread before its deadline instead of being
staffed for its peaks.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from controller.core.burst import SLOW_S, burst_hold, burst_reserve
from controller.core.priced import Expected
from controller.core.queueing import erlang_c, probability_of, servers_for_backlog, target_wait_s, tier_wait_s
from controller.core.types import FloatArray, Forecast, Observation, QueueReading, Reason, TierTarget
from models.enums import Limit

DEFERRABLE_S = 600.0
# Utilisation up to which the steady formulas are used.
KNEE = 0.98
# Probability mass that each forecast quantile (0.5, 0.8, 0.9, 0.95, 0.99) stands for: midpoints between neighbours.
MASS = (0.65, 0.20, 0.075, 0.045, 0.03)


@dataclass(frozen=True, slots=True)
class Need:
    """Capacity in reference GPUs: `total` for every tier, `first` for the first tier alone, `now` the load that
    runs or waits.

    `base`: what the first tier uses steadily; `urgent`: for the tiers that can't be deferred. `reason` names the
    limit that set `total`.
    """

    total: float
    first: float
    base: float
    urgent: float
    now: float
    reason: Reason
    reasons: tuple[Reason, ...]


def cumulative(tiers: tuple[TierTarget, ...], k: int) -> str:
    """The key of the forecast of tiers 0…k together."""
    return "+".join(tier.name for tier in tiers[: k + 1])


def deferrable(tier: TierTarget) -> bool:
    """May its requests wait so long that their work is spread rather than staffed for?"""
    return tier.target_ms >= DEFERRABLE_S * 1000


@dataclass(frozen=True, slots=True)
class Outlook:
    """Load of a tier and of the tiers above it at each forecast quantile, the largest in the lead time: five each.

    Kept to a twentieth of an erlang: the same outlook recurs from tick to tick and is staffed once.
    """

    load: tuple[float, ...]
    above: tuple[float, ...]

    @classmethod
    def of(cls, both: FloatArray, above: FloatArray) -> "Outlook":
        """From the load with and without the tier itself."""
        own = np.maximum(both - above, 0.0)
        return cls(tuple((np.ceil(own * 20) / 20).tolist()), tuple((np.ceil(above * 20) / 20).tolist()))


def expected_miss(
    servers: int, target: TierTarget, outlook: Outlook, work_s: float, scv: float, lead_s: float
) -> float:
    """How far the target is missed with so many servers, over the forecast: at most 1 means that it holds.

    For a mean, the expected wait over the target; for a percentile, the expected share beyond the target over the
    share allowed.
    """
    wait_target = max(target_wait_s(target, work_s, scv), 1e-3)
    mean = target.statistic == "mean"
    allowed = 1.0 if mean else 1 - (probability_of(target.statistic) or 0.0)
    total = 0.0
    for mass, own, upper in zip(MASS, outlook.load, outlook.above, strict=True):
        if own <= 0:
            continue
        both = own + upper
        # Past the knee the steady wait runs to infinity, which a few minutes never see: there it is the wait at the
        # knee, and on top the backlog that grows until more capacity can be there. So the miss has no step or dip.
        fits = min(1.0, KNEE * servers / both)
        growth_s = (1 / fits - 1) * lead_s if fits > 0 else math.inf
        load, above = own * fits, upper * fits
        wait_s = tier_wait_s(servers, load, above, work_s, None, 1.0, scv) if servers else 0.0
        if mean:
            total += mass * (wait_s + growth_s / 2) / wait_target
            continue
        # The tail is exponential given that one waits (see `queueing`): P(W > t) = C·exp(−t·C/E[W]).
        waits = erlang_c(servers, load + above) if wait_s > 0 else 0.0
        beyond = waits * math.exp(-wait_target * waits / wait_s) if wait_s > 0 else 0.0
        if growth_s > wait_target:
            beyond += (1 - beyond) * (1 - wait_target / growth_s)
        total += mass * beyond / allowed
    return total


@lru_cache(maxsize=65536)
def servers_needed(target: TierTarget, outlook: Outlook, work_s: float, scv: float, lead_s: float) -> int:
    """The fewest reference GPUs that hold the target over the forecast. Monotone in every load."""
    if max(outlook.load) <= 0:
        return math.ceil(outlook.above[0])
    most = max(load + above for load, above in zip(outlook.load, outlook.above, strict=True))
    lo, hi = 0, max(2, math.ceil(most * 1.2) + 2)
    while expected_miss(hi, target, outlook, work_s, scv, lead_s) > 1 and hi < 1_000_000:
        lo, hi = hi, hi * 2
    while hi - lo > 1:
        middle = (lo + hi) // 2
        if expected_miss(middle, target, outlook, work_s, scv, lead_s) > 1:
            lo = middle
        else:
            hi = middle
    return hi


def peak_of(forecast: Forecast, from_s: float, to_s: float) -> FloatArray:
    """Each quantile's largest value over the steps that touch [from_s, to_s). Shape (5,)."""
    first = max(0, int((from_s - forecast.start_s) // forecast.step_s))
    last = max(first + 1, math.ceil((to_s - forecast.start_s) / forecast.step_s))
    window = forecast.values[:, first:last]
    return np.maximum(np.nan_to_num(window).max(axis=1), 0.0) if window.size else np.zeros(len(forecast.quantiles))


def burst_reserves(seen: Observation) -> tuple[float, ...]:
    """The burst reserve of each tier, over the load of the tiers to it; 0 for deferrable ones, whose bursts can
    wait.
    """
    lead_s = seen.boot_s + seen.load_model_s
    series = [seen.load.get(cumulative(seen.envelope.tiers, k)) for k in range(len(seen.envelope.tiers))]
    return tuple(
        0.0 if load is None or deferrable(tier) else burst_reserve(load, tier, *execution(seen), lead_s)
        for tier, load in zip(seen.envelope.tiers, series, strict=True)
    )


def need(
    seen: Observation,
    look_ahead_s: float,
    reserves: tuple[float, ...] = (),
    foreseen: Mapping[str, float] = MappingProxyType({}),
    ahead: Mapping[int, Expected] = MappingProxyType({}),
) -> Need:
    """The capacity to have ready look_ahead_s from now, for the largest need until then. Without a forecast of a
    tier, its recent load stands for every quantile, and the reason says so. `foreseen`: the load of joined tiers, by
    key, up to which a rise was prepared for, erlangs. `ahead`: what the lead-time forecast asks for, by tier; it takes
    the place of quantiles, and of the reserve unless a mean is promised.
    """
    tiers, queues = seen.envelope.tiers, {queue.tier: queue for queue in seen.queues}
    lead_s = seen.boot_s + seen.load_model_s
    reasons: list[Reason] = []
    best, urgent, first, base = 0.0, 0.0, 0.0, 0.0
    best_reason = Reason(Limit.NONE, "nothing runs, waits or is forecast")
    above = np.zeros(len(MASS))
    for k, tier in enumerate(tiers):
        peak = _forecast_peak(seen, cumulative(tiers, k), tuple(t.name for t in tiers[: k + 1]), look_ahead_s)
        peak = np.maximum(peak, above)
        led = _ahead(tiers, k, ahead[k], queues) if k in ahead else None
        if deferrable(tier):
            urgent_mean = ahead[k - 1].mean if k - 1 in ahead else float(above[0])
            value, reason = _deferred(seen, tier, queues.get(tier.name), urgent_mean=urgent_mean, lead_s=lead_s)
        else:
            # A tier promised a mean keeps its reserve: its few largest bursts carry nearly all of it (see `burst`).
            value, reason = led or _staffed(seen, tier, peak, above, queues, k, lead_s)
            if led is None or tier.statistic == "mean":
                value, reason = _held_for_bursts(seen, tiers, k, reserves, lead_s, foreseen, value, reason)
            urgent = max(urgent, value)
        if k == 0:
            first = led[0] if led else value
            base = _base(seen, tier)
        reasons.append(reason)
        if value > best:
            best, best_reason = value, reason
        above = peak
    return Need(best, min(first, best), min(base, best), urgent, _now(seen), best_reason, tuple(reasons))


def _now(seen: Observation) -> float:
    """Reference GPUs that urgent requests keep busy now, and one for each that waits. A request keeps its whole replica
    busy, a fast one too; one whose tier is not known counts as urgent.
    """
    speed = {standing.offer.id: standing.offer.speed_ratio for standing in seen.offers}
    tiers = seen.envelope.tiers
    busy = (r for r in seen.replicas if r.busy and not (r.running_tier and _is_deferrable(tiers, r.running_tier)))
    urgent = [queue for queue in seen.queues if not _is_deferrable(tiers, queue.tier)]
    running = max(sum(speed.get(r.offer_id, 1.0) for r in busy), float(sum(queue.running for queue in urgent)))
    return running + sum(queue.queued for queue in urgent)


def _is_deferrable(tiers: tuple[TierTarget, ...], name: str) -> bool:
    return any(deferrable(tier) for tier in tiers if tier.name == name)


def known_forecast(seen: Observation, key: str) -> Forecast | None:
    """The minute forecast of a key; None where there is none or nothing in it is known."""
    forecast = seen.forecasts.get((key, 60.0))
    return forecast if forecast is not None and np.isfinite(forecast.values).any() else None


def _forecast_peak(seen: Observation, key: str, names: tuple[str, ...], look_ahead_s: float) -> FloatArray:
    forecast = known_forecast(seen, key)
    if forecast is not None:
        return peak_of(forecast, seen.now_s, seen.now_s + look_ahead_s)
    return np.full(len(MASS), sum(recent_load(seen, name, 300.0) for name in names))


def recent_load(seen: Observation, tier: str, window_s: float) -> float:
    """Mean load of the last window_s of measured minutes; 0 where none was measured in it (the caller holds on
    stale telemetry).
    """
    series = seen.load.get(tier)
    if series is None or not len(series.values):
        return 0.0
    tail = series.values[-max(1, int(window_s // series.step_s)) :]
    return float(np.nanmean(tail)) if np.isfinite(tail).any() else 0.0


def _staffed(
    seen: Observation,
    tier: TierTarget,
    peak: FloatArray,
    above: FloatArray,
    queues: Mapping[str, QueueReading],
    k: int,
    lead_s: float,
) -> tuple[float, Reason]:
    staffed = servers_needed(tier, Outlook.of(peak, above), *execution(seen), lead_s)
    tiers = seen.envelope.tiers[: k + 1]
    waiting_s = sum(queues[t.name].backlog_s for t in tiers if t.name in queues)
    # What waits now must be gone, beside what still comes, within the target or by when new capacity can be there.
    within_s = max(tier.target_ms / 1000, lead_s)
    backlog = float(peak[0]) + servers_for_backlog(waiting_s, within_s)
    source = "forecast" if known_forecast(seen, cumulative(seen.envelope.tiers, k)) else "recent (none is forecast)"
    numbers = {
        "load_p50": float(peak[0]),
        "load_p90": float(peak[2]),
        "load_p99": float(peak[4]),
        "target_ms": tier.target_ms,
        "waiting_s": waiting_s,
    }
    if backlog > staffed and waiting_s > 0:
        text = (
            f"{tier.name}: {waiting_s:.0f} s of work wait; to clear them within {within_s:.0f} s "
            f"beside a load of {peak[0]:.1f} takes {backlog:.1f} GPUs"
        )
        return backlog, Reason(Limit.BACKLOG, text, {**numbers, "required": backlog})
    text = (
        f"{tier.name}: {source} load {peak[0]:.1f} (p50) to {peak[4]:.1f} (p99) within the lead time; "
        f"{staffed} GPUs are the fewest that hold {tier.statistic} {tier.of.value} {tier.target_ms:,.0f} ms"
    )
    return float(staffed), Reason(Limit.LATENCY_TARGET, text, {**numbers, "required": staffed})


def _held_for_bursts(
    seen: Observation,
    tiers: tuple[TierTarget, ...],
    k: int,
    reserves: tuple[float, ...],
    lead_s: float,
    foreseen: Mapping[str, float],
    value: float,
    reason: Reason,
) -> tuple[float, Reason]:
    """The need of tiers 0…k, or what their bursts ask for where that is more."""
    held = reserves[k] if k < len(reserves) else 0.0
    burst = burst_hold(seen, [t.name for t in tiers[: k + 1]], held, lead_s, foreseen.get(cumulative(tiers, k)))
    return (value, reason) if burst.capacity <= value else (burst.capacity, burst.reason(tiers[k], value))


def _ahead(
    tiers: tuple[TierTarget, ...], k: int, expected: Expected, queues: Mapping[str, QueueReading]
) -> tuple[float, Reason]:
    """What the lead-time forecast asks for, or what runs and waits now, where that is more: what was not foreseen."""
    tier, names = tiers[k], [t.name for t in tiers[: k + 1]]
    here = [queues[name] for name in names if name in queues]
    running, waiting = sum(queue.running for queue in here), sum(queue.queued for queue in here)
    promise = f"{tier.statistic} {tier.of.value} {tier.target_ms:,.0f} ms"
    numbers = {
        "load_mean": expected.mean,
        "load_deviation": expected.deviation,
        "miss_price": 10.0**expected.price,
        "in_flight": float(running + waiting),
        "target_ms": tier.target_ms,
    }
    value = max(expected.capacity, float(running + waiting))
    if value > expected.capacity:
        text = f"{tier.name}: {running} requests run and {waiting} wait, more than the {expected.capacity:.1f} foreseen"
        limit = Limit.BACKLOG if waiting else Limit.LATENCY_TARGET
        return value, Reason(limit, text, {**numbers, "required": value})
    text = (
        f"{tier.name}: when a replica started now can serve, {expected.mean:.1f} ± {expected.deviation:.1f} GPUs will "
        f"be busy; at the price of a miss that kept {promise} on the days before, {expected.capacity:.1f} are worth it"
    )
    return value, Reason(Limit.LATENCY_TARGET, text, {**numbers, "required": value})


def _base(seen: Observation, tier: TierTarget) -> float:
    """What the first tier uses steadily and must not hang on spot: the larger of its last hour's mean and the
    middle of its forecast for the next, with a margin of its square root. A burst does not move it.
    """
    forecast = seen.forecasts.get((tier.name, 60.0))
    ahead = float(np.nan_to_num(forecast.at(0.5)).mean()) if forecast is not None else 0.0
    steady = max(recent_load(seen, tier.name, SLOW_S), ahead)
    return steady + math.sqrt(steady)


def execution(seen: Observation) -> tuple[float, float]:
    """Mean execution in seconds and its squared coefficient of variation, rounded: they drift with each request."""
    return max(0.5, round(seen.work_mean_s * 2) / 2), round(seen.work_scv, 1)


def _deferred(
    seen: Observation, tier: TierTarget, queue: QueueReading | None, *, urgent_mean: float, lead_s: float
) -> tuple[float, Reason]:
    """Spread what waits over half of the time that its oldest has left, beside the tiers above. What still comes has
    its own time; what the tiers above hold idle is filled first.
    """
    deadline_s = tier.target_ms / 1000
    waiting_s, oldest_s = (queue.backlog_s, queue.oldest_wait_s) if queue else (0.0, 0.0)
    left_s = max((deadline_s - oldest_s - lead_s) / 2, lead_s)
    own = waiting_s / left_s
    value = own + urgent_mean if own > 0 else 0.0
    text = (
        f"{tier.name}: {waiting_s:.0f} s of work wait, the oldest for {oldest_s:.0f} s of {deadline_s:.0f} s; "
        f"done within {left_s:.0f} s beside {urgent_mean:.1f} above it takes {value:.1f} GPUs"
    )
    limit = Limit.BACKLOG if waiting_s else Limit.LATENCY_TARGET
    return value, Reason(
        limit, text, {"waiting_s": waiting_s, "oldest_wait_s": oldest_s, "left_s": left_s, "required": value}
    )
