"""What PyTorch trains is what NumPy computes; training is honest, repeatable and bounded."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from controller import lstm_training
from controller.core.forecast import lstm
from controller.core.forecast.backtest import Evaluation, evaluate, rolling, targets_of
from controller.core.forecast.base import HOUR_GRID, CannotFit, Model, model_named
from controller.core.forecast.lstm import AHEAD, READ, Lstm, Weights
from controller.core.forecast.select import hold_out_s
from controller.core.series import DAY_S, HOUR_S
from controller.core.types import Series
from controller.fitting import FitPool
from controller.forecaster import Forecaster
from controller.lstm_training import Network, Trainer, TrainJob, honest_until_s, train, train_job

MONDAY_S = 1_732_492_800.0  # 2024-11-25


def demand(days: int, level: float, seed: int) -> Series:
    """A daily rhythm with Poisson noise, one series of a fleet."""
    generator = np.random.default_rng(seed)
    hour = np.arange(days * 24) % 24
    rate = np.clip(np.sin((hour - 9) / 24 * 2 * np.pi), 0, None) + 0.1
    return Series(MONDAY_S, HOUR_S, generator.poisson(rate * 20) / 20 * level)


FLEET = [demand(21, level, seed) for seed, level in enumerate((1.0, 30.0, 400.0))]


@pytest.fixture(scope="module")
def weights() -> Weights:
    return train(FLEET, 24, honest_until_s(FLEET), limit_s=60.0)


def test_numpy_computes_what_pytorch_trains() -> None:
    torch.manual_seed(1)
    network = Network(torch)
    draw = np.random.default_rng(2)
    read, ahead = draw.normal(size=(7, 48, READ)), draw.normal(size=(7, 24, AHEAD))
    arrays = network.arrays()
    with torch.no_grad():
        _, (state, _) = network.lstm(torch.from_numpy(read.astype(np.float32)))
        paths = network.paths(torch.from_numpy(read.astype(np.float32)), torch.from_numpy(ahead.astype(np.float32)))
    found = lstm.encoded(arrays, read)
    np.testing.assert_allclose(found, state[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(lstm.decoded(arrays, found, ahead), paths.numpy(), atol=1e-5)


def last_days(model: Model, series: Series) -> Evaluation:
    """The score on the last two days of a fit on what lies before them."""
    edge_s = series.end_s - 2 * DAY_S
    origins, forecasts = rolling(model, series, edge_s, series.end_s, 24, refit_s=2 * DAY_S, every_s=HOUR_S)
    return evaluate(forecasts, targets_of(series, origins, 24))


def test_a_trained_network_beats_the_last_value_on_days_never_seen(weights: Weights) -> None:
    for series in FLEET:
        found, naive = last_days(Lstm(weights), series), last_days(model_named("naive"), series)
        assert found.loss < 0.8 * naive.loss
        assert found.coverage_of(0.9) == pytest.approx(0.9, abs=0.1)


def test_training_sees_nothing_from_its_end_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lstm_training, "EPOCHS", 1)
    until_s = honest_until_s(FLEET)
    changed = []
    for series in FLEET:
        values = np.array(series.values)
        values[round((until_s - series.start_s) / HOUR_S) :] *= 100
        changed.append(Series(series.start_s, HOUR_S, values))
    one, two = (train(histories, 24, until_s) for histories in (FLEET, changed))
    for name, part in one.arrays.items():
        np.testing.assert_array_equal(part, two.arrays[name])


def test_the_seed_decides_and_pytorch_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lstm_training, "EPOCHS", 1)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    one, two, other = (train(FLEET, 24, honest_until_s(FLEET), seed=seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(one.arrays["carried"], two.arrays["carried"])
    assert (one.arrays["carried"] != other.arrays["carried"]).any()
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_training_ends_at_its_limit_with_what_it_has() -> None:
    clock = iter(float(i) for i in range(1000))
    found = train(FLEET, 24, honest_until_s(FLEET), limit_s=3.0, elapsed_s=lambda: next(clock))
    assert next(clock) < 10
    assert "1 epochs" in found.note
    assert all(np.isfinite(part).all() for part in found.arrays.values())


def test_gaps_and_absurd_values_are_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lstm_training, "EPOCHS", 2)
    values = np.array(FLEET[0].values)
    values[50:90], values[200], values[210], values[220] = np.nan, 1e12, -1.0, np.inf
    odd = Series(MONDAY_S, HOUR_S, values)
    unknown = Series(MONDAY_S, HOUR_S, np.full(500, np.nan))
    found = train_job(TrainJob((odd, unknown, FLEET[1]), 24))
    assert isinstance(found, Weights)
    assert all(np.isfinite(part).all() for part in found.arrays.values())


def test_too_little_is_declined_and_different_steps_are_an_error() -> None:
    short = Series(MONDAY_S, HOUR_S, np.ones(60))
    with pytest.raises(CannotFit, match="past origins"):
        train([short], 24, short.end_s)
    assert "past origins" in str(train_job(TrainJob((short,), 24)))
    with pytest.raises(ValueError, match="differ in their steps"):
        train([short, Series(MONDAY_S, 600.0, np.ones(60))], 24, short.end_s)


def test_one_network_is_trained_a_day_on_all_services(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lstm_training, "EPOCHS", 1)
    trainer, now_s = Trainer(), FLEET[0].end_s
    trainer.offer("images", {(HOUR_S, 24): FLEET[:2]})
    trainer.offer("patterns", {(HOUR_S, 24): FLEET[2:]})
    with ThreadPoolExecutor(1) as pool:
        trainer.start(pool, now_s)
    (said,) = trainer.collect()
    assert "3 series" in said
    found = trainer.weights(HOUR_S)
    assert found is not None
    assert found.until_s == now_s - hold_out_s(FLEET[0])
    trainer.start(None, now_s + DAY_S - 1)
    assert trainer.collect() == []
    assert trainer.weights(HOUR_S) is found


def test_the_network_competes_in_the_selection_after_its_training() -> None:
    """Through a real pool: weights and jobs travel to processes and back."""
    minutes = {"premium": Series(MONDAY_S, 60.0, np.repeat(FLEET[0].values, 60))}
    now_s = FLEET[0].end_s
    forecaster, pool = Forecaster((HOUR_GRID,), trainer=Trainer()), FitPool(1)
    said: list[str] = []
    try:
        for day in range(2):
            forecaster.refit_async(pool, "images", minutes, now_s + day)
            for _ in range(600):
                said += [change.what for change in forecaster.collect(now_s)]
                done = [score for _, _, score in forecaster.scores("images") if score.model == "lstm"]
                if done or (day == 0 and any("LSTM at 3600 s trained" in word for word in said)):
                    break
                time.sleep(0.1)
    finally:
        pool.shutdown()
    assert done, said
    (score,) = done
    assert score.pinball is not None, score.note
