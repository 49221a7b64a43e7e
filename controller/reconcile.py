"""One tick, top to bottom: observe, forecast, plan, record, act, record. The first page to read.

Nothing flows backwards inside a tick, and no decision is taken here: the pure core decides, the ports do I/O. The
plan is recorded before anything is done, so that a crash at any point resumes without doing a thing twice. The
guard has its own cadence (`guardrail`); its verdicts are in the state that the next tick observes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from controller.act import act
from controller.backends.base import Backend, ClusterState, Telemetry
from controller.core.capacity import cumulative
from controller.core.degradation import relaxed, speed_factors
from controller.core.policies.base import Memory, Policy
from controller.core.types import ActionResult, Authority, Envelope, Forecast, Observation, Override, Plan, Series
from controller.observe import Observer
from models.enums import Mode


class Forecasts(Protocol):
    """What a tick needs of a forecaster: quantiles from parameters fitted earlier. Cheap; never raises for odd data."""

    def forecast(
        self, service: str, loads: Mapping[str, Series], now_s: float
    ) -> Mapping[tuple[str, float], Forecast]: ...


class Work(Protocol):
    def __call__(self) -> tuple[float, float]:
        """Mean execution seconds on the reference GPU, and their squared coefficient of variation."""


class Record(Protocol):
    """Where a tick reads what operators want and writes what it decided and did."""

    def envelope(self) -> Envelope: ...

    def overrides(self, now_s: float) -> tuple[Override, ...]: ...

    def mode(self) -> Mode: ...

    def authority(self) -> Authority:
        """Whether the planner leads, or the reactive net."""

    def next_plan_id(self) -> str: ...

    def plan(self, plan: Plan, seen: Observation) -> None:
        """Durable when it returns: the actions are written as requested."""

    def results(self, plan: Plan, results: Sequence[ActionResult], seen: Observation) -> None: ...

    def observed(self, state: ClusterState, seen: Observation, observer: Observer) -> None:
        """The outcome of earlier actions, replicas, samples, terms and spend, as this tick saw them."""


@dataclass
class Ports:
    """What one service's loop is wired to. `memory` is the policy's, from tick to tick; `would_memory` that of the
    planner while the reactive net acts.

    `around` adds what a service sees beyond itself: the other stages of its chain, and what the rest of the fleet
    spends of the cap they share.
    """

    backend: Backend
    telemetry: Telemetry
    work: Work
    record: Record
    forecasts: Forecasts
    observer: Observer
    policy: Policy
    memory: Memory = field(default_factory=Memory)
    would_memory: Memory | None = None
    around: Callable[[Observation], Observation] = lambda seen: seen


@dataclass(frozen=True, slots=True)
class Tick:
    """What one tick saw, decided and did."""

    seen: Observation
    plan: Plan
    results: tuple[ActionResult, ...]


def reconcile(now_s: float, ports: Ports) -> Tick:
    """One tick of one service. Raises BackendUnavailable before anything is decided, when nothing can be seen."""
    state, seen = observe(now_s, ports)
    seen = forecast(seen, ports)
    ports.record.observed(state, seen, ports.observer)
    plan, memory = ports.policy.plan(seen, ports.memory, ports.record.next_plan_id())
    plan = beside(plan, seen, ports)
    ports.record.plan(plan, seen)
    results = act(plan.actions, ports.backend)
    ports.backend.degrade(plan.service, speed_factors(seen.envelope, plan.shed) if seen.mode is Mode.ACT else {})
    ports.memory = memory
    ports.observer.book.learn(plan, results, now_s)
    ports.backend.save()
    ports.record.results(plan, results, seen)
    return Tick(seen, plan, results)


def observe(now_s: float, ports: Ports) -> tuple[ClusterState, Observation]:
    """Let time pass in a simulated cluster and look. Raises BackendUnavailable."""
    ports.backend.advance(now_s)
    record = ports.record
    overrides = record.overrides(now_s)
    ruling = relaxed(record.envelope(), overrides)
    state, seen = ports.observer.look(
        now_s, ports.backend, ports.telemetry, ruling, overrides, record.mode(), ports.work()
    )
    return state, ports.around(replace(seen, authority=record.authority()))


def beside(plan: Plan, seen: Observation, ports: Ports) -> Plan:
    """The plan, and while the reactive net acts what the planner would hold: by that it may earn its authority back."""
    if seen.authority.leads:
        ports.would_memory = None
        return plan
    would, ports.would_memory = ports.policy.plan(
        replace(seen, authority=Authority()), ports.would_memory or ports.memory, plan.id
    )
    return replace(plan, would_by_offer=would.desired_by_offer)


def forecast(seen: Observation, ports: Ports) -> Observation:
    """The observation with the forecasts that the policy decides on: the tiers joined by priority."""
    if not ports.policy.forecasts or not seen.load:
        return seen
    return replace(seen, forecasts=ports.forecasts.forecast(seen.service, forecast_keys(seen), seen.now_s))


def forecast_keys(seen: Observation) -> Mapping[str, Series]:
    """The series that are forecast: each tier and the tiers joined by priority."""
    joined = {cumulative(seen.envelope.tiers, k) for k in range(len(seen.envelope.tiers))}
    own = {tier.name for tier in seen.envelope.tiers}
    return {key: series for key, series in seen.load.items() if key in joined | own}
