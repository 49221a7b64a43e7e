"""Points of an outside signal, as somebody hands them over: judged before any is kept.

A point is a time (epoch seconds, UTC) and a number. The limits are here, for the API, the dashboard and the import.
"""

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from controller.core.forecast.signals import ABSURD

KEPT_S: Final = 60 * 86400.0
"""Values older than this are not kept."""
FARTHEST_S: Final = 400 * 86400.0
"""How far ahead a signal that is known ahead may reach."""
CLOCK_SLACK_S: Final = 300.0
"""A sender's clock may be ahead of ours by so much."""
MOST_PUSHED: Final = 5_000
MOST_UPLOADED: Final = 50_000
MOST_SIGNALS: Final = 20
LONGEST_STALE_S: Final = 30 * 86400.0
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class BadPoint(ValueError):
    """A point that can't be kept: its place in the sequence (0 is the first), the column, what is wrong, what to do."""

    index: int
    column: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}"


class BadFile(ValueError):
    """A file of points that can't be used, in one line: file, row (1-based line), column, what is wrong, what to do."""

    def __init__(self, file: str, row: int | None, column: str | None, problem: str, remedy: str) -> None:
        place = ", ".join([*([f"row {row}"] if row else []), *([f"column {column}"] if column else [])])
        where = f"{file}: {place}" if place else file
        super().__init__(" ".join(f"{where}: {problem}; {remedy}".split()))
        self.file, self.row, self.column, self.problem, self.remedy = file, row, column, problem, remedy


def checked(points: Sequence[tuple[float, float]], now_s: float, known_ahead: bool) -> Points:
    """The points in order of time, one a time (the later in the sequence counts), those older than KEPT_S left out.

    Raises BadPoint for a time or value that is not finite, a value beyond ABSURD, a time past what can be known at
    now_s, and where nothing is left. Order and repetition don't matter: the same points give the same result.
    """
    kept: dict[float, float] = {}
    latest_s = now_s + (FARTHEST_S if known_ahead else CLOCK_SLACK_S)
    for index, (at_s, value) in enumerate(points):
        if not math.isfinite(at_s) or at_s < 0:
            raise BadPoint(index, "at", "the time is not a number of seconds since 1970", "write it as ISO 8601")
        if not math.isfinite(value):
            raise BadPoint(index, "value", "the value is not a finite number", "leave out what is not known")
        if abs(value) >= ABSURD:
            raise BadPoint(index, "value", f"the value {value:.3g} is absurd", "check its unit")
        if at_s > latest_s:
            remedy = "check the time and its zone" if known_ahead else "check the clock, or say that it is known ahead"
            raise BadPoint(index, "at", f"the time is {(at_s - now_s) / 3600:,.1f} h ahead of now", remedy)
        if at_s > now_s - KEPT_S:
            kept[at_s] = value
    if not kept:
        days = round(KEPT_S / 86400)
        if not points:
            raise BadPoint(0, "at", "there is no point", "send one at least")
        raise BadPoint(0, "at", f"no point is of the last {days} days", "send newer")
    return tuple(sorted(kept.items()))


def points_of(text: str, file: str, most: int = MOST_UPLOADED) -> Points:
    """The points of a CSV with the columns `at` (ISO 8601 with its zone) and `value`, as they stand in it. A blank
    value is not known and is passed over. Raises BadFile, naming the place."""
    rows = csv.reader(io.StringIO(text.lstrip("\ufeff")), strict=True)
    try:
        header = [name.strip().lower() for name in next(rows, [])]
        for column in ("at", "value"):
            if header.count(column) != 1:
                found = ", ".join(header[:12]) or "nothing"
                problem = "more than one column has" if column in header else "no column has"
                remedy = f"name the column of {'times' if column == 'at' else 'values'} {column}"
                raise BadFile(file, 1, column, f"{problem} this name; the header has {found}", remedy)
        at, value = header.index("at"), header.index("value")
        found_points: list[tuple[float, float]] = []
        for row in rows:
            line = rows.line_num
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                problem = f"the row has {len(row)} of {len(header)} columns"
                raise BadFile(file, line, header[min(len(row), len(header) - 1)], problem, "write every column")
            if row[value].strip():
                found_points.append((_time(file, line, row[at].strip()), _number(file, line, row[value].strip())))
            if len(found_points) > most:
                raise BadFile(file, line, None, f"there are over {most:,} values", "upload it in parts")
    except csv.Error as error:
        raise BadFile(file, rows.line_num, None, f"the row is not CSV ({error})", "check its quotes") from None
    if not found_points:
        raise BadFile(file, 1, "value", "there is no value", "check how the file was written")
    return tuple(found_points)


def _time(file: str, row: int, cell: str) -> float:
    try:
        at = datetime.fromisoformat(cell)
    except ValueError:
        raise BadFile(
            file, row, "at", f"the time {cell[:40]!r} can't be read", "write it as 2024-11-25T06:00:00Z"
        ) from None
    if at.tzinfo is None:
        raise BadFile(file, row, "at", f"the time {cell[:40]!r} has no zone", "write Z after a time in UTC")
    return at.timestamp()


def _number(file: str, row: int, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or "_" in cell:
        raise BadFile(file, row, "value", f"{cell[:40]!r} is no finite number", "leave blank what is not known")
    return value
