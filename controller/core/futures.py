"""Days that may come, minute by minute, drawn from the forecast's distribution.

A future is one path of loads. At each step of the forecast it stands at one quantile, the same for all tiers; the
quantile wanders from step to step as a Gaussian autoregression whose persistence is measured on the history (a Gaussian
copula: Nelsen, *An Introduction to Copulas*, 2006, ch. 2). Within a step, the minutes have the shape of a past step of
the same tier at about the same level, so that bursts are those that were seen. Below its median the forecast says
nothing: there the median stands, which errs on the safe side. Above p99 the tail is exponential, as steep as from p95
to p99.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from controller.core.prospect import MINUTE_S, Prospect
from controller.core.types import FloatArray

DAY_MINUTES = 1440
# With less than this much history, the persistence of errors is unknown: a future keeps its quantile all day.
LEAST_DAYS = 2
# A step takes the shape of one of this share of the past steps, those nearest in level.
NEAR_RATIO = 0.02


@dataclass(frozen=True, slots=True)
class Futures:
    """`loads` (tiers, futures, minutes): each tier's own load, of a day measured (the same in all) and the day to come.

    `persistence`: correlation of the quantile from one step of the forecast to the next.
    """

    loads: FloatArray
    persistence: float

    @property
    def count(self) -> int:
        return int(self.loads.shape[1])


def draw_futures(prospect: Prospect, count: int, rng: np.random.Generator) -> Futures:
    """`count` futures of the day after `now_s`. ValueError where the prospect has no forecast or no minutes."""
    if prospect.loads is None or not prospect.minutes.shape[1]:
        raise ValueError("futures need a forecast and measured minutes")
    per_step = round(prospect.step_s / MINUTE_S)
    skipped = max(0, round((prospect.now_s - prospect.start_s) / MINUTE_S))
    steps = math.ceil((DAY_MINUTES + skipped) / per_step)
    tiers, _, known = prospect.loads.shape
    # A forecast that ends before the day does is carried on by its last step.
    paths = prospect.loads[:, :, np.minimum(np.arange(steps), known - 1)]
    persistence = _persistence(prospect, per_step)
    chances = ndtr(_walk(count, steps, persistence, rng))
    levels = np.stack([_at(paths[k], prospect.quantiles, chances) for k in range(tiers)])
    own = np.diff(np.maximum.accumulate(levels, axis=0), axis=0, prepend=0.0)
    minutes = np.empty((tiers, count, steps * per_step))
    for k in range(tiers):
        shape = _shapes(prospect.minutes[k], own[k], per_step, rng)
        minutes[k] = (_between(own[k], per_step) * shape).reshape(count, -1)
    ahead = minutes[:, :, skipped : skipped + DAY_MINUTES]
    measured = np.nan_to_num(prospect.minutes[:, -DAY_MINUTES:])
    before = np.zeros((tiers, DAY_MINUTES))
    before[:, DAY_MINUTES - measured.shape[1] :] = measured
    spread = np.broadcast_to(before[:, None, :], (tiers, count, DAY_MINUTES))
    return Futures(np.concatenate([spread, ahead], axis=2), persistence)


def _walk(count: int, steps: int, persistence: float, rng: np.random.Generator) -> FloatArray:
    """Standard normal at every step (count, steps), correlated by `persistence` from one to the next."""
    noise = rng.standard_normal((count, steps))
    fresh = math.sqrt(1 - persistence**2)
    walk = noise.copy()
    for step in range(1, steps):
        walk[:, step] = persistence * walk[:, step - 1] + fresh * noise[:, step]
    return walk


def _at(paths: FloatArray, quantiles: tuple[float, ...], chances: FloatArray) -> FloatArray:
    """The loads (futures, steps) at these quantiles of a forecast (quantiles, steps)."""
    at = np.array(quantiles)
    place = np.clip(np.searchsorted(at, chances) - 1, 0, len(at) - 2)
    low, high = at[place], at[place + 1]
    step = np.arange(paths.shape[1])[None, :]
    below, above = paths[place, step], paths[place + 1, step]
    share = np.clip((chances - low) / (high - low), 0.0, 1.0)
    inside = below + share * (above - below)
    decay = (paths[-1] - paths[-2]) / math.log((1 - at[-2]) / (1 - at[-1]))
    beyond = decay[None, :] * np.log((1 - at[-1]) / np.maximum(1 - np.maximum(chances, at[-1]), 1e-6))
    loads: FloatArray = inside + beyond
    return loads


def _between(levels: FloatArray, per_step: int) -> FloatArray:
    """The level at each minute (futures, steps, per_step), on straight lines between the middles of steps: sessions
    begin over minutes, so that no load jumps at a step's edge.
    """
    offset = (np.arange(per_step) + 0.5) / per_step - 0.5
    before = np.concatenate([levels[:, :1], levels[:, :-1]], axis=1)[:, :, None]
    after = np.concatenate([levels[:, 1:], levels[:, -1:]], axis=1)[:, :, None]
    here = levels[:, :, None]
    minutes: FloatArray = here + np.where(offset < 0, (here - before) * offset, (after - here) * offset)
    return minutes


def _blocks(minutes: FloatArray, per_step: int) -> FloatArray:
    """Whole measured steps (n, per_step) of a tier's minutes, the newest last."""
    whole = len(minutes) // per_step
    cut = minutes[len(minutes) - whole * per_step :].reshape(whole, per_step)
    return cut[np.isfinite(cut).all(axis=1)]


def _shapes(minutes: FloatArray, levels: FloatArray, per_step: int, rng: np.random.Generator) -> FloatArray:
    """The minutes of each step (futures, steps, per_step) as multiples of its mean."""
    blocks = _blocks(minutes, per_step)
    means = blocks.mean(axis=1)
    blocks, means = blocks[means > 0], means[means > 0]
    if not len(blocks):
        return np.ones((*levels.shape, per_step))
    order = np.argsort(means, kind="stable")
    blocks, means = blocks[order], means[order]
    reach = max(1, round(len(blocks) * NEAR_RATIO))
    near = np.searchsorted(means, levels) + rng.integers(-reach, reach + 1, levels.shape)
    pick: npt.NDArray[np.int64] = np.clip(near, 0, len(blocks) - 1)
    shapes: FloatArray = blocks[pick] / means[pick][..., None]
    return shapes


def _persistence(prospect: Prospect, per_step: int) -> float:
    """Correlation from one step to the next of what the load has beside its usual time of day, 0 to 1."""
    total = prospect.minutes.sum(axis=0)
    whole = len(total) // per_step
    steps = total[len(total) - whole * per_step :].reshape(whole, per_step).mean(axis=1)
    a_day = round(DAY_MINUTES / per_step)
    days = whole // a_day
    if days < LEAST_DAYS:
        return 1.0
    # The square root makes the noise of counting about as large at any level.
    roots = np.sqrt(np.maximum(steps[whole - days * a_day :].reshape(days, a_day), 0.0))
    usual = np.nanmean(roots, axis=0) if np.isfinite(roots).any(axis=0).all() else np.nanmean(roots)
    rest = (roots - usual).ravel()
    pairs = np.isfinite(rest[1:]) & np.isfinite(rest[:-1])
    first, second = rest[:-1][pairs], rest[1:][pairs]
    if len(first) < a_day or first.std() == 0 or second.std() == 0:
        return 1.0
    return float(np.clip(np.corrcoef(first, second)[0, 1], 0.0, 1.0))
