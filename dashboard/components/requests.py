"""What operators asked for and what became of it: pending, applied, or refused with the reason."""

import json

import streamlit as st

from dashboard import formats, session
from dashboard.components import cards, states
from dashboard.components.marks import INTENT_TEXT, heading, icon, table, text
from dashboard.queries.read import each
from dashboard.queries.records import read_intents
from dashboard.queries.standing import read_standing
from models.enums import IntentStatus

LOOKS = {
    IntentStatus.PENDING.value: ("schedule", "stale", "Pending"),
    IntentStatus.APPLIED.value: ("check_circle", "held", "Applied"),
    IntentStatus.REFUSED.value: ("report", "breached", "Refused"),
}


def status_html(status: str) -> str:
    """A request's status as a chip."""
    symbol, kind, word = LOOKS.get(status, ("help", "unknown", status))
    return f'<span class="hd-chip {kind}">{icon(symbol)}{text(word)}</span>'


@session.live
def recent(kinds: tuple[str, ...], *, key: str, shown: int = 4, title: str = "Requests") -> None:
    """The last few of these kinds."""
    found = read_intents()
    found = found[found["kind"].isin(kinds)].head(shown)
    st.html(heading(title, "What was asked for, and what became of it"))
    if found.empty:
        st.html('<p class="hd-sub">Nothing has been asked for yet.</p>')
        return
    now = read_standing().now
    rows = []
    for row in each(found):
        what = formats.words(str(row.kind))
        why = row.status_reason or (
            "Waits for the next tick" if row.status == IntentStatus.PENDING.value else row.reason
        )
        age = formats.age((now - row.created_at).total_seconds())
        rows.append(
            [
                f"{status_html(str(row.status))}",
                (
                    f'{text(what)} <span class="hd-2">by {text(row.author)}</span><br>'
                    f'<span class="hd-2">{text(formats.sentence(str(why)))}</span>'
                ),
                f'<span title="{text(formats.exact(row.created_at))}">{age}</span>',
            ]
        )
    st.html(table([("", "c"), ("", ""), ("", "r q")], rows))


@session.live
def whole_table() -> None:
    """Everything operators asked for, with its status."""
    found = read_intents()
    with cards.head("intents", "Requests", "Pending, applied, or refused with the reason"):
        cards.csv(found.assign(payload=found["payload"].map(json.dumps)), "requests", "intents")
    if found.empty:
        states.empty(
            "Nothing has been asked for yet",
            "Envelopes, overrides, acts on jobs and demo controls appear here.",
            "approval",
        )
        return
    found["is"] = found["status"].map(lambda status: INTENT_TEXT.get(status, status))
    found["kind"] = found["kind"].map(formats.words)
    found["outcome"] = [formats.sentence(outcome) or "—" for outcome in found["status_reason"]]
    columns = {
        "id": cards.number_column("No.", 50),
        "is": cards.text_column("Status", 90),
        "kind": cards.text_column("Asked for", 118),
        "author": cards.text_column("By", 88),
        "created_at": cards.time_column("When", 128),
        "outcome": cards.text_column("Outcome", 270),
        "reason": cards.text_column("Reason", 200),
    }
    cards.grid(
        found,
        columns,
        key="ledger-intents",
        alt="Requests of operators and their status",
        height=300 if len(found) > 8 else "content",
    )
