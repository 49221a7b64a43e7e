"""The whole product as `make run` starts it, in a folder of its own and on free ports of the loopback."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlmodel import Session

from models.database import open_engine
from models.enums import IntentKind, IntentStatus
from models.intents import new_intent

ROOT = Path(__file__).parents[2]
# Bounds of waiting, not expectations: what comes earlier is taken earlier. The launcher itself gives up after 900 s.
READY_S = 1200.0
STOP_S = 240.0
SOON_S = 300.0

Found = TypeVar("Found")


def free_ports(count: int) -> list[int]:
    """So many ports of the loopback that nobody listens on, all different."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def wait_for(found: Callable[[], Found | None], what: str, within_s: float = SOON_S) -> Found:
    """What `found` returns once it is something. AssertionError naming `what` after `within_s`."""
    deadline = time.monotonic() + within_s
    while True:
        result = found()
        if result:
            return result
        assert time.monotonic() < deadline, f"{what}: not within {within_s:.0f} s"
        time.sleep(0.1)


def family_of(pid: int) -> dict[int, str]:
    """All descendants of a process that live now, as pid to command."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat=,command="], capture_output=True, text=True, check=True)
    rows = [line.split(None, 3) for line in listed.stdout.splitlines()]
    found: dict[int, str] = {}
    grown = {pid}
    while grown:
        born = {int(row[0]): row[3] for row in rows if int(row[1]) in grown and not row[2].startswith("Z")}
        grown = set(born) - set(found)
        found |= born
    return found


def alive(pid: int) -> bool:
    """Whether a process is there and not only waits to be reaped."""
    listed = subprocess.run(["ps", "-p", str(pid), "-o", "stat="], capture_output=True, text=True, check=False)
    return bool(listed.stdout.strip()) and not listed.stdout.strip().startswith("Z")


def wait_gone(family: dict[int, str]) -> None:
    """Until none of these processes is left: a killed one takes its moment. AssertionError with those that stay."""
    wait_for(lambda: not any(map(alive, family)), f"the end of all of {family}")


class Product:
    """One Heddle: its folder, its ports and, while it runs, its launcher."""

    def __init__(self, folder: Path, **settings: object) -> None:
        """`settings` are HEDDLE_* variables without the prefix, in any case, on top of ports and places."""
        self.folder, (self.api_port, self.dashboard_port) = folder, free_ports(2)
        folder.mkdir(parents=True, exist_ok=True)
        own = {
            "state_dir": folder / "state",
            "database_url": f"sqlite:///{folder / 'heddle.db'}",
            "api_port": self.api_port,
            "dashboard_port": self.dashboard_port,
            "user": "ada",
        }
        inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("HEDDLE_")}
        self.environment = inherited | {f"HEDDLE_{k.upper()}": str(v) for k, v in (own | settings).items()}
        self.said_in = folder / "said.txt"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def said(self) -> str:
        """What the launcher has printed so far, of its last start."""
        return self.said_in.read_text(encoding="utf-8") if self.said_in.exists() else ""

    @property
    def url(self) -> str:
        """The dashboard."""
        return f"http://127.0.0.1:{self.dashboard_port}"

    def start(self) -> None:
        """Start as `make run` does. The launcher leads a process group of its own, as in a terminal."""
        with self.said_in.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "controller", "up"],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_ready(self, within_s: float = READY_S) -> None:
        """Until the launcher says that both run. AssertionError with its words when it ends before."""
        assert self.process is not None
        deadline = time.monotonic() + within_s
        while "Heddle runs." not in self.said:
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.said}"
            assert time.monotonic() < deadline, f"not ready within {within_s:.0f} s: {self.said}"
            time.sleep(0.1)

    def wait_exit(self, within_s: float = STOP_S) -> int:
        """The launcher's exit code. TimeoutExpired when it goes on."""
        assert self.process is not None
        return self.process.wait(within_s)

    def stop(self) -> int:
        """Ctrl-C, as a terminal sends it to the launcher's group; its exit code.

        AssertionError when it does not end, or leaves a process behind.
        """
        assert self.process is not None
        family = family_of(self.process.pid)
        os.killpg(self.process.pid, signal.SIGINT)
        try:
            code = self.process.wait(STOP_S)
            wait_gone(family)
            return code
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end within {STOP_S:.0f} s of Ctrl-C: {self.said}") from None
        finally:
            self.kill(family)

    def kill(self, family: dict[int, str] | None = None) -> None:
        """The hard end, for whatever a failure left behind."""
        if self.process is None:
            return
        family = family if family is not None else family_of(self.process.pid)
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(STOP_S)
        for pid in filter(alive, family):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def child(self, command: str) -> int:
        """The pid of the launcher's child whose command contains `command`."""
        assert self.process is not None
        return next(pid for pid, what in family_of(self.process.pid).items() if command in what)

    def api(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """GET, or POST with a body; the answer's JSON. AssertionError on an answer of 400 or above."""
        connection = http.client.HTTPConnection("127.0.0.1", self.api_port, timeout=SOON_S)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            read = answer.read()
            assert answer.status < 400, f"{path}: {answer.status} {read[:500]!r}"
            return json.loads(read)
        finally:
            connection.close()

    def ask(self, kind: IntentKind, **payload: object) -> None:
        """Ask for something as the dashboard does, by an intent in the database. Returns when it is applied."""
        now = datetime.fromisoformat(self.api("/v1/status")["now"])
        intent = new_intent(kind, author="the test", reason="a test", created_at=now, payload=payload)
        engine = open_engine(self.environment["HEDDLE_DATABASE_URL"])
        try:
            with Session(engine) as session:
                session.add(intent)
                session.commit()
                number = intent.id
        finally:
            engine.dispose()
        asked = f"/v1/intents/{number}"
        wait_for(lambda: self.api(asked)["status"] == IntentStatus.APPLIED.value, f"{kind.value} applied")

    @contextmanager
    def pace(self, speed: float) -> Iterator[None]:
        """Virtual time at another speed: a person has as many real seconds as a slow machine needs."""
        before = self.api("/v1/status")["speed"]
        self.ask(IntentKind.DEMO_SPEED, speed=speed)
        try:
            yield
        finally:
            self.ask(IntentKind.DEMO_SPEED, speed=before)

    @contextmanager
    def still(self) -> Iterator[None]:
        """Virtual time stands still: no row moves between reading and clicking. What is asked for is still taken."""
        self.ask(IntentKind.DEMO_PAUSE)
        try:
            yield
        finally:
            self.ask(IntentKind.DEMO_RESUME)

    def log(self, child: str) -> str:
        """The log of a child so far."""
        return (self.folder / "state" / "log" / f"{child}.log").read_text(encoding="utf-8", errors="replace")


@contextmanager
def running(folder: Path, **settings: object) -> Iterator[Product]:
    """A product that answers. It is stopped with Ctrl-C, and has to end cleanly with exit code 0 and no complaint."""
    product = Product(folder, **settings)
    product.start()
    try:
        product.wait_ready()
        yield product
        assert product.stop() == 0, product.said
        assert product.said.rstrip().endswith("Stopped."), product.said
        # How long it took is not judged here; that it had to be killed would be a fault.
        assert "sending SIGKILL" not in product.said, product.said
    finally:
        product.kill()
