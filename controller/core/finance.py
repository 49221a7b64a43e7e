"""The arithmetic of money: what was spent, what is being spent, what is left.

Dollars are floats and are never rounded here; only `dollars` rounds, to whole cents, where a person reads it. So parts
add up to their sum, whatever a page shows. A float of epoch seconds resolves a quarter of a microsecond: that is the
error of an amount, some 1e-10 dollars for a replica. Billing is per
second, as the clouds bill GPU instances, and fractions of a second count as fractions; there is no minimum charge.
Hours, days and months are UTC's. An unknown price is NaN or None and makes what contains it unknown, never zero.
"""

import math
from collections.abc import Iterable
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from controller.core.types import FloatArray, Offer
from models.enums import Market

HOUR_S = 3600.0
DAY_S = 86400.0


def hour_start(at_s: float) -> float:
    """The start of the clock hour that contains at_s. Epoch hours are UTC hours: POSIX time has no leap seconds."""
    return math.floor(at_s / HOUR_S) * HOUR_S


def day_start(at_s: float) -> float:
    """The midnight, UTC, that begins the day of at_s."""
    return math.floor(at_s / DAY_S) * DAY_S


def month_start(at_s: float) -> float:
    """The midnight, UTC, that begins the calendar month of at_s."""
    at = datetime.fromtimestamp(at_s, UTC)
    return datetime(at.year, at.month, 1, tzinfo=UTC).timestamp()


def cost_usd(usd_per_hour: float, start_s: float, end_s: float) -> float:
    """Dollars of something that burns `usd_per_hour` from start_s to end_s; a replica's from requested to released.

    ValueError when it ends before it starts.
    """
    if end_s < start_s:
        raise ValueError(f"a cost needs an end at or after its start: {start_s} to {end_s}")
    return usd_per_hour * (end_s - start_s) / HOUR_S


def hourly_spend(start_s: FloatArray, end_s: FloatArray, usd_per_hour: FloatArray, hours: FloatArray) -> FloatArray:
    """Dollars accrued in each clock hour by n billed intervals.

    `start_s`, `end_s`, `usd_per_hour`: shape (n,), an interval still open ends at the present; `hours`: starts of clock
    hours, ascending, shape (h,). Returns shape (h,); an hour touched by an interval of unknown price (NaN) is NaN.
    ValueError when an interval ends before it starts, a time is not finite, or an hour is not a clock hour's start.

    Each interval is cut at the hours it crosses and the pieces summed, so no amount is ever the difference of two large
    ones: hours without an interval are exactly 0 and none is negative.
    """
    if not (np.isfinite(start_s).all() and np.isfinite(end_s).all()):
        raise ValueError("billed intervals need finite times; end an open one at the present")
    if (end_s < start_s).any():
        raise ValueError("a billed interval ends before it starts")
    if (hours % HOUR_S != 0).any() or (np.diff(hours) <= 0).any():
        raise ValueError("hours must be ascending starts of clock hours")
    spend = np.zeros(len(hours))
    if not len(hours) or not len(start_s):
        return spend
    # Only what lies inside the hours asked for: a month of intervals against one hour stays cheap.
    start_s = np.maximum(start_s, hours[0])
    end_s = np.minimum(end_s, hours[-1] + HOUR_S)
    inside = end_s > start_s
    start_s, end_s, usd_per_hour = start_s[inside], end_s[inside], usd_per_hour[inside]
    first = np.floor(start_s / HOUR_S).astype(np.int64)
    pieces = np.ceil(end_s / HOUR_S).astype(np.int64) - first
    which = np.repeat(np.arange(len(first)), pieces)
    hour = np.arange(len(which)) - np.repeat(np.cumsum(pieces) - pieces, pieces) + first[which]
    cut_s = np.minimum(end_s[which], (hour + 1) * HOUR_S) - np.maximum(start_s[which], hour * HOUR_S)
    asked: npt.NDArray[np.int64] = (hours // HOUR_S).astype(np.int64)
    at = np.searchsorted(asked, hour)
    found = asked[np.minimum(at, len(asked) - 1)] == hour
    usd = usd_per_hour[which] * cut_s / HOUR_S
    return spend + np.bincount(at[found], weights=usd[found], minlength=len(hours))


def spend_in_hour(start_s: FloatArray, end_s: FloatArray, usd_per_hour: FloatArray, now_s: float) -> float:
    """Dollars accrued since the present clock hour began. An interval that ends after now counts until now."""
    started = start_s < now_s
    ends = np.minimum(end_s[started], now_s)
    return float(hourly_spend(start_s[started], ends, usd_per_hour[started], np.array([hour_start(now_s)]))[0])


def projected_hour_usd(accrued_usd: float, burn_usd_per_hour: float, now_s: float) -> float:
    """What the present clock hour will have cost if the burn stays as it is."""
    return accrued_usd + cost_usd(burn_usd_per_hour, now_s, hour_start(now_s) + HOUR_S)


def dollars_left(cap_usd_per_hour: float | None, accrued_usd: float) -> float | None:
    """Dollars that may still accrue in this clock hour; below 0 when the cap is exceeded already. None: no cap."""
    return None if cap_usd_per_hour is None else cap_usd_per_hour - accrued_usd


def burn_allowed(cap_usd_per_hour: float | None, accrued_usd: float, now_s: float) -> float | None:
    """The burn, dollars an hour, that ends the present clock hour exactly at the cap; 0: used up. None: no cap."""
    left_usd = dollars_left(cap_usd_per_hour, accrued_usd)
    if left_usd is None:
        return None
    # now is before the hour's end, so something always remains to divide by
    return max(0.0, left_usd) * HOUR_S / (hour_start(now_s) + HOUR_S - now_s)


def cheapest_per_speed(offers: Iterable[Offer], market: Market | None = None) -> Offer | None:
    """The offer with the lowest price for a reference GPU's worth of work, of one market or of all; ties by id.

    None when there is none with a known price.
    """
    known = [o for o in offers if market in (None, o.market) and math.isfinite(o.price_usd_per_hour)]
    return min(known, key=lambda offer: (offer.usd_per_speed_hour, offer.id), default=None)


def replicas_usd(price_usd_per_hour: float, replicas: int, now_s: float, until_s: float) -> float:
    """The price of holding `replicas` from now until a time, as shown before an override; 0 once it has passed."""
    return price_usd_per_hour * replicas * max(0.0, until_s - now_s) / HOUR_S


def spend_today(hours: FloatArray, usd: FloatArray, now_s: float) -> float:
    """Dollars since midnight UTC from hourly rows. `hours`: starts of clock hours, in any order; an hour may repeat."""
    return _between(hours, usd, day_start(now_s), now_s)


def month_to_date(hours: FloatArray, usd: FloatArray, now_s: float) -> float:
    """Dollars since the calendar month began, UTC, from hourly rows as in `spend_today`."""
    return _between(hours, usd, month_start(now_s), now_s)


def dollars(usd: float | None) -> str:
    """An amount for people, in whole cents: $1,204.50, −$3.00, — when unknown. Never shows a small cost as $0.00."""
    if usd is None or not math.isfinite(usd):
        return "—"
    if 0 < abs(usd) < 0.005:
        return "under $0.01"
    return f"{'−' if usd < 0 else ''}${abs(usd):,.2f}"


def _between(hours: FloatArray, usd: FloatArray, from_s: float, to_s: float) -> float:
    return float(usd[(hours >= from_s) & (hours <= to_s)].sum())
