"""The mode: what it means, who set it, and another one, with a reason."""

import streamlit as st

from controller.core.mode import lesser
from dashboard import formats, intents
from dashboard.components import dialogs
from dashboard.components.marks import MODE_WORDS
from dashboard.queries.standing import Standing, read_standing
from models.enums import Mode

MEANING = {
    Mode.OBSERVE: "Heddle looks and keeps the record. Nothing is started or released; guardrails are dry runs.",
    Mode.ADVISE: "Heddle says what it would start and release. Nothing is done; guardrails are dry runs.",
    Mode.ACT: "Heddle starts and releases replicas by itself, and guardrails stop jobs.",
}
EFFECT = {
    Mode.OBSERVE: "Replicas stay as they are; the ledger settles what the decisions would have saved",
    Mode.ADVISE: "Replicas stay as they are; each decision says what it would start and release",
    Mode.ACT: "The next decision is carried out",
}


def word(mode: str) -> str:
    """A mode as the badge says it."""
    return MODE_WORDS.get(mode, ("", formats.words(mode)))[1]


def who(standing: Standing) -> str:
    """Who set the mode in force, when and why."""
    if standing.mode == standing.ceiling and not standing.mode_author:
        return "the controller's own mode, HEDDLE_MODE"
    if not standing.mode_author:
        return "Heddle, at the first start"
    reason = formats.sentence(standing.mode_reason)
    return f"{standing.mode_author}, {formats.exact(standing.mode_at)}: {reason}"


def rows_of(standing: Standing, chosen: Mode) -> dialogs.Fields:
    """What is so, and what the operator is about to do."""
    rows = [
        ("Now", f"{word(standing.mode)}. {MEANING[Mode(standing.mode)]}"),
        ("Set by", who(standing)),
        ("Goes up to", f"{word(standing.ceiling)}, as the controller was started"),
    ]
    if chosen.value == standing.mode:
        return rows
    return [
        *rows,
        ("Then", f"{word(chosen.value)}. {MEANING[chosen]}"),
        ("Effect", f"{EFFECT[chosen]}, from the next tick"),
    ]


def change() -> None:
    """Say what the mode means; gather another one and a reason."""
    standing = read_standing()
    allowed = [mode for mode in Mode if lesser(mode, Mode(standing.ceiling)) is mode]

    @st.dialog(f"How far may Heddle go for {standing.service}?", width="medium")
    def body() -> None:
        words = {word(mode.value): mode for mode in allowed}
        picked = st.segmented_control(
            "Mode", list(words), default=word(standing.mode), required=True, key="mode-choice", disabled=len(words) < 2
        )
        chosen = words.get(str(picked), Mode(standing.mode))
        dialogs.facts(rows_of(standing, chosen))
        changes = chosen.value != standing.mode
        reason = dialogs.reason_field("mode-reason", "A week of looking on before it acts")
        why_not = "Choose another mode" if not changes else "Needs a reason"
        verb = f"Change to {word(chosen.value)}" if changes else "Change"
        if dialogs.buttons("Keep it", verb, ready=bool(reason) and changes, why_not=why_not, key="mode"):
            dialogs.perform(lambda: intents.set_mode(chosen, reason), f"Mode {word(chosen.value)} asked for.")

    body()
