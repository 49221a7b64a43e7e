"""Closed clock hours: what they cost and what held."""

import json
from datetime import timedelta

import streamlit as st

from dashboard import charts, session
from dashboard.components import cards, states
from dashboard.components.plot import plot
from dashboard.queries import records
from dashboard.queries.standing import read_standing


@session.live
def render() -> None:
    """Closed clock hours: what they cost and what held."""
    standing, found = read_standing(), records.read_settlements(max(24.0, session.hours()))
    with cards.head("settlements", "Settlements", f"Closed clock hours, last {max(24, session.hours()):g} h"):
        cards.csv(found.assign(tiers=found["tiers"].map(json.dumps)), "settlements", "settlements")
    if found.empty:
        states.empty("No hour has closed yet", "Each clock hour is settled when it ends.", "request_quote")
        return
    oldest = found["hour"].min()
    left, right = st.columns([1, 1.1], gap="medium")
    figure = charts.spend(
        found, standing.cap, since=oldest, until=found["hour"].max() + timedelta(hours=1), keep=session.range_word()
    )
    over = int((found["within_cap"] == False).sum())  # noqa: E712  (None means no cap)
    with left:
        plot(figure, key="ledger-spend", alt=f"Spend of {len(found)} closed clock hours; {over} over the cap.")
    found["cap"] = [{True: "● Within", False: "■ Over"}.get(held, "no cap") for held in found["within_cap"]]
    columns = {
        "hour": st.column_config.DatetimeColumn("Hour, UTC", width=96, format="D MMM HH:mm", timezone="UTC"),
        "usd": cards.number_column("Spend", 64, "$%.2f"),
        "cap": cards.text_column("Cap", 76),
        "requests": cards.number_column("Requests", 74, "localized"),
        "text": cards.text_column("Outcome", 160),
    }
    with right:
        cards.grid(found, columns, key="ledger-settlements", alt="Settled hours", height=210)
