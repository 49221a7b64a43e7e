"""The meter of tenants: what begins, what speeds up, and that it does not matter when one looks."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.backends.simulated.activity import ActivityMeter
from controller.core.activity import BIN_S, CHANNELS, LONGEST, RISES, SESSION_GAP_S
from controller.core.types import FloatArray

T0 = 1_732_492_800.0
TIERS = 2
REQUESTS, SESSIONS = 0, 1


def counted(*requests: tuple[float, int, int], until_bins: int, meter: ActivityMeter | None = None) -> FloatArray:
    """(seconds after T0, tier, tenant) each; in counts a bin, not a second."""
    ordered = sorted(requests)
    arrived = np.array([T0 + at for at, _, _ in ordered])
    tier, tenant = (np.array([request[i] for request in ordered], np.int64) for i in (1, 2))
    return (meter or ActivityMeter(TIERS, T0)).count(arrived, tier, tenant, T0 + BIN_S * until_bins) * BIN_S


def every_bin(bins: range, each: int, tier: int = 0, tenant: int = 0) -> list[tuple[float, int, int]]:
    """So many requests of one tenant in each of the bins."""
    return [(BIN_S * (b + (n + 0.5) / each), tier, tenant) for b in bins for n in range(each)]


def test_requests_are_counted_in_their_bin_and_tier() -> None:
    found = counted((0.0, 0, 0), (14.999, 1, 1), (15.0, 0, 0), (44.0, 1, 2), (44.5, 1, 2), until_bins=3)
    assert found.shape == (CHANNELS, TIERS, 3)
    assert found[REQUESTS] == pytest.approx(np.array([[1, 1, 0], [1, 0, 2]]))


def test_only_whole_bins_are_counted_and_the_rest_comes_with_the_next() -> None:
    meter = ActivityMeter(TIERS, T0)
    requests = every_bin(range(4), 3)
    arrived = np.array([T0 + at for at, _, _ in requests])
    zeros = np.zeros(len(arrived), np.int64)
    first = meter.count(arrived, zeros, zeros, T0 + 29.0)
    assert (first.shape[2], meter.end_s) == (1, T0 + BIN_S)
    assert meter.count(arrived, zeros, zeros, T0 + 29.9).shape[2] == 0
    rest = meter.count(arrived, zeros, zeros, T0 + 60.0)
    assert rest[REQUESTS, 0] * BIN_S == pytest.approx([3, 3, 3])


def test_a_meter_that_begins_within_a_bin_begins_with_the_next() -> None:
    assert ActivityMeter(TIERS, T0 + 1.0).end_s == T0 + BIN_S
    assert ActivityMeter(TIERS, T0).end_s == T0


def test_a_session_begins_after_so_long_a_silence_and_not_before() -> None:
    gap = SESSION_GAP_S
    found = counted(
        *((0.0, 0, 0), (5.0, 0, 0), (5.0 + gap, 0, 0)),  # a silence of exactly the gap is the same session
        *((6.0, 1, 1), (6.1 + gap, 1, 1)),  # a longer one is not
        until_bins=63,
    )
    begun = found[SESSIONS]
    assert begun.sum(axis=1) == pytest.approx([1, 2])
    assert begun[:, 0] == pytest.approx([1, 1])
    assert begun[1, int((6.1 + gap) // BIN_S)] == pytest.approx(1)


def test_requests_of_nobody_count_as_requests_alone() -> None:
    found = counted(*((at, 0, -1) for at in (1.0, 2.0, 3.0, 20.0)), until_bins=2)
    assert found[REQUESTS, 0] == pytest.approx([3, 1])
    assert not found[1:].any()


@pytest.mark.parametrize("each", [1, 2, 7])
def test_a_steady_tenant_does_not_rise(each: int) -> None:
    found = counted(*every_bin(range(200), each), until_bins=200)
    assert found[2:, 0, LONGEST:] == pytest.approx(0.0)
    assert found[SESSIONS, 0].sum() == pytest.approx(1)


def test_a_tenant_who_speeds_up_rises_by_how_much_it_is_faster_and_one_who_slows_down_does_not() -> None:
    at = 100
    faster = [*every_bin(range(at), 1), *every_bin(range(at, 200), 4)]
    found = counted(*faster, until_bins=200)
    for channel, (recent, whole) in enumerate(RISES):
        rise = found[2 + channel, 0]
        # Once the recent bins are all fast and those before them all slow, the rise is the difference.
        assert rise[at + recent - 1] == pytest.approx(3.0)
        assert not rise[LONGEST:at].any()
        assert (rise[at : at + recent - 1] > 0).all()
        assert rise[at + whole :] == pytest.approx(0.0)
    slower = [*every_bin(range(at), 4), *every_bin(range(at, 200), 1)]
    assert not counted(*slower, until_bins=200)[2:, 0, LONGEST:].any()


def test_one_tenant_s_rise_is_not_hidden_by_another_s_fall() -> None:
    """The sum of their requests is flat: this is why tenants are told apart."""
    at = 100
    rises = [*every_bin(range(at), 1, tenant=0), *every_bin(range(at, 160), 5, tenant=0)]
    falls = [*every_bin(range(at), 5, tenant=1), *every_bin(range(at, 160), 1, tenant=1)]
    found = counted(*rises, *falls, until_bins=160)
    assert found[REQUESTS, 0] == pytest.approx(6.0)
    assert (found[2:, 0, at + 1] > 0).all()
    assert not found[2:, 0, LONGEST:at].any()


requests = st.lists(
    st.tuples(st.floats(0, 4000, allow_nan=False), st.integers(0, TIERS - 1), st.integers(-1, 4)), max_size=60
)
looks = st.lists(st.floats(0, 4000), max_size=8)


@settings(max_examples=60, deadline=None)
@given(requests, looks)
def test_bins_are_the_same_whenever_one_looks(asked: list[tuple[float, int, int]], at: list[float]) -> None:
    until = 270
    whole = counted(*asked, until_bins=until)
    ordered = sorted(asked)
    arrived = np.array([T0 + request[0] for request in ordered])
    tier, tenant = (np.array([request[i] for request in ordered], np.int64) for i in (1, 2))
    meter, parts = ActivityMeter(TIERS, T0), []
    for _, to_s in pairwise([0.0, *sorted(at), BIN_S * until]):
        parts.append(meter.count(arrived, tier, tenant, T0 + to_s))
    assert np.concatenate(parts, axis=2) * BIN_S == pytest.approx(whole)


@settings(max_examples=40, deadline=None)
@given(requests)
def test_it_counts_what_a_reckoning_by_hand_counts(asked: list[tuple[float, int, int]]) -> None:
    """Tenant by tenant, over all their requests at once, without a ring or a list of who is busy."""
    bins = 270
    # A tenant's rises belong to its tier: here each has one.
    asked = [(at, tenant % TIERS if tenant >= 0 else tier, tenant) for at, tier, tenant in asked]
    found = counted(*asked, until_bins=bins)
    expected = np.zeros((CHANNELS, TIERS, bins))
    for at, tier, _ in asked:
        expected[REQUESTS, tier, int((T0 + at - T0) // BIN_S)] += 1
    for tenant in {request[2] for request in asked if request[2] >= 0}:
        times = np.array(sorted(T0 + request[0] for request in asked if request[2] == tenant)) - T0
        begun = times[np.concatenate([[True], np.diff(times) > SESSION_GAP_S])]
        np.add.at(expected[SESSIONS, tenant % TIERS], (begun // BIN_S).astype(np.int64), 1.0)
        expected[2:, tenant % TIERS] += _rises(times, bins)
    assert found == pytest.approx(expected, abs=1e-5)


def _rises(times: FloatArray, bins: int) -> npt.NDArray[np.float64]:
    counts = np.bincount((times // BIN_S).astype(np.int64), minlength=bins).astype(np.float64)
    padded = np.concatenate([np.zeros(LONGEST), counts])
    rises = np.zeros((len(RISES), bins))
    for row, (recent, whole) in enumerate(RISES):
        for b in range(bins):
            window = padded[b + LONGEST - whole + 1 : b + LONGEST + 1]
            rises[row, b] = max(0.0, window[-recent:].mean() - window[:-recent].mean())
    return rises


def test_a_thousand_tenants_who_come_and_go_are_told_apart() -> None:
    """The list of who is busy is filled and emptied many times over."""
    rng = np.random.default_rng(3)
    times, whose = rng.uniform(0, 6000, 3000).tolist(), rng.integers(0, 1000, 3000).tolist()
    asked = [(at, 0, who) for at, who in zip(times, whose, strict=True)]
    found = counted(*asked, until_bins=400)
    expected = sum(_rises(np.array(sorted(at for at, _, w in asked if w == who)), 400) for who in range(1000))
    assert found[2:, 0] == pytest.approx(expected, abs=1e-4)
