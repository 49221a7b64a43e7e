"""Ledger: what closed hours cost and saved; who or what did which thing, when and why; what was asked for.

Kept, never edited.
"""

import json

import streamlit as st

from dashboard import formats, session
from dashboard.components import cards, heads, requests, settlements, states
from dashboard.components.marks import heading, table, text
from dashboard.queries import records
from dashboard.queries.standing import read_standing
from models.enums import LedgerKind

KINDS = {formats.words(kind.value): kind.value for kind in LedgerKind}
SPANS = {"Range above": False, "All time": True}


@session.live
def entries(kinds: tuple[str, ...], search: str, actor: str, ever: bool) -> None:
    """Entries that fit the filters; one chosen shows its numbers."""
    found = records.read_ledger(None if ever else session.hours(), kinds, search, actor)
    told = formats.count(len(found), "entry") if len(found) < 500 else "The newest 500 that fit"
    with cards.head("entries", "Entries", f"{told}, newest first"):
        cards.csv(found.assign(numbers=found["numbers"].map(json.dumps)), "ledger", "ledger")
    if found.empty:
        states.empty("No entry fits", "Widen the range, or clear the search and the filters.", "search_off")
        return
    found["what"] = found["what"].map(formats.sentence)
    found["why"] = found["why"].map(formats.sentence)
    found["kind"] = found["kind"].map(formats.words)
    columns = {
        "at": cards.time_column("When", 128),
        "kind": cards.text_column("Kind", 96),
        "actor": cards.text_column("By", 88),
        "subject": cards.text_column("Subject", 100),
        "what": cards.text_column("What", 240),
        "why": cards.text_column("Why", 220),
        "plan_id": cards.text_column("Plan", 84),
    }
    row = cards.grid(
        found,
        columns,
        key="ledger-entries",
        alt="Ledger entries, newest first",
        select="id",
        height=420 if len(found) > 11 else "content",
    )
    if row is None:
        return
    entry = found.iloc[row]
    rows = [
        ("When", formats.exact(entry["at"])),
        ("What", entry["what"]),
        ("Why", entry["why"] or formats.DASH),
        ("By", entry["actor"]),
        ("Epoch", str(entry["epoch"])),
    ]
    rows += [(formats.label(name), formats.measured(name, value)) for name, value in (entry["numbers"] or {}).items()]
    st.html(
        heading(f"Entry {entry['id']}")
        + table([("", "k"), ("", "")], [[text(name), text(value)] for name, value in rows])
    )
    plan_id = entry["plan_id"]  # NaN where there is none and others of the table have one
    if isinstance(plan_id, str) and st.button(f"Open {plan_id}", icon=":material/account_tree:", key="ledger-plan"):
        st.session_state["go"] = plan_id
        st.rerun()


def page() -> None:
    """The page from top to bottom."""
    with heads.page("Ledger", f"{read_standing().service} · Account"):
        pass
    with cards.card("settlements"):
        settlements.render()
    with cards.card("ledger"):
        with st.container(horizontal=True, key="ledger-filters", vertical_alignment="bottom"):
            search = st.text_input(
                "Search", key="q", placeholder="what, why, subject, plan", type="search", width=260, bind="query-params"
            )
            kinds = st.multiselect("Kind", list(KINDS), key="ledger-kinds", placeholder="all kinds", width=300)
            actor = st.selectbox(
                "By",
                ["", *records.read_actors()],
                key="ledger-actor",
                format_func=lambda name: name or "anyone",
                width=150,
            )
            span = st.segmented_control("Span", list(SPANS), default="Range above", required=True, key="ledger-span")
        entries(tuple(KINDS[kind] for kind in kinds), str(search or ""), str(actor or ""), SPANS.get(str(span), False))
    with cards.card("intents"):
        requests.whole_table()


if __name__ == "__main__":
    page()
