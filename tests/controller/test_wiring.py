"""Forecasts whose fits run in a pool: what goes wrong there costs the fit, not the planning."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from controller.core.series import HOUR_S
from controller.core.types import Series
from controller.fits import Refit
from controller.fitting import FitPool
from controller.forecast_record import ForecastRecord
from controller.forecaster import Forecaster
from controller.lines import Change
from controller.wiring import PooledForecasts

NOW = 1_732_406_400.0


class Refuses(FitPool):
    def __init__(self) -> None:
        pass

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        raise OSError("no memory for a process")


class Recorded(ForecastRecord):
    """What would be written."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.times: list[float] = []

    def fitted(self, said: Sequence[Change], now_s: float) -> None:
        self.times.append(now_s)
        self.said += [change.what for change in said]

    def ticked(self, said: Sequence[Change], now_s: float) -> None:
        self.said += [change.what for change in said]


def test_a_fit_that_cannot_be_sent_is_said_once_and_the_forecast_is_made_all_the_same() -> None:
    record, forecaster = Recorded(), Forecaster()
    forecasts = PooledForecasts(forecaster, Refuses(), record)
    load = {"premium": Series(NOW - 86_400, 60.0, np.full(1440, 4.0))}
    for tick in range(4):
        found = forecasts.forecast("images", load, NOW + 15 * tick)
        assert np.allclose(found["premium", 60.0].at(0.5), 4.0)
    assert record.said == ["Refitting failed, the last parameters stay in use: OSError: no memory for a process"]
    assert forecaster.refit_due("images", NOW + 2 * HOUR_S) is Refit.SELECT, "it is tried again"


def test_a_selection_that_changes_nothing_is_recorded_all_the_same() -> None:
    record, forecaster = Recorded(), Forecaster(((600.0, 144),))
    forecasts = PooledForecasts(forecaster, None, record)
    load = {"premium": Series(NOW - 86_400, 60.0, np.full(1440, 4.0))}
    forecasts.forecast("images", load, NOW)
    assert record.times == [NOW]
    forecasts.forecast("images", load, NOW + 15)
    assert record.times == [NOW]
    forecasts.forecast("images", load, NOW + HOUR_S)
    assert record.times == [NOW, NOW + HOUR_S]
