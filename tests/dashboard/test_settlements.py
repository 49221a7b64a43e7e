"""The account of a range: known hours are added up, unknown ones are counted, and nothing is made of nothing."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, select

from dashboard import intents
from dashboard.components import confirm_mode, settlements, strip
from dashboard.components.decision import part_html, would_html
from dashboard.queries import plans, records
from dashboard.queries.standing import read_standing
from models.fleet import ControllerPulse
from models.intents import Intent
from models.ledger import DecisionSettlement, Settlement
from models.plans import PlanRow
from models.services import Service

from .conftest import NOW, beside


@pytest.fixture
def engine(database: Callable[..., Engine]) -> Engine:
    return database(filled=True, wall=datetime.now(UTC) + timedelta(days=1))


def write(engine: Engine, change: Callable[[Session], None]) -> None:
    with Session(engine) as session:
        change(session)
        session.commit()
    read_standing.clear()
    records.read_settlements.clear()
    plans.read_decision.clear()


def test_totals_are_of_the_hours_that_can_be_compared(engine: Engine) -> None:
    found = records.read_settlements(24)
    known = settlements.compared(found)
    assert len(found) - len(known) == 1
    html = settlements.totals_html(found, "act")
    assert f"{len(found)} closed hours, " in html and "SLO-min measured" in html
    # Two SLO-minutes an hour against the shadow's twenty.
    assert f"{2 * len(known)} SLO-min" in html and f"{20 * len(known)} SLO-min" in html
    assert (
        f"1 hour of {len(found)} can&#x27;t be compared: 9 minutes were not measured. The sums leave them out."
        in settlements.unknown_html(found)
    )
    assert settlements.unknown_html(settlements.compared(found).head(3)) == ""


def test_hours_that_were_never_settled_are_counted(engine: Engine) -> None:
    found = settlements.compared(records.read_settlements(24)).head(6)
    assert "2 hours closed while no controller ran." in settlements.unknown_html(found.drop(found.index[2:4]))


def test_where_nothing_can_be_compared_nothing_is_claimed(engine: Engine) -> None:
    found = records.read_settlements(24)
    found[[name for name in found if name.startswith(("fleet_", "shadow_", "hindsight_"))]] = float("nan")
    found[["saved_usd", "regret_usd", "slo_minutes"]] = float("nan")
    html = settlements.totals_html(found, "act")
    assert "$0" not in html.replace(f"${found['usd'].sum():,.0f}", "")
    assert html.count("—") >= 5


def test_hours_not_acted_in_say_what_would_have_been_saved(engine: Engine) -> None:
    def advise(session: Session) -> None:
        for row in session.exec(select(Settlement)):
            row.mode, row.would_save_usd = "advise", None if row.saved_usd is None else 1.25

    write(engine, advise)
    found = records.read_settlements(24)
    known = len(settlements.compared(found))
    html = settlements.totals_html(found, "advise")
    assert "The fleet that was there" in html
    assert f"+${1.25 * known:.2f}" in html and f"{known} hours not acted in" in html


def test_a_planner_that_stepped_back_is_said_on_the_badge_and_on_the_page(engine: Engine) -> None:
    assert strip.badge(read_standing()) == ("Act", "smart_toy")
    why = "the planner stepped back to the reactive net: $600.00 against the shadow's $500.00"

    def lose(session: Session) -> None:
        newest = session.exec(select(Settlement).order_by(Settlement.hour.desc())).first()  # type: ignore[attr-defined]
        assert newest is not None
        newest.authority = {"leads": False, "reason": why, "numbers": {}}

    write(engine, lose)
    standing = read_standing()
    assert strip.badge(standing)[0] == "Act, planner stepped back"
    assert "The reactive net leads." in settlements.authority_html(standing)


def part(fleet: float) -> DecisionSettlement:
    hour = NOW.replace(minute=0, second=0)
    row = DecisionSettlement(
        service="images", plan_id="p-000037", hour=hour, from_at=NOW, to_at=NOW + timedelta(minutes=12), **beside(fleet)
    )
    return row


def test_a_decision_shows_its_own_part(engine: Engine) -> None:
    write(engine, lambda session: session.add(part(3.0)))
    decision = plans.read_decision("p-000037")
    assert decision is not None
    html = part_html(decision)
    assert "Its own 12 min" in html and "+$8.40 saved against the shadow, $2.50 of regret" in html
    assert "As the planner decided" not in html


def test_a_part_with_an_unknown_hour_is_unknown(engine: Engine) -> None:
    def both(session: Session) -> None:
        later = part(3.0)
        later.hour, later.shadow_usd, later.saved_usd = later.hour + timedelta(hours=1), None, None
        session.add_all([part(3.0), later])

    write(engine, both)
    decision = plans.read_decision("p-000037")
    assert decision is not None and "Its own 24 min" in part_html(decision)
    assert "— saved against the shadow, $5.00 of regret" in part_html(decision)


def test_advice_says_what_it_would_start_and_an_observation_gives_none(engine: Engine) -> None:
    def passive(mode: str) -> Callable[[Session], None]:
        def change(session: Session) -> None:
            row = session.exec(select(PlanRow).where(PlanRow.id == "p-000037")).one()
            row.mode, row.would_change = mode, {"g5.xlarge/usw2-az1/spot": 2, "g6.xlarge/usw2-az2/spot": -1}

        return change

    write(engine, passive("advise"))
    decision = plans.read_decision("p-000037")
    assert decision is not None
    assert "Would start" in would_html(decision) and "Would release" in would_html(decision)
    assert decision.title.startswith("Would hold images at")
    write(engine, passive("observe"))
    decision = plans.read_decision("p-000037")
    assert decision is not None and would_html(decision) == "" and decision.title.startswith("Noted for images")


def test_the_mode_is_the_services_below_the_processes(engine: Engine) -> None:
    def below(session: Session) -> None:
        service = session.exec(select(Service)).one()
        service.mode, service.mode_author, service.mode_reason, service.mode_at = "advise", "ana", "first week", NOW

    write(engine, below)
    standing = read_standing()
    assert (standing.mode, standing.ceiling) == ("advise", "act")
    assert confirm_mode.who(standing) == "ana, 25 Nov 14:32:10 UTC: First week."

    def started_lower(session: Session) -> None:
        session.exec(select(ControllerPulse)).one().mode = "observe"

    write(engine, started_lower)
    standing = read_standing()
    assert (standing.mode, standing.ceiling) == ("observe", "observe")
    with pytest.raises(ValueError, match="started in mode observe"):
        intents.set_mode(confirm_mode.Mode.ADVISE, "more")


def test_a_mode_is_asked_for_with_a_reason(engine: Engine) -> None:
    number = intents.set_mode(confirm_mode.Mode.OBSERVE, "look on for a week")
    with Session(engine) as session:
        intent = session.exec(select(Intent).where(Intent.id == number)).one()
    assert (intent.kind, intent.service, intent.payload) == ("set_mode", "images", {"mode": "observe"})
    rows = dict(confirm_mode.rows_of(read_standing(), confirm_mode.Mode.OBSERVE))
    assert rows["Now"].startswith("Act.") and rows["Then"].startswith("Observe.")
    assert rows["Set by"] == "the controller's own mode, HEDDLE_MODE"
