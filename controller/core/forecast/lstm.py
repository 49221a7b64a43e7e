"""A recurrent network over all series: quantile paths from the last days, computed with NumPy from trained weights.

Training needs PyTorch and is no business of the core (`controller.lstm_training`); its result, `Weights`, is plain
arrays, so that forecasting needs nothing but NumPy. One network serves every series of a grid: what it reads is scaled
by the series' own level, and what it says is scaled back. The shape is that of the multi-horizon quantile recurrent
forecaster (Wen et al. 2017): an LSTM reads the last days, and a small network turns its state, and what is known of a
step ahead, into quantiles of that step. Two of these paths are features like another model's: the quantile regression
that all models share adapts them to the series.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from controller.core.forecast.base import CannotFit, Fitted, IntArray, day_steps
from controller.core.forecast.paths import Parameters, PathModel, mean_before, running_sum
from controller.core.series import DAY_S, HOUR_S, WEEK_S, hour_of_day, is_weekend, times_s
from controller.core.types import QUANTILES, FloatArray, Series

DAYS_BACK: Final = 7
LARGEST: Final = 30.0
"""More than this many times the recent level counts as this: one absurd sample must not speak a week later."""
SILENT: Final = 1e-9
CALENDAR: Final = 5
READ: Final = 1 + CALENDAR
"""What the LSTM reads of a step: its load and its calendar."""
AHEAD: Final = CALENDAR + 5
"""What is known of a step ahead: its calendar, how far off it is, and loads at that time on earlier days."""
FEATURED: Final = (QUANTILES.index(0.5), QUANTILES.index(0.9))
"""The paths that are features: a middle and a width. With all five the regression fits the noise between them."""
_CHUNK: Final = 256


@dataclass(frozen=True, slots=True)
class Weights:
    """A trained network for one grid. With H units, D hidden units, R = READ, A = AHEAD and Q quantiles, `arrays` has
    "read" (4H, R), "carried" (4H, H), "bias" (4H) of the LSTM, its gates in the order input, forget, cell, output;
    "state" (D, H), "ahead" (D, A), "hidden_bias" (D), "hidden" (Q, D), "straight" (Q, A), "out_bias" (Q).

    `context`: how many steps the LSTM reads. `until_s`: nothing from then on was seen in training, so that a score on
    what came later is honest.
    """

    step_s: float
    context: int
    until_s: float
    arrays: Mapping[str, FloatArray]
    note: str = ""


class Lstm(PathModel):
    """Without weights it predicts what was fitted, and declines to fit; `Lstm(weights)` fits, too."""

    name = "lstm"
    description = "one recurrent network (LSTM) trained on all series, adapted to each"
    expensive = True
    reach_s = WEEK_S + DAY_S
    least_s = 2 * DAY_S
    warm_up_s = 2 * DAY_S

    def __init__(self, weights: Weights | None = None) -> None:
        self.weights = weights

    def learn(self, history: Series, steps: int) -> Parameters:
        """The weights, copied: with them a fit is complete. CannotFit without them, for another grid's, and for those
        that were trained on what came after `history`."""
        weights = self.weights
        if weights is None:
            raise CannotFit("no trained weights (0 networks): it needs PyTorch, see requirements-lstm.txt")
        if weights.step_s != history.step_s:
            raise CannotFit(f"its weights are for steps of {weights.step_s:.0f} s, not {history.step_s:.0f} s")
        if weights.until_s > history.end_s:
            hours = (weights.until_s - history.end_s) / HOUR_S
            raise CannotFit(f"its weights have seen {hours:.1f} h of what it would be judged by")
        numbers = {"context": float(weights.context), "until_s": weights.until_s, "start_s": history.start_s}
        return dict(weights.arrays), numbers

    def features(self, fitted: Fitted, series: Series, origins: IntArray, ahead: IntArray) -> FloatArray:
        """The constant and the network's paths of the quantiles FEATURED, in the series' own unit. What was before the
        fit's history (the launch of a service) stays unknown."""
        context = round(fitted.numbers["context"])
        begin = max(0, round((fitted.numbers["start_s"] - series.start_s) / series.step_s))
        out = np.ones((len(origins), len(ahead), 1 + len(FEATURED)))
        for first in range(0, len(origins), _CHUNK):
            some = origins[first : first + _CHUNK]
            scale = level(series, some, context)
            state = encoded(fitted.arrays, read(series, some, context, scale))
            paths = decoded(fitted.arrays, state, known_ahead(series, some, ahead, scale, begin))
            out[first : first + _CHUNK, :, 1:] = paths[:, :, FEATURED] * scale[:, None, None]
        return out


def level(series: Series, origins: IntArray, context: int) -> FloatArray:
    """The mean of the `context` steps before each origin, what everything is measured by; never 0."""
    return mean_before(running_sum(series.values), origins, context) + SILENT


def read(series: Series, origins: IntArray, context: int, scale: FloatArray) -> FloatArray:
    """What the LSTM reads at each origin, shape (origins, context, READ): load over `scale`, as a logarithm, and the
    calendar. Before the first step of the series stands its first value."""
    index = np.maximum(origins[:, None] - context + np.arange(context)[None, :], 0)
    out = np.empty((len(origins), context, READ))
    out[:, :, 0] = np.log1p(_bounded(series.values[index] / scale[:, None]))
    out[:, :, 1:] = calendar(times_s(series))[index]
    return out


def known_ahead(series: Series, origins: IntArray, ahead: IntArray, scale: FloatArray, begin: int = 0) -> FloatArray:
    """What is known of each step ahead at each origin, shape (origins, ahead, AHEAD): its calendar; the logarithm of
    its distance in hours; the load around that time of day yesterday, a week ago (0 where unknown, and whether it is
    known), and in the mean of the last seven days; loads over `scale`. Steps before index `begin` are unknown."""
    step_s, day = series.step_s, day_steps(series.step_s)
    sums, half = running_sum(series.values), round(HOUR_S / 2 / step_s)
    wanted = origins[:, None] + ahead[None, :]
    out = np.empty((len(origins), len(ahead), AHEAD))
    at_s = series.start_s + step_s * np.arange(int(wanted.max(initial=0)) + 1, dtype=np.float64)
    out[:, :, :CALENDAR] = calendar(at_s)[wanted]
    out[:, :, CALENDAR] = np.log1p((ahead + 1) * step_s / HOUR_S)[None, :]
    total, count = np.zeros(wanted.shape), np.zeros(wanted.shape)
    for back in range(1, DAYS_BACK + 1):
        middle = wanted - back * day
        known = (middle >= begin) & (middle < origins[:, None])
        low = np.minimum(np.maximum(middle - half, begin), origins[:, None] - 1)
        high = np.minimum(np.maximum(middle + half + 1, low + 1), origins[:, None])
        load = np.where(known, _bounded((sums[high] - sums[low]) / (high - low) / scale[:, None]), 0.0)
        total, count = total + load, count + known
        if back == 1:
            out[:, :, CALENDAR + 1] = load
        if back == DAYS_BACK:
            out[:, :, CALENDAR + 2] = load
            out[:, :, CALENDAR + 3] = known
    out[:, :, CALENDAR + 4] = np.where(count > 0, total / np.maximum(count, 1), 1.0)
    return out


def calendar(at_s: FloatArray) -> FloatArray:
    """Shape (times, CALENDAR): time of day as a daily and a half-daily wave, and whether it is a weekend, by UTC."""
    turn = 2 * np.pi * hour_of_day(at_s) / 24.0
    waves = (np.sin(turn), np.cos(turn), np.sin(2 * turn), np.cos(2 * turn))
    return np.stack([*waves, is_weekend(at_s).astype(np.float64)], axis=-1)


def encoded(arrays: Mapping[str, FloatArray], inputs: FloatArray) -> FloatArray:
    """The LSTM's last output (n, H) after inputs (n, context, READ), from zero states (Hochreiter & Schmidhuber 1997,
    with the forget gate of Gers et al. 2000):

    i, f, o = sigmoid(W x + U h + b), g = tanh(W x + U h + b); c ← f·c + i·g; h ← o·tanh(c).
    """
    carried = np.ascontiguousarray(arrays["carried"].T)
    units = carried.shape[0]
    hidden, cell = np.zeros((len(inputs), units)), np.zeros((len(inputs), units))
    heard = np.ascontiguousarray(np.swapaxes(inputs, 0, 1)) @ arrays["read"].T + arrays["bias"]
    for step in heard:
        gates = step + hidden @ carried
        enter, forget, fresh, leave = (gates[:, k * units : (k + 1) * units] for k in range(4))
        cell = _sigmoid(forget) * cell + _sigmoid(enter) * np.tanh(fresh)
        hidden = _sigmoid(leave) * np.tanh(cell)
    return hidden


def decoded(arrays: Mapping[str, FloatArray], state: FloatArray, ahead: FloatArray) -> FloatArray:
    """Quantile paths (n, ahead, Q), over the level, from states (n, H) and what is known of the steps (n, ahead, A)."""
    hidden = (state @ arrays["state"].T + arrays["hidden_bias"])[:, None, :] + ahead @ arrays["ahead"].T
    paths: FloatArray = np.maximum(hidden, 0.0) @ arrays["hidden"].T + ahead @ arrays["straight"].T + arrays["out_bias"]
    return paths


def _bounded(ratio: FloatArray) -> FloatArray:
    return np.clip(ratio, 0.0, LARGEST)


def _sigmoid(values: FloatArray) -> FloatArray:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values)), dtype=np.float64)


LSTM = Lstm()
