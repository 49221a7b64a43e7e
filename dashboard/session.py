"""What one browser session knows: the database it reads, who is looking, the range and refresh chosen in the URL."""

import functools
import getpass
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec

import streamlit as st
from sqlalchemy import Engine, inspect
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import SQLModel

from dashboard.components import states
from models import tables  # noqa: F401  (every table)
from models.database import database_url, open_engine

RANGES: dict[str, float] = {"1h": 1.0, "6h": 6.0, "24h": 24.0, "7d": 168.0}
REFRESHES: dict[str, float | None] = {"Live 5 s": 5.0, "Live 10 s": 10.0, "Live 60 s": 60.0, "Paused": None}
P = ParamSpec("P")

DEFAULT_RANGE = "24h"
DEFAULT_REFRESH = "Live 5 s"


@dataclass(frozen=True)
class Trouble:
    """Why the database cannot be read: a title, one sentence, what to do, and the detail for whoever repairs it."""

    title: str
    text: str
    advice: str
    detail: str = ""


@st.cache_resource(show_spinner=False)
def _engine(url: str) -> Engine:
    return open_engine(url)


def engine() -> Engine:
    """The engine of `HEDDLE_DATABASE_URL`, one for the process."""
    return _engine(database_url())


def operator() -> str:
    """Who is asking: `HEDDLE_USER`, or the system's user name."""
    try:
        return os.environ.get("HEDDLE_USER", "").strip() or getpass.getuser()
    except (OSError, KeyError):
        return "operator"


def trouble() -> Trouble | None:
    """What is wrong with the database, or None. Creates nothing: a missing SQLite file stays missing."""
    url = database_url()
    shown = url.rsplit("@", 1)[-1]
    path = url.removeprefix("sqlite:///").split("?")[0]
    if url.startswith("sqlite") and path and path != ":memory:" and not Path(path).is_file():
        return Trouble(
            "There is no database yet",
            f"Heddle keeps everything it knows in one database. None was found at {shown}.",
            (
                "Start both processes with make run: it creates the database. Or point HEDDLE_DATABASE_URL "
                "at the right one."
            ),
        )
    try:
        present = set(inspect(engine()).get_table_names())
    except (SQLAlchemyError, OSError) as error:
        return Trouble(
            "The database cannot be reached",
            f"Reading {shown} failed. Replicas stay as they are: the controller acts without this page.",
            "Check that the database runs and that HEDDLE_DATABASE_URL names it. The page tries again by itself.",
            str(error),
        )
    missing = sorted(set(SQLModel.metadata.tables) - present)
    if missing:
        return Trouble(
            "The database has not been migrated",
            f"{len(missing)} of {len(SQLModel.metadata.tables)} tables are missing at {shown}.",
            "Run python -m controller migrate, or make run, which does it.",
            "Missing: " + ", ".join(missing),
        )
    return None


def hours() -> float:
    """The range chosen, in hours."""
    return RANGES.get(str(st.session_state.get("range") or DEFAULT_RANGE), RANGES[DEFAULT_RANGE])


def range_word() -> str:
    """The range chosen, as the URL says it."""
    return str(st.session_state.get("range") or DEFAULT_RANGE)


def address(**more: str) -> dict[str, str]:
    """The query of another page's address: the range and refresh that are not the defaults, and `more`."""
    kept = {"range": (range_word(), DEFAULT_RANGE), "refresh": (st.session_state.get("refresh"), DEFAULT_REFRESH)}
    return {name: str(value) for name, (value, usual) in kept.items() if value and value != usual} | more


def refresh_s() -> float | None:
    """Seconds between two refreshes, None while paused."""
    return REFRESHES.get(str(st.session_state.get("refresh") or DEFAULT_REFRESH), 5.0)


def guarded(part: Callable[P, None]) -> Callable[P, None]:
    """A part that shows a designed error in its own place when the database fails, and nothing else."""

    @functools.wraps(part)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            part(*args, **kwargs)
        except SQLAlchemyError as error:
            states.failed_part(str(error))

    return run


def live(part: Callable[P, None]) -> Callable[P, None]:
    """A part of a page that refreshes by itself at the rate chosen, without the rest of the page."""

    @functools.wraps(part)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        fragment: Callable[P, Any] = st.fragment(guarded(part), run_every=refresh_s())
        fragment(*args, **kwargs)

    return run


def ask(dialog: str, **facts: Any) -> None:
    """Open a dialog from inside a live part: it is opened by a whole run, so that no refresh of the part closes it."""
    st.session_state["asked"] = (dialog, facts)
    st.rerun()


def asked() -> tuple[str, dict[str, Any]] | None:
    """The dialog asked for, once."""
    found: tuple[str, dict[str, Any]] | None = st.session_state.pop("asked", None)
    return found


def tell(text: str, icon: str = ":material/check:") -> None:
    """Say what was done, at the next whole run (a toast of the present run would be lost with it)."""
    st.session_state.setdefault("told", []).append((text, icon))


def told() -> list[tuple[str, str]]:
    """What is to be said, once."""
    found: list[tuple[str, str]] = st.session_state.pop("told", [])
    return found
