"""How a run begins: with the hours before the start simulated, or with the minutes that the tables remember."""

import logging
from collections.abc import Callable
from time import perf_counter

import numpy as np

from controller import embedded
from controller.core.types import Envelope, Series
from controller.embedded import SERVICE
from controller.reconcile import reconcile
from controller.wiring import House, Loop

log = logging.getLogger(__name__)

_BATCH_S = 900.0
_SAY_EVERY_H = 4


class Interrupted(Exception):
    """The process was told to stop before the first hours were done."""


def resume_demand(house: House, loop: Loop, envelope: Envelope, now_s: float) -> None:
    """Minutes of the time before the restart, and what forecasts had learned, from the tables."""
    first_s = house.world.warm_from_s
    tiers = {tier.name: house.store.load_series(SERVICE, tier.name, first_s, now_s) for tier in envelope.tiers}
    past = embedded.history(house.world, house.settings, envelope)
    if past:
        tiers = {
            name: Series(past[name].start_s, 60.0, np.concatenate([past[name].values, series.values]))
            for name, series in tiers.items()
        }
    loop.ports.observer.demand.load(tiers)
    loop.forecast_record.restore(now_s)


def warm_up(
    house: House, loop: Loop, envelope: Envelope, *, renew: Callable[[], None], stopping: Callable[[], bool]
) -> None:
    """Run the loop over the hours before the start as fast as it goes, so that the pages open on a fleet with a
    past. Raises Interrupted.
    """
    world, settings, store = house.world, house.settings, house.store
    past = embedded.history(world, settings, envelope)
    # Recorded load before the simulated hours, for the charts: ten-minute rows, as older telemetry is kept.
    store.record_history(SERVICE, past)
    log.info("fitting the first forecasts and preparing the simulation (longest on the very first start)")
    embedded.first_fleet(loop.cluster, past)
    said = loop.forecaster.refit(SERVICE, loop.ports.observer.demand.series(), world.warm_from_s)
    loop.forecast_record.fitted(said, world.warm_from_s)
    hours = int((world.start_s - world.warm_from_s) // 3600)
    now_s, guard_s, began = world.warm_from_s, world.warm_from_s, perf_counter()
    while now_s < world.start_s:
        # One long write after the other would starve a renewal in another thread: it is done between the batches.
        renew()
        batch_ends_s = min(now_s + _BATCH_S, world.start_s)
        with store.batch():
            while now_s < batch_ends_s:
                while guard_s <= now_s:
                    loop.cluster.advance(guard_s)
                    loop.guard.check(guard_s)
                    guard_s += settings.guard_s
                reconcile(now_s, loop.ports)
                now_s += settings.tick_s
        if stopping():
            raise Interrupted
        done_h = (now_s - world.warm_from_s) / 3600
        if done_h % _SAY_EVERY_H < _BATCH_S / 3600:
            log.info(
                "simulating the %d h before the start, %.0f h done in %.0f s", hours, done_h, perf_counter() - began
            )
