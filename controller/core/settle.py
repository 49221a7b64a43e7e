"""Settling a closed clock hour: what it cost and missed, against a shadow HPA and against hindsight, in dollars.

Every fleet goes through the same model of the queue on the minutes that were measured, the one that was there too, so
that the model's error cancels in the differences. Dollars are those of replicas at list price. An *SLO-minute* is a
minute's worth of a tier's requests that missed its target: of an hour, 60 × the share of the tier's requests that
arrived in steps in which the target was missed. Tiers are added. A price for an SLO-minute puts both on one scale.

A minute that was not measured makes the whole hour unknown: a bill without its minutes would flatter somebody.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from controller.core.finance import HOUR_S, cheapest_per_speed, dollars
from controller.core.fluid import BoolArray, Demand, in_system, over_target, waits
from controller.core.queueing import target_wait_s
from controller.core.shadow import Grid, Held, Trajectory, followed, held_fleet, oracle, shadow_hpa
from controller.core.types import Envelope, FloatArray, Offer, Sample, TierTarget
from models.enums import Market

MINUTE_S = 60.0
STEP_S = 15.0
"""As often as a Kubernetes HPA looks (`--horizontal-pod-autoscaler-sync-period`)."""
LEAD_IN_S = 2 * HOUR_S
"""How long before the hour the fleets begin, so that what they began with is forgotten."""


@dataclass(frozen=True, slots=True)
class MissPrice:
    """Dollars for an SLO-minute: of the tiers that are named, and of all others."""

    usd_per_minute: float
    tiers: Mapping[str, float] = field(default_factory=dict)

    def of(self, tier: str) -> float:
        return self.tiers.get(tier, self.usd_per_minute)


NO_PRICE = MissPrice(0.0)


def miss_price(text: str) -> MissPrice:
    """From "0.5", or from "premium=1,standard=0.25,0.1", whose last part is for all other tiers (missing: 0).

    ValueError for anything else, an amount below 0 too.
    """
    tiers: dict[str, float] = {}
    others: float | None = None
    for part in text.split(","):
        name, equals, amount = part.rpartition("=")
        usd = float(amount)
        twice = others is not None if not equals else name.strip() in ("", *tiers)
        if twice or not (usd >= 0 and math.isfinite(usd)):
            raise ValueError(f"no price of an SLO-minute: {part!r}")
        if equals:
            tiers[name.strip()] = usd
        else:
            others = usd
    return MissPrice(others or 0.0, tiers)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is remembered of a clock hour and of the time before it.

    `loads` and `requests`: a tier's minutes from from_s on, erlangs and arrivals, NaN where not measured; the hour is
    the last 60. `levels`: (time, replicas by offer) as they were decided, where they were not carried out. `decisions`:
    (plan id, time) in order, the first made at or before the hour. `prices`: usable offers, and of them `steady` those
    that neither refused nor lost a replica in the hour.
    """

    hour_s: float
    from_s: float
    envelope: Envelope
    loads: Mapping[str, FloatArray]
    requests: Mapping[str, FloatArray]
    fleet: tuple[Held, ...]
    offers: Mapping[str, Offer]
    steady: frozenset[str]
    lead_s: float
    work_mean_s: float
    work_scv: float
    miss: MissPrice
    levels: tuple[tuple[float, Mapping[str, int]], ...] = ()
    decisions: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Account:
    """One fleet's cost over a span. `slo_minutes` by tier; `miss_usd` is what they come to at their price."""

    usd: float
    slo_minutes: Mapping[str, float]
    miss_usd: float

    @property
    def minutes(self) -> float:
        return sum(self.slo_minutes.values())

    @property
    def total_usd(self) -> float:
        return self.usd + self.miss_usd


@dataclass(frozen=True, slots=True)
class Accounts:
    """The fleets of one span side by side: as it was, as it was decided (the same where decisions were carried out), a
    shadow HPA's, and the best in hindsight. None: unknown.
    """

    fleet: Account | None = None
    planned: Account | None = None
    shadow: Account | None = None
    hindsight: Account | None = None

    @property
    def saved_usd(self) -> float | None:
        """What the shadow's fleet would have cost more, misses priced."""
        return _difference(self.shadow, self.fleet)

    @property
    def regret_usd(self) -> float | None:
        """What hindsight's would have cost less, misses priced. Never negative."""
        return _difference(self.fleet, self.hindsight)

    @property
    def would_save_usd(self) -> float | None:
        """What the decisions would have saved, had they been carried out."""
        return _difference(self.fleet, self.planned)


@dataclass(frozen=True, slots=True)
class DecisionAccounts:
    """A decision's part of the hour: from its plan until the next."""

    plan_id: str
    from_s: float
    to_s: float
    accounts: Accounts


@dataclass(frozen=True, slots=True)
class Settled:
    """A settled hour. `unknown_minutes` of the 60 were not measured; `notes` say what the figures rest on."""

    accounts: Accounts
    decisions: tuple[DecisionAccounts, ...]
    unknown_minutes: int
    notes: tuple[str, ...]


def settle(facts: Facts) -> Settled:
    """The hour's accounts and those of each decision in it. Everything is unknown where a minute of the hour is."""
    tiers = facts.envelope.tiers
    loads = np.array([facts.loads[tier.name] for tier in tiers])
    requests = np.array([facts.requests[tier.name] for tier in tiers])
    measured = np.isfinite(loads).all(axis=0) & np.isfinite(requests).all(axis=0)
    unknown = 60 - int(measured[-60:].sum())
    if unknown:
        note = f"{unknown} of 60 minutes were not measured: what the hour's fleets compare to is unknown"
        return Settled(Accounts(), _spans(facts, {}), unknown, (note,))
    # The fleets begin after the last minute that is not known.
    gaps = np.flatnonzero(~measured)
    first = int(gaps[-1]) + 1 if len(gaps) else 0
    notes = []
    if len(measured) - first < (LEAD_IN_S + HOUR_S) / MINUTE_S:
        before = len(measured) - first - 60
        notes.append(f"the shadow began {before} min before the hour, with the fleet that was there")
    demand = stepped(facts, loads[:, first:], requests[:, first:], facts.from_s + first * MINUTE_S)
    grid = Grid(demand.start_s, demand.step_s, demand.steps)
    hour = demand.steps - round(HOUR_S / STEP_S)
    fleets: dict[str, _Ledger] = {}
    there = held_fleet(facts.fleet, grid)
    inside = in_system(demand, there.capacity)
    fleets["fleet"] = _Ledger.of(demand, there, facts.miss, hour, inside=inside)
    if facts.levels:
        would = followed(facts.levels, facts.fleet, facts.offers, facts.lead_s, grid.edges_s[-1])
        fleets["planned"] = _Ledger.of(demand, held_fleet(would, grid), facts.miss, hour)
    else:
        fleets["planned"] = fleets["fleet"]
    shadow, told = _shadow(facts, demand, float(there.capacity[0]))
    if shadow is None:
        return Settled(Accounts(), _spans(facts, {}), 0, (*notes, told))
    notes.append(told)
    fleets["shadow"] = _Ledger.of(demand, shadow, facts.miss, hour, fifo=True)
    best, word = _hindsight(facts, demand.since(hour), there.capacity, inside, fleets)
    fleets["hindsight"] = best
    notes.append(word)
    whole = {name: each.account(0, each.steps) for name, each in fleets.items()}
    return Settled(_accounts(whole), _spans(facts, fleets), 0, tuple(notes))


@dataclass(frozen=True, slots=True)
class _Ledger:
    """A fleet's steps of the hour, ready to be added up over any span."""

    tiers: tuple[TierTarget, ...]
    miss: MissPrice
    usd: FloatArray
    minutes: FloatArray

    @classmethod
    def of(
        cls,
        demand: Demand,
        fleet: Trajectory,
        miss: MissPrice,
        hour: int,
        *,
        fifo: bool = False,
        inside: FloatArray | None = None,
    ) -> "_Ledger":
        """`hour`: the step at which the hour begins. `inside`: of the demand on this fleet, where it is known."""
        inside = in_system(demand, fleet.capacity) if inside is None else inside
        settled = demand.since(hour)
        over = over_target(settled, waits(settled, inside[:, hour:], fleet.capacity[hour:], fifo=fifo))
        return cls(demand.tiers, miss, fleet.usd[hour:], _slo_minutes(settled.requests, over))

    @property
    def steps(self) -> int:
        return len(self.usd)

    def account(self, first: int, last: int) -> Account | None:
        """Of the steps [first, last). None: a price in it is not known."""
        usd = float(self.usd[first:last].sum())
        if not math.isfinite(usd):
            return None
        minutes = self.minutes[:, first:last].sum(axis=1).tolist()
        by_tier = {tier.name: value for tier, value in zip(self.tiers, minutes, strict=True)}
        return Account(usd, by_tier, sum(self.miss.of(name) * value for name, value in by_tier.items()))


def _slo_minutes(requests: FloatArray, over: BoolArray) -> FloatArray:
    """Each step's part of the hour's SLO-minutes, shape (tiers, steps)."""
    total = requests.sum(axis=1, keepdims=True)
    share: FloatArray = np.divide(60.0 * requests, total, out=np.zeros_like(requests), where=total > 0)
    return np.where(over, share, 0.0)


def stepped(facts: Facts, loads: FloatArray, requests: FloatArray, start_s: float) -> Demand:
    """The minutes as steps: a minute's load is the load of each of its steps."""
    parts = round(MINUTE_S / STEP_S)
    return Demand(
        start_s,
        STEP_S,
        facts.envelope.tiers,
        np.repeat(loads, parts, axis=1),
        np.repeat(requests / parts, parts, axis=1),
        max(facts.work_mean_s, 0.1),
        facts.work_scv,
    )


def _shadow(facts: Facts, demand: Demand, capacity: float) -> tuple[Trajectory | None, str]:
    """The shadow's trajectory and a note on it; None and why there is none."""
    offer = cheapest_per_speed(facts.offers.values(), Market.ON_DEMAND)
    if offer is None:
        return None, "no usable on-demand offer has a known price: there is nothing the shadow could hold"
    envelope = facts.envelope
    least, most = max(1, envelope.floor), envelope.ceiling or 1_000_000
    cap = envelope.spend_cap_usd_per_hour
    if cap is not None:
        most = min(most, math.floor(cap / offer.price_usd_per_hour + 1e-9) * offer.gpu_count)
    most = max(least, most)
    bound = "" if cap is None and envelope.ceiling is None else f", at most {most}"
    word = f"the shadow holds {offer.id} at {dollars(offer.price_usd_per_hour)}/h{bound}"
    return shadow_hpa(demand, offer, facts.lead_s, capacity, least, most), word


def _hindsight(
    facts: Facts,
    hour: Demand,
    capacity: FloatArray,
    inside: FloatArray,
    fleets: Mapping[str, _Ledger],
) -> tuple[_Ledger, str]:
    """The cheapest of what is known: the oracle's fleet, the shadow's, and the one that was there."""
    steady = [offer for identifier, offer in facts.offers.items() if identifier in facts.steady]
    offer = cheapest_per_speed(steady)
    candidates = {"the shadow's fleet": fleets["shadow"], "the fleet that was there": fleets["fleet"]}
    word = "no offer stood open all hour"
    if offer is not None:
        first = len(capacity) - hour.steps
        start = np.minimum(inside[:, first - 1], capacity[first]) if first else hour.loads[:, 0].cumsum()
        leftover = float(inside[-1, -1])
        best = oracle(hour, offer.usd_per_speed_hour, facts.lead_s, facts.envelope.floor, start, leftover)
        inside_best = in_system(hour, best.capacity, start)
        candidates = {"its own": _Ledger.of(hour, best, facts.miss, 0, inside=inside_best), **candidates}
        word = f"hindsight pays {dollars(offer.usd_per_speed_hour)}/h for a reference GPU of {offer.id}"
    totals = {name: each.account(0, each.steps) for name, each in candidates.items()}
    known = {name: account.total_usd for name, account in totals.items() if account is not None}
    name = min(known, key=lambda each: known[each])
    return candidates[name], word if name == "its own" else f"{word}; {name} was cheaper and stands for it"


def _spans(facts: Facts, fleets: Mapping[str, _Ledger]) -> tuple[DecisionAccounts, ...]:
    """Each decision's part. A decision with no step of its own, overtaken within one, has none."""
    found = []
    for number, (plan_id, made_s) in enumerate(facts.decisions):
        last_one = number + 1 == len(facts.decisions)
        until_s = math.inf if last_one else facts.decisions[number + 1][1]
        from_s, to_s = max(made_s, facts.hour_s), min(until_s, facts.hour_s + HOUR_S)
        if to_s <= from_s:
            continue
        first, last = (math.floor((at_s - facts.hour_s) / STEP_S + 1e-9) for at_s in (from_s, to_s))
        parts = {name: each.account(first, last) for name, each in fleets.items()}
        found.append(DecisionAccounts(plan_id, from_s, to_s, _accounts(parts)))
    return tuple(found)


def _accounts(parts: Mapping[str, Account | None]) -> Accounts:
    return Accounts(*(parts.get(name) for name in ("fleet", "planned", "shadow", "hindsight")))


def _difference(more: Account | None, less: Account | None) -> float | None:
    return None if more is None or less is None else more.total_usd - less.total_usd


def measured_slo_minutes(
    tier: TierTarget, minutes: Sequence[Sample], work_mean_s: float, work_scv: float
) -> float | None:
    """SLO-minutes of a tier's hour as telemetry has it: 60 × the share of its requests that started in minutes whose
    own statistic was over the target. None where a minute is missing, or requests arrived and none ever started.

    Minutes keep the mean, p95 and longest wait: a percentile up to 95 is judged by the p95, one above by the longest,
    which errs towards a miss.
    """
    if len(minutes) < 60:
        return None
    limit_s = target_wait_s(tier, work_mean_s, work_scv)
    started = sum(each.started for each in minutes)
    if not started:
        return None if any(each.arrivals for each in minutes) else 0.0
    over = 0
    for each in minutes:
        waited_s = _statistic(tier.statistic, each)
        if each.started and waited_s is None:
            return None
        over += each.started if waited_s is not None and waited_s > limit_s else 0
    return 60.0 * over / started


def _statistic(statistic: str, minute: Sample) -> float | None:
    if statistic == "mean":
        return minute.wait_mean_s
    return minute.wait_p95_s if float(statistic[1:]) <= 95 else minute.wait_max_s
