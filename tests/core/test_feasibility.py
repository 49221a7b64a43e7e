"""The laws of feasibility: more money and looser promises never hurt, what is offered helps, unknown stays unknown."""

import json
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.feasibility import FEASIBLE_FROM, Change, changed, changes, judge, stage_of
from controller.core.frontier import LEVELS, frontier
from controller.core.prospect import packed, prospect_of, unpacked
from controller.core.rehearsal import Case, Rehearsals, prices_now
from controller.core.types import Envelope
from models.enums import LatencyOf
from tests.core.observed import A10G, NOW, SPOT, envelope, observation, offer, standings, tier
from tests.core.prospects import prospect


@cache
def stage() -> Rehearsals:
    made = stage_of(prospect(), 20)
    assert made is not None
    return made


def held(*drafts: Envelope) -> list[float]:
    shares: list[float] = stage().run([Case.of(draft) for draft in drafts]).held.tolist()
    return shares


@settings(max_examples=6, deadline=None)
@given(st.floats(4, 14), st.floats(1.0, 2.0))
def test_more_money_never_makes_it_less_probable(cap: float, more: float) -> None:
    less, greater = held(envelope(cap), envelope(cap * more))
    assert less <= greater


@settings(max_examples=6, deadline=None)
@given(st.floats(50, 5000), st.floats(1.0, 5.0), st.sampled_from([8.0, 10.0, 11.0, None]))
def test_a_looser_target_never_makes_it_less_probable(target_ms: float, looser: float, cap: float | None) -> None:
    strict, loose = (
        replace(envelope(cap), tiers=(replace(envelope().tiers[0], target_ms=ms), *envelope().tiers[1:]))
        for ms in (target_ms, target_ms * looser)
    )
    # The reserve that is held follows the target, so that a looser one may lose a future here and there.
    before, after = held(strict, loose)
    assert before <= after + 0.05 + 1e-9


def test_terms_are_named_and_all_hold_no_more_often_than_each() -> None:
    verdict = judge(prospect(), envelope(8.0), stage())
    assert verdict.probability is not None
    assert [term.name for term in verdict.terms] == ["premium", "standard", "background", "spend"]
    assert verdict.probability <= min(term.probability for term in verdict.terms)
    assert verdict.futures == 20


def test_a_cap_that_is_too_small_breaks_a_tier_first_and_says_when() -> None:
    verdict = judge(prospect(), envelope(6.0), stage())
    assert verdict.probability is not None and verdict.probability < 0.5 and verdict.must_be_signed
    assert verdict.first in ("premium", "standard", "background")
    assert verdict.first_s is not None and NOW <= verdict.first_s < NOW + 86400 and verdict.first_s % 3600 == 0
    assert verdict.capped == 1.0


def test_without_a_cap_it_holds_and_nothing_breaks_the_spend() -> None:
    verdict = judge(prospect(), envelope(None), stage())
    assert verdict.probability is not None and verdict.probability > 0.9 and not verdict.must_be_signed
    assert verdict.terms[-1].probability == 1.0 and verdict.capped == 0.0
    assert changes(prospect(), envelope(None), stage()) == ()


def test_jobs_above_the_cap_break_the_spend_in_every_future() -> None:
    verdict = judge(prospect(jobs_usd_per_hour=30.0), envelope(20.0))
    assert verdict.terms[-1].probability == 0.0


@pytest.mark.parametrize("cap", [7.0, 10.0])
def test_the_change_that_is_offered_makes_it_feasible(cap: float) -> None:
    draft = envelope(cap)
    offered = changes(prospect(), draft, stage())
    assert any(change.field == "spend_cap_usd_per_hour" for change in offered)
    for change in offered:
        after = judge(prospect(), changed(draft, change), stage())
        assert after.probability is not None and after.probability >= FEASIBLE_FROM
        assert after.probability == pytest.approx(change.probability)
    assert list(offered) == sorted(offered, key=lambda change: change.ratio)


def test_a_whole_dollar_less_than_the_cap_that_is_offered_does_not_do() -> None:
    (change,) = [c for c in changes(prospect(), envelope(7.0), stage()) if c.field == "spend_cap_usd_per_hour"]
    step = 1.0 if change.value is not None and change.value >= 10 else 0.1
    assert change.value is not None and held(envelope(change.value - step))[0] < FEASIBLE_FROM


def test_a_ceiling_that_is_in_the_way_is_named() -> None:
    offered = changes(prospect(), envelope(None, ceiling=5), stage())
    assert [(change.field, change.value) for change in offered] == [("ceilings", None)]


def test_a_target_below_the_execution_itself_is_named_as_such() -> None:
    premium = tier("premium", 0, 20, "mean", 20_000, of=LatencyOf.END_TO_END)
    short = envelope(None, tiers=(premium, *envelope().tiers[1:]))
    verdict = judge(prospect(), short, stage())
    assert verdict.impossible == ("premium: mean 20,000 ms end to end is below the execution itself, 30,000 ms",)
    assert verdict.probability == 0.0 and verdict.must_be_signed
    (change,) = changes(prospect(), short, stage())
    assert change.field == "tiers.premium.latency.target_ms" and change.value is not None and change.value > 30_000


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ({"loads": None}, "no forecast"),
        ({"minutes": np.empty((3, 0))}, "no minute"),
        ({"minutes": np.full((3, 60), np.nan)}, "no minute"),
        ({"offers": ()}, "no offer"),
        ({"offers": standings((offer("g5", "a", A10G.market, math.nan),))}, "no offer"),
        ({"offers": standings(SPOT, **{f"o{n}": {"lost_s": NOW - 60} for n in range(3)})}, "no offer"),
        ({"tiers": ("gold", "standard", "background")}, "forecast is of the tiers gold"),
        ({"shares_percent": (30.0, 40.0, 30.0)}, "other tiers"),
        ({"tier_salt": "b"}, "other tiers"),
    ],
)
def test_what_is_missing_makes_it_unknown_and_is_said(missing: dict[str, object], words: str) -> None:
    given_ = prospect(**missing)
    verdict = judge(given_, envelope(50.0))
    assert verdict.probability is None and words in verdict.why_unknown and not verdict.must_be_signed
    assert verdict.terms == () and changes(given_, envelope(50.0)) == ()


def test_a_tick_without_a_slow_forecast_knows_nothing() -> None:
    seen = prospect_of(observation())
    assert seen.loads is None and seen.why_nothing() == "there is no forecast of the next day yet"
    assert seen.tiers == ("premium", "standard", "background") and seen.minutes.shape == (3, 180)


def test_spot_is_priced_by_the_zones_that_can_be_started_on() -> None:
    assert prices_now(standings(), NOW).spot == pytest.approx(0.43)
    lost = {f"o{n}": {"lost_s": NOW - 60} for n in range(len(SPOT))}
    assert prices_now(standings(SPOT, **lost), NOW).spot is None
    assert prices_now(standings((A10G,)), NOW).rest == A10G.price_usd_per_hour


def test_a_prospect_survives_its_keeping() -> None:
    given_ = prospect(offers=standings((*SPOT, offer("g5", "a", A10G.market, math.nan)), o0={"lost_s": NOW}))
    document, minutes = packed(given_)
    kept = unpacked(json.loads(json.dumps(document).replace("NaN", "null")), minutes)
    assert given_.loads is not None and kept.loads is not None
    assert np.allclose(kept.loads, given_.loads, atol=1e-4) and np.allclose(kept.minutes, given_.minutes, atol=1e-3)
    assert kept.offers[:3] == given_.offers[:3] and math.isnan(kept.offers[3].offer.price_usd_per_hour)
    assert (kept.tiers, kept.waiting, kept.lead_s) == (given_.tiers, given_.waiting, given_.lead_s)


# --- the frontier ---


@pytest.mark.parametrize("target_ms", [50.0, 3000.0])
def test_a_frontier_never_rises_to_the_right_and_its_levels_are_in_order(target_ms: float) -> None:
    tiers = (replace(envelope().tiers[0], target_ms=target_ms), *envelope().tiers[1:])
    found = frontier(stage(), envelope(20.0, tiers))
    assert found is not None and target_ms in found.targets_ms
    caps = found.caps_usd
    assert np.isfinite(caps[LEVELS.index(0.9), found.targets_ms >= 50.0]).all()
    for line in caps:
        known = line[np.isfinite(line)]
        assert (np.diff(known) <= 1e-9).all() and np.isfinite(line[len(line) - len(known) :]).all()
    known = np.isfinite(caps).all(axis=0)
    assert (np.diff(caps[:, known], axis=0) >= -1e-9).all()
    assert found.cap_at(target_ms) is not None and found.cap_at(target_ms * 1000) is None
    dollars = found.usd_per_ms(target_ms)
    assert dollars is not None and dollars >= 0


def test_a_cap_above_the_line_holds_and_one_below_half_of_it_does_not() -> None:
    found = frontier(stage(), envelope(20.0))
    assert found is not None
    line = found.cap_at(200.0)
    assert line is not None
    below, above = held(envelope(line * 0.5), envelope(line * 1.1))
    assert below < FEASIBLE_FROM <= above


def test_a_frontier_of_a_tier_that_can_be_deferred_stays_among_such() -> None:
    tiers = (replace(envelope().tiers[0], statistic="p100", target_ms=900_000.0), *envelope().tiers[1:])
    found = frontier(stage(), envelope(20.0, tiers))
    assert found is not None and found.targets_ms[0] == 600_000.0 and found.targets_ms[-1] == 9_000_000.0


def test_no_frontier_of_the_unknown() -> None:
    assert frontier(stage(), envelope(20.0, tier_salt="b")) is None


def test_there_is_no_change_of_another_field() -> None:
    with pytest.raises(ValueError, match="tier_salt"):
        changed(envelope(), Change("tier_salt", 1.0, 1.0, 1.0))
