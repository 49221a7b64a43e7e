"""The cap can't carry all: the steps that were agreed are taken, and what asks first is asked."""

import numpy as np
import pytest

from models.enums import IntentKind, IntentStatus, LedgerKind, Limit
from tests.scenarios.conftest import HOUR, MINUTE

VARIANTS = {"draft": {"speed_factor": 2.0, "quality": "fewer steps"}}
ORDER = [
    "background",
    {"tier": "standard", "use": "draft"},
    "standard",
    {"relax_cap_percent": 50, "minutes": 20},
    "premium",
]


def test_a_relaxed_cap_is_approved_by_hand_and_ends_by_itself(begin) -> None:
    story = begin(1.0, 6.0, 5.0, cap=4.4, variants=VARIANTS, degrade=ORDER)
    early = story.ask(IntentKind.APPROVE_RELAXATION)
    story.until(30 * MINUTE)
    assert story.intent(early).status == IntentStatus.REFUSED
    assert "nobody gives way" in story.intent(early).status_reason
    assert story.plan.shed and story.plan.bound.limit is Limit.SPEND_CAP
    assert "in force: background" in story.plan.bound.text

    asked = story.ask(IntentKind.APPROVE_RELAXATION)
    story.until(31 * MINUTE)
    assert story.intent(asked).status == IntentStatus.APPLIED, story.intent(asked).status_reason
    assert "the cap is $6.60/h until" in story.intent(asked).status_reason
    assert story.ticks[-1].seen.envelope.spend_cap_usd_per_hour == pytest.approx(6.6)
    story.until(52 * MINUTE)
    assert story.ticks[-1].seen.envelope.spend_cap_usd_per_hour == pytest.approx(4.4)
    entries = [entry.what for entry in story.ledger(LedgerKind.OVERRIDE)]
    assert any("Relaxed cap on images until" in what and "$6.60/h" in what for what in entries)
    assert entries[-1] == "Relaxed cap on images ended"


def test_a_relaxed_cap_leaves_a_freeze_in_force(begin) -> None:
    story = begin(1.0, 6.0, 5.0, cap=4.4, degrade=ORDER, variants=VARIANTS).until(10 * MINUTE)
    story.ask(IntentKind.APPROVE_RELAXATION)
    story.ask(IntentKind.OVERRIDE, kind="freeze", minutes=30)
    story.until(11 * MINUTE)
    assert {each.kind.value for each in story.ticks[-1].seen.overrides} == {"relax_cap", "freeze"}


def test_no_cap_is_relaxed_but_by_the_envelopes_own_step(begin) -> None:
    story = begin(1.0, 6.0, 5.0, cap=4.4).until(5 * MINUTE)
    approval = story.ask(IntentKind.APPROVE_RELAXATION)
    by_hand = story.ask(IntentKind.OVERRIDE, kind="relax_cap", minutes=30)
    story.until(6 * MINUTE)
    assert "has no step that relaxes the cap" in story.intent(approval).status_reason
    assert story.intent(by_hand).status == IntentStatus.REFUSED


def test_a_variant_serves_its_tier_while_its_step_is_in_force(begin) -> None:
    story = begin(1.0, 6.0, 3.0, cap=3.0, variants=VARIANTS, degrade=ORDER).until(40 * MINUTE)
    assert "standard:draft" in story.plan.shed
    assert story.cluster.engine.a.tier["factor"].tolist() == [1.0, 2.0, 1.0]
    assert "standard:draft" in story.plan_rows()[-1].shed
    rows = story.cluster.engine.a.request[: story.cluster.engine.arrived]
    speed = story.cluster.engine.a.replica["speed"][rows["replica"]]
    faster = rows["work"] / (rows["finished"] - rows["started"]) / speed
    late = np.isfinite(rows["finished"]) & (rows["arrived"] > rows["arrived"][0] + 10 * MINUTE)
    assert np.median(faster[late & (rows["tier"] == 1)]) == pytest.approx(2.0)
    assert np.median(faster[late & (rows["tier"] == 0)]) == pytest.approx(1.0)
    assert story.now < HOUR
