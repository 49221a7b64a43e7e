"""One run of the embedded cluster, wired: backend, record, forecasts, policy, guard and intake around one loop."""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from controller import embedded
from controller.backends.simulated.cluster import SimulatedCluster
from controller.core.forecast.signals import Outside
from controller.core.types import Action, ActionResult, Envelope, Forecast, Series
from controller.embedded import SERVICE, Demo, World
from controller.forecast_record import ForecastRecord
from controller.forecaster import Forecaster
from controller.guardrail import Guard
from controller.intake import Intake
from controller.journal import Journal
from controller.lines import Change
from controller.lstm_training import Trainer, competes
from controller.metrics import Metrics
from controller.observe import Demand, Observer, OfferBook
from controller.outside import OutsideReader
from controller.reconcile import Ports
from controller.replay_policies import PolicyContext, make_policy
from controller.settings import Settings
from controller.store import Store

log = logging.getLogger(__name__)


@dataclass
class Loop:
    """Everything of one run of the embedded cluster; a reset makes a new one."""

    cluster: SimulatedCluster
    ports: Ports
    journal: Journal
    guard: Guard
    forecaster: Forecaster
    forecast_record: ForecastRecord
    intake: Intake


class PooledForecasts:
    """Forecasts whose fits run in a process pool: a tick sends what is due and takes in what has come back."""

    def __init__(
        self,
        forecaster: Forecaster,
        pool: Executor | None,
        record: ForecastRecord,
        outside: Callable[[str, float], Outside] = lambda service, now_s: Outside(),
    ) -> None:
        """`pool` None: fits run in the tick. `outside` reads what is known of a service beside its own load."""
        self._forecaster, self._pool, self._record, self._outside = forecaster, pool, record, outside

    def forecast(self, service: str, loads: Mapping[str, Series], now_s: float) -> Mapping[tuple[str, float], Forecast]:
        self._forecaster.know(service, self._outside(service, now_s))
        taken = self._forecaster.taken
        try:
            said = self._refit(service, loads, now_s)
        except Exception as error:  # what can't even be sent must not stop the planning
            log.exception("refitting failed")
            self._forecaster.put_off(service, now_s)
            failed = f"Refitting failed, the last parameters stay in use: {type(error).__name__}: {error}"
            said = [Change(failed)]
        if said or self._forecaster.taken != taken:
            self._record.fitted(said, now_s)
        found = self._forecaster.forecast(service, loads, now_s)
        self._record.ticked(self._forecaster.changes(), now_s)
        return found

    def _refit(self, service: str, loads: Mapping[str, Series], now_s: float) -> list[Change]:
        said = self._forecaster.collect(now_s)
        due = self._forecaster.refit_due(service, now_s)
        if due is not None and self._pool is not None:
            self._forecaster.refit_async(self._pool, service, loads, now_s, due)
        elif due is not None:
            said += self._forecaster.refit(service, loads, now_s, due)
        return said


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
    learns = house.pool is not None and competes(settings.forecast_lstm)  # in the tick it would take a minute
    forecaster = Forecaster(trainer=Trainer(seed=settings.seed) if learns else None)
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

    record = ForecastRecord(SERVICE, store, forecaster)
    ports = Ports(
        backend=cluster,
        telemetry=cluster,
        work=cluster.work,
        record=journal,
        forecasts=PooledForecasts(forecaster, house.pool, record, OutsideReader(store).read),
        observer=observer,
        policy=make_policy(settings.policy, PolicyContext(past)),
    )
    intake = Intake(store, lambda service: journal.facts(observer, cluster.work()[0]), saved(cluster), house.demo)
    return Loop(cluster, ports, journal, guard, forecaster, record, intake)


def saved(cluster: SimulatedCluster) -> Callable[[Action], ActionResult]:
    """The cluster's `apply`, made durable before anybody is told of it: an intent is settled once."""

    def apply(action: Action) -> ActionResult:
        result = cluster.apply(action)
        cluster.save()
        return result

    return apply
