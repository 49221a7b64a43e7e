"""A replay from values to figures: sizing by history, spot by zone, and what counts as met."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from controller import replay
from controller.backends.simulated.arrivals import Arrivals
from controller.backends.simulated.engine import ZoneSeries
from controller.core.types import Envelope
from controller.replay import (
    ReplaySpec,
    minute_loads,
    recorded,
    run_replay,
    spot_zones,
    zones_of,
)
from controller.replay_policies import REGISTRY
from controller.sources.base import AvailabilitySeries, RequestTrace
from tests.core.observed import A10G, L40S, OFFERS, SPOT, TIERS, envelope, tier

T0 = 1_732_406_400.0
HOUR = 3600.0


def trace(*requests: tuple[float, float, str]) -> RequestTrace:
    """(seconds after T0, work, tenant) each."""
    requests = tuple(sorted(requests))
    names = tuple(dict.fromkeys(tenant for _, _, tenant in requests))
    return RequestTrace(
        T0 + np.array([at for at, _, _ in requests], float),
        np.array([work for _, work, _ in requests], float),
        np.array([names.index(tenant) for _, _, tenant in requests], np.int32),
        names,
        0,
        "by hand",
    )


def steady(
    from_h: float, to_h: float, load: float, work_s: float = 30.0, seed: int = 1
) -> list[tuple[float, float, str]]:
    """Poisson arrivals at so many erlangs."""
    rng = np.random.default_rng(seed)
    count = rng.poisson(load * (to_h - from_h) * HOUR / work_s)
    at = np.sort(rng.uniform(from_h * HOUR, to_h * HOUR, count))
    return [(float(t), work_s, f"t{rng.integers(50)}") for t in at]


def spec(requests: RequestTrace, policy: str = "hpa", **changes: Any) -> ReplaySpec:
    base = ReplaySpec(
        requests=requests, history=None, from_s=T0 + 2 * HOUR, to_s=T0 + 3 * HOUR, policy=policy, envelope=envelope(),
        offers=OFFERS, load_times_s=np.array([20.0]), zones={}, scale=1, jitter_s=0.0, boot_s=100.0, seed=1,
    )  # fmt: skip
    return replace(base, **changes)


def test_minutes_of_load_add_up_to_the_work() -> None:
    at, work = np.array([-1.0, 0.0, 59.0, 61.0, 600.0]), np.array([9.0, 30.0, 30.0, 90.0, 9.0])
    arrivals = Arrivals(T0 + at, work, np.array([0, 0, 1, 1, 0]))
    loads = minute_loads(arrivals, TIERS, T0, T0 + 600)
    assert {name: series.values.sum() * 60 for name, series in loads.items()} == {
        "premium": 30.0, "standard": 120.0, "background": 0.0,
    }  # fmt: skip
    assert loads["standard"].values[:3].tolist() == [0.5, 1.5, 0.0]
    assert len(loads["premium"].values) == 10


def series_of(zone: str, *changes: tuple[int, int], ticks: int = 10, binary: bool = True) -> AvailabilitySeries:
    at, value = (np.array([change[i] for change in changes], np.int64) for i in (0, 1))
    return AvailabilitySeries(zone, "V100", 600.0, ticks, at, value, binary)


def test_zones_take_their_series_by_map_or_name_and_repeat() -> None:
    known = {
        "us-west-2a": series_of("us-west-2a", (0, 1), (4, 0)),
        "az2": series_of("az2", (0, 3), (5, 1), binary=False),
    }
    zones = spot_zones(known, {"az1": "us-west-2a"}, ("az1", "az2", "az3"), T0, T0 + 4 * HOUR, 0)
    assert set(zones) == {"az1", "az2"}
    one: ZoneSeries = zones["az1"]
    assert ((one.change_s - T0) / 600).tolist() == [0, 4, 10, 14, 20]
    assert one.capacity.tolist() == [-1, 0, -1, 0, -1]
    assert zones["az2"].capacity.tolist() == [3, 1, 3, 1, 3]
    shifted = spot_zones(known, {"az1": "us-west-2a"}, ("az1",), T0, T0 + HOUR, 4)["az1"]
    assert shifted.capacity[0] == 0
    assert zones_of(OFFERS) == ("az1", "az2", "az3")


def test_the_first_fleet_is_the_mean_load_of_the_last_hour() -> None:
    quiet, busy = steady(0, 1, 30.0), steady(1, 2, 9.0, seed=2)
    result = run_replay(spec(trace(*quiet, *busy, *steady(2, 3, 5.0, seed=3)), "hpa"))
    first = result.replicas[(result.replicas["requested_s"] == 0) & (result.replicas["ready_s"] == 0)]
    load = sum(work for _, work, _ in busy) / HOUR
    assert set(first["offer"]) == {L40S.id}
    assert len(first) == int(np.ceil(load / 2.0))


def test_without_history_it_is_one_replica() -> None:
    result = run_replay(spec(trace(*steady(2, 3, 2.0)), "static"))
    assert len(result.replicas) == 1
    assert result.summary.starts == 0


def test_static_never_starts_and_drains_to_the_end() -> None:
    requests = trace(*steady(0, 2, 4.0), *steady(2, 3, 4.0, seed=2), (3 * HOUR - 1, 4000.0, "t1"))
    result = run_replay(spec(requests, "static"))
    assert result.summary.unfinished == 0
    last = result.requests["finished_s"].max()
    assert last > HOUR + 1900
    assert result.replicas["released_s"].max() >= last
    assert result.summary.cost_usd == pytest.approx(
        len(result.replicas) * result.replicas["released_s"].max() / 3600 * 1.861
    )


def test_a_target_with_an_unfinished_request_is_not_met(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "LONGEST_DRAIN_S", 600.0)
    requests = trace((2 * HOUR + 10, 5.0, "t0"), (2 * HOUR + 20, 100_000.0, "t0"), (2 * HOUR + 30, 5.0, "t0"))
    result = run_replay(spec(requests, "static", envelope=envelope(tiers=(tier("all", 0, 100, "p50", 1e9),))))
    assert result.summary.unfinished == 2
    (one,) = result.summary.tiers.values()
    assert one.target_met is False
    assert one.requests == 3
    assert result.requests["replica_id"].tolist()[2] == ""


def test_hours_are_judged_one_by_one() -> None:
    requests = trace(*steady(0, 2, 8.0), *steady(2, 3, 8.0, seed=2), *steady(3, 4, 0.2, seed=3))
    judged = run_replay(spec(requests, "hpa", to_s=T0 + 4 * HOUR, envelope=replace_cap(6.0))).summary
    assert judged.hours_within_cap_ratio is not None
    assert 0 < judged.hours_within_cap_ratio < 1
    assert judged.costliest_hour_usd > 6.0
    free = run_replay(spec(requests, "hpa", to_s=T0 + 4 * HOUR)).summary
    assert free.hours_within_cap_ratio is None
    assert free.cost_usd == judged.cost_usd


def replace_cap(cap: float | None) -> Envelope:
    return envelope(cap)


def test_heddle_holds_premium_through_the_loss_of_all_spot() -> None:
    """Half-way all zones are lost for ten minutes."""
    gone = ZoneSeries(T0 + 2 * HOUR + np.array([0.0, 1800.0, 2400.0]), np.array([-1, 0, -1]))
    requests = trace(*steady(0, 2, 6.0), *steady(2, 3, 6.0, seed=2))
    result = run_replay(spec(requests, "heddle", zones=dict.fromkeys(zones_of(OFFERS), gone)))
    assert result.summary.unfinished == 0
    assert any("spot" in offer for offer in result.replicas["offer"])
    assert result.summary.tiers["premium"].wait_mean_s < 0.2
    assert result.summary.tiers["premium"].target_met is True


def test_heddle_keeps_to_a_cap_that_is_far_too_small() -> None:
    requests = trace(*steady(0, 2, 6.0), *steady(2, 3, 6.0, seed=2))
    result = run_replay(spec(requests, "heddle", envelope=envelope(3.0), to_s=T0 + 3 * HOUR))
    assert result.summary.unfinished == 0
    # After the first hour, which began with a fleet that was not its own.
    later = spent(result.replicas)[1:]
    assert later
    assert max(later) <= 3.0
    premium, background = (result.summary.tiers[name].wait_mean_s for name in ("premium", "background"))
    assert premium < background


def spent(replicas: Any) -> list[float]:
    price = {offer.id: offer.price_usd_per_hour for offer in (A10G, L40S, *SPOT)}
    hours = int(np.ceil(replicas["released_s"].max() / HOUR))
    return [
        sum(
            max(0.0, min(row.released_s, HOUR * (h + 1)) - max(row.requested_s, HOUR * h)) / HOUR * price[row.offer]
            for row in replicas.itertuples()
        )
        for h in range(hours)
    ]


def test_progress_is_told_to_the_end() -> None:
    told: list[float] = []
    run_replay(spec(trace(*steady(2, 3, 1.0)), "hpa"), told.append)
    assert told == sorted(told)
    assert told[0] == 0.0
    assert told[-1] == 1.0


@pytest.mark.parametrize("policy", REGISTRY)
def test_every_policy_serves_an_hour_at_its_own_cadence(policy: str) -> None:
    gone = ZoneSeries(T0 + 2 * HOUR + np.array([0.0, 1800.0, 2400.0]), np.array([-1, 0, -1]))
    requests = trace(*steady(0, 2, 6.0), *steady(2, 3, 6.0, seed=2))
    told: list[float] = []
    result = run_replay(spec(requests, policy, zones=dict.fromkeys(zones_of(OFFERS), gone)), told.append)
    assert result.summary.policy == policy
    assert result.summary.unfinished == 0
    assert all(tier.wait_mean_s is not None for tier in result.summary.tiers.values())
    on_spot = any(offer.id in set(result.replicas["offer"]) for offer in SPOT)
    assert on_spot == (policy in ("heddle", "spothedge", "hpa_spot"))
    tick_s = {"kpa": 2, "dynamo": 5, "spothedge": 20}.get(policy, 15)
    assert sum(done < 1.0 for done in told) == HOUR / tick_s


def test_parameters_reach_the_policy() -> None:
    requests = trace(*steady(0, 2, 6.0), *steady(2, 3, 6.0, seed=2))
    lean, rich = (run_replay(spec(requests, policy)).summary for policy in ("hpa", "hpa:target=0.3,down_s=1800"))
    assert rich.policy == "hpa:target=0.3,down_s=1800"
    assert rich.cost_usd > lean.cost_usd
    with pytest.raises(ValueError, match="goal"):
        run_replay(spec(requests, "hpa:goal=1"))


def test_an_empty_window_and_nothing_to_buy_are_refused() -> None:
    with pytest.raises(ValueError, match="window"):
        run_replay(spec(trace((10.0, 5.0, "t0"))))
    with pytest.raises(ValueError, match="on-demand"):
        run_replay(spec(trace(*steady(2, 3, 1.0)), offers=SPOT))


def test_tenants_keep_their_tier_across_files() -> None:
    one, other = trace((0.0, 1.0, "x"), (1.0, 1.0, "y")), trace((0.0, 1.0, "y"), (1.0, 1.0, "x"))
    assert recorded(one, envelope()).tier.tolist() == recorded(other, envelope()).tier.tolist()[::-1]
