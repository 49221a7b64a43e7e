"""What holds for every test: no settings of the person's own, no files in the tree, the same examples each time."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from sqlalchemy import NullPool, create_engine, text

from controller.settings import PREFIX, READ_ELSEWHERE

# Before anything reads them, and for the processes that tests start, too.
for name in [name for name in os.environ if name.upper().startswith(PREFIX) and name not in READ_ELSEWHERE]:
    del os.environ[name]

# Without a database of examples Hypothesis writes no folder; derandomized, a failure shows again. Two cores shared by
# all are no place for deadlines.
hypothesis.settings.register_profile("heddle", database=None, derandomize=True, deadline=None)
hypothesis.settings.load_profile("heddle")

POSTGRES = os.environ.get("HEDDLE_TEST_POSTGRES_URL", "")


@pytest.fixture(params=["sqlite", "postgresql"] if POSTGRES else ["sqlite"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without a table; on PostgreSQL too, where HEDDLE_TEST_POSTGRES_URL names one."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/state/heddle.db"
        return
    engine = create_engine(POSTGRES, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    yield POSTGRES
