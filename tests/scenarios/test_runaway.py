"""A job that never finishes: seen, throttled, killed, and paid no further."""

import pytest

from controller.backends.simulated.demo_jobs import runaway_job
from models.enums import JobState, LedgerKind
from models.guardrails import GuardrailEvent
from models.plans import ActionRow
from tests.backends.small_world import OFFERS, T0
from tests.scenarios.conftest import HOUR, MINUTE


def test_a_runaway_is_throttled_and_then_killed(begin) -> None:
    story = begin().until(5 * MINUTE)
    # At minute 5 somebody starts a search that loops for ever.
    spec = runaway_job(T0 + 5 * MINUTE, 1, OFFERS)
    story.cluster.submit(spec)
    seen: list[tuple[float, JobState]] = []
    while story.now < HOUR + 30 * MINUTE and (not seen or seen[-1][1] is not JobState.KILLED):
        story.until(story.now + MINUTE)
        (job,) = story.cluster.job_views()
        if not seen or seen[-1][1] is not job.state:
            seen.append((story.now, job.state))
    states = [state for _, state in seen]
    # Suspended first: billing stops. Then, still stuck after its grace, killed.
    assert states[-2:] == [JobState.SUSPENDED, JobState.KILLED]
    throttled_s, killed_s = seen[-2][0], seen[-1][0]
    assert throttled_s < killed_s
    paid = story.cluster.job_views()[0].cost_usd
    # Each act was written with its evidence before it was done, and done once.
    events = sorted(story.rows(GuardrailEvent), key=lambda event: event.id or 0)
    steps = [event.action for event in events if event.action_id]
    assert [row.status for row in story.rows(ActionRow, job_id=spec.id)] == ["confirmed"] * len(steps)
    assert steps == ["throttle", "kill"]
    told = [entry for entry in story.ledger(LedgerKind.GUARDRAIL) if entry.subject == spec.id]
    assert len(told) >= 2
    assert all(entry.why or entry.numbers for entry in told)
    # A dead job costs nothing more, and the money it did cost is in the hour's bill.
    story.until(story.now + 10 * MINUTE)
    assert story.cluster.job_views()[0].cost_usd == pytest.approx(paid)
    assert sum(hour.jobs_usd for hour in story.cluster._hours.values()) == pytest.approx(paid)
    # The service never noticed.
    assert story.waits(0, 0, story.now).mean() < 0.2


def test_a_guard_that_crashes_between_record_and_act_kills_once(begin) -> None:
    story = begin().until(5 * MINUTE)
    story.cluster.submit(runaway_job(T0 + 5 * MINUTE, 1, OFFERS))
    story.wire.deaf = True
    # The cluster takes no orders; the guard writes what it wants and can't do it.
    story.until(70 * MINUTE)
    (job,) = story.cluster.job_views()
    assert job.state is JobState.RUNNING
    wanted = [action.id for action in story.store.unfinished_actions() if action.job_id]
    assert wanted
    # Another process takes over, and the cluster hears again.
    story.cluster.save()
    again = story.crashed()
    again.until(again.now + 30 * MINUTE)
    (job,) = again.cluster.job_views()
    assert job.state is JobState.KILLED
    asked = [action.id for action in again.wire.asked if action.job_id]
    assert set(wanted) <= set(asked)
    assert len(asked) == len(set(asked))
