"""A weighted combination of models: the mean of their quantiles, weighed apart for near and far horizons.

Joined forecasts beat nearly every single one of them (Bates & Granger 1969; in the M4 and M5 competitions too), and the
more so the less history there is to choose by. Quantiles are averaged level by level (Ratcliff 1979; Lichtendahl et al.
2013): a pool of the distributions is wider where models disagree, but was no better on the development days, and the
width costs capacity. Weights fall with the third power of a model's loss: an equal mean suffers from one bad member, a
single winner from the luck of the draw. In each band of horizons only the best few are heard: what is good two hours
ahead is often bad a day ahead, and a mean over all horizons would leave it out of both.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from controller.core.forecast.backtest import mean_pinball
from controller.core.forecast.base import CannotFit, Fitted, IntArray, model_named, ordered
from controller.core.forecast.calibrate import bucket_ends
from controller.core.forecast.signals import Signal
from controller.core.types import FloatArray, Series

NAME: Final = "combination"
POWER: Final = 3.0
BEST: Final = 4
"""Members in a band, those of the least loss: more add noise, fewer leave it to luck. On the development series (New
York's taxis before 2015, GenTD26 to 23 November, Twitter volumes) five were up to 4 % worse two hours ahead than four,
three up to 3 % worse a day ahead."""
FEWEST: Final = 2


class Combination:
    """Members are fitted each on their own and joined by `joined`; it can't be fitted from history directly."""

    name = NAME
    description = "mean of the models' quantiles, weighted by their loss at each horizon"
    expensive = False

    def fit(self, history: Series, steps: int, signals: Sequence[Signal] = ()) -> Fitted:
        """CannotFit: a combination is made of fitted members, by selection."""
        raise CannotFit("a combination is made by selection, of models that are fitted")

    def predict(
        self, fitted: Fitted, recent: Series, made_s: float, steps: int, signals: Sequence[Signal] = ()
    ) -> FloatArray:
        """As the members predict; one that can't sits out. CannotFit when none can."""
        return self._mean(fitted, [_tried(member, recent, made_s, steps, signals) for member in fitted.members], steps)

    def predict_many(
        self, fitted: Fitted, history: Series, origins: IntArray, steps: int, signals: Sequence[Signal] = ()
    ) -> FloatArray:
        """The same at many origins at once."""
        found = [
            model_named(member.model).predict_many(member, history, origins, steps, signals)
            for member in fitted.members
        ]
        return self._mean(fitted, list(found), steps)

    def _mean(self, fitted: Fitted, found: list[FloatArray | str], steps: int) -> FloatArray:
        paths = [path for path in found if not isinstance(path, str)]
        if not paths:
            raise CannotFit("; ".join(text for text in found if isinstance(text, str)) or "no members")
        rows = [i for i, path in enumerate(found) if not isinstance(path, str)]
        weights = spread_weights(fitted.arrays["weights"][rows], fitted.step_s, fitted.steps)
        return ordered(mean_of(paths, weights[:, :steps]))


def _tried(member: Fitted, recent: Series, made_s: float, steps: int, signals: Sequence[Signal]) -> FloatArray | str:
    try:
        return model_named(member.model).predict(member, recent, made_s, steps, signals)
    except CannotFit as error:
        return f"{member.model}: {error}"


def weights_of(losses: FloatArray) -> FloatArray:
    """Weights (members, buckets), summing to 1 over the members, from losses of that shape; NaN: none.

    In each bucket the BEST of least loss have one, of equal ones the first. A bucket without any loss weighs all alike.
    """
    rank = np.argsort(np.argsort(losses, axis=0, kind="stable"), axis=0)
    known = np.isfinite(losses) & (rank < BEST)
    least = np.where(known, losses, np.inf).min(axis=0)
    ratio = np.where(known, least + 1e-12, 0.0) / (np.where(known, losses, 1.0) + 1e-12)
    power = np.where(known, ratio**POWER, 0.0)
    power = np.where(known.any(axis=0), power, 1.0)
    weights: FloatArray = power / power.sum(axis=0)
    return weights


def losses_of(forecasts: FloatArray, actual: FloatArray, step_s: float) -> FloatArray:
    """Mean pinball loss of forecasts (origins, quantiles, steps) in each bucket of horizons, (buckets,); NaN: none."""
    loss = mean_pinball(forecasts, actual)
    ends = bucket_ends(step_s, actual.shape[1])
    found = [loss[:, low:high] for low, high in zip((0, *ends), ends, strict=False)]
    return np.array([float(np.nanmean(part)) if np.isfinite(part).any() else np.nan for part in found])


def rehearsed(forecasts: Sequence[FloatArray], actual: FloatArray, step_s: float) -> FloatArray:
    """The combination of past forecasts, each (origins, quantiles, steps), to be judged by: each half of the origins is
    weighed by the losses of the other half, so that no origin chooses its own weights."""
    half = (len(actual) + 1) // 2
    steps = actual.shape[1]
    parts: list[FloatArray] = []
    for mine, other in ((slice(None, half), slice(half, None)), (slice(half, None), slice(None, half))):
        weights = weights_of(np.stack([losses_of(path[other], actual[other], step_s) for path in forecasts]))
        parts.append(mean_of([path[mine] for path in forecasts], spread_weights(weights, step_s, steps)))
    return ordered(np.concatenate(parts))


def spread_weights(weights: FloatArray, step_s: float, steps: int) -> FloatArray:
    """Weights (members, buckets) for each step, (members, steps), summing to 1 over the members."""
    ends = bucket_ends(step_s, steps)
    per_step = np.repeat(weights, np.diff((0, *ends)), axis=1)
    total = per_step.sum(axis=0)
    out: FloatArray = np.where(total > 0, per_step / np.where(total > 0, total, 1.0), 1.0 / len(weights))
    return out


def mean_of(paths: Sequence[FloatArray], weights: FloatArray) -> FloatArray:
    """Weighted mean of quantile paths (..., quantiles, steps), weights (members, steps).

    A member that gives no number at a step counts for nothing there; NaN where none gives one.
    """
    values = np.stack(paths)  # (members, ..., quantiles, steps)
    known = np.asarray(np.isfinite(values).all(axis=-2))
    share = np.where(known, weights.reshape(len(paths), *(1,) * (known.ndim - 2), -1), 0.0)
    mass = np.asarray(share.sum(axis=0))
    total = np.einsum("m...s,m...qs->...qs", share, np.where(np.expand_dims(known, -2), values, 0.0))
    out: FloatArray = total / np.expand_dims(np.where(mass > 0, mass, np.nan), -2)
    return out


def joined(members: Sequence[Fitted], weights: FloatArray) -> Fitted:
    """The combination of fitted members by weights (members, buckets).

    ValueError for fewer than two members or for members of different grids.
    """
    if len(members) < FEWEST:
        raise ValueError("a combination needs two members at least")
    first = members[0]
    if any((m.step_s, m.steps) != (first.step_s, first.steps) for m in members):
        raise ValueError("members of a combination must be of one grid")
    arrays = {"weights": weights / np.maximum(weights.sum(axis=0), 1e-12)}
    return Fitted(
        NAME,
        first.step_s,
        first.steps,
        max(member.fitted_s for member in members),
        np.empty((0, 0, 0)),
        arrays,
        note=", ".join(
            f"{member.model} {float(weight.mean()):.0%}" for member, weight in zip(members, weights, strict=True)
        ),
        members=tuple(members),
        uses=tuple(dict.fromkeys(use for member in members for use in member.uses)),
    )


COMBINATION = Combination()
