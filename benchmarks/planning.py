"""One plan for many services on the catalogue's offers: how long it takes, and how far it is from a proven bound.

Each seed draws services whose needs are log-normal with a median of ten reference GPUs, of which the first tier needs a
fifth to three fifths and keeps a part of that on demand. Once on their own, once with quotas shared by the fleet. And
one service on the headline offers, as a tick plans it. Times are CPU times of this process.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import numpy as np

from benchmarks.closed_loop import DATA
from benchmarks.report import table, write_section
from controller.core.fleet_mix import plan_fleet
from controller.core.mix_choice import Needed, Terms, choose, choose_mix, program_for
from controller.core.mix_program import Line
from controller.core.types import OfferStanding
from controller.sources.offers import read_offers

SEEDS = (0, 1, 2)
# Speeds against the A10G: data/profiles/SOURCE.md, whose table gives none for L4 and L40S. Those two are assumptions.
SPEED = {"T4": 0.42, "V100": 1.2, "A10G": 1.0, "A10": 1.0, "A100": 2.6, "H100": 4.5, "L4": 0.7, "L40S": 2.0}
TICKS = 2_000


def lines_of(path: Path) -> tuple[tuple[Line, ...], int]:
    """The program's lines of a price list, and how many rows of it they are from."""
    offers, _ = read_offers(path, whole_nodes=True)
    used = [OfferStanding(replace(offer, speed_ratio=SPEED[offer.gpu])) for offer in offers]
    rows = len({(offer.instance_type, offer.zone) for offer in offers})
    return program_for(used, Needed(1.0), {}, 0.0, Terms()).lines, rows


def services(count: int, seed: int) -> list[Needed]:
    """What so many services need."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        capacity = float(rng.lognormal(np.log(10.0), 1.0))
        first = capacity * rng.uniform(0.2, 0.6)
        found.append(Needed(capacity, first * rng.uniform(0.3, 0.8), first))
    return found


def fleet_row(lines: Sequence[Line], count: int, seed: int, quota_times: float) -> list[str]:
    """One plan. Quotas: each line drawn between 4 and 40 nodes a 200 services, times `quota_times`; 0: none."""
    rng = np.random.default_rng(1_000 + seed)
    quotas = {line.id: int(rng.integers(4, 41) * quota_times * count / 200) for line in lines} if quota_times else {}
    needs = services(count, seed)
    began, began_wall = process_time(), perf_counter()
    plan = plan_fleet(lines, needs, quotas)
    cpu_s, wall_s = process_time() - began, perf_counter() - began_wall
    kind = f"quotas × {quota_times:g}" if quota_times else "no quotas"
    cells = [f"{cpu_s:.2f} s", f"{wall_s:.2f} s", f"{plan.gap_ratio:.2%}", f"${plan.usd_per_hour:,.0f}/h"]
    return [f"{count} services, {kind}, seed {seed}", *cells, str(len(plan.unmet))]


def one_service() -> list[list[str]]:
    """CPU time of a choice on the headline offers: asked again, and asked anew with what is held kept up."""
    offers, _ = read_offers(DATA / "prices/headline_offers.csv")
    standings = [OfferStanding(offer) for offer in offers]
    rng = np.random.default_rng(0)
    loads = 12.0 + 4.0 * np.sin(np.arange(TICKS) / 240.0) + rng.normal(0.0, 0.3, TICKS)
    rows = []
    for name, capacities in (("steady", np.full(TICKS, 12.0)), ("a load that moves", loads)):
        choose.cache_clear()
        held: dict[str, int] = {}
        times = []
        for now, capacity in enumerate(capacities):
            began = process_time()
            mix = choose_mix(standings, Needed(float(capacity), 4.0, 4.0), held, float(now))
            times.append(process_time() - began)
            held = dict(mix.counts)
        p50, p99 = np.percentile(times, [50, 99]) * 1000
        rows.append([name, f"{p50:.2f} ms", f"{p99:.2f} ms", f"{max(times) * 1000:.0f} ms"])
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Run, print, and rewrite this section."""
    lines, listed = lines_of(DATA / "prices/gpu_offers.csv")
    plan_fleet(lines, services(5, 99))  # libraries loaded
    cases = [(count, seed, 0.0) for count in (200, 1_000) for seed in SEEDS]
    # Quotas of which some bind, and quotas of which most do.
    cases += [(200, SEEDS[0], times) for times in (4.0, 1.0)]
    rows = []
    for case in cases:
        rows.append(fleet_row(lines, *case))
        print(" | ".join(rows[-1]), flush=True)
    gaps = [float(row[3].rstrip("%")) for row in rows if "no quotas" in row[0]]
    text = table(["fleet", "CPU", "wall", "gap to the bound", "price", "not held"], rows)
    text += (
        f"\n\n{listed} offers of the price list, each in its markets: {len(lines)} lines. Targets: 200 services in "
        "2 s and 1,000 in 10 s, at a gap of at most 1 %. "
        f"Without quotas the median gap is {median(gaps):.2f} %. Where quotas bind, their prices don't settle "
        "within the rounds: the gap is what is not proven.\n\n"
    )
    text += table(["one service, headline offers", "median", "p99", "most"], one_service())
    text += f"\n\n{TICKS} ticks each, CPU time. Target: a median under 0.3 ms."
    print(text)
    write_section("planning", "The mix, for one service and for many", "python -m benchmarks.planning", text)


if __name__ == "__main__":
    main()
