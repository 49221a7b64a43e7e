"""Applying an envelope: the changes once more, what they reach, when they take effect, and a reason."""

from typing import Any

import streamlit as st

from controller.core.feasibility import in_words, percent
from dashboard import formats, intents
from dashboard.components import dialogs
from dashboard.components.envelope_form import changed, difference, problem_html, problems
from dashboard.components.marks import table, text
from dashboard.queries.envelope_facts import read_facts
from dashboard.queries.feasibility import read_verdict
from dashboard.queries.standing import read_standing


def diff_html(before: dict[str, Any], after: dict[str, Any], old: str, new: str, *, only_changes: bool = False) -> str:
    """The difference as a table: what was in grey, what changes in ink."""
    rows = [row for row in difference(before, after) if not only_changes or row[2] != "same"]
    body = [
        [
            text(name),
            f'<span class="hd-2">{text(was)}</span>',
            '<span class="hd-2">same</span>' if now == "same" else f"<b class='hd-b'>{text(now)}</b>",
        ]
        for name, was, now in rows
    ]
    return table([("", ""), (old, ""), (new, "")], body)


def apply(document: dict[str, Any], base_version: int | None, why: str = "") -> None:
    """Ask once more before `document` is asked for as the version after `base_version`."""
    standing = read_standing()
    new = (base_version or 0) + 1
    found = problems(document, standing.service, read_facts())
    warned = [problem for problem in found if problem.severity != "refuse"]
    verdict = read_verdict(document)
    infeasible = verdict is not None and verdict.must_be_signed

    known = None if verdict is None else verdict.probability

    @st.dialog(f"Apply envelope v{new}?", width="medium")
    def body() -> None:
        st.html(diff_html(standing.document or {}, document, f"v{base_version or 0}", f"v{new}", only_changes=True))
        dialogs.facts(
            [
                (
                    "Reaches",
                    f"Service {standing.service}, tiers {', '.join(document.get('tiers') or {}) or formats.DASH}",
                ),
                ("All terms hold, next 24 h", formats.DASH if known is None else percent(known)),
                ("Takes effect", "At the next tick, then each plan follows it"),
                ("Undo", f"Roll back to v{base_version} in the history" if base_version else "State another version"),
            ]
        )
        signed = True
        if warned:
            st.html("".join(problem_html(problem) for problem in warned))
        if warned or infeasible:
            words = (
                f"I sign it, knowing that {in_words(verdict)}" if infeasible and verdict else "I accept this knowingly"
            )
            signed = st.checkbox(words, key="env-signed")
        reason = dialogs.reason_field("env-reason", "Premium is promised 200 ms from today", why)
        refused = any(problem.severity == "refuse" for problem in found) or not changed(
            standing.document or {}, document
        )
        if dialogs.buttons(
            f"Keep v{base_version or 0}", f"Apply v{new}", ready=bool(reason) and signed and not refused, key="env"
        ):
            dialogs.perform(
                lambda: intents.apply_envelope(
                    document,
                    base_version,
                    reason,
                    signed=bool((warned or infeasible) and signed),
                    probability=None if verdict is None else verdict.probability,
                ),
                f"v{new} asked for.",
            )

    body()
