"""Where the database is and how to open it. Owns `HEDDLE_DATABASE_URL`.

SQLite runs in WAL mode with a busy timeout, so that the dashboard reads while the controller writes.
"""

import os
from pathlib import Path

from sqlalchemy import Engine, event
from sqlmodel import create_engine

DEFAULT_URL = "sqlite:///var/heddle.db"


def database_url() -> str:
    """`HEDDLE_DATABASE_URL`, or SQLite in `var/` of the working directory."""
    return os.environ.get("HEDDLE_DATABASE_URL") or DEFAULT_URL


def open_engine(url: str | None = None) -> Engine:
    """An engine for `url`. Creates the folder of a SQLite file, not the tables: that is the migration's work."""
    url = url or database_url()
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True)
    path = url.removeprefix("sqlite:///")
    if path and path != ":memory:":
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def _pragmas(connection: object, _record: object) -> None:
        cursor = connection.cursor()  # type: ignore[attr-defined]
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    return engine
