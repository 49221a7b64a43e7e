"""One fit of one line, as a plain function of plain values: what a worker runs, in a pool or in the loop."""

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from controller.core.forecast.base import GIVEN, CannotFit, Fitted, Model, model_named
from controller.core.forecast.calibrate import Calibration
from controller.core.forecast.events import Effect, learned_effects, without_events
from controller.core.forecast.paths import usable
from controller.core.forecast.select import Score, hold_out_s, refit, select, updated
from controller.core.forecast.signals import Admission, Outside
from controller.core.forecast.standing import BASELINES
from controller.core.series import clip
from controller.core.types import Series


class Refit(StrEnum):
    """`SELECT`: score all models anew and fit the best. `DRIFT`: the same, for the lines whose leader has drifted.
    `UPDATE`: refresh the parameters in use if that is cheap."""

    SELECT = "select"
    DRIFT = "drift"
    UPDATE = "update"


@dataclass(frozen=True, slots=True)
class FitJob:
    """What a worker needs, and all of it. `leader` None: none yet. `serving`: who stands in for it, None: nobody.
    `fitted` and `plain`: the leader's parameters with and without signals, for an update of them. `given`: models that
    compete beside those of the grid."""

    service: str
    key: str
    history: Series
    steps: int
    kind: Refit
    leader: str | None
    serving: str | None = None
    fitted: Fitted | None = None
    plain: Fitted | None = None
    outside: Outside = field(default_factory=Outside)
    given: tuple[Model, ...] = ()


@dataclass(frozen=True, slots=True)
class FitOutcome:
    """What a worker returns. `fitted` None: nothing could be fitted, and `note` says why. No `scores`: none made.

    `plain` is the leader without signals where it uses some, `beside` are the rivals that it is followed against.
    `load` is the mean load that the scores were judged on, `history_s` how much history was used; NaN: no selection.
    """

    service: str
    key: str
    step_s: float
    kind: Refit
    fitted: Fitted | None
    scores: tuple[Score, ...]
    note: str
    plain: Fitted | None = None
    beside: tuple[Fitted, ...] = ()
    calibration: Calibration | None = None
    admissions: tuple[Admission, ...] = ()
    effects: dict[str, Effect] = field(default_factory=dict)
    load: float = float("nan")
    history_s: float = float("nan")


def fit_series(job: FitJob) -> FitOutcome:
    """Run one job. Picklable, deterministic, and it doesn't raise for odd data."""
    if job.kind is Refit.UPDATE and job.fitted is not None:
        return _updated(job, job.fitted)
    outside, step_s = job.outside, job.history.step_s
    chosen = select(
        job.history,
        job.steps,
        incumbent=job.leader,
        signals=outside.signals,
        events=outside.events,
        given=job.given,
    )
    effects = learned_effects(job.history, outside.events)
    history = without_events(job.history, outside.events, effects)
    known = usable(history)
    judged = clip(known, known.end_s - hold_out_s(known)).values
    load = float(judged[np.isfinite(judged)].mean()) if np.isfinite(judged).any() else float("nan")
    leader = chosen.fitted.model if chosen.fitted else None
    return FitOutcome(
        job.service,
        job.key,
        step_s,
        job.kind,
        chosen.fitted,
        chosen.scores,
        chosen.note,
        plain=chosen.plain,
        beside=() if leader is None else _beside(history, job, leader, chosen.scores),
        calibration=chosen.calibration,
        admissions=chosen.admissions,
        effects=effects,
        load=load,
        history_s=known.end_s - known.start_s,
    )


def _updated(job: FitJob, before: Fitted) -> FitOutcome:
    """The leader's parameters brought up to date, and those of the rival that serves in its place."""
    step_s, names = job.history.step_s, {use.name for use in before.uses}
    effects = learned_effects(job.history, job.outside.events)
    history = without_events(job.history, job.outside.events, effects)
    signals = tuple(signal for signal in job.outside.signals if signal.name in names)
    try:
        fitted = updated(before, history, job.steps, signals)
        plain = None if job.plain is None else updated(job.plain, history, job.steps)
    except CannotFit as error:
        return FitOutcome(job.service, job.key, step_s, job.kind, None, (), str(error))
    beside: list[Fitted] = []
    if job.serving is not None and not model_named(job.serving).expensive:
        beside += _fits(history, job.steps, (job.serving,))
    return FitOutcome(
        job.service, job.key, step_s, job.kind, fitted, (), "", plain=plain, beside=tuple(beside), effects=effects
    )


def _beside(history: Series, job: FitJob, leader: str, scores: tuple[Score, ...]) -> tuple[Fitted, ...]:
    """The seasonal naives, the best scored of the other models that are cheap, and who serves now."""
    ranked = sorted((score.pinball, score.model) for score in scores if score.pinball is not None)
    others = [
        name for _, name in ranked if name not in (leader, *BASELINES, *GIVEN) and not model_named(name).expensive
    ]
    names = [*BASELINES, *others[:1], *([job.serving] if job.serving else [])]
    return _fits(history, job.steps, tuple(name for name in dict.fromkeys(names) if name != leader))


def _fits(history: Series, steps: int, names: tuple[str, ...]) -> tuple[Fitted, ...]:
    """Of those that can be fitted: a rival that can't is no rival."""
    found: list[Fitted] = []
    for name in names:
        try:
            found.append(refit(history, steps, name))
        except CannotFit:
            continue
    return tuple(found)
