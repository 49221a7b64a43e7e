"""Can the draft be held: its probability, what breaks first and when, what would help, and what waiting costs."""

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from controller.core.feasibility import FEASIBLE_FROM, SIGNED_BELOW, Change, Feasibility, percent
from controller.core.frontier import Frontier
from dashboard import formats
from dashboard.components import cards, states
from dashboard.components.marks import chip, icon, table, tag, text
from dashboard.components.plot import plot
from dashboard.frontier_figure import HEIGHT, Spot, frontier_figure, told
from dashboard.queries.feasibility import read_changes, read_frontier, read_prospect, read_verdict, why_nothing
from dashboard.queries.standing import SPEND, Standing
from models.enums import EnvelopeStatus

Document = dict[str, Any]


def bar(probability: float) -> str:
    """The probability on a line from 0 to 100%, with a tick at what counts as feasible."""
    return (
        f'<div class="hd-track" style="--c:var(--hd-ink)" role="img" aria-label="{percent(probability)}">'
        f'<div class="now" style="width:{probability * 100:.0f}%"></div>'
        f'<div class="limit" style="left:{FEASIBLE_FROM * 100:.0f}%"></div></div>'
    )


def verdict_tag(verdict: Feasibility) -> str:
    """The verdict in a word or three, as a chip."""
    if verdict.must_be_signed:
        return tag("Must be signed", "report", "breached")
    if verdict.probability is not None and verdict.probability >= FEASIBLE_FROM:
        return tag("Feasible", "check_circle", "held")
    return tag("Uncertain", "warning", "at_risk")


def hour_of(at_s: float | None) -> str:
    """A clock hour ahead: "Mon 14:00–15:00"."""
    if at_s is None:
        return formats.DASH
    at = datetime.fromtimestamp(at_s, UTC)
    return f"{at:%a %H:%M}–{(at.hour + 1) % 24:02d}:00 UTC"


def terms_html(verdict: Feasibility) -> str:
    """Each term with its probability, and when it most often breaks."""
    body = [
        [
            text("Spend cap" if term.name == SPEND else formats.words(term.name)),
            f"<b class='hd-b'>{percent(term.probability)}</b>",
            f'<span class="hd-2">{text(hour_of(term.breaks_s))}</span>',
        ]
        for term in verdict.terms
    ]
    return table([("", ""), ("Holds all day", "r"), ("Breaks most often", "r")], body)


def facts_html(verdict: Feasibility) -> str:
    """What breaks first, how often the cap binds, what the day costs."""
    first = "nothing" if verdict.first is None else f"{formats.words(verdict.first)}, {hour_of(verdict.first_s)}"
    cut = formats.DASH if verdict.capped is None else f"{percent(verdict.capped)} of futures"
    rows = [
        ("Breaks first", first),
        ("The cap cuts the fleet in", cut),
        ("Next 24 h, p50", formats.money(verdict.usd_day)),
        ("Dearest hour, p90", formats.money(verdict.dearest_hour_usd)),
    ]
    return table([("", "k"), ("", "r")], [[text(name), text(value)] for name, value in rows])


def slope_words(found: Frontier, target_ms: float | None) -> str:
    """What a millisecond costs about the draft: "1 ms less costs $0.020 an hour there"."""
    slope = None if target_ms is None else found.usd_per_ms(target_ms)
    if slope is None:
        return "What a millisecond costs there is not known."
    if slope < 0.0005:
        return "A millisecond less costs nothing there: other terms set the cap."
    return f"A millisecond less costs ${slope:,.3f} an hour there."


def change_words(change: Change) -> str:
    """A change in words: "Raise the cap to $38.00/h"."""
    if change.field == "spend_cap_usd_per_hour":
        return f"Raise the cap to {formats.rate(change.value)}"
    if change.field == "floors":
        return f"Lower the floor to {int(change.value or 0)}"
    if change.field == "ceilings":
        return "Lift the ceiling"
    tier = change.field.removeprefix("tiers.").removesuffix(".latency.target_ms")
    return f"Promise {tier} {formats.wait(change.value, (change.value or 0) < 10_000)}"


def with_change(document: Document, change: Change, service: str) -> Document:
    """The draft with the change made."""
    draft = copy.deepcopy(document)
    if change.field == "spend_cap_usd_per_hour":
        draft[change.field] = change.value
    elif change.field in ("floors", "ceilings"):
        draft[change.field] = {service: int(change.value)} if change.value else {}
    else:
        tier = change.field.removeprefix("tiers.").removesuffix(".latency.target_ms")
        draft["tiers"][tier]["latency"]["target_ms"] = change.value
    return draft


def verdict_card(standing: Standing, document: Document, use: Callable[[Document, str], None]) -> None:
    """The card of the probability; `use` begins a draft from a document and says why."""
    with cards.card("chance"):
        prospect, verdict = read_prospect(), read_verdict(document)
        nothing = why_nothing(prospect)
        if verdict is None or verdict.probability is None:
            why = nothing or (verdict.why_unknown if verdict else "the form says what is wrong with the draft")
            st.html(_head(f'<span class="hd-hero">{formats.DASH}</span>{chip(EnvelopeStatus.UNKNOWN.value)}'))
            st.html(f'<p class="hd-sub">Unknown: {text(why)}.</p>')
            for words in verdict.impossible if verdict else ():
                st.html(_impossible(words))
            return
        assert prospect is not None
        st.html(
            _head(f'<span class="hd-hero hd-num">{percent(verdict.probability)}</span>{verdict_tag(verdict)}')
            + bar(verdict.probability)
            + f'<p class="hd-sub" style="margin-top:8px">Share of {verdict.futures} futures drawn from the forecast of '
            f"{formats.hour_minute(datetime.fromtimestamp(prospect.now_s, UTC))}, offers as they are now; not yet "
            f"calibrated by replays. Tick: "
            f"{FEASIBLE_FROM:.0%}. Under {SIGNED_BELOW:.0%} it has to be signed.</p>"
        )
        for words in verdict.impossible:
            st.html(_impossible(words))
        st.html(terms_html(verdict))
        st.html(facts_html(verdict))
        offered = read_changes(document)
        if verdict.probability < FEASIBLE_FROM and not offered:
            st.html(f'<p class="hd-sub">No single change makes it hold with {FEASIBLE_FROM:.0%}.</p>')
        for number, change in enumerate(offered):
            with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
                least = "Smallest change: " if number == 0 else ""
                words = change_words(change)
                st.html(f'<span class="hd-text">{text(least + words)}: <b>{percent(change.probability)}</b></span>')
                draft = with_change(document, change, standing.service)
                st.button("Use this", key=f"env-use-{change.field}", on_click=use, args=(draft, words))


def frontier_card(standing: Standing, document: Document) -> None:
    """The chart of what waiting costs."""
    tiers = list(document.get("tiers") or {})
    name = formats.words(tiers[0]) if tiers else "First tier"
    sub = (
        "The line is the smallest cap at which all terms hold in 90% of futures, the band reaches to 99%. "
        "The frame is the draft"
    )
    with cards.card("frontier", f"What {name.lower()} wait costs", sub):
        found = read_frontier(document)
        if found is None:
            why = why_nothing(read_prospect()) or "the draft is of other tiers, or the form refuses it"
            states.empty("No frontier yet", f"It appears when the draft can be judged: {why}.", "show_chart", HEIGHT)
            return
        target = _first_target(document)
        latency = document["tiers"][tiers[0]]["latency"]
        what = f"{name} {latency.get('statistic', 'mean')}, ms"
        term, spend = standing.term(tiers[0]), standing.term(SPEND)
        now = Spot(term.value if term else None, spend.forecast_p90 if spend else None)
        draft = Spot(target, document.get("spend_cap_usd_per_hour"))
        before = Spot(_first_target(standing.document or {}), standing.cap)
        versions = (f"v{standing.version}", f"draft v{(standing.version or 0) + 1}")
        plot(
            frontier_figure(found, draft, now, before, versions, what), key="env-frontier", alt=told(found, draft, what)
        )
        st.html(f'<p class="hd-sub">{text(slope_words(found, target))}</p>')
        with st.expander("As numbers"):
            rows = [
                [f"{ms:,.0f} ms", *(formats.rate(cap) if formats.known(cap) else formats.DASH for cap in caps)]
                for ms, caps in zip(found.targets_ms, found.caps_usd.T, strict=True)
            ]
            st.html(table([(what, "r"), *((f"cap for {level:.0%}", "r") for level in found.levels)], rows))


def _first_target(document: Document) -> float | None:
    bodies = list((document.get("tiers") or {}).values())
    return float(bodies[0]["latency"]["target_ms"]) if bodies else None


def _head(number: str) -> str:
    return f'<h2 class="hd-h" style="padding:0">All terms hold, next 24 h</h2><div class="hd-row">{number}</div>'


def _impossible(words: str) -> str:
    return f'<div class="hd-problem" role="alert">{icon("report")}<div><b>Impossible</b>: {text(words)}.</div></div>'
