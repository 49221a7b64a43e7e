"""`make run`: starts the controller and the dashboard, waits until both answer, and stops both together.

It supervises and nothing else: it opens the database only to migrate it. Each child leads a session of its own, so
that a Ctrl-C in the terminal reaches this process alone; the children are then stopped within a bounded time.
"""

import ctypes
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from controller.settings import Settings
from models.migrate import DatabaseRefused, migrate

EXIT_STOPPED: Final = 0
EXIT_DIED: Final = 1
EXIT_REFUSED: Final = 2

# What a child is asked, in order, and how long it may take after each: it saves its state on the first.
STOP_STEPS: Final = ((signal.SIGINT, 10.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))
_POLL_S: Final = 0.2
_TAIL_LINES: Final = 20

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Child:
    """A process to run. It is ready when GET http://{host}:{port}{health} answers 200."""

    name: str
    command: tuple[str, ...]
    host: str
    port: int
    health: str
    log: Path


@dataclass(slots=True)
class _Running:
    child: Child
    process: subprocess.Popen[bytes]
    ready: bool = False


class _Stopped(Exception):
    """A signal asked to stop."""


class _Died(Exception):
    """A child ended by itself, or never answered."""

    def __init__(self, running: _Running, what: str) -> None:
        self.running = running
        super().__init__(what)


def children_of(settings: Settings) -> tuple[Child, Child]:
    """The controller and the dashboard, as `settings` want them."""
    logs = settings.state_dir / "log"
    host = reachable_host(settings.bind)
    controller = (sys.executable, "-m", "controller", "run")
    dashboard = (
        *(sys.executable, "-m", "streamlit", "run", "dashboard/app.py"),
        "--server.headless=true",
        f"--server.address={settings.bind}",
        f"--server.port={settings.dashboard_port}",
        "--server.fileWatcherType=none",
        "--browser.gatherUsageStats=false",
    )
    return (
        Child("controller", controller, host, settings.api_port, "/readyz", logs / "controller.log"),
        Child("dashboard", dashboard, host, settings.dashboard_port, "/_stcore/health", logs / "dashboard.log"),
    )


def up(
    settings: Settings,
    *,
    children: Sequence[Child] | None = None,
    say: Say = lambda line: print(line, flush=True),
    ready_timeout_s: float = 900.0,
    stop_steps: Sequence[tuple[signal.Signals, float]] = STOP_STEPS,
) -> int:
    """Runs Heddle until Ctrl-C, SIGTERM or the death of a child. Returns the exit code.

    0: stopped on request. 1: a child died or never answered; its last lines were said. 2: refused before anything was
    started (a busy port, a database from a newer version).
    """
    children = children if children is not None else children_of(settings)
    problem = _refusal(settings)
    if problem:
        say(problem)
        return EXIT_REFUSED
    started: list[_Running] = []
    with _stop_signals() as asked:
        try:
            for child in children:
                started.append(_start(child))
            _wait_ready(started, asked, say, ready_timeout_s)
            say(_welcome(settings))
            while not asked.wait(_POLL_S):
                _check_alive(started)
            raise _Stopped
        except _Stopped:
            say("Stopping …")
            _stop(started, say, stop_steps)
            say("Stopped.")
            return EXIT_STOPPED
        except _Died as death:
            say(f"The {death.running.child.name} {death}. Stopping the rest.")
            _stop(started, say, stop_steps)
            log = death.running.child.log
            say(f"Its last lines ({log}):")
            for line in _tail(log):
                say(f"  {line}")
            # A child that refused its input says so by its own exit code.
            return EXIT_REFUSED if death.running.process.returncode == EXIT_REFUSED else EXIT_DIED
        except BaseException:
            _stop(started, say, stop_steps)
            raise


def port_is_busy(host: str, port: int) -> bool:
    """Whether somebody listens on the port already."""
    with suppress(OSError), socket.create_connection((reachable_host(host), port), timeout=0.5):
        return True
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def reachable_host(bind: str) -> str:
    """The host by which a server bound to `bind` is reached from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind, bind)


def _refusal(settings: Settings) -> str | None:
    if settings.api_port == settings.dashboard_port:
        return f"HEDDLE_API_PORT and HEDDLE_DASHBOARD_PORT are both {settings.api_port}: change one."
    missing = settings.missing_files()
    if missing:
        return missing
    for what, port, name in (
        ("the controller's API", settings.api_port, "HEDDLE_API_PORT"),
        ("the dashboard", settings.dashboard_port, "HEDDLE_DASHBOARD_PORT"),
    ):
        if port_is_busy(settings.bind, port):
            return (
                f"Port {port} of {settings.bind}, for {what}, can't be used: something else listens there, or it is "
                f"reserved. Choose another with {name}, for example: {name}={port + 10} make run"
            )
    try:
        migrate(settings.database_url)
    except DatabaseRefused as refused:
        return str(refused)
    return None


def _start(child: Child) -> _Running:
    child.log.parent.mkdir(parents=True, exist_ok=True)
    if child.log.exists():
        child.log.replace(child.log.with_suffix(".log.1"))
    with child.log.open("wb") as log:
        process = subprocess.Popen(
            child.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
    return _Running(child, process)


def _end_with_parent() -> None:
    """In the child, on Linux: SIGTERM when this launcher is gone without having stopped it (kill -9)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _wait_ready(started: Sequence[_Running], asked: threading.Event, say: Say, timeout_s: float) -> None:
    begun = time.monotonic()
    next_word_s = 0.0
    while True:
        for running in started:
            running.ready = running.ready or _answers(running.child)
        _check_alive(started)
        waiting = [running for running in started if not running.ready]
        if not waiting:
            return
        waited_s = time.monotonic() - begun
        if waited_s > timeout_s:
            raise _Died(waiting[0], f"did not answer within {timeout_s:.0f} s")
        if waited_s >= next_word_s:
            names = " and the ".join(running.child.name for running in waiting)
            since = f" ({waited_s:.0f} s) {_at_work(waiting[0].child.log)}" if next_word_s else ""
            say(f"Waiting for the {names} …{since}".rstrip())
            next_word_s += 10.0 if next_word_s else 5.0
        if asked.wait(_POLL_S):
            raise _Stopped


def _at_work(log: Path) -> str:
    """What the child's newest log line says, without its time and logger: a first start has hours to simulate."""
    lines = _tail(log)
    return lines[-1].rpartition(": ")[2][:90] if lines else ""


def _answers(child: Child) -> bool:
    connection = http.client.HTTPConnection(child.host, child.port, timeout=1.0)
    try:
        connection.request("GET", child.health)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _check_alive(started: Sequence[_Running]) -> None:
    for running in started:
        code = running.process.poll()
        if code is not None:
            how = f"ended with exit code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
            raise _Died(running, how)


def _stop(started: Sequence[_Running], say: Say, steps: Sequence[tuple[signal.Signals, float]]) -> None:
    """Ends all children, each step harsher than the last, then whatever they left in their process groups."""
    for number, (sign, patience_s) in enumerate(steps):
        alive = [running for running in started if running.process.poll() is None]
        for running in alive:
            if number:
                say(f"The {running.child.name} does not end; sending {sign.name}.")
            with suppress(ProcessLookupError):
                running.process.send_signal(sign)
        deadline = time.monotonic() + patience_s
        for running in alive:
            with suppress(subprocess.TimeoutExpired):
                running.process.wait(max(0.0, deadline - time.monotonic()))
    for running in started:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(running.process.pid, signal.SIGKILL)


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    asked = threading.Event()

    def ask(_signal: int, _frame: FrameType | None) -> None:
        asked.set()

    signs = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {sign: signal.signal(sign, ask) for sign in signs}
    try:
        yield asked
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


def _tail(log: Path) -> list[str]:
    with log.open(encoding="utf-8", errors="replace") as lines:
        return [line.rstrip("\n") for line in deque(lines, _TAIL_LINES)]


def _welcome(settings: Settings) -> str:
    host = reachable_host(settings.bind)
    shown = f"[{host}]" if ":" in host else host
    return (
        "\nHeddle runs.\n"
        f"  Dashboard   http://{shown}:{settings.dashboard_port}\n"
        f"  API         http://{shown}:{settings.api_port}/v1/status\n"
        f"  Logs        {settings.state_dir / 'log'}\n"
        "Ctrl-C stops both.\n"
    )
