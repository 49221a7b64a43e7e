"""Fleet: is the envelope held, what happens next, what needs a person, what is there and what it costs."""

from datetime import timedelta

import pandas as pd
import streamlit as st

from dashboard import charts, formats, session
from dashboard.components import attention, cards, demo, heads, markets, states, verdict
from dashboard.components.marks import heading
from dashboard.components.plot import plot
from dashboard.queries import demand, fleet, plans
from dashboard.queries.standing import read_standing

LEGEND = (
    '<span class="hd-marks"><span class="hd-mark">▲▼</span> scaling &nbsp;<span class="hd-mark">◆'
    "</span> override &nbsp;"
    '<span class="hd-mark guard">■</span> guardrail</span>'
)


@session.live
def picture() -> None:
    """Demand against capacity, with what was decided at the foot."""
    standing, hours = read_standing(), session.hours()
    names = {"All tiers": demand.ALL} | {formats.words(tier): tier for tier in standing.tiers}
    with st.container(
        horizontal=True, key="head-picture", horizontal_alignment="distribute", vertical_alignment="top", wrap=False
    ):
        step = ", step line: capacity" if st.session_state.get("fleet-tier", "All tiers") == "All tiers" else ""
        st.html(heading("Demand and capacity", f"Actual, forecast p50 to p90{step}. {LEGEND}"))
        chosen = st.segmented_control(
            "Tier", list(names), default="All tiers", required=True, key="fleet-tier", label_visibility="collapsed"
        )
    tier = names.get(str(chosen), demand.ALL)
    load = demand.regular(demand.read_load(hours), tier, hours)
    if load.empty:
        states.empty(
            "No demand has been observed yet",
            "The chart fills with the first minute of telemetry.",
            "monitoring",
            charts.MAIN,
        )
        return
    ahead = max(1 / 6, min(hours / 4, 12.0))
    since, until = standing.now - timedelta(hours=hours), standing.now + timedelta(hours=ahead)
    paths = demand.read_paths(tier, 60 if hours <= 1 else 600, hours).table
    if not paths.empty:
        paths = paths[paths["at"] <= until]
    capacity = demand.read_capacity(hours) if tier == demand.ALL else pd.DataFrame()
    figure = charts.demand_and_capacity(
        load,
        paths,
        capacity,
        plans.read_marks(hours),
        since=since,
        now=standing.now,
        until=until,
        keep=f"{session.range_word()}-{tier}",
    )
    p90 = f", forecast p90 up to {paths['p90'].max():.1f}" if "p90" in paths else ""
    alt = (
        f"Demand of {chosen} over {session.range_word()}: now {load.dropna().iloc[-1]:.1f} busy GPUs, "
        f"peak {load.max():.1f}{p90}."
    )
    picked = plot(figure, key="fleet-picture", alt=alt)
    if picked:
        st.session_state["go"] = picked
        st.rerun()


@session.live
def pools() -> None:
    """A row an offer: ready of desired, how busy, what it costs."""
    found = fleet.read_pools()
    with cards.head("pools", "Replicas per offer", "Ready of desired, what each offer costs now"):
        if st.button(
            "Override", icon=":material/back_hand:", key="fleet-override", disabled=not read_standing().started
        ):
            session.ask("override")
        cards.csv(found, "replicas-per-offer", "pools")
    if found.empty:
        states.empty("No replicas yet", "The first plan starts them; booting takes about three minutes.", "dns")
        return
    gpu = found["gpu"].fillna("").astype(str)
    found["offer"] = [
        f"{g} · {t}" if g else str(i) for g, t, i in zip(gpu, found["instance_type"], found["offer_id"], strict=True)
    ]
    found["market"] = found["market"].map(formats.market)
    found["busy"] = found["busy_ratio"] * 100
    found["of"] = [f"{ready} / {desired}" for ready, desired in zip(found["ready"], found["desired"], strict=True)]
    columns = {
        "offer": cards.text_column("Offer", 122),
        "market": cards.text_column("Market", 78),
        "zone": cards.text_column("Zone", 74),
        "of": cards.text_column("Ready", 56, alignment="right"),
        "coming": cards.number_column("Coming", 56),
        "busy": cards.share_column("Busy", 84),
        "price": cards.number_column("$/h each", 62, "$%.2f"),
        "usd_per_hour": cards.number_column("$/h", 54, "$%.2f"),
        "lost_24h": cards.number_column("Lost 24 h", 62),
    }
    cards.grid(
        found,
        columns,
        key="fleet-pools",
        alt="Replicas per offer: ready of desired, busy share and cost",
        height="content",
    )


def page() -> None:
    """The page from top to bottom."""
    with heads.page("Fleet"):
        demo.controls()
    with cards.card("verdict"):
        verdict.render()
    with st.container(key="wide-fleet"):
        left, right = st.columns([2.15, 1], gap="small")
        with left, cards.card("picture", stretch=True):
            picture()
        with right, cards.card("attention", stretch=True):
            attention.render()
        left, right = st.columns([2.15, 1], gap="small")
        with left, cards.card("pools", stretch=True):
            pools()
        with right, cards.card("markets", stretch=True):
            markets.render()


if __name__ == "__main__":
    page()
