"""Which offers carry the capacity: what is chosen, what never is, and what is left when all of spot goes at once."""

import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.mix import LOST_FOR_S, REFUSED_FOR_S, Mix, resize, spot_usable, within_burn
from controller.core.mix_choice import Needed, choose_mix, greedy_mix
from controller.core.types import Offer, OfferStanding
from models.enums import Limit, Market
from tests.core.observed import A10G, BY_ID, L40S, NOW, OFFERS, SPOT, offer, standings


def mix(capacity: float, base: float = 0.0, held: dict[str, int] | None = None, **changed: object) -> Mix:
    return choose_mix(standings(**changed), Needed(capacity, base), held or {}, NOW)


def zones(chosen: Mix) -> Counter[str]:
    return Counter(each.zone for each in chosen.offers if each.market is Market.SPOT)


def test_the_base_stands_on_demand_and_the_rest_is_spread_over_spot_zones() -> None:
    chosen = mix(10.0, base=4.0)
    assert [each.market for each in chosen.offers[:2]] == [Market.ON_DEMAND] * 2
    # Four reference GPUs are two L40S at $0.93 a GPU, not four A10G at $1.01.
    assert chosen.counts[L40S.id] == 2
    assert zones(chosen) == {"az1": 2, "az2": 2, "az3": 2}
    assert chosen.capacity == 10.0
    assert chosen.usd_per_hour == pytest.approx(2 * 1.861 + 6 * 0.43)
    assert chosen.reason.limit is Limit.NONE


def test_one_gpu_of_need_is_the_cheapest_single_machine() -> None:
    assert mix(1.0, base=1.0).counts == {A10G.id: 1}
    assert mix(1.5, base=1.5).counts == {L40S.id: 1}
    assert mix(3.0, base=3.0).counts == {L40S.id: 1, A10G.id: 1}
    assert mix(0.0).counts == {}
    assert choose_mix(standings(SPOT), Needed(3.0, 3.0), {}, NOW).reason.limit is Limit.NO_CAPACITY


@pytest.mark.parametrize(
    ("standing", "word"),
    [
        ({"usable": False, "why_not": "its price is unknown"}, "its price is unknown"),
        ({"notice": True}, "is being taken back"),
        ({"refused_s": NOW - 10}, "had no capacity 10 s ago"),
        ({"lost_s": NOW - 60}, "was taken back 60 s ago"),
    ],
)
def test_a_zone_that_says_no_is_not_started_on_and_the_plan_says_why(standing: dict[str, object], word: str) -> None:
    chosen = mix(6.0, o1=standing)
    assert zones(chosen) == {"az2": 3, "az3": 3}
    assert f"{SPOT[0].id} ({word})" in chosen.reason.text


def test_an_interruption_keeps_a_zone_out_for_a_while_and_not_for_ever() -> None:
    """The rate of interruptions moves the mix, not only a refusal (10)."""
    standing = OfferStanding(SPOT[0], refused_s=NOW - REFUSED_FOR_S, lost_s=NOW - LOST_FOR_S)
    assert spot_usable(standing, NOW) == ""
    assert spot_usable(standing, NOW - 1) != ""


def test_without_spot_everything_falls_back_to_on_demand() -> None:
    gone = {f"o{i}": {"refused_s": NOW} for i in (1, 2, 3)}
    chosen = mix(5.0, base=2.0, **gone)
    assert all(each.market is Market.ON_DEMAND for each in chosen.offers)
    assert chosen.capacity >= 5.0
    assert chosen.reason.limit is Limit.NO_CAPACITY


def test_nothing_on_sale_is_said() -> None:
    chosen = greedy_mix((), 5.0, 2.0, {}, NOW)
    assert chosen.offers == ()
    assert chosen.reason.limit is Limit.NO_CAPACITY


def test_spot_that_is_hardly_cheaper_is_not_worth_its_interruptions() -> None:
    dear = [A10G, *(replace(each, price_usd_per_hour=0.95) for each in SPOT)]
    chosen = greedy_mix(standings(dear), 4.0, 0.0, {}, NOW)
    assert zones(chosen) == {}


@pytest.mark.parametrize("market", [Market.ON_DEMAND, Market.SPOT])
@pytest.mark.parametrize("price", [math.nan, math.inf])
def test_an_unknown_price_fails_closed(market: Market, price: float) -> None:
    """Wherever it stands in the list (49)."""
    unknown = offer("mystery", "az1", market, price)
    for offers in ((unknown, *OFFERS), (*OFFERS, unknown)):
        chosen = greedy_mix(standings(offers), 7.0, 3.0, {}, NOW)
        assert unknown not in chosen.offers
        assert chosen.capacity >= 7.0
    assert greedy_mix(standings((unknown,)), 3.0, 1.0, {}, NOW).offers == ()


def test_what_runs_is_kept_before_anything_is_started() -> None:
    held = {SPOT[0].id: 3, SPOT[1].id: 2, A10G.id: 2}
    assert mix(7.0, base=2.0, held=held).counts == held


def test_no_zone_keeps_more_than_half_of_spot_while_another_is_open() -> None:
    """What runs is worth a restart, not the loss of everything with one zone."""
    assert zones(mix(8.0, held={SPOT[0].id: 8})) == {"az1": 4, "az2": 2, "az3": 2}
    assert zones(mix(8.0, held={SPOT[0].id: 8}, o2={"lost_s": NOW}, o3={"lost_s": NOW})) == {"az1": 8}


def test_a_zone_that_refused_is_asked_again_with_one_replica() -> None:
    chosen = mix(9.0, o1={"refused_s": NOW - REFUSED_FOR_S})
    assert zones(chosen) == {"az1": 1, "az2": 4, "az3": 4}


def test_a_zone_that_gives_no_more_keeps_what_it_has() -> None:
    chosen = mix(8.0, held={SPOT[0].id: 3}, o1={"refused_s": NOW})
    assert chosen.counts[SPOT[0].id] == 3
    assert zones(chosen).total() == 8


def test_replicas_that_a_partly_lost_zone_keeps_are_kept() -> None:
    """Capacity falls from 5 to 3: two are under notice (not in `held`), three stay and stay wanted."""
    held = {SPOT[0].id: 3, SPOT[1].id: 3}
    assert mix(6.0, held=held, o1={"notice": True}).counts == held


# --- sizes ---


def test_a_mix_is_cut_from_its_least_important_end() -> None:
    whole = mix(10.0, base=4.0)
    assert resize(whole, 3, standings(), NOW, {}).offers == whole.offers[:3]
    assert resize(whole, 0, standings(), NOW, {}).offers == ()


def test_a_mix_is_filled_up_to_a_count() -> None:
    for count in (9, 15, 40):
        filled = resize(mix(8.0, base=2.0), count, standings(), NOW, {})
        assert len(filled.offers) == count
        assert filled.offers[:7] == mix(8.0, base=2.0).offers


@pytest.mark.parametrize("count", [1, 3, 7, 20])
@pytest.mark.parametrize("capacity", [0.5, 4.0])
def test_a_count_that_is_held_is_not_held_by_others_at_the_next_tick(count: int, capacity: float) -> None:
    """A pin or a floor above the plan: started once, then left alone (no flapping)."""
    held: dict[str, int] = {}
    seen = []
    for _ in range(5):
        held = dict(resize(mix(capacity, base=1.0, held=held), count, standings(), NOW, held).counts)
        seen.append(held)
    assert seen[1:] == seen[:-1]


def test_a_budget_buys_the_most_important_first() -> None:
    whole = mix(10.0, base=4.0)
    assert within_burn(whole, 1e9).offers == whole.offers
    assert within_burn(whole, 0.0).offers == ()
    some = within_burn(whole, 5.0)
    assert some.offers == whole.offers[: len(some.offers)]
    # Too little for the on-demand base buys what it can.
    assert {each.market for each in within_burn(whole, 1.0).offers} == {Market.SPOT}


# --- laws ---

catalogue = st.lists(
    st.builds(
        offer,
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["az1", "az2", "az3"]),
        st.sampled_from([Market.ON_DEMAND, Market.SPOT]),
        st.floats(0.1, 5),
        st.sampled_from([0.5, 1.0, 2.0, 3.5]),
    ),
    max_size=8,
    unique_by=lambda each: each.id,
)


@st.composite
def situations(draw: st.DrawFn) -> tuple[tuple[OfferStanding, ...], dict[str, int]]:
    offers = draw(catalogue)
    found = []
    held: dict[str, int] = {}
    for each in offers:
        found.append(
            OfferStanding(
                each,
                usable=draw(st.booleans() | st.just(True)),
                why_not="no",
                refused_s=draw(st.none() | st.floats(NOW - 1000, NOW)),
                lost_s=draw(st.none() | st.floats(NOW - 2000, NOW)),
                notice=draw(st.booleans()) and each.market is Market.SPOT,
            )
        )
        held[each.id] = draw(st.integers(0, 4))
    return tuple(found), held


capacities = st.floats(0, 25)


@settings(max_examples=200)
@given(situations(), capacities, capacities)
def test_laws_of_every_mix(situation, capacity, base) -> None:
    standings_, held = situation
    chosen = greedy_mix(standings_, capacity, base, held, NOW)
    by_id = {each.offer.id: each for each in standings_}
    usable_on_demand = any(s.usable and s.offer.market is Market.ON_DEMAND for s in standings_)
    # Unusable offers are never used; a zone that can't be started on never grows.
    for offer_id, count in chosen.counts.items():
        standing = by_id[offer_id]
        assert standing.usable
        if standing.offer.market is Market.SPOT and spot_usable(standing, NOW):
            assert count <= held[offer_id]
    # It carries what was asked where anything on demand is sold, and wastes less than a machine a stage.
    if usable_on_demand:
        assert chosen.capacity >= capacity - 1e-6
    largest = max((s.offer.speed_ratio for s in standings_), default=0.0)
    assert chosen.capacity <= capacity + 2 * largest + 1e-6
    if chosen.capacity < capacity - 1e-6:
        assert chosen.reason.limit is Limit.NO_CAPACITY


@settings(max_examples=200)
@given(situations(), capacities, capacities)
def test_losing_all_of_spot_leaves_the_first_tiers_base(situation, capacity, base) -> None:
    standings_, held = situation
    chosen = greedy_mix(standings_, capacity, base, held, NOW)
    if any(s.usable and s.offer.market is Market.ON_DEMAND for s in standings_):
        stays = sum(each.speed_ratio for each in chosen.offers if each.market is Market.ON_DEMAND)
        assert stays >= min(base, capacity) - 1e-6


@settings(max_examples=100)
@given(situations(), capacities, capacities)
def test_a_mix_that_is_held_is_chosen_again(situation, capacity, base) -> None:
    """Idempotent: a fleet that is already as desired is left alone."""
    standings_, _ = situation
    calm = tuple(replace(s, notice=False, refused_s=None, lost_s=None) for s in standings_)
    chosen = greedy_mix(calm, capacity, base, {}, NOW)
    again = greedy_mix(calm, capacity, base, chosen.counts, NOW)
    assert again.counts == chosen.counts


@settings(max_examples=100)
@given(situations(), capacities, st.floats(0, 10))
def test_more_capacity_never_means_fewer_gpus(situation, capacity, extra) -> None:
    standings_, held = situation
    small, large = (greedy_mix(standings_, size, 0.0, held, NOW) for size in (capacity, capacity + extra))
    largest = max((s.offer.speed_ratio for s in standings_), default=0.0)
    assert large.capacity >= small.capacity - largest - 1e-6


@settings(max_examples=200)
@given(st.lists(st.sampled_from(OFFERS), max_size=20), st.floats(0, 30))
def test_a_budget_is_never_exceeded(offers: list[Offer], usd: float) -> None:
    whole = Mix(tuple(offers), greedy_mix((), 0.0, 0.0, {}, NOW).reason)
    bought = within_burn(whole, usd)
    assert bought.usd_per_hour <= usd + 1e-6
    assert not bought.counts - whole.counts
    left = usd - bought.usd_per_hour
    # What was left out would not have fitted.
    for offer_id in whole.counts - bought.counts:
        assert BY_ID[offer_id].price_usd_per_hour > left - 1e-6


@settings(max_examples=100)
@given(situations(), capacities, st.integers(0, 40))
def test_a_count_is_met_where_anything_is_sold(situation, capacity, count) -> None:
    standings_, held = situation
    chosen = resize(greedy_mix(standings_, capacity, 0.0, held, NOW), count, standings_, NOW, held)
    if any(s.usable and s.offer.market is Market.ON_DEMAND for s in standings_):
        assert len(chosen.offers) == count
    else:
        assert len(chosen.offers) <= count
    assert all(s.usable for s in standings_ if s.offer in chosen.offers)
