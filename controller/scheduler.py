"""When things run: ticks and guard checks by virtual due times, the lease and the upkeep by the wall.

APScheduler fires real intervals; what is due in virtual time is worked off then, in order of its due times. Ticks
and guard checks are jobs of their own. The guard keeps the order (it does not run ahead of a tick that is due)
unless the tick has hung for a while: then it goes on alone, so that nothing slow ever delays a kill.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MISSED, JobEvent
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

log = logging.getLogger(__name__)

# A run that begins this many real seconds after it was due, or later, counts as late.
LATE_REAL_S = 1.0
# A tick that has not moved for so long has hung: the guard stops waiting for it.
HUNG_REAL_S = 3.0
# One firing works off what is due for at most so long, then lets the others have a turn.
_TURN_REAL_S = 2.0


@dataclass
class Line:
    """One kind of recurring work. `run(due_s, late)` does it once."""

    name: str
    every_s: float
    next_s: float
    run: Callable[[float, bool], None]


class Agenda:
    """What is due in virtual time. `ticks` and `guards` are fired by the scheduler, each in its own thread."""

    def __init__(
        self,
        ticks: Line,
        guards: Line,
        now_s: Callable[[], float],
        speed: Callable[[], float],
        elapsed_s: Callable[[], float],
    ) -> None:
        self._ticks, self._guards = ticks, guards
        self._now_s, self._speed, self._elapsed_s = now_s, speed, elapsed_s
        self._guard_turn = threading.Lock()
        self._tick_turn = threading.Lock()
        self._moved_s = elapsed_s()
        self._running_s: float | None = None

    @property
    def next_tick_s(self) -> float:
        return self._ticks.next_s

    def restart(self, at_s: float) -> None:
        """Begin anew from at_s: the next tick and guard check are due then."""
        self._ticks.next_s = self._guards.next_s = at_s

    def run_ticks(self) -> None:
        """Every tick that is due, each after the guard checks that are due before it."""
        with self._tick_turn:
            began = self._elapsed_s()
            while self._ticks.next_s <= self._now_s() and self._elapsed_s() - began < _TURN_REAL_S:
                due_s = self._ticks.next_s
                self._run_guards_until(due_s)
                self._moved_s = self._elapsed_s()
                self._running_s = due_s
                try:
                    self._do(self._ticks, due_s)
                finally:
                    self._running_s = None
                self._moved_s = self._elapsed_s()

    def run_guards(self) -> None:
        """Guard checks that are due, but none past a tick that is due, unless that tick has hung."""
        hung = self._elapsed_s() - self._moved_s > HUNG_REAL_S
        now_s, running_s = self._now_s(), self._running_s
        behind_tick_s = self._ticks.next_s if running_s is None else running_s
        self._run_guards_until(now_s if hung else min(now_s, behind_tick_s))

    def _run_guards_until(self, until_s: float) -> None:
        with self._guard_turn:
            while self._guards.next_s <= until_s:
                self._do(self._guards, self._guards.next_s)

    def _do(self, line: Line, due_s: float) -> None:
        late = (self._now_s() - due_s) / self._speed() > max(LATE_REAL_S, line.every_s / self._speed())
        # First the next due time: a run that fails is recorded and not repeated at once.
        line.next_s = due_s + line.every_s
        line.run(due_s, late)


class Scheduler:
    """The controller's APScheduler: jobs declared in code, one instance each, in threads."""

    def __init__(self, missed: Callable[[str, str], None]) -> None:
        """`missed(job, what)` is told of runs that were skipped or failed."""
        # That one job is still at it when its next firing comes is how a long turn looks; it is not news.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(6)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": 60},
            timezone="UTC",
        )
        self._missed = missed
        self._scheduler.add_listener(self._heard, EVENT_JOB_MISSED | EVENT_JOB_ERROR)

    def every(self, real_s: float, name: str, run: Callable[[], None]) -> None:
        """Run it every so many real seconds."""
        self._scheduler.add_job(run, "interval", seconds=real_s, id=name, name=name)

    def start(self) -> None:
        """Begin to fire."""
        self._scheduler.start()

    def stop(self) -> None:
        """Ends the firing and waits for what runs."""
        self._scheduler.shutdown(wait=True)

    def _heard(self, event: JobEvent) -> None:
        error = getattr(event, "exception", None)
        self._missed(event.job_id, "was missed" if error is None else f"failed: {error!r}")
