"""What the offer book learns: interruptions over replica-hours, each counted once, and prices that it won't use."""

from dataclasses import replace

import pytest

from controller.backends.base import ClusterState, HourSpend, Notice
from controller.core.hazard import PRIOR_HOURS, PRIOR_INTERRUPTIONS, PRIOR_PER_HOUR
from controller.core.types import Replica
from controller.observe import OfferBook
from tests.core.observed import A10G, NOW, OFFERS, SPOT, replica

HOUR_S = 3600.0


def state(at_s: float, replicas: tuple[Replica, ...]) -> ClusterState:
    hour = HourSpend(NOW, 0.0, 0.0)
    return ClusterState(at_s=at_s, replicas=replicas, gone=(), jobs=(), notices=(), hours=(hour,))


def hazards(book: OfferBook, seen: ClusterState) -> dict[str, float | None]:
    return {standing.offer.id: standing.hazard_per_hour for standing in book.standings(seen)}


def test_an_interruption_counts_once_over_the_hours_that_were_held() -> None:
    book, held = OfferBook(OFFERS), tuple(replica(n, SPOT[0]) for n in range(4))
    assert hazards(book, state(NOW, held))[SPOT[0].id] == PRIOR_PER_HOUR
    for minute in range(1, 61):
        hazards(book, state(NOW + 60.0 * minute, held))
    quiet = hazards(book, state(NOW + HOUR_S, held))[SPOT[0].id]
    assert quiet is not None and quiet < PRIOR_PER_HOUR

    book.note([Notice(NOW + HOUR_S, "notice", "images", SPOT[0].id, held[0].id, "")])
    hazards(book, state(NOW + HOUR_S, (replace(held[0], gone_s=NOW + HOUR_S + 120), *held[1:])))
    book.note([Notice(NOW + HOUR_S, "lost", "images", SPOT[0].id, held[0].id, "")])
    told = hazards(book, state(NOW + HOUR_S, held[1:]))

    # One of four in an hour, a little forgotten; the other zones keep the prior, and on demand has no rate.
    assert told[SPOT[0].id] == pytest.approx((PRIOR_INTERRUPTIONS + 1) / (PRIOR_HOURS + 4), rel=0.01)
    assert told[SPOT[1].id] == PRIOR_PER_HOUR
    assert told[A10G.id] is None


def test_a_price_that_turns_absurd_is_no_longer_used_and_says_why() -> None:
    book = OfferBook(OFFERS)
    assert all(standing.usable for standing in book.standings(state(NOW, ())))
    book.offers = (replace(SPOT[0], price_usd_per_hour=0.0), *(each for each in OFFERS if each != SPOT[0]))
    (odd,) = [standing for standing in book.standings(state(NOW, ())) if not standing.usable]
    assert odd.offer.id == SPOT[0].id
    assert "not above 0" in odd.why_not
