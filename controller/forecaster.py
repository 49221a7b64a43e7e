"""The impure edge of forecasting: it keeps every line's state in memory and sends the fitting to a pool.

A tick only updates: it turns the last minutes into quantiles with parameters fitted earlier (`advance`), once in each
step of each grid, and learns from what came true (`lines`). Fits are plain functions of plain values (`fits`), so that
a replay runs them in place and the live controller in a pool, where a slow one delays nothing.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

from controller.advance import advance
from controller.core.cleaning import cleaned
from controller.core.forecast.base import GRIDS, Model, model_named
from controller.core.forecast.lstm import Lstm
from controller.core.forecast.parameters import Parameters, ParametersError, from_json
from controller.core.forecast.select import Score
from controller.core.forecast.signals import Outside
from controller.core.series import DAY_S, HOUR_S, clip, resample
from controller.core.types import Forecast, Series
from controller.fits import FitJob, FitOutcome, Refit, fit_series
from controller.lines import Change, Line, keep
from controller.lstm_training import Trainer

LONGEST_HISTORY_S = 28 * DAY_S


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
        time_limit_s: float = 1200.0,
        elapsed_s: Callable[[], float] = time.monotonic,
        trainer: Trainer | None = None,
    ) -> None:
        """`*_every_s` count in the data's time, `time_limit_s` in real time by `elapsed_s`: of
        one fit sent to a pool, its waiting for others included (the pool itself limits the work).
        `trainer`: trains the LSTM in the pool; None: it doesn't compete."""
        self.grids = tuple(grids)
        self.select_every_s = select_every_s
        self.update_every_s = update_every_s
        self.retry_every_s = retry_every_s
        self.time_limit_s = time_limit_s
        self.taken = 0
        """Fits taken in so far: whoever records scores and parameters looks whether it grew."""
        self._elapsed_s = elapsed_s
        self._trainer = trainer
        self._lines: dict[tuple[str, str, float], Line] = {}
        self._due: dict[str, _Due] = {}
        self._outside: dict[str, Outside] = {}
        self._said: list[Change] = []
        self._running: list[tuple[Future[FitOutcome], FitJob, float]] = []

    # --- each tick ---

    def know(self, service: str, outside: Outside) -> None:
        """Signals and events of a service from now on: events tell in the next tick, signals from the next selection
        on that admits them."""
        before = self._outside.get(service, Outside())
        self._outside[service] = outside
        if before.events != outside.events:
            for line in self._of(service):
                line.forecast = None

    def forecast(self, service: str, loads: Mapping[str, Series], now_s: float) -> dict[tuple[str, float], Forecast]:
        """A forecast for each key and step, from minute series that end at now or before. Cheap; never raises for odd
        data: what can't be forecast is NaN, with the reason."""
        outside = self._outside.get(service, Outside())
        found: dict[tuple[str, float], Forecast] = {}
        for key, series in loads.items():
            for step_s, steps in self.grids:
                line = self._line(service, key, step_s, steps)
                found[key, step_s], said = advance(line, series, now_s, outside)
                self._said += said
        return found

    def changes(self) -> list[Change]:
        """What changed in forecasts since this was last asked: demotions and promotions, drift, signals lost."""
        said, self._said = self._said, []
        return said

    # --- fits ---

    def refit_due(self, service: str, now_s: float) -> Refit | None:
        """What is due for a service; None: nothing, or it is being done."""
        if any(job.service == service for _, job, _ in self._running):
            return None
        due = self._due.get(service)
        if due is None or now_s >= due.select_s:
            return Refit.SELECT
        if any(line.drift for line in self._of(service)):
            return Refit.DRIFT
        return Refit.UPDATE if now_s >= due.update_s else None

    def refit(
        self, service: str, loads: Mapping[str, Series], now_s: float, kind: Refit = Refit.SELECT
    ) -> list[Change]:
        """Fit here and now, for a replay. Returns what changed."""
        said: list[Change] = []
        for job in self._jobs(service, loads, now_s, kind):
            said += self._keep(fit_series(job), job, now_s)
        self._plan_next(service, now_s, kind)
        return said

    def refit_async(
        self, executor: Executor, service: str, loads: Mapping[str, Series], now_s: float, kind: Refit = Refit.SELECT
    ) -> int:
        """Send the fits to a pool; `collect` fetches them. Returns how many were sent."""
        jobs = self._jobs(service, loads, now_s, kind)
        for job in jobs:
            self._running.append((executor.submit(fit_series, job), job, self._elapsed_s()))
        if kind is not Refit.DRIFT:
            self._due[service] = _Due(now_s + self.select_every_s, now_s + self.update_every_s)
        if self._trainer is not None:
            self._trainer.offer(service, {grid: self._histories(loads, now_s, grid[0]) for grid in self.grids})
            self._trainer.start(executor, now_s)
        return len(jobs)

    def collect(self, now_s: float) -> list[Change]:
        """Take in what the pool has finished, give up on what takes over the time limit, and say what changed."""
        said = [] if self._trainer is None else [Change(word) for word in self._trainer.collect()]
        waiting: list[tuple[Future[FitOutcome], FitJob, float]] = []
        services = {job.service: job.kind for _, job, _ in self._running}
        for future, job, since_s in self._running:
            if future.done():
                error = future.exception() if not future.cancelled() else RuntimeError("cancelled")
                if error is None:
                    said += self._keep(future.result(), job, now_s)
                else:
                    said.append(self._trouble(job, f"the fit failed: {error!r}"))
            elif self._elapsed_s() - since_s > self.time_limit_s:
                future.cancel()
                said.append(self._trouble(job, f"the fit took over {self.time_limit_s:.0f} s and was given up"))
            else:
                waiting.append((future, job, since_s))
        self._running = waiting
        for service, kind in services.items():
            if not any(job.service == service for _, job, _ in waiting):
                self._plan_next(service, now_s, kind)
        return said

    def put_off(self, service: str, now_s: float) -> None:
        """Try what is due again later: the fits can't even be sent."""
        again_s = now_s + self.retry_every_s
        self._due[service] = _Due(again_s, again_s)

    # --- what is known ---

    def scores(self, service: str) -> list[tuple[str, float, Score]]:
        """(key, step_s, score) of every model as last judged."""
        return [(line.key, line.step_s, score) for line in self._of(service) for score in line.scores]

    def leaders(self, service: str) -> dict[tuple[str, float], str]:
        """The model that leads for each key and step, demoted or not; a line without a fit is absent."""
        found = {(line.key, line.step_s): line.leader for line in self._of(service)}
        return {place: leader for place, leader in found.items() if leader is not None}

    def lines(self, service: str) -> list[Line]:
        """The lines of a service, for the record; not to be changed."""
        return self._of(service)

    def parameters(self, service: str) -> dict[tuple[str, float], Parameters]:
        """What is to be stored of each key and step, so that `restore` goes on from it."""
        return {(line.key, line.step_s): line.parameters for line in self._of(service) if line.parameters is not None}

    def restore(self, service: str, stored: Iterable[tuple[str, float, Any]], now_s: float) -> list[Change]:
        """Go on with documents of `parameters.to_json`, (key, step_s, document) each. Returns what couldn't be used, in
        words: those lines are fitted anew, at once. Nothing else is fitted before it is due."""
        said: list[Change] = []
        steps_of = dict(self.grids)
        selected_s: list[float] = []
        for key, step_s, document in stored:
            if step_s not in steps_of:
                continue
            line = self._line(service, key, step_s, steps_of[step_s])
            try:
                parameters = from_json(document)
                if (parameters.fitted.step_s, parameters.fitted.steps) != (step_s, steps_of[step_s]):
                    raise ParametersError("the stored parameters are of another grid")
            except ParametersError as error:
                line.trouble = f"{error}; fitted anew"
                said.append(line.say(line.trouble))
                selected_s.append(float("-inf"))
                continue
            line.parameters, line.note, line.scores = parameters, parameters.note, parameters.scores
            selected_s.append(parameters.selected_s)
        if selected_s:
            # A time that can't be (a clock was set back since) is no reason to wait for it.
            oldest_s = min(at_s if at_s <= now_s else float("-inf") for at_s in selected_s)
            self._due[service] = _Due(oldest_s + self.select_every_s, now_s + self.update_every_s)
        return said

    # --- inside ---

    def _line(self, service: str, key: str, step_s: float, steps: int) -> Line:
        place = (service, key, step_s)
        line = self._lines.get(place)
        if line is None:
            line = self._lines[place] = Line(service, key, step_s, steps)
        return line

    def _of(self, service: str) -> list[Line]:
        return [line for line in self._lines.values() if line.service == service]

    def _jobs(self, service: str, loads: Mapping[str, Series], now_s: float, kind: Refit) -> list[FitJob]:
        jobs: list[FitJob] = []
        outside = self._outside.get(service, Outside())
        for key, series in loads.items():
            history = cleaned(clip(series, now_s - LONGEST_HISTORY_S, now_s))
            for step_s, steps in self.grids:
                line = self._line(service, key, step_s, steps)
                leader, parameters = line.leader, line.parameters
                if kind is Refit.UPDATE and (leader is None or model_named(leader).expensive):
                    continue
                if kind is Refit.DRIFT and not line.drift:
                    continue
                standing = parameters.standing if parameters else None
                serving = standing.serving if standing is not None and standing.demoted else None
                update = parameters if kind is Refit.UPDATE else None  # a selection needs none of what is in use
                fitted, plain = (update.fitted, update.plain) if update else (None, None)
                coarse = resample(history, step_s)
                given = self._given(step_s)
                jobs.append(FitJob(service, key, coarse, steps, kind, leader, serving, fitted, plain, outside, given))
        return jobs

    def _given(self, step_s: float) -> tuple[Model, ...]:
        """The model of all series, where one is trained."""
        weights = None if self._trainer is None else self._trainer.weights(step_s)
        return () if weights is None else (Lstm(weights),)

    @staticmethod
    def _histories(loads: Mapping[str, Series], now_s: float, step_s: float) -> list[Series]:
        return [resample(cleaned(clip(series, now_s - LONGEST_HISTORY_S, now_s)), step_s) for series in loads.values()]

    def _plan_next(self, service: str, now_s: float, kind: Refit) -> None:
        due = self._due.get(service)
        lines = self._of(service)
        if kind is Refit.DRIFT and due is not None:
            for line in lines:  # a drift whose fit failed waits for the schedule
                line.drift = ""
            return
        unfitted = any(line.parameters is None for line in lines)
        unscored = all(score.pinball is None for line in lines for score in line.scores)
        if kind is Refit.UPDATE and due is not None:
            select_s = due.select_s
        else:  # too little history is a matter of hours, not of tomorrow
            select_s = now_s + (self.retry_every_s if unfitted or unscored else self.select_every_s)
        self._due[service] = _Due(select_s, now_s + self.update_every_s)

    def _keep(self, outcome: FitOutcome, job: FitJob, now_s: float) -> list[Change]:
        self.taken += 1
        return keep(self._line(outcome.service, outcome.key, outcome.step_s, job.steps), outcome, now_s)

    def _trouble(self, job: FitJob, text: str) -> Change:
        line = self._line(job.service, job.key, job.history.step_s, job.steps)
        line.trouble, line.forecast = text, None
        return line.say(text)
