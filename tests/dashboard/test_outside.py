"""Events and signals on the Forecast page: seen, entered, cancelled, uploaded."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, select
from streamlit.testing.v1 import AppTest

from controller.core.forecast.standing import demotion
from dashboard import charts, figures, intents
from dashboard.components.signals import gain, used_for, why
from dashboard.queries import outside
from dashboard.queries.standing import read_standing
from models.forecasts import ForecastParameters
from models.intents import Intent
from models.signals import EventRow, SignalRow, SignalValue

from .conftest import NOW
from .test_views import html, opened

DAY = timedelta(days=1)


def at_now() -> datetime:
    return NOW.replace(minute=0, second=0, microsecond=0)


def add(engine: Engine, *rows: Any) -> None:
    with Session(engine) as session:
        session.add_all(rows)
        session.commit()


def event(name: str, days: float, factor: float | None = None, **more: Any) -> EventRow:
    start = at_now() + days * DAY
    return EventRow(
        service="images",
        name=name,
        kind="campaign",
        starts_at=start,
        ends_at=start + DAY,
        factor=factor,
        author="ana",
        reason="spring <b>sale</b>",
        created_at=start,
        **more,
    )


def signal(engine: Engine, name: str, hours_old: float, stale_h: float = 3.0) -> None:
    row = SignalRow(
        service="images", name=name, unit="orders", stale_after_s=stale_h * 3600, author="ana", created_at=at_now()
    )
    add(engine, row)
    with Session(engine) as session:
        number = session.exec(select(SignalRow.id).where(SignalRow.name == name)).one()
    assert number is not None
    newest = at_now() - timedelta(hours=hours_old)
    add(
        engine,
        *(
            SignalValue(signal_id=number, at=newest - timedelta(hours=hours), value=1.0, revision=1)
            for hours in range(48)
        ),
    )


def newest_intent(engine: Engine) -> Intent:
    with Session(engine) as session:
        found = session.exec(select(Intent).order_by(Intent.id.desc())).first()  # type: ignore[union-attr]
        assert found is not None
        return found


def dialog(which: str, **facts: Any) -> AppTest:
    """One dialog alone: the page opens it in a whole run of its own, which the next whole run here would close."""

    def script(which: str, facts: dict[str, object]) -> None:
        from dashboard.components import confirm_outside

        getattr(confirm_outside, which)(**facts)

    return AppTest.from_function(script, default_timeout=600, kwargs={"which": which, "facts": facts}).run()


@pytest.mark.parametrize(
    ("key", "title"),
    [
        ("fc-event-add", "Add an event?"),
        ("fc-event-cancel", "Cancel Black Friday?"),
        ("fc-signal-add", "Upload a signal?"),
        ("fc-signal-remove", "Remove bookings?"),
    ],
)
def test_every_button_opens_its_dialog(engine: Engine, key: str, title: str) -> None:
    add(engine, event("Black Friday", 2))
    signal(engine, "bookings", 1.0)
    test = opened("forecast")
    test.button(key=key).click().run()
    assert not test.exception
    assert title in str(test.get("dialog")[0].proto.dialog.title)


@pytest.fixture
def engine(database: Callable[..., Engine]) -> Engine:
    return database(filled=True, wall=datetime.now(UTC) + timedelta(days=1))


def test_without_any_the_page_says_how_to_begin(engine: Engine) -> None:
    text = html(opened("forecast"))
    assert "No event is known" in text and "Enter campaigns" in text
    assert "No signal yet" in text and "POST /v1/signals/{name}" in text


def test_events_ahead_and_past_are_listed_and_escaped(engine: Engine) -> None:
    add(engine, event("Black Friday", 2), event("Launch", -5, 2.5), event("Dropped", 3, cancelled_at=at_now()))
    test = opened("forecast")
    assert not test.exception
    text = html(test)
    assert text.index("Black Friday") < text.index("Launch")
    assert "Unknown size" in text and "×2.5" in text and "Past" in text
    assert "Dropped" not in text
    assert "<b>sale" not in text


def test_an_event_is_shaded_on_the_chart(engine: Engine) -> None:
    add(engine, event("Black Friday", 0.5), event("Far", 50))
    now = read_standing().now
    (span,) = outside.spans(now - DAY, now + DAY)
    assert span[2] == "Black Friday"
    load = outside.pd.Series(dtype=float)
    paths = outside.pd.DataFrame()
    figure = charts.forecast(load, paths, since=now - DAY, now=now, until=now + DAY, keep="k", events=[span])
    assert any(shape.get("fillcolor") == "@accent/0.08" for shape in figure.layout["shapes"])
    assert any("Black Friday" in str(note) for note in figure.layout["annotations"])


def test_names_of_events_that_begin_together_stand_below_one_another() -> None:
    now = datetime(2024, 11, 27, 10, tzinfo=UTC)
    events = [
        (now, now + DAY, "Black Friday"),
        (now + DAY / 24, now + DAY, "Thanksgiving"),
        (now + DAY * 0.9, now + DAY, "Launch"),
    ]
    layout: dict[str, Any] = {"shapes": [], "annotations": []}
    figures.spans(layout, events, now - DAY, now + DAY)
    assert [note["yshift"] for note in layout["annotations"]] == [0, -15, 0]


def test_an_event_is_entered_by_the_dialog(engine: Engine) -> None:
    test = dialog("add_event")
    assert test.button(key="do-ev").disabled, "needs a name and a reason"
    test.text_input(key="ev-name").set_value("Black Friday")
    test.text_input(key="ev-reason").set_value("announced").run()
    assert "none of its kind is past" in html(test)
    test.button(key="do-ev").click().run()
    assert not test.exception
    intent = newest_intent(engine)
    assert (intent.kind, intent.service, intent.reason) == ("add_event", "images", "announced")
    assert (intent.payload["name"], intent.payload["kind"], intent.payload["factor"]) == (
        "Black Friday",
        "campaign",
        None,
    )
    starts, ends = (datetime.fromisoformat(intent.payload[name]) for name in ("starts_at", "ends_at"))
    assert starts.tzinfo is not None and ends - starts == DAY


def test_an_event_is_cancelled_only_when_confirmed(engine: Engine) -> None:
    add(engine, event("Black Friday", 2))
    test = dialog("cancel_event", event_id=1, name="Black Friday", size="Unknown size")
    assert test.button(key="do-evc").disabled
    test.text_input(key="evc-reason").set_value("postponed").run()
    test.button(key="do-evc").click().run()
    intent = newest_intent(engine)
    assert (intent.kind, intent.payload) == ("cancel_event", {"event_id": 1})


def test_a_signal_is_shown_with_its_age_and_verdicts(engine: Engine) -> None:
    signal(engine, "bookings", 1.0)
    signal(engine, "sentiment", 9.0)
    verdicts = [
        {"name": "bookings", "admitted": True, "gain": 0.062, "note": "pinball 1.6 without, 1.5 with: 6.2% better"},
        {"name": "sentiment", "admitted": False, "gain": None, "note": "signal sentiment is stale"},
    ]
    add(
        engine,
        ForecastParameters(
            service="images",
            tier="premium",
            step_s=3600,
            at=at_now(),
            leader="profile",
            payload={"schema": 1, "admissions": verdicts},
        ),
    )
    found = outside.read_signals().set_index("name")
    assert not found.loc["bookings", "stale"] and found.loc["sentiment", "stale"]
    test = opened("forecast")
    assert not test.exception
    text = html(test)
    assert "● Premium, next day, by hours, +6.2% pinball" in text
    assert "○ Not used in 1, not measured" in text
    assert "Fresh" in text and "Stale" in text and "stale after 3 h" in text


def test_the_reason_told_of_a_signal_is_of_its_greatest_gain() -> None:
    unmeasured = {"admitted": False, "gain": None, "note": "it is stale"}
    measured = {"admitted": False, "gain": 0.014, "note": "1.4% better, at least 2% is asked"}
    assert why([unmeasured, measured]) == "1.4% better, at least 2% is asked."
    assert why([unmeasured]) == "It is stale."


def test_a_demotion_is_said_once() -> None:
    stands = "seasonal_naive_24h serves: live pinball 0.8 over the last 6 h"
    assert demotion("combination", stands) == f"combination is demoted: {stands}"
    assert demotion("combination", f"combination is demoted, {stands}") == f"combination is demoted, {stands}"
    assert demotion("combination", "") == "combination is demoted"


def test_a_signal_is_uploaded_by_the_dialog(engine: Engine) -> None:
    test = dialog("add_signal")
    test.text_input(key="sg-name").set_value("bookings")
    test.text_input(key="sg-reason").set_value("the shop's bookings")
    stamp = (at_now() - timedelta(hours=3)).isoformat()
    _upload(test, f"at,value\n{stamp},4\n")
    test.run()
    assert not test.exception
    test.button(key="do-sg").click().run()
    intent = newest_intent(engine)
    assert intent.kind == "add_signal"
    assert intent.payload["name"] == "bookings" and intent.payload["stale_after_s"] == 3600
    assert intent.payload["points"] == [[datetime.fromisoformat(stamp).timestamp(), 4.0]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("at,value\nyesterday,4\n", "bookings.csv: row 2, column at: the time 'yesterday' can't be read; write it as"),
        ("at,value\n2124-11-25T06:00:00Z,4\n", "bookings.csv: value 1, column at: the time is"),
        ("time,value\n", "column at: no column has this name; the header has time, value; name the column of times at"),
    ],
)
def test_a_bad_file_is_refused_in_the_dialog(engine: Engine, text: str, said: str) -> None:
    test = dialog("add_signal")
    test.text_input(key="sg-name").set_value("bookings")
    test.text_input(key="sg-reason").set_value("the shop's bookings")
    _upload(test, text)
    test.run()
    assert any(said in error.value for error in test.error)
    assert test.button(key="do-sg").disabled


def _upload(test: AppTest, text: str) -> None:
    test.get("file_uploader")[0].upload("bookings.csv", text.encode(), "text/csv")  # type: ignore[attr-defined]


def test_a_signal_is_removed_only_when_confirmed(engine: Engine) -> None:
    signal(engine, "bookings", 1.0)
    test = dialog("remove_signal", name="bookings")
    test.text_input(key="sgr-reason").set_value("no longer sent").run()
    test.button(key="do-sgr").click().run()
    intent = newest_intent(engine)
    assert (intent.kind, intent.payload) == ("remove_signal", {"name": "bookings"})


def test_intents_refuse_what_could_never_hold(engine: Engine) -> None:
    now = at_now()
    with pytest.raises(ValueError, match="end after its beginning"):
        intents.add_event("a", "campaign", now, now, None, "r")
    with pytest.raises(ValueError, match="a name and a kind"):
        intents.add_event(" ", "campaign", now, now + DAY, None, "r")
    with pytest.raises(ValueError, match="needs values"):
        intents.add_signal("a", [], "r")


def test_words_of_a_verdict() -> None:
    assert (gain(None), gain(0.062), gain(-0.01)) == ("not measured", "+6.2% pinball", "−1.0% pinball")
    assert "Not judged yet" in used_for([], "a+b")
    assert why([]) == "The next selection of models judges it."
