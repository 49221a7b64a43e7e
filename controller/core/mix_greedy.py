"""A mix without a solver: the base on the cheapest on demand, the rest on spot, one node at a time, in turn by zone.

It is the first candidate of every choice and what is used where the program is late. It starts from what is held, since
moving costs a restart, but no zone keeps more than its share while another is open.
"""

import math
from collections import defaultdict
from collections.abc import Sequence

from controller.core.mix_program import EPSILON, Line, Program

# Share of what spot carries that one zone may keep while another can be started on.
MOST_IN_A_ZONE = 0.5


class _Basket:
    """Nodes taken so far, within the quotas."""

    def __init__(self, program: Program) -> None:
        self.lines, self.taken = program.lines, [0] * len(program.lines)
        self._zone_room = [[most, *members] for _, most, members in program.zone_quotas]

    def room(self, i: int) -> int:
        """How many more nodes of a line there may be."""
        gpus = self.lines[i].gpus
        quotas = [int((most + EPSILON) // gpus) for most, *members in self._zone_room if i in members]
        return max(0, min([self.lines[i].most - self.taken[i], *quotas]))

    def take(self, i: int, count: int = 1) -> None:
        self.taken[i] += count
        for quota in self._zone_room:
            if i in quota[1:]:
                quota[0] -= count * self.lines[i].gpus

    def give(self, i: int) -> None:
        self.take(i, -self.taken[i])

    def speed(self, indexes: Sequence[int]) -> float:
        return sum(self.taken[i] * self.lines[i].speed for i in indexes)


def greedy(program: Program) -> tuple[int, ...]:
    """Nodes of each line. Never over a quota; short where nothing more can be had."""
    basket, lines = _Basket(program), program.lines
    on_demand = [i for i, line in enumerate(lines) if not line.zone]
    spot = [i for i, line in enumerate(lines) if line.zone]
    _cover(basket, on_demand, min(program.base, program.capacity))
    left = program.capacity - basket.speed(on_demand)
    carried = _spread(basket, spot, left)
    if carried < left - EPSILON:
        # Bought as one: a base and a remainder each rounded up would be dearer, and would settle only at the next tick.
        for i in on_demand:
            basket.give(i)
        _cover(basket, on_demand, program.capacity - carried)
    _survive(program, basket, on_demand, spot)
    return tuple(basket.taken)


def _cover(basket: _Basket, among: Sequence[int], capacity: float) -> None:
    """Nodes that carry `capacity`: those that are held first, then whole nodes of the cheapest per speed, and for what
    is left of one the cheapest single node that carries it.
    """
    lines, left = basket.lines, capacity
    by_price = sorted(among, key=lambda i: (lines[i].usd_per_speed, lines[i].id))
    for i in by_price:
        here = max(0, min(math.ceil(left / lines[i].speed - EPSILON), lines[i].held, basket.room(i)))
        basket.take(i, here)
        left -= here * lines[i].speed
    while left > EPSILON:
        bulk = next((i for i in by_price if basket.room(i)), None)
        if bulk is None:
            return
        count = min(int((left + EPSILON) // lines[bulk].speed), basket.room(bulk))
        if not count:
            enough = [i for i in among if lines[i].speed >= left - EPSILON and basket.room(i)]
            bulk = min(enough, key=lambda i: (lines[i].running_usd, lines[i].id), default=bulk)
            count = 1
        basket.take(bulk, count)
        left -= count * lines[bulk].speed


def _spread(basket: _Basket, spot: Sequence[int], capacity: float) -> float:
    """Spot nodes, one at a time to the open zone that has least; what they carry."""
    lines, carried = basket.lines, 0.0
    most, in_zone = capacity * MOST_IN_A_ZONE, defaultdict[str, float](float)
    while carried < capacity - EPSILON:
        roomy = [i for i in spot if basket.room(i)]
        here = [i for i in roomy if basket.taken[i] < lines[i].held]
        fresh = [i for i in roomy if lines[i].most > lines[i].held]
        open_ = [i for i in here if in_zone[lines[i].zone] < most - EPSILON] or fresh or here
        if not open_:
            break
        left = capacity - carried
        best = min(open_, key=lambda i: (in_zone[lines[i].zone], _usd_for(lines[i], left), lines[i].id))
        basket.take(best)
        in_zone[lines[best].zone] += lines[best].speed
        carried += lines[best].speed
    return carried


def _usd_for(line: Line, left: float) -> float:
    """Dollars for each reference GPU that is still needed."""
    return line.running_usd / min(line.speed, left)


def _survive(program: Program, basket: _Basket, on_demand: Sequence[int], spot: Sequence[int]) -> None:
    """Add nodes until what is left without any one spot zone carries the first tier, if there are any to add."""
    lines = basket.lines
    everything = range(len(lines))
    while True:
        total = basket.speed(everything)
        zones = {zone: basket.speed([i for i in spot if lines[i].zone == zone]) for zone in program.spot_zones}
        short = {z: program.first - total + w for z, w in zones.items() if total - w < program.first - EPSILON}
        open_ = [i for i in everything if basket.room(i) and lines[i].zone not in short]
        if not short or not open_:
            return
        left = max(short.values())
        basket.take(min(open_, key=lambda i: (_usd_for(lines[i], left), lines[i].id)))
