"""Capacity at the price of a miss: the newsvendor's answer to a lead-time forecast.

A replica more is worth it as long as the requests that it keeps from waiting too long are worth more than it costs
(Arrow, Harris & Marschak 1951). Where the load that comes is about normal with mean m and deviation s, one more GPU at
c spares m·φ((c − m)/s)/s of the load a wait, so at a price that is the same at every hour

    c = m + s·√(−2·ln(x)),   x = √(2π)·s / (m·price),

and m where x ≥ 1. A busy hour so gets more margin, counted in deviations, than a quiet one. A target that lets requests
wait w seconds bears some overload as long as it lasts no longer than arrivals stay high, about OVERLOAD_S: that much
is taken off.

The price is not known, but what was promised is. So it is *rehearsed*: the cheapest at which the promise would have
been kept on the days behind us, by forecasts that had not seen them, with replicas that come a lead time late.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from scipy.ndimage import maximum_filter1d

from controller.core.activity import BIN_S
from controller.core.forecast.lead import LeadModel, Rehearsal, expect, lead_bins_of, learn
from controller.core.queueing import probability_of, target_wait_s
from controller.core.types import Activity, FloatArray, TierTarget

OVERLOAD_S: Final = 50.0
MOST_OVERLOAD: Final = 0.4
"""Share of the load that is borne at most, however long a tier may wait."""
HOLD: Final = 1.5
"""Lead times that a need is held for: letting go for less costs a restart."""
FLUID: Final = 1.6
"""The rehearsal counts all load that comes while a queue stands; the queue itself, request by request, makes less of it
wait too long. So many times the share allowed may miss in it: fitted on 21 to 23 November of the trace, with a
margin."""
SHARED: Final = 0.7
"""The same, of a tier under which others fill what is free: what they run can't always be taken from them."""
MEAN_SHARE: Final = 0.25
"""A mean over few bursts is uncertain by about itself: it is rehearsed for so much of what the target allows."""
LEASTS: Final = np.array([0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
"""Shares of the highest load rehearsed that are tried as the least capacity to hold: what comes out of nothing, at a
quiet hour, no forecast sees."""
PRICES: Final = (-2.0, 4.0)
"""Powers of ten between which a price is looked for, relative to that of a GPU for as long."""


@dataclass(frozen=True, slots=True)
class Priced:
    """Of one urgent tier (with those above it): its model, the price of a miss as a power of ten, and the `least`
    capacity to hold (reference GPUs). `rehearsed`: the share (or the mean wait in seconds) that the rehearsal gave,
    beside `allowed`.
    """

    model: LeadModel
    price: float
    least: float
    rehearsed: float
    allowed: float


@dataclass(frozen=True, slots=True)
class Expected:
    """What a tier needs one lead time from now, in reference GPUs: `capacity` for a load of `mean` ± `deviation`."""

    capacity: float
    mean: float
    deviation: float
    price: float
    least: float


def overload(target: TierTarget, work_s: float, scv: float) -> float:
    """Share of the load by which a tier may be overloaded for as long as arrivals stay high."""
    if target.statistic == "mean":
        return 0.0
    return min(max(0.0, target_wait_s(target, work_s, scv)) / OVERLOAD_S, MOST_OVERLOAD)


def capacity_at(mean: FloatArray, deviation: FloatArray, price: float, borne: float) -> FloatArray:
    """Capacity for loads (n,) of that mean and deviation, at a price that is a power of ten; never below 0."""
    x = 10.0**-price * math.sqrt(2 * math.pi) * deviation / np.maximum(mean, 0.3)
    margin = deviation * np.sqrt(-2.0 * np.log(np.minimum(x, 1.0)))
    capacity: FloatArray = np.maximum(0.0, (1.0 - borne) * mean + margin)
    return capacity


def learn_prices(
    activity: Activity,
    tiers: Sequence[TierTarget],
    urgent: Sequence[int],
    lead_s: float,
    work_s: float,
    scv: float,
    started_bins: int,
) -> Mapping[int, Priced]:
    """Models and prices of the urgent tiers by index, the lowest rehearsed first: what is there for it serves those
    above it too. Empty where too little was measured.

    `started_bins`: bins until a replica started now serves, in the rehearsal; `lead_s`: the lead time that is planned
    with.
    """
    found: dict[int, Priced] = {}
    there: FloatArray | None = None
    for k in sorted(urgent, reverse=True):
        learned = learn(activity, k, lead_bins_of(lead_s), max(1, round(work_s / BIN_S)))
        if learned is None:
            return MappingProxyType({})
        model, past = learned
        price, least, rehearsed, allowed, path = _rehearse(
            past, tiers[k], lead_bins_of(lead_s), started_bins, work_s, scv, there, k + 1 == len(tiers)
        )
        found[k] = Priced(model, price, least, rehearsed, allowed)
        there = path
    return found


def expected(priced: Priced, activity: Activity, target: TierTarget, work_s: float, scv: float) -> Expected:
    """What the tier needs one lead time from now."""
    mean, deviation = (work_s * value for value in expect(priced.model, activity))
    capacity = capacity_at(np.array([mean]), np.array([deviation]), priced.price, overload(target, work_s, scv))
    return Expected(max(float(capacity[0]), priced.least), mean, deviation, priced.price, priced.least)


def _rehearse(
    past: Rehearsal,
    target: TierTarget,
    lead_bins: int,
    started_bins: int,
    work_s: float,
    scv: float,
    there: FloatArray | None,
    last: bool,
) -> tuple[float, float, float, float, FloatArray]:
    """The price of a miss and the least capacity that together would have kept the target for the fewest GPU-hours;
    what they would have given, what was allowed, and the capacity asked for in each bin.
    """
    mean, deviation, load = work_s * past.mean, work_s * past.deviation, work_s * past.rate
    wait_s = max(target_wait_s(target, work_s, scv), 1e-3)
    probability = probability_of(target.statistic)
    allowed = MEAN_SHARE * wait_s if probability is None else (FLUID if last else SHARED) * (1.0 - probability)
    borne = overload(target, work_s, scv)
    floor = load if there is None else np.maximum(load, there)

    def asked(price: float, least: float) -> FloatArray:
        held = _highest(capacity_at(mean, deviation, price, borne), round(HOLD * lead_bins))
        return np.maximum(np.maximum(held, floor), least)

    def missed(path: FloatArray) -> float:
        ready = -_highest(-np.ceil(path - 1e-9), started_bins)
        excess = np.cumsum((load - ready) * BIN_S)
        backlog = excess - np.minimum(np.minimum.accumulate(excess), 0.0)
        waits = backlog / np.maximum(ready, 1.0)
        weight = max(float(load.sum()), 1e-9)
        return float((waits if probability is None else waits > wait_s) @ load) / weight

    best: tuple[float, float, float, FloatArray] | None = None
    peak = float(load.max()) if len(load) else 0.0
    for least in np.unique(np.ceil(peak * LEASTS)):
        low, high = PRICES
        if best is not None and asked(low, least).sum() >= best[3].sum():
            break
        path = asked(high, least)
        if missed(path) > allowed and least < math.ceil(peak):
            continue
        if missed(asked(low, least)) <= allowed:
            high = low
        while high - low > 0.1:
            middle = (low + high) / 2
            low, high = (low, middle) if missed(asked(middle, least)) <= allowed else (middle, high)
        path = asked(high, least)
        if best is None or path.sum() < best[3].sum():
            best = high, float(least), missed(path), path
    assert best is not None  # the peak itself is tried
    price, least, rehearsed, path = best
    return price, least, rehearsed, allowed, path


def _highest(values: FloatArray, back: int) -> FloatArray:
    """The largest of each value and the `back` before it."""
    size = back + 1
    highest: FloatArray = maximum_filter1d(
        values, size, origin=size // 2 if size % 2 else (size - 1) // 2, mode="nearest"
    )
    return highest
