"""The guard's runner: reads jobs and rules, has them judged, writes each act before it is done, does it once.

A check goes: observe, judge, record, act. An act that was written but not done (a crash, a cluster that was away) is
done at the next check under its own id, which follows from job, rule, version, step and attempt. The memory of
escalations lives here and is rebuilt from the written events, so that a restart neither forgets nor repeats.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from controller.backends.base import Backend, BackendUnavailable, UnknownSubject
from controller.core.guard import GuardMemory, Rule, Verdict, judge, remember
from controller.core.types import Action, ActionResult, Job
from controller.store import Store
from models.enums import ActionKind, ActionStatus, LedgerKind, Mode

_CLUSTER = "cluster"
_ACTS = (ActionKind.SUSPEND_JOB, ActionKind.KILL_JOB)


class Guard:
    """Guards the jobs of one backend. Its methods may be called from several threads; each is atomic.

    `read` gives the jobs and raises BackendUnavailable. It is the backend's `state` by default: give another where
    the tick reads the state too, since what a state reports as `gone` it reports once. Below `Mode.ACT` every rule is
    a dry run.
    """

    def __init__(
        self,
        store: Store,
        backend: Backend,
        *,
        read: Callable[[], Sequence[Job]] | None = None,
        mode: Callable[[], Mode] = lambda: Mode.ACT,
    ) -> None:
        self._store, self._backend, self._mode = store, backend, mode
        self._read = read or (lambda: backend.state().jobs)
        self._memory: GuardMemory | None = None
        self._away_since_s: float | None = None
        self._lock = threading.Lock()

    def check(self, now_s: float) -> tuple[Verdict, ...]:
        """One round of the guard; returns what it found.

        A cluster that can't be asked is said once, and everything is held until it can. An act that fails in another
        way stays requested for the next check; the error is raised when the other acts are done. A lost lease is
        raised by the store's fence before anything is written or done.
        """
        with self._lock:
            verdicts: tuple[Verdict, ...] = ()
            try:
                jobs = self._read()
                memory = self._memory or remember(self._store.deeds(), self._store.resumed())
                verdicts, memory = judge(jobs, self._rules(), memory, now_s)
                self._store.record_verdicts(verdicts, now_s)
                # not before it is written: what fails to be recorded has to be found again
                self._memory = memory
                self._act(now_s)
                self._go_on(now_s)
            except BackendUnavailable as error:
                self._hold(error, now_s)
            return verdicts

    def projected_usd(self, jobs: Sequence[Job]) -> dict[str, float | None]:
        """The projected final cost of each job by its id, paced by its present attempt. None: unknown."""
        memory = self._memory or GuardMemory()
        return {job.id: memory.projected_usd(job) for job in jobs}

    def forget(self) -> None:
        """Remembers anew from the store at the next check: for a demonstration that began again."""
        with self._lock:
            self._memory, self._away_since_s = None, None

    def _rules(self) -> tuple[Rule, ...]:
        rules = self._store.rules()
        return rules if self._mode() is Mode.ACT else tuple(replace(rule, dry_run=True) for rule in rules)

    def _act(self, now_s: float) -> None:
        failed: Exception | None = None
        for action in self._store.unfinished_actions():
            if action.kind not in _ACTS or not action.id.startswith("g-"):
                continue  # a plan's or an operator's: the tick does those
            try:
                result = self._apply(action)
            except BackendUnavailable:
                raise
            except Exception as error:  # one job's defect must not shield the others
                failed = failed or error
            else:
                self._store.record_results((result,), now_s)
        if failed is not None:
            raise failed

    def _apply(self, action: Action) -> ActionResult:
        try:
            result = self._backend.apply(action)
        except UnknownSubject as error:
            return ActionResult(action.id, ActionStatus.REFUSED, f"the cluster has no job {action.job_id} ({error})")
        # before the table says so: a suspension that a restart undoes has not been done
        self._backend.save()
        return result

    def _hold(self, error: BackendUnavailable, now_s: float) -> None:
        if self._away_since_s is not None:
            return
        self._store.enter(
            LedgerKind.FAILURE,
            now_s=now_s,
            subject=_CLUSTER,
            what="The guard can't ask the cluster: no job is suspended or killed until it can",
            why=f"{type(error).__name__}: {error}",
        )
        self._away_since_s = now_s

    def _go_on(self, now_s: float) -> None:
        if self._away_since_s is None:
            return
        away_s = now_s - self._away_since_s
        self._store.enter(
            LedgerKind.GUARDRAIL,
            now_s=now_s,
            subject=_CLUSTER,
            what=f"The guard goes on: the cluster answers again after {away_s:.0f} s",
            numbers={"away_s": away_s},
        )
        self._away_since_s = None
