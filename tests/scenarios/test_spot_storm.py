"""Spot zones are lost: one, in part, and all at once."""

from models.enums import ActionStatus, LedgerKind
from tests.backends.small_world import T0, zone
from tests.scenarios.conftest import MINUTE, SPOT


def test_all_zones_are_lost_at_once(begin) -> None:
    # Both zones fall at minute 30 and come back at minute 50.
    gone = zone((0, -1), (1800, 0), (3000, -1))
    story = begin(zones={"z1": gone, "z2": gone}).until(27 * MINUTE)
    assert sum(story.fleet()[offer] for offer in SPOT) >= 3
    base = story.on_demand()
    assert base >= 1.5
    # The notice comes two minutes ahead, and the plan answers it at the next tick, on demand.
    story.until(28 * MINUTE + 30)
    kinds = [entry.what for entry in story.ledger(LedgerKind.INTERRUPTION)]
    assert kinds
    assert story.on_demand() > base
    # When the zones go, what stands on demand is all there is, and carries the first tier.
    story.until(30 * MINUTE + 15)
    assert not any(story.fleet()[offer] for offer in SPOT)
    story.until(50 * MINUTE)
    assert story.waits(0, 28 * MINUTE, 50 * MINUTE).mean() < 0.2
    # Nothing was started in a zone that had just said no, again and again.
    refused = {row.plan_id for row in story.actions() if row.detail.startswith("no spot capacity")}
    assert len(refused) <= 12
    # They come back, and the fleet after them.
    story.until(75 * MINUTE)
    assert sum(story.fleet()[offer] for offer in SPOT) >= 2
    # Whoever was interrupted was served in the end.
    rows = story.cluster.engine.a.request[: story.cluster.engine.arrived]
    early = rows[rows["arrived"] < T0 + 50 * MINUTE]
    assert not any(early["finished"] != early["finished"])


def test_a_start_that_is_refused_falls_back_in_the_next_plan(begin) -> None:
    # Spot is empty from the first moment.
    story = begin(zones={"z1": zone((0, 0)), "z2": zone((0, 0))}).until(5 * MINUTE)
    first = [row for row in story.actions() if row.status == ActionStatus.REFUSED]
    assert first
    assert all("no spot capacity in z" in row.detail for row in first)
    assert story.on_demand() >= 6
    # A market that has just said no is not asked at every tick.
    story.until(20 * MINUTE)
    plans_with_refusals = {row.plan_id for row in story.actions() if row.status == ActionStatus.REFUSED}
    assert len(plans_with_refusals) <= 6


def test_a_zone_that_loses_a_part_keeps_the_rest(begin) -> None:
    # Zone 1 holds ten and then two; zone 2 is never there.
    story = begin(zones={"z1": zone((0, 10), (1800, 2)), "z2": zone((0, 0))}).until(28 * MINUTE - 15)
    before = story.fleet()["g5.xlarge/z1/spot"]
    assert before > 2
    story.until(36 * MINUTE)
    assert story.fleet()["g5.xlarge/z1/spot"] == 2
    # Those two are the same as before: nobody let them go to start others.
    rows = story.cluster.engine.a.replica[: story.cluster.engine.replicas]
    alive = [row for row in rows if row["ended"] != row["ended"] and row["zone"] == 0]
    assert all(row["requested"] < T0 + 28 * MINUTE for row in alive)
