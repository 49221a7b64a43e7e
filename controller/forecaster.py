"""The impure edge of forecasting: it keeps fits and forecasts in memory and sends the fitting to a process pool.

A tick only updates: it turns the last minutes into quantiles with parameters fitted earlier, once a minute on the
minute grid and once in ten minutes on the other. Fits are plain functions of plain values (`fit_series`), so that a
replay runs them in place and the live controller in a pool, where a slow one delays nothing.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from controller.core.forecast.base import GRIDS, CannotFit, Fitted, model_named
from controller.core.forecast.naive import persistence
from controller.core.forecast.select import Score, refit, select
from controller.core.series import DAY_S, HOUR_S, clip, resample, sanitise, until
from controller.core.types import QUANTILES, FloatArray, Forecast, Reason, Series
from models.enums import Limit

LONGEST_HISTORY_S = 28 * DAY_S


class Refit(StrEnum):
    """`SELECT`: score all models anew and fit the best. `UPDATE`: refresh the leader's parameters if that is cheap."""

    SELECT = "select"
    UPDATE = "update"


@dataclass(frozen=True, slots=True)
class FitJob:
    """What a worker needs, and all of it. `leader` None: none yet."""

    service: str
    key: str
    history: Series
    steps: int
    kind: Refit
    leader: str | None


@dataclass(frozen=True, slots=True)
class FitOutcome:
    """What a worker returns. `fitted` None: nothing could be fitted, and `note` says why. No `scores`: none made."""

    service: str
    key: str
    step_s: float
    kind: Refit
    fitted: Fitted | None
    scores: tuple[Score, ...]
    note: str


def fit_series(job: FitJob) -> FitOutcome:
    """Run one job. Picklable, deterministic, and it doesn't raise for odd data."""
    step_s = job.history.step_s
    if job.kind is Refit.UPDATE and job.leader is not None:
        try:
            fitted = refit(job.history, job.steps, job.leader)
        except CannotFit as error:
            return FitOutcome(job.service, job.key, step_s, job.kind, None, (), str(error))
        return FitOutcome(job.service, job.key, step_s, job.kind, fitted, (), "")
    chosen = select(job.history, job.steps, incumbent=job.leader)
    return FitOutcome(job.service, job.key, step_s, Refit.SELECT, chosen.fitted, chosen.scores, chosen.note)


@dataclass(slots=True)
class _Line:
    """One series on one grid."""

    fitted: Fitted | None = None
    scores: tuple[Score, ...] = ()
    note: str = "not fitted yet"
    trouble: str = ""
    forecast: Forecast | None = None
    source_end_s: float = field(default=float("nan"))


@dataclass(slots=True)
class _Due:
    select_s: float
    update_s: float


class Forecaster:
    """Forecasts of any number of services. Keys are tiers, or any name the caller gives a series (joined tiers too)."""

    def __init__(
        self,
        grids: Sequence[tuple[float, int]] = GRIDS,
        *,
        select_every_s: float = DAY_S,
        update_every_s: float = 6 * HOUR_S,
        retry_every_s: float = HOUR_S,
        time_limit_s: float = 120.0,
        elapsed_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`*_every_s` count in the data's time, `time_limit_s` (of one fit in a pool) in real time by `elapsed_s`."""
        self.grids = tuple(grids)
        self.select_every_s = select_every_s
        self.update_every_s = update_every_s
        self.retry_every_s = retry_every_s
        self.time_limit_s = time_limit_s
        self._elapsed_s = elapsed_s
        self._lines: dict[tuple[str, str, float], _Line] = {}
        self._due: dict[str, _Due] = {}
        self._running: list[tuple[Future[FitOutcome], FitJob, float]] = []

    def forecast(self, service: str, loads: Mapping[str, Series], now_s: float) -> dict[tuple[str, float], Forecast]:
        """A forecast for each key and step, from minute series that end at now or before. Cheap; never raises for odd
        data: what can't be forecast is NaN, with the reason."""
        found: dict[tuple[str, float], Forecast] = {}
        for key, series in loads.items():
            for step_s, steps in self.grids:
                line = self._lines.setdefault((service, key, step_s), _Line())
                origin_s = float(np.floor(now_s / step_s) * step_s)
                end_s = min(series.end_s, origin_s)
                made = line.forecast
                if made is None or made.start_s != origin_s or line.source_end_s != end_s:
                    line.forecast = made = self._make(service, key, line, series, now_s, origin_s, step_s, steps)
                    line.source_end_s = end_s
                found[key, step_s] = made
        return found

    def refit_due(self, service: str, now_s: float) -> Refit | None:
        """What is due for a service; None: nothing, or it is being done."""
        if any(job.service == service for _, job, _ in self._running):
            return None
        due = self._due.get(service)
        if due is None or now_s >= due.select_s:
            return Refit.SELECT
        return Refit.UPDATE if now_s >= due.update_s else None

    def refit(self, service: str, loads: Mapping[str, Series], now_s: float, kind: Refit = Refit.SELECT) -> list[str]:
        """Fit here and now, for a replay. Returns what changed, in words."""
        said = [self._keep(fit_series(job)) for job in self._jobs(service, loads, now_s, kind)]
        self._plan_next(service, now_s, kind)
        return [word for word in said if word]

    def refit_async(
        self, executor: Executor, service: str, loads: Mapping[str, Series], now_s: float, kind: Refit = Refit.SELECT
    ) -> int:
        """Send the fits to a pool; `collect` fetches them. Returns how many were sent."""
        jobs = self._jobs(service, loads, now_s, kind)
        for job in jobs:
            self._running.append((executor.submit(fit_series, job), job, self._elapsed_s()))
        self._due[service] = _Due(now_s + self.select_every_s, now_s + self.update_every_s)
        return len(jobs)

    def collect(self, now_s: float) -> list[str]:
        """Take in what the pool has finished, give up on what takes over the time limit, and say what changed."""
        said: list[str] = []
        waiting: list[tuple[Future[FitOutcome], FitJob, float]] = []
        services = {job.service: job.kind for _, job, _ in self._running}
        for future, job, since_s in self._running:
            if future.done():
                error = future.exception() if not future.cancelled() else RuntimeError("cancelled")
                outcome = future.result() if error is None else None
                said.append(self._keep(outcome) if outcome else self._trouble(job, f"the fit failed: {error!r}"))
            elif self._elapsed_s() - since_s > self.time_limit_s:
                future.cancel()
                said.append(self._trouble(job, f"the fit took over {self.time_limit_s:.0f} s and was given up"))
            else:
                waiting.append((future, job, since_s))
        self._running = waiting
        for service, kind in services.items():
            if not any(job.service == service for _, job, _ in waiting):
                self._plan_next(service, now_s, kind)
        return [word for word in said if word]

    def scores(self, service: str) -> list[tuple[str, float, Score]]:
        """(key, step_s, score) of every model as last judged."""
        return [
            (key, step_s, score)
            for (owner, key, step_s), line in self._lines.items()
            if owner == service
            for score in line.scores
        ]

    def leaders(self, service: str) -> dict[tuple[str, float], str]:
        """The model in use for each key and step; a line without a fit is absent."""
        return {
            (key, step_s): line.fitted.model
            for (owner, key, step_s), line in self._lines.items()
            if owner == service and line.fitted is not None
        }

    def _jobs(self, service: str, loads: Mapping[str, Series], now_s: float, kind: Refit) -> list[FitJob]:
        jobs: list[FitJob] = []
        for key, series in loads.items():
            history = sanitise(clip(series, now_s - LONGEST_HISTORY_S, now_s))
            for step_s, steps in self.grids:
                line = self._lines.setdefault((service, key, step_s), _Line())
                leader = line.fitted.model if line.fitted else None
                if kind is Refit.UPDATE and (leader is None or model_named(leader).expensive):
                    continue
                jobs.append(FitJob(service, key, resample(history, step_s), steps, kind, leader))
        return jobs

    def _plan_next(self, service: str, now_s: float, kind: Refit) -> None:
        due = self._due.get(service)
        unfitted = any(line.fitted is None for (owner, _, _), line in self._lines.items() if owner == service)
        unscored = all(score.pinball is None for _, _, score in self.scores(service))
        if kind is Refit.UPDATE and due is not None:
            select_s = due.select_s
        else:  # too little history is a matter of hours, not of tomorrow
            select_s = now_s + (self.retry_every_s if unfitted or unscored else self.select_every_s)
        self._due[service] = _Due(select_s, now_s + self.update_every_s)

    def _keep(self, outcome: FitOutcome) -> str:
        line = self._lines.setdefault((outcome.service, outcome.key, outcome.step_s), _Line())
        where = f"{outcome.service}/{outcome.key} at {outcome.step_s:.0f} s"
        if outcome.scores:
            line.scores = outcome.scores
        if outcome.fitted is None:
            line.trouble = outcome.note
            line.note = line.note if line.fitted else outcome.note
            return f"{where}: {outcome.note}"
        before = line.fitted.model if line.fitted else None
        line.fitted, line.trouble, line.forecast = outcome.fitted, "", None
        line.note = outcome.note or line.note
        return f"{where}: {line.note}" if before != outcome.fitted.model else ""

    def _trouble(self, job: FitJob, text: str) -> str:
        line = self._lines.setdefault((job.service, job.key, job.history.step_s), _Line())
        line.trouble = text
        return f"{job.service}/{job.key} at {job.history.step_s:.0f} s: {text}"

    def _make(
        self,
        service: str,
        key: str,
        line: _Line,
        series: Series,
        now_s: float,
        origin_s: float,
        step_s: float,
        steps: int,
    ) -> Forecast:
        values, model, note, silent_s = self._paths(line, series, origin_s, step_s, steps)
        words = [note]
        if line.trouble:
            words.append(line.trouble)
        if silent_s > 0:
            words.append(f"the last {silent_s / 60:.0f} min before it were not measured")
        mine = next((score for score in line.scores if score.model == model), None)
        numbers: dict[str, float | None] = {
            "fitted_s": line.fitted.fitted_s if line.fitted else None,
            "pinball": mine.pinball if mine else None,
            "wape": mine.wape if mine else None,
            "coverage_p90": mine.coverage_p90 if mine else None,
            "not_measured_s": silent_s,
        }
        reason = Reason(Limit.FORECAST, "; ".join(words), numbers)
        return Forecast(service, key, now_s, origin_s, step_s, QUANTILES, values, model, reason)

    def _paths(
        self, line: _Line, series: Series, origin_s: float, step_s: float, steps: int
    ) -> tuple[FloatArray, str, str, float]:
        fitted = line.fitted
        reach_s = DAY_S if fitted is None else max(DAY_S, model_reach_s(fitted), origin_s - fitted.fitted_s)
        recent = sanitise(clip(series, origin_s - reach_s - HOUR_S, origin_s))
        if not np.isfinite(recent.values).all():  # a long gap is filled from the day before it
            recent = sanitise(clip(series, origin_s - reach_s - DAY_S - HOUR_S, origin_s))
        known = np.flatnonzero(np.isfinite(recent.values))
        measured_s = recent.start_s + (known[-1] + 1) * recent.step_s if len(known) else -np.inf
        silent_s = float(max(0.0, min(origin_s - measured_s, reach_s)))
        coarse = resample(until(recent, origin_s), step_s)
        note = line.note
        if fitted is not None and len(known):
            try:
                values = model_named(fitted.model).predict(fitted, coarse, origin_s, steps)
            except CannotFit as error:
                note = str(error)
            else:
                if np.isfinite(values).all():
                    return values, fitted.model, note, silent_s
                note = f"{fitted.model} gave no number"
        values, why = persistence(coarse, steps)
        return values, "persistence" if len(known) else "none", f"{note}; {why}", silent_s


def model_reach_s(fitted: Fitted) -> float:
    """How far back the fitted model looks."""
    return float(getattr(model_named(fitted.model), "reach_s", DAY_S))
