"""Training of the recurrent network that forecasts all series of a grid, with PyTorch, which is an optional extra.

The result is plain arrays (`controller.core.forecast.lstm.Weights`): forecasting with them needs no PyTorch. Training
runs in a fitting process, on one thread, with a seed and a limit of time.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from controller.core.cleaning import cleaned
from controller.core.forecast.base import CannotFit, day_steps
from controller.core.forecast.lstm import AHEAD, READ, Weights, known_ahead, level, read
from controller.core.forecast.paths import usable
from controller.core.forecast.select import hold_out_s
from controller.core.series import DAY_S, clip, filled
from controller.core.types import QUANTILES, FloatArray, Series
from controller.settings import SettingsError

TRAINED_STEPS_S: Final = (600.0, 3600.0)
"""The slow grids. A minute ahead is led by what just happened, which simpler models say as well."""
UNITS: Final = 32
HIDDEN: Final = 32
CONTEXT_STEPS: Final = (48, 144)
"""What the LSTM reads: a day of steps, and never fewer or more than this."""
ORIGINS: Final = 6_000
"""So many past origins are learned from at most, spread evenly over all series: a thousand cost what one does."""
GROUP: Final = 64
AHEADS: Final = 16
"""Steps ahead drawn for each group of origins."""
BATCH: Final = 128
EPOCHS: Final = 40
PATIENCE: Final = 6
LEARNING_RATE: Final = 3e-3
DECAY: Final = 1e-3
FEWEST_LEARNED: Final = 100
FEWEST_JUDGED: Final = 24

SingleArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Examples:
    """Past origins, shapes (n, context, READ), (n, AHEADS, AHEAD), (n, AHEADS) and (n, AHEADS): what is read, what is
    known ahead, what came over the level (0 where unknown), and what it counts (0 where unknown)."""

    read: SingleArray
    ahead: SingleArray
    came: SingleArray
    weight: SingleArray

    def __len__(self) -> int:
        return len(self.read)


@dataclass(frozen=True, slots=True)
class TrainJob:
    """What a worker needs to train the network of one grid: histories of one step that end together. The limit leaves
    both grids, one after the other, less than a fit may wait."""

    histories: tuple[Series, ...]
    steps: int
    seed: int = 7
    limit_s: float = 45.0


def train_job(job: TrainJob) -> Weights | str:
    """Run one job: the weights, or in words why there are none. Picklable; it doesn't raise for odd data."""
    try:
        until_s = honest_until_s(job.histories)
        return train(job.histories, job.steps, until_s, seed=job.seed, limit_s=job.limit_s)
    except CannotFit as error:
        return str(error)
    except Exception as error:  # whatever the library makes of odd data, it is one model's trouble and not the loop's
        return f"training failed: {error!r}"


def available() -> bool:
    """Whether PyTorch is installed. Looks, and doesn't import it."""
    return find_spec("torch") is not None


def competes(setting: str) -> bool:
    """Whether the network takes part, by HEDDLE_FORECAST_LSTM. SettingsError when it is asked for and can't."""
    if setting == "on" and not available():
        raise SettingsError(
            "HEDDLE_FORECAST_LSTM=on: PyTorch is not installed; install it with `make lstm`, or leave the variable out"
        )
    return setting != "off" and available()


def honest_until_s(histories: Sequence[Series]) -> float:
    """The time until which a network may be trained that selection is to judge on the end of these histories. Raises
    CannotFit for none."""
    if not histories:
        raise CannotFit("0 series to learn from")
    return max(history.end_s for history in histories) - max(hold_out_s(history) for history in histories)


def train(
    histories: Sequence[Series],
    steps: int,
    until_s: float,
    *,
    seed: int = 7,
    limit_s: float = 120.0,
    elapsed_s: Callable[[], float] = time.monotonic,
) -> Weights:
    """One network for all histories of one grid, learned from what lies before until_s alone, `steps` ahead.

    The newest part of that decides when to stop. Deterministic but for the limit of time: seconds of `elapsed_s`, after
    which the best found so far is returned. Raises CannotFit when there is too little to learn from or PyTorch is
    missing; ValueError for histories of different steps.
    """
    if not available():
        raise CannotFit("PyTorch (0 of 1 packages) is not installed: `make lstm` installs requirements-lstm.txt")
    if len({history.step_s for history in histories}) > 1:
        raise ValueError("one network is for one grid: these histories differ in their steps")
    began = elapsed_s()
    cut = (cleaned(clip(history, end_s=until_s)) for history in histories)
    known = [usable(history) for history in cut if len(history.values)]
    if not known:
        raise CannotFit("0 series to learn from")
    step_s = known[0].step_s
    context = int(np.clip(day_steps(step_s), *CONTEXT_STEPS))
    draw = np.random.default_rng(seed)
    edge_s = until_s - max(DAY_S, 0.15 * (until_s - min(series.start_s for series in known)))
    learned = examples(known, steps, context, draw, end_s=edge_s)
    judged = examples(known, steps, context, draw, start_s=edge_s)
    if len(learned) < FEWEST_LEARNED or len(judged) < FEWEST_JUDGED:
        raise CannotFit(
            f"{len(learned)} past origins for the LSTM to learn from and {len(judged)} to stop by, "
            f"{FEWEST_LEARNED} and {FEWEST_JUDGED} are needed"
        )
    arrays, epochs, loss = _descend(learned, judged, seed, lambda: elapsed_s() - began > limit_s)
    words = f"{len(known)} series, {len(learned)} origins, {epochs} epochs, loss {loss:.4f} on the newest part"
    return Weights(step_s, context, until_s, arrays, words)


def examples(
    histories: Sequence[Series],
    steps: int,
    context: int,
    draw: np.random.Generator,
    *,
    start_s: float = -np.inf,
    end_s: float = np.inf,
) -> Examples:
    """Origins drawn from all histories whose steps ahead lie in [start_s, end_s)."""
    share = max(1, ORIGINS // len(histories))
    parts: list[tuple[FloatArray, FloatArray, FloatArray, FloatArray]] = []
    for history in histories:
        cut = clip(history, end_s=end_s)
        whole, count = filled(cut), len(cut.values)
        judged_from = int(np.ceil((max(start_s, cut.start_s) - cut.start_s) / cut.step_s))
        first = max(context, day_steps(cut.step_s), judged_from)
        if first >= count or not np.isfinite(whole.values).all():
            continue
        usual = float(whole.values.mean()) + 1e-9
        origins = draw.permutation(np.arange(first, count, dtype=np.int64))[:share]
        for low in range(0, len(origins), GROUP):
            some = origins[low : low + GROUP]
            ahead = np.sort(draw.permutation(steps)[:AHEADS]).astype(np.int64)
            scale = level(whole, some, context)
            index = some[:, None] + ahead[None, :]
            came = np.where(index < count, cut.values[np.minimum(index, count - 1)], np.nan) / scale[:, None]
            weight = np.where(np.isfinite(came), np.clip(scale / usual, 0.1, 5.0)[:, None], 0.0)
            came = np.clip(np.where(np.isfinite(came), came, 0.0), 0.0, 100.0)
            parts.append((read(whole, some, context, scale), known_ahead(whole, some, ahead, scale), came, weight))
    if not parts:
        width = min(steps, AHEADS)
        shapes = ((0, context, READ), (0, width, AHEAD), (0, width), (0, width))
        return Examples(*(np.zeros(shape, dtype=np.float32) for shape in shapes))
    return Examples(*(np.concatenate(part).astype(np.float32) for part in zip(*parts, strict=True)))


def _descend(
    learned: Examples, judged: Examples, seed: int, late: Callable[[], bool]
) -> tuple[dict[str, FloatArray], int, float]:
    """Adam on the pinball loss, until the loss on `judged` hasn't fallen for PATIENCE epochs. Returns the weights of
    the best epoch, how many epochs were run, and that loss."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = Network(torch)
            optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, weight_decay=DECAY)
            draw = np.random.default_rng(seed)
            best, kept, since, epoch = float("inf"), network.arrays(), 0, 0
            while epoch < EPOCHS and since < PATIENCE and not late():
                order = draw.permutation(len(learned))
                for low in range(0, len(order), BATCH):
                    optimiser.zero_grad()
                    network.loss(learned, order[low : low + BATCH]).backward()
                    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                    optimiser.step()
                    if late():
                        break
                with torch.no_grad():
                    loss = _mean_loss(network, judged)
                epoch, since = epoch + 1, since + 1
                if loss < best:
                    best, kept, since = loss, network.arrays(), 0
    finally:
        torch.set_num_threads(threads)
    return kept, epoch, best


def _mean_loss(network: "Network", examples: Examples) -> float:
    """The loss over all examples, a few at a time."""
    total = mass = 0.0
    for low in range(0, len(examples), 1024):
        rows = np.arange(low, min(low + 1024, len(examples)))
        weight = float(examples.weight[rows].sum())
        total += float(network.loss(examples, rows)) * weight
        mass += weight
    return total / max(mass, 1e-9)


class Network:
    """The network as PyTorch trains it; `controller.core.forecast.lstm` computes the same with NumPy."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self.lstm = torch.nn.LSTM(READ, UNITS, batch_first=True)
        self.state = torch.nn.Linear(UNITS, HIDDEN)
        self.ahead = torch.nn.Linear(AHEAD, HIDDEN, bias=False)
        self.hidden = torch.nn.Linear(HIDDEN, len(QUANTILES))
        self.straight = torch.nn.Linear(AHEAD, len(QUANTILES), bias=False)

    def parameters(self) -> list[Any]:
        layers = (self.lstm, self.state, self.ahead, self.hidden, self.straight)
        return [parameter for layer in layers for parameter in layer.parameters()]

    def paths(self, read: Any, ahead: Any) -> Any:
        """Quantiles (n, ahead, Q) over the level, from tensors (n, context, READ) and (n, ahead, AHEAD)."""
        _, (state, _) = self.lstm(read)
        hidden = self._torch.relu(self.state(state[0])[:, None, :] + self.ahead(ahead))
        return self.hidden(hidden) + self.straight(ahead)

    def loss(self, examples: Examples, rows: npt.NDArray[np.int64]) -> Any:
        """The weighted mean pinball loss over the rows and all quantiles."""
        torch = self._torch
        read, ahead, came, weight = (
            torch.from_numpy(part[rows]) for part in (examples.read, examples.ahead, examples.came, examples.weight)
        )
        error = came[:, :, None] - self.paths(read, ahead)
        quantiles = torch.tensor(QUANTILES, dtype=error.dtype)
        pinball = torch.maximum(quantiles * error, (quantiles - 1.0) * error).mean(dim=2)
        return (weight * pinball).sum() / weight.sum().clamp(min=1e-9)

    def arrays(self) -> dict[str, FloatArray]:
        """The weights as `Weights.arrays` has them."""
        parts = {
            "read": self.lstm.weight_ih_l0,
            "carried": self.lstm.weight_hh_l0,
            "bias": self.lstm.bias_ih_l0 + self.lstm.bias_hh_l0,
            "state": self.state.weight,
            "hidden_bias": self.state.bias,
            "ahead": self.ahead.weight,
            "hidden": self.hidden.weight,
            "out_bias": self.hidden.bias,
            "straight": self.straight.weight,
        }
        return {name: part.detach().numpy().astype(np.float64) for name, part in parts.items()}


class Trainer:
    """Keeps the network of each grid, and trains it anew once a day on the histories of all services.

    A selection is handed the weights that are there (`weights`), so it waits for no training. They were trained on what
    lies before every selection's judged part, at the first as well as a day later.
    """

    def __init__(self, *, every_s: float = DAY_S, seed: int = 7) -> None:
        self._every_s, self._seed = every_s, seed
        self._histories: dict[str, dict[tuple[float, int], tuple[Series, ...]]] = {}
        self._running: dict[float, Future[Weights | str]] = {}
        self._weights: dict[float, Weights] = {}
        self._due_s = -np.inf

    def weights(self, step_s: float) -> Weights | None:
        """The newest network of a grid. None: none is trained yet."""
        return self._weights.get(step_s)

    def offer(self, service: str, histories: Mapping[tuple[float, int], Sequence[Series]]) -> None:
        """The histories of a service by (step_s, steps), to be learned from at the next training."""
        self._histories[service] = {
            grid: tuple(found) for grid, found in histories.items() if grid[0] in TRAINED_STEPS_S and found
        }

    def start(self, executor: Executor | None, now_s: float) -> None:
        """Train what is due, in a pool or, without one, here."""
        if now_s < self._due_s or self._running or not self._histories:
            return
        self._due_s = now_s + self._every_s
        for step_s, steps in sorted({grid for found in self._histories.values() for grid in found}):
            histories = tuple(series for found in self._histories.values() for series in found.get((step_s, steps), ()))
            job = TrainJob(histories, steps, self._seed)
            if executor is not None:
                self._running[step_s] = executor.submit(train_job, job)
                continue
            self._running[step_s] = Future()
            self._running[step_s].set_result(train_job(job))

    def collect(self) -> list[str]:
        """Take in what has been trained, and say so; a training that failed leaves the weights as they were."""
        said: list[str] = []
        for step_s, future in list(self._running.items()):
            if not future.done():
                continue
            del self._running[step_s]
            error = CancelledError() if future.cancelled() else future.exception()
            found = f"training failed: {error!r}" if error else future.result()
            if isinstance(found, Weights):
                self._weights[step_s] = found
                said.append(f"LSTM at {step_s:.0f} s trained: {found.note}")
            else:
                said.append(f"LSTM at {step_s:.0f} s not trained: {found}")
        return said
