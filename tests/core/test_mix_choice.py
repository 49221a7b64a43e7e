"""The mix as a program: right on every small case by enumeration, and the laws that hold on any."""

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from controller.core import mix_choice
from controller.core.mix import within_burn
from controller.core.mix_choice import (
    GAP_RATIO,
    STICKY_RATIO,
    Needed,
    Terms,
    choose,
    choose_mix,
    greedy_mix,
)
from controller.core.mix_greedy import greedy
from controller.core.mix_program import Line, Program, solve
from controller.core.types import Offer
from models.enums import Limit, Market
from tests.core.observed import A10G, NOW, SPOT, offer, standings

# --- stories ---


def node(kind: str, zone: str, market: Market, price: float, gpus: int, speed: float = 1.0) -> Offer:
    return replace(offer(kind, zone, market, price, speed), gpu_count=gpus)


def test_a_node_of_four_gpus_carries_four_replicas_and_is_billed_whole() -> None:
    four = node("g5.12xlarge", "az1", Market.ON_DEMAND, 3.2, 4)
    chosen = choose_mix(standings([A10G, four]), Needed(6.0, 6.0), {}, NOW)
    # A node of four and two single ones, not six single ones.
    assert chosen.counts == {four.id: 4, A10G.id: 2}
    assert chosen.usd_per_hour == pytest.approx(3.2 + 2 * 1.006)
    # Three replicas of need: the whole node is dearer than three single ones, idle GPU and all.
    assert choose_mix(standings([A10G, four]), Needed(3.0, 3.0), {}, NOW).counts == {A10G.id: 3}


def test_a_budget_buys_a_node_whole_or_not_at_all() -> None:
    four = node("g5.12xlarge", "az1", Market.ON_DEMAND, 3.2, 4)
    whole = choose_mix(standings([A10G, four]), Needed(8.0, 8.0), {}, NOW)
    assert whole.counts == {four.id: 8}
    assert within_burn(whole, 5.0).counts == {four.id: 4}
    assert within_burn(whole, 3.0).counts == {}


def test_losing_any_one_zone_leaves_the_first_tier_whole() -> None:
    chosen = choose_mix(standings(), Needed(6.0, 1.0, 6.0), {}, NOW)
    assert min(without(chosen.offers, zone) for zone in ("az1", "az2", "az3")) >= 6.0
    assert "the first tier without" in chosen.reason.text


def test_a_zone_that_loses_its_replicas_often_is_left_for_the_others() -> None:
    """Its price is the same, its interruptions aren't."""
    often = {"hazard_per_hour": 3.0}
    chosen = choose_mix(standings(o1=often), Needed(8.0, 2.0), {}, NOW)
    assert all(each.zone != "az1" for each in chosen.offers if each.market is Market.SPOT)


def test_moving_pays_only_where_it_earns_the_restart() -> None:
    dear = replace(SPOT[0], price_usd_per_hour=0.44)
    held = {dear.id: 2, SPOT[1].id: 1, SPOT[2].id: 1}
    assert choose_mix(standings([A10G, dear, *SPOT[1:]]), Needed(4.0), held, NOW).counts == held
    much = replace(SPOT[0], price_usd_per_hour=0.80)
    moved = choose_mix(standings([A10G, much, *SPOT[1:]]), Needed(4.0), {much.id: 2, SPOT[1].id: 2}, NOW)
    assert moved.counts[much.id] == 0


def test_quotas_bind_and_are_named() -> None:
    terms = Terms(node_quotas={SPOT[0].id: 1}, gpu_quotas={"az2": 2})
    chosen = choose_mix(standings(), Needed(9.0, 2.0), {}, NOW, terms)
    assert chosen.counts[SPOT[0].id] <= 1
    assert sum(n for offer_id, n in chosen.counts.items() if "az2" in offer_id) <= 2
    assert chosen.capacity >= 9.0
    assert "quota" in chosen.reason.text


def test_a_cap_that_is_too_small_is_kept_and_what_gives_is_named() -> None:
    chosen = choose_mix(standings(), Needed(10.0, 4.0), {}, NOW, Terms(spend_cap_usd_per_hour=4.0))
    assert chosen.usd_per_hour <= 4.0
    assert "not held: the capacity needed" in chosen.reason.text and "$4.00/h" in chosen.reason.text
    # The base is the last to give.
    assert sum(each.speed_ratio for each in chosen.offers if each.market is Market.ON_DEMAND) >= 3.0
    assert chosen.reason.limit is Limit.NO_CAPACITY
    assert chosen.reason.numbers["gap_ratio"] is None


def test_a_solver_that_is_late_leaves_the_greedy_mix_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of three GPUs' worth are what greedy buys for five; one of five is cheaper."""
    sizes = [
        offer(f"m{speed}", "az1", Market.ON_DEMAND, price, speed) for price, speed in ((1.0, 1), (2.7, 3), (4.6, 5))
    ]
    asked, needed = standings(sizes), Needed(5.0, 5.0)
    assert choose_mix(asked, needed, {}, NOW).counts == {sizes[2].id: 1}
    choose.cache_clear()
    monkeypatch.setattr(mix_choice, "solve", lambda program, gap: solve(program, gap, time_limit_s=0.0))
    late = choose_mix(asked, needed, {}, NOW)
    choose.cache_clear()
    assert late.counts == greedy_mix(asked, 5.0, 5.0, {}, NOW).counts == {sizes[1].id: 2}
    assert "the program was not used to its end: the solver stopped at its limit" in late.reason.text


# --- small cases, all enumerated ---

speeds = st.sampled_from([0.5, 1.0, 1.5, 2.0, 4.0])
lines = st.builds(
    lambda number, speed, price, risk, start, held, most, zone: Line(
        f"line-{number}", 1, speed, price, price + risk, start, min(held, most), most, zone
    ),
    st.integers(0, 10**6),
    speeds,
    st.floats(0.1, 5).map(lambda x: round(x, 2)),
    st.sampled_from([0.0, 0.05, 0.5]),
    st.sampled_from([0.0, 0.1, 0.3]),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from(["", "az1", "az2"]),
)
needs = st.sampled_from([0.0, 0.5, 1.0, 1.7, 2.5, 4.0, 6.0])


@st.composite
def programs(draw: st.DrawFn) -> Program:
    few = tuple(draw(st.lists(lines, min_size=1, max_size=4, unique_by=lambda line: line.id)))
    capacity = draw(needs)
    cap = draw(st.just(math.inf) | st.floats(0.5, 10))
    return Program(few, capacity, min(capacity, draw(needs)), min(capacity, draw(needs)), cap)


def enumerated(program: Program) -> float:
    """The least cost of the counts that hold everything; where none do, the least with the penalty for the rest."""
    needed = {name for name, *_ in program.rows[: 2 + len(program.spot_zones)]}
    allowed = [
        counts
        for counts in itertools.product(*(range(line.most + 1) for line in program.lines))
        if set(program.broken(counts)) <= needed
    ]
    whole = [counts for counts in allowed if not program.short(counts)]
    return min(program.cost_usd(counts) + program.short(counts) for counts in whole or allowed)


@settings(max_examples=60, deadline=None)
@given(programs())
def test_the_solver_finds_what_enumeration_finds(program: Program) -> None:
    least = enumerated(program)
    solved = solve(program, 0.0)
    assert solved.counts is not None
    assert program.cost_usd(solved.counts) + program.short(solved.counts) == pytest.approx(least, rel=1e-5, abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(programs())
def test_the_bounds_are_bounds_and_the_choice_is_near_them(program: Program) -> None:
    least = enumerated(program)
    chosen = choose(program)
    rated = chosen.cost_usd + program.short(chosen.counts)
    assert program.lower_bound_usd <= least + 1e-6
    assert chosen.bound_usd <= least * (1 + 1e-6) + 1e-5
    assert rated <= least * (1 + STICKY_RATIO + GAP_RATIO) + 1e-5


# --- laws ---


def without(offers: tuple[Offer, ...], zone: str) -> float:
    return sum(each.speed_ratio for each in offers if each.market is Market.ON_DEMAND or each.zone != zone)


catalogue = st.lists(
    st.builds(
        node,
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["az1", "az2", "az3"]),
        st.sampled_from([Market.ON_DEMAND, Market.SPOT]),
        st.floats(0.1, 5),
        st.sampled_from([1, 1, 4]),
        st.sampled_from([0.5, 1.0, 2.0]),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda each: each.id,
)
capacities = st.floats(0, 20)


@settings(max_examples=60, deadline=None)
@given(catalogue, capacities, capacities, capacities, st.dictionaries(st.integers(0, 5), st.integers(0, 8)))
def test_laws_of_every_choice(
    offers: list[Offer], capacity: float, base: float, first: float, places: dict[int, int]
) -> None:
    assume(any(each.market is Market.ON_DEMAND for each in offers))
    held = {offers[i].id: n for i, n in places.items() if i < len(offers)}
    asked = standings(offers)
    needed = Needed(capacity, min(base, capacity), min(first, capacity))
    chosen = choose_mix(asked, needed, held, NOW)
    # It carries what is asked, whichever zone is lost, and the base on demand.
    assert chosen.capacity >= needed.capacity - 1e-6
    assert sum(o.speed_ratio for o in chosen.offers if o.market is Market.ON_DEMAND) >= needed.base - 1e-6
    assert min(without(chosen.offers, zone) for zone in ("az1", "az2", "az3")) >= needed.first - 1e-6
    # Whole nodes, and cutting the list keeps the base to the end.
    assert all(chosen.counts[each.id] % each.gpu_count == 0 for each in chosen.offers)
    # What is held as chosen is chosen again.
    again = choose_mix(asked, needed, chosen.counts, NOW)
    assert again.counts == chosen.counts


@settings(max_examples=60, deadline=None)
@given(programs())
def test_it_is_never_dearer_than_greedy(program: Program) -> None:
    quick = program.pruned(greedy(program))
    assume(not program.broken(quick))
    chosen = choose(program)
    assert not program.broken(chosen.counts)
    assert chosen.cost_usd <= program.cost_usd(quick) * (1 + STICKY_RATIO) + 1e-6
    if chosen.how != "held":
        assert chosen.cost_usd <= program.cost_usd(quick) + 1e-6


@settings(max_examples=60, deadline=None)
@given(programs(), st.floats(0, 3))
def test_more_need_never_costs_less_than_its_gap(program: Program, extra: float) -> None:
    more = replace(program, capacity=program.capacity + extra)
    small, large = choose(program), choose(more)
    assume(not program.broken(small.counts) and not more.broken(large.counts))
    assert large.cost_usd >= small.cost_usd / (1 + STICKY_RATIO + GAP_RATIO) - 1e-6


@settings(max_examples=60, deadline=None)
@given(catalogue, capacities, st.floats(0.1, 20))
def test_a_cap_is_never_exceeded(offers: list[Offer], capacity: float, cap: float) -> None:
    chosen = choose_mix(standings(offers), Needed(capacity, capacity / 3), {}, NOW, Terms(spend_cap_usd_per_hour=cap))
    assert chosen.usd_per_hour <= cap + 1e-6
    if chosen.capacity < capacity - 1e-6:
        assert "not held" in chosen.reason.text


@settings(max_examples=60, deadline=None)
@given(catalogue, capacities)
def test_the_reason_says_what_it_is_held_to(offers: list[Offer], capacity: float) -> None:
    reason = choose_mix(standings(offers), Needed(capacity), {}, NOW).reason
    numbers = reason.numbers
    if numbers["gap_ratio"] is not None and numbers["carried"]:
        assert numbers["cost_usd_per_hour"] >= numbers["bound_usd_per_hour"] - 1e-6
        assert "gap" in reason.text and "/h" in reason.text
