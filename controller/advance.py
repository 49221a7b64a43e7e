"""A line's forecast now: quantiles from parameters, corrected by what was learned of their errors, times the events.

Between fits this is all that a tick does. What can't be forecast by who should, is by the next who can, and the reason
says so: the rival that serves, the leader, the leader without signals, and last the level of the last minutes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from controller.core.forecast import calibrate
from controller.core.forecast.base import CannotFit, Fitted, model_named, reach_s
from controller.core.forecast.events import with_events, without_events
from controller.core.forecast.issued import followed, follows, issue
from controller.core.forecast.naive import persistence
from controller.core.forecast.parameters import Parameters
from controller.core.forecast.signals import Outside
from controller.core.forecast.standing import demotion, live, window_h
from controller.core.series import DAY_S, HOUR_S, clip, resample, sanitise, until
from controller.core.types import QUANTILES, FloatArray, Forecast, Reason, Series
from controller.lines import Change, Line, learn
from models.enums import Limit

SILENT_S: Final = 600.0
"""A forecast made longer than this after the last measurement is not learned from: it tells of the silence."""


@dataclass(frozen=True, slots=True)
class _Made:
    """Quantiles of one origin. `raw` and `shown` by model, before and after calibration; empty: no model gave any."""

    values: FloatArray
    model: str
    words: tuple[str, ...]
    raw: Mapping[str, FloatArray] = field(default_factory=dict)
    shown: Mapping[str, FloatArray] = field(default_factory=dict)


def advance(line: Line, series: Series, now_s: float, outside: Outside) -> tuple[Forecast, list[Change]]:
    """The line's forecast at now_s from minutes of load that end at now or before, and what changed. Within a step
    nothing is computed again unless a late minute came in."""
    origin_s = float(np.floor(now_s / line.step_s) * line.step_s)
    end_s = min(series.end_s, origin_s)
    made = line.forecast
    if made is not None and made.start_s == origin_s and line.source_end_s == end_s:
        return made, []
    said = learn(line, series, now_s, outside)
    line.forecast = _forecast(line, series, now_s, origin_s, outside, said)
    line.source_end_s = end_s
    return line.forecast, said


def _forecast(
    line: Line, series: Series, now_s: float, origin_s: float, outside: Outside, said: list[Change]
) -> Forecast:
    follow = line.parameters is not None and follows(line.pending, line.issued_s, origin_s, line.step_s)
    back_s = _look_back_s(line, origin_s, follow)
    recent = sanitise(clip(series, origin_s - back_s - HOUR_S, origin_s))
    if not np.isfinite(recent.values).all():  # a long gap is filled from the day before it
        recent = sanitise(clip(series, origin_s - back_s - DAY_S - HOUR_S, origin_s))
    known = np.flatnonzero(np.isfinite(recent.values))
    measured_s = recent.start_s + (known[-1] + 1) * recent.step_s if len(known) else -np.inf
    silent_s = float(max(0.0, min(origin_s - measured_s, back_s)))
    coarse = resample(until(recent, origin_s), line.step_s)
    made = _paths(line, coarse, origin_s, outside, said, follow)
    if follow and made.shown and silent_s <= SILENT_S:
        steps = followed(origin_s, line.step_s, line.steps)
        line.pending = (*line.pending, issue(origin_s, line.step_s, steps, made.raw, made.shown))
        line.issued_s = origin_s
    effects = line.parameters.effects if line.parameters else {}
    values, events = with_events(made.values, origin_s, line.step_s, outside.events, effects)
    words = [*made.words, *events]
    if line.trouble:
        words.append(line.trouble)
    if silent_s > 0:
        words.append(f"the last {silent_s / 60:.0f} min before it were not measured")
    reason = Reason(Limit.FORECAST, "; ".join(words), _numbers(line, made.model, silent_s, now_s))
    return Forecast(line.service, line.key, now_s, origin_s, line.step_s, QUANTILES, values, made.model, reason)


def _look_back_s(line: Line, origin_s: float, follow: bool) -> float:
    if line.parameters is None:
        return DAY_S
    fits = [line.parameters.fitted, *(line.parameters.beside if follow or line.parameters.standing.demoted else ())]
    return max(DAY_S, *(max(reach_s(fitted), origin_s - fitted.fitted_s) for fitted in fits))


def _paths(line: Line, coarse: Series, origin_s: float, outside: Outside, said: list[Change], follow: bool) -> _Made:
    """Quantiles of who serves; of all that are followed, at an origin to follow."""
    parameters, note = line.parameters, line.note
    if parameters is None or not np.isfinite(coarse.values).any():
        values, why = persistence(coarse, line.steps)
        return _Made(values, "persistence" if np.isfinite(values).any() else "none", (note, why))
    usual = without_events(coarse, outside.events, parameters.effects)
    standing = parameters.standing
    names = [standing.serving, *([standing.leader] if standing.demoted else [])]
    if follow:
        names += [fitted.model for fitted in parameters.beside if fitted.model not in names]
    raw: dict[str, FloatArray] = {}
    for name in names:
        found = _raw(line, parameters, name, usual, origin_s, outside, said)
        if isinstance(found, str):
            note = found if name == names[0] else note
        else:
            raw[name] = found
        if raw and not follow:
            break
    shown = {
        name: calibrate.calibrated(parameters.calibrations[name], values) if name in parameters.calibrations else values
        for name, values in raw.items()
    }
    model = next((name for name in names if name in shown), None)
    if model is None:
        values, why = persistence(coarse, line.steps)
        return _Made(values, "persistence", (note, why))
    words = (note, demotion(standing.leader, line.judgement)) if standing.demoted else (note,)
    return _Made(shown[model], model, words, raw, shown)


def _raw(
    line: Line,
    parameters: Parameters,
    name: str,
    usual: Series,
    origin_s: float,
    outside: Outside,
    said: list[Change],
) -> FloatArray | str:
    """A model's quantiles as it gives them, or why it gives none. A leader whose signal is missing or stale is asked
    again without any."""
    fitted = parameters.fit_of(name)
    if fitted is None:
        return f"{name} is not fitted"
    found = _predicted(fitted, usual, origin_s, line.steps, outside)
    if not fitted.uses:
        return found
    if isinstance(found, str) and parameters.plain is not None:
        if not line.dropped:
            said.append(line.say(f"{found}: {name} goes on without signals"))
        line.dropped = found
        return _predicted(parameters.plain, usual, origin_s, line.steps, outside)
    if line.dropped and not isinstance(found, str):
        used = ", ".join(use.name for use in fitted.uses)
        said.append(line.say(f"signal {used} is back: {name} uses it again"))
        line.dropped = ""
    return found


def _predicted(fitted: Fitted, usual: Series, origin_s: float, steps: int, outside: Outside) -> FloatArray | str:
    try:
        values = model_named(fitted.model).predict(fitted, usual, origin_s, steps, outside.signals)
    except CannotFit as error:
        return str(error)
    return values if np.isfinite(values).all() else f"{fitted.model} gave no number"


def _numbers(line: Line, model: str, silent_s: float, now_s: float) -> dict[str, float | None]:
    parameters = line.parameters
    scores = parameters.scores if parameters else ()
    mine = next((score for score in scores if score.model == model), None)
    fitted = parameters.fit_of(model) if parameters else None
    numbers: dict[str, float | None] = {
        "fitted_s": fitted.fitted_s if fitted else None,
        "pinball": mine.pinball if mine else None,
        "wape": mine.wape if mine else None,
        "coverage_p90": mine.coverage_p90 if mine else None,
        "not_measured_s": silent_s,
    }
    if parameters is not None:
        score = live(parameters.standing, model, now_s, window_h(line.step_s))
        numbers["live_pinball"] = score.pinball if score.points else None
    return numbers
