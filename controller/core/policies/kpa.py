"""The Knative Pod Autoscaler, as a baseline: mean requests in flight over a stable and a panic window.

Algorithm and defaults of Knative Serving (`pkg/autoscaler/scaling/autoscaler.go` and the `config-autoscaler` map): a
tick of 2 s, stable window 60 s, panic window a tenth of it, panic from twice the ready replicas' worth on, at most
1,000 times as many and half as many at once. One request a GPU, so containerConcurrency 1, and a target of 0.7 of it.

Two things differ: requests in flight are read at each tick and averaged over the ticks in a window, where Knative
averages readings of each second; and it never scales to zero, which would cost each first request a boot. On demand,
one pool, one queue without tiers.
"""

import math
from dataclasses import dataclass, replace

from controller.core.plan import one_pool_plan
from controller.core.policies.base import Memory
from controller.core.policies.parameter import parameter
from controller.core.policies.pool import pool_of, unmeasured
from controller.core.types import Observation, Plan, Reason
from models.enums import Limit

TICK_S = 2.0
PANIC_SHARE = 0.1
MAX_UP_RATE = 1000.0
MAX_DOWN_RATE = 2.0
MINIMUM = 1


@dataclass(frozen=True, slots=True)
class KpaMemory(Memory):
    """`readings`: (time, in flight) within the stable window. `panic_s` None: not panicking."""

    readings: tuple[tuple[float, int], ...] = ()
    panic_s: float | None = None
    most: int = 0


@dataclass(frozen=True, slots=True)
class Kpa:
    target: float = parameter(0.7, "mean requests in flight per replica", above=0, most=1)
    stable_s: float = parameter(60.0, "the stable window", least=6)
    panic_threshold: float = parameter(2.0, "panic from this many times the ready replicas on", above=1)
    down_s: float = parameter(0.0, "scale-down-delay: window of the highest recommendation", least=0)
    ceiling: int | None = parameter(None, "most replicas", kind=int, least=1)
    name: str = "kpa"
    fifo: bool = True
    forecasts: bool = False
    tick_s: float = TICK_S

    def plan(self, seen: Observation, memory: Memory, plan_id: str) -> tuple[Plan, Memory]:
        if (held := unmeasured(seen, plan_id, self.name)) is not None:
            return held, memory
        pool, now_s = pool_of(seen), seen.now_s
        # After a restart it begins in panic with what is there, so that it keeps its scale for a stable window.
        fresh = KpaMemory(panic_s=now_s, most=pool.ready) if pool.ready > 1 else KpaMemory()
        known = memory if isinstance(memory, KpaMemory) else fresh
        readings = tuple(each for each in known.readings if each[0] > now_s - self.stable_s)
        readings = (*readings, (now_s, pool.in_flight))
        panic_window_s = self.stable_s * PANIC_SHARE
        recent = [count for at_s, count in readings if at_s > now_s - panic_window_s]
        stable_mean, panic_mean = sum(count for _, count in readings) / len(readings), sum(recent) / len(recent)
        base = max(1, pool.ready)
        low, high = math.floor(base / MAX_DOWN_RATE), math.ceil(base * MAX_UP_RATE)
        panic_raw = _replicas(panic_mean, self.target)
        stable = min(max(_replicas(stable_mean, self.target), low), high)
        panic = min(max(panic_raw, low), high)
        panic_s, most = known.panic_s, known.most
        if panic_raw / base >= self.panic_threshold:
            panic_s = now_s
        elif panic_s is not None and panic_s + self.stable_s < now_s:
            panic_s, most = None, 0
        wanted = stable
        if panic_s is not None:
            wanted = most = max(most, stable, panic)
        known = replace(known, readings=readings, panic_s=panic_s, most=most)
        known = known.recommend(now_s, wanted, self.down_s)
        steady = int(known.highest())
        desired = max(MINIMUM, steady if self.ceiling is None else min(steady, self.ceiling))
        text = (
            f"{stable_mean:.1f} in flight over {self.stable_s:g} s and {panic_mean:.1f} over {panic_window_s:g} s "
            f"on {pool.ready} ready replicas against {self.target:g} each"
            f"{'' if panic_s is None else ', in panic'}: {wanted} replicas"
        )
        numbers = {"stable": stable_mean, "panic": panic_mean, "ready": pool.ready, "target": self.target}
        reason = Reason(Limit.LATENCY_TARGET, text, numbers)
        return one_pool_plan(seen, plan_id, self.name, pool.offer, wanted, steady, desired, reason), known


def _replicas(mean: float, target: float) -> int:
    return math.ceil(mean / target - 1e-9)
