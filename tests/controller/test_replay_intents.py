"""Asking for a what-if run and cancelling it: what is taken, what is refused, and what is compared with it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import SQLModel

from controller.core.types import Offer
from controller.core.what_if import DAY_S, HOUR_S
from controller.intake import Intake
from controller.replay_intents import MOST_OPEN, ReplayFacts
from controller.replay_policies import parse_policy
from controller.store.convert import moment
from models.database import open_engine
from models.enums import IntentKind, Market, ReplayStatus
from models.ledger import LedgerEntry
from models.replays import ReplayRun

from .test_intake import NOW, Room, document

FIRST = NOW - 10 * DAY_S + 1234.0
WALL = 1.8e9


def offer(zone: str, market: Market) -> Offer:
    return Offer(f"g5.xlarge/{zone}/{market.value}", "aws", "us", zone, "g5.xlarge", "A10G", 1, market, 1.0, 1.0)


FACTS = ReplayFacts(
    first_s=FIRST,
    offers=(offer("az1", Market.ON_DEMAND), offer("az1", Market.SPOT), offer("az2", Market.SPOT)),
    check_policy=parse_policy,
    scale=20,
    jitter_s=300.0,
    boot_s=180.0,
    seed=7,
    wall_s=lambda: WALL,
)


class Desk(Room):
    def restart(self) -> None:
        super().restart()
        self.intake = Intake(self.store, lambda service: self.facts, self.cluster.apply, replays=FACTS)

    def asked(self, **payload: Any) -> tuple[str, str]:
        return self.hears(IntentKind.ASK_REPLAY, {"policy": "heddle", **payload})

    def runs(self) -> list[ReplayRun]:
        return sorted(self.rows(ReplayRun), key=lambda row: row.id)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    engine = open_engine(f"sqlite:///{tmp_path}/heddle.db")
    SQLModel.metadata.create_all(engine)
    yield Desk(engine)
    engine.dispose()


def iso(hours_ago: float) -> str:
    return moment(NOW - hours_ago * HOUR_S).isoformat()


def test_the_usual_run_is_the_last_week_under_what_rules(desk: Desk) -> None:
    assert desk.asked() == ("applied", "replay 1 waits for its turn")
    (run,) = desk.runs()
    assert (run.status, run.baseline, run.attempts, run.author) == (ReplayStatus.PENDING, True, 0, "ana")
    assert run.spec["envelope_version"] == 1 and run.spec["envelope"]["spend_cap_usd_per_hour"] == 50.0
    assert (run.spec["from"], run.spec["to"]) == ("2024-11-18T06:00:00+00:00", "2024-11-25T06:00:00+00:00")
    assert (run.spec["scale"], run.spec["boot_s"], run.spec["seed"]) == (20, 180.0, 7)
    (entry,) = [row for row in desk.rows(LedgerEntry) if row.kind == "replay"]
    assert entry.what == "Replay 1 asked for" and "heddle, envelope v1, offers as they are" in entry.why


def test_what_it_is_compared_with_comes_along_once(desk: Desk) -> None:
    cheaper = {"policy": "heddle", "envelope": document(cap=40.0), "baselines": True}
    assert desk.asked(**cheaper) == ("applied", "replay 1 waits for its turn, and 2 and 3 to compare it with")
    told = [(run.spec["policy"], run.spec["envelope_version"], run.baseline) for run in desk.runs()]
    assert told == [("heddle", None, False), ("heddle", 1, True), ("hpa", 1, True)]
    # The same window again, without spot: its baselines are there already.
    assert desk.asked(offers={"without_spot": True}, baselines=True) == ("applied", "replay 4 waits for its turn")
    assert [run.baseline for run in desk.runs()] == [False, True, True, False]


def test_a_draft_that_says_what_rules_is_what_rules(desk: Desk) -> None:
    desk.asked(envelope=document())
    assert desk.runs()[0].spec["envelope_version"] == 1


def test_the_same_run_is_not_made_twice_at_a_time(desk: Desk) -> None:
    desk.asked(policy="hpa")
    assert desk.asked(policy="hpa") == ("refused", "replay 1 is the same and has not ended yet")
    desk.hears(IntentKind.CANCEL_REPLAY, {"replay_id": 1})
    assert desk.asked(policy="hpa") == ("applied", "replay 2 waits for its turn")


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        ({"policy": "clairvoyance"}, "policy: there is no policy 'clairvoyance'"),
        ({"policy": ""}, "policy must be a text"),
        ({"from": iso(24), "to": iso(-1)}, "to: is not over yet"),
        ({"from": iso(24), "to": iso(0.5)}, "to: must be a whole hour"),
        ({"from": iso(200), "to": iso(1)}, "7 days at most"),
        ({"from": iso(241), "to": iso(200)}, "the record begins 2024-11-15 06:20 UTC"),
        ({"from": iso(20)}, "'to' is missing"),
        ({"from": "yesterday", "to": iso(1)}, "from must be an ISO time"),
        ({"envelope": {"tiers": {}}}, "tiers: must name at least one tier"),
        ({"envelope": document(cap=-1)}, "spend_cap_usd_per_hour"),
        ({"offers": {"without_zones": ["az9"]}}, "no offer is in zone 'az9'"),
        ({"offers": {"without_zones": ["az1"]}}, "no on-demand offer is left"),
        ({"offers": {"without_zones": "az1"}}, "must be a list of zones"),
        ({"offers": {"price_factors": {"spot": 0}}}, "spot must be at least 0.01"),
        ({"offers": {"price_factors": {"moon": 2}}}, "there is no market 'moon'"),
        ({"offers": {"cheaper": True}}, "offers has no field 'cheaper'"),
        ({"offers": [1]}, "must be an object"),
        ({"baselines": "yes"}, "baselines must be true or false"),
    ],
)
def test_what_cant_be_replayed_is_refused_with_its_reason(desk: Desk, payload: dict[str, Any], says: str) -> None:
    status, reason = desk.asked(**payload)
    assert status == "refused" and says in reason, reason
    assert desk.runs() == []


def test_a_service_that_is_not_there_has_no_past(desk: Desk) -> None:
    told = desk.hears(IntentKind.ASK_REPLAY, {"policy": "heddle"}, service="videos")
    assert told == ("refused", "there is no service 'videos'")


def test_so_many_may_wait_and_no_more(desk: Desk) -> None:
    for hours in range(1, MOST_OPEN):
        assert desk.asked(**{"from": iso(hours + 5), "to": iso(hours)})[0] == "applied"
    status, reason = desk.asked(baselines=True)
    assert status == "refused" and f"{MOST_OPEN - 1} replays wait or run already" in reason
    assert len(desk.runs()) == MOST_OPEN - 1


def test_where_replays_are_off_they_are_refused(desk: Desk) -> None:
    desk.intake = Intake(desk.store, lambda service: desk.facts, desk.cluster.apply)
    assert desk.asked() == ("refused", "replays are switched off here: HEDDLE_REPLAYS_AT_ONCE is 0")


def test_a_cancelled_run_says_by_whom_and_stays_cancelled(desk: Desk) -> None:
    desk.asked()
    assert desk.hears(IntentKind.CANCEL_REPLAY, {"replay_id": 1}) == ("applied", "replay 1 is cancelled")
    (run,) = desk.runs()
    assert (run.status, run.status_reason) == (ReplayStatus.CANCELLED, "cancelled by ana: a launch")
    assert not desk.store.begin_replay(1, WALL)
    told = desk.hears(IntentKind.CANCEL_REPLAY, {"replay_id": 1})
    assert told == ("refused", "replay 1 has ended already: cancelled")
    assert desk.hears(IntentKind.CANCEL_REPLAY, {"replay_id": 9}) == ("refused", "there is no replay 9")


def test_a_run_that_was_cut_short_runs_again_once(desk: Desk) -> None:
    desk.asked()
    for attempt, then in ((1, ReplayStatus.PENDING), (2, ReplayStatus.FAILED)):
        assert desk.store.begin_replay(1, WALL)
        desk.store.note_progress({1: 0.4})
        desk.restart()
        desk.store.take_up_replays(WALL, NOW)
        (run,) = desk.runs()
        assert (run.status, run.attempts) == (then, attempt)
    assert "each of its 2 attempts" in run.status_reason
    told = [row.what for row in desk.rows(LedgerEntry) if row.kind == "replay"]
    assert told == ["Replay 1 asked for", "Replay 1 interrupted", "Replay 1 failed"]
