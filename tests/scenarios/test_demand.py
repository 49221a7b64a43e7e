"""Steady demand, a surge, and what a surge leaves behind."""

import numpy as np

from models.enums import ActionKind, Limit
from tests.scenarios.conftest import HOUR, MINUTE


def test_a_steady_hour(begin) -> None:
    # A service of six erlangs comes under Heddle's hand with eight replicas on demand.
    story = begin()
    story.until(15 * MINUTE)
    # It moves most of it to spot, and keeps on demand what the first tier needs.
    assert story.fleet()["g5.xlarge/z1/spot"] + story.fleet()["g5.xlarge/z2/spot"] > 0
    assert story.on_demand() >= 1.5
    settled = story.size()
    story.until(HOUR)
    assert abs(story.size() - settled) <= 4
    # Premium does not wait.
    assert story.waits(0, 0, HOUR).mean() < 0.2
    assert np.percentile(story.waits(1, 0, HOUR), 95) < 30
    # A steady hour is a quiet one: no fleet is turned over twice.
    starts = [row for row in story.actions(ActionKind.START_REPLICA) if row.status != "refused"]
    assert len(starts) < 4 * story.size()
    # Every decision is in the ledger with its reason; what repeats is not said again.
    rows = story.plan_rows()
    assert 0 < len(rows) < len(story.ticks)
    assert all(row.bound_text for row in rows)
    assert len({row.id for row in rows}) == len(rows)


def test_a_surge(begin) -> None:
    story = begin().until(20 * MINUTE)
    before = story.size()
    # At minute 20 three times as many requests begin to come, for fifteen minutes.
    story.requests(20 * MINUTE, 35 * MINUTE, 3.0, 6.0, 3.0)
    # Within two minutes more is on its way …
    story.until(22 * MINUTE)
    assert story.size() > before
    # … and what is on its way is not ordered twice: the fleet never exceeds all that was ever required.
    story.until(35 * MINUTE)
    asked = max(plan.desired for plan in story.plans(0))
    assert story.size() <= asked
    assert asked <= 60
    # The surge is served, premium first.
    premium, standard = (story.waits(k, 20 * MINUTE, 35 * MINUTE).mean() for k in (0, 1))
    assert premium < standard or standard < 1
    # When it is over the fleet does not collapse at once: a burst's end may be a gap.
    high = story.size()
    story.until(37 * MINUTE)
    assert story.size() >= high - 2
    held = {plan.bound.limit for plan in story.plans(35 * MINUTE, 44 * MINUTE)}
    assert held & {Limit.IDLE_COST, Limit.BURST_RESERVE, Limit.BACKLOG}
    # It does go, once the burst is out of the window and nothing waits any more.
    story.until(80 * MINUTE)
    assert story.size() < high
    assert story.waits(1, 50 * MINUTE, 80 * MINUTE).max() < 60
