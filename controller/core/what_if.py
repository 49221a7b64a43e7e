"""What-if runs: which offers are changed how, over which window, and what a result is compared by.

The document of a run is plain JSON: an intent carries it, a table keeps it, a page and a replay read it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from controller.core.types import Offer
from models.enums import Market

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
LONGEST_WINDOW_S = 7 * DAY_S
LEAST_HISTORY_S = HOUR_S
"""What must be recorded before a window: the first fleet is as large as the mean load of that hour."""
USUAL_HISTORY_S = DAY_S
"""What the usual window leaves before it, so that a forecast has seen a day."""
POLICIES = ("heddle", "hpa", "hpa_spot", "kpa", "phpa", "dynamo", "aws_predictive", "spothedge", "static")
"""Those that a page offers by name; any other that `--policy` takes may be typed in."""
LEAST_FACTOR, MOST_FACTOR = 0.01, 100.0


class WhatIfError(ValueError):
    """A run that can't be made: which field, why, and the nearest value that would do."""

    def __init__(self, field: str, reason: str, nearest: str | None = None) -> None:
        self.field, self.reason, self.nearest = field, reason, nearest
        super().__init__(f"{field}: {reason}" + (f" (nearest: {nearest})" if nearest else ""))


@dataclass(frozen=True, slots=True)
class OfferChange:
    """How the offers of a run differ from those in force. `price_factors`: market → times its price."""

    without_spot: bool = False
    without_zones: tuple[str, ...] = ()
    price_factors: tuple[tuple[str, float], ...] = ()

    def apply(self, offers: Sequence[Offer]) -> tuple[Offer, ...]:
        """The offers that are left, at their prices. WhatIfError when no on-demand offer is: every replay begins with
        on-demand replicas."""
        zones = {offer.zone for offer in offers}
        for zone in self.without_zones:
            if zone not in zones:
                raise WhatIfError("without_zones", f"no offer is in zone {zone!r}", ", ".join(sorted(zones)))
        factors = dict(self.price_factors)
        left = tuple(
            replace(offer, price_usd_per_hour=offer.price_usd_per_hour * factors.get(offer.market.value, 1.0))
            for offer in offers
            if offer.zone not in self.without_zones and not (self.without_spot and offer.market is Market.SPOT)
        )
        if not any(offer.market is Market.ON_DEMAND for offer in left):
            raise WhatIfError("without_zones", "no on-demand offer is left for a replay to begin with")
        return left

    def told(self) -> str:
        """In words: "without spot, on-demand × 1.2"; "as they are" where nothing changes."""
        words = ["without spot"] if self.without_spot else []
        words += [f"{market.replace('_', '-')} × {factor:g}" for market, factor in self.price_factors]
        words += [f"without {zone}" for zone in self.without_zones]
        return ", ".join(words) or "as they are"


@dataclass(frozen=True, slots=True)
class WhatIf:
    """All that tells one run from another; two that are equal give the same result.

    `policy` as `--policy` takes it; `envelope` a document; `envelope_version` None: it is none of those that ruled.
    """

    policy: str
    envelope: Mapping[str, Any]
    envelope_version: int | None
    offers: OfferChange
    from_s: float
    to_s: float
    scale: int
    jitter_s: float
    boot_s: float
    seed: int

    def document(self) -> dict[str, Any]:
        """As JSON; `what_if_of` reads it back."""
        return {
            "policy": self.policy,
            "envelope": dict(self.envelope),
            "envelope_version": self.envelope_version,
            "offers": {
                "without_spot": self.offers.without_spot,
                "without_zones": list(self.offers.without_zones),
                "price_factors": dict(self.offers.price_factors),
            },
            "from": _iso(self.from_s),
            "to": _iso(self.to_s),
            "scale": self.scale,
            "jitter_s": self.jitter_s,
            "boot_s": self.boot_s,
            "seed": self.seed,
        }

    def told(self) -> str:
        """In one line: "hpa, envelope v3, offers without spot, 2024-11-18 06:00 to 2024-11-25 06:00 UTC"."""
        envelope = "an envelope of its own" if self.envelope_version is None else f"envelope v{self.envelope_version}"
        window = f"{_minute(self.from_s)} to {_minute(self.to_s)} UTC"
        return f"{self.policy}, {envelope}, offers {self.offers.told()}, {window}"


def what_if_of(document: Mapping[str, Any]) -> WhatIf:
    """The run that `WhatIf.document` wrote."""
    offers = document["offers"]
    return WhatIf(
        policy=str(document["policy"]),
        envelope=document["envelope"],
        envelope_version=document["envelope_version"],
        offers=OfferChange(
            bool(offers["without_spot"]), tuple(offers["without_zones"]), tuple(offers["price_factors"].items())
        ),
        from_s=datetime.fromisoformat(document["from"]).timestamp(),
        to_s=datetime.fromisoformat(document["to"]).timestamp(),
        scale=int(document["scale"]),
        jitter_s=float(document["jitter_s"]),
        boot_s=float(document["boot_s"]),
        seed=int(document["seed"]),
    )


def usual_window(first_s: float, now_s: float, longest_s: float = LONGEST_WINDOW_S) -> tuple[float, float]:
    """The last whole hours before now, `longest_s` at most, with a day recorded before them if there is one.

    first_s: when the record begins. WhatIfError where not two hours are recorded.
    """
    to_s = math.floor(now_s / HOUR_S) * HOUR_S
    least_s = math.ceil((first_s + LEAST_HISTORY_S) / HOUR_S) * HOUR_S
    usual_s = math.ceil((first_s + USUAL_HISTORY_S) / HOUR_S) * HOUR_S
    if least_s + HOUR_S > to_s:
        raise WhatIfError("from", f"too little is recorded: the record begins {_minute(first_s)} UTC")
    from_s = max(to_s - longest_s, usual_s if usual_s + DAY_S <= to_s else least_s)
    return from_s, to_s


def check_window(from_s: float, to_s: float, first_s: float, now_s: float) -> None:
    """WhatIfError for a window that can't be replayed: not of whole hours, not over yet, too long or too early."""
    for name, at_s in (("from", from_s), ("to", to_s)):
        if at_s % HOUR_S:
            nearest = f"{_minute(math.floor(at_s / HOUR_S) * HOUR_S)} UTC"
            raise WhatIfError(name, "must be a whole hour: dollars are counted by the clock hour", nearest)
    if to_s <= from_s:
        raise WhatIfError("to", "must be after from")
    latest_s = math.floor(now_s / HOUR_S) * HOUR_S
    if to_s > latest_s:
        reason = "is not over yet: only what was recorded can be replayed"
        raise WhatIfError("to", reason, f"{_minute(latest_s)} UTC")
    if to_s - from_s > LONGEST_WINDOW_S:
        reason = f"a window is {LONGEST_WINDOW_S / DAY_S:g} days at most, not {(to_s - from_s) / DAY_S:.3g}"
        raise WhatIfError("from", reason, f"{_minute(to_s - LONGEST_WINDOW_S)} UTC")
    earliest_s = math.ceil((first_s + LEAST_HISTORY_S) / HOUR_S) * HOUR_S
    if from_s < earliest_s:
        reason = f"an hour must be recorded before it, and the record begins {_minute(first_s)} UTC"
        raise WhatIfError("from", reason, f"{_minute(earliest_s)} UTC")


def flat(summary: Mapping[str, Any]) -> dict[str, Any]:
    """One row of a comparison from a run's summary document: units in names, a tier's numbers under its name."""
    row = {"from": summary["window"][0], "to": summary["window"][1]}
    row |= {name: value for name, value in summary.items() if name not in ("window", "tiers")}
    for tier, numbers in summary["tiers"].items():
        row |= {f"{tier}_{name}": value for name, value in numbers.items()}
    return row


def _iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat()


def _minute(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M}"
