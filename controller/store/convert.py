"""Between the core's values and the tables': epoch seconds and aware datetimes, numbers and JSON."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import numpy as np


def moment(at_s: float) -> datetime:
    """The aware UTC datetime of epoch seconds, to the microsecond."""
    return datetime.fromtimestamp(at_s, UTC)


def moment_or_none(at_s: float | None) -> datetime | None:
    """`moment`, of a time that may be unknown."""
    return None if at_s is None else moment(at_s)


def seconds(at: datetime) -> float:
    """Epoch seconds of a datetime; a naive one is taken as UTC, as SQLite stores it."""
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def seconds_or_none(at: datetime | None) -> float | None:
    """`seconds`, of a time that may be unknown."""
    return None if at is None else seconds(at)


def floored(at_s: float, step_s: float) -> float:
    """The start of the step that contains at_s, counted from the epoch."""
    return math.floor(at_s / step_s) * step_s


def finite(value: float | None) -> float | None:
    """A number, or None where it is unknown: NaN and infinities have no place in a column or in JSON."""
    return None if value is None or not math.isfinite(value) else float(value)


def plain(value: Any) -> Any:
    """The JSON form of a core value: enums as text, arrays as lists, unknown numbers as null."""
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    raise TypeError(f"no JSON form for {type(value).__name__}")
