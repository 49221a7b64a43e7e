"""Stopping, suspending or resuming a job by hand. A kill that loses work is confirmed by typing the job's name."""

from typing import Any

import streamlit as st

from dashboard import formats, intents
from dashboard.components import dialogs
from dashboard.queries.jobs import read_job
from models.enums import IntentKind

WORDS = {
    IntentKind.KILL_JOB: ("Kill", "Keep it running"),
    IntentKind.SUSPEND_JOB: ("Suspend", "Keep it running"),
    IntentKind.RESUME_JOB: ("Resume", "Keep it suspended"),
}


def irreversible(kind: IntentKind, job: dict[str, Any]) -> bool:
    """Whether work is lost for good: only a kill of a job that keeps no checkpoint."""
    return kind is IntentKind.KILL_JOB and not job["checkpoints"]


def rows_of(kind: IntentKind, job: dict[str, Any]) -> dialogs.Fields:
    """What is about to happen to the job."""
    again = "Starts again from the beginning when resumed"
    keeps = "Checkpoint kept" if job["checkpoints"] else "All progress is lost: it keeps no checkpoint"
    lost = {
        IntentKind.KILL_JOB: f"Stops for good. {keeps}",
        IntentKind.SUSPEND_JOB: f"Billing stops. {keeps if job['checkpoints'] else again}",
        IntentKind.RESUME_JOB: "Runs and bills again",
    }[kind]
    return [
        ("What", f"{job['id']}, {job['name']}"),
        ("Reaches", f"Tenant {job['tenant']}, {formats.count(job['gpu_count'], 'GPU')} on {job['offer_id']}"),
        (
            "Spent",
            (
                f"{formats.money(job['cost_usd'])} in {formats.duration(job['running_s'])}, progress "
                f"{formats.percent(job['progress_ratio'])}"
            ),
        ),
        (
            "Money",
            (
                f"{formats.rate(job['price_usd_per_hour'])} "
                f"{'from then on' if kind is IntentKind.RESUME_JOB else 'no longer spent'}"
            ),
        ),
        ("Then", lost),
        ("Takes effect", "At the next guard check"),
    ]


def ready(kind: IntentKind, job: dict[str, Any], reason: str, typed: str) -> bool:
    """A reason always; the job's name as well when work is lost for good."""
    return bool(reason) and (not irreversible(kind, job) or typed.strip() == job["name"])


def act(kind: str, job_id: str) -> None:
    """Ask once more before `kind` is done to a job; nothing opens for a job that is gone."""
    chosen, job = IntentKind(kind), read_job(job_id)
    if job is None:
        return
    verb, keep = WORDS[chosen]
    final = irreversible(chosen, job)

    @st.dialog(f"{verb} job {job_id}?", width="medium", dismissible=not final)
    def body() -> None:
        dialogs.facts(rows_of(chosen, job))
        typed = ""
        if final:
            typed = str(st.text_input(f"Type the name of the job to go on: {job['name']}", key="job-name") or "")
        reason = dialogs.reason_field("job-reason", "Loops without progress")
        can = ready(chosen, job, reason, typed)
        missing = "Needs a reason and the job's name" if final else "Needs a reason"
        if dialogs.buttons(keep, f"{verb} {job_id}", ready=can, why_not=missing, key="job", final=final):
            dialogs.perform(lambda: intents.act_on_job(chosen, job_id, reason), f"{verb} {job_id} asked for.")

    body()
