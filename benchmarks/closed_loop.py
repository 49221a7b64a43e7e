"""Heddle, its peers and the limit side by side on a week of real requests, in one run.

2024-11-24 to 12-01 with the days before as history. Nothing is tuned on the week: what a policy knows comes from
history, and a peer tuned in hindsight is marked so. `--part one`: one tier, A10G on demand, 99 % of waits within 5 s,
over loads, boot times and jitters. `--part headline`: tiers, spot and on demand, $50 an hour, over spot windows and
salts; window "lost" takes every zone away for 20 minutes at the week's busiest time. What is left out by option is said
in the section. Replays run in processes of their own, on one core each.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import yaml

from benchmarks.report import table, write_section
from controller.backends.simulated.arrivals import replicate
from controller.backends.simulated.engine import ZoneSeries
from controller.core.bound import Waiting, lower_bound
from controller.core.envelope import parse_envelope
from controller.core.types import Envelope, Offer, TierTarget
from controller.replay import (
    ReplayResult,
    ReplaySpec,
    clairvoyant_limit,
    recorded,
    run_replay,
    spot_zones,
    zones_of,
)
from controller.sources.base import RequestTrace
from controller.sources.offers import read_offers
from controller.sources.traces import parse_zone_map, read_availability, read_load_times, read_requests
from models.enums import LatencyOf, Market

DATA = Path(__file__).parent.parent / "data"
FROM_S = datetime(2024, 11, 24, tzinfo=UTC).timestamp()
TO_S = datetime(2024, 12, 1, tzinfo=UTC).timestamp()
ZONE_MAP = "usw2-az1=us-west-2a,usw2-az2=us-west-2b,usw2-az3=us-west-2c"
DRAIN_S = 15 * 86400.0
SLO_S = 5.0
# Spot windows: these ticks of the availability series begin at the week's beginning.
OFFSETS = {"0": 0, "1": 1800, "2": 3600, "3": 5400, "4": 7200, "5": 9000, "6": 10800}
LOST = "lost"
LOST_S = 1200.0

LIMIT, RATE, LOWER = "clairvoyant", "knows the rate", "lower bound"
ONE_POLICIES = (
    *("heddle", "hpa", "hpa:target=0.5,down_s=900", "kpa", "phpa", "dynamo", "aws_predictive", "static"),
    *(RATE, LOWER, LIMIT),
)
HEADLINE_POLICIES = ("heddle", "hpa", "hpa:target=0.5,down_s=900", "kpa", "spothedge", "hpa_spot", LIMIT)
IN_HINDSIGHT = {"hpa:target=0.5,down_s=900"}


@dataclass(frozen=True, slots=True)
class Case:
    """One replay. `window` and `salt` are the headline's."""

    part: str
    policy: str
    scale: int
    boot_s: float
    jitter_s: float
    seed: int
    window: str = ""
    salt: str = "a"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. `within`: share of requests that began within SLO_S; tiers' figures in seconds; None: not
    known, or not of this part.
    """

    cost_usd: float
    within: float | None = None
    premium_mean_s: float | None = None
    standard_p95_s: float | None = None
    background_max_s: float | None = None
    hours_within_ratio: float | None = None
    costliest_usd: float | None = None
    interrupted: int = 0
    starts: int = 0


@cache
def _files() -> tuple[RequestTrace, Envelope, tuple[Offer, ...]]:
    envelope = parse_envelope(yaml.safe_load((DATA / "envelopes/sample.yaml").read_text()))
    offers, _ = read_offers(DATA / "prices/headline_offers.csv")
    return read_requests(DATA / "traces/gentd26_requests.csv.gz"), envelope, offers


def one_tier() -> Envelope:
    """Everybody alike: 99 % of waits within SLO_S, no cap."""
    return Envelope((TierTarget("all", 0, 100.0, "p99", LatencyOf.WAIT, SLO_S * 1000),), None)


def spec_of(case: Case) -> ReplaySpec:
    """The case as a replay of its policy."""
    requests, envelope, offers = _files()
    zones: dict[str, ZoneSeries] = {}
    if case.part == "one":
        envelope = one_tier()
        offers = tuple(o for o in offers if o.market is Market.ON_DEMAND and o.gpu == "A10G")[:1]
    else:
        envelope = replace(envelope, tier_salt=case.salt)
        series = read_availability(DATA / "traces/spot_availability_aws_v100_2023-02-15_30d.csv")
        offset = OFFSETS["0" if case.window == LOST else case.window]
        names = parse_zone_map(ZONE_MAP, series)
        zones = spot_zones(series, names, zones_of(offers), FROM_S, TO_S + DRAIN_S, offset)
        if case.window == LOST:
            at_s = busiest_s(requests)
            zones = {name: lost(zone, at_s, at_s + LOST_S) for name, zone in zones.items()}
    return ReplaySpec(
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
        jitter_s=case.jitter_s,
        boot_s=case.boot_s,
        seed=case.seed,
    )


def busiest_s(requests: RequestTrace) -> float:
    """The beginning of the ten minutes of the week in which most work arrives."""
    window = requests.window(FROM_S, TO_S)
    slot = ((window.arrived_s - FROM_S) // 600.0).astype(np.int64)
    return FROM_S + 600.0 * float(np.bincount(slot, weights=window.work_s).argmax())


def lost(zone: ZoneSeries, from_s: float, to_s: float) -> ZoneSeries:
    """The zone, empty in [from_s, to_s)."""
    after = int(zone.capacity[np.searchsorted(zone.change_s, to_s, side="right") - 1])
    outside = (zone.change_s < from_s) | (zone.change_s > to_s)
    times = np.concatenate([zone.change_s[outside], [from_s, to_s]])
    capacity = np.concatenate([zone.capacity[outside], [0, after]])
    order = np.argsort(times, kind="stable")
    return ZoneSeries(times[order], capacity[order])


def measure(case: Case) -> Outcome:
    """Run one case."""
    spec = spec_of(case)
    if case.policy == LOWER:
        return Outcome(_bound_usd(spec))
    if case.policy in (LIMIT, RATE):
        return _outcome(clairvoyant_limit(replace(spec, policy=LIMIT), 16 if case.policy == RATE else 0))
    return _outcome(run_replay(spec))


def _outcome(result: ReplayResult) -> Outcome:
    summary, requests = result.summary, result.requests
    waits = (requests["started_s"] - requests["arrived_s"]).to_numpy(np.float64)
    tiers = summary.tiers

    def of(tier: str, name: str) -> float | None:
        found = tiers.get(tier)
        return None if found is None else getattr(found, name)

    return Outcome(
        cost_usd=summary.cost_usd,
        within=float((np.nan_to_num(waits, nan=np.inf) <= SLO_S).mean()),
        premium_mean_s=of("premium", "wait_mean_s"),
        standard_p95_s=of("standard", "wait_p95_s"),
        background_max_s=of("background", "wait_max_s"),
        hours_within_ratio=summary.hours_within_cap_ratio,
        costliest_usd=summary.costliest_hour_usd,
        interrupted=summary.interrupted,
        starts=summary.starts,
    )


def _bound_usd(spec: ReplaySpec) -> float:
    window = spec.requests.window(spec.from_s, spec.to_s)
    arrivals = replicate(recorded(window, spec.envelope), spec.scale, spec.jitter_s, spec.seed, spec.from_s, spec.to_s)
    minutes = int((max(spec.to_s, float(arrivals.arrived_s[-1])) - spec.from_s) // 60) + 60
    price = np.full(minutes, spec.offers[0].price_usd_per_hour)
    lead_s = spec.boot_s + float(spec.load_times_s.mean())
    waiting = [Waiting(arrivals.arrived_s, arrivals.work_s, SLO_S)]
    return lower_bound(waiting, price, lead_s, spec.from_s, 60.0).usd


def run(cases: Sequence[Case], workers: int, say: Callable[[str], None]) -> dict[Case, Outcome]:
    """All cases, each in a process of its own, said as they end."""
    found: dict[Case, Outcome] = {}
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, max_tasks_per_child=1) as pool:
        futures = {pool.submit(measure, case): case for case in cases}
        for done in as_completed(futures):
            case = futures[done]
            found[case] = done.result()
            say(f"{len(found)}/{len(cases)} {case}: ${found[case].cost_usd:,.0f}")
    return {case: found[case] for case in cases}


def _mean(values: Iterable[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "—"
    mean, low, high = sum(known) / len(known), min(known), max(known)
    return form.format(mean) if low == high else f"{form.format(mean)} ({form.format(low)}–{form.format(high)})"


def report_one(found: dict[Case, Outcome]) -> str:
    """A row a cell and policy: cost against the clairvoyant of the same seed, and the share of waits within SLO_S."""
    rows = []
    for cell in dict.fromkeys((case.scale, case.boot_s, case.jitter_s) for case in found):
        scale, boot_s, jitter_s = cell
        mine = {case: out for case, out in found.items() if (case.scale, case.boot_s, case.jitter_s) == cell}
        limits = {case.seed: out.cost_usd for case, out in mine.items() if case.policy == LIMIT}
        for policy in dict.fromkeys(case.policy for case in mine):
            outs = [(case.seed, out) for case, out in mine.items() if case.policy == policy]
            name = f"{policy} (in hindsight)" if policy in IN_HINDSIGHT else policy
            rows.append(
                [
                    f"K = {scale}, boot {boot_s:.0f} s, ±{jitter_s / 60:.0f} min",
                    name,
                    _mean((out.cost_usd / limits[seed] if seed in limits else None for seed, out in outs), "{:.2f}"),
                    _mean((None if out.within is None else 100 * out.within for _, out in outs), "{:.2f} %"),
                    _mean((out.cost_usd for _, out in outs), "${:,.0f}"),
                    _mean((float(out.starts) for _, out in outs if out.starts), "{:,.0f}"),
                    str(len(outs)),
                ]
            )
    head = ["cell", "policy", "cost × clairvoyant", f"waits within {SLO_S:.0f} s", "cost", "starts", "seeds"]
    return table(head, rows)


def report_headline(found: dict[Case, Outcome]) -> str:
    """A row a load, boot, jitter and policy over spot windows and salts, the mean with best and worst beside it."""
    rows = []
    for cell in dict.fromkeys((case.scale, case.boot_s, case.jitter_s) for case in found):
        scale, boot_s, jitter_s = cell
        mine = {case: out for case, out in found.items() if (case.scale, case.boot_s, case.jitter_s) == cell}
        limits = {(c.window, c.salt, c.seed): out.cost_usd for c, out in mine.items() if c.policy == LIMIT}
        for policy in dict.fromkeys(case.policy for case in mine):
            outs = {case: out for case, out in mine.items() if case.policy == policy}
            ratios = [
                out.cost_usd / limits[case.window, case.salt, case.seed]
                for case, out in outs.items()
                if (case.window, case.salt, case.seed) in limits
            ]
            held = sum(_holds(out) for out in outs.values())
            rows.append(
                [
                    f"K = {scale}, boot {boot_s:.0f} s, ±{jitter_s / 60:.0f} min",
                    f"{policy} (in hindsight)" if policy in IN_HINDSIGHT else policy,
                    _mean((out.premium_mean_s for out in outs.values()), "{:.2f} s"),
                    _mean((out.standard_p95_s for out in outs.values()), "{:.0f} s"),
                    _mean(((out.background_max_s or 0.0) / 60 for out in outs.values()), "{:.0f} min"),
                    _mean((100 * (out.hours_within_ratio or 0.0) for out in outs.values()), "{:.1f} %"),
                    _mean((out.costliest_usd for out in outs.values()), "${:.0f}"),
                    _mean((out.cost_usd for out in outs.values()), "${:,.0f}"),
                    _mean(ratios, "{:.2f}"),
                    f"{held} of {len(outs)}",
                ]
            )
    head = [
        *("cell", "policy", "premium mean wait", "standard p95", "background longest", "hours within cap"),
        *("costliest hour", "cost", "× clairvoyant", "all four terms held"),
    ]
    return table(head, rows)


def _holds(out: Outcome) -> bool:
    return (
        (out.premium_mean_s or 0.0) <= 0.2
        and (out.standard_p95_s or 0.0) <= 30.0
        and (out.background_max_s or 0.0) <= 7200.0
        and out.hours_within_ratio == 1.0
    )


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",") if part]


def main(argv: Sequence[str] | None = None) -> None:
    """Run, print, and rewrite the sections."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("one", "headline", "both"), default="both")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--scales", default="50,500", help="of part one")
    parser.add_argument("--loads", default="20,28", help="of the headline")
    parser.add_argument("--boots", default="60,180,600")
    parser.add_argument("--headline-boots", default="180,600")
    parser.add_argument("--jitters", default="300,1800")
    parser.add_argument("--windows", default=",".join((*OFFSETS, LOST)))
    parser.add_argument("--salts", default="a,b,c", help="salt n goes with seed n")
    parser.add_argument("--policies", nargs="+", help="all of the part by default")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where the raw outcomes go as well")
    args = parser.parse_args(argv)
    seeds, jitters = [int(seed) for seed in _numbers(args.seeds)], _numbers(args.jitters)
    command = "python -m benchmarks.closed_loop" + (
        f" {' '.join(argv or sys.argv[1:])}" if argv or sys.argv[1:] else ""
    )
    raw: list[object] = []

    def do(cases: list[Case]) -> dict[Case, Outcome]:
        found = run(cases, args.workers, lambda line: print(line, file=sys.stderr, flush=True))
        raw.extend([repr(case), repr(out)] for case, out in found.items())
        return found

    if args.part in ("one", "both"):
        cases = [
            Case("one", policy, int(scale), boot_s, jitter_s, seed)
            for scale in _numbers(args.scales)
            for boot_s in _numbers(args.boots)
            for jitter_s in jitters
            for policy in args.policies or ONE_POLICIES
            for seed in seeds
        ]
        text = report_one(do(cases)) + "\n\n" + _ONE_WORDS
        print(text)
        write_section("closed-loop-one", "Closed loop: one tier on demand", command, text)
    if args.part in ("headline", "both"):
        cases = [
            Case("headline", policy, int(scale), boot_s, jitter_s, number + 1, window, salt)
            for scale in _numbers(args.loads)
            for boot_s in _numbers(args.headline_boots)
            for jitter_s in jitters
            for policy in args.policies or HEADLINE_POLICIES
            for window in args.windows.split(",")
            for number, salt in enumerate(args.salts.split(","))
        ]
        text = report_headline(do(cases)) + "\n\n" + _HEADLINE_WORDS
        print(text)
        write_section("closed-loop", "Closed loop: the headline envelope", command, text)
    if args.json is not None:
        args.json.write_text(json.dumps(raw, indent=1) + "\n")


_ONE_WORDS = f"""One tier, A10G at $1.006/h on demand, a week; mean over seeds, smallest and largest in brackets.
*clairvoyant*: knows every arrival; the cheapest schedule tried that keeps 99 % of waits within {SLO_S:.0f} s, carried
out on the same cluster. *knows the rate*: the same with the mean of other draws of the jitter. *lower bound*: a linear
program in which every request begins within {SLO_S:.0f} s, whatever the queue does. Targets at 180 s: 1.5 at ±5 min,
1.10 at ±30 min, with 99 % of waits within {SLO_S:.0f} s."""
_HEADLINE_WORDS = """Terms: premium mean wait 200 ms, standard 95 % within 30 s, background within 2 h, $50 in every
clock hour. Spot by the us-west-2 series at seven offsets, and *lost*: all zones gone for 20 minutes at the busiest
time. Mean over windows and salts, smallest and largest in brackets. *clairvoyant*: knows arrivals and zone losses; a
schedule that can be carried out, not a bound. L40S runs at an assumed speed of 2.0. Target: all four terms in every
window and salt at 1.7 × the clairvoyant's cost."""


if __name__ == "__main__":
    main()
