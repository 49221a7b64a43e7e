"""An operator's hand on the fleet, and the moment when it lets go by itself."""

from models.enums import IntentKind, LedgerKind, Limit
from models.intents import OverrideRow
from tests.scenarios.conftest import MINUTE


def test_a_pin_is_held_and_ends_by_itself(begin) -> None:
    story = begin().until(20 * MINUTE)
    automatic = story.size()
    story.ask(IntentKind.OVERRIDE, kind="pin", replicas=20, minutes=15)
    story.until(21 * MINUTE)
    assert story.size() == 20
    started = story.cluster.engine.replicas
    # For a quarter of an hour it is twenty: the same twenty, whatever the demand does.
    story.until(35 * MINUTE - 15)
    assert story.size() == 20
    assert story.cluster.engine.replicas == started
    assert {plan.bound.limit for plan in story.plans(21 * MINUTE, 35 * MINUTE)} == {Limit.OVERRIDE}
    # At minute 35 it is over. Nobody did anything.
    story.until(36 * MINUTE)
    (row,) = story.rows(OverrideRow)
    assert row.ended_why == "ended by itself at its expiry"
    words = [entry.what for entry in story.ledger(LedgerKind.OVERRIDE)]
    assert words[-1] == "Pin of 20 replicas on images ended"
    assert story.ledger(LedgerKind.OVERRIDE)[0].actor == "ana"
    assert Limit.OVERRIDE not in {plan.bound.limit for plan in story.plans(35 * MINUTE + 1)}
    story.until(55 * MINUTE)
    assert abs(story.size() - automatic) <= 6


def test_a_freeze_holds_through_a_surge(begin) -> None:
    story = begin().until(20 * MINUTE)
    before = story.fleet()
    story.ask(IntentKind.OVERRIDE, kind="freeze", minutes=10)
    story.requests(20 * MINUTE, 40 * MINUTE, 3.0, 6.0, 3.0)
    story.until(30 * MINUTE - 15)
    assert story.fleet() == before
    assert {plan.bound.limit for plan in story.plans(20 * MINUTE + 1, 30 * MINUTE)} == {Limit.FREEZE}
    # What it would have done is still worked out and shown.
    assert story.plan.required > story.plan.desired
    story.until(32 * MINUTE)
    assert story.size() > before.total()


def test_the_fleets_pause_and_an_early_end(begin) -> None:
    story = begin().until(20 * MINUTE)
    before = story.fleet()
    story.ask(IntentKind.PAUSE_FLEET, service="*", minutes=60)
    story.requests(20 * MINUTE, 40 * MINUTE, 3.0, 6.0, 3.0)
    # The telemetry goes too, as it does in an incident: the pause still holds.
    story.cluster.silence(story.cluster.engine.now_s + 8 * MINUTE)
    story.until(27 * MINUTE)
    assert story.fleet() == before
    story.until(30 * MINUTE)
    assert story.plan.bound.limit is Limit.FLEET_PAUSE
    story.ask(IntentKind.RESUME_FLEET, service="*")
    story.until(31 * MINUTE)
    assert story.size() > before.total()
    assert len(story.ledger(LedgerKind.PAUSE)) == 2
