"""Every view with data, empty and stale, through the router."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, select
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from models.intents import Intent

APP = Path(__file__).parents[2] / "dashboard" / "app.py"
VIEWS = ["fleet", "envelope", "what_if", "forecast", "scaling", "guardrails", "ledger"]


def opened(view: str, **query: str) -> AppTest:
    test = AppTest.from_file(str(APP), default_timeout=600)
    for name, value in query.items():
        test.query_params[name] = value
    test.run()
    if view != "fleet":
        test.switch_page(f"views/{view}.py")
        for name, value in query.items():
            test.query_params[name] = value
        test.run()
    return test


def html(test: AppTest) -> str:
    return "\n".join(str(block.proto.body) for block in test.get("html"))


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_with_data(view: str, database: Callable[..., Engine]) -> None:
    database(filled=True, wall=datetime.now(UTC) + timedelta(days=1))
    test = opened(view)
    assert not test.exception
    text = html(test)
    expected = {
        "fleet": ("Waiting time per tier", "Needs attention", "Premium wait"),
        "envelope": ("Targets", "Changes, v2 → v3"),
        "what_if": ("The same recorded requests", "Nothing has been replayed yet", "No replay has finished yet"),
        "forecast": ("All tiers, next day", "Under forecast p90", "Profile is demoted", "In the backtest"),
        "scaling": ("Pin images at 22", "Launch at 14:00"),
        "guardrails": ("no progress v1", "Job j-0003 was killed"),
        "ledger": ("Settlements", "Entries", "Saved against the shadow", "Regret against hindsight"),
    }[view]
    for words in expected:
        assert words.lower() in text.lower(), words
    assert "Simulated" in text and "Mon 25 Nov 2024 14:32 UTC" in text


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_of_a_fresh_database_says_so(view: str, database: Callable[..., Engine]) -> None:
    database()
    test = opened(view)
    assert not test.exception
    text = html(test)
    assert "The controller has not started yet." in text
    assert "hd-empty" in text or "Nothing has been asked for yet" in text
    assert "nan" not in text.lower().replace("tenan", "")


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_on_stale_telemetry_says_so(view: str, database: Callable[..., Engine]) -> None:
    database(filled=True, wall=datetime.now(UTC) + timedelta(days=1), stale=True)
    test = opened(view)
    assert not test.exception
    assert "Telemetry is 6 min 10 s old." in html(test)


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_without_a_controller_says_so(view: str, database: Callable[..., Engine]) -> None:
    database(filled=True, silent_s=94)
    test = opened(view)
    assert not test.exception
    assert "The controller has not reported for " in html(test)


def test_the_page_says_when_the_trace_repeats(database: Callable[..., Engine]) -> None:
    database(filled=True, wall=datetime.now(UTC) + timedelta(days=1), repeats=2)
    assert "its last week repeats" in html(opened("fleet"))


def test_a_missing_database_is_a_page_not_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEDDLE_DATABASE_URL", f"sqlite:///{tmp_path}/none.db")
    test = opened("fleet")
    assert not test.exception
    assert "There is no database yet" in html(test)


def test_what_a_tenant_wrote_is_shown_not_run(database: Callable[..., Engine]) -> None:
    database(filled=True, wall=datetime.now(UTC) + timedelta(days=1))
    assert "<b>nightly" not in html(opened("guardrails"))


def test_a_decision_opens_by_its_address(database: Callable[..., Engine]) -> None:
    database(filled=True, wall=datetime.now(UTC) + timedelta(days=1))
    text = html(opened("scaling", plan="p-000037"))
    assert "Timeline" in text and "Binding limit" in text and "Options considered" in text
    assert "fencing epoch 3" in text


def test_a_job_that_ended_burns_nothing_and_leads_nowhere(database: Callable[..., Engine]) -> None:
    database(filled=True, wall=datetime.now(UTC) + timedelta(days=1))
    jobs = opened("guardrails").dataframe[0].value.set_index("id")
    assert jobs.loc["j-0002", ["burn", "ahead"]].notna().all()
    assert jobs.loc["j-0003", ["burn", "ahead"]].isna().all()
    assert jobs.loc["j-0003", "cost_usd"] == 9.62


def test_fleet_has_an_address_by_name(database: Callable[..., Engine]) -> None:
    database(filled=True, wall=datetime.now(UTC) + timedelta(days=1))
    test = AppTest.from_file(str(APP), default_timeout=600)
    test._page_hash = calc_hash("fleet")  # what the browser asks for at /fleet
    text = html(test.run())
    assert not test.exception
    assert "Waiting time per tier" in text and "Needs attention" in text


def test_an_unknown_decision_is_said(database: Callable[..., Engine]) -> None:
    database(filled=True, wall=datetime.now(UTC) + timedelta(days=1))
    assert "There is no decision p-999999" in html(opened("scaling", plan="p-999999"))


def test_a_negative_cap_is_refused_in_the_form(database: Callable[..., Engine]) -> None:
    database(filled=True, wall=datetime.now(UTC) + timedelta(days=1))
    test = opened("envelope")
    test.number_input(key="env-0-cap").set_value(-5.0).run()
    text = html(test)
    assert "Must be above $0, not -5" in text and "Nearest feasible" in text
    assert test.button(key="env-review").disabled


def test_a_changed_cap_may_be_reviewed_and_discarded(database: Callable[..., Engine]) -> None:
    database(filled=True, wall=datetime.now(UTC) + timedelta(days=1))
    test = opened("envelope")
    assert test.button(key="env-review").disabled
    test.number_input(key="env-0-cap").set_value(45.0).run()
    assert "$45.00/h" in html(test) and not test.button(key="env-review").disabled
    test.button(key="env-discard").click().run()
    assert test.button(key="env-review").disabled


def test_a_demo_control_writes_an_intent(database: Callable[..., Engine]) -> None:
    engine = database(filled=True, wall=datetime.now(UTC) + timedelta(days=1))
    test = opened("fleet")
    test.button(key="demo-runaway").click().run()
    assert not test.exception
    with Session(engine) as session:
        newest = session.exec(select(Intent).order_by(Intent.id.desc())).first()  # type: ignore[union-attr]
        assert newest is not None and (newest.kind, newest.author) == ("demo_runaway", "tester")
    assert any("Runaway asked for" in toast.value for toast in test.toast)


def test_a_demo_control_takes_what_was_set_in_the_same_moment(database: Callable[..., Engine]) -> None:
    engine = database(filled=True, wall=datetime.now(UTC) + timedelta(days=1))
    test = opened("fleet")
    # Both reach the page in one run: no run in between has drawn the new number.
    test.number_input(key="demo-factor").set_value(9.0)
    test.button(key="demo-surge").click().run()
    assert not test.exception
    with Session(engine) as session:
        newest = session.exec(select(Intent).order_by(Intent.id.desc())).first()  # type: ignore[union-attr]
        assert newest is not None and newest.payload == {"factor": 9.0, "minutes": 20}


def test_the_range_is_kept_in_the_address(database: Callable[..., Engine]) -> None:
    database(filled=True, wall=datetime.now(UTC) + timedelta(days=1))
    test = opened("fleet", range="6h")
    assert test.session_state["range"] == "6h"


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_short(view: str) -> None:
    assert len((APP.parent / "views" / f"{view}.py").read_text().splitlines()) < 150
