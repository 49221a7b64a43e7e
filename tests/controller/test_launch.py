"""The launcher with fake children: small HTTP servers that do as a test tells them."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from controller.launch import Child, children_of, port_is_busy, reachable_host, up
from controller.lease import process_exists
from controller.settings import Settings
from models.migrate import head, migrate

ROOT = Path(__file__).parents[2]

# Answers 200 on every path, after {delay} s; on SIGINT it says so and ends, unless it is told to be deaf.
SERVER = """
import http.server, os, signal, subprocess, sys, threading, time
port, deaf, delay = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
def end(sign, _frame):
    print("asked by", signal.Signals(sign).name, flush=True); os._exit(0)
signal.signal(signal.SIGINT, signal.SIG_IGN if "INT" in deaf else end)
signal.signal(signal.SIGTERM, signal.SIG_IGN if "TERM" in deaf else end)
if "PARENT" in deaf:
    print("worker", subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
print("pid", os.getpid(), flush=True)
time.sleep(delay)
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
QUICK = ((signal.SIGINT, 0.5), (signal.SIGTERM, 0.5), (signal.SIGKILL, 5.0))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        api_port=free_port(),
        dashboard_port=free_port(),
        database_url=f"sqlite:///{tmp_path}/heddle.db",
        state_dir=tmp_path,
    )


@pytest.fixture
def make_child(tmp_path: Path) -> Callable[..., Child]:
    def make(name: str, port: int, script: str = SERVER, deaf: str = "none", delay_s: float = 0.0) -> Child:
        command = (sys.executable, "-c", script, str(port), deaf, str(delay_s))
        return Child(name, command, "127.0.0.1", port, "/healthz", tmp_path / "log" / f"{name}.log")

    return make


class Listener:
    """Collects what is said, and does something when a word is said."""

    def __init__(self, word: str = "", act: Callable[[], None] = lambda: None) -> None:
        self.lines: list[str] = []
        self._word, self._act = word, act

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        if self._word and self._word in line:
            self._act()

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def ask(sign: signal.Signals) -> Callable[[], None]:
    """Sends a signal to this process a moment later."""

    def send() -> None:
        threading.Timer(0.2, os.kill, (os.getpid(), sign)).start()

    return send


def pid_in(log: Path, word: str = "pid") -> int:
    return next(int(line.split()[1]) for line in log.read_text().splitlines() if line.startswith(word))


def pids_in(log: Path) -> list[int]:
    """None where a child was stopped before it could say its number; then it left nothing to look for."""
    return [int(line.split()[1]) for line in log.read_text().splitlines() if line.startswith("pid")]


def gone(pid: int) -> bool:
    """Whether a process ended, within a bounded time: an orphan is reaped by init when it pleases."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if not process_exists(pid) or Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_starts_both_says_where_they_are_and_stops_both(
    settings: Settings, make_child: Callable[..., Child], sign: signal.Signals
):
    children = [
        make_child("controller", settings.api_port, delay_s=0.3),
        make_child("dashboard", settings.dashboard_port),
    ]
    said = Listener("Heddle runs", ask(sign))
    assert up(settings, children=children, say=said) == 0
    assert "Waiting for the controller" in said.text
    assert f"http://127.0.0.1:{settings.dashboard_port}" in said.text
    assert f"http://127.0.0.1:{settings.api_port}" in said.text
    assert said.lines[-2:] == ["Stopping …", "Stopped."]
    for child in children:
        assert "asked by SIGINT" in child.log.read_text()
        assert gone(pid_in(child.log))
    assert not migrate(settings.database_url).changed, "the database was migrated before"


def test_a_child_that_dies_takes_the_other_along_and_its_last_words_are_said(
    settings: Settings, make_child: Callable[..., Child]
):
    dying = (
        "import sys\nfor number in range(50): print('line', number)\n"
        "print('ValueError: the thread broke', file=sys.stderr)\nsys.exit(3)"
    )
    children = [
        make_child("controller", settings.api_port),
        make_child("dashboard", settings.dashboard_port, script=dying),
    ]
    said = Listener()
    assert up(settings, children=children, say=said) == 1
    assert "The dashboard ended with exit code 3. Stopping the rest." in said.lines
    assert said.lines[-1] == "  ValueError: the thread broke"
    assert "  line 31" in said.lines
    assert "  line 30" not in said.lines, "the last 20 lines only"
    # It may have been asked before it could say its number; then it left nothing to look for.
    assert not port_is_busy("127.0.0.1", settings.api_port)


def test_a_child_that_is_killed_later_is_noticed(settings: Settings, make_child: Callable[..., Child]):
    children = [make_child("controller", settings.api_port), make_child("dashboard", settings.dashboard_port)]
    said = Listener("Heddle runs", lambda: os.kill(pid_in(children[0].log), signal.SIGKILL))
    assert up(settings, children=children, say=said) == 1
    assert "The controller was ended by SIGKILL. Stopping the rest." in said.lines
    assert gone(pid_in(children[1].log))


def test_a_deaf_child_and_its_own_workers_are_ended_all_the_same(settings: Settings, make_child: Callable[..., Child]):
    children = [make_child("controller", settings.api_port, deaf="INT TERM PARENT")]
    said = Listener("Heddle runs", ask(signal.SIGINT))
    assert up(settings, children=children, say=said, stop_steps=QUICK) == 0
    assert "The controller does not end; sending SIGTERM." in said.lines
    assert "The controller does not end; sending SIGKILL." in said.lines
    assert gone(pid_in(children[0].log))
    assert gone(pid_in(children[0].log, "worker"))


def test_one_that_never_answers_is_given_up(settings: Settings, make_child: Callable[..., Child]):
    children = [make_child("controller", settings.api_port, delay_s=600)]
    said = Listener()
    assert up(settings, children=children, say=said, ready_timeout_s=1.0) == 1
    assert "The controller did not answer within 1 s. Stopping the rest." in said.lines
    assert all(map(gone, pids_in(children[0].log)))


def test_ctrl_c_while_waiting_stops_cleanly(settings: Settings, make_child: Callable[..., Child]):
    children = [make_child("controller", settings.api_port, delay_s=600)]
    said = Listener("Waiting for", ask(signal.SIGINT))
    assert up(settings, children=children, say=said, stop_steps=QUICK) == 0
    assert said.lines[-1] == "Stopped."


def test_a_busy_port_is_said_with_the_variable_to_change_and_nothing_is_started(
    settings: Settings, make_child: Callable[..., Child]
):
    children = [make_child("controller", settings.api_port)]
    with socket.socket() as other:
        other.bind(("127.0.0.1", settings.dashboard_port))
        other.listen()
        said = Listener()
        assert up(settings, children=children, say=said) == 2
    assert len(said.lines) == 1
    assert f"Port {settings.dashboard_port} of 127.0.0.1, for the dashboard" in said.text
    assert "HEDDLE_DASHBOARD_PORT" in said.text
    assert not children[0].log.exists()


def test_one_port_for_both_is_refused(settings: Settings):
    said = Listener()
    assert up(settings.model_copy(update={"dashboard_port": settings.api_port}), say=said) == 2
    assert "HEDDLE_API_PORT and HEDDLE_DASHBOARD_PORT are both" in said.text


def test_a_database_from_a_newer_version_stops_the_start(settings: Settings, make_child: Callable[..., Child]):
    from sqlalchemy import create_engine, text

    migrate(settings.database_url)
    engine = create_engine(settings.database_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    said = Listener()
    assert up(settings, children=[make_child("controller", settings.api_port)], say=said) == 2
    assert said.lines == [said.text]
    assert f"from a newer Heddle (its revision 9999, this version's {head()})" in said.text


def test_the_log_of_the_time_before_is_kept(settings: Settings, make_child: Callable[..., Child]):
    child = make_child("controller", settings.api_port)
    child.log.parent.mkdir(parents=True)
    child.log.write_text("yesterday\n")
    up(settings, children=[child], say=Listener("Heddle runs", ask(signal.SIGINT)))
    assert child.log.with_suffix(".log.1").read_text() == "yesterday\n"
    assert "yesterday" not in child.log.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_children_do_not_outlive_a_launcher_that_is_killed(settings: Settings, make_child: Callable[..., Child]):
    child = make_child("controller", settings.api_port)
    script = (
        "import sys; from pathlib import Path; from controller.launch import Child, up\n"
        "from controller.settings import Settings\n"
        f"child = Child('controller', {child.command!r}, '127.0.0.1', {child.port}, '/', Path({str(child.log)!r}))\n"
        f"up(Settings.model_validate_json({settings.model_dump_json()!r}), children=[child])"
    )
    launcher = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    while "Heddle runs" not in launcher.stdout.readline():
        assert launcher.poll() is None
    launcher.kill()
    launcher.communicate()
    assert gone(pid_in(child.log))


def test_what_is_started_follows_the_settings(tmp_path: Path):
    settings = Settings(bind="0.0.0.0", api_port=1234, dashboard_port=5678, state_dir=tmp_path)
    controller, dashboard = children_of(settings)
    assert controller.command[1:] == ("-m", "controller", "run")
    assert (controller.host, controller.port, controller.health) == ("127.0.0.1", 1234, "/readyz")
    assert dashboard.command[1:5] == ("-m", "streamlit", "run", "dashboard/app.py")
    for flag in ("headless=true", "address=0.0.0.0", "port=5678"):
        assert f"--server.{flag}" in dashboard.command
    assert "--browser.gatherUsageStats=false" in dashboard.command


def test_how_a_server_is_reached_from_here():
    assert [reachable_host(bind) for bind in ("127.0.0.1", "0.0.0.0", "::", "10.1.2.3")] == [
        "127.0.0.1",
        "127.0.0.1",
        "::1",
        "10.1.2.3",
    ]
