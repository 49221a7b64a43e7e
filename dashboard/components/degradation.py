"""The order of giving way: shown, moved, and a relaxed cap put in or taken out."""

from typing import Any

import streamlit as st

from dashboard import formats
from dashboard.components.marks import heading, text

Document = dict[str, Any]
PERCENT, MINUTES = 20.0, 60.0


def step_words(step: Any, variants: Document) -> str:
    """A step of a document in words: "Background waits", "Standard by draft, 1.6× as fast"."""
    if not isinstance(step, dict):
        return f"{formats.words(str(step))} waits"
    if "use" in step:
        factor = (variants.get(step["use"]) or {}).get("speed_factor")
        faster = f", {factor:g}× as fast" if isinstance(factor, int | float) else ""
        return f"{formats.words(str(step.get('tier', '')))} by {step['use']}{faster}"
    percent, minutes = step.get("relax_cap_percent", 0), step.get("minutes", 0)
    return f"Cap {percent:g}% higher for {formats.duration(minutes * 60)}, asks first"


def order_of(document: Document) -> list[Any]:
    """The steps of a document; where it names none, what is served last waits first."""
    return list(document.get("degrade") or reversed(list(document.get("tiers") or {})))


def _move(key: str, place: int, by: int) -> None:
    order = st.session_state[key]
    order[place], order[place + by] = order[place + by], order[place]


def _drop(key: str, place: int) -> None:
    st.session_state[key].pop(place)


def _put(key: str, step: Any) -> None:
    st.session_state[key].insert(0, step)


def edit(document: Document, key: str) -> list[Any]:
    """The steps as they are to be. A tier's wait can't be taken out; a variant and what asks first can."""
    state, variants = f"{key}-order", document.get("variants") or {}
    order: list[Any] = st.session_state.setdefault(state, order_of(document))
    st.html(heading("When both cannot hold", "Steps are taken in this order; nobody pays for a tier below"))
    up, down = ":material/arrow_upward:", ":material/arrow_downward:"
    for place, step in enumerate(order):
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"{key}-step-{place}"):
            words = text(step_words(step, variants))
            st.html(f'<span class="hd-text"><span class="hd-2">{place + 1}</span> {words}</span>')
            look: dict[str, Any] = {"type": "tertiary", "on_click": _move}
            first, last = place == 0, place == len(order) - 1
            st.button(up, key=f"{key}-up-{place}", args=(state, place, -1), disabled=first, help="Earlier", **look)
            st.button(down, key=f"{key}-down-{place}", args=(state, place, 1), disabled=last, help="Later", **look)
            if isinstance(step, dict):
                look["on_click"] = _drop
                st.button(":material/close:", key=f"{key}-drop-{place}", args=(state, place), help="Take out", **look)
    missing = _missing(document, order)
    if missing:
        with st.popover("Add a step", icon=":material/add:"):
            for number, step in enumerate(missing):
                st.button(step_words(step, variants), key=f"{key}-put-{number}", on_click=_put, args=(state, step))
    return list(order)


def _missing(document: Document, order: list[Any]) -> list[Any]:
    """Steps that could be put in: each declared variant for each tier, and a relaxed cap."""
    tiers = reversed(list(document.get("tiers") or {}))
    found: list[Any] = [{"tier": tier, "use": name} for tier in tiers for name in document.get("variants") or {}]
    if document.get("spend_cap_usd_per_hour") is not None and not any(
        isinstance(step, dict) and "minutes" in step for step in order
    ):
        found.append({"relax_cap_percent": PERCENT, "minutes": MINUTES})
    return [step for step in found if step not in order]
