"""The envelope's terms as they stand: measured, forecast, and in one word held, at risk, breached, stale or unknown."""

from dataclasses import dataclass

import numpy as np

from controller.core.capacity import KNEE, cumulative, deferrable
from controller.core.finance import projected_hour_usd
from controller.core.queueing import probability_of, tier_wait_s
from controller.core.types import LatencyReading, Observation, TierTarget
from models.enums import EnvelopeStatus, LatencyOf

SPEND = "spend"


@dataclass(frozen=True, slots=True)
class Term:
    """One term. A tier's `value`, `limit` and `forecast_p90` are milliseconds; those of "spend" dollars of the
    clock hour.
    """

    name: str
    value: float | None
    limit: float | None
    forecast_p90: float | None
    status: EnvelopeStatus
    count: int


def standing(value: float | None, limit: float | None, ahead: float | None, stale: bool) -> EnvelopeStatus:
    """Breached: measured over the limit. At risk: the forecast crosses it. Stale and unknown are never held."""
    if value is not None and limit is not None and value > limit:
        return EnvelopeStatus.BREACHED
    if stale:
        return EnvelopeStatus.STALE
    if ahead is not None and limit is not None and ahead > limit:
        return EnvelopeStatus.AT_RISK
    return EnvelopeStatus.UNKNOWN if value is None else EnvelopeStatus.HELD


def term_readings(seen: Observation, capacity: float) -> tuple[Term, ...]:
    """Every term of the envelope, tiers first. `capacity`: reference GPUs that serve or will within the lead time."""
    latencies = {reading.tier: reading for reading in seen.latencies}
    terms = [_tier(seen, k, tier, latencies.get(tier.name), capacity) for k, tier in enumerate(seen.envelope.tiers)]
    spend = seen.spend
    burn = spend.replicas_usd_per_hour + spend.jobs_usd_per_hour
    ahead = projected_hour_usd(spend.accrued_usd, burn, seen.now_s)
    cap = seen.envelope.spend_cap_usd_per_hour
    terms.append(Term(SPEND, spend.accrued_usd, cap, ahead, standing(spend.accrued_usd, cap, ahead, False), 1))
    return tuple(terms)


def _tier(seen: Observation, k: int, tier: TierTarget, reading: LatencyReading | None, capacity: float) -> Term:
    value = None if reading is None else reading.value_ms
    ahead = _wait_ahead_ms(seen, k, tier, capacity)
    status = standing(value, tier.target_ms, ahead, seen.stale)
    if status is EnvelopeStatus.UNKNOWN and reading is not None and reading.count == 0:
        # Nobody asked in the window: there is nothing to promise that was not kept, and the count says so.
        status = EnvelopeStatus.HELD
    return Term(tier.name, value, tier.target_ms, ahead, status, 0 if reading is None else reading.count)


def _wait_ahead_ms(seen: Observation, k: int, tier: TierTarget, capacity: float) -> float | None:
    """The statistic that the p90 of the forecast load would give within the lead time on this capacity. None: not
    forecast, or the tier may wait long enough that a queue is no sign.
    """
    forecast = seen.forecasts.get((cumulative(seen.envelope.tiers, k), 60.0))
    above = seen.forecasts.get((cumulative(seen.envelope.tiers, k - 1), 60.0)) if k else None
    if forecast is None or deferrable(tier) or not np.isfinite(forecast.values[2]).any():
        return None
    steps = max(1, int((seen.boot_s + seen.load_model_s) // 60))
    both = float(np.nanmax(forecast.values[2, :steps]))
    upper = 0.0 if above is None else min(both, float(np.nanmax(np.nan_to_num(above.values[2, :steps]))))
    probability = probability_of(tier.statistic)
    servers = max(1, int(capacity))
    # As in `capacity.expected_miss`: past the knee the wait there, and on top the backlog of a lead time.
    fits = min(1.0, KNEE * servers / both) if both > 0 else 1.0
    load, higher = (both - upper) * fits, upper * fits
    wait_s = tier_wait_s(servers, load, higher, max(seen.work_mean_s, 0.1), probability, 1.0, seen.work_scv)
    wait_s += (1 / fits - 1) * (seen.boot_s + seen.load_model_s)
    execution_s = seen.work_mean_s if tier.of is LatencyOf.END_TO_END else 0.0
    return (wait_s + execution_s) * 1000
