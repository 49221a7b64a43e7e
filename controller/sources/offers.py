"""Price lists: what can be hired, where and for how much.

A price that is unknown or absurd fails closed: the offer is not handed on, and `OfferProblem` says why. Only a file
that is no price list at all is an `InputError`.
"""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controller.core.prices import price_problems
from controller.core.types import Offer
from controller.sources.base import quoted
from controller.sources.tables import Table, numbers, read_table
from models.enums import Market

OFFER_COLUMNS: Final = (
    "provider",
    "region",
    "zone",
    "instance_type",
    "gpu",
    "gpu_count",
    "vcpus",
    "memory_gib",
    "on_demand_usd_per_hour",
    "spot_usd_per_hour",
)
SPEED_COLUMN: Final = "speed_ratio"
NOT_NEEDED: Final = ("vcpus", "memory_gib")
"""Columns of the catalogue that nothing reads yet: a person's own list may do without."""

MAX_USD_PER_HOUR: Final = 1000.0
MAX_SPEED_RATIO: Final = 1000.0

_PRICES: Final = ((Market.ON_DEMAND, "on_demand_usd_per_hour"), (Market.SPOT, "spot_usd_per_hour"))


@dataclass(frozen=True, slots=True)
class OfferProblem:
    """Why an offer of a price list can't be used. `row`: its 1-based line in the file; `column`: where it lies.

    `sound`: nothing is wrong with the row, only Heddle can't use such an offer yet.
    """

    row: int
    offer_id: str
    why: str
    column: str = ""
    sound: bool = False

    def __str__(self) -> str:
        return f"row {self.row}, {self.offer_id}: {self.why}"


def read_offers(path: str | Path, *, whole_nodes: bool = False) -> tuple[tuple[Offer, ...], tuple[OfferProblem, ...]]:
    """The usable offers of a price list, in its order, and what is wrong with the others.

    A row gives an on-demand offer, and a spot offer where a spot price is given; a blank price means not offered. A
    place without zones stands for its own zone. `whole_nodes`: those of several GPUs too, which the planner counts and
    no backend starts yet. Raises InputError for what `read_table` refuses.
    """
    required = [name for name in OFFER_COLUMNS if name not in NOT_NEEDED]
    return offers_of(read_table(path, required, (SPEED_COLUMN,)), whole_nodes=whole_nodes)


def offers_of(table: Table, *, whole_nodes: bool = False) -> tuple[tuple[Offer, ...], tuple[OfferProblem, ...]]:
    """The same, of a table that has been read."""
    offers: list[tuple[int, Offer]] = []
    problems: list[OfferProblem] = []
    for index, row in enumerate(table.lines):
        cell = {name: cells[index] for name, cells in table.columns.items()}
        zone = cell["zone"] or cell["region"]
        name = f"{cell['instance_type']}/{zone}"
        wrong = _row_problem(row, name, cell, whole_nodes)
        if wrong is not None:
            problems.append(wrong)
            continue
        for market, column in _PRICES:
            if not cell[column]:
                continue
            offer_id, price = f"{name}/{market.value}", cell[column]
            if not 0 < _number(price) <= MAX_USD_PER_HOUR:
                why = f"the price {quoted(price)} is not above 0 and at most {MAX_USD_PER_HOUR:.0f} dollars an hour"
                problems.append(OfferProblem(row, offer_id, why, column))
                continue
            offer = Offer(
                id=offer_id,
                provider=cell["provider"],
                region=cell["region"],
                zone=zone,
                instance_type=cell["instance_type"],
                gpu=cell["gpu"],
                gpu_count=int(_number(cell["gpu_count"])),
                market=market,
                price_usd_per_hour=float(price),
                speed_ratio=float(cell.get(SPEED_COLUMN) or 1.0),
            )
            offers.append((row, offer))
    times = Counter(offer.id for _, offer in offers)
    twice = "it is listed more than once, so its price is not known"
    problems += [OfferProblem(row, offer.id, twice, "instance_type") for row, offer in offers if times[offer.id] > 1]
    once = [(row, offer) for row, offer in offers if times[offer.id] == 1]
    absurd = price_problems(offer for _, offer in once)
    priced_in = dict(_PRICES)
    problems += [OfferProblem(row, o.id, absurd[o.id], priced_in[o.market]) for row, o in once if o.id in absurd]
    usable = tuple(offer for _, offer in once if offer.id not in absurd)
    return usable, tuple(sorted(problems, key=lambda problem: problem.row))


def _row_problem(row: int, name: str, cell: dict[str, str], whole_nodes: bool) -> OfferProblem | None:
    """Why no offer of a row can be used; None when they may."""
    if not cell["instance_type"]:
        return OfferProblem(row, name, "it has no instance type", "instance_type")
    if not cell["zone"] and not cell["region"]:
        return OfferProblem(row, name, "it has neither a zone nor a region", "zone")
    gpus = _number(cell["gpu_count"])
    if not (gpus >= 1 and gpus == math.floor(gpus)):
        return OfferProblem(row, name, f"gpu_count {quoted(cell['gpu_count'])} is no number of GPUs", "gpu_count")
    if gpus > 1 and not whole_nodes:
        why = f"it has {gpus:.0f} GPUs; only instances with one GPU can be used for now"
        return OfferProblem(row, name, why, "gpu_count", sound=True)
    speed = cell.get(SPEED_COLUMN, "")
    if speed and not 0 < _number(speed) <= MAX_SPEED_RATIO:
        why = f"speed_ratio {quoted(speed)} is not above 0 and at most {MAX_SPEED_RATIO:.0f}"
        return OfferProblem(row, name, why, SPEED_COLUMN)
    if not any(cell[column] for _, column in _PRICES):
        return OfferProblem(row, name, "it has no price", _PRICES[0][1])
    return None


def _number(cell: str) -> float:
    """NaN, which no comparison holds for, when the cell is no finite number."""
    value = float(numbers([cell])[0])
    return value if math.isfinite(value) else math.nan
