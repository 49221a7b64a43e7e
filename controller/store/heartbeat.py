"""The rows that say "I am alive" and "it is this late": one pulse, one clock."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict, Unpack

from controller.store.convert import moment, moment_or_none, seconds
from controller.store.transactions import Transactions
from models.fleet import ClockRow, ControllerPulse


class PulseFields(TypedDict, total=False):
    """What a beat may say. Times in epoch seconds; `*_wall_s` is wall time, and the others are the clock's."""

    started_s: float
    tick_s: float | None
    tick_wall_s: float | None
    tick_ms: float | None
    ticks: int
    ticks_late: int
    ticks_failed: int
    guard_s: float | None
    guards: int
    guards_late: int
    telemetry_s: float | None
    last_error: str
    paused_until_s: float | None
    mode: str
    backend: str
    policy: str


@dataclass(frozen=True, slots=True)
class ClockReading:
    """now = virtual_s + (wall - wall_s) × speed, unless paused."""

    kind: str
    virtual_s: float
    wall_s: float
    speed: float
    paused: bool
    repeats: int


_COLUMNS = {
    "started_s": "started_at",
    "tick_s": "tick_at",
    "tick_wall_s": "tick_wall_at",
    "guard_s": "guard_at",
    "telemetry_s": "telemetry_at",
    "paused_until_s": "paused_until",
}


class Heartbeat(Transactions):
    """The tick and the guard both beat; each rewrites what it knows and leaves the rest."""

    _pulse: dict[str, Any] | None = None

    def pulse(self, **fields: Unpack[PulseFields]) -> None:
        """Rewrites the pulse row with these fields. The first beat of a database must say `started_s`."""
        with self._lock:
            row = dict(self._beat())
            for name, value in fields.items():
                column = _COLUMNS.get(name)
                if column is None:
                    row[name] = value
                else:
                    row[column] = moment_or_none(value)  # type: ignore[arg-type]
            if not isinstance(row["started_at"], datetime):
                raise ValueError("the first pulse must say started_s")
            with self._write():
                self._pending.put(ControllerPulse, row)
            self._pulse = row

    def clock(
        self, *, kind: str, virtual_s: float, wall_s: float, speed: float, paused: bool = False, repeats: int = 0
    ) -> None:
        """Writes what "now" is to everybody who reads."""
        row = {
            "id": 1,
            "kind": kind,
            "virtual_at": moment(virtual_s),
            "wall_at": moment(wall_s),
            "speed": speed,
            "paused": paused,
            "repeats": repeats,
        }
        with self._write():
            self._pending.put(ClockRow, row)

    def last_clock(self) -> ClockReading | None:
        """The clock as last written, from which a restart goes on; None on a first start."""
        with self._read() as session:
            row = session.get(ClockRow, 1)
        if row is None:
            return None
        return ClockReading(row.kind, seconds(row.virtual_at), seconds(row.wall_at), row.speed, row.paused, row.repeats)

    def _beat(self) -> dict[str, Any]:
        if self._pulse is None:
            with self._read() as session:
                known = session.get(ControllerPulse, 1)
            blank = {name: field.get_default() for name, field in ControllerPulse.model_fields.items()}
            self._pulse = {**blank, "started_at": None} if known is None else known.model_dump()
        return self._pulse

    def _forget(self) -> None:
        self._pulse = None
        super()._forget()
