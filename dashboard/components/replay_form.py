"""What is to be replayed, as a form: which window, and under what."""

from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from controller.core.what_if import (
    DAY_S,
    LEAST_FACTOR,
    MOST_FACTOR,
    POLICIES,
    OfferChange,
    WhatIfError,
    check_window,
    usual_window,
)
from dashboard import formats
from dashboard.components.envelope_form import UNITS, problem_html, problems, unit_of
from dashboard.components.marks import heading, text
from dashboard.queries import fleet
from dashboard.queries.envelope_facts import read_facts
from dashboard.queries.standing import Standing
from models.enums import Market

WINDOWS = {"Last day": DAY_S, "Last 3 days": 3 * DAY_S, "Last 7 days": 7 * DAY_S}
OTHER = "Other"
SAME, CHANGED = "In force", "Changed"


@dataclass(frozen=True)
class Draft:
    """What the form states. `wrong`: why it can't be asked for; "" when it can. Envelope None: the one in force."""

    policy: str
    window: tuple[datetime, datetime] | None
    envelope: dict[str, Any] | None
    offers: OfferChange
    baselines: bool
    wrong: str


def edit(standing: Standing, first: datetime) -> Draft:
    """The form. `first`: when the record begins."""
    window, wrong = _window(standing, first)
    policy = str(
        st.selectbox(
            "Policy",
            POLICIES,
            key="wi-policy",
            accept_new_options=True,
            help="What decides. One with parameters may be typed in, as controller replay --policy takes it",
        )
        or ""
    ).strip()
    envelope, refused = _envelope(standing)
    offers = _offers()
    baselines = st.checkbox(
        "Replay the baselines too",
        value=True,
        key="wi-baselines",
        help="The same window under the envelope and offers in force, with heddle and with hpa, to compare with. "
        "What was replayed before is not replayed again",
    )
    why = wrong or refused or ("" if policy else "Name a policy")
    return Draft(policy, window, envelope, offers, bool(baselines), why)


def _window(standing: Standing, first: datetime) -> tuple[tuple[datetime, datetime] | None, str]:
    now_s, first_s = standing.now.timestamp(), first.timestamp()
    chosen = str(
        st.segmented_control("Window", [*WINDOWS, OTHER], default="Last 7 days", required=True, key="wi-window")
    )
    try:
        from_s, to_s = usual_window(first_s, now_s, WINDOWS.get(chosen, DAY_S))
        if chosen == OTHER:
            from_s, to_s = _moment("From", "wi-from", from_s), _moment("Until", "wi-to", to_s)
            check_window(from_s, to_s, first_s, now_s)
    except WhatIfError as error:
        why = formats.sentence(str(error).removeprefix(f"{error.field}: "))
        st.html(f'<div class="hd-problem" role="alert">{text(formats.words(error.field))}: {text(why)}</div>')
        return None, "The window can't be replayed: the form says why"
    window = datetime.fromtimestamp(from_s, UTC), datetime.fromtimestamp(to_s, UTC)
    told = f"{formats.day_time(window[0])} to {formats.day_time(window[1])} UTC, {formats.duration(to_s - from_s)}"
    st.html(
        f'<p class="hd-sub">{text(told)}. What lies before it, from {text(formats.day_time(first))}, is learned '
        "from.</p>"
    )
    return window, ""


def _moment(name: str, key: str, at_s: float) -> float:
    at = datetime.fromtimestamp(at_s, UTC)
    left, right = st.columns(2)
    day = left.date_input(f"{name}, day", value=at.date(), key=f"{key}-day")
    time = right.time_input(f"{name}, UTC", value=at.time(), key=f"{key}-time", step=3600)
    return datetime.combine(day, time, UTC).timestamp()


def _envelope(standing: Standing) -> tuple[dict[str, Any] | None, str]:
    """The changed document, or None for the one in force; and why it can't be replayed."""
    choice = st.segmented_control(
        "Envelope",
        [SAME, CHANGED],
        default=SAME,
        required=True,
        key="wi-envelope",
        format_func=lambda word: f"{word}, v{standing.version}" if word == SAME else word,
    )
    if choice != CHANGED or standing.document is None:
        return None, ""
    draft = deepcopy(standing.document)
    tiers: dict[str, Any] = draft["tiers"]
    places = st.columns(1 + len(tiers), gap="small", vertical_alignment="bottom")
    cap = draft.get("spend_cap_usd_per_hour")
    draft["spend_cap_usd_per_hour"] = places[0].number_input(
        "Cap, $ an hour",
        value=None if cap is None else float(cap),
        key="wi-cap",
        format="%g",
        step=1.0,
        placeholder="none",
    )
    for place, (name, body) in zip(places[1:], tiers.items(), strict=True):
        latency = body["latency"]
        unit = unit_of(float(latency["target_ms"]))
        value = place.number_input(
            f"{formats.words(name)} {latency.get('statistic', 'mean')}, {unit}",
            value=float(latency["target_ms"]) / UNITS[unit],
            key=f"wi-target-{name}",
            format="%g",
            step=10.0 if unit == "ms" else 1.0,
        )
        latency["target_ms"] = round((value or 0) * UNITS[unit], 6)
    unsound = problems(draft, standing.service, None)
    # What only the facts say against it, a replay may show.
    doubts = problems(draft, standing.service, read_facts())
    found = unsound or tuple(replace(problem, severity="warn") for problem in doubts)
    if found:
        st.html("".join(problem_html(problem) for problem in found))
    return draft, "The envelope is no envelope: the form says why" if unsound else ""


def _offers() -> OfferChange:
    st.html(heading("Offers", "As they are, unless said otherwise"))
    first, second, third = st.columns([1.1, 1, 1], gap="small", vertical_alignment="bottom")
    spot = first.toggle("Without spot", key="wi-no-spot")
    factors = {
        market: float(
            place.number_input(
                f"{formats.market(market.value)} price ×", LEAST_FACTOR, MOST_FACTOR, 1.0, 0.1, key=f"wi-x-{market}",
                format="%g", disabled=market is Market.SPOT and bool(spot),
            )
        )
        for place, market in ((second, Market.ON_DEMAND), (third, Market.SPOT))
    }  # fmt: skip
    zones = st.multiselect("Without zones", fleet.zones(), key="wi-zones", placeholder="none left out")
    changed = tuple(
        (market.value, factor)
        for market, factor in factors.items()
        if factor != 1.0 and not (spot and market is Market.SPOT)
    )
    return OfferChange(bool(spot), tuple(zones), changed)
