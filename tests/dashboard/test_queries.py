"""What the pages read, from a known database; and that reading is bounded."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from dashboard import clock, session
from dashboard.queries import attention, demand, fleet, jobs, plans, records
from dashboard.queries.envelope_facts import read_facts
from dashboard.queries.read import MAX_POINTS, MAX_ROWS
from dashboard.queries.standing import read_standing, term_name
from models.intents import OverrideRow
from models.ledger import LedgerEntry
from models.telemetry import DemandMinute

from .conftest import NOW, TIERS


@pytest.fixture
def engine(database: Callable[..., Engine]) -> Engine:
    return database(filled=True, wall=datetime.now(UTC) + timedelta(days=1))


def test_the_virtual_now_moves_with_the_speed_and_stands_still_when_paused() -> None:
    wall = datetime(2026, 1, 1, tzinfo=UTC)
    later = wall + timedelta(seconds=10)
    assert clock.virtual_now(NOW, wall, 60.0, False, later) == NOW + timedelta(minutes=10)
    assert clock.virtual_now(NOW, wall, 60.0, True, later) == NOW
    assert clock.virtual_now(NOW, later, 60.0, False, wall) == NOW


def test_standing_is_told_from_the_clock_the_pulse_and_the_terms(engine: Engine) -> None:
    standing = read_standing()
    assert (standing.now, standing.version, standing.cap) == (NOW, 2, 50)
    assert not standing.down and not standing.stale
    assert standing.status == "at_risk"
    premium = standing.term("premium")
    assert premium is not None and premium.limit == 200.0
    assert standing.latency("premium")["statistic"] == "mean" and standing.latency("nobody") == {}


@pytest.mark.parametrize("stored", ["premium", "latency:premium", "wait.premium", "premium_wait"])
def test_a_term_is_known_by_its_tier(stored: str) -> None:
    assert term_name(stored) == "premium"


def test_three_silent_ticks_and_ten_seconds_make_the_controller_down(database: Callable[..., Engine]) -> None:
    database(filled=True, silent_s=94)
    standing = read_standing()
    assert standing.down and standing.silent_s is not None and standing.silent_s > 90
    # the page does not run away from what it last saw
    assert standing.now <= NOW + timedelta(minutes=1)
    assert standing.aged("held") == "stale" and standing.aged("breached") == "breached"


def test_a_paused_clock_is_not_a_dead_controller(database: Callable[..., Engine]) -> None:
    database(filled=True, silent_s=94, paused=True)
    standing = read_standing()
    assert not standing.down and standing.paused and standing.now == NOW


def test_telemetry_six_minutes_old_is_stale(database: Callable[..., Engine]) -> None:
    database(filled=True, stale=True)
    standing = read_standing()
    assert standing.stale and standing.telemetry_age_s == pytest.approx(370)


def test_an_empty_database_is_unknown_not_zero(database: Callable[..., Engine]) -> None:
    database()
    standing, money = read_standing(), fleet.read_money()
    assert not standing.started and standing.status in ("unknown", "stale")
    assert (money.accrued, money.expected, money.per_hour, money.today, money.month) == (None, None, None, None, None)
    assert fleet.read_pools().empty and demand.read_load(24).empty and demand.read_paths("all", 600, 24).table.empty
    assert read_facts() is None and attention.read_attention() == ()
    assert plans.read_decision("p-000001") is None and jobs.read_job("j-1") is None


def test_load_is_work_over_time_and_gaps_are_left_open(engine: Engine) -> None:
    load = demand.read_load(24)
    series = demand.regular(load, demand.ALL, 24)
    assert 9 < series.min() < series.max() < 32
    assert series.isna().sum() == 8  # 40 minutes without telemetry, in five-minute steps
    assert len(series) <= MAX_POINTS
    one = demand.regular(load, "premium", 24)
    assert one.dropna().mean() == pytest.approx(series.dropna().mean() * TIERS["premium"][1], rel=0.05)


def test_the_same_time_in_two_steps_counts_once(engine: Engine) -> None:
    before = demand.regular(demand.read_load(24), "premium", 24).dropna()
    with Session(engine) as database:
        hour = NOW.replace(minute=0, second=0) - timedelta(hours=3)
        database.add(
            DemandMinute(service="images", tier="premium", step_s=3600, at=hour, arrivals=1, work_s=1e6, started=1)
        )
        database.commit()
    demand._load_lasting.clear()
    after = demand.regular(demand.read_load(24), "premium", 24).dropna()
    pd.testing.assert_series_equal(before, after)


def test_a_week_is_drawn_in_at_most_two_thousand_points(engine: Engine) -> None:
    for hours in (1, 6, 24, 168):
        assert len(demand.regular(demand.read_load(hours), demand.ALL, hours)) <= MAX_POINTS
        assert demand.read_capacity(hours)["at"].nunique() <= MAX_POINTS
        assert len(demand.read_paths(demand.ALL, 600, hours).table) <= MAX_POINTS


def test_forecast_paths_are_ordered_and_reach_ahead(engine: Engine) -> None:
    found = demand.read_paths("premium", 600, 24)
    table = found.table
    assert (table["p50"] <= table["p90"] + 1e-9).all() and (table["p90"] <= table["p99"] + 1e-9).all()
    assert table["at"].is_monotonic_increasing and table["at"].is_unique
    assert table["at"].max() > pd.Timestamp(NOW) + pd.Timedelta(hours=20)
    assert table["at"].min() < pd.Timestamp(NOW) - pd.Timedelta(hours=20)


def test_money_adds_the_fleet_and_the_jobs(engine: Engine) -> None:
    money = fleet.read_money()
    assert money.jobs_per_hour == pytest.approx(2 * 1.006)
    assert money.per_hour == pytest.approx((money.replicas_per_hour or 0) + 2 * 1.006)
    assert money.expected == pytest.approx(20.9)  # the controller's own forecast of the hour
    assert money.today is not None and money.month is not None and money.month >= money.today > 100


def test_pools_are_those_of_the_newest_minute_with_what_was_lost(engine: Engine) -> None:
    pools = fleet.read_pools()
    assert len(pools) == 4 and pools["lost_24h"].sum() >= 1
    assert (pools["desired"] == pools["ready"] + pools["coming"]).all()


def test_attention_is_worst_first(engine: Engine) -> None:
    items = attention.read_attention()
    order = ["breached", "at_risk", "unknown", "stale"]
    assert [order.index(item.status) for item in items] == sorted(order.index(item.status) for item in items)
    assert any(item.thing == "Premium wait" for item in items)
    assert not any(item.status == "held" for item in items)
    things = [item.thing for item in items]
    assert "Job j-0002" in things and "Job j-0003" not in things  # killed three hours ago: nobody need act


def test_a_decision_knows_what_came_of_it(engine: Engine) -> None:
    listed = plans.read_decisions(24)
    first = listed[(listed["direction"] == "out")].iloc[-1]
    found = plans.read_decision(first["id"])
    assert found is not None and found.before == first["before"]
    assert found.title.startswith("Scale out images, ")
    assert found.ready_count == found.started_count == len(found.actions)
    assert found.settlement is not None and found.settlement.within_cap


def test_an_override_in_force_is_read_and_an_ended_one_is_not(engine: Engine) -> None:
    assert len(plans.read_overrides()) == 1
    with Session(engine) as database:
        database.add(
            OverrideRow(
                service="*", kind="pause", author="a", reason="b", starts_at=NOW, ends_at=NOW + timedelta(hours=1)
            )
        )
        database.add(
            OverrideRow(
                service="images",
                kind="freeze",
                author="a",
                reason="b",
                starts_at=NOW,
                ends_at=NOW - timedelta(minutes=1),
            )
        )
        database.commit()
    plans.read_overrides.clear()
    read_standing.clear()
    assert set(plans.read_overrides()["kind"]) == {"pin", "pause"}
    assert read_standing().fleet_paused_until == NOW + timedelta(hours=1)


def test_the_ledger_is_filtered_searched_and_bounded(engine: Engine) -> None:
    assert set(records.read_ledger(24, ("guardrail",))["actor"]) == {"guard"}
    assert set(records.read_ledger(24, (), "LAUNCH")["kind"]) == {"override"}
    assert records.read_ledger(None, (), "100%_nothing").empty
    with Session(engine) as database:
        database.add_all(
            LedgerEntry(at=NOW, kind="demo", actor="x", subject="s", what=f"entry {n}") for n in range(700)
        )
        database.commit()
    records.read_ledger.clear()
    assert len(records.read_ledger(None)) == MAX_ROWS


def test_jobs_alive_come_first(engine: Engine) -> None:
    states = list(jobs.read_jobs()["state"])
    assert states.index("killed") == len(states) - 1
    assert set(jobs.read_rules()["name"]) == {"projected cost", "no progress", "duration"}


def test_trouble_is_named_and_nothing_is_created(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = f"{tmp_path}/nowhere/heddle.db"
    monkeypatch.setenv("HEDDLE_DATABASE_URL", f"sqlite:///{missing}")
    found = session.trouble()
    assert found is not None and "no database" in found.title
    from pathlib import Path

    assert not Path(missing).parent.exists()


def test_an_unmigrated_database_is_named(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    sqlite3.connect(f"{tmp_path}/old.db").execute("create table service (id integer)")
    monkeypatch.setenv("HEDDLE_DATABASE_URL", f"sqlite:///{tmp_path}/old.db")
    found = session.trouble()
    assert found is not None and "migrated" in found.title and "envelope_version" in found.detail


def test_an_unreachable_server_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEDDLE_DATABASE_URL", "postgresql+psycopg://heddle:secret@127.0.0.1:1/heddle")
    found = session.trouble()
    assert found is not None and "cannot be reached" in found.title
    assert "secret" not in found.text + found.detail
