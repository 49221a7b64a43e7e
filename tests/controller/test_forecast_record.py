"""What is written of forecasts beside themselves: changes, scores, standings, and what a restart goes on with."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, text
from sqlmodel import Session, select

from controller import fits
from controller.core.forecast.base import TEN_MINUTE_GRID
from controller.core.forecast.parameters import SCHEMA
from controller.core.forecast.select import select as select_model
from controller.core.series import DAY_S, HOUR_S, clip
from controller.core.types import Series
from controller.forecast_record import ForecastRecord
from controller.forecaster import Forecaster
from controller.lines import Change
from controller.store import Store
from models.database import open_engine
from models.enums import LedgerKind
from models.forecasts import ForecastParameters, ForecastScore, ForecastStanding
from models.ledger import LedgerEntry
from models.migrate import migrate

START_S = 1_732_492_800.0
NOW_S = START_S + 6 * DAY_S
LOAD = Series(
    START_S,
    60.0,
    np.random.default_rng(2).gamma(10.0 + 8.0 * np.sin(np.arange(8 * 1440) / 1440 * 2 * np.pi)),
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path / 'heddle.db'}"
    migrate(url)
    engine = open_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def recorded(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[Forecaster, ForecastRecord]]:
    """A forecaster and its record on one database; called again, those of a restarted controller."""
    monkeypatch.setattr(fits, "select", partial(select_model, names=("profile", "seasonal_naive_24h", "naive")))
    store = Store(engine, lambda: 1, lambda session, epoch: None)

    def start() -> tuple[Forecaster, ForecastRecord]:
        forecaster = Forecaster((TEN_MINUTE_GRID,))
        return forecaster, ForecastRecord("images", store, forecaster)

    return start


def rows(engine: Engine, table: type) -> list:  # type: ignore[type-arg]
    with Session(engine) as session:
        return list(session.exec(select(table)).all())


def test_a_fit_writes_scores_standing_parameters_and_the_change(
    engine: Engine, recorded: Callable[[], tuple[Forecaster, ForecastRecord]]
) -> None:
    forecaster, record = recorded()
    record.fitted(forecaster.refit("images", {"premium": clip(LOAD, end_s=NOW_S)}, NOW_S), NOW_S)
    (entry,) = rows(engine, LedgerEntry)
    assert entry.kind == LedgerKind.FORECAST and "leads" in entry.what
    scores = rows(engine, ForecastScore)
    leader = forecaster.leaders("images")["premium", 600.0]
    assert {"profile", "seasonal_naive_24h", "naive"} <= {score.model for score in scores}
    assert [score.model for score in scores if score.leads] == [leader]
    (standing,) = rows(engine, ForecastStanding)
    assert (standing.leader, standing.serving, standing.live_points) == (leader, leader, 0)
    assert standing.live_pinball is None and standing.coverage[0]["issued"] == [None, None, None]
    assert standing.history_s == 6 * DAY_S and standing.signals == []
    (stored,) = rows(engine, ForecastParameters)
    assert stored.leader == leader and stored.payload["schema"] == SCHEMA


def test_a_day_of_ticks_keeps_one_row_a_line_and_a_restart_goes_on_from_it(
    engine: Engine, recorded: Callable[[], tuple[Forecaster, ForecastRecord]]
) -> None:
    forecaster, record = recorded()
    record.fitted(forecaster.refit("images", {"premium": clip(LOAD, end_s=NOW_S)}, NOW_S), NOW_S)
    writes = 0
    for i in range(6 * 26):
        now_s = NOW_S + 600.0 * i
        forecaster.forecast("images", {"premium": clip(LOAD, end_s=now_s)}, now_s)
        before = rows(engine, ForecastParameters)[0].at
        record.ticked(forecaster.changes(), now_s)
        writes += rows(engine, ForecastParameters)[0].at != before
    assert 20 <= writes <= 30, "stored hourly"
    (standing,) = rows(engine, ForecastStanding)
    assert standing.live_points > 100 and standing.live_pinball > 0 and standing.live_naive_pinball > 0
    assert [each["ahead_s"] for each in standing.coverage] == [7200.0, 86_400.0]
    assert all(0.5 < share <= 1.0 for each in standing.coverage for share in each["issued"])

    again, restarted = recorded()
    restarted.restore(now_s)
    assert again.leaders("images") == forecaster.leaders("images")
    old, new = (each.parameters("images")["premium", 600.0] for each in (forecaster, again))
    assert len(old.standing.hours.keys() ^ new.standing.hours.keys()) <= 2, "an hour's learning is lost at most"
    np.testing.assert_allclose(
        again.forecast("images", {"premium": clip(LOAD, end_s=now_s)}, now_s)["premium", 600.0].values,
        forecaster.forecast("images", {"premium": clip(LOAD, end_s=now_s)}, now_s)["premium", 600.0].values,
        rtol=0.05,
    )
    assert again.refit_due("images", NOW_S + DAY_S - HOUR_S) is None
    restarted.ticked([], now_s)
    assert len(rows(engine, ForecastParameters)) == len(rows(engine, ForecastStanding)) == 1


def test_parameters_that_are_damaged_are_said_in_the_ledger_and_fitted_anew(
    engine: Engine, recorded: Callable[[], tuple[Forecaster, ForecastRecord]]
) -> None:
    forecaster, record = recorded()
    record.fitted(forecaster.refit("images", {"premium": clip(LOAD, end_s=NOW_S)}, NOW_S), NOW_S)
    with engine.begin() as connection:
        connection.execute(text("UPDATE forecast_parameters SET payload = '{\"schema\": 0}'"))
    again, restarted = recorded()
    restarted.restore(NOW_S)
    assert again.refit_due("images", NOW_S) is not None
    assert "schema 0" in rows(engine, LedgerEntry)[-1].what and "fitted anew" in rows(engine, LedgerEntry)[-1].what


def test_a_demotion_is_a_ledger_entry_with_both_scores(
    engine: Engine, recorded: Callable[[], tuple[Forecaster, ForecastRecord]]
) -> None:
    _, record = recorded()
    change = Change("images/premium at 600 s: profile is demoted", {"winner_pinball": 1.0, "loser_pinball": 2.0})
    record.ticked([change], NOW_S)
    (entry,) = rows(engine, LedgerEntry)
    assert entry.what == change.what and entry.numbers == {"winner_pinball": 1.0, "loser_pinball": 2.0}
    assert (entry.kind, entry.service, entry.subject) == ("forecast", "images", "forecast")
