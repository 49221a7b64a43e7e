"""ARIMA errors with Fourier terms of the day and, from two weeks of history on, of the week.

Estimated by statsmodels with the method of Hannan & Rissanen (1982) inside generalised least squares: no likelihood is
searched, so that a fit takes a fraction of a second. Of a few orders the one leads that was the least wrong, in the
mean over the day ahead, in the last third of history. Filtered and forecast by `statespace`.
"""

import warnings
from typing import Any, Final

import numpy as np

from controller.core.forecast.base import CannotFit, Fitted, IntArray
from controller.core.forecast.calendar import calendar, week_harmonics, week_harmonics_of
from controller.core.forecast.paths import Parameters
from controller.core.forecast.spread import knots
from controller.core.forecast.statespace import StateSpaceModel, parameters_of
from controller.core.series import DAY_S
from controller.core.types import FloatArray, Series

ORDERS: Final = ((1, 0, 1), (1, 1, 2))
"""(p, d, q): a level that is returned to, and a level that wanders."""
LONGEST_FIT_STEPS: Final = 4032
JUDGED_ORIGINS: Final = 200
GLS_ITERATIONS: Final = 4


class ArimaFourier(StateSpaceModel):
    """Regression on the calendar with ARIMA errors."""

    name = "arima_fourier"
    description = "ARIMA errors around Fourier terms of the day and the week"

    def learn(self, history: Series, steps: int) -> Parameters:
        if float(np.ptp(history.values)) == 0.0:
            raise CannotFit("a constant series has nothing to regress")
        found: list[tuple[float, Parameters]] = []
        failures: list[str] = []
        for order in ORDERS:
            try:
                arrays, numbers = estimated(history, order)
            except (ValueError, np.linalg.LinAlgError) as error:
                failures.append(f"ARIMA{order}: {error}")
                continue
            found.append((self._error(arrays, numbers, history, steps), (arrays, numbers)))
        if not found:
            raise CannotFit(f"{len(history.values)} steps gave no ARIMA model ({'; '.join(failures)})")
        return min(found, key=lambda pair: pair[0])[1]

    def drift(self, fitted: Fitted, start_s: float, step_s: float, count: int) -> FloatArray:
        seasonal = fitted.arrays["seasonal"]
        terms = calendar(start_s, step_s, count, week_harmonics_of(len(seasonal)))
        return np.asarray(fitted.numbers["constant"] + terms @ seasonal, dtype=np.float64)

    def _error(self, arrays: dict[str, FloatArray], numbers: dict[str, float], history: Series, steps: int) -> float:
        """Mean absolute error of the point path over the last third of history."""
        count = len(history.values)
        fitted = Fitted(self.name, history.step_s, steps, history.end_s, np.empty((0, 0, 0)), arrays, numbers)
        origins: IntArray = np.unique(np.linspace(count * 2 // 3, count - steps, JUDGED_ORIGINS).astype(np.int64))
        ahead = knots(steps)
        path = self.features(fitted, history, origins, ahead)[:, :, 1]
        actual = history.values[np.minimum(origins[:, None] + ahead[None, :], count - 1)]
        return float(np.abs(path - actual).mean())


def estimated(history: Series, order: tuple[int, int, int]) -> Parameters:
    """Parameters of one order, in units of the standard deviation of the load. ValueError or LinAlgError when there is
    no such model."""
    from statsmodels.tsa.arima.model import ARIMA

    scale = float(np.std(history.values))
    values = history.values / scale
    terms = calendar(history.start_s, history.step_s, len(values), week_harmonics(history.end_s - history.start_s))
    varied = np.ptp(terms[-LONGEST_FIT_STEPS:], axis=0) > 0  # no weekend in history: no weekend mark
    trend = "c" if order[1] == 0 else "n"
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        lately = slice(-LONGEST_FIT_STEPS, None)
        model = ARIMA(values[lately], exog=terms[lately, varied], order=order, trend=trend)
        params = np.asarray(_fit(model), dtype=np.float64)
        if not np.isfinite(params).all():
            raise ValueError("no finite parameters")
        whole = ARIMA(values, exog=terms[:, varied], order=order, trend=trend)
        arrays = parameters_of(whole.filter(params, return_ssm=True))
    constant = float(params[0]) if trend == "c" else 0.0
    seasonal = np.zeros(terms.shape[1])
    first = 1 if trend == "c" else 0
    seasonal[varied] = params[first : first + int(varied.sum())]
    numbers = {
        "constant": constant,
        "scale": scale,
        "start_s": history.start_s,
        "ready_s": history.start_s + DAY_S,
        "highest": float(history.values.max()),
    }
    return {**arrays, "seasonal": seasonal}, numbers


def _fit(model: Any) -> FloatArray:
    """Hannan & Rissanen; where that finds roots that don't hold, the innovations algorithm, which costs more."""
    try:
        found = model.fit(method="hannan_rissanen", return_params=True, gls_kwargs={"max_iter": GLS_ITERATIONS})
    except ValueError:
        few = {"minimize_kwargs": {"options": {"maxiter": 20}}}
        found = model.fit(
            method="innovations_mle", return_params=True, gls_kwargs={"max_iter": GLS_ITERATIONS}, method_kwargs=few
        )
    params: FloatArray = np.asarray(found, dtype=np.float64)
    return params


ARIMA_FOURIER = ArimaFourier()
