"""What a guardrail measures on a job, and how it says it.

A reading is None when there is nothing to judge (no limit, not running yet) and its value None when it is unknown:
unknown is not zero, and not a breach either.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.core.finance import HOUR_S, dollars
from controller.core.types import Job
from models.enums import JobState, RuleMetric

PROJECTED_BREACH_RATIO = 1.5
"""A projection from a job's pace is uncertain: against the job's own limit, it alerts at 1 × and breaches at 1.5 ×."""

MIN_PROGRESS_RATIO = 0.02
"""Below this much progress a pace is noise (start-up, first batches)."""

QUIET_ALERT_RATIO = 0.5
"""A job quiet for this part of what is allowed is worth a word."""


@dataclass(frozen=True, slots=True)
class Run:
    """Where a job stood when its present attempt began to run: a pace is measured from here, never across a restart."""

    attempt: int
    since_s: float
    running_s: float = 0.0
    progress_ratio: float = 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """A metric of a job against its limit. `value` None: unknown, with the why in `text`.

    `text` is the part of the sentence that states the fact ("Cost $12.40 is over the job's limit of $10.00").
    """

    value: float | None
    limit: float
    text: str
    breach: bool = False
    warn: bool = False
    numbers: Mapping[str, float | None] = field(default_factory=dict)


def known(value: float | None) -> float | None:
    """The value when it is a finite number, None otherwise."""
    return value if value is not None and math.isfinite(value) else None


def run_of(job: Job, before: Run | None, now_s: float) -> Run | None:
    """The present attempt's run, given what was known of it. None: it has not run yet.

    A later attempt that was not seen to begin is measured from now on, which errs towards patience.
    """
    if job.state is not JobState.RUNNING:
        return before
    progress = known(job.progress_ratio) or 0.0
    if before is not None and before.attempt == job.attempts and progress >= before.progress_ratio:
        return before
    if job.attempts <= 1 and before is None:
        return Run(job.attempts, job.started_s if job.started_s is not None else now_s)
    return Run(job.attempts, now_s, job.running_s, progress)


def remaining_s(job: Job, run: Run | None) -> float | None:
    """Running seconds still needed at the present attempt's pace; by `expected_s` while there is no pace; else None."""
    run = run or Run(job.attempts, job.submitted_s)
    ran_s = job.running_s - run.running_s
    progress = known(job.progress_ratio)
    if progress is not None and progress - run.progress_ratio >= MIN_PROGRESS_RATIO and ran_s > 0:
        return max(0.0, 1.0 - progress) * ran_s / (progress - run.progress_ratio)
    expected_s = known(job.expected_s)
    return None if expected_s is None else max(0.0, expected_s * (1.0 - run.progress_ratio) - ran_s)


def projected_usd(job: Job, run: Run | None = None) -> float | None:
    """What the job will have cost when it finishes: its cost so far plus the rest at today's price. None: unknown.

    Without `run` the pace is the whole job's, which is right for a first attempt only.
    """
    left_s, cost, price = remaining_s(job, run), known(job.cost_usd), known(job.price_usd_per_hour)
    if left_s is None or cost is None or price is None:
        return None
    return cost + price * left_s / HOUR_S


def read(
    metric: RuleMetric,
    threshold: float | None,
    job: Job,
    run: Run | None,
    now_s: float,
    *,
    resumed_s: float | None = None,
    frozen: float | None = None,
) -> Reading | None:
    """Measures a job. `resumed_s`: when it was last seen to go on; `frozen`: what was read before it was suspended."""
    if metric is RuleMetric.COST:
        return _cost(threshold, job)
    if metric is RuleMetric.PROJECTED_COST:
        return _projected(threshold, job, run)
    if threshold is None:
        return None
    if metric is RuleMetric.DURATION:
        return _duration(threshold, job, run)
    return _no_progress(threshold, job, run, now_s, resumed_s, frozen)


def span(seconds: float) -> str:
    """A duration for people: 45 s, 28 min, 6 h, 6 h 5 min. Rounded down: what is said has passed."""
    whole = int(seconds + 1e-6)
    if whole < 120:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def percent(ratio: float | None) -> str:
    """A ratio for people; — when unknown."""
    return "—" if known(ratio) is None else f"{100 * (ratio or 0.0):.0f} %"


def _limit(threshold: float | None, job: Job) -> tuple[float, str] | None:
    limit = known(threshold if threshold is not None else job.cost_limit_usd)
    if limit is None:
        return None
    return limit, f"the {'job' if threshold is None else 'rule'}'s limit of {dollars(limit)}"


def _cost(threshold: float | None, job: Job) -> Reading | None:
    against, cost = _limit(threshold, job), known(job.cost_usd)
    if against is None:
        return None
    limit, said = against
    if cost is None or known(job.price_usd_per_hour) is None:
        return Reading(None, limit, f"Cost or price is unknown, so {said} can't be checked")
    text = f"Cost {dollars(cost)} is over {said} after {span(job.running_s)}"
    return Reading(cost, limit, text, breach=cost > limit)


def _projected(threshold: float | None, job: Job, run: Run | None) -> Reading | None:
    against = _limit(threshold, job)
    if against is None:
        return None
    allowed, said = against
    limit = allowed * (PROJECTED_BREACH_RATIO if threshold is None else 1.0)
    if known(job.cost_usd) is None or known(job.price_usd_per_hour) is None:
        return Reading(None, limit, f"Cost or price is unknown, so {said} can't be checked")
    final = projected_usd(job, run)
    if final is None:
        return None
    breach = final > limit
    if breach and threshold is None:
        said = f"{PROJECTED_BREACH_RATIO:g} × {said}"
    so_far = f"{dollars(job.cost_usd)} so far, {percent(job.progress_ratio)} done after {span(job.running_s)}"
    text = f"Projected final cost {dollars(final)} is over {said} ({so_far})"
    return Reading(final, limit, text, breach, warn=final > allowed, numbers={"allowed_usd": allowed})


def _duration(limit_s: float, job: Job, run: Run | None) -> Reading:
    if job.running_s > limit_s:
        text = f"It has run for {span(job.running_s)}, past the limit of {span(limit_s)}"
        return Reading(job.running_s, limit_s, text, breach=True)
    left_s = remaining_s(job, run)
    whole_s = job.running_s + (left_s or 0.0)
    text = f"At its pace it will run for {span(whole_s)}, over the limit of {span(limit_s)}"
    return Reading(job.running_s, limit_s, text, warn=left_s is not None and whole_s > limit_s)


def _no_progress(
    limit_s: float, job: Job, run: Run | None, now_s: float, resumed_s: float | None, frozen: float | None
) -> Reading | None:
    if job.state is JobState.RUNNING:
        marks = (known(job.progress_at_s), run.since_s if run else None, resumed_s)
        seen = [mark for mark in marks if mark is not None]
        quiet_s = now_s - max(seen) if seen else None
    else:
        quiet_s = frozen if job.state is JobState.SUSPENDED else None
    if quiet_s is None:
        return None
    where = (
        f" at {percent(job.progress_ratio)}" if known(job.progress_ratio) is not None else ", and none ever reported"
    )
    said = f", past the limit of {span(limit_s)}" if quiet_s > limit_s else ""
    text = f"No progress for {span(quiet_s)}{where}{said}"
    return Reading(quiet_s, limit_s, text, quiet_s > limit_s, warn=quiet_s > QUIET_ALERT_RATIO * limit_s)
