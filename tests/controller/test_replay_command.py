"""`python -m controller replay` end to end: its files, its claims recomputed from them, and all that it refuses."""

import gzip
import math
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from controller.__main__ import main
from tests.controller.replayed import (
    ENVELOPE,
    OFFERS,
    PRICES,
    SPEED,
    START,
    Row,
    columns,
    number,
    recomputed,
    rows,
    summary,
    table,
    tier_of,
    write_requests,
)

SCALE, JITTER_S, BOOT_S = 4, 120.0, 100.0
WINDOW_H = 6
POLICIES = ("heddle", "hpa", "hpa:target=0.5,down_s=900", "hpa_spot", "static")
SUMMARY = {
    "policy", "window", "seed", "scale", "requests", "gpu_hours", "cost_usd", "interrupted", "preempted", "starts",
    "stops", "peak_replicas", "hours_within_cap_ratio", "costliest_hour_usd", "tiers",
}  # fmt: skip
TIER = {
    "requests", "wait_mean_s", "wait_p50_s", "wait_p95_s", "wait_p99_s", "wait_max_s", "target_met",
}  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine recorded hours: three of history in the file itself, then a window of six."""
    folder = tmp_path_factory.mktemp("inputs")
    write_requests(folder / "requests.csv", rows())
    (folder / "envelope.yaml").write_text(ENVELOPE)
    (folder / "offers.csv").write_text(OFFERS)
    (folder / "loads.csv").write_text("load_ms\n15000\n25000\n40000\n")
    (folder / "spot.csv").write_text(
        "zone,gpu,gap_seconds,ticks,changes\nus-west-2a,V100,600,30,0:1 8:0 11:1\nus-west-2b,V100,600,30,0:1 8:0 10:1\n"
    )
    return folder


def arguments(inputs: Path, into: Path, policy: str = "heddle", **changes: object) -> list[str]:
    given = {
        "requests": inputs / "requests.csv", "from": "2024-11-24T09:00:00Z", "to": "2024-11-24T15:00:00Z",
        "policy": policy, "envelope": inputs / "envelope.yaml", "offers": inputs / "offers.csv",
        "load-times": inputs / "loads.csv", "scale": SCALE, "jitter-s": JITTER_S, "boot-s": BOOT_S, "seed": 5,
        "spot": inputs / "spot.csv", "spot-zones": "az1=us-west-2a,az2=us-west-2b", "out": into,
    }  # fmt: skip
    given |= {name.replace("_", "-"): value for name, value in changes.items()}
    return [
        "replay",
        *(word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))),
    ]


@pytest.fixture(scope="module")
def replayed(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder that a replay wrote; each is run once."""
    done: dict[tuple[object, ...], Path] = {}

    def run(policy: str, again: int = 0, **changes: object) -> Path:
        key = (policy, again, *sorted(changes.items()))
        if key not in done:
            done[key] = tmp_path_factory.mktemp("out")
            assert main(arguments(inputs, done[key], policy, **changes)) == 0
        return done[key]

    return run


def recorded_in_window(from_h: float = 3.0, to_h: float = 9.0) -> list[Row]:
    return [row for row in rows() if row.work is not None and from_h <= (row.at - START).total_seconds() / 3600 < to_h]


# --- what is written ---


@pytest.mark.parametrize("policy", POLICIES)
def test_the_files_have_the_columns_of_the_contract(replayed: Callable[..., Path], policy: str) -> None:
    folder = replayed(policy)
    assert sorted(path.name for path in folder.iterdir()) == ["replicas.csv", "requests.csv", "summary.json"]
    assert columns(folder / "replicas.csv") == [
        "replica_id",
        "offer",
        "requested_s",
        "ready_s",
        "released_s",
        "cost_usd",
    ]
    assert columns(folder / "requests.csv") == [
        "tier", "arrived_s", "started_s", "finished_s", "replica_id", "attempts",
    ]  # fmt: skip
    told = summary(folder)
    assert set(told) >= SUMMARY
    assert all(set(tier) == TIER for tier in told["tiers"].values())
    assert (told["policy"], told["seed"], told["scale"]) == (policy, 5, SCALE)
    assert told["window"] == ["2024-11-24T09:00:00Z", "2024-11-24T15:00:00Z"]


@pytest.mark.parametrize("policy", POLICIES)
def test_every_claim_follows_from_the_raw_files(replayed: Callable[..., Path], policy: str) -> None:
    folder = replayed(policy)
    told, found = summary(folder), recomputed(folder, cap=12.0)
    again = found.pop("again")
    tiers = found.pop("tiers")
    for name, value in found.items():
        assert told[name] == pytest.approx(value, rel=1e-6, abs=1e-5), name
    for name, tier in tiers.items():
        for field, value in tier.items():
            assert told["tiers"][name][field] == pytest.approx(value, rel=1e-6, abs=2e-6), (name, field)
    assert told["interrupted"] + told["preempted"] == again
    met = {name: tier["target_met"] for name, tier in told["tiers"].items()}
    assert met == {
        "premium": tiers["premium"]["wait_mean_s"] <= 0.2,
        "standard": tiers["standard"]["wait_p95_s"] <= 30,
        "background": tiers["background"]["wait_max_s"] <= 7200,
    }


@pytest.mark.parametrize("policy", POLICIES)
def test_every_recorded_request_is_served_scale_times_in_its_tier(replayed: Callable[..., Path], policy: str) -> None:
    folder, recorded = replayed(policy), recorded_in_window()
    requests = table(folder / "requests.csv")
    assert len(requests) == SCALE * len(recorded)
    counts: dict[str, int] = defaultdict(int)
    for row in recorded:
        counts[tier_of(row.tenant)] += SCALE
    assert {name: tier["requests"] for name, tier in summary(folder)["tiers"].items()} == counts
    assert all(request["finished_s"] != "" for request in requests)
    # Each copy within the jitter of a record of its tier, at its length (over the speed of what ran it).
    offer = {replica["replica_id"]: replica["offer"] for replica in table(folder / "replicas.csv")}
    lengths = sorted(row.work for row in recorded for _ in range(SCALE) if row.work is not None)
    ran = [
        (number(r["finished_s"]) - number(r["started_s"])) * SPEED.get(offer[r["replica_id"]], 1.0) for r in requests
    ]
    assert sorted(ran) == pytest.approx(lengths, abs=1e-4)
    assert min(number(r["arrived_s"]) for r in requests) >= 0
    assert max(number(r["arrived_s"]) for r in requests) <= 3600 * WINDOW_H + JITTER_S


@pytest.mark.parametrize("policy", POLICIES)
def test_no_request_runs_on_a_replica_that_is_not_there(replayed: Callable[..., Path], policy: str) -> None:
    folder = replayed(policy)
    replicas = {replica["replica_id"]: replica for replica in table(folder / "replicas.csv")}
    runs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for request in table(folder / "requests.csv"):
        replica = replicas[request["replica_id"]]
        started, finished = number(request["started_s"]), number(request["finished_s"])
        assert started >= number(request["arrived_s"]) - 1e-6
        assert started >= number(replica["ready_s"]) - 1e-6
        assert finished <= number(replica["released_s"]) + 1e-6
        assert int(request["attempts"]) >= 1
        runs[request["replica_id"]].append((started, finished))
    for mine in runs.values():
        mine.sort()
        assert all(after[0] >= before[1] - 2e-6 for before, after in pairwise(mine))


@pytest.mark.parametrize("policy", POLICIES)
def test_every_replica_boots_loads_and_is_billed_to_the_second(replayed: Callable[..., Path], policy: str) -> None:
    for replica in table(replayed(policy) / "replicas.csv"):
        asked, ready, gone = (number(replica[name]) for name in ("requested_s", "ready_s", "released_s"))
        assert 0 <= asked <= gone
        assert float(replica["cost_usd"]) == pytest.approx((gone - asked) / 3600 * PRICES[replica["offer"]], abs=1e-6)
        if ready != 0 and not math.isnan(ready):
            assert round(ready - asked - BOOT_S, 3) in (15.0, 25.0, 40.0)


def test_every_policy_begins_with_the_same_fleet(replayed: Callable[..., Path]) -> None:
    """As many of the cheapest on-demand offer per speed as the mean load of history's last hour, at least one."""
    fleets = []
    for policy in POLICIES:
        first = [
            r for r in table(replayed(policy) / "replicas.csv") if number(r["requested_s"]) == number(r["ready_s"]) == 0
        ]
        fleets.append(sorted((r["replica_id"], r["offer"]) for r in first))
    assert fleets[0] == fleets[1] == fleets[2]
    assert {offer for _, offer in fleets[0]} == {"g6e.xlarge/az1/on_demand"}
    last_hour = sum(row.work or 0 for row in recorded_in_window(2.0, 3.0)) * SCALE / 3600
    # Jitter carries a little over the hour's edges.
    assert abs(len(fleets[0]) - max(1, math.ceil(last_hour / 2.0))) <= 1


def test_static_never_changes_and_has_the_peak_of_history_over_seventy_percent(replayed: Callable[..., Path]) -> None:
    folder = replayed("static")
    replicas = table(folder / "replicas.csv")
    assert all(number(r["requested_s"]) == 0 for r in replicas)
    ends = {r["released_s"] for r in replicas}
    told = summary(folder)
    assert (len(ends), told["stops"]) == (1, 0)
    past = [row for row in rows() if row.work is not None and (row.at - START).total_seconds() < 3 * 3600]
    peak = max(
        sum(r.work or 0 for r in past if s <= (r.at - START).total_seconds() < s + 600) * SCALE / 600
        for s in range(0, 3 * 3600 - 600, 60)
    )
    # Jitter spreads a ten-minute peak over its neighbours.
    assert 0.5 * peak / 0.7 / 2 <= len(replicas) <= 1.2 * peak / 0.7 / 2 + 1


def test_the_baselines_stay_on_demand_in_one_pool(replayed: Callable[..., Path]) -> None:
    for policy in ("hpa", "static"):
        offers = {replica["offer"] for replica in table(replayed(policy) / "replicas.csv")}
        assert offers == {"g6e.xlarge/az1/on_demand"}
        assert summary(replayed(policy))["preempted"] == 0
    assert any("spot" in replica["offer"] for replica in table(replayed("heddle") / "replicas.csv"))


def test_spot_goes_when_its_series_says_so(replayed: Callable[..., Path]) -> None:
    """Both zones fall at tick 8 (4800 s) of the window; the first is back at 6600 s, the second at 6000 s."""
    for replica in table(replayed("heddle") / "replicas.csv"):
        if "spot" not in replica["offer"]:
            continue
        asked, gone = number(replica["requested_s"]), number(replica["released_s"])
        assert not (asked < 4800 < gone - 1e-6)
        back_s = 6600 if "az1" in replica["offer"] else 6000
        assert not 4800 <= asked < back_s
    shifted = table(replayed("heddle", spot_offset_ticks=3) / "replicas.csv")
    spot = [r for r in shifted if "spot" in r["offer"]]
    assert not any(number(r["requested_s"]) < 3000 < number(r["released_s"]) - 1e-6 for r in spot)


def test_it_is_billed_until_every_request_has_finished(replayed: Callable[..., Path]) -> None:
    folder = replayed("hpa")
    last_s = max(number(request["finished_s"]) for request in table(folder / "requests.csv"))
    end_s = max(number(replica["released_s"]) for replica in table(folder / "replicas.csv"))
    assert end_s >= max(last_s, 3600 * WINDOW_H)
    assert end_s <= max(last_s, 3600 * WINDOW_H) + 30


@pytest.mark.parametrize("policy", ["heddle", "hpa"])
def test_the_seed_decides_everything(replayed: Callable[..., Path], policy: str) -> None:
    one, same = replayed(policy), replayed(policy, again=1)
    for name in ("summary.json", "replicas.csv", "requests.csv"):
        assert (one / name).read_bytes() == (same / name).read_bytes()
    if policy == "hpa":
        assert (one / "requests.csv").read_bytes() != (replayed(policy, seed=6) / "requests.csv").read_bytes()


# --- options ---


def test_history_from_another_file_counts_like_history_in_the_same(
    inputs: Path, tmp_path: Path, replayed: Callable[..., Path]
) -> None:
    """The hours before --from in a file of their own: the static fleet is sized by the same peak (jitter apart)."""
    edge = START.replace(hour=9)
    write_requests(tmp_path / "past.csv", [row for row in rows() if row.at < edge])
    write_requests(tmp_path / "window.csv", [row for row in rows() if row.at >= edge])
    out = tmp_path / "out"
    given = arguments(inputs, out, "static", requests=tmp_path / "window.csv", history=tmp_path / "past.csv")
    assert main(given) == 0
    assert len(table(out / "replicas.csv")) == len(table(replayed("static") / "replicas.csv"))
    # Without it there is nothing to size by.
    assert main(arguments(inputs, out, "static", requests=tmp_path / "window.csv")) == 0
    assert len(table(out / "replicas.csv")) == 1


def test_without_a_window_it_is_the_files_own_hours(inputs: Path, tmp_path: Path) -> None:
    changes = {"from": None, "to": None, "scale": 1, "spot": None, "spot-zones": None}
    assert main(arguments(inputs, tmp_path, "hpa", **changes)) == 0
    told = summary(tmp_path)
    assert told["window"] == ["2024-11-24T06:00:00Z", "2024-11-24T15:00:00Z"]
    assert told["requests"] == len(recorded_in_window(0.0, 9.0))
    assert told["requests_skipped"] == 12


def test_gzip_and_plain_are_the_same(inputs: Path, tmp_path: Path, replayed: Callable[..., Path]) -> None:
    packed = tmp_path / "requests.csv.gz"
    packed.write_bytes(gzip.compress((inputs / "requests.csv").read_bytes()))
    assert main(arguments(inputs, tmp_path / "out", "hpa", requests=packed)) == 0
    assert summary(tmp_path / "out") == summary(replayed("hpa"))


def test_one_tier_a_fine_percentile_and_no_cap(inputs: Path, tmp_path: Path) -> None:
    ruling = tmp_path / "envelope.yaml"
    ruling.write_text(
        "spend_cap_usd_per_hour: null\ntiers:\n"
        "  all: {tenants_percent: 100, latency: {of: end_to_end, statistic: p99.5, target_ms: 600000}}\n"
    )
    out = tmp_path / "out"
    assert main(arguments(inputs, out, "heddle", envelope=ruling, scale=2)) == 0
    told = summary(out)
    assert told["hours_within_cap_ratio"] is None
    assert list(told["tiers"]) == ["all"]
    ends = sorted(number(r["finished_s"]) - number(r["arrived_s"]) for r in table(out / "requests.csv"))
    place = 0.995 * (len(ends) - 1)
    value = ends[math.floor(place)] + (place % 1) * (ends[math.ceil(place)] - ends[math.floor(place)])
    assert told["tiers"]["all"]["target_met"] == (value <= 600)
    # It is no term of the cost: a cap of the file's own hours is.
    assert told["cost_usd"] == pytest.approx(recomputed(out, None)["cost_usd"], abs=1e-4)


def test_it_says_what_it_found(inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(inputs, tmp_path / "out", "hpa")) == 0
    said = capsys.readouterr()
    assert "hpa: " in said.out
    assert "written: " in said.out
    assert "replaying: 100%" in said.err


# --- refusals: one line, exit 2, nothing written ---

GOOD = "2024-11-24T09:00:00Z,G1,t,succeed,5"


def damaged(text: str) -> Callable[[Path], dict[str, object]]:
    def write(folder: Path) -> dict[str, object]:
        (folder / "bad.csv").write_text(text)
        return {"requests": folder / "bad.csv"}

    return write


def truncated(folder: Path) -> dict[str, object]:
    whole = gzip.compress(("arrived_at,tenant,task,status,exec_seconds\n" + f"{GOOD}\n" * 500).encode())
    (folder / "bad.csv.gz").write_bytes(whole[: len(whole) // 2])
    return {"requests": folder / "bad.csv.gz"}


def ruling(text: str) -> Callable[[Path], dict[str, object]]:
    def write(folder: Path) -> dict[str, object]:
        (folder / "bad.yaml").write_text(text)
        return {"envelope": folder / "bad.yaml"}

    return write


def price_list(text: str) -> Callable[[Path], dict[str, object]]:
    def write(folder: Path) -> dict[str, object]:
        (folder / "offers.csv").write_text(text)
        return {"offers": folder / "offers.csv"}

    return write


def taken(folder: Path) -> dict[str, object]:
    (folder / "a-file").write_text("")
    return {"out": folder / "a-file"}


HEAD = "arrived_at,tenant,task,status,exec_seconds\n"
REFUSALS: dict[str, tuple[Callable[[Path], dict[str, object]], tuple[str, ...]]] = {
    "no such file": (lambda folder: {"requests": folder / "none.csv"}, ("none.csv",)),
    "empty file": (damaged(""), ("bad.csv",)),
    "only a head": (damaged(HEAD), ("bad.csv",)),
    "missing column": (damaged("arrived_at,exec_seconds\n2024-11-24T09:00:00Z,5\n"), ("bad.csv", "tenant")),
    "naive time": (damaged(f"{HEAD}{GOOD}\n2024-11-24T09:00:00,G1,t,succeed,5\n"), ("row 3", "arrived_at")),
    "unreadable time": (damaged(f"{HEAD}yesterday,G1,t,succeed,5\n"), ("row 2", "arrived_at")),
    "negative duration": (damaged(f"{HEAD}{GOOD}\n2024-11-24T09:00:00Z,G1,t,succeed,-5\n"), ("row 3", "exec_seconds")),
    "missing duration": (damaged(f"{HEAD}2024-11-24T09:00:00Z,G1,t,succeed,\n"), ("row 2", "exec_seconds")),
    "no tenant": (damaged(f"{HEAD}2024-11-24T09:00:00Z,,t,succeed,5\n"), ("row 2", "tenant")),
    "truncated gzip": (truncated, ("bad.csv.gz",)),
    "history missing": (lambda folder: {"history": folder / "none.csv"}, ("none.csv",)),
    "half an hour": (lambda folder: {"from": "2024-11-24T09:30:00Z"}, ("--from", "whole hour")),
    "no time": (lambda folder: {"from": "tomorrow"}, ("--from", "tomorrow")),
    "ends before it begins": (lambda folder: {"to": "2024-11-24T09:00:00Z"}, ("--to",)),
    "nothing in the window": (lambda folder: {"from": "2025-01-01T00:00Z", "to": "2025-01-02T00:00Z"}, ("window",)),
    "unknown policy": (lambda folder: {"policy": "magic"}, ("--policy", "magic", "heddle, hpa, kpa")),
    "unknown parameter": (lambda folder: {"policy": "hpa:goal=1"}, ("--policy", "goal", "target, down_s")),
    "parameters that don't go together": (
        lambda folder: {"policy": "phpa:season=4,seasons=2"},
        ("--policy", "2 seasons of 4"),
    ),
    "parameter out of range": (lambda folder: {"policy": "hpa:target=0"}, ("--policy", "target", "above 0")),
    "no copies": (lambda folder: {"scale": 0}, ("--scale",)),
    "negative jitter": (lambda folder: {"jitter-s": -1}, ("--jitter-s",)),
    "endless boot": (lambda folder: {"boot-s": "inf"}, ("--boot-s",)),
    "negative seed": (lambda folder: {"seed": -1}, ("--seed",)),
    "no envelope": (lambda folder: {"envelope": folder / "none.yaml"}, ("none.yaml",)),
    "no yaml": (ruling("tiers: [unclosed"), ("bad.yaml",)),
    "negative cap": (
        ruling(ENVELOPE.replace("hour: 12", "hour: -12")),
        ("bad.yaml", "spend_cap_usd_per_hour", "nearest"),
    ),
    "shares": (ruling(ENVELOPE.replace("percent: 20", "percent: 25")), ("bad.yaml", "tiers", "105")),
    "no list of prices": (price_list("a,b\n1,2\n"), ("offers.csv",)),
    "nothing on demand": (price_list(OFFERS.replace("1.006", "").replace("1.861", "")), ("on-demand",)),
    "series unknown": (lambda folder: {"spot-zones": "az1=mars-1a"}, ("--spot-zones", "mars-1a")),
    "zone unknown": (lambda folder: {"spot-zones": "az9=us-west-2a"}, ("--spot-zones", "az9")),
    "out is a file": (taken, ("--out", "a-file")),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_bad_input_is_one_line_and_nothing_is_written(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    prepare, words = REFUSALS[name]
    changes = prepare(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(arguments(inputs, tmp_path / "out", **changes)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    # Prices that can't be used are listed before; the refusal is the last line.
    lines = [line for line in said.err.splitlines() if not line.startswith("replaying:")]
    assert len(lines) == 1 or name == "nothing on demand", lines
    for word in words:
        assert word in lines[-1]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_replay_replaces_the_one_before_it(inputs: Path, tmp_path: Path) -> None:
    assert main(arguments(inputs, tmp_path, "hpa")) == 0
    first = (tmp_path / "requests.csv").read_bytes()
    assert main(arguments(inputs, tmp_path, "static", scale=1)) == 0
    assert summary(tmp_path)["policy"] == "static"
    assert (tmp_path / "requests.csv").read_bytes() != first
    assert len(table(tmp_path / "requests.csv")) == summary(tmp_path)["requests"]
