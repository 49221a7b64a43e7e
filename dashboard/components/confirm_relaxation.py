"""The step that asks first: the cap relaxed for some minutes, offered while somebody gives way for it."""

import streamlit as st

from controller.core.degradation import relaxation_of, relaxed_cap
from controller.core.envelope import EnvelopeError, parse_envelope
from controller.core.types import Envelope, Step
from dashboard import formats, intents, session
from dashboard.components import cards, dialogs
from dashboard.components.marks import text
from dashboard.queries.plans import read_overrides, read_steps_in_force
from dashboard.queries.standing import Standing, read_standing
from models.enums import OverrideKind


def _step(standing: Standing) -> tuple[Envelope, Step] | None:
    try:
        envelope = parse_envelope(standing.document, standing.service)
    except EnvelopeError:
        return None
    step = relaxation_of(envelope)
    return None if step is None else (envelope, step)


@session.live
def offer() -> None:
    """What gives way now, and the approval that would spare it. Nothing where nobody gives way."""
    standing, shed = read_standing(), read_steps_in_force()
    active = read_overrides()
    relaxed = not active.empty and (active["kind"] == OverrideKind.RELAX_CAP.value).any()
    if not shed and not relaxed:
        return
    with cards.card("gives-way", "Giving way now", "The spend cap binds: these steps are in force"):
        st.html(f'<div class="hd-text">{text(", ".join(formats.words(name) for name in shed) or "nobody")}</div>')
        found = _step(standing)
        if relaxed:
            st.html('<p class="hd-sub">The cap is relaxed; Scaling shows until when.</p>')
        elif found is None:
            st.html('<p class="hd-sub">The envelope has no step that relaxes the cap.</p>')
        else:
            envelope, step = found
            words = f"Relax the cap to {formats.rate(relaxed_cap(envelope, step))}"
            if st.button(words, key="env-relax", icon=":material/lock_open_right:"):
                session.ask("relax_cap")


def approve() -> None:
    """Ask once more before the cap is relaxed."""
    standing = read_standing()
    found = _step(standing)
    if found is None:
        return
    envelope, step = found

    @st.dialog("Relax the spend cap?")
    def body() -> None:
        cap, higher = envelope.spend_cap_usd_per_hour or 0.0, relaxed_cap(envelope, step)
        dialogs.facts(
            [
                ("Cap", f"{formats.rate(cap)} → {formats.rate(higher)}"),
                ("At most", f"{formats.money((higher - cap) * step.minutes / 60)} more"),
                ("Takes effect", "At the next tick"),
                ("Ends", f"By itself after {formats.duration(step.minutes * 60)}"),
                ("Undo", "Return to automatic, on Scaling"),
            ]
        )
        reason = dialogs.reason_field("relax-reason", "The launch is worth it")
        if dialogs.buttons("Keep the cap", "Relax the cap", ready=bool(reason), key="relax"):
            dialogs.perform(lambda: intents.approve_relaxation(reason), "A relaxed cap asked for.")

    body()
