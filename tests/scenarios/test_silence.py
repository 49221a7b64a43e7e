"""Telemetry stops, the cluster does not answer, and both come back."""

from models.enums import LedgerKind, Limit
from tests.backends.small_world import T0
from tests.scenarios.conftest import MINUTE


def test_telemetry_goes_stale(begin) -> None:
    # A fleet far too large for a demand that has just gone away.
    story = begin(4.0, 8.0, 4.0).until(15 * MINUTE)
    # Demand ends at minute 15, and so does the telemetry that would have said so.
    rows = story.cluster.engine.a.request
    rows["work"][story.cluster.engine.arrived : story.cluster.engine.requests] = 0.01
    story.cluster.silence(T0 + 45 * MINUTE)
    # For three minutes it is only young; then it is stale, and nothing is let go for half an hour.
    story.until(18 * MINUTE + 30)
    size = story.size()
    assert size > 20
    story.until(45 * MINUTE - 15)
    stale = story.plans(18 * MINUTE + 30, 45 * MINUTE)
    assert {plan.bound.limit for plan in stale} == {Limit.STALE_TELEMETRY}
    assert not any("release" in action.kind for plan in stale for action in plan.actions)
    assert story.size() >= size
    assert "old, over 180 s" in stale[-1].bound.text
    # When it reports again the fleet follows.
    story.until(75 * MINUTE)
    assert story.size() < size


def test_the_cluster_does_not_answer(begin) -> None:
    story = begin().until(20 * MINUTE)
    size, ticks, plans = story.size(), len(story.ticks), len(story.plan_rows())
    # For five minutes nobody can be asked. Each tick says so and changes nothing.
    story.wire.away = True
    story.until(25 * MINUTE)
    assert len(story.ticks) == ticks
    assert len(story.plan_rows()) == plans
    failures = story.ledger(LedgerKind.FAILURE)
    assert failures
    assert any("could not see the cluster" in entry.what for entry in failures)
    # The next tick that can look goes on, and the books show no hole in the bill.
    story.wire.away = False
    story.until(30 * MINUTE)
    assert len(story.ticks) > ticks
    assert abs(story.size() - size) <= 4


def test_the_cluster_hears_nothing(begin) -> None:
    """It can be seen and takes no action: what was written is asked again under the same id, and done once."""
    story = begin().until(20 * MINUTE)
    story.wire.deaf = True
    story.requests(20 * MINUTE, 40 * MINUTE, 3.0, 6.0, 3.0)
    story.until(22 * MINUTE)
    waiting = {action.id for action in story.store.unfinished_actions()}
    assert waiting
    story.wire.deaf = False
    story.until(23 * MINUTE)
    assert not {action.id for action in story.store.unfinished_actions()} & waiting
    asked = [action.id for action in story.wire.asked]
    assert waiting <= set(asked)
    assert len(asked) == len(set(asked))
