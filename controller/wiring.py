"""One run of the embedded cluster, wired: backend, record, forecasts, policy, guard and intake around one loop."""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import ParamSpec, TypeVar

import numpy as np

from controller import embedded
from controller.backends.simulated.cluster import SimulatedCluster
from controller.core.types import Action, ActionResult, Envelope, Forecast, Series
from controller.embedded import SERVICE, Demo, World
from controller.forecaster import Forecaster
from controller.guardrail import Guard
from controller.intake import Intake
from controller.journal import Journal
from controller.metrics import Metrics
from controller.observe import Demand, Observer, OfferBook
from controller.reconcile import Ports
from controller.replay import make_policy
from controller.settings import Settings
from controller.store import Store
from models.enums import LedgerKind

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class Loop:
    """Everything of one run of the embedded cluster; a reset makes a new one."""

    cluster: SimulatedCluster
    ports: Ports
    journal: Journal
    guard: Guard
    forecaster: Forecaster
    intake: Intake


class PooledForecasts:
    """Forecasts whose fits run in a process pool: a tick sends what is due and takes in what has come back."""

    def __init__(
        self, forecaster: Forecaster, pool: Executor | None, changed: Callable[[list[str], float], None]
    ) -> None:
        self._forecaster, self._pool, self._changed = forecaster, pool, changed

    def forecast(self, service: str, loads: Mapping[str, Series], now_s: float) -> Mapping[tuple[str, float], Forecast]:
        try:
            said = self._refit(service, loads, now_s)
        except Exception as error:  # what can't even be sent must not stop the planning
            log.exception("refitting failed")
            said = [f"Refitting failed, the last parameters stay in use: {type(error).__name__}: {error}"]
        if said:
            self._changed(said, now_s)
        return self._forecaster.forecast(service, loads, now_s)

    def _refit(self, service: str, loads: Mapping[str, Series], now_s: float) -> list[str]:
        said = self._forecaster.collect(now_s)
        due = self._forecaster.refit_due(service, now_s)
        if due is not None and self._pool is not None:
            self._forecaster.refit_async(self._pool, service, loads, now_s, due)
        elif due is not None:
            said += self._forecaster.refit(service, loads, now_s, due)
        return said


class FitPool(Executor):
    """Processes that fit forecasts.

    A worker that dies (out of memory, killed) costs its fits, not the planning: the pool is made anew at the next fit.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._pool = self._made()

    def _made(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self._workers, mp_context=get_context("spawn"))

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As `Executor.submit`."""
        try:
            return self._pool.submit(fn, *args, **kwargs)
        except BrokenExecutor:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = self._made()
            return self._pool.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As `Executor.shutdown`."""
        self._pool.shutdown(wait=wait, cancel_futures=cancel_futures)


@dataclass(frozen=True)
class House:
    """What outlives a run: settings, files read, the store, the metrics, the demo's hand and the pool of fits."""

    settings: Settings
    world: World
    store: Store
    metrics: Metrics
    demo: Demo
    pool: Executor | None


def wire(house: House, cluster: SimulatedCluster, envelope: Envelope) -> Loop:
    """A loop on the cluster, its demand the recorded history until the simulation takes over."""
    settings, store, world = house.settings, house.store, house.world
    guard = Guard(store, cluster, read=cluster.job_views, mode=lambda: settings.mode)
    journal = Journal(SERVICE, store, cluster, house.metrics, mode=settings.mode, projected_usd=guard.projected_usd)
    forecaster = Forecaster()
    past = embedded.history(world, settings, envelope)
    observer = Observer(
        SERVICE,
        OfferBook(world.offers),
        Demand([tier.name for tier in envelope.tiers]),
        settings.boot_s,
        float(np.percentile(world.load_times_s, 90)),
        settings.stale_after_s,
    )
    if past:
        observer.demand.load(past)

    def changed(said: list[str], now_s: float) -> None:
        for word in said:
            store.enter(LedgerKind.FORECAST, now_s=now_s, subject="forecast", what=word, service=SERVICE)
        journal.scores(forecaster, now_s)

    ports = Ports(
        backend=cluster,
        telemetry=cluster,
        work=cluster.work,
        record=journal,
        forecasts=PooledForecasts(forecaster, house.pool, changed),
        observer=observer,
        policy=make_policy(settings.policy, past),
    )
    intake = Intake(store, lambda service: journal.facts(observer, cluster.work()[0]), saved(cluster), house.demo)
    return Loop(cluster, ports, journal, guard, forecaster, intake)


def saved(cluster: SimulatedCluster) -> Callable[[Action], ActionResult]:
    """The cluster's `apply`, made durable before anybody is told of it: an intent is settled once."""

    def apply(action: Action) -> ActionResult:
        result = cluster.apply(action)
        cluster.save()
        return result

    return apply
