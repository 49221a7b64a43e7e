"""`python -m controller import signal`: a person's own series, written in Heddle's shape or handed to the controller.

Handed over it is an intent like any other: the controller's next tick keeps the values, or refuses them and says why.
"""

import argparse
import getpass
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from sqlalchemy import inspect
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, select

from controller.clock import wall_now
from controller.core.forecast.signals import regular
from controller.core.points import LONGEST_STALE_S, MOST_UPLOADED, NAME
from controller.core.types import FloatArray
from controller.sources.base import InputError, quoted
from controller.sources.signals import read_signal
from controller.sources.times import zone_named
from models.database import database_url, open_engine
from models.enums import IntentKind
from models.fleet import ClockRow
from models.intents import new_intent
from models.services import Service

SIGNAL_COLUMNS: Final = ("at", "value")


def add_signal_parser(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `import signal`: its own flags; FILE, --out and --force are the importer's."""
    parser = kinds.add_parser("signal", help="an outside series: when, how much")
    parser.add_argument("--time-column", default="at", help="when a value begins (%(default)s)")
    parser.add_argument("--value-column", default="value", help="the value (%(default)s)")
    parser.add_argument("--time-zone", help="zone of times that name none, such as UTC or Europe/Zurich")
    parser.add_argument("--name", help="hand the values to the controller, as the signal of this name")
    parser.add_argument("--service", default="images", help="whose signal it is (%(default)s)")
    parser.add_argument("--unit", default="", help="of the values, where it has one")
    parser.add_argument("--known-ahead", action="store_true", help="future values are known too, as with bookings")
    parser.add_argument("--stale-after-hours", type=float, default=1.0, help="how old is too old (%(default)s)")


def signal_rows(args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Sequence[object]], str]:
    """The header, rows and summary of a signal's file; with --name its values are handed over. Raises InputError."""
    zone = zone_named(args.time_zone) if args.time_zone else None
    times, values = read_signal(args.file, args.time_column, args.value_column, zone)
    summary = describe(times, values)
    if args.name:
        summary += " " + _hand_over(args, times, values)
    moments = np.rint(times * 1e6).astype(np.int64).astype("datetime64[us]")
    whole = bool((times % 1 == 0).all())
    stamps = moments.astype("datetime64[s]" if whole else "datetime64[us]").astype(str)
    plain = [str(int(value)) if value == int(value) else repr(value) for value in values.tolist()]
    return SIGNAL_COLUMNS, [(f"{stamp}Z", value) for stamp, value in zip(stamps, plain, strict=True)], summary


def describe(times: FloatArray, values: FloatArray) -> str:
    """What a signal's file holds, in a sentence or two: enough to notice a wrong column or zone."""
    series = regular(times, values)
    assert series is not None
    missing = int(np.isnan(series.values).sum())
    gaps = f", {missing:,} of them missing" if missing else ""
    first, last = (datetime.fromtimestamp(float(at_s), UTC) for at_s in (times[0], times[-1]))
    return (
        f"{len(times):,} values from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC, read as steps of "
        f"{series.step_s / 60:g} min{gaps}; mean {values.mean():.4g}, from {values.min():.4g} to {values.max():.4g}."
    )


def _hand_over(args: argparse.Namespace, times: FloatArray, values: FloatArray) -> str:
    if not NAME.fullmatch(args.name):
        raise InputError("--name", None, None, f"{quoted(args.name)} is no name", "use letters, digits, _ - and .")
    stale_s = args.stale_after_hours * 3600.0
    if not 60.0 <= stale_s <= LONGEST_STALE_S:
        raise InputError("--stale-after-hours", None, None, "is not between a minute and 30 days", "write 1, or 24")
    if len(times) > MOST_UPLOADED:
        raise InputError(args.file, None, None, f"there are over {MOST_UPLOADED:,} values", "import it in parts")
    engine = open_engine() if _there() else None
    try:
        if engine is None or not inspect(engine).has_table("intent"):
            raise InputError(
                database_url(), None, None, "there is no database", "start Heddle once, or set HEDDLE_DATABASE_URL"
            )
        with Session(engine) as session:
            if session.exec(select(Service.id).where(Service.name == args.service)).first() is None:
                names = ", ".join(session.exec(select(Service.name))) or "none"
                raise InputError(
                    "--service", None, None, f"there is no service {quoted(args.service)}", f"there are: {names}"
                )
            intent = new_intent(
                IntentKind.ADD_SIGNAL,
                author=os.environ.get("HEDDLE_USER", "").strip() or getpass.getuser(),
                reason=f"imported from {args.file}",
                created_at=_now(session),
                service=args.service,
                payload={
                    "name": args.name,
                    "unit": args.unit,
                    "known_ahead": args.known_ahead,
                    "stale_after_s": stale_s,
                    "points": np.stack([times, values], axis=1).tolist(),
                },
            )
            session.add(intent)
            session.commit()
            return f"Handed over as intent {intent.id}: the controller's next tick takes it."
    except SQLAlchemyError as error:
        problem = f"can't be written ({type(error).__name__})"
        raise InputError(database_url().rsplit("@", 1)[-1], None, None, problem, "check that it runs") from None
    finally:
        if engine is not None:
            engine.dispose()


def _there() -> bool:
    """A SQLite file is not created by asking for it."""
    url = database_url()
    return not url.startswith("sqlite:///") or os.path.isfile(url.removeprefix("sqlite:///").split("?")[0])


def _now(session: Session) -> datetime:
    """The controller's now, from its clock's row; the wall's where there is none yet."""
    wall, row = wall_now(), session.get(ClockRow, 1)
    if row is None:
        return wall
    passed = 0.0 if row.paused else max(0.0, (wall - row.wall_at).total_seconds()) * row.speed
    return row.virtual_at + timedelta(seconds=passed)
