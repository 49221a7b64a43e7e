"""Forecasts as made, thinned at the door, how each model did, and what each line has learned."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import numpy as np
from sqlalchemy import func
from sqlmodel import col, select

from controller.core.forecast.standing import Coverage
from controller.core.types import Forecast
from controller.store.convert import finite, floored, moment, plain, seconds
from controller.store.ledger import Ledger
from models.forecasts import ForecastParameters, ForecastRow, ForecastScore, ForecastStanding

_DIGITS = 4


@dataclass(frozen=True, slots=True)
class StandingReading:
    """How a line of forecasts stands; fields as in `models.forecasts.ForecastStanding`. Unknown figures are None or
    NaN."""

    service: str
    tier: str
    step_s: float
    at_s: float
    leader: str
    serving: str
    pinball: float | None
    live_pinball: float | None
    live_naive_pinball: float | None
    live_points: int
    window_h: float
    coverage: tuple[Coverage, ...]
    signals: tuple[str, ...]
    signals_dropped: str
    fitted_s: float
    selected_s: float
    history_s: float
    judgement: str


class ModelScore(Protocol):
    """A model's rolling score for a series and grid. Unknown figures are None or NaN."""

    @property
    def service(self) -> str: ...
    @property
    def tier(self) -> str: ...
    @property
    def step_s(self) -> float: ...
    @property
    def model(self) -> str: ...
    @property
    def at_s(self) -> float: ...
    @property
    def pinball(self) -> float | None: ...
    @property
    def wape(self) -> float | None: ...
    @property
    def coverage_p90(self) -> float | None: ...
    @property
    def origins(self) -> int: ...
    @property
    def leads(self) -> bool: ...
    @property
    def note(self) -> str: ...


class Forecasts(Ledger):
    """At most one forecast a series and grid in each step of the grid: a minute, ten, an hour."""

    _made: dict[tuple[str, str, int], float] | None = None

    def record_forecasts(self, forecasts: Sequence[Forecast]) -> int:
        """Writes those whose grid is due and returns how many. Loads are kept to four decimals."""
        with self._lock:
            made = self._made = self._made_until()
            rows: list[dict[str, Any]] = []
            for forecast in forecasts:
                step_s = round(forecast.step_s)
                slot, key = floored(forecast.made_s, step_s), (forecast.service, forecast.tier, step_s)
                if made.get(key) == slot:
                    continue
                made[key] = slot
                rows.append(
                    {
                        "service": forecast.service,
                        "tier": forecast.tier,
                        "step_s": step_s,
                        "made_at": moment(forecast.made_s),
                        "start_at": moment(forecast.start_s),
                        "quantiles": list(forecast.quantiles),
                        "values": plain(np.round(forecast.values, _DIGITS)),
                        "model": forecast.model,
                        "reason": forecast.reason.text,
                        "numbers": plain(forecast.reason.numbers),
                    }
                )
            if rows:
                with self._write():
                    for row in rows:
                        self._pending.put(ForecastRow, row)
            return len(rows)

    def record_scores(self, scores: Sequence[ModelScore]) -> None:
        """Upserts scores by series, grid, model and time."""
        if not scores:
            return
        with self._write():
            for score in scores:
                self._pending.put(
                    ForecastScore,
                    {
                        "service": score.service,
                        "tier": score.tier,
                        "step_s": round(score.step_s),
                        "model": score.model,
                        "at": moment(score.at_s),
                        "pinball": finite(score.pinball),
                        "wape": finite(score.wape),
                        "coverage_p90": finite(score.coverage_p90),
                        "origins": score.origins,
                        "leads": score.leads,
                        "note": score.note,
                    },
                )

    def record_standings(self, standings: Sequence[StandingReading]) -> None:
        """How each line stands now, written over how it stood."""
        if not standings:
            return
        with self._write():
            for each in standings:
                self._pending.put(
                    ForecastStanding,
                    {
                        "service": each.service,
                        "tier": each.tier,
                        "step_s": round(each.step_s),
                        "at": moment(each.at_s),
                        "leader": each.leader,
                        "serving": each.serving,
                        "pinball": finite(each.pinball),
                        "live_pinball": finite(each.live_pinball),
                        "live_naive_pinball": finite(each.live_naive_pinball),
                        "live_points": each.live_points,
                        "window_h": each.window_h,
                        "coverage": plain(
                            [{"ahead_s": c.ahead_s, "raw": c.raw, "issued": c.issued} for c in each.coverage]
                        ),
                        "signals": list(each.signals),
                        "signals_dropped": each.signals_dropped,
                        "fitted_at": _known(each.fitted_s),
                        "selected_at": _known(each.selected_s),
                        "history_s": finite(each.history_s),
                        "judgement": each.judgement,
                    },
                )

    def record_parameters(
        self, service: str, lines: Mapping[tuple[str, float], tuple[str, dict[str, Any]]], now_s: float
    ) -> None:
        """What lines have learned, written over what they had: by tier and step the leader and a JSON document."""
        if not lines:
            return
        with self._write():
            for (tier, step_s), (leader, payload) in lines.items():
                self._pending.put(
                    ForecastParameters,
                    {
                        "service": service,
                        "tier": tier,
                        "step_s": round(step_s),
                        "at": moment(now_s),
                        "leader": leader,
                        "payload": payload,
                    },
                )

    def parameters(self, service: str) -> list[tuple[str, float, Any]]:
        """(tier, step_s, JSON document) of each line as last recorded."""
        with self._read() as session:
            rows = session.exec(
                select(ForecastParameters.tier, ForecastParameters.step_s, ForecastParameters.payload).where(
                    ForecastParameters.service == service
                )
            ).all()
        return [(tier, float(step_s), payload) for tier, step_s, payload in rows]

    def _made_until(self) -> dict[tuple[str, str, int], float]:
        if self._made is not None:
            return self._made
        series = (ForecastRow.service, ForecastRow.tier, ForecastRow.step_s)
        newest = select(*series, func.max(ForecastRow.made_at))
        with self._read() as session:
            rows = session.exec(newest.group_by(*map(col, series))).all()
        return {(service, tier, step_s): floored(seconds(at), step_s) for service, tier, step_s, at in rows}

    def _forget(self) -> None:
        self._made = None
        super()._forget()


def _known(at_s: float) -> datetime | None:
    return moment(at_s) if math.isfinite(at_s) else None
