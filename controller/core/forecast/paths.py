"""The common half of every model: features at past origins, a regression to quantiles, and prediction from it."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from controller.core.cleaning import bounded, ceiling_of, cleaned
from controller.core.forecast.base import CannotFit, Fitted, IntArray, ordered
from controller.core.forecast.regressors import columns, day_levels, require, use_of
from controller.core.forecast.signals import Signal, SignalUse
from controller.core.forecast.spread import (
    FEWEST_ORIGINS,
    around_knots,
    between_knots,
    gathered,
    knots,
    quantiles_of,
    recency,
    regress_quantiles,
)
from controller.core.series import DAY_S, filled, sanitise, until
from controller.core.types import QUANTILES, FloatArray, Series

ORIGINS: Final = 1200
HALF_LIFE_S: Final = 7 * DAY_S
CEILING: Final = "ceiling"
"""In a fit's numbers: the most that a measured value is taken for (see cleaning.py)."""

Parameters = tuple[dict[str, FloatArray], dict[str, float]]


class PathModel:
    """A model that is a set of features, each a number for every origin and step ahead; the first is the constant 1.

    Subclasses give `learn` (parameters), `features`, and `reach_s` (how much of the past `features` looks at).
    `point_feature` names the feature that is the median as it stands, for models that are a rule and not a fit.
    """

    name: str = ""
    description: str = ""
    expensive: bool = False
    reach_s: float = DAY_S
    least_s: float | None = None  # so much of the past will do, too; None: nothing less than `reach_s`
    warm_up_s: float = DAY_S
    point_feature: int | None = None

    def learn(self, history: Series, steps: int) -> Parameters:
        """Parameters from history without gaps. Raises CannotFit."""
        return {}, {}

    def kept(self, arrays: dict[str, FloatArray], numbers: dict[str, float], step_s: float) -> Parameters:
        """What of `learn` is needed once the spread is fitted: the past that only training looked at is let go."""
        return arrays, numbers

    def features(self, fitted: Fitted, series: Series, origins: IntArray, ahead: IntArray) -> FloatArray:
        """Shape (origins, ahead, features). Origin i knows series.values[:i]; `ahead` 0 is the step i itself."""
        raise NotImplementedError

    def fit(self, history: Series, steps: int, signals: Sequence[Signal] = ()) -> Fitted:
        known = usable(cleaned(history))
        if known.end_s - known.start_s < self.warm_up_s + steps * known.step_s:
            hours = (known.end_s - known.start_s) / 3600.0
            raise CannotFit(f"{hours:.1f} h of history, {self.name} needs {self.needs_h(known.step_s, steps):.1f} h")
        measured = int(np.isfinite(known.values).sum())
        if measured < FEWEST_ORIGINS:
            raise CannotFit(f"{measured} steps were measured, {FEWEST_ORIGINS} are needed")
        whole = filled(known)
        arrays, numbers = self.learn(whole, steps)
        bare = Fitted(self.name, known.step_s, steps, known.end_s, np.empty((0, 0, 0)), arrays, numbers)
        count = len(known.values)
        first = round(self.warm_up_s / known.step_s)
        origins = np.unique(np.linspace(first, count - 1, ORIGINS).astype(np.int64))
        at = knots(steps)
        groups = around_knots(at, steps, len(origins))
        ahead = np.unique(np.concatenate(groups))
        uses = tuple(use_of(signal, known, steps) for signal in signals)
        index = origins[:, None] + ahead[None, :]
        features, targets, weights = gathered(
            self._all_features(bare, whole, origins, ahead, uses, signals),
            np.where(index < count, known.values[np.minimum(index, count - 1)], np.nan),
            recency((count - origins.astype(np.float64)) * known.step_s, HALF_LIFE_S),
            [np.searchsorted(ahead, group) for group in groups],
        )
        enough = int(np.isfinite(targets).sum(axis=1).min())
        if enough < FEWEST_ORIGINS:
            raise CannotFit(f"{enough} past origins to learn from, {FEWEST_ORIGINS} are needed")
        for i, use in enumerate(uses):
            column = features[:, :, i - len(uses)]
            enough = int((np.isfinite(targets) & np.isfinite(column)).sum(axis=1).min())
            if enough < FEWEST_ORIGINS:
                raise CannotFit(f"signal {use.name} was known at {enough} past origins, {FEWEST_ORIGINS} are needed")
        try:
            coefficients = regress_quantiles(features, targets, weights)
        except np.linalg.LinAlgError as error:
            raise CannotFit(f"{len(origins)} past origins are too much alike to learn a spread from") from error
        if self.point_feature is not None:
            median = QUANTILES.index(0.5)
            coefficients[:, median, :] = 0.0
            coefficients[:, median, self.point_feature] = 1.0
            if uses:  # the rule stands; signals may only move it
                moved = np.concatenate([features[:, :, :1], features[:, :, -len(uses) :]], axis=2)
                rest = targets - features[:, :, self.point_feature]
                coefficients[:, median, -len(uses) :] = regress_quantiles(moved, rest, weights, (0.5,))[:, 0, 1:]
        spread = between_knots(coefficients, at, steps)
        note = "" if known.start_s == history.start_s else "quiet launch days at the start left out"
        arrays, numbers = self.kept(arrays, numbers, known.step_s)
        ceiling = ceiling_of(known.values)
        if np.isfinite(ceiling):
            numbers = {**numbers, CEILING: ceiling}
        return Fitted(self.name, known.step_s, steps, known.end_s, spread, arrays, numbers, note, uses=uses)

    def needs_h(self, step_s: float, steps: int) -> float:
        return (self.warm_up_s + steps * step_s) / 3600.0

    def predict(
        self, fitted: Fitted, recent: Series, made_s: float, steps: int, signals: Sequence[Signal] = ()
    ) -> FloatArray:
        known = until(_believed(fitted, recent), made_s)
        least_s = self.reach_s if self.least_s is None else self.least_s
        if known.end_s - known.start_s < least_s - known.step_s:
            raise CannotFit(f"{self.name} looks {least_s / 3600:.0f} h back and only less is at hand")
        require(fitted.uses, signals, known, steps)
        if not np.isfinite(known.values).any():
            raise CannotFit(f"{self.name}: nothing was measured in the last {len(known.values)} steps")
        whole = filled(known)
        origins = np.array([len(whole.values)], dtype=np.int64)
        ahead = np.arange(steps, dtype=np.int64)
        features = self._all_features(fitted, whole, origins, ahead, fitted.uses, signals)
        return ordered(quantiles_of(fitted.spread, features)[0])

    def predict_many(
        self, fitted: Fitted, history: Series, origins: IntArray, steps: int, signals: Sequence[Signal] = ()
    ) -> FloatArray:
        ahead = np.arange(steps, dtype=np.int64)
        known = _believed(fitted, history)
        features = self._all_features(fitted, filled(known), origins, ahead, fitted.uses, signals)
        found = ordered(quantiles_of(fitted.spread, features))
        measured = np.flatnonzero(np.isfinite(known.values))
        found[origins <= (measured[0] if len(measured) else len(known.values))] = np.nan
        return found

    def _all_features(
        self,
        fitted: Fitted,
        whole: Series,
        origins: IntArray,
        ahead: IntArray,
        uses: tuple[SignalUse, ...],
        signals: Sequence[Signal],
    ) -> FloatArray:
        """The model's own features, and after them a column for each signal in use."""
        own = self.features(fitted, whole, origins, ahead)
        if not uses:
            return own
        levels = day_levels(whole.values, origins, whole.step_s)
        return np.concatenate([own, columns(uses, signals, whole, levels, origins, ahead)], axis=2)


def _believed(fitted: Fitted, series: Series) -> Series:
    """The series without negative and infinite values, and no higher than the fit's history makes believable: one
    absurd sample must not make the next forecasts absurd."""
    return bounded(sanitise(series), fitted.numbers.get(CEILING, float("inf")))


def usable(history: Series, share: float = 0.1) -> Series:
    """History from the first day with at least `share` of the load of the second busiest of the last seven: the days in
    which a service was launching say nothing of how it is used. (The second busiest, so that one absurd day discards
    nothing; and leading quiet days dropped don't change it, so that dropping twice is dropping once.) Days of which
    less than half is known don't count."""
    day = round(DAY_S / history.step_s)
    days = len(history.values) // day
    if days < 3:
        return history
    skip = len(history.values) - days * day
    blocks = history.values[skip:].reshape(days, day)
    known = np.isfinite(blocks)
    number = known.sum(axis=1)
    mean = np.where(known, blocks, 0.0).sum(axis=1) / np.maximum(number, 1)
    counted = number * 2 >= day
    lately = mean[-7:][counted[-7:]]
    if not len(lately):
        return history
    usual = float(np.sort(lately)[-2:][0])
    alive = counted & (mean >= share * usual)
    first = int(np.argmax(alive)) if alive.any() else 0
    start = skip + first * day if first else 0
    return Series(history.start_s + start * history.step_s, history.step_s, history.values[start:])


def running_sum(values: FloatArray) -> FloatArray:
    """Sums before each index, one longer than the values: a mean of any window is a difference of two."""
    out = np.empty(len(values) + 1)
    out[0] = 0.0
    np.cumsum(values, out=out[1:])
    return out


def mean_before(sums: FloatArray, origins: IntArray, width: int) -> FloatArray:
    """Mean of the `width` values before each origin (of fewer at the start)."""
    low = np.maximum(origins - width, 0)
    return (sums[origins] - sums[low]) / np.maximum(origins - low, 1)
