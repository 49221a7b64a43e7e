"""The dashboard's only clock: the wall's time, and the controller's "now" derived from it."""

from datetime import UTC, datetime, timedelta


def wall_now() -> datetime:
    """The wall clock, aware UTC."""
    return datetime.now(UTC)


def virtual_now(virtual_at: datetime, wall_at: datetime, speed: float, paused: bool, wall: datetime) -> datetime:
    """The controller's now at `wall`: `virtual_at` + the wall time since × speed, standing still while paused.

    A `wall` before `wall_at` (two machines' clocks apart) gives `virtual_at`, never a time before it.
    """
    if paused:
        return virtual_at
    return virtual_at + timedelta(seconds=max(0.0, (wall - wall_at).total_seconds()) * speed)
