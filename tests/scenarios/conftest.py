"""A small world on a virtual clock: the real loop, guard, intake and tables around a simulated cluster.

`Timeline.until(t)` runs what is due in order, as the controller's process does: guard checks, then ticks.
Times are seconds after the beginning. Seeds are fixed, so a story is told the same each time.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine
from sqlmodel import Session, SQLModel, select

from controller import lease
from controller.act import act
from controller.backends.base import Backend, BackendUnavailable, ClusterState
from controller.backends.simulated.arrivals import Arrivals
from controller.backends.simulated.cluster import SimulatedCluster
from controller.backends.simulated.engine import ZoneSeries
from controller.backends.simulated.jobs import JobsSim
from controller.core.envelope import parse_envelope
from controller.core.forecast.base import MINUTE_GRID
from controller.core.policies.heddle import Heddle
from controller.core.settle import MissPrice
from controller.core.types import Action, ActionResult, Plan, Series
from controller.forecaster import Forecaster
from controller.guardrail import Guard
from controller.intake import Intake
from controller.journal import Journal
from controller.metrics import Metrics
from controller.observe import Demand, Observer, OfferBook
from controller.reconcile import Ports, Tick, reconcile
from controller.store import Store
from controller.store.convert import moment
from models.database import open_engine
from models.enums import ActionKind, IntentKind, LedgerKind, Market, ReplicaState
from models.intents import Intent, new_intent
from models.ledger import LedgerEntry
from models.plans import ActionRow, PlanRow
from tests.backends.small_world import BOOT_S, LOAD_S, OFFERS, SPOT_1, SPOT_2, T0, cluster

MINUTE, HOUR = 60.0, 3600.0
# Half as often as the product: the same stories in half the time.
TICK_S, GUARD_S = 30.0, 20.0
WORK_S = 30.0
BY_ID = {offer.id: offer for offer in OFFERS}
ON_DEMAND = {offer.id for offer in OFFERS if offer.market is Market.ON_DEMAND}
SPOT = {SPOT_1.id, SPOT_2.id}


def document(cap: float | None = None, **changes: Any) -> dict[str, Any]:
    def tier(percent: float, statistic: str, target_ms: float) -> dict[str, Any]:
        latency = {"of": "wait", "statistic": statistic, "target_ms": target_ms, "window_s": 1800}
        return {"tenants_percent": percent, "latency": latency}

    tiers = {
        "premium": tier(20, "mean", 200),
        "standard": tier(50, "p95", 30_000),
        "background": tier(30, "p100", 7_200_000),
    }
    return {"spend_cap_usd_per_hour": cap, "tier_salt": "a", "tiers": tiers, **changes}


class Crash(BaseException):
    """The controller's process ends here."""


class Wire:
    """The way to the cluster, which can be cut: `away` answers nothing, `deaf` takes no action; `crash` names when."""

    name = "simulated"

    def __init__(self, simulated: SimulatedCluster) -> None:
        self._cluster = simulated
        self.away = self.deaf = self.acted = False
        self.crash = ""
        self.asked: list[Action] = []

    def advance(self, now_s: float) -> None:
        self._cluster.advance(now_s)

    def state(self) -> ClusterState:
        if self.away:
            raise BackendUnavailable("connection refused")
        return self._cluster.state()

    def apply(self, action: Action) -> ActionResult:
        if self.crash == "before acting":
            raise Crash
        if self.away or self.deaf:
            raise BackendUnavailable("connection refused")
        self.asked.append(action)
        self.acted = True
        result = self._cluster.apply(action)
        if self.crash == "after an act":
            raise Crash
        return result

    def degrade(self, service: str, speed_factors: Mapping[str, float]) -> None:
        self._cluster.degrade(service, speed_factors)

    def save(self) -> None:
        self._cluster.save()
        if self.crash == "after saving" and self.acted:
            raise Crash
        self.acted = False


class Persistence:
    """Forecasts without a fit: the recent level, with its spread."""

    def __init__(self) -> None:
        self._forecaster = Forecaster((MINUTE_GRID,))

    def forecast(self, service: str, loads: Mapping[str, Series], now_s: float) -> Mapping[Any, Any]:
        return self._forecaster.forecast(service, loads, now_s)


@dataclass
class Timeline:
    """One controller on one cluster. `crashed()` gives the next controller on what is left of both."""

    database: Engine
    folder: Path
    zones: Mapping[str, ZoneSeries]
    own: tuple[float, ...]
    envelope: dict[str, Any]
    now: float = 0.0
    step_back_hours: int = 0
    ticks: list[Tick] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cluster = cluster(self.zones, jobs=JobsSim(OFFERS, T0), work_mean_s=WORK_S)
        file = self.folder / "cluster.npz"
        again = self.cluster.restore(file)
        self.cluster.keep_in(file)
        self.epoch = lease.acquire(self.database, "test")
        self.store = Store(self.database, lambda: self.epoch, lease.check_epoch)
        self.store.seed("images", self.envelope, now_s=T0)
        self.wire = Wire(self.cluster)
        self.guard = Guard(self.store, self.wire, read=self._jobs)
        journal = Journal(
            "images",
            self.store,
            self.cluster,
            Metrics(),
            miss=MissPrice(0.1),
            step_back_hours=self.step_back_hours,
            projected_usd=self.guard.projected_usd,
        )
        tiers = parse_envelope(self.envelope).tiers
        demand = Demand([tier.name for tier in tiers])
        day = np.full(1440, 1.0)
        demand.load(
            {tier.name: Series(T0 - 86400, 60.0, day * load) for tier, load in zip(tiers, self.own, strict=True)}
        )
        observer = Observer("images", OfferBook(OFFERS), demand, BOOT_S, LOAD_S)
        backend: Backend = self.wire
        self.ports = Ports(backend, self.cluster, self.cluster.work, journal, Persistence(), observer, Heddle())
        self.intake = Intake(self.store, lambda service: journal.facts(observer, WORK_S), self.cluster.apply)
        self._next_guard = self.now
        self._next_tick = self.now
        if again:
            self.store.record_results(act(self.store.unfinished_actions(), self.wire), T0 + self.now)
        else:
            self._begin()

    def _jobs(self) -> Any:
        if self.wire.away:
            raise BackendUnavailable("connection refused")
        return self.cluster.job_views()

    def _begin(self) -> None:
        """The fleet of a service that has run for a while, and two hours of steady demand."""
        self.requests(0, 2 * HOUR, *self.own, seed=1)
        for _ in range(int(sum(self.own)) + 2):
            self.cluster.start(OFFERS[0].id, ready_at_once=True)

    # --- what happens ---

    def requests(self, from_: float, to: float, *loads: float, seed: int = 2) -> None:
        """Poisson arrivals of each tier at so many erlangs."""
        rng = np.random.default_rng(seed)
        parts = [
            (np.sort(rng.uniform(from_, to, rng.poisson(load * (to - from_) / WORK_S))), k)
            for k, load in enumerate(loads)
        ]
        arrived = np.concatenate([times for times, _ in parts])
        tier = np.concatenate([np.full(len(times), k) for times, k in parts])
        order = np.argsort(arrived, kind="stable")
        work = rng.gamma(2.0, WORK_S / 2, len(arrived))
        self.cluster.engine.expect(Arrivals(T0 + arrived[order], work, tier[order].astype(np.int64)))

    def ask(self, kind: IntentKind, /, service: str = "images", **payload: Any) -> int:
        """An operator's row, as the dashboard writes it. `minutes` becomes `ends_at`."""
        if "minutes" in payload:
            payload["ends_at"] = moment(T0 + self.now + payload.pop("minutes") * 60).isoformat()
        row = new_intent(
            kind, author="ana", reason="a test", created_at=moment(T0 + self.now), service=service, payload=payload
        )
        with Session(self.database) as session:
            session.add(row)
            session.commit()
            session.refresh(row)
            assert row.id is not None
            return row.id

    def until(self, to: float) -> "Timeline":
        """Run everything that is due up to and including `to`."""
        while min(self._next_tick, self._next_guard) <= to:
            if self._next_guard <= self._next_tick:
                self.now, self._next_guard = self._next_guard, self._next_guard + GUARD_S
                self.cluster.advance(T0 + self.now)
                if self.guard.check(T0 + self.now):
                    self.cluster.save()
            else:
                self.now, self._next_tick = self._next_tick, self._next_tick + TICK_S
                self.tick()
        self.now = to
        return self

    def tick(self) -> None:
        self.intake.take(T0 + self.now)
        try:
            waiting = self.store.unfinished_actions()
            if waiting:
                self.cluster.advance(T0 + self.now)
                self.store.record_results(act(waiting, self.wire), T0 + self.now)
            self.ticks.append(reconcile(T0 + self.now, self.ports))
        except BackendUnavailable as error:
            self.store.failure("A tick could not see the cluster; nothing was changed", error, T0 + self.now)

    def crashed(self) -> "Timeline":
        """The process is gone; another takes over the database and finds the cluster as it last saved itself."""
        lease.release(self.database, self.epoch)
        return Timeline(self.database, self.folder, self.zones, self.own, self.envelope, self.now, self.step_back_hours)

    # --- what is seen ---

    @property
    def plan(self) -> Plan:
        return self.ticks[-1].plan

    def plans(self, from_: float, to: float = float("inf")) -> list[Plan]:
        return [tick.plan for tick in self.ticks if from_ <= tick.plan.made_s - T0 < to]

    def fleet(self) -> Counter[str]:
        """Replicas that serve or will, by offer, as the cluster has them."""
        replicas = self.cluster._replicas(self.cluster.engine.live().tolist())
        return Counter(r.offer_id for r in replicas if r.state is not ReplicaState.DRAINING)

    def size(self) -> int:
        return self.fleet().total()

    def on_demand(self) -> float:
        """Reference GPUs on demand."""
        return sum(BY_ID[offer].speed_ratio * count for offer, count in self.fleet().items() if offer in ON_DEMAND)

    def waits(self, tier: int, from_: float, to: float) -> Any:
        """Waits of the tier's requests that arrived in the window; one that has not started has waited until now."""
        rows = self.cluster.engine.a.request[: self.cluster.engine.arrived]
        rows = rows[(rows["tier"] == tier) & (rows["arrived"] >= T0 + from_) & (rows["arrived"] < T0 + to)]
        started = np.where(np.isnan(rows["started"]), T0 + self.now, rows["started"])
        return started - rows["arrived"]

    def rows(self, model: Any, **where: Any) -> Sequence[Any]:
        with Session(self.database) as session:
            query = select(model)
            for name, value in where.items():
                query = query.where(getattr(model, name) == value)
            return session.exec(query).all()

    def ledger(self, kind: LedgerKind | None = None) -> list[LedgerEntry]:
        entries = self.rows(LedgerEntry) if kind is None else self.rows(LedgerEntry, kind=kind.value)
        return sorted(entries, key=lambda entry: entry.id or 0)

    def actions(self, kind: ActionKind | None = None) -> list[ActionRow]:
        rows = self.rows(ActionRow) if kind is None else self.rows(ActionRow, kind=kind.value)
        return sorted(rows, key=lambda row: (row.requested_at, row.id))

    def plan_rows(self) -> list[PlanRow]:
        return sorted(self.rows(PlanRow), key=lambda row: row.id)

    def intent(self, identifier: int) -> Intent:
        (row,) = self.rows(Intent, id=identifier)
        return row


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Timeline]]:
    """`begin(premium, standard, background, cap=None, zones=…)`: a service at these loads, in erlangs."""
    database = open_engine(f"sqlite:///{tmp_path}/heddle.db")
    SQLModel.metadata.create_all(database)

    def begun(
        *own: float,
        cap: float | None = None,
        zones: Mapping[str, ZoneSeries] | None = None,
        step_back_hours: int = 0,
        **changes: Any,
    ) -> Timeline:
        wanted = document(cap, **changes)
        return Timeline(
            database, tmp_path, zones or {}, own or (1.5, 3.0, 1.5), wanted, step_back_hours=step_back_hours
        )

    yield begun
    database.dispose()
