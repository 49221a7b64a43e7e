"""The record of a live loop's forecasts: changes in the ledger, scores and standings in tables, parameters stored.

A forecast itself is recorded by the journal, with the tick that used it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from controller.core.forecast.parameters import Parameters, to_json
from controller.core.forecast.standing import BASELINES, coverage, live, window_h
from controller.core.series import DAY_S, HOUR_S
from controller.forecaster import Forecaster
from controller.lines import Change, Line
from controller.store import Store
from controller.store.forecasts import StandingReading
from models.enums import LedgerKind

STANDINGS_EVERY_S: Final = 600.0
PARAMETERS_EVERY_S: Final = HOUR_S
COVERAGE_H: Final = DAY_S / HOUR_S


@dataclass(frozen=True, slots=True)
class ScoreReading:
    """A model's score as the store keeps it."""

    service: str
    tier: str
    step_s: float
    model: str
    at_s: float
    pinball: float | None
    wape: float | None
    coverage_p90: float | None
    origins: int
    leads: bool
    note: str


class ForecastRecord:
    """What is written of one service's forecasts beside themselves. Parameters are stored after each fit and hourly, of
    the lines that changed, so that `restore` after a restart goes on with at most an hour's learning lost."""

    def __init__(self, service: str, store: Store, forecaster: Forecaster) -> None:
        self._service, self._store, self._forecaster = service, store, forecaster
        self._stored: dict[tuple[str, float], Parameters] = {}
        self._stored_s = self._stood_s = float("-inf")

    def restore(self, now_s: float) -> None:
        """Go on with what is stored; what can't be used is said in the ledger and fitted anew."""
        said = self._forecaster.restore(self._service, self._store.parameters(self._service), now_s)
        self._stored = self._forecaster.parameters(self._service)
        self._stored_s = now_s
        self._enter(said, now_s)

    def fitted(self, said: Sequence[Change], now_s: float) -> None:
        """After fits were taken in: what changed, every model's score, standings and parameters."""
        with self._store.batch():
            self._enter(said, now_s)
            self._scores(now_s)
            self._standings(now_s)
            self._parameters(now_s)

    def ticked(self, said: Sequence[Change], now_s: float) -> None:
        """After each tick's forecasts: what changed by itself, and what is due."""
        stands = not 0 <= now_s - self._stood_s < STANDINGS_EVERY_S
        stores = not 0 <= now_s - self._stored_s < PARAMETERS_EVERY_S
        if not (said or stands or stores):
            return
        with self._store.batch():
            self._enter(said, now_s)
            if said or stands:
                self._standings(now_s)
            if said or stores:
                self._parameters(now_s)

    def _enter(self, said: Sequence[Change], now_s: float) -> None:
        for change in said:
            self._store.enter(
                LedgerKind.FORECAST,
                now_s=now_s,
                subject="forecast",
                what=change.what,
                service=self._service,
                numbers=change.numbers,
            )

    def _scores(self, now_s: float) -> None:
        leaders = self._forecaster.leaders(self._service)
        self._store.record_scores(
            [
                ScoreReading(
                    self._service,
                    key,
                    step_s,
                    score.model,
                    now_s,
                    score.pinball,
                    score.wape,
                    score.coverage_p90,
                    score.origins,
                    leaders.get((key, step_s)) == score.model,
                    score.note,
                )
                for key, step_s, score in self._forecaster.scores(self._service)
            ]
        )

    def _standings(self, now_s: float) -> None:
        self._stood_s = now_s
        lines = self._forecaster.lines(self._service)
        self._store.record_standings(
            [standing_reading(line, line.parameters, now_s) for line in lines if line.parameters is not None]
        )

    def _parameters(self, now_s: float) -> None:
        self._stored_s = now_s
        found = self._forecaster.parameters(self._service)
        changed = {place: each for place, each in found.items() if self._stored.get(place) is not each}
        documents = {place: (each.fitted.model, to_json(each)) for place, each in changed.items()}
        self._store.record_parameters(self._service, documents, now_s)
        self._stored = found


def standing_reading(line: Line, parameters: Parameters, now_s: float) -> StandingReading:
    """How a line stands, for the tables: live over its window, coverage over the last day."""
    standing, hours = parameters.standing, window_h(line.step_s)
    serving = live(standing, standing.serving, now_s, hours)
    naive = [live(standing, name, now_s, hours) for name in BASELINES]
    known = [each.pinball for each in naive if each.points]
    pinball = next((score.pinball for score in parameters.scores if score.model == standing.leader), None)
    return StandingReading(
        service=line.service,
        tier=line.key,
        step_s=line.step_s,
        at_s=now_s,
        leader=standing.leader,
        serving=standing.serving,
        pinball=pinball,
        live_pinball=serving.pinball,
        live_naive_pinball=min(known, default=None),
        live_points=serving.points,
        window_h=hours,
        coverage=coverage(standing, standing.serving, now_s, max(hours, COVERAGE_H)),
        signals=tuple(use.name for use in parameters.fitted.uses),
        signals_dropped=line.dropped,
        fitted_s=parameters.fitted.fitted_s,
        selected_s=parameters.selected_s,
        history_s=parameters.history_s,
        judgement=line.judgement,
    )
