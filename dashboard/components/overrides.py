"""Overrides: those in force, with their price and the way back; the fleet-wide pause; those that were."""

from datetime import datetime
from typing import Any

import streamlit as st

from dashboard import formats, session
from dashboard.components import cards
from dashboard.components.marks import text
from dashboard.queries import plans
from dashboard.queries.fleet import read_fleet
from dashboard.queries.read import each
from dashboard.queries.standing import read_standing


def override_html(row: Any, now: datetime, usd_each: float | None) -> str:
    """One override in force: what, until when, who and why, and its price until then."""
    kind, service, replicas, ends = row.kind, row.service, row.replicas, row.ends_at
    hours = max(0.0, (ends - now).total_seconds() / 3600)
    what = f"{formats.words(kind)} {'the whole fleet' if service == '*' else service}" + (
        f" at {int(replicas)}" if formats.known(replicas) else ""
    )
    price = (
        f", about {formats.money(replicas * usd_each * hours)} until then"
        if usd_each is not None and formats.known(replicas)
        else ""
    )
    signed = " Signed above the cap." if row.signed_over_cap else ""
    return (
        f'<div class="hd-text hd-b">{text(what)}</div>'
        f'<div class="hd-small hd-2">Ends in {formats.duration(hours * 3600)}, '
        f"{text(formats.exact(ends))}{text(price)}. "
        f"{text(row.author)}: {text(formats.sentence(str(row.reason)))}{signed}</div>"
    )


@session.live
def in_force() -> None:
    """What is in force, and the switches."""
    standing, active, fleet = read_standing(), plans.read_overrides(), read_fleet()
    fleet_wide = standing.fleet_paused_until is not None
    with cards.head("overrides", "Automation", "An override rules until its end, then Heddle does again"):
        if st.button("Override", icon=":material/back_hand:", key="sc-override", disabled=not standing.started):
            session.ask("override")
        if fleet_wide and (active["service"] == "*").any():
            if st.button("Resume the fleet", icon=":material/play_arrow:", key="sc-resume"):
                session.ask("resume_fleet")
        elif st.button(
            "Pause the fleet",
            icon=":material/pause:",
            key="sc-pause",
            disabled=not standing.started,
            help="Stop every scaling act of every service",
        ):
            session.ask("pause_fleet")
    if active.empty:
        mode = {
            "act": "Heddle plans and acts by itself.",
            "advise": "Heddle plans; it does not act.",
            "observe": "Heddle only observes.",
        }
        st.html(f'<p class="hd-text hd-2" style="margin:0">No override is in force. {mode.get(standing.mode, "")}</p>')
    for row in each(active):
        with st.container(
            horizontal=True,
            key=f"ov-row-{row.id}",
            horizontal_alignment="distribute",
            vertical_alignment="center",
            wrap=False,
        ):
            st.html(override_html(row, standing.now, fleet.usd_per_replica_hour))
            if st.button("Return to automatic", key=f"ov-end-{row.id}"):
                if row.service == "*":
                    session.ask("resume_fleet")
                session.ask("end_override", override_id=int(row.id), kind=str(row.kind), service=str(row.service))


@session.live
def past() -> None:
    """Overrides that were, with why they ended."""
    found = plans.read_overrides(active_only=False)
    with cards.head("past", "Overrides so far"):
        cards.csv(found, "overrides", "overrides")
    if found.empty:
        st.html('<p class="hd-sub">None so far.</p>')
        return
    found["what"] = [
        formats.words(kind) + (f" at {int(n)}" if formats.known(n) else "")
        for kind, n in zip(found["kind"], found["replicas"], strict=True)
    ]
    columns = {
        "what": cards.text_column("Override", 110),
        "service": cards.text_column("Service", 80),
        "starts_at": cards.time_column("From"),
        "ends_at": cards.time_column("Until"),
        "author": cards.text_column("Author", 90),
        "reason": cards.text_column("Reason", 220),
        "ended_why": cards.text_column("Ended", 180),
    }
    cards.grid(found, columns, key="sc-past", alt="All overrides, newest first", height="content")
