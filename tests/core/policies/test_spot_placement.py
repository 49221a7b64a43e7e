"""SpotHedge's formulas and its placement, event by event."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from controller.core.policies.spot_placement import Placement, market_split, markets_of, placed_plan
from controller.core.types import OfferStanding, Reason
from models.enums import Limit, ReplicaState
from tests.core.observed import (
    A10G,
    BY_ID,
    L40S,
    NOW,
    OFFERS,
    SPOT,
    fleet,
    observation,
    released,
    replica,
    standings,
    started,
)

WHY = Reason(Limit.LATENCY_TARGET, "ten are wanted", {})
A, B, C = (offer.id for offer in SPOT)


@pytest.mark.parametrize(
    ("target", "ready", "over", "base", "spot", "on_demand", "why"),
    [
        (10, 10, 0, 0, 10, 0, "all spot serve: none on demand"),
        (10, 4, 0, 0, 10, 6, "on demand for the six that don't serve yet, coming or not"),
        (10, 0, 0, 0, 10, 10, "no spot at all: everything on demand"),
        (10, 10, 2, 0, 12, 2, "two over the target are missing: B = 0, min(T, T + E − ready)"),
        (10, 0, 2, 0, 12, 10, "never on demand for what is over-provisioned"),
        (10, 8, 0, 2, 8, 2, "a base of two is always on demand"),
        (10, 5, 0, 2, 8, 5, "the base and three that are missing"),
        (3, 0, 0, 5, 0, 3, "a base over the target is the target"),
    ],
)
def test_the_split_of_a_target(target, ready, over, base, spot, on_demand, why) -> None:
    assert market_split(target, ready, over, base) == (spot, on_demand), why


def test_without_fallback_only_the_base_is_on_demand() -> None:
    assert market_split(10, 0, base=2, fallback=False) == (8, 2)


def lost(*ids: str, at_s: float, refused: tuple[str, ...] = ()) -> tuple[OfferStanding, ...]:
    return tuple(
        replace(
            each,
            lost_s=at_s if each.offer.id in ids else None,
            refused_s=at_s if each.offer.id in refused else None,
        )
        for each in standings(SPOT)
    )


def look(placement: Placement, offers: tuple[OfferStanding, ...], now_s: float, **changes: Any) -> Placement:
    return placement.look(observation(now_s=now_s, offers=offers, **changes), offers)


def test_a_zone_that_took_back_is_preempted_until_too_few_are_left() -> None:
    first = look(Placement(), standings(SPOT), NOW)
    assert first.preempted == frozenset()
    second = look(first, lost(A, at_s=NOW + 5), NOW + 20)
    assert second.preempted == {A}
    assert look(second, lost(A, at_s=NOW + 5), NOW + 40).preempted == {A}, "the same loss counts once"
    # The second loss leaves one active zone: all are active again.
    assert look(second, lost(B, at_s=NOW + 25), NOW + 40).preempted == frozenset()


def test_all_zones_at_once_leave_the_last_of_them_marked() -> None:
    """One after the other: the first is marked, the second resets, the third is marked."""
    assert look(Placement(looked_s=NOW), lost(A, B, C, at_s=NOW + 5), NOW + 20).preempted == {C}


def test_a_refused_start_counts_as_preempted() -> None:
    """It is dated by the tick that asked."""
    assert look(Placement(looked_s=NOW), lost(at_s=NOW, refused=(A,)), NOW + 20).preempted == {A}


def test_a_replica_that_came_up_makes_its_zone_active_again() -> None:
    up = replica(1, BY_ID[A], ready_s=NOW + 10)
    offers = standings(SPOT)
    assert look(Placement(frozenset({A}), NOW), offers, NOW + 20, replicas=(up,)).preempted == frozenset()
    old = replica(1, BY_ID[A], ready_s=NOW - 10)
    assert look(Placement(frozenset({A}), NOW), offers, NOW + 20, replicas=(old,)).preempted == {A}


def test_new_replicas_go_where_none_is_then_to_the_cheapest() -> None:
    cheap = (replace(SPOT[0], price_usd_per_hour=0.5), SPOT[1], SPOT[2])
    placement = Placement()
    assert placement.choose(cheap, Counter(), 3) == [B, C, A]
    assert placement.choose(cheap, Counter({A: 1, B: 1, C: 1}), 2) == [B, C], "equal prices take turns"
    assert placement.choose(cheap, Counter({B: 4, C: 2}), 1) == [A]
    assert Placement(frozenset({B})).choose(cheap, Counter({A: 1, C: 1}), 2) == [C, C]
    assert placement.choose(cheap, Counter(), -2) == []


def test_markets_are_one_spot_type_and_the_same_on_demand() -> None:
    markets = markets_of(observation())
    assert [standing.offer.id for standing in markets.spot] == [A, B, C]
    assert markets.on_demand == A10G
    assert markets.speed == 1.0
    without = markets_of(observation(offers=standings((*SPOT, L40S))))
    assert without.on_demand == L40S
    only = markets_of(observation(offers=standings((A10G, L40S))))
    assert (only.spot, only.on_demand) == ((), L40S)


def planned(target: int, **changes: Any) -> Any:
    seen = observation(**changes)
    return placed_plan(seen, "p-1", "spothedge", target, markets_of(seen), Placement(looked_s=NOW - 20), WHY)


def test_on_demand_bridges_until_spot_serves_and_then_goes() -> None:
    first, _ = planned(6)
    assert Counter(started(first)) == {A: 2, B: 2, C: 2, A10G.id: 6}
    spot = {A: 2, B: 2, C: 2}
    coming = fleet(spot, ReplicaState.BOOTING)
    bridge = tuple(replica(50 + n) for n in range(6))
    assert planned(6, replicas=coming + bridge)[0].actions == ()
    done, _ = planned(6, replicas=fleet(spot) + bridge)
    assert released(done) == [A10G.id] * 6
    assert done.desired_by_offer == spot


def test_a_notice_calls_the_fallback_and_the_successor_waits_for_the_end() -> None:
    here = fleet({B: 2, C: 2})
    leaving = tuple(replica(60 + n, BY_ID[A], gone_s=NOW + 100) for n in range(2))
    notice, _ = planned(6, replicas=here + leaving, offers=standings(o1={"lost_s": NOW - 5, "notice": True}))
    assert started(notice) == [A10G.id] * 2
    bridge = tuple(replica(70 + n) for n in range(2))
    gone, placement = planned(6, replicas=here + bridge, offers=standings(o1={"lost_s": NOW - 5}))
    assert placement.preempted == {A}
    assert started(gone) == [B, C]


def test_less_is_let_go_spot_first_what_comes() -> None:
    late = tuple(replica(80 + n, BY_ID[B], ReplicaState.BOOTING) for n in range(2))
    plan, _ = planned(4, replicas=fleet({A: 3}) + late)
    assert released(plan) == [B]
    assert started(plan) == [A10G.id]


def test_nothing_is_sold_and_it_holds() -> None:
    plan, _ = planned(4, offers=standings(OFFERS, **{f"o{n}": {"usable": False} for n in range(5)}))
    assert (plan.actions, plan.bound.limit) == ((), Limit.NO_CAPACITY)
