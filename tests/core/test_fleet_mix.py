"""Many services at once: what each is promised holds, the bound is one, and quotas and cap are kept."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.fleet_mix import FleetMix, plan_fleet
from controller.core.mix_choice import Needed
from controller.core.mix_program import Line


def line(number: int, speed: float, usd: float, zone: str = "") -> Line:
    return Line(f"line-{number}", 1, speed, usd, usd, 0.0, 0, 100, zone)


LINES = (
    line(0, 1.0, 1.0),
    line(1, 2.0, 1.9),
    line(2, 1.0, 0.4, "az1"),
    line(3, 1.0, 0.45, "az2"),
    line(4, 4.0, 1.2, "az1"),
)


def holds(lines: tuple[Line, ...], nodes: Sequence[int], needed: Needed) -> bool:
    carried = [n * each.speed for n, each in zip(nodes, lines, strict=True)]
    on_demand = sum(speed for speed, each in zip(carried, lines, strict=True) if not each.zone)
    zones = [sum(s for s, each in zip(carried, lines, strict=True) if each.zone == zone) for zone in ("az1", "az2")]
    total = sum(carried)
    return total >= needed.capacity and on_demand >= needed.base and total - max(zones) >= needed.first


def check(lines: tuple[Line, ...], needs: list[Needed], plan: FleetMix, quotas: dict[str, int]) -> None:
    used = plan.nodes.sum(0)
    assert all(used[i] <= quotas.get(each.id, 10**9) for i, each in enumerate(lines))
    assert all(holds(lines, plan.nodes[s].tolist(), need) for s, need in enumerate(needs) if s not in plan.unmet)
    if not plan.unmet:
        assert plan.bound_usd <= plan.cost_usd + 1e-6


def test_services_without_quotas_each_get_their_cheapest() -> None:
    needs = [Needed(3.0, 1.0, 1.0), Needed(4.0, 0.0, 2.0)]
    plan = plan_fleet(LINES, needs)
    check(LINES, needs, plan, {})
    # One on demand and two of the cheapest zone for the first; two in each zone for the second.
    assert plan.usd_per_hour == pytest.approx(1.0 + 0.8 + 0.8 + 0.9)
    assert plan.gap_ratio <= 0.01


def test_a_full_quota_sends_the_next_service_elsewhere() -> None:
    needs = [Needed(4.0, 0.0, 0.0)] * 3
    quotas = {"line-4": 1, "line-2": 4}
    plan = plan_fleet(LINES, needs, quotas)
    check(LINES, needs, plan, quotas)
    assert plan.unmet == ()
    # The best is the node of four, four of the one zone and four of the other.
    assert plan.bound_usd <= 1.2 + 1.6 + 1.8 + 1e-6
    assert plan.usd_per_hour <= (1.2 + 1.6 + 1.8) * 1.05


def test_what_quotas_can_not_hold_is_named() -> None:
    plan = plan_fleet(LINES, [Needed(4.0)] * 2, {each.id: 1 for each in LINES[:4]} | {"line-4": 0})
    assert len(plan.unmet) == 1
    assert "1 services are not held" in plan.why


def test_a_cap_that_the_needs_do_not_fit_in_is_said() -> None:
    plan = plan_fleet(LINES, [Needed(4.0, 4.0)], spend_cap_usd=1.0)
    assert "over the spend cap of $1.00/h" in plan.why


few = st.lists(
    st.tuples(
        st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from([0.3, 0.5, 0.9, 1.4]), st.sampled_from(["", "az1", "az2"])
    ),
    min_size=1,
    max_size=3,
).map(lambda rows: (*(line(n, *row) for n, row in enumerate(rows)), line(9, 1.0, 1.5)))
need = st.builds(
    lambda capacity, base, first: Needed(capacity, capacity * base, capacity * first),
    st.sampled_from([0.0, 1.0, 2.0, 3.0]),
    st.sampled_from([0.0, 0.5]),
    st.sampled_from([0.0, 0.5, 1.0]),
)


@settings(max_examples=40, deadline=None)
@given(few, need)
def test_the_bound_is_below_the_best_of_all_counts(lines: tuple[Line, ...], needed: Needed) -> None:
    plan = plan_fleet(lines, [needed])
    best = min(
        sum(n * each.running_usd for n, each in zip(counts, lines, strict=True))
        for counts in itertools.product(range(6), repeat=len(lines))
        if holds(lines, counts, needed)
    )
    assert plan.bound_usd <= best + 1e-6 <= plan.cost_usd + 2e-6


@settings(max_examples=30, deadline=None)
@given(few, st.lists(need, min_size=1, max_size=5), st.lists(st.integers(0, 6), min_size=4, max_size=4))
def test_quotas_are_never_exceeded(lines: tuple[Line, ...], needs: list[Needed], most: list[int]) -> None:
    quotas = {each.id: n for each, n in zip(lines, most, strict=False)}
    check(lines, needs, plan_fleet(lines, needs, quotas, rounds=4), quotas)
