"""The embedded cluster, wired from the settings: traces, offers, availability and jobs become one simulated cluster.

Also the hand on it that the demo controls use. Reading files is done here and nowhere below.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from controller.backends.simulated.arrivals import Feed
from controller.backends.simulated.cluster import SimulatedCluster, Site
from controller.backends.simulated.demo_jobs import DemoJobs, runaway_job
from controller.backends.simulated.jobs import JobsSim
from controller.clock import VirtualClock, to_datetime, to_seconds
from controller.core.activity import ActivityLog
from controller.core.types import Envelope, FloatArray, Offer, Series
from controller.replay import count_tenants, minute_loads, recorded, spot_zones, zones_of
from controller.settings import Settings
from controller.sources.base import AvailabilitySeries, InputError, RequestTrace
from controller.sources.offers import OfferProblem, read_offers
from controller.sources.traces import parse_zone_map, read_availability, read_load_times, read_requests

SERVICE = "images"
STATE_FILE = "simulated-cluster.npz"
# Spot series are laid out this far ahead at once; they repeat, so the length only bounds what is held in memory.
_AHEAD_S = 400 * 86400.0


@dataclass(frozen=True, slots=True)
class World:
    """What is simulated, as read from files. `problems`: offers that fail closed, and why."""

    trace: RequestTrace
    offers: tuple[Offer, ...]
    problems: tuple[OfferProblem, ...]
    availability: Mapping[str, AvailabilitySeries]
    zone_map: Mapping[str, str]
    load_times_s: FloatArray
    start_s: float
    warm_from_s: float

    @property
    def trace_start_s(self) -> float:
        """The midnight before the first request."""
        return math.floor(float(self.trace.arrived_s[0]) / 86400) * 86400.0

    @property
    def trace_end_s(self) -> float:
        """The midnight after the last request: the trace is whole days."""
        return math.ceil(float(self.trace.arrived_s[-1]) / 86400) * 86400.0


def read_world(settings: Settings) -> World:
    """Everything the simulation needs. InputError names the file, row and column that can't be used."""
    offers, problems = read_offers(settings.offers)
    if not offers:
        raise InputError(
            str(settings.offers), None, None, "no offer in it can be used", "see the prices and GPU counts"
        )
    availability = read_availability(settings.spot)
    zone_map = {} if settings.spot_zones == "none" else parse_zone_map(settings.spot_zones, availability)
    start_s = to_seconds(settings.start)
    trace = read_requests(settings.requests)
    first_s = float(trace.arrived_s[0])
    if start_s < first_s - 86400:
        problem = f"HEDDLE_START {to_datetime(start_s):%Y-%m-%dT%H:%MZ} is more than a day before its first request"
        nearest = to_datetime(math.ceil(first_s / 3600) * 3600.0)
        raise InputError(
            str(settings.requests), None, None, problem, f"set HEDDLE_START={nearest:%Y-%m-%dT%H:%M:%SZ} or later"
        )
    return World(
        trace=trace,
        offers=offers,
        problems=problems,
        availability=availability,
        zone_map=zone_map,
        load_times_s=read_load_times(settings.load_times),
        start_s=start_s,
        warm_from_s=start_s - settings.warmup_hours * 3600,
    )


def build_cluster(world: World, settings: Settings, envelope: Envelope) -> SimulatedCluster:
    """The cluster as it is before its first request, at `world.warm_from_s`."""
    history = world.trace.window(-math.inf, world.warm_from_s).work_s
    known = len(history) > 1
    zones = spot_zones(
        world.availability,
        world.zone_map,
        zones_of(world.offers),
        world.warm_from_s,
        world.warm_from_s + _AHEAD_S,
        settings.spot_offset_ticks,
    )
    site = Site(
        service=SERVICE,
        tiers=envelope.tiers,
        offers=world.offers,
        load_times_s=world.load_times_s,
        zones=zones,
        boot_s=settings.boot_s,
        seed=settings.seed,
        work_mean_s=float(history.mean()) if known else 30.0,
        work_scv=float(history.var() / history.mean() ** 2) if known else 1.0,
    )
    feed = Feed(recorded(world.trace, envelope), settings.scale, settings.jitter_s, settings.seed, world.trace_end_s)
    jobs = JobsSim(world.offers, world.warm_from_s, stream=DemoJobs(world.start_s, settings.seed, world.offers).between)
    return SimulatedCluster(site, world.warm_from_s, feed=feed, jobs=jobs)


def history(world: World, settings: Settings, envelope: Envelope) -> dict[str, Series]:
    """Minutes of load from the trace's first day until the simulation takes over."""
    first_s = world.trace_start_s
    if first_s >= world.warm_from_s:
        return {}
    feed = Feed(recorded(world.trace, envelope), settings.scale, settings.jitter_s, settings.seed, world.trace_end_s)
    return minute_loads(feed.between(first_s, world.warm_from_s), envelope.tiers, first_s, world.warm_from_s)


def remember_tenants(world: World, settings: Settings, envelope: Envelope, log: ActivityLog) -> None:
    """What tenants did from the trace's first day until the simulation takes over."""
    first_s = math.floor(float(world.trace.arrived_s[0]) / 86400) * 86400.0
    if first_s < world.warm_from_s:
        feed = Feed(
            recorded(world.trace, envelope), settings.scale, settings.jitter_s, settings.seed, world.trace_end_s
        )
        count_tenants(feed.between(first_s, world.warm_from_s), len(envelope.tiers), first_s, world.warm_from_s, log)


def first_fleet(cluster: SimulatedCluster, past: Mapping[str, Series]) -> None:
    """Spot and on-demand are the controller's choice; it finds as many replicas as the last hour kept busy, at
    least one.
    """
    load = sum(float(np.nanmean(series.values[-60:])) for series in past.values() if len(series.values))
    offer = min(cluster.site.offers, key=lambda offer: (offer.market != "on_demand", offer.usd_per_speed_hour))
    for _ in range(max(1, math.ceil(load / offer.speed_ratio))):
        cluster.start(offer.id, ready_at_once=True)


class Demo:
    """Implements `intake.DemoControls` on the embedded cluster. `reset` asks the loop to begin again between two
    ticks.
    """

    def __init__(self, cluster: Callable[[], SimulatedCluster], clock: VirtualClock) -> None:
        self._cluster, self._clock = cluster, clock
        self._runaways = 0
        self.reset_asked = False

    def pause(self) -> None:
        self._clock.pause()

    def resume(self) -> None:
        self._clock.resume()

    def set_speed(self, x: float) -> None:
        self._clock.set_speed(x)

    def surge(self, factor: float, minutes: float, now_s: float) -> None:
        self._cluster().surge(factor, minutes * 60)

    def lose_zone(self, zone: str, minutes: float, now_s: float) -> None:
        self._cluster().lose_zone(zone, minutes * 60)

    def start_runaway(self, now_s: float) -> None:
        cluster = self._cluster()
        taken = {job.id for job in cluster.job_views()}
        for number in range(self._runaways + 1, 400):
            spec = runaway_job(now_s, number, cluster.site.offers)
            if spec.id not in taken:
                self._runaways = number
                cluster.submit(spec)
                return
        raise ValueError("every number for a runaway is taken: reset the demo")

    def reset(self) -> None:
        self.reset_asked = True
