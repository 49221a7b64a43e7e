"""The same loop as fast as it can go: a recorded trace through the simulated cluster, under any policy.

Used by the command line, by benchmarks and by what-if runs. Conventions, so that a figure means the same
for every policy: each recorded request becomes `scale` copies jittered by ±jitter_s; every policy starts with the
same fleet, as many on-demand replicas of the cheapest offer per unit of speed as the mean load of history's last
hour, ready and billed from 0; after the window the loop goes on, billed, until every request has finished. Seconds
in results count from the start of the window.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from controller.backends.base import ClusterState
from controller.backends.simulated import kernel
from controller.backends.simulated.activity import ActivityMeter
from controller.backends.simulated.arrivals import Arrivals, Recorded, joined, replicate
from controller.backends.simulated.cluster import SimulatedCluster, Site, model_loads_s, replica_id
from controller.backends.simulated.engine import ZoneSeries
from controller.clairvoyance import SPARES, attains, carry_out, smallest
from controller.core.activity import BIN_S, ActivityLog
from controller.core.bound import NoSchedule, Waiting, lower_bound
from controller.core.envelope import measure
from controller.core.finance import cheapest_per_speed, hourly_spend
from controller.core.forecast.base import MINUTE_GRID, TEN_MINUTE_GRID
from controller.core.forecast.lead import LEAST_BINS
from controller.core.policies.base import Paced
from controller.core.policies.clairvoyant import Schedule, concurrency, held, one_pool, scheduled
from controller.core.policies.clairvoyant_markets import Markets, assigned
from controller.core.types import (
    ActionResult,
    Authority,
    Envelope,
    FloatArray,
    Forecast,
    Observation,
    Offer,
    Override,
    Plan,
    Series,
    TierTarget,
)
from controller.forecaster import Forecaster
from controller.observe import MINUTE_S, Demand, Observer, OfferBook
from controller.reconcile import Ports, reconcile
from controller.replay_policies import REGISTRY, PolicyContext, make_policy
from controller.sources.base import AvailabilitySeries, RequestTrace
from models.enums import LatencyOf, Market, Mode

POLICIES = tuple(REGISTRY)
SERVICE = "images"
NOTICE_S = 120.0
# Where a queue never empties (a fleet capped far below its load), the drain ends here and the rest is reported as
# unfinished.
LONGEST_DRAIN_S = 14 * 86400.0
# The clairvoyant lets a tier with a longest wait use so much of it, and plans for so much of the cap: its fluid
# schedule knows no whole replicas.
PATIENCE, CAP_USED = 0.85, 0.9


@dataclass(frozen=True, slots=True)
class ReplaySpec:
    """What to replay. Times are seconds since the Unix epoch; `zones` is spot capacity by zone of the offers.

    `policy`: a name of `replay_policies`, with parameters if any. `tick_s` is for those without a cadence of
    their own.
    """

    requests: RequestTrace
    history: RequestTrace | None
    from_s: float
    to_s: float
    policy: str
    envelope: Envelope
    offers: tuple[Offer, ...]
    load_times_s: FloatArray
    zones: Mapping[str, ZoneSeries]
    scale: int = 20
    jitter_s: float = 300.0
    boot_s: float = 180.0
    tick_s: float = 15.0
    seed: int = 1


@dataclass(frozen=True, slots=True)
class TierResult:
    """A tier's waits in seconds, from arrival to the start of the attempt that finished. None: it had no request."""

    requests: int
    wait_mean_s: float | None
    wait_p50_s: float | None
    wait_p95_s: float | None
    wait_p99_s: float | None
    wait_max_s: float | None
    target_met: bool | None


@dataclass(frozen=True, slots=True)
class Summary:
    """What a replay cost and how long requests waited. `window`: ISO times; ratios are of clock hours, None without
    a cap.
    """

    policy: str
    window: tuple[str, str]
    seed: int
    scale: int
    requests: int
    requests_skipped: int
    unfinished: int
    gpu_hours: float
    cost_usd: float
    interrupted: int
    preempted: int
    starts: int
    stops: int
    peak_replicas: int
    hours_within_cap_ratio: float | None
    costliest_hour_usd: float
    tiers: Mapping[str, TierResult]


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """`replicas` and `requests` are the tables of the same-named files, seconds counted from the window's start;
    `hourly_usd` the dollars of each clock hour from there, the drain's too.
    """

    summary: Summary
    replicas: pd.DataFrame
    requests: pd.DataFrame
    hourly_usd: FloatArray

    def write(self, folder: Path) -> None:
        """summary.json, replicas.csv and requests.csv, each put in place whole."""
        folder.mkdir(parents=True, exist_ok=True)
        self.replicas.to_csv(folder / "replicas.csv.part", index=False, float_format="%.6f")
        self.requests.to_csv(folder / "requests.csv.part", index=False, float_format="%.6f")
        (folder / "summary.json.part").write_text(json.dumps(asdict(self.summary), indent=2) + "\n")
        for name in ("replicas.csv", "requests.csv", "summary.json"):
            (folder / f"{name}.part").replace(folder / name)


class Unrecorded:
    """The record of a replay: the envelope, plan numbers, and nothing kept."""

    def __init__(self, envelope: Envelope) -> None:
        self._envelope, self._plans = envelope, 0

    def envelope(self) -> Envelope:
        return self._envelope

    def overrides(self, now_s: float) -> tuple[Override, ...]:
        return ()

    def mode(self) -> Mode:
        return Mode.ACT

    def authority(self) -> Authority:
        return Authority()

    def next_plan_id(self) -> str:
        self._plans += 1
        return f"p-{self._plans:06d}"

    def plan(self, plan: Plan, seen: Observation) -> None:
        pass

    def results(self, plan: Plan, results: Sequence[ActionResult], seen: Observation) -> None:
        pass

    def observed(self, state: ClusterState, seen: Observation, observer: Observer) -> None:
        pass


class FittedInPlace:
    """Forecasts whose fits run in the loop when they fall due: a replay has nobody to keep waiting."""

    def __init__(self, forecaster: Forecaster) -> None:
        self._forecaster = forecaster

    def forecast(self, service: str, loads: Mapping[str, Series], now_s: float) -> Mapping[tuple[str, float], Forecast]:
        due = self._forecaster.refit_due(service, now_s)
        if due is not None:
            self._forecaster.refit(service, loads, now_s, due)
        return self._forecaster.forecast(service, loads, now_s)


def recorded(trace: RequestTrace, envelope: Envelope) -> Recorded:
    """The trace with each request's tier by its tenant."""
    tier = trace.tier_index(envelope.tiers, envelope.tier_salt).astype(np.int64)
    return Recorded(trace.arrived_s, trace.work_s, tier, trace.tenant.astype(np.int64))


def minute_loads(arrivals: Arrivals, tiers: Sequence[TierTarget], from_s: float, to_s: float) -> dict[str, Series]:
    """Offered load of each tier in the whole minutes of [from_s, to_s)."""
    first, count = (
        math.ceil(from_s / MINUTE_S) * MINUTE_S,
        int((to_s - math.ceil(from_s / MINUTE_S) * MINUTE_S) // MINUTE_S),
    )
    minute = ((arrivals.arrived_s - first) // MINUTE_S).astype(np.int64)
    inside = (minute >= 0) & (minute < count)
    cell = arrivals.tier[inside] * max(count, 1) + minute[inside]
    work = np.bincount(cell, weights=arrivals.work_s[inside], minlength=len(tiers) * max(count, 1))
    loads = work.reshape(len(tiers), -1)[:, :count] / MINUTE_S
    return {tier.name: Series(first, MINUTE_S, loads[i]) for i, tier in enumerate(tiers)}


def spot_zones(
    series: Mapping[str, AvailabilitySeries],
    zone_map: Mapping[str, str],
    zones: Sequence[str],
    from_s: float,
    to_s: float,
    offset_ticks: int = 0,
    origin_s: float | None = None,
) -> dict[str, ZoneSeries]:
    """Spot capacity by zone of the offers over [from_s, to_s): tick `offset_ticks` of each series begins at origin_s,
    which is from_s unless said.
    A zone named in neither map nor series has none: it is always available.
    """
    found = {}
    for zone in zones:
        source = series.get(zone_map.get(zone, zone))
        if source is not None:
            times, capacity = source.changes_between(
                from_s, to_s, offset_ticks, from_s if origin_s is None else origin_s
            )
            found[zone] = ZoneSeries(times, capacity)
    return found


def zones_of(offers: Sequence[Offer]) -> tuple[str, ...]:
    """The zones in which spot is offered."""
    return tuple(sorted({offer.zone for offer in offers if offer.market is Market.SPOT}))


def run_replay(spec: ReplaySpec, progress: Callable[[float], None] = lambda done: None) -> ReplayResult:
    """Replay and sum up. ValueError where there is nothing to replay or to buy, PolicyError for an unknown policy.
    `progress` gets 0…1.
    """
    window = spec.requests.window(spec.from_s, spec.to_s)
    if not len(window):
        raise ValueError("no request arrives in the window: check --from and --to")
    past = past_loads(spec)
    arrivals = replicate(recorded(window, spec.envelope), spec.scale, spec.jitter_s, spec.seed, spec.from_s, spec.to_s)

    def foreseen() -> Mapping[str, object]:
        schedule, fifo = _cheapest_schedule(spec, arrivals, past)
        return {"schedule": schedule, "fifo": fifo}

    policy = make_policy(spec.policy, PolicyContext(past, spec, arrivals, foreseen))
    tick_s = policy.tick_s if isinstance(policy, Paced) else spec.tick_s
    cluster = _cluster(spec, policy.fifo, arrivals, past)
    tiers = spec.envelope.tiers
    demand, activity = Demand([tier.name for tier in tiers]), ActivityLog(len(tiers))
    if past:
        demand.load(past)
        remember_tenants(spec, activity)
    ports = Ports(
        backend=cluster,
        telemetry=cluster,
        work=cluster.work,
        record=Unrecorded(spec.envelope),
        forecasts=FittedInPlace(Forecaster(_grids(activity))),
        observer=Observer(
            SERVICE,
            OfferBook(spec.offers),
            demand,
            spec.boot_s,
            float(np.percentile(spec.load_times_s, 90)),
            read_latencies=False,
            activity=activity,
        ),
        policy=policy,
    )
    now_s = spec.from_s
    while now_s < spec.to_s or (cluster.engine.unfinished and now_s < spec.to_s + LONGEST_DRAIN_S):
        reconcile(now_s, ports)
        progress(min(1.0, (now_s - spec.from_s) / (spec.to_s - spec.from_s)))
        now_s += tick_s
    cluster.advance(now_s)
    progress(1.0)
    return sum_up(spec, cluster, now_s, window.skipped)


def _grids(activity: ActivityLog) -> tuple[tuple[float, int], ...]:
    """The grids that are forecast. What comes within the lead time is learned from activity, where there is enough of
    it; the minutes are forecast where there is not.
    """
    known = activity.read()
    enough = known is not None and int(known.known.sum()) >= 2 * LEAST_BINS
    return (TEN_MINUTE_GRID,) if enough else (MINUTE_GRID, TEN_MINUTE_GRID)


def clairvoyant_limit(spec: ReplaySpec, draws: int = 0) -> ReplayResult:
    """What `run_replay` gives under the clairvoyant policy, without the loop around it: for fleets of hundreds.

    With `draws` it knows the rate alone (one tier on demand): the mean concurrency of so many other draws of the
    jitter, not when a request really comes.
    """
    window = spec.requests.window(spec.from_s, spec.to_s)
    past = past_loads(spec)
    arrivals = replicate(recorded(window, spec.envelope), spec.scale, spec.jitter_s, spec.seed, spec.from_s, spec.to_s)
    schedule, fifo = _cheapest_schedule(spec, arrivals, past, draws)
    cluster = _cluster(spec, fifo, arrivals, past)
    end_s = carry_out(cluster, schedule, spec.from_s, spec.to_s, LONGEST_DRAIN_S)
    return sum_up(spec, cluster, end_s, window.skipped)


def _cheapest_schedule(
    spec: ReplaySpec, arrivals: Arrivals, past: Mapping[str, Series], draws: int = 0
) -> tuple[Schedule, bool]:
    """The clairvoyant's schedule with the smallest b that attains every target, and whether its queue is one for all
    tiers; where no b does, with the largest that was tried, and the summary says what it missed.

    One tier on demand without a cap is one pool; else tiers, markets and the cap are known as well. The cap bounds the
    fluid schedule; whether every hour kept it is for the summary to say.
    """
    offer = cheapest_per_speed(list(spec.offers), Market.ON_DEMAND)
    if offer is None:
        raise ValueError("no on-demand offer with a known price: nothing to start with")
    one = len(spec.envelope.tiers) == 1 and spec.envelope.spend_cap_usd_per_hour is None and not zones_of(spec.offers)
    cluster = _cluster(spec, one, arrivals, past)
    first = cluster.engine.replicas

    def loads_s(count: int) -> FloatArray:
        return model_loads_s(cluster.site, np.arange(first, first + count))

    minutes = math.ceil((max(spec.to_s, float(arrivals.arrived_s[-1])) - spec.from_s) / MINUTE_S) + 180
    ticks = math.ceil(minutes * MINUTE_S / spec.tick_s)
    level = concurrency(arrivals.arrived_s, arrivals.work_s / offer.speed_ratio, spec.from_s, spec.tick_s, ticks)
    if draws:
        others = [_drawn(spec, spec.seed + 1000 + number) for number in range(draws)]
        work_s = [other.work_s / offer.speed_ratio for other in others]
        levels = [
            concurrency(other.arrived_s, work, spec.from_s, spec.tick_s, ticks)
            for other, work in zip(others, work_s, strict=True)
        ]
        level = np.mean(levels, axis=0)
    known = None if one else _markets(spec, arrivals, offer, minutes, ticks)

    def schedule(b: float) -> Schedule:
        if known is None:
            return one_pool(level, b, offer.id, first, loads_s, spec.boot_s, spec.from_s, spec.tick_s)
        fluid, urgent, markets = known
        lead_slots = math.ceil((spec.boot_s + float(spec.load_times_s.mean())) / spec.tick_s)
        wanted = np.maximum(1, np.ceil(fluid + b * np.sqrt(urgent) - 1e-6)).astype(np.int64)
        smooth = held(wanted, math.ceil(first * offer.speed_ratio), lead_slots)
        serving = assigned(smooth, markets, lead_slots, first)
        label = f"fluid schedule {b:+.2f}·√concurrency"
        return scheduled(serving, {offer.id: first}, loads_s, spec.boot_s, spec.from_s, spec.tick_s, label)

    def passes(b: float) -> bool:
        trial = _cluster(spec, one, arrivals, past)
        carry_out(trial, schedule(b), spec.from_s, spec.to_s, LONGEST_DRAIN_S)
        return attains(trial)

    b = smallest(SPARES, passes)
    return schedule(SPARES[-1] if b is None else b), one


def _drawn(spec: ReplaySpec, seed: int) -> Arrivals:
    """The window's requests under another draw of the jitter."""
    window = spec.requests.window(spec.from_s, spec.to_s)
    return replicate(recorded(window, spec.envelope), spec.scale, spec.jitter_s, seed, spec.from_s, spec.to_s)


def _markets(
    spec: ReplaySpec, arrivals: Arrivals, offer: Offer, minutes: int, ticks: int
) -> tuple[FloatArray, FloatArray, Markets]:
    """The fluid schedule by tick, the concurrency of the tiers that don't wait, and where spot can be held when."""
    at_s = spec.from_s + spec.tick_s * np.arange(ticks)
    spot = {o.zone: o for o in sorted(spec.offers, key=lambda o: -o.usd_per_speed_hour) if o.market is Market.SPOT}
    up = {}
    for zone in spot:
        series = spec.zones.get(zone)
        up[zone] = np.ones(ticks, np.bool_)
        if series is not None:
            before = np.searchsorted(series.change_s, at_s, side="right") - 1
            up[zone] = (before < 0) | (series.capacity[np.maximum(before, 0)] != 0)
    some = np.any(list(up.values()), axis=0) if up else np.zeros(ticks, np.bool_)
    minute = np.minimum((np.arange(minutes) * MINUTE_S / spec.tick_s).astype(np.int64), ticks - 1)
    cheapest = min((o.usd_per_speed_hour for o in spot.values()), default=math.inf)
    price = np.where(some[minute], min(cheapest, offer.usd_per_speed_hour), offer.usd_per_speed_hour)
    longest_s = [tier.target_ms / 1000 if tier.statistic == "p100" else 0.0 for tier in spec.envelope.tiers]
    slack_s = np.array([max(0.0, PATIENCE * wait - MINUTE_S) for wait in longest_s])
    classes = [
        Waiting(arrivals.arrived_s[mine], arrivals.work_s[mine], float(slack))
        for slack in np.unique(slack_s)
        if (mine := slack_s[arrivals.tier] == slack).any()
    ]
    lead_s = spec.boot_s + float(spec.load_times_s.mean())
    cap = spec.envelope.spend_cap_usd_per_hour
    try:
        bound = lower_bound(classes, price, lead_s, spec.from_s, MINUTE_S, 0, None if cap is None else CAP_USED * cap)
    except NoSchedule:
        bound = lower_bound(classes, price, lead_s, spec.from_s, MINUTE_S)
    urgent = slack_s[arrivals.tier] == 0
    level = concurrency(arrivals.arrived_s[urgent], arrivals.work_s[urgent], spec.from_s, spec.tick_s, ticks)
    fluid = bound.serving[np.minimum((np.arange(ticks) * spec.tick_s / MINUTE_S).astype(np.int64), minutes - 1)]
    ids = {zone: o.id for zone, o in spot.items()}
    start_s = spec.boot_s + float(spec.load_times_s.max())
    return fluid, level, Markets(up, ids, offer.id, offer.speed_ratio, spec.tick_s, start_s, NOTICE_S)


def _cluster(spec: ReplaySpec, fifo: bool, arrivals: Arrivals, past: Mapping[str, Series]) -> SimulatedCluster:
    """The cluster at the window's start: the requests to come and the first fleet."""
    mean_s, scv = past_work(spec)
    site = Site(
        service=SERVICE,
        tiers=spec.envelope.tiers,
        offers=spec.offers,
        load_times_s=spec.load_times_s,
        zones=spec.zones,
        boot_s=spec.boot_s,
        seed=spec.seed,
        fifo=fifo,
        work_mean_s=mean_s,
        work_scv=scv,
        notice_s=NOTICE_S,
    )
    cluster = SimulatedCluster(site, spec.from_s, measure_waits=False)
    cluster.engine.expect(arrivals)
    first_fleet(cluster, spec, past)
    return cluster


def past_loads(spec: ReplaySpec) -> dict[str, Series]:
    """Minutes of load before the window, from the history file and what precedes the window in the requests."""
    parts = _past(spec)
    if not parts:
        return {}
    first_s = math.floor(min(float(part.arrived_s[0]) for part in parts) / 3600) * 3600.0
    loads: dict[str, Series] = {}
    for number, part in enumerate(parts):
        copies = replicate(
            recorded(part, spec.envelope), spec.scale, spec.jitter_s, spec.seed + number, first_s, spec.from_s
        )
        for tier, series in minute_loads(copies, spec.envelope.tiers, first_s, spec.from_s).items():
            before = loads.get(tier)
            values = series.values if before is None else series.values + before.values
            loads[tier] = Series(series.start_s, series.step_s, values)
    ends_s, goes_on_s = _unmeasured(spec, parts)
    for series in loads.values():
        minutes = series.start_s + series.step_s * np.arange(len(series.values))
        series.values[(minutes >= ends_s) & (minutes + series.step_s <= goes_on_s)] = np.nan
    return loads


def count_tenants(
    arrivals: Arrivals, tiers: int, from_s: float, to_s: float, log: ActivityLog, gap: tuple[float, float] = (0.0, 0.0)
) -> None:
    """Adds what tenants did in [from_s, to_s), counted as the cluster does; in the `gap` nobody measured."""
    tenant = np.full(len(arrivals), -1, np.int64) if arrivals.tenant is None else arrivals.tenant
    values = ActivityMeter(tiers, from_s).count(arrivals.arrived_s, arrivals.tier, tenant, to_s)
    bins_s = from_s + BIN_S * np.arange(values.shape[2])
    log.add(from_s, values, (bins_s < gap[0]) | (bins_s + BIN_S > gap[1]))


def remember_tenants(spec: ReplaySpec, log: ActivityLog) -> None:
    """What tenants did before the window."""
    parts = _past(spec)
    first_s = math.floor(min(float(part.arrived_s[0]) for part in parts) / 3600) * 3600.0
    copies = [
        replicate(recorded(part, spec.envelope), spec.scale, spec.jitter_s, spec.seed + number, first_s, spec.from_s)
        for number, part in enumerate(parts)
    ]
    count_tenants(joined(copies), len(spec.envelope.tiers), first_s, spec.from_s, log, _unmeasured(spec, parts))


def _past(spec: ReplaySpec) -> list[RequestTrace]:
    """What is known of before the window, oldest first: the history file as far as the requests do not reach back."""
    parts = [spec.requests.window(-math.inf, spec.from_s)]
    if spec.history is not None:
        parts.insert(0, spec.history.window(-math.inf, min(spec.from_s, float(spec.requests.arrived_s[0]))))
    return [part for part in parts if len(part)]


def _unmeasured(spec: ReplaySpec, parts: Sequence[RequestTrace]) -> tuple[float, float]:
    """From when until when nobody measured; an empty interval where all was.

    It is what lies between the history file's last request and what follows it, if that is more than an hour: a quiet
    hour inside a file is quiet.
    """
    if spec.history is None or not parts:
        return 0.0, 0.0
    ends_s = float(parts[0].arrived_s[-1])
    goes_on_s = float(parts[1].arrived_s[0]) if len(parts) > 1 else spec.from_s
    return (ends_s, goes_on_s) if goes_on_s - ends_s > 3600.0 else (0.0, 0.0)


def past_work(spec: ReplaySpec) -> tuple[float, float]:
    """Mean execution seconds and squared coefficient of variation of history; of nothing known, 30 s and 1."""
    work = np.concatenate([np.empty(0), *(part.work_s for part in _past(spec))])
    return (30.0, 1.0) if len(work) < 2 else (float(work.mean()), float(work.var() / work.mean() ** 2))


def first_fleet(cluster: SimulatedCluster, spec: ReplaySpec, past: Mapping[str, Series]) -> None:
    """What every policy starts with, see above. ValueError where nothing is sold on demand."""
    offer = cheapest_per_speed(list(spec.offers), Market.ON_DEMAND)
    if offer is None:
        raise ValueError("no on-demand offer with a known price: nothing to start with")
    mean = sum(float(np.nan_to_num(series.values[-60:]).mean()) for series in past.values() if len(series.values))
    for _ in range(max(1, math.ceil(mean / offer.speed_ratio - 1e-9))):
        cluster.start(offer.id, ready_at_once=True)


def sum_up(spec: ReplaySpec, cluster: SimulatedCluster, end_s: float, skipped: int) -> ReplayResult:
    """The figures of a cluster that ran from the window's start to end_s; what still runs is billed until then."""
    replicas = _replica_table(spec, cluster, end_s)
    requests = _request_table(spec, cluster)
    hours = np.arange(0.0, max(end_s - spec.from_s, 3600.0), 3600.0)
    span_h = np.maximum((replicas["released_s"] - replicas["requested_s"]).to_numpy(np.float64) / 3600, 1e-12)
    rate = replicas["cost_usd"].to_numpy(np.float64) / span_h
    spend = hourly_spend(
        replicas["requested_s"].to_numpy(np.float64), replicas["released_s"].to_numpy(np.float64), rate, hours
    )
    cap = spec.envelope.spend_cap_usd_per_hour
    count = cluster.engine.a.counts
    summary = Summary(
        policy=spec.policy,
        window=(iso(spec.from_s), iso(spec.to_s)),
        seed=spec.seed,
        scale=spec.scale,
        requests=len(requests),
        requests_skipped=skipped,
        unfinished=int(requests["finished_s"].isna().sum()),
        gpu_hours=float((replicas["released_s"] - replicas["requested_s"]).sum() / 3600),
        cost_usd=float(replicas["cost_usd"].sum()),
        interrupted=int(count[kernel.INTERRUPTED]),
        preempted=int(count[kernel.PREEMPTED]),
        # All but the first fleet, which is there and ready at 0; the first tick starts at 0 as well.
        starts=int((replicas["ready_s"] != 0).sum()),
        stops=int((replicas["released_s"] < end_s - spec.from_s).sum()),
        peak_replicas=_peak(replicas),
        hours_within_cap_ratio=None if cap is None else float((spend <= cap + 1e-6).mean()),
        costliest_hour_usd=float(spend.max()),
        tiers={tier.name: _tier_result(requests, tier) for tier in spec.envelope.tiers},
    )
    return ReplayResult(summary, replicas, requests, spend)


def _peak(replicas: pd.DataFrame) -> int:
    """The most replicas that were billed at once; one that goes when another comes counts once."""
    asked, gone = (np.sort(replicas[name].to_numpy(np.float64)) for name in ("requested_s", "released_s"))
    return int((np.arange(1, len(asked) + 1) - np.searchsorted(gone, asked, side="right")).max(initial=0))


def _replica_table(spec: ReplaySpec, cluster: SimulatedCluster, end_s: float) -> pd.DataFrame:
    rows = cluster.engine.a.replica[: cluster.engine.replicas]
    released = np.where(np.isnan(rows["ended"]), end_s, rows["ended"])
    price = np.array([offer.price_usd_per_hour for offer in spec.offers])[rows["offer"]]
    names = np.array([offer.id for offer in spec.offers], dtype=object)
    return pd.DataFrame(
        {
            "replica_id": [replica_id(number) for number in range(len(rows))],
            "offer": names[rows["offer"]],
            "requested_s": rows["requested"] - spec.from_s,
            "ready_s": np.where(rows["ready"] > end_s, np.nan, rows["ready"]) - spec.from_s,
            "released_s": released - spec.from_s,
            "cost_usd": (released - rows["requested"]) / 3600 * price,
        }
    )


def _request_table(spec: ReplaySpec, cluster: SimulatedCluster) -> pd.DataFrame:
    rows = cluster.engine.a.request[: cluster.engine.requests]
    names = np.array([tier.name for tier in spec.envelope.tiers], dtype=object)
    identifiers = np.array([*(replica_id(n) for n in range(cluster.engine.replicas)), ""], dtype=object)
    return pd.DataFrame(
        {
            "tier": names[rows["tier"]],
            "arrived_s": rows["arrived"] - spec.from_s,
            "started_s": rows["started"] - spec.from_s,
            "finished_s": rows["finished"] - spec.from_s,
            "replica_id": identifiers[rows["replica"]],
            "attempts": rows["attempts"],
        }
    )


def _tier_result(requests: pd.DataFrame, tier: TierTarget) -> TierResult:
    mine = requests[requests["tier"] == tier.name]
    if not len(mine):
        return TierResult(0, None, None, None, None, None, None)
    wait = (mine["started_s"] - mine["arrived_s"]).to_numpy(np.float64)
    of = wait if tier.of is LatencyOf.WAIT else (mine["finished_s"] - mine["arrived_s"]).to_numpy(np.float64)
    # One that never started has no wait to count; the target can't be called met with it.
    measured = measure(tier.statistic, of[np.isfinite(of)])
    met = bool(np.isfinite(of).all() and measured is not None and measured * 1000 <= tier.target_ms)
    wait = wait[np.isfinite(wait)]
    if not len(wait):
        return TierResult(len(mine), None, None, None, None, None, False)
    p50, p95, p99 = (float(value) for value in np.percentile(wait, [50, 95, 99]))
    return TierResult(len(mine), float(wait.mean()), p50, p95, p99, float(wait.max()), met)


def iso(at_s: float) -> str:
    """An epoch time as a summary writes it."""
    return pd.Timestamp(at_s, unit="s", tz="UTC").strftime("%Y-%m-%dT%H:%M:%SZ")
