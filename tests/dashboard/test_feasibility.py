"""The Envelope page says whether a draft can be held, and asks for a signature where it can't."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session, col, delete, select
from streamlit.testing.v1 import AppTest

from models.intents import Intent
from models.plans import PlanRow
from models.prospects import ProspectRow
from models.services import EnvelopeVersion

from .conftest import document, prospect_row
from .test_views import html, opened


def envelope_page(database: Callable[..., Engine], **facts: object) -> tuple[AppTest, Engine]:
    """The page; `facts` change the prospect, `none=True` takes it away."""
    engine = database(filled=True, wall=datetime.now(UTC) + timedelta(days=1))
    if facts:
        with Session(engine) as session:
            session.exec(delete(ProspectRow))
            if "none" not in facts:
                session.add(prospect_row(**facts))
            session.commit()
    test = opened("envelope")
    assert not test.exception
    return test, engine


def test_the_draft_has_a_probability_a_frontier_and_facts(database: Callable[..., Engine]) -> None:
    text = html(envelope_page(database)[0])
    assert "All terms hold, next 24 h" in text and "over 99%" in text
    assert "What premium wait costs" in text and "Breaks first" in text and "cap for 90%" in text


def cap_of(test: AppTest) -> Any:
    return next(field for field in test.number_input if field.label == "Cap, $ an hour")


def test_a_cap_that_is_too_low_says_what_would_help(database: Callable[..., Engine]) -> None:
    test, _ = envelope_page(database)
    cap_of(test).set_value(7.0).run()
    text = html(test)
    assert "under 1%" in text and "Smallest change: Raise the cap to $" in text
    test.button(key="env-review").click().run()
    assert "Apply envelope v3?" in str(test.get("dialog")[0].proto.dialog.title)


def test_an_infeasible_draft_is_asked_for_only_with_a_signature(database: Callable[..., Engine]) -> None:
    engine = database(filled=True, wall=datetime.now(UTC) + timedelta(days=1))

    def script(document: dict[str, object]) -> None:
        from dashboard.components import confirm_envelope

        confirm_envelope.apply(document, 2)

    test = AppTest.from_function(script, default_timeout=600, kwargs={"document": document(7.0)}).run()
    test.text_input(key="env-reason").set_value("a poor month").run()
    assert test.button(key="do-env").disabled
    box = test.checkbox(key="env-signed")
    assert "I sign it, knowing that all terms hold over the next day with a probability of under 1%" in box.label
    box.check().run()
    test.button(key="do-env").click().run()
    assert not test.exception
    with Session(engine) as session:
        asked = session.exec(select(Intent).where(Intent.status == "pending")).one()
    assert asked.payload["signed"] is True and asked.payload["probability"] == 0.0


def test_steps_are_moved_put_in_and_taken_out(database: Callable[..., Engine]) -> None:
    test, _ = envelope_page(database)
    put = next(button for button in test.button if button.label.startswith("Cap 20% higher"))
    put.click().run()
    assert "Cap 20% higher for 1 h, asks first, then Background waits" in html(test)
    test.button(key="env-0-down-0").click().run()
    assert "Background waits, then Cap 20% higher for 1 h, asks first" in html(test)
    test.button(key="env-0-up-2").click().run()
    assert "standard would" not in html(test).lower()
    test.button(key="env-0-drop-2").click().run()
    assert test.button(key="env-review").disabled and not test.exception


def test_who_gives_way_is_shown_and_the_cap_can_be_relaxed(database: Callable[..., Engine]) -> None:
    engine = database(filled=True, wall=datetime.now(UTC) + timedelta(days=1))
    with Session(engine) as session:
        newest = session.exec(select(PlanRow).order_by(col(PlanRow.made_at).desc())).first()
        assert newest is not None
        newest.shed = ["background"]
        version = session.exec(select(EnvelopeVersion).order_by(col(EnvelopeVersion.version).desc())).first()
        assert version is not None
        steps = ["background", {"relax_cap_percent": 20, "minutes": 60}, "standard", "premium"]
        version.document = {**version.document, "degrade": steps}
        session.add_all([newest, version])
        session.commit()
    test = opened("envelope")
    assert "Giving way now" in html(test)
    test.button(key="env-relax").click().run()
    assert "Relax the spend cap?" in str(test.get("dialog")[0].proto.dialog.title)
    assert not test.exception


def test_the_change_that_is_offered_becomes_the_draft(database: Callable[..., Engine]) -> None:
    test, _ = envelope_page(database)
    cap_of(test).set_value(7.0).run()
    test.button(key="env-use-spend_cap_usd_per_hour").click().run()
    assert not test.exception
    assert cap_of(test).value > 7
    assert "Smallest change" not in html(test)


def test_without_a_prospect_nothing_is_claimed(database: Callable[..., Engine]) -> None:
    text = html(envelope_page(database, none=True)[0])
    assert "Unknown: the controller has not looked a day ahead yet." in text and "No frontier yet" in text


def test_without_a_forecast_or_an_offer_nothing_is_claimed(database: Callable[..., Engine]) -> None:
    assert "Unknown: there is no forecast of the next day yet." in html(envelope_page(database, loads=None)[0])


def test_without_an_offer_nothing_is_claimed(database: Callable[..., Engine]) -> None:
    assert "Unknown: no offer can be bought at a known price." in html(envelope_page(database, offers=())[0])


def test_an_old_prospect_is_not_judged_by(database: Callable[..., Engine]) -> None:
    text = html(envelope_page(database, now_s=datetime(2024, 11, 25, 9, tzinfo=UTC).timestamp())[0])
    assert "the last look ahead is more than three hours old" in text
