"""`replay --pipeline` end to end: its files, its claims recomputed from them, and what the classes must not do."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from controller.__main__ import main
from tests.controller.replayed import OFFERS, Row, number, percentile, rows, table, write_requests

DOCUMENT = """\
name: small
stages:
  images:    {class: inference, wait_share: 0.5}
  rendering: {class: rendering, wait_share: 0.4, work_s: 2, work_ratio: 0.25, boot_s: 5, load_s: 4, offers: fn.csv}
  delivery:  {class: delivery, wait_share: 0.1, work_s: 0.5, boot_s: 60, load_s: 1, offers: cpu.csv}
batch:
  night: {items: 12, work_s: 60, at_hour: 10, deadline_h: 3, boot_s: 100, load_s: 20, offers: offers.csv}
"""
HEADER = "provider,region,zone,instance_type,gpu,gpu_count,on_demand_usd_per_hour,spot_usd_per_hour"
ENVELOPE = """\
spend_cap_usd_per_hour: 40
tier_salt: a
tiers:
  premium:    {tenants_percent: 20, latency: {of: end_to_end, statistic: mean, target_ms: 120000}}
  standard:   {tenants_percent: 50, latency: {of: end_to_end, statistic: p95, target_ms: 400000}}
  background: {tenants_percent: 30, latency: {of: end_to_end, statistic: p100, target_ms: 7200000}}
"""
STAGES = ("images", "rendering", "delivery")
PRICES = {
    "fn/z/serverless": 1.5, "cpu/az1/on_demand": 0.08, "cpu/az1/spot": 0.01, "g5.xlarge/az1/on_demand": 1.006,
    "g5.xlarge/az1/spot": 0.43, "g5.xlarge/az2/spot": 0.43, "g6e.xlarge/az1/on_demand": 1.861,
}  # fmt: skip


def quiet_hours(recorded: list[Row]) -> list[Row]:
    """The same requests without those of two hours in the middle of the window."""
    return [row for row in recorded if not 11 <= row.at.hour < 13]


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hours of history, then six, of which two are empty; a fixed fleet in the first stage."""
    folder = tmp_path_factory.mktemp("pipeline")
    write_requests(folder / "requests.csv", quiet_hours(rows()))
    for name, text in (
        ("envelope.yaml", ENVELOPE),
        ("offers.csv", OFFERS),
        ("fn.csv", f"{HEADER},serverless_usd_per_hour\np,r,z,fn,A10G,1,,,1.5\n"),
        ("cpu.csv", f"{HEADER}\np,r,az1,cpu,,0,0.08,0.01\n"),
        ("pipeline.yaml", DOCUMENT),
        ("loads.csv", "load_ms\n20000\n"),
    ):
        (folder / name).write_text(text)
    assert main(arguments(folder)) == 0
    return folder / "out"


def arguments(folder: Path, **changes: object) -> list[str]:
    given = {
        "requests": folder / "requests.csv", "from": "2024-11-24T09:00:00Z", "to": "2024-11-24T15:00:00Z",
        "policy": "static", "envelope": folder / "envelope.yaml", "offers": folder / "offers.csv",
        "load-times": folder / "loads.csv", "scale": 2, "jitter-s": 0, "boot-s": 100, "seed": 5,
        "pipeline": folder / "pipeline.yaml", "out": folder / "out",
    } | changes  # fmt: skip
    return ["replay", *(text for name, value in given.items() for text in (f"--{name}", str(value)))]


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


def test_every_request_is_delivered_once_and_no_sooner_than_it_was_made(replayed: Path) -> None:
    whole = table(replayed / "requests.csv")
    assert len(whole) == summary(replayed)["requests"]
    for stage in STAGES:
        assert len(table(replayed / stage / "requests.csv")) == len(whole)
    for row in whole:
        at = [number(row["arrived_s"])]
        at += [number(row[f"{stage}_{step}_s"]) for stage in STAGES for step in ("started", "finished")]
        assert at == sorted(at)
        executed = sum(at[i + 1] - at[i] for i in (1, 3, 5))
        assert number(row["finished_s"]) - at[0] == pytest.approx(executed + number(row["wait_s"]), abs=1e-4)


def test_the_summary_is_what_the_tables_say(replayed: Path) -> None:
    claims, whole = summary(replayed), table(replayed / "requests.csv")
    for tier, claim in claims["tiers"].items():
        took = [number(r["finished_s"]) - number(r["arrived_s"]) for r in whole if r["tier"] == tier]
        assert claim["requests"] == len(took)
        assert claim["mean_s"] == pytest.approx(math.fsum(took) / len(took), abs=1e-4)
        assert claim["p95_s"] == pytest.approx(percentile(took, 95), abs=1e-4)
        assert claim["max_s"] == pytest.approx(max(took), abs=1e-4)
    assert claims["tiers"]["premium"]["target_met"] == (claims["tiers"]["premium"]["mean_s"] <= 120)
    total = 0.0
    for service, claim in claims["services"].items():
        replicas, requests = table(replayed / service / "replicas.csv"), table(replayed / service / "requests.csv")
        spans = {r["replica_id"]: (number(r["requested_s"]), number(r["released_s"]), r) for r in replicas}
        cost = sum((end - begin) / 3600 * PRICES[r["offer"]] for begin, end, r in spans.values())
        busy = sum(
            (number(r["finished_s"]) - number(r["started_s"])) / 3600 * PRICES[spans[r["replica_id"]][2]["offer"]]
            for r in requests
        )
        assert claim["cost_usd"] == pytest.approx(cost, abs=1e-4)
        assert claim["busy_usd"] == pytest.approx(busy, abs=1e-4)
        assert claim["idle_usd"] >= -1e-6
        assert claim["busy_usd"] + claim["idle_usd"] + claim["cold_start_usd"] == pytest.approx(claim["cost_usd"])
        total += cost
    assert claims["cost_usd"] == pytest.approx(total, abs=1e-3)


def test_rendering_is_gone_in_the_quiet_hours_and_delivery_is_not(replayed: Path) -> None:
    claims = summary(replayed)["services"]
    quiet = (2.5 * 3600, 3.9 * 3600)

    def held(service: str) -> list[str]:
        return [
            r["offer"]
            for r in table(replayed / service / "replicas.csv")
            if number(r["requested_s"]) < quiet[1] and number(r["released_s"]) > quiet[0]
        ]

    assert held("rendering") == []
    assert claims["rendering"]["empty_ratio"] > 0.25
    assert held("delivery")
    assert claims["delivery"]["empty_ratio"] == pytest.approx(0, abs=0.01)
    assert {r["offer"] for r in table(replayed / "delivery/replicas.csv")} == {"cpu/az1/on_demand"}


def test_the_night_is_done_in_time(replayed: Path) -> None:
    night = summary(replayed)["services"]["night"]
    assert night["target_met"] is True
    items = table(replayed / "night/requests.csv")
    assert len(items) == 12
    assert max(number(r["finished_s"]) - number(r["arrived_s"]) for r in items) <= 3 * 3600


def test_what_cannot_be_used_is_refused_with_one_line(
    replayed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = replayed.parent
    assert main(arguments(folder, pipeline=tmp_path / "none.yaml", out=tmp_path / "out")) == 2
    assert (
        main(arguments(folder, out=tmp_path / "out", **{"from": "2025-11-24T09:00:00Z", "to": "2025-11-24T10:00:00Z"}))
        == 2
    )
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2
    assert "none.yaml" in lines[0]
    assert "window" in lines[1]
    assert not (tmp_path / "out").exists()
