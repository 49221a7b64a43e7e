import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import NullPool, create_engine, inspect
from sqlmodel import SQLModel

from models import tables  # noqa: F401  (every table)
from models.migrate import DatabaseRefused, Migrated, head, migrate

ROOT = Path(__file__).parents[2]


def test_an_empty_database_gets_every_table_and_a_second_time_changes_nothing(empty_database: str):
    assert migrate(empty_database) == Migrated(None, head())
    assert migrate(empty_database) == Migrated(head(), head())
    assert not migrate(empty_database).changed
    engine = create_engine(empty_database, poolclass=NullPool)
    assert set(inspect(engine).get_table_names()) == {*SQLModel.metadata.tables, "alembic_version"}


def test_the_migrations_make_what_the_models_say(empty_database: str):
    """A change of a model without a migration fails here: draft one, see CONTRIBUTING.md."""
    migrate(empty_database)
    with create_engine(empty_database, poolclass=NullPool).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []


def test_a_database_from_a_newer_version_is_refused_untouched(tmp_path: Path):
    path = tmp_path / "heddle.db"
    url = f"sqlite:///{path}"
    migrate(url)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    before = path.read_bytes()
    with pytest.raises(DatabaseRefused) as refused:
        migrate(url)
    assert path.read_bytes() == before
    assert "from a newer Heddle (its revision 9999" in str(refused.value)
    assert "HEDDLE_DATABASE_URL" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_somebody_elses_database_is_refused_untouched(tmp_path: Path):
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE customers (id INTEGER)")
    database.close()
    before = path.read_bytes()
    with pytest.raises(DatabaseRefused, match=r"tables that are not Heddle's \(customers\)"):
        migrate(f"sqlite:///{path}")
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_untouched(tmp_path: Path):
    path = tmp_path / "letter.txt"
    path.write_text("Dear all, " * 200)
    with pytest.raises(DatabaseRefused, match=r"can't be opened: file is not a database"):
        migrate(f"sqlite:///{path}")
    assert path.read_text().startswith("Dear all")


def test_a_server_that_is_not_there_is_one_line_without_the_password():
    with pytest.raises(DatabaseRefused) as refused:
        migrate("postgresql://heddle:secret@127.0.0.1:1/heddle")
    assert "can't be opened" in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_migration_cut_short_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from alembic import command

    whole = command.upgrade

    def cut_short(*arguments: object) -> None:
        whole(*arguments)  # type: ignore[arg-type]
        raise OSError("the power went")

    url = f"sqlite:///{tmp_path}/heddle.db"
    monkeypatch.setattr(command, "upgrade", cut_short)
    with pytest.raises(DatabaseRefused, match="the power went"):
        migrate(url)
    assert inspect(create_engine(url, poolclass=NullPool)).get_table_names() == []
    monkeypatch.undo()
    assert migrate(url).changed


def test_two_that_start_at_once_take_turns(empty_database: str):
    script = "import sys; from models.migrate import migrate; print(migrate(sys.argv[1]).after)"
    both = [
        subprocess.Popen([sys.executable, "-c", script, empty_database], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60)[0].strip() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said == [head(), head()]
