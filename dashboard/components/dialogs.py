"""Confirmations: what, how far it reaches, what it costs, when it ends, a reason for the record, and a verb on the
button.

A dialog only gathers; the act is a function of `dashboard.intents`.
"""

from collections.abc import Callable
from typing import Any

import streamlit as st

from dashboard import intents, session
from dashboard.components.marks import table, text

Fields = list[tuple[str, str]]


def facts(rows: Fields) -> None:
    """The rows of a confirmation: a term and what it will be."""
    st.html(table([("", "k"), ("", "")], [[text(name), text(value)] for name, value in rows]))


def reason_field(key: str, example: str, value: str = "") -> str:
    """The reason for the audit trail."""
    typed = st.text_input(
        "Reason, kept in the ledger", value=value, key=key, placeholder=example, max_chars=300, live=True
    )
    return str(typed or "").strip()


def perform(act: Callable[[], int], told: str) -> None:
    """Write the intent, close the dialog, say what was asked (not: what was done). A refusal stays in the dialog."""
    try:
        number = act()
    except ValueError as error:
        st.error(f"{error}"[:1].upper() + f"{error}"[1:], icon=":material/report:")
        return
    session.tell(f"{told} Request {number} is pending.", ":material/schedule:")
    st.rerun()


def buttons(
    keep: str, verb: str, *, ready: bool, why_not: str = "Needs a reason", key: str, final: bool = False
) -> bool:
    """Left: change nothing. Right: the verb, red where it cannot be undone. True when the verb was pressed."""
    with st.container(horizontal=True, horizontal_alignment="right", key=f"acts-{'final-' if final else ''}{key}"):
        if st.button(keep, key=f"keep-{key}", type="tertiary"):
            st.rerun()
        return st.button(verb, key=f"do-{key}", type="primary", disabled=not ready, help=None if ready else why_not)


def end_override(override_id: int, kind: str, service: str) -> None:
    """Ask once more before an override ends early."""

    @st.dialog("Return to automatic?")
    def body() -> None:
        facts(
            [
                ("What", f"{kind} of {service}, override {override_id}"),
                ("Takes effect", "At the next tick"),
                ("Undo", "Set a new override"),
            ]
        )
        reason = reason_field("end-reason", "The surge is over")
        if buttons("Keep the override", "Return to automatic", ready=bool(reason), key="end"):
            perform(lambda: intents.end_override(override_id, reason), "Return to automatic asked for.")

    body()


def resume_fleet() -> None:
    """Ask once more before the fleet acts again."""

    @st.dialog("Resume automation for the fleet?")
    def body() -> None:
        facts(
            [
                ("What", "Scaling acts again for every service"),
                ("Takes effect", "At the next tick"),
                ("Undo", "Pause again"),
            ]
        )
        reason = reason_field("resume-reason", "Maintenance is done")
        if buttons("Keep it paused", "Resume automation", ready=bool(reason), key="resume"):
            perform(lambda: intents.resume_fleet(reason), "Resume asked for.")

    body()


def open_asked() -> None:
    """Open the dialog that a live part asked for, if any."""
    found = session.asked()
    if found is None:
        return
    from dashboard.components import (
        confirm_envelope,
        confirm_job,
        confirm_mode,
        confirm_outside,
        confirm_override,
        confirm_relaxation,
        confirm_replay,
        confirm_rule,
    )

    name, given = found
    opened: dict[str, Callable[..., Any]] = {
        "end_override": end_override,
        "resume_fleet": resume_fleet,
        "override": confirm_override.override,
        "pause_fleet": confirm_override.pause_fleet,
        "relax_cap": confirm_relaxation.approve,
        "job": confirm_job.act,
        "mode": confirm_mode.change,
        "rule": confirm_rule.edit,
        "envelope": confirm_envelope.apply,
        "add_event": confirm_outside.add_event,
        "cancel_event": confirm_outside.cancel_event,
        "add_signal": confirm_outside.add_signal,
        "remove_signal": confirm_outside.remove_signal,
        "replay": confirm_replay.run,
        "cancel_replay": confirm_replay.cancel,
    }
    opened[name](**given)
