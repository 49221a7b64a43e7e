"""Cards, card heads with an action at the right, tables with their CSV."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
import streamlit as st

from dashboard.components.marks import heading


@contextmanager
def card(key: str, title: str = "", sub: str = "", *, stretch: bool = False) -> Iterator[None]:
    """A card; `key` is unique on the page. `sub` is HTML."""
    with st.container(border=True, key=f"card-{key}", height="stretch" if stretch else "content"):
        if title:
            st.html(heading(title, sub))
        yield


@contextmanager
def head(key: str, title: str, sub: str = "") -> Iterator[None]:
    """A card's head with room for controls at its right, which are drawn inside the `with`."""
    with st.container(
        horizontal=True, key=f"head-{key}", vertical_alignment="top", horizontal_alignment="distribute", wrap=False
    ):
        st.html(heading(title, sub))
        with st.container(horizontal=True, horizontal_alignment="right", width="content", gap="small"):
            yield


def csv(table: pd.DataFrame, name: str, key: str) -> None:
    """The table as a CSV file. The text is made when it is asked for, not at each refresh."""
    st.download_button(
        "CSV",
        data=lambda: table.to_csv(index=False).encode(),
        file_name=f"heddle-{name}.csv",
        mime="text/csv",
        key=f"csv-{key}",
        icon=":material/download:",
        on_click="ignore",
        help=f"Download {len(table):,} rows as CSV",
        disabled=table.empty,
    )


def text_column(label: str, width: int, **more: Any) -> Any:
    """A column of text."""
    return st.column_config.TextColumn(label, width=width, **more)


def number_column(label: str, width: int, format: str = "%d", **more: Any) -> Any:
    """A column of numbers, right-aligned."""
    return st.column_config.NumberColumn(label, width=width, format=format, **more)


def share_column(label: str, width: int) -> Any:
    """A share of a whole, 0 to 100, as a bar with its number."""
    return st.column_config.ProgressColumn(
        label, width=width, format="%.0f%%", min_value=0, max_value=100, color="gray"
    )


def time_column(label: str, width: int = 132) -> Any:
    """A moment, UTC."""
    return st.column_config.DatetimeColumn(label, width=width, format="D MMM HH:mm:ss", timezone="UTC")


Chosen = tuple[int, Any]


@dataclass(frozen=True)
class Mark:
    """What a table showed at its last drawing, and which row of it was chosen.

    `turn` tells the drawings of one table apart: a new one starts with the tick on row `ticked`.
    """

    turn: int = 0
    ticked: int | None = None
    names: tuple[Any, ...] = ()
    chosen: Chosen | None = None


def follow(row: int | None, before: Mark, names: list[Any]) -> Mark:
    """The tick stays with the thing, not with the place: a live table may put another row under it.

    `row` is where the tick is in what was shown `before`, `names` what is to be shown now. Where the thing chosen is
    at another place now, or gone, the table is drawn anew, with its tick there, or without one.
    """
    chosen = before.chosen
    if row is None or row >= len(before.names):
        chosen = None
    elif chosen is None or chosen[0] != row:
        chosen = (row, before.names[row])
    if chosen is None:
        return (
            Mark(before.turn, before.ticked, tuple(names)) if row is None else Mark(before.turn + 1, None, tuple(names))
        )
    place = names.index(chosen[1]) if chosen[1] in names else None
    if place == chosen[0]:
        return Mark(before.turn, before.ticked, tuple(names), chosen)
    now = None if place is None else (place, chosen[1])
    return Mark(before.turn + 1, place, tuple(names), now)


def grid(
    table: pd.DataFrame,
    columns: dict[str, Any],
    *,
    key: str,
    alt: str,
    select: str = "",
    height: int | Literal["auto", "content"] = "auto",
) -> int | None:
    """A sortable table of the named columns, in that order.

    With `select`, the column that names a row, one row may be chosen: its present number is returned, None without.
    """
    shown = table[list(columns)]
    looks: dict[str, Any] = {"column_config": columns, "hide_index": True, "row_height": 32, "placeholder": "—"}
    if not select:
        st.dataframe(shown, key=key, alt=alt, height=height, **looks)
        return None
    before: Mark = st.session_state.get(f"{key}-mark", Mark())
    held = st.session_state.get(f"{key}-{before.turn}")
    if held is None:  # not drawn by the last run: the page was left in between, nothing is ticked any more
        before = Mark(before.turn + 1)
    rows = held["selection"]["rows"] if held else []
    mark = follow(int(rows[0]) if rows else None, before, list(table[select]))
    st.session_state[f"{key}-mark"] = mark
    st.dataframe(
        shown,
        key=f"{key}-{mark.turn}",
        alt=alt,
        height=height,
        on_select="rerun",
        selection_mode="single-row",
        selection_default=None if mark.ticked is None else {"selection": {"rows": [mark.ticked]}},
        **looks,
    )
    return mark.chosen[0] if mark.chosen else None
