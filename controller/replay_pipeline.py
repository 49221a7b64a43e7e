"""A replay of a whole chain of services: each by its class's policy, one cap for all, judged end to end.

The conventions are those of `replay`. The first stage begins with the fleet that every replay begins with, delivery
with what its own load of the last hour kept busy, rendering and batch with nothing. At each tick the stages plan from
the last to the first, batch after them: what a request has already cost upstream is not lost downstream, and the cap
that is left goes to the stage whose tiers know how to give way. A baseline in the first stage that knows no cap leaves
the others what it did not spend.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from controller.backends.simulated import readings
from controller.backends.simulated.arrivals import Arrivals, replicate
from controller.backends.simulated.cluster import SimulatedCluster, Site
from controller.backends.simulated.pipeline import SimulatedPipeline, StageWork
from controller.core.activity import ActivityLog
from controller.core.envelope import measure
from controller.core.finance import DAY_S, HOUR_S, hourly_spend
from controller.core.forecast.base import MINUTE_GRID, TEN_MINUTE_GRID
from controller.core.policies.base import Paced, Policy
from controller.core.policies.batch import Batch
from controller.core.policies.delivery import Delivery
from controller.core.policies.rendering import Rendering
from controller.core.policies.staged import Staged
from controller.core.stages import BatchService, Pipeline, Stage, planned_share
from controller.core.types import Envelope, FloatArray, Observation, Series, Spend, StageReading, TierTarget
from controller.forecaster import Forecaster
from controller.observe import Demand, Observer, OfferBook
from controller.reconcile import Ports, reconcile
from controller.replay import (
    LONGEST_DRAIN_S,
    FittedInPlace,
    ReplayResult,
    ReplaySpec,
    Unrecorded,
    first_fleet,
    iso,
    past_loads,
    past_work,
    recorded,
    remember_tenants,
    sum_up,
)
from controller.replay_policies import PolicyContext, make_policy
from models.enums import LatencyOf, ServiceClass

# How often the waits that the first stage's share follows from are measured anew.
WAITS_EVERY_S = 600.0
FILES = ("requests.csv", "summary.json")


@dataclass(frozen=True, slots=True)
class ServiceResult:
    """What one service cost. `busy_usd` + `cold_start_usd` + `idle_usd` = `cost_usd`: executing what finished, booting
    and loading, and all else (idle, or lost with an attempt that did not finish). `empty_ratio`: the part of the
    time in which not one replica was billed. `target_met`: batch only, every item by its deadline.
    """

    service_class: str
    policy: str
    cost_usd: float
    busy_usd: float
    cold_start_usd: float
    idle_usd: float
    starts: int
    peak_replicas: int
    empty_ratio: float
    interrupted: int
    wait_mean_s: float | None
    wait_p95_s: float | None
    target_met: bool | None


@dataclass(frozen=True, slots=True)
class EndToEnd:
    """A tier over the whole chain, in seconds from the arrival at the first stage to the finish in the last. `wait`:
    of that, all that was no execution. None: no request of the tier finished.
    """

    requests: int
    mean_s: float | None
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    max_s: float | None
    wait_mean_s: float | None
    target_met: bool | None


@dataclass(frozen=True, slots=True)
class PipelineSummary:
    """A chain's replay in figures; ratios are of clock hours, None without a cap."""

    pipeline: str
    window: tuple[str, str]
    seed: int
    scale: int
    requests: int
    unfinished: int
    cost_usd: float
    hours_within_cap_ratio: float | None
    costliest_hour_usd: float
    services: Mapping[str, ServiceResult]
    tiers: Mapping[str, EndToEnd]


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """`requests`: one row a request of the chain, seconds from the window's start. `services`: each as a replay of
    its own, its waits judged against the part of the targets that is planned for it.
    """

    summary: PipelineSummary
    requests: pd.DataFrame
    services: Mapping[str, ReplayResult]

    def write(self, folder: Path) -> None:
        """requests.csv and summary.json of the chain, and a folder for each service."""
        folder.mkdir(parents=True, exist_ok=True)
        for service, result in self.services.items():
            result.write(folder / service)
        self.requests.to_csv(folder / "requests.csv.part", index=False, float_format="%.6f")
        (folder / "summary.json.part").write_text(json.dumps(asdict(self.summary), indent=2) + "\n")
        for name in FILES:
            (folder / f"{name}.part").replace(folder / name)


@dataclass
class _Service:
    """One service of the run: its spec for figures, its cluster and its loop, due next at `due_s`. `reading` is as it
    was before it ran.
    """

    name: str
    service_class: ServiceClass
    spec: ReplaySpec
    cluster: SimulatedCluster
    ports: Ports
    reading: StageReading
    tick_s: float
    due_s: float


@dataclass
class Fleet:
    """What the services see of each other: the chain as it stands at this tick, and the others' spending.

    `clusters` in the order in which they plan. The cap is shared in that order: a service sees what burns in those
    before it as burnt, and takes what it needs from those after it, which see it at the same tick.
    """

    clusters: dict[str, SimulatedCluster] = field(default_factory=dict)
    chain: tuple[StageReading, ...] = ()

    def around(self, seen: Observation) -> Observation:
        """The observation of one service with the fleet's accrued dollars, the burn of those that plan before it, and
        the chain it is in.
        """
        names = list(self.clusters)
        spends = {name: cluster.spend() for name, cluster in self.clusters.items() if name != seen.service}
        accrued = seen.spend.accrued_usd + sum(spend.accrued_usd for spend in spends.values())
        before = [spends[name] for name in names[: names.index(seen.service)]]
        beside = sum(spend.replicas_usd_per_hour + spend.jobs_usd_per_hour for spend in before)
        own = seen.spend
        spend = Spend(own.hour_start_s, accrued, own.replicas_usd_per_hour, own.jobs_usd_per_hour + beside)
        inside = any(stage.service == seen.service for stage in self.chain)
        return replace(seen, spend=spend, chain=self.chain if inside else ())


def class_policy(service_class: ServiceClass, inference: str, context: PolicyContext) -> Policy:
    """The policy of a class; inference has the one of that name. PolicyError for a name that there isn't."""
    others: dict[ServiceClass, Policy] = {
        ServiceClass.RENDERING: Rendering(),
        ServiceClass.DELIVERY: Delivery(),
        ServiceClass.BATCH: Batch(),
    }
    return others.get(service_class) or make_policy(inference, context)


def run_pipeline(
    spec: ReplaySpec, pipeline: Pipeline, progress: Callable[[float], None] = lambda done: None
) -> PipelineResult:
    """Replay and sum up. `spec` is that of the first stage, its envelope the whole chain's. ValueError where there is
    nothing to replay or nothing to buy. `progress` gets 0…1.
    """
    window = spec.requests.window(spec.from_s, spec.to_s)
    if not len(window):
        raise ValueError("no request arrives in the window: check --from and --to")
    past = past_loads(spec)
    arrivals = replicate(recorded(window, spec.envelope), spec.scale, spec.jitter_s, spec.seed, spec.from_s, spec.to_s)
    fleet = Fleet()
    chain = [_expected(spec, stage) for stage in pipeline.stages]
    stages = [_stage(spec, stage, chain, i, past, arrivals, fleet) for i, stage in enumerate(pipeline.stages)]
    batch = [_batch(spec, service, fleet) for service in pipeline.batch]
    services = [*stages, *batch]
    order = [*reversed(stages), *batch]
    fleet.clusters = {service.name: service.cluster for service in order}
    joined = SimulatedPipeline(
        [stage.cluster for stage in stages], [StageWork(s.work_s, s.work_ratio) for s in pipeline.stages]
    )
    joined.expect(arrivals)
    now_s, waits_s = spec.from_s, spec.from_s
    waits: list[Mapping[str, float | None]] = [{} for _ in stages]
    while now_s < spec.to_s or (_unfinished(joined, batch) and now_s < spec.to_s + LONGEST_DRAIN_S):
        joined.advance(now_s)
        for service in batch:
            service.cluster.advance(now_s)
        if now_s >= waits_s:
            waits, waits_s = [_waits(stage, spec.envelope.tiers) for stage in stages], now_s + WAITS_EVERY_S
        fleet.chain = tuple(_reading(stage, waits[i]) for i, stage in enumerate(stages))
        for service in order:
            if service.due_s <= now_s:
                reconcile(now_s, service.ports)
                service.due_s = now_s + service.tick_s
        progress(min(1.0, (now_s - spec.from_s) / (spec.to_s - spec.from_s)))
        now_s = min(service.due_s for service in services)
    joined.advance(now_s)
    for service in batch:
        service.cluster.advance(now_s)
    progress(1.0)
    return _sum_up(spec, pipeline, services, joined, now_s)


def _unfinished(joined: SimulatedPipeline, batch: Sequence[_Service]) -> bool:
    return joined.unfinished or any(service.cluster.engine.unfinished for service in batch)


def _expected(spec: ReplaySpec, stage: Stage) -> StageReading:
    """A stage before anything has run: its execution as history lets expect it."""
    mean_s, scv = past_work(spec)
    work_s = stage.work_s + stage.work_ratio * mean_s
    work_scv = scv * (stage.work_ratio * mean_s / work_s) ** 2
    return StageReading(stage.service, stage.service_class, work_s, work_scv, stage.wait_share, (), {})


def _stage(
    spec: ReplaySpec,
    stage: Stage,
    chain: Sequence[StageReading],
    index: int,
    past: Mapping[str, Series],
    arrivals: Arrivals,
    fleet: Fleet,
) -> _Service:
    reading = chain[index]
    ratio = reading.work_mean_s / chain[0].work_mean_s
    loads = {tier: replace(series, values=series.values * ratio) for tier, series in past.items()}
    # Only the first stage's arrivals are known ahead, to a policy that may look at them.
    inner = class_policy(stage.service_class, spec.policy, PolicyContext(loads, spec, arrivals if index == 0 else None))
    policy = Staged(inner)
    planned = replace(spec.envelope, tiers=tuple(planned_share(tier, chain, index) for tier in spec.envelope.tiers))
    own = replace(
        spec,
        envelope=planned,
        offers=stage.offers,
        policy=policy.name,
        load_times_s=stage.load_times_s,
        boot_s=stage.boot_s,
    )
    service = _service(own, stage.service, reading, policy, spec.envelope, loads, fleet, preempts=index == 0)
    service.tick_s = inner.tick_s if isinstance(inner, Paced) else spec.tick_s
    if index == 0 and past:
        log = ActivityLog(len(spec.envelope.tiers))
        remember_tenants(spec, log)
        service.ports.observer.activity = log
    if stage.service_class in (ServiceClass.INFERENCE, ServiceClass.DELIVERY):
        first_fleet(service.cluster, own, loads)
    return service


def _batch(spec: ReplaySpec, batch: BatchService, fleet: Fleet) -> _Service:
    tier = TierTarget(batch.service, 0, 100.0, "p100", LatencyOf.END_TO_END, batch.deadline_s * 1000)
    envelope = Envelope((tier,), spec.envelope.spend_cap_usd_per_hour, degrade=(batch.service,))
    own = replace(
        spec,
        envelope=envelope,
        offers=batch.offers,
        policy=Batch().name,
        load_times_s=batch.load_times_s,
        boot_s=batch.boot_s,
    )
    reading = StageReading(batch.service, ServiceClass.BATCH, batch.work_s, 0.0, 1.0, (), {})
    service = _service(own, batch.service, reading, Batch(), envelope, {}, fleet, preempts=False)
    days = np.arange(np.floor(spec.from_s / DAY_S), spec.to_s / DAY_S) * DAY_S + batch.at_hour * HOUR_S
    days = days[(days >= spec.from_s) & (days + batch.deadline_s <= spec.to_s)]
    count = len(days) * batch.items
    service.cluster.engine.expect(
        Arrivals(np.repeat(days, batch.items), np.full(count, batch.work_s), np.zeros(count, np.int64))
    )
    return service


def _service(
    spec: ReplaySpec,
    name: str,
    reading: StageReading,
    policy: Policy,
    envelope: Envelope,
    past: Mapping[str, Series],
    fleet: Fleet,
    *,
    preempts: bool,
) -> _Service:
    """A service's cluster and loop; `envelope` is what its policy is told."""
    site = Site(
        service=name,
        tiers=spec.envelope.tiers,
        offers=spec.offers,
        load_times_s=spec.load_times_s,
        zones=spec.zones,
        boot_s=spec.boot_s,
        seed=spec.seed,
        fifo=policy.fifo,
        work_mean_s=reading.work_mean_s,
        work_scv=reading.work_scv,
        preempts=preempts,
    )
    cluster = SimulatedCluster(site, spec.from_s, measure_waits=False)
    demand = Demand([tier.name for tier in spec.envelope.tiers])
    if past:
        demand.load(past)
    load_s = float(np.percentile(spec.load_times_s, 90))
    ports = Ports(
        backend=cluster,
        telemetry=cluster,
        work=cluster.work,
        record=Unrecorded(envelope),
        forecasts=FittedInPlace(Forecaster((MINUTE_GRID, TEN_MINUTE_GRID))),
        observer=Observer(name, OfferBook(spec.offers), demand, spec.boot_s, load_s, read_latencies=False),
        policy=policy,
        around=fleet.around,
    )
    return _Service(name, reading.service_class, spec, cluster, ports, reading, spec.tick_s, spec.from_s)


def _waits(stage: _Service, tiers: Sequence[TierTarget]) -> Mapping[str, float | None]:
    """Each target's statistic of the waits in this stage over the last hour, in seconds."""
    names = [tier.name for tier in tiers]
    found: dict[str, float | None] = {}
    for tier in tiers:
        waits = replace(tier, of=LatencyOf.WAIT, window_s=HOUR_S)
        value_ms = readings.latency(stage.cluster.engine, names, waits).value_ms
        found[tier.name] = None if value_ms is None else value_ms / 1000
    return found


def _reading(stage: _Service, waits_s: Mapping[str, float | None]) -> StageReading:
    mean_s, scv = stage.cluster.work()
    return replace(
        stage.reading,
        work_mean_s=mean_s,
        work_scv=scv,
        queues=stage.cluster.queues(stage.name),
        waits_s=waits_s,
        work_by_tier=stage.cluster.work_by_tier(),
    )


def _sum_up(
    spec: ReplaySpec, pipeline: Pipeline, services: Sequence[_Service], joined: SimulatedPipeline, end_s: float
) -> PipelineResult:
    results = {service.name: sum_up(service.spec, service.cluster, end_s, 0) for service in services}
    requests = _request_table(spec, pipeline, joined)
    replicas = pd.concat([result.replicas for result in results.values()], ignore_index=True)
    hours = np.arange(0.0, max(end_s - spec.from_s, HOUR_S), HOUR_S)
    asked, gone = (replicas[name].to_numpy(np.float64) for name in ("requested_s", "released_s"))
    rate = replicas["cost_usd"].to_numpy(np.float64) / np.maximum((gone - asked) / HOUR_S, 1e-12)
    spend = hourly_spend(asked, gone, rate, hours)
    cap = spec.envelope.spend_cap_usd_per_hour
    summary = PipelineSummary(
        pipeline=pipeline.name,
        window=(iso(spec.from_s), iso(spec.to_s)),
        seed=spec.seed,
        scale=spec.scale,
        requests=len(requests),
        unfinished=int(requests["finished_s"].isna().sum()),
        cost_usd=float(sum(result.summary.cost_usd for result in results.values())),
        hours_within_cap_ratio=None if cap is None else float((spend <= cap + 1e-6).mean()),
        costliest_hour_usd=float(spend.max()),
        services={s.name: _service_result(s, results[s.name], end_s - spec.from_s) for s in services},
        tiers={tier.name: _end_to_end(requests, tier) for tier in spec.envelope.tiers},
    )
    return PipelineResult(summary, requests, results)


def _request_table(spec: ReplaySpec, pipeline: Pipeline, joined: SimulatedPipeline) -> pd.DataFrame:
    times = joined.times() - spec.from_s
    rows = joined.clusters[0].engine.a.request[: len(times)]
    names = np.array([tier.name for tier in spec.envelope.tiers], dtype=object)
    columns: dict[str, object] = {"tier": names[rows["tier"]], "arrived_s": times[:, 0, 0]}
    for i, stage in enumerate(pipeline.stages):
        columns[f"{stage.service}_started_s"] = times[:, i, 1]
        columns[f"{stage.service}_finished_s"] = times[:, i, 2]
    columns["finished_s"] = times[:, -1, 2]
    columns["wait_s"] = (times[:, :, 1] - times[:, :, 0]).sum(axis=1)
    return pd.DataFrame(columns)


def _end_to_end(requests: pd.DataFrame, tier: TierTarget) -> EndToEnd:
    mine = requests[requests["tier"] == tier.name]
    took = (mine["finished_s"] - mine["arrived_s"]).to_numpy(np.float64)
    wait = mine["wait_s"].to_numpy(np.float64)
    judged = took if tier.of is LatencyOf.END_TO_END else wait
    done = np.isfinite(took)
    if not done.any():
        return EndToEnd(len(mine), None, None, None, None, None, None, False if len(mine) else None)
    measured = measure(tier.statistic, judged[done])
    met = bool(done.all() and measured is not None and measured * 1000 <= tier.target_ms)
    p50, p95, p99 = (float(value) for value in np.percentile(took[done], [50, 95, 99]))
    return EndToEnd(
        len(mine), float(took[done].mean()), p50, p95, p99, float(took[done].max()), float(wait[done].mean()), met
    )


def _service_result(service: _Service, result: ReplayResult, span_s: float) -> ServiceResult:
    replicas, requests, summary = result.replicas, result.requests, result.summary
    price = {offer.id: offer.price_usd_per_hour for offer in service.spec.offers}
    per_s = replicas["offer"].map(price).to_numpy(np.float64) / HOUR_S
    asked, gone = (replicas[name].to_numpy(np.float64) for name in ("requested_s", "released_s"))
    ready = replicas["ready_s"].to_numpy(np.float64)
    cold_usd = float(((np.where(np.isfinite(ready), np.minimum(ready, gone), gone) - asked) * per_s).sum())
    done = requests[requests["finished_s"].notna()]
    by_replica = (done["finished_s"] - done["started_s"]).groupby(done["replica_id"]).sum()
    busy_s = replicas["replica_id"].map(by_replica).fillna(0.0).to_numpy(np.float64)
    busy_usd = float((busy_s * per_s).sum())
    waits = (done["started_s"] - done["arrived_s"]).to_numpy(np.float64)
    met = next(iter(summary.tiers.values())).target_met if service.service_class is ServiceClass.BATCH else None
    return ServiceResult(
        service_class=service.service_class.value,
        policy=summary.policy,
        cost_usd=summary.cost_usd,
        busy_usd=busy_usd,
        cold_start_usd=cold_usd,
        idle_usd=summary.cost_usd - busy_usd - cold_usd,
        starts=summary.starts,
        peak_replicas=summary.peak_replicas,
        empty_ratio=_empty_ratio(asked, gone, span_s),
        interrupted=summary.interrupted,
        wait_mean_s=float(waits.mean()) if len(waits) else None,
        wait_p95_s=float(np.percentile(waits, 95)) if len(waits) else None,
        target_met=met,
    )


def _empty_ratio(asked: FloatArray, gone: FloatArray, span_s: float) -> float:
    """The part of [0, span_s) in which no interval [asked, gone) lies."""
    order = np.argsort(asked)
    asked, gone = asked[order], gone[order]
    reach = np.maximum.accumulate(np.concatenate([[0.0], gone]))
    empty_s = float(np.maximum(0.0, asked - reach[:-1]).sum()) + max(0.0, span_s - float(reach[-1]))
    return empty_s / span_s
