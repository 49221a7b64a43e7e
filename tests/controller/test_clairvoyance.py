"""The clairvoyant limit: what the loop gives, cheapest of its kind, dearer than the bare work."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller import replay
from controller.backends.simulated.engine import ZoneSeries
from controller.clairvoyance import smallest
from controller.core.types import Envelope, TierTarget
from controller.replay import ReplaySpec, clairvoyant_limit, run_replay
from models.enums import LatencyOf
from tests.controller.test_replay import HOUR, T0, spec, steady, trace
from tests.core.observed import A10G, L40S, envelope

ONE_TIER = Envelope((TierTarget("all", 0, 100.0, "p99", LatencyOf.WAIT, 5000.0),), None)


def case(**changes: Any) -> ReplaySpec:
    """A surge to eight times the load that history knows, an hour's window, one request at its end."""
    requests = trace(*steady(0, 2.4, 2.0), *steady(2.4, 2.7, 16.0, seed=3), (10_700.0, 30.0, "t"))
    known = {"envelope": ONE_TIER, "load_times_s": np.array([5.0, 20.0, 60.0]), "offers": (A10G, L40S)}
    return spec(requests, **{"policy": "clairvoyant", **known, **changes})


def test_the_loop_gives_what_was_searched_without_it() -> None:
    inside, outside = run_replay(case()), clairvoyant_limit(case())
    assert inside.summary == outside.summary
    assert inside.replicas.equals(outside.replicas)
    assert inside.requests.equals(outside.requests)


def test_it_attains_the_target_and_pays_less_than_one_that_does_not_see_ahead() -> None:
    limit = clairvoyant_limit(case()).summary
    assert limit.tiers["all"].target_met
    hpa = run_replay(case(policy="hpa")).summary
    assert limit.cost_usd < hpa.cost_usd
    assert not hpa.tiers["all"].target_met
    # Dearer than the work alone on replicas that need not be started.
    work_s = case().requests.window(T0 + 2 * HOUR, T0 + 3 * HOUR).work_s.sum()
    assert limit.cost_usd > work_s / HOUR * 1.861 / 2.0


def test_a_stricter_target_costs_no_less() -> None:
    strict = replace(ONE_TIER, tiers=(replace(ONE_TIER.tiers[0], target_ms=200.0),))
    assert clairvoyant_limit(case(envelope=strict)).summary.cost_usd >= clairvoyant_limit(case()).summary.cost_usd


def test_where_nothing_attains_the_target_the_summary_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "SPARES", (-2.0, -1.5))
    assert clairvoyant_limit(case()).summary.tiers["all"].target_met is False


@given(st.integers(0, 40), st.integers(1, 40))
def test_the_smallest_that_passes_is_found_in_few_trials(edge: int, count: int) -> None:
    tried: list[float] = []

    def passes(value: float) -> bool:
        tried.append(value)
        return value >= edge

    assert smallest([float(value) for value in range(count)], passes) == (float(edge) if edge < count else None)
    assert len(tried) <= 2 + np.log2(count)


def tiers_and_markets(**changes: Any) -> ReplaySpec:
    """Three tiers under a cap, three zones of spot, of which two go for twenty minutes in the surge."""
    requests = trace(*steady(0, 2.4, 4.0), *steady(2.4, 2.7, 20.0, seed=3), (10_700.0, 30.0, "t"))
    gone = ZoneSeries(np.array([-np.inf, T0 + 2.4 * HOUR, T0 + 2.75 * HOUR]), np.array([-1, 0, -1]))
    zones = {"az1": gone, "az2": gone}
    known = {"envelope": envelope(cap=20.0), "load_times_s": np.array([5.0, 20.0, 60.0]), "zones": zones}
    return spec(requests, **{"policy": "clairvoyant", **known, **changes})


def test_with_tiers_and_markets_it_attains_every_target_within_the_cap_and_loses_nobody() -> None:
    result = run_replay(tiers_and_markets())
    assert all(tier.target_met for tier in result.summary.tiers.values())
    assert result.summary.hours_within_cap_ratio == 1.0
    assert result.summary.interrupted == 0
    assert result.summary == clairvoyant_limit(tiers_and_markets()).summary
    spot = result.replicas[result.replicas["offer"].str.endswith("spot")]
    assert len(spot) > len(result.replicas) / 2
    assert result.summary.cost_usd < run_replay(tiers_and_markets(policy="hpa")).summary.cost_usd


def test_where_every_zone_goes_it_serves_on_demand_before_they_do() -> None:
    gone = ZoneSeries(np.array([-np.inf, T0 + 2.4 * HOUR, T0 + 2.75 * HOUR]), np.array([-1, 0, -1]))
    summary = clairvoyant_limit(tiers_and_markets(zones=dict.fromkeys(("az1", "az2", "az3"), gone))).summary
    assert summary.interrupted == 0
    assert summary.tiers["premium"].target_met
    assert summary.cost_usd > clairvoyant_limit(tiers_and_markets()).summary.cost_usd
