"""The simulated cluster's batch jobs: what they report, keep and cost; and the stream of the demonstration."""

import itertools
import json
import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.backends.base import UnknownSubject
from controller.backends.simulated.demo_jobs import DemoJobs, demo_jobs, runaway_job
from controller.backends.simulated.jobs import JobSpec, JobsSim
from controller.core.guard import DEFAULT_RULES, GuardMemory, Step, judge
from controller.core.types import Job, Offer
from models.enums import ActionStatus, JobState, Market

T0 = datetime(2024, 11, 25, 6, tzinfo=UTC).timestamp()
A10G = Offer("g5.xlarge/usw2-az1/on_demand", "aws", "us-west-2", "usw2-az1", "g5.xlarge", "A10G", 1,
             Market.ON_DEMAND, 1.006)  # fmt: skip
L40S = Offer("g6e.xlarge/usw2-az1/on_demand", "aws", "us-west-2", "usw2-az1", "g6e.xlarge", "L40S", 1,
             Market.ON_DEMAND, 1.861, 2.0)  # fmt: skip
SPOT = replace(A10G, id="g5.xlarge/usw2-az1/spot", market=Market.SPOT, price_usd_per_hour=0.43)
OFFERS = (L40S, A10G, SPOT)
DELAY = 240.0


def spec(**changes) -> JobSpec:
    """Twenty minutes of work on two A10G, submitted at T0."""
    base = JobSpec("j-0001", "Ikat library", "images", "loom-eu", "background", T0, 1200.0, A10G.id, 2)
    return replace(base, **changes)


def sim_of(*specs: JobSpec, stream=None) -> JobsSim:
    sim = JobsSim(OFFERS, T0, stream=stream)
    for one in specs:
        sim.submit(one)
    return sim


def only(sim: JobsSim, at: float | None = None) -> Job:
    if at is not None:
        sim.advance(T0 + at)
    (job,) = sim.views()
    return job


def test_a_job_waits_for_its_machine_runs_reports_and_finishes():
    sim = sim_of(spec())
    queued = only(sim, DELAY - 1)
    assert (queued.state, queued.started_s, queued.progress_ratio) == (JobState.QUEUED, None, None)
    running = only(sim, DELAY + 605)
    assert (running.state, running.started_s) == (JobState.RUNNING, T0 + DELAY)
    assert running.progress_ratio == pytest.approx(0.5)  # as of its last report, 5 s ago
    assert running.progress_at_s == T0 + DELAY + 600
    assert running.running_s == 605
    done = only(sim, 9999)
    assert (done.state, done.finished_s, done.progress_ratio) == (JobState.SUCCEEDED, T0 + DELAY + 1200, 1.0)
    assert done.cost_usd == pytest.approx(2 * 1.006 * (DELAY + 1200) / 3600)


def test_a_faster_offer_finishes_sooner_and_costs_its_own_price():
    done = only(sim_of(spec(offer_id=L40S.id, gpu_count=1)), 9999)
    assert done.finished_s == T0 + DELAY + 600
    assert done.price_usd_per_hour == 1.861


def test_billing_runs_from_the_request_and_stops_while_suspended():
    sim = sim_of(spec())
    sim.advance(T0 + 1000)
    assert sim.burn_usd_per_hour() == pytest.approx(2.012)
    assert sim.suspend("j-0001", T0 + 1000)[0] is ActionStatus.CONFIRMED
    paid = only(sim).cost_usd
    assert paid == pytest.approx(2.012 * 1000 / 3600)
    assert sim.burn_usd_per_hour() == 0.0
    assert only(sim, 50_000).cost_usd == paid
    assert sim.resume("j-0001", T0 + 50_000)[0] is ActionStatus.ACCEPTED
    assert only(sim, 50_100).cost_usd == pytest.approx(paid + 2.012 * 100 / 3600)
    assert sim.accrued_usd(T0 + 50_050, T0 + 50_100) == pytest.approx(2.012 * 50 / 3600)
    assert sim.accrued_usd(T0 + 2000, T0 + 40_000) == 0.0
    assert sim.total_usd() == pytest.approx(only(sim).cost_usd)


def test_without_checkpoints_a_resumed_job_starts_over():
    sim = sim_of(spec())
    sim.suspend("j-0001", T0 + DELAY + 900)
    assert only(sim).progress_ratio == pytest.approx(0.75)
    assert only(sim).state is JobState.SUSPENDED
    sim.resume("j-0001", T0 + 5000)
    assert only(sim, 5000 + DELAY).progress_ratio == 0.0
    done = only(sim, 9999)
    assert done.finished_s == T0 + 5000 + DELAY + 1200
    assert (done.attempts, done.running_s) == (2, 900 + 1200)


def test_with_checkpoints_it_goes_on_from_the_last_one():
    sim = sim_of(spec(checkpoints=True, checkpoint_every_s=400.0))
    status, detail = sim.suspend("j-0001", T0 + DELAY + 900)
    assert (status, detail) == (ActionStatus.CONFIRMED, "suspended; 67 % is kept")
    sim.resume("j-0001", T0 + 5000)
    assert only(sim, 5000).progress_ratio == pytest.approx(800 / 1200)
    assert only(sim, 9999).finished_s == T0 + 5000 + DELAY + 400
    assert [(a.number, a.ended_why) for a in sim.attempts()] == [(1, "suspended"), (2, "finished")]


def test_a_job_suspended_while_its_machine_starts_has_lost_nothing():
    sim = sim_of(spec(checkpoints=True))
    sim.suspend("j-0001", T0 + 100)
    sim.resume("j-0001", T0 + 200)
    assert only(sim, 9999).finished_s == T0 + 200 + DELAY + 1200


def test_a_runaway_climbs_sticks_and_goes_on_costing():
    sim = sim_of(runaway_job(T0, 1, OFFERS))
    stuck = only(sim, DELAY + 3600)
    assert stuck.progress_ratio == 0.35
    assert stuck.progress_at_s == T0 + DELAY + 210
    day = only(sim, 86_400)
    assert (day.state, day.progress_at_s) == (JobState.RUNNING, stuck.progress_at_s)
    assert day.cost_usd == pytest.approx(4 * 1.861 * 24)


def test_a_job_that_reports_nothing_has_no_progress_at_all():
    job = only(sim_of(spec(reports=False)), DELAY + 600)
    assert (job.progress_ratio, job.progress_at_s) == (None, None)


def test_a_kill_is_for_good_and_everything_impossible_is_refused_or_unknown():
    sim = sim_of(spec())
    assert sim.resume("j-0001", T0 + 10)[0] is ActionStatus.REFUSED
    assert sim.kill("j-0001", T0 + 600)[0] is ActionStatus.CONFIRMED
    for act in (sim.kill, sim.suspend, sim.resume):
        status, detail = act("j-0001", T0 + 700)
        assert status is ActionStatus.REFUSED
        assert "killed" in detail
    assert only(sim, 9999).finished_s == T0 + 600
    with pytest.raises(UnknownSubject):
        sim.kill("j-9999", T0 + 700)
    with pytest.raises(UnknownSubject):
        sim.submit(spec(id="j-0002", offer_id="h100/nowhere/spot"))
    with pytest.raises(ValueError, match="already"):
        sim.submit(spec())


def test_a_job_of_later_waits_for_its_time_and_one_of_earlier_is_submitted_now():
    sim = sim_of(spec(submit_s=T0 + 3600), spec(id="j-0002", submit_s=T0 - 3600))
    assert [job.id for job in sim.views()] == ["j-0002"]
    sim.advance(T0 + 3600)
    assert {job.id: job.submitted_s for job in sim.views()} == {"j-0002": T0, "j-0001": T0 + 3600}


def test_ended_jobs_are_forgotten_after_a_day_but_not_what_they_cost():
    sim = sim_of(spec())
    cost = only(sim, 9999).cost_usd
    sim.advance(T0 + 86_400 + 9999)
    assert sim.views() == ()
    assert sim.total_usd() == pytest.approx(cost)


COMMANDS = st.lists(
    st.tuples(st.floats(1, 4000), st.sampled_from(["none", "suspend", "resume", "kill"])), min_size=1, max_size=8
)


@settings(max_examples=60)
@given(COMMANDS, st.booleans(), st.floats(1, 3000), st.integers(2, 9))
def test_how_time_is_cut_and_a_restart_change_nothing(commands, checkpoints, every, cuts):
    later = [spec(id="j-0002", submit_s=T0 + 900, work_s=math.inf, stall_at_ratio=0.2)]

    def stream(from_s: float, to_s: float):
        return [one for one in later if from_s < one.submit_s <= to_s]

    def live(sim: JobsSim, cut: int, restart: bool) -> list:
        seen, now = [], T0
        for wait, command in commands:
            for piece in range(1, cut):
                sim.advance(now + wait * piece / cut)
            now += wait
            sim.advance(now)
            if restart:
                plain = json.loads(json.dumps(sim.snapshot(), allow_nan=False))
                sim = JobsSim(OFFERS, T0, stream=stream)
                sim.restore(plain)
            if command != "none":
                getattr(sim, command)("j-0001", now)
            seen.append((sim.views(), sim.attempts()))
        seen.append(sim.total_usd())
        return seen

    first = spec(checkpoints=checkpoints, checkpoint_every_s=every)
    once = live(sim_of(first, stream=stream), 1, restart=False)
    assert live(sim_of(first, stream=stream), cuts, restart=True) == once


@settings(max_examples=60)
@given(COMMANDS)
def test_what_accrues_hour_by_hour_is_what_the_jobs_cost(commands):
    sim, now = sim_of(spec(), spec(id="j-0002", work_s=math.inf)), T0
    for wait, command in commands:
        now += wait
        sim.advance(now)
        if command != "none":
            getattr(sim, command)("j-0001", now)
    hours = [sim.accrued_usd(T0 + 3600 * n, T0 + 3600 * (n + 1)) for n in range(10)]
    assert min(hours) >= 0
    assert sum(hours) == pytest.approx(sum(job.cost_usd for job in sim.views()))


# ------------------------------------------------------------------------------------------ the demonstration


def test_the_stream_is_the_same_however_it_is_cut_and_differs_by_seed():
    stream = DemoJobs(T0, 7, OFFERS)
    whole = stream.between(T0, T0 + 3 * 86_400)
    edges = [T0 + 7000.0 * n for n in range(38)]
    edges[-1] = T0 + 3 * 86_400
    pieces = [one for a, b in itertools.pairwise(edges) for one in stream.between(a, b)]
    assert tuple(pieces) == whole
    assert demo_jobs(T0, 7, OFFERS, days=3) == whole
    assert demo_jobs(T0, 8, OFFERS, days=3) != whole


def test_the_stream_goes_on_for_ever_with_ids_of_its_own():
    stream = DemoJobs(T0, 7, OFFERS)
    specs = [one for day in range(-3, 200) for one in stream.between(T0 + day * 86_400, T0 + (day + 1) * 86_400)]
    ids = [one.id for one in specs]
    assert len(set(ids)) == len(ids)
    assert not set(ids) & {runaway_job(T0, number, OFFERS).id for number in (1, 399)}
    assert len(specs) / 203 == pytest.approx(8.5, abs=1.0)
    ordinary = [one.work_s for one in specs if one.stall_at_ratio is None]
    assert min(ordinary) >= 10 * 60
    assert max(ordinary) / L40S.speed_ratio <= 4 * 3600
    with pytest.raises(ValueError, match="at most 399"):
        runaway_job(T0, 400, OFFERS)
    with pytest.raises(ValueError, match="offer"):
        DemoJobs(T0, 7, ())


@pytest.mark.parametrize("seed", [7, 8])
def test_two_days_of_the_demonstration_under_the_default_rules(seed):
    """The runaway is killed 30 to 40 minutes after its start, the outgrower stopped, and nobody else is touched."""
    stream = DemoJobs(T0, seed, OFFERS)
    sim, memory, story = JobsSim(OFFERS, T0 - 86_400, stream=stream.between), GuardMemory(), []
    for check in range(0, 3 * 86_400, 60):
        now = T0 - 86_400 + check
        sim.advance(now)
        verdicts, memory = judge(sim.views(), DEFAULT_RULES, memory, now)
        for verdict in verdicts:
            story.append((verdict.job_id, verdict.rule, verdict.step, (now - T0) / 60))
            if verdict.acts:
                {Step.THROTTLE: sim.suspend, Step.KILL: sim.kill}[verdict.step](verdict.job_id, now)
    first_day = [entry for entry in story if entry[3] < 600]
    runaway, outgrower = "j-2012", "j-2013"
    assert [(rule, step) for job, rule, step, _ in first_day if job == runaway] == [
        ("no-progress", Step.WARN),
        ("projected-cost", Step.WARN),
        ("no-progress", Step.THROTTLE),
        ("no-progress", Step.KILL),
    ]
    killed = next(at for job, _, step, at in story if job == runaway and step is Step.KILL)
    assert 30 <= killed - (50 + 4) <= 40
    assert [(rule, step) for job, rule, step, _ in first_day if job == outgrower] == [
        ("projected-cost", Step.WARN),
        ("cost", Step.THROTTLE),
        ("cost", Step.KILL),
    ]
    specials = {f"j-{2000 + 16 * day + number}" for day in range(5) for number in (12, 13)}
    assert {job for job, *_ in story} <= specials
