"""Guardrails: jobs and what they burn, the rules they run under, what was stopped and on what evidence."""

import streamlit as st

from dashboard import formats, session
from dashboard.components import cards, heads, jobs, requests, rules, states
from dashboard.components.marks import heading, table, text
from dashboard.queries.jobs import read_events


@session.live
def events() -> None:
    """What the guard judged; one chosen shows its evidence."""
    found = read_events()
    with cards.head("events", "Events", "Each written before the act, with its evidence"):
        cards.csv(found, "guardrail-events", "events")
    if found.empty:
        states.empty("Nothing has been stopped", "Events appear when a job passes a limit.", "shield")
        return
    found["act"] = [
        formats.words(action) + (", dry run" if dry else "")
        for action, dry in zip(found["action"], found["dry_run"], strict=True)
    ]
    found["text"] = found["text"].map(formats.sentence)
    found["status"] = found["status"].map(formats.words)
    columns = {
        "at": cards.time_column("When", 128),
        "job_id": cards.text_column("Job", 70),
        "rule": cards.text_column("Rule", 110),
        "act": cards.text_column("Act", 112),
        "text": cards.text_column("What happened", 420),
        "status": cards.text_column("Status", 90),
    }
    row = cards.grid(
        found,
        columns,
        key="gr-events",
        alt="Guardrail events, newest first",
        select="id",
        height="content" if len(found) < 8 else 300,
    )
    if row is not None:
        evidence = found.iloc[row]["evidence"] or {}
        flat = [
            [
                text(formats.label(name)),
                text(formats.measured(name, value) if not isinstance(value, dict | list) else value),
            ]
            for name, value in evidence.items()
        ]
        st.html(
            heading(f"Evidence, {found.iloc[row]['job_id']}", text(found.iloc[row]["detail"] or ""))
            + table([("", "k"), ("", "r")], flat)
        )


def page() -> None:
    """The page from top to bottom."""
    with heads.page("Guardrails"):
        pass
    with cards.card("jobs"):
        jobs.render()
    with st.container(key="wide-guardrails"):
        left, right = st.columns([1.7, 1], gap="small")
        with left, cards.card("rules", stretch=True):
            rules.render()
        with right, cards.card("requests", stretch=True):
            requests.recent(("kill_job", "suspend_job", "resume_job", "set_rule"), key="guard", shown=3)
    with cards.card("events"):
        events()


if __name__ == "__main__":
    page()
