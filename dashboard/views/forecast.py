"""Forecast: what is expected, what came, and which model deserves belief."""

from datetime import timedelta

import pandas as pd
import streamlit as st

from dashboard import charts, formats, session
from dashboard.components import accuracy, cards, events, heads, signals, states, surges
from dashboard.components.marks import heading, stat
from dashboard.components.plot import plot
from dashboard.queries import demand, outside
from dashboard.queries.standing import read_standing

GRIDS = {"Next hour": (60, 1.0), "Next day": (600, 24.0)}


def tier_names() -> dict[str, str]:
    """What may be chosen: all tiers, or one."""
    return {"All tiers": demand.ALL} | {formats.words(tier): tier for tier in read_standing().tiers}


def covered(load: pd.Series, paths: pd.DataFrame, quantile: str = "p90") -> tuple[int, int]:
    """How many observed steps lay at or under the quantile that was forecast for them, of how many."""
    if load.empty or paths.empty or quantile not in paths:
        return 0, 0
    expected = paths.set_index("at")[quantile]
    expected = expected[~expected.index.duplicated(keep="last")].reindex(
        load.index, method="ffill", tolerance=pd.Timedelta(minutes=10)
    )
    both = load.notna() & expected.notna()
    return int((load[both] <= expected[both]).sum()), int(both.sum())


@session.live
def picture(tier: str, name: str, grid: str) -> None:
    """Band and actual of the tier and grid chosen."""
    standing, hours = read_standing(), session.hours()
    step_s, ahead = GRIDS[grid]
    hours = min(hours, 6.0) if step_s == 60 else hours
    load = demand.regular(demand.read_load(hours), tier, hours)
    found = demand.read_paths(tier, step_s, hours)
    until = standing.now + timedelta(hours=ahead)
    paths = found.table[found.table["at"] <= until] if not found.table.empty else found.table
    unit = "one-minute steps" if step_s == 60 else "ten-minute steps"
    bound = " The tiers' quantiles are added: an upper bound." if found.summed else ""
    st.html(
        heading(
            f"{name}, {grid.lower()}", f"Actual, forecast p50, bands to p90 and p99 as made at the time, {unit}.{bound}"
        )
    )
    if load.empty and paths.empty:
        states.empty(
            "No forecast yet",
            "A first forecast is made with the first tick; fewer than two seasons of data fall back to simpler models.",
            "insights",
            charts.MAIN,
        )
        return
    figure = charts.forecast(
        load,
        paths,
        since=standing.now - timedelta(hours=hours),
        now=standing.now,
        until=until,
        keep=f"{tier}-{grid}-{hours}",
        events=outside.spans(standing.now - timedelta(hours=hours), until),
    )
    under, of = covered(load, paths)
    claim = f"The actual load lay under p90 in {under} of {of} steps." if of else "Nothing to compare yet."
    plot(figure, key="forecast-picture", alt=f"{name}: {claim}")
    if of:
        ahead_of_now = paths[paths["at"] >= standing.now]
        peak = ahead_of_now.iloc[int(ahead_of_now["p90"].argmax())] if len(ahead_of_now) else None
        stats = stat("Under forecast p90", formats.percent(under / of), f"{under} of {of} steps, aim 90%")
        if peak is not None:
            stats += stat("Peak ahead, p90", f"{peak['p90']:.1f} GPUs", f"at {formats.day_time(peak['at'])}")
        if not load.dropna().empty:
            stats += stat(
                "Now", f"{load.dropna().iloc[-1]:.1f} GPUs", f"at {formats.hour_minute(load.dropna().index[-1])}"
            )
        made = formats.age((standing.now - found.made_at).total_seconds()) if found.made_at else formats.DASH
        stats += stat(
            "Made",
            f"{made} ago",
            "by each tier's leader" if found.summed else f"by {formats.model(found.model)}",
        )
        st.html(f'<div class="hd-stats" style="margin-top:4px">{stats}</div>')
        if found.reason and not found.summed:
            st.html(f'<p class="hd-sub">{formats.sentence(found.reason).replace("<", "&lt;")}</p>')


def page() -> None:
    """The page from top to bottom."""
    with heads.page("Forecast"):
        pass
    names = tier_names()
    with cards.card("forecast"):
        with st.container(horizontal=True, horizontal_alignment="distribute"):
            name = str(
                st.segmented_control(
                    "Tier", list(names), default="All tiers", required=True, key="fc-tier", label_visibility="collapsed"
                )
            )
            grid = str(
                st.segmented_control(
                    "Horizon",
                    list(GRIDS),
                    default="Next day",
                    required=True,
                    key="fc-grid",
                    label_visibility="collapsed",
                )
            )
        tier = names.get(name, demand.ALL)
        picture(tier, name, grid if grid in GRIDS else "Next day")
    with cards.card("surges"):
        surges.render()
    with cards.card("events"):
        events.render()
    with cards.card("signals"):
        signals.render()
    with cards.card("accuracy"):
        accuracy.render(tier)


if __name__ == "__main__":
    page()
