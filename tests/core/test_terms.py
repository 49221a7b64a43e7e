"""The envelope's terms as they stand, in one word each."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.finance import HOUR_S
from controller.core.terms import SPEND, Term, standing, term_readings
from controller.core.types import LatencyReading, Observation, Spend
from models.enums import EnvelopeStatus, LatencyOf
from tests.core.observed import NOW, TIERS, envelope, forecasts, observation

HELD, RISK, BREACHED = EnvelopeStatus.HELD, EnvelopeStatus.AT_RISK, EnvelopeStatus.BREACHED
STALE, UNKNOWN = EnvelopeStatus.STALE, EnvelopeStatus.UNKNOWN


@pytest.mark.parametrize(
    ("value", "limit", "ahead", "stale", "word"),
    [
        (100, 200, 100, False, HELD),
        (200, 200, 200, False, HELD),
        (201, 200, 0, False, BREACHED),
        (201, 200, 0, True, BREACHED),
        (100, 200, 201, False, RISK),
        (100, 200, 300, True, STALE),
        (None, 200, 100, False, UNKNOWN),
        (None, 200, 300, False, RISK),
        (None, 200, None, True, STALE),
        (100, 200, None, False, HELD),
        (1e9, None, 1e9, False, HELD),
    ],
)
def test_one_word(value, limit, ahead, stale, word) -> None:
    assert standing(value, limit, ahead, stale) is word


def measured(seen: Observation, *values: float | None, count: int = 100) -> Observation:
    readings = tuple(
        LatencyReading(t.name, t.statistic, t.of, t.window_s, value, count, NOW)
        for t, value in zip(seen.envelope.tiers, values, strict=True)
    )
    return replace(seen, latencies=readings)


def terms(seen: Observation, capacity: float = 100.0) -> dict[str, Term]:
    return {term.name: term for term in term_readings(seen, capacity)}


def test_a_calm_service_holds_everything() -> None:
    found = terms(measured(observation(envelope=envelope(50.0)), 80.0, 1000.0, 60_000.0))
    assert list(found) == ["premium", "standard", "background", SPEND]
    assert {term.status for term in found.values()} == {HELD}
    assert (found["premium"].value, found["premium"].limit) == (80.0, 200.0)
    assert found["background"].forecast_p90 is None


def test_a_tier_over_its_target_is_breached_and_the_others_are_not() -> None:
    found = terms(measured(observation(), 250.0, 1000.0, None))
    assert [found[t.name].status for t in TIERS] == [BREACHED, HELD, UNKNOWN]


def test_too_little_capacity_for_what_is_forecast_is_a_risk() -> None:
    seen = measured(observation((2.0, 5.0, 3.0)), 0.0, 0.0, 0.0)
    assert terms(seen, 40.0)["standard"].status is HELD
    assert terms(seen, 6.0)["standard"].status is RISK
    # The first tier preempts: it has enough all the same.
    alone = replace(seen, forecasts=forecasts(TIERS, 2.0, 0.0, 0.0))
    assert terms(seen, 6.0)["premium"].forecast_p90 == terms(alone, 6.0)["premium"].forecast_p90
    assert terms(seen, 1.0)["premium"].status is RISK


def test_nobody_asked_is_kept_and_nothing_known_is_unknown() -> None:
    assert terms(measured(observation(), None, None, None, count=0))["premium"].status is HELD
    assert terms(replace(observation(), latencies=()))["premium"].status is UNKNOWN
    assert terms(measured(observation(telemetry_s=NOW - 1000), None, None, None, count=0))["premium"].status is STALE


def test_money_of_the_hour_against_the_cap() -> None:
    half_past = NOW + HOUR_S / 2

    def spend(accrued: float, burn: float, jobs: float = 0.0, cap: float | None = 50.0) -> Term:
        seen = observation(
            now_s=half_past, telemetry_s=half_past, envelope=envelope(cap), spend=Spend(NOW, accrued, burn, jobs)
        )
        return terms(seen)[SPEND]

    assert (spend(20.0, 50.0).status, spend(20.0, 50.0).forecast_p90) == (HELD, 45.0)
    assert spend(20.0, 50.0, jobs=20.0).status is RISK
    assert spend(50.5, 0.0).status is BREACHED
    assert spend(500.0, 500.0, cap=None).status is HELD
    assert spend(500.0, 500.0, cap=None).limit is None


def test_an_end_to_end_term_contains_the_execution() -> None:
    tiers = tuple(replace(t, of=LatencyOf.END_TO_END) for t in TIERS)
    plain, whole = observation(), observation(envelope=envelope(tiers=tiers))
    waits, ends = terms(plain)["premium"].forecast_p90, terms(whole)["premium"].forecast_p90
    assert waits is not None
    assert ends == pytest.approx(waits + 30_000)


def test_an_unknown_forecast_says_nothing_about_the_future() -> None:
    unknown = {k: replace(f, values=np.full_like(f.values, np.nan)) for k, f in forecasts(TIERS, 2, 5, 3).items()}
    assert terms(observation(forecasts=unknown))["premium"].forecast_p90 is None
    assert terms(observation(forecasts={}))["premium"].forecast_p90 is None


@settings(max_examples=60)
@given(st.floats(0, 15), st.floats(0, 15), st.integers(1, 40))
def test_more_capacity_never_forecasts_a_longer_wait(premium: float, standard: float, capacity: int) -> None:
    seen = observation((premium, standard, 1.0))
    few, many = terms(seen, float(capacity)), terms(seen, capacity + 1.0)
    for name in ("premium", "standard"):
        assert (many[name].forecast_p90 or 0.0) <= (few[name].forecast_p90 or 0.0) + 1e-6
