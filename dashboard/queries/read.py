"""How tables are read: one statement, one short transaction, plain rows. Answers are kept for a second or two.

A cached query takes no clock: it finds "now" itself (`standing`), so that many viewers share one answer.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from sqlalchemy import Row, select
from sqlmodel import SQLModel
from tsdownsample import MinMaxLTTBDownsampler

from dashboard import session

MAX_POINTS = 2000
MAX_ROWS = 500

brief = st.cache_data(ttl=1.5, max_entries=64, show_spinner=False)
"""For what a refresh needs."""

lasting = st.cache_data(ttl=10, max_entries=32, show_spinner=False)
"""For a day or a week of minutes, which one refresh more or less hardly changes."""


def pick(table: type[SQLModel], *names: str, **renamed: str) -> Any:
    """A select of named columns; `renamed` gives a column another name: `pick(PlanRow, "id", why="bound_text")`."""
    chosen = [getattr(table, name) for name in names]
    return select(*chosen, *(getattr(table, column).label(name) for name, column in renamed.items()))


def rows(statement: Any) -> Sequence[Row[Any]]:
    """All rows of a bounded statement."""
    with session.engine().connect() as connection:
        return connection.execute(statement).all()


def first(statement: Any) -> Row[Any] | None:
    """The first row, or None."""
    with session.engine().connect() as connection:
        return connection.execute(statement.limit(1)).first()


def frame(statement: Any) -> pd.DataFrame:
    """The statement's rows as a frame, its columns named as selected."""
    with session.engine().connect() as connection:
        result = connection.execute(statement)
        return pd.DataFrame(result.all(), columns=list(result.keys()))


def each(table: pd.DataFrame) -> list[Any]:
    """The table's rows, their columns as attributes."""
    return list(table.itertuples(index=False))


def thin(table: pd.DataFrame, values: str, points: int = MAX_POINTS) -> pd.DataFrame:
    """At most `points` rows that keep the look of column `values` (MinMaxLTTB; Van Der Donckt et al. 2023)."""
    if len(table) <= points:
        return table
    heights = np.nan_to_num(table[values].to_numpy(dtype=np.float64))
    lttb: Any = MinMaxLTTBDownsampler
    keep = lttb().downsample(heights, n_out=points - points % 2)
    return table.iloc[np.unique(keep)]
