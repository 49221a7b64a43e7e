"""A small recorded day to replay, its files, and the same figures computed again from what a replay wrote.

`recomputed` reads nothing but the three files and the inputs, with the csv module and plain arithmetic.
"""

import csv
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

START = datetime(2024, 11, 24, 6, tzinfo=UTC)
PRICES = {
    "g5.xlarge/az1/on_demand": 1.006,
    "g5.xlarge/az1/spot": 0.43,
    "g5.xlarge/az2/spot": 0.43,
    "g6e.xlarge/az1/on_demand": 1.861,
}
OFFERS = """\
provider,region,zone,instance_type,gpu,gpu_count,vcpus,memory_gib,on_demand_usd_per_hour,spot_usd_per_hour,speed_ratio
aws,us-west-2,az1,g5.xlarge,A10G,1,4,16,1.006,0.43,1.0
aws,us-west-2,az2,g5.xlarge,A10G,1,4,16,,0.43,1.0
aws,us-west-2,az1,g6e.xlarge,L40S,1,4,32,1.861,,2.0
"""
SPEED = {"g6e.xlarge/az1/on_demand": 2.0}
ENVELOPE = """\
spend_cap_usd_per_hour: 12
tier_salt: a
tiers:
  premium:    {tenants_percent: 20, latency: {of: wait, statistic: mean, target_ms: 200}}
  standard:   {tenants_percent: 50, latency: {of: wait, statistic: p95, target_ms: 30000}}
  background: {tenants_percent: 30, latency: {of: wait, statistic: p100, target_ms: 7200000}}
"""
SHARES = (("premium", 20), ("standard", 70), ("background", 100))


@dataclass(frozen=True)
class Row:
    """A recorded request; `work` None: it was never executed."""

    at: datetime
    tenant: str
    work: float | None


def rows(hours: float = 9.0, per_hour: int = 40, seed: int = 3) -> list[Row]:
    """Recorded requests from START on, busier in the second half; one in thirty was never executed."""
    rng = np.random.default_rng(seed)
    count = int(hours * per_hour)
    at = np.sort(hours * 3600 * rng.beta(1.6, 1.2, count))
    return [
        Row(START + timedelta(seconds=round(float(t), 3)), f"G{rng.integers(60):04d}",
            None if n % 30 == 29 else round(float(rng.gamma(2.0, 15.0)) + 1, 2))
        for n, t in enumerate(at)
    ]  # fmt: skip


def write_requests(path: Path, recorded: list[Row]) -> Path:
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["arrived_at", "tenant", "task", "status", "exec_seconds"])
        for row in recorded:
            done = ["succeed", row.work] if row.work is not None else ["failed", ""]
            out.writerow([row.at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), row.tenant, "txt_2_img", *done])
    return path


def tier_of(tenant: str, salt: str = "a") -> str:
    """SHA-256 of salt + id, modulo 100, against the shares in the order given."""
    bucket = int.from_bytes(hashlib.sha256((salt + tenant).encode()).digest(), "big") % 100
    return next(name for name, edge in SHARES if bucket < edge)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def columns(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return next(csv.reader(file))


def number(cell: str) -> float:
    return math.nan if cell == "" else float(cell)


def percentile(values: list[float], percent: float) -> float:
    """Linear interpolation between closest ranks."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def recomputed(folder: Path, cap: float | None, prices: Mapping[str, float] = PRICES) -> dict[str, Any]:
    """What summary.json claims, from replicas.csv and requests.csv alone."""
    replicas, requests = table(folder / "replicas.csv"), table(folder / "requests.csv")
    spans = [(number(r["requested_s"]), number(r["released_s"]), prices[r["offer"]]) for r in replicas]
    end_s = max(end for _, end, _ in spans)
    hours = [0.0] * max(1, math.ceil(end_s / 3600 - 1e-9))
    for begins, ends, price in spans:
        for hour in range(len(hours)):
            hours[hour] += max(0.0, min(ends, 3600 * (hour + 1)) - max(begins, 3600 * hour)) / 3600 * price
    events = sorted([(begins, 1) for begins, _, _ in spans] + [(ends, -1) for _, ends, _ in spans])
    alive = peak = 0
    for _, step in sorted(events, key=lambda event: (event[0], event[1])):
        alive += step
        peak = max(peak, alive)
    tiers = {}
    for name, _ in SHARES:
        waits = [number(r["started_s"]) - number(r["arrived_s"]) for r in requests if r["tier"] == name]
        tiers[name] = {
            "requests": len(waits),
            "wait_mean_s": math.fsum(waits) / len(waits) if waits else None,
            "wait_p50_s": percentile(waits, 50) if waits else None,
            "wait_p95_s": percentile(waits, 95) if waits else None,
            "wait_p99_s": percentile(waits, 99) if waits else None,
            "wait_max_s": max(waits) if waits else None,
        }
    within = None if cap is None else sum(usd <= cap + 1e-6 for usd in hours) / len(hours)
    return {
        "requests": len(requests),
        "gpu_hours": math.fsum(ends - begins for begins, ends, _ in spans) / 3600,
        "cost_usd": math.fsum((ends - begins) / 3600 * price for begins, ends, price in spans),
        "hours_within_cap_ratio": within,
        "costliest_hour_usd": max(hours),
        "starts": sum(number(r["ready_s"]) != 0 for r in replicas),
        "stops": sum(ends < end_s for _, ends, _ in spans),
        "peak_replicas": peak,
        "again": sum(int(r["attempts"]) - 1 for r in requests),
        "tiers": tiers,
    }


def summary(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return read
