"""Observing: one look at cluster and telemetry, joined with what earlier looks taught, as one frozen `Observation`.

Remembers only what a single look can't show: the minutes of demand, and when an offer last refused or lost a replica.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from controller.backends.base import Backend, ClusterState, Notice, Telemetry
from controller.core.activity import BIN_S, ActivityLog
from controller.core.hazard import Exposure
from controller.core.prices import price_problems
from controller.core.series import cumulative
from controller.core.types import (
    ActionResult,
    Envelope,
    FloatArray,
    LatencyReading,
    Observation,
    Offer,
    OfferStanding,
    Override,
    Plan,
    Sample,
    Series,
    Spend,
)
from models.enums import ActionKind, ActionStatus, JobState, Market, Mode, ReplicaState

MINUTE_S = 60.0
KEPT_MINUTES = 35 * 1440


class Demand:
    """Minutes of offered load per tier, gaps NaN, in step: minute i of every tier is the same minute."""

    def __init__(self, tiers: Sequence[str]) -> None:
        self._tiers = list(tiers)
        self._first_s: float | None = None
        self._count = 0
        self._values: FloatArray = np.empty((len(tiers), 0))
        self._series: dict[str, Series] | None = None

    @property
    def end_s(self) -> float | None:
        """The end of the newest minute; None: none is known."""
        return None if self._first_s is None else self._first_s + self._count * MINUTE_S

    def load(self, history: Mapping[str, Series]) -> None:
        """Take up recorded history, one series a tier over the same minutes."""
        first = next(iter(history.values()))
        self._first_s, self._count = first.start_s, len(first.values)
        self._values = np.array([history[tier].values for tier in self._tiers], np.float64)
        self._series = None

    def add(self, samples: Iterable[Sample]) -> None:
        """Samples of any minutes, in any order; one measured again is written over. Those before the first are
        dropped.
        """
        for sample in samples:
            if sample.tier not in self._tiers:
                continue
            if self._first_s is None:
                self._first_s = sample.minute_s
            index = int((sample.minute_s - self._first_s) // MINUTE_S)
            if index < 0:
                continue
            self._reach(index + 1)
            self._values[self._tiers.index(sample.tier), index] = sample.work_s / MINUTE_S
            self._series = None

    def _reach(self, count: int) -> None:
        if count > self._values.shape[1]:
            grown = np.full((len(self._tiers), max(count, 2 * self._values.shape[1], 1440)), np.nan)
            grown[:, : self._count] = self._values[:, : self._count]
            self._values = grown
        self._count = max(self._count, count)
        if self._count > 2 * KEPT_MINUTES and self._first_s is not None:
            drop = self._count - KEPT_MINUTES
            self._values, self._count = self._values[:, drop:].copy(), self._count - drop
            self._first_s += drop * MINUTE_S

    def series(self) -> Mapping[str, Series]:
        """Each tier's series, and those of the tiers joined by priority (a, a+b, a+b+c). Empty: nothing measured."""
        if self._series is None:
            start_s, count = self._first_s, self._count
            if start_s is None:
                return {}
            own = {tier: Series(start_s, MINUTE_S, self._values[i, :count]) for i, tier in enumerate(self._tiers)}
            self._series = own | cumulative(own, self._tiers)
        return self._series


@dataclass
class OfferBook:
    """The offers, whether their prices can be believed, and how each has treated us lately.

    An interruption counts once, at its notice or at the loss, whichever is seen first.
    """

    offers: tuple[Offer, ...]
    refused_s: dict[str, float] = field(default_factory=dict)
    lost_s: dict[str, float] = field(default_factory=dict)
    exposure: dict[str, Exposure] = field(default_factory=dict)
    _leaving: set[str] = field(default_factory=set)
    _taken: Counter[str] = field(default_factory=Counter)
    _judged: tuple[tuple[Offer, ...], Mapping[str, str]] | None = None

    def standings(self, state: ClusterState) -> tuple[OfferStanding, ...]:
        leaving = {replica.offer_id for replica in state.replicas if replica.gone_s is not None}
        wrong = self._price_problems()
        self._expose(state)
        return tuple(
            OfferStanding(
                offer,
                usable=offer.id not in wrong,
                why_not=wrong.get(offer.id, ""),
                refused_s=self.refused_s.get(offer.id),
                lost_s=self.lost_s.get(offer.id),
                notice=offer.id in leaving,
                hazard_per_hour=self.exposure[offer.id].per_hour if offer.id in self.exposure else None,
            )
            for offer in self.offers
        )

    def _price_problems(self) -> Mapping[str, str]:
        """Judged again whenever the offers are others."""
        if self._judged is None or self._judged[0] is not self.offers:
            self._judged = (self.offers, price_problems(self.offers))
        return self._judged[1]

    def _expose(self, state: ClusterState) -> None:
        held = Counter(replica.offer_id for replica in state.replicas if replica.gone_s is None)
        for offer in self.offers:
            if offer.market is not Market.SPOT:
                continue
            before = self.exposure.get(offer.id, Exposure(state.at_s))
            self.exposure[offer.id] = before.until(state.at_s, held[offer.id], self._taken[offer.id])
        self._taken.clear()
        self._leaving.intersection_update(replica.id for replica in state.replicas)

    def note(self, notices: Iterable[Notice]) -> None:
        for notice in notices:
            if notice.kind in ("notice", "lost"):
                self.lost_s[notice.offer_id] = notice.at_s
                if notice.replica_id not in self._leaving:
                    self._taken[notice.offer_id] += 1
                self._leaving.add(notice.replica_id)

    def learn(self, plan: Plan, results: Iterable[ActionResult], now_s: float) -> None:
        """A refused start says that the offer has no capacity now; an accepted one, that it has again."""
        offer_of = {action.id: action.offer_id for action in plan.actions}
        starts = {action.id for action in plan.actions if action.kind is ActionKind.START_REPLICA}
        for result in results:
            offer_id = offer_of.get(result.action_id)
            if offer_id is not None and result.replica_id is not None and result.action_id in starts:
                self.refused_s.pop(offer_id, None)
            if offer_id is not None and result.replica_id is None and result.status is ActionStatus.REFUSED:
                self.refused_s[offer_id] = now_s


@dataclass
class Observer:
    """Eyes for one service."""

    service: str
    book: OfferBook
    demand: Demand
    boot_s: float
    load_model_s: float
    stale_after_s: float = 180.0
    read_latencies: bool = True
    _latencies: tuple[LatencyReading, ...] = ()
    _latencies_s: float = float("-inf")
    fresh_samples: tuple[Sample, ...] = ()
    activity: ActivityLog | None = None

    def look(
        self,
        now_s: float,
        backend: Backend,
        telemetry: Telemetry,
        envelope: Envelope,
        overrides: tuple[Override, ...],
        mode: Mode,
        work: tuple[float, float],
    ) -> tuple[ClusterState, Observation]:
        """The state and the observation, forecasts still empty. Raises BackendUnavailable."""
        state = backend.state()
        self.book.note(state.notices)
        since = self.demand.end_s
        self.fresh_samples = ()
        if since is None or now_s - since >= MINUTE_S:
            since = now_s - 86400.0 if since is None else since
            self.fresh_samples = telemetry.samples(self.service, since, now_s)
            self.demand.add(self.fresh_samples)
        self._follow_tenants(telemetry, len(envelope.tiers), now_s)
        if self.read_latencies and now_s - self._latencies_s >= MINUTE_S:
            self._latencies = tuple(telemetry.latency(self.service, tier) for tier in envelope.tiers)
            self._latencies_s = now_s
        standings = self.book.standings(state)
        price = {offer.id: offer.price_usd_per_hour for offer in self.book.offers}
        burn = sum(price.get(replica.offer_id, 0.0) for replica in state.replicas)
        running = (job for job in state.jobs if job.state in (JobState.QUEUED, JobState.RUNNING))
        jobs = sum(job.price_usd_per_hour or 0.0 for job in running)
        hour = state.hours[-1]
        return state, Observation(
            now_s=now_s,
            service=self.service,
            mode=mode,
            envelope=envelope,
            replicas=tuple(r for r in state.replicas if r.state not in (ReplicaState.RELEASED, ReplicaState.LOST)),
            offers=standings,
            queues=telemetry.queues(self.service),
            latencies=self._latencies,
            load=self.demand.series(),
            forecasts={},
            spend=Spend(hour.hour_s, hour.replicas_usd + hour.jobs_usd, burn, jobs),
            overrides=tuple(o for o in overrides if o.service in (self.service, "*")),
            telemetry_s=telemetry.telemetry_s(self.service),
            boot_s=self.boot_s,
            load_model_s=self.load_model_s,
            work_mean_s=work[0],
            work_scv=work[1],
            stale_after_s=self.stale_after_s,
            activity=None if self.activity is None else self.activity.read(),
        )

    def _follow_tenants(self, telemetry: Telemetry, tiers: int, now_s: float) -> None:
        if self.activity is None:
            self.activity = ActivityLog(tiers)
        since_s = self.activity.end_s
        if since_s is None or now_s - since_s >= BIN_S:
            found = telemetry.activity(self.service, now_s - 86400.0 if since_s is None else since_s, now_s)
            if found is not None:
                self.activity.add(*found)
