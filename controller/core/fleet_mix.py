"""One plan for many services at once, that share quotas and a spend cap: the program taken apart by prices.

A quota that is full gets a price (a Lagrange multiplier: Fisher 1981), and so does the cap; at these prices the
services are independent. Each asks for whole nodes: `base` on demand, `capacity` in all, `first` without any one spot
zone. With all but one zone's loss left out, that is a one-dimensional knapsack whose tables all services share. The
dearest of these is a bound, its nodes with what is missing added are a mix, and the bounds at one set of prices, less
what the quotas are worth at them, are a proven bound of the whole.

Nothing is held here: a node costs its price, its interruptions and its start.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog

from controller.core.mix_choice import GAP_RATIO, Needed
from controller.core.mix_program import EPSILON, Line
from controller.core.types import FloatArray

IntArray = npt.NDArray[np.int64]
# Speeds and needs are counted in hundredths of a reference GPU, speeds down and needs up.
UNITS = 100
ROUNDS = 12
_NEVER = 1e15


@dataclass(frozen=True, slots=True)
class FleetMix:
    """`nodes`: (services, lines). `usd_per_hour` is the price, `cost_usd` that with interruptions and starts,
    `bound_usd` what no plan of whole nodes that holds every need goes below. `unmet`: services whose need isn't held,
    by index; they get nothing.
    """

    nodes: IntArray
    usd_per_hour: float
    cost_usd: float
    bound_usd: float
    unmet: tuple[int, ...]
    why: str

    @property
    def gap_ratio(self) -> float:
        return self.cost_usd / self.bound_usd - 1 if self.bound_usd > EPSILON else 0.0


class _Tables:
    """For every capacity, the least that it costs: on demand, in one zone, and everywhere but there."""

    def __init__(self, lines: Sequence[Line], usd: FloatArray, units: IntArray, most: int) -> None:
        on_demand = [i for i, line in enumerate(lines) if not line.zone]
        spot = [i for i, line in enumerate(lines) if line.zone]
        self.on_demand = _cheapest([_undominated(on_demand, usd, units)], usd, units, most)
        # Only a zone that has the cheapest of something can be wanted for more than it may carry.
        cheapest: dict[int, int] = {}
        for i in sorted(spot, key=lambda i: usd[i]):
            cheapest.setdefault(int(units[i]), i)
        self.zones = sorted({lines[i].zone for i in cheapest.values()}) or [""]
        best_od: dict[int, int] = {}
        for i in sorted(on_demand, key=lambda i: usd[i]):
            best_od.setdefault(int(units[i]), i)
        inside, outside = [], []
        for zone in self.zones:
            inside.append(_undominated([i for i in spot if lines[i].zone == zone], usd, units))
            others = [i for i in spot if lines[i].zone != zone] + list(best_od.values())
            outside.append(_undominated(others, usd, units))
        self.inside = _cheapest(inside, usd, units, most)
        self.outside = _cheapest(outside, usd, units, most)


def _undominated(items: Iterable[int], usd: FloatArray, units: IntArray) -> list[int]:
    """Those that no other beats in price and size at once."""
    kept: list[int] = []
    for i in sorted(items, key=lambda i: (usd[i], -units[i])):
        if not kept or units[i] > units[kept[-1]]:
            kept.append(i)
    return kept


def _cheapest(
    groups: Sequence[Sequence[int]], usd: FloatArray, units: IntArray, most: int
) -> tuple[FloatArray, IntArray]:
    """Unbounded knapsack cover (Martello & Toth 1990, 3.6) of every capacity up to `most`, each group by itself: the
    cost and the item taken last, (groups, most + 1).
    """
    width = max(1, max(len(group) for group in groups))
    items = np.zeros((len(groups), width), np.int64)
    price, size = np.full((len(groups), width), _NEVER), np.ones((len(groups), width), np.int64)
    for g, group in enumerate(groups):
        items[g, : len(group)] = group
        price[g, : len(group)] = usd[list(group)]
        size[g, : len(group)] = units[list(group)]
    cost, last = np.zeros((len(groups), most + 1)), np.zeros((len(groups), most + 1), np.int64)
    flat, rows = cost.reshape(-1), np.arange(len(groups))
    offset = (rows * (most + 1))[:, None]
    for t in range(1, most + 1):
        each = flat[offset + np.maximum(t - size, 0)] + price
        pick = each.argmin(1)
        cost[:, t] = each[rows, pick]
        last[:, t] = items[rows, pick]
    return cost, last


@dataclass(frozen=True)
class _Fleet:
    lines: tuple[Line, ...]
    asked: tuple[Needed, ...]

    @cached_property
    def units(self) -> IntArray:
        return np.array([_units(line) for line in self.lines], np.int64) // self.divisor

    @cached_property
    def divisor(self) -> int:
        """What all speeds are multiples of: a need is one, too, rounded up."""
        return math.gcd(*(_units(line) for line in self.lines)) or 1

    @cached_property
    def needs(self) -> tuple[tuple[int, int, int], ...]:
        """Capacity, base and first of each service."""
        found = []
        for need in self.asked:
            capacity, base, first = (
                math.ceil(max(0.0, x) * UNITS / self.divisor - 1e-6) for x in (need.capacity, need.base, need.first)
            )
            found.append((max(capacity, base, first), base, first))
        return tuple(found)

    @cached_property
    def cost(self) -> FloatArray:
        return np.array([line.running_usd + line.start_usd for line in self.lines])

    @cached_property
    def price(self) -> FloatArray:
        return np.array([line.price_usd for line in self.lines])

    @cached_property
    def zone_of(self) -> tuple[str, ...]:
        return tuple(line.zone for line in self.lines)

    @cached_property
    def largest(self) -> int:
        return max((capacity for capacity, _, _ in self.needs), default=0)

    def tables(self, usd: FloatArray) -> _Tables:
        return _Tables(self.lines, usd, self.units, self.largest)

    def first_tolls(self, most: FloatArray) -> FloatArray:
        """What a quota is worth if the fleet were one service and nodes could be split: where the prices begin."""
        total, base, first = (sum(need[k] for need in self.needs) for k in range(3))
        rows = [self.units, np.where(self.zone_at == 0, self.units, 0)]
        rows += [np.where(self.zone_at == z, 0, self.units) for z in range(1, len(self.zones))]
        least = np.array([total, base] + [first] * (len(self.zones) - 1))
        found = linprog(self.cost, A_ub=-np.array(rows), b_ub=-least, bounds=[(0, q) for q in most])
        return np.maximum(0.0, -found.upper.marginals) if found.status == 0 else np.zeros(len(self.lines))

    def ask(self, tables: _Tables, need: tuple[int, int, int]) -> tuple[float, dict[int, int]]:
        """A bound of what a service costs at the tables' prices, and the nodes that it was found at."""
        capacity, base, first = need
        on_demand = tables.on_demand[0][0]
        best, best_at = -1.0, (0, (base, 0, 0))
        for g in range(len(tables.zones)):
            outside, inside = tables.outside[0][g], tables.inside[0][g]
            value, at = math.inf, (base, 0, 0)
            d = base
            while True:
                # The largest cover on demand at this cost.
                d = int(np.searchsorted(on_demand[: capacity + 1], on_demand[d] + EPSILON, "right")) - 1
                if on_demand[d] >= min(value, _NEVER):
                    break
                least = max(0, first - d)
                rest = max(least, capacity - d)
                # o outside the zone and rest − o in it.
                each = on_demand[d] + outside[least : rest + 1] + inside[: rest - least + 1][::-1]
                k = int(each.argmin())
                if each[k] < value - EPSILON:
                    value, at = float(each[k]), (d, least + k, rest - least - k)
                if d >= capacity:
                    break
                d += 1
            if value > best:
                best, best_at = value, (g, at)
        return best, self._taken(tables, *best_at)

    def _taken(self, tables: _Tables, g: int, at: tuple[int, int, int]) -> dict[int, int]:
        nodes: dict[int, int] = {}
        tables_of = (tables.on_demand, tables.outside, tables.inside)
        for (cost, last), group, left in zip(tables_of, (0, g, g), at, strict=True):
            while left > 0 and cost[group, left] < _NEVER:
                i = int(last[group, left])
                nodes[i] = nodes.get(i, 0) + 1
                left -= int(self.units[i])
        return nodes

    def completed(
        self, nodes: Mapping[int, int], need: tuple[int, int, int], usd: FloatArray, left: FloatArray
    ) -> dict[int, int]:
        """With what is missing added, cheapest for what it still brings, and without the nodes that nothing needs, the
        dearest first. `left`: how many of each line there may be.
        """
        capacity, base, first = need
        found = dict(nodes)
        room = left - self._row(found)
        while True:
            row = self._row(found) * self.units
            total, by_zone = int(row.sum()), np.bincount(self.zone_at, row, len(self.zones))
            on_demand, by_zone[0] = int(by_zone[0]), 0
            worst = int(by_zone.argmax())
            open_ = room >= 1
            if on_demand < base:
                missing, open_ = base - on_demand, open_ & (self.zone_at == 0)
            elif total < capacity:
                missing = capacity - total
            elif total - by_zone[worst] < first:
                missing, open_ = first - total + int(by_zone[worst]), open_ & (self.zone_at != worst)
            else:
                break
            if not open_.any():
                return found
            i = int(np.where(open_, usd / np.minimum(self.units, missing), np.inf).argmin())
            more = int(max(1, min(room[i], missing // self.units[i])))
            found[i] = found.get(i, 0) + more
            room[i] -= more
        for i in sorted(found, key=lambda i: -usd[i] / self.units[i]):
            while found[i]:
                found[i] -= 1
                if not self.holds(found, need):
                    found[i] += 1
                    break
        return {i: n for i, n in found.items() if n}

    def _row(self, nodes: Mapping[int, int]) -> FloatArray:
        row = np.zeros(len(self.lines))
        row[list(nodes)] = list(nodes.values())
        return row

    @cached_property
    def zones(self) -> tuple[str, ...]:
        """ "" for on demand, and the spot zones."""
        return ("", *sorted(set(self.zone_of) - {""}))

    @cached_property
    def zone_at(self) -> IntArray:
        return np.array([self.zones.index(zone) for zone in self.zone_of], np.int64)

    def holds(self, nodes: Mapping[int, int], need: tuple[int, int, int]) -> bool:
        capacity, base, first = need
        total = on_demand = 0
        zones: dict[str, int] = {}
        for i, n in nodes.items():
            size = int(self.units[i]) * n
            total += size
            if self.zone_of[i]:
                zones[self.zone_of[i]] = zones.get(self.zone_of[i], 0) + size
            else:
                on_demand += size
        return total >= capacity and on_demand >= base and total - max(zones.values(), default=0) >= first


def plan_fleet(
    lines: Sequence[Line],
    needs: Sequence[Needed],
    quotas: Mapping[str, int] | None = None,
    spend_cap_usd: float = math.inf,
    gap_ratio: float = GAP_RATIO,
    rounds: int = ROUNDS,
) -> FleetMix:
    """Nodes of each line for each service. `quotas`: the most nodes of a line in the whole fleet, by id; the cap is on
    the price of all. Stops when the plan is proven to be within gap_ratio, or after so many rounds of prices. A plan
    over the cap is given where these needs don't fit in it, and says so.
    """
    fleet = _Fleet(tuple(lines), tuple(needs))
    count = len(fleet.lines)
    most = np.array([(quotas or {}).get(line.id, math.inf) for line in fleet.lines])
    limited = np.isfinite(most)
    capped = math.isfinite(spend_cap_usd)
    toll, on_price = fleet.first_tolls(most) if limited.any() else np.zeros(count), 0.0
    bound, step, stale = 0.0, 1.0, 0
    best: tuple[IntArray, tuple[int, ...]] | None = None
    turns = 0
    while turns < rounds:
        turns += 1
        usd = fleet.cost + toll + on_price * fleet.price
        tables = fleet.tables(usd)
        asked = [fleet.ask(tables, need) for need in fleet.needs]
        value = sum(least for least, _ in asked) - float(toll[limited] @ most[limited])
        value -= on_price * spend_cap_usd if capped else 0.0
        stale = 0 if value > bound else stale + 1
        bound = max(bound, value)
        full = [
            fleet.completed(nodes, need, usd, np.full(count, np.inf))
            for (_, nodes), need in zip(asked, fleet.needs, strict=True)
        ]
        plan = _within(fleet, full, usd, most)
        if best is None or (len(plan[1]), _cost(fleet, plan[0])) < (len(best[1]), _cost(fleet, best[0])):
            best = plan
        cost = _cost(fleet, best[0])
        used = sum((fleet._row(nodes) for _, nodes in asked), np.zeros(count))
        over = np.where(limited, used - np.where(limited, most, 0.0), 0.0)
        over = np.where((over > 0) | (toll > 0), over, 0.0)
        burn = float(used @ fleet.price) - spend_cap_usd if capped else 0.0
        norm = float(over @ over) + (burn * burn if burn > 0 or on_price > 0 else 0.0)
        within = not best[1] and float(best[0].sum(0) @ fleet.price) <= spend_cap_usd
        if (within and cost <= (1 + gap_ratio) * bound) or norm <= EPSILON:
            break
        # Polyak's step towards what the best plan costs, halved while the bound stands still.
        if stale >= 2:
            step, stale = step / 2, 0
        length = step * max(cost - value, 0.005 * cost) / norm
        toll = np.maximum(0.0, toll + length * over)
        on_price = max(0.0, on_price + length * burn) if capped else 0.0
    if best is None:
        raise AssertionError("no round was run")
    nodes, unmet = best
    price = float(nodes.sum(0) @ fleet.price)
    cost = _cost(fleet, nodes)
    why = (
        f"{len(fleet.needs)} services for ${price:.2f}/h (${cost:.2f}/h with interruptions and starts; "
        f"none under ${bound:.2f}/h) after {turns} rounds of prices"
    )
    if price > spend_cap_usd + EPSILON:
        why += f"; over the spend cap of ${spend_cap_usd:.2f}/h, which these needs don't fit in"
    if unmet:
        why += f"; {len(unmet)} services are not held by what the quotas leave"
    return FleetMix(nodes, price, cost, bound, unmet, why)


def _units(line: Line) -> int:
    return max(1, math.floor(line.speed * UNITS + 1e-6))


def _cost(fleet: _Fleet, nodes: IntArray) -> float:
    return float(nodes.sum(0) @ fleet.cost)


def _within(
    fleet: _Fleet, asked: Sequence[dict[int, int]], usd: FloatArray, most: FloatArray
) -> tuple[IntArray, tuple[int, ...]]:
    """What was asked, the largest service first, as far as the quotas go, and what is missing from what is left."""
    left = most.copy()
    nodes = np.zeros((len(fleet.needs), len(fleet.lines)), np.int64)
    unmet = []
    for s in sorted(range(len(fleet.needs)), key=lambda s: -fleet.needs[s][0]):
        found = {i: int(min(n, left[i])) for i, n in asked[s].items() if left[i] >= 1}
        if found != asked[s]:
            found = fleet.completed(found, fleet.needs[s], usd, left)
        if not fleet.holds(found, fleet.needs[s]):
            unmet.append(s)
            continue
        for i, n in found.items():
            nodes[s, i] += n
            left[i] -= n
    return nodes, tuple(unmet)
