"""What is known from outside, from the operator or sender to the forecaster."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from sqlmodel import Session, SQLModel, select

from controller.core.envelope import EnvelopeFacts
from controller.core.forecast.events import Event
from controller.core.points import KEPT_S, MOST_SIGNALS
from controller.core.types import Action, ActionResult
from controller.intake import Intake
from controller.lease import acquire, check_epoch
from controller.outside import READ_S, OutsideReader
from controller.store import Store
from controller.store.convert import moment
from controller.store.signals import TooManySignals
from models.database import open_engine
from models.enums import ActionStatus, IntentKind
from models.intents import Intent, new_intent
from models.ledger import LedgerEntry
from models.signals import EventRow, SignalRow, SignalValue

NOW = datetime(2024, 11, 25, 6, tzinfo=UTC).timestamp()
HOUR = 3600.0
DAY = 24 * HOUR
DOCUMENT = {
    "spend_cap_usd_per_hour": 50,
    "tier_salt": "a",
    "tiers": {"premium": {"tenants_percent": 100, "latency": {"of": "wait", "statistic": "mean", "target_ms": 200}}},
}


class Room:
    """The operators' side of the database, and a controller on the other."""

    def __init__(self, url: str) -> None:
        self.engine = open_engine(url)
        SQLModel.metadata.create_all(self.engine)
        self.epoch = acquire(self.engine, "test")
        self.store = Store(self.engine, lambda: self.epoch, check_epoch)
        self.store.seed("images", DOCUMENT, now_s=NOW - 600)
        self.intake = Intake(self.store, lambda service: EnvelopeFacts(("premium",), 8.0, 0.5), self.act)
        self.reader = OutsideReader(self.store)

    def act(self, action: Action) -> ActionResult:
        return ActionResult(action.id, ActionStatus.CONFIRMED, "")

    def hears(self, kind: IntentKind, payload: Any, service: str = "images", now_s: float = NOW) -> tuple[str, str]:
        intent = new_intent(
            kind, author="ana", reason="a launch", created_at=moment(now_s), service=service, payload=payload
        )
        with Session(self.engine) as session:
            session.add(intent)
            session.commit()
            number = intent.id
        self.intake.take(now_s)
        with Session(self.engine) as session:
            found = session.get(Intent, number)
            assert found is not None
            return found.status, found.status_reason

    def rows(self, model: type[Any]) -> list[Any]:
        with Session(self.engine) as session:
            return list(session.exec(select(model).order_by(*model.__table__.primary_key.columns)).all())

    def keeps(self, name: str, points: list[tuple[float, float]], now_s: float = NOW, **more: Any) -> None:
        facts = {"unit": "", "known_ahead": False, "stale_after_s": HOUR, "author": "ana", "reason": "r"} | more
        self.store.add_signal("images", name, tuple(points), now_s=now_s, **facts)


@pytest.fixture
def room(empty_database: str) -> Iterator[Room]:
    room = Room(empty_database)
    yield room
    room.engine.dispose()


def event(**changes: Any) -> dict[str, Any]:
    return {
        "name": "Black Friday",
        "kind": "Campaign",
        "starts_at": moment(NOW + DAY).isoformat(),
        "ends_at": moment(NOW + 2 * DAY).isoformat(),
        "factor": None,
        **changes,
    }


def upload(**changes: Any) -> dict[str, Any]:
    points = [[NOW - HOUR * number, float(number)] for number in range(5)]
    return {
        "name": "bookings",
        "unit": "orders",
        "known_ahead": False,
        "stale_after_s": 7200,
        "points": points,
        **changes,
    }


class TestEvents:
    def test_an_event_is_known_at_once_and_in_the_ledger(self, room: Room):
        before = room.reader.read("images", NOW)
        assert room.hears(IntentKind.ADD_EVENT, event()) == ("applied", "event 1 is entered, of unknown size")
        (found,) = room.reader.read("images", NOW).events
        assert found == Event("Black Friday", "campaign", NOW + DAY, NOW + 2 * DAY, None)
        assert before.events == ()
        entry = room.rows(LedgerEntry)[-1]
        assert (entry.kind, entry.actor, entry.why, entry.subject) == ("forecast", "ana", "a launch", "event 1")
        assert "Event Black Friday (campaign, unknown size)" in entry.what

    def test_a_cancelled_event_counts_no_longer_and_may_be_entered_again(self, room: Room):
        room.hears(IntentKind.ADD_EVENT, event(factor=2.5))
        assert room.hears(IntentKind.CANCEL_EVENT, {"event_id": 1})[0] == "applied"
        assert room.reader.read("images", NOW).events == ()
        assert room.rows(EventRow)[0].cancelled_why == "a launch"
        status, why = room.hears(IntentKind.CANCEL_EVENT, {"event_id": 1})
        assert status == "refused" and "was cancelled at 2024-11-25 06:00 UTC" in why
        assert room.hears(IntentKind.ADD_EVENT, event(factor=2.5))[0] == "applied"

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"ends_at": moment(NOW).isoformat()}, "ends_at must be after starts_at"),
            ({"ends_at": moment(NOW + 90 * DAY).isoformat()}, "31 days at most"),
            ({"starts_at": moment(NOW + 500 * DAY).isoformat(), "ends_at": moment(NOW + 501 * DAY).isoformat()}, "400"),
            (
                {"starts_at": moment(NOW - 71 * DAY).isoformat(), "ends_at": moment(NOW - 70 * DAY).isoformat()},
                "60 days",
            ),
            ({"starts_at": "tomorrow"}, "starts_at must be an ISO time"),
            ({"factor": -1}, "factor must be at least 0"),
            ({"factor": 1000}, "at most 20"),
            ({"factor": float("nan")}, "factor must be a number"),
            ({"name": " "}, "name must be a text"),
            ({"kind": "x" * 41}, "kind must be a text"),
        ],
    )
    def test_a_bad_event_is_refused_with_the_reason(self, room: Room, changes: dict[str, Any], why: str):
        status, reason = room.hears(IntentKind.ADD_EVENT, event(**changes))
        assert status == "refused" and why in reason
        assert room.rows(EventRow) == []

    def test_the_same_event_twice_and_another_service_are_refused(self, room: Room):
        room.hears(IntentKind.ADD_EVENT, event())
        assert "is entered already" in room.hears(IntentKind.ADD_EVENT, event())[1]
        assert "there is no service 'video'" in room.hears(IntentKind.ADD_EVENT, event(), service="video")[1]
        assert "has no event 7" in room.hears(IntentKind.CANCEL_EVENT, {"event_id": 7})[1]

    def test_a_new_controller_knows_them(self, room: Room):
        room.hears(IntentKind.ADD_EVENT, event())
        again = Store(room.engine, lambda: room.epoch, check_epoch)
        assert [each.name for each in OutsideReader(again).read("images", NOW).events] == ["Black Friday"]


class TestSignals:
    def test_an_upload_is_kept_and_leaves_the_intent(self, room: Room):
        status, reason = room.hears(IntentKind.ADD_SIGNAL, upload())
        assert (status, reason) == ("applied", "signal bookings: 5 new values, 0 changed, 0 known already")
        assert room.rows(Intent)[0].payload["points"] == 5
        (signal,) = room.reader.read("images", NOW).signals
        assert (signal.name, signal.known_ahead, signal.stale_after_s) == ("bookings", False, 7200)
        np.testing.assert_array_equal(signal.series.values, [4, 3, 2, 1, 0])
        assert signal.series.start_s == NOW - 4 * HOUR
        assert "5 new values" in room.rows(LedgerEntry)[-1].what

    def test_the_same_again_changes_nothing_and_a_correction_one_value(self, room: Room):
        room.hears(IntentKind.ADD_SIGNAL, upload())
        revision = room.rows(SignalRow)[0].revision
        assert "0 new values, 0 changed, 5 known" in room.hears(IntentKind.ADD_SIGNAL, upload())[1]
        assert room.rows(SignalRow)[0].revision == revision
        assert "0 new values, 1 changed, 0 known" in room.hears(IntentKind.ADD_SIGNAL, upload(points=[[NOW, 9]]))[1]
        assert len(room.rows(SignalValue)) == 5

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"points": [[NOW, float("nan")]]}, "not a finite number"),
            ({"points": [[NOW, True]]}, "points[0] must be a pair"),
            ({"points": [[NOW]]}, "points[0] must be a pair"),
            ({"points": "many"}, "points must be a list"),
            ({"points": []}, "there is no point"),
            ({"points": [[NOW + 3 * HOUR, 1]]}, "points[0], at: the time is 3.0 h ahead of now"),
            ({"name": "a b"}, "must be letters"),
            ({"unit": None}, "unit must be a text"),
            ({"stale_after_s": 1}, "stale_after_s must be at least 60"),
        ],
    )
    def test_a_bad_upload_is_refused_whole(self, room: Room, changes: dict[str, Any], why: str):
        status, reason = room.hears(IntentKind.ADD_SIGNAL, upload(**changes))
        assert status == "refused" and why in reason
        assert room.rows(SignalRow) == [] and room.rows(SignalValue) == []

    def test_a_removed_signal_is_forgotten(self, room: Room):
        room.hears(IntentKind.ADD_SIGNAL, upload())
        assert room.hears(IntentKind.REMOVE_SIGNAL, {"name": "bookings"}) == ("applied", "signal bookings is removed")
        assert room.rows(SignalValue) == []
        assert room.reader.read("images", NOW + READ_S).signals == ()
        assert "has no signal 'bookings'" in room.hears(IntentKind.REMOVE_SIGNAL, {"name": "bookings"})[1]

    def test_a_service_has_so_many_at_most(self, room: Room):
        for number in range(MOST_SIGNALS):
            room.keeps(f"s{number}", [(NOW, 1.0)])
        with pytest.raises(TooManySignals):
            room.keeps("one-more", [(NOW, 1.0)])
        assert "remove one first" in room.hears(IntentKind.ADD_SIGNAL, upload())[1]

    def test_old_values_are_pruned(self, room: Room):
        room.keeps("bookings", [(NOW, 1.0), (NOW + DAY, 2.0)])
        assert room.store.retention(NOW + KEPT_S + HOUR)["signal_value"] == 1
        assert [row.value for row in room.rows(SignalValue)] == [2.0]


class TestReader:
    def test_the_same_object_while_nothing_changes(self, room: Room):
        room.keeps("bookings", [(NOW - HOUR, 1.0), (NOW, 2.0)])
        first = room.reader.read("images", NOW)
        assert room.reader.read("images", NOW + 15) is first
        assert room.reader.read("images", NOW + 3 * READ_S) is first

    def test_what_was_pushed_is_known_within_a_minute(self, room: Room):
        room.keeps("bookings", [(NOW - 2 * HOUR, 1.0), (NOW - HOUR, 2.0)])
        room.reader.read("images", NOW)
        room.keeps("bookings", [(NOW, 3.0), (NOW - HOUR, 5.0)])
        assert len(room.reader.read("images", NOW + 15).signals[0].series.values) == 2
        (signal,) = room.reader.read("images", NOW + READ_S).signals
        np.testing.assert_array_equal(signal.series.values, [1, 5, 3])

    def test_a_signal_removed_and_made_again_is_another(self, room: Room):
        room.keeps("bookings", [(NOW - HOUR, 1.0), (NOW, 2.0)])
        room.reader.read("images", NOW)
        room.store.remove_signal("images", "bookings", author="a", reason="r", now_s=NOW)
        room.keeps("bookings", [(NOW, 7.0)], now_s=NOW + 1)
        (signal,) = room.reader.read("images", NOW + READ_S).signals
        np.testing.assert_array_equal(signal.series.values, [7.0])

    def test_a_change_of_what_is_said_of_it_is_taken_up(self, room: Room):
        room.keeps("bookings", [(NOW, 1.0)])
        room.reader.read("images", NOW)
        room.keeps("bookings", [(NOW, 1.0)], stale_after_s=2 * HOUR)
        assert room.reader.read("images", NOW + READ_S).signals[0].stale_after_s == 2 * HOUR
