"""The mix for a need: greedy where a bound proves it good enough, else the program, else greedy and said.

What is held is kept while it is within a band of the best: a fleet moves only for what earns its restarts. The same
question gets the same answer without being asked twice.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType

from controller.core.hazard import PRIOR_PER_HOUR
from controller.core.mix import Mix, nodes_for, price_known, spot_usable
from controller.core.mix_greedy import MOST_IN_A_ZONE, greedy
from controller.core.mix_program import EPSILON, UNITS, Line, Program, Solved, solve
from controller.core.types import Offer, OfferStanding, Reason
from models.enums import Limit, Market

# A spot offer dearer than this share of on demand isn't worth its interruptions.
SPOT_WORTH = 0.85
# A mix this near to what is proven to be the least is good enough …
GAP_RATIO = 0.01
# … and one that is held is kept to here: above the gap, so that the answer to a question isn't overturned by the next.
STICKY_RATIO = 0.02
# No line needs more nodes than this.
MANY = 100_000


@dataclass(frozen=True, slots=True)
class Needed:
    """What a mix has to hold, in reference GPUs: `capacity` of all; `base` of it on demand; `first` whatever one spot
    zone is lost.
    """

    capacity: float
    base: float = 0.0
    first: float = 0.0


@dataclass(frozen=True, slots=True)
class Terms:
    """What a mix is chosen under. `lead_s`: from asking to serving; `horizon_s`: the time in which a restart has to be
    earned; `node_quotas` by offer, `gpu_quotas` by zone.
    """

    lead_s: float = 240.0
    horizon_s: float = 3600.0
    spend_cap_usd_per_hour: float | None = None
    node_quotas: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    gpu_quotas: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Choice:
    """Nodes of each line, what they cost by the program and the least that any mix can; `how`: held | greedy | program.
    `late`: why the program was not heard; `short`: what isn't held; `order`: a line for each node, first the base.
    """

    counts: tuple[int, ...]
    cost_usd: float
    bound_usd: float
    how: str
    late: str = ""
    binding: tuple[str, ...] = ()
    short: tuple[str, ...] = ()
    order: tuple[int, ...] = ()

    @property
    def gap_ratio(self) -> float:
        """How far the cost can be above the least, relative to it."""
        return max(0.0, self.cost_usd / self.bound_usd - 1) if self.bound_usd > EPSILON else 0.0


def choose_mix(
    standings: Sequence[OfferStanding],
    needed: Needed,
    held: Mapping[str, int],
    now_s: float,
    terms: Terms = Terms(),
) -> Mix:
    """The mix that carries what is needed for the least, sticky to what is `held` (replicas per offer, none under
    notice).

    The reason has the cost, the bound that proves it, the gap between them and the constraints that bind; where
    something can't be held it says what is short.
    """
    used, cannot = _eligible(standings, now_s)
    program = program_for(used, needed, held, now_s, terms)
    choice = choose(program)
    return Mix(_replicas(choice.order, used), _reason(program, choice, needed, cannot, terms))


def greedy_mix(
    standings: Sequence[OfferStanding], capacity: float, base: float, held: Mapping[str, int], now_s: float
) -> Mix:
    """The mix without the program, nor what the loss of a zone asks: what a plan is compared with."""
    used, cannot = _eligible(standings, now_s)
    needed, terms = Needed(capacity, base), Terms()
    program = program_for(used, needed, held, now_s, terms)
    choice = _rated(program, greedy(program), program.lower_bound_usd, "greedy")
    return Mix(_replicas(choice.order, used), _reason(program, choice, needed, cannot, terms))


def _eligible(standings: Sequence[OfferStanding], now_s: float) -> tuple[list[OfferStanding], Mapping[str, str]]:
    """The offers that may be used at all, and why spot offers are not to be started on."""
    # An unknown price fails closed: a budget can't hold what it can't count.
    known = [s for s in standings if price_known(s)]
    on_demand = min((s.offer.usd_per_speed_hour for s in known if s.offer.market is Market.ON_DEMAND), default=math.inf)
    used = [
        s
        for s in known
        if s.offer.market is Market.ON_DEMAND
        or (s.offer.market is Market.SPOT and s.offer.usd_per_speed_hour <= on_demand * SPOT_WORTH)
    ]
    cannot = {s.offer.id: why for s in standings if s.offer.market is Market.SPOT and (why := spot_usable(s, now_s))}
    unknown = {s.offer.id: s.why_not or "its price is unknown" for s in standings if not price_known(s)}
    return used, cannot | unknown


def program_for(
    used: Sequence[OfferStanding], needed: Needed, held: Mapping[str, int], now_s: float, terms: Terms
) -> Program:
    """The program of what is needed over the offers that may be used."""
    lead_h = terms.lead_s / 3600.0
    on_demand = min((s.offer.usd_per_speed_hour for s in used if s.offer.market is Market.ON_DEMAND), default=math.nan)
    lines = []
    for standing in used:
        offer = standing.offer
        price, spot = offer.price_usd_per_hour, offer.market is Market.SPOT
        here = nodes_for(held.get(offer.id, 0), offer.gpu_count)
        most = terms.node_quotas.get(offer.id, MANY)
        risk = 0.0
        if spot:
            if spot_usable(standing, now_s):
                most = min(most, here)
            elif standing.refused_s is not None:
                # After a refusal one node asks whether there is capacity again; the rest don't wait for its answer.
                most = min(most, here + 1)
            rate = PRIOR_PER_HOUR if standing.hazard_per_hour is None else standing.hazard_per_hour
            # For a lead time the new node is paid without serving, and what it carried is paid on demand.
            stand_in = price if math.isnan(on_demand) else on_demand * offer.node_speed
            risk = float(f"{rate:.2g}") * lead_h * (price + stand_in)
        start = price * terms.lead_s / terms.horizon_s
        zone = offer.zone if spot else ""
        lines.append(Line(offer.id, offer.gpu_count, offer.node_speed, price, price + risk, start, here, most, zone))
    places = {zone: tuple(i for i, s in enumerate(used) if s.offer.zone == zone) for zone in terms.gpu_quotas}
    capacity = _rounded(needed.capacity)
    base = min(_rounded(needed.base), capacity)
    cap = terms.spend_cap_usd_per_hour
    return Program(
        tuple(lines),
        capacity,
        base,
        min(_rounded(needed.first), capacity),
        math.inf if cap is None else cap,
        tuple((zone, quota, places[zone]) for zone, quota in terms.gpu_quotas.items()),
        _shares(lines, capacity - base),
    )


def _rounded(reference_gpus: float) -> float:
    """Up to a thousandth of a GPU, so that noise doesn't make a new question."""
    return math.ceil(max(0.0, reference_gpus) * UNITS - 1e-6) / UNITS


def _shares(lines: Sequence[Line], on_spot: float) -> tuple[tuple[str, float], ...]:
    """The most that each spot zone may carry: its share, or more where the others have no room, up to a whole node."""
    room: dict[str, float] = defaultdict(float)
    largest: dict[str, float] = {}
    for line in lines:
        if line.zone:
            room[line.zone] += line.most * line.speed
            largest[line.zone] = max(largest.get(line.zone, 0.0), line.speed)
    everywhere = sum(room.values())
    shares = []
    for zone, node in largest.items():
        elsewhere = everywhere - room[zone]
        if elsewhere > EPSILON:
            most = max(on_spot * MOST_IN_A_ZONE, on_spot - elsewhere)
            shares.append((zone, math.ceil(most / node - EPSILON) * node))
    return tuple(shares)


@lru_cache(maxsize=8192)
def choose(program: Program) -> Choice:
    """Held, greedy or solved, whichever is within its band of the least that is proven."""
    bound = program.lower_bound_usd
    held = program.pruned([min(line.held, line.most) for line in program.lines])
    fits = not program.broken(held)
    if fits and program.cost_usd(held) <= (1 + STICKY_RATIO) * bound + EPSILON:
        return _rated(program, held, bound, "held")
    quick = program.pruned(greedy(program))
    if not program.broken(quick) and program.cost_usd(quick) <= (1 + GAP_RATIO) * bound + EPSILON:
        return _rated(program, quick, bound, "greedy")
    solved = solve(program, GAP_RATIO / 2)
    return _best(program, held if fits else None, quick, solved)


def _best(program: Program, held: list[int] | None, quick: list[int], solved: Solved) -> Choice:
    def rank(counts: Sequence[int]) -> tuple[bool, float]:
        short = program.short(counts)
        return short > 0, program.cost_usd(counts) + short

    bound = max(program.lower_bound_usd, solved.bound_usd)
    candidates = []
    if solved.counts is not None:
        candidates.append(("program", program.pruned(solved.counts)))
    fallback = _within_cap(program, quick)
    if fallback is not None:
        candidates.append(("greedy", fallback))
    how, counts = min(candidates, key=lambda each: rank(each[1]), default=("greedy", quick))
    if fallback is not None and rank(fallback) <= (False, (1 + GAP_RATIO) * bound + EPSILON):
        # Spread evenly over the zones, which the program doesn't care for.
        how, counts = "greedy", fallback
    if held is not None and rank(held) <= (False, (1 + STICKY_RATIO) * rank(counts)[1] + EPSILON):
        how, counts = "held", held
    return _rated(program, counts, bound, how, solved.why)


def _within_cap(program: Program, counts: list[int]) -> list[int] | None:
    """Greedy counts that break no quota, share or cap; None where they do."""
    needs = {name for name, *_ in program.rows[: 2 + len(program.spot_zones)]}
    return counts if set(program.broken(counts)) <= needs else None


def _rated(program: Program, counts: Sequence[int], bound: float, how: str, late: str = "") -> Choice:
    return Choice(
        tuple(counts),
        program.cost_usd(counts),
        bound,
        how,
        late,
        program.binding(counts),
        program.broken(counts),
        _in_order(program, counts),
    )


def _replicas(order: Sequence[int], used: Sequence[OfferStanding]) -> tuple[Offer, ...]:
    """One entry for each GPU of the nodes."""
    return tuple(used[i].offer for i in order for _ in range(used[i].offer.gpu_count))


def _in_order(program: Program, counts: Sequence[int]) -> tuple[int, ...]:
    """The lines of the nodes by importance: the base on demand, then spot in turn by zone, then the fallback."""
    lines = program.lines
    on_demand = [
        i
        for fresh in (False, True)
        for i in sorted((i for i, line in enumerate(lines) if not line.zone), key=lambda i: lines[i].usd_per_speed)
        for _ in range(max(0, counts[i] - lines[i].held) if fresh else min(counts[i], lines[i].held))
    ]
    carried, on_base = 0.0, 0
    while on_base < len(on_demand) and carried < program.base - EPSILON:
        carried, on_base = carried + lines[on_demand[on_base]].speed, on_base + 1
    left = {i: counts[i] for i, line in enumerate(lines) if line.zone and counts[i]}
    in_zone: dict[str, float] = defaultdict(float)
    spot = []
    while left:
        # What is there first: a list that is cut again must be cut to the same replicas.
        here = [i for i in left if counts[i] - left[i] < lines[i].held] or left
        best = min(here, key=lambda i: (in_zone[lines[i].zone], lines[i].usd_per_speed, lines[i].id))
        spot.append(best)
        in_zone[lines[best].zone] += lines[best].speed
        left[best] -= 1
        if not left[best]:
            del left[best]
    return (*on_demand[:on_base], *spot, *on_demand[on_base:])


def _reason(
    program: Program,
    choice: Choice,
    needed: Needed,
    cannot: Mapping[str, str],
    terms: Terms,
) -> Reason:
    counts, lines = choice.counts, program.lines
    carried = sum(n * line.speed for n, line in zip(counts, lines, strict=True))
    on_demand = sum(n * line.speed for n, line in zip(counts, lines, strict=True) if not line.zone)
    largest = max((line.speed for n, line in zip(counts, lines, strict=True) if n and not line.zone), default=0.0)
    # More on demand than the base, by more than the rounding to a whole node: spot gave less than was asked.
    fallback = on_demand - program.base if on_demand >= program.base + largest - EPSILON and on_demand else 0.0
    price = program.price_usd(counts)
    whole = [f"{n} × {line.id}" for n, line in zip(counts, lines, strict=True) if n]
    text = (
        f"{', '.join(whole) or 'no replica'} carry {carried:.1f} of {needed.capacity:.1f} GPUs, "
        f"{on_demand:.1f} of them on demand, for ${price:.2f}/h"
    )
    short = choice.short
    if whole and not short:
        text += (
            f" (${choice.cost_usd:.2f}/h with interruptions and starts; none under ${choice.bound_usd:.2f}/h, "
            f"gap {choice.gap_ratio:.1%}; {choice.how})"
        )
    if choice.binding:
        text += "; bound by " + ", ".join(choice.binding)
    if short:
        cap = terms.spend_cap_usd_per_hour
        text += "; not held: " + ", ".join(short) + (f" within ${cap:.2f}/h" if cap is not None else "")
    if choice.late:
        text += f"; the program was not used to its end: {choice.late}"
    if cannot:
        text += "; not started on: " + ", ".join(f"{offer_id} ({why})" for offer_id, why in sorted(cannot.items()))
    numbers: dict[str, float | None] = {
        "capacity": needed.capacity,
        "carried": carried,
        "fallback": fallback,
        "usd_per_hour": price,
        "cost_usd_per_hour": choice.cost_usd,
        "bound_usd_per_hour": None if short else choice.bound_usd,
        "gap_ratio": None if short else choice.gap_ratio,
    }
    return Reason(Limit.NO_CAPACITY if short or fallback else Limit.NONE, text, numbers)
