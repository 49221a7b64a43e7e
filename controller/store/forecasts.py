"""Forecasts as made, thinned at the door, and how each model did."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from sqlalchemy import func
from sqlmodel import col, select

from controller.core.types import Forecast
from controller.store.convert import finite, floored, moment, plain, seconds
from controller.store.ledger import Ledger
from models.forecasts import ForecastRow, ForecastScore

_DIGITS = 4


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
    """At most one row a series and grid in each step of the grid: a minute, or ten."""

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
