"""The choice of a mix as a program: whole nodes of each offer, what they cost an hour, and what they must hold.

Minimise over whole numbers of nodes n: Σ running·n + Σ start·(n − held)⁺, where `running` is the price and what
interruptions are expected to cost, and `start` the billing of a boot spread over the horizon it has to be earned in. So
that

* all nodes carry `capacity`, those on demand `base`, and what is left when any one spot zone goes carries `first`;
* no offer and no zone exceeds its quota, no spot zone its share, and the price no spend cap.

Where not all of it can be held, the rest is short at a penalty: of capacity first, then of what a lost zone leaves,
then of the base. Quotas, shares and the cap are never exceeded.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from controller.core.types import FloatArray

EPSILON = 1e-9
# Speeds are told apart to a thousandth: all capacities are whole multiples of their common divisor.
UNITS = 1000
# The search stops by its nodes, which is the same on every machine; the time is the net below it.
MOST_NODES = 2_000
TIME_LIMIT_S = 2.0
# What a missing reference GPU costs, in prices of the dearest: of capacity, after a lost zone, of the base.
PENALTIES = (10.0, 30.0, 100.0)


@dataclass(frozen=True, slots=True)
class Line:
    """One offer as the program sees it, per node: `speed` in reference GPUs, `running_usd` and `start_usd` dollars an
    hour, `most` the most nodes there may be, `zone` empty on demand.
    """

    id: str
    gpus: int
    speed: float
    price_usd: float
    running_usd: float
    start_usd: float
    held: int
    most: int
    zone: str

    @property
    def usd_per_speed(self) -> float:
        return self.running_usd / self.speed


@dataclass(frozen=True)
class Program:
    """Lines and what they must hold, in reference GPUs. `zone_quotas`: most GPUs in a zone, of either market, by the
    `zones` of the lines; `shares`: most reference GPUs of a spot zone.
    """

    lines: tuple[Line, ...]
    capacity: float
    base: float
    first: float
    spend_cap_usd: float = math.inf
    zone_quotas: tuple[tuple[str, float, tuple[int, ...]], ...] = ()
    shares: tuple[tuple[str, float], ...] = ()

    @cached_property
    def spot_zones(self) -> tuple[str, ...]:
        return tuple(sorted({line.zone for line in self.lines if line.zone}))

    @cached_property
    def speed(self) -> FloatArray:
        return np.array([line.speed for line in self.lines], np.float64)

    @cached_property
    def rows(self) -> tuple[tuple[str, FloatArray, float, float], ...]:
        """Every constraint as (name, coefficients, least, most) over the lines; the first are those that may be
        short: capacity, base, and one for each spot zone.
        """
        speed, spot = self.speed, np.array([bool(line.zone) for line in self.lines])
        rows = [
            ("the capacity needed", speed, self.capacity, math.inf),
            ("the base on demand", np.where(spot, 0.0, speed), self.base, math.inf),
        ]
        here = {zone: np.array([line.zone == zone for line in self.lines]) for zone in self.spot_zones}
        rows += [
            (f"the first tier without {zone}", np.where(at, 0.0, speed), self.first, math.inf)
            for zone, at in here.items()
        ]
        gpus = np.array([line.gpus for line in self.lines], np.float64)
        for zone, most, members in self.zone_quotas:
            among = np.zeros(len(self.lines))
            among[list(members)] = 1.0
            rows.append((f"the quota of {zone}", gpus * among, -math.inf, most))
        rows += [
            (f"the share of {zone}", np.where(here[zone], speed, 0.0), -math.inf, most) for zone, most in self.shares
        ]
        if math.isfinite(self.spend_cap_usd):
            price = np.array([line.price_usd for line in self.lines], np.float64)
            rows.append(("the spend cap", price, -math.inf, self.spend_cap_usd))
        return tuple(rows)

    def cost_usd(self, counts: Sequence[int]) -> float:
        """Dollars an hour with what interruptions cost and with what the starts cost over the horizon."""
        return sum(
            line.running_usd * n + line.start_usd * max(0, n - line.held)
            for line, n in zip(self.lines, counts, strict=True)
            if n
        )

    def price_usd(self, counts: Sequence[int]) -> float:
        return sum(line.price_usd * n for line, n in zip(self.lines, counts, strict=True) if n)

    def broken(self, counts: Sequence[int]) -> tuple[str, ...]:
        """The constraints that counts don't hold; empty: they are feasible."""
        n = np.array(counts, np.float64)
        over = [f"the quota of {line.id}" for line, k in zip(self.lines, counts, strict=True) if k > line.most]
        tolerance = 1e-6
        return tuple(over) + tuple(
            name for name, row, least, most in self.rows if not least - tolerance <= float(row @ n) <= most + tolerance
        )

    def short(self, counts: Sequence[int]) -> float:
        """The penalty for what counts lack, dollars an hour; 0 where nothing is short."""
        n = np.array(counts, np.float64)
        lacking = [max(0.0, least - float(row @ n)) for _, row, least, _ in self.rows[: 2 + len(self.spot_zones)]]
        weights = [self._penalty(row) for row in range(len(lacking))]
        return sum(w * each for w, each in zip(weights, lacking, strict=True) if each > 1e-6)

    def _penalty(self, row: int) -> float:
        dearest = max((line.usd_per_speed for line in self.lines), default=1.0)
        return dearest * (PENALTIES[0] if row == 0 else PENALTIES[2] if row == 1 else PENALTIES[1])

    def binding(self, counts: Sequence[int]) -> tuple[str, ...]:
        """The constraints that allow no node less, or none more, of those there are."""
        n = np.array(counts, np.float64)
        used = n > 0
        found = []
        for name, row, least, most in self.rows:
            steps = np.abs(row[used & (row != 0)])
            value = float(row @ n)
            if steps.size and (
                (math.isfinite(least) and value - steps.min() < least - 1e-6)
                or (math.isfinite(most) and value + steps.min() > most + 1e-6)
            ):
                found.append(name)
        found += [
            f"the quota of {line.id}"
            for line, k in zip(self.lines, counts, strict=True)
            if k and k >= line.most and k > line.held
        ]
        return tuple(found)

    def pruned(self, counts: Sequence[int]) -> list[int]:
        """Counts without the nodes that no constraint needs, the dearest let go first, of those the zone with most."""
        left = list(counts)
        n = np.array(left, np.float64)
        needs = [(row, least) for _, row, least, _ in self.rows[: 2 + len(self.spot_zones)]]
        slack = np.array([float(row @ n) - least for row, least in needs]) + 1e-6
        steps = np.array([row for row, _ in needs])
        while True:
            free = [i for i, k in enumerate(left) if k and (steps[:, i] <= np.maximum(slack, 0.0)).all()]
            if not free:
                return left
            out = max(free, key=lambda i: (self._own_usd(i, left[i]), left[i] * self.lines[i].speed, i))
            left[out] -= 1
            slack -= steps[:, out]

    def _own_usd(self, i: int, count: int) -> float:
        line = self.lines[i]
        return (line.running_usd + (line.start_usd if count > line.held else 0.0)) / line.speed

    @cached_property
    def lower_bound_usd(self) -> float:
        """Dollars an hour that no mix goes below, without a solver.

        The zones, shares, quotas of zones and the cap left out, parts of nodes allowed: then the base is cheapest on
        the cheapest on demand, and the rest on the cheapest of all. Two things keep it near whole nodes: what is asked
        is rounded up to what nodes can add up to, and a node counts for no more than is asked (both are valid for
        whole nodes: Nemhauser & Wolsey, *Integer and Combinatorial Optimization*, II.1).
        """
        divisor = math.gcd(*(round(line.speed * UNITS) for line in self.lines)) if self.lines else 0
        exact = divisor > 0 and all(abs(line.speed * UNITS - round(line.speed * UNITS)) < 1e-6 for line in self.lines)
        step = divisor / UNITS if exact else 0.0

        def asked(value: float) -> float:
            return math.ceil(value / step - 1e-6) * step if step else value

        capacity = asked(max(self.capacity, self.base, self.first if self.spot_zones else 0.0))
        base = asked(self.base)
        if capacity <= EPSILON:
            return 0.0
        segments = []
        for line in self.lines:
            counts_for = min(line.speed, capacity)
            stays = min(line.held, line.most)
            segments.append((line.running_usd / counts_for, stays * counts_for, not line.zone))
            more = (line.running_usd + line.start_usd) / counts_for
            segments.append((more, (line.most - stays) * counts_for, not line.zone))
        segments.sort()
        total, left_base, taken = 0.0, min(base, capacity), [0.0] * len(segments)
        for i, (usd, room, on_demand) in enumerate(segments):
            if on_demand and left_base > EPSILON:
                taken[i] = min(room, left_base)
                total += usd * taken[i]
                left_base -= taken[i]
        left = capacity - sum(taken)
        for i, (usd, room, _) in enumerate(segments):
            if left <= EPSILON:
                break
            part = min(room - taken[i], left)
            total += usd * part
            left -= part
        return total


@dataclass(frozen=True, slots=True)
class Solved:
    """What the solver gave. `counts` None: nothing in time; `bound_usd` is proven, penalties included; `why` says what
    stopped it, empty: it proved its gap.
    """

    counts: tuple[int, ...] | None
    bound_usd: float
    why: str = ""


def solve(
    program: Program, gap_ratio: float, time_limit_s: float = TIME_LIMIT_S, most_nodes: int = MOST_NODES
) -> Solved:
    """The program by HiGHS (Huangfu & Hall 2018, through scipy), to a relative gap of at most gap_ratio. Shortage is
    allowed only where there is no way without.
    """
    if not program.lines:
        return Solved((), 0.0)
    whole = _solve(program, gap_ratio, time_limit_s, most_nodes, may_be_short=False)
    return (
        whole
        or _solve(program, gap_ratio, time_limit_s, most_nodes, may_be_short=True)
        or Solved(None, -math.inf, "no mix is feasible")
    )


def _solve(
    program: Program, gap_ratio: float, time_limit_s: float, most_nodes: int, *, may_be_short: bool
) -> Solved | None:
    """None: not feasible. Columns: nodes, nodes started, and what each of the first constraints is short by."""
    lines, rows = program.lines, program.rows
    count, needs = len(lines), 2 + len(program.spot_zones)
    cost = np.array(
        [line.running_usd for line in lines]
        + [line.start_usd for line in lines]
        + [program._penalty(row) for row in range(needs)]
    )
    matrix = np.zeros((len(rows) + count, 2 * count + needs))
    least, most = np.full(len(matrix), -np.inf), np.full(len(matrix), np.inf)
    for i, (_, row, low, high) in enumerate(rows):
        # A node counts for no more than is asked: the relaxation is nearer to whole nodes.
        matrix[i, :count] = np.minimum(row, low) if math.isfinite(low) else row
        least[i], most[i] = low, high
        if i < needs:
            matrix[i, 2 * count + i] = 1.0
    started = np.arange(count)
    matrix[len(rows) + started, started] = 1.0
    matrix[len(rows) + started, count + started] = -1.0
    most[len(rows) + started] = [line.held for line in lines]
    short = np.full(needs, np.inf if may_be_short else 0.0)
    upper = np.concatenate([[line.most for line in lines], np.full(count, np.inf), short])
    found = milp(
        cost,
        integrality=np.concatenate([np.ones(count), np.zeros(count + needs)]),
        bounds=Bounds(np.zeros(2 * count + needs), upper),
        constraints=LinearConstraint(matrix, least, most),
        options={"mip_rel_gap": gap_ratio, "time_limit": time_limit_s, "node_limit": most_nodes},
    )
    if found.status == 2:
        return None
    bound = found.mip_dual_bound if found.mip_dual_bound is not None else -math.inf
    why = "" if found.status == 0 else "the solver stopped at its limit" if found.status == 1 else found.message
    if found.x is None:
        return Solved(None, bound, why or "the solver gave nothing")
    return Solved(tuple(round(x) for x in found.x[:count]), bound, why)
