"""Pushing a signal: idempotent, all or nothing, and never a value that can't be."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine
from sqlmodel import Session, SQLModel, col, select

from controller.api.app import create_app
from controller.api.context import ControllerStatus
from controller.api.server import serve
from controller.clock import to_seconds
from controller.core.points import MOST_PUSHED, MOST_SIGNALS
from models.database import open_engine
from models.services import Service
from models.signals import SignalRow, SignalValue

NOW = datetime(2024, 11, 25, 6, tzinfo=UTC)


def at(hours: float) -> str:
    return (NOW + timedelta(hours=hours)).isoformat()


class World:
    """A database with a service in it, and the API before it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        status = ControllerStatus(to_seconds(NOW), ticking=True)
        self.served = serve(create_app(engine, lambda: status), "127.0.0.1", 0)
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.served.port}", trust_env=False)

    def push(self, points: Any, name: str = "bookings", **more: Any) -> httpx.Response:
        body = {"author": "shop", "points": points, **more}
        headers = {"Content-Type": "application/json"}
        return self.client.post(f"/v1/signals/{name}", content=json.dumps(body), headers=headers)

    def values(self) -> list[float]:
        with Session(self.engine) as session:
            return [row.value for row in session.exec(select(SignalValue).order_by(col(SignalValue.at)))]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    engine = open_engine(f"sqlite:///{tmp_path}/heddle.db")
    SQLModel.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Service(name="images", created_at=NOW))
        session.commit()
    world = World(engine)
    yield world
    world.client.close()
    world.served.stop()
    engine.dispose()


def test_the_first_push_makes_the_signal(world: World):
    answer = world.push([{"at": at(-1), "value": 41}], unit="orders", stale_after_s=7200, known_ahead=True)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "name": "bookings",
        "service": "images",
        "added": 1,
        "changed": 0,
        "unchanged": 0,
        "skipped": 0,
    }
    (found,) = world.client.get("/v1/signals").json()
    assert (found["unit"], found["known_ahead"], found["stale_after_s"], found["values"]) == ("orders", True, 7200, 1)
    assert datetime.fromisoformat(found["newest_at"]) == NOW - timedelta(hours=1)
    assert world.client.get("/v1/signals?service=video").json() == []


def test_the_same_points_twice_change_nothing(world: World):
    points = [{"at": at(-hours), "value": hours} for hours in range(5)]
    assert world.push(points).json()["added"] == 5
    again = world.push(list(reversed(points))).json()
    assert (again["added"], again["changed"], again["unchanged"]) == (0, 0, 5)
    corrected = world.push([{"at": at(-1), "value": 9}, {"at": at(-9), "value": 9}]).json()
    assert (corrected["added"], corrected["changed"]) == (1, 1)
    assert world.values() == [9, 4, 3, 2, 9, 0]


def test_of_a_time_pushed_twice_the_later_counts(world: World):
    answer = world.push([{"at": at(0), "value": 1}, {"at": at(-1), "value": 2}, {"at": at(0), "value": 3}]).json()
    assert (answer["added"], answer["skipped"]) == (2, 1)
    assert world.values() == [2, 3]


def test_what_was_said_of_it_stays_until_said_anew(world: World):
    world.push([{"at": at(0), "value": 1}], unit="orders", stale_after_s=7200)
    world.push([{"at": at(0), "value": 1}])
    world.push([{"at": at(0), "value": 1}], stale_after_s=600)
    (found,) = world.client.get("/v1/signals").json()
    assert (found["unit"], found["stale_after_s"]) == ("orders", 600)


@pytest.mark.parametrize(
    ("point", "field"),
    [
        ({"at": at(0), "value": float("nan")}, "points.0.value"),
        ({"at": at(0), "value": float("inf")}, "points.0.value"),
        ({"at": at(0), "value": "much"}, "points.0.value"),
        ({"at": at(0), "value": None}, "points.0.value"),
        ({"at": at(0), "value": 1e200}, "points[0].value"),
        ({"at": "yesterday", "value": 1}, "points.0.at"),
        ({"at": "2024-11-25T06:00:00", "value": 1}, "points.0.at"),
        ({"at": at(5), "value": 1}, "points[0].at"),
        ({"at": at(-24 * 90), "value": 1}, "points[0].at"),
        ({"at": "0001-01-01T00:00:00+00:00", "value": 1}, "points[0].at"),
        ({"at": "9999-12-31T23:59:59+00:00", "value": 1}, "points[0].at"),
    ],
)
def test_a_point_that_cannot_be_kept_is_a_422_that_names_it(world: World, point: dict[str, Any], field: str):
    answer = world.push([point])
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["field"] == field
    assert world.values() == []
    assert world.client.get("/v1/signals").json() == [], "nothing is made by what is refused"


def test_one_bad_point_refuses_all(world: World):
    assert world.push([{"at": at(-1), "value": 1}, {"at": at(9), "value": 1}]).status_code == 422
    assert world.values() == []


def test_a_plan_is_pushed_ahead(world: World):
    assert world.push([{"at": at(48), "value": 1}], known_ahead=True).status_code == 200
    assert world.push([{"at": at(49), "value": 1}]).status_code == 200, "it stays known ahead"


@pytest.mark.parametrize(
    ("name", "more", "field"),
    [
        ("a%20b", {}, "name"),
        ("x" * 65, {}, "name"),
        ("bookings", {"service": "video"}, "service"),
        ("bookings", {"author": ""}, "author"),
        ("bookings", {"stale_after_s": 1}, "stale_after_s"),
        ("bookings", {"nonsense": 1}, "nonsense"),
    ],
)
def test_a_bad_push_is_refused(world: World, name: str, more: dict[str, Any], field: str):
    answer = world.push([{"at": at(0), "value": 1}], name, **more)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_a_push_and_a_service_have_their_limits(world: World):
    many = [{"at": at(-0.01 * number), "value": 1} for number in range(MOST_PUSHED + 1)]
    assert world.push(many).status_code == 422
    assert world.push(many[1:]).status_code == 200
    for number in range(MOST_SIGNALS - 1):
        assert world.push([{"at": at(0), "value": 1}], f"s{number}").status_code == 200
    full = world.push([{"at": at(0), "value": 1}], "one-more")
    assert (full.status_code, full.json()["field"]) == (422, "name")


def test_many_who_push_at_once_lose_nothing(world: World):
    def push(first: int) -> None:
        points = [{"at": at(-0.1 * (first + number)), "value": first + number} for number in range(40)]
        statuses.append(world.push(points).status_code)

    statuses: list[int] = []
    threads = [threading.Thread(target=push, args=(10 * number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 6
    assert sorted(world.values()) == list(range(90))
    with Session(world.engine) as session:
        assert len(session.exec(select(SignalRow)).all()) == 1
