"""When a fleet may shrink: timelines of requirements, and the laws."""

from hypothesis import given
from hypothesis import strategies as st

from controller.core.policies.base import Memory
from controller.core.stabilize import may_release, stabilize
from models.enums import Limit

WINDOW_S = 480.0
T0 = 1_732_514_400.0


def follow(
    requirements: list[float], current: float = 0.0, step_s: float = 15.0, window_s: float = WINDOW_S
) -> list[tuple[float, Limit]]:
    """What is held at each tick; the fleet follows at once."""
    memory, held = Memory(), []
    for tick, required in enumerate(requirements):
        steady, memory = stabilize(required, current, memory, T0 + tick * step_s, window_s)
        held.append((steady.capacity, steady.reason.limit))
        current = steady.capacity
    return held


def test_a_restart_keeps_the_scale_it_finds_until_its_window_has_filled() -> None:
    held = follow([4.0] * 40, current=12.0)
    assert [capacity for capacity, _ in held[:32]] == [12.0] * 32
    assert {limit for _, limit in held[:32]} == {Limit.SCALE_IN_CHECK}
    assert held[32] == (4.0, Limit.NONE)


def test_growing_is_never_delayed() -> None:
    assert [capacity for capacity, _ in follow([4.0, 5.0, 30.0, 31.0], current=4.0)] == [4.0, 5.0, 30.0, 31.0]


def test_a_gap_shorter_than_the_window_is_bridged() -> None:
    burst, gap = [10.0] * 40, [2.0] * 31
    held = follow(burst + gap + burst, current=10.0)
    assert {capacity for capacity, _ in held} == {10.0}
    assert held[45][1] is Limit.IDLE_COST


def test_a_longer_gap_is_not() -> None:
    held = follow([10.0] * 40 + [2.0] * 33, current=10.0)
    assert held[39 + 31] == (10.0, Limit.IDLE_COST)
    assert held[-1] == (2.0, Limit.NONE)


def test_the_reason_has_its_numbers() -> None:
    steady, _ = stabilize(4.0, 12.0, Memory(), T0, WINDOW_S)
    assert "12.0" in steady.reason.text
    assert steady.reason.numbers == {"current": 12.0, "held": 12.0, "required": 4.0}


def test_what_is_found_is_held_and_not_what_is_added_meanwhile() -> None:
    """While replicas are exchanged, old and new stand side by side: that is no demand for both."""
    memory, current, held = Memory(), 8.0, []
    for tick in range(20):
        steady, memory = stabilize(6.0, current, memory, T0 + 15.0 * tick, WINDOW_S)
        held.append(steady.capacity)
        current += 5.0
    assert set(held) == {8.0}


needs = st.lists(st.floats(0, 100), min_size=1, max_size=60)


@given(needs, st.floats(0, 100), st.sampled_from([15.0, 60.0, 240.0]))
def test_laws(requirements, current, step_s) -> None:
    held = [capacity for capacity, _ in follow(requirements, current, step_s)]
    window = int(WINDOW_S // step_s)
    for tick, (capacity, required) in enumerate(zip(held, requirements, strict=True)):
        # Never below what is required now, never above all that was asked or found.
        assert capacity >= required
        assert capacity <= max([*requirements[: tick + 1], current])
        if tick > window:
            assert capacity <= max(requirements[tick - window : tick + 1])


@given(needs, st.floats(0, 100), st.integers(0, 59), st.floats(0, 50))
def test_monotone_in_every_requirement(requirements, current, which, extra) -> None:
    more = [value + extra * (i == which) for i, value in enumerate(requirements)]
    low, high = follow(requirements, current), follow(more, current)
    assert all(b[0] >= a[0] for a, b in zip(low, high, strict=True))


def test_a_replica_may_go_only_if_the_rest_carries_what_runs_and_waits() -> None:
    """The N/(N−1) check (23)."""
    assert may_release(serving=10, leaving=1, load_now=9)
    assert not may_release(serving=10, leaving=1, load_now=9.5)
    assert not may_release(serving=10, leaving=2, load_now=9)
    assert may_release(serving=1, leaving=1, load_now=0)
    assert not may_release(serving=1, leaving=1, load_now=1)
