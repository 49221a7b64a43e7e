"""Hours are settled against what else could have been; a planner that loses steps back, and comes back when it wins."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import delete
from sqlmodel import Session

from controller.store.convert import moment
from models.enums import ActionKind, IntentKind, IntentStatus, LedgerKind, Limit
from models.ledger import DecisionSettlement, Settlement
from models.telemetry import DemandMinute
from tests.backends.small_world import ON_DEMAND, T0
from tests.scenarios.conftest import HOUR, MINUTE, Persistence


def hours(story) -> list[Settlement]:
    return sorted(story.rows(Settlement), key=lambda row: row.hour)


class Exaggerating(Persistence):
    """A forecaster made bad on purpose: it says fifteen times what comes."""

    def forecast(self, service: str, loads: Mapping[str, Any], now_s: float) -> Mapping[Any, Any]:
        honest = super().forecast(service, loads, now_s)
        return {key: replace(each, values=15 * each.values) for key, each in honest.items()}


def test_an_hour_is_settled_beside_a_shadow_and_hindsight(begin) -> None:
    story = begin(1.5, 3.0, 1.5).until(HOUR + MINUTE)
    (row,) = hours(story)
    bill = story.cluster.state().hours[0]
    # The model bills the fleet that was there as the cluster does; jobs are none of its business.
    assert row.fleet_usd == pytest.approx(bill.replicas_usd, rel=1e-6)
    assert row.usd == pytest.approx(bill.replicas_usd + bill.jobs_usd)
    assert row.unknown_minutes == 0 and row.slo_minutes is not None and row.planner_led
    assert (row.planned_usd, row.would_save_usd) == (row.fleet_usd, 0.0)
    total = {name: getattr(row, f"{name}_usd") + getattr(row, f"{name}_miss_usd") for name in ("fleet", "shadow")}
    assert row.saved_usd == pytest.approx(total["shadow"] - total["fleet"])
    assert row.regret_usd > 0
    (entry,) = story.ledger(LedgerKind.SETTLEMENT)
    assert "against the shadow HPA" in entry.what and "the shadow holds g6e.xlarge" in entry.why
    # Each decision has its part, and the parts are the hour.
    parts = story.rows(DecisionSettlement)
    assert {part.plan_id for part in parts} <= {plan.id for plan in story.plan_rows()}
    assert sum((part.to_at - part.from_at).total_seconds() for part in parts) == HOUR
    for name in ("fleet_usd", "shadow_usd", "saved_usd", "regret_usd"):
        assert sum(getattr(part, name) for part in parts) == pytest.approx(getattr(row, name))


def test_minutes_that_nobody_measured_leave_the_hour_unknown(begin) -> None:
    story = begin().until(50 * MINUTE)
    with Session(story.database) as session:
        lost = delete(DemandMinute).where(DemandMinute.at >= moment(T0 + 20 * MINUTE))
        session.exec(lost.where(DemandMinute.at < moment(T0 + 32 * MINUTE)))
        session.commit()
    story.until(HOUR + MINUTE)
    (row,) = hours(story)
    assert row.unknown_minutes == 12 and row.usd > 0
    assert (row.slo_minutes, row.saved_usd, row.regret_usd, row.shadow_usd, row.fleet_usd) == (None,) * 5
    assert "12 of 60 minutes were not measured" in row.notes
    assert all(part.saved_usd is None for part in story.rows(DecisionSettlement))


def test_in_advise_nothing_is_touched_and_what_it_would_have_saved_is_settled(begin) -> None:
    # Twenty replicas for a load of six. Before Heddle can let them go it may only advise.
    story = begin(1.5, 3.0, 1.5)
    for _ in range(12):
        story.cluster.start(story.cluster.site.offers[0].id, ready_at_once=True)
    asked = story.ask(IntentKind.SET_MODE, mode="advise")
    story.until(2 * HOUR + MINUTE)
    assert story.intent(asked).status == IntentStatus.APPLIED
    assert story.wire.asked == [] and story.actions() == []
    row = hours(story)[-1]
    assert row.mode == "advise" and row.planned_usd < row.fleet_usd and row.would_save_usd > 5.0
    told = [entry.what for entry in story.ledger(LedgerKind.DECISION)]
    assert told and all(each.startswith(("Would go", "Would keep")) for each in told)
    newest = story.plan_rows()[-1]
    # On demand would make room for spot at less than half the price.
    assert newest.mode == "advise" and newest.would_change[ON_DEMAND.id] < 0
    # Let go, it does.
    story.ask(IntentKind.SET_MODE, mode="act")
    story.until(2 * HOUR + 5 * MINUTE)
    assert {action.kind for action in story.wire.asked} >= {ActionKind.START_REPLICA}
    assert [entry.what for entry in story.ledger(LedgerKind.MODE)] == ["Mode act → advise", "Mode advise → act"]


def test_in_observe_decisions_are_noted_and_no_advice_is_given(begin) -> None:
    story = begin(1.5, 3.0, 1.5)
    story.ask(IntentKind.SET_MODE, mode="observe")
    story.until(30 * MINUTE)
    assert story.wire.asked == []
    told = [entry.what for entry in story.ledger(LedgerKind.DECISION)]
    assert told and all(each.startswith("Noted:") for each in told)


def test_a_planner_that_loses_steps_back_and_returns_when_its_plans_win(begin) -> None:
    story = begin(1.5, 3.0, 1.5, step_back_hours=2)
    story.requests(2 * HOUR, 6 * HOUR, 1.5, 3.0, 1.5, seed=3)
    story.ports.forecasts = Exaggerating()
    story.until(2 * HOUR - 1)
    fleet = story.size()
    # The second hour closes: two hours of a fleet for what never came are enough.
    story.until(2 * HOUR + 10 * MINUTE)
    first, second = hours(story)
    assert first.saved_usd < 0 and second.saved_usd < 0
    (entry,) = story.ledger(LedgerKind.MODE)
    assert entry.what == "The planner stepped back: the reactive net leads"
    assert entry.numbers["planner_usd"] > 1.1 * entry.numbers["shadow_usd"]
    # The net goes by the recent load, and says so; what the planner would hold is kept beside it.
    assert story.size() < fleet / 2
    assert story.plan.reasons[0].limit is Limit.FORECAST and "stepped back" in story.plan.reasons[0].text
    assert sum((story.plan.would_by_offer or {}).values()) > story.plan.desired
    # As long as it exaggerates, its plans would lose, and the net goes on leading.
    story.until(4 * HOUR + MINUTE)
    third = hours(story)[2]
    assert not third.planner_led and third.planned_usd > third.fleet_usd and third.would_save_usd < 0
    assert len(story.ledger(LedgerKind.MODE)) == 1
    # A restart forgets none of it.
    story = story.crashed()
    assert not story.ports.record.authority().leads
    # With an honest forecaster its plans win two hours, and it leads again.
    story.until(6 * HOUR + 2 * MINUTE)
    entry = story.ledger(LedgerKind.MODE)[-1]
    assert entry.what == "The planner leads again"
    assert entry.numbers["planner_usd"] <= entry.numbers["shadow_usd"]
    assert story.plan.would_by_offer is None and story.ports.record.authority().leads


def test_hours_under_an_operators_hand_say_nothing_of_the_planner(begin) -> None:
    story = begin(1.5, 3.0, 1.5, step_back_hours=1)
    story.ask(IntentKind.OVERRIDE, kind="pin", replicas=80, minutes=70)
    story.until(HOUR + 5 * MINUTE)
    (row,) = hours(story)
    assert row.overridden and row.saved_usd < 0
    assert story.ledger(LedgerKind.MODE) == [] and story.ports.record.authority().leads
