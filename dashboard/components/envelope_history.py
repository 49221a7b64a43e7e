"""Every version of the envelope: one chosen is compared with what is in force and can be brought back."""

import streamlit as st

from dashboard import formats, session
from dashboard.components import cards, envelope_form
from dashboard.components.confirm_envelope import diff_html
from dashboard.components.marks import heading
from dashboard.queries.records import read_envelopes
from dashboard.queries.standing import read_standing


@session.live
def render() -> None:
    """Every version; a chosen one is compared with what is in force and can be brought back."""
    standing, found = read_standing(), read_envelopes()
    with cards.head("history", "History", "Versions are never edited. Choose one to compare and roll back"):
        cards.csv(found.drop(columns=["document"]), "envelopes", "envelopes")
    found["name"] = [
        f"v{version}" + (", in force" if version == standing.version else "") for version in found["version"]
    ]
    found["cap"] = [formats.rate(cap) if formats.known(cap) else "none" for cap in found["spend_cap_usd_per_hour"]]
    found["targets"] = [
        " · ".join(f"{name} {value}" for name, value in envelope_form.told(doc)[1:7:2]) for doc in found["document"]
    ]
    columns = {
        "name": cards.text_column("Version", 92),
        "created_at": cards.time_column("Since", 130),
        "cap": cards.text_column("Cap", 80),
        "targets": cards.text_column("Targets", 360),
        "author": cards.text_column("Author", 90),
        "reason": cards.text_column("Reason", 180),
    }
    row = cards.grid(
        found, columns, key="env-history", alt="Envelope versions, newest first", select="version", height="content"
    )
    if row is None:
        return
    chosen = found.iloc[row]
    if chosen["version"] == standing.version:
        st.html('<p class="hd-sub">This version is in force.</p>')
        return
    st.html(heading(f"v{chosen['version']} against v{standing.version}"))
    st.html(
        diff_html(
            standing.document or {}, chosen["document"], f"v{standing.version}, in force", f"v{chosen['version']}"
        )
    )
    if st.button(f"Roll back to v{chosen['version']}", icon=":material/undo:", key="env-back"):
        session.ask(
            "envelope",
            document=chosen["document"],
            base_version=standing.version,
            why=f"Roll back to v{chosen['version']}",
        )
