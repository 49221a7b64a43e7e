import re
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine
from sqlmodel import Session, SQLModel, select
from starlette.datastructures import Headers

from controller.api.app import create_app
from controller.api.context import ControllerStatus
from controller.api.origin import OriginCheck, is_cross_site
from controller.api.server import PortBusy, serve
from controller.clock import to_seconds
from controller.metrics import Metrics
from models.database import open_engine
from models.fleet import ClockRow, ControllerLease, ControllerPulse
from models.guardrails import GuardrailEvent
from models.intents import Intent, OverrideRow
from models.jobs import JobRow
from models.ledger import LedgerEntry, Settlement
from models.offers import OfferRow
from models.plans import PlanRow
from models.replays import ReplayRun
from models.services import EnvelopeVersion, Service, Tier
from models.telemetry import DemandMinute

NOW = datetime(2024, 11, 25, 6, tzinfo=UTC)
TIERS = (("premium", 20.0), ("standard", 50.0), ("background", 30.0))
DOCUMENT: dict[str, Any] = {
    "spend_cap_usd_per_hour": 50,
    "tier_salt": "a",
    "tiers": {
        "premium": {"tenants_percent": 20, "latency": {"of": "wait", "statistic": "mean", "target_ms": 200}},
        "standard": {"tenants_percent": 50, "latency": {"of": "wait", "statistic": "p95", "target_ms": 30000}},
        "background": {"tenants_percent": 30, "latency": {"of": "wait", "statistic": "p100", "target_ms": 7200000}},
    },
}


PAGE = Path(__file__).parents[2] / "docs" / "api.md"


class World:
    """A database with a service in it, and the API before it."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.metrics = engine, Metrics()
        self.status = ControllerStatus(to_seconds(NOW), ticking=True)
        self.served = serve(create_app(engine, lambda: self.status, metrics=self.metrics), "127.0.0.1", 0)
        self.address = f"http://127.0.0.1:{self.served.port}"
        self.client = httpx.Client(base_url=self.address, trust_env=False)

    def add(self, *rows: SQLModel) -> None:
        with Session(self.engine) as session:
            session.add_all(rows)
            session.commit()

    def intents(self) -> list[Intent]:
        with Session(self.engine) as session:
            return list(session.exec(select(Intent)))

    def get(self, path: str) -> Any:
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ask_envelope(self, document: dict[str, Any], **changes: Any) -> Any:
        body = {"document": document, "base_version": 1, "author": "ada", "reason": "cheaper nights", **changes}
        return self.client.post("/v1/envelopes", json=body)

    def ask_override(self, **changes: Any) -> Any:
        ends_at = (NOW + timedelta(hours=2)).isoformat()
        body = {"kind": "pin", "replicas": 8, "ends_at": ends_at, "author": "ada", "reason": "launch", **changes}
        return self.client.post("/v1/overrides", json=body)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    engine = open_engine(f"sqlite:///{tmp_path}/heddle.db")
    SQLModel.metadata.create_all(engine)
    world = World(engine)
    world.add(
        Service(name="images", created_at=NOW),
        *(
            Tier(service="images", name=name, priority=priority, tenants_percent=percent)
            for priority, (name, percent) in enumerate(TIERS)
        ),
        EnvelopeVersion(service="images", version=1, document=DOCUMENT, author="a", reason="first", created_at=NOW),
        OfferRow(
            id="g5.xlarge/usw2-az1/spot",
            provider="aws",
            region="us-west-2",
            zone="usw2-az1",
            instance_type="g5.xlarge",
            gpu="A10G",
            gpu_count=1,
            market="spot",
            price_usd_per_hour=0.43,
            read_at=NOW,
        ),
        DemandMinute(service="images", tier="premium", at=NOW, arrivals=10, work_s=150.0, started=10),
    )
    yield world
    world.client.close()
    world.served.stop()
    engine.dispose()


def plan(number: int) -> PlanRow:
    made_at = NOW + timedelta(minutes=number)
    return PlanRow(
        id=f"p-{number:06d}",
        service="images",
        made_at=made_at,
        held_until=made_at,
        epoch=1,
        policy="heddle",
        envelope_version=1,
        required=5,
        stabilized=6,
        desired=6,
        observed_ready=4,
        observed_coming=2,
        desired_by_offer={"g5.xlarge/usw2-az1/spot": 6},
        bound_limit="latency_target",
        bound_text="premium waits 230 ms",
        reasons=[],
        options=[],
        numbers={"wait_ms": 230.0, "unknown": None},
        prices={},
        shed=[],
    )


def entry(what: str, kind: str = "decision") -> LedgerEntry:
    return LedgerEntry(at=NOW, kind=kind, service="images", actor="heddle", subject="images", what=what)


# --------------------------------------------------------------------------------------------------------------- health


def test_a_process_that_does_not_tick_is_alive_but_not_ready(world: World):
    assert world.client.get("/readyz").status_code == 200
    world.status = ControllerStatus(to_seconds(NOW), ticking=False, detail="No tick for 90 s.")
    assert world.client.get("/healthz").status_code == 200
    answer = world.client.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == "No tick for 90 s."


def test_metrics_show_what_is_known_and_leave_out_what_is_not(world: World):
    before = world.client.get("/metrics").text
    assert "heddle_ticks_total 0.0" in before
    assert "\nheddle_spend_usd{" not in before, "unknown is not 0"
    world.metrics.tick(0.02, late=True)
    world.metrics.tick(0.02, failed=True)
    world.metrics.guard_check(late=True)
    world.metrics.replicas("images", desired=6, ready=4, coming=2)
    world.metrics.spend(hour_usd=3.5, burn_usd_per_hour=7.0, cap_usd_per_hour=50.0)
    world.metrics.term("images", "premium", value=180.0, limit=200.0)
    shown = world.client.get("/metrics").text
    for line in (
        "heddle_ticks_total 2.0",
        "heddle_ticks_late_total 1.0",
        "heddle_ticks_failed_total 1.0",
        "heddle_tick_seconds_count 2.0",
        "heddle_guard_checks_total 1.0",
        'heddle_replicas{service="images",state="ready"} 4.0',
        'heddle_spend_usd{scope="fleet"} 3.5',
        'heddle_spend_cap_usd_per_hour{scope="fleet"} 50.0',
        'heddle_term_reading{service="images",term="premium"} 180.0',
    ):
        assert line in shown
    world.metrics.term("images", "premium", value=None, limit=None)
    world.metrics.spend(hour_usd=3.5, burn_usd_per_hour=7.0, cap_usd_per_hour=None)
    after = world.client.get("/metrics").text
    assert "heddle_term_reading{" not in after
    assert "heddle_spend_cap_usd_per_hour{" not in after


# -------------------------------------------------------------------------------------------------------------- reading


def test_status_before_the_first_tick_knows_only_the_time(world: World):
    status = world.get("/v1/status")
    assert status["now"] == "2024-11-25T06:00:00Z"
    assert status["ticks"] is None
    assert status["speed"] is None


def test_status_after_ticks(world: World):
    world.add(
        ClockRow(kind="virtual", virtual_at=NOW, wall_at=NOW, speed=60.0),
        ControllerPulse(started_at=NOW, tick_at=NOW, tick_ms=12.5, ticks=4, ticks_late=1, policy="heddle"),
        ControllerLease(holder="heddle", host="loom", pid=1, epoch=3, acquired_at=NOW, renewed_at=NOW),
    )
    status = world.get("/v1/status")
    assert (status["clock"], status["speed"], status["paused"]) == ("virtual", 60.0, False)
    assert (status["ticks"], status["ticks_late"], status["tick_ms"], status["epoch"]) == (4, 1, 12.5, 3)


def test_services_with_their_last_plan(world: World):
    (before,) = world.get("/v1/services")
    assert before["desired"] is None, "no plan yet: unknown"
    world.add(plan(1), plan(2))
    (images,) = world.get("/v1/services")
    assert [tier["name"] for tier in images["tiers"]] == ["premium", "standard", "background"]
    assert (images["plan_id"], images["desired"], images["observed_ready"]) == ("p-000002", 6, 4)
    assert images["envelope_version"] == 1


def test_settlements_keep_what_is_unknown(world: World):
    hour: dict[str, Any] = {"service": "images", "cap_usd": 50.0, "within_cap": True, "requests": 9, "tiers": {}}
    known = Settlement(hour=NOW, usd=20.0, text="held", saved_usd=3.5, regret_usd=1.0, unknown_minutes=0, **hour)
    world.add(known, Settlement(hour=NOW + timedelta(hours=1), usd=21.0, text="unknown", unknown_minutes=9, **hour))
    newest, oldest = world.get("/v1/settlements")["items"]
    assert (oldest["saved_usd"], oldest["regret_usd"]) == (3.5, 1.0)
    assert (newest["saved_usd"], newest["shadow_usd"], newest["slo_minutes"]) == (None, None, None)
    assert newest["unknown_minutes"] == 9 and newest["usd"] == 21.0


def test_a_mode_is_asked_for_up_to_the_processes(world: World):
    ask = {"mode": "observe", "author": "ada", "reason": "look on"}
    accepted = world.client.post("/v1/services/images/mode", json=ask)
    assert accepted.status_code == 202
    assert (accepted.json()["kind"], accepted.json()["payload"]) == ("set_mode", {"mode": "observe"})
    world.add(ControllerPulse(started_at=NOW, mode="observe"))
    refused = world.client.post("/v1/services/images/mode", json={**ask, "mode": "act"})
    assert refused.status_code == 422 and refused.json()["nearest"] == "observe"
    assert world.client.post("/v1/services/videos/mode", json=ask).status_code == 422


def test_plans_come_newest_first_in_pages(world: World):
    world.add(*(plan(number) for number in range(1, 6)))
    seen: list[str] = []
    before = ""
    while True:
        page = world.client.get(
            "/v1/plans", params={"limit": 2, "service": "images", **({"before": before} if before else {})}
        )
        assert page.status_code == 200
        seen += [item["id"] for item in page.json()["items"]]
        before = page.json()["next"]
        if before is None:
            break
    assert seen == [f"p-{number:06d}" for number in (5, 4, 3, 2, 1)]
    assert world.get("/v1/plans?service=other")["items"] == []
    assert world.get("/v1/plans?limit=1")["items"][0]["numbers"] == {"wait_ms": 230.0, "unknown": None}


def test_the_ledger_comes_newest_first_in_pages_and_by_kind(world: World):
    world.add(*(entry(f"decision {number}") for number in range(3)), entry("paused", kind="pause"))
    first = world.get("/v1/ledger?limit=3")
    assert [item["what"] for item in first["items"]] == ["paused", "decision 2", "decision 1"]
    rest = world.get(f"/v1/ledger?limit=3&before={first['next']}")
    assert [item["what"] for item in rest["items"]] == ["decision 0"]
    assert rest["next"] is None
    assert [item["what"] for item in world.get("/v1/ledger?kind=pause")["items"]] == ["paused"]
    assert world.client.get("/v1/ledger", params={"since": (NOW + timedelta(1)).isoformat()}).json()["items"] == []


def test_jobs_events_envelopes_and_overrides(world: World):
    job = {"service": "images", "tenant": "t", "tier": "background", "offer_id": "o", "submitted_at": NOW}
    world.add(
        JobRow(id="j-0001", name="render", state="running", **job),
        JobRow(id="j-0002", name="loop", state="killed", **job),
        GuardrailEvent(
            at=NOW, job_id="j-0002", rule="runaway", rule_version=1, action="kill", dry_run=False, text="no progress",
            evidence={"seconds": 900}, status="confirmed",
        ),
        OverrideRow(
            service="images", kind="freeze", author="ada", reason="r", starts_at=NOW, ends_at=NOW + timedelta(1)
        ),
        OverrideRow(service="images", kind="freeze", author="ada", reason="r", starts_at=NOW, ends_at=NOW),
    )  # fmt: skip
    assert [job["id"] for job in world.get("/v1/jobs")] == ["j-0002", "j-0001"]
    assert [job["id"] for job in world.get("/v1/jobs?state=running")] == ["j-0001"]
    assert world.get("/v1/jobs?state=running")[0]["cost_usd"] is None
    assert world.get("/v1/guardrails/events")["items"][0]["evidence"] == {"seconds": 900}
    assert world.get("/v1/guardrails/events?job_id=j-0001")["items"] == []
    assert world.get("/v1/envelopes")["items"][0]["document"] == DOCUMENT
    assert [item["id"] for item in world.get("/v1/overrides")["items"]] == [1]
    assert [item["id"] for item in world.get("/v1/overrides?active=false")["items"]] == [2, 1]


@pytest.mark.parametrize(
    "path", ["/v1/ledger?limit=501", "/v1/ledger?limit=0", "/v1/jobs?state=lost", "/v1/plans?before=x"]
)
def test_a_bad_query_is_a_problem_that_names_its_field(world: World, path: str):
    answer = world.client.get(path)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["field"] in path


def test_what_is_not_there_is_a_problem_too(world: World):
    for path in ("/v1/intents/99", "/v1/nothing", "/docs"):
        answer = world.client.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


# --------------------------------------------------------------------------------------------------------------- asking


def test_an_envelope_becomes_a_pending_intent_that_can_be_followed(world: World):
    answer = world.ask_envelope({**DOCUMENT, "spend_cap_usd_per_hour": 30})
    assert answer.status_code == 202, answer.text
    followed = world.get(answer.headers["location"])
    assert followed == answer.json()["intent"]
    assert (followed["kind"], followed["status"], followed["author"]) == ("apply_envelope", "pending", "ada")
    assert followed["payload"]["document"]["spend_cap_usd_per_hour"] == 30
    assert followed["payload"]["base_version"] == 1
    assert followed["created_at"] == "2024-11-25T06:00:00Z", "the controller's now, not the wall's"


@pytest.mark.parametrize(
    ("change", "field", "nearest"),
    [
        ({"spend_cap_usd_per_hour": -5}, "document.spend_cap_usd_per_hour", "1"),
        ({"floors": {"images": 200}}, "document.floors", "116"),
        ({"cap": 5}, "document.cap", None),
    ],
)
def test_an_envelope_that_can_not_hold_is_refused_with_the_nearest_value(
    world: World, change: dict[str, Any], field: str, nearest: str | None
):
    answer = world.ask_envelope({**DOCUMENT, **change})
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["field"] == field
    assert problem["reason"]
    assert nearest is None or problem["nearest"] == nearest
    assert world.intents() == []


def test_an_end_to_end_target_below_the_measured_execution_is_warned_of(world: World):
    tight = {"of": "end_to_end", "statistic": "mean", "target_ms": 9000}
    tiers = {**DOCUMENT["tiers"], "premium": {"tenants_percent": 20, "latency": tight}}
    answer = world.ask_envelope({**DOCUMENT, "tiers": tiers})
    assert answer.status_code == 202
    (warning,) = answer.json()["warnings"]
    assert warning["field"] == "tiers.premium.latency.target_ms"
    assert warning["nearest"] == "15,000 ms", "150 s of work in 10 requests"


def test_an_unknown_tier_and_an_unknown_service_are_refused(world: World):
    tiers = {"gold": {"tenants_percent": 100, "latency": {"statistic": "mean", "target_ms": 200}}}
    assert world.ask_envelope({**DOCUMENT, "tiers": tiers}).json()["field"] == "document.tiers.gold"
    answer = world.ask_envelope(DOCUMENT, service="video")
    assert (answer.status_code, answer.json()["field"], answer.json()["nearest"]) == (422, "service", "images")


def test_a_doubtful_envelope_is_accepted_with_a_warning(world: World):
    answer = world.ask_envelope({**DOCUMENT, "spend_cap_usd_per_hour": 0.2}, signed=True)
    assert answer.status_code == 202
    assert answer.json()["warnings"][0]["field"] == "spend_cap_usd_per_hour"


def test_a_change_to_an_older_version_is_a_conflict(world: World):
    answer = world.ask_envelope(DOCUMENT, base_version=0)
    assert answer.status_code == 409
    assert answer.json()["nearest"] == "1"


@pytest.mark.parametrize("missing", ["author", "reason"])
@pytest.mark.parametrize("value", ["", "   "])
def test_nothing_is_done_for_nobody_or_for_no_reason(world: World, missing: str, value: str):
    answer = world.ask_override(**{missing: value})
    assert (answer.status_code, answer.json()["field"]) == (422, missing)
    assert world.intents() == []


def test_an_override_becomes_an_intent(world: World):
    answer = world.ask_override()
    assert answer.status_code == 202, answer.text
    (intent,) = world.intents()
    assert (intent.kind, intent.service) == ("override", "images")
    assert intent.payload == {
        "kind": "pin",
        "replicas": 8,
        "ends_at": "2024-11-25T08:00:00+00:00",
        "signed_over_cap": False,
    }


def test_the_whole_fleet_can_be_paused_but_not_pinned(world: World):
    assert world.ask_override(service="*", kind="pause", replicas=None).status_code == 202
    assert [intent.kind for intent in world.intents()] == ["pause_fleet"]
    assert world.ask_override(service="*").json()["field"] == "kind"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"ends_at": NOW.isoformat()}, "ends_at"),
        ({"ends_at": (NOW + timedelta(days=32)).isoformat()}, "ends_at"),
        ({"ends_at": "2024-11-25T08:00:00"}, "ends_at"),
        ({"replicas": None}, "replicas"),
        ({"replicas": -1}, "replicas"),
        ({"kind": "freeze"}, "replicas"),
        ({"kind": "stop"}, "kind"),
        ({"service": "video"}, "service"),
        ({"expires": "never"}, "expires"),
    ],
)
def test_an_override_that_could_never_hold_is_refused(world: World, changes: dict[str, Any], field: str):
    answer = world.ask_override(**changes)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert world.intents() == []


# --------------------------------------------------------------------------------------------------------------- origin


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_site_may_not_change_anything(world: World, headers: dict[str, str]):
    ends_at = (NOW + timedelta(hours=1)).isoformat()
    body = {"kind": "freeze", "ends_at": ends_at, "author": "a", "reason": "r"}
    refused = world.client.post("/v1/overrides", json=body, headers=headers)
    assert (refused.status_code, refused.headers["content-type"]) == (403, "application/problem+json")
    assert world.intents() == []
    same = {"Origin": world.address, "Sec-Fetch-Site": "same-origin"}
    assert world.client.post("/v1/overrides", json=body, headers=same).status_code == 202


@pytest.mark.parametrize("path", ["/healthz", "/v1/ledger", "/metrics"])
def test_a_name_pointed_at_loopback_gets_nothing(world: World, path: str):
    answer = world.client.get(path, headers={"Host": "rebound.example:8000"})
    assert answer.status_code == 400
    assert "items" not in answer.text


@pytest.mark.parametrize(
    ("bind", "host", "known"),
    [
        ("127.0.0.1", "127.0.0.1:8000", True),
        ("127.0.0.1", "localhost:8000", True),
        ("127.0.0.1", "LOCALHOST", True),
        ("127.0.0.1", "[::1]:8000", True),
        ("127.0.0.1", "10.0.0.7:8000", False),
        ("127.0.0.1", "localhost.evil.example", False),
        ("127.0.0.1", "", False),
        ("127.0.0.1", "[::1", False),
        ("localhost", "10.0.0.7", False),
        ("0.0.0.0", "10.0.0.7:8000", True),
        ("0.0.0.0", "evil.example:8000", False),
        ("0.0.0.0", socket.gethostname(), True),
        ("10.0.0.7", "10.0.0.7:8000", True),
    ],
)
def test_the_hosts_that_a_server_answers_for(bind: str, host: str, known: bool):
    async def nowhere(*_: object) -> None: ...

    assert OriginCheck(nowhere, bind).known_host(host) is known


def test_a_program_sends_neither_header_and_is_no_cross_site_request():
    assert not is_cross_site(Headers({"host": "127.0.0.1:8000"}))


# --------------------------------------------------------------------------------------------------------------- server


def test_a_port_in_use_is_said_with_the_variable_to_change(world: World):
    app = create_app(world.engine, lambda: world.status)
    with pytest.raises(PortBusy, match=f"Port {world.served.port} of 127.0.0.1.*HEDDLE_API_PORT"):
        serve(app, "127.0.0.1", world.served.port)


def test_it_stops_and_leaves_neither_thread_nor_port(world: World):
    assert world.get("/v1/status")["ticking"] is True
    world.served.stop()
    world.served.stop()
    assert "api" not in [thread.name for thread in threading.enumerate()]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", world.served.port)) != 0


# ----------------------------------------------------------------------------------------------------------------- docs


def test_the_page_names_every_request_and_no_other(world: World):
    paths = world.get("/openapi.json")["paths"]
    served = {
        f"{method.upper()} {path.replace('intent_id', 'id')}" for path, methods in paths.items() for method in methods
    }
    table = [line.split("|")[1] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`((?:GET|POST) [^`]+)`", "".join(table))) == served


# --- what-if runs ---


def test_a_replay_is_asked_for_and_followed(world: World) -> None:
    asked = {
        "policy": "hpa", "offers": {"without_spot": True}, "from": "2024-11-24T06:00:00Z", "to": "2024-11-25T06:00:00Z",
        "envelope": DOCUMENT, "baselines": True, "author": "ada", "reason": "what does spot save us?",
    }  # fmt: skip
    answer = world.client.post("/v1/replays", json=asked)
    assert answer.status_code == 202 and answer.headers["Location"] == f"/v1/intents/{answer.json()['id']}"
    (intent,) = world.intents()
    assert (intent.kind, intent.service, intent.author) == ("ask_replay", "images", "ada")
    assert intent.payload == {
        "policy": "hpa", "envelope": DOCUMENT, "from": "2024-11-24T06:00:00+00:00", "to": "2024-11-25T06:00:00+00:00",
        "offers": {"without_spot": True, "without_zones": [], "price_factors": {}}, "baselines": True,
    }  # fmt: skip

    world.add(
        ReplayRun(
            service="images", spec={"policy": "hpa"}, author="ada", reason="r", asked_at=NOW, status="running",
            progress_ratio=0.5, intent_id=intent.id,
        )
    )  # fmt: skip
    assert [item["intent_id"] for item in world.get("/v1/replays")["items"]] == [intent.id]
    run = world.get("/v1/replays/1")
    assert (run["status"], run["progress_ratio"], run["summary"], run["cpu_s"]) == ("running", 0.5, None, None)
    assert world.client.get("/v1/replays/2").status_code == 404


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"service": "videos"}, "service"),
        ({"envelope": {"tiers": {}}}, "envelope.tiers"),
        ({"from": "2024-11-24T06:00:00Z"}, "to"),
        ({"to": "2024-11-24T06:00:00Z"}, "from"),
        ({"author": " "}, "author"),
        ({"offers": {"cheaper": True}}, "offers.cheaper"),
        ({"from": "2024-11-24T06:00:00"}, "from"),
    ],
)
def test_a_replay_that_could_never_be_is_refused_by_field(world: World, change: dict[str, Any], field: str) -> None:
    answer = world.client.post("/v1/replays", json={"policy": "hpa", "author": "ada", "reason": "r", **change})
    assert answer.status_code == 422 and field in answer.json()["field"], answer.text
    assert world.intents() == []
