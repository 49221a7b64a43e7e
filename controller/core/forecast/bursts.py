"""What just happened makes more of itself: a regression on recent arrivals, for the next minutes.

A tenant who has just asked asks again. In a self-exciting process (Hawkes 1971, Spectra of some self-exciting and
mutually exciting point processes) the rate is a base rate plus a sum over past arrivals, each fading with its age; with
several exponential kernels their sum stands for the slow decay that is seen in practice (Bacry, Mastromatteo & Muzy
2015, Hawkes processes in finance). Here the base rate is the profile expected at that hour and the kernels have time
scales from minutes to hours. Their weights are learned by least squares (as Hansen, Reynaud-Bouret & Rivoirard 2015 do
for such processes), anew for each step ahead, and none is below 0, as in the process itself. The path that they give is
what quantiles are regressed on: one number learned from all minutes leaves less to chance than eight.
"""

from typing import Final

import numpy as np
from scipy.optimize import nnls
from scipy.signal import lfilter

from controller.core.forecast.base import Fitted, IntArray
from controller.core.forecast.paths import HALF_LIFE_S, Parameters, mean_before, running_sum
from controller.core.forecast.seasonal import Profile
from controller.core.forecast.spread import between_knots, knots, recency
from controller.core.series import DAY_S
from controller.core.types import FloatArray, Series

SCALES_S: Final = (120.0, 300.0, 900.0, 2700.0, 10800.0)
"""Time scales of the kernels: 2, 5, 15, 45 and 180 minutes; those shorter than half a step are left out."""
CUT: Final = 4.0
"""A kernel ends after so many time scales, where 2 % of it are left: what is older must not be needed to predict."""
RECENT_S: Final = 300.0
BEFORE_S: Final = 1800.0
PEAK_S: Final = 3600.0
LEVEL_S: Final = 14400.0
LEARNED_ORIGINS: Final = 10_000


class SelfExciting(Profile):
    """Fading sums of recent load, its rise, its recent maximum, and the profile × level, joined to one path; beside it
    the last minutes and the last hours, by which its band widens."""

    name = "self_exciting"
    description = "recent load fading over 2 to 180 minutes, its rise and its peak, over the day-type profile"
    reach_s = DAY_S
    warm_up_s = DAY_S

    def learn(self, history: Series, steps: int) -> Parameters:
        arrays, numbers = super().learn(history, steps)
        bare = Fitted(self.name, history.step_s, steps, history.end_s, np.empty((0, 0, 0)), arrays, numbers)
        count, first = len(history.values), round(self.warm_up_s / history.step_s)
        origins = np.unique(np.linspace(first, count - 1, LEARNED_ORIGINS).astype(np.int64))
        at = knots(steps)
        parts = self.parts(bare, history, origins, at)
        aged = np.sqrt(recency((count - origins.astype(np.float64)) * history.step_s, HALF_LIFE_S))
        weights = np.zeros((len(at), 1, parts.shape[2]))
        for k, step in enumerate(at):
            known = origins + step < count
            design = parts[known, k] * aged[known, None]
            triangle, projected = _reduced(design, history.values[origins[known] + step] * aged[known])
            weights[k, 0] = nnls(triangle, projected)[0]
        return {**arrays, "weights": between_knots(weights, at, steps)[:, 0, :]}, numbers

    def kept(self, arrays: dict[str, FloatArray], numbers: dict[str, float], step_s: float) -> Parameters:
        profile, numbers = super().kept({"profile": arrays["profile"]}, numbers, step_s)
        return {**profile, "weights": arrays["weights"]}, numbers

    def features(self, fitted: Fitted, series: Series, origins: IntArray, ahead: IntArray) -> FloatArray:
        parts = self.parts(fitted, series, origins, ahead)
        sums = running_sum(series.values)
        out = np.ones((len(origins), len(ahead), 4))
        out[:, :, 1] = np.einsum("oap,ap->oa", parts, fitted.arrays["weights"][ahead])
        for i, seconds in enumerate((RECENT_S, LEVEL_S)):
            out[:, :, 2 + i] = mean_before(sums, origins, max(1, round(seconds / series.step_s)))[:, None]
        return out

    def parts(self, fitted: Fitted, series: Series, origins: IntArray, ahead: IntArray) -> FloatArray:
        """What the path is made of, each at least 0: shape (origins, ahead, parts), the profile × level the last."""
        step_s, sums = series.step_s, running_sum(series.values)
        now = mean_before(sums, origins, max(1, round(RECENT_S / step_s)))
        before = mean_before(sums, origins, max(2, round(BEFORE_S / step_s)))
        columns = [faded(series.values, scale_s / step_s)[origins] for scale_s in scales_for(step_s)]
        columns.append(np.maximum(now - before, 0.0))
        columns.append(highest_before(series.values, origins, max(2, round(PEAK_S / step_s))))
        out = np.ones((len(origins), len(ahead), len(columns) + 2))
        out[:, :, 1:-1] = np.stack(columns, axis=1)[:, None, :]
        out[:, :, -1] = self.expected(fitted, series, origins, ahead)
        return out


def _reduced(design: FloatArray, targets: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The same least squares with as many rows as columns: the triangle of a QR decomposition."""
    found, triangle = np.linalg.qr(design)
    return triangle, found.T @ targets


def scales_for(step_s: float) -> tuple[float, ...]:
    """The time scales (seconds) that a grid can tell apart."""
    return tuple(scale_s for scale_s in SCALES_S if scale_s >= 0.5 * step_s)


def faded(values: FloatArray, scale: float) -> FloatArray:
    """Weighted mean of the values before each index, the weight falling by e every `scale` steps and cut off after
    CUT · scale; one longer than the values, 0 where nothing came before."""
    fade = float(np.exp(-1.0 / scale))
    width = max(1, round(CUT * scale))
    whole = np.concatenate([[0.0], np.asarray(lfilter([1.0], [1.0, -fade], values), dtype=np.float64)])
    cut = whole.copy()
    cut[width:] -= fade**width * whole[: max(0, len(whole) - width)]
    return np.maximum(cut * (1.0 - fade) / (1.0 - fade**width), 0.0)


def highest_before(values: FloatArray, origins: IntArray, width: int) -> FloatArray:
    """The largest of the `width` values before each origin, 0 where there is none."""
    padded = np.concatenate([np.zeros(width), values])
    windows = np.lib.stride_tricks.sliding_window_view(padded, width)
    highest: FloatArray = windows[origins].max(axis=1)
    return highest


SELF_EXCITING = SelfExciting()
