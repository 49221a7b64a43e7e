"""The guardrail's judgement: jobs and rules in, verdicts and a new memory out.

A rule escalates, and never further than its `action`: an alert when the breach can be foreseen, a throttle (suspend:
billing stops) at the breach, a kill after `grace_s` if it is still in breach, or at once when the job was resumed, was
well, and breached again. Somebody who resumes a job that is still in breach gets a new grace.

Money that can't be read stops nothing: a job of unknown price or cost is alerted on and held, whatever the rule.
Judging again without time passing gives nothing new.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from controller.core.guard_readings import Reading, Run, known, projected_usd, read, run_of
from controller.core.guard_verdicts import ACTIVE as ACTIVE
from controller.core.guard_verdicts import DEFAULT_RULES as DEFAULT_RULES
from controller.core.guard_verdicts import ENDED as ENDED
from controller.core.guard_verdicts import Rule as Rule
from controller.core.guard_verdicts import RuleError as RuleError
from controller.core.guard_verdicts import Step as Step
from controller.core.guard_verdicts import Trace, verdict_of
from controller.core.guard_verdicts import Verdict as Verdict
from controller.core.types import Job
from models.enums import GuardAction, JobState

ASK_AGAIN_S: Final = 60.0
"""The least time an act has to show its effect before it is asked for again, by its own rule or by another."""


@dataclass(frozen=True, slots=True)
class GuardMemory:
    """What the guard knows from before: a trace per (job, rule name) and the present run per job."""

    traces: Mapping[tuple[str, str], Trace] = field(default_factory=lambda: MappingProxyType({}))
    runs: Mapping[str, Run] = field(default_factory=lambda: MappingProxyType({}))

    def projected_usd(self, job: Job) -> float | None:
        """The job's projected final cost, paced by its present attempt. None: unknown."""
        return projected_usd(job, self.runs.get(job.id))


@dataclass(frozen=True, slots=True)
class Deed:
    """A past verdict as the ledger has it, to remember by. `seen`: its effect was observed."""

    job_id: str
    rule: str
    version: int
    step: Step
    attempt: int
    at_s: float
    dry_run: bool
    seen: bool
    first_s: float | None
    value: float | None


def remember(deeds: Iterable[Deed], resumed_s: Mapping[str, float] = MappingProxyType({})) -> GuardMemory:
    """The memory that made these deeds, in the order they were done. `resumed_s`: when each job was last resumed."""
    traces: dict[tuple[str, str], Trace] = {}
    for deed in deeds:
        key = (deed.job_id, deed.rule)
        trace = _current(traces.get(key), deed.version, deed.dry_run)
        traces[key] = _after(replace(trace, first_s=deed.first_s, value=deed.value), deed.step, deed.attempt, deed.at_s)
        if deed.step is Step.THROTTLE and deed.seen and not deed.dry_run:
            traces[key] = replace(traces[key], suspended=True)
    for key, trace in traces.items():
        again_s = resumed_s.get(key[0])
        if trace.suspended and again_s is not None and again_s > (trace.throttled_s or again_s):
            traces[key] = replace(trace, suspended=False, resumed_s=again_s)
    return GuardMemory(MappingProxyType(traces))


def judge(
    jobs: Sequence[Job], rules: Sequence[Rule], memory: GuardMemory, now_s: float
) -> tuple[tuple[Verdict, ...], GuardMemory]:
    """Every job against every enabled rule. At most one verdict a job acts: the severest, then the first rule's.

    What a job that has ended did is forgotten; a job that is not among `jobs` keeps its traces.
    """
    traces, runs = dict(memory.traces), dict(memory.runs)
    verdicts: list[Verdict] = []
    ended: set[str] = set()
    for job in jobs:
        if job.state in ENDED:
            ended.add(job.id)
            continue
        run = run_of(job, runs.get(job.id), now_s)
        if run is not None:
            runs[job.id] = run
        acting: list[tuple[Verdict, tuple[str, str], Trace]] = []
        for rule in rules:
            if not rule.enabled:
                continue
            key = (job.id, rule.name)
            trace = _observe(_current(traces.get(key), rule.version, rule.dry_run), job, now_s)
            reading = read(rule.metric, rule.threshold, job, run, now_s, resumed_s=trace.resumed_s, frozen=trace.value)
            trace = _breach(trace, reading, now_s)
            traces[key] = trace
            alone = not any(traces[job.id, other.name].held for other in rules if (job.id, other.name) in traces)
            step = _step(job, rule, trace, reading, now_s, first_to_hold=alone)
            if reading is None or step is None:
                continue
            attempt = {Step.THROTTLE: trace.throttles + 1, Step.KILL: trace.kills + 1}.get(step, 1)
            verdict = verdict_of(job, rule, trace, run, reading, step, attempt, now_s)
            if verdict.acts and _asked(job, rules, memory, step, now_s):
                continue
            done = _after(trace, step, attempt, now_s)
            if verdict.acts:
                acting.append((verdict, key, done))
            else:
                verdicts.append(verdict)
                traces[key] = done
        if acting:
            verdict, key, done = max(acting, key=lambda entry: entry[0].step is Step.KILL)
            verdicts.append(verdict)
            traces[key] = done
    traces = {key: trace for key, trace in traces.items() if key[0] not in ended}
    runs = {job_id: run for job_id, run in runs.items() if job_id not in ended}
    return tuple(verdicts), GuardMemory(MappingProxyType(traces), MappingProxyType(runs))


def _asked(job: Job, rules: Sequence[Rule], memory: GuardMemory, step: Step, now_s: float) -> bool:
    """Whether some rule has just asked for as much as this step, and the effect may not show yet."""
    asked_s: list[float] = []
    for rule in rules:
        trace = memory.traces.get((job.id, rule.name))
        if trace is None or trace.dry_run:
            continue
        if trace.killed_s is not None:
            asked_s.append(trace.killed_s)
        if step is Step.THROTTLE and trace.throttled_s is not None and not trace.suspended:
            asked_s.extend([] if trace.resumed_s is not None else [trace.throttled_s])
    return bool(asked_s) and now_s < max(asked_s) + ASK_AGAIN_S


def _current(trace: Trace | None, version: int, dry_run: bool) -> Trace:
    """A new version alerts anew; going from a dry run to a real one begins anew: what it said, it did not do."""
    if trace is None or trace.dry_run != dry_run:
        return Trace(version, dry_run)
    if trace.version != version:
        return replace(trace, version=version, warned=False, held=False, alerted=False)
    return trace


def _observe(trace: Trace, job: Job, now_s: float) -> Trace:
    if trace.throttles == 0 or trace.dry_run:
        return trace
    if job.state is JobState.SUSPENDED:
        return replace(trace, suspended=True)
    return replace(trace, suspended=False, resumed_s=now_s) if trace.suspended else trace


def _breach(trace: Trace, reading: Reading | None, now_s: float) -> Trace:
    if reading is None or reading.value is None:
        return trace
    if not reading.breach:
        return replace(trace, first_s=None, value=reading.value)
    return replace(trace, first_s=now_s if trace.first_s is None else trace.first_s, value=reading.value)


def _step(
    job: Job, rule: Rule, trace: Trace, reading: Reading | None, now_s: float, *, first_to_hold: bool
) -> Step | None:
    if reading is None:
        return None
    if known(job.cost_usd) is None or known(job.price_usd_per_hour) is None:
        held = trace.held or job.state is not JobState.RUNNING
        worth_a_word = reading.breach or (reading.value is None and first_to_hold)
        return Step.HOLD if worth_a_word and not held else None
    if reading.breach:
        return _escalate(job, rule, trace, now_s)
    foreseen = reading.warn and not trace.warned and job.state in ACTIVE
    return Step.WARN if foreseen else None


def _escalate(job: Job, rule: Rule, trace: Trace, now_s: float) -> Step | None:
    active = job.state in ACTIVE
    if rule.action is GuardAction.ALERT:
        return Step.ALERT if active and not trace.alerted else None
    if trace.throttled_s is None:
        return Step.THROTTLE if active else None
    if trace.killed_s is not None:
        unheard = now_s > trace.killed_s + max(rule.grace_s, ASK_AGAIN_S)
        return Step.KILL if unheard and not rule.dry_run and rule.action is GuardAction.KILL else None
    since_s = max(trace.throttled_s, -math.inf if trace.resumed_s is None else trace.resumed_s)
    anew = trace.resumed_s is not None and trace.first_s is not None and trace.first_s > trace.resumed_s
    if now_s <= trace.throttled_s or (now_s < since_s + rule.grace_s and not anew):
        return None
    if rule.action is GuardAction.KILL:
        return Step.KILL
    return Step.THROTTLE if active and not rule.dry_run else None


def _after(trace: Trace, step: Step, attempt: int, now_s: float) -> Trace:
    if step is Step.WARN:
        return replace(trace, warned=True)
    if step is Step.HOLD:
        return replace(trace, held=True)
    if step is Step.ALERT:
        return replace(trace, alerted=True)
    if step is Step.THROTTLE:
        return replace(trace, throttles=attempt, throttled_s=now_s, suspended=False, resumed_s=None)
    return replace(trace, kills=attempt, killed_s=now_s)
