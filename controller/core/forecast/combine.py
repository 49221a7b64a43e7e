"""A weighted combination of models: the pool of their distributions, weighed apart for near and far horizons.

Joined forecasts beat nearly every single one of them (Bates & Granger 1969; in the M4 and M5 competitions too), and the
more so the less history there is to choose by. The distributions are pooled (Stone 1961; Hall & Mitchell 2007) rather
than their quantiles averaged: where models disagree nobody knows, and the band should say so. Weights fall with the
third power of a model's loss: an equal mean suffers from one bad member, a single winner from the luck of the draw.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from controller.core.forecast.backtest import mean_pinball
from controller.core.forecast.base import CannotFit, Fitted, IntArray, model_named, ordered
from controller.core.forecast.calibrate import bucket_ends
from controller.core.forecast.signals import Signal
from controller.core.types import QUANTILES, FloatArray, Series

NAME: Final = "combination"
POWER: Final = 3.0
MOST: Final = 6
"""Members at most, the best by their loss over all horizons: more cost time and add noise."""
FEWEST: Final = 2


class Combination:
    """Members are fitted each on their own and joined by `joined`; it can't be fitted from history directly."""

    name = NAME
    description = "pool of the models' distributions, weighted by their loss at each horizon"
    expensive = False

    def fit(self, history: Series, steps: int, signals: Sequence[Signal] = ()) -> Fitted:
        """CannotFit: a combination is made of fitted members, by selection."""
        raise CannotFit("a combination is made by selection, of models that are fitted")

    def predict(
        self, fitted: Fitted, recent: Series, made_s: float, steps: int, signals: Sequence[Signal] = ()
    ) -> FloatArray:
        """As the members predict; one that can't sits out. CannotFit when none can."""
        return self._pool(fitted, [_tried(member, recent, made_s, steps, signals) for member in fitted.members], steps)

    def predict_many(
        self, fitted: Fitted, history: Series, origins: IntArray, steps: int, signals: Sequence[Signal] = ()
    ) -> FloatArray:
        """The same at many origins at once."""
        found = [
            model_named(member.model).predict_many(member, history, origins, steps, signals)
            for member in fitted.members
        ]
        return self._pool(fitted, list(found), steps)

    def _pool(self, fitted: Fitted, found: list[FloatArray | str], steps: int) -> FloatArray:
        paths = [path for path in found if not isinstance(path, str)]
        if not paths:
            raise CannotFit("; ".join(text for text in found if isinstance(text, str)) or "no members")
        rows = [i for i, path in enumerate(found) if not isinstance(path, str)]
        return ordered(pooled(paths, spread_weights(fitted.arrays["weights"][rows], fitted.step_s, fitted.steps)))


def _tried(member: Fitted, recent: Series, made_s: float, steps: int, signals: Sequence[Signal]) -> FloatArray | str:
    try:
        return model_named(member.model).predict(member, recent, made_s, steps, signals)
    except CannotFit as error:
        return f"{member.model}: {error}"


def weights_of(losses: FloatArray) -> FloatArray:
    """Weights (members, buckets), summing to 1 over the members, from losses of that shape; NaN: none.

    A bucket without any loss weighs all members alike.
    """
    known = np.isfinite(losses)
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
        parts.append(pooled([path[mine] for path in forecasts], spread_weights(weights, step_s, steps)))
    return ordered(np.concatenate(parts))


def spread_weights(weights: FloatArray, step_s: float, steps: int) -> FloatArray:
    """Weights (members, buckets) for each step, (members, steps), summing to 1 over the members."""
    ends = bucket_ends(step_s, steps)
    per_step = np.repeat(weights, np.diff((0, *ends)), axis=1)
    total = per_step.sum(axis=0)
    out: FloatArray = np.where(total > 0, per_step / np.where(total > 0, total, 1.0), 1.0 / len(weights))
    return out


def pooled(paths: Sequence[FloatArray], weights: FloatArray) -> FloatArray:
    """The linear pool of quantile paths (..., quantiles, steps), by weights (members, steps) or (members, ..., steps).

    Each member is a distribution, of even density between its quantiles and from 0 to its median; the pool is their
    weighted mean, and its quantiles are returned. Where members disagree it is wider than any of them, as it should be.
    A member that gives no number at a step counts for nothing there; NaN where none gives one.
    """
    values = np.moveaxis(np.stack(paths), -2, -1)  # (members, ..., steps, quantiles)
    known = np.asarray(np.isfinite(values).all(axis=-1))
    share = np.where(known, weights if weights.ndim == known.ndim else np.expand_dims(weights, 1), 0.0)
    mass: FloatArray = np.asarray(share.sum(axis=0))
    share = share / np.where(mass > 0, mass, 1.0)
    nodes = np.concatenate([np.zeros((*known.shape, 1)), np.where(known[..., None], values, 0.0)], axis=-1)
    least = 1e-9 + 1e-7 * nodes.max(axis=(0, -1))  # a jump is taken for a very steep slope
    low = nodes[..., :-1]
    high = np.maximum(nodes[..., 1:], low + least[..., None])
    slope = share[..., None] * np.diff((0.0, *QUANTILES)) / (high - low)
    # The pool's distribution function is linear between these points; its slope changes by this much at each.
    at = np.moveaxis(np.concatenate([low, high], axis=-1), 0, -2).reshape(*mass.shape, -1)
    change = np.moveaxis(np.concatenate([slope, -slope], axis=-1), 0, -2).reshape(*mass.shape, -1)
    order = np.argsort(at, axis=-1)
    at, change = np.take_along_axis(at, order, axis=-1), np.take_along_axis(change, order, axis=-1)
    rise = np.cumsum(change, axis=-1)[..., :-1] * np.diff(at, axis=-1)
    reached = np.concatenate([np.zeros((*mass.shape, 1)), np.cumsum(rise, axis=-1)], axis=-1)
    out = np.empty((*mass.shape, len(QUANTILES)))
    for q, level in enumerate(QUANTILES):
        after = np.clip((reached < level - 1e-9).sum(axis=-1), 1, at.shape[-1] - 1)[..., None]
        x0, x1 = np.take_along_axis(at, after - 1, axis=-1), np.take_along_axis(at, after, axis=-1)
        f0, f1 = np.take_along_axis(reached, after - 1, axis=-1), np.take_along_axis(reached, after, axis=-1)
        part = np.clip((level - f0) / np.maximum(f1 - f0, 1e-300), 0.0, 1.0)
        out[..., q] = (x0 + part * (x1 - x0))[..., 0]
    return np.moveaxis(np.where(np.expand_dims(np.asarray(mass > 0), -1), out, np.nan), -1, -2)


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
