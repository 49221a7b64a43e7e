"""Envelope: what is promised and what it may cost.

Change, compare, confirm; every version is kept and can come back.
"""

from typing import Any

import streamlit as st
import yaml

from dashboard import formats, session
from dashboard.components import (
    cards,
    chance,
    confirm_relaxation,
    envelope_form,
    envelope_history,
    heads,
    requests,
    states,
)
from dashboard.components.confirm_envelope import diff_html
from dashboard.components.marks import text
from dashboard.queries.envelope_facts import read_facts
from dashboard.queries.standing import Standing, read_standing


def start_from(document: dict[str, Any] | None, why: str = "") -> None:
    """Begin the draft anew, from a document or (None) from the version in force."""
    st.session_state["draft"] = document
    st.session_state["draft-why"] = why
    st.session_state["draft-key"] = int(st.session_state.get("draft-key", 0)) + 1


def import_file() -> None:
    """Read an uploaded YAML file into the draft, or say in one line why not."""
    uploaded = st.session_state.get(f"env-file-{st.session_state.get('draft-key', 0)}")
    if uploaded is None:
        return
    try:
        document = yaml.safe_load(uploaded.getvalue().decode())
        problem = (
            "an envelope file must be a mapping"
            if not isinstance(document, dict) or not isinstance(document.get("tiers"), dict)
            else ""
        )
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem, document = f"not readable as YAML: {str(error).splitlines()[0]}", None
    st.session_state["env-file-problem"] = f"{uploaded.name}: {problem}" if problem else ""
    if not problem:
        start_from(document, f"Imported from {uploaded.name}")


def targets(standing: Standing) -> dict[str, Any]:
    """The form. Returns the draft."""
    base = st.session_state.get("draft") or standing.document or {}
    with cards.card("targets", "Targets", "Latency each tier is promised, over a rolling window"):
        return envelope_form.edit(base, standing.service, f"env-{st.session_state.get('draft-key', 0)}", read_facts())


def changes(standing: Standing, draft: dict[str, Any]) -> None:
    """The difference, what stands against it, and the way to apply it."""
    found = envelope_form.problems(draft, standing.service, read_facts())
    new = (standing.version or 0) + 1
    different = envelope_form.changed(standing.document or {}, draft)
    with cards.card("changes", f"Changes, v{standing.version} → v{new}"):
        st.html(diff_html(standing.document or {}, draft, f"v{standing.version}", f"v{new}"))
        refused = [problem for problem in found if problem.severity == "refuse"]
        why = "Nothing has changed." if not different else "Refused: the form says why." if refused else ""
        with st.container(horizontal=True, vertical_alignment="center"):
            if st.button("Review and apply", type="primary", key="env-review", disabled=bool(why)):
                why_asked = st.session_state.get("draft-why", "")
                session.ask("envelope", document=draft, base_version=standing.version, why=why_asked)
            st.button(
                "Discard", type="tertiary", key="env-discard", on_click=start_from, args=(None,), disabled=not different
            )
            if why:
                st.html(f'<p class="hd-sub">{why}</p>')


@session.live
def watch(standing: Standing, draft: dict[str, Any]) -> None:
    """When another version comes into force, compare with that one; a draft that is not the operator's own goes."""
    now = read_standing()
    if now.version == standing.version:
        return
    own = envelope_form.changed(standing.document or {}, draft) and envelope_form.changed(now.document or {}, draft)
    start_from(draft if own else None, st.session_state.get("draft-why", "") if own else "")
    st.rerun()


def files(standing: Standing) -> None:
    """The version in force as YAML, and a file as a draft."""
    with cards.card("files", "As a file", "The same YAML that replays use"):
        st.download_button(
            f"Export v{standing.version}",
            data=yaml.safe_dump(standing.document, sort_keys=False),
            file_name=f"envelope-v{standing.version}.yaml",
            mime="application/yaml",
            icon=":material/download:",
            key="env-export",
            on_click="ignore",
        )
        st.file_uploader(
            "Import YAML as a draft",
            type=["yaml", "yml"],
            key=f"env-file-{st.session_state.get('draft-key', 0)}",
            on_change=import_file,
            max_upload_size=1,
        )
        if st.session_state.get("env-file-problem"):
            st.html(f'<div class="hd-problem">{text(formats.sentence(st.session_state["env-file-problem"]))}</div>')


def page() -> None:
    """The page from top to bottom."""
    standing = read_standing()
    with heads.page(
        "Envelope", f"{standing.service} · draft v{(standing.version or 0) + 1} from v{standing.version or 0}"
    ):
        pass
    if standing.document is None:
        with cards.card("none"):
            states.empty("No envelope yet", "The controller loads the sample envelope at its first start.", "tune", 260)
        return
    with st.container(key="wide-envelope"):
        left, right = st.columns([1.25, 1], gap="small")
        with left:
            draft = targets(standing)
            below = st.container()
            files(standing)
        with right:
            session.guarded(chance.verdict_card)(standing, draft, start_from)
            confirm_relaxation.offer()
            changes(standing, draft)
            watch(standing, draft)
            with cards.card("asked"):
                requests.recent(("apply_envelope", "approve_relaxation"), key="env")
        with below:  # last, because it takes longest to compute
            session.guarded(chance.frontier_card)(standing, draft)
    with cards.card("history"):
        envelope_history.render()


if __name__ == "__main__":
    page()
