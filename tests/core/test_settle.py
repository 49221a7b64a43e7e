"""A settled hour: what it adds up to, what it is compared with, and what stays unknown."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.settle import Facts, MissPrice, measured_slo_minutes, miss_price, settle, stepped
from controller.core.shadow import Held, shadow_hpa
from controller.core.types import Sample
from tests.core.observed import A10G, NOW, OFFERS, TIERS, envelope, tier

LEAD_S = 240.0
FROM_S = NOW - 7200
ALONE = (tier("premium", 0, 100, "mean", 200),)


def held(count: int, offer=A10G, ended_s: float | None = None) -> tuple[Held, ...]:
    return (Held(offer.id, offer.price_usd_per_hour, offer.speed_ratio, NOW - 9000, NOW - 8700, ended_s),) * count


def facts(*own: float, tiers=TIERS, fleet: tuple[Held, ...] = held(15), **changes: Any) -> Facts:
    """Three hours of steady load (two, five and three erlangs unless told); the last is settled."""
    loads = own or (2.0, 5.0, 3.0)
    rows = {each.name: np.full(180, load) for each, load in zip(tiers, loads, strict=True)}
    base = Facts(
        hour_s=NOW,
        from_s=FROM_S,
        envelope=envelope(None, tiers),
        loads=rows,
        requests={name: 2 * row for name, row in rows.items()},
        fleet=fleet,
        offers={offer.id: offer for offer in OFFERS},
        steady=frozenset(offer.id for offer in OFFERS),
        lead_s=LEAD_S,
        work_mean_s=30.0,
        work_scv=0.5,
        miss=MissPrice(0.5),
        decisions=(("p-1", NOW - 600), ("p-2", NOW + 900), ("p-3", NOW + 1800)),
    )
    return replace(base, **changes)


def known(account):
    assert account is not None
    return account


def test_an_hour_that_held_costs_its_replicas_and_misses_nothing():
    found = settle(facts()).accounts
    assert known(found.fleet).usd == pytest.approx(15 * 1.006)
    assert (known(found.fleet).minutes, known(found.fleet).miss_usd) == (0.0, 0.0)
    assert found.planned == found.fleet and found.would_save_usd == 0.0


def test_a_fleet_too_small_pays_for_its_misses():
    found = known(settle(facts(fleet=held(9))).accounts.fleet)
    # Premium comes first and is served; what may wait two hours waits; the middle tier is out of luck all hour.
    assert found.slo_minutes["premium"] < 30
    assert found.slo_minutes["standard"] == pytest.approx(60.0)
    assert found.miss_usd == pytest.approx(0.5 * found.minutes)


def test_a_tier_has_its_own_price():
    dear = settle(facts(fleet=held(9), miss=MissPrice(0.5, {"standard": 3.0}))).accounts.fleet
    minutes = known(dear).slo_minutes
    assert known(dear).miss_usd == pytest.approx(
        0.5 * (minutes["premium"] + minutes["background"]) + 3.0 * minutes["standard"]
    )


def test_regret_is_what_hindsight_would_have_left_out():
    found = settle(facts())
    hindsight = known(found.accounts.hindsight)
    assert hindsight.minutes == 0.0
    assert found.accounts.regret_usd == pytest.approx(15 * 1.006 - hindsight.usd)
    assert any("$0.43/h for a reference GPU" in note for note in found.notes)


def test_hindsight_buys_only_what_stood_open_all_hour():
    spot_fails = frozenset(offer.id for offer in OFFERS if offer.market.value == "on_demand")
    found = settle(facts(steady=spot_fails))
    assert any("$0.93/h for a reference GPU of g6e.xlarge" in note for note in found.notes)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.floats(0, 20), min_size=3, max_size=3), st.integers(1, 45), st.floats(0, 5))
def test_no_fleet_beats_hindsight(own, count, price):
    found = settle(facts(*own, fleet=held(count), miss=MissPrice(price))).accounts
    assert known(found.hindsight).total_usd <= min(known(found.fleet).total_usd, known(found.shadow).total_usd) + 1e-9
    assert found.regret_usd is not None and found.regret_usd >= -1e-9


@settings(max_examples=8, deadline=None)
@given(st.lists(st.floats(0.0, 20.0), min_size=18, max_size=18))
def test_a_fleet_that_did_what_the_shadow_does_settles_to_nothing(ten_minutes):
    row = np.repeat(np.array(ten_minutes), 10)
    first = facts(
        5.0, tiers=ALONE, loads={"premium": row}, requests={"premium": row}, offers={A10G.id: A10G}, fleet=held(8)
    )
    demand = stepped(first, row[None, :], row[None, :], FROM_S)
    shadow = shadow_hpa(demand, A10G, LEAD_S, 8.0, 1, 1_000_000)
    there = settle(replace(first, fleet=_replicas(shadow, demand.start_s)))
    assert there.accounts.saved_usd == pytest.approx(0.0, abs=1e-6)
    assert known(there.accounts.fleet).slo_minutes == pytest.approx(known(there.accounts.shadow).slo_minutes)


def _replicas(fleet, start_s: float) -> tuple[Held, ...]:
    """Replicas that serve and are billed as the trajectory says: number n is there while more than n are billed."""
    found = []
    billed = np.round(fleet.usd / (1.006 * 15 / 3600))
    for n in range(int(billed.max())):
        there = np.concatenate([[False], billed > n, [False]])
        for first, last in np.flatnonzero(np.diff(there)).reshape(-1, 2).tolist():
            serving = np.flatnonzero(fleet.capacity[first:last] > n)
            ready_s = start_s + 15 * (first + int(serving[0])) if len(serving) else None
            found.append(Held(A10G.id, 1.006, 1.0, start_s + 15 * first, ready_s, start_s + 15 * last))
    return tuple(found)


def test_the_parts_of_the_decisions_add_up_to_the_hour():
    found = settle(facts(fleet=held(11)))
    assert [(part.plan_id, part.from_s - NOW, part.to_s - NOW) for part in found.decisions] == [
        ("p-1", 0, 900),
        ("p-2", 900, 1800),
        ("p-3", 1800, 3600),
    ]
    for name in ("fleet", "shadow", "hindsight"):
        parts = [known(getattr(part.accounts, name)) for part in found.decisions]
        whole = known(getattr(found.accounts, name))
        assert sum(part.usd for part in parts) == pytest.approx(whole.usd)
        assert sum(part.minutes for part in parts) == pytest.approx(whole.minutes)
    saved = [part.accounts.saved_usd or 0.0 for part in found.decisions]
    assert sum(saved) == pytest.approx(found.accounts.saved_usd)


def test_an_hour_without_a_decision_is_settled_all_the_same():
    found = settle(facts(decisions=()))
    assert found.decisions == () and found.accounts.saved_usd is not None


def test_a_minute_that_was_not_measured_makes_the_hour_unknown():
    whole = facts()
    loads = {name: row.copy() for name, row in whole.loads.items()}
    loads["standard"][150:157] = math.nan
    found = settle(replace(whole, loads=loads))
    assert found.unknown_minutes == 7
    accounts = (found.accounts, *(part.accounts for part in found.decisions))
    assert {each.saved_usd for each in accounts} == {each.regret_usd for each in accounts} == {None}
    assert all(each.fleet is None for each in accounts)
    assert "7 of 60 minutes" in found.notes[0]


def test_a_gap_before_the_hour_shortens_the_run_up():
    whole = facts()
    loads = {name: row.copy() for name, row in whole.loads.items()}
    loads["standard"][80:100] = math.nan
    found = settle(replace(whole, loads=loads))
    assert found.unknown_minutes == 0 and found.accounts.saved_usd is not None
    assert "the shadow began 20 min before the hour" in found.notes[0]


def test_a_price_that_is_not_known_leaves_what_needs_it_unknown():
    strange = Held("p9.huge/az9/spot", math.nan, 1.0, NOW - 9000, NOW - 8700, None)
    found = settle(facts(fleet=(*held(14), strange))).accounts
    assert found.fleet is None and found.saved_usd is None and found.regret_usd is None
    assert found.shadow is not None


def test_without_on_demand_there_is_no_shadow():
    spot = {offer.id: offer for offer in OFFERS if offer.market.value == "spot"}
    found = settle(facts(offers=spot))
    assert found.accounts.saved_usd is None and "nothing the shadow could hold" in found.notes[-1]


def test_the_shadow_keeps_to_the_cap():
    capped = settle(facts(20.0, 10.0, 0.0, envelope=envelope(9.31)))
    # Five machines of speed two are all that 9.31 pays for.
    assert known(capped.accounts.shadow).usd == pytest.approx(5 * 1.861)
    assert "at most 5" in capped.notes[0]


def test_what_was_only_decided_is_settled_beside_what_was_there():
    levels = ((FROM_S, {A10G.id: 15}), (NOW + 1800, {A10G.id: 13}))
    found = settle(facts(fleet=held(20), levels=levels)).accounts
    assert known(found.fleet).usd == pytest.approx(20 * 1.006)
    assert known(found.planned).usd == pytest.approx(14 * 1.006)
    assert found.would_save_usd == pytest.approx(6 * 1.006)


def minute(number: int, started: int, wait_s: float | None, arrivals: int = 4) -> Sample:
    return Sample("images", "premium", NOW + 60 * number, arrivals, 60.0, started, wait_s, wait_s, wait_s)


def test_measured_slo_minutes_weigh_by_requests():
    calm = [minute(n, 4, 0.1) for n in range(50)]
    busy = [minute(n, 20, 0.3) for n in range(50, 60)]
    assert measured_slo_minutes(ALONE[0], calm + busy, 30.0, 0.5) == pytest.approx(30.0)
    assert measured_slo_minutes(ALONE[0], [*calm, *(minute(n, 4, 0.1) for n in range(50, 60))], 30.0, 0.5) == 0.0


def test_measured_slo_minutes_are_unknown_where_a_minute_is_or_nobody_was_served():
    whole = [minute(n, 4, 0.1) for n in range(60)]
    assert measured_slo_minutes(ALONE[0], whole[1:], 30.0, 0.5) is None
    assert measured_slo_minutes(ALONE[0], [*whole[1:], minute(0, 4, None)], 30.0, 0.5) is None
    assert measured_slo_minutes(ALONE[0], [minute(n, 0, None) for n in range(60)], 30.0, 0.5) is None
    assert measured_slo_minutes(ALONE[0], [minute(n, 0, None, arrivals=0) for n in range(60)], 30.0, 0.5) == 0.0


def test_a_price_of_misses_is_read():
    assert miss_price("0.5") == MissPrice(0.5)
    both = miss_price("premium=1,standard=0.25,0.1")
    assert [both.of(name) for name in ("premium", "standard", "background")] == [1.0, 0.25, 0.1]
    assert miss_price("premium=1").of("background") == 0.0


@pytest.mark.parametrize("text", ["", "much", "-1", "nan", "premium=", "=1", "1,2", "premium=1,premium=2"])
def test_no_price_of_misses(text):
    with pytest.raises(ValueError):
        miss_price(text)
