"""Which of many series are worth an expensive model: those where the money it may save exceeds what computing it costs.

A better forecast saves a share of what a service spends; what a fit costs is processor time. Below some spend the fit
costs more than it saves, and where processor time is short the series that spend most come first.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from controller.core.forecast.base import names_for

CHEAP: Final = ("naive", "seasonal_naive_24h", "seasonal_naive_168h", "profile", "weekly_profile", "autoreg_fourier")
"""Each fits 28 days of hours in about a hundredth of a second; every series gets them all."""
SAVED_SHARE: Final = 0.005
"""The share of a day's spend that an expensive model is taken to save. An assumption, and a cautious one: capacity
moves by a fraction of what a forecast's error does, and an expensive model often loses to a cheap one."""
PROCESSOR_USD_PER_H: Final = 0.05
"""What one core costs for an hour."""
FIT_S: Final = 5.0
"""Core seconds that all expensive models of one series take, scored and fitted, once a day."""


@dataclass(frozen=True, slots=True)
class Earned:
    """Whether a series gets the expensive models, and why in words."""

    yes: bool
    reason: str


def expensive_for(step_s: float) -> tuple[str, ...]:
    """The models of this grid that only some series get."""
    return tuple(name for name in names_for(step_s) if name not in CHEAP)


def earned(spend_usd: float | None) -> Earned:
    """The verdict on a series that spends so much a day. None or NaN: unknown, and an unknown spend earns nothing."""
    cost_usd = FIT_S * PROCESSOR_USD_PER_H / 3600.0
    if spend_usd is None or not math.isfinite(spend_usd):
        return Earned(False, "cheap models only: what it spends is unknown")
    saved_usd = spend_usd * SAVED_SHARE
    amounts = f"{SAVED_SHARE:.1%} of ${spend_usd:,.2f} a day is ${saved_usd:.5f}, fitting costs ${cost_usd:.5f}"
    return Earned(saved_usd > cost_usd, f"{'all models' if saved_usd > cost_usd else 'cheap models only'}: {amounts}")


def ranked(spend_usd: Mapping[str, float]) -> list[str]:
    """The keys that earn the expensive models, those that spend most first; of equal ones by name."""
    worthy = [key for key, amount in spend_usd.items() if earned(amount).yes]
    return sorted(worthy, key=lambda key: (-spend_usd[key], key))
