"""Forecasts for thousands of series at once: cheap models for all, the expensive ones where spend earns them.

A task is a batch of series, so that sending it costs little beside the work. The result holds parameters and the
forecast; nothing of a library is kept. What a series costs is the regression of its quantiles (`spread`), which is
arithmetic over arrays of some hundred kilobytes and not the calls around it: several series in one call are no faster.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

import numpy as np

from controller.core.forecast.base import CannotFit, Fitted, model_named
from controller.core.forecast.calibrate import Calibration, calibrated
from controller.core.forecast.earning import CHEAP, earned, expensive_for, ranked
from controller.core.forecast.naive import persistence
from controller.core.forecast.select import Score, select
from controller.core.types import FloatArray, Series
from controller.fitting import LOKY, TIME_LIMIT_S, Done, Workers

BATCH: Final = 20
"""Series in a task of cheap fits: one to two seconds of work, and a few hundred kilobytes to send."""
BUDGET_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class SeriesFit:
    """One series' leader and forecast. `forecast`: calibrated quantiles (quantiles, steps) of offered load from the end
    of history on, NaN where unknown; `calibration` None: nothing was held out to calibrate by. `earned`: the expensive
    models took part; `reason` says why or why not."""

    key: str
    fitted: Fitted | None
    calibration: Calibration | None
    forecast: FloatArray
    scores: tuple[Score, ...]
    note: str
    earned: bool
    reason: str


@dataclass(frozen=True, slots=True)
class _Work:
    """Some series to be fitted with the same models."""

    histories: tuple[tuple[str, Series], ...]
    steps: int
    names: tuple[str, ...]
    incumbent: str | None = None


def fit_many(
    histories: Mapping[str, Series],
    steps: int,
    *,
    spend_usd: Mapping[str, float],
    workers: int = 2,
    backend: str = LOKY,
    scheduler: str = "",
    budget_s: float = BUDGET_S,
    limit_s: float = TIME_LIMIT_S,
    elapsed_s: Callable[[], float] = time.monotonic,
) -> dict[str, SeriesFit]:
    """Select, fit and forecast `steps` steps for every series, in the order of `histories`.

    `spend_usd`: what each series' service spends a day; missing or NaN is unknown, and earns no expensive model.
    Expensive models go to the series that earn them (`core/forecast/earning.py`), those that spend most first, until
    `budget_s` real seconds of that are over; 0: none. `workers`, `backend`, `scheduler` as for `Workers`; `limit_s`
    bounds one task. A series whose worker fails twice keeps what it has, with the reason. SettingsError when Dask is
    asked for and not installed.
    """
    pool = Workers(workers, backend, scheduler)
    try:
        found = _cheap(pool, histories, steps, limit_s)
        worthy = ranked({key: spend_usd[key] for key in histories if key in spend_usd})
        found.update(_expensive(pool, histories, steps, worthy, found, budget_s, limit_s, elapsed_s))
    finally:
        pool.close()
    for key, fit in found.items():
        if not fit.reason:
            verdict = earned(spend_usd.get(key))
            late = f"cheap models only: {budget_s:.0f} s of expensive fits went to series that spend more"
            found[key] = replace(fit, reason=late if verdict.yes else verdict.reason)
    return {key: found[key] for key in histories}


def _cheap(pool: Workers, histories: Mapping[str, Series], steps: int, limit_s: float) -> dict[str, SeriesFit]:
    found: dict[str, SeriesFit] = {}
    suspects: list[tuple[str, Series]] = []
    for done in pool.each(_fit, _batches(iter(histories.items()), steps, BATCH), limit_s):
        if done.result is None:
            suspects += done.item.histories
        else:
            found.update((fit.key, fit) for fit in done.result)
    for done in pool.each(_fit, _batches(iter(suspects), steps, 1), limit_s):
        fits = done.result or [_unfitted(key, series, steps, done) for key, series in done.item.histories]
        found.update((fit.key, fit) for fit in fits)
    return found


def _expensive(
    pool: Workers,
    histories: Mapping[str, Series],
    steps: int,
    worthy: list[str],
    cheap: Mapping[str, SeriesFit],
    budget_s: float,
    limit_s: float,
    elapsed_s: Callable[[], float],
) -> dict[str, SeriesFit]:
    end_s = elapsed_s() + budget_s

    def work() -> Iterator[_Work]:
        for key in worthy:
            if elapsed_s() >= end_s:
                return
            fitted = cheap[key].fitted
            names = expensive_for(histories[key].step_s)
            if fitted is not None and names:
                yield _Work(((key, histories[key]),), steps, (*CHEAP, *names), fitted.model)

    found: dict[str, SeriesFit] = {}
    for done in pool.each(_fit, work(), limit_s):
        key, before = done.item.histories[0][0], cheap[done.item.histories[0][0]]
        after = done.result[0] if done.result else None
        if after is None or after.fitted is None:
            why = f"cheap models only: the expensive ones failed ({after.note if after else repr(done.error)})"
            found[key] = replace(before, reason=why)
        else:
            found[key] = replace(after, earned=True, reason=f"all models: it earns them; {after.fitted.model} leads")
    return found


def _batches(histories: Iterator[tuple[str, Series]], steps: int, size: int) -> Iterator[_Work]:
    while batch := tuple(islice(histories, size)):
        yield _Work(batch, steps, CHEAP)


def _fit(work: _Work) -> list[SeriesFit]:
    """In the worker. Doesn't raise for odd data."""
    return [_one(key, series, work) for key, series in work.histories]


def _one(key: str, history: Series, work: _Work) -> SeriesFit:
    chosen = select(history, work.steps, incumbent=work.incumbent, names=work.names)
    note, forecast = chosen.note, None
    if chosen.fitted is not None:
        try:
            forecast = model_named(chosen.fitted.model).predict(chosen.fitted, history, history.end_s, work.steps)
        except CannotFit as error:
            note = f"{note}; {error}"
    if forecast is not None and chosen.calibration is not None:
        forecast = calibrated(chosen.calibration, forecast)
    if forecast is None or not np.isfinite(forecast).all():
        forecast, why = persistence(history, work.steps)
        note = f"{note}; {why}"
    return SeriesFit(key, chosen.fitted, chosen.calibration, forecast, chosen.scores, note, False, "")


def _unfitted(key: str, history: Series, steps: int, done: Done[_Work, list[SeriesFit]]) -> SeriesFit:
    forecast, why = persistence(history, steps)
    return SeriesFit(key, None, None, forecast, (), f"not fitted: {done.error!r}; {why}", False, "")
