"""The documents that the API answers with. Times are UTC; an unknown number is null, never 0."""

from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """A document read by attribute, from a table's row."""

    model_config = ConfigDict(from_attributes=True)


Item = TypeVar("Item", bound=Answer)


class Page(Answer, Generic[Item]):
    """Newest first. `next` is the `before` that gives the older ones; null: there are none."""

    items: list[Item]
    next: str | None


class StatusAnswer(Answer):
    """Is the controller alive, what time is it there, and does it keep up. Ages are wall-clock facts."""

    now: datetime
    ticking: bool
    detail: str
    clock: str | None
    speed: float | None
    paused: bool | None
    mode: str | None
    backend: str | None
    policy: str | None
    started_at: datetime | None
    tick_at: datetime | None
    tick_ms: float | None
    ticks: int | None
    ticks_late: int | None
    ticks_failed: int | None
    guards: int | None
    guards_late: int | None
    telemetry_at: datetime | None
    paused_until: datetime | None
    last_error: str | None
    epoch: int | None


class TierAnswer(Answer):
    """A tier of a service; priority 0 is served first."""

    name: str
    priority: int
    tenants_percent: float


class ServiceAnswer(Answer):
    """A service with what the last plan decided and saw."""

    name: str
    mode: str
    tiers: list[TierAnswer]
    envelope_version: int | None
    required: int | None
    desired: int | None
    observed_ready: int | None
    observed_coming: int | None
    plan_id: str | None


class EnvelopeAnswer(Answer):
    """One version of a service's envelope; the greatest rules."""

    service: str
    version: int
    document: dict[str, Any]
    author: str
    reason: str
    created_at: datetime
    intent_id: int | None


class PlanAnswer(Answer):
    """A decision: what was seen, what was wanted, which limit bound."""

    id: str
    service: str
    made_at: datetime
    held_until: datetime
    epoch: int
    policy: str
    envelope_version: int
    required: int
    stabilized: int
    desired: int
    observed_ready: int
    observed_coming: int
    desired_by_offer: dict[str, int]
    bound_limit: str
    bound_text: str
    reasons: list[dict[str, Any]]
    options: list[dict[str, Any]]
    numbers: dict[str, Any]
    prices: dict[str, float]
    shed: list[str]
    action_count: int
    mode: str
    would_change: dict[str, int] | None
    would_by_offer: dict[str, int] | None


class SurgeAnswer(Answer):
    """An interval that needs more than is ready and coming. GPUs are of the reference; `level` and `expected` (p50) are
    loads in them. `status`: ahead, preparing, came, came_late, did_not_come, withdrawn.
    """

    start_at: datetime
    end_at: datetime
    peak_at: datetime
    provision_by: datetime
    tiers: str
    need_gpus: float
    ready_gpus: float
    coming_gpus: float
    shortfall_gpus: float
    level: float
    expected: float
    observed: float | None
    status: str
    evidence: dict[str, Any]


class SurgesAnswer(Answer):
    """The last look ahead: soonest first, and what became of those of the last day. `until` null: nothing is known."""

    service: str
    at: datetime | None
    until: datetime | None
    ready_gpus: float | None
    coming_gpus: float | None
    highest_gpus: float | None
    items: list[SurgeAnswer]


class IntentAnswer(Answer):
    """What somebody asked for and what became of it: pending, applied, or refused with the reason."""

    id: int
    kind: str
    service: str
    payload: dict[str, Any]
    author: str
    reason: str
    created_at: datetime
    status: str
    status_reason: str
    settled_at: datetime | None


class ProblemAnswer(Answer):
    """What is wrong with a field, and the nearest value that would do."""

    field: str
    reason: str
    nearest: str | None


class EnvelopeAccepted(Answer):
    """The intent that was written, and what is doubtful about the envelope but not refused."""

    intent: IntentAnswer
    warnings: list[ProblemAnswer]


class ReplayAnswer(Answer):
    """A what-if run. `spec`: what is replayed; `summary`: as `controller replay` writes it, null until it is done.
    `asked_at` is the controller's time, `started_at` and `finished_at` are the wall's.
    """

    id: int
    service: str
    spec: dict[str, Any]
    baseline: bool
    author: str
    reason: str
    intent_id: int | None
    asked_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    status: str
    status_reason: str
    attempts: int
    progress_ratio: float
    cpu_s: float | None
    summary: dict[str, Any] | None
    hourly_usd: list[float] | None


class OverrideAnswer(Answer):
    """A pin, freeze, pause or relaxed cap in force until `ends_at`. Service "*" is the whole fleet."""

    id: int
    service: str
    kind: str
    replicas: int | None
    author: str
    reason: str
    starts_at: datetime
    ends_at: datetime
    ended_at: datetime | None
    ended_why: str
    signed_over_cap: bool
    cap_usd_per_hour: float | None
    intent_id: int | None


class SettlementAnswer(Answer):
    """A closed clock hour. `usd` and `slo_minutes` are measured; those of the four fleets come from one model."""

    id: int
    service: str
    hour: datetime
    usd: float
    cap_usd: float | None
    within_cap: bool | None
    requests: int
    slo_minutes: float | None
    unknown_minutes: int | None
    fleet_usd: float | None
    fleet_slo_minutes: float | None
    fleet_miss_usd: float | None
    planned_usd: float | None
    planned_slo_minutes: float | None
    planned_miss_usd: float | None
    shadow_usd: float | None
    shadow_slo_minutes: float | None
    shadow_miss_usd: float | None
    hindsight_usd: float | None
    hindsight_slo_minutes: float | None
    hindsight_miss_usd: float | None
    saved_usd: float | None
    regret_usd: float | None
    would_save_usd: float | None
    mode: str
    planner_led: bool
    overridden: bool
    authority: dict[str, Any]
    tiers: dict[str, Any]
    text: str
    notes: str


class LedgerAnswer(Answer):
    """Who or what did which thing, when, why."""

    id: int
    at: datetime
    kind: str
    service: str
    actor: str
    subject: str
    what: str
    why: str
    numbers: dict[str, Any]
    plan_id: str | None
    intent_id: int | None
    epoch: int


class JobAnswer(Answer):
    """A batch job as observed."""

    id: str
    name: str
    service: str
    tenant: str
    tier: str
    state: str
    offer_id: str
    gpu_count: int
    price_usd_per_hour: float | None
    submitted_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    running_s: float
    cost_usd: float | None
    progress_ratio: float | None
    progress_at: datetime | None
    checkpoints: bool
    attempts: int
    cost_limit_usd: float | None
    expected_s: float | None
    projected_usd: float | None


class GuardrailEventAnswer(Answer):
    """A guardrail's verdict on a job, with its evidence."""

    id: int
    at: datetime
    job_id: str
    rule: str
    rule_version: int
    action: str
    dry_run: bool
    text: str
    evidence: dict[str, Any]
    action_id: str | None
    status: str
    detail: str
    confirmed_at: datetime | None
