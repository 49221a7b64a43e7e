"""Which model leads: the least rolling pinball loss on what no fit has seen; and whether joined models do better."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from controller.core.forecast import combine
from controller.core.forecast.admission import LEAST_GAIN, admit
from controller.core.forecast.backtest import Evaluation, evaluate, mean_pinball, targets_of
from controller.core.forecast.base import CannotFit, Fitted, IntArray, Model, model_named, names_for
from controller.core.forecast.calibrate import SEED_GAIN, Calibration, fresh, rehearsed
from controller.core.forecast.events import Event, learned_effects, without_events
from controller.core.forecast.paths import usable
from controller.core.forecast.signals import Admission, Signal
from controller.core.series import DAY_S, WEEK_S, clip
from controller.core.types import FloatArray, Series

ORIGIN_EVERY_S: Final = 1800.0
MARGIN: Final = 0.02
"""A leader is displaced by one that is better by this share of its loss: a coin toss changes nothing."""
FAVOUR: Final = 0.2
"""By this share a single model must beat the combination to lead: the best of many on two days was often lucky."""
FAVOUR_AFTER_A_WEEK: Final = 0.05
"""Enough where a week was held out, and every day of it had its say."""
WITHOUT_EVIDENCE: Final = ("profile", "naive")
"""Tried in this order while history is too short to hold any out."""


@dataclass(frozen=True, slots=True)
class Score:
    """A model's standing for one series and grid. None: not measured, and `note` says why."""

    model: str
    pinball: float | None
    wape: float | None
    coverage_p90: float | None
    origins: int
    leads: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """The leader fitted on all of history, or None with the reason in `note`.

    `plain` is the leader without signals where it uses some. `calibration` is what the held-out forecasts teach; None
    where none were held out.
    """

    fitted: Fitted | None
    scores: tuple[Score, ...]
    note: str
    plain: Fitted | None = None
    calibration: Calibration | None = None
    admissions: tuple[Admission, ...] = ()


@dataclass(frozen=True, slots=True)
class _Trial:
    """Forecasts (origins, quantiles, steps) of what was held out, by a fit on what lies before it."""

    model: str
    forecasts: FloatArray
    evaluation: Evaluation


@dataclass(frozen=True, slots=True)
class _Court:
    """What the models are judged on: the end of a history, from these origins."""

    known: Series
    steps: int
    kept_s: float
    origins: IntArray
    actual: FloatArray
    given: Mapping[str, Model]

    @classmethod
    def of(cls, known: Series, steps: int, kept_s: float, given: Mapping[str, Model]) -> "_Court":
        count = len(known.values)
        edge = max(1, count - round(kept_s / known.step_s))
        every_s = ORIGIN_EVERY_S if kept_s <= 2 * DAY_S else 2 * ORIGIN_EVERY_S
        origins = np.arange(edge, count, max(1, round(every_s / known.step_s)), dtype=np.int64)
        return cls(known, steps, kept_s, origins, targets_of(known, origins, steps), given)

    def model(self, name: str) -> Model:
        return self.given.get(name) or model_named(name)

    def tried(self, name: str, signals: Sequence[Signal] = ()) -> _Trial | Score:
        """The model's trial, or its empty score with the reason. Never raises for odd data."""
        if not self.kept_s:
            return Score(name, None, None, None, 0, note="too little history to hold any out")
        model = self.model(name)
        try:
            fitted = model.fit(clip(self.known, end_s=self.known.end_s - self.kept_s), self.steps, signals)
            forecasts = model.predict_many(fitted, self.known, self.origins, self.steps, signals)
        except CannotFit as error:
            return Score(name, None, None, None, 0, note=str(error))
        except Exception as error:  # whatever a library makes of odd data, it is one model's trouble and not the loop's
            return Score(name, None, None, None, 0, note=f"failed: {error!r}")
        return self._trial(name, forecasts)

    def _trial(self, name: str, forecasts: FloatArray) -> _Trial | Score:
        evaluation = evaluate(forecasts, self.actual)
        if not evaluation.points:
            return Score(name, None, None, None, 0, note="nothing was measured in the time held out")
        return _Trial(name, forecasts, evaluation)

    def combined(self, trials: Sequence[_Trial]) -> _Trial | Score:
        """The combination, each half of the origins weighed by what the other half says."""
        if len(trials) < combine.FEWEST:
            return Score(combine.NAME, None, None, None, 0, note=f"{len(trials)} models to combine")
        forecasts = [trial.forecasts for trial in trials]
        return self._trial(combine.NAME, combine.rehearsed(forecasts, self.actual, self.known.step_s))

    def weights(self, trials: Sequence[_Trial]) -> FloatArray:
        """Of the combination as it goes on: by all that was held out."""
        losses = [combine.losses_of(trial.forecasts, self.actual, self.known.step_s) for trial in trials]
        return combine.weights_of(np.stack(losses))

    def heard(self, trials: Sequence[_Trial]) -> list[_Trial]:
        """Those that the combination is made of: the best in any band of horizons."""
        return [trial for trial, weights in zip(trials, self.weights(trials), strict=True) if weights.any()]

    def calibration(self, trial: _Trial) -> Calibration:
        bare = fresh(self.known.step_s, self.steps)
        return rehearsed(bare, self.origins, trial.forecasts, self.actual, SEED_GAIN)[0]


def hold_out_s(history: Series) -> float:
    """How much of the end of history judges the models: two days, or a week where there are three, so that each day of
    the week is judged; never so much that what is left is too short to learn from. 0: nothing can be spared."""
    days = (history.end_s - history.start_s) / DAY_S
    return WEEK_S if days >= 21 else 2 * DAY_S if days >= 5 else DAY_S if days >= 4 else 0.0


def select(
    history: Series,
    steps: int,
    *,
    incumbent: str | None = None,
    names: Iterable[str] | None = None,
    signals: Sequence[Signal] = (),
    events: Sequence[Event] = (),
    given: Sequence[Model] = (),
) -> Selection:
    """Score every model on the end of history and fit the best on all of it, the combination of all among them.

    `given` are models that compete beside the named ones (a trained network). What past events did is taken out first.
    Never raises for odd data: a model that can't be fitted sits out with its reason, and when none can the selection is
    empty.
    """
    known = usable(without_events(history, events, learned_effects(history, events)))
    extra = {model.name: model for model in given}
    court = _Court.of(known, steps, hold_out_s(known), extra)
    found = [court.tried(name) for name in dict.fromkeys([*(names or names_for(history.step_s)), *extra])]
    trials = sorted((trial for trial in found if isinstance(trial, _Trial)), key=lambda trial: trial.evaluation.loss)
    judged = [*found, court.combined(trials)] if trials else found
    members = court.heard(trials) if trials else []
    scores = [_score(each) for each in judged]
    order = ranked(scores, incumbent, court.kept_s) if trials else list(WITHOUT_EVIDENCE)
    failures: list[str] = []
    for name in order:
        try:
            fitted = _whole(court, name, members)
        except CannotFit as error:
            failures.append(f"{name}: {error}")
            continue
        chosen = next((each for each in judged if isinstance(each, _Trial) and each.model == name), None)
        marked = tuple(replace(score, leads=score.model == name) for score in scores)
        plain = Selection(
            fitted,
            marked,
            "; ".join([_why(fitted, marked, court.kept_s), *failures]),
            calibration=None if chosen is None else court.calibration(chosen),
        )
        return plain if chosen is None or not signals else _with_signals(court, plain, chosen, members, signals)
    note = "no model can be fitted" + (f" ({'; '.join(failures)})" if failures else "")
    return Selection(None, tuple(scores), note)


def refit(history: Series, steps: int, name: str, signals: Sequence[Signal] = ()) -> Fitted:
    """One model's parameters from all of history, without a new selection. Raises CannotFit, whatever the cause."""
    return _refit(model_named(name), history, steps, signals)


def updated(fitted: Fitted, history: Series, steps: int, signals: Sequence[Signal] = ()) -> Fitted:
    """Parameters in use brought up to date: of a combination the cheap members, by the weights they have.

    A member that is expensive, or can't be fitted now, stays as it is. Raises CannotFit for a single model that can't.
    """
    if not fitted.members:
        return refit(history, steps, fitted.model, signals)
    members: list[Fitted] = []
    for member in fitted.members:
        try:
            expensive = model_named(member.model).expensive
            members.append(member if expensive else refit(history, steps, member.model, signals))
        except CannotFit:
            members.append(member)
    return replace(fitted, members=tuple(members), fitted_s=max(member.fitted_s for member in members))


def _refit(model: Model, history: Series, steps: int, signals: Sequence[Signal]) -> Fitted:
    try:
        return model.fit(history, steps, signals)
    except CannotFit:
        raise
    except Exception as error:  # as in `tried`
        raise CannotFit(f"{model.name} failed: {error!r}") from error


def _whole(court: _Court, name: str, trials: Sequence[_Trial], signals: Sequence[Signal] = ()) -> Fitted:
    """The model fitted on all of history; of a combination every member. Raises CannotFit."""
    if name != combine.NAME:
        return _refit(court.model(name), court.known, court.steps, signals)
    weights = court.weights(trials)
    members: list[Fitted] = []
    rows: list[int] = []
    for i, trial in enumerate(trials):
        try:
            members.append(_refit(court.model(trial.model), court.known, court.steps, signals))
        except CannotFit:
            continue
        rows.append(i)
    if len(members) < combine.FEWEST:
        raise CannotFit(f"{len(members)} of its members can be fitted on all of history")
    return combine.joined(members, weights[rows])


def _with_signals(
    court: _Court, plain: Selection, chosen: _Trial, trials: Sequence[_Trial], signals: Sequence[Signal]
) -> Selection:
    """The same leader with the signals that the best single model is admitted with, if it gains by them too."""
    best = min(trials, key=lambda trial: trial.evaluation.loss).model
    admissions = admit(court.known, court.steps, best, signals, hold_out_s=court.kept_s)
    names = {admission.name for admission in admissions if admission.admitted}
    used = [signal for signal in signals if signal.name in names]
    if not used:
        return replace(plain, admissions=admissions)
    again = [court.tried(trial.model, used) for trial in trials] if chosen.model == combine.NAME else []
    helped = [trial for trial in again if isinstance(trial, _Trial)]
    trial = court.combined(helped) if helped else court.tried(chosen.model, used)
    gain = _gain(court, chosen, trial)
    if gain < LEAST_GAIN:
        why = f"helps {best}, but the leader {chosen.model} gains {gain:.1%} by it"
        refused = tuple(replace(each, admitted=False, note=why) if each.admitted else each for each in admissions)
        return replace(plain, admissions=refused)
    assert isinstance(trial, _Trial)
    try:
        fitted = _whole(court, chosen.model, helped or trials, used)
    except CannotFit as error:
        return replace(plain, admissions=admissions, note=f"{plain.note}; with signals: {error}")
    note = f"{plain.note}; {', '.join(sorted(names))} saves {gain:.1%} of its loss"
    return Selection(fitted, plain.scores, note, plain.fitted, court.calibration(trial), admissions)


def _gain(court: _Court, without: _Trial, with_them: "_Trial | Score") -> float:
    """Share of the loss that is saved, on the steps that both forecast; 0 where there are none."""
    if isinstance(with_them, Score):
        return 0.0
    before, after = (mean_pinball(trial.forecasts, court.actual) for trial in (without, with_them))
    both = np.isfinite(before) & np.isfinite(after)
    total = float(before[both].sum())
    return 0.0 if total <= 0 else 1.0 - float(after[both].sum()) / total


def _score(found: "_Trial | Score") -> Score:
    if isinstance(found, Score):
        return found
    seen = found.evaluation
    wape = seen.wape if seen.wape == seen.wape else None
    return Score(found.model, seen.loss, wape, seen.coverage_of(0.9), seen.origins)


def ranked(scores: Sequence[Score], incumbent: str | None, kept_s: float) -> list[str]:
    """The models in the order in which they should lead, by their mean pinball loss over the last kept_s of history.

    The loss of the incumbent counts MARGIN less, that of the combination FAVOUR less, or FAVOUR_AFTER_A_WEEK where a
    week was held out. Models without a score are left out, but those of WITHOUT_EVIDENCE come last as a fallback.
    """
    combined = FAVOUR_AFTER_A_WEEK if kept_s >= WEEK_S else FAVOUR

    def loss(score: Score) -> float:
        assert score.pinball is not None
        favour = combined if score.model == combine.NAME else 0.0
        return score.pinball * (1.0 - favour - (MARGIN if score.model == incumbent else 0.0))

    measured = sorted((s for s in scores if s.pinball is not None), key=loss)
    rest = [name for name in WITHOUT_EVIDENCE if name not in {s.model for s in measured}]
    return [s.model for s in measured] + rest


def _why(fitted: Fitted, scores: Sequence[Score], kept_s: float) -> str:
    name = fitted.model
    mine = next((s for s in scores if s.model == name), None)
    if mine is None or mine.pinball is None:
        return f"{name} leads without a score: too little history to hold any out"
    others = sorted((s.pinball, s.model) for s in scores if s.pinball is not None and s.model != name)
    beaten = f", next {others[0][1]} {others[0][0]:.3f}" if others else ""
    if others and others[0][0] < mine.pinball:  # favoured: the combination, or who led before
        beaten = f"; {others[0][1]} had {others[0][0]:.3f}, too little less to lead by"
    joins = f" ({fitted.note})" if fitted.members else ""
    return f"{name}{joins} leads: pinball {mine.pinball:.3f} over the last {kept_s / 3600:.0f} h{beaten}"
