"""Which model leads: the least rolling pinball loss on what no fit has seen."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from controller.core.forecast.backtest import Evaluation, hold_out
from controller.core.forecast.base import CannotFit, Fitted, model_named, names_for
from controller.core.forecast.paths import usable
from controller.core.series import DAY_S
from controller.core.types import Series

ORIGIN_EVERY_S: Final = 1800.0
MARGIN: Final = 0.02
"""A leader is displaced by one that is better by this share of its loss: a coin toss changes nothing."""
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
    """The leader fitted on all of history, or None with the reason in `note`."""

    fitted: Fitted | None
    scores: tuple[Score, ...]
    note: str


def hold_out_s(history: Series) -> float:
    """How much of the end of history judges the models: whole days, two at most, never so much that what is left is
    too short to learn a daily rhythm from. 0: nothing can be spared."""
    days = (history.end_s - history.start_s) / DAY_S
    return 2 * DAY_S if days >= 5 else DAY_S if days >= 4 else 0.0


def select(
    history: Series, steps: int, *, incumbent: str | None = None, names: Iterable[str] | None = None
) -> Selection:
    """Score every model on the end of history and fit the best on all of it. Never raises for odd data: a model that
    can't be fitted sits out with its reason, and when none can the selection is empty."""
    known = usable(history)
    kept_s = hold_out_s(known)
    scores = [_score(name, known, steps, kept_s) for name in names or names_for(history.step_s)]
    order = _ranked(scores, incumbent) if kept_s else list(WITHOUT_EVIDENCE)
    failures: list[str] = []
    for name in order:
        try:
            fitted = refit(history, steps, name)
        except CannotFit as error:
            failures.append(f"{name}: {error}")
            continue
        marked = tuple(replace(score, leads=score.model == name) for score in scores)
        return Selection(fitted, marked, "; ".join([_why(name, marked, kept_s), *failures]))
    note = "no model can be fitted" + (f" ({'; '.join(failures)})" if failures else "")
    return Selection(None, tuple(scores), note)


def refit(history: Series, steps: int, name: str) -> Fitted:
    """The leader's parameters brought up to date, without a new selection. Raises CannotFit, whatever the cause."""
    try:
        return model_named(name).fit(history, steps)
    except CannotFit:
        raise
    except Exception as error:  # whatever a library makes of odd data, it is one model's trouble and not the loop's
        raise CannotFit(f"{name} failed: {error!r}") from error


def _score(name: str, history: Series, steps: int, kept_s: float) -> Score:
    if not kept_s:
        return Score(name, None, None, None, 0, note="too little history to hold any out")
    try:
        _, found = hold_out(model_named(name), history, steps, kept_s, ORIGIN_EVERY_S)
    except CannotFit as error:
        return Score(name, None, None, None, 0, note=str(error))
    except Exception as error:  # as in `refit`
        return Score(name, None, None, None, 0, note=f"failed: {error!r}")
    return _standing(name, found)


def _standing(name: str, found: Evaluation) -> Score:
    if not found.points:
        return Score(name, None, None, None, 0, note="nothing was measured in the time held out")
    wape = found.wape if found.wape == found.wape else None
    return Score(name, found.loss, wape, found.coverage_of(0.9), found.origins)


def _ranked(scores: list[Score], incumbent: str | None) -> list[str]:
    def loss(score: Score) -> float:
        assert score.pinball is not None
        return score.pinball * (1.0 - MARGIN if score.model == incumbent else 1.0)

    measured = sorted((s for s in scores if s.pinball is not None), key=loss)
    rest = [name for name in WITHOUT_EVIDENCE if name not in {s.model for s in measured}]
    return [s.model for s in measured] + rest


def _why(name: str, scores: tuple[Score, ...], kept_s: float) -> str:
    mine = next((s for s in scores if s.model == name), None)
    if mine is None or mine.pinball is None:
        return f"{name} leads without a score: too little history to hold any out"
    others = sorted((s.pinball, s.model) for s in scores if s.pinball is not None and s.model != name)
    beaten = f", next {others[0][1]} {others[0][0]:.3f}" if others else ""
    return f"{name} leads: pinball {mine.pinball:.3f} over the last {kept_s / 3600:.0f} h{beaten}"
