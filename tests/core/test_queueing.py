"""Waiting time against published tables, exact special cases, a small simulation, and laws.

Sources of the published values:
* Erlang B, offered traffic that 1 % blocking allows: 10 trunks 4.46, 20 trunks 12.0, 100 trunks 84.1 erlangs, as in any
  Erlang B table; 10 erlangs on 10 trunks lose 21.5 %.
* Erlang C, the worked example "360 calls per half hour of 4 minutes, 55 agents": P(wait) 0.239, mean wait 8.2 s, 84.6 %
  answered within 15 s.
* Erlang C, the worked example "200 calls an hour of 3 minutes": 11 to 14 agents give P(wait) 68.2, 44.9, 28.5, 17.4 %;
  with 14 agents the mean wait is 7.8 s and 88.8 % are answered within 20 s.
* M/M/3 with 6 arrivals and 3 served per hour: mean wait 4/27 h (Gross & Harris, Fundamentals of Queueing Theory).
"""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.queueing import (
    erlang_b,
    erlang_c,
    mean_wait_s,
    probability_of,
    servers_for,
    servers_for_backlog,
    target_wait_s,
    tier_wait_s,
    wait_quantile_s,
)
from controller.core.types import TierTarget
from models.enums import LatencyOf


def target(statistic: str, ms: float, of: LatencyOf = LatencyOf.WAIT) -> TierTarget:
    return TierTarget("premium", 0, 20, statistic, of, ms)


PREMIUM, STANDARD, BACKGROUND = target("mean", 200), target("p95", 30_000), target("p100", 7_200_000)
TARGETS = st.sampled_from([PREMIUM, STANDARD, BACKGROUND])
LOADS = st.floats(0.001, 300)


@pytest.mark.parametrize(("trunks", "erlangs", "blocked"), [(10, 4.461, 0.01), (20, 12.03, 0.01), (100, 84.06, 0.01)])
def test_erlang_b_agrees_with_the_tables(trunks: int, erlangs: float, blocked: float) -> None:
    assert erlang_b(trunks, erlangs) == pytest.approx(blocked, abs=2e-5)


def test_erlang_b_of_ten_erlangs_on_ten_trunks() -> None:
    assert erlang_b(10, 10) == pytest.approx(0.2146, abs=5e-5)


@pytest.mark.parametrize(("agents", "waiting"), [(11, 0.682), (12, 0.449), (13, 0.285), (14, 0.174)])
def test_erlang_c_agrees_with_the_call_centre_table(agents: int, waiting: float) -> None:
    assert erlang_c(agents, 10) == pytest.approx(waiting, abs=5e-4)


def test_erlang_c_waits_agree_with_the_worked_examples() -> None:
    assert mean_wait_s(14, 10, 180) == pytest.approx(7.8, abs=0.05)
    assert wait_quantile_s(0.888, 14, 10, 180) == pytest.approx(20, abs=0.2)
    assert erlang_c(55, 48) == pytest.approx(0.239, abs=5e-4)
    assert mean_wait_s(55, 48, 240) == pytest.approx(8.2, abs=0.05)
    assert wait_quantile_s(0.8459, 55, 48, 240) == pytest.approx(15, abs=0.05)
    assert mean_wait_s(3, 2, 20 * 60) == pytest.approx(4 / 27 * 3600)


@given(st.floats(0.001, 0.999))
def test_one_server_is_the_textbook_queue(load: float) -> None:
    assert erlang_c(1, load) == pytest.approx(load)
    assert mean_wait_s(1, load, 10) == pytest.approx(10 * load / (1 - load))


@given(st.floats(0.01, 0.99), st.floats(0, 5))
def test_one_server_with_any_execution_time_is_pollaczek_khinchine(load: float, scv: float) -> None:
    assert mean_wait_s(1, load, 10, work_scv=scv) == pytest.approx(10 * load / (1 - load) * (1 + scv) / 2)


@given(st.integers(1, 400), st.floats(0.01, 0.999))
def test_both_ways_of_computing_agree(servers: int, used: float) -> None:
    load = servers * used
    blocked = erlang_b(servers, load)
    assert erlang_c(servers, load) == pytest.approx(blocked / (1 - used * (1 - blocked)), rel=1e-8, abs=1e-250)


def test_five_thousand_servers_are_no_trouble() -> None:
    assert 0 < erlang_c(5000, 4900) < 1
    assert erlang_b(5000, 4900) == pytest.approx(0.0024, abs=3e-4)
    assert erlang_c(5000, 10) == 0.0
    assert servers_for(4900, 26, PREMIUM).servers < 5100


def test_servers_that_cannot_keep_up_wait_for_ever() -> None:
    assert erlang_c(10, 10) == 1
    assert mean_wait_s(10, 10, 26) == math.inf
    assert wait_quantile_s(0.5, 10, 12, 26) == math.inf


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_an_unknown_load_is_refused_not_taken_for_zero(bad: float) -> None:
    for call in (lambda: erlang_b(3, bad), lambda: erlang_c(3, bad), lambda: servers_for(bad, 26, PREMIUM)):
        with pytest.raises(ValueError, match="load must be known"):
            call()


def test_three_servers_simulated() -> None:
    """Kiefer and Wolfowitz's recursion, 200,000 arrivals: Erlang's mean and quantile within sampling error."""
    generator = np.random.default_rng(3)
    gaps, works = generator.exponential(1 / 2.4, 200_000).tolist(), generator.exponential(1.0, 200_000).tolist()
    free = [0.0, 0.0, 0.0]
    now, waits = 0.0, []
    for gap, work in zip(gaps, works, strict=True):
        now += gap
        first = min(free)
        begin = max(now, first)
        waits.append(begin - now)
        free[free.index(first)] = begin + work
    assert np.mean(waits) == pytest.approx(mean_wait_s(3, 2.4, 1.0), rel=0.05)
    assert np.quantile(waits, 0.95) == pytest.approx(wait_quantile_s(0.95, 3, 2.4, 1.0), rel=0.05)


@given(LOADS, TARGETS, st.floats(0, 50))
def test_the_answer_holds_and_one_server_less_does_not(load: float, promise: TierTarget, above: float) -> None:
    found = servers_for(load, 26, promise, above=above)
    probability = probability_of(promise.statistic)
    assert found.servers > load + above
    assert found.wait_s <= promise.target_ms / 1000
    assert found.wait_s == tier_wait_s(found.servers, load, above, 26, probability)
    if found.servers - 1 > load + above:
        assert tier_wait_s(found.servers - 1, load, above, 26, probability) > promise.target_ms / 1000


@given(LOADS, LOADS, TARGETS, st.floats(0, 30))
def test_more_load_never_needs_fewer(load: float, more: float, promise: TierTarget, above: float) -> None:
    few = servers_for(load, 26, promise, above=above).servers
    assert servers_for(load + more, 26, promise, above=above).servers >= few
    assert servers_for(load, 26, promise, above=above + more).servers >= few


@given(LOADS, st.floats(1, 1e6), st.floats(1.0, 100), st.sampled_from(["mean", "p50", "p95", "p99.5", "p100"]))
def test_a_stricter_target_never_needs_fewer(load: float, ms: float, looser: float, statistic: str) -> None:
    assert (
        servers_for(load, 26, target(statistic, ms)).servers
        >= servers_for(load, 26, target(statistic, ms * looser)).servers
    )


@given(LOADS, st.floats(1.0, 4.0))
def test_faster_servers_are_never_more(load: float, speed: float) -> None:
    assert servers_for(load, 26, PREMIUM, speed=speed).servers <= servers_for(load, 26, PREMIUM).servers


@given(LOADS, st.floats(0, 4), st.floats(0, 4))
def test_more_variation_never_needs_fewer(load: float, arrivals: float, works: float) -> None:
    calm = servers_for(load, 26, PREMIUM, arrivals_scv=arrivals, work_scv=works).servers
    assert servers_for(load, 26, PREMIUM, arrivals_scv=arrivals + 1, work_scv=works).servers >= calm


@settings(max_examples=50)
@given(st.floats(0.1, 20), st.floats(0.1, 20), st.integers(1, 10))
def test_preemption_conserves_the_total_wait(high: float, low: float, spare: int) -> None:
    servers = math.ceil(high + low) + spare
    together = (high + low) * mean_wait_s(servers, high + low, 26)
    apart = high * tier_wait_s(servers, high, 0, 26, None) + low * tier_wait_s(servers, low, high, 26, None)
    assert apart == pytest.approx(together)


def test_no_load_needs_no_servers_of_its_own() -> None:
    assert servers_for(0, 26, PREMIUM).servers == 0
    assert servers_for(0, 26, STANDARD, above=7.2).servers == 8


def test_end_to_end_leaves_less_time_to_wait() -> None:
    assert target_wait_s(target("mean", 60_000, LatencyOf.END_TO_END), 26) == pytest.approx(34)
    assert target_wait_s(target("mean", 60_000, LatencyOf.END_TO_END), 26, speed=2) == pytest.approx(47)
    assert target_wait_s(target("p95", 60_000, LatencyOf.END_TO_END), 26, work_scv=0.0) == pytest.approx(34)
    assert target_wait_s(target("p95", 60_000, LatencyOf.END_TO_END), 26, work_scv=0.5) < 10


def test_a_target_below_the_execution_itself_is_said_to_be_out_of_reach() -> None:
    found = servers_for(10, 26, target("mean", 20_000, LatencyOf.END_TO_END))
    assert not found.attainable
    assert found.target_wait_s == pytest.approx(-6)
    assert erlang_c(found.servers, 10) <= 0.01 < erlang_c(found.servers - 1, 10)


def test_statistics_are_read() -> None:
    assert probability_of("mean") is None
    assert probability_of("p99.5") == pytest.approx(0.995)
    assert probability_of("p100") == pytest.approx(0.9999)
    for word in ("p0", "p101", "95", "median", "", "pxx"):
        with pytest.raises(ValueError, match="statistic"):
            probability_of(word)


def test_a_backlog_is_worked_off_in_time() -> None:
    assert servers_for_backlog(3600, 600) == pytest.approx(6)
    assert servers_for_backlog(3600, 600, speed=2) == pytest.approx(3)
    assert servers_for_backlog(0, 60) == 0
    with pytest.raises(ValueError, match="positive"):
        servers_for_backlog(1, 0)


def test_sizes_grow_as_the_square_root_rule_says() -> None:
    spare = [servers_for(load, 26, PREMIUM).servers - load for load in (25, 100, 400, 1600)]
    for smaller, larger in pairwise(spare):
        assert smaller < larger < 2 * smaller
