"""A CSV or CSV.gz file as columns of text: whole and rectangular, or an `InputError` that names the place.

Only the form is judged here. What a cell means is the business of the source that asked for the column.
"""

import csv
import io
import math
import zlib
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from controller.core.types import FloatArray
from controller.sources.base import InputError, quoted

_GZIP_MAGIC: Final = b"\x1f\x8b"
_CHUNK_BYTES: Final = 1 << 20
_FETCH_AGAIN: Final = "fetch or write the file again"

Check = tuple[npt.NDArray[np.bool_], str, Callable[[int], tuple[str, str]]]
"""Where a rule is broken (bool[n]), the column it is about, and its problem and remedy for a row's index."""


@dataclass(frozen=True, slots=True)
class Table:
    """Cells by column name, stripped, row by row; `lines[i]` is the 1-based line of the file on which row i starts."""

    file: str
    columns: Mapping[str, list[str]]
    lines: Sequence[int]

    def __len__(self) -> int:
        return len(self.lines)

    def error(self, index: int, column: str, problem: str, remedy: str) -> InputError:
        """The error of one cell."""
        return InputError(self.file, self.lines[index], column, problem, remedy)

    def refuse(self, checks: Sequence[Check]) -> None:
        """Raises the InputError of the first row that breaks a rule; of several in that row, the first as given."""
        broken = [(int(np.argmax(mask)), order) for order, (mask, _, _) in enumerate(checks) if mask.any()]
        if broken:
            index, order = min(broken)
            _, column, describe = checks[order]
            raise self.error(index, column, *describe(index))


def read_table(path: str | Path, required: Sequence[str], optional: Sequence[str] = ()) -> Table:
    """The named columns of a file; an optional one that the file lacks is absent. Blank lines are passed over.

    Raises InputError: no such file, a folder, empty, a truncated or damaged gzip, not UTF-8, a column missing or named
    twice, a row that is too short or too long, a quote that never closes, no rows.
    """
    file, names = str(path), (*required, *optional)
    raw = _read_bytes(file, names)
    _check_text(file, raw, names)
    shared: dict[str, str] = {}  # a tenant's name is kept once, not once a row
    lines, cells = array("q"), list[list[str]]()
    rows = csv.reader(io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8-sig"), strict=True)
    start = 1
    try:
        header = [name.strip() for name in next(rows, [])]
        _check_header(file, header, required, optional)
        wanted = [name for name in names if name in header]
        picks = [(header.index(name), list[str]()) for name in wanted]
        cells = [column for _, column in picks]
        width, start = len(header), rows.line_num + 1
        for row in rows:
            if len(row) == width:
                for position, column in picks:
                    cell = row[position].strip()
                    column.append(shared.setdefault(cell, cell))
                lines.append(start)
            elif row:
                raise _ragged(file, start, row, header)
            start = rows.line_num + 1
    except csv.Error as error:
        raise InputError(file, start, names[0], f"the row is not CSV ({error})", "check its quotes") from None
    if not lines:
        raise InputError(file, start, names[0], "the file has a header and no rows", "check how it was written")
    return Table(file, dict(zip(wanted, cells, strict=True)), lines)


def numbers(cells: Sequence[str]) -> FloatArray:
    """float64[n] of cells; NaN where a cell is blank or no number. Plain decimal notation; 1_000 is no number."""
    try:
        values = np.array([float(cell) for cell in cells], dtype=np.float64)
    except ValueError:
        values = np.array([_number(cell) for cell in cells], dtype=np.float64)
    values[[index for index, cell in enumerate(cells) if "_" in cell]] = np.nan
    return values


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _read_bytes(file: str, names: Sequence[str]) -> bytes:
    try:
        raw = Path(file).read_bytes()
    except FileNotFoundError:
        raise InputError(file, None, None, "there is no such file", "check the path") from None
    except IsADirectoryError:
        raise InputError(file, None, None, "this is a folder", "name a file in it") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(file, None, None, f"can't be read ({reason})", "check the path and its permissions") from None
    if raw.startswith(_GZIP_MAGIC):
        raw = _gunzip(file, raw, names)
    elif file.endswith(".gz") and raw:
        problem = "the name ends in .gz but the content is not gzip"
        raise InputError(file, 1, names[0], problem, "drop .gz from the name, or compress the file")
    if not raw.strip():
        raise InputError(file, 1, names[0], "the file is empty", f"it needs a header with {', '.join(names)}")
    return raw


def _gunzip(file: str, raw: bytes, names: Sequence[str]) -> bytes:
    """All members of a gzip, up to the zeros that some tools pad with."""
    parts: list[bytes] = []

    def broken(problem: str) -> InputError:
        row, column = _place(b"".join(parts), names)
        return InputError(file, row, column, problem, _FETCH_AGAIN)

    while raw.strip(b"\0"):
        stream = zlib.decompressobj(wbits=31)
        try:
            for at in range(0, len(raw), _CHUNK_BYTES):
                parts.append(stream.decompress(raw[at : at + _CHUNK_BYTES]))
                if stream.eof:
                    raw = stream.unused_data + raw[at + _CHUNK_BYTES :]
                    break
        except zlib.error as error:
            raise broken(f"the gzip is damaged ({error})") from None
        if not stream.eof:
            raise broken("the gzip is truncated: it ends here, before its end mark")
    return b"".join(parts)


def _check_text(file: str, raw: bytes, names: Sequence[str]) -> None:
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        row, column = _place(raw[: error.start], names)
        raise InputError(file, row, column, f"byte {raw[error.start]:#04x} is not UTF-8", "save it as UTF-8") from None
    if b"\0" in raw:
        row, column = _place(raw[: raw.index(b"\0")], names)
        raise InputError(file, row, column, "a zero byte: this is no text file", "save it as CSV in UTF-8")


def _place(before: bytes, names: Sequence[str]) -> tuple[int, str]:
    """The line, and the name of the column, in which these bytes end."""
    text = before.decode("utf-8-sig", errors="replace")
    lines = text.split("\n")
    header = lines[0].split(",") if len(lines) > 1 else list(names)
    return len(lines), header[min(lines[-1].count(","), len(header) - 1)].strip().strip('"')


def _check_header(file: str, header: list[str], required: Sequence[str], optional: Sequence[str]) -> None:
    missing = [name for name in required if name not in header]
    if missing:
        found = ", ".join(quoted(name) for name in header[:12])
        problem = f"the column{'s are' if len(missing) > 1 else ' is'} missing; the header has {found}"
        remedy = "rename it in the header, or say which one it is to `python -m controller import`"
        raise InputError(file, 1, ", ".join(missing), problem, remedy)
    for name in (*required, *optional):
        if header.count(name) > 1:
            raise InputError(file, 1, name, "the header names this column twice", "rename or remove one of them")


def _ragged(file: str, line: int, row: list[str], header: list[str]) -> InputError:
    problem = f"the row has {len(row)} of {len(header)} columns"
    if len(row) > len(header):
        return InputError(file, line, header[-1], problem, "quote a cell that holds a comma")
    return InputError(file, line, header[len(row)], problem, f"write every column; if the file was cut, {_FETCH_AGAIN}")
