"""The frozen values that travel the one-way path, sample to plan.

Pure: no clock, no randomness, no I/O. Conventions, everywhere in `controller.core`:

* a time is `*_s`, a float of seconds since the Unix epoch, UTC; a duration is `*_s` too and its name says so;
* load is *offered load*: arrivals per second × execution seconds on the reference GPU (A10G, speed 1.0), that is the
  number of reference GPUs kept busy on average (erlangs). Divide by an offer's `speed_ratio` for its own replicas;
* an unknown number is None (or NaN inside an array), never zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from models.enums import (
    ActionKind,
    ActionStatus,
    JobState,
    LatencyOf,
    Limit,
    Market,
    Mode,
    OverrideKind,
    ReplicaState,
    ServiceClass,
    StepKind,
    SurgeStatus,
)

FloatArray = npt.NDArray[np.float64]

QUANTILES: Final = (0.5, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a stage gave the value it gave: the limit that bound and the numbers it was computed from."""

    limit: Limit
    text: str
    numbers: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Series:
    """A regular series. `values[i]` covers [start_s + i·step_s, start_s + (i+1)·step_s); a gap is NaN."""

    start_s: float
    step_s: float
    values: FloatArray

    @property
    def end_s(self) -> float:
        return self.start_s + self.step_s * len(self.values)


@dataclass(frozen=True, slots=True)
class Forecast:
    """Quantiles of offered load. `values` has shape (len(quantiles), horizon steps) and is non-decreasing along axis 0.

    Step j covers [start_s + j·step_s, start_s + (j+1)·step_s); start_s is never before made_s rounded down to a step.
    """

    service: str
    tier: str
    made_s: float
    start_s: float
    step_s: float
    quantiles: tuple[float, ...]
    values: FloatArray
    model: str
    reason: Reason

    def at(self, quantile: float) -> FloatArray:
        """The path of one of `quantiles`; ValueError for another."""
        path: FloatArray = self.values[self.quantiles.index(quantile)]
        return path


@dataclass(frozen=True, slots=True)
class Offer:
    """An instance type in a zone, in a market. A node of it has `gpu_count` GPUs, each `speed_ratio` fast and each good
    for one replica; its price is the whole node's, idle GPUs included.
    """

    id: str
    provider: str
    region: str
    zone: str
    instance_type: str
    gpu: str
    gpu_count: int
    market: Market
    price_usd_per_hour: float
    speed_ratio: float = 1.0

    @property
    def node_speed(self) -> float:
        """Reference GPUs that a whole node is worth; a machine without a GPU carries one replica of its speed."""
        return self.speed_ratio * max(1, self.gpu_count)

    @property
    def usd_per_speed_hour(self) -> float:
        """Dollars an hour for one reference GPU's worth of work on a node in full use."""
        return self.price_usd_per_hour / self.node_speed


@dataclass(frozen=True, slots=True)
class TierTarget:
    """A tier and what the envelope promises it. `priority` 0 is served first. `statistic`: "mean" or "pNN" (p100:
    maximum).
    """

    name: str
    priority: int
    tenants_percent: float
    statistic: str
    of: LatencyOf
    target_ms: float
    window_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Variant:
    """A cheaper way to serve that the service declares: fewer steps, a smaller model. `speed_factor`: how many times as
    fast; `quality`: what it costs, in the service's own words.
    """

    name: str
    speed_factor: float
    quality: str


@dataclass(frozen=True, slots=True)
class Step:
    """One step of giving way: a tier waits, a tier is served by a variant, or the cap is relaxed by `percent` for
    `minutes` once an operator approves.
    """

    kind: StepKind
    tier: str = ""
    variant: str = ""
    percent: float = 0.0
    minutes: float = 0.0

    @property
    def name(self) -> str:
        """As plans, pages and the API have it: "background", "standard:draft", "cap+20%"."""
        if self.kind is StepKind.RELAX_CAP:
            return f"cap+{self.percent:g}%"
        return f"{self.tier}:{self.variant}" if self.kind is StepKind.VARIANT else self.tier


@dataclass(frozen=True, slots=True)
class Envelope:
    """The operator's contract for one service and the fleet's cap. Tiers in order of priority.

    `degrade`: the tiers in the order in which they give way; `steps`: all steps in order, where there are others too
    (empty: the tiers alone); `variants`: what the steps may name.
    """

    tiers: tuple[TierTarget, ...]
    spend_cap_usd_per_hour: float | None
    tier_salt: str = ""
    floor: int = 0
    ceiling: int | None = None
    degrade: tuple[str, ...] = ()
    version: int = 0
    steps: tuple[Step, ...] = ()
    variants: tuple[Variant, ...] = ()


@dataclass(frozen=True, slots=True)
class Override:
    """An operator's hand on one service ("*": the whole fleet, PAUSE only). `cap_usd_per_hour`: of RELAX_CAP."""

    id: int
    service: str
    kind: OverrideKind
    replicas: int | None
    author: str
    reason: str
    starts_s: float
    ends_s: float
    signed_over_cap: bool = False
    cap_usd_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica as observed. `gone_s`: when a spot notice says it will be lost. `speed_ratio` is its offer's."""

    id: str
    service: str
    offer_id: str
    state: ReplicaState
    requested_s: float
    ready_s: float | None
    gone_s: float | None
    busy: bool
    running_tier: str | None = None


@dataclass(frozen=True, slots=True)
class QueueReading:
    """What waits and runs in one tier now. `backlog_s`: reference execution seconds waiting (expected where
    unknown).
    """

    tier: str
    queued: int
    running: int
    backlog_s: float
    oldest_wait_s: float


@dataclass(frozen=True, slots=True)
class LatencyReading:
    """A tier's statistic over its window. `value_ms` is None when nothing was measured: unknown, not zero."""

    tier: str
    statistic: str
    of: LatencyOf
    window_s: float
    value_ms: float | None
    count: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One minute of one tier's telemetry. `work_s`: reference execution seconds that arrived in it."""

    service: str
    tier: str
    minute_s: float
    arrivals: int
    work_s: float
    started: int
    wait_mean_s: float | None
    wait_p95_s: float | None
    wait_max_s: float | None


@dataclass(frozen=True, slots=True)
class Job:
    """A batch job as observed. `progress_ratio` None: the job does not report any."""

    id: str
    name: str
    service: str
    tenant: str
    tier: str
    state: JobState
    offer_id: str
    gpu_count: int
    price_usd_per_hour: float | None
    submitted_s: float
    started_s: float | None
    finished_s: float | None
    running_s: float
    cost_usd: float | None
    progress_ratio: float | None
    progress_at_s: float | None
    checkpoints: bool
    attempts: int
    cost_limit_usd: float | None
    expected_s: float | None


@dataclass(frozen=True, slots=True)
class OfferStanding:
    """What is known of an offer right now. `refused_s`, `lost_s`: when it last refused a start, last lost a replica.

    `hazard_per_hour`: interruptions to expect of one replica in an hour (`core.hazard`); None: not learned.
    """

    offer: Offer
    usable: bool = True
    why_not: str = ""
    refused_s: float | None = None
    lost_s: float | None = None
    notice: bool = False
    hazard_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class Spend:
    """Dollars of the clock hour that contains now; `*_per_hour` is the present burn. `accrued_usd` includes jobs.

    Where services share a cap, `accrued_usd` is the whole fleet's and `jobs_usd_per_hour` what burns beside this
    service: jobs and the replicas of the others.
    """

    hour_start_s: float
    accrued_usd: float
    replicas_usd_per_hour: float
    jobs_usd_per_hour: float


@dataclass(frozen=True, slots=True, eq=False)
class Activity:
    """What tenants did, in bins (see `core.activity`): `sums[c, k, i]` is channel c summed over the bins before i for
    the tiers 0…k together, shape (channels, tiers, n + 1). `known[i]` (n,): the bin was measured; one that was not
    repeats what came before it.
    """

    start_s: float
    step_s: float
    sums: FloatArray
    known: npt.NDArray[np.bool_]

    @property
    def bins(self) -> int:
        return len(self.known)

    @property
    def end_s(self) -> float:
        return self.start_s + self.step_s * self.bins


@dataclass(frozen=True, slots=True)
class Authority:
    """Whether the planner leads, with its forecasts, or the reactive net without them; and why, with both scores."""

    leads: bool = True
    reason: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StageReading:
    """One service of a chain as it stands now. `work_mean_s`, `work_scv`: its execution on the reference machine,
    mean in seconds and squared coefficient of variation; `work_by_tier`: the same of each tier, where it is known.

    `wait_share`: part of the time a request may wait in the whole chain that is planned for this stage; those of a
    chain sum to 1. `waits_s`: by tier, the target's own statistic of the wait in this stage over the last hour; None:
    nothing was measured.
    """

    service: str
    service_class: ServiceClass
    work_mean_s: float
    work_scv: float
    wait_share: float
    queues: tuple[QueueReading, ...]
    waits_s: Mapping[str, float | None]
    work_by_tier: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def work_of(self, tier: str) -> tuple[float, float]:
        """A tier's own execution; that of all where it is not known."""
        return self.work_by_tier.get(tier, (self.work_mean_s, self.work_scv))


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything a policy may look at. Telemetry older than `stale_after_s` is not to be scaled in on.

    `chain`: the services that a request passes, in order, this one among them; empty for a service that stands alone.
    """

    now_s: float
    service: str
    mode: Mode
    envelope: Envelope
    replicas: tuple[Replica, ...]
    offers: tuple[OfferStanding, ...]
    queues: tuple[QueueReading, ...]
    latencies: tuple[LatencyReading, ...]
    load: Mapping[str, Series]
    forecasts: Mapping[tuple[str, float], Forecast]
    spend: Spend
    overrides: tuple[Override, ...]
    telemetry_s: float | None
    boot_s: float
    load_model_s: float
    work_mean_s: float
    work_scv: float
    stale_after_s: float = 180.0
    chain: tuple[StageReading, ...] = ()
    activity: Activity | None = None
    authority: Authority = Authority()

    @property
    def telemetry_age_s(self) -> float | None:
        return None if self.telemetry_s is None else max(0.0, self.now_s - self.telemetry_s)

    @property
    def stale(self) -> bool:
        age = self.telemetry_age_s
        return age is None or age > self.stale_after_s


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do, done at most once: a backend that has seen `id` returns the first result again."""

    id: str
    kind: ActionKind
    service: str
    reason: str
    offer_id: str | None = None
    replica_id: str | None = None
    job_id: str | None = None

    def __str__(self) -> str:
        subject = self.replica_id or self.job_id or self.offer_id or self.service
        return f"{self.kind.value} {subject}: {self.reason}"


@dataclass(frozen=True, slots=True)
class ActionResult:
    action_id: str
    status: ActionStatus
    detail: str = ""
    replica_id: str | None = None


@dataclass(frozen=True, slots=True)
class SurgeEvidence:
    """Why a surge is believed: the model that leads the slow grid and its scores, the load's quantiles at the peak and
    what was measured at the same time yesterday and last week. Loads in erlangs; None: not known.
    """

    model: str
    step_s: float
    pinball: float | None
    coverage_p90: float | None
    quantiles: tuple[float, ...]
    loads: tuple[float, ...]
    yesterday: float | None
    last_week: float | None
    events: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Surge:
    """A rise that the slow forecast knows of: [start_s, end_s) needs more than is there.

    `key`: the joined tiers that rise the most. `level`: their load before (erlangs); `expected`: the median load of the
    surge; it is judged from `judge_s` on by the `observed` mean since. `need` at its peak in `peak_s`, `ready` and
    `coming` in reference GPUs, as they were when it was named; `prepared`: the most that was asked for on its account.
    """

    service: str
    key: str
    start_s: float
    end_s: float
    peak_s: float
    provision_by_s: float
    judge_s: float
    need: float
    ready: float
    coming: float
    level: float
    expected: float
    evidence: SurgeEvidence
    status: SurgeStatus = SurgeStatus.AHEAD
    observed: float | None = None
    prepared: float = 0.0

    @property
    def shortfall(self) -> float:
        """Reference GPUs that neither serve nor come yet."""
        return max(0.0, self.need - self.ready - self.coming)

    @property
    def midpoint(self) -> float:
        """Half way from the level before to what was expected: which of the two is nearer."""
        return (self.level + self.expected) / 2


@dataclass(frozen=True, slots=True)
class Plan:
    """A decision and why. `required` → `stabilized` → `desired` are replicas; `desired_by_offer` sums to `desired`.

    `reasons` has one entry a stage, in order; `bound` is the one that decided. `options` are what was considered.
    `surges` are those that the policy prepares for, or prepared for and that aren't over. `would_by_offer`: while the
    reactive net acts, the replicas that the planner would hold; None: this plan is the planner's own.
    """

    id: str
    service: str
    made_s: float
    policy: str
    required: int
    stabilized: int
    desired: int
    desired_by_offer: Mapping[str, int]
    actions: tuple[Action, ...]
    bound: Reason
    reasons: tuple[Reason, ...] = ()
    shed: tuple[str, ...] = ()
    options: tuple[Mapping[str, str | float | None], ...] = ()
    numbers: Mapping[str, float | None] = field(default_factory=dict)
    surges: tuple[Surge, ...] = ()
    would_by_offer: Mapping[str, int] | None = None
