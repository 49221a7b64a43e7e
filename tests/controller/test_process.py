"""The controller's process on a small world: it ticks, is paused and resumed by its operators, stops, and goes on."""

import multiprocessing
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, SQLModel, select

from controller.clock import wall_s
from controller.process import Controller
from controller.settings import Settings
from controller.store.convert import moment
from models.database import open_engine
from models.enums import IntentKind, IntentStatus, ReplayStatus
from models.fleet import ClockRow, ControllerPulse
from models.intents import Intent, new_intent
from models.plans import PlanRow
from models.replays import ReplayRun
from tests.controller.replayed import ENVELOPE, OFFERS, START, rows, write_requests

PATIENCE_S = 60.0


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


class Room:
    """One database and one state folder; controllers come and go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_requests(folder / "requests.csv", rows())
        (folder / "envelope.yaml").write_text(ENVELOPE)
        (folder / "offers.csv").write_text(OFFERS)
        self.engine: Engine = open_engine(f"sqlite:///{folder}/heddle.db")
        SQLModel.metadata.create_all(self.engine)
        self.controller: Controller | None = None
        self.thread: threading.Thread | None = None
        self.ended: list[Any] = []

    def start(self, **changes: Any) -> None:
        given = {
            "api_port": free_port(), "state_dir": self.folder / "var", "requests": self.folder / "requests.csv",
            "envelope": self.folder / "envelope.yaml", "offers": self.folder / "offers.csv", "spot_zones": "none",
            "start": START.isoformat(), "warmup_hours": 0, "speed": 300, "forecast_workers": 0, "scale": 2,
        }  # fmt: skip
        controller = Controller(Settings(**{**given, **changes}), self.engine)

        def run() -> None:
            try:
                self.ended.append(controller.run())
            except BaseException as error:
                self.ended.append(error)

        self.controller, self.thread = controller, threading.Thread(target=run)
        self.thread.start()
        self.until(lambda: bool(self.rows(ClockRow)) and (self.clock().speed > 0 and not self.clock().paused))

    def stop(self) -> Any:
        if self.controller is not None and self.thread is not None:
            self.controller.stop()
            self.thread.join(PATIENCE_S)
            assert not self.thread.is_alive()
            self.controller = self.thread = None
        return self.ended[-1] if self.ended else None

    def until(self, holds: Callable[[], bool]) -> None:
        ends_s, waiting = wall_s() + PATIENCE_S, threading.Event()
        while not holds():
            assert not self.ended or self.thread is None or self.thread.is_alive(), self.ended
            assert wall_s() < ends_s, "it did not come to that"
            waiting.wait(0.05)

    def rows(self, model: Any) -> list[Any]:
        with Session(self.engine) as session:
            return list(session.exec(select(model)).all())

    def clock(self) -> ClockRow:
        (row,) = self.rows(ClockRow)
        return row

    def ticks(self) -> int:
        pulses: list[ControllerPulse] = self.rows(ControllerPulse)
        return pulses[0].ticks if pulses else 0

    def ask(self, kind: IntentKind, service: str = "", **payload: Any) -> int:
        row = new_intent(
            kind, author="ana", reason="a test", created_at=moment(wall_s()), service=service, payload=payload
        )
        with Session(self.engine) as session:
            session.add(row)
            session.commit()
            session.refresh(row)
            assert row.id is not None
            return row.id

    def asked(self, identifier: int) -> Intent:
        return next(row for row in self.rows(Intent) if row.id == identifier)

    def applied(self, kind: IntentKind, **payload: Any) -> None:
        identifier = self.ask(kind, **payload)
        self.until(lambda: self.asked(identifier).status != IntentStatus.PENDING)
        assert self.asked(identifier).status == IntentStatus.APPLIED, self.asked(identifier).status_reason


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path)
    yield room
    room.stop()
    room.engine.dispose()


def test_it_ticks_is_paused_and_goes_on(room: Room) -> None:
    room.start()
    room.until(lambda: room.ticks() >= 5)
    assert room.rows(PlanRow)
    # Virtual time stands still: nothing is due any more …
    room.applied(IntentKind.DEMO_PAUSE)
    room.until(lambda: room.clock().paused)
    stood = -1
    while stood != room.ticks():  # what was due already is still worked off
        stood = room.ticks()
        threading.Event().wait(0.6)
    assert room.clock().paused
    # … and still it listens: to a new speed, and to the word that time shall go on.
    room.applied(IntentKind.DEMO_SPEED, speed=600)
    room.applied(IntentKind.DEMO_RESUME)
    room.until(lambda: not room.clock().paused and room.ticks() > stood + 5)
    assert room.clock().speed == 600
    assert room.stop() == 0


def test_a_restart_while_paused_stays_paused_until_it_is_told(room: Room) -> None:
    room.start()
    room.until(lambda: room.ticks() >= 3)
    room.applied(IntentKind.DEMO_PAUSE)
    assert room.stop() == 0
    virtual = room.clock().virtual_at
    plans = len(room.rows(PlanRow))
    room.ask(IntentKind.DEMO_RESUME)
    room.start()
    room.until(lambda: room.clock().virtual_at > virtual)
    room.until(lambda: len(room.rows(PlanRow)) > plans or room.ticks() > 5)
    assert room.stop() == 0


def test_a_replay_is_run_beside_the_loop_and_again_after_a_restart(room: Room) -> None:
    later = (START + timedelta(hours=8)).isoformat()
    room.start(start=later, replays_at_once=1)
    identifier = room.ask(IntentKind.ASK_REPLAY, service="images", policy="hpa")
    room.until(lambda: any(run.status == ReplayStatus.RUNNING for run in room.rows(ReplayRun)))
    assert room.asked(identifier).status == IntentStatus.APPLIED
    assert room.stop() == 0
    assert not [child for child in multiprocessing.active_children() if child.name.startswith("replay-")]
    room.start(start=later, replays_at_once=1)
    room.until(lambda: all(run.status == ReplayStatus.DONE for run in room.rows(ReplayRun)))
    (run,) = room.rows(ReplayRun)
    assert run.summary["policy"] == "hpa" and run.summary["requests"] > 0
    assert room.ticks() > 0 and room.stop() == 0
