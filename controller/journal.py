"""The record of a live loop: what a tick saw, decided and did, in the tables. Decides nothing.

Readings are kept once a minute of virtual time, changes at once. What is read from the tables is what operators
want: the envelope in force, overrides, the service's mode.
"""

from collections.abc import Callable, Mapping, Sequence

from controller.backends.base import ClusterState, Telemetry
from controller.core.envelope import EnvelopeFacts
from controller.core.finance import hour_start
from controller.core.mode import lesser, would_change
from controller.core.plan import COMING, speeds, staying
from controller.core.prospect import prospect_of
from controller.core.settle import NO_PRICE, MissPrice
from controller.core.slow_grid import SLOW_STEPS_S
from controller.core.surges import SurgesAhead, surges_ahead
from controller.core.terms import Term, term_readings
from controller.core.types import ActionResult, Authority, Envelope, Forecast, Job, Observation, Override, Plan
from controller.metrics import Metrics
from controller.observe import MINUTE_S, Observer
from controller.settlement import Settler
from controller.store import Store
from controller.store.pools import pool_minutes
from controller.store.telemetry import TermMinute
from models.enums import Mode, ReplicaState

# The ledger's and the tables' name for dollars that jobs accrue.
JOBS = "jobs"


class Journal:
    """Implements `reconcile.Record` on the store, for one service. `mode`: the process's, which no service exceeds."""

    def __init__(
        self,
        service: str,
        store: Store,
        telemetry: Telemetry,
        metrics: Metrics,
        *,
        mode: Mode = Mode.ACT,
        miss: MissPrice = NO_PRICE,
        step_back_hours: int = 0,
        projected_usd: Callable[[Sequence[Job]], Mapping[str, float | None]] = lambda jobs: {},
    ) -> None:
        self._service, self._store, self._metrics = service, store, metrics
        self._ceiling, self._projected = mode, projected_usd
        self._settler = Settler(service, store, telemetry, miss=miss, step_back_hours=step_back_hours)
        self._minute_s = float("-inf")
        self._looked: object = None
        self._prospect: tuple[float, int] | None = None

    def envelope(self) -> Envelope:
        envelope = self._store.envelope(self._service)
        if envelope is None:
            raise LookupError(
                f"service {self._service} has no envelope: start with `controller run`, which writes the first"
            )
        return envelope

    def overrides(self, now_s: float) -> tuple[Override, ...]:
        self._store.expire_overrides(now_s)
        return self._store.overrides(now_s)

    def mode(self) -> Mode:
        return lesser(self._ceiling, self._store.mode(self._service))

    def authority(self) -> Authority:
        return self._settler.authority

    def next_plan_id(self) -> str:
        return self._store.next_plan_id()

    def facts(self, observer: Observer, execution_mean_s: float) -> EnvelopeFacts:
        """What a drafted envelope is checked against."""
        cheapest = min((offer.price_usd_per_hour for offer in observer.book.offers), default=float("nan"))
        return EnvelopeFacts(self._store.tiers(self._service), execution_mean_s, cheapest)

    def observed(self, state: ClusterState, seen: Observation, observer: Observer) -> None:
        store, now_s = self._store, seen.now_s
        prices = {offer.id: offer.price_usd_per_hour for offer in observer.book.offers}
        with store.batch():
            store.record_replicas(state.replicas, state.gone, prices, now_s)
            store.confirm(state.replicas, now_s, gone=state.gone, jobs=state.jobs)
            store.record_notices(state.notices, now_s)
            store.record_jobs(state.jobs, now_s, self._projected(state.jobs))
            store.record_samples(observer.fresh_samples)
            cap = seen.envelope.spend_cap_usd_per_hour
            for hour in state.hours:
                store.record_spend(hour.hour_s, self._service, hour.replicas_usd, cap)
                store.record_spend(hour.hour_s, JOBS, hour.jobs_usd, cap)
            if now_s - self._minute_s >= MINUTE_S:
                self._minute_s = now_s
                self._each_minute(seen, observer)
            self._settler.close_hour(state, seen)

    def _each_minute(self, seen: Observation, observer: Observer) -> None:
        store, now_s, speed = self._store, seen.now_s, speeds(seen)
        capacity = sum(speed[replica.offer_id] for replica in staying(seen))
        terms = term_readings(seen, capacity)
        store.record_terms([_term_minute(self._service, term, now_s) for term in terms])
        store.record_offers(seen.offers, {}, now_s)
        store.record_forecasts(tuple(forecast for forecast in seen.forecasts.values() if _shown(forecast, seen)))
        self._look_out(seen)
        for term in terms:
            self._metrics.term(self._service, term.name, value=term.value, limit=term.limit)
        spend = seen.spend
        burn = spend.replicas_usd_per_hour + spend.jobs_usd_per_hour
        cap = seen.envelope.spend_cap_usd_per_hour
        self._metrics.spend(hour_usd=spend.accrued_usd, burn_usd_per_hour=burn, cap_usd_per_hour=cap)

    def _look_out(self, seen: Observation) -> None:
        """What drafts of the envelope are judged by, once an hour and when another envelope rules."""
        due = (hour_start(seen.now_s), seen.envelope.version)
        if self._prospect != due:
            prospect = prospect_of(seen)
            self._store.record_prospect(prospect)
            # Before the first forecast it is looked at again at the next minute.
            self._prospect = None if prospect.loads is None else due

    def plan(self, plan: Plan, seen: Observation) -> None:
        ready = sum(replica.state is ReplicaState.READY for replica in staying(seen))
        coming = sum(replica.state in COMING for replica in staying(seen))
        prices = {standing_.offer.id: standing_.offer.price_usd_per_hour for standing_ in seen.offers}
        with self._store.batch():
            self._store.record_plan(
                plan,
                ready=ready,
                coming=coming,
                prices=prices,
                envelope_version=seen.envelope.version,
                now_s=seen.now_s,
                mode=seen.mode,
                would_change=would_change(plan, seen),
            )
            offers = {standing_.offer.id: standing_.offer for standing_ in seen.offers}
            self._store.record_fleet(
                pool_minutes(self._service, seen.now_s, seen.replicas, plan.desired_by_offer, offers)
            )
            self._store.record_surges(self._service, self._look_ahead(plan, seen), plan.surges, seen.now_s)
        self._metrics.replicas(self._service, desired=plan.desired, ready=ready, coming=coming)

    def _look_ahead(self, plan: Plan, seen: Observation) -> SurgesAhead | None:
        """What is ahead of a slow forecast that was made anew, or after news of a surge; None: it was looked at."""
        step = int(seen.now_s // SLOW_STEPS_S[0])
        looked = (step, bool(seen.forecasts), tuple((surge.start_s, surge.status) for surge in plan.surges))
        if looked == self._looked:
            return None
        self._looked = looked
        return surges_ahead(seen, plan.surges)

    def results(self, plan: Plan, results: Sequence[ActionResult], seen: Observation) -> None:
        self._store.record_results(results, seen.now_s)


def _term_minute(service: str, term: Term, at_s: float) -> TermMinute:
    return TermMinute(service, term.name, at_s, term.value, term.limit, term.status, term.forecast_p90, term.count)


def _shown(forecast: Forecast, seen: Observation) -> bool:
    """Each tier's own forecast is kept, and that of all together; the joined ones between are the planner's means."""
    names = [tier.name for tier in seen.envelope.tiers]
    return forecast.tier in names or forecast.tier == "+".join(names)
