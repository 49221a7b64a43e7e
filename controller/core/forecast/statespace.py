"""Linear Gaussian state-space models, as matrices only: our Kalman filter carries them on.

The filter is the textbook one (Durbin & Koopman 2012, Time Series Analysis by State Space Methods, chapter 4), for one
observed series. statsmodels estimates the parameters and filters the history once; after that the matrices, the last
predicted state and its covariance are all that is kept. A test holds our forecasts equal to the library's.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from controller.core.forecast.base import Fitted, IntArray
from controller.core.forecast.carried import path_features, place
from controller.core.forecast.paths import Parameters, PathModel
from controller.core.series import DAY_S
from controller.core.types import FloatArray, Series


class StateSpaceModel(PathModel):
    """Subclasses give `learn`, with the parameters that `parameters_of` makes, and `drift`, the part that the calendar
    knows ahead. `numbers`: "scale" (the state describes load / scale), "start_s", "ready_s" (an origin before it has a
    state that is not yet determined: not known), "highest"."""

    expensive = True
    reach_s = DAY_S
    warm_up_s = 2 * DAY_S

    def drift(self, fitted: Fitted, start_s: float, step_s: float, count: int) -> FloatArray:
        """What the calendar adds at each of `count` steps, in units of load / scale."""
        return np.zeros(count)

    def kept(self, arrays: dict[str, FloatArray], numbers: dict[str, float], step_s: float) -> Parameters:
        done = len(arrays["state"]) - 1
        return {**arrays, "state": arrays["state"][-1:]}, {**numbers, "start_s": numbers["start_s"] + done * step_s}

    def features(self, fitted: Fitted, series: Series, origins: IntArray, ahead: IntArray) -> FloatArray:
        offset, at = place(fitted, series, origins)
        numbers, step_s = fitted.numbers, series.step_s
        states = fitted.arrays["state"]
        done, last, end = len(states) - 1, int(ahead[-1]), int(at[-1])
        first = min(done, int(at[0]))
        drift = self.drift(fitted, numbers["start_s"] + first * step_s, step_s, end + last + 1 - first)
        if end > done:
            observed = series.values[offset + done : offset + end] / numbers["scale"]
            states = np.concatenate([states, carried_on(fitted.arrays, observed - drift[done - first : end - first])])
        rows = looking_ahead(fitted.arrays["transition"], fitted.arrays["design"], last + 1)[ahead]
        path = states[at] @ rows.T + drift[at[:, None] + ahead[None, :] - first]
        path[numbers["start_s"] + at * step_s < numbers["ready_s"]] = np.nan
        return path_features(numbers["scale"] * path, 3.0 * numbers["highest"])


def parameters_of(filtered: Any) -> dict[str, FloatArray]:
    """The arrays that a fit keeps, from statsmodels' filter results: predicted states (n + 1, m) before each step and
    after the last, the covariance after the last, and the matrices. ValueError when something isn't finite."""
    selection = np.asarray(filtered.selection)[:, :, -1]
    arrays = {
        "transition": np.asarray(filtered.transition)[:, :, -1],
        "design": np.asarray(filtered.design)[0, :, -1],
        "state_noise": selection @ np.asarray(filtered.state_cov)[:, :, -1] @ selection.T,
        "noise": np.asarray(filtered.obs_cov)[0, :, -1],
        "state": np.asarray(filtered.predicted_state).T,
        "covariance": np.asarray(filtered.predicted_state_cov)[:, :, -1],
    }
    arrays = {name: np.array(array, dtype=np.float64) for name, array in arrays.items()}
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError("parameters that are not finite")
    return arrays


def looking_ahead(transition: FloatArray, design: FloatArray, steps: int) -> FloatArray:
    """The row that turns a predicted state into the observation h steps on, for h from 0: shape (steps, m)."""
    rows = np.empty((steps, len(design)))
    row = design
    for h in range(steps):
        rows[h] = row
        row = row @ transition
    return rows


def carried_on(arrays: Mapping[str, FloatArray], observed: FloatArray) -> FloatArray:
    """Predicted states after each observed value, shape (len(observed), m), from the last one kept on. Once the
    covariance no longer changes its update is spared: the gain is then the steady one."""
    transition, design, added = arrays["transition"], arrays["design"], arrays["state_noise"]
    noise = float(arrays["noise"][0])
    state, covariance = arrays["state"][-1], arrays["covariance"]
    out = np.empty((len(observed), len(state)))
    steady = False
    gain = np.zeros(len(state))
    for i, value in enumerate(observed.tolist()):
        if not steady:
            towards = covariance @ design
            variance = max(float(design @ towards) + noise, 1e-300)
            gain = transition @ towards / variance
            after = transition @ covariance @ transition.T + added - variance * np.outer(gain, gain)
            steady = bool(np.abs(after - covariance).max() <= 1e-12 * np.abs(covariance).max())
            covariance = 0.5 * (after + after.T)
        state = transition @ state + gain * (value - float(design @ state))
        out[i] = state
    return out
