"""One line, a series on a grid: its state, the fits it takes in, and what it learns when a forecast has come true.

Of the forecasts at some origins it keeps what leader and rivals said. As the minutes come in, each step teaches the
calibration once and is scored, and the standing decides who serves. `advance` makes the forecasts.

Memory of a line: the fits (10 to 200 kB), at most 24 h of issued forecasts on the ten-minute grid (24 origins × 34
steps × 5 quantiles × 2 × 4 bytes for each of up to 4 models: 130 kB; less on the others), the standing (29 kB).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from controller.core.forecast import calibrate
from controller.core.forecast.base import Fitted
from controller.core.forecast.events import without_events
from controller.core.forecast.issued import Came, Float32Array, Issued, settle
from controller.core.forecast.parameters import Parameters
from controller.core.forecast.select import Score
from controller.core.forecast.signals import Outside
from controller.core.forecast.standing import begun, drifted, judged, scored, window_h
from controller.core.series import DAY_S, HOUR_S, clip, sanitise
from controller.core.types import FloatArray, Forecast, Series
from controller.fits import FitOutcome, Refit

DRIFT_AFTER_S: Final = 12 * HOUR_S
"""What drifted must have done so since the last selection, at least for the half of what it is judged over: the other
half was known to the selection."""
DRIFT_EVERY_S: Final = DAY_S
FORGET_S: Final = 2 * DAY_S
"""Set back by more than this, a clock was wrong before: what was issued in that time is forgotten. By less, and nothing
is issued again until the time comes that was issued for last, so that no step teaches twice."""
LEARN_EVERY_S: Final = 600.0
"""Minutes are taken in together: ten small steps of learning cost a tick more than one of ten."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something that people should know of, for the ledger."""

    what: str
    numbers: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(slots=True)
class Line:
    """The state of one line. `parameters` None: nothing is fitted yet."""

    service: str
    key: str
    step_s: float
    steps: int
    parameters: Parameters | None = None
    scores: tuple[Score, ...] = ()
    note: str = "not fitted yet"
    trouble: str = ""
    forecast: Forecast | None = None
    source_end_s: float = float("nan")
    pending: tuple[Issued, ...] = ()
    issued_s: float = float("-inf")
    learned: float = float("nan")
    judgement: str = ""
    dropped: str = ""
    drift: str = ""
    drifted_s: float = float("-inf")

    @property
    def name(self) -> str:
        """As people read it."""
        return f"{self.service}/{self.key} at {self.step_s:.0f} s"

    @property
    def leader(self) -> str | None:
        """The model that leads; None: none."""
        return self.parameters.fitted.model if self.parameters else None

    def say(self, text: str, numbers: Mapping[str, float | None] | None = None) -> Change:
        """A change of this line."""
        return Change(f"{self.name}: {text}", numbers or {})


def learn(line: Line, series: Series, now_s: float, outside: Outside) -> list[Change]:
    """Take in what became known of issued forecasts, and judge. Each step of each origin counts once."""
    if now_s < line.issued_s - FORGET_S:
        # The clock was far ahead and was set right: what was issued in that time will never be known.
        line.pending, line.issued_s = (), float("-inf")
    turn = now_s // LEARN_EVERY_S
    if line.parameters is None or not line.pending or turn == line.learned:
        return []
    line.learned = turn
    came, line.pending = settle(line.pending, _usual(line, series, now_s, outside), now_s)
    if not came:
        return []
    line.parameters = _learned(line.parameters, came)
    hours = window_h(line.step_s)
    standing, verdict = judged(line.parameters.standing, now_s, hours)
    line.parameters = replace(line.parameters, standing=standing)
    line.judgement = verdict.text
    said = [line.say(verdict.text, verdict.numbers)] if verdict.changed else []
    return said + _drift(line, line.parameters, now_s)


def _usual(line: Line, series: Series, now_s: float, outside: Outside) -> Series:
    """The load that could settle anything, without the events: models and their errors are of usual days."""
    longest_s = line.steps * line.step_s + 2 * HOUR_S
    recent = sanitise(clip(series, now_s - longest_s, now_s))
    assert line.parameters is not None
    return without_events(recent, outside.events, line.parameters.effects)


def _learned(parameters: Parameters, came: Sequence[Came]) -> Parameters:
    """The calibrations and the standing with what came. A step that stands for six is taken in six times, so that the
    far horizon learns as fast as if all its steps were followed."""
    calibrations, standing = dict(parameters.calibrations), parameters.standing
    together: dict[tuple[str, ...], list[Came]] = {}
    for each in came:
        together.setdefault(tuple(each.issued.raw), []).append(each)
    for models, group in together.items():
        steps, actual = (np.concatenate(parts) for parts in zip(*((g.steps, g.actual) for g in group), strict=True))
        ends_s = np.concatenate([each.ends_s for each in group])
        ahead_s = np.concatenate([each.ends_s - each.issued.origin_s for each in group])
        weights = np.concatenate([each.weights for each in group])
        raw = {model: _joined([each.issued.raw[model][:, each.index] for each in group]) for model in models}
        shown = {model: _joined([each.issued.shown[model][:, each.index] for each in group]) for model in models}
        often = np.repeat(np.arange(len(steps)), weights.astype(np.int64))
        for model in set(models) & set(calibrations):
            calibrations[model] = calibrate.observe_many(
                calibrations[model], steps[often], raw[model].T[often], actual[often]
            )
        standing = scored(standing, ends_s, ahead_s, weights, actual, raw, shown)
    return replace(parameters, calibrations=calibrations, standing=standing)


def _joined(parts: Sequence[Float32Array]) -> FloatArray:
    return np.concatenate(parts, axis=1).astype(np.float64)


def _drift(line: Line, parameters: Parameters, now_s: float) -> list[Change]:
    rested = abs(now_s - line.drifted_s) >= DRIFT_EVERY_S and abs(now_s - parameters.selected_s) >= DRIFT_AFTER_S
    if line.drift or not rested:
        return []
    leader = parameters.standing.leader
    pinball = next((score.pinball for score in parameters.scores if score.model == leader), None)
    verdict = drifted(parameters.standing, pinball, parameters.load, now_s)
    if verdict is None:
        return []
    line.drift, line.drifted_s = verdict.text, now_s
    return [line.say(f"{verdict.text}; the models are selected anew", verdict.numbers)]


def keep(line: Line, outcome: FitOutcome, now_s: float) -> list[Change]:
    """Take in what a worker returned, and say what changed. A fit that failed leaves the last one in use."""
    selected = outcome.kind is not Refit.UPDATE
    line.drift = "" if selected else line.drift
    line.scores = outcome.scores or line.scores
    before = line.parameters
    if outcome.fitted is None:
        line.trouble = outcome.note
        line.note = line.note if before else outcome.note
        return [line.say(outcome.note)]
    line.trouble, line.forecast = "", None
    line.note = outcome.note or line.note
    new = before is None or before.fitted.model != outcome.fitted.model
    if new or selected or before is None:
        line.parameters = _begun(line, outcome, outcome.fitted, now_s)
    else:
        renewed = {fitted.model: fitted for fitted in outcome.beside}
        line.parameters = replace(
            before,
            fitted=outcome.fitted,
            plain=outcome.plain,
            beside=tuple(renewed.get(fitted.model, fitted) for fitted in before.beside),
            effects=outcome.effects,
            note=line.note,
        )
    if not new:
        return []
    line.pending, line.judgement, line.dropped = (), "", ""
    return [line.say(line.note)]


def _begun(line: Line, outcome: FitOutcome, fitted: Fitted, now_s: float) -> Parameters:
    """A selection's parameters. What is known of a leader that stays is kept; a new one starts from its backtest."""
    before = line.parameters
    running = before.calibrations if before else {}
    fresh = calibrate.fresh(line.step_s, line.steps)
    calibrations = {each.model: running.get(each.model, fresh) for each in outcome.beside}
    stays = before is not None and before.fitted.model == fitted.model
    seed = fresh if outcome.calibration is None else outcome.calibration
    calibrations[fitted.model] = running.get(fitted.model, seed) if stays else seed
    return Parameters(
        fitted=fitted,
        standing=before.standing if before is not None and stays else begun(fitted.model),
        plain=outcome.plain,
        beside=outcome.beside,
        scores=outcome.scores,
        calibrations=calibrations,
        effects=outcome.effects,
        admissions=outcome.admissions,
        note=line.note,
        load=outcome.load,
        history_s=outcome.history_s,
        selected_s=now_s,
    )
