"""A small simulated cluster to put under test: three tiers, one on-demand offer, spot in two zones, constant loads."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from controller.backends.simulated.arrivals import Arrivals
from controller.backends.simulated.cluster import SimulatedCluster, Site
from controller.backends.simulated.engine import ZoneSeries
from controller.core.types import Action, Offer, TierTarget
from models.enums import ActionKind, LatencyOf, Market

T0 = datetime(2024, 11, 25, 6, tzinfo=UTC).timestamp()
BOOT_S, LOAD_S = 180.0, 20.0
COLD_S = BOOT_S + LOAD_S


def offer(market: Market, zone: str = "z1", price: float = 1.0, speed: float = 1.0, kind: str = "g5.xlarge") -> Offer:
    return Offer(f"{kind}/{zone}/{market.value}", "aws", "r", zone, kind, "A10G", 1, market, price, speed)


ON_DEMAND = offer(Market.ON_DEMAND)
SPOT_1 = offer(Market.SPOT, "z1", 0.4)
SPOT_2 = offer(Market.SPOT, "z2", 0.4)
FAST = offer(Market.ON_DEMAND, "z1", 1.9, 2.0, "g6e.xlarge")
OFFERS = (ON_DEMAND, SPOT_1, SPOT_2, FAST)


def tier(name: str, priority: int, percent: float, statistic: str = "mean", target_ms: float = 200.0) -> TierTarget:
    return TierTarget(name, priority, percent, statistic, LatencyOf.WAIT, target_ms)


TIERS = (
    tier("premium", 0, 20),
    tier("standard", 1, 50, "p95", 30_000),
    tier("background", 2, 30, "p100", 7_200_000),
)


def zone(*changes: tuple[float, int]) -> ZoneSeries:
    """Capacity from each time on (seconds after T0); −1: any number."""
    return ZoneSeries(np.array([T0 + at for at, _ in changes]), np.array([to for _, to in changes], np.int64))


def cluster(zones: Mapping[str, ZoneSeries] | None = None, **changes: Any) -> SimulatedCluster:
    site = {
        "service": "images",
        "tiers": TIERS,
        "offers": OFFERS,
        "load_times_s": np.array([LOAD_S]),
        "zones": zones or {},
        "boot_s": BOOT_S,
    }
    outside = {key: changes.pop(key) for key in ("feed", "jobs") if key in changes}
    return SimulatedCluster(Site(**{**site, **changes}), T0, **outside)


def arrivals(*requests: tuple[float, float, int]) -> Arrivals:
    """(seconds after T0, work, tier) each."""
    ordered = sorted(requests, key=lambda request: request[0])
    return Arrivals(
        np.array([T0 + at for at, _, _ in ordered]),
        np.array([float(work) for _, work, _ in ordered]),
        np.array([number for _, _, number in ordered], np.int64),
    )


def start(identifier: str, offer_id: str = ON_DEMAND.id, service: str = "images") -> Action:
    return Action(identifier, ActionKind.START_REPLICA, service, "a test", offer_id)


def release(identifier: str, replica_id: str | None, service: str = "images") -> Action:
    return Action(identifier, ActionKind.RELEASE_REPLICA, service, "a test", None, replica_id)
