"""A chain of services from a YAML document, with the offers and load times that it names.

```yaml
name: pattern
stages:            # in order; the first takes its offers, boot and load times from whoever runs it
  images:    {class: inference, wait_share: 0.6}
  rendering: {class: rendering, wait_share: 0.4, work_s: 2, work_ratio: 0.25, boot_s: 5, load_s: 4, offers: prices.csv}
batch:             # may be missing
  catalogue: {items: 300, work_s: 60, at_hour: 18, deadline_h: 12, boot_s: 180, load_s: 40, offers: prices.csv}
```

Files are named relative to the document. `load_times` names a file of measured loads where `load_s` is one number.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from controller.core.stages import BatchService, Pipeline, Stage
from controller.core.types import FloatArray, Offer
from controller.sources.base import InputError
from controller.sources.offers import read_offers
from controller.sources.traces import read_load_times
from models.enums import Market, ServiceClass

_FIRST: Final = {"class", "wait_share", "work_s", "work_ratio"}
_REPLICA: Final = {"boot_s", "load_s", "load_times", "offers"}
_BATCH: Final = {"items", "work_s", "at_hour", "deadline_h"} | _REPLICA


class _Fields:
    """The fields of one service, read and checked one by one."""

    def __init__(self, file: Path, at: str, body: Any, known: set[str]) -> None:
        self._file, self._at = file, at
        if not isinstance(body, Mapping):
            raise self.error(at, "is no mapping", f"give it {', '.join(sorted(known))}")
        unknown = sorted(map(str, set(body) - known))
        if unknown:
            raise self.error(f"{at}.{unknown[0]}", "is not a known field", f"use {', '.join(sorted(known))}")
        self._body = body

    def error(self, field: str, problem: str, remedy: str) -> InputError:
        return InputError(str(self._file), None, None, f"{field}: {problem}", remedy)

    def number(self, name: str, least: float, most: float, default: float | None = None) -> float:
        value = self._body.get(name, default)
        good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not good or not least <= value <= most:
            shown = "is missing" if value is None else f"is {value!r:.40}"
            raise self.error(f"{self._at}.{name}", shown, f"give a number from {least:g} to {most:g}")
        return float(value)

    def text(self, name: str) -> str:
        value = self._body.get(name)
        if not isinstance(value, str) or not value:
            raise self.error(f"{self._at}.{name}", "is missing", "give its name")
        return value

    def service_class(self) -> ServiceClass:
        chain = [each for each in ServiceClass if each is not ServiceClass.BATCH]
        word = self.text("class")
        if word not in chain:
            raise self.error(f"{self._at}.class", f"there is no {word!r} in a chain", f"use {', '.join(chain)}")
        return ServiceClass(word)

    def loads_s(self) -> FloatArray:
        if "load_times" in self._body:
            return read_load_times(self._file.parent / self.text("load_times"))
        return np.array([self.number("load_s", 0, 86_400)])

    def offers(self, *, markets: set[Market], cpu: bool = False) -> tuple[Offer, ...]:
        """The usable offers of the file named; InputError where none is sold in one of the markets."""
        path = self._file.parent / self.text("offers")
        offers, problems = read_offers(path, cpu=cpu)
        if not any(offer.market in markets for offer in offers):
            words = " or ".join(sorted(markets))
            why = str(problems[0]) if problems else f"nothing in it is sold {words}"
            raise InputError(str(path), None, None, f"no offer for {self._at} can be used: {why}", f"price one {words}")
        return offers


def read_pipeline(path: Path, *, offers: tuple[Offer, ...], boot_s: float, load_times_s: FloatArray) -> Pipeline:
    """The pipeline of a document. What is given here is that of the first stage. InputError names file and field."""
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(str(path), None, None, " ".join(str(error).split()), "give a YAML file with stages") from error
    top = _Fields(path, "pipeline", document, {"name", "stages", "batch"})
    bodies, beside = document.get("stages"), document.get("batch") or {}
    if not isinstance(bodies, Mapping) or len(bodies) < 2:
        raise top.error("stages", "a chain needs two stages at least", "name them in order")
    if not isinstance(beside, Mapping):
        raise top.error("batch", "is no mapping", "name each batch service")
    if set(bodies) & set(beside):
        raise top.error("batch", "a service of the chain has the same name", "give each service its own name")
    stages: list[Stage] = []
    for service, body in bodies.items():
        stages.append(_stage(path, str(service), body, first=None if stages else (offers, boot_s, load_times_s)))
    shares = sum(stage.wait_share for stage in stages)
    if abs(shares - 1) > 1e-6:
        raise top.error(
            "stages", f"wait_share must sum to 1, not {shares:g}", "divide the time to wait over the stages"
        )
    batch = tuple(_batch(path, str(service), body) for service, body in beside.items())
    return Pipeline(top.text("name"), tuple(stages), batch)


def _stage(path: Path, service: str, body: Any, first: tuple[tuple[Offer, ...], float, FloatArray] | None) -> Stage:
    known = _FIRST if first is not None else _FIRST | _REPLICA
    fields = _Fields(path, f"stages.{service}", body, known)
    kind = fields.service_class()
    # The trace has recorded the first stage's execution; that of another has to be said.
    work_s = fields.number("work_s", 0, 86_400, 0.0 if first is not None else None)
    work_ratio = fields.number("work_ratio", 0, 1000, 1.0 if first is not None else 0.0)
    if work_s + work_ratio <= 0:
        raise fields.error(f"stages.{service}.work_s", "a stage that does nothing is no stage", "give its execution")
    if first is not None:
        offers, boot_s, load_times_s = first
    else:
        persistent = {Market.ON_DEMAND} if kind is ServiceClass.DELIVERY else {Market.ON_DEMAND, Market.SERVERLESS}
        offers = fields.offers(markets=persistent, cpu=kind is ServiceClass.DELIVERY)
        boot_s, load_times_s = fields.number("boot_s", 0, 86_400), fields.loads_s()
    share = fields.number("wait_share", 0.01, 1)
    return Stage(service, kind, work_s, work_ratio, share, boot_s, load_times_s, offers)


def _batch(path: Path, service: str, body: Any) -> BatchService:
    fields = _Fields(path, f"batch.{service}", body, _BATCH)
    return BatchService(
        service=service,
        items=int(fields.number("items", 1, 1_000_000)),
        work_s=fields.number("work_s", 0.1, 86_400),
        at_hour=fields.number("at_hour", 0, 23.999),
        deadline_s=3600 * fields.number("deadline_h", 0.1, 168),
        boot_s=fields.number("boot_s", 0, 86_400),
        load_times_s=fields.loads_s(),
        offers=fields.offers(markets={Market.ON_DEMAND}),
    )
