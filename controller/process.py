"""The controller's process: takes the database, wires one loop, and runs it until it is told to stop.

Wiring and order of events only; what a tick does is in `reconcile`, when things run in `scheduler`.
"""

import logging
import threading
from time import perf_counter
from zipfile import BadZipFile

import numpy as np
import yaml
from sqlalchemy import Engine

from controller import embedded, lease
from controller.act import act
from controller.api.app import create_app
from controller.api.context import ControllerStatus
from controller.api.server import serve
from controller.backends.base import BackendUnavailable
from controller.backends.simulated.cluster import SimulatedCluster
from controller.beginning import Interrupted, resume_demand, warm_up
from controller.clock import VirtualClock, wall_s
from controller.core.types import Action, Envelope
from controller.embedded import SERVICE, Demo
from controller.fitting import FitPool, check_backend
from controller.lstm_training import competes
from controller.metrics import Metrics
from controller.reconcile import reconcile
from controller.replay import recorded
from controller.scheduler import Agenda, Line, Scheduler
from controller.settings import Settings
from controller.sources.base import InputError
from controller.store import Store
from controller.what_if import WhatIfs
from controller.wiring import House, Loop, wire
from models.enums import LedgerKind

log = logging.getLogger(__name__)

_FIRE_REAL_S = 0.2
_KEEP_HOUSE_S = 3600.0
_REPLAYS_REAL_S = 1.0
# A saved cluster whose time is further from the database's than this belongs to another run.
_FOREIGN_S = 3600.0
# Virtual time runs at most this many real seconds ahead of the next tick: on a machine too slow for the speed it slows.
_AHEAD_REAL_S = 2.0


class Controller:
    """One controller on one database. `run` returns when `stop` was called or the lease was lost."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings, self._engine = settings, engine
        self._stopping = threading.Event()
        self._why_stopped = ""
        self._metrics = Metrics()
        self._ticks = self._ticks_late = self._ticks_failed = self._guards = self._guards_late = 0
        self._housekept_s = float("-inf")
        self._envelope: Envelope | None = None
        self._ready = False
        self._pool: FitPool | None = None
        self._what_ifs: WhatIfs | None = None
        self._last_error = ""

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> int:
        """Take the lease, serve, tick. Returns the exit status. Raises LeaseHeld, SettingsError and InputError
        before anything is changed.
        """
        settings = self._settings
        check_backend(settings.forecast_backend)
        competes(settings.forecast_lstm)  # or says what is missing
        log.info("reading the trace, prices and availability")
        world = embedded.read_world(settings)
        document = _document(settings)
        self._epoch = lease.acquire(self._engine, "controller")
        self._store = Store(self._engine, lambda: self._epoch, lease.check_epoch)
        self._clock = VirtualClock(world.start_s, settings.speed, paused=True)
        served = serve(
            create_app(self._engine, self._status, metrics=self._metrics, bind=settings.bind),
            settings.bind,
            settings.api_port,
        )
        scheduler = Scheduler(self._missed)
        scheduler.every(lease.RENEW_EVERY_S, "lease", self._renew)
        try:
            if settings.forecast_workers:
                self._pool = FitPool(
                    settings.forecast_workers, backend=settings.forecast_backend, scheduler=settings.dask_scheduler
                )
            self._world = world
            self._demo = Demo(lambda: self._loop.cluster, self._clock)
            self._house = House(settings, world, self._store, self._metrics, self._demo, self._pool)
            self._loop = self._begin(document)
            self._agenda = Agenda(
                Line("tick", settings.tick_s, _next_multiple(self._clock.now_s(), settings.tick_s), self._tick),
                Line("guard", settings.guard_s, _next_multiple(self._clock.now_s(), settings.guard_s), self._check),
                self._clock.now_s,
                lambda: self._clock.speed,
                perf_counter,
            )
            scheduler.every(_FIRE_REAL_S, "ticks", self._run_ticks)
            scheduler.every(_FIRE_REAL_S, "guards", lambda: self._agenda.run_guards())
            self._what_ifs = self._follow_replays()
            scheduler.every(_REPLAYS_REAL_S, "replays", self._turn_replays)
            scheduler.start()
            self._ready = True
            self._stopping.wait()
        except Interrupted:
            log.info("stopped before the first hours were simulated: the next start begins again")
        finally:
            self._stopping.set()
            if self._ready:
                scheduler.stop()
                self._loop.cluster.save()
            served.stop()
            if self._what_ifs is not None:
                self._what_ifs.close()
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)
            if not self._why_stopped:
                self._say_stopped()
                lease.release(self._engine, self._epoch)
        if self._why_stopped:
            log.error("%s", self._why_stopped)
        return 1 if self._why_stopped else 0

    # --- beginning ---

    def _begin(self, document: object) -> Loop:
        """Go on where the last run stopped, or begin the demonstration."""
        settings, world, store = self._settings, self._world, self._store
        store.seed(SERVICE, document, now_s=world.warm_from_s)  # type: ignore[arg-type]
        envelope = store.envelope(SERVICE)
        assert envelope is not None
        self._envelope = envelope
        state_file = settings.state_dir / embedded.STATE_FILE
        cluster = embedded.build_cluster(world, settings, envelope)
        clock = store.last_clock()
        try:
            known = clock is not None and cluster.restore(state_file)
        except (ValueError, KeyError, OSError, EOFError, BadZipFile) as error:
            remedy = "remove it to begin the demonstration again, or start with the settings it was saved with"
            raise InputError(str(state_file), None, None, str(error), remedy) from error
        if known and clock is not None and abs(cluster.engine.now_s - clock.virtual_s) > _FOREIGN_S:
            log.warning("%s is of another run than the database: it is not taken up", state_file)
            known, cluster = False, embedded.build_cluster(world, settings, envelope)
        if not known:
            # What lies there is of another run; were the first hours interrupted, the next start would take it up.
            state_file.unlink(missing_ok=True)
        loop = wire(self._house, cluster, envelope)
        now = wall_s()
        if clock is None:
            # Whoever opens a page before the first hours are simulated sees the right date.
            self._write_clock()
        store.pulse(
            started_s=now,
            mode=settings.mode.value,
            backend=settings.backend,
            policy=settings.policy,
            ticks=self._ticks,
            last_error="",
        )
        if known and clock is not None:
            self._clock.set_speed(clock.speed)
            self._clock.move_to(max(clock.virtual_s, cluster.engine.now_s))
            log.info("going on at %s", _iso(self._clock.now_s()))
            paused = clock.paused
            resume_demand(self._house, loop, envelope, self._clock.now_s())
        else:
            if clock is not None:
                # The tables tell of a cluster whose own state is gone: they would speak of replicas that are not there.
                log.warning("the simulated cluster's state %s is missing: the demonstration begins again", state_file)
                store.start_over(world.warm_from_s)
                store.pulse(started_s=now, mode=settings.mode.value, backend=settings.backend, policy=settings.policy)
            self._simulate_first_hours(loop, envelope)
            self._clock.set_speed(settings.speed)
            self._clock.move_to(world.start_s)
            paused = False
        cluster.keep_in(state_file)
        self._ask_again(cluster, self._clock.now_s())
        cluster.save()
        if not paused:
            self._clock.resume()
        self._write_clock()
        store.enter(
            LedgerKind.CONTROLLER,
            now_s=self._clock.now_s(),
            subject="controller",
            what=f"Started, epoch {self._epoch}",
            why="going on with the saved cluster" if known else "first start",
        )
        return loop

    def _simulate_first_hours(self, loop: Loop, envelope: Envelope) -> None:
        warm_up(self._house, loop, envelope, renew=self._renew, stopping=self._stopping.is_set)

    # --- what recurs ---

    def _run_ticks(self) -> None:
        self._agenda.run_ticks()
        if self._clock.paused and self._ready:
            self._take_while_paused()

    def _take_while_paused(self) -> None:
        """While virtual time stands still no tick is due, and what operators ask for is taken all the same: that time
        shall go on, first of all.
        """
        try:
            if self._loop.intake.take(self._clock.now_s()):
                if self._demo.reset_asked:
                    self._reset()
                self._write_clock()
        except lease.LeaseLost as error:
            self._lose(str(error))
        except Exception as error:  # recorded; the next firing tries again
            log.exception("what was asked for while paused could not be taken")
            self._failed("What was asked for while paused could not be taken", error, self._clock.now_s())

    def _tick(self, due_s: float, late: bool) -> None:
        began, failed = perf_counter(), False
        loop, store = self._loop, self._store
        try:
            loop.intake.take(due_s)
            if self._demo.reset_asked:
                self._reset()
                return
            self._follow_envelope(loop)
            self._ask_again(loop.cluster, due_s)
            reconcile(due_s, loop.ports)
            self._last_error = ""
        except lease.LeaseLost as error:
            self._lose(str(error))
            return
        except BackendUnavailable as error:
            failed = True
            self._failed("A tick could not see the cluster; nothing was changed", error, due_s)
        except Exception as error:  # recorded and counted; the next tick starts afresh
            failed = True
            log.exception("tick at %s failed", _iso(due_s))
            self._failed("A tick failed; what it had recorded is carried out by the next", error, due_s)
        self._ticks += 1
        self._ticks_late += late
        self._ticks_failed += failed
        self._clock.wait_at(due_s + 2 * self._settings.tick_s + _AHEAD_REAL_S * self._clock.speed)
        seconds = perf_counter() - began
        self._metrics.tick(seconds, late=late, failed=failed)
        try:
            self._write_clock()
            store.pulse(
                tick_s=due_s,
                tick_wall_s=wall_s(),
                tick_ms=seconds * 1000,
                ticks=self._ticks,
                ticks_late=self._ticks_late,
                ticks_failed=self._ticks_failed,
                guards=self._guards,
                guards_late=self._guards_late,
                telemetry_s=loop.cluster.telemetry_s(SERVICE),
                last_error=self._last_error,
                paused_until_s=max((o.ends_s for o in store.overrides(due_s) if o.service == "*"), default=None),
            )
            if due_s - self._housekept_s >= _KEEP_HOUSE_S:
                self._housekept_s = due_s
                store.retention(due_s)
        except lease.LeaseLost as error:
            self._lose(str(error))
        except Exception as error:  # a locked or full database: the tick itself was done
            self._ticks_failed += not failed
            log.exception("the pulse of the tick at %s could not be written", _iso(due_s))
            self._failed("A tick's pulse could not be written", error, due_s)

    def _check(self, due_s: float, late: bool) -> None:
        loop = self._loop
        try:
            loop.cluster.advance(due_s)
            loop.guard.check(due_s)
            self._guards += 1
            self._guards_late += late
            self._metrics.guard_check(late=late)
            self._store.pulse(guard_s=due_s, guards=self._guards, guards_late=self._guards_late)
        except lease.LeaseLost as error:
            self._lose(str(error))
        except Exception as error:  # a guard that fails says so; the next check starts afresh
            log.exception("guard check at %s failed", _iso(due_s))
            self._failed("A guard check failed; the next one judges again", error, due_s)

    def _ask_again(self, cluster: SimulatedCluster, now_s: float) -> None:
        """What was asked for and never answered (a crash, a cluster away) is asked again, under the same ids."""
        waiting = self._unanswered()
        if waiting:
            cluster.advance(now_s)
            self._store.record_results(act(waiting, cluster), now_s)
            left = len(self._unanswered())
            if left:
                raise BackendUnavailable(f"{left} actions have had no answer; nothing new is planned until they have")

    def _unanswered(self) -> tuple[Action, ...]:
        """Actions on replicas without an answer; those on jobs are the guard's and the intake's to ask again."""
        return tuple(action for action in self._store.unfinished_actions() if action.job_id is None)

    def _follow_envelope(self, loop: Loop) -> None:
        """Tenants move between tiers when an envelope changes the shares; the simulated gateway follows."""
        envelope = loop.journal.envelope()
        before, self._envelope = self._envelope, envelope
        if before is not None and _shares(before) != _shares(envelope):
            loop.cluster.follow(recorded(self._world.trace, envelope))

    def _reset(self) -> None:
        """Begin the demonstration again; envelopes, rules and the ledger stay."""
        self._demo.reset_asked = False
        settings, store, world = self._settings, self._store, self._world
        self._clock.pause()
        self._clock.move_to(world.start_s)
        (settings.state_dir / embedded.STATE_FILE).unlink(missing_ok=True)
        store.start_over(world.warm_from_s)
        store.pulse(started_s=wall_s(), mode=settings.mode.value, backend=settings.backend, policy=settings.policy)
        envelope = store.envelope(SERVICE)
        assert envelope is not None
        cluster = embedded.build_cluster(world, settings, envelope)
        self._loop = wire(self._house, cluster, envelope)
        self._simulate_first_hours(self._loop, envelope)
        cluster.keep_in(settings.state_dir / embedded.STATE_FILE)
        cluster.save()
        self._clock.set_speed(settings.speed)
        self._clock.move_to(world.start_s)
        self._clock.resume()
        self._agenda.restart(world.start_s)
        self._write_clock()

    def _follow_replays(self) -> WhatIfs:
        settings = self._settings
        what_ifs = WhatIfs(
            self._store,
            settings,
            settings.replays_at_once,
            self._clock.now_s,
            wall_s,
            perf_counter,
        )
        what_ifs.take_up()
        return what_ifs

    def _turn_replays(self) -> None:
        assert self._what_ifs is not None
        try:
            self._what_ifs.turn()
        except lease.LeaseLost as error:
            self._lose(str(error))
        except Exception as error:  # recorded; the next turn goes on
            log.exception("what-if runs could not be followed")
            self._failed("What-if runs could not be followed", error, self._clock.now_s())

    def _renew(self) -> None:
        try:
            lease.renew(self._engine, self._epoch)
        except lease.LeaseLost as error:
            self._lose(str(error))

    def _lose(self, why: str) -> None:
        self._why_stopped = why
        self._stopping.set()

    def _failed(self, what: str, error: Exception, now_s: float) -> None:
        self._last_error = f"{what}: {error}"
        try:
            self._store.failure(what, error, now_s)
        except Exception:  # the database itself may be what failed: the log has it
            log.exception("the failure could not be recorded")

    def _missed(self, job: str, what: str) -> None:
        log.warning("%s %s", job, what)

    def _write_clock(self) -> None:
        anchor = self._clock.anchor()
        self._store.clock(
            kind="virtual",
            virtual_s=anchor.virtual_s,
            wall_s=anchor.wall_s,
            speed=anchor.speed,
            paused=anchor.paused,
            repeats=self._loop.cluster.repeats if self._ready else 0,
        )

    def _say_stopped(self) -> None:
        try:
            self._clock.pause()
            if self._ready:
                self._store.enter(
                    LedgerKind.CONTROLLER, now_s=self._clock.now_s(), subject="controller", what="Stopped"
                )
        except Exception:  # stopping must not fail on a database that is gone
            log.exception("the stop could not be recorded")

    def _status(self) -> ControllerStatus:
        return ControllerStatus(
            self._clock.now_s(), self._ready, "" if self._ready else "starting: simulating the hours before"
        )


def _next_multiple(at_s: float, step_s: float) -> float:
    return float(np.ceil(at_s / step_s) * step_s)


def _shares(envelope: Envelope) -> tuple[object, ...]:
    return envelope.tier_salt, tuple((tier.name, tier.tenants_percent) for tier in envelope.tiers)


def _document(settings: Settings) -> object:
    try:
        return yaml.safe_load(settings.envelope.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise InputError(
            str(settings.envelope), None, None, str(error).replace("\n", " "), "see data/envelopes/sample.yaml"
        ) from error


def _iso(at_s: float) -> str:
    return str(np.datetime64(int(at_s), "s")) + "Z"
