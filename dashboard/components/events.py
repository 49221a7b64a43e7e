"""Events that the forecast takes into account: those ahead, those past, and the way to enter or cancel one."""

from datetime import datetime
from typing import Any

import streamlit as st

from dashboard import formats, session
from dashboard.components import cards, states
from dashboard.components.marks import table, tag, text
from dashboard.queries import outside
from dashboard.queries.read import each
from dashboard.queries.standing import read_standing

SHOWN = 6
COLUMNS = [("Event", ""), ("Kind", "q"), ("From", ""), ("Until", ""), ("Demand", "r"), ("", "c")]


def size(factor: float | None) -> str:
    """ "×2.5" or "Unknown size"."""
    return f"×{factor:g}" if factor is not None and formats.known(factor) else "Unknown size"


def row_html(row: Any, now: datetime) -> list[str]:
    """An event's cells."""
    going = row.starts_at <= now < row.ends_at
    state = tag("Now", "event_available") if going else tag("Past", "history") if row.ends_at <= now else ""
    return [
        f'<b>{text(row.title)}</b><div class="hd-small hd-2">{text(formats.sentence(str(row.reason)))}</div>',
        text(formats.words(str(row.kind))),
        text(formats.day_time(row.starts_at)),
        text(formats.day_time(row.ends_at)),
        text(size(row.factor)),
        state,
    ]


@session.live
def render() -> None:
    """Events ahead and past."""
    standing, found = read_standing(), outside.read_events()
    found = found.rename(columns={"name": "title"})
    ahead, past = outside.upcoming(found, standing.now)
    with cards.head("events", "Events", "What you know is coming. Those past teach the forecast"):
        names = {int(row.id): f"{row.title}, {formats.day_time(row.starts_at)}" for row in each(found)}
        if names:
            chosen = st.selectbox(
                "Event",
                list(names),
                format_func=names.__getitem__,
                key="fc-event",
                label_visibility="collapsed",
                width=220,
            )
            if st.button("Cancel", icon=":material/event_busy:", key="fc-event-cancel") and chosen is not None:
                row = next(each(found[found["id"] == chosen]).__iter__())
                session.ask("cancel_event", event_id=int(chosen), name=str(row.title), size=size(row.factor))
        if st.button("Add", icon=":material/add:", key="fc-event-add", disabled=not standing.started):
            session.ask("add_event")
    if found.empty:
        states.empty("No event is known", "Enter campaigns, holidays and launches before they begin.", "event")
        return
    shown = [*each(ahead)[:SHOWN], *each(past)[: max(2, SHOWN - len(ahead))]]
    st.html(table(COLUMNS, [row_html(row, standing.now) for row in shown]))
    if len(found) > len(shown):
        st.html(f'<p class="hd-sub">{formats.count(len(found) - len(shown), "event")} more, all in the ledger.</p>')
