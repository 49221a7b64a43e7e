"""Outside signals: how old each is, and whether the backtest lets a forecast use it."""

import math
from typing import Any

import streamlit as st

from dashboard import formats, session
from dashboard.components import cards, states
from dashboard.components.marks import chip, table, tag, text
from dashboard.queries import outside
from dashboard.queries.read import each
from dashboard.queries.standing import read_standing
from models.enums import EnvelopeStatus

COLUMNS = [("Signal", ""), ("Last value", "r"), ("", "c"), ("Used for", ""), ("Why", "q")]
GRIDS = {60: "next hour", 600: "next day", 3600: "next day, by hours"}


def gain(value: float | None) -> str:
    """ "+6.2% gained", or "not measured"."""
    if value is None or not formats.known(value):
        return "not measured"
    return f"{'+' if value >= 0 else formats.MINUS}{abs(value) * 100:.1f}% pinball"


def used_for(verdicts: list[dict[str, Any]], tiers: str) -> str:
    """Each tier and grid that was judged, with the gain: those that use it first, and then how many do not."""
    if not verdicts:
        return '<span class="hd-2">Not judged yet</span>'
    admitted = [f"{text(_where(each, tiers))}, {text(gain(each['gain']))}" for each in verdicts if each["admitted"]]
    refused = [each for each in verdicts if not each["admitted"]]
    lines = [f"● {line}" for line in admitted]
    if refused:
        best = max((each["gain"] for each in refused if each["gain"] is not None), default=None)
        measured = "not measured" if best is None else f"at best {gain(best)}"
        lines.append(f'<span class="hd-2">○ Not used in {len(refused)}, {text(measured)}</span>')
    return "<br>".join(lines)


def why(verdicts: list[dict[str, Any]]) -> str:
    """The note of the greatest gain: of those that use it, else of those that do not."""
    told = [each for each in verdicts if each["admitted"]] or verdicts
    best = max(told, key=lambda each: -math.inf if each["gain"] is None else float(each["gain"]), default=None)
    return formats.sentence(str(best["note"])) if best else "The next selection of models judges it."


def _where(verdict: dict[str, Any], tiers: str) -> str:
    tier = "All tiers" if verdict["tier"] == tiers else formats.words(str(verdict["tier"]).replace("+", " + "))
    return f"{tier}, {GRIDS.get(verdict['step_s'], formats.duration(verdict['step_s']))}"


def row_html(row: Any, verdicts: list[dict[str, Any]], tiers: str) -> list[str]:
    """A signal's cells."""
    age = (
        "No value" if not row.count else "Known ahead" if row.known_ahead and not row.age_s else formats.age(row.age_s)
    )
    state = chip(EnvelopeStatus.STALE.value) if row.stale else tag("Fresh", "check_circle")
    limit = f"stale after {formats.duration(row.stale_after_s)}"
    unit = f"{row.unit}, " if row.unit else ""
    return [
        f'<b>{text(row.title)}</b><div class="hd-small hd-2">{text(unit)}{row.count:,} values, {text(limit)}</div>',
        text(age),
        state,
        used_for(verdicts, tiers),
        text(why(verdicts)),
    ]


@session.live
def render() -> None:
    """The signals of the service."""
    standing, found = read_standing(), outside.read_signals()
    found = found.rename(columns={"name": "title"})
    verdicts = outside.read_admissions()
    with cards.head("signals", "Signals", "Used only where the backtest improves by 2%, and only while fresh"):
        names = [str(name) for name in found["title"]]
        if names:
            chosen = st.selectbox("Signal", names, key="fc-signal", label_visibility="collapsed", width=160)
            if st.button("Remove", icon=":material/delete:", key="fc-signal-remove") and chosen:
                session.ask("remove_signal", name=str(chosen))
        if st.button("Upload", icon=":material/upload:", key="fc-signal-add", disabled=not standing.started):
            session.ask("add_signal")
    if found.empty:
        states.empty("No signal yet", "Upload a CSV, or push values to POST /v1/signals/{name}.", "sensors")
        return
    whole = "+".join(standing.tiers)
    st.html(table(COLUMNS, [row_html(row, verdicts.get(str(row.title), []), whole) for row in each(found)]))
