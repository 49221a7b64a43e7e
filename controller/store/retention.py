"""Old telemetry rolled up and thinned, in batches that never hold the database for long.

Kept for good: the ledger, envelopes, overrides, intents, settlements, spend by the hour, jobs, guardrail events, plans
that acted, with their actions, and what-if runs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import delete, exists, func, select

from controller.core.points import KEPT_S
from controller.store.convert import floored, moment, seconds
from controller.store.pending import Model, Row, table_of
from controller.store.transactions import Transactions
from models.fleet import ReplicaRow
from models.forecasts import ForecastRow, ForecastScore
from models.ledger import DecisionSettlement
from models.plans import PlanRow
from models.signals import SignalValue
from models.surges import SurgeRow
from models.telemetry import DemandMinute, FleetMinute, TermReading

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
WINDOW_S = 6 * HOUR_S
WINDOWS = 4
ROWS = 2000
_IN = 500


@dataclass(frozen=True, slots=True)
class Thinning:
    """Of rows older than `older_s`, the first of every `every_s` of each `series` stays; None: none does."""

    model: Model
    at: str
    series: tuple[str, ...]
    older_s: float
    every_s: float | None


ROLL_UPS = ((60, 600, 2 * DAY_S), (600, 3600, 14 * DAY_S))

_POOL, _TERM, _GRID = ("service", "offer_id"), ("service", "term"), ("service", "tier", "step_s")

THINNINGS = (
    Thinning(FleetMinute, "at", _POOL, 2 * DAY_S, 600.0),
    Thinning(FleetMinute, "at", _POOL, 14 * DAY_S, HOUR_S),
    Thinning(TermReading, "at", _TERM, 2 * DAY_S, 600.0),
    Thinning(TermReading, "at", _TERM, 14 * DAY_S, HOUR_S),
    Thinning(ForecastRow, "made_at", _GRID, 3 * HOUR_S, 600.0),
    Thinning(ForecastRow, "made_at", _GRID, 2 * DAY_S, HOUR_S),
    Thinning(ForecastRow, "made_at", _GRID, 14 * DAY_S, None),
    Thinning(ForecastScore, "at", (*_GRID, "model"), 2 * DAY_S, HOUR_S),
    Thinning(ForecastScore, "at", (*_GRID, "model"), 14 * DAY_S, None),
    Thinning(SurgeRow, "end_at", ("service",), 14 * DAY_S, None),
)


class Retention(Transactions):
    """Each call does a bounded part of the work; what is left waits for the next."""

    _thinned_s: dict[int, float] | None = None

    def retention(self, now_s: float) -> dict[str, int]:
        """Rolls up, thins and prunes a part of what is due; returns how many rows of each table went."""
        removed: dict[str, int] = {}
        for fine_s, coarse_s, older_s in ROLL_UPS:
            for _ in range(WINDOWS):
                count = self._roll_up(fine_s, coarse_s, floored(now_s - older_s, coarse_s))
                removed["demand"] = removed.get("demand", 0) + count
                if not count:
                    break
        for number, thinning in enumerate(THINNINGS):
            name = table_of(thinning.model).name
            removed[name] = removed.get(name, 0) + self._thin(number, thinning, now_s)
        replica, plan = table_of(ReplicaRow), table_of(PlanRow)
        old = moment(now_s - 14 * DAY_S)
        removed["signal_value"] = self._prune(SignalValue, table_of(SignalValue).c.at < moment(now_s - KEPT_S))
        removed["replica"] = self._prune(ReplicaRow, replica.c.ended_at < old)
        removed["plan"] = self._prune(PlanRow, (plan.c.action_count == 0) & (plan.c.held_until < old))
        part = table_of(DecisionSettlement)
        gone = ~exists(select(plan.c.id).where(plan.c.id == part.c.plan_id))
        removed["decision_settlement"] = self._prune(DecisionSettlement, (part.c.hour < old) & gone)
        return removed

    def _roll_up(self, fine_s: int, coarse_s: int, before_s: float) -> int:
        """The oldest window of fine rows, as coarse ones. Counts are those of a whole step at the measured rate.

        A step measured for less than half stays a gap. Its p95 is the largest of its parts: an upper bound.
        """
        table = table_of(DemandMinute)
        fine = table.c.step_s == fine_s
        with self._lock:
            with self._read() as session:
                oldest = session.connection().execute(select(func.min(table.c.at)).where(fine)).scalar()
            if oldest is None or seconds(oldest) >= before_s:
                return 0
            until_s = min(before_s, floored(seconds(oldest), coarse_s) + WINDOW_S)
            window = fine & (table.c.at < moment(until_s))
            with self._write() as session:
                steps: dict[tuple[str, str, float], list[Any]] = {}
                for row in session.connection().execute(select(table).where(window).order_by(table.c.at)):
                    steps.setdefault((row.service, row.tier, floored(seconds(row.at), coarse_s)), []).append(row)
                for (service, tier, at_s), parts in steps.items():
                    if 2 * len(parts) * fine_s >= coarse_s:
                        self._pending.put(DemandMinute, _rolled(service, tier, at_s, coarse_s, parts, fine_s))
                return session.connection().execute(delete(table).where(window)).rowcount

    def _thin(self, number: int, thinning: Thinning, now_s: float) -> int:
        table = table_of(thinning.model)
        at = table.c[thinning.at]
        before_s = floored(now_s - thinning.older_s, thinning.every_s or HOUR_S)
        if thinning.every_s is None:
            return self._prune(thinning.model, at < moment(before_s))
        removed = 0
        with self._lock:
            done = self._thinned_s = self._thinned_s or {}
            for _ in range(WINDOWS):
                begun = moment(done.get(number, 0.0))
                with self._read() as session:
                    oldest = select(func.min(at)).where(at >= begun, at < moment(before_s))
                    first = session.connection().execute(oldest).scalar()
                if first is None:
                    break
                until_s = min(before_s, floored(seconds(first), WINDOW_S) + WINDOW_S)
                with self._write() as session:
                    series = [table.c[name] for name in thinning.series]
                    rows = select(table.c.id, at, *series).where(at >= first, at < moment(until_s)).order_by(at)
                    kept: set[tuple[Any, ...]] = set()
                    surplus: list[int] = []
                    for row in session.connection().execute(rows):
                        place = (*row[2:], floored(seconds(row[1]), thinning.every_s))
                        surplus.append(row[0]) if place in kept else kept.add(place)
                    removed += self._delete(table, surplus)
                done[number] = until_s
        return removed

    def _prune(self, model: Model, where: Any) -> int:
        table = table_of(model)
        with self._lock:
            with self._read() as session:
                ids = session.connection().execute(select(table.c.id).where(where).limit(ROWS)).scalars().all()
            if not ids:
                return 0
            with self._write():
                return self._delete(table, ids)

    def _delete(self, table: Any, ids: Sequence[Any]) -> int:
        with self._write() as session:
            for start in range(0, len(ids), _IN):
                session.connection().execute(delete(table).where(table.c.id.in_(ids[start : start + _IN])))
        return len(ids)

    def _forget(self) -> None:
        self._thinned_s = None
        super()._forget()


def _rolled(service: str, tier: str, at_s: float, coarse_s: int, parts: Sequence[Any], fine_s: int) -> Row:
    whole = coarse_s / (len(parts) * fine_s)
    started = np.array([part.started for part in parts], dtype=float)
    means = np.array([np.nan if part.wait_mean_s is None else part.wait_mean_s for part in parts], dtype=float)
    measured = np.isfinite(means) & (started > 0)
    return {
        "service": service,
        "tier": tier,
        "step_s": coarse_s,
        "at": moment(at_s),
        "arrivals": round(sum(part.arrivals for part in parts) * whole),
        "work_s": sum(part.work_s for part in parts) * whole,
        "started": round(float(started.sum()) * whole),
        "wait_mean_s": float(np.average(means[measured], weights=started[measured])) if measured.any() else None,
        "wait_p95_s": _largest(part.wait_p95_s for part in parts),
        "wait_max_s": _largest(part.wait_max_s for part in parts),
    }


def _largest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
