"""Training without PyTorch: what is said, and that nothing needs it. With it: tests/lstm."""

import subprocess
import sys
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any

import numpy as np
import pytest

from controller import lstm_training
from controller.core.forecast.base import CannotFit
from controller.core.series import DAY_S, HOUR_S
from controller.core.types import Series
from controller.lstm_training import Trainer, TrainJob, competes, honest_until_s, train_job
from controller.settings import SettingsError

WEEK = Series(0.0, HOUR_S, np.ones(168))


@pytest.mark.parametrize(
    ("setting", "installed", "takes_part"), [("auto", True, True), ("auto", False, False), ("on", True, True)]
)
def test_it_competes_where_pytorch_is(
    monkeypatch: pytest.MonkeyPatch, setting: str, installed: bool, takes_part: bool
) -> None:
    monkeypatch.setattr(lstm_training, "available", lambda: installed)
    assert competes(setting) is takes_part
    assert competes("off") is False


def test_asked_for_without_pytorch_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lstm_training, "available", lambda: False)
    with pytest.raises(SettingsError, match=r"HEDDLE_FORECAST_LSTM=on: .*`make lstm`"):
        competes("on")
    assert "make lstm" in str(train_job(TrainJob((WEEK,), 24)))


def test_it_learns_from_what_selection_does_not_hold_out() -> None:
    short = Series(4 * DAY_S, HOUR_S, np.ones(72))
    assert honest_until_s([WEEK]) == 5 * DAY_S
    assert honest_until_s([short, WEEK]) == 5 * DAY_S
    with pytest.raises(CannotFit, match="0 series"):
        honest_until_s([])


def test_a_process_that_only_forecasts_loads_no_pytorch() -> None:
    code = "import sys, controller.core.forecast.lstm, controller.lstm_training; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_training_that_fails_is_said_once_and_tried_again_a_day_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lstm_training, "available", lambda: False)
    trainer = Trainer()
    trainer.start(None, 0.0)
    assert trainer.collect() == []
    trainer.offer("images", {(60.0, 60): [WEEK], (3600.0, 24): [WEEK], (600.0, 144): []})
    trainer.start(None, 0.0)
    (said,) = trainer.collect()
    assert said.startswith("LSTM at 3600 s not trained: PyTorch")
    assert trainer.weights(3600.0) is None
    trainer.start(None, DAY_S - 1)
    assert trainer.collect() == []
    trainer.start(None, DAY_S)
    assert len(trainer.collect()) == 1


def test_a_worker_that_dies_leaves_the_weights_as_they_were() -> None:
    """As a pool does it: the future of a killed worker holds an error."""

    class Dying(Executor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_exception(BrokenExecutor("a worker was killed"))
            return future

    trainer = Trainer()
    trainer.offer("images", {(3600.0, 24): [WEEK]})
    trainer.start(Dying(), 0.0)
    (said,) = trainer.collect()
    assert "a worker was killed" in said
