import math
import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.types import TierTarget
from controller.sources.base import UNLIMITED, AvailabilitySeries, InputError, RequestTrace, quoted, tier_of_tenant
from models.enums import LatencyOf


def tiers(*shares: float) -> tuple[TierTarget, ...]:
    return tuple(
        TierTarget(f"t{index}", index, share, "mean", LatencyOf.WAIT, 200.0) for index, share in enumerate(shares)
    )


def trace(arrived: list[float], tenant: list[int], tenants: tuple[str, ...] = ("G0", "G1", "G2")) -> RequestTrace:
    return RequestTrace(
        np.array(arrived), np.arange(1.0, len(arrived) + 1), np.array(tenant, np.int32), tenants, 3, "test"
    )


def test_a_window_is_half_open_and_keeps_the_tenant_codes() -> None:
    cut = trace([10, 20, 20, 30, 40], [0, 1, 2, 1, 0]).window(20, 40)

    assert cut.arrived_s.tolist() == [20, 20, 30]
    assert cut.work_s.tolist() == [2, 3, 4]
    assert (cut.skipped, cut.source) == (3, "test")
    assert [cut.tenants[code] for code in cut.tenant] == ["G1", "G2", "G1"]
    assert len(trace([10], [0]).window(11, 5)) == 0


def test_a_trace_must_be_sorted_and_rectangular() -> None:
    with pytest.raises(ValueError, match="sorted"):
        trace([20, 10], [0, 0])
    with pytest.raises(ValueError, match="one value a request"):
        trace([20, 30], [0])


def test_the_tier_of_a_tenant_is_its_hash_against_the_cumulative_shares() -> None:
    # Of `printf aG0000 | sha256sum` (aG0001, aG0002), read as one number, the last two decimal digits: 06, 91, 76.
    assert [tier_of_tenant(name, tiers(20, 50, 30), "a") for name in ("G0000", "G0001", "G0002")] == [0, 2, 2]
    assert [tier_of_tenant("G0002", tiers(share, 100 - share), "a") for share in (76, 77)] == [1, 0]
    assert tier_of_tenant("G0000", tiers(6, 94), "a") == 1, "a share of 6 holds 0 to 5"
    assert tier_of_tenant("G0001", tiers(50, 41, 9), "a") == 2, "in the order given"


def test_tiers_follow_the_tenant_and_move_with_the_salt() -> None:
    many = tuple(f"G{index:04d}" for index in range(2000))
    found = trace(list(range(4000)), [*range(2000), *range(2000)], many)

    index = found.tier_index(tiers(20, 50, 30), "a")

    assert index.dtype == np.int8
    assert (index[:2000] == index[2000:]).all(), "one tenant, one tier"
    shares = Counter(index[:2000].tolist())
    assert [round(shares[tier] / 2000, 1) for tier in range(3)] == [0.2, 0.5, 0.3]
    assert (index != found.tier_index(tiers(20, 50, 30), "b")).any()
    assert not found.tier_index(tiers(100), "a").any()


def test_shares_are_sums_of_floats_and_still_meet_where_they_should() -> None:
    assert 1.1 + 1.6 + 1.6 + 1.7 > 6, "yet bucket 6, G0000's, is the next tier's"
    assert tier_of_tenant("G0000", tiers(1.1, 1.6, 1.6, 1.7, 94), "a") == 4
    salts = [str(salt) for salt in range(500)]
    assert {tier_of_tenant("G", tiers(33.3, 33.3, 33.4), salt) for salt in salts} == {0, 1, 2}
    assert {tier_of_tenant("G", tiers(*[10.0] * 10), salt) for salt in salts} == set(range(10))
    with pytest.raises(ValueError, match="sum to 100"):
        tier_of_tenant("G", tiers(20, 50), "a")


def series(*values: int, gap_s: float = 10.0, binary: bool | None = None) -> AvailabilitySeries:
    """One value a tick."""
    change = [0] + [tick for tick in range(1, len(values)) if values[tick] != values[tick - 1]]
    return AvailabilitySeries(
        zone="z",
        gpu="v100",
        gap_s=gap_s,
        ticks=len(values),
        change_tick=np.array(change, np.int64),
        value=np.array([values[tick] for tick in change], np.int64),
        binary=max(values) <= 1 if binary is None else binary,
    )


def test_one_in_a_series_of_zeros_and_ones_means_any_number() -> None:
    yes_or_no, how_many = series(1, 0), series(1, 0, 7)

    assert [yes_or_no.capacity_at(t) for t in (0, 9.9, 10, 19.9, 20)] == [None, None, 0, 0, None]
    assert [how_many.capacity_at(t) for t in (0, 10, 20, 30)] == [1, 0, 7, 1]


def test_a_series_repeats_past_its_end_and_starts_where_it_is_told() -> None:
    found = series(5, 5, 0, 2)

    assert [found.value_at(tick) for tick in range(-4, 8)] == [5, 5, 0, 2] * 3
    times, capacity = found.changes_between(0, 90)
    assert times.tolist() == [0, 20, 30, 40, 60, 70, 80]
    assert capacity.tolist() == [5, 0, 2, 5, 0, 2, 5]
    times, capacity = found.changes_between(1005, 1030, offset_ticks=2, origin_s=1000)
    assert times.tolist() == [1005, 1010, 1020]
    assert capacity.tolist() == [0, 2, 5]


def test_the_next_change_is_across_the_end_where_the_last_value_is_the_first() -> None:
    found = series(1, 0, 0, 1)

    assert found.next_change_after(35) == 50, (
        "from tick 3 the series goes on as 1 through tick 4, which is tick 0 again"
    )
    assert found.next_change_after(10) == 30
    assert series(4, 4, 4).next_change_after(0) == math.inf
    assert series(1).changes_between(7, 1e6)[1].tolist() == [UNLIMITED]


@given(
    values=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    gap_s=st.sampled_from([0.1, 10.0, 12.3, 195.0]),
    offset=st.integers(-30, 30),
    origin_s=st.sampled_from([0.0, 1_732_514_400.0]),
    first=st.integers(0, 40),
    count=st.integers(1, 60),
)
def test_changes_say_at_every_tick_what_the_series_says(
    values: list[int], gap_s: float, offset: int, origin_s: float, first: int, count: int
) -> None:
    found = series(*values, gap_s=gap_s)
    start_s, end_s = origin_s + first * gap_s, origin_s + (first + count) * gap_s

    times, capacity = found.changes_between(start_s, end_s, offset, origin_s)

    assert times[0] == start_s
    assert (np.diff(times) > 0).all() and times[-1] < end_s
    assert (np.diff(capacity) != 0).all()
    for tick in range(first, first + count):
        expected = values[(tick + offset) % len(values)]
        for at_s in (origin_s + tick * gap_s, origin_s + (tick + 0.5) * gap_s):
            seen = int(capacity[np.searchsorted(times, at_s, side="right") - 1])
            assert seen == (UNLIMITED if found.binary and expected == 1 else expected)
            assert found.capacity_at(at_s, offset, origin_s) == (None if seen == UNLIMITED else seen)
    following = times[1] if len(times) > 1 else None
    if following is not None:
        assert found.next_change_after(start_s, offset, origin_s) == following


def test_an_input_error_is_one_line_whatever_it_quotes() -> None:
    error = InputError("a\nb.csv", 7, "tenant", f"it says {quoted('x' * 99)}\r\n", "write one")

    assert "\n" not in str(error) and "\r" not in str(error)
    assert str(error).startswith("a b.csv: row 7, column tenant: it says 'xxx")
    assert len(str(error)) < 120
    assert str(InputError("f.csv", None, None, "gone", "look")) == "f.csv: gone; look"
    assert str(pickle.loads(pickle.dumps(error))) == str(error), "it may cross a process pool"
