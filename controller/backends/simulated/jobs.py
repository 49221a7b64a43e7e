"""The batch side of the simulated cluster: jobs that queue for a machine, run, report, checkpoint, stop and cost.

Nothing here is stepped: where a job stands follows from when its attempts began and ended, so any two ways of advancing
to a moment give the same state. Billing starts when a machine is asked for and ends with the attempt; a suspended job
costs nothing.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from controller.backends.base import UnknownSubject
from controller.core.types import Job, Offer
from models.enums import ActionStatus, JobState

START_DELAY_S: Final = 240.0
"""From asking for a machine to running: boot, and load of the model. Billed."""

REPORT_EVERY_S: Final = 30.0
"""How often a running job reports its progress."""

KEEP_ENDED_S: Final = 24 * 3600.0
"""How long a job that has ended is still shown; its cost stays in the total for good."""

_ACTIVE: Final = (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A batch job as submitted.

    `work_s`: seconds on the reference GPU, divided by the offer's speed; inf: it never finishes. Its progress is then
    reported against `expected_s`. `stall_at_ratio`: progress sticks there and the job goes on for ever.
    `checkpoint_every_s` counts running seconds. `reports` false: the job never says how far it is.
    """

    id: str
    name: str
    service: str
    tenant: str
    tier: str
    submit_s: float
    work_s: float
    offer_id: str
    gpu_count: int = 1
    checkpoints: bool = False
    checkpoint_every_s: float = 300.0
    cost_limit_usd: float | None = None
    expected_s: float | None = None
    stall_at_ratio: float | None = None
    reports: bool = True


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a job on one offer, billed [requested_s, ended_s) and running from runs_s. `ended_s` None: goes on.

    `usd_per_hour` is the whole attempt's: all its GPUs. `kept_s`: reference seconds of work it began with.
    """

    job_id: str
    number: int
    offer_id: str
    usd_per_hour: float
    speed_ratio: float
    requested_s: float
    runs_s: float
    kept_s: float
    ended_s: float | None = None
    ended_why: str = ""

    def running_s(self, now_s: float) -> float:
        """Seconds that it has run by now."""
        return max(0.0, (now_s if self.ended_s is None else self.ended_s) - self.runs_s)

    def cost_usd(self, from_s: float, to_s: float) -> float:
        """Dollars that it accrues in [from_s, to_s)."""
        end_s = to_s if self.ended_s is None else min(self.ended_s, to_s)
        return self.usd_per_hour * max(0.0, end_s - max(self.requested_s, from_s)) / 3600.0


@dataclass(slots=True)
class _Life:
    spec: JobSpec
    state: JobState
    attempts: list[Attempt]
    finished_s: float | None = None

    @property
    def last(self) -> Attempt:
        return self.attempts[-1]

    @property
    def endless(self) -> bool:
        return not math.isfinite(self.spec.work_s) or self.spec.stall_at_ratio is not None

    @property
    def nominal_s(self) -> float:
        """The reference seconds that progress is measured against."""
        if math.isfinite(self.spec.work_s):
            return self.spec.work_s
        return (self.spec.expected_s or 3600.0) * self.attempts[0].speed_ratio

    def finish_s(self) -> float:
        if self.endless:
            return math.inf
        return self.last.runs_s + (self.spec.work_s - self.last.kept_s) / self.last.speed_ratio

    def kept_s(self) -> float:
        """What the ended attempt leaves to the next one, in reference seconds: its last checkpoint, or nothing."""
        if not self.spec.checkpoints:
            return 0.0
        ran_s = self.last.running_s(math.inf)
        saved_s = math.floor(ran_s / self.spec.checkpoint_every_s) * self.spec.checkpoint_every_s
        kept_s = self.last.kept_s + saved_s * self.last.speed_ratio
        return min(kept_s, self.nominal_s * self._most())

    def progress(self, now_s: float) -> tuple[float | None, float | None]:
        """The last report: the ratio, and when it last grew."""
        if not self.spec.reports:
            return None, None
        if self.state is JobState.SUCCEEDED:
            return 1.0, self.finished_s
        attempt = self.last
        if attempt.runs_s > (now_s if attempt.ended_s is None else attempt.ended_s):
            if attempt.number == 1:
                return None, None
            return attempt.kept_s / self.nominal_s, attempt.requested_s
        reported_s = math.floor(attempt.running_s(now_s) / REPORT_EVERY_S) * REPORT_EVERY_S
        most_s = (self._most() * self.nominal_s - attempt.kept_s) / attempt.speed_ratio
        grew_s = min(reported_s, max(0.0, math.ceil(most_s / REPORT_EVERY_S - 1e-9) * REPORT_EVERY_S))
        done_s = attempt.kept_s + reported_s * attempt.speed_ratio
        return min(done_s / self.nominal_s, self._most()), attempt.runs_s + grew_s

    def _most(self) -> float:
        if self.spec.stall_at_ratio is not None:
            return self.spec.stall_at_ratio
        return 1.0 if math.isfinite(self.spec.work_s) else 0.99

    def view(self, now_s: float) -> Job:
        spec, last, first = self.spec, self.last, self.attempts[0]
        ratio, grew_s = self.progress(now_s)
        return Job(
            id=spec.id,
            name=spec.name,
            service=spec.service,
            tenant=spec.tenant,
            tier=spec.tier,
            state=self.state,
            offer_id=last.offer_id,
            gpu_count=spec.gpu_count,
            price_usd_per_hour=last.usd_per_hour,
            submitted_s=spec.submit_s,
            started_s=first.runs_s if first.running_s(now_s) > 0 or self.state is JobState.RUNNING else None,
            finished_s=self.finished_s,
            running_s=sum(attempt.running_s(now_s) for attempt in self.attempts),
            cost_usd=sum(attempt.cost_usd(-math.inf, now_s) for attempt in self.attempts),
            progress_ratio=ratio,
            progress_at_s=grew_s,
            checkpoints=spec.checkpoints,
            attempts=len(self.attempts),
            cost_limit_usd=spec.cost_limit_usd,
            expected_s=spec.expected_s,
        )


class JobsSim:
    """The jobs of a simulated cluster, from `start_s` on. Deterministic. Not safe to share between threads by itself.

    `stream(from_s, to_s)` gives the jobs submitted in (from_s, to_s], whatever the cuts; more come by `submit`.
    """

    def __init__(
        self,
        offers: Iterable[Offer],
        start_s: float,
        *,
        stream: Callable[[float, float], Iterable[JobSpec]] | None = None,
        start_delay_s: float = START_DELAY_S,
    ) -> None:
        self._offers = {offer.id: offer for offer in offers}
        self._now_s = start_s
        self._stream = stream
        self._start_delay_s = start_delay_s
        self._lives: dict[str, _Life] = {}
        self._waiting: dict[str, JobSpec] = {}
        self._forgotten_usd = 0.0

    @property
    def now_s(self) -> float:
        """How far time has come."""
        return self._now_s

    def submit(self, spec: JobSpec) -> None:
        """Takes a job; one with a later `submit_s` waits for its time, an earlier one is submitted now.

        ValueError when its id is taken; UnknownSubject when its offer is not known here.
        """
        if spec.id in self._lives or spec.id in self._waiting:
            raise ValueError(f"there is a job {spec.id} already")
        self._offer(spec.offer_id)
        self._waiting[spec.id] = replace(spec, submit_s=max(spec.submit_s, self._now_s))
        self.advance(self._now_s)

    def advance(self, to_s: float) -> None:
        """Lets time pass. Time never goes back: an earlier to_s changes nothing."""
        if to_s > self._now_s and self._stream is not None:
            for spec in self._stream(self._now_s, to_s):
                self._offer(spec.offer_id)
                if spec.id not in self._lives:
                    self._waiting.setdefault(spec.id, spec)
        self._now_s = max(self._now_s, to_s)
        for spec in sorted(self._waiting.values(), key=lambda one: (one.submit_s, one.id)):
            if spec.submit_s <= self._now_s:
                del self._waiting[spec.id]
                self._lives[spec.id] = life = _Life(spec, JobState.QUEUED, [])
                self._begin(life, spec.submit_s, kept_s=0.0)
        for life in list(self._lives.values()):
            if life.state is JobState.QUEUED and life.last.runs_s <= self._now_s:
                life.state = JobState.RUNNING
            if life.state is JobState.RUNNING and life.finish_s() <= self._now_s:
                self._end(life, life.finish_s(), JobState.SUCCEEDED, "finished")
            if life.finished_s is not None and life.finished_s < self._now_s - KEEP_ENDED_S:
                self._forgotten_usd += sum(one.cost_usd(-math.inf, math.inf) for one in life.attempts)
                del self._lives[life.spec.id]

    def views(self) -> tuple[Job, ...]:
        """Every job as it stands now, oldest first. A job's price is its whole burn, all GPUs, in dollars an hour."""
        return tuple(life.view(self._now_s) for life in self._lives.values())

    def attempts(self) -> tuple[Attempt, ...]:
        """Every attempt of the jobs shown, by job, oldest first."""
        return tuple(attempt for life in self._lives.values() for attempt in life.attempts)

    def suspend(self, job_id: str, at_s: float) -> tuple[ActionStatus, str]:
        """Stops a job and its billing; it keeps its last checkpoint if it has any. UnknownSubject."""
        life = self._at(job_id, at_s)
        if life.state not in _ACTIVE:
            return ActionStatus.REFUSED, f"{job_id} is {life.state.value}: nothing to suspend"
        self._end(life, self._now_s, JobState.SUSPENDED, "suspended")
        kept = life.kept_s() / life.nominal_s
        return ActionStatus.CONFIRMED, f"suspended; {f'{100 * kept:.0f} % is kept' if kept else 'no progress is kept'}"

    def resume(self, job_id: str, at_s: float) -> tuple[ActionStatus, str]:
        """Starts a new attempt of a suspended job, from what was kept. UnknownSubject."""
        life = self._at(job_id, at_s)
        if life.state is not JobState.SUSPENDED:
            return ActionStatus.REFUSED, f"{job_id} is {life.state.value}: nothing to resume"
        if life.spec.offer_id not in self._offers:
            return ActionStatus.REFUSED, f"the offer {life.spec.offer_id} is no longer sold"
        self._begin(life, self._now_s, life.kept_s())
        life.state = JobState.QUEUED
        return ActionStatus.ACCEPTED, f"attempt {life.last.number} runs in {self._start_delay_s:.0f} s"

    def kill(self, job_id: str, at_s: float) -> tuple[ActionStatus, str]:
        """Ends a job for good. UnknownSubject."""
        life = self._at(job_id, at_s)
        if life.finished_s is not None:
            return ActionStatus.REFUSED, f"{job_id} has ended already: {life.state.value}"
        self._end(life, self._now_s, JobState.KILLED, "killed")
        return ActionStatus.CONFIRMED, "killed"

    def burn_usd_per_hour(self) -> float:
        """What the jobs cost now, dollars an hour."""
        return sum(life.last.usd_per_hour for life in self._lives.values() if life.state in _ACTIVE)

    def accrued_usd(self, from_s: float, to_s: float) -> float:
        """Dollars accrued in [from_s, to_s), at most until now. Exact as long as from_s is not before what is kept."""
        to_s = min(to_s, self._now_s)
        return sum(attempt.cost_usd(from_s, to_s) for attempt in self.attempts())

    def total_usd(self) -> float:
        """Dollars accrued since the beginning, jobs no longer shown included."""
        return self._forgotten_usd + self.accrued_usd(-math.inf, self._now_s)

    def snapshot(self) -> dict[str, Any]:
        """Everything `restore` needs, as plain JSON values (an endless `work_s` is null)."""
        return {
            "now_s": self._now_s,
            "forgotten_usd": self._forgotten_usd,
            "waiting": [_plain(spec) for spec in self._waiting.values()],
            "jobs": [
                {
                    "spec": _plain(life.spec),
                    "state": life.state.value,
                    "finished_s": life.finished_s,
                    "attempts": [asdict(attempt) for attempt in life.attempts],
                }
                for life in self._lives.values()
            ],
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Becomes what `snapshot` was taken of. Offers and stream stay this one's; paid prices are the snapshot's."""
        self._now_s = snapshot["now_s"]
        self._forgotten_usd = snapshot["forgotten_usd"]
        self._waiting = {spec["id"]: _spec(spec) for spec in snapshot["waiting"]}
        self._lives = {
            job["spec"]["id"]: _Life(
                _spec(job["spec"]),
                JobState(job["state"]),
                [Attempt(**attempt) for attempt in job["attempts"]],
                job["finished_s"],
            )
            for job in snapshot["jobs"]
        }

    def _offer(self, offer_id: str) -> Offer:
        if offer_id not in self._offers:
            raise UnknownSubject(f"no offer {offer_id}")
        return self._offers[offer_id]

    def _at(self, job_id: str, at_s: float) -> _Life:
        self.advance(at_s)
        if job_id not in self._lives:
            raise UnknownSubject(f"no job {job_id}")
        return self._lives[job_id]

    def _begin(self, life: _Life, at_s: float, kept_s: float) -> None:
        offer = self._offer(life.spec.offer_id)
        usd_per_hour = offer.price_usd_per_hour * life.spec.gpu_count / offer.gpu_count
        runs_s, number = at_s + self._start_delay_s, len(life.attempts) + 1
        life.attempts.append(
            Attempt(life.spec.id, number, offer.id, usd_per_hour, offer.speed_ratio, at_s, runs_s, kept_s)
        )

    def _end(self, life: _Life, at_s: float, state: JobState, why: str) -> None:
        if life.last.ended_s is None:
            life.attempts[-1] = replace(life.last, ended_s=at_s, ended_why=why)
        life.state = state
        if state is not JobState.SUSPENDED:
            life.finished_s = at_s


def _plain(spec: JobSpec) -> dict[str, Any]:
    return {**asdict(spec), "work_s": spec.work_s if math.isfinite(spec.work_s) else None}


def _spec(plain: Mapping[str, Any]) -> JobSpec:
    return JobSpec(**{**plain, "work_s": math.inf if plain["work_s"] is None else plain["work_s"]})
