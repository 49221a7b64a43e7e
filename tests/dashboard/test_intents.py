"""Every act of an operator becomes one pending row, or is refused before it is written."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, select

from dashboard import intents
from dashboard.components.confirm_job import irreversible, ready, rows_of
from dashboard.components.confirm_override import above_cap, most_within_cap, price
from dashboard.queries.fleet import Fleet
from dashboard.queries.standing import read_standing
from models.enums import GuardAction, IntentKind, OverrideKind, RuleMetric
from models.intents import Intent

from .conftest import document

FLEET = Fleet(desired=20, ready=19, coming=1, draining=0, usd_per_replica_hour=0.5)


@pytest.fixture
def engine(database: Callable[..., Engine]) -> Engine:
    return database(filled=True)


def written(engine: Engine, number: int) -> Intent:
    with Session(engine) as session:
        found = session.exec(select(Intent).where(Intent.id == number)).one()
        session.expunge(found)
    return found


def test_an_envelope_is_asked_for_with_the_version_it_was_made_from(engine: Engine) -> None:
    intent = written(engine, intents.apply_envelope(document(45), 2, "less for the night"))
    assert (intent.kind, intent.status, intent.author, intent.reason) == (
        "apply_envelope",
        "pending",
        "tester",
        "less for the night",
    )
    assert intent.payload == {"document": document(45), "base_version": 2, "signed": False, "probability": None}


def test_an_override_carries_its_end_in_virtual_time(engine: Engine) -> None:
    number = intents.override(OverrideKind.PIN, 24, intents.until(1), "launch", signed_over_cap=True)
    intent = written(engine, number)
    assert intent.service == "images"
    assert intent.payload["replicas"] == 24 and intent.payload["signed_over_cap"] is True
    assert intent.payload["ends_at"].startswith("2024-11-25T15:3")


def test_a_freeze_carries_no_count(engine: Engine) -> None:
    assert (
        written(engine, intents.override(OverrideKind.FREEZE, 9, intents.until(1), "hold")).payload["replicas"] is None
    )


@pytest.mark.parametrize(
    "act",
    [
        lambda: intents.override(OverrideKind.PIN, None, intents.until(1), "why"),
        lambda: intents.override(OverrideKind.PIN, -1, intents.until(1), "why"),
        lambda: intents.override(OverrideKind.FREEZE, None, read_standing().now - timedelta(minutes=1), "why"),
        lambda: intents.override(OverrideKind.FREEZE, None, intents.until(1), "   "),
        lambda: intents.pause_fleet(read_standing().now - timedelta(minutes=1), "why"),
        lambda: intents.act_on_job(IntentKind.PAUSE_FLEET, "j-1", "why"),
        lambda: intents.set_rule(
            "x", RuleMetric.DURATION, None, GuardAction.KILL, 0, "why", dry_run=False, enabled=True
        ),
        lambda: intents.set_rule("x", RuleMetric.COST, -4, GuardAction.KILL, 0, "why", dry_run=False, enabled=True),
        lambda: intents.apply_envelope(document(), 2, ""),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_is_written(engine: Engine, act: Callable[[], int]) -> None:
    with Session(engine) as session:
        before = len(session.exec(select(Intent)).all())
    with pytest.raises(ValueError):
        act()
    with Session(engine) as session:
        assert len(session.exec(select(Intent)).all()) == before


def test_pausing_the_fleet_reaches_every_service(engine: Engine) -> None:
    paused = written(engine, intents.pause_fleet(intents.until(4), "maintenance"))
    assert (paused.service, paused.kind) == ("*", "pause_fleet")
    assert written(engine, intents.resume_fleet("done")).payload == {}


def test_demo_controls_and_job_acts_and_rules_are_intents_too(engine: Engine) -> None:
    assert written(engine, intents.demo(IntentKind.DEMO_SURGE, factor=3.0, minutes=20)).payload == {
        "factor": 3.0,
        "minutes": 20,
    }
    assert written(engine, intents.act_on_job(IntentKind.KILL_JOB, "j-0002", "loops")).payload == {"job_id": "j-0002"}
    rule = intents.set_rule(
        "cap", RuleMetric.COST, None, GuardAction.KILL, 60, "each job's own", dry_run=True, enabled=True
    )
    assert written(engine, rule).payload["threshold"] is None
    assert written(engine, intents.end_override(1, "over")).payload == {"override_id": 1}


def test_an_override_shows_its_price_until_it_ends() -> None:
    assert price(FLEET, 30, 4) == (15.0, 60.0)
    assert price(Fleet(0, 0, 0, 0, None), 30, 4) == (None, None)
    assert above_cap(15.0, 14.0) and not above_cap(14.0, 14.0) and not above_cap(99.0, None)
    assert most_within_cap(FLEET, 14.0) == 28


def job(**facts: Any) -> dict[str, Any]:
    base = {
        "id": "j-0002",
        "name": "endless",
        "tenant": "weft",
        "gpu_count": 1,
        "offer_id": "g5/x/spot",
        "cost_usd": 2.0,
        "running_s": 7200,
        "progress_ratio": None,
        "checkpoints": False,
        "price_usd_per_hour": 1.0,
    }
    return base | facts


def test_killing_a_job_without_checkpoint_needs_its_name_typed() -> None:
    assert irreversible(IntentKind.KILL_JOB, job())
    assert not irreversible(IntentKind.KILL_JOB, job(checkpoints=True))
    assert not irreversible(IntentKind.SUSPEND_JOB, job())
    assert not ready(IntentKind.KILL_JOB, job(), "loops", "endles")
    assert not ready(IntentKind.KILL_JOB, job(), "", "endless")
    assert ready(IntentKind.KILL_JOB, job(), "loops", "endless")
    assert ready(IntentKind.KILL_JOB, job(checkpoints=True), "loops", "")


def test_the_confirmation_says_what_is_lost() -> None:
    assert any("keeps no checkpoint" in value for _, value in rows_of(IntentKind.KILL_JOB, job()))
    assert any("Checkpoint kept" in value for _, value in rows_of(IntentKind.KILL_JOB, job(checkpoints=True)))
    assert dict(rows_of(IntentKind.KILL_JOB, job()))["Spent"].endswith("progress —")
