"""The controller dies between writing a plan and carrying it out. The next one neither forgets nor repeats."""

from collections import Counter

import pytest

from controller.lease import LeaseLost
from models.enums import ActionKind, ActionStatus
from models.plans import ActionRow
from tests.backends.small_world import T0
from tests.scenarios.conftest import MINUTE, Crash


@pytest.mark.parametrize("moment", ["before acting", "after an act", "after saving"])
def test_a_crash_in_the_middle_of_a_tick(begin, moment: str) -> None:
    # Minute 20: a surge makes the plan start replicas. The process dies …
    story = begin().until(20 * MINUTE)
    story.cluster.save()
    story.requests(20 * MINUTE, 40 * MINUTE, 3.0, 6.0, 3.0)
    alive = story.cluster.engine.replicas
    story.cluster._asked = True
    story.cluster.save()
    story.wire.crash = moment
    with pytest.raises(Crash):
        story.until(40 * MINUTE)
    # … and what it had decided is in the table, asked for and not answered.
    left = {row.id: row for row in story.rows(ActionRow, status=ActionStatus.REQUESTED.value)}
    assert left
    starts = [row for row in left.values() if row.kind == ActionKind.START_REPLICA]
    # The next process finds the cluster as it was saved, and asks for each of them again, once.
    again = story.crashed()
    asked = [action.id for action in again.wire.asked]
    assert sorted(asked) == sorted(left)
    assert again.cluster.engine.replicas == alive + len(starts)
    rows = {row.id: row.status for row in again.rows(ActionRow)}
    assert all(rows[identifier] in ("accepted", "confirmed", "refused") for identifier in left)
    # It goes on with the next number, and the same need is not met twice.
    last = max(row.id for row in again.plan_rows())
    again.until(again.now + MINUTE)
    assert all(row.id > last for row in again.plan_rows() if row.made_at.timestamp() > T0 + story.now)
    per_id = Counter(action.id for action in again.wire.asked)
    assert set(per_id.values()) == {1}
    again.until(45 * MINUTE)
    assert again.store.unfinished_actions() == ()


def test_a_restart_changes_nothing(begin) -> None:
    story = begin().until(20 * MINUTE)
    fleet = story.fleet()
    again = story.crashed()
    again.until(again.now + 5 * MINUTE)
    # The window starts anew: what is there is held.
    assert again.fleet().total() >= fleet.total()
    releases = [
        row for row in again.actions(ActionKind.RELEASE_REPLICA) if row.requested_at.timestamp() > T0 + story.now
    ]
    assert len(releases) <= 1


def test_the_old_process_can_write_no_more(begin) -> None:
    story = begin().until(5 * MINUTE)
    story.crashed()
    with pytest.raises(LeaseLost):
        story.until(6 * MINUTE)
