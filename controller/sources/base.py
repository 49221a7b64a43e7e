"""What the sources hand on: frozen values without a file handle, and the one error of a file that can't be used.

Times are seconds since the Unix epoch, UTC, unless a docstring counts them from elsewhere; durations are seconds.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from controller.core.types import FloatArray, TierTarget

IntArray = npt.NDArray[np.int64]

UNLIMITED: Final = -1
"""A capacity in arrays: any number can be held."""

_TICK_TOLERANCE: Final = 1e-6
"""In ticks: an epoch time in a float is exact to 0.2 µs, so that origin + k·gap may fall a hair before tick k."""


class InputError(Exception):
    """A file that can't be used, in one line: which file, row (1-based line) and column, what is wrong, what to do.

    `row` and `column` are None where there is none, as for a missing file. Nothing of the file was taken over.
    """

    def __init__(self, file: str, row: int | None, column: str | None, problem: str, remedy: str) -> None:
        super().__init__(file, row, column, problem, remedy)
        self.file = file
        self.row = row
        self.column = column
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        where = [self.file]
        place = [] if self.row is None else [f"row {self.row}"]
        place += [] if self.column is None else [f"column {self.column}"]
        if place:
            where.append(", ".join(place))
        text = f"{': '.join(where)}: {self.problem}; {self.remedy}"
        return " ".join(text.split())  # whatever a name or a cell held, it stays one line


def quoted(cell: str) -> str:
    """A cell as shown in an error: its control characters visible, never longer than 40 characters."""
    return repr(cell if len(cell) <= 40 else cell[:39] + "…")


@dataclass(frozen=True, slots=True, eq=False)
class RequestTrace:
    """Requests that were executed, in order of arrival.

    arrived_s: float64[n], non-decreasing. work_s: float64[n] > 0, execution seconds on the reference GPU. tenant:
    int32[n], an index into `tenants`. `skipped`: rows of the whole file that were never executed (a window keeps the
    file's number). Raises ValueError when the arrays don't fit together.
    """

    arrived_s: FloatArray
    work_s: FloatArray
    tenant: npt.NDArray[np.int32]
    tenants: tuple[str, ...]
    skipped: int
    source: str

    def __post_init__(self) -> None:
        if not len(self.arrived_s) == len(self.work_s) == len(self.tenant):
            raise ValueError("arrived_s, work_s and tenant must have one value a request")
        if len(self.arrived_s) and bool((np.diff(self.arrived_s) < 0).any()):
            raise ValueError("arrived_s must be sorted")

    def __len__(self) -> int:
        return len(self.arrived_s)

    def window(self, from_s: float, to_s: float) -> "RequestTrace":
        """The requests that arrived in [from_s, to_s), with the same tenant codes."""
        first, last = np.searchsorted(self.arrived_s, (from_s, to_s), side="left")
        cut = slice(int(first), max(int(first), int(last)))
        return RequestTrace(
            self.arrived_s[cut], self.work_s[cut], self.tenant[cut], self.tenants, self.skipped, self.source
        )

    def tier_index(self, tiers: tuple[TierTarget, ...], salt: str) -> npt.NDArray[np.int8]:
        """int8[n]: for each request the index into `tiers` of its tenant's tier, as `tier_of_tenant` says."""
        of_tenant = np.array([tier_of_tenant(name, tiers, salt) for name in self.tenants], dtype=np.int8)
        return of_tenant[self.tenant]


def tier_of_tenant(tenant: str, tiers: Sequence[TierTarget], salt: str) -> int:
    """The index of a tenant's tier: SHA-256 of salt + tenant, modulo 100, against the shares in the order given.

    Raises ValueError when the shares don't sum to 100.
    """
    edges = np.cumsum([tier.tenants_percent for tier in tiers])
    if not len(edges) or abs(edges[-1] - 100.0) > 1e-6:
        raise ValueError("the tiers' tenants_percent must sum to 100")
    bucket = int(hashlib.sha256((salt + tenant).encode()).hexdigest(), 16) % 100
    # A cumulative share is a sum of floats: what comes out a hair above 20 must not take bucket 20 as well.
    return int(np.searchsorted(edges - 1e-9, bucket, side="right"))


@dataclass(frozen=True, slots=True, eq=False)
class AvailabilitySeries:
    """How many spot instances could be had in a zone, one value a tick of `gap_s` seconds, run-length encoded.

    change_tick: int64[m], ascending, the first 0. value: int64[m], what holds from that tick on. The series has `ticks`
    ticks and repeats past its end (and before its start). `binary`: all its values are 0 or 1, and then 1 means any
    number. Methods take a time `t_s` in which tick `offset_ticks` begins at `origin_s`.
    """

    zone: str
    gpu: str
    gap_s: float
    ticks: int
    change_tick: IntArray
    value: IntArray
    binary: bool

    @property
    def period_s(self) -> float:
        """Seconds after which the series repeats."""
        return self.gap_s * self.ticks

    def tick_at(self, t_s: float, offset_ticks: int = 0, origin_s: float = 0.0) -> int:
        """The tick that contains t_s, not yet folded into the series."""
        return math.floor((t_s - origin_s) / self.gap_s + _TICK_TOLERANCE) + offset_ticks

    def value_at(self, tick: int) -> int:
        """The value as recorded at a tick, any integer: the series repeats."""
        run = int(np.searchsorted(self.change_tick, tick % self.ticks, side="right")) - 1
        return int(self.value[run])

    def capacity_at(self, t_s: float, offset_ticks: int = 0, origin_s: float = 0.0) -> int | None:
        """How many instances can be held at t_s; None: any number."""
        value = self.value_at(self.tick_at(t_s, offset_ticks, origin_s))
        return None if self.binary and value == 1 else value

    def next_change_after(self, t_s: float, offset_ticks: int = 0, origin_s: float = 0.0) -> float:
        """When the capacity next differs from that at t_s; infinity when it never does."""
        times, _ = self.changes_between(t_s, t_s + self.period_s + 2 * self.gap_s, offset_ticks, origin_s)
        return float(times[1]) if len(times) > 1 else math.inf

    def changes_between(
        self, start_s: float, end_s: float, offset_ticks: int = 0, origin_s: float = 0.0
    ) -> tuple[FloatArray, IntArray]:
        """(times float64[k], capacity int64[k]): the first at start_s, then every change in (start_s, end_s).

        A capacity holds until the next time; two neighbours always differ; UNLIMITED (-1) stands for any number.
        """
        first = self.tick_at(start_s, offset_ticks, origin_s)
        last = math.ceil((end_s - origin_s) / self.gap_s - _TICK_TOLERANCE) + offset_ticks - 1
        rounds = np.arange(first // self.ticks, max(first, last) // self.ticks + 1, dtype=np.int64)
        tick = (rounds[:, None] * self.ticks + self.change_tick[None, :]).ravel()
        value = np.tile(self.value, len(rounds))
        inside = (tick > first) & (tick <= last)
        times = origin_s + (tick[inside] - offset_ticks) * self.gap_s
        times = np.concatenate((np.array([start_s]), times), dtype=np.float64)
        value = np.concatenate((np.array([self.value_at(first)]), value[inside]), dtype=np.int64)
        differs = np.concatenate((np.array([True]), value[1:] != value[:-1]))
        times, value = times[differs], value[differs]
        if self.binary:
            value[value == 1] = UNLIMITED
        return times, value
