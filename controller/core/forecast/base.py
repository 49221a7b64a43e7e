"""What a forecasting model is: it fits plain parameters on history and turns recent load into quantile paths.

A model never keeps a library's result object: `Fitted` is arrays, numbers and words, small enough to pickle to a
process pool or to store. Models are imported when asked for, so that a process which only predicts by a profile loads
no statsmodels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from controller.core.forecast.signals import Signal, SignalUse
from controller.core.series import DAY_S
from controller.core.types import FloatArray, Series

IntArray = npt.NDArray[np.int64]

MINUTE_GRID: Final = (60.0, 60)
TEN_MINUTE_GRID: Final = (600.0, 144)
HOUR_GRID: Final = (3600.0, 24)
GRIDS: Final = (MINUTE_GRID, TEN_MINUTE_GRID, HOUR_GRID)
"""(step_s, steps) of the grids. Fast: an hour ahead by the minute. Slow: a day ahead by ten minutes and by hours."""


class CannotFit(Exception):
    """A model declines a series; the text says why and is shown to people."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A model's parameters for one series and grid. `spread` has shape (steps, quantiles, features): a quantile is a
    linear function of the model's features, one function for each step ahead."""

    model: str
    step_s: float
    steps: int
    fitted_s: float
    spread: FloatArray
    arrays: Mapping[str, FloatArray] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    members: tuple["Fitted", ...] = ()
    """The models that a combination joins; `arrays` has their weights."""
    uses: tuple[SignalUse, ...] = ()
    """Signals whose columns follow the model's own features, in this order."""


class Model(Protocol):
    """One way to forecast offered load. Pure: the same arguments give the same result."""

    name: str
    description: str
    expensive: bool
    """Refit once a day rather than with the cheap ones."""

    def fit(self, history: Series, steps: int, signals: Sequence[Signal] = ()) -> Fitted:
        """Parameters from history alone (gaps are NaN). Raises CannotFit with the reason."""
        ...

    def predict(
        self, fitted: Fitted, recent: Series, made_s: float, steps: int, signals: Sequence[Signal] = ()
    ) -> FloatArray:
        """Quantiles of the steps after made_s, shape (len(QUANTILES), steps): not crossing, not negative.

        `recent` ends at made_s or before; steps missing until made_s count as gaps. Raises CannotFit when it doesn't
        reach back as far as the model looks.
        """
        ...

    def predict_many(
        self, fitted: Fitted, history: Series, origins: IntArray, steps: int, signals: Sequence[Signal] = ()
    ) -> FloatArray:
        """The same at many origins at once, shape (len(origins), len(QUANTILES), steps). Origin i knows the first i
        values of history and nothing after."""
        ...


_WHERE: Final[Mapping[str, tuple[str, str]]] = {
    "naive": ("naive", "NAIVE"),
    "seasonal_naive_24h": ("seasonal", "SEASONAL_NAIVE_24H"),
    "seasonal_naive_168h": ("seasonal", "SEASONAL_NAIVE_168H"),
    "profile": ("seasonal", "PROFILE"),
    "weekly_profile": ("seasonal", "WEEKLY_PROFILE"),
    "self_exciting": ("bursts", "SELF_EXCITING"),
    "autoreg_fourier": ("autoreg", "AUTOREG_FOURIER"),
    "ets": ("ets", "ETS"),
    "arima_fourier": ("arima", "ARIMA_FOURIER"),
    "stl_ets": ("decomposition", "STL_ETS"),
    "components": ("components", "COMPONENTS"),
    "lstm": ("lstm", "LSTM"),
    "combination": ("combine", "COMBINATION"),
}


def model_named(name: str) -> Model:
    """The model, imported now. KeyError for an unknown name."""
    module, attribute = _WHERE[name]
    model: Model = getattr(import_module(f"controller.core.forecast.{module}"), attribute)
    return model


_ONLY_ON: Final[Mapping[str, tuple[float, float]]] = {
    "self_exciting": (60.0, 600.0),
    "ets": (600.0, 3600.0),
    "arima_fourier": (600.0, 3600.0),
    "stl_ets": (600.0, 3600.0),
    "components": (600.0, 3600.0),
}
"""The shortest and the longest step that a model is for. Bursts are over within an hour; and the recursive models with
a season of 1,440 one-minute states cost more than the next hour's minutes can tell."""


GIVEN: Final = ("lstm", "combination")
"""Models that aren't fitted on one series alone: one learns from many, the other is made of fitted models."""


def names_for(step_s: float) -> tuple[str, ...]:
    """The models that compete on a grid without being given."""
    spans = {name: _ONLY_ON.get(name, (step_s, step_s)) for name in _WHERE if name not in GIVEN}
    return tuple(name for name, (shortest, longest) in spans.items() if shortest <= step_s <= longest)


def reach_s(fitted: Fitted) -> float:
    """How much of the past the fitted model looks at, in seconds."""
    if fitted.members:
        return max(reach_s(member) for member in fitted.members)
    return float(getattr(model_named(fitted.model), "reach_s", DAY_S))


def ordered(quantiles: FloatArray) -> FloatArray:
    """Not negative and not crossing: sorted along the second-to-last axis (Chernozhukov et al. 2010 show that this
    never worsens a quantile forecast). NaN, an unknown path, stays."""
    return np.sort(np.maximum(quantiles, 0.0), axis=-2)


def day_steps(step_s: float) -> int:
    """Steps in a day."""
    return round(DAY_S / step_s)
