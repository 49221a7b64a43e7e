"""The feasible clairvoyant with tiers, markets and a cap: what to hold where, knowing all arrivals and all losses.

How much: the linear program of `controller.core.bound` with the tiers' work, in which a tier that may wait for minutes
fills valleys before its deadline and the dollars of each hour stay below the cap; plus b·√concurrency of the others.
Where: each replica's worth of it, for as long as it is needed, on spot of the zone that stays up longest of those that
have been up for a start, moved before the notice of its loss; on demand where no zone is up for long enough. A feasible
schedule, not a bound: its caller simulates it and looks for the cheapest b that attains the targets.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from controller.core.policies.clairvoyant import IntArray, held

# Spot is not worth a start for less than ten minutes.
SHORTEST_STAY_S = 600.0


@dataclass(frozen=True, slots=True)
class Markets:
    """By tick of step_s: `up[zone]` bool[ticks], can spot of the zone be held; offer ids of spot by zone and of on
    demand, whose replicas are `speed` times as fast as spot's. `start_s`: the longest start; `notice_s` before a loss.
    """

    up: Mapping[str, npt.NDArray[np.bool_]]
    spot_ids: Mapping[str, str]
    on_demand_id: str
    speed: float
    step_s: float
    start_s: float
    notice_s: float


def assigned(level: IntArray, markets: Markets, lead_slots: int, first: int) -> dict[str, IntArray]:
    """Ready replicas of each offer by tick that together are worth `level` reference GPUs. `first`: on-demand replicas
    that are there before.
    """
    ticks = len(level)
    serving = {offer_id: np.zeros(ticks, np.int64) for offer_id in markets.spot_ids.values()}
    behind = np.zeros(ticks, np.int64)
    best, until, again = _longest(markets, ticks)
    for k in range(1, int(level.max(initial=0)) + 1):
        change = np.diff(np.concatenate([[0], (level >= k).astype(np.int64), [0]]))
        for begin, end in zip(np.flatnonzero(change == 1), np.flatnonzero(change == -1), strict=True):
            at = int(begin)
            while at < end:
                if best[at]:
                    to = min(int(end), int(until[at]))
                    serving[markets.spot_ids[best[at]]][at:to] += 1
                else:
                    to = min(int(end), int(again[at]))
                    behind[at:to] += 1
                at = to
    on_demand = np.ceil(behind / markets.speed - 1e-9).astype(np.int64)
    return serving | {markets.on_demand_id: held(on_demand, first, lead_slots)}


def _longest(markets: Markets, ticks: int) -> tuple[list[str], IntArray, IntArray]:
    """At each tick the zone to be in ("": none), until when, and when there is one again."""
    zones = list(markets.up)
    number = np.arange(ticks)
    best, until = [""] * ticks, np.zeros(ticks, np.int64)
    for zone in zones:
        up = markets.up[zone]
        # The last tick before each at which it was down, and the first after at which it will be.
        since = np.maximum.accumulate(np.where(up, -1, number))
        falls = np.minimum.accumulate(np.where(up, ticks, number)[::-1])[::-1]
        leaves = np.where(falls < ticks, falls - int(np.ceil(markets.notice_s / markets.step_s)) - 1, ticks)
        fit = (number - since > markets.start_s / markets.step_s + 1) & up
        fit &= ((leaves - number) * markets.step_s >= SHORTEST_STAY_S) | (leaves == ticks)
        better = fit & (leaves > until)
        until = np.where(better, leaves, until)
        for tick in np.flatnonzero(better).tolist():
            best[tick] = zone
    free = np.array([bool(zone) for zone in best])
    again = np.minimum.accumulate(np.where(free, number, ticks)[::-1])[::-1]
    return best, until, again.astype(np.int64)
