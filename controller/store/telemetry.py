"""Demand by the minute, envelope terms as measured, dollars by the clock hour."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import func
from sqlmodel import col, select

from controller.core.types import FloatArray, Sample, Series
from controller.store.convert import finite, floored, moment, seconds
from controller.store.ledger import Ledger
from models.enums import EnvelopeStatus
from models.telemetry import DemandMinute, SpendHour, TermReading

MINUTE_S = 60.0
HISTORY_STEP_S = 600.0


@dataclass(frozen=True, slots=True)
class TermMinute:
    """An envelope term at at_s: a tier's name, with values in ms, or "spend", in dollars of the clock hour.

    `value` None: unknown.
    """

    service: str
    term: str
    at_s: float
    value: float | None
    limit: float | None
    status: EnvelopeStatus
    forecast_p90: float | None = None
    count: int = 0


class Telemetry(Ledger):
    """What was measured, in regular steps; an absent minute is a gap, not a zero."""

    _loads: dict[tuple[str, str], Series] | None = None
    _term_minute: dict[tuple[str, str], float] | None = None
    _spends: dict[tuple[str, float], tuple[float, float | None]] | None = None

    def record_samples(self, samples: Sequence[Sample]) -> None:
        """Upserts minutes; a minute measured again is written over."""
        if not samples:
            return
        with self._write():
            for sample in samples:
                minute_s = floored(sample.minute_s, MINUTE_S)
                self._remember_load(sample, minute_s)
                self._pending.put(
                    DemandMinute,
                    {
                        "service": sample.service,
                        "tier": sample.tier,
                        "step_s": 60,
                        "at": moment(minute_s),
                        "arrivals": sample.arrivals,
                        "work_s": sample.work_s,
                        "started": sample.started,
                        "wait_mean_s": finite(sample.wait_mean_s),
                        "wait_p95_s": finite(sample.wait_p95_s),
                        "wait_max_s": finite(sample.wait_max_s),
                    },
                )

    def record_history(self, service: str, loads: Mapping[str, Series]) -> None:
        """Recorded load by tier, of a time before any telemetry, as ten-minute rows: the form of older telemetry.

        A step measured for less than half stays a gap. A load says nothing of how many requests made it: `arrivals` and
        `started` are 0 in these rows, and no wait is known.
        """
        with self._write():
            for tier, load in loads.items():
                first_s = floored(load.start_s, HISTORY_STEP_S)
                steps = ((load.start_s + load.step_s * np.arange(len(load.values)) - first_s) // HISTORY_STEP_S).astype(
                    int
                )
                for step in np.unique(steps):
                    part = load.values[steps == step]
                    measured = part[np.isfinite(part)]
                    if 2 * len(measured) * load.step_s < HISTORY_STEP_S:
                        continue
                    self._pending.put(
                        DemandMinute,
                        {
                            "service": service,
                            "tier": tier,
                            "step_s": round(HISTORY_STEP_S),
                            "at": moment(first_s + float(step) * HISTORY_STEP_S),
                            "arrivals": 0,
                            "work_s": float(measured.mean()) * HISTORY_STEP_S,
                            "started": 0,
                            "wait_mean_s": None,
                            "wait_p95_s": None,
                            "wait_max_s": None,
                        },
                    )
            self._loads = None

    def sampled_until(self, service: str) -> float | None:
        """The end of the newest minute known for a service; None where there is none."""
        newest = select(func.max(DemandMinute.at)).where(DemandMinute.service == service, DemandMinute.step_s == 60)
        with self._read() as session:
            at = session.exec(newest).first()
        return None if at is None else seconds(at) + MINUTE_S

    def load_series(self, service: str, tier: str, since_s: float, until_s: float) -> Series:
        """Offered load of a tier in minutes over [since_s, until_s), both widened to whole minutes; gaps are NaN.

        Where only a roll-up is left, each of its minutes has its mean; a finer row wins over a coarser one. Rows are
        read once: later calls are served from memory, which `record_samples` keeps true.
        """
        start_s = floored(since_s, MINUTE_S)
        size = max(0, math.ceil((until_s - start_s) / MINUTE_S))
        with self._lock:
            images = self._loads = self._loads or {}
            image = images.get((service, tier))
            if image is None or image.start_s > start_s:
                image = images[service, tier] = self._read_loads(service, tier, start_s)
            values: FloatArray = np.full(size, np.nan)
            first = round((start_s - image.start_s) / MINUTE_S)
            known = image.values[first : first + size]
            values[: len(known)] = known
        return Series(start_s, MINUTE_S, values)

    def _read_loads(self, service: str, tier: str, start_s: float) -> Series:
        rows = (
            select(DemandMinute.step_s, DemandMinute.at, DemandMinute.work_s)
            .where(DemandMinute.service == service, DemandMinute.tier == tier)
            .where(DemandMinute.at > moment(start_s - 3600.0))
            .order_by(col(DemandMinute.step_s).desc())
        )
        with self._read() as session:
            steps = [
                (step_s, round((seconds(at) - start_s) / MINUTE_S), work_s) for step_s, at, work_s in session.exec(rows)
            ]
        values: FloatArray = np.full(max((first + step_s // 60 for step_s, first, _ in steps), default=0), np.nan)
        for step_s, first, work_s in steps:
            values[max(first, 0) : max(first + step_s // 60, 0)] = work_s / step_s
        return Series(start_s, MINUTE_S, values)

    def _remember_load(self, sample: Sample, minute_s: float) -> None:
        key = (sample.service, sample.tier)
        image = (self._loads or {}).get(key)
        if image is None or self._loads is None or minute_s < image.start_s:
            return
        index, values = round((minute_s - image.start_s) / MINUTE_S), image.values
        if index >= len(values):
            values = np.concatenate([values, np.full(index + 1 - len(values), np.nan)])
            self._loads[key] = Series(image.start_s, MINUTE_S, values)
        values[index] = sample.work_s / MINUTE_S

    def record_terms(self, terms: Sequence[TermMinute]) -> None:
        """At most one reading a term and minute, stamped with the minute's start; the first of a minute stays."""
        with self._lock:
            written = self._term_minute = self._term_minute or {}
            rows: list[dict[str, Any]] = []
            for term in terms:
                at_s, key = floored(term.at_s, MINUTE_S), (term.service, term.term)
                if written.get(key) == at_s:
                    continue
                written[key] = at_s
                rows.append(
                    {
                        "service": term.service,
                        "term": term.term,
                        "at": moment(at_s),
                        "value": finite(term.value),
                        "limit": finite(term.limit),
                        "forecast_p90": finite(term.forecast_p90),
                        "status": term.status.value,
                        "count": term.count,
                    }
                )
            if rows:
                with self._write():
                    for row in rows:
                        self._pending.put(TermReading, row)

    def record_spend(self, hour_s: float, subject: str, usd: float, cap_usd: float | None) -> None:
        """Dollars accrued so far in the clock hour that holds hour_s. `subject`: a service, or "jobs"."""
        hour_s = floored(hour_s, 3600.0)
        with self._lock:
            known = self._spends = self._spends or {}
            if known.get((subject, hour_s)) == (usd, cap_usd):
                return
            with self._write():
                row = {"subject": subject, "hour": moment(hour_s), "usd": usd, "cap_usd": cap_usd}
                self._pending.put(SpendHour, row)
            self._spends = {key: value for key, value in known.items() if key[1] >= hour_s - 3600.0}
            self._spends[subject, hour_s] = (usd, cap_usd)

    def _forget(self) -> None:
        self._loads = self._term_minute = self._spends = None
        super()._forget()
