"""AWS predictive scaling with target tracking, as a baseline: an hourly floor from a forecast, a reaction above it.

Amazon EC2 Auto Scaling user guide, "Predictive scaling": at least 24 h of history and at most 14 days of it, an hourly
forecast of the next 48 h renewed every 6 h, the capacity of an hour raised 300 s before it begins, and never a
scale-in by the forecast alone (mode ForecastAndScale, HonorMaxCapacity). AWS doesn't publish its model; Heddle's
profile of weekdays and weekends stands in. "Target tracking scaling policies": proportional scale-out and scale-in by
alarms on one-minute means. The alarms are as AWS creates them, which its guide leaves open: scale-out after 3 minutes
over the target, scale-in after 15 minutes under 90 % of it, neither counting replicas that don't serve yet. On demand,
one pool, one queue without tiers.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from controller.core.finance import hour_start
from controller.core.forecast.seasonal import expected_profile
from controller.core.plan import one_pool_plan
from controller.core.policies.base import Memory
from controller.core.policies.parameter import parameter
from controller.core.policies.pool import Pool, pool_of, total_load, unmeasured
from controller.core.series import DAY_S, HOUR_S, MINUTE_S, clip, resample
from controller.core.types import FloatArray, Observation, Plan, Reason, Series
from models.enums import Limit

READ_S = 15.0
OUT_MINUTES = 3
IN_MINUTES = 15
IN_SHARE = 0.9
MINIMUM = 1


@dataclass(frozen=True, slots=True)
class AwsMemory(Memory):
    """`readings`: (time, in flight, ready) of the present minute; `minutes`: (minute, mean per ready replica, mean in
    flight), newest last. `loads`: forecast erlangs of the hours from `loads_s` on, made at `made_s`.
    """

    readings: tuple[tuple[float, int, int], ...] = ()
    minutes: tuple[tuple[float, float, float], ...] = ()
    loads: tuple[float, ...] = ()
    loads_s: float = 0.0
    made_s: float | None = None


@dataclass(frozen=True, slots=True)
class AwsPredictive:
    target: float = parameter(0.7, "requests in flight per ready replica, for the forecast and the tracking", above=0)
    every_s: float = parameter(21600.0, "how often the forecast is renewed", least=3600)
    hours: int = parameter(48, "how far it looks", least=1, most=48)
    history_days: float = parameter(14.0, "how much history it looks at", least=1)
    buffer_s: float = parameter(300.0, "SchedulingBufferTime: how long before its hour a floor is raised", least=0)
    ceiling: int | None = parameter(None, "MaxCapacity", kind=int, least=1)
    name: str = "aws_predictive"
    fifo: bool = True
    forecasts: bool = False
    tick_s: float = READ_S

    def plan(self, seen: Observation, memory: Memory, plan_id: str) -> tuple[Plan, Memory]:
        if (held := unmeasured(seen, plan_id, self.name)) is not None:
            return held, memory
        pool, now_s = pool_of(seen), seen.now_s
        known = memory if isinstance(memory, AwsMemory) else AwsMemory()
        if known.made_s is None or now_s - known.made_s >= self.every_s:
            start_s, loads = hourly_forecast(total_load(seen), now_s, self.hours, self.history_days)
            known = replace(known, loads=tuple(loads.tolist()), loads_s=start_s, made_s=now_s)
        known, closed = _read(known, now_s, pool)
        tracked = self._tracked(known, pool) if closed else pool.current
        floor = self._floor(known, now_s, 1.0 if pool.offer is None else pool.offer.speed_ratio)
        steady = max(tracked, floor)
        desired = max(MINIMUM, steady if self.ceiling is None else min(steady, self.ceiling))
        text = f"target tracking asks for {tracked} replicas, the forecast for at least {floor}"
        numbers = {"tracked": tracked, "floor": floor, "in_flight": pool.in_flight, "ready": pool.ready}
        reason = Reason(Limit.LATENCY_TARGET, text, numbers)
        return one_pool_plan(seen, plan_id, self.name, pool.offer, steady, steady, desired, reason), known

    def _floor(self, known: AwsMemory, now_s: float, speed: float) -> int:
        """The capacity forecast of this hour, and of the next one once its buffer has begun; 0: nothing is forecast."""
        floors = [
            math.ceil(known.loads[hour] / self.target / speed - 1e-9)
            for at_s in (now_s, now_s + self.buffer_s)
            if 0 <= (hour := int((at_s - known.loads_s) // HOUR_S)) < len(known.loads)
        ]
        return max(floors, default=0)

    def _tracked(self, known: AwsMemory, pool: Pool) -> int:
        """What target tracking makes of the minute that has just closed."""
        if pool.ready == 0 or not known.minutes:
            return pool.current
        means = [mean for _, mean, _ in known.minutes]
        proportional = math.ceil(known.minutes[-1][2] / self.target - 1e-9)
        if len(means) >= OUT_MINUTES and min(means[-OUT_MINUTES:]) > self.target:
            return max(pool.current, proportional)
        quiet = len(means) >= IN_MINUTES and max(means[-IN_MINUTES:]) < IN_SHARE * self.target
        return min(pool.current, proportional) if quiet and not pool.coming else pool.current


def hourly_forecast(series: Series | None, now_s: float, hours: int, history_days: float) -> tuple[float, FloatArray]:
    """Mean load of the coming hours in erlangs, from the present clock hour on, and when it begins.

    `series`: measured minutes. Empty where the last `history_days` hold less than a day of them.
    """
    start_s = hour_start(now_s)
    if series is None:
        return start_s, np.empty(0)
    hourly = resample(clip(series, start_s - history_days * DAY_S, start_s), HOUR_S)
    if np.isfinite(hourly.values).sum() < DAY_S / HOUR_S:
        return start_s, np.empty(0)
    expected = expected_profile(hourly)[round((start_s - hourly.start_s) / HOUR_S) :][:hours]
    # An hour of which no earlier day is known asks for no floor.
    return start_s, np.nan_to_num(expected)


def _read(known: AwsMemory, now_s: float, pool: Pool) -> tuple[AwsMemory, bool]:
    """The reading taken in; True where it closed the minute before."""
    minute_s = math.floor(now_s / MINUTE_S) * MINUTE_S
    reading = (now_s, pool.in_flight, pool.ready)
    if not known.readings or known.readings[0][0] >= minute_s:
        return replace(known, readings=(*known.readings, reading)), False
    # Requests that wait for replicas that are all still coming are over any target.
    ratios = [count / ready if ready else math.inf for _, count, ready in known.readings]
    in_flight = sum(count for _, count, _ in known.readings) / len(known.readings)
    closed = (known.readings[0][0], sum(ratios) / len(ratios), in_flight)
    return replace(known, readings=(reading,), minutes=(*known.minutes, closed)[-IN_MINUTES:]), True
