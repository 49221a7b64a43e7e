"""What-if runs: those that wait, how far those are that run, and what became of the others."""

from typing import Any

import pandas as pd
import streamlit as st

from controller.core.what_if import WhatIf, what_if_of
from dashboard import formats, session
from dashboard.components import cards, states
from dashboard.components.marks import REPLAY_TEXT, heading, table, text
from dashboard.queries.read import each
from dashboard.queries.replays import OPEN, read_runs
from dashboard.queries.standing import read_standing
from models.enums import ReplayStatus


def envelope_word(run: WhatIf) -> str:
    """ "v3", or the cap of an envelope that is none of those that ruled."""
    if run.envelope_version is not None:
        return f"v{run.envelope_version}"
    cap = run.envelope.get("spend_cap_usd_per_hour")
    return "Changed, no cap" if cap is None else f"Changed, cap {formats.cap(cap)}"


def short(number: int, run: WhatIf) -> str:
    """A run in few words: "12 hpa, v3, without spot"."""
    offers = run.offers.told()
    return f"{number} {run.policy}, {envelope_word(run).lower()}" + (f", {offers}" if offers != "as they are" else "")


def window_word(run: WhatIf) -> str:
    """ "18 Nov 06:00 – 25 Nov 06:00"."""
    first, last = (pd.Timestamp(at_s, unit="s", tz="UTC").to_pydatetime() for at_s in (run.from_s, run.to_s))
    return f"{formats.day_time(first)} – {formats.day_time(last)}"


@session.live
def render() -> None:
    """All runs. One chosen shows its facts, and may be cancelled while it has not ended."""
    found, standing = read_runs(), read_standing()
    waiting = int((found["status"] == ReplayStatus.PENDING.value).sum())
    running = int((found["status"] == ReplayStatus.RUNNING.value).sum())
    said = f"{running} running, {waiting} waiting. Choose one to see its facts or to cancel it"
    if standing.down and running + waiting:
        said = "They stand still while the controller is away, and go on from the start when it is back"
    with cards.head("replays", "Replays", said):
        cards.csv(found.drop(columns=["spec", "summary", "hourly_usd"]), "replays", "replays")
    if found.empty:
        states.empty("Nothing has been replayed yet", "State a policy, an envelope or offers, and run it.", "history")
        return
    runs = [what_if_of(spec) for spec in found["spec"]]
    found["is"] = [REPLAY_TEXT.get(status, status) for status in found["status"]]
    found["progress"] = found["progress_ratio"].where(found["status"] == ReplayStatus.RUNNING.value) * 100
    found["policy"] = [run.policy for run in runs]
    found["envelope"] = [envelope_word(run) for run in runs]
    found["offers"] = [formats.words(run.offers.told()) for run in runs]
    found["window"] = [window_word(run) for run in runs]
    found["took"] = [took(row) for row in each(found)]
    found["cost"] = [(summary or {}).get("cost_usd") for summary in found["summary"]]
    columns = {
        "id": cards.number_column("No.", 42),
        "is": cards.text_column("State", 90),
        "progress": cards.share_column("Progress", 84),
        "policy": cards.text_column("Policy", 90),
        "envelope": cards.text_column("Envelope", 112),
        "offers": cards.text_column("Offers", 110),
        "cost": cards.number_column("Cost", 60, "$%.0f"),
        "took": cards.text_column("Took", 74),
        "window": cards.text_column("Window", 190),
        "author": cards.text_column("By", 76),
    }
    row = cards.grid(
        found,
        columns,
        key="wi-runs",
        alt="Replays, newest first, with how far they are",
        select="id",
        height="content" if len(found) < 8 else 300,
    )
    if row is not None:
        detail(found.iloc[row], runs[row])


def took(row: Any) -> str:
    """How long a run took, in real time."""
    if pd.isna(row.started_at) or pd.isna(row.finished_at):
        return ""
    return formats.duration((row.finished_at - row.started_at).total_seconds())


def detail(row: pd.Series, run: WhatIf) -> None:
    """The facts of one run, why it failed, and its end by hand."""
    facts = [
        ("Asked", f"{formats.exact(row['asked_at'])} by {row['author']}"),
        ("Why", formats.sentence(str(row["reason"]))),
        ("Replays", f"{window_word(run)} UTC at {run.scale} copies a request, boot {formats.duration(run.boot_s)}"),
        ("Under", f"{run.policy}, envelope {envelope_word(run).lower()}, offers {run.offers.told()}"),
    ]
    if row["status"] == ReplayStatus.RUNNING.value:
        left = "The first forecasts are fitted" if not row["progress_ratio"] else formats.percent(row["progress_ratio"])
        facts.append(("Now", "Works off what is left" if row["progress_ratio"] >= 1 else left))
    if row["status_reason"]:
        facts.append(("Outcome", formats.sentence(str(row["status_reason"]))))
    st.html(
        heading(f"Replay {row['id']}")
        + table([("", "k"), ("", "")], [[text(name), text(value)] for name, value in facts])
    )
    if row["status"] in OPEN and st.button("Cancel", icon=":material/cancel:", key="wi-cancel"):
        session.ask("cancel_replay", replay_id=int(row["id"]), told=formats.words(short(int(row["id"]), run)))
