"""The one interface through which the controller reaches a cluster, and its error contract.

Two backends implement it (simulated, kubernetes) and one contract suite, `tests/backends/contract.py`, runs against
both.

Error contract
--------------
* `BackendUnavailable`: nothing is known and nothing was done. The tick holds; the next one tries again.
* `InsufficientCapacity`: not raised. It is a result, `ActionStatus.REFUSED` with the zone's word in `detail`: a market
  that is empty is an answer, not a fault.
* `UnknownSubject`: the action names a service, offer, replica or job that the backend does not have. Never retried.
* Anything else that escapes is a defect of the backend and fails the tick, which is recorded.

Every method may be called from several threads; each is atomic.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from controller.core.types import (
    Action,
    ActionResult,
    FloatArray,
    Job,
    LatencyReading,
    QueueReading,
    Replica,
    Sample,
    TierTarget,
)


class BackendUnavailable(Exception):
    """The cluster can't be asked now. Carries what was tried; nothing was changed."""


class UnknownSubject(Exception):
    """The action names something that does not exist here."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the cluster did by itself. `kind`: notice | lost | interrupted | preempted."""

    at_s: float
    kind: str
    service: str
    offer_id: str
    replica_id: str
    detail: str


@dataclass(frozen=True, slots=True)
class HourSpend:
    """Dollars accrued in the clock hour that begins at hour_s, by replicas and by jobs."""

    hour_s: float
    replicas_usd: float
    jobs_usd: float


@dataclass(frozen=True, slots=True)
class ClusterState:
    """What was seen at `at_s`. `gone` holds replicas that ended since the previous state, so that none is missed.

    `hours`: the clock hour of at_s last, the one before it first (absent where nothing was billed in it).
    """

    at_s: float
    replicas: tuple[Replica, ...]
    gone: tuple[Replica, ...]
    jobs: tuple[Job, ...]
    notices: tuple[Notice, ...]
    hours: tuple[HourSpend, ...]


class Backend(Protocol):
    """A cluster that runs replicas of services and batch jobs."""

    name: str

    def advance(self, now_s: float) -> None:
        """Let time pass up to now_s. A real cluster needs no help and does nothing; time never goes back."""

    def state(self) -> ClusterState:
        """Observed state. Reading twice without `advance` gives the same replicas and an empty `gone` and `notices`.

        Raises BackendUnavailable.
        """

    def apply(self, action: Action) -> ActionResult:
        """Do an action once. The same `action.id` again returns the first result and changes nothing.

        ACCEPTED means asked for; CONFIRMED only when the effect can already be seen; REFUSED says why in `detail`.
        Raises BackendUnavailable (not done) and UnknownSubject.
        """

    def degrade(self, service: str, speed_factors: Mapping[str, float]) -> None:
        """Serve these tiers so many times as fast from now on, by the variants that the service declares; the others as
        usual. Where a gateway follows the plan by the API itself, this does nothing.
        """

    def save(self) -> None:
        """Make what `apply` did survive a restart. A real cluster remembers by itself and does nothing."""


class Telemetry(Protocol):
    """Where demand and latency are read. The simulated backend serves it too; Prometheus is the other."""

    def samples(self, service: str, since_s: float, until_s: float) -> tuple[Sample, ...]:
        """Whole minutes in [since_s, until_s), every tier, zero arrivals included; a minute not measured is absent.

        Raises BackendUnavailable.
        """

    def queues(self, service: str) -> tuple[QueueReading, ...]:
        """What waits and runs now, one reading a tier. Raises BackendUnavailable."""

    def activity(self, service: str, since_s: float, until_s: float) -> tuple[float, FloatArray] | None:
        """What tenants did in the whole bins of [since_s, until_s) (see `core.activity`): the start of the first bin,
        and channels a tier, shape (channels, tiers, bins). None: tenants are not told apart here, or nothing was
        measured. Raises BackendUnavailable.
        """

    def latency(self, service: str, target: TierTarget) -> LatencyReading:
        """The target's statistic over its window, ending now. Raises BackendUnavailable."""

    def telemetry_s(self, service: str) -> float | None:
        """When the newest telemetry was measured; None: never."""
