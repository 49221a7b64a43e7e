"""Recorded traffic and recorded spot capacity, read whole from files.

Shapes (CSV, or CSV.gz):

* requests: `arrived_at` (ISO 8601 with a zone), `tenant`, `exec_seconds` on the reference GPU; `task`, `status` and
  any other column may be missing or empty;
* availability: `zone, gpu, gap_seconds, ticks, changes`, the last "tick:value tick:value …";
* load times: `load_ms` (or `value`, as the source trace calls it), milliseconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd

from controller.core.types import FloatArray
from controller.sources.base import AvailabilitySeries, InputError, IntArray, RequestTrace, quoted
from controller.sources.tables import Check, Table, numbers, read_table
from controller.sources.times import microseconds

MAX_WORK_S: Final = 30 * 86_400.0
"""No request runs for a month: such a number is in another unit."""

LOAD_COLUMN: Final = "load_ms"
SOURCE_LOAD_COLUMN: Final = "value"
AVAILABILITY_COLUMNS: Final = ("zone", "gpu", "gap_seconds", "ticks", "changes")

_EXECUTED: Final = frozenset({"", "succeed", "succeeded", "success"})


@dataclass(frozen=True, slots=True)
class RequestColumns:
    """What a request log calls its columns, and how it writes times and durations."""

    arrived_at: str = "arrived_at"
    tenant: str = "tenant"
    duration: str = "exec_seconds"
    task: str = "task"
    status: str = "status"
    units_per_second: float = 1.0
    naive_zone: ZoneInfo | None = None
    epoch: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class RequestRows:
    """Every row of a request log, in order of arrival. arrived_us: int64[n]. work_s: float64[n], 0: never executed."""

    arrived_us: IntArray
    work_s: FloatArray
    tenant: npt.NDArray[np.object_]
    task: npt.NDArray[np.object_]
    status: npt.NDArray[np.object_]
    source: str
    executed: npt.NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "executed", self.work_s > 0)

    def trace(self) -> RequestTrace:
        """The executed rows as a trace; tenants in order of their first request."""
        codes, tenants = pd.factorize(self.tenant[self.executed])
        return RequestTrace(
            arrived_s=self.arrived_us[self.executed] / 1e6,
            work_s=self.work_s[self.executed],
            tenant=codes.astype(np.int32),
            tenants=tuple(str(name) for name in tenants),
            skipped=int((~self.executed).sum()),
            source=self.source,
        )


def read_requests(path: str | Path) -> RequestTrace:
    """The requests of a trace file. Raises InputError; see `read_request_rows`."""
    return read_request_rows(path).trace()


def read_request_rows(path: str | Path, columns: RequestColumns | None = None) -> RequestRows:
    """The rows of a request log, sorted by time (rows of the same time stay in their order).

    A row was never executed when its duration is 0, or is blank while its status says anything but success. Raises
    InputError for what `read_table` refuses, for a time that can't be read or has no zone, no tenant, a duration that
    is negative, no finite number, above MAX_WORK_S, or blank in a row that was executed; and when no row was executed.
    """
    names = columns or RequestColumns()
    table = read_table(path, (names.arrived_at, names.tenant, names.duration), (names.task, names.status))
    blank = [""] * len(table)
    tenant, duration = table.columns[names.tenant], table.columns[names.duration]
    task, status = table.columns.get(names.task, blank), table.columns.get(names.status, blank)
    arrived_us, time_checks = microseconds(
        table.columns[names.arrived_at], names.arrived_at, names.naive_zone, names.epoch
    )
    work_s = numbers(duration) / names.units_per_second
    unstated = np.array([not cell for cell in duration], dtype=bool)
    never = np.array([word.lower() not in _EXECUTED for word in status], dtype=bool) & unstated
    work_s[never] = 0.0
    no_tenant = np.array([not name for name in tenant], dtype=bool)
    checks: list[Check] = [
        *time_checks,
        (no_tenant, names.tenant, lambda at: ("there is no tenant", "name one in every row")),
        *_duration_checks(work_s, unstated & ~never, duration, names.duration),
    ]
    table.refuse(checks)
    if not work_s.any():
        raise table.error(0, names.duration, "no row of the file was executed", "give a log with durations above 0")
    order = np.argsort(arrived_us, kind="stable")
    return RequestRows(
        arrived_us[order],
        work_s[order],
        _objects(tenant)[order],
        _objects(task)[order],
        _objects(status)[order],
        table.file,
    )


def _duration_checks(
    work_s: FloatArray, missing: npt.NDArray[np.bool_], cells: Sequence[str], column: str
) -> list[Check]:
    unreadable = ~missing & ~np.isfinite(work_s)
    absurd = np.isfinite(work_s) & (work_s > MAX_WORK_S)
    in_seconds = "write its execution time in seconds"
    return [
        (missing, column, lambda at: ("the duration is missing", f"{in_seconds}, or 0 if it was never executed")),
        (unreadable, column, lambda at: (f"the duration {quoted(cells[at])} is no finite number", in_seconds)),
        (work_s < 0, column, lambda at: (f"the duration {quoted(cells[at])} is negative", in_seconds)),
        (absurd, column, lambda at: (f"the duration {quoted(cells[at])} is more than 30 days", "check its unit")),
    ]


def _objects(cells: Sequence[str]) -> npt.NDArray[np.object_]:
    return np.array(cells, dtype=object)


def read_load_times(path: str | Path, column: str | None = None, units_per_second: float = 1000.0) -> FloatArray:
    """float64[n] seconds > 0 that a model took to load, in the order of the file. Raises InputError.

    `column` None: `load_ms`, or else `value`.
    """
    table = read_table(path, (column,)) if column else read_table(path, (), (LOAD_COLUMN, SOURCE_LOAD_COLUMN))
    if not table.columns:
        problem, remedy = "the column is missing", f"name the column of load times {LOAD_COLUMN}, in milliseconds"
        raise InputError(table.file, 1, LOAD_COLUMN, problem, remedy)
    column = next(iter(table.columns))
    cells = table.columns[column]
    load_s = numbers(cells) / units_per_second
    bad = ~((load_s > 0) & (load_s <= 86_400.0))
    remedy = "write a duration above 0 and up to a day"
    table.refuse([(bad, column, lambda at: (f"the load time {quoted(cells[at])} can't be used", remedy))])
    return load_s


def read_availability(path: str | Path) -> dict[str, AvailabilitySeries]:
    """The series of each zone, in the order of the file. Raises InputError, also for a zone given twice."""
    table = read_table(path, AVAILABILITY_COLUMNS)
    found: dict[str, AvailabilitySeries] = {}
    for index in range(len(table)):
        series = _availability(table, index)
        if series.zone in found:
            raise table.error(index, "zone", f"{quoted(series.zone)} has a series already", "give each zone one series")
        found[series.zone] = series
    return found


def _availability(table: Table, index: int) -> AvailabilitySeries:
    cell = {name: cells[index] for name, cells in table.columns.items()}
    if not cell["zone"]:
        raise table.error(index, "zone", "there is no zone", "name the zone of the series")
    gap_s = numbers([cell["gap_seconds"]])[0]
    if not (gap_s > 0 and np.isfinite(gap_s)):
        problem = f"{quoted(cell['gap_seconds'])} is no time between ticks"
        raise table.error(index, "gap_seconds", problem, "write seconds above 0")
    if not (cell["ticks"].isascii() and cell["ticks"].isdigit() and 0 < int(cell["ticks"][:10]) < 10**9):
        problem = f"{quoted(cell['ticks'])} is no number of ticks"
        raise table.error(index, "ticks", problem, "write a whole number from 1")
    ticks = int(cell["ticks"])
    change_tick, value = list[int](), list[int]()
    for word in cell["changes"].split():
        tick, _, amount = word.partition(":")
        if not (word.isascii() and tick.isdigit() and amount.isdigit() and len(word) <= 24):
            raise table.error(index, "changes", f"{quoted(word)} is not tick:value", "write changes as 0:1 52:0 58:1")
        if change_tick and int(tick) <= change_tick[-1]:
            problem = f"tick {tick} does not come after {change_tick[-1]}"
            raise table.error(index, "changes", problem, "give the changes in order, one a tick")
        change_tick.append(int(tick))
        value.append(int(amount))
    if not change_tick or change_tick[0] != 0:
        raise table.error(index, "changes", "there is no value at tick 0", "start with 0:value")
    if change_tick[-1] >= ticks:
        raise table.error(index, "changes", f"tick {change_tick[-1]} is past the {ticks} ticks", "raise ticks")
    return AvailabilitySeries(
        zone=cell["zone"],
        gpu=cell["gpu"],
        gap_s=float(gap_s),
        ticks=ticks,
        change_tick=np.array(change_tick, dtype=np.int64),
        value=np.array(value, dtype=np.int64),
        binary=max(value) <= 1,
    )


def parse_zone_map(text: str, known: Mapping[str, AvailabilitySeries] | None = None) -> dict[str, str]:
    """{zone of the offers: zone of the series} of "usw2-az1=us-west-2a,usw2-az2=us-west-2b"; blank: nothing is mapped.

    Raises InputError for another form, a zone mapped twice, and, when `known` is given, a series that it lacks.
    """
    found: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        ours, equals, theirs = (word.strip() for word in pair.partition("="))
        if not (ours and equals and theirs) or "=" in theirs:
            remedy = "write offer zone=series zone, as in usw2-az1=us-west-2a"
            raise InputError("--spot-zones", None, None, f"{quoted(pair)} is no mapping", remedy)
        if ours in found:
            raise InputError("--spot-zones", None, None, f"{quoted(ours)} is mapped twice", "map each zone once")
        if known is not None and theirs not in known:
            remedy = f"use one of {', '.join(known)}"
            raise InputError("--spot-zones", None, None, f"there is no series for {quoted(theirs)}", remedy)
        found[ours] = theirs
    return found
