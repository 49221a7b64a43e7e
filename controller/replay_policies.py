"""The policies by name, as the command line, what-if runs and benchmarks ask for them: `hpa:target=0.5,down_s=900`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from controller.backends.simulated.arrivals import Arrivals
from controller.core.policies.aws_predictive import AwsPredictive
from controller.core.policies.base import Policy
from controller.core.policies.dynamo import Dynamo
from controller.core.policies.heddle import Heddle
from controller.core.policies.hpa import Hpa
from controller.core.policies.hpa_spot import HpaSpot
from controller.core.policies.kpa import Kpa
from controller.core.policies.parameter import Parameter, parameters_of
from controller.core.policies.phpa import Phpa
from controller.core.policies.spothedge import SpotHedge
from controller.core.policies.static import Static
from controller.core.types import Series

if TYPE_CHECKING:
    from controller.replay import ReplaySpec


class PolicyError(ValueError):
    """What was asked for is no policy, or not with that parameter. `nearest`: what there is instead."""

    def __init__(self, reason: str, nearest: str) -> None:
        super().__init__(f"{reason}; {nearest}")
        self.reason, self.nearest = reason, nearest


@dataclass(frozen=True, slots=True)
class PolicyContext:
    """What a policy may be made from. `history`: minutes of load before it begins, one series a tier.

    `spec` and `arrivals` (those to come, jittered and in order) are known in a replay only; a policy that looks at the
    arrivals is clairvoyant.
    """

    history: Mapping[str, Series] = field(default_factory=dict)
    spec: "ReplaySpec | None" = None
    arrivals: Arrivals | None = None


def _nothing(context: PolicyContext) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Entry:
    """A policy that can be named. `kind` is its dataclass; `given` takes from the context what nobody types in."""

    sentence: str
    kind: type[Any]
    given: Callable[[PolicyContext], Mapping[str, Any]] = _nothing

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        return parameters_of(self.kind)


def peak_ten_minutes(history: Mapping[str, Series]) -> float:
    """The largest mean load of ten minutes that follow one another, all tiers together, in erlangs; 0 where history
    is shorter.
    """
    total = np.nan_to_num(np.sum([series.values for series in history.values()], axis=0)) if history else np.empty(0)
    if len(total) < 10:
        return float(total.mean()) if len(total) else 0.0
    return float(np.convolve(total, np.full(10, 0.1), "valid").max())


REGISTRY: Final[Mapping[str, Entry]] = {
    "heddle": Entry("Heddle's own: the forecast's quantiles staffed for each tier, the cheapest mix, the cap", Heddle),
    "hpa": Entry("Kubernetes' autoscaler on requests in flight, one pool on demand", Hpa),
    "kpa": Entry("Knative's autoscaler: a stable and a panic window, one pool on demand", Kpa),
    "phpa": Entry("the larger of the HPA's count and a Holt-Winters forecast of it, one pool on demand", Phpa),
    "dynamo": Entry("NVIDIA Dynamo's planner: a floor by predicted demand, a fast loop of single steps", Dynamo),
    "aws_predictive": Entry("AWS: an hourly floor from a forecast, target tracking above it", AwsPredictive),
    "spothedge": Entry("SkyServe: replicas by request rate, on spot with an on-demand fallback", SpotHedge),
    "hpa_spot": Entry(
        "the strongest peer in hindsight: a tuned HPA on spot with fallback, priorities, at most 100", HpaSpot
    ),
    "static": Entry(
        "a fixed fleet for the peak of history, on demand",
        Static,
        lambda context: {"peak_load": peak_ten_minutes(context.history)},
    ),
}


def make_policy(named: str, context: PolicyContext) -> Policy:
    """The policy of `name` or `name:parameter=value,…`. Raises PolicyError for what there isn't."""
    entry, values = parse_policy(named)
    try:
        policy: Policy = entry.kind(**entry.given(context), **values)
    except ValueError as error:
        raise PolicyError(f"{named}: {error}", "change one of its parameters") from error
    return policy


def parse_policy(named: str) -> tuple[Entry, Mapping[str, Any]]:
    """The entry and the parameters that were named, read and checked. Raises PolicyError."""
    name, colon, rest = named.partition(":")
    entry = REGISTRY.get(name)
    if entry is None:
        raise PolicyError(f"there is no policy {name!r}", f"use {', '.join(REGISTRY)}")
    values: dict[str, Any] = {}
    for part in rest.split(",") if colon else ():
        key, equals, text = part.partition("=")
        parameter = entry.parameters.get(key)
        if parameter is None or not equals:
            there = ", ".join(entry.parameters) or "no parameters"
            word = f"{name} has no parameter {key!r}" if equals else f"{part!r} is not parameter=value"
            raise PolicyError(word, f"{name} has {there}")
        if key in values:
            raise PolicyError(f"{key} is given twice", "give it once")
        try:
            values[key] = parameter.read(text)
        except ValueError as error:
            raise PolicyError(f"{name}'s {key}: {error}", f"it is {parameter.text}") from error
    return entry, values


def described() -> str:
    """Every policy with its sentence and parameters, for people."""
    lines = []
    for name, entry in REGISTRY.items():
        lines.append(f"  {name:<15} {entry.sentence}")
        lines.extend(
            f"  {'':<15}   {key}={'none' if each.default is None else _shown(each.default)}: {each.text}"
            for key, each in entry.parameters.items()
        )
    return "\n".join(lines)


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
