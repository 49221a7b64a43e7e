"""Rules, what they find, and the words they find it in."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from controller.core.guard_readings import Reading, Run, known, percent, projected_usd, span
from controller.core.types import Job
from models.enums import GuardAction, JobState, RuleMetric

ACTIVE: Final = (JobState.QUEUED, JobState.RUNNING)
"""States that may cost money: a queued job's machine may be starting."""

ENDED: Final = (JobState.SUCCEEDED, JobState.FAILED, JobState.KILLED)

_MONEY = (RuleMetric.COST, RuleMetric.PROJECTED_COST)


class RuleError(ValueError):
    """A rule that can't be: which field and why."""

    def __init__(self, field: str, reason: str) -> None:
        self.field, self.reason = field, reason
        super().__init__(f"{field}: {reason}")


class Step(StrEnum):
    """What a verdict does. WARN foresees a breach, HOLD can't read the money, ALERT is a breach that only alerts."""

    WARN = "warn"
    HOLD = "hold"
    ALERT = "alert"
    THROTTLE = "throttle"
    KILL = "kill"


@dataclass(frozen=True, slots=True)
class Rule:
    """A limit on jobs. `threshold` in dollars or seconds, as the metric has it; None: the job's own cost limit.

    `action` is the severest the rule may reach. A dry run says what it would do. RuleError when it makes no sense.
    """

    name: str
    version: int
    metric: RuleMetric
    threshold: float | None
    action: GuardAction
    grace_s: float
    dry_run: bool = False
    enabled: bool = True

    def __post_init__(self) -> None:
        if not self.name.strip() or len(self.name) > 60:
            raise RuleError("name", "needs 1 to 60 characters")
        if self.threshold is None and self.metric not in _MONEY:
            raise RuleError("threshold", f"{self.metric.value} needs a number of seconds")
        if self.threshold is not None and not 0 < self.threshold < math.inf:
            raise RuleError("threshold", f"must be above 0, not {self.threshold:g}")
        if not 0 <= self.grace_s < math.inf:
            raise RuleError("grace_s", f"must be 0 or more seconds, not {self.grace_s:g}")


DEFAULT_RULES: Final = (
    Rule("cost", 1, RuleMetric.COST, None, GuardAction.KILL, grace_s=600),
    Rule("projected-cost", 1, RuleMetric.PROJECTED_COST, None, GuardAction.THROTTLE, grace_s=600),
    Rule("duration", 1, RuleMetric.DURATION, 6 * 3600, GuardAction.KILL, grace_s=600),
    Rule("no-progress", 1, RuleMetric.NO_PROGRESS, 1800, GuardAction.KILL, grace_s=300),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule found on a job and what follows. `attempt` counts this rule's throttles, or kills, of this job.

    `text` is one sentence with its numbers; `evidence` holds plain JSON values. A dry run's `action` is not to be done.
    """

    job_id: str
    service: str
    rule: str
    version: int
    action: GuardAction
    step: Step
    attempt: int
    dry_run: bool
    text: str
    evidence: Mapping[str, Any]

    @property
    def acts(self) -> bool:
        """Whether something is to be done to the job."""
        return self.step in (Step.THROTTLE, Step.KILL) and not self.dry_run


@dataclass(frozen=True, slots=True)
class Trace:
    """What one rule did about one job. `first_s`: when the present breach was first seen, None: not in breach."""

    version: int
    dry_run: bool
    first_s: float | None = None
    value: float | None = None
    warned: bool = False
    held: bool = False
    alerted: bool = False
    throttles: int = 0
    throttled_s: float | None = None
    suspended: bool = False
    resumed_s: float | None = None
    kills: int = 0
    killed_s: float | None = None


def verdict_of(
    job: Job, rule: Rule, trace: Trace, run: Run | None, reading: Reading, step: Step, attempt: int, now_s: float
) -> Verdict:
    """The verdict of a step that was decided, in words and with its evidence."""
    action = {Step.THROTTLE: GuardAction.THROTTLE, Step.KILL: GuardAction.KILL}.get(step, GuardAction.ALERT)
    loses = not job.checkpoints and step is Step.THROTTLE
    evidence: dict[str, Any] = {
        "step": step.value,
        "attempt": attempt,
        "metric": rule.metric.value,
        "value": known(reading.value),
        "limit": reading.limit,
        "unit": "usd" if rule.metric in _MONEY else "s",
        "first_breached_s": trace.first_s,
        "throttled_s": trace.throttled_s,
        "resumed_s": trace.resumed_s,
        "grace_s": rule.grace_s,
        "judged_s": now_s,
        "job_state": job.state.value,
        "attempts": job.attempts,
        "tenant": job.tenant,
        "offer_id": job.offer_id,
        "gpu_count": job.gpu_count,
        "price_usd_per_hour": known(job.price_usd_per_hour),
        "cost_usd": known(job.cost_usd),
        "cost_limit_usd": known(job.cost_limit_usd),
        "projected_usd": projected_usd(job, run),
        "running_s": job.running_s,
        "progress_ratio": known(job.progress_ratio),
        "progress_at_s": known(job.progress_at_s),
        "checkpoints": job.checkpoints,
        "progress_lost_on_resume": loses,
        **reading.numbers,
    }
    text = f"{reading.text}; {_what_heddle_does(job, rule, trace, reading, step, loses, now_s)}."
    return Verdict(job.id, job.service, rule.name, rule.version, action, step, attempt, rule.dry_run, text, evidence)


def _what_heddle_does(
    job: Job, rule: Rule, trace: Trace, reading: Reading, step: Step, loses: bool, now_s: float
) -> str:
    would = "dry run: would be " if rule.dry_run else ""
    if step is Step.HOLD:
        why = "" if reading.value is None else " because its price or cost is unknown"
        return f"alert only{why}: nothing is stopped on a guess"
    if step is Step.ALERT:
        return "alert only, as the rule says"
    if step is Step.WARN:
        if rule.action is GuardAction.ALERT:
            return "alert only, as the rule says"
        limit = span(reading.limit) if rule.metric not in _MONEY else f"${reading.limit:,.2f}"
        return f"alert now, {would}suspended past {limit}"
    if step is Step.THROTTLE:
        lost = percent(job.progress_ratio) if known(job.progress_ratio) is not None else "all of it"
        keeps = f", but it keeps no checkpoint: its progress ({lost}) is lost if it resumes" if loses else ""
        again = f" again (time {trace.throttles + 1})" if trace.throttles else ""
        return f"{would}suspended{again}, billing stops{keeps}"
    if trace.killed_s is not None:
        return f"killed again: the kill {span(now_s - trace.killed_s)} ago had no effect"
    if trace.resumed_s is not None and trace.first_s is not None and trace.first_s > trace.resumed_s:
        return f"{would}killed: it was suspended before, resumed, and breached again"
    if trace.resumed_s is not None:
        return f"{would}killed: still in breach {span(now_s - trace.resumed_s)} after it was resumed"
    waited = span(now_s - (now_s if trace.throttled_s is None else trace.throttled_s))
    return f"{would}killed: still in breach {waited} after it was {would and 'to be '}suspended"
