"""A realistic database: a day of the "images" service at 2024-11-25, a plan in force, a job out of hand, a ledger."""

import math
import random
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from sqlalchemy import Engine
from sqlmodel import Session, SQLModel

import dashboard.session  # noqa: F401  (every table)
from controller.core.prospect import packed
from models.database import open_engine
from models.fleet import ClockRow, ControllerLease, ControllerPulse, ReplicaRow
from models.forecasts import ForecastRow, ForecastScore, ForecastStanding
from models.guardrails import GuardrailEvent, GuardrailRule
from models.intents import Intent, OverrideRow
from models.jobs import JobRow
from models.ledger import LedgerEntry, Settlement
from models.offers import OfferRow
from models.plans import ActionRow, PlanRow
from models.prospects import ProspectRow
from models.services import EnvelopeVersion, Service, Tier
from models.telemetry import DemandMinute, FleetMinute, SpendHour, TermReading
from tests.core.prospects import prospect

NOW = datetime(2024, 11, 25, 14, 32, 10, tzinfo=UTC)
TIERS = {"premium": (20.0, 0.22), "standard": (50.0, 0.48), "background": (30.0, 0.30)}
QUANTILES = [0.5, 0.8, 0.9, 0.95, 0.99]
SPREAD = [1.0, 1.10, 1.16, 1.21, 1.32]
OFFERS = [
    ("g5.xlarge", "A10G", "usw2-az1", "on_demand", 1.006, 1.0),
    ("g5.xlarge", "A10G", "usw2-az1", "spot", 0.412, 1.0),
    ("g5.xlarge", "A10G", "usw2-az2", "spot", 0.438, 1.0),
    ("g6.xlarge", "L4", "usw2-az2", "spot", 0.322, 0.62),
    ("g6e.xlarge", "L40S", "usw2-az3", "on_demand", 1.861, 2.1),
]


def offer_id(offer: tuple[str, str, str, str, float, float]) -> str:
    return f"{offer[0]}/{offer[2]}/{offer[3]}"


def document(cap: float | None = 50, premium_ms: float = 200) -> dict[str, Any]:
    latency = {
        "premium": {"of": "wait", "statistic": "mean", "target_ms": premium_ms, "window_s": 3600.0},
        "standard": {"of": "wait", "statistic": "p95", "target_ms": 30000.0, "window_s": 3600.0},
        "background": {"of": "wait", "statistic": "p100", "target_ms": 7200000.0, "window_s": 3600.0},
    }
    tiers = {name: {"tenants_percent": share, "latency": latency[name]} for name, (share, _) in TIERS.items()}
    return {
        "spend_cap_usd_per_hour": cap,
        "tier_salt": "a",
        "tiers": tiers,
        "floors": {"images": 1},
        "ceilings": {"images": 60},
        "degrade": ["background", "standard", "premium"],
    }


def load_at(at: datetime) -> float:
    """Reference GPUs busy: a day with its low before dawn."""
    hour = at.hour + at.minute / 60
    return 16 + 8 * math.sin((hour - 9) / 24 * 2 * math.pi) + 3 * math.sin(hour / 24 * 4 * math.pi)


def prospect_row(**changes: Any) -> ProspectRow:
    """What drafts are judged by, recorded at the hour before `NOW`."""
    made = NOW.replace(minute=0, second=0)
    at_s = made.timestamp()
    facts = {"now_s": at_s, "start_s": at_s, "minutes_end_s": at_s, **changes}
    document, minutes = packed(prospect(**facts))
    return ProspectRow(service="images", at=made, document=document, minutes=minutes)


def beat(
    engine: Engine,
    *,
    wall: datetime,
    stale: bool = False,
    silent_s: float = 2.0,
    paused: bool = False,
    repeats: int = 0,
) -> None:
    """The clock, the lease and the pulse at `NOW`.

    `silent_s`: wall seconds since the last tick; `stale`: telemetry is 6 minutes old.
    """
    rows = [
        ClockRow(kind="virtual", virtual_at=NOW, wall_at=wall, speed=60.0, paused=paused, repeats=repeats),
        ControllerLease(holder="c-1", host="host", pid=1, epoch=3, acquired_at=wall, renewed_at=wall),
        ControllerPulse(
            started_at=wall - timedelta(minutes=30),
            tick_at=NOW,
            tick_wall_at=wall - timedelta(seconds=silent_s),
            tick_ms=41.0,
            ticks=5760,
            ticks_late=3,
            guards=8640,
            telemetry_at=NOW - timedelta(seconds=370 if stale else 12),
        ),
    ]
    with Session(engine) as session:
        session.add_all(rows)
        session.commit()


def fill(engine: Engine, hours: int = 24) -> None:
    """Write the day that ends at `NOW`, all but what `beat` writes."""
    rng = random.Random(7)
    start = (NOW - timedelta(hours=hours)).replace(second=0)
    rows: list[Any] = [
        prospect_row(),
        Service(name="images", created_at=start),
        EnvelopeVersion(
            service="images",
            version=1,
            document=document(60, 220),
            spend_cap_usd_per_hour=60,
            author="operator",
            reason="Sample envelope",
            created_at=start,
        ),
        EnvelopeVersion(
            service="images",
            version=2,
            document=document(),
            spend_cap_usd_per_hour=50,
            author="a.meyer",
            reason="Premium promised 200 ms",
            created_at=NOW - timedelta(hours=7),
        ),
    ]
    rows += [
        Tier(service="images", name=name, priority=n, tenants_percent=share)
        for n, (name, (share, _)) in enumerate(TIERS.items())
    ]
    for offer in OFFERS:
        rows.append(
            OfferRow(
                id=offer_id(offer),
                provider="aws",
                region="us-west-2",
                zone=offer[2],
                instance_type=offer[0],
                gpu=offer[1],
                gpu_count=1,
                market=offer[3],
                price_usd_per_hour=offer[4],
                speed_ratio=offer[5],
                read_at=NOW - timedelta(minutes=9),
                lost_at=NOW - timedelta(minutes=14) if offer[2] == "usw2-az2" and offer[0] == "g5.xlarge" else None,
            )
        )
    rows.append(
        OfferRow(
            id="p4d.24xlarge/usw2-az2/spot",
            provider="aws",
            region="us-west-2",
            zone="usw2-az2",
            instance_type="p4d.24xlarge",
            gpu="A100",
            gpu_count=8,
            market="spot",
            price_usd_per_hour=None,
            usable=False,
            why_not="no quote since 13:58",
            read_at=NOW - timedelta(minutes=34),
        )
    )
    at, desired = start, 20
    plan_number = 0
    while at <= NOW:
        minute = int((at - start).total_seconds() // 60)
        load = load_at(at)
        hole = 660 <= minute < 700
        for name, (_, part) in TIERS.items():
            if hole:
                continue
            busy = load * part * rng.uniform(0.93, 1.07)
            rows.append(
                DemandMinute(
                    service="images",
                    tier=name,
                    step_s=60,
                    at=at,
                    arrivals=int(busy * 60 / 2.3),
                    work_s=busy * 60,
                    started=int(busy * 26),
                    wait_mean_s=0.1,
                    wait_p95_s=0.4,
                    wait_max_s=1.2,
                )
            )
        want = max(4, round(load * 1.28))
        if minute % 20 == 0 and want != desired:
            plan_number += 1
            plan_id, out = f"p-{plan_number:06d}", want > desired
            text = (
                f"{want} replicas hold premium's mean wait at 191 ms of 200 ms; {desired} give 263 ms"
                if out
                else f"the load of {load:.1f} fits on {want} replicas and the idle hour ahead costs more than a restart"
            )
            rows.append(
                PlanRow(
                    id=plan_id,
                    service="images",
                    made_at=at,
                    held_until=at + timedelta(minutes=19),
                    epoch=3,
                    policy="heddle",
                    envelope_version=2,
                    required=want,
                    stabilized=want,
                    desired=want,
                    observed_ready=desired,
                    observed_coming=0,
                    desired_by_offer={offer_id(OFFERS[0]): 4, offer_id(OFFERS[1]): want - 4},
                    bound_limit="latency_target" if out else "idle_cost",
                    bound_text=text,
                    reasons=[
                        {
                            "limit": "forecast",
                            "text": f"forecast p90 of the lead time is {load * 1.16:.1f} busy GPUs",
                            "numbers": {"forecast_p90": load * 1.16},
                        },
                        {
                            "limit": "latency_target",
                            "text": text,
                            "numbers": {"premium_wait_ms": 191.0, "target_ms": 200.0},
                        },
                        {
                            "limit": "spend_cap",
                            "text": f"${want * 0.6:.2f}/h is within the cap of $50.00/h",
                            "numbers": {"usd_per_hour": want * 0.6},
                        },
                    ],
                    options=[
                        {"option": "mixed", "replicas": float(want), "usd_per_hour": want * 0.6, "why": "chosen"},
                        {
                            "option": "all on demand",
                            "replicas": float(want),
                            "usd_per_hour": want * 1.006,
                            "why": "dearer",
                        },
                        {
                            "option": "all on spot",
                            "replicas": float(want),
                            "usd_per_hour": want * 0.412,
                            "why": "the first tier would hang on spot",
                        },
                    ],
                    numbers={
                        "required_gpus": float(want),
                        "load_now": load,
                        "usd_per_hour": want * 0.6,
                        "accrued_usd": 11.2,
                        "telemetry_age_s": 8.0,
                    },
                    prices={offer_id(OFFERS[0]): 1.006, offer_id(OFFERS[1]): 0.412},
                    shed=[],
                    action_count=abs(want - desired),
                )
            )
            for n in range(abs(want - desired)):
                kind = "start_replica" if out else "release_replica"
                rows.append(
                    ActionRow(
                        id=f"a-{plan_id}-{n}",
                        plan_id=plan_id,
                        kind=kind,
                        service="images",
                        offer_id=offer_id(OFFERS[1]),
                        replica_id=f"r-{plan_number:03d}{n:03d}",
                        reason=text,
                        status="confirmed",
                        epoch=3,
                        requested_at=at + timedelta(seconds=1),
                        confirmed_at=at + timedelta(minutes=3),
                    )
                )
                if out:
                    rows.append(
                        ReplicaRow(
                            id=f"r-{plan_number:03d}{n:03d}",
                            service="images",
                            offer_id=offer_id(OFFERS[1]),
                            market="spot",
                            state="lost" if n == 1 and plan_number % 3 == 0 else "released",
                            requested_at=at,
                            ready_at=at + timedelta(minutes=4),
                            ended_at=at + timedelta(hours=3),
                            price_usd_per_hour=0.412,
                            cost_usd=1.2,
                        )
                    )
            rows.append(
                LedgerEntry(
                    at=at,
                    kind="decision",
                    service="images",
                    actor="heddle",
                    subject=plan_id,
                    what=f"scale {'out' if out else 'in'} images, {desired} → {want} replicas",
                    why=text,
                    numbers={"required": want, "desired": want, "ready": desired},
                    plan_id=plan_id,
                    epoch=3,
                )
            )
            desired = want
        split = [4, desired - 10, 3, 3, 0] if desired > 12 else [4, max(0, desired - 5), 1, 0, 0]
        for offer, count in zip(OFFERS, split, strict=True):
            if count > 0:
                coming = 1 if offer[3] == "spot" and offer[0] == "g6.xlarge" and at > NOW - timedelta(minutes=3) else 0
                rows.append(
                    FleetMinute(
                        service="images",
                        offer_id=offer_id(offer),
                        market=offer[3],
                        at=at,
                        desired=count,
                        ready=count - coming,
                        coming=coming,
                        draining=0,
                        busy_ratio=min(1.0, load / max(desired, 1) * rng.uniform(0.9, 1.1)),
                        capacity=(count - coming) * offer[5],
                        usd_per_hour=count * offer[4],
                    )
                )
        if minute % 30 == 0:
            rows += _forecasts(at, 600, 144) + (_forecasts(at, 60, 60) if at > NOW - timedelta(hours=2) else [])
        if at > NOW - timedelta(hours=6):
            rows += _terms(at, rng)
        at += timedelta(minutes=1)
    rows += _forecasts(NOW, 600, 144) + _forecasts(NOW, 60, 60)
    rows += _records(start)
    with Session(engine) as session:
        session.add_all(rows)
        session.commit()


def _forecasts(made: datetime, step: int, steps: int) -> list[ForecastRow]:
    begin = made.replace(second=0, minute=made.minute - made.minute % (step // 60))
    found = []
    for name, (_, part) in TIERS.items():
        middle = [load_at(begin + timedelta(seconds=step * n)) * part for n in range(steps)]
        paths = [[value * (1 + (s - 1) * (0.6 + 0.8 * n / steps)) for n, value in enumerate(middle)] for s in SPREAD]
        found.append(
            ForecastRow(
                service="images",
                tier=name,
                step_s=step,
                made_at=made,
                start_at=begin,
                quantiles=QUANTILES,
                values=paths,
                model="profile",
                reason="leads by pinball loss over 28 origins",
                numbers={"pinball": 0.41},
            )
        )
    return found


def _terms(at: datetime, rng: random.Random) -> list[TermReading]:
    readings = [
        ("premium", 187 * rng.uniform(0.9, 1.03), 200.0, 212.0, "at_risk"),
        ("standard", 8400 * rng.uniform(0.9, 1.1), 30000.0, 14100.0, "held"),
        ("background", 1_510_000.0, 7_200_000.0, 2_400_000.0, "held"),
        ("spend", 11.4, 50.0, 20.9, "held"),
    ]
    return [
        TermReading(service="images", term=t, at=at, value=v, limit=limit, forecast_p90=p, status=s, count=400)
        for t, v, limit, p, s in readings
    ]


def beside(usd: float) -> dict[str, float]:
    """A settled hour in which the shadow cost a fifth less and missed twenty minutes at half a dollar."""
    fleets = {"fleet": (usd, 2.0), "planned": (usd, 2.0), "shadow": (0.8 * usd, 20.0), "hindsight": (0.5 * usd, 0.0)}
    columns = {}
    for name, (replicas, minutes) in fleets.items():
        columns |= {
            f"{name}_usd": replicas,
            f"{name}_slo_minutes": minutes,
            f"{name}_miss_usd": 0.5 * minutes,
        }
    total = {name: replicas + 0.5 * minutes for name, (replicas, minutes) in fleets.items()}
    return columns | {
        "saved_usd": total["shadow"] - total["fleet"],
        "regret_usd": total["fleet"] - total["hindsight"],
        "would_save_usd": 0.0,
    }


def _records(start: datetime) -> list[Any]:
    rows: list[Any] = []
    hour = start.replace(minute=0)
    while hour <= NOW:
        usd = 10 + 8 * load_at(hour) / 24
        share = (NOW - hour).total_seconds() / 3600 if hour > NOW - timedelta(hours=1) else 1.0
        rows.append(SpendHour(subject="images", hour=hour, usd=usd * share, cap_usd=50))
        rows.append(SpendHour(subject="jobs", hour=hour, usd=3.1 * share, cap_usd=None))
        if share == 1.0:
            rows.append(
                Settlement(
                    service="images",
                    hour=hour,
                    usd=usd,
                    cap_usd=50,
                    within_cap=True,
                    requests=31_422,
                    text=f"${usd:.2f} of $50.00, every target held",
                    tiers={name: {"value_ms": 150.0, "target_ms": 200.0, "held": True} for name in TIERS},
                    slo_minutes=1.5,
                    unknown_minutes=0 if hour.hour != 3 else 9,
                    **(beside(usd) if hour.hour != 3 else {}),
                )
            )
        hour += timedelta(hours=1)
    job: dict[str, Any] = {
        "service": "images",
        "tier": "background",
        "offer_id": offer_id(OFFERS[0]),
        "price_usd_per_hour": 1.006,
        "attempts": 1,
    }
    rows += [
        JobRow(
            id="j-0001",
            name="catalogue-upscale",
            tenant="loom-eu",
            state="running",
            submitted_at=NOW - timedelta(hours=3),
            started_at=NOW - timedelta(hours=3),
            running_s=10800,
            cost_usd=3.02,
            progress_ratio=0.62,
            progress_at=NOW - timedelta(minutes=1),
            checkpoints=True,
            cost_limit_usd=8.0,
            expected_s=17400,
            projected_usd=4.87,
            **job,
        ),
        JobRow(
            id="j-0002",
            name="endless-prompt-loop",
            tenant="weft-labs",
            state="running",
            submitted_at=NOW - timedelta(hours=2),
            started_at=NOW - timedelta(hours=2),
            running_s=7200,
            cost_usd=2.01,
            progress_ratio=0.04,
            progress_at=NOW - timedelta(minutes=96),
            checkpoints=False,
            cost_limit_usd=4.0,
            expected_s=3600,
            projected_usd=50.3,
            **job,
        ),
        JobRow(
            id="j-0003",
            name="style-transfer-batch",
            tenant="loom-eu",
            state="killed",
            submitted_at=NOW - timedelta(hours=6),
            started_at=NOW - timedelta(hours=6),
            finished_at=NOW - timedelta(hours=3),
            running_s=10400,
            cost_usd=9.62,
            progress_ratio=0.31,
            progress_at=NOW - timedelta(hours=3),
            checkpoints=True,
            cost_limit_usd=4.0,
            expected_s=7200,
            projected_usd=31.0,
            **job,
        ),
        JobRow(
            id="j-0004",
            name="<b>nightly</b>-captions",
            tenant="selvage",
            state="queued",
            submitted_at=NOW - timedelta(minutes=4),
            checkpoints=True,
            **(job | {"attempts": 0}),
        ),
        GuardrailRule(
            name="projected cost",
            metric="projected_cost",
            threshold=None,
            action="throttle",
            grace_s=120,
            author="operator",
            reason="default",
            created_at=start,
        ),
        GuardrailRule(
            name="no progress",
            metric="no_progress",
            threshold=1800,
            action="kill",
            grace_s=300,
            author="operator",
            reason="default",
            created_at=start,
        ),
        GuardrailRule(
            name="duration",
            metric="duration",
            threshold=43200,
            action="alert",
            grace_s=0,
            dry_run=True,
            author="operator",
            reason="default",
            created_at=start,
        ),
        GuardrailEvent(
            at=NOW - timedelta(hours=3),
            job_id="j-0003",
            rule="projected cost",
            rule_version=1,
            action="kill",
            dry_run=False,
            text="projected $31.00 against $4.00 authorised; stopped at step 31 of 100, checkpoint kept",
            evidence={"projected_usd": 31.0, "limit_usd": 4.0, "running_s": 10400, "progress_ratio": 0.31},
            action_id="a-guard-1",
            status="confirmed",
            confirmed_at=NOW - timedelta(hours=3),
        ),
        GuardrailEvent(
            at=NOW - timedelta(minutes=6),
            job_id="j-0002",
            rule="no progress",
            rule_version=1,
            action="throttle",
            dry_run=False,
            text="no progress for 1 h 30 min against 30 min; suspended, no checkpoint",
            evidence={"no_progress_s": 5400, "limit_s": 1800},
            action_id="a-guard-2",
            status="accepted",
        ),
        OverrideRow(
            service="images",
            kind="pin",
            replicas=22,
            author="a.meyer",
            reason="Launch at 14:00",
            starts_at=NOW - timedelta(minutes=50),
            ends_at=NOW + timedelta(minutes=70),
            intent_id=2,
        ),
        Intent(
            kind="apply_envelope",
            service="images",
            payload={},
            author="a.meyer",
            reason="Premium promised 200 ms",
            created_at=NOW - timedelta(hours=7),
            status="applied",
            status_reason="v2 is in force",
            settled_at=NOW - timedelta(hours=7),
        ),
        Intent(
            kind="override",
            service="images",
            payload={},
            author="a.meyer",
            reason="Launch at 14:00",
            created_at=NOW - timedelta(minutes=50),
            status="applied",
            status_reason="pinned at 22",
            settled_at=NOW - timedelta(minutes=50),
        ),
        Intent(
            kind="resume_job",
            payload={"job_id": "j-0003"},
            author="a.meyer",
            reason="Try again",
            created_at=NOW - timedelta(minutes=20),
            status="refused",
            status_reason="job j-0003 was killed and cannot be resumed",
            settled_at=NOW - timedelta(minutes=20),
        ),
        LedgerEntry(
            at=NOW - timedelta(minutes=50),
            kind="override",
            service="images",
            actor="a.meyer",
            subject="images",
            what="pin at 22 replicas",
            why="Launch at 14:00",
            intent_id=2,
        ),
        LedgerEntry(
            at=NOW - timedelta(hours=3),
            kind="guardrail",
            service="images",
            actor="guard",
            subject="j-0003",
            what="killed job j-0003",
            why="projected $31.00 against $4.00",
            numbers={"projected_usd": 31.0},
        ),
    ]
    for tier in TIERS:
        for step in (60, 600):
            for model, loss, leads in (
                ("profile", 0.41, True),
                ("seasonal naive", 0.58, False),
                ("autoreg fourier", 0.44, False),
            ):
                rows.append(
                    ForecastScore(
                        service="images",
                        tier=tier,
                        step_s=step,
                        model=model,
                        at=NOW - timedelta(minutes=30),
                        pinball=loss,
                        wape=loss / 6,
                        coverage_p90=0.91,
                        origins=28,
                        leads=leads,
                    )
                )
            rows.append(
                ForecastStanding(
                    service="images",
                    tier=tier,
                    step_s=step,
                    at=NOW - timedelta(minutes=2),
                    leader="profile",
                    serving="seasonal_naive_24h" if (tier, step) == ("premium", 600) else "profile",
                    pinball=0.41,
                    live_pinball=0.45,
                    live_naive_pinball=0.62,
                    live_points=212,
                    window_h=6.0,
                    coverage=[
                        {"ahead_s": 7200.0, "raw": [0.76, 0.86, 0.92], "issued": [0.8, 0.9, 0.95]},
                        {"ahead_s": 86400.0, "raw": [None] * 3, "issued": [None] * 3},
                    ],
                    signals=["bookings"] if tier == "premium" else [],
                    signals_dropped="",
                    fitted_at=NOW - timedelta(hours=3),
                    selected_at=NOW - timedelta(hours=9),
                    history_s=6.2 * 86400,
                    judgement="profile is demoted, seasonal_naive_24h serves" if tier == "premium" else "",
                )
            )
    return rows


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No cached answer of another test, and a known operator."""
    st.cache_data.clear()
    st.cache_resource.clear()
    monkeypatch.setenv("HEDDLE_USER", "tester")
    yield
    st.cache_data.clear()
    st.cache_resource.clear()


@pytest.fixture(scope="session")
def filled_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A filled database, made once; tests take copies."""
    path = tmp_path_factory.mktemp("filled") / "heddle.db"
    engine = open_engine(f"sqlite:///{path}")
    SQLModel.metadata.create_all(engine)
    fill(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()
    return path


@pytest.fixture
def database(tmp_path: Path, filled_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Engine]]:
    """Makes a database in tmp_path and points Heddle at it.

    `database()` is migrated and empty; `database(filled=True, …)` holds the day, with a pulse as `beat` takes it.
    """
    made: list[Engine] = []

    def make(filled: bool = False, **facts: Any) -> Engine:
        path = tmp_path / "heddle.db"
        monkeypatch.setenv("HEDDLE_DATABASE_URL", f"sqlite:///{path}")
        if filled:
            shutil.copy(filled_file, path)
        engine = open_engine(f"sqlite:///{path}")
        SQLModel.metadata.create_all(engine)
        if filled:
            beat(engine, **({"wall": datetime.now(UTC)} | facts))
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.dispose()
