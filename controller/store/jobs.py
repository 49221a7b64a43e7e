"""Batch jobs as observed, and their attempts with the price paid."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlmodel import col, select

from controller.core.types import Job
from controller.store.convert import finite, moment, moment_or_none
from controller.store.ledger import Ledger
from controller.store.pending import Row
from models.enums import JobState
from models.jobs import JobAttempt, JobRow

_ENDED = {
    JobState.SUSPENDED: "suspended",
    JobState.SUCCEEDED: "succeeded",
    JobState.FAILED: "failed",
    JobState.KILLED: "killed",
}


class Jobs(Ledger):
    """Only the jobs that changed are written."""

    _jobs: dict[str, tuple[Job, float | None]] | None = None
    _attempts: dict[str, list[Row]] | None = None

    def record_jobs(
        self, jobs: Sequence[Job], now_s: float, projected: Mapping[str, float | None] | None = None
    ) -> int:
        """Upserts the jobs that changed, with the attempt each is in, and returns how many.

        `projected`: job id → projected final cost in dollars, where the guard knows one. An attempt is what ran while
        `Job.attempts` had its number; its seconds and dollars are the job's, less those of the attempts before it.
        """
        with self._lock:
            image = self._jobs = self._jobs or {}
            changed: list[tuple[Job, float | None]] = []
            for job in jobs:
                seen = (job, finite((projected or {}).get(job.id)))
                if image.get(job.id) != seen:
                    image[job.id] = seen
                    changed.append(seen)
            if changed:
                with self._write():
                    for job, usd in changed:
                        self._pending.put(JobRow, _job_row(job, usd))
                        if job.attempts > 0 and job.started_s is not None:
                            self._record_attempt(job, now_s)
            return len(changed)

    def job_row(self, job_id: str) -> JobRow | None:
        """A job as last recorded; None for one never seen."""
        with self._read() as session:
            return session.get(JobRow, job_id)

    def _record_attempt(self, job: Job, now_s: float) -> None:
        attempts = self._attempts_of(job.id)
        for earlier in attempts:
            if earlier["number"] < job.attempts and earlier["ended_at"] is None:
                self._change(earlier, {"ended_at": moment(now_s), "ended_why": "interrupted"})
        before = [each for each in attempts if each["number"] < job.attempts]
        costs = [each["cost_usd"] for each in before]
        known = job.cost_usd is not None and None not in costs
        ended = _ENDED.get(job.state)
        now = {
            "running_s": max(0.0, job.running_s - sum(each["running_s"] for each in before)),
            "cost_usd": max(0.0, (job.cost_usd or 0.0) - sum(cost or 0.0 for cost in costs)) if known else None,
            "ended_at": moment(now_s if job.finished_s is None else job.finished_s) if ended else None,
            "ended_why": ended or "",
        }
        current = next((each for each in attempts if each["number"] == job.attempts), None)
        if current is None:
            first = job.started_s if job.attempts == 1 and job.started_s is not None else now_s
            row = {
                "job_id": job.id,
                "number": job.attempts,
                "offer_id": job.offer_id,
                "price_usd_per_hour": finite(job.price_usd_per_hour),
                "started_at": moment(first),
                **now,
            }
            attempts.append(row)
            self._pending.add(JobAttempt, row)
        elif any(
            current[name] != value for name, value in now.items() if name != "ended_at" or not current["ended_at"]
        ):
            self._change(current, now)

    def _change(self, attempt: Row, values: Row) -> None:
        attempt.update(values)
        self._pending.change(JobAttempt, (attempt["job_id"], attempt["number"]), values)

    def _attempts_of(self, job_id: str) -> list[Row]:
        known = self._attempts = self._attempts or {}
        if job_id not in known:
            rows = select(JobAttempt).where(JobAttempt.job_id == job_id).order_by(col(JobAttempt.number))
            with self._read() as session:
                known[job_id] = [row.model_dump(exclude={"id"}) for row in session.exec(rows).all()]
        return known[job_id]

    def _forget(self) -> None:
        self._jobs = self._attempts = None
        super()._forget()


def _job_row(job: Job, projected_usd: float | None) -> dict[str, Any]:
    return {
        "id": job.id,
        "name": job.name,
        "service": job.service,
        "tenant": job.tenant,
        "tier": job.tier,
        "state": job.state.value,
        "offer_id": job.offer_id,
        "gpu_count": job.gpu_count,
        "price_usd_per_hour": finite(job.price_usd_per_hour),
        "submitted_at": moment(job.submitted_s),
        "started_at": moment_or_none(job.started_s),
        "finished_at": moment_or_none(job.finished_s),
        "running_s": job.running_s,
        "cost_usd": finite(job.cost_usd),
        "progress_ratio": finite(job.progress_ratio),
        "progress_at": moment_or_none(job.progress_at_s),
        "checkpoints": job.checkpoints,
        "attempts": job.attempts,
        "cost_limit_usd": finite(job.cost_limit_usd),
        "expected_s": finite(job.expected_s),
        "projected_usd": projected_usd,
    }
