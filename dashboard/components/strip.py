"""The header strip on every page: is the envelope held, and how fresh is that.

Then the range and the refresh, which live in the URL.
"""

import streamlit as st

from dashboard import formats, session
from dashboard.components.marks import MODE_WORDS, chip, icon, tag, text
from dashboard.queries.fleet import read_money
from dashboard.queries.standing import SPEND, Standing, Term, read_standing


def tightest(standing: Standing) -> Term | None:
    """The latency term nearest to (or furthest over) its limit."""
    measured = [term for term in standing.terms if term.name != SPEND and term.value is not None and term.limit]
    return max(measured, key=lambda term: (term.value or 0.0) / (term.limit or 1.0), default=None)


def _summary(standing: Standing) -> str:
    version = f"Envelope v{standing.version}" if standing.version is not None else "No envelope"
    busy = " busy" if standing.pending else ""
    parts = [f"{chip(standing.status)}<b class='v'>{version}</b>"]
    if standing.pending:
        parts[0] += tag(f"{standing.pending} pending", "schedule", "accent")
    near = tightest(standing)
    if near:
        in_ms = (near.limit or 0) < 1000
        value, of = formats.wait(near.value, in_ms), formats.wait(near.limit, in_ms)
        parts.append(f'<span class="hd-num it">{text(formats.words(near.name))} <b>{value}</b> of {of}</span>')
    money = read_money()
    if money.per_hour is not None:
        of = f" of {formats.cap(standing.cap)}" if standing.cap is not None else ", no cap"
        parts.append(f'<span class="hd-num it mid">Spend <b>{formats.rate(money.per_hour)}</b>{of}</span>')
    if standing.tick_age_s is not None and not standing.pending:
        parts.append(f'<span class="hd-num it wide" {_punctual(standing)} ago{_late(standing)}</span>')
    return f'<div class="hd-strip{busy}" role="status">{"".join(parts)}</div>'


def _punctual(standing: Standing) -> str:
    told = (
        f"{standing.ticks} ticks since the controller started, {standing.ticks_late} of them late; "
        f"{standing.guards_late} guard checks late"
    )
    return f'title="{told}">Tick {formats.age(standing.tick_age_s)}'


def _late(standing: Standing) -> str:
    """Ticks and guard checks that ran later than they were due."""
    late = standing.ticks_late + standing.guards_late
    return f", {late} late" if late else ""


def banners(standing: Standing) -> str:
    """One bar a trouble: the controller silent, telemetry stale, the fleet paused, the trace repeating."""
    found: list[tuple[str, str, str, str]] = []
    if not standing.started:
        found.append(
            (
                "stale",
                "hourglass_empty",
                "The controller has not started yet.",
                "Nothing has been observed. Start both with make run.",
            )
        )
    elif standing.starting:
        told = "It simulates the hours before now; this takes a moment. The pages fill as it goes."
        found.append(("plain", "hourglass_top", "The controller is starting.", told))
    elif standing.down:
        since = f" for {formats.duration(standing.silent_s)}" if standing.silent_s is not None else ""
        last = f" The last tick was at {formats.exact(standing.tick_at)}." if standing.tick_at else ""
        found.append(
            (
                "breached",
                "report",
                f"The controller has not reported{since}.",
                f"Replicas stay as they are; what you ask for waits.{last}",
            )
        )
    elif standing.stale:
        age = formats.duration(standing.telemetry_age_s)
        told = f"Telemetry is {age} old." if standing.telemetry_age_s is not None else "No telemetry has arrived."
        found.append(
            ("stale", "history_toggle_off", told, "Scale-in is held until it reports; the last values keep their age.")
        )
    if standing.fleet_paused_until:
        ends = formats.exact(standing.fleet_paused_until)
        found.append(
            (
                "plain",
                "lock",
                f"Automation is paused until {ends}.",
                "Replicas stay as they are. Guardrails keep running.",
            )
        )
    if standing.repeats:
        told = "The trace has ended: its last week repeats on later dates."
        found.append(("plain", "repeat", told, f"Repeated {formats.count(standing.repeats, 'time')} so far."))
    return "".join(
        f'<div class="hd-banner {kind}" role="status">{icon(symbol)}<div><b>{text(what)}</b> {text(then)}</div></div>'
        for kind, symbol, what, then in found
    )


def badge(standing: Standing) -> tuple[str, str]:
    """How far Heddle may go, or what holds it now: the word and its symbol."""
    if standing.fleet_paused_until:
        return f"Paused to {formats.hour_minute(standing.fleet_paused_until)}", "lock"
    if standing.frozen_until:
        return f"Frozen to {formats.hour_minute(standing.frozen_until)}", "lock"
    symbol, word = MODE_WORDS.get(standing.mode, ("help", standing.mode))
    return (word, symbol) if standing.planner_leads else (f"{word}, planner stepped back", symbol)


@session.live
def _standing_part() -> None:
    standing = read_standing()
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="strip-standing", wrap=False):
        if standing.started:
            word, symbol = badge(standing)
            told = standing.authority or "What the mode means, who set it, and how to change it"
            if st.button(word, icon=f":material/{symbol}:", key=f"badge-{standing.mode}", help=formats.sentence(told)):
                session.ask("mode")
        st.html(_summary(standing))
    if st.session_state.get("drawn-for") not in (None, _drawn_for(standing)):
        st.rerun()


def _drawn_for(standing: Standing) -> tuple[object, ...]:
    """What the parts of a page that do not refresh by themselves were drawn from."""
    return standing.started, standing.version is None, standing.tiers, standing.simulated


@session.live
def banner_part() -> None:
    """The banners, under the strip of each page."""
    html = banners(read_standing())
    if html:
        st.html(html)


def render() -> None:
    """The whole strip. Its widgets are read by `session`, on this and on every page."""
    st.session_state["drawn-for"] = _drawn_for(read_standing())
    st.session_state.setdefault("range", session.DEFAULT_RANGE)
    st.session_state.setdefault("refresh", session.DEFAULT_REFRESH)
    with st.container(
        horizontal=True, key="strip", wrap=False, vertical_alignment="center", horizontal_alignment="distribute"
    ):
        with st.container(key="strip-left"):
            _standing_part()
        with st.container(
            horizontal=True, width="content", wrap=False, vertical_alignment="center", gap="small", key="strip-right"
        ):
            st.segmented_control(
                "Range",
                list(session.RANGES),
                key="range",
                label_visibility="collapsed",
                required=True,
                bind="query-params",
                wrap=False,
            )
            st.selectbox(
                "Refresh",
                list(session.REFRESHES),
                key="refresh",
                label_visibility="collapsed",
                bind="query-params",
                width=116,
            )
            st.button(
                ":material/refresh:", key="refresh-now", help="Read everything again", on_click=st.cache_data.clear
            )
