"""Eight replicas always, on spot of nine zones: what it costs against on demand, and how long all eight are ready.

Spot costs 0.30 of on demand; a replica serves 183 s after it was asked for; decisions fall every 195 s, with the
series' ticks. A zone that is down refuses at once and the next may be asked in the same tick; one that goes takes all
that is held in it, without notice. What is held is billed for the whole tick. Nobody knows a zone but by asking. Each
policy runs from several starts in the series, which repeats. The omniscient one follows the zone that will stay
longest and has its on-demand replacement ready when no zone is up.

Heddle's rule is `controller.core.spot`; its half-life and prior were chosen without this series. Not a price of the
market but the operator's: an hour with a replica short counts as three hours on demand.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.report import table, write_section
from controller.core.spot import Place, ZoneRecord, on_demand_behind, rank_places
from controller.core.types import Offer
from controller.sources.traces import read_availability
from models.enums import Market

TRACES = Path(__file__).parent.parent / "data" / "traces"
SERIES = "spot_availability_aws_v100_2023-02-15_30d.csv"
NEED, SPOT_PRICE, COLD_START_S, SHORT_PRICE = 8, 0.30, 183.0, 3.0
Up = npt.NDArray[np.bool_]


@dataclass
class Fleet:
    """What is held: spot as (zone, tick from which it serves), on demand by the tick from which it serves."""

    up: list[bool]
    tick: int
    cold_ticks: int
    spot: list[tuple[int, int]] = field(default_factory=list)
    on_demand: list[int] = field(default_factory=list)

    def start(self, zone: int) -> bool:
        """Ask for one of spot; False: refused."""
        if self.up[zone]:
            self.spot.append((zone, self.tick + self.cold_ticks))
        return self.up[zone]

    def ready(self) -> int:
        return self.spot_ready() + sum(at <= self.tick for at in self.on_demand)

    def spot_ready(self) -> int:
        return sum(at <= self.tick for _, at in self.spot)

    def hold_on_demand(self, count: int) -> None:
        """The oldest stay."""
        self.on_demand += [self.tick + self.cold_ticks] * (count - len(self.on_demand))
        del self.on_demand[max(count, 0) :]


Policy = Callable[[Fleet, set[int]], None]


@dataclass(frozen=True, slots=True)
class Served:
    """Cost over on demand alone, the share of time with all ready, and ticks in which spot was lost."""

    cost_ratio: float
    ready_ratio: float
    losses: int


def serve(up: Up, gap_s: float, policy: Policy) -> Served:
    """Run a policy over a series, bool[zones, ticks]."""
    ticks = up.shape[1]
    fleet = Fleet([], 0, max(1, math.ceil(COLD_START_S / gap_s)))
    # A start within a tick serves for the rest of it.
    unready_s = min(gap_s, COLD_START_S)
    cost = unready = 0.0
    losses = 0
    for tick, here in enumerate(up.T.tolist()):
        fleet.up, fleet.tick = here, tick
        lost = {zone for zone, _ in fleet.spot if not here[zone]}
        losses += bool(lost)
        fleet.spot = [held for held in fleet.spot if here[held[0]]]
        policy(fleet, lost)
        cost += len(fleet.spot) * SPOT_PRICE + len(fleet.on_demand)
        if fleet.ready() < NEED:
            unready += unready_s
    return Served(cost / (ticks * NEED), 1 - unready / (ticks * gap_s), losses)


class SpotHedge:
    """SkyServe's placement: a zone is active or preempted; among the active unused ones the cheapest (here the first);
    on demand stands in for spot that isn't ready.
    """

    def __init__(self, zones: int) -> None:
        self._active = [True] * zones

    def __call__(self, fleet: Fleet, lost: set[int]) -> None:
        for zone in lost:
            self._preempted(zone)
        missing = NEED - len(fleet.spot)
        refused = 0
        while missing > 0 and refused < len(self._active):
            used = {zone for zone, _ in fleet.spot}
            active = [zone for zone, is_active in enumerate(self._active) if is_active]
            zone = next((zone for zone in active if zone not in used), active[0])
            if fleet.start(zone):
                missing -= 1
                self._active[zone] = True
            else:
                refused += 1
                self._preempted(zone)
        fleet.hold_on_demand(min(NEED, NEED - fleet.spot_ready()))

    def _preempted(self, zone: int) -> None:
        self._active[zone] = False
        if sum(self._active) < 2:
            self._active = [True] * len(self._active)


class OneZone:
    """All in one zone, on demand for what isn't ready there."""

    def __init__(self, zone: int) -> None:
        self._zone = zone

    def __call__(self, fleet: Fleet, lost: set[int]) -> None:
        while len(fleet.spot) < NEED and fleet.start(self._zone):
            pass
        fleet.hold_on_demand(NEED - fleet.spot_ready())


class Omniscient:
    """In the zone that will stay longest; its successor is started a cold start before it goes."""

    def __init__(self, up: Up, cold_ticks: int) -> None:
        zones, ticks = up.shape
        self._stays = np.zeros((zones, ticks + 1), np.int64)
        for tick in range(ticks - 1, -1, -1):
            self._stays[:, tick] = np.where(up[:, tick], self._stays[:, tick + 1] + 1, 0)
        self._cold = cold_ticks

    def __call__(self, fleet: Fleet, lost: set[int]) -> None:
        stays = self._stays[:, fleet.tick]
        best = int(stays.argmax())
        serving = [held for held in fleet.spot if held[1] <= fleet.tick and stays[held[0]] > self._cold]
        if len(serving) >= NEED:
            fleet.spot = serving[:NEED]
            fleet.hold_on_demand(0)
            return
        coming = sum(zone == best and at > fleet.tick for zone, at in fleet.spot)
        if stays[best] > 2 * self._cold:
            for _ in range(NEED - coming):
                fleet.start(best)
            short = NEED - sum(stays[zone] > self._cold for zone, at in fleet.spot if at <= fleet.tick)
            last = sum(at <= fleet.tick for _, at in fleet.spot)
            fleet.hold_on_demand(min(len(fleet.on_demand), short) if last < NEED else 0)
        else:
            fleet.hold_on_demand(NEED)


class Heddle:
    """`controller.core.spot`: everything in the place that is worth most of those that accept, on demand behind it."""

    def __init__(self, zones: int, gap_s: float) -> None:
        self._gap_s = gap_s
        self._records = [ZoneRecord(0.0) for _ in range(zones)]
        self._offers = [
            Offer(f"{zone:03d}", "", "", str(zone), "", "", 1, Market.SPOT, SPOT_PRICE) for zone in range(zones)
        ]
        self._held: set[int] = set()

    def __call__(self, fleet: Fleet, lost: set[int]) -> None:
        now_s, records = fleet.tick * self._gap_s, self._records
        for zone in self._held:
            records[zone] = records[zone].held(now_s)
        for zone in lost:
            records[zone] = records[zone].lost(now_s)
        missing = NEED - len(fleet.spot)
        if missing > 0:
            places = [Place(offer, record) for offer, record in zip(self._offers, records, strict=True)]
            for offer_id in rank_places(places, 1.0, COLD_START_S, SHORT_PRICE, now_s).offer_ids:
                zone = int(offer_id)
                while missing > 0 and fleet.start(zone):
                    records[zone] = records[zone].started(now_s)
                    missing -= 1
                if missing <= 0:
                    break
                records[zone] = records[zone].refused(now_s)
        ready = fleet.spot_ready()
        fleet.hold_on_demand(on_demand_behind(NEED, ready, len(fleet.spot) - ready, len(fleet.on_demand)))
        self._held = {zone for zone, _ in fleet.spot}


def read_up(name: str) -> tuple[list[str], Up, float]:
    """Zones, bool[zones, ticks] (can all eight be held) and seconds a tick."""
    series = read_availability(TRACES / name)
    ticks = min(each.ticks for each in series.values())
    rows = []
    for each in series.values():
        values = np.repeat(each.value, np.diff(np.append(each.change_tick, each.ticks)))[:ticks]
        rows.append(values >= (1 if each.binary else NEED))
    return list(series), np.array(rows), next(iter(series.values())).gap_s


def compare(name: str, starts: int) -> dict[str, list[Served]]:
    """Every policy from evenly spaced starts in the series; the one zone is the one that is up the most."""
    zones, up, gap_s = read_up(name)
    best = int(up.mean(axis=1).argmax())
    found: dict[str, list[Served]] = {}
    for number in range(starts):
        turned = np.roll(up, -number * up.shape[1] // starts, axis=1)
        policies: dict[str, Policy] = {
            "SpotHedge": SpotHedge(len(zones)),
            f"one zone, {zones[best]} (ranked in hindsight)": OneZone(best),
            "Heddle": Heddle(len(zones), gap_s),
            "omniscient": Omniscient(turned, max(1, math.ceil(COLD_START_S / gap_s))),
        }
        for policy, run in policies.items():
            found.setdefault(policy, []).append(serve(turned, gap_s, run))
    return found


def report(results: dict[str, list[Served]]) -> str:
    """Mean over starts, smallest and largest in brackets."""

    def spread(values: Sequence[float], form: str) -> str:
        return f"{form.format(float(np.mean(values)))} ({form.format(min(values))}–{form.format(max(values))})"

    rows = [
        [
            policy,
            spread([100 * served.cost_ratio for served in runs], "{:.1f}"),
            spread([100 * served.ready_ratio for served in runs], "{:.2f}"),
            spread([served.losses for served in runs], "{:.0f}"),
        ]
        for policy, runs in results.items()
    ]
    return table(["policy", "cost, % of on demand", "all 8 ready, % of time", "losses"], rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Run, print, and rewrite this section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=7)
    parser.add_argument("--series", default=SERIES, help="a file of data/traces; another is printed only")
    args = parser.parse_args(argv)
    text = report(compare(args.series, args.starts))
    text += (
        f"\n\n{NEED} replicas on `data/traces/{args.series}`, {args.starts} starts in it, mean and range. Spot at "
        f"{SPOT_PRICE:.2f} of on demand, {COLD_START_S:.0f} s to serve. A zone without room refuses at once, and "
        "the next is asked in the same tick, by SpotHedge too; no notice before a loss."
    )
    print(text)
    if args.series == SERIES:
        write_section("spot-serving", "Serving on spot", "python -m benchmarks.spot_serving", text)


if __name__ == "__main__":
    main()
