"""What a clairvoyant replay knows, and the search for its cheapest schedule that attains every target.

Trials carry a schedule out on the same cluster as a replay, tick by tick, without the loop around it: nothing has to
be observed that is known already. `controller.core.policies.clairvoyant.Clairvoyant` in the loop does the same
to the same cluster.
"""

from collections.abc import Callable, Sequence

import numpy as np

from controller.backends.simulated import kernel
from controller.backends.simulated.cluster import SimulatedCluster
from controller.core.envelope import measure
from controller.core.policies.clairvoyant import Schedule
from models.enums import LatencyOf

# The b that are tried, by bisection: the cheapest that attains lies within one step.
SPARES = tuple(round(0.05 * step, 2) for step in range(-50, 51))


def carry_out(cluster: SimulatedCluster, schedule: Schedule, from_s: float, to_s: float, longest_s: float) -> float:
    """Start and release as scheduled until the window is over and nobody waits or runs, longest_s after it at the
    latest; when it ended.
    """
    engine = cluster.engine
    offers = {offer.id: index for index, offer in enumerate(cluster.site.offers)}
    tick, now_s = 0, from_s
    while now_s < to_s or (engine.unfinished and now_s < to_s + longest_s):
        engine.advance(now_s)
        engine.take_log()
        live = engine.live()
        rows = engine.a.replica[live]
        fit = rows["gone"] == np.inf
        ready = fit & ((rows["state"] == kernel.IDLE) | (rows["state"] == kernel.BUSY))
        for offer_id in schedule.starts[tick] if tick < len(schedule.starts) else ():
            cluster.start(offer_id)
        for offer_id, counts in schedule.serving.items():
            mine = np.flatnonzero(ready & (rows["offer"] == offers[offer_id]))
            surplus = len(mine) - int(counts[min(tick, len(counts) - 1)])
            if surplus > 0:
                order = np.lexsort((-rows["requested"][mine], rows["state"][mine] == kernel.BUSY))
                for index in mine[order[:surplus]]:
                    engine.release(int(live[index]))
        tick += 1
        now_s = from_s + tick * schedule.step_s
    engine.advance(now_s)
    return now_s


def attains(cluster: SimulatedCluster) -> bool:
    """Is every tier's statistic, over all that it asked for, within its target?"""
    rows = cluster.engine.a.request[: cluster.engine.requests]
    for index, tier in enumerate(cluster.site.tiers):
        mine = rows[rows["tier"] == index]
        seconds = mine["started" if tier.of is LatencyOf.WAIT else "finished"] - mine["arrived"]
        value = measure(tier.statistic, seconds)
        if len(mine) and (value is None or not np.isfinite(seconds).all() or value * 1000 > tier.target_ms):
            return False
    return True


def smallest(variants: Sequence[float], passes: Callable[[float], bool]) -> float | None:
    """The first of ascending variants that passes, where all after one that passes do; None where none does.

    Bisection: about log2(n) + 1 trials.
    """
    if not passes(variants[-1]):
        return None
    low, high = -1, len(variants) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(variants[middle]) else (middle, high)
    return variants[high]
