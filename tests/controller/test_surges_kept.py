"""Surges from a tick to the tables and out by the HTTP API."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine
from sqlmodel import Session, SQLModel, select

from controller.api.app import create_app
from controller.api.context import ControllerStatus
from controller.api.server import serve
from controller.core.surges import SurgesAhead, surges_ahead
from controller.core.types import Surge
from controller.journal import Journal
from controller.lease import acquire, check_epoch
from controller.metrics import Metrics
from controller.store import Store
from controller.store.convert import moment
from models.database import open_engine
from models.enums import LedgerKind, SurgeStatus
from models.ledger import LedgerEntry
from models.services import Service
from models.surges import SurgeLook, SurgeRow
from tests.core.observed import A10G, NOW, fleet
from tests.core.test_surges import START_S, TUESDAY, planned, seen_at


@pytest.fixture
def engine(empty_database: str) -> Iterator[Engine]:
    engine = open_engine(empty_database)
    SQLModel.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine: Engine) -> Store:
    epoch = acquire(engine, "test")
    return Store(engine, lambda: epoch, check_epoch)


def rows(engine: Engine, model: type[Any]) -> list[Any]:
    with Session(engine) as session:
        return list(session.exec(select(model).order_by(*model.__table__.primary_key.columns)).all())


def ahead() -> SurgesAhead:
    return surges_ahead(seen_at(NOW, TUESDAY))


def followed(status: SurgeStatus = SurgeStatus.PREPARING, observed: float | None = None) -> Surge:
    return replace(ahead().surges[0], status=status, observed=observed)


def test_a_look_is_kept_with_its_evidence(engine: Engine, store: Store) -> None:
    store.record_surges("images", ahead(), (), NOW)
    (row,), (surge,) = rows(engine, SurgeRow), ahead().surges
    assert (row.start_at, row.end_at) == (moment(surge.start_s), moment(surge.end_s))
    assert (row.need_gpus, row.ready_gpus, row.status) == (surge.need, 14.0, "ahead")
    assert row.evidence["model"] == "weekly" and row.evidence["last_week"] is None
    assert row.evidence["loads"] == pytest.approx(list(surge.evidence.loads))
    (look,) = rows(engine, SurgeLook)
    assert (look.highest_gpus, look.until) == (surge.need, moment(NOW + 86400))


def test_the_next_look_replaces_what_was_only_ahead(engine: Engine, store: Store) -> None:
    store.record_surges("images", ahead(), (), NOW)
    store.record_surges("images", surges_ahead(seen_at(NOW, {})), (), NOW + 600)
    assert rows(engine, SurgeRow) == []
    assert len(rows(engine, SurgeLook)) == 1


def test_what_was_prepared_for_stays_and_its_end_is_in_the_ledger_once(engine: Engine, store: Store) -> None:
    gone = followed(SurgeStatus.DID_NOT_COME, 6.2)
    for surge in (followed(), followed(), gone, gone):
        store.record_surges("images", None, (surge,), NOW)
    store.record_surges("images", surges_ahead(seen_at(NOW, {})), (gone,), NOW + 600)
    (row,) = rows(engine, SurgeRow)
    assert (row.status, row.observed) == ("did_not_come", 6.2)
    said = [entry.what for entry in rows(engine, LedgerEntry) if entry.kind == LedgerKind.FORECAST.value]
    assert said == ["The surge of 11:00 is prepared for", "The surge of 11:00 did not come"]


def test_a_reset_forgets_them_and_time_prunes_them(engine: Engine, store: Store) -> None:
    store.record_surges("images", ahead(), (), NOW)
    store.start_over(NOW)
    assert rows(engine, SurgeRow) == rows(engine, SurgeLook) == []
    store.record_surges("images", None, (followed(),), NOW)
    store.retention(NOW + 13 * 86400)
    assert len(rows(engine, SurgeRow)) == 1
    store.retention(NOW + 16 * 86400)
    assert rows(engine, SurgeRow) == []


def test_the_journal_looks_once_a_slow_forecast_and_after_news(engine: Engine, store: Store) -> None:
    journal = Journal("images", store, None, Metrics())  # type: ignore[arg-type]
    calm, memory = planned(START_S - 3000)
    journal.plan(calm, seen_at(START_S - 3000, TUESDAY))
    (look,) = rows(engine, SurgeLook)
    journal.plan(replace(calm, id="p-2"), seen_at(START_S - 2900, TUESDAY, replicas=fleet({A10G.id: 20})))
    assert rows(engine, SurgeLook) == [look]
    made, _ = planned(START_S - 400, memory=memory)
    journal.plan(replace(made, id="p-3"), seen_at(START_S - 400, TUESDAY))
    assert [row.status for row in rows(engine, SurgeRow)] == ["preparing"]


@pytest.fixture
def ask(engine: Engine) -> Iterator[Callable[[str], httpx.Response]]:
    served = serve(create_app(engine, lambda: ControllerStatus(NOW, ticking=True), metrics=Metrics()), "127.0.0.1", 0)
    with Session(engine) as session:
        session.add(Service(name="images", created_at=moment(NOW)))
        session.commit()
    with httpx.Client(base_url=f"http://127.0.0.1:{served.port}", trust_env=False) as client:
        yield client.get
    served.stop()


def test_the_api_tells_surges_soonest_first(store: Store, ask: Callable[[str], httpx.Response]) -> None:
    unknown = ask("/v1/services/images/surges").json()
    assert unknown == {
        "service": "images", "at": None, "until": None, "ready_gpus": None, "coming_gpus": None, "highest_gpus": None,
        "items": [],
    }  # fmt: skip
    store.record_surges("images", surges_ahead(seen_at(NOW, {**TUESDAY, 40: 5.0})), (), NOW)
    told = ask("/v1/services/images/surges").json()
    first, second = told["items"]
    assert first["start_at"] < second["start_at"]
    assert first["provision_by"] == (moment(START_S) - timedelta(seconds=240)).isoformat().replace("+00:00", "Z")
    assert first["shortfall_gpus"] == first["need_gpus"] - 14
    assert first["status"] == "ahead" and first["evidence"]["coverage_p90"] == 0.91
    assert told["ready_gpus"] == 14


def test_the_api_does_not_know_every_service(ask: Callable[[str], httpx.Response]) -> None:
    answer = ask("/v1/services/videos/surges")
    assert answer.status_code == 404
    assert "no service videos" in answer.json()["detail"]
