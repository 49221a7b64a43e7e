"""Alembic's entry: applies migrations on a connection handed over by `models.migrate`, or on the configured database.

A new one is drafted with `python -m alembic revision --autogenerate -m "what changes"`.
"""

from typing import Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import Connection
from sqlmodel import SQLModel
from sqlmodel.sql.sqltypes import AutoString, UTCDateTime

from models import tables  # noqa: F401  (every table)
from models.database import open_engine


def render_item(kind: str, item: object, _context: AutogenContext) -> str | Literal[False]:
    """Writes SQLModel's own types as plain SQLAlchemy: a migration must not change when a library does."""
    if kind == "type" and isinstance(item, UTCDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, AutoString):
        return "sa.String()"
    return False


def run(connection: Connection) -> None:
    """Applies the migrations on a connection, in one transaction."""
    context.configure(
        connection=connection,
        target_metadata=SQLModel.metadata,
        render_item=render_item,
        transactional_ddl=True,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


handed_over = context.config.attributes.get("connection")
if handed_over is not None:
    run(handed_over)
else:
    with open_engine().connect() as own:
        run(own)
        own.commit()
