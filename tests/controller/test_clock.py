from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.clock import SteppedClock, VirtualClock, WallClock, to_datetime, to_seconds

START_S = 1_732_514_400.0  # 2024-11-25 06:00 UTC


class Machine:
    """A machine whose two clocks the test turns."""

    def __init__(self) -> None:
        self.monotonic_s, self.wall_s = 100.0, 2_000_000_000.0

    def passes(self, seconds: float) -> None:
        self.monotonic_s += seconds
        self.wall_s += seconds

    def clock(self, **options: object) -> VirtualClock:
        return VirtualClock(START_S, 60.0, monotonic=lambda: self.monotonic_s, wall=lambda: self.wall_s, **options)


def test_a_day_of_operating():
    machine = Machine()
    clock = machine.clock()
    machine.passes(60)
    assert clock.now_s() == START_S + 3600
    clock.pause()
    machine.passes(1000)
    assert clock.now_s() == START_S + 3600
    clock.resume()
    assert clock.now_s() == START_S + 3600
    clock.set_speed(3600)
    assert clock.now_s() == START_S + 3600
    machine.passes(1)
    assert clock.now_s() == START_S + 7200
    clock.move_to(START_S)
    assert clock.now_s() == START_S


def test_setting_the_wall_clock_moves_nothing_but_the_anchor():
    machine = Machine()
    clock = machine.clock()
    machine.passes(10)
    machine.wall_s -= 86_400
    assert clock.now_s() == START_S + 600
    anchor = clock.anchor()
    assert anchor.wall_s == machine.wall_s
    # A reader in another process sees the same now, and goes on with it.
    machine.passes(5)
    assert anchor.virtual_s + (machine.wall_s - anchor.wall_s) * anchor.speed == clock.now_s()


def test_a_clock_anchored_in_the_past_has_run_since_unless_it_was_paused():
    machine = Machine()
    assert machine.clock(wall_anchor_s=machine.wall_s - 2).now_s() == START_S + 120
    assert machine.clock(wall_anchor_s=machine.wall_s - 2, paused=True).now_s() == START_S
    assert machine.clock(wall_anchor_s=machine.wall_s + 50).now_s() == START_S, "an anchor in the future: no way back"


def test_how_long_to_wait_is_unknown_while_paused():
    machine = Machine()
    clock = machine.clock()
    assert clock.real_seconds_until(START_S + 120) == 2.0
    assert clock.real_seconds_until(START_S - 1) == 0.0
    clock.pause()
    assert clock.real_seconds_until(START_S + 120) is None


@given(
    st.lists(
        st.one_of(
            st.floats(0, 1e4).map(lambda seconds: ("passes", seconds)),
            st.floats(0.01, 3600).map(lambda speed: ("speed", speed)),
            st.sampled_from([("pause", 0.0), ("resume", 0.0), ("wall back", 0.0)]),
        ),
        max_size=30,
    )
)
def test_a_virtual_clock_never_goes_back_and_never_jumps(steps: list[tuple[str, float]]):
    machine = Machine()
    clock = machine.clock()
    for what, amount in steps:
        before = clock.now_s()
        if what == "passes":
            machine.passes(amount)
            expected = before + (0 if clock.paused else amount * clock.speed)
        else:
            expected = before
            if what == "speed":
                clock.set_speed(amount)
            elif what == "wall back":
                machine.wall_s -= 1e6
            else:
                clock.pause() if what == "pause" else clock.resume()
        assert clock.now_s() >= before
        assert clock.now_s() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("speed", [0.0, -1.0, float("inf"), float("nan")])
def test_an_impossible_speed_is_refused_and_the_old_one_stays(speed: float):
    clock = Machine().clock()
    with pytest.raises(ValueError, match="speed"):
        clock.set_speed(speed)
    assert clock.speed == 60.0


def test_a_wall_clock_set_back_stands_still():
    times = iter([100.0, 110.0, 50.0, 111.0])
    clock = WallClock(lambda: next(times))
    assert [clock.now_s(), clock.now_s(), clock.now_s()] == [110.0, 110.0, 111.0]


def test_a_stepped_clock_moves_only_ahead():
    clock = SteppedClock(START_S)
    clock.advance_to(START_S + 15)
    assert clock.now_s() == START_S + 15
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance_to(START_S)


def test_seconds_and_datetimes_convert_both_ways():
    assert to_datetime(START_S) == datetime(2024, 11, 25, 6, tzinfo=UTC)
    assert to_seconds(to_datetime(START_S)) == START_S
    with pytest.raises(ValueError, match="no time zone"):
        to_seconds(datetime(2024, 11, 25, 6))  # noqa: DTZ001


def test_time_waits_where_it_is_told_and_goes_on_without_a_jump() -> None:
    real = [0.0]
    clock = VirtualClock(1000.0, 60.0, monotonic=lambda: real[0], wall=lambda: real[0])
    clock.wait_at(1090.0)
    real[0] = 1.0
    assert clock.now_s() == 1060.0
    real[0] = 10.0
    assert clock.now_s() == 1090.0
    clock.wait_at(1200.0)
    assert clock.now_s() == 1090.0
    real[0] = 11.0
    assert clock.now_s() == 1150.0
    clock.move_to(500.0)
    real[0] = 20.0
    assert clock.now_s() == 500.0 + 9 * 60
