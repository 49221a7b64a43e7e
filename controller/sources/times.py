"""Instants as files write them, read without guessing: without a zone a time is unknown until somebody names it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd

from controller.sources.base import InputError, IntArray, quoted
from controller.sources.tables import Check, numbers

_CLOCK: Final = r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?"
_NAIVE: Final = rf"{_CLOCK}|\d{{4}}-\d{{2}}-\d{{2}}"
_ZONED: Final = rf"{_CLOCK}(?:Z|[+-]\d{{2}}(?::?\d{{2}})?)"
_1970_US: Final = 0
_1990_US: Final = 631_152_000_000_000
_2200_US: Final = 7_258_118_400_000_000
"""Outside of 1970 to 2200 a time is a placeholder. A number before 1990 is a date like 20240701 or an uptime."""
_UNREADABLE: Final = np.iinfo(np.int64).min
_EPOCH_UNITS: Final = ((1e11, 1e6), (1e14, 1e3), (1e17, 1.0), (np.inf, 1e-3))
"""A number below the limit is in seconds, ms, µs, ns: 1e11 is 1973 in ms and the year 5138 in seconds."""


def zone_named(name: str) -> ZoneInfo:
    """A zone of the IANA database, such as UTC or Europe/Zurich. Raises InputError for any other name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InputError(
            "--time-zone", None, None, f"no time zone is named {quoted(name)}", "write it as UTC or Europe/Zurich"
        ) from None


def flag_time(flag: str, text: str) -> float:
    """A time given on the command line in epoch seconds, UTC where it names no zone. InputError naming the flag."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(flag, None, None, f"{text!r} is no time", "write 2024-11-24T00:00:00Z") from error
    # The flags are documented as UTC, so a time without a zone is read as such; in a file it would be refused.
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def microseconds(
    cells: Sequence[str], column: str, naive_zone: ZoneInfo | None = None, epoch: bool = False
) -> tuple[IntArray, list[Check]]:
    """int64[n] µs since the epoch, and the rules that a cell may break (see `Table.refuse`), as values.

    ISO 8601 with a zone (Z, +01:00). With `naive_zone` a time without one is taken to be in it, never where the clocks
    change and it would be ambiguous. With `epoch` a column of nothing but numbers counts from the epoch, in seconds,
    ms, µs or ns, told apart by their size, and lies between 1990 and 2200.
    """
    if epoch:
        counted = numbers(cells)
        if np.isfinite(counted).all():
            size = float(np.median(np.abs(counted)))
            per_unit = next(factor for limit, factor in _EPOCH_UNITS if size < limit)
            found = np.rint(np.clip(counted * per_unit, -9e18, 9e18)).astype(np.int64)
            return found, [_outside(found, cells, column, 1990, _1990_US)]
    text = pd.Series(cells, dtype="str")
    naive = np.asarray(text.str.fullmatch(_NAIVE), dtype=bool)
    zoned = np.asarray(text.str.fullmatch(_ZONED), dtype=bool)
    found = np.full(len(text), _UNREADABLE, dtype=np.int64)
    found[zoned] = _as_us(pd.to_datetime(text[zoned], format="ISO8601", utc=True, errors="coerce"))
    if naive_zone is not None and naive.any():
        local = pd.to_datetime(text[naive], format="ISO8601", errors="coerce")
        found[naive] = _as_us(local.dt.tz_localize(naive_zone, ambiguous="NaT", nonexistent="NaT"))
    unreadable = found == _UNREADABLE
    checks: list[Check] = []
    if naive_zone is None:
        checks.append((naive, column, lambda at: _naive(cells[at])))
    else:
        checks.append((naive & unreadable, column, lambda at: _no_such_local(cells[at], naive_zone)))
    checks.append((unreadable & ~naive, column, lambda at: _not_a_time(cells[at])))
    checks.append(_outside(found, cells, column, 1970, _1970_US))
    return found, checks


def _as_us(times: "pd.Series[pd.Timestamp]") -> IntArray:
    utc = times.dt.tz_convert("UTC").dt.tz_localize(None)
    return utc.to_numpy(dtype="datetime64[us]").astype(np.int64)  # NaT is the smallest int64, as _UNREADABLE


def _naive(cell: str) -> tuple[str, str]:
    problem = f"the time {quoted(cell)} has no zone"
    return problem, "write Z after a time in UTC, or import the file with --time-zone"


def _no_such_local(cell: str, zone: ZoneInfo) -> tuple[str, str]:
    problem = f"the time {quoted(cell)} does not exist, or exists twice, in {zone.key}"
    return problem, "write the time in UTC with a Z"


def _not_a_time(cell: str) -> tuple[str, str]:
    problem = f"the time {quoted(cell)} can't be read" if cell else "the time is missing"
    return problem, "write it as 2024-11-25T06:00:00Z"


def _outside(found: IntArray, cells: Sequence[str], column: str, year: int, first_us: int) -> Check:
    outside = (found != _UNREADABLE) & ((found < first_us) | (found >= _2200_US))
    remedy = "check its unit, or write it as 2024-11-25T06:00:00Z"
    return outside, column, lambda at: (f"the time {quoted(cells[at])} is not between {year} and 2200", remedy)
