"""Asking for a what-if run, and for its end: what it replays, under what, and a reason."""

from datetime import datetime
from typing import Any

import streamlit as st

from controller.core.what_if import what_if_of
from dashboard import formats, intents
from dashboard.components import dialogs
from dashboard.components.confirm_envelope import diff_html
from dashboard.queries.read import each
from dashboard.queries.replays import read_runs
from dashboard.queries.standing import read_standing


def run(
    policy: str,
    window: tuple[datetime, datetime],
    envelope: dict[str, Any] | None,
    offers: dict[str, Any],
    offers_told: str,
    baselines: bool,
) -> None:
    """Ask once more before minutes of computing are asked for."""
    standing = read_standing()

    @st.dialog("Run this replay?", width="medium")
    def body() -> None:
        if envelope is not None:
            st.html(diff_html(standing.document or {}, envelope, f"v{standing.version}", "replayed", only_changes=True))
        lasts = formats.duration((window[1] - window[0]).total_seconds())
        dialogs.facts(
            [
                ("Policy", policy),
                ("Window", f"{formats.day_time(window[0])} to {formats.day_time(window[1])} UTC, {lasts}"),
                ("Envelope", f"v{standing.version}, in force" if envelope is None else "Changed, for this replay only"),
                ("Offers", formats.words(offers_told)),
                ("With it", "heddle and hpa as things are, unless replayed before" if baselines else "Nothing else"),
                ("Takes", takes(policy, window)),
                ("Undo", "Cancel it. Nothing of the fleet changes"),
            ]
        )
        reason = dialogs.reason_field("wi-reason", "What would a cap of $40 have cost us?")
        if dialogs.buttons("Run nothing", "Run", ready=bool(reason), key="wi"):
            dialogs.perform(
                lambda: intents.ask_replay(
                    policy, window, reason, envelope=envelope, offers=offers, baselines=baselines
                ),
                "Replay asked for.",
            )

    body()


def takes(policy: str, window: tuple[datetime, datetime]) -> str:
    """How long a run computes, by the newest finished one of its policy."""
    found = read_runs()
    known = found[found["cpu_s"].notna()]
    for row in each(known):
        run = what_if_of(row.spec)
        if run.policy == policy:
            cpu_s = row.cpu_s * (window[1] - window[0]).total_seconds() / (run.to_s - run.from_s)
            return f"About {formats.duration(cpu_s)} of one processor at low priority, going by replay {row.id}"
    return "Minutes of one processor, at low priority"


def cancel(replay_id: int, told: str) -> None:
    """Ask once more before a run is ended."""

    @st.dialog(f"Cancel replay {replay_id}?")
    def body() -> None:
        dialogs.facts(
            [
                ("What", f"{told}: it ends without a result"),
                ("Takes effect", "At the next tick"),
                ("Undo", "Ask for it again"),
            ]
        )
        reason = dialogs.reason_field("wic-reason", "No longer needed")
        if dialogs.buttons("Keep it", "Cancel the replay", ready=bool(reason), key="wic"):
            dialogs.perform(
                lambda: intents.cancel_replay(replay_id, reason), f"Cancelling replay {replay_id} asked for."
            )

    body()
