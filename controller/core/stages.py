"""A chain of services, and how a promise for the whole chain is divided over them.

A request passes the stages in order; what it may wait in all of them together is the promise less what they execute.
The stages after the first have a planned part of that time. The first, whose capacity is dearest and slowest to come,
gets what the others leave: the promise less their execution and less what requests have lately waited in them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from controller.core.queueing import target_wait_s
from controller.core.types import Envelope, FloatArray, Observation, Offer, Reason, StageReading, TierTarget
from models.enums import LatencyOf, Limit, ServiceClass

# The first stage keeps at least this share of its planned wait, however much the others take: to buy speed there
# that is lost elsewhere has no end.
LEAST_OF_PLANNED = 0.25
# A promise that leaves no time at all is planned for as one of this length: the fewest replicas that hardly wait.
NO_TIME_MS = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """One service of a chain as a document states it.

    A request executes `work_s` + `work_ratio` × its recorded execution, in seconds on the reference machine (speed
    1.0). A replica boots `boot_s` and then loads for one of `load_times_s`. `wait_share`: see `StageReading`.
    """

    service: str
    service_class: ServiceClass
    work_s: float
    work_ratio: float
    wait_share: float
    boot_s: float
    load_times_s: FloatArray
    offers: tuple[Offer, ...]


@dataclass(frozen=True, slots=True, eq=False)
class BatchService:
    """A service beside the chain whose work may wait for its deadline: `items` of `work_s` seconds each come every day
    at `at_hour` UTC, and each is to be finished `deadline_s` later.
    """

    service: str
    items: int
    work_s: float
    at_hour: float
    deadline_s: float
    boot_s: float
    load_times_s: FloatArray
    offers: tuple[Offer, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """A chain of services and the batch services that share its spend cap. The first stage is where requests arrive."""

    name: str
    stages: tuple[Stage, ...]
    batch: tuple[BatchService, ...] = ()


def upstream(seen: Observation) -> StageReading | None:
    """The stage before this one; None for the first of a chain, or outside one."""
    services = [stage.service for stage in seen.chain]
    index = services.index(seen.service) if seen.service in services else 0
    return seen.chain[index - 1] if index > 0 else None


def waiting_left_s(target: TierTarget, chain: Sequence[StageReading]) -> float:
    """What the target leaves for waiting in the whole chain; not above 0 where execution alone takes all of it.

    A target of the wait is that time itself. For a percentile the same percentile of each execution is subtracted:
    executions that grow together add up so exactly, others to less.
    """
    total_s = target.target_ms / 1000
    return total_s - sum(total_s - target_wait_s(target, *stage.work_of(target.name)) for stage in chain)


def planned_share(target: TierTarget, chain: Sequence[StageReading], index: int) -> TierTarget:
    """The wait that is planned for one stage of the chain, as a target of its own."""
    left_s = waiting_left_s(target, chain) * chain[index].wait_share
    return replace(target, of=LatencyOf.WAIT, target_ms=max(NO_TIME_MS, left_s * 1000))


def share(target: TierTarget, chain: Sequence[StageReading], index: int) -> tuple[TierTarget, str]:
    """A stage's share of a target as a wait of its own, and the arithmetic in words."""
    left_s = waiting_left_s(target, chain)
    planned = planned_share(target, chain, index)
    kind = "end to end" if target.of is LatencyOf.END_TO_END else "of waiting"
    runs_s = target.target_ms / 1000 - left_s
    text = f"{target.name}: {target.statistic} {target.target_ms / 1000:,.1f} s {kind}"
    if target.of is LatencyOf.END_TO_END:
        text += f", {runs_s:,.1f} s of it run in {len(chain)} stages"
    if left_s <= 0:
        return planned, f"{text}: no time is left to wait, and no capacity can hold it"
    if index > 0:
        part = chain[index].wait_share
        return planned, f"{text}: {part:.0%} of the {left_s:,.1f} s left are planned here, {left_s * part:,.1f} s"
    others = [(stage.service, _expected_wait_s(stage, target, left_s)) for stage in chain[1:]]
    rest_s = max(left_s - sum(wait_s for _, wait_s in others), planned.target_ms / 1000 * LEAST_OF_PLANNED)
    waits = ", ".join(f"{wait_s:,.1f} s in {service}" for service, wait_s in others)
    return (
        replace(planned, target_ms=max(NO_TIME_MS, rest_s * 1000)),
        f"{text}: of the {left_s:,.1f} s left to wait {waits} are expected, {rest_s:,.1f} s remain here",
    )


def _expected_wait_s(stage: StageReading, target: TierTarget, left_s: float) -> float:
    """What was measured of late, or what is planned where nothing was."""
    measured = stage.waits_s.get(target.name)
    return left_s * stage.wait_share if measured is None else measured


def stage_envelope(seen: Observation) -> tuple[Envelope, Reason]:
    """The envelope with every tier's target replaced by this service's share of it, and why."""
    index = [stage.service for stage in seen.chain].index(seen.service)
    shares = [share(tier, seen.chain, index) for tier in seen.envelope.tiers]
    numbers: dict[str, float | None] = {f"{tier.name}_wait_ms": tier.target_ms for tier, _ in shares}
    reason = Reason(Limit.LATENCY_TARGET, "; ".join(text for _, text in shares), numbers)
    return replace(seen.envelope, tiers=tuple(tier for tier, _ in shares)), reason
