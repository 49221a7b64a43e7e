"""Reading an intent's payload: what an operator sent, checked field by field."""

import math
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

Word = TypeVar("Word", bound=StrEnum)


class Refused(Exception):
    """The intent can't be applied. The message is for the operator who asked."""


class Payload:
    """Fields of one intent. Every reader raises Refused, naming the field, for what it can't be."""

    def __init__(self, fields: Any) -> None:
        if not isinstance(fields, Mapping):
            raise Refused(f"the payload must be an object with fields, not {fields!r:.60}")
        self._fields = fields

    def get(self, name: str) -> Any:
        """The field as it came. It must be there, if only as null."""
        if name not in self._fields:
            raise Refused(f"the field {name!r} is missing")
        return self._fields[name]

    def given(self, name: str) -> Any:
        """The field as it came; None where it is absent."""
        return self._fields.get(name)

    def number(self, name: str, least: float, most: float = math.inf, *, above: bool = False) -> float:
        """A finite number from least (or, with `above`, above it) to most."""
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise Refused(f"{name} must be a number, not {value!r:.60}")
        if value > most or value < least or (above and value == least):
            span = f"{'above' if above else 'at least'} {least:g}"
            raise Refused(f"{name} must be {span}{'' if math.isinf(most) else f' and at most {most:g}'}, not {value:g}")
        return float(value)

    def number_or_none(self, name: str, least: float, most: float = math.inf) -> float | None:
        """`number`, of a field that may be null or absent."""
        return None if self._fields.get(name) is None else self.number(name, least, most)

    def whole(self, name: str, least: int, most: float = math.inf) -> int:
        """A whole number from least to most."""
        value = self.number(name, least, most)
        if value != int(value):
            raise Refused(f"{name} must be a whole number, not {value:g}")
        return int(value)

    def flag(self, name: str, default: bool | None = None) -> bool:
        """True or false; `default` where the field is absent, unless that is None."""
        value = self._fields.get(name, default) if default is not None else self.get(name)
        if not isinstance(value, bool):
            raise Refused(f"{name} must be true or false, not {value!r:.60}")
        return value

    def text(self, name: str, longest: int = 200) -> str:
        """A text that is not blank."""
        value = self.get(name)
        if not isinstance(value, str) or not value.strip() or len(value) > longest:
            raise Refused(f"{name} must be a text of 1 to {longest} characters, not {value!r:.60}")
        return value.strip()

    def word(self, name: str, words: type[Word]) -> Word:
        """One of an enum's words."""
        value = self.get(name)
        if not isinstance(value, str) or value not in tuple(words):
            raise Refused(f"{name} must be {', '.join(words)}, not {value!r:.60}")
        return words(value)

    def moment_s(self, name: str) -> float:
        """Epoch seconds of an ISO time with its zone."""
        value = self.get(name)
        try:
            at = datetime.fromisoformat(value)
        except (TypeError, ValueError):
            raise Refused(f"{name} must be an ISO time such as 2024-11-25T18:00:00+00:00, not {value!r:.60}") from None
        if at.tzinfo is None:
            raise Refused(f"{name} must say its zone, such as +00:00: {value!r:.60} does not")
        return at.timestamp()
