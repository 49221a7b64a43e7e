"""`python -m controller import`: a person's own request log, price list or spot series, brought into Heddle's shape.

The input is read whole and judged before anything is written; the output appears complete or not at all. The same
input gives the same bytes (a .gz carries no time and no name), and a file that was imported imports to itself.
"""

import argparse
import csv
import gzip
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from controller.core.types import FloatArray
from controller.signal_import import add_signal_parser, signal_rows
from controller.sources.base import InputError, quoted
from controller.sources.offers import NOT_NEEDED, OFFER_COLUMNS, SERVERLESS_COLUMN, SPEED_COLUMN, offers_of
from controller.sources.tables import Table, read_table
from controller.sources.times import zone_named
from controller.sources.traces import (
    AVAILABILITY_COLUMNS,
    LOAD_COLUMN,
    RequestColumns,
    RequestRows,
    read_availability,
    read_load_times,
    read_request_rows,
)

REQUEST_COLUMNS: Final = ("arrived_at", "tenant", "task", "status", "exec_seconds")

# Columns that a price list may do without, and then the file made of it does, too.
_MAY_LACK: Final = (SERVERLESS_COLUMN, SPEED_COLUMN)
_UNITS_PER_SECOND: Final = {"s": 1.0, "ms": 1000.0}

Rows = Iterable[Sequence[object]]


def add_import_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Adds `import` and its five kinds to a command line; `run_import` carries it out (set as `run`)."""
    parser = subparsers.add_parser(
        "import",
        help="bring a request log, a price list, spot series or a signal into Heddle's shape",
        description="Read a file whole, judge it, and write it in the shape that `replay` and `run` read.",
    )
    kinds = parser.add_subparsers(
        dest="import_kind", required=True, metavar="requests|offers|availability|load-times|signal"
    )

    requests = kinds.add_parser("requests", help="a request log: when, whose, how long")
    requests.add_argument("--time-column", default="arrived_at", help="when a request arrived (%(default)s)")
    requests.add_argument("--tenant-column", default="tenant", help="whose it was (%(default)s)")
    requests.add_argument("--duration-column", default="exec_seconds", help="its execution time (%(default)s)")
    requests.add_argument("--task-column", default="task", help="what it was, where known (%(default)s)")
    requests.add_argument("--status-column", default="status", help="how it ended, where known (%(default)s)")
    requests.add_argument("--duration-unit", choices=("s", "ms"), default="s", help="of the durations (%(default)s)")
    requests.add_argument("--time-zone", help="zone of times that name none, such as UTC or Europe/Zurich")

    offers = kinds.add_parser("offers", help="a price list: one row an instance type and zone")
    offers.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="NAME=THEIRS",
        help="what your list calls a column (repeatable)",
    )
    offers.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="one value for a whole column (repeatable)"
    )

    kinds.add_parser("availability", help="spot capacity by zone, run-length encoded")

    loads = kinds.add_parser("load-times", help="how long a model took to load")
    loads.add_argument("--load-column", help="the column of durations (load_ms, or else value)")
    loads.add_argument("--duration-unit", choices=("s", "ms"), default="ms", help="of the durations (%(default)s)")

    add_signal_parser(kinds)

    for name, kind in kinds.choices.items():
        kind.add_argument("file", metavar="FILE", help="a CSV or CSV.gz")
        kind.add_argument("--out", required=name != "signal", metavar="FILE", help="where to write; .gz compresses")
        kind.add_argument("--force", action="store_true", help="replace the file if it is there")
    parser.set_defaults(run=run_import)
    return parser


def run_import(args: argparse.Namespace) -> int:
    """0 and a paragraph on stdout, or 2 and one line on stderr with nothing written."""
    try:
        if args.out is None and not args.name:
            raise InputError("import signal", None, None, "there is nowhere to bring it", "add --name, --out, or both")
        header, rows, summary = _KINDS[args.import_kind](args)
        if args.out is not None:
            write_rows(Path(args.out), header, rows, force=args.force)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"Wrote {args.out}: {summary}" if args.out is not None else summary)
    return 0


def write_rows(out: Path, header: Sequence[str], rows: Rows, *, force: bool) -> None:
    """Writes a CSV, gzipped when its name ends in .gz: complete or not at all. Raises InputError when it may not."""
    if out.exists() and not force:
        raise InputError(str(out), None, None, "the file is there already", "choose another name, or add --force")
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    content = text.getvalue().encode()
    if out.suffix == ".gz":
        content = gzip.compress(content, compresslevel=9, mtime=0)
    try:
        handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.chmod(name, 0o644)  # mkstemp's 0600 is for secrets
            os.replace(name, out)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(str(out), None, None, f"can't be written ({reason})", "check the folder") from None


def _requests(args: argparse.Namespace) -> tuple[Sequence[str], Rows, str]:
    columns = RequestColumns(
        arrived_at=args.time_column,
        tenant=args.tenant_column,
        duration=args.duration_column,
        task=args.task_column,
        status=args.status_column,
        units_per_second=_UNITS_PER_SECOND[args.duration_unit],
        naive_zone=zone_named(args.time_zone) if args.time_zone else None,
        epoch=True,
    )
    rows = read_request_rows(args.file, columns)
    whole = bool((rows.arrived_us % 1_000_000 == 0).all())
    moments = rows.arrived_us.astype("datetime64[us]").astype("datetime64[s]" if whole else "datetime64[us]")
    arrived_at = [f"{moment}Z" for moment in moments.astype(str)]
    work = [_plain(value) for value in rows.work_s.tolist()]
    return REQUEST_COLUMNS, zip(arrived_at, rows.tenant, rows.task, rows.status, work, strict=True), _describe(rows)


def _describe(rows: RequestRows) -> str:
    """What a request log holds, in a paragraph: enough to notice a wrong unit or zone."""
    trace = rows.trace()
    first_s, last_s = float(trace.arrived_s[0]), float(trace.arrived_s[-1])
    hour = (trace.arrived_s // 3600 - first_s // 3600).astype(np.int64)
    busiest = float(np.bincount(hour, weights=trace.work_s).max()) / 3600
    span_s = last_s - first_s
    mean = f"a mean load of {trace.work_s.sum() / span_s:.2f} reference GPUs, " if span_s > 0 else ""
    skipped = (
        f" {trace.skipped:,} more were never executed: they stay in the file and are skipped." if trace.skipped else ""
    )
    return (
        f"{len(trace):,} requests of {len(trace.tenants):,} tenants from {_moment(first_s)} to {_moment(last_s)} "
        f"({span_s / 86_400:.1f} days), {trace.work_s.mean():.1f} s each on average, {mean}{busiest:.2f} in the "
        f"busiest hour.{skipped}"
    )


def _moment(at_s: float) -> str:
    return f"{np.datetime64(int(at_s), 's')}Z"


def _offers(args: argparse.Namespace) -> tuple[Sequence[str], Rows, str]:
    theirs, given = _pairs(args.column, "--column"), _pairs(args.set, "--set")
    called = {name: theirs.get(name, name) for name in (*OFFER_COLUMNS, *_MAY_LACK) if name not in given}
    required = [called[name] for name in OFFER_COLUMNS if name in called and (name in theirs or name not in NOT_NEEDED)]
    optional = [called[name] for name in (*NOT_NEEDED, *_MAY_LACK) if name in called and called[name] not in required]
    if len(set(called.values())) < len(called) or not required:
        raise InputError(
            "--column", None, None, "two columns can't come from one", "name a column of the file for each"
        )
    read = read_table(args.file, required, optional)
    cells = {name: read.columns[column] for name, column in called.items() if column in read.columns}
    cells |= {name: [value] * len(read) for name, value in given.items()}
    table = replace(read, columns=cells)
    offers, problems = offers_of(table)
    for problem in problems:
        if not problem.sound:
            column = called.get(problem.column, problem.column)
            raise InputError(args.file, problem.row, column, f"{problem.offer_id}: {problem.why}", "correct the row")
    header = [name for name in (*OFFER_COLUMNS, *_MAY_LACK) if name in cells or name not in _MAY_LACK]
    rows = zip(*(cells.get(name, [""] * len(table)) for name in header), strict=True)
    return header, rows, _describe_offers(table, len(offers), len(problems))


def _describe_offers(table: Table, offers: int, later: int) -> str:
    providers = ", ".join(sorted(set(table.columns["provider"])))
    types = len(set(table.columns["instance_type"]))
    text = f"{len(table):,} rows of {types:,} instance types ({providers}), which give {offers:,} offers."
    if SPEED_COLUMN not in table.columns:
        text += f" There is no {SPEED_COLUMN}: every GPU counts as fast as the reference (A10G)."
    return text + (f" {later:,} rows have several GPUs and can't be used for now." if later else "")


def _pairs(words: Sequence[str], flag: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = (part.strip() for part in word.partition("="))
        if not equals or not value or name not in (*OFFER_COLUMNS, *_MAY_LACK) or name in found:
            remedy = f"write {flag} NAME=…, once for a NAME of {', '.join((*OFFER_COLUMNS, *_MAY_LACK))}"
            raise InputError(flag, None, None, f"{quoted(word)} is not understood", remedy)
        found[name] = value
    return found


def _availability(args: argparse.Namespace) -> tuple[Sequence[str], Rows, str]:
    found = read_availability(args.file)
    rows = [
        (
            series.zone,
            series.gpu,
            _plain(series.gap_s),
            series.ticks,
            " ".join(f"{tick}:{value}" for tick, value in zip(series.change_tick, series.value, strict=True)),
        )
        for series in found.values()
    ]
    binary = sum(series.binary for series in found.values())
    days = max(series.period_s for series in found.values()) / 86_400
    summary = (
        f"{len(found):,} zones ({', '.join(found)}) over {days:.1f} days, then repeating; {binary:,} say whether spot "
        f"can be had, {len(found) - binary:,} how many."
    )
    return AVAILABILITY_COLUMNS, rows, summary


def _load_times(args: argparse.Namespace) -> tuple[Sequence[str], Rows, str]:
    load_s = read_load_times(args.file, args.load_column, _UNITS_PER_SECOND[args.duration_unit])
    rows = [(_plain(round(value * 1000.0, 6)),) for value in load_s.tolist()]
    return (LOAD_COLUMN,), rows, _describe_load_times(load_s)


def _describe_load_times(load_s: FloatArray) -> str:
    middle, high = np.quantile(load_s, (0.5, 0.95))
    return f"{len(load_s):,} load times, {load_s.mean():.1f} s on average, median {middle:.1f} s, p95 {high:.1f} s."


def _plain(value: float) -> str:
    """The shortest text that reads back as the same number: 32, not 32.0."""
    return str(int(value)) if value == int(value) else repr(value)


_KINDS: Final[dict[str, Callable[[argparse.Namespace], tuple[Sequence[str], Rows, str]]]] = {
    "requests": _requests,
    "offers": _offers,
    "availability": _availability,
    "load-times": _load_times,
    "signal": signal_rows,
}
