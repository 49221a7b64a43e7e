"""The pool of fits: a worker that dies costs its fits, not the planning."""

import os
import signal
from concurrent.futures import BrokenExecutor
from typing import Any

import numpy as np
import pytest

from controller.core.types import Series
from controller.forecaster import Forecaster
from controller.wiring import FitPool, PooledForecasts

NOW = 1_732_406_400.0


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_pool_is_made_anew_after_a_worker_died() -> None:
    pool = FitPool(1)
    try:
        with pytest.raises(BrokenExecutor):
            pool.submit(die).result(60)
        assert pool.submit(abs, -3).result(60) == 3
    finally:
        pool.shutdown()


class Refuses(FitPool):
    def __init__(self) -> None:
        pass

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        raise OSError("no memory for a process")


def test_a_fit_that_cannot_be_sent_is_said_and_the_forecast_is_made_all_the_same() -> None:
    said: list[str] = []
    forecasts = PooledForecasts(Forecaster(), Refuses(), lambda words, now_s: said.extend(words))
    load = {"premium": Series(NOW - 86_400, 60.0, np.full(1440, 4.0))}
    found = forecasts.forecast("images", load, NOW)
    assert np.allclose(found["premium", 60.0].at(0.5), 4.0)
    assert said == ["Refitting failed, the last parameters stay in use: OSError: no memory for a process"]
