"""A lower bound on what a service costs, by a linear program on slots: fluid work, patience, starts.

What it bounds: the dollars of every schedule, even one that knows the future, in which each request begins within its
class's slack of its arrival and runs to its end; replicas of one kind serve one request each, are billed from the
request to the release, and a start is billed for at least `lead_s` before it serves; `first` replicas are there at the
beginning, for nothing. Where a target lets a share of requests wait longer than the slack, as a p99 does, it bounds
only schedules that don't make use of that share. Market by slot is a price: where spot comes and goes, the cheapest
price of the slot bounds what can be paid in it; zones, moves and losses are left out, as are whole replicas.

Why it holds. If every request begins within `slack` of its arrival, then by time t at least the work is done that a
service without waits had done by t − slack, and at most what it had done by t: a request of length w that came at a has
min(w, t − a) done at best and min(w, t − a − slack) at worst. Only slot ends are checked, a slot's replicas are its
mean, and means rise in sum no more than what they are means of: each loosens, none tightens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import block_array, csr_array, diags_array, eye_array

from controller.core.policies.clairvoyant import work_by
from controller.core.types import FloatArray


@dataclass(frozen=True, slots=True)
class Waiting:
    """Requests of one patience: arrivals (n,), how long each holds a replica (n,) and how long it may wait."""

    arrived_s: FloatArray
    held_s: FloatArray
    slack_s: float


@dataclass(frozen=True, slots=True)
class Bound:
    """`usd` in all; `serving`: mean replicas that serve by slot, float64[slots]; `done`: replica-seconds of each class
    by slot, float64[classes, slots]. One of many solutions of that cost.
    """

    usd: float
    serving: FloatArray
    done: FloatArray


class NoSchedule(ValueError):
    """Nothing satisfies the constraints: the dollars of an hour don't suffice, or the slots end too soon."""


def lower_bound(
    classes: Sequence[Waiting],
    usd_per_hour: FloatArray,
    lead_s: float,
    start_s: float,
    slot_s: float = 60.0,
    first: int = 0,
    cap_usd_per_hour: float | None = None,
) -> Bound:
    """The bound on [start_s, start_s + slots · slot_s). `usd_per_hour`: float64[slots], a replica's price in each slot.

    What may begin after the last slot isn't required. With a cap, the dollars of each clock hour (start_s is one's
    beginning) are at most that. Raises NoSchedule. Solved by HiGHS.
    """
    slots = len(usd_per_hour)
    edges = start_s + slot_s * np.arange(slots + 1, dtype=np.float64)
    price = usd_per_hour * slot_s / 3600
    start_usd = usd_per_hour * lead_s / 3600
    # Columns: serving, starts, then work done by each slot's end, class by class, in replica-slots: cumulative work
    # keeps the program sparse.
    eye = eye_array(slots, format="csr")
    step = csr_array(eye - eye_array(slots, k=-1, format="csr"))
    k = len(classes)
    none = csr_array((slots, slots))
    rises = block_array([[step, -eye, *([none] * k)]])
    fits = block_array([[-eye, none, *([step] * k)]])
    grows = [[none, none, *(-step if j == i else none for j in range(k))] for i in range(k)]
    rows = [rises, fits, *(block_array([row]) for row in grows)]
    above = np.zeros(slots)
    above[0] = first
    limits = [above, np.zeros(slots), *(np.zeros(slots) for _ in range(k))]
    if cap_usd_per_hour is not None:
        hour = ((edges[:-1] - start_s) // 3600).astype(np.int64)
        of_hour = csr_array((np.ones(slots), (hour, np.arange(slots))), shape=(int(hour[-1]) + 1, slots))
        spend = [of_hour @ diags_array(price), of_hour @ diags_array(start_usd)]
        rows.append(block_array([[*spend, *([csr_array(of_hour.shape)] * k)]]))
        limits.append(np.full(int(hour[-1]) + 1, cap_usd_per_hour))
    lows, highs = [np.zeros(2 * slots)], [np.full(2 * slots, np.inf)]
    for each in classes:
        best = work_by(edges, each.arrived_s, each.held_s)[1:] / slot_s
        low = work_by(edges - each.slack_s, each.arrived_s, each.held_s)[1:] / slot_s
        lows.append(np.maximum(0.0, np.minimum(low, best)))
        highs.append(best)
    # The stubs know neither sparse rows nor an array of bounds.
    rows_of_all: Any = block_array([[row] for row in rows], format="csr")
    limits_of_all: Any = np.column_stack([np.concatenate(lows), np.concatenate(highs)])
    found = linprog(
        np.concatenate([price, start_usd, np.zeros(k * slots)]),
        A_ub=rows_of_all,
        b_ub=np.concatenate(limits),
        bounds=limits_of_all,
        method="highs-ds",
    )
    if found.status != 0:
        raise NoSchedule(found.message)
    values = np.asarray(found.x, np.float64)
    worked = values[2 * slots :].reshape(k, slots)
    return Bound(float(found.fun or 0.0), values[:slots], np.diff(worked, axis=1, prepend=0.0) * slot_s)
