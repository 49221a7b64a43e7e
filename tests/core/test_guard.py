"""The guardrail's judgement, told as timelines of one job, and its laws."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core import guard
from controller.core.guard import DEFAULT_RULES, Deed, GuardMemory, Rule, RuleError, Step, Verdict, judge, remember
from controller.core.types import Job
from models.enums import GuardAction, JobState, RuleMetric

T0 = 1_732_514_400.0
PRICE = 12.0
MINUTE = 60.0


def job(minutes: float = 28, **changes) -> Job:
    """A running job at $12 an hour that started at T0; `minutes` into its run and reporting progress just now."""
    base = Job(
        id="j-0007", name="Ikat repeat library", service="images", tenant="loom-eu", tier="background",
        state=JobState.RUNNING, offer_id="g6e.xlarge/usw2-az1/on_demand", gpu_count=4, price_usd_per_hour=PRICE,
        submitted_s=T0 - 240, started_s=T0, finished_s=None, running_s=minutes * MINUTE, cost_usd=PRICE * minutes / 60,
        progress_ratio=None, progress_at_s=T0 + minutes * MINUTE, checkpoints=True, attempts=1,
        cost_limit_usd=None, expected_s=None,
    )  # fmt: skip
    return replace(base, **changes)


def rule(metric=RuleMetric.COST, threshold=None, action=GuardAction.KILL, grace_s=600.0, **changes) -> Rule:
    return Rule(metric.value, 1, metric, threshold, action, grace_s, **changes)


class Watch:
    """A guard over one rule set: `see` a job at a minute, get the steps."""

    def __init__(self, *rules: Rule) -> None:
        self.rules, self.memory, self.verdicts = rules, GuardMemory(), []

    def see(self, seen: Job, minute: float) -> list[Step]:
        verdicts, self.memory = judge((seen,), self.rules, self.memory, T0 + minute * MINUTE)
        again, memory = judge((seen,), self.rules, self.memory, T0 + minute * MINUTE)
        assert again == ()
        assert memory.traces == self.memory.traces
        self.verdicts.extend(verdicts)
        return [verdict.step for verdict in verdicts]

    @property
    def last(self) -> Verdict:
        return self.verdicts[-1]


# -------------------------------------------------------------------------------------------------------- cost


def test_cost_under_the_limit_is_left_alone_and_over_it_is_suspended_then_killed_after_the_grace():
    watch = Watch(rule(grace_s=600))
    assert watch.see(job(40, cost_usd=8.0, cost_limit_usd=8.0), 40) == []
    assert watch.see(job(41, cost_usd=8.2, cost_limit_usd=8.0), 41) == [Step.THROTTLE]
    assert watch.last.text == "Cost $8.20 is over the job's limit of $8.00 after 41 min; suspended, billing stops."
    suspended = job(41, state=JobState.SUSPENDED, cost_usd=8.2, cost_limit_usd=8.0)
    assert watch.see(suspended, 42) == []
    assert watch.see(suspended, 50.9) == []
    assert watch.see(suspended, 51) == [Step.KILL]
    assert watch.last.text == (
        "Cost $8.20 is over the job's limit of $8.00 after 41 min; "
        "killed: still in breach 10 min after it was suspended."
    )
    assert watch.last.evidence["first_breached_s"] == T0 + 41 * MINUTE
    assert watch.see(replace(suspended, state=JobState.KILLED), 52) == []
    assert watch.memory.traces == {}


def test_a_rules_own_threshold_replaces_the_jobs_limit():
    watch = Watch(rule(threshold=5.0))
    assert watch.see(job(30, cost_usd=6.0, cost_limit_usd=8.0), 30) == [Step.THROTTLE]
    assert "over the rule's limit of $5.00" in watch.last.text


def test_no_limit_at_all_is_no_breach():
    assert Watch(*DEFAULT_RULES).see(job(30, cost_usd=999.0), 30) == []


def test_a_job_without_checkpoints_is_told_to_lose_its_progress():
    watch = Watch(rule())
    watch.see(job(30, cost_usd=9.0, cost_limit_usd=8.0, checkpoints=False, progress_ratio=0.62), 30)
    assert watch.last.text.endswith(
        "suspended, billing stops, but it keeps no checkpoint: its progress (62 %) is lost if it resumes."
    )
    assert watch.last.evidence["progress_lost_on_resume"] is True


def test_whoever_resumes_a_job_still_in_breach_gets_a_new_grace_then_it_is_killed():
    watch = Watch(rule(grace_s=600))
    over = {"cost_usd": 9.0, "cost_limit_usd": 8.0}
    watch.see(job(30, **over), 30)
    watch.see(job(30, state=JobState.SUSPENDED, **over), 31)
    assert watch.see(job(30, state=JobState.QUEUED, attempts=2, **over), 35) == []
    assert watch.see(job(36, attempts=2, **over), 44.9) == []
    assert watch.see(job(36, attempts=2, **over), 45) == [Step.KILL]
    assert watch.last.text.endswith("killed: still in breach 10 min after it was resumed.")


def test_raising_the_limit_ends_the_breach_and_a_later_one_kills_at_once():
    watch = Watch(rule(grace_s=600))
    watch.see(job(30, cost_usd=9.0, cost_limit_usd=8.0), 30)
    suspended = job(30, state=JobState.SUSPENDED, cost_usd=9.0, cost_limit_usd=8.0)
    watch.see(suspended, 31)
    watch.rules = (replace(watch.rules[0], version=2, threshold=12.0),)
    assert watch.see(suspended, 60) == []
    assert watch.see(job(40, attempts=2, cost_usd=11.0), 70) == []
    assert watch.see(job(45, attempts=2, cost_usd=12.5), 75) == [Step.KILL]
    assert watch.last.text.endswith("killed: it was suspended before, resumed, and breached again.")
    assert watch.last.version == 2


@pytest.mark.parametrize(
    ("action", "steps"),
    [
        (GuardAction.ALERT, [Step.ALERT]),
        (GuardAction.THROTTLE, [Step.THROTTLE]),
        (GuardAction.KILL, [Step.THROTTLE, Step.KILL]),
    ],
)
def test_a_rule_never_goes_further_than_its_action(action, steps):
    watch = Watch(rule(action=action, grace_s=60))
    over = job(30, cost_usd=9.0, cost_limit_usd=8.0)
    watch.see(over, 30)
    for minute in range(31, 60):
        watch.see(replace(over, state=JobState.RUNNING if action is GuardAction.ALERT else JobState.SUSPENDED), minute)
    # a kill that nobody carries out is asked for again, so count what differs
    assert list(dict.fromkeys(verdict.step for verdict in watch.verdicts)) == steps


def test_without_any_grace_a_kill_still_waits_for_a_later_moment():
    watch = Watch(rule(grace_s=0.0))
    over = job(30, cost_usd=9.0, cost_limit_usd=8.0)
    assert watch.see(over, 30) == [Step.THROTTLE]
    assert watch.see(replace(over, state=JobState.SUSPENDED), 30) == []
    assert watch.see(replace(over, state=JobState.SUSPENDED), 30.1) == [Step.KILL]


def test_a_throttle_rule_suspends_again_what_was_resumed_in_breach():
    watch = Watch(rule(action=GuardAction.THROTTLE, grace_s=300))
    over = {"cost_usd": 9.0, "cost_limit_usd": 8.0}
    watch.see(job(30, **over), 30)
    watch.see(job(30, state=JobState.SUSPENDED, **over), 31)
    assert watch.see(job(30, attempts=2, **over), 40) == []
    assert watch.see(job(35, attempts=2, **over), 45) == [Step.THROTTLE]
    assert watch.last.attempt == 2
    assert "suspended again (time 2)" in watch.last.text


def test_a_suspension_without_effect_still_ends_in_a_kill_and_a_kill_without_effect_is_asked_for_again():
    watch = Watch(rule(grace_s=300))
    over = {"cost_usd": 9.0, "cost_limit_usd": 8.0}
    assert watch.see(job(30, **over), 30) == [Step.THROTTLE]
    assert watch.see(job(34, **over), 34) == []
    assert watch.see(job(35, **over), 35) == [Step.KILL]
    assert watch.see(job(40, **over), 40) == []
    assert watch.see(job(41, **over), 41) == [Step.KILL]
    assert [verdict.attempt for verdict in watch.verdicts] == [1, 1, 2]


# --------------------------------------------------------------------------------------------- projected cost


def test_a_projection_alerts_over_the_limit_and_suspends_over_one_and_a_half_times_it():
    watch = Watch(rule(RuleMetric.PROJECTED_COST, action=GuardAction.THROTTLE))
    limit = {"cost_limit_usd": 10.0}
    assert watch.see(job(10, progress_ratio=0.25, **limit), 10) == []  # $2 of $8
    assert watch.see(job(20, progress_ratio=1 / 3, **limit), 20) == [Step.WARN]  # $4 of $12
    assert watch.last.action is GuardAction.ALERT
    assert watch.last.text == (
        "Projected final cost $12.00 is over the job's limit of $10.00 ($4.00 so far, 33 % done after 20 min); "
        "alert now, suspended past $15.00."
    )
    assert watch.see(job(28, progress_ratio=0.35, **limit), 28) == [Step.THROTTLE]  # $5.6 of $16
    assert "Projected final cost $16.00 is over 1.5 × the job's limit of $10.00" in watch.last.text
    suspended = job(28, progress_ratio=0.35, state=JobState.SUSPENDED, **limit)
    assert watch.see(suspended, 120) == []


def test_a_projection_in_dollars_of_its_own_breaches_right_there():
    watch = Watch(rule(RuleMetric.PROJECTED_COST, threshold=11.0))
    assert watch.see(job(20, progress_ratio=1 / 3), 20) == [Step.THROTTLE]


@pytest.mark.parametrize("progress", [None, 0.0, 0.019, float("nan")])
def test_without_a_pace_the_projection_is_the_expected_time_or_unknown_never_zero(progress):
    unknown = job(20, progress_ratio=progress)
    assert GuardMemory().projected_usd(unknown) is None
    assert GuardMemory().projected_usd(replace(unknown, expected_s=7200.0)) == pytest.approx(24.0)
    projected = rule(RuleMetric.PROJECTED_COST)
    assert Watch(projected).see(replace(unknown, cost_limit_usd=0.01), 20) == []
    assert Watch(projected).see(replace(unknown, cost_limit_usd=12.0, expected_s=7200.0), 20) == [Step.THROTTLE]


def test_a_projection_is_never_below_what_was_spent():
    late = job(60, expected_s=600.0)
    assert GuardMemory().projected_usd(late) == pytest.approx(12.0)


def test_the_pace_is_the_present_attempts_when_progress_was_lost():
    """Half done in 30 minutes, then started over: ten minutes for a sixth is the same pace, not a quarter of it."""
    watch = Watch(rule(RuleMetric.PROJECTED_COST))
    watch.see(job(30, progress_ratio=0.5, checkpoints=False), 30)
    watch.see(job(30, progress_ratio=0.0, attempts=2, checkpoints=False), 60)
    restarted = job(40, progress_ratio=1 / 6, attempts=2, checkpoints=False)
    watch.see(restarted, 70)
    assert watch.memory.projected_usd(restarted) == pytest.approx(8.0 + 10.0)


# ---------------------------------------------------------------------------------------- duration, no progress


def test_duration_alerts_when_the_pace_foresees_it_then_suspends_then_kills():
    watch = Watch(rule(RuleMetric.DURATION, threshold=6 * 3600.0, grace_s=600))
    assert watch.see(job(60, progress_ratio=0.2), 60) == []
    assert watch.see(job(120, progress_ratio=0.25), 120) == [Step.WARN]
    assert watch.last.text == ("At its pace it will run for 8 h, over the limit of 6 h; alert now, suspended past 6 h.")
    assert watch.see(job(360, progress_ratio=0.8), 360) == []
    assert watch.see(job(361, progress_ratio=0.8), 361) == [Step.THROTTLE]
    assert watch.see(job(361, progress_ratio=0.8, state=JobState.SUSPENDED), 371) == [Step.KILL]


def test_a_job_that_sticks_is_alerted_on_suspended_and_killed():
    watch = Watch(rule(RuleMetric.NO_PROGRESS, threshold=1800.0, grace_s=300))
    stuck = {"progress_ratio": 0.35, "progress_at_s": T0 + 4 * MINUTE}
    timeline = {minute: watch.see(job(minute, **stuck), minute) for minute in range(4, 35)}
    assert {m: s for m, s in timeline.items() if s} == {20: [Step.WARN]}
    assert watch.see(job(34.5, **stuck), 34.5) == [Step.THROTTLE]
    assert watch.last.text == ("No progress for 30 min at 35 %, past the limit of 30 min; suspended, billing stops.")
    assert watch.see(job(34.5, state=JobState.SUSPENDED, **stuck), 39) == []
    assert watch.see(job(34.5, state=JobState.SUSPENDED, **stuck), 39.5) == [Step.KILL]


def test_a_job_that_reports_nothing_counts_from_its_start_and_a_queued_one_not_at_all():
    watch = Watch(rule(RuleMetric.NO_PROGRESS, threshold=1800.0))
    silent = {"progress_ratio": None, "progress_at_s": None}
    assert watch.see(job(0, state=JobState.QUEUED, started_s=None, running_s=0.0, **silent), 0) == []
    assert watch.see(job(31, **silent), 31) == [Step.THROTTLE]
    assert "No progress for 31 min, and none ever reported" in watch.last.text


def test_the_time_a_job_was_suspended_is_not_lack_of_progress():
    watch = Watch(rule(RuleMetric.NO_PROGRESS, threshold=1800.0))
    moved = {"progress_ratio": 0.5, "progress_at_s": T0 + 10 * MINUTE}
    assert watch.see(job(10, **moved), 10) == []
    assert watch.see(job(10, state=JobState.SUSPENDED, **moved), 200) == []
    assert watch.see(job(11, attempts=2, **moved), 201) == []
    assert watch.see(job(40, attempts=2, **moved), 230) == [Step.WARN]
    assert watch.see(job(42, attempts=2, **moved), 232) == [Step.THROTTLE]


def test_a_stuck_job_that_is_resumed_has_its_full_time_again_and_is_then_killed_at_once():
    watch = Watch(rule(RuleMetric.NO_PROGRESS, threshold=1800.0, grace_s=300))
    stuck = {"progress_ratio": 0.35, "progress_at_s": T0}
    assert watch.see(job(31, **stuck), 31) == [Step.THROTTLE]
    watch.see(job(31, state=JobState.SUSPENDED, **stuck), 32)
    assert watch.see(job(31, state=JobState.QUEUED, attempts=2, **stuck), 33) == []
    assert watch.see(job(31, attempts=2, **stuck), 37) == []
    assert Step.KILL not in watch.see(job(60, attempts=2, **stuck), 66)
    assert watch.see(job(62, attempts=2, **stuck), 68) == [Step.KILL]


# ------------------------------------------------------------------------------------------- holding, dry runs


@pytest.mark.parametrize("unknown", [{"cost_usd": None}, {"price_usd_per_hour": None}, {"cost_usd": float("nan")}])
def test_a_job_whose_money_is_unknown_is_alerted_on_once_and_held_by_every_rule(unknown):
    watch = Watch(*DEFAULT_RULES)
    rogue = {"cost_limit_usd": 1.0, "progress_ratio": 0.1, "progress_at_s": T0, **unknown}
    for minute in range(0, 900, 5):
        watch.see(job(minute, **rogue), minute)
    assert {verdict.step for verdict in watch.verdicts} == {Step.HOLD}
    assert sorted(verdict.rule for verdict in watch.verdicts) == ["cost", "duration", "no-progress"]
    assert all(verdict.action is GuardAction.ALERT and not verdict.acts for verdict in watch.verdicts)
    assert "nothing is stopped on a guess" in watch.last.text


def test_a_kill_that_is_due_waits_while_the_price_is_unknown():
    watch = Watch(rule(grace_s=600))
    over = {"cost_usd": 9.0, "cost_limit_usd": 8.0, "state": JobState.SUSPENDED}
    watch.see(job(30, cost_usd=9.0, cost_limit_usd=8.0), 30)
    assert watch.see(job(30, price_usd_per_hour=None, **over), 45) == []
    assert watch.see(job(30, **over), 46) == [Step.KILL]


def test_a_dry_run_says_what_it_would_do_and_starts_over_when_it_becomes_real():
    watch = Watch(rule(grace_s=600, dry_run=True))
    over = job(30, cost_usd=9.0, cost_limit_usd=8.0)
    assert watch.see(over, 30) == [Step.THROTTLE]
    assert not watch.last.acts
    assert "dry run: would be suspended" in watch.last.text
    assert watch.see(over, 40) == [Step.KILL]
    assert "dry run: would be killed" in watch.last.text
    assert watch.see(over, 90) == []
    watch.rules = (replace(watch.rules[0], dry_run=False, version=2),)
    assert watch.see(over, 100) == [Step.THROTTLE]
    assert watch.last.acts


def test_a_disabled_rule_and_an_ended_job_give_nothing():
    over = job(30, cost_usd=9.0, cost_limit_usd=8.0)
    assert Watch(rule(enabled=False)).see(over, 30) == []
    for state in guard.ENDED:
        assert Watch(*DEFAULT_RULES).see(replace(over, state=state), 30) == []


def test_somebody_elses_suspension_is_not_repeated():
    over = job(30, cost_usd=9.0, cost_limit_usd=8.0, state=JobState.SUSPENDED)
    assert Watch(rule()).see(over, 30) == []


def test_two_rules_breached_at_once_act_once_and_the_severest_wins():
    cost, duration = rule(grace_s=600), rule(RuleMetric.DURATION, threshold=1700.0, grace_s=600)
    watch = Watch(cost, duration)
    assert watch.see(job(28, cost_usd=9.0, cost_limit_usd=8.0), 28) == [Step.THROTTLE]
    assert watch.last.rule == "cost"
    both = job(30, cost_usd=9.0, cost_limit_usd=8.0)
    assert watch.see(both, 28.5) == []  # the suspension may not show yet: nobody asks for another
    watch = Watch(duration, cost)
    assert watch.see(job(20, cost_usd=9.0, cost_limit_usd=8.0), 20) == [Step.THROTTLE]
    assert watch.see(both, 30) == [Step.KILL]
    assert watch.last.rule == "cost"


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("name", {"name": " "}),
        ("threshold", {"metric": RuleMetric.DURATION}),
        ("threshold", {"threshold": 0.0}),
        ("threshold", {"threshold": float("nan")}),
        ("grace_s", {"grace_s": -1.0}),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_by_field(field, changes):
    with pytest.raises(RuleError) as refused:
        replace(rule(), **changes)
    assert refused.value.field == field


# ---------------------------------------------------------------------------------------------------- memory


def deed(verdict: Verdict, seen: bool = True) -> Deed:
    return Deed(
        verdict.job_id, verdict.rule, verdict.version, verdict.step, verdict.attempt, verdict.evidence["judged_s"],
        verdict.dry_run, seen, verdict.evidence["first_breached_s"], verdict.evidence["value"],
    )  # fmt: skip


def test_what_is_remembered_from_the_ledger_neither_forgets_nor_repeats():
    watch = Watch(*DEFAULT_RULES)
    stuck = {"progress_ratio": 0.35, "progress_at_s": T0}
    for minute in (16, 31):
        watch.see(job(minute, **stuck), minute)
    assert [verdict.step for verdict in watch.verdicts] == [Step.WARN, Step.THROTTLE]
    watch.memory = remember(map(deed, watch.verdicts))
    suspended = job(31, state=JobState.SUSPENDED, **stuck)
    assert watch.see(suspended, 35.9) == []
    assert watch.see(suspended, 36) == [Step.KILL]
    watch.memory = remember(map(deed, watch.verdicts))
    assert watch.see(suspended, 36.5) == []


def test_a_resumption_is_remembered_too():
    watch = Watch(rule(grace_s=600))
    over = {"cost_usd": 9.0, "cost_limit_usd": 8.0}
    watch.see(job(30, **over), 30)
    watch.memory = remember(map(deed, watch.verdicts), {"j-0007": T0 + 35 * MINUTE})
    assert watch.see(job(38, attempts=2, **over), 44) == []
    assert watch.see(job(38, attempts=2, **over), 45) == [Step.KILL]


# ------------------------------------------------------------------------------------------------------ laws

STATES = st.sampled_from([JobState.QUEUED, JobState.RUNNING, JobState.SUSPENDED])
JOBS = st.builds(
    lambda state, minutes, cost, limit, progress, quiet, expected, checkpoints: job(
        minutes, state=state, cost_usd=cost, cost_limit_usd=limit, progress_ratio=progress,
        progress_at_s=None if quiet is None else T0 + (minutes - quiet) * MINUTE, expected_s=expected,
        checkpoints=checkpoints,
    ),
    STATES, st.floats(0, 900), st.none() | st.floats(0, 50), st.none() | st.floats(0.1, 50),
    st.none() | st.floats(0, 1), st.none() | st.floats(0, 60), st.none() | st.floats(60, 40_000), st.booleans(),
)  # fmt: skip
SEVERITY = {Step.WARN: 1, Step.HOLD: 1, Step.ALERT: 1, Step.THROTTLE: 2, Step.KILL: 3}


@given(st.lists(st.tuples(JOBS, st.floats(0, 30)), min_size=1, max_size=12))
def test_laws_of_any_life(life):
    """One act a check at most, none on unknown money, no kill without a throttle before it, none twice."""
    memory, now, ids, throttled = GuardMemory(), T0, set(), set()
    for seen, minutes in life:
        now += minutes * MINUTE
        verdicts, memory = judge((seen,), DEFAULT_RULES, memory, now)
        assert judge((seen,), DEFAULT_RULES, memory, now)[0] == ()
        acts = [verdict for verdict in verdicts if verdict.acts]
        assert len(acts) <= 1
        for verdict in acts:
            assert seen.cost_usd is not None
            identity = (verdict.rule, verdict.step, verdict.attempt)
            assert identity not in ids
            ids.add(identity)
            if verdict.step is Step.THROTTLE:
                throttled.add(verdict.rule)
            else:
                assert verdict.rule in throttled


@given(JOBS, st.floats(0, 20), st.floats(0, 3600))
def test_a_worse_job_is_never_judged_more_mildly(seen, dearer, later):
    def severity(one: Job, now: float) -> int:
        verdicts, _ = judge((one,), DEFAULT_RULES, GuardMemory(), now)
        return max((SEVERITY[verdict.step] for verdict in verdicts), default=0)

    now = T0 + seen.running_s
    worse = replace(seen, cost_usd=None if seen.cost_usd is None else seen.cost_usd + dearer)
    assert severity(worse, now + later) >= severity(seen, now)


@given(JOBS)
def test_every_verdict_is_one_sentence_with_numbers(seen):
    verdicts, _ = judge((seen,), DEFAULT_RULES, GuardMemory(), T0 + seen.running_s)
    for verdict in verdicts:
        assert verdict.text.endswith(".") and ". " not in verdict.text
        assert any(character.isdigit() for character in verdict.text)
        assert "nan" not in verdict.text and "None" not in verdict.text
