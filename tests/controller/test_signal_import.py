"""`python -m controller import signal`: a file, into Heddle's shape or to the controller."""

import argparse
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlmodel import Session, SQLModel, select

from controller.core.envelope import EnvelopeFacts
from controller.core.types import Action, ActionResult
from controller.importer import add_import_parser, run_import
from controller.intake import Intake
from controller.lease import acquire, check_epoch
from controller.store import Store
from models.database import open_engine
from models.enums import ActionStatus
from models.intents import Intent

from .test_outside import DOCUMENT, NOW


def do_import(*words: object) -> int:
    parser = argparse.ArgumentParser()
    add_import_parser(parser.add_subparsers(required=True))
    return run_import(parser.parse_args(["import", "signal", *map(str, words)]))


def write(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n")
    return path


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Imports, expecting exit code 2, one line on stderr and nothing on stdout; returns the line."""
    assert do_import(*words) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    return said.err


def test_a_file_becomes_at_and_value_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = write(
        tmp_path / "spend.csv",
        "when,usd,who",
        "2024-11-25 08:00,1.50,ad",
        "2024-11-25T06:00:00Z,3,ad",
        "2024-11-25T05:00:00Z,,ad",
        "2024-11-25T06:00:00Z,4,ad",
    )
    out = tmp_path / "out.csv"
    flags = ("--time-column", "when", "--value-column", "usd", "--time-zone", "Europe/Zurich")
    assert do_import(file, *flags, "--out", out) == 0
    assert out.read_text() == "at,value\n2024-11-25T06:00:00Z,4\n2024-11-25T07:00:00Z,1.5\n"
    assert "2 values from 2024-11-25 06:00 to 2024-11-25 07:00 UTC, read as steps of 60 min" in capsys.readouterr().out
    again = tmp_path / "again.csv"
    assert do_import(out, "--out", again) == 0
    assert again.read_bytes() == out.read_bytes()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (("at,value", "2024-11-25T06:00:00Z,much"), "row 2, column value: 'much' is no finite number; leave blank"),
        (("at,value", "2024-11-25T06:00:00Z,inf"), "row 2, column value: 'inf' is no finite number"),
        (("at,value", "2024-11-25T06:00:00Z,1e99"), "row 2, column value: the value '1e99' is absurd; check its unit"),
        (("at,value", "2024-11-25T06:00:00,1"), "row 2, column at: the time '2024-11-25T06:00:00' has no zone"),
        (("at,value", "2024-11-25T06:00:00Z,"), "column value: there is no value in the whole file"),
        (("time,value", "2024-11-25T06:00:00Z,1"), "row 1, column at: the column is missing"),
        (("at,value", "2024-11-25T06:00:00Z,1,2"), "row 2, column value: the row has 3 of 2 columns"),
    ],
)
def test_a_bad_file_is_one_line_with_place_and_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: tuple[str, ...], said: str
):
    line = refused(capsys, write(tmp_path / "bad.csv", *rows), "--out", tmp_path / "out.csv")
    assert line.startswith(str(tmp_path / "bad.csv")) and said in line
    assert not (tmp_path / "out.csv").exists()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "bookings.csv", "at,value", "2024-11-25T05:00:00Z,1", "2024-11-25T06:00:00Z,2")


def test_handed_over_it_is_an_intent_that_the_next_tick_takes(
    file: Path, empty_database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("HEDDLE_DATABASE_URL", empty_database)
    monkeypatch.setenv("HEDDLE_USER", "ana")
    engine = open_engine(empty_database)
    SQLModel.metadata.create_all(engine)
    epoch = acquire(engine, "test")
    store = Store(engine, lambda: epoch, check_epoch)
    store.seed("images", DOCUMENT, now_s=NOW)
    assert "--service: there is no service 'video'; there are: images" in refused(
        capsys, file, "--name", "bookings", "--service", "video"
    )
    assert do_import(file, "--name", "bookings", "--unit", "orders", "--stale-after-hours", 3) == 0
    assert "Handed over as intent 1: the controller's next tick takes it." in capsys.readouterr().out

    def act(action: Action) -> ActionResult:
        return ActionResult(action.id, ActionStatus.CONFIRMED, "")

    Intake(store, lambda service: EnvelopeFacts(("premium",), 8.0, 0.5), act).take(NOW)
    with Session(engine) as session:
        intent = session.exec(select(Intent)).one()
    assert (intent.status, intent.author, intent.reason) == ("applied", "ana", f"imported from {file}")
    (signal,) = store.signals("images")
    assert (signal.name, signal.unit, signal.stale_after_s) == ("bookings", "orders", 10800)
    assert [value for _, value in store.signal_values(signal.id)] == [1, 2]
    engine.dispose()


def test_without_a_database_a_place_or_a_name_it_says_so(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("HEDDLE_DATABASE_URL", f"sqlite:///{tmp_path}/none.db")
    assert "there is no database; start Heddle once" in refused(capsys, file, "--name", "bookings")
    assert not (tmp_path / "none.db").exists()
    assert "'a b' is no name" in refused(capsys, file, "--name", "a b")
    assert "--stale-after-hours" in refused(capsys, file, "--name", "a", "--stale-after-hours", "nan")
    assert "add --name, --out, or both" in refused(capsys, file)


def test_what_is_now_is_asked_of_the_controllers_clock(empty_database: str):
    from controller.signal_import import _now
    from models.fleet import ClockRow

    engine = open_engine(empty_database)
    SQLModel.metadata.create_all(engine)
    at = datetime(2024, 11, 25, 6, tzinfo=UTC)
    with Session(engine) as session:
        session.add(ClockRow(id=1, kind="virtual", virtual_at=at, wall_at=at, speed=60.0, paused=True))
        session.commit()
        assert _now(session) == at
    engine.dispose()
