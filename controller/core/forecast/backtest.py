"""How well forecasts did: rolling origins, pinball loss, WAPE, coverage."""

from dataclasses import dataclass

import numpy as np

from controller.core.forecast.base import IntArray, Model
from controller.core.series import clip
from controller.core.types import QUANTILES, FloatArray, Series


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model's score over origins and steps ahead. `pinball` and `coverage` by quantile; NaN: nothing measured."""

    quantiles: tuple[float, ...]
    pinball: FloatArray
    coverage: FloatArray
    wape: float
    origins: int
    points: int

    @property
    def loss(self) -> float:
        """Mean pinball loss over the quantiles: what selection goes by."""
        return float(self.pinball.mean())

    def coverage_of(self, quantile: float) -> float:
        return float(self.coverage[self.quantiles.index(quantile)])


def pinball(forecast: FloatArray, actual: FloatArray, quantile: float) -> FloatArray:
    """Koenker & Bassett's loss: q per unit above the forecast, 1 - q per unit below it."""
    error = actual - forecast
    return np.maximum(quantile * error, (quantile - 1.0) * error)


def mean_pinball(forecasts: FloatArray, actual: FloatArray, quantiles: tuple[float, ...] = QUANTILES) -> FloatArray:
    """Loss of each origin and step, mean over the quantiles, shape (origins, steps); NaN where either is unknown."""
    levels = np.asarray(quantiles)[None, :, None]
    error = actual[:, None, :] - forecasts
    loss: FloatArray = np.maximum(levels * error, (levels - 1.0) * error).mean(axis=1)
    return loss


def targets_of(series: Series, origins: IntArray, steps: int) -> FloatArray:
    """What came after each origin, shape (origins, steps); NaN where it is a gap or not there yet."""
    index = origins[:, None] + np.arange(steps)[None, :]
    count = len(series.values)
    return np.where(index < count, series.values[np.minimum(index, count - 1)], np.nan)


def evaluate(forecasts: FloatArray, actual: FloatArray, quantiles: tuple[float, ...] = QUANTILES) -> Evaluation:
    """Scores of forecasts (origins, quantiles, steps) against actual (origins, steps); a NaN in either counts not."""
    known = np.isfinite(actual) & np.isfinite(forecasts).all(axis=1)
    points = int(known.sum())
    if points == 0:
        nothing = np.full(len(quantiles), np.nan)
        return Evaluation(quantiles, nothing, nothing, float("nan"), 0, 0)
    truth = actual[known]
    paths = [forecasts[:, i, :][known] for i in range(len(quantiles))]
    loss = np.array([pinball(path, truth, q).mean() for path, q in zip(paths, quantiles, strict=True)])
    covered = np.array([(truth <= path + 1e-9).mean() for path in paths])
    load = float(np.abs(truth).sum())
    middle = paths[quantiles.index(0.5)] if 0.5 in quantiles else paths[len(paths) // 2]
    wape = float(np.abs(truth - middle).sum()) / load if load > 0 else float("nan")
    return Evaluation(quantiles, loss, covered, wape, int(known.any(axis=1).sum()), points)


def rolling(
    model: Model,
    series: Series,
    evaluate_from_s: float,
    evaluate_to_s: float,
    steps: int,
    *,
    refit_s: float = 86400.0,
    every_s: float = 3600.0,
) -> tuple[IntArray, FloatArray]:
    """Rolling-origin forecasts: refitted each refit_s on what was known then, an origin each every_s.

    Returns the origins (indices into series) and forecasts (origins, quantiles, steps). Raises CannotFit.
    """
    found: list[tuple[IntArray, FloatArray]] = []
    at_s = evaluate_from_s
    while at_s < evaluate_to_s:
        until_s = min(at_s + refit_s, evaluate_to_s)
        fitted = model.fit(clip(series, end_s=at_s), steps)
        origins = np.arange(_index(series, at_s), _index(series, until_s), max(1, round(every_s / series.step_s)))
        found.append((origins, model.predict_many(fitted, clip(series, end_s=until_s), origins, steps)))
        at_s = until_s
    return np.concatenate([o for o, _ in found]), np.concatenate([f for _, f in found])


def _index(series: Series, at_s: float) -> int:
    return round((at_s - series.start_s) / series.step_s)
