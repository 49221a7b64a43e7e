"""Jobs: what they burn, where their cost leads, and what a hand may do to one."""

from typing import Any

import pandas as pd
import streamlit as st

from dashboard import formats, session
from dashboard.components import cards, states
from dashboard.components.marks import JOB_TEXT, heading, stat, table, text
from dashboard.queries.jobs import ALIVE, BURNS, read_events, read_jobs
from dashboard.queries.read import each
from dashboard.queries.standing import read_standing
from models.enums import IntentKind, JobState


def acts_for(state: str) -> list[tuple[IntentKind, str, str]]:
    """What may be done by hand to a job in this state: kind, label, icon."""
    suspend = (IntentKind.SUSPEND_JOB, "Suspend", ":material/pause:")
    resume = (IntentKind.RESUME_JOB, "Resume", ":material/play_arrow:")
    kill = (IntentKind.KILL_JOB, "Kill", ":material/stop_circle:")
    return {
        JobState.RUNNING.value: [suspend, kill],
        JobState.SUSPENDED.value: [resume, kill],
        JobState.QUEUED.value: [kill],
    }.get(state, [])


def standing_of(job: Any) -> str:
    """How a job stands to its own cost limit, as text for a table."""
    projected, cost, limit = job.projected_usd, job.cost_usd, job.cost_limit_usd
    if not formats.known(limit):
        return "? No limit"
    if formats.known(cost) and cost > limit:
        return "■ Over its limit"
    if formats.known(projected) and projected > limit:
        return "▲ Projected over"
    return "● Within"


@session.live
def render() -> None:
    """Jobs with burn, progress and where their cost leads. One chosen can be stopped by hand."""
    found = read_jobs()
    alive = found[found["state"].isin(ALIVE)] if not found.empty else found
    running = found[found["state"] == JobState.RUNNING.value] if not found.empty else found
    burn = formats.rate(float(running["price_usd_per_hour"].sum())) if len(running) else "$0.00/h"
    with cards.head("jobs", "Jobs", f"{len(alive)} alive, burning {burn}. Choose one to act on it"):
        cards.csv(found, "jobs", "jobs")
    if found.empty:
        states.empty(
            "No job has been submitted yet",
            "The simulated cluster starts its first jobs within two minutes.",
            "work_history",
        )
        return
    found["status"] = found["state"].map(lambda state: JOB_TEXT.get(state, state))
    found["judged"] = [standing_of(row) if row.state in ALIVE else "" for row in each(found)]
    found["burn"] = found["price_usd_per_hour"].where(found["state"].isin(BURNS))
    found["ahead"] = found["projected_usd"].where(found["state"].isin(ALIVE))
    found["progress"] = found["progress_ratio"] * 100
    found["ran"] = found["running_s"].map(formats.duration)
    columns = {
        "id": cards.text_column("Job", 60),
        "name": cards.text_column("Name", 170),
        "tenant": cards.text_column("Tenant", 96),
        "status": cards.text_column("State", 94),
        "progress": cards.share_column("Progress", 80),
        "ran": cards.text_column("Ran", 74),
        "burn": cards.number_column("Burn, $/h", 70, "$%.2f"),
        "cost_usd": cards.number_column("Cost", 56, "$%.2f"),
        "ahead": cards.number_column("Projected", 70, "$%.2f"),
        "cost_limit_usd": cards.number_column("Limit", 56, "$%.2f"),
        "judged": cards.text_column("Against limit", 106),
    }
    row = cards.grid(
        found,
        columns,
        key="gr-jobs",
        alt="Jobs with burn, progress and projected cost",
        select="id",
        height="content" if len(found) < 9 else 330,
    )
    if row is not None:
        detail(found.iloc[row])


def detail(job: pd.Series) -> None:
    """The job chosen: its facts, what the guard did to it, and what a hand may do."""
    end = job["projected_usd"] if job["state"] in ALIVE else None
    age = (read_standing().now - job["progress_at"]).total_seconds() if pd.notna(job["progress_at"]) else None
    st.html(
        heading(
            f"{job['id']}, {job['name']}",
            text(
                f"{job['tenant']} · {job['offer_id']} "
                f"· {'keeps checkpoints' if job['checkpoints'] else 'keeps no checkpoint'}"
            ),
        )
        + '<div class="hd-stats" style="margin-top:8px">'
        + stat("Cost", formats.money(job["cost_usd"]), f"limit {formats.money(job['cost_limit_usd'])}")
        + stat("Projected", formats.money(end), "at its end" if job["state"] in ALIVE else "it has ended")
        + stat(
            "Progress",
            formats.percent(job["progress_ratio"]),
            f"last {formats.age(age)} ago" if age is not None else "not reported",
        )
        + stat("Ran", formats.duration(job["running_s"]), f"expected {formats.duration(job['expected_s'])}")
        + "</div>"
    )
    with st.container(horizontal=True):
        acts = acts_for(str(job["state"]))
        for kind, label, icon in acts:
            if st.button(label, icon=icon, key=f"gr-{kind.value}"):
                session.ask("job", kind=kind.value, job_id=str(job["id"]))
        if not acts:
            st.html(
                f'<p class="hd-sub">It has ended: {text(formats.words(str(job["state"])).lower())} '
                f"{text(formats.exact(job['finished_at']) if pd.notna(job['finished_at']) else '')}.</p>"
            )
    mine = read_events(str(job["id"]))
    if not mine.empty:
        st.html(
            table(
                [("When", "k"), ("Rule", ""), ("What", "")],
                [[text(formats.exact(e.at)), text(e.rule), text(formats.sentence(e.text))] for e in each(mine.head(5))],
            )
        )
