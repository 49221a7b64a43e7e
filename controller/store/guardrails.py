"""Guardrail rules by version, and what the guard did: each act written, with its evidence, before it is done."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func
from sqlmodel import col, select

from controller.core.guard import DEFAULT_RULES, Deed, Rule, Step, Verdict
from controller.core.types import Action
from controller.store.convert import moment, plain, seconds
from controller.store.ledger import CONTROLLER
from controller.store.plans import Plans
from models.enums import ActionKind, ActionStatus, GuardAction, JobState, LedgerKind, RuleMetric
from models.guardrails import GuardrailEvent, GuardrailRule
from models.jobs import JobRow
from models.plans import ActionRow

BY_HAND = "by hand"
NOTED = "noted"
"""The status of an event that asks for nothing: an alert, or a dry run."""

_KINDS = {Step.THROTTLE: ActionKind.SUSPEND_JOB, Step.KILL: ActionKind.KILL_JOB}
_HANDS = {ActionKind.SUSPEND_JOB: GuardAction.THROTTLE.value, ActionKind.KILL_JOB: GuardAction.KILL.value}
_ENDED = (JobState.SUCCEEDED.value, JobState.FAILED.value, JobState.KILLED.value)


class Guardrails(Plans):
    """The greatest version of a rule's name rules."""

    _rules: tuple[Rule, ...] | None = None

    def rules(self) -> tuple[Rule, ...]:
        """The ruling version of each rule, disabled ones too, in the order in which the names first came."""
        with self._lock:
            if self._rules is None:
                newest: dict[str, Rule] = {}
                with self._read() as session:
                    for row in session.exec(select(GuardrailRule).order_by(col(GuardrailRule.id))).all():
                        known = newest.get(row.name)
                        if known is None or row.version > known.version:
                            newest[row.name] = _rule_of(row)
                self._rules = tuple(newest.values())
            return self._rules

    def add_rule(self, rule: Rule, *, author: str, reason: str, now_s: float, intent_id: int | None = None) -> int:
        """Makes `rule` the next version of its name, with its ledger entry; `rule.version` is not looked at."""
        with self._write() as session:
            before = next((each for each in self.rules() if each.name == rule.name), None)
            version = before.version + 1 if before else 1
            session.add(_rule_row(rule, version, author, reason, now_s))
            session.flush()
            self._rules = None
            was = "" if before is None else f", was {_described(before)}"
            self.enter(
                LedgerKind.GUARDRAIL,
                now_s=now_s,
                actor=author,
                subject=f"rule {rule.name}",
                what=f"Rule {rule.name} v{version}: {_described(rule)}{was}",
                why=reason,
                numbers={"version": version, "threshold": rule.threshold, "grace_s": rule.grace_s},
                intent_id=intent_id,
            )
            return version

    def record_verdicts(self, verdicts: Sequence[Verdict], now_s: float) -> tuple[Action, ...]:
        """Writes each verdict with its evidence, and returns the actions to carry out now, written as REQUESTED.

        An action's id follows from job, rule, rule version, step and attempt: the same verdict again asks for nothing.
        """
        actions: list[Action] = []
        if not verdicts:
            return ()
        with self._write():
            for verdict in verdicts:
                action = None
                if verdict.acts:
                    word = f"{verdict.job_id}-{verdict.rule}-v{verdict.version}-{verdict.step.value}-{verdict.attempt}"
                    kind = _KINDS[verdict.step]
                    action = Action(f"g-{word}", kind, verdict.service, verdict.text, job_id=verdict.job_id)
                    if not self.request_action(action, now_s):
                        continue
                    actions.append(action)
                self._event(
                    now_s,
                    verdict.job_id,
                    (verdict.rule, verdict.version),
                    verdict.action.value,
                    verdict.dry_run,
                    verdict.text,
                    {**verdict.evidence, "step": verdict.step.value, "attempt": verdict.attempt},
                    action,
                )
                self.enter(
                    LedgerKind.GUARDRAIL,
                    now_s=now_s,
                    service=verdict.service,
                    subject=verdict.job_id,
                    what=verdict.text,
                    why=f"rule {verdict.rule} v{verdict.version}" + (", dry run" if verdict.dry_run else ""),
                    numbers={key: value for key, value in verdict.evidence.items() if not isinstance(value, str)},
                )
        return tuple(actions)

    def request_by_hand(
        self, kind: ActionKind, job: JobRow, *, author: str, reason: str, intent_id: int, now_s: float
    ) -> Action:
        """The action of an operator's intent on a job, written as REQUESTED unless it was before a crash."""
        action = Action(by_hand_id(intent_id), kind, job.service, f"by hand, {author}: {reason}", job_id=job.id)
        with self._write():
            if self.request_action(action, now_s) and kind in _HANDS:
                evidence = {
                    "author": author,
                    "reason": reason,
                    "job_state": job.state,
                    "cost_usd": job.cost_usd,
                    "cost_limit_usd": job.cost_limit_usd,
                    "running_s": job.running_s,
                    "progress_ratio": job.progress_ratio,
                }
                verb = "Suspended" if kind is ActionKind.SUSPEND_JOB else "Killed"
                text = f"{verb} by {author}: {reason}"
                self._event(now_s, job.id, (BY_HAND, 0), _HANDS[kind], False, text, evidence, action)
        return action

    def deeds(self) -> tuple[Deed, ...]:
        """What the guard did to jobs that have not ended, in its order: for `core.guard.remember` after a restart."""
        rows = select(GuardrailEvent).where(GuardrailEvent.rule != BY_HAND).order_by(col(GuardrailEvent.id))
        ended = select(JobRow.id).where(col(JobRow.state).in_(_ENDED))
        with self._read() as session:
            events = session.exec(rows.where(col(GuardrailEvent.job_id).not_in(ended))).all()
        return tuple(
            Deed(
                job_id=event.job_id,
                rule=event.rule,
                version=event.rule_version,
                step=Step(event.evidence["step"]),
                attempt=int(event.evidence["attempt"]),
                at_s=seconds(event.at),
                dry_run=event.dry_run,
                seen=event.confirmed_at is not None,
                first_s=event.evidence.get("first_breached_s"),
                value=event.evidence.get("value"),
            )
            for event in events
        )

    def resumed(self) -> dict[str, float]:
        """When each job was last asked to resume, for `core.guard.remember`."""
        asked = select(ActionRow.job_id, func.max(ActionRow.requested_at)).group_by(col(ActionRow.job_id))
        with self._read() as session:
            rows = session.exec(asked.where(ActionRow.kind == ActionKind.RESUME_JOB.value)).all()
        return {job_id: seconds(at) for job_id, at in rows if job_id is not None}

    def _seed_rules(self, now_s: float) -> None:
        if self.rules():
            return
        with self._write() as session:
            session.add_all([_rule_row(rule, rule.version, CONTROLLER, "default", now_s) for rule in DEFAULT_RULES])
            session.flush()
            self._rules = None

    def _event(
        self,
        now_s: float,
        job_id: str,
        rule: tuple[str, int],
        action_word: str,
        dry_run: bool,
        text: str,
        evidence: dict[str, Any],
        action: Action | None,
    ) -> None:
        with self._write() as session:
            session.add(
                GuardrailEvent(
                    at=moment(now_s),
                    job_id=job_id,
                    rule=rule[0],
                    rule_version=rule[1],
                    action=action_word,
                    dry_run=dry_run,
                    text=text,
                    evidence=plain(evidence),
                    action_id=None if action is None else action.id,
                    status=NOTED if action is None else ActionStatus.REQUESTED.value,
                )
            )
            session.flush()

    def _forget(self) -> None:
        self._rules = None
        super()._forget()


def by_hand_id(intent_id: int) -> str:
    """The id of the action that an operator's intent asks for: made of the intent's, so that it is done once."""
    return f"a-i{intent_id:06d}-1"


def _described(rule: Rule) -> str:
    threshold = "the job's own limit" if rule.threshold is None else f"{rule.threshold:g}"
    unit = " USD" if rule.metric in (RuleMetric.COST, RuleMetric.PROJECTED_COST) else " s"
    text = f"{rule.metric.value} over {threshold}{unit if rule.threshold is not None else ''} → {rule.action.value}"
    text += f" after {rule.grace_s:g} s" if rule.grace_s else ""
    return text + (", dry run" if rule.dry_run else "") + ("" if rule.enabled else ", disabled")


def _rule_row(rule: Rule, version: int, author: str, reason: str, now_s: float) -> GuardrailRule:
    return GuardrailRule(
        name=rule.name,
        version=version,
        metric=rule.metric.value,
        threshold=rule.threshold,
        action=rule.action.value,
        grace_s=rule.grace_s,
        dry_run=rule.dry_run,
        enabled=rule.enabled,
        author=author,
        reason=reason,
        created_at=moment(now_s),
    )


def _rule_of(row: GuardrailRule) -> Rule:
    return Rule(
        name=row.name,
        version=row.version,
        metric=RuleMetric(row.metric),
        threshold=row.threshold,
        action=GuardAction(row.action),
        grace_s=row.grace_s,
        dry_run=row.dry_run,
        enabled=row.enabled,
    )
