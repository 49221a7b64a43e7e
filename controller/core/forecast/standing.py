"""Whether the leader still earns its place: what was issued, scored as it comes true, against seasonal naive.

The backtest chooses a leader; only what it says of the future afterwards can keep it. Every forecast of the leader and
of its rivals (seasonal naive of a day and of a week, the runner-up) that was issued at the same origins is scored when
its steps have passed. A leader that loses to seasonal naive is demoted: the best of the rivals serves in its place. It
is scored on in the shadow and promoted when it wins again.

What keeps a coin toss from changing anything: a margin to be won by, in both directions; to demote, hours that agree
on it; and after a change, a whole new window before the next.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from controller.core.series import DAY_S, HOUR_S
from controller.core.types import QUANTILES, FloatArray

BASELINES: Final = ("seasonal_naive_24h", "seasonal_naive_168h")
WINDOW_H: Final = 6.0
"""Hours of evidence (N). Shorter, a quiet night decides; longer, a change of level costs a working day."""
FEWEST_STEPS: Final = 24
"""A window spans at least this many steps of the grid: on the hourly grid six numbers are no evidence."""
MARGIN: Final = 0.1
SIGMAS: Final = 2.0
"""To demote the leader the hours must differ by this many standard errors as well: a margin won in one lucky hour is no
evidence. Back again, the margin is enough: the backtest speaks for the leader. On the development days of the sample
trace (four days, 16 lines, seasonal naive against three models) serving so lost 1.4 % less than the leader alone, 4.9 %
more at worst and 17 % less at best; 3 errors both ways lost 2 % more, for leaders came back too late."""
FEWEST_POINTS: Final = 24
DRIFT: Final = 1.5
LEAST_COVERAGE: Final = 0.8
"""Of the 0.9 quantile. Below it, or above DRIFT times the backtest's loss, the models are selected anew."""
DRIFT_H: Final = 24
"""Hours that drift is judged over. The backtest is of whole days: six busy hours always err more than its mean, and of
them less is covered than of a day with its night."""
KEPT_H: Final = 48
NEAR_S: Final = 2 * HOUR_S
FAR_S: Final = DAY_S
LEVELS: Final = (0.8, 0.9, 0.95)

_SUMS: Final = 5  # points, weight, loss, the leader's loss on the same points, load
_HITS: Final = 1 + 2 * len(LEVELS)  # weight, hits of the raw quantiles, hits of the issued ones
_WIDTH: Final = _SUMS + 2 * _HITS  # steps at most NEAR_S ahead, and all of them

Tallies = Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True)
class Standing:
    """Who leads, who serves, and the evidence: for each clock hour and model, sums over the steps that came true in it.

    `hours` are numbered from the epoch. `changed_s`: when another model last took over; None: never. Bounded: KEPT_H
    hours × the models followed × 19 numbers, 29 kB for four models.
    """

    leader: str
    serving: str
    changed_s: float | None = None
    hours: Mapping[int, Tallies] = field(default_factory=dict)

    @property
    def demoted(self) -> bool:
        """Whether another than the leader serves."""
        return self.serving != self.leader


@dataclass(frozen=True, slots=True)
class Live:
    """A model's live score over a window. `pinball` is the mean over quantiles and steps, `against_leader` the ratio of
    its loss to the leader's on the same steps, `load` the mean load. NaN: no points."""

    model: str
    points: int
    span_h: float
    pinball: float
    against_leader: float
    load: float


@dataclass(frozen=True, slots=True)
class Coverage:
    """Share of steps at most `ahead_s` ahead at or below the quantiles LEVELS, as the model gave them and as they were
    issued. NaN: no points."""

    ahead_s: float
    raw: tuple[float, ...]
    issued: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judgement came to, in words and numbers. `changed`: another model serves now."""

    changed: bool
    text: str
    numbers: Mapping[str, float | None] = field(default_factory=dict)


def begun(leader: str) -> Standing:
    """The standing of a new leader: it serves, and nothing is known of it yet."""
    return Standing(leader, leader)


def window_h(step_s: float) -> float:
    """The window of a grid: WINDOW_H hours, and FEWEST_STEPS steps at least (24 h on the hourly grid)."""
    return max(WINDOW_H, FEWEST_STEPS * step_s / HOUR_S)


def scored(
    standing: Standing,
    ends_s: FloatArray,
    ahead_s: FloatArray,
    weights: FloatArray,
    actual: FloatArray,
    raw: Mapping[str, FloatArray],
    issued: Mapping[str, FloatArray],
) -> Standing:
    """The standing with n steps more of one issued forecast.

    `ends_s`, `ahead_s`, `weights` and `actual` have shape (n,): when each step ended, how far ahead of its origin that
    was, for how many steps it stands, and what came. `raw` and `issued` have each model's quantiles (quantiles, n),
    before and after calibration. A step without a number, or at which the leader gave none, counts for nothing.
    """
    mine = issued.get(standing.leader)
    if mine is None or not len(actual):
        return standing
    known = np.isfinite(actual) & np.isfinite(mine).all(axis=0) & np.isfinite(ends_s)
    hour = np.floor(np.where(known, ends_s, 0.0) / HOUR_S).astype(np.int64)
    leaders = _loss(mine, actual)
    kept = dict(standing.hours)
    for each in np.unique(hour[known]):
        tallies = dict(kept.get(int(each), {}))
        for model, quantiles in issued.items():
            of = known & (hour == each) & np.isfinite(quantiles).all(axis=0)
            if not of.any():
                continue
            w, near = weights[of], ahead_s[of] <= NEAR_S
            own, came = _loss(quantiles[:, of], actual[of]), actual[of]
            hits = np.concatenate([_hits(raw[model][:, of], came), _hits(quantiles[:, of], came)]) * w
            parts = [
                [of.sum(), w.sum(), w @ own, w @ leaders[of], w @ came],
                [w[near].sum(), *hits[:, near].sum(axis=1)],
                [w.sum(), *hits.sum(axis=1)],
            ]
            tallies[model] = tallies.get(model, np.zeros(_WIDTH)) + np.concatenate(parts)
        kept[int(each)] = tallies
    newest = max(kept, default=0)
    return replace(standing, hours={each: kept[each] for each in sorted(kept) if each > newest - KEPT_H})


def _loss(quantiles: FloatArray, actual: FloatArray) -> FloatArray:
    """Mean pinball loss over QUANTILES at each step, shape (n,) (Koenker & Bassett 1978)."""
    q = np.asarray(QUANTILES)[:, None]
    error = actual[None, :] - quantiles
    return np.asarray(np.maximum(q * error, (q - 1.0) * error).mean(axis=0))


def _hits(quantiles: FloatArray, actual: FloatArray) -> FloatArray:
    rows = [QUANTILES.index(level) for level in LEVELS]
    return (actual[None, :] <= quantiles[rows] + 1e-9).astype(np.float64)


def live(standing: Standing, model: str, now_s: float, hours: float) -> Live:
    """The model's score over the clock hours of the last `hours` before now_s (the running one counts besides)."""
    found = [(hour, tallies[model]) for hour, tallies in _within(standing, now_s, hours) if model in tallies]
    if not found:
        nan = float("nan")
        return Live(model, 0, 0.0, nan, nan, nan)
    points, weight, loss, leaders, load = np.sum([tally[:_SUMS] for _, tally in found], axis=0)
    ratio = loss / leaders if leaders > 0 else (1.0 if loss <= 0 else float("inf"))
    span_h = float(found[-1][0] - found[0][0] + 1)
    return Live(model, int(points), span_h, float(loss / weight), float(ratio), float(load / weight))


def coverage(standing: Standing, model: str, now_s: float, hours: float) -> tuple[Coverage, ...]:
    """Coverage near (to NEAR_S ahead) and far (all steps), over the last `hours`."""
    sums = np.zeros(_WIDTH)
    for _, tallies in _within(standing, now_s, hours):
        sums = sums + tallies.get(model, np.zeros(_WIDTH))
    out = []
    for part, ahead_s in ((sums[_SUMS : _SUMS + _HITS], NEAR_S), (sums[_SUMS + _HITS :], FAR_S)):
        shares = part[1:] / part[0] if part[0] > 0 else np.full(_HITS - 1, np.nan)
        raw, issued = shares[: len(LEVELS)].tolist(), shares[len(LEVELS) :].tolist()
        out.append(Coverage(ahead_s, tuple(raw), tuple(issued)))
    return tuple(out)


def _within(standing: Standing, now_s: float, hours: float) -> list[tuple[int, Tallies]]:
    """A clock that was set back leaves hours that are not over yet: they don't count until they are."""
    newest = int(now_s // HOUR_S)
    return [(hour, tallies) for hour, tallies in standing.hours.items() if newest - hours <= hour <= newest]


def judged(standing: Standing, now_s: float, hours: float = WINDOW_H) -> tuple[Standing, Verdict]:
    """Who serves from now on, and why.

    The leader is demoted when a seasonal naive beats it by MARGIN over `hours`; the best of all rivals then serves.
    Who serves in its place gives way to whoever beats it by MARGIN, the leader above all. After a change the next one
    needs `hours` of evidence that lie after it.
    """
    leader = live(standing, standing.leader, now_s, hours)
    if leader.points < FEWEST_POINTS or leader.span_h < hours / 2:
        text = f"{leader.points} points over {leader.span_h:.0f} h are too few to judge {standing.leader} by"
        return standing, Verdict(False, f"{text}: {FEWEST_POINTS} over {hours / 2:.0f} h are needed")
    rivals = _rivals(standing, now_s, hours, leader)
    serving = rivals.get(standing.serving) if standing.demoted else leader
    if serving is None:  # it is not followed any more, so that nothing speaks for it
        return _changed(standing, leader, leader, now_s, hours)
    baselines = [rivals[name] for name in BASELINES if name in rivals]
    base = min(baselines, key=lambda each: each.against_leader, default=None)
    best = min([leader, *rivals.values()], key=lambda each: each.against_leader)
    wins = best is not serving and serving.against_leader > (1.0 + MARGIN) * best.against_leader
    if not standing.demoted:
        wins = wins and base is not None and (1.0 + MARGIN) * base.against_leader < 1.0
    rested = standing.changed_s is None or not 0 <= now_s - standing.changed_s < hours * HOUR_S
    agreed = standing.demoted or _hours_agree(standing, best.model, serving.model, now_s, hours)
    if wins and rested and agreed:
        return _changed(standing, best, serving, now_s, hours)
    beside = "" if base is None or base is serving else f", {base.model} {base.pinball:.3f}"
    text = f"{serving.model} serves: live pinball {serving.pinball:.3f}{beside} over the last {hours:.0f} h"
    return standing, Verdict(False, text, _numbers(serving, base, hours))


def _rivals(standing: Standing, now_s: float, hours: float, leader: Live) -> dict[str, Live]:
    """The other models that were followed at nearly all of the leader's steps."""
    names = {name for tallies in standing.hours.values() for name in tallies} - {standing.leader}
    found = (live(standing, name, now_s, hours) for name in sorted(names))
    return {each.model: each for each in found if each.points >= 0.9 * leader.points}


def _hours_agree(standing: Standing, better: str, worse: str, now_s: float, hours: float) -> bool:
    """Whether the mean difference of their hourly losses is at least SIGMAS of its standard errors. By hours, because
    steps that follow one another err alike."""
    both = [tallies for _, tallies in _within(standing, now_s, hours) if better in tallies and worse in tallies]
    gains = np.array([each[worse][2] / each[worse][1] - each[better][2] / each[better][1] for each in both])
    if len(gains) < 2:
        return False
    return bool(gains.mean() > 0 and gains.mean() >= SIGMAS * gains.std(ddof=1) / np.sqrt(len(gains)))


def _hours_agree_on_misses(standing: Standing, now_s: float, hours: float) -> bool:
    """Whether the leader's 0.9 quantile covered too little hour by hour: one bad hour of many origins is one hour."""
    covered = [
        coverage(replace(standing, hours={hour: tallies}), standing.leader, now_s, hours)[-1].issued[LEVELS.index(0.9)]
        for hour, tallies in _within(standing, now_s, hours)
        if standing.leader in tallies
    ]
    short = 0.9 - np.array(covered)
    return len(short) > 1 and bool(short.mean() >= SIGMAS * short.std(ddof=1) / np.sqrt(len(short)))


def _changed(standing: Standing, winner: Live, loser: Live, now_s: float, hours: float) -> tuple[Standing, Verdict]:
    back = winner.model == standing.leader
    after = replace(standing, serving=winner.model, changed_s=now_s)
    over = f"over the last {hours:.0f} h ({winner.points} points)"
    if loser is winner:
        text = f"{winner.model} serves again: {standing.serving} is not followed any more"
    elif back:
        against = f"live pinball {winner.pinball:.3f} against {loser.pinball:.3f} of {loser.model} {over}"
        text = f"{winner.model} is promoted and serves again: {against}"
    else:
        word = f"{standing.leader} is demoted" if loser.model == standing.leader else f"{loser.model} gives way"
        text = f"{word}, {winner.model} serves: live pinball {loser.pinball:.3f} against {winner.pinball:.3f} {over}"
    numbers = {
        "winner_pinball": winner.pinball,
        "loser_pinball": loser.pinball,
        "window_h": hours,
        "points": float(winner.points),
        "margin": MARGIN,
    }
    return after, Verdict(True, text, numbers)


def _numbers(serving: Live, base: Live | None, hours: float) -> dict[str, float | None]:
    return {
        "live_pinball": serving.pinball,
        "live_naive_pinball": None if base is None else base.pinball,
        "live_points": float(serving.points),
        "window_h": hours,
    }


def drifted(
    standing: Standing, backtest_pinball: float | None, backtest_load: float, now_s: float, hours: float = DRIFT_H
) -> Verdict | None:
    """Why the models should be selected anew, or None.

    The leader's live loss is over DRIFT times the backtest's, in GPUs and in relation to the load both: at a daily peak
    only the first is, on a quiet night only the second, and neither is drift. Or what it issued for the 0.9 quantile
    covered less than LEAST_COVERAGE, and the hours agree on it: the mean of theirs is SIGMAS standard errors below 0.9.
    `backtest_load` is the mean load that the backtest was judged on; NaN: unknown, then the first alone counts.
    """
    now = live(standing, standing.leader, now_s, hours)
    if now.points < FEWEST_POINTS or now.span_h < hours / 2:
        return None
    numbers = {"live_pinball": now.pinball, "backtest_pinball": backtest_pinball, "window_h": hours}
    over = f"over the last {hours:.0f} h ({now.points} points)"
    if backtest_pinball:
        worse = now.pinball > DRIFT * backtest_pinball
        relative = not backtest_load > 0 or now.pinball / max(now.load, 1e-9) > DRIFT * backtest_pinball / backtest_load
        if worse and relative:
            text = f"drift: live pinball {now.pinball:.3f} {over}, {backtest_pinball:.3f} in the backtest"
            return Verdict(True, text, numbers)
    covered = coverage(standing, standing.leader, now_s, hours)[-1].issued[LEVELS.index(0.9)]
    if covered < LEAST_COVERAGE and _hours_agree_on_misses(standing, now_s, hours):
        text = f"drift: {covered:.0%} of the load lay under the 0.9 quantile {over}"
        return Verdict(True, text, {**numbers, "coverage_p90": covered})
    return None


def demotion(leader: str, judgement: str) -> str:
    """That a leader is demoted and the judgement that stands: none yet after a restart. The one that demoted it begins
    with that already."""
    told = f"{leader} is demoted"
    return judgement if judgement.startswith(told) else f"{told}: {judgement}" if judgement else told
