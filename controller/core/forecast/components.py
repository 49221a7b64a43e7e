"""Unobserved components: a level that wanders, an autoregressive deviation, and trigonometric seasons of the day and,
from two weeks of history on, of the week (Harvey 1989; statsmodels UnobservedComponents).

The variances are estimated by maximum likelihood on the end of history, for its time goes with length; all of history
is then filtered with them. Forecast by `statespace`.
"""

import warnings
from typing import Any, Final

import numpy as np

from controller.core.forecast.base import CannotFit, day_steps
from controller.core.forecast.calendar import HARMONICS, WEEK_HARMONICS, week_harmonics
from controller.core.forecast.paths import Parameters
from controller.core.forecast.statespace import StateSpaceModel, parameters_of
from controller.core.series import DAY_S, WEEK_S
from controller.core.types import FloatArray, Series

LONGEST_FIT_STEPS: Final = 1008
"""A week of ten minutes, six of hours."""
ITERATIONS: Final = 30


class Components(StateSpaceModel):
    """Level + deviation + seasons, each with a variance of its own."""

    name = "components"
    description = "unobserved components: level, deviation, season of the day and of the week"

    def learn(self, history: Series, steps: int) -> Parameters:
        if float(np.ptp(history.values)) == 0.0:
            raise CannotFit("a constant series has no components")
        scale = float(np.std(history.values))
        values = history.values / scale
        weekly = week_harmonics(history.end_s - history.start_s) > 0
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                params = estimated(values[-LONGEST_FIT_STEPS:], history.step_s, weekly)
                arrays = parameters_of(built(values, history.step_s, weekly).filter(params, return_ssm=True))
            except (ValueError, np.linalg.LinAlgError) as error:
                raise CannotFit(f"{len(values)} steps gave no components: {error}") from error
        numbers = {
            "scale": scale,
            "start_s": history.start_s,
            "ready_s": history.start_s + (1.5 * WEEK_S if weekly else DAY_S),
            "highest": float(history.values.max()),
        }
        return arrays, numbers


def built(values: FloatArray, step_s: float, weekly: bool) -> Any:
    """The model over load in units of its standard deviation. The season of the day may change, that of the week is
    fixed: a few weeks don't show it changing."""
    from statsmodels.tsa.statespace.structural import UnobservedComponents

    day = day_steps(step_s)
    seasons = [{"period": day, "harmonics": HARMONICS}]
    if weekly:
        seasons.append({"period": 7 * day, "harmonics": WEEK_HARMONICS})
    return UnobservedComponents(
        values,
        level="llevel",
        autoregressive=1,
        freq_seasonal=seasons,
        stochastic_freq_seasonal=[True, False][: len(seasons)],
    )


def estimated(values: FloatArray, step_s: float, weekly: bool) -> FloatArray:
    """Variances and the autoregression. ValueError when they aren't finite."""
    found = built(values, step_s, weekly).fit(disp=False, maxiter=ITERATIONS, return_params=True)
    params = np.asarray(found, dtype=np.float64)
    if not np.isfinite(params).all():
        raise ValueError("no finite parameters")
    return params


COMPONENTS = Components()
