"""Brings a database to this version's tables. Run before anything else opens it.

A database is left alone, whole, when it is from a newer Heddle, or when it is somebody else's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, NullPool, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from models.database import database_url

_SCRIPTS = Path(__file__).parent / "migrations"
_POSTGRES_LOCK = 0x6865_6464_6C65  # "heddle": two processes that migrate at once take turns


class DatabaseRefused(Exception):
    """The database can't be used, and was not changed. The message is one line for the operator."""


@dataclass(frozen=True, slots=True)
class Migrated:
    """Revisions before and after; `before` None: the database was empty."""

    before: str | None
    after: str

    @property
    def changed(self) -> bool:
        """Whether anything was done."""
        return self.before != self.after


def head() -> str:
    """The revision of this version's tables."""
    found = ScriptDirectory(str(_SCRIPTS)).get_current_head()
    if found is None:
        raise RuntimeError(f"no migrations in {_SCRIPTS}")
    return found


def migrate(url: str | None = None) -> Migrated:
    """Upgrades the database at `url` (default: `database_url()`) to `head()`, in one transaction.

    Raises DatabaseRefused when it is from a newer version, holds tables that are not Heddle's, or can't be opened.
    """
    url = url or database_url()
    try:
        with _locked(_engine(url)) as connection:
            before = _revision(connection, url)
            if before != head():
                config = Config(attributes={"connection": connection})
                config.set_main_option("script_location", str(_SCRIPTS))
                command.upgrade(config, "head")
            return Migrated(before, head())
    except (SQLAlchemyError, OSError) as error:
        cause = getattr(error, "orig", None) or error
        first_line = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise DatabaseRefused(f"The database {_shown(url)} can't be opened: {first_line}") from error


def _revision(connection: Connection, url: str) -> str | None:
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is None:
        tables = [name for name in inspect(connection).get_table_names() if name != "alembic_version"]
        if tables:
            raise DatabaseRefused(
                f"The database {_shown(url)} holds tables that are not Heddle's ({', '.join(sorted(tables)[:3])}); "
                "it was left untouched. Name another with HEDDLE_DATABASE_URL."
            )
        return None
    known = {script.revision for script in ScriptDirectory(str(_SCRIPTS)).walk_revisions()}
    if revision not in known:
        raise DatabaseRefused(
            f"The database {_shown(url)} is from a newer Heddle (its revision {revision}, this version's {head()}); "
            "it was left untouched. Update Heddle, or name another database with HEDDLE_DATABASE_URL."
        )
    return revision


def _engine(url: str) -> Engine:
    """An engine of the migration's own: it changes no pragma of a file that may yet be refused."""
    if not url.startswith("sqlite"):
        return create_engine(url, poolclass=NullPool)
    path = make_url(url).database
    if path and path != ":memory:":
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": 30})

    # The sqlite3 driver would commit at each CREATE TABLE: with its own transactions off, a migration that is cut short
    # leaves nothing behind (SQLAlchemy, "Serializable isolation / Savepoints / Transactional DDL").
    @event.listens_for(engine, "connect")
    def _manual(connection: object, _record: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


@contextmanager
def _locked(engine: Engine) -> Iterator[Connection]:
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POSTGRES_LOCK})
        yield connection


def _shown(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True)
