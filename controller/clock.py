"""What time it is: the wall's, a virtual one that runs at a speed, or one stepped by hand.

The only module of the controller that reads a real clock or turns seconds into datetimes. Seconds are floats since the
Unix epoch, UTC; datetimes are aware, UTC.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Anything that knows the controller's now."""

    def now_s(self) -> float:
        """Seconds since the Unix epoch, UTC. Never goes back."""


def to_datetime(seconds: float) -> datetime:
    """The aware UTC datetime of epoch seconds."""
    return datetime.fromtimestamp(seconds, UTC)


def to_seconds(moment: datetime) -> float:
    """Epoch seconds of an aware datetime. ValueError for a naive one: it names no moment."""
    if moment.utcoffset() is None:
        raise ValueError(f"{moment.isoformat()} has no time zone")
    return moment.timestamp()


def wall_s() -> float:
    """The wall clock, epoch seconds. For leases, pulses and anchors; everything else takes a Clock."""
    return time.time()


def wall_now() -> datetime:
    """The wall clock, aware UTC."""
    return to_datetime(time.time())


class WallClock:
    """The real clock, for a real cluster. A wall clock that is set back makes it stand still, not go back."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._latest_s = wall()
        self._lock = threading.Lock()

    def now_s(self) -> float:
        """Epoch seconds, UTC."""
        with self._lock:
            self._latest_s = max(self._latest_s, self._wall())
            return self._latest_s


@dataclass(frozen=True, slots=True)
class ClockAnchor:
    """What a reader needs to compute a virtual now: virtual_s + (wall - wall_s) × speed, or virtual_s while paused."""

    virtual_s: float
    wall_s: float
    speed: float
    paused: bool


class VirtualClock:
    """A clock that runs at `speed` virtual seconds a real second and can be paused. Safe to share between threads.

    It advances by a monotonic source, so that a wall clock that is set (NTP, a laptop waking up) moves nothing; the
    wall's time appears only in `anchor`, which readers in other processes compute their now from.
    """

    def __init__(
        self,
        virtual_s: float,
        speed: float = 1.0,
        *,
        paused: bool = False,
        wall_anchor_s: float | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Starts at `virtual_s`; with `wall_anchor_s`, that was now when the wall showed it, and it has run since.

        ValueError when speed is not above 0.
        """
        self._lock = threading.Lock()
        self._monotonic, self._wall = monotonic, wall
        self._speed, self._paused = _checked(speed), paused
        self._base_s, self._base_monotonic_s = virtual_s, monotonic()
        self._wait_at_s = float("inf")
        if wall_anchor_s is not None and not paused:
            self._base_s += max(0.0, wall() - wall_anchor_s) * speed

    def now_s(self) -> float:
        """Virtual epoch seconds, UTC."""
        with self._lock:
            return self._now_s()

    @property
    def speed(self) -> float:
        """Virtual seconds a real second, when not paused."""
        return self._speed

    @property
    def paused(self) -> bool:
        """Whether time stands still."""
        return self._paused

    def set_speed(self, speed: float) -> None:
        """Runs at another speed from now on. ValueError when it is not above 0."""
        with self._lock:
            self._rebase()
            self._speed = _checked(speed)

    def pause(self) -> None:
        """Stands still until `resume`."""
        with self._lock:
            self._rebase()
            self._paused = True

    def resume(self) -> None:
        """Goes on from where it stood."""
        with self._lock:
            self._rebase()
            self._paused = False

    def wait_at(self, virtual_s: float) -> None:
        """Lets time run up to virtual_s and wait there, until this is called again with a later one.

        So a loop that can't keep up with the speed slows time down rather than falling ever further behind.
        """
        with self._lock:
            self._rebase()
            self._wait_at_s = virtual_s

    def move_to(self, virtual_s: float) -> None:
        """Sets now, back too: the one way in which this clock goes back, for resetting a demonstration."""
        with self._lock:
            self._base_s, self._base_monotonic_s = virtual_s, self._monotonic()
            self._wait_at_s = float("inf")

    def anchor(self) -> ClockAnchor:
        """Now in virtual and in wall time, for the clock row that every reader uses."""
        with self._lock:
            return ClockAnchor(self._now_s(), self._wall(), self._speed, self._paused)

    def real_seconds_until(self, virtual_s: float) -> float | None:
        """Real seconds until now is `virtual_s`; 0 when it has passed, None while paused: unknown."""
        with self._lock:
            ahead_s = virtual_s - self._now_s()
            if ahead_s <= 0:
                return 0.0
            return None if self._paused else ahead_s / self._speed

    def _now_s(self) -> float:
        if self._paused:
            return self._base_s
        runs_s = self._base_s + (self._monotonic() - self._base_monotonic_s) * self._speed
        return max(self._base_s, min(runs_s, self._wait_at_s))

    def _rebase(self) -> None:
        self._base_s, self._base_monotonic_s = self._now_s(), self._monotonic()


class SteppedClock:
    """A clock that moves only when told to: for replays, which run as fast as they can, and for tests."""

    def __init__(self, start_s: float) -> None:
        self._now_s = start_s

    def now_s(self) -> float:
        """Epoch seconds, UTC."""
        return self._now_s

    def advance_to(self, now_s: float) -> None:
        """Moves to `now_s`. ValueError when that lies in the past."""
        if now_s < self._now_s:
            raise ValueError(f"time does not go back: {now_s} is before {self._now_s}")
        self._now_s = now_s


def _checked(speed: float) -> float:
    if not 0 < speed < float("inf"):
        raise ValueError(f"a clock's speed must be above 0, not {speed}")
    return speed
