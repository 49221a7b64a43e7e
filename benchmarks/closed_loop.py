"""Heddle, the Kubernetes autoscaler and a static fleet, side by side on a week of real requests, in one run.

2024-11-24 to 12-01 with the days before as history, boot 180 s, jitter ±300 s. Nothing is tuned on the week: what a
policy knows comes from history. `--seeds` vary jitter and model loads.
"""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import yaml

from benchmarks.report import table, write_section
from controller.core.envelope import parse_envelope
from controller.core.types import Envelope, Offer
from controller.replay import POLICIES, ReplaySpec, Summary, run_replay, spot_zones, zones_of
from controller.sources.base import RequestTrace
from controller.sources.offers import read_offers
from controller.sources.traces import parse_zone_map, read_availability, read_load_times, read_requests
from models.enums import Market

DATA = Path(__file__).parent.parent / "data"
FROM_S = datetime(2024, 11, 24, tzinfo=UTC).timestamp()
TO_S = datetime(2024, 12, 1, tzinfo=UTC).timestamp()
ZONE_MAP = "usw2-az1=us-west-2a,usw2-az2=us-west-2b,usw2-az3=us-west-2c"


@dataclass(frozen=True, slots=True)
class Case:
    """One replay: which offers and cap, how much load, whose policy, which seed."""

    scenario: str
    scale: int
    policy: str
    seed: int


SCENARIOS = {
    "headline": "K = 20, the sample envelope ($50/h), spot and on demand, spot by the us-west-2 availability series",
    "on demand": "K = 50, the same targets, on demand only, no cap",
}


@cache
def _files() -> tuple[RequestTrace, Envelope, tuple[Offer, ...]]:
    envelope = parse_envelope(yaml.safe_load((DATA / "envelopes/sample.yaml").read_text()))
    offers, _ = read_offers(DATA / "prices/headline_offers.csv")
    return read_requests(DATA / "traces/gentd26_requests.csv.gz"), envelope, offers


def replay(case: Case) -> Summary:
    """Run one case."""
    requests, envelope, offers = _files()
    if case.scenario == "on demand":
        envelope = replace(envelope, spend_cap_usd_per_hour=None)
        offers = tuple(offer for offer in offers if offer.market is Market.ON_DEMAND)
    series = read_availability(DATA / "traces/spot_availability_aws_v100_2023-02-15_30d.csv")
    zones = spot_zones(series, parse_zone_map(ZONE_MAP, series), zones_of(offers), FROM_S, TO_S + 15 * 86400)
    spec = ReplaySpec(
        requests=requests,
        history=None,
        from_s=FROM_S,
        to_s=TO_S,
        policy=case.policy,
        envelope=envelope,
        offers=offers,
        load_times_s=read_load_times(DATA / "traces/gentd26_base_model_load_ms.csv.gz"),
        zones=zones,
        scale=case.scale,
        seed=case.seed,
    )
    return run_replay(spec).summary


def cases(seeds: Sequence[int], policies: Sequence[str] = POLICIES) -> list[Case]:
    """Every case of a run, longest first."""
    scales = {"on demand": 50, "headline": 20}
    return [Case(name, scale, policy, seed) for name, scale in scales.items() for policy in policies for seed in seeds]


def _spread(values: Sequence[float], form: str) -> str:
    low, high = min(values), max(values)
    mean = sum(values) / len(values)
    return form.format(mean) if len(values) == 1 else f"{form.format(mean)} ({form.format(low)}–{form.format(high)})"


def report(results: dict[Case, Summary]) -> str:
    """One table a scenario: mean over seeds, smallest and largest beside it."""
    parts = []
    for scenario, words in SCENARIOS.items():
        rows = []
        for policy in dict.fromkeys(case.policy for case in results):
            found = [s for case, s in results.items() if case.scenario == scenario and case.policy == policy]
            if not found:
                continue
            tiers = [summary.tiers for summary in found]
            within = [s.hours_within_cap_ratio for s in found if s.hours_within_cap_ratio is not None]
            met = [name for name in tiers[0] if all(tier[name].target_met for tier in tiers)]
            rows.append(
                [
                    policy,
                    _spread([s.cost_usd for s in found], "${:,.0f}"),
                    _spread([t["premium"].wait_mean_s or 0.0 for t in tiers], "{:.3f} s"),
                    _spread([t["standard"].wait_p95_s or 0.0 for t in tiers], "{:.1f} s"),
                    _spread([(t["background"].wait_max_s or 0.0) / 60 for t in tiers], "{:.0f} min"),
                    _spread([100 * ratio for ratio in within], "{:.1f} %") if within else "no cap",
                    _spread([s.costliest_hour_usd for s in found], "${:.0f}"),
                    ", ".join(met) or "none",
                ]
            )
        head = [
            *("policy", "cost of the week", "premium mean wait", "standard p95 wait", "background longest wait"),
            *("hours within cap", "costliest hour", "targets met in every seed"),
        ]
        parts.append(f"**{scenario.capitalize()}**: {words}.\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def run(seeds: Sequence[int], workers: int = 2) -> dict[Case, Summary]:
    """All cases, on so many processes, said as they end."""
    todo = cases(seeds)
    results: dict[Case, Summary] = {}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(replay, case): case for case in todo}
        for done in as_completed(futures):
            case = futures[done]
            results[case] = done.result()
            print(f"{len(results)}/{len(todo)} {case}: ${results[case].cost_usd:,.0f}", file=sys.stderr, flush=True)
    return {case: results[case] for case in todo}


def main(argv: Sequence[str] | None = None) -> None:
    """Run, print, and rewrite this section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args(argv)
    text = report(run([int(seed) for seed in args.seeds.split(",")], args.workers))
    text += (
        "\n\nMean over seeds, smallest and largest in brackets. Targets: premium mean wait 200 ms, standard p95 30 s, "
        "background at most 2 h. Every policy starts with the same fleet and is billed until the last request has "
        "finished. *hpa*: requests in flight per ready replica, target 0.7; *static*: the largest ten-minute mean load "
        "of history / 0.7. L40S runs at an assumed speed of 2.0."
    )
    print(text)
    write_section("closed-loop", "Closed loop", "python -m benchmarks.closed_loop", text)


if __name__ == "__main__":
    main()
