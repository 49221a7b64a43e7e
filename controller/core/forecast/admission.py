"""Whether a signal earns its place: the same model, on the same held-out steps, with it and without."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from controller.core.forecast.backtest import pinball, targets_of
from controller.core.forecast.base import CannotFit, IntArray, Model, model_named
from controller.core.forecast.paths import usable
from controller.core.forecast.regressors import LONGEST_LAG_S, strength, use_of
from controller.core.forecast.signals import Admission, Signal
from controller.core.series import clip
from controller.core.types import QUANTILES, FloatArray, Series

LEAST_GAIN: Final = 0.02
"""Share of the held-out pinball loss that a signal must save."""
MOST_HARM: Final = 0.01
"""Neither half of what was held out may be forecast worse by more than this share: what helped once by luck did not
help in the other half."""
PLACEBOS: Final = 9
"""To be admitted, a signal must also go with the load better than it does rolled in time, tried so many times: a random
walk drifts with anything for a while, and of 49 lags the best looks like something."""
MOST_SIGNALS: Final = 12
"""Tried at most, in the order given: each costs a fit."""


@dataclass(frozen=True, slots=True)
class _Trial:
    """Pinball loss of each origin and step held out, NaN where the forecast or what came is unknown."""

    loss: FloatArray


def admit(
    history: Series,
    steps: int,
    model_name: str,
    signals: Sequence[Signal],
    *,
    hold_out_s: float,
    every_s: float = 1800.0,
) -> tuple[Admission, ...]:
    """Which signals the model may use, one Admission for each in the order given.

    The last hold_out_s of history are forecast from an origin each every_s by fits on what lies before them, without
    the signals and with each; forward selection admits the one that saves most, then tries the others on top of it,
    as long as the best saves LEAST_GAIN of the loss, harms neither half, and goes with the load before the hold-out
    better than its PLACEBOS do. Compared are the steps that both forecast. Deterministic, and it never raises for odd
    data: a signal that can't be used is refused with the reason.
    """
    if not signals:
        return ()
    try:
        trials = _Trials(history, steps, model_named(model_name), hold_out_s, every_s)
        base = trials.run(())
    except Exception as error:  # whatever a library makes of odd data, the signals aren't to blame and aren't used
        return tuple(_unmeasured(signal.name, f"not tried: {model_name}: {error}") for signal in signals)
    found: dict[str, Admission] = {}
    waiting: list[Signal] = []
    for signal in signals:
        trouble = _trouble(signal, trials.known, steps)
        if signal.name in {other.name for other in waiting}:
            trouble = f"another signal is named {signal.name}, too"
        elif len(waiting) >= MOST_SIGNALS:
            trouble = f"not tried: {MOST_SIGNALS} others come before it"
        if trouble:
            found[signal.name] = _unmeasured(signal.name, trouble)
        else:
            waiting.append(signal)
    admitted: tuple[Signal, ...] = ()
    while waiting:
        judged = [(_judge(trials, base, admitted, signal), signal) for signal in waiting]
        for (admission, _), signal in judged:
            found[signal.name] = admission
        passed = [(verdict, trial, signal) for (verdict, trial), signal in judged if verdict.admitted and trial]
        if not passed:
            break
        _, base, best = max(passed, key=lambda each: each[0].gain)
        for (verdict, _), signal in judged:  # those not chosen yet are judged anew on top of the one that was
            if signal is not best and verdict.admitted:
                found[signal.name] = _refused(verdict, f"adds too little to {best.name}")
        admitted = (*admitted, best)
        waiting = [signal for signal in waiting if signal is not best and np.isfinite(found[signal.name].gain)]
    return tuple(found[signal.name] for signal in signals)


class _Trials:
    """Fits and forecasts of one history, held out at its end."""

    def __init__(self, history: Series, steps: int, model: Model, hold_out_s: float, every_s: float) -> None:
        known = usable(history)
        self._model, self.steps, self.known = model, steps, known
        count = len(known.values)
        held = min(max(round(hold_out_s / known.step_s), 0), count)
        if held < 2 or count - held < 2:
            raise CannotFit("too little history to hold any out")
        self.before = clip(known, end_s=known.start_s + (count - held) * known.step_s)
        every = max(1, round(every_s / known.step_s))
        self._origins: IntArray = np.arange(count - held, count, every, dtype=np.int64)
        self._actual = targets_of(known, self._origins, steps)

    def run(self, signals: Sequence[Signal]) -> _Trial:
        """Raises CannotFit."""
        fitted = self._model.fit(self.before, self.steps, signals)
        forecasts = self._model.predict_many(fitted, self.known, self._origins, self.steps, signals)
        each = [pinball(forecasts[:, i, :], self._actual, quantile) for i, quantile in enumerate(QUANTILES)]
        return _Trial(np.mean(each, axis=0))


def _trouble(signal: Signal, history: Series, steps: int) -> str:
    """Why a signal can't be used now, whatever it was worth before; blank when it can."""
    try:
        use_of(signal, history, steps)
    except CannotFit as error:
        return str(error)
    except Exception as error:  # as in `admit`
        return f"signal {signal.name} failed: {error!r}"
    return ""


def _judge(
    trials: _Trials, base: _Trial, admitted: tuple[Signal, ...], signal: Signal
) -> tuple[Admission, _Trial | None]:
    try:
        trial = trials.run((*admitted, signal))
    except CannotFit as error:
        return _unmeasured(signal.name, str(error)), None
    except Exception as error:  # as in `admit`
        return _unmeasured(signal.name, f"failed: {error!r}"), None
    both = np.isfinite(base.loss) & np.isfinite(trial.loss)
    if 2 * both.sum() < np.isfinite(base.loss).sum() or not both.any():
        return _unmeasured(signal.name, f"signal {signal.name} was unknown in most of the time held out"), None
    without, with_it = float(base.loss[both].mean()), float(trial.loss[both].mean())
    gain = 1.0 - with_it / without if without > 0 else 0.0
    middle = len(both) // 2
    halves = [_gain(base.loss[part], trial.loss[part]) for part in (slice(0, middle), slice(middle, None))]
    words = f"pinball {without:.4g} without, {with_it:.4g} with"
    verdict = Admission(signal.name, without, with_it, gain, False, f"{words}: {_percent(gain)}")
    if gain < LEAST_GAIN:
        return _refused(verdict, f"{words}: {_percent(gain)}, at least {LEAST_GAIN:.0%} is asked"), trial
    if min(halves) < -MOST_HARM:
        return _refused(verdict, f"{words}: {_percent(gain)}, but worse by {-min(halves):.1%} in one half"), trial
    if _by_chance(signal, trials.before, trials.steps):
        note = f"{words}: {_percent(gain)}, but it goes with the past load no better than shifted to a wrong time"
        return _refused(verdict, note), trial
    return replace(verdict, admitted=True), trial


def _by_chance(signal: Signal, before: Series, steps: int) -> bool:
    """Whether the signal, at its best lag, goes with the load no better than it does rolled to a wrong time.

    Rolled nearly all the way round it is only earlier, and a longer lag would find the right time again.
    """
    count = len(signal.series.values)
    strongest = strength(signal, before, steps)
    longest = round(LONGEST_LAG_S / signal.series.step_s)
    wrong = count - longest if count > 2 * longest else count
    for part in range(1, PLACEBOS + 1):
        values = np.roll(signal.series.values, wrong * part // (PLACEBOS + 1))
        rolled = Series(signal.series.start_s, signal.series.step_s, values)
        try:
            if strength(replace(signal, series=rolled), before, steps) >= strongest:
                return True
        except CannotFit:
            continue
    return False


def _gain(without: FloatArray, with_it: FloatArray) -> float:
    both = np.isfinite(without) & np.isfinite(with_it)
    lost = float(without[both].sum())
    return 1.0 - float(with_it[both].sum()) / lost if lost > 0 else 0.0


def _percent(gain: float) -> str:
    return f"{gain:.1%} better" if gain >= 0 else f"{-gain:.1%} worse"


def _refused(verdict: Admission, note: str) -> Admission:
    return replace(verdict, admitted=False, note=note)


def _unmeasured(name: str, note: str) -> Admission:
    nothing = float("nan")
    return Admission(name, nothing, nothing, nothing, False, note)
