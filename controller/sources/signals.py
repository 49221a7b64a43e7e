"""A signal's own file: when, and how much."""

from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from controller.core.forecast.signals import ABSURD
from controller.core.types import FloatArray
from controller.sources.base import quoted
from controller.sources.tables import numbers, read_table
from controller.sources.times import microseconds


def read_signal(
    path: str | Path,
    time_column: str = "at",
    value_column: str = "value",
    naive_zone: ZoneInfo | None = None,
) -> tuple[FloatArray, FloatArray]:
    """(times float64[n] in epoch seconds, ascending and each once; values float64[n]), of a CSV or CSV.gz.

    A blank value is not known: its row is left out. Of two rows of one time the later counts. Raises InputError.
    """
    table = read_table(path, (time_column, value_column))
    cells = table.columns[value_column]
    values = numbers(cells)
    blank = np.array([not cell for cell in cells])
    bad = ~np.isfinite(values) & ~blank
    absurd = np.abs(np.where(np.isfinite(values), values, 0.0)) >= ABSURD
    found_us, checks = microseconds(table.columns[time_column], time_column, naive_zone, epoch=True)
    table.refuse(
        [
            *checks,
            (
                bad,
                value_column,
                lambda at: (f"{quoted(cells[at])} is no finite number", "leave blank what is not known"),
            ),
            (absurd, value_column, lambda at: (f"the value {quoted(cells[at])} is absurd", "check its unit")),
        ]
    )
    kept = dict(zip((found_us[~blank] / 1e6).tolist(), values[~blank].tolist(), strict=True))
    if not kept:
        raise table.error(0, value_column, "there is no value in the whole file", "check how it was written")
    times = np.array(sorted(kept), dtype=np.float64)
    return times, np.array([kept[at_s] for at_s in times.tolist()], dtype=np.float64)
