"""Whether a price may be believed. One that is unknown or absurd fails closed: a budget can't hold what it can't count.

The check is on values alone, so that a price list and a price that changes while the fleet runs meet the same one.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import median

from controller.core.types import Offer
from models.enums import Market

# A price this many times its like, or this part of it, is a mistake of the list rather than a bargain.
ABSURD_RATIO = 100.0
# Fewer prices than this don't say what is usual.
FEWEST_LIKE = 3


def price_problem(price_usd_per_hour: float) -> str:
    """What is wrong with a price by itself; empty: nothing."""
    if not math.isfinite(price_usd_per_hour):
        return "its price is unknown"
    if price_usd_per_hour <= 0:
        return f"its price of ${price_usd_per_hour:g}/h is not above 0"
    return ""


def price_problems(offers: Iterable[Offer]) -> Mapping[str, str]:
    """Why offers are not to be used, by id; offers with a sound price are absent.

    A price per unit of speed is held against the median of the same GPU in the same market; where too few are sold,
    against that of the market.
    """
    offers = tuple(offers)
    problems = {offer.id: why for offer in offers if (why := price_problem(offer.price_usd_per_hour))}
    alike: dict[tuple[Market, str | None], list[float]] = defaultdict(list)
    for offer in offers:
        if offer.id not in problems:
            alike[offer.market, offer.gpu].append(offer.usd_per_speed_hour)
            alike[offer.market, None].append(offer.usd_per_speed_hour)
    usual = {key: median(prices) for key, prices in alike.items() if len(prices) >= FEWEST_LIKE}
    for offer in offers:
        key = (offer.market, offer.gpu) if (offer.market, offer.gpu) in usual else (offer.market, None)
        if offer.id in problems or key not in usual:
            continue
        times = offer.usd_per_speed_hour / usual[key]
        if not 1 / ABSURD_RATIO < times < ABSURD_RATIO:
            whose = f"{offer.gpu} {offer.market.value}" if key[1] is not None else offer.market.value
            problems[offer.id] = (
                f"its price of ${offer.price_usd_per_hour:g}/h is {times:.3g} times the median of {whose} "
                f"for the same work (${usual[key]:.3g}/h)"
            )
    return problems
