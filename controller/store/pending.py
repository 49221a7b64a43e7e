"""Rows that wait for the end of their transaction, so that a batch of ten thousand ticks is a few statements.

The later write of a row wins: a plan held for an hour is one UPDATE in a batch, not 240.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, cast

from sqlalchemy import Connection, Table, UniqueConstraint, and_, bindparam, insert, inspect, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import SQLModel

from models.jobs import JobAttempt

Row = dict[str, Any]
Key = tuple[Any, ...]
Model = type[SQLModel]


@cache
def table_of(model: Model) -> Table:
    """The table of a model, for statements of SQLAlchemy's core."""
    return cast(Table, inspect(model).local_table)


@cache
def key_columns(model: Model) -> tuple[str, ...]:
    """The columns that tell one row of the table from another: its unique constraint, else its primary key."""
    if model is JobAttempt:
        return ("job_id", "number")
    table = table_of(model)
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            return tuple(column.name for column in constraint.columns)
    return tuple(column.name for column in table.primary_key.columns)


@cache
def _upsert(model: Model, dialect: str, columns: tuple[str, ...]) -> Any:
    keys = key_columns(model)
    statement: Any = (postgresql if dialect == "postgresql" else sqlite).insert(table_of(model))
    changed = {name: statement.excluded[name] for name in columns if name not in keys}
    return statement.on_conflict_do_update(index_elements=list(keys), set_=changed)


@cache
def _insert(model: Model) -> Any:
    return insert(table_of(model))


@cache
def _update(model: Model, columns: tuple[str, ...]) -> Any:
    table = table_of(model)
    here = and_(*(table.c[name] == bindparam(f"key_{name}") for name in key_columns(model)))
    return update(table).where(here).values({name: bindparam(f"to_{name}") for name in columns})


class Pending:
    """What one transaction will write. Not for several threads: the store's lock guards it."""

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect
        self._added: dict[Model, list[Row]] = {}
        self._new: dict[Model, dict[Key, Row]] = {}
        self._put: dict[Model, dict[Key, Row]] = {}
        self._changed: dict[Model, dict[Key, Row]] = {}

    def add(self, model: Model, row: Row) -> None:
        """A new row. Every row of a table must name the same columns."""
        self._added.setdefault(model, []).append(row)
        keys = key_columns(model)
        if all(name in row for name in keys):
            self._new.setdefault(model, {})[tuple(row[name] for name in keys)] = row

    def put(self, model: Model, row: Row) -> None:
        """A whole row, inserted or, where its key exists, written over it."""
        key = tuple(row[name] for name in key_columns(model))
        self._changed.get(model, {}).pop(key, None)
        self._put.setdefault(model, {})[key] = row

    def change(self, model: Model, key: Key, values: Mapping[str, Any]) -> None:
        """Some columns of a row that exists, or waits to."""
        waiting = self._new.get(model, {}).get(key) or self._put.get(model, {}).get(key)
        if waiting is not None:
            waiting.update(values)
        else:
            self._changed.setdefault(model, {}).setdefault(key, {}).update(values)

    def flush(self, connection: Connection) -> None:
        for model, rows in self._added.items():
            connection.execute(_insert(model), rows)
        for model, keyed in self._put.items():
            if keyed:
                rows = list(keyed.values())
                connection.execute(_upsert(model, self._dialect, tuple(rows[0])), rows)
        for model, keyed in self._changed.items():
            names = key_columns(model)
            shapes: dict[tuple[str, ...], list[Row]] = {}
            for key, values in keyed.items():
                row = {f"key_{name}": part for name, part in zip(names, key, strict=True)}
                row.update({f"to_{name}": value for name, value in values.items()})
                shapes.setdefault(tuple(sorted(values)), []).append(row)
            for columns, rows in shapes.items():
                connection.execute(_update(model, columns), rows)
        self.clear()

    def clear(self) -> None:
        for waiting in (self._added, self._new, self._put, self._changed):
            waiting.clear()
