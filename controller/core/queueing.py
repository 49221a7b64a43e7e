"""Waiting time and the servers that keep it: Erlang B and C, Allen–Cunneen, priorities, backlog.

Sources. Erlang B and C and the M/M/c wait: Cooper, *Introduction to Queueing Theory* (1981), ch. 3. The G/G/c
correction (c_a² + c_s²)/2: Allen, *Probability, Statistics and Queueing Theory* (1990), ch. 5; exact for M/M/c and for
M/G/1. The wait's tail is taken as exponential given that one waits, which is exact for M/M/c. Preemptive priority: an
arrival waits exactly when tiers at or above its own hold every server, and the mean number waiting of tiers 0…k
together is that of a queue with their load alone; the wait of tier k is what is left after subtracting the tiers above.

Load is in erlangs of the reference GPU; `speed` divides it and the execution time.
"""

import math
from dataclasses import dataclass
from typing import Final

from scipy.special import ndtri, pdtr

from controller.core.types import TierTarget
from models.enums import LatencyOf

MAXIMUM_AS: Final = 0.9999
"""No finite queue bounds its longest wait: p100 is read as one request in ten thousand over the target."""
MOST_SERVERS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Staffing:
    """Servers for one target. `wait_s`: the statistic reached with them. `attainable` False: no number of servers
    reaches the target (it leaves no time to wait), and `servers` is what makes one in a hundred wait at all."""

    servers: int
    wait_s: float
    target_wait_s: float
    attainable: bool = True


def erlang_b(servers: int, load: float) -> float:
    """Share of arrivals that find all servers busy when none may wait. The recursion of the inverse adds positive
    terms only, so that it neither cancels nor overflows into nonsense: past the range of a float it is 0.

    ValueError for negative or unknown arguments.
    """
    _check(servers=servers, load=load)
    if load == 0:
        return 1.0 if servers == 0 else 0.0
    inverse = 1.0
    for n in range(1, servers + 1):
        inverse = 1.0 + inverse * n / load
        if inverse == math.inf:
            return 0.0
    return 1.0 / inverse


def erlang_c(servers: int, load: float) -> float:
    """Share of arrivals that wait in M/M/c; 1 when the servers can't keep up. ValueError as `erlang_b`."""
    _check(servers=servers, load=load)
    if load == 0:
        return 0.0
    if load >= servers:
        return 1.0
    blocked = _blocked(servers, load)
    return blocked / (1.0 - (load / servers) * (1.0 - blocked))


def _blocked(servers: int, load: float) -> float:
    """Erlang B for servers > load by the Poisson distribution: pmf / cdf. The cdf is at least a half there, so that
    nothing underflows that matters, at any size and in constant time."""
    pmf = math.exp(servers * math.log(load) - load - math.lgamma(servers + 1.0))
    return pmf / float(pdtr(servers, load))


def mean_wait_s(
    servers: int, load: float, work_mean_s: float, arrivals_scv: float = 1.0, work_scv: float = 1.0
) -> float:
    """Mean wait of G/G/c (Allen–Cunneen); infinite when the servers can't keep up. `load` and `work_mean_s` are those
    of the servers in question: divide both by their speed. ValueError for negative or unknown arguments."""
    _check(work_mean_s=work_mean_s, arrivals_scv=arrivals_scv, work_scv=work_scv)
    waiting = erlang_c(servers, load)
    if load == 0:
        return 0.0
    if load >= servers:
        return math.inf
    return waiting * work_mean_s / (servers - load) * (arrivals_scv + work_scv) / 2.0


def wait_quantile_s(
    probability: float,
    servers: int,
    load: float,
    work_mean_s: float,
    arrivals_scv: float = 1.0,
    work_scv: float = 1.0,
) -> float:
    """The wait that a share `probability` of arrivals stays within: 0 when fewer than the rest wait at all."""
    return tier_wait_s(servers, load, 0.0, work_mean_s, probability, arrivals_scv, work_scv)


def tier_wait_s(
    servers: int,
    load: float,
    above: float,
    work_mean_s: float,
    probability: float | None,
    arrivals_scv: float = 1.0,
    work_scv: float = 1.0,
) -> float:
    """Wait of a tier of `load` erlangs under `above` erlangs of tiers that preempt it; tiers below don't count.

    `probability` None gives the mean, else that quantile. Infinite when the servers can't carry both.
    """
    if probability is not None and not 0.0 <= probability < 1.0:
        raise ValueError(f"a quantile needs a probability in [0, 1), not {probability}")
    _check(above=above, load=load)
    both = load + above
    mean_all = mean_wait_s(servers, both, work_mean_s, arrivals_scv, work_scv)
    if load == 0 or math.isinf(mean_all):
        return 0.0 if load == 0 else math.inf
    mean = mean_all
    if above > 0:
        mean_above = mean_wait_s(servers, above, work_mean_s, arrivals_scv, work_scv)
        mean = max(mean_all, (both * mean_all - above * mean_above) / load)
    if probability is None:
        return mean
    waiting = erlang_c(servers, both)
    if waiting <= 1.0 - probability:
        return 0.0
    return mean / waiting * math.log(waiting / (1.0 - probability))


def probability_of(statistic: str) -> float | None:
    """None for "mean", else the share of "pNN"; p100 is `MAXIMUM_AS`. ValueError for anything else."""
    if statistic == "mean":
        return None
    try:
        percent = float(statistic[1:]) if statistic[:1] == "p" else math.nan
    except ValueError:
        percent = math.nan
    if not 0 < percent <= 100:
        raise ValueError(f"a statistic is mean or pNN with NN in (0, 100], not {statistic!r}")
    return min(percent / 100.0, MAXIMUM_AS)


def target_wait_s(target: TierTarget, work_mean_s: float, work_scv: float = 1.0, speed: float = 1.0) -> float:
    """What the target leaves for waiting. End to end: less the execution, its mean for a mean and for a percentile the
    same percentile of a lognormal with that mean and squared coefficient of variation (two percentiles added are an
    overestimate of the sum's when the two are independent, so that this errs on the safe side). May be negative.
    """
    wait_s = target.target_ms / 1000.0
    if target.of is LatencyOf.WAIT:
        return wait_s
    execution = work_mean_s / speed
    probability = probability_of(target.statistic)
    if probability is not None and work_scv > 0:
        sigma = math.sqrt(math.log1p(work_scv))
        execution *= math.exp(sigma * float(ndtri(probability)) - sigma * sigma / 2.0)
    return wait_s - execution


def servers_for(
    load: float,
    work_mean_s: float,
    target: TierTarget,
    *,
    above: float = 0.0,
    arrivals_scv: float = 1.0,
    work_scv: float = 1.0,
    speed: float = 1.0,
) -> Staffing:
    """The fewest servers of `speed` that hold the tier's target at a steady `load`, under `above` of higher tiers.

    No load of the tier needs no servers for it beyond those that carry `above`. Non-decreasing in load, above and
    strictness of the target. ValueError for negative or unknown arguments.
    """
    _check(load=load, above=above, work_mean_s=work_mean_s)
    if not (speed > 0 and work_mean_s > 0):
        raise ValueError(f"speed and mean execution must be positive, not {speed} and {work_mean_s}")
    wanted_s = target_wait_s(target, work_mean_s, work_scv, speed)
    probability = probability_of(target.statistic)
    load, above, work_s = load / speed, above / speed, work_mean_s / speed
    if load == 0:
        return Staffing(math.ceil(above), 0.0, wanted_s, wanted_s >= 0)

    def wait(servers: int) -> float:
        return tier_wait_s(servers, load, above, work_s, probability, arrivals_scv, work_scv)

    def holds(servers: int) -> bool:
        return wait(servers) <= wanted_s if wanted_s > 0 else erlang_c(servers, load + above) <= 0.01

    low = math.floor(load + above)
    high = low + 1
    while not holds(high) and high < MOST_SERVERS:
        low, high = high, high + 2 * (high - math.floor(load + above))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return Staffing(high, wait(high), wanted_s, wanted_s > 0)


def servers_for_backlog(backlog_s: float, within_s: float, speed: float = 1.0) -> float:
    """Extra servers, not rounded, that work off `backlog_s` reference execution seconds within `within_s`.

    ValueError for a time that isn't positive.
    """
    _check(backlog_s=backlog_s)
    if not (within_s > 0 and speed > 0):
        raise ValueError(f"a backlog needs a positive time and speed, not {within_s} and {speed}")
    return backlog_s / (within_s * speed)


def _check(**values: float) -> None:
    for name, value in values.items():
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be known and not negative, not {value}")
