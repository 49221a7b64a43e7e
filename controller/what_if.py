"""What-if runs on the embedded cluster's record: which requests, offers and spot they replay, and where they run.

Each run is a process of its own at low priority, so that a tick or a guard check takes the processor from it at once,
and it can be ended at any moment. What is to run stands in the database; this only follows it.
"""

import logging
import math
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from time import process_time
from typing import Any, Final

import numpy as np

from controller import embedded
from controller.backends.simulated.arrivals import WEEK_S
from controller.core.envelope import parse_envelope
from controller.core.what_if import WhatIf, WhatIfError, what_if_of
from controller.embedded import SERVICE, World
from controller.fitting import end_with
from controller.replay import LONGEST_DRAIN_S, ReplaySpec, run_replay, spot_zones, zones_of
from controller.settings import Settings
from controller.sources.base import InputError, RequestTrace
from controller.store import Store
from models.enums import ReplayStatus

log = logging.getLogger(__name__)

NICENESS: Final = 15
"""Of the processes that replay: against a tick, which has 0, one gets a 28th of a processor (Linux, sched(7))."""
LONGEST_HISTORY_S: Final = 35 * 86400.0
"""What a run learns from at most, of what lies before its window."""
LONGEST_RUN_S: Final = 4 * 3600.0
"""Real seconds after which a run is given up."""
_STEP_RATIO = 0.002
_END_S = 5.0


def as_served(world: World, to_s: float) -> RequestTrace:
    """The recorded requests as the embedded cluster is handed them until to_s: the trace, then its last week again and
    again on later dates."""
    trace, end_s = world.trace, world.trace_end_s
    repeats = max(0, math.ceil((to_s - end_s) / WEEK_S))
    if not repeats:
        return trace.window(-math.inf, to_s)
    week = trace.window(end_s - WEEK_S, end_s)
    parts = [(trace, 0.0), *((week, WEEK_S * number) for number in range(1, repeats + 1))]
    whole = RequestTrace(
        np.concatenate([part.arrived_s + shift_s for part, shift_s in parts]),
        np.concatenate([part.work_s for part, _ in parts]),
        np.concatenate([part.tenant for part, _ in parts]),
        trace.tenants,
        trace.skipped,
        trace.source,
    )
    return whole.window(-math.inf, to_s)


def spec_of(world: World, settings: Settings, what_if: WhatIf) -> ReplaySpec:
    """The run, ready to be replayed. Spot is there and gone at the same moments as on the embedded cluster.

    Raises EnvelopeError and WhatIfError for what no longer fits the offers, or a window without a request.
    """
    requests = as_served(world, what_if.to_s).window(what_if.from_s - LONGEST_HISTORY_S, what_if.to_s)
    if not len(requests.window(what_if.from_s, what_if.to_s)):
        raise WhatIfError("from", "no request was recorded in the window")
    offers = what_if.offers.apply(world.offers)
    zones = spot_zones(
        world.availability,
        world.zone_map,
        zones_of(offers),
        what_if.from_s,
        what_if.to_s + LONGEST_DRAIN_S,
        settings.spot_offset_ticks,
        origin_s=world.warm_from_s,
    )
    return ReplaySpec(
        requests=requests,
        history=None,
        from_s=what_if.from_s,
        to_s=what_if.to_s,
        policy=what_if.policy,
        envelope=parse_envelope(what_if.envelope, SERVICE, what_if.envelope_version or 0),
        offers=offers,
        load_times_s=world.load_times_s,
        zones=zones,
        scale=what_if.scale,
        jitter_s=what_if.jitter_s,
        boot_s=what_if.boot_s,
        tick_s=settings.tick_s,
        seed=what_if.seed,
    )


def work(parent: int, settings: Settings, document: Mapping[str, Any], out: Connection) -> None:
    """In the process of a run: sends how far it is (a ratio), then its summary, or why there is none."""
    end_with(parent)
    os.nice(NICENESS)
    said = 0.0

    def progress(ratio: float) -> None:
        nonlocal said
        if ratio - said >= _STEP_RATIO:
            said = ratio
            out.send(("progress", ratio))

    try:
        spec = spec_of(embedded.read_world(settings), settings, what_if_of(document))
        result = run_replay(spec, progress)
    except Exception as error:
        told = f"{error}" if isinstance(error, ValueError | InputError) else f"{type(error).__name__}: {error}"
        out.send(("failed", told))
        return
    out.send(("done", {"summary": asdict(result.summary), "hourly_usd": result.hourly_usd.tolist()}, process_time()))


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """What is started inside does not hear Ctrl-C, which a terminal sends to all: the controller ends it."""
    resource_tracker.ensure_running()  # its own start would end the blocking
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@dataclass
class _Running:
    process: SpawnProcess
    out: Connection
    began_s: float
    ratio: float = 0.0
    written: float = 0.0


class WhatIfs:
    """The processes of runs. `turn` is called every second or so, from one thread at a time."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        at_once: int,
        now_s: Callable[[], float],
        wall_s: Callable[[], float],
        elapsed_s: Callable[[], float],
    ) -> None:
        """`now_s` is the controller's clock; `elapsed_s` measures real time. `at_once` 0 begins none."""
        self._store, self._settings, self._at_once = store, settings, at_once
        self._now_s, self._wall_s, self._elapsed_s = now_s, wall_s, elapsed_s
        self._running: dict[int, _Running] = {}
        self._context = get_context("spawn")  # a fork would take the controller's locks and threads' state along

    def take_up(self) -> None:
        """At a start, before the first turn: runs that the last controller left wait again."""
        self._store.take_up_replays(self._wall_s(), self._now_s())

    def turn(self) -> None:
        """Ends what was cancelled, takes in what came, writes progress, begins what waits while there is room."""
        rows = self._store.open_replays()
        wanted = {row.id for row in rows if row.status == ReplayStatus.RUNNING.value and row.id is not None}
        for number in wanted - set(self._running):
            self._fail(number, "its process could not be started")
        for number in [number for number in self._running if number not in wanted]:
            self._end(number)
        for number in list(self._running):
            self._listen(number)
        fresh = {number: run.ratio for number, run in self._running.items() if run.ratio > run.written}
        self._store.note_progress(fresh)
        for number, ratio in fresh.items():
            self._running[number].written = ratio
        for row in rows:
            if len(self._running) >= self._at_once:
                return
            if row.status == ReplayStatus.PENDING.value and row.id is not None:
                self._begin(row.id, row.spec)

    def close(self) -> None:
        """Ends every process. What they ran stays marked as running, so that the next start runs it again."""
        for number in list(self._running):
            self._end(number)

    def _begin(self, number: int, document: Mapping[str, Any]) -> None:
        if not self._store.begin_replay(number, self._wall_s()):
            return
        out, sent = self._context.Pipe(duplex=False)
        # Only what is small is handed over: a start waits until it is taken in, for ever if the process dies before.
        process = self._context.Process(
            target=work, args=(os.getpid(), self._settings, document, sent), name=f"replay-{number}", daemon=True
        )
        with _deaf_to_ctrl_c():
            process.start()
        sent.close()  # ours: only the process itself keeps one, so that its end is seen
        self._running[number] = _Running(process, out, self._elapsed_s())

    def _listen(self, number: int) -> None:
        run = self._running[number]
        try:
            while run.out.poll():
                kind, *told = run.out.recv()
                if kind == "progress":
                    run.ratio = told[0]
                    continue
                self._end(number)
                if kind == "failed":
                    self._fail(number, told[0])
                else:
                    self._finish(number, told[0], told[1])
                return
        except (EOFError, OSError):
            run.process.join(_END_S)
            code = run.process.exitcode
            self._end(number)
            why = "killed, as when memory runs out" if code == -signal.SIGKILL else f"exit code {code}"
            self._fail(number, f"its process ended without a result ({why})")
            return
        if self._elapsed_s() - run.began_s > LONGEST_RUN_S:
            self._end(number)
            self._fail(number, f"no result after {LONGEST_RUN_S / 3600:g} h, given up: try a shorter window")

    def _finish(self, number: int, result: dict[str, Any], cpu_s: float) -> None:
        self._store.finish_replay(
            number,
            result["summary"],
            result["hourly_usd"],
            cpu_s=cpu_s,
            wall_s=self._wall_s(),
            now_s=self._now_s(),
        )

    def _fail(self, number: int, why: str) -> None:
        log.warning("replay %d failed: %s", number, why)
        self._store.end_replay(number, ReplayStatus.FAILED, why, wall_s=self._wall_s(), now_s=self._now_s())

    def _end(self, number: int) -> None:
        run = self._running.pop(number)
        run.process.terminate()
        run.process.join(_END_S)
        if run.process.is_alive():
            run.process.kill()
            run.process.join(_END_S)
        run.out.close()
        run.process.close()
