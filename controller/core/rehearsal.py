"""A draft rehearsed on futures: what the planner would hold, what the cap lets it hold, who waits and what it costs.

Fluid, by the minute: requests are work that flows, queues are served by priority (the first tier preempts), capacity is
what `capacity` and `burst` ask for in the same terms (level with its margin and rise, reserve from history, the fewest
GPUs by Erlang C, deferred work spread before its deadline), what was asked for serves one lead time later and is billed
at once, and the cap governs the burn of the clock hour as `finance.burn_allowed` does. To the fluid wait comes the
steady one (Sakasegawa 1977 for the M/M/c queue, times Allen–Cunneen's factor).

What it leaves out: the lead-time forecast from tenants' activity and the price of a miss (`priced`), in whose place the
reserve from history stands; spot replicas that are taken back (offers and prices stay as they are now), whole nodes,
moves from one offer to another, overrides, and the fast forecast, which sees some bursts before their first minutes.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from controller.core.burst import SLOW_S, burst_reserve, lagged
from controller.core.capacity import KNEE, deferrable
from controller.core.finance import HOUR_S, cheapest_per_speed, hour_start
from controller.core.futures import DAY_MINUTES, Futures
from controller.core.mix import price_known, spot_usable
from controller.core.mix_choice import SPOT_WORTH
from controller.core.prospect import MINUTE_S, Prospect
from controller.core.queueing import probability_of, servers_for, target_wait_s
from controller.core.types import Envelope, FloatArray, Offer, OfferStanding, TierTarget
from models.enums import Market

BoolArray = npt.NDArray[np.bool_]
Singles = npt.NDArray[np.float32]

# As in the policy: kept of the cap for what drains, and how much faster than the cap the hour may burn.
CAP_RESERVE = 0.02
BURST = 1.25
# The steady wait changes slowly: it is computed each so many minutes.
STEADY_EVERY = 5
# Targets whose needs are remembered, about half a megabyte each.
MOST_KEPT = 64


@dataclass(frozen=True, slots=True)
class Prices:
    """Dollars an hour of one reference GPU that starts now: on demand, and on spot (None where none is worth it)."""

    on_demand: float | None
    spot: float | None

    @property
    def first(self) -> float:
        """What the first tier's base costs."""
        return self.on_demand if self.on_demand is not None else self.rest

    @property
    def rest(self) -> float:
        """What all above the base costs. ValueError where nothing is for sale."""
        price = self.spot if self.spot is not None else self.on_demand
        if price is None:
            raise ValueError("no offer can be bought at a known price")
        return price


def prices_now(standings: Sequence[OfferStanding], now_s: float) -> Prices:
    """As the mix buys: on demand the cheapest, on spot each zone's cheapest that is worth it, evenly."""
    usable = [s for s in standings if price_known(s)]
    on_demand = cheapest_per_speed([s.offer for s in usable], Market.ON_DEMAND)
    limit = math.inf if on_demand is None else on_demand.usd_per_speed_hour * SPOT_WORTH
    zones: dict[str, Offer] = {}
    for standing in usable:
        offer = standing.offer
        if offer.market is not Market.SPOT or offer.usd_per_speed_hour > limit or spot_usable(standing, now_s):
            continue
        known = zones.get(offer.zone)
        if known is None or offer.usd_per_speed_hour < known.usd_per_speed_hour:
            zones[offer.zone] = offer
    spot = float(np.mean([offer.usd_per_speed_hour for offer in zones.values()])) if zones else None
    return Prices(None if on_demand is None else on_demand.usd_per_speed_hour, spot)


@dataclass(frozen=True, slots=True)
class Case:
    """One draft to rehearse: the tiers' targets, the cap (None: none), and the limits in reference GPUs."""

    tiers: tuple[TierTarget, ...]
    cap_usd_per_hour: float | None
    floor: int = 0
    ceiling: int | None = None

    @classmethod
    def of(cls, envelope: Envelope) -> "Case":
        return cls(envelope.tiers, envelope.spend_cap_usd_per_hour, envelope.floor, envelope.ceiling)


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What came of each case in each future, by clock hour.

    `kept` (terms, hours, cases, futures): tiers in order, then the spend; True: within its limit in the window that
    ends with that hour. `usd` (hours, cases, futures): dollars of the clock hour, jobs included; the first hour's with
    what had accrued. `capped` (hours, cases, futures): the cap cut the fleet. `peak` (cases, futures): most GPUs.
    """

    hours_s: FloatArray
    kept: BoolArray
    usd: Singles
    capped: BoolArray
    peak: Singles

    @property
    def held(self) -> FloatArray:
        """The share of futures in which every term is kept all day, by case (cases,)."""
        shares: FloatArray = self.kept.all(axis=(0, 1)).mean(axis=-1)
        return shares


class Rehearsals:
    """The stage for one prospect and its futures: what cases have in common is computed once."""

    def __init__(self, prospect: Prospect, futures: Futures) -> None:
        self.prospect, self.futures = prospect, futures
        self._lag = max(1, math.ceil(prospect.lead_s / MINUTE_S))
        self._price = prices_now(prospect.offers, prospect.now_s)
        recent = futures.loads[:, :, DAY_MINUTES - 4 * round(SLOW_S / MINUTE_S) :]
        ahead = recent.shape[2] - DAY_MINUTES
        self._joined = np.cumsum(recent, axis=0)
        hour_mean = _trailing_mean(recent, round(SLOW_S / MINUTE_S))
        self._base = _base(hour_mean[0])[:, ahead:].astype(np.float32)
        self._hour_mean = hour_mean[:, :, ahead:].astype(np.float32)
        self._own = recent[:, :, ahead:].astype(np.float32)
        self._load = self._joined[:, :, ahead:].astype(np.float32)
        self._follows: dict[int, tuple[FloatArray, FloatArray, FloatArray]] = {}
        self._wishes: dict[tuple[int, TierTarget], Singles] = {}
        self._fresh: dict[tuple[int, float], Singles] = {}

    def run(self, cases: Sequence[Case]) -> Rehearsed:
        """All cases in all futures. Their tiers are the prospect's, and they agree in which of them can be deferred."""
        prospect, tiers = self.prospect, len(cases[0].tiers)
        shape = (len(cases), self.futures.count)
        late = [deferrable(tier) for tier in cases[0].tiers]
        chances = [probability_of(tier.statistic) for tier in cases[0].tiers]
        windows = [max(1, round(tier.window_s / HOUR_S)) for tier in cases[0].tiers]
        targets = [_column(self._wait_min(case.tiers[k]) for case in cases) for k in range(tiers)]
        floor = _column(float(case.floor) for case in cases)
        ceiling = _column(math.inf if case.ceiling is None else float(case.ceiling) for case in cases)
        cap = _column(math.inf if case.cap_usd_per_hour is None else case.cap_usd_per_hour for case in cases)
        wish = np.ceil(np.clip(self._asked(cases, late), floor[:, :, None], ceiling[:, :, None]) - 1e-3)
        fresh = {
            k: np.stack([self._arrived_within(k, case.tiers[k].target_ms / 1000) for case in cases])
            for k in range(tiers)
            if late[k] and chances[k] is not None
        }
        first, rest, jobs = self._price.first, self._price.rest, prospect.jobs_usd_per_hour
        hours_s, left_min = _hours(prospect.now_s)
        kept = np.ones((tiers + 1, len(hours_s), *shape), np.bool_)
        usd = np.zeros((len(hours_s), *shape), np.float32)
        capped = np.zeros((len(hours_s), *shape), np.bool_)
        backlog = [_filled(shape, sum(prospect.waiting[: k + 1])) for k in range(tiers)]
        asked = [_filled(shape, prospect.capacity)] * (self._lag + 1)
        peak, spent = _filled(shape, prospect.capacity), _filled(shape, prospect.accrued_usd)
        sums, steady = ([_filled(shape, 0.0) for _ in range(tiers)] for _ in range(2))
        weights = [np.zeros(shape[1], np.float32) for _ in range(tiers)]
        hour = 0
        for minute in range(DAY_MINUTES):
            needed = wish[:, :, min(minute + self._lag, DAY_MINUTES - 1)]
            for k in range(tiers):
                if late[k]:
                    waiting = backlog[k] - backlog[k - 1] if k else backlog[k]
                    spread = _deferred(waiting, self._hour_mean, targets[k], k, minute, self._lag)
                    needed = np.maximum(needed, np.minimum(np.ceil(spread), ceiling))
            stands = np.minimum(self._base[:, minute], needed)
            allowed = np.minimum((cap * (1 - CAP_RESERVE) - spent) * (60.0 / left_min), cap * BURST) - jobs
            beyond = allowed - stands * first
            fits = np.floor(np.where(beyond < 0, np.maximum(allowed, 0.0) / first, stands + beyond / rest) + 1e-3)
            held = np.minimum(needed, fits)
            capped[hour] |= held < needed
            stands = np.minimum(stands, held)
            spent += (held * rest + stands * (first - rest) + jobs) / 60.0
            asked = [*asked[1:], held]
            serving = np.minimum(held, asked[0])
            np.maximum(peak, held, out=peak)
            for k in range(tiers):
                load = self._own[k, :, minute]
                backlog[k] = np.maximum(backlog[k] + self._load[k, :, minute] - serving, backlog[k - 1] if k else 0.0)
                weights[k] += load
                if late[k]:
                    waiting = backlog[k] - backlog[k - 1] if k else backlog[k]
                    if chances[k] is None:
                        sums[k] += load * waiting / np.maximum(self._hour_mean[k, :, minute], 0.05)
                    else:
                        sums[k] += load * (waiting > fresh[k][:, :, minute] + 1e-3)
                    continue
                if minute % STEADY_EVERY == 0:
                    both = self._load[k, :, minute]
                    steady[k] = _steady(serving, both, load, prospect, chances[k], targets[k])
                wait = backlog[k] / np.maximum(serving, 0.5)
                if chances[k] is None:
                    sums[k] += load * (wait + steady[k])
                else:
                    sums[k] += load * np.where(wait > targets[k], 1.0, steady[k])
            left_min -= 1
            last = minute == DAY_MINUTES - 1
            if left_min and not last:
                continue
            for k in range(tiers):
                if (hour + 1) % windows[k] and not last:
                    continue
                chance = chances[k]
                limit = targets[k] if chance is None else 1 - chance
                kept[k, hour] = sums[k] <= limit * weights[k] + 1e-4
                sums[k], weights[k] = _filled(shape, 0.0), np.zeros(shape[1], np.float32)
            kept[tiers, hour] = spent <= cap + 1e-3
            usd[hour] = spent
            spent, left_min, hour = _filled(shape, 0.0), 60, hour + 1
        return Rehearsed(hours_s, kept, usd, capped, peak)

    def _wait_min(self, tier: TierTarget) -> float:
        """What the target leaves for waiting, in minutes; end to end less than the execution leaves nothing."""
        return max(target_wait_s(tier, self.prospect.work_mean_s, self.prospect.work_scv), 1e-3) / 60.0

    def _asked(self, cases: Sequence[Case], late: Sequence[bool]) -> Singles:
        """Reference GPUs (cases, futures, minutes) for the tiers that can't be deferred, ready at each minute."""
        asked = np.zeros((len(cases), self.futures.count, DAY_MINUTES), np.float32)
        for number, case in enumerate(cases):
            for k, tier in enumerate(case.tiers):
                if not late[k]:
                    np.maximum(asked[number], self._wish(k, tier), out=asked[number])
        return asked

    def _wish(self, k: int, tier: TierTarget) -> Singles:
        """What tiers 0…k need on account of tier k: its reserve on the slow level, what follows, or by Erlang C."""
        found = self._wishes.get((k, tier))
        if found is not None:
            return found
        prospect, lag = self.prospect, self._lag
        if k not in self._follows:
            joined = self._joined[k]
            slow, following = lagged(joined, lag, round(SLOW_S / MINUTE_S))
            late = np.concatenate([np.repeat(joined[:, :1], lag, axis=1), joined[:, :-lag]], axis=1)
            self._follows[k] = (slow[:, -DAY_MINUTES:], following[:, -DAY_MINUTES:], late[:, -DAY_MINUTES:])
        slow, following, late = self._follows[k]
        reserve = burst_reserve(prospect.joined(k), tier, prospect.work_mean_s, prospect.work_scv, prospect.lead_s)
        loads = np.linspace(0.0, max(float(late.max()), 1.0), 25)
        fewest = [
            servers_for(x, prospect.work_mean_s, tier, work_scv=prospect.work_scv).servers for x in loads.tolist()
        ]
        staffed = np.interp(late, loads, np.array(fewest, np.float64))
        wish = np.maximum(np.maximum(slow + reserve, following), staffed).astype(np.float32)
        if len(self._wishes) >= MOST_KEPT:  # many drafts in an hour must not fill the memory
            self._wishes.clear()
        self._wishes[k, tier] = wish
        return wish

    def _arrived_within(self, k: int, deadline_s: float) -> Singles:
        """Work of tier k (futures, minutes) that arrived within the deadline: if more waits, some of it is older."""
        if (k, deadline_s) not in self._fresh:
            own = self.futures.loads[k]
            sums = np.concatenate([np.zeros((own.shape[0], 1)), np.cumsum(own, axis=1)], axis=1)
            ends = np.arange(DAY_MINUTES, own.shape[1]) + 1
            begins = np.maximum(ends - max(1, round(deadline_s / MINUTE_S)), 0)
            if len(self._fresh) >= MOST_KEPT:
                self._fresh.clear()
            self._fresh[k, deadline_s] = (sums[:, ends] - sums[:, begins]).astype(np.float32)
        return self._fresh[k, deadline_s]


def with_target(tiers: tuple[TierTarget, ...], k: int, target_ms: float) -> tuple[TierTarget, ...]:
    """The tiers with another target for one of them."""
    return tuple(replace(tier, target_ms=target_ms) if n == k else tier for n, tier in enumerate(tiers))


def _column(values: Iterable[float]) -> Singles:
    return np.array(list(values), np.float32)[:, None]


def _filled(shape: tuple[int, ...], value: float) -> Singles:
    return np.full(shape, value, np.float32)


def _hours(now_s: float) -> tuple[FloatArray, int]:
    """The clock hours that the next day touches, and the whole minutes left of the first."""
    first = hour_start(now_s)
    left = max(1, math.ceil((first + HOUR_S - now_s) / MINUTE_S - 1e-9))
    count = 1 + math.ceil((DAY_MINUTES - left) / 60)
    return first + HOUR_S * np.arange(count, dtype=np.float64), left


def _trailing_mean(values: FloatArray, count: int) -> FloatArray:
    """Mean of each value (…, n) and the count - 1 before it (fewer at the start)."""
    sums = np.cumsum(values, axis=-1)
    mean = sums.copy()
    mean[..., count:] -= sums[..., :-count]
    whole: FloatArray = mean / np.minimum(np.arange(values.shape[-1]) + 1, count)
    return whole


def _base(first_hour_mean: FloatArray) -> FloatArray:
    """What the first tier must not have on spot: its steady use and its square root, held for half an hour."""
    steady = np.ceil(first_hour_mean + np.sqrt(np.maximum(first_hour_mean, 0.0)))
    base = steady.copy()
    for back in range(1, 30):
        np.maximum(base[:, back:], steady[:, :-back], out=base[:, back:])
    return base


def _deferred(waiting: Singles, hour_mean: Singles, deadline_min: Singles, k: int, at: int, lag: int) -> Singles:
    """As `capacity` spreads deferred work: what waits within half of the time its oldest has left, and those above."""
    coming = hour_mean[k, :, at]
    oldest = np.minimum(waiting / np.maximum(coming, 0.05), deadline_min)
    left = np.maximum((deadline_min - oldest - lag) / 2, lag)
    above = hour_mean[:k, :, at].sum(axis=0)
    need: Singles = np.where(waiting > 0, waiting / left + above, 0.0)
    return need


def _steady(
    serving: Singles, both: Singles, own: Singles, prospect: Prospect, chance: float | None, target_min: Singles
) -> Singles:
    """The steady wait in minutes of the tier on so many servers; for a percentile the share that waits too long."""
    servers = np.maximum(serving, 1.0)
    used = np.minimum(both / servers, KNEE)
    waits = used ** (np.sqrt(2 * (servers + 1)) - 1)
    pace = prospect.work_mean_s / 60.0 * (1 + prospect.work_scv) / 2
    together = waits * pace / (servers * (1 - used))
    # Those above wait less than all together, so the tier's own share of the waiting is larger.
    mean: Singles = together * np.minimum(both / np.maximum(own, 1e-9), 1e3)
    if chance is None:
        return mean
    beyond: Singles = waits * np.exp(-np.minimum(target_min * waits / np.maximum(mean, 1e-12), 700.0))
    return beyond
