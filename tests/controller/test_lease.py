import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, select

from controller.lease import LEASE_S, LeaseHeld, LeaseLost, acquire, check_epoch, process_exists, release, renew
from models.database import open_engine
from models.fleet import ControllerLease
from models.ledger import LedgerEntry
from models.migrate import migrate

ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Wall:
    """A wall clock that the test turns."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def url(empty_database: str) -> str:
    migrate(empty_database)
    return empty_database


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = open_engine(url)
    yield engine
    engine.dispose()


def entry(what: str) -> LedgerEntry:
    return LedgerEntry(at=NOON, kind="controller", actor="heddle", subject="controller", what=what)


def written(engine: Engine) -> list[str]:
    with Session(engine) as session:
        return list(session.exec(select(LedgerEntry.what)))


def test_a_controller_comes_goes_and_comes_again(engine: Engine):
    assert acquire(engine, "first") == 1
    release(engine, 1)
    assert acquire(engine, "second") == 2
    with Session(engine) as session:
        lease = session.exec(select(ControllerLease)).one()
    assert (lease.holder, lease.host, lease.pid) == ("second", socket.gethostname(), os.getpid())


def test_a_second_controller_is_refused_and_told_who_holds_it(engine: Engine):
    wall = Wall()
    acquire(engine, "heddle", host="loom", pid=4242, wall=wall)
    wall.passes(7)
    with pytest.raises(LeaseHeld) as refused:
        acquire(engine, "other", host="elsewhere", pid=1, wall=wall)
    said = str(refused.value)
    for part in ("pid 4242 on loom", "since 2026-01-01 12:00:00 UTC", "7 s ago", "HEDDLE_DATABASE_URL"):
        assert part in said
    assert "\n" not in said


def test_a_holder_that_falls_silent_is_overtaken_after_the_lease(engine: Engine):
    wall = Wall()
    first = acquire(engine, "first", host="loom", pid=1, wall=wall)
    wall.passes(20)
    renew(engine, first, wall=wall)
    wall.passes(LEASE_S)
    with pytest.raises(LeaseHeld):
        acquire(engine, "second", host="elsewhere", wall=wall)
    wall.passes(1)
    assert acquire(engine, "second", host="elsewhere", wall=wall) == first + 1


def test_a_dead_process_of_this_host_is_overtaken_at_once_another_hosts_is_not(engine: Engine):
    wall = Wall()
    acquire(engine, "first", host="loom", pid=4242, wall=wall)
    with pytest.raises(LeaseHeld):
        acquire(engine, "second", host="elsewhere", wall=wall, alive=lambda pid: False)
    with pytest.raises(LeaseHeld):
        acquire(engine, "second", host="loom", wall=wall, alive=lambda pid: pid == 4242)
    assert acquire(engine, "second", host="loom", wall=wall, alive=lambda pid: False) == 2


def test_an_overtaken_controller_can_write_renew_and_release_nothing(engine: Engine):
    wall = Wall()
    slept = acquire(engine, "slept", host="loom", pid=1, wall=wall)
    wall.passes(LEASE_S + 1)
    awake = acquire(engine, "awake", host="elsewhere", pid=2, wall=wall)
    with Session(engine) as session, pytest.raises(LeaseLost, match=r"lost the database to awake \(pid 2 on elsewhere"):
        session.add(entry("by the one that slept"))
        check_epoch(session, slept)
        session.commit()
    with pytest.raises(LeaseLost):
        renew(engine, slept, wall=wall)
    release(engine, slept)
    with Session(engine) as session:
        check_epoch(session, awake)
        session.add(entry("by the one awake"))
        session.commit()
    assert written(engine) == ["by the one awake"]


def test_a_released_lease_fences_too(engine: Engine):
    epoch = acquire(engine, "first")
    release(engine, epoch)
    with Session(engine) as session, pytest.raises(LeaseLost):
        check_epoch(session, epoch)


def test_nobody_can_take_over_between_the_check_and_the_commit(engine: Engine):
    """The newcomer may take the lease by then, but has to wait until the write is in."""
    wall = Wall()
    epoch = acquire(engine, "first", host="loom", wall=wall)
    wall.passes(LEASE_S + 1)
    order: list[str] = []

    def newcomer() -> None:
        acquire(engine, "second", host="elsewhere", wall=wall)
        order.append("taken over")

    other = threading.Thread(target=newcomer)
    with Session(engine) as session:
        check_epoch(session, epoch)
        other.start()
        other.join(0.3)
        assert other.is_alive()
        session.add(entry("in time"))
        order.append("committed")
        session.commit()
    other.join(10)
    assert order == ["committed", "taken over"]
    assert written(engine) == ["in time"]


def test_of_many_that_start_at_once_one_wins(url: str):
    gate, epochs, refused = threading.Barrier(6), [], []

    def start(number: int) -> None:
        engine = open_engine(url)
        gate.wait()
        try:
            epochs.append(acquire(engine, f"controller {number}"))
        except LeaseHeld as held:
            refused.append(str(held))
        finally:
            engine.dispose()

    threads = [threading.Thread(target=start, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert epochs == [1]
    assert len(refused) == 5


def test_two_processes(url: str, engine: Engine):
    script = (
        "import sys; from controller.lease import acquire; from models.database import open_engine\n"
        "print(acquire(open_engine(sys.argv[1]), 'other process'), flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, url]
    other = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "1\n"
        with pytest.raises(LeaseHeld, match=f"pid {other.pid} on "):
            acquire(engine, "this process")
    finally:
        other.kill()
        other.communicate()
    # It released nothing, and is gone: no need to wait.
    assert acquire(engine, "this process") == 2


def test_process_exists():
    assert process_exists(os.getpid())
    assert process_exists(1)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert not process_exists(gone.pid)
