"""What is learned of a zone, what it is worth, and where to hold replicas that must always be there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.spot import (
    HALF_LIFE_S,
    PRIOR_PER_HOUR,
    Hazard,
    Place,
    ZoneRecord,
    on_demand_behind,
    rank_places,
    worth_usd_per_hour,
)
from tests.core.observed import SPOT

HOUR = 3600.0


def lived(hours: int, losses: int) -> ZoneRecord:
    """Held for whole hours, lost at the end of the first `losses` of them."""
    record = ZoneRecord(0.0).started(0.0)
    for hour in range(1, hours + 1):
        record = record.held(hour * HOUR)
        if hour <= losses:
            record = record.lost(hour * HOUR).started(hour * HOUR)
    return record


def test_before_anything_is_seen_the_prior_is_believed_with_all_its_doubt() -> None:
    assert ZoneRecord(0.0).hazard(0.0) == Hazard(PRIOR_PER_HOUR, PRIOR_PER_HOUR)


def test_what_is_seen_outweighs_the_prior() -> None:
    calm, flaky = lived(50, 0).hazard(50 * HOUR), lived(50, 25).hazard(50 * HOUR)
    assert calm.per_hour < 0.03
    assert flaky.per_hour == pytest.approx(0.5, rel=0.1)
    assert flaky.sd_per_hour < PRIOR_PER_HOUR / 4


def test_what_is_long_past_counts_less() -> None:
    record = lived(50, 25)
    later = 50 * HOUR + 10 * HALF_LIFE_S
    assert record.hazard(later).sd_per_hour > 0.95 * PRIOR_PER_HOUR
    assert record.hazard(50 * HOUR + HALF_LIFE_S).per_hour == pytest.approx(
        (1 + record.losses / 2) / (1 / PRIOR_PER_HOUR + record.held_h / 2)
    )


def test_a_refusal_after_it_was_up_tells_of_a_loss_and_one_out_of_the_blue_does_not() -> None:
    seen = ZoneRecord(0.0).started(0.0)
    assert seen.refused(HOUR).losses == pytest.approx(1.0)
    assert seen.refused(HOUR).held_h == pytest.approx(1.0)
    blind = ZoneRecord(0.0).refused(HOUR)
    assert (blind.losses, blind.held_h, blind.up) == (0.0, 0.0, False)


@given(st.lists(st.sampled_from(["held", "lost", "started", "refused"]), max_size=40))
def test_a_hazard_is_always_a_number_that_can_be_used(events: list[str]) -> None:
    record = ZoneRecord(0.0)
    for number, event in enumerate(events, 1):
        record = getattr(record, event)(number * 600.0)
    hazard = record.hazard(len(events) * 600.0)
    assert 0 < hazard.per_hour < 1000
    assert 0 < hazard.sd_per_hour <= hazard.per_hour


def test_worth_is_what_is_saved_less_what_losses_cost() -> None:
    assert worth_usd_per_hour(SPOT[0], Hazard(0.1, 0.05), 2.0, 1.006) == pytest.approx(1.006 - 0.43 - 0.2)
    assert worth_usd_per_hour(SPOT[0], Hazard(1.0, 0.05), 2.0, 1.006) < 0


def test_the_calmest_comes_first_and_one_that_loses_more_than_it_saves_not_at_all() -> None:
    records = (lived(50, 10), lived(50, 0), lived(50, 50))
    places = [Place(offer, record) for offer, record in zip(SPOT, records, strict=True)]
    ranked = rank_places(places, 1.006, 183.0, 15.0, 50 * HOUR)
    assert ranked.offer_ids == (SPOT[1].id, SPOT[0].id)
    assert not ranked.spare
    assert SPOT[1].zone in ranked.reason.text
    assert rank_places(places[2:], 1.006, 183.0, 15.0, 50 * HOUR).offer_ids == ()


def test_a_spare_is_held_where_it_is_cheaper_than_being_short() -> None:
    places = [Place(offer, lived(50, 10)) for offer in SPOT]
    assert not rank_places(places, 1000.0, 183.0, 30.0, 50 * HOUR).spare
    assert rank_places(places, 1000.0, 183.0, 60.0, 50 * HOUR).spare


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
def test_on_demand_covers_what_spot_does_not_and_stays_until_spot_serves(
    need: int, ready: int, coming: int, held: int
) -> None:
    behind = on_demand_behind(need, ready, coming, held)
    assert behind + ready + coming >= need
    assert behind <= max(0, need - ready)
    assert behind >= min(held, need - ready)
