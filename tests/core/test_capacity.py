"""How much capacity the tiers need: sizes by hand, the laws that hold for any demand, and the simulator's verdict."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from controller.backends.simulated.arrivals import Arrivals
from controller.backends.simulated.engine import Engine
from controller.core.capacity import Outlook, cumulative, need, servers_needed
from controller.core.envelope import measure
from controller.core.queueing import servers_for
from controller.core.types import QueueReading, TierTarget
from models.enums import LatencyOf, Limit
from tests.core.observed import TIERS, envelope, forecasts, observation, queues, tier

LEAD_S = 240.0
PREMIUM, STANDARD, BACKGROUND = TIERS


def outlook(*own: float, above: float | tuple[float, ...] = 0.0) -> Outlook:
    """One load for every quantile, or five."""
    loads_ = np.array(own if len(own) == 5 else own * 5)
    upper = np.array(above if isinstance(above, tuple) else (above,) * 5)
    return Outlook.of(loads_ + upper, upper)


def staffed(target: TierTarget, look: Outlook, work_s: float = 30.0, scv: float = 0.5, lead_s: float = LEAD_S) -> int:
    return servers_needed(target, look, work_s, scv, lead_s)


# --- one tier at a steady load ---


@pytest.mark.parametrize("load", [0.5, 2.0, 8.4, 15.0, 60.0])
@pytest.mark.parametrize(
    "target", [PREMIUM, STANDARD, tier("p", 0, 100, "p99.5", 5_000)], ids=lambda each: each.statistic
)
def test_a_certain_load_is_staffed_as_queueing_theory_says(target: TierTarget, load: float) -> None:
    assert staffed(target, outlook(load)) == servers_for(load, 30.0, target, work_scv=0.5).servers


def test_no_load_needs_nothing_of_its_own() -> None:
    assert staffed(PREMIUM, outlook(0.0)) == 0
    assert staffed(STANDARD, outlook(0.0, above=3.2)) == 4


def test_an_uncertain_forecast_needs_more_than_its_middle() -> None:
    certain, uncertain = outlook(10.0), outlook(10.0, 12.0, 13.0, 15.0, 19.0)
    assert staffed(PREMIUM, uncertain) > staffed(PREMIUM, certain)


@pytest.mark.parametrize("ms", [200.0, 20_000.0])
def test_a_longer_lead_time_never_needs_less_against_a_burst(ms: float) -> None:
    """What piles up until help comes counts, where the target leaves any room for it at all."""
    look = outlook(5.0, 6.0, 8.0, 12.0, 40.0)
    needs = [staffed(tier("t", 0, 100, "mean", ms), look, lead_s=lead_s) for lead_s in (60.0, 660.0, 7200.0)]
    assert needs == sorted(needs)
    assert (needs[-1] > needs[0]) == (ms == 20_000.0)


steady = st.floats(0, 60)
paths = st.lists(st.floats(0, 60), min_size=5, max_size=5).map(lambda values: tuple(sorted(values)))
targets = st.builds(
    lambda statistic, ms: tier("t", 0, 100, statistic, ms),
    st.sampled_from(["mean", "p50", "p95", "p99.5", "p100"]),
    st.sampled_from([50.0, 200.0, 1000.0, 5000.0, 30_000.0, 120_000.0]),
)


@settings(max_examples=150)
@given(paths, st.floats(0, 20), targets, st.floats(1, 120), st.floats(0, 3), st.floats(60, 700))
def test_staffing_is_bounded(own, above, target, work_s, scv, lead_s) -> None:
    servers = staffed(target, outlook(*own, above=above), work_s, scv, lead_s)
    assert servers >= 0
    if max(own) > 0:
        # It never pays to hold many times the largest load that is forecast.
        assert servers <= 3 * (own[-1] + above) + 25


@settings(max_examples=150)
@given(paths, st.floats(0, 20), targets, st.integers(0, 4), st.floats(0.05, 20))
def test_more_load_never_needs_less(own, above, target, which, extra) -> None:
    more = tuple(sorted([*own[:which], *(value + extra for value in own[which:])]))
    assert staffed(target, outlook(*more, above=above)) >= staffed(target, outlook(*own, above=above))


@settings(max_examples=150)
@given(paths, targets, st.floats(0.01, 1.0))
def test_a_stricter_target_never_needs_less(own, target, factor) -> None:
    stricter = replace(target, target_ms=target.target_ms * factor)
    assert staffed(stricter, outlook(*own)) >= staffed(target, outlook(*own))


@settings(max_examples=100)
@given(paths, st.floats(0, 20), st.floats(0.05, 10), targets)
def test_more_above_never_needs_less(own, above, extra, target) -> None:
    assume(max(own) > 0)
    assert staffed(target, outlook(*own, above=above + extra)) >= staffed(target, outlook(*own, above=above))


@pytest.mark.parametrize(("load", "work_s", "ms"), [(12.0, 10.0, 200.0), (21.0, 10.0, 200.0), (10.0, 10.0, 500.0)])
def test_a_load_that_just_fills_the_servers_is_no_dip(load: float, work_s: float, ms: float) -> None:
    """12.0 erlangs need no fewer servers than 11.95."""
    target = tier("t", 0, 100, "mean", ms)
    assert staffed(target, outlook(load), work_s) >= staffed(target, outlook(load - 0.05), work_s)


# --- the simulator's verdict ---


@pytest.mark.parametrize(("load", "statistic", "ms"), [(6.0, "mean", 200), (20.0, "mean", 200), (12.0, "p95", 10_000)])
def test_the_staffed_fleet_holds_the_target_in_the_simulator_and_is_not_wasteful(load, statistic, ms) -> None:
    target = tier("t", 0, 100, statistic, ms)
    servers = staffed(target, outlook(load), work_s=30.0, scv=0.5)

    def waits(count: int) -> float:
        n = 120_000
        rng = np.random.default_rng(11)
        simulated = Engine(0.0, [0], np.zeros((1, 1), bool))
        arrived = np.cumsum(rng.exponential(30.0 / load, n))
        # Gamma with squared coefficient of variation 0.5.
        simulated.expect(Arrivals(arrived, rng.gamma(2.0, 15.0, n), np.zeros(n, np.int64)))
        for _ in range(count):
            simulated.start(speed=1.0, spot=False, zone=-1, cold_start_s=0.0, ready_at_once=True)
        simulated.advance(float(arrived[-1]) + 5_000)
        rows = simulated.a.request[1000:n]
        return float(measure(statistic, rows["started"] - rows["arrived"]) or 0.0) * 1000

    assert waits(servers) <= ms
    assert waits(math.ceil(servers * 0.8)) > ms


# --- the whole need ---


def test_the_need_of_a_calm_service_names_its_limit_with_numbers() -> None:
    found = need(observation((2.0, 5.0, 3.0)), 2 * LEAD_S)
    assert found.total >= 7.0
    assert found.total >= found.first >= found.base > 2.0
    assert found.reason.limit in (Limit.LATENCY_TARGET, Limit.BURST_RESERVE)
    assert len(found.reasons) == 3
    assert found.reason in found.reasons
    assert any(character.isdigit() for character in found.reason.text)


def test_nothing_at_all_needs_nothing() -> None:
    found = need(observation((0.0, 0.0, 0.0)), 2 * LEAD_S)
    assert (found.total, found.first, found.now) == (0.0, 0.0, 0.0)


def test_the_lead_time_decides_how_far_one_looks() -> None:
    """Load that comes after ten minutes is no business of a fleet that boots in four, but of one that boots in ten."""
    rising = forecasts(TIERS, 2.0, 5.0, 3.0)
    for key, each in rising.items():
        values = each.values.copy()
        values[:, 12:] *= 4
        rising[key] = replace(each, values=values)
    quick, slow = observation(forecasts=rising), observation(forecasts=rising, boot_s=600.0)
    assert need(slow, 2 * 660.0).total > 2 * need(quick, 2 * LEAD_S).total


def test_what_waits_is_worked_off_within_the_target_or_the_lead_time() -> None:
    waiting = queues(TIERS, (2, 5, 3), (0, 60, 0))
    found = need(observation(queues=waiting), 2 * LEAD_S)
    calm = need(observation(), 2 * LEAD_S)
    # 60 × 30 s within the 240 s that new capacity takes, beside a load of 7.
    assert found.total >= 7 + 1800 / 240 > calm.total or found.total >= 60
    assert found.reason.limit in (Limit.BACKLOG, Limit.BURST_RESERVE, Limit.LATENCY_TARGET)
    assert found.now == 67


def deferred(oldest_s: float, queued: int = 40) -> float:
    reading = QueueReading("background", queued, 0, queued * 30.0, oldest_s)
    return need(observation((0.5, 0.5, 3.0), queues=(*queues(TIERS, (0, 0, 0))[:2], reading)), 2 * LEAD_S).total


def test_deferrable_work_is_pressed_harder_as_its_deadline_comes_near() -> None:
    pressed = [deferred(oldest_s) for oldest_s in (0.0, 3600.0, 6000.0, 7000.0)]
    assert pressed == sorted(pressed)
    assert pressed[-1] > pressed[0]


def test_load_of_deferrable_work_does_not_stand_in_the_way_of_scale_in() -> None:
    assert need(observation(queues=queues(TIERS, (1, 2, 9), (0, 0, 500))), 2 * LEAD_S).now == 3


def test_without_a_forecast_recent_load_stands_for_it() -> None:
    """Fewer than two seasons of data (36): a plain fallback, no crash."""
    known = need(observation(forecasts=forecasts(TIERS, 2.0, 5.0, 3.0, spread=0.0)), 2 * LEAD_S)
    assert need(observation(forecasts={}), 2 * LEAD_S).total == pytest.approx(known.total)


def test_an_unknown_forecast_is_not_a_load_of_nothing() -> None:
    """NaN is unknown, and unknown is never zero: the recent load stands for it."""
    unknown = {
        key: replace(each, values=np.full_like(each.values, np.nan)) for key, each in forecasts(TIERS, 2, 5, 3).items()
    }
    assert need(observation(forecasts=unknown), 2 * LEAD_S).total >= need(observation(forecasts={}), 2 * LEAD_S).total


def test_history_and_telemetry_may_be_missing_altogether() -> None:
    empty = need(observation(forecasts={}, load={}, queues=(), latencies=()), 2 * LEAD_S)
    assert empty.total == 0.0


def test_keys_of_joined_tiers() -> None:
    assert [cumulative(TIERS, k) for k in range(3)] == ["premium", "premium+standard", "premium+standard+background"]


def test_an_end_to_end_target_leaves_less_to_wait() -> None:
    waits = tier("premium", 0, 100, "mean", 31_000)
    ends = replace(waits, of=LatencyOf.END_TO_END)
    tiers = (waits,)
    of_wait = need(observation((6.0,), envelope=envelope(tiers=tiers)), 2 * LEAD_S).total
    of_end = need(observation((6.0,), envelope=envelope(tiers=(ends,))), 2 * LEAD_S).total
    assert of_end >= of_wait


loads_of_tiers = st.tuples(st.floats(0, 30), st.floats(0, 30), st.floats(0, 30))


@settings(max_examples=60)
@given(loads_of_tiers, st.integers(0, 2), st.floats(0.1, 20))
def test_more_demand_never_needs_less(own, which, extra) -> None:
    more = tuple(value + extra * (k == which) for k, value in enumerate(own))
    low, high = (need(observation(each, queues=queues(TIERS, (0, 0, 0))), 2 * LEAD_S) for each in (own, more))
    assert high.total >= low.total - 1e-9
    assert high.first >= low.first - 1e-9


@settings(max_examples=60)
@given(loads_of_tiers, st.floats(0.05, 1.0), st.integers(0, 1))
def test_a_stricter_envelope_never_needs_less(own, factor, which) -> None:
    tiers = tuple(replace(t, target_ms=t.target_ms * factor) if k == which else t for k, t in enumerate(TIERS))
    low, high = need(observation(own), 2 * LEAD_S), need(observation(own, envelope=envelope(tiers=tiers)), 2 * LEAD_S)
    assert high.total >= low.total - 1e-9
