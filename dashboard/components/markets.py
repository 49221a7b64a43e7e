"""Ready replicas by market over the range, as stacked steps with their present counts."""

from datetime import timedelta

import streamlit as st

from dashboard import charts, formats, session
from dashboard.components import states
from dashboard.components.marks import heading, text
from dashboard.components.plot import plot
from dashboard.queries import demand
from dashboard.queries.standing import read_standing


@session.live
def render() -> None:
    """Ready replicas by market over the range."""
    standing, hours = read_standing(), session.hours()
    capacity = demand.read_capacity(hours)
    st.html(heading("Replicas by market", f"Ready, last {session.range_word()}"))
    if capacity.empty:
        states.empty("No replicas yet", "", "stacked_line_chart", charts.SMALL)
        return
    newest = capacity[capacity["at"] == capacity["at"].max()].groupby("market")["ready"].sum()
    legend = "".join(
        f'<span><i class="hd-sw {text(market)}">'
        f'</i>{text(formats.market(market))} <b class="hd-num">{newest.get(market, 0):,.0f}</b></span>'
        for market in charts.MARKET_TOKENS
        if market in set(capacity["market"])
    )
    st.html(f'<div class="hd-legend">{legend}</div>')
    since = max(standing.now - timedelta(hours=hours), capacity["at"].min().to_pydatetime() - timedelta(minutes=1))
    figure = charts.by_market(capacity, since=since, until=standing.now, keep=session.range_word())
    plot(figure, key="fleet-markets", alt=f"Ready replicas by market, now {int(newest.sum())} in total.")
