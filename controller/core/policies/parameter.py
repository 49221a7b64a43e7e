"""Parameters that a policy is run with by name: declared once, at the field that holds the value."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_KEY: Final = "parameter"


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a field may be set to. `optional`: "none" leaves it open. `least` and `most` are allowed, `above` isn't."""

    kind: type[float] | type[int] | type[str] | type[bool]
    text: str
    default: float | int | str | bool | None
    least: float | None = None
    above: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    optional: bool = False

    def read(self, text: str) -> float | int | str | bool | None:
        """The value that a person wrote. ValueError says what it should be."""
        if self.optional and text == "none":
            return None
        if self.kind is bool:
            if text not in ("true", "false"):
                raise ValueError(f"{text!r} is neither true nor false")
            return text == "true"
        if self.kind is str:
            if text not in self.choices:
                raise ValueError(f"{text!r} is none of {', '.join(self.choices)}")
            return text
        word = "whole number" if self.kind is int else "number"
        try:
            value: float = int(text) if self.kind is int else float(text)
        except ValueError:
            raise ValueError(f"{text!r} is no {word}") from None
        if not math.isfinite(value):
            raise ValueError(f"{text!r} is not finite")
        for bad, bound in (
            (self.least is not None and value < self.least, f"below {self.least}"),
            (self.above is not None and value <= self.above, f"not above {self.above}"),
            (self.most is not None and value > self.most, f"over {self.most}"),
        ):
            if bad:
                raise ValueError(f"{text} is {bound}")
        return value


def parameter(default: Any, text: str, *, kind: type | None = None, **bounds: Any) -> Any:
    """A dataclass field with that default that may be set by name. `kind` is needed where the default is None."""
    about = Parameter(kind or type(default), text, default, **{"optional": default is None, **bounds})
    return field(default=default, metadata={_KEY: about})


def parameters_of(policy: type[Any]) -> Mapping[str, Parameter]:
    """The parameters of a policy's dataclass by name, in the order of its fields."""
    return {each.name: each.metadata[_KEY] for each in dataclasses.fields(policy) if _KEY in each.metadata}
