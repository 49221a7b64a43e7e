"""NVIDIA Dynamo's planner (1.x), as a baseline: a slow loop on predicted demand, a fast one on what waits.

Algorithm and defaults of Dynamo's planner, second generation. Slow, every 180 s: the fewest replicas that keep the
latency target at the predicted demand, at most 8 more at a time; a lower bound for the fast loop. Fast, every 5 s and
only while no replica is coming: one more where every engine's estimated latency is over the target; one less where it
is under 80 % of it, and would be with N / (N − 1) times the load on each.

For images the latency is the wait for a GPU (Dynamo's default for the first token, 500 ms, is kept), and the number of
requests times their length is the offered load. All replicas share one queue, so that all engines' estimates are one:
the M/G/c mean (Allen–Cunneen) in the slow loop, and in the fast one the time until a request that came now would start.
The predictor sees the load of the last day, from before it began too, as Dynamo's warm-up trace. Dynamo's budget of 8
GPUs isn't kept. On demand, one pool, one queue without tiers.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from controller.core.plan import one_pool_plan
from controller.core.policies.base import Memory
from controller.core.policies.load_predictors import Order, arima, arima_order, cleaned, constant, kalman
from controller.core.policies.parameter import parameter
from controller.core.policies.pool import Pool, pool_of, total_load, unmeasured
from controller.core.queueing import mean_wait_s
from controller.core.series import DAY_S, MINUTE_S
from controller.core.types import FloatArray, Observation, Plan, Reason, Series
from models.enums import Limit

FAST_S = 5.0
SLOW_S = 180.0
DOWN_SHARE = 0.8
STEP = 8
MINIMUM = 1
PREDICTORS = ("arima", "kalman", "constant")


@dataclass(frozen=True, slots=True)
class DynamoMemory(Memory):
    """`floor`: the slow loop's last count, of `slow_s`, from `demand` (erlangs). `order`: ARIMA's, once it is found."""

    floor: int = MINIMUM
    slow_s: float | None = None
    demand: float | None = None
    order: Order | None = None


@dataclass(frozen=True, slots=True)
class Dynamo:
    wait_s: float = parameter(0.5, "the latency target: the wait for a GPU", above=0)
    predictor: str = parameter("arima", "what predicts the demand of the next 180 s", choices=PREDICTORS)
    down_share: float = parameter(DOWN_SHARE, "one less only under this share of the target", above=0, most=1)
    step: int = parameter(STEP, "most replicas that the slow loop adds at a time", least=1)
    ceiling: int | None = parameter(None, "GPU budget", kind=int, least=1)
    name: str = "dynamo"
    fifo: bool = True
    forecasts: bool = False
    tick_s: float = FAST_S

    def plan(self, seen: Observation, memory: Memory, plan_id: str) -> tuple[Plan, Memory]:
        if (held := unmeasured(seen, plan_id, self.name)) is not None:
            return held, memory
        pool = pool_of(seen)
        known = memory if isinstance(memory, DynamoMemory) else DynamoMemory()
        speed = 1.0 if pool.offer is None else pool.offer.speed_ratio
        work_s = seen.work_mean_s / speed
        if known.slow_s is None or seen.now_s - known.slow_s >= SLOW_S:
            known = self._slow(seen, known, pool, speed)
        fast = self._fast(pool, work_s)
        steady = max(fast, known.floor)
        desired = max(MINIMUM, steady if self.ceiling is None else min(steady, self.ceiling))
        wait_s = next_wait_s(pool.in_flight, pool.ready, work_s)
        foreseen = "no demand is known" if known.demand is None else f"{known.demand:.1f} erlangs are foreseen"
        text = (
            f"{foreseen}, a floor of {known.floor} for {self.wait_s:g} s; a request that came now would wait "
            f"{f'{wait_s:.1f} s' if pool.ready else 'for the first'} on {pool.ready}, {pool.coming} coming: {fast}"
        )
        numbers = {
            "demand": known.demand,
            "floor": known.floor,
            "fast": fast,
            "wait_s": wait_s if pool.ready else None,
            "ready": pool.ready,
        }
        reason = Reason(Limit.LATENCY_TARGET, text, numbers)
        return one_pool_plan(seen, plan_id, self.name, pool.offer, steady, steady, desired, reason), known

    def _slow(self, seen: Observation, known: DynamoMemory, pool: Pool, speed: float) -> DynamoMemory:
        windows = cleaned(demand_windows(total_load(seen), seen.now_s))
        if not len(windows):
            return replace(known, slow_s=seen.now_s, demand=None)
        order = known.order
        if self.predictor == "arima":
            order = order or arima_order(windows)
            demand = arima(windows, order)
        else:
            demand = kalman(windows) if self.predictor == "kalman" else constant(windows)
        needed = fewest_replicas(demand / speed, seen.work_mean_s / speed, seen.work_scv, self.wait_s)
        floor = max(MINIMUM, min(needed, pool.current + self.step))
        return replace(known, floor=floor, slow_s=seen.now_s, demand=demand, order=order)

    def _fast(self, pool: Pool, work_s: float) -> int:
        """The fast loop's count: one more, one less, or what is there."""
        n = pool.ready
        if pool.coming:
            return pool.current
        if next_wait_s(pool.in_flight, n, work_s) > self.wait_s:
            return n + 1
        limit_s = self.down_share * self.wait_s
        if n > 1 and next_wait_s(pool.in_flight, n, work_s) < limit_s:
            joined = pool.in_flight * n / (n - 1)
            return n - 1 if next_wait_s(joined, n, work_s) < limit_s else n
        return n


def next_wait_s(in_flight: float, ready: int, work_s: float) -> float:
    """How long a request that came now would wait for one of `ready` replicas, on average: one is free again every
    work_s / ready. Infinite where none serves.
    """
    return max(0.0, in_flight - ready + 1) * work_s / ready if ready else math.inf


def fewest_replicas(load: float, work_s: float, work_scv: float, wait_s: float) -> int:
    """The fewest replicas whose mean wait is at most wait_s. `load` and `work_s` are those of the replicas."""
    n = max(1, math.ceil(load))
    while mean_wait_s(n, load, work_s, 1.0, work_scv) > wait_s:
        n += 1
    return n


def demand_windows(series: Series | None, now_s: float) -> FloatArray:
    """Mean load of the last day's windows of 180 s, as far as they are known; the newest ends with the newest minute. A
    window of which nothing is known is NaN.
    """
    if series is None:
        return np.empty(0)
    width = round(SLOW_S / MINUTE_S)
    late = max(0, int((now_s - series.end_s) // MINUTE_S))
    values = np.concatenate([series.values[-round(DAY_S / MINUTE_S) :], np.full(min(late, width), np.nan)])
    windows = values[len(values) % width :].reshape(-1, width)
    known = np.isfinite(windows)
    count = known.sum(axis=1)
    return np.where(count, np.where(known, windows, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)
