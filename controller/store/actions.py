"""Actions: requested before they are done, answered by the backend, confirmed by observation."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import update
from sqlmodel import col, select

from controller.core.types import Action, ActionResult, Job, Replica
from controller.store.convert import moment, seconds
from controller.store.ledger import Ledger
from models.enums import ActionKind, ActionStatus, JobState, LedgerKind, ReplicaState
from models.guardrails import GuardrailEvent
from models.plans import ActionRow

_GIVE_UP_S = 3600.0
_JOB_DONE = (JobState.SUCCEEDED, JobState.FAILED, JobState.KILLED)
_JOB_WANTED = {
    ActionKind.KILL_JOB: _JOB_DONE,
    ActionKind.SUSPEND_JOB: (JobState.SUSPENDED, *_JOB_DONE),
    ActionKind.RESUME_JOB: (JobState.RUNNING, JobState.QUEUED, *_JOB_DONE),
}


@dataclass(slots=True)
class _Accepted:
    """An action that the cluster took and observation has yet to confirm."""

    kind: ActionKind
    replica_id: str | None
    job_id: str | None
    requested_s: float


class Actions(Ledger):
    """Each action is known by its id and done at most once."""

    _requested: dict[str, tuple[Action, str | None, float]] | None = None
    _accepted: dict[str, _Accepted] | None = None

    def request_action(self, action: Action, now_s: float, *, plan_id: str | None = None) -> bool:
        """Writes an action as REQUESTED, ahead of doing it. False when its id is known: it may have been done."""
        with self._write() as session:
            requested, accepted = self._open_actions()
            if action.id in requested or action.id in accepted:
                return False
            if plan_id is None and session.get(ActionRow, action.id) is not None:
                return False
            row = {
                "id": action.id,
                "plan_id": plan_id,
                "kind": action.kind.value,
                "service": action.service,
                "offer_id": action.offer_id,
                "replica_id": action.replica_id,
                "job_id": action.job_id,
                "reason": action.reason,
                "status": ActionStatus.REQUESTED.value,
                "detail": "",
                "epoch": self._epoch(),
                "requested_at": moment(now_s),
                "confirmed_at": None,
            }
            self._pending.add(ActionRow, row)
            requested[action.id] = (action, plan_id, now_s)
            return True

    def record_results(self, results: Sequence[ActionResult], now_s: float) -> None:
        """What the backend answered: statuses by action, and one ledger entry for each kind of answer of a plan."""
        if not results:
            return
        with self._write():
            requested, accepted = self._open_actions()
            answers: Counter[tuple[str | None, ActionKind, str, str, ActionStatus, str]] = Counter()
            for result in results:
                known = requested.get(result.action_id)
                if known is None or result.status is ActionStatus.REQUESTED:
                    continue
                action, plan_id, requested_s = requested.pop(result.action_id)
                replica_id = result.replica_id or action.replica_id
                changes: dict[str, Any] = {
                    "status": result.status.value,
                    "detail": result.detail,
                    "replica_id": replica_id,
                }
                if result.status is ActionStatus.CONFIRMED:
                    changes["confirmed_at"] = moment(now_s)
                elif result.status is ActionStatus.ACCEPTED:
                    accepted[action.id] = _Accepted(action.kind, replica_id, action.job_id, requested_s)
                self._pending.change(ActionRow, (action.id,), changes)
                if action.job_id is not None:
                    self._tell_event(action.id, {key: changes[key] for key in changes if key != "replica_id"})
                about = action.offer_id or action.job_id or action.replica_id or action.service
                detail = result.detail if result.status is ActionStatus.REFUSED else ""
                answers[plan_id, action.kind, action.service, about, result.status, detail] += 1
            for (plan_id, kind, service, about, status, detail), count in answers.items():
                self.enter(
                    LedgerKind.ACTION,
                    now_s=now_s,
                    service=service,
                    subject=about,
                    what=f"{_asked(kind, count)} ({about}): {status.value}",
                    why=detail,
                    numbers={"count": count},
                    plan_id=plan_id,
                )

    def action_status(self, action_id: str) -> ActionStatus | None:
        """Where an action is; None for one never requested."""
        with self._read() as session:
            row = session.get(ActionRow, action_id)
        return None if row is None else ActionStatus(row.status)

    def unfinished_actions(self) -> tuple[Action, ...]:
        """Actions REQUESTED and never answered, oldest first: after a crash they are applied again with the same id."""
        with self._lock:
            return tuple(action for action, _, _ in self._open_actions()[0].values())

    def confirm(
        self,
        replicas: Sequence[Replica],
        now_s: float,
        *,
        gone: Sequence[Replica] = (),
        jobs: Sequence[Job] = (),
    ) -> tuple[str, ...]:
        """Compares accepted actions with what is observed; returns the ids it closed.

        A start is CONFIRMED when its replica is ready, a release when its replica is no longer there, a job's action
        when the job's state shows it. A start whose replica ended before it was ready is closed as REFUSED, saying so.
        """
        with self._lock:
            accepted = self._open_actions()[1]
            if not accepted:
                return ()
            present = {replica.id: replica for replica in replicas}
            ended = {replica.id: replica for replica in gone}
            states = {job.id: job.state for job in jobs}
            closed = {
                action_id: outcome
                for action_id, waiting in accepted.items()
                if (outcome := _outcome(waiting, present, ended, states, now_s)) is not None
            }
            if not closed:
                return ()
            with self._write():
                for action_id, (status, detail) in closed.items():
                    changes: dict[str, Any] = {"status": status.value, "confirmed_at": moment(now_s)}
                    if detail:
                        changes["detail"] = detail
                    self._pending.change(ActionRow, (action_id,), changes)
                    if accepted.pop(action_id).job_id is not None:
                        self._tell_event(action_id, {"status": status.value, "confirmed_at": moment(now_s)})
            return tuple(closed)

    def _tell_event(self, action_id: str, values: dict[str, Any]) -> None:
        """A guardrail's event follows its action."""
        told = update(GuardrailEvent).where(col(GuardrailEvent.action_id) == action_id).values(**values)
        with self._write() as session:
            session.connection().execute(told)

    def _open_actions(self) -> tuple[dict[str, tuple[Action, str | None, float]], dict[str, _Accepted]]:
        if self._requested is None or self._accepted is None:
            waiting = (ActionStatus.REQUESTED.value, ActionStatus.ACCEPTED.value)
            rows = select(ActionRow).where(col(ActionRow.status).in_(waiting))
            requested: dict[str, tuple[Action, str | None, float]] = {}
            accepted: dict[str, _Accepted] = {}
            with self._read() as session:
                for row in session.exec(rows.order_by(col(ActionRow.requested_at), col(ActionRow.id))).all():
                    kind, at_s = ActionKind(row.kind), seconds(row.requested_at)
                    if row.status == ActionStatus.ACCEPTED.value:
                        accepted[row.id] = _Accepted(kind, row.replica_id, row.job_id, at_s)
                    else:
                        action = Action(row.id, kind, row.service, row.reason, row.offer_id, row.replica_id, row.job_id)
                        requested[row.id] = (action, row.plan_id, at_s)
            self._requested, self._accepted = requested, accepted
        return self._requested, self._accepted

    def _forget(self) -> None:
        self._requested = self._accepted = None
        super()._forget()


def _outcome(
    action: _Accepted,
    present: Mapping[str, Replica],
    ended: Mapping[str, Replica],
    jobs: Mapping[str, JobState],
    now_s: float,
) -> tuple[ActionStatus, str] | None:
    if action.job_id is not None:
        done = jobs.get(action.job_id) in _JOB_WANTED.get(action.kind, ())
        return (ActionStatus.CONFIRMED, "") if done else None
    replica_id = action.replica_id or ""
    if action.kind is ActionKind.RELEASE_REPLICA:
        return None if replica_id in present else (ActionStatus.CONFIRMED, "")
    replica = present.get(replica_id) or ended.get(replica_id)
    if replica is not None and (replica.state is ReplicaState.READY or replica.ready_s is not None):
        return ActionStatus.CONFIRMED, ""
    if replica_id in ended:
        return ActionStatus.REFUSED, "the replica ended before it was ready"
    if replica is None and now_s - action.requested_s > _GIVE_UP_S:
        return ActionStatus.REFUSED, "the replica was never observed"
    return None


def _asked(kind: ActionKind, count: int) -> str:
    verb, noun = kind.value.split("_")
    return f"{verb.capitalize()} {count} {noun}s" if count != 1 else f"{verb.capitalize()} 1 {noun}"
