"""Observations made by hand: a calm three-tier service on two kinds of machine, changed as a test needs it."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from controller.core.types import (
    QUANTILES,
    Envelope,
    Forecast,
    LatencyReading,
    Observation,
    Offer,
    OfferStanding,
    Override,
    Plan,
    QueueReading,
    Reason,
    Replica,
    Series,
    Spend,
    TierTarget,
)
from models.enums import ActionKind, LatencyOf, Limit, Market, Mode, OverrideKind, ReplicaState

NOW = datetime(2024, 11, 25, 10, tzinfo=UTC).timestamp()
BOOT_S, LOAD_S = 180.0, 60.0


def offer(kind: str, zone: str, market: Market, price: float, speed: float = 1.0) -> Offer:
    return Offer(f"{kind}/{zone}/{market.value}", "aws", "us-west-2", zone, kind, "gpu", 1, market, price, speed)


A10G = offer("g5.xlarge", "az1", Market.ON_DEMAND, 1.006)
L40S = offer("g6e.xlarge", "az1", Market.ON_DEMAND, 1.861, 2.0)
SPOT = tuple(offer("g5.xlarge", zone, Market.SPOT, 0.43) for zone in ("az1", "az2", "az3"))
OFFERS = (A10G, *SPOT, L40S)
BY_ID = {each.id: each for each in OFFERS}


def tier(name: str, priority: int, percent: float, statistic: str, target_ms: float, **changes: Any) -> TierTarget:
    return replace(TierTarget(name, priority, percent, statistic, LatencyOf.WAIT, target_ms), **changes)


TIERS = (
    tier("premium", 0, 20, "mean", 200),
    tier("standard", 1, 50, "p95", 30_000),
    tier("background", 2, 30, "p100", 7_200_000),
)
DEGRADE = ("background", "standard", "premium")


def envelope(cap: float | None = None, tiers: tuple[TierTarget, ...] = TIERS, **changes: Any) -> Envelope:
    return replace(Envelope(tiers, cap, "a", degrade=tuple(reversed([each.name for each in tiers]))), **changes)


def standings(offers: Iterable[Offer] = OFFERS, **changed: Any) -> tuple[OfferStanding, ...]:
    """`changed`: by the offer's place in `offers`, as o0, o1, …: the fields that differ."""
    return tuple(OfferStanding(each, **changed.get(f"o{i}", {})) for i, each in enumerate(offers))


def replica(number: int, of: Offer = A10G, state: ReplicaState = ReplicaState.READY, **changes: Any) -> Replica:
    ready_s = NOW - 3600 if state is ReplicaState.READY else None
    base = Replica(f"r-{number:06d}", "images", of.id, state, NOW - 4000 + number, ready_s, None, False)
    return replace(base, **changes)


def fleet(counts: Mapping[str, int], state: ReplicaState = ReplicaState.READY, busy: int = 0) -> tuple[Replica, ...]:
    """Replicas by offer id; the first `busy` of them run something."""
    ids = [identifier for identifier, count in counts.items() for _ in range(count)]
    return tuple(replica(n, BY_ID[identifier], state, busy=n < busy) for n, identifier in enumerate(ids))


def names(tiers: tuple[TierTarget, ...], k: int) -> str:
    return "+".join(each.name for each in tiers[: k + 1])


def forecasts(tiers: tuple[TierTarget, ...], *loads: float, spread: float = 0.15) -> dict[tuple[str, float], Forecast]:
    """A flat minute forecast of the tiers joined by priority; `loads` are each tier's own, in erlangs."""
    found = {}
    for k in range(len(tiers)):
        middle = sum(loads[: k + 1])
        values = np.repeat((middle * (1 + spread * np.array([0.0, 0.4, 0.7, 1.0, 1.6])))[:, None], 60, axis=1)
        key = names(tiers, k)
        reason = Reason(Limit.FORECAST, "made by hand")
        found[key, 60.0] = Forecast("images", key, NOW, NOW, 60.0, QUANTILES, values, "by hand", reason)
    return found


def loads(tiers: tuple[TierTarget, ...], *own: float, minutes: int = 180) -> dict[str, Series]:
    """Flat measured load, each tier's own and joined."""
    start_s = NOW - 60.0 * minutes
    single = {each.name: Series(start_s, 60.0, np.full(minutes, value)) for each, value in zip(tiers, own, strict=True)}
    joined = {names(tiers, k): Series(start_s, 60.0, np.full(minutes, sum(own[: k + 1]))) for k in range(len(tiers))}
    return single | joined


def queues(
    tiers: tuple[TierTarget, ...], running: Iterable[int], queued: Iterable[int] = ()
) -> tuple[QueueReading, ...]:
    waiting = list(queued) or [0] * len(tiers)
    return tuple(
        QueueReading(each.name, q, r, q * 30.0, 60.0 if q else 0.0)
        for each, r, q in zip(tiers, running, waiting, strict=True)
    )


def override(kind: OverrideKind, replicas: int | None = None, service: str = "images", **changes: Any) -> Override:
    base = Override(1, service, kind, replicas, "ana", "an incident", NOW - 60, NOW + 3600)
    return replace(base, **changes)


def observation(own: tuple[float, ...] = (2.0, 5.0, 3.0), **changes: Any) -> Observation:
    """A calm service: `own` erlangs a tier, as measured, forecast and running; a fleet that is empty unless given."""
    ruling: Envelope = changes.get("envelope", envelope())
    tiers = ruling.tiers
    base: dict[str, Any] = {
        "now_s": NOW,
        "service": "images",
        "mode": Mode.ACT,
        "envelope": ruling,
        "replicas": (),
        "offers": standings(),
        "queues": queues(tiers, [round(each) for each in own]),
        "latencies": tuple(
            LatencyReading(each.name, each.statistic, each.of, each.window_s, 0.0, 100, NOW) for each in tiers
        ),
        "load": loads(tiers, *own),
        "forecasts": forecasts(tiers, *own),
        "spend": Spend(NOW, 0.0, 0.0, 0.0),
        "overrides": (),
        "telemetry_s": NOW,
        "boot_s": BOOT_S,
        "load_model_s": LOAD_S,
        "work_mean_s": 30.0,
        "work_scv": 0.5,
    }
    return Observation(**{**base, **changes})


def kinds(plan: Plan, kind: ActionKind) -> list[str]:
    """The offers of a plan's actions of a kind."""
    return [str(action.offer_id) for action in plan.actions if action.kind is kind]


def started(plan: Plan) -> list[str]:
    return kinds(plan, ActionKind.START_REPLICA)


def released(plan: Plan) -> list[str]:
    return kinds(plan, ActionKind.RELEASE_REPLICA)


def carried_out(seen: Observation, plan: Plan) -> Observation:
    """The observation after the plan was done and everything started is ready."""
    gone = {action.replica_id for action in plan.actions if action.kind is ActionKind.RELEASE_REPLICA}
    stay = tuple(each for each in seen.replicas if each.id not in gone)
    first = 1 + max((int(each.id[2:]) for each in seen.replicas), default=-1)
    fresh = tuple(replica(first + n, BY_ID[identifier]) for n, identifier in enumerate(started(plan)))
    return replace(seen, replicas=stay + fresh)
