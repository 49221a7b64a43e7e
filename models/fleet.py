"""What the fleet is made of, as observed; who may act on it; and the controller's own pulse."""

from datetime import datetime

from sqlmodel import Field, SQLModel


class ReplicaRow(SQLModel, table=True):
    __tablename__ = "replica"
    id: str = Field(primary_key=True)
    service: str = Field(index=True)
    offer_id: str
    market: str
    state: str = Field(index=True)
    requested_at: datetime
    ready_at: datetime | None = None
    gone_at: datetime | None = None
    ended_at: datetime | None = Field(default=None, index=True)
    busy: bool = False
    price_usd_per_hour: float | None = None
    cost_usd: float | None = None


class ControllerLease(SQLModel, table=True):
    """One row: who controls this database. `epoch` grows at each change of holder and fences every write. Wall time."""

    __tablename__ = "controller_lease"
    id: int = Field(default=1, primary_key=True)
    holder: str
    host: str
    pid: int
    epoch: int
    acquired_at: datetime
    renewed_at: datetime
    released: bool = False


class ClockRow(SQLModel, table=True):
    """One row: what "now" is to everybody who reads. now = virtual_at + (wall - wall_at) × speed, unless paused.

    `repeats` counts how often the trace's last week has begun again.
    """

    __tablename__ = "clock"
    id: int = Field(default=1, primary_key=True)
    kind: str
    virtual_at: datetime
    wall_at: datetime
    speed: float
    paused: bool = False
    repeats: int = 0


class ControllerPulse(SQLModel, table=True):
    """One row, rewritten by every tick: is the controller alive, and does it keep up."""

    __tablename__ = "controller_pulse"
    id: int = Field(default=1, primary_key=True)
    started_at: datetime
    tick_at: datetime | None = None
    tick_wall_at: datetime | None = None
    tick_ms: float | None = None
    ticks: int = 0
    ticks_late: int = 0
    ticks_failed: int = 0
    guard_at: datetime | None = None
    guards: int = 0
    guards_late: int = 0
    telemetry_at: datetime | None = None
    last_error: str = ""
    paused_until: datetime | None = None
    mode: str = "act"
    backend: str = "simulated"
    policy: str = "heddle"
