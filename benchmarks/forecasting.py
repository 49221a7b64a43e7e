"""How good the forecasts are: every model, the selected and calibrated one, and four baselines, on held-out days.

Rolling origins, one an hour. At each midnight of the evaluated days the models are fitted and selected on what lies
before it, as the controller does; in between they only update. Demand is offered load (reference GPUs kept busy) by
hours and by ten minutes. `--requests FILE --evaluate-from TIME` runs the same on any request file.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Final

import numpy as np

from benchmarks import report
from benchmarks.forecast_baselines import BASELINES, banded, points
from controller.core.forecast.backtest import evaluate, pinball, targets_of
from controller.core.forecast.base import CannotFit, IntArray, Model, model_named, names_for
from controller.core.forecast.calibrate import Calibration, fresh, rehearsed
from controller.core.forecast.lstm import Lstm
from controller.core.forecast.select import Selection, refit, select
from controller.core.forecast.signals import regular
from controller.core.series import DAY_S, HOUR_S, MINUTE_S, clip, resample
from controller.core.types import QUANTILES, FloatArray, Series
from controller.lstm_training import available, honest_until_s, train
from controller.sources.base import InputError
from controller.sources.signals import read_signal
from controller.sources.times import flag_time
from controller.sources.traces import read_requests

ROOT: Final = Path(__file__).parent.parent
REQUESTS: Final = ROOT / "data" / "traces" / "gentd26_requests.csv.gz"
TAXI: Final = ROOT / "data" / "signals" / "nyc_taxi.csv.gz"
EVALUATE_FROM: Final = "2024-11-25T00:00:00Z"
TAXI_FROM: Final = "2015-01-04T00:00:00Z"
LONGEST_HISTORY_S: Final = 28 * DAY_S
ORIGIN_EVERY_S: Final = 3600.0
HORIZONS_S: Final = (2 * HOUR_S, DAY_S)
TRAINING_S: Final = 60.0
BOOTSTRAPS: Final = 2000
BLOCK: Final = 12
"""Origins in a block of the bootstrap: neighbouring origins see nearly the same hours and fail together."""
NOTHING: Final = 1e-12
"""Added to both losses of a ratio: two forecasts without any loss are equally good."""
SELECTED: Final = "selected, calibrated"
RAW: Final = "selected, before calibration"


@dataclass
class Run:
    """One series on one grid: forecasts (origins, quantiles, steps) by name, and what came (origins, steps)."""

    name: str
    step_s: float
    origins: IntArray
    actual: FloatArray
    scale: float
    forecasts: dict[str, FloatArray] = field(default_factory=dict)
    leaders: list[dict[str, str]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def offered_load(requests: Path) -> Series:
    """Offered load of a request file by minutes, from the midnight before its first request to its last whole hour."""
    trace = read_requests(requests)
    start_s = math.floor(float(trace.arrived_s[0]) / DAY_S) * DAY_S
    end_s = math.floor(float(trace.arrived_s[-1]) / HOUR_S) * HOUR_S
    count = int((end_s - start_s) // MINUTE_S)
    minute = ((trace.arrived_s - start_s) // MINUTE_S).astype(np.int64)
    inside = minute < count
    work = np.bincount(minute[inside], weights=trace.work_s[inside], minlength=count)
    return Series(start_s, MINUTE_S, work / MINUTE_S)


def evaluated(
    name: str,
    series: Series,
    from_s: float,
    steps: int,
    *,
    every_s: float = ORIGIN_EVERY_S,
    models: Sequence[str] | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Run:
    """All forecasts of a series on its own grid, from every origin at or after from_s. ValueError when nothing is left
    to evaluate or nothing to learn from."""
    step_s = series.step_s
    first = round((from_s - series.start_s) / step_s)
    count, every = len(series.values), max(1, round(every_s / step_s))
    if not 0 < first < count:
        raise ValueError(f"{name}: the time to evaluate from lies outside the series, or at its very beginning")
    origins = np.arange(first, count, every, dtype=np.int64)
    day = round(DAY_S / step_s)
    past = series.values[:first]
    scale = float(np.nanmean(np.abs(past[day:] - past[:-day]))) if first > day else float("nan")
    run = Run(name, step_s, origins, targets_of(series, origins, steps), scale)
    names = tuple(models or names_for(step_s))
    trained = _trained(series, origins, steps, day) if models is None and available() else {}
    for model in (*names, *(["lstm"] if trained else [])):
        began = monotonic()
        run.forecasts[model] = _alone(model, series, origins, steps, day, trained)
        run.seconds[model] = monotonic() - began
        progress(f"{name}: {model} in {run.seconds[model]:.0f} s")
    began = monotonic()
    run.forecasts[RAW], run.forecasts[SELECTED] = _selected(run, series, steps, day, names, trained)
    run.seconds[SELECTED] = monotonic() - began
    progress(f"{name}: {SELECTED} in {run.seconds[SELECTED]:.0f} s")
    for baseline in BASELINES:
        began = monotonic()
        run.forecasts[baseline] = _baseline(baseline, series, origins, steps, every)
        run.seconds[baseline] = monotonic() - began
        progress(f"{name}: {baseline} in {run.seconds[baseline]:.0f} s")
    if not _comparable(run):
        raise ValueError(f"{name}: too little is known to forecast from, or to measure; evaluate from another time")
    return run


def _comparable(run: Run) -> bool:
    """Whether the selected forecast and a baseline both speak of a step that was measured, at the shortest horizon."""
    upto = max(1, round(min(HORIZONS_S) / run.step_s))
    known = np.isfinite(run.actual) & np.isfinite(run.forecasts[SELECTED]).all(axis=1)
    spoken = [np.isfinite(run.forecasts[baseline]).all(axis=1) for baseline in BASELINES]
    return bool((known & np.any(spoken, axis=0))[:, :upto].any())


def _days(origins: IntArray, day: int) -> list[IntArray]:
    """The origins of each day from the first origin on: between two refits."""
    return [origins[(origins - origins[0]) // day == d] for d in np.unique((origins - origins[0]) // day)]


def _before(series: Series, index: int) -> Series:
    """What is known at a step, as far back as the controller looks."""
    end_s = series.start_s + index * series.step_s
    return clip(series, end_s - LONGEST_HISTORY_S, end_s)


def _known(series: Series, part: IntArray) -> tuple[Series, IntArray]:
    """The series until the last origin of a day, and the origins as indices into it."""
    start = max(0, int(part[0]) - round(LONGEST_HISTORY_S / series.step_s))
    known = Series(series.start_s + start * series.step_s, series.step_s, series.values[start : int(part[-1])])
    return known, part - start


def _trained(series: Series, origins: IntArray, steps: int, day: int) -> dict[int, Model]:
    """The LSTM of each day, by the day's first origin: trained on what lies before what selection holds out."""
    found: dict[int, Model] = {}
    for part in _days(origins, day):
        history = _before(series, int(part[0]))
        try:
            weights = train([history], steps, honest_until_s([history]), limit_s=TRAINING_S)
        except CannotFit:
            continue
        found[int(part[0])] = Lstm(weights)
    return found


def _alone(
    model: str, series: Series, origins: IntArray, steps: int, day: int, trained: Mapping[int, Model]
) -> FloatArray:
    """Forecasts of one model, fitted anew each day. NaN where it couldn't be."""
    out = np.full((len(origins), len(QUANTILES), steps), np.nan)
    for part in _days(origins, day):
        try:
            history = _before(series, int(part[0]))
            own = trained.get(int(part[0])) if model == "lstm" else None
            fitted = refit(history, steps, model) if own is None else own.fit(history, steps)
            known, at = _known(series, part)
            out[np.isin(origins, part)] = model_named(model).predict_many(fitted, known, at, steps)
        except CannotFit:
            continue
    return out


def _selected(
    run: Run, series: Series, steps: int, day: int, names: Sequence[str], trained: Mapping[int, Model]
) -> tuple[FloatArray, FloatArray]:
    """Forecasts of each day's leader, before and after calibration; the leaders are noted in `run`."""
    raw = np.full((len(run.origins), len(QUANTILES), steps), np.nan)
    incumbent: str | None = None
    seeds: list[tuple[int, Calibration]] = []
    for part in _days(run.origins, day):
        given = (trained[int(part[0])],) if int(part[0]) in trained else ()
        chosen: Selection = select(_before(series, int(part[0])), steps, incumbent=incumbent, names=names, given=given)
        at_s = series.start_s + int(part[0]) * series.step_s
        if chosen.fitted is None:
            run.leaders.append({"from": _iso(at_s), "model": "none", "why": chosen.note})
            continue
        leader = chosen.fitted.model
        run.leaders.append({"from": _iso(at_s), "model": leader, "why": chosen.note})
        known, at = _known(series, part)
        rows = np.isin(run.origins, part)
        raw[rows] = model_named(leader).predict_many(chosen.fitted, known, at, steps)
        if leader != incumbent:
            seeds.append((int(np.flatnonzero(rows)[0]), chosen.calibration or fresh(series.step_s, steps)))
        incumbent = leader
    shown = np.array(raw)
    for i, (row, seed) in enumerate(seeds):  # a new leader brings the calibration of its own past
        until = seeds[i + 1][0] if i + 1 < len(seeds) else len(run.origins)
        shown[row:until] = rehearsed(seed, run.origins[row:until], raw[row:until], run.actual[row:until])[1]
    return raw, shown


def _baseline(name: str, series: Series, origins: IntArray, steps: int, every: int) -> FloatArray:
    """A baseline with its band, its errors gathered from as early as it can forecast."""
    lowest = max(0, int(origins[0]) - round(LONGEST_HISTORY_S / series.step_s))
    cut = Series(series.start_s + lowest * series.step_s, series.step_s, series.values[lowest:])
    own = origins - lowest
    earlier = np.arange(int(own[0]) % every, int(own[0]), every, dtype=np.int64)
    every_origin = np.concatenate([earlier[-14 * 24 :], own])
    return banded(points(name, cut, every_origin, steps), cut, every_origin)[-len(own) :]


def scored(run: Run, name: str, horizon_s: float) -> dict[str, float | int | None]:
    """What the tables say of one forecast up to a horizon. None: not measured."""
    upto = max(1, round(horizon_s / run.step_s))
    forecasts, actual = run.forecasts[name][:, :, :upto], run.actual[:, :upto]
    found = evaluate(forecasts, actual)
    if not found.points:
        return {"points": 0}
    known = np.isfinite(actual) & np.isfinite(forecasts).all(axis=1)
    median = forecasts[:, QUANTILES.index(0.5)]
    mase = float(np.abs(actual - median)[known].mean()) / run.scale if run.scale > 0 else None
    return {
        "wape": found.wape if found.wape == found.wape else None,  # unknown where no load came
        "mase": mase,
        "pinball_50": float(found.pinball[QUANTILES.index(0.5)]),
        "pinball_90": float(found.pinball[QUANTILES.index(0.9)]),
        "pinball_mean": found.loss,
        "coverage_80": found.coverage_of(0.8),
        "coverage_90": found.coverage_of(0.9),
        "coverage_95": found.coverage_of(0.95),
        "origins": found.origins,
        "points": found.points,
    }


def against_baselines(run: Run, horizon_s: float, seed: int = 0) -> dict[str, Any]:
    """The selected forecast's 0.9 pinball over the best baseline's, and its coverage, each with a 95 % interval by
    moving-block bootstrap over the origins (Künsch 1989)."""
    upto = max(1, round(horizon_s / run.step_s))
    actual = run.actual[:, :upto]

    def loss(name: str) -> FloatArray:
        return pinball(run.forecasts[name][:, QUANTILES.index(0.9), :upto], actual, 0.9)

    mine = loss(SELECTED)
    whole = {name: loss(name) for name in BASELINES}
    complete = {name: np.isfinite(part) for name, part in whole.items()}
    measured = {name: float(np.nanmean(part)) for name, part in whole.items() if complete[name].any()}
    # A baseline that can't speak of every step that Heddle speaks of is compared on the steps of both.
    ratios = {
        name: (float(mine[both].mean()) + NOTHING) / (float(whole[name][both].mean()) + NOTHING)
        for name in measured
        if (both := complete[name] & np.isfinite(mine)).any()
    }
    hardest = max(ratios, key=lambda name: ratios[name])
    under = actual <= run.forecasts[SELECTED][:, QUANTILES.index(0.9), :upto] + 1e-9
    known = np.isfinite(mine)
    both = known & complete[hardest]
    rng = np.random.default_rng(seed)
    count = len(run.origins)
    block = max(1, min(BLOCK, count // 4))  # one block of all origins would be an interval of no width
    starts = rng.integers(0, count - block + 1, (BOOTSTRAPS, -(-count // block)))
    rows = (starts[:, :, None] + np.arange(block)[None, None, :]).reshape(BOOTSTRAPS, -1)[:, :count]
    ours, theirs = np.where(both, mine, 0.0).sum(axis=1), np.where(both, whole[hardest], 0.0).sum(axis=1)
    covered, number = (under & known).sum(axis=1), known.sum(axis=1)
    ratio = (ours[rows].sum(axis=1) + NOTHING) / (theirs[rows].sum(axis=1) + NOTHING)
    share = covered[rows].sum(axis=1) / np.maximum(number[rows].sum(axis=1), 1)
    return {
        "best_baseline": hardest,
        "pinball_90_ratio": ratios[hardest],
        "pinball_90_ratio_low": float(np.quantile(ratio, 0.025)),
        "pinball_90_ratio_high": float(np.quantile(ratio, 0.975)),
        "pinball_90_ratios": ratios,
        "coverage_90": float(covered.sum() / max(1, number.sum())),
        "coverage_90_low": float(np.quantile(share, 0.025)),
        "coverage_90_high": float(np.quantile(share, 0.975)),
    }


def documented(runs: Sequence[Run]) -> dict[str, Any]:
    """Everything as plain numbers, by series, grid and horizon."""
    return {
        run.name: {
            "step_s": run.step_s,
            "origins": len(run.origins),
            "leaders": run.leaders,
            "seconds": run.seconds,
            "horizons": {
                _hours(horizon_s): {
                    "forecasts": {name: scored(run, name, horizon_s) for name in run.forecasts},
                    SELECTED: against_baselines(run, horizon_s),
                }
                for horizon_s in HORIZONS_S
            },
        }
        for run in runs
    }


def _hours(horizon_s: float) -> str:
    return f"{horizon_s / HOUR_S:.0f} h"


def _iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


COLUMNS: Final[Mapping[str, str]] = {
    "wape": "WAPE",
    "mase": "MASE",
    "pinball_50": "pinball 0.5",
    "pinball_90": "pinball 0.9",
    "coverage_80": "coverage 0.8",
    "coverage_90": "coverage 0.9",
    "coverage_95": "coverage 0.95",
}


def told(run: Run) -> str:
    """A run as Markdown."""
    parts = [f"### {run.name}, {run.step_s / 60:.0f}-minute steps, {len(run.origins)} origins"]
    for horizon_s in HORIZONS_S:
        rows = []
        order = [SELECTED, RAW, *sorted(n for n in run.forecasts if n not in (SELECTED, RAW, *BASELINES)), *BASELINES]
        for name in order:
            found = scored(run, name, horizon_s)
            if not found["points"]:
                rows.append([name, *("not fitted" if i == 0 else "" for i in range(len(COLUMNS)))])
                continue
            cells = [_cell(found[column], column) for column in COLUMNS]
            part = int(found["points"] or 0) < int(scored(run, SELECTED, horizon_s)["points"] or 0)
            rows.append([f"{name} (on a part)" if part else name, *cells])
        seen = against_baselines(run, horizon_s)
        parts.append(
            f"Up to {_hours(horizon_s)} ahead:\n\n{report.table(['forecast', *COLUMNS.values()], rows)}\n\n"
            f"Pinball 0.9 of the selected forecast is {seen['pinball_90_ratio']:.2f} times that of the best baseline "
            f"({seen['best_baseline']}; 95 % interval {seen['pinball_90_ratio_low']:.2f} to "
            f"{seen['pinball_90_ratio_high']:.2f}); its 0.9 quantile covered {seen['coverage_90']:.3f} "
            f"({seen['coverage_90_low']:.3f} to {seen['coverage_90_high']:.3f})."
        )
    leaders = "\n".join(f"- {each['from']}: {each['why']}" for each in run.leaders)
    parts.append(f"Leaders:\n\n{leaders}")
    return "\n\n".join(parts)


def _cell(value: float | int | None, column: str) -> str:
    if value is None or value != value:
        return "–"
    return f"{value:.3f}" if column.startswith("coverage") or column in ("wape", "mase") else f"{value:.4f}"


def grids_of(name: str, minutes: Series, from_s: float, progress: Callable[[str], None]) -> list[Run]:
    """A minute series by hours and by ten minutes."""
    return [
        evaluated(f"{name} by {words}", resample(minutes, step_s), from_s, steps, progress=progress)
        for step_s, steps, words in ((3600.0, 24, "hours"), (600.0, 144, "ten minutes"))
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0; 2 with one line for input that can't be used."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forecasting", description=__doc__)
    parser.add_argument("--requests", type=Path, help="a request file; without it the shipped trace and NYC taxi")
    parser.add_argument("--evaluate-from", help="when the evaluated days begin, UTC; default: the last six days")
    parser.add_argument("--json", action="store_true", help="print everything as JSON, write no page")
    args = parser.parse_args(argv)

    def progress(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        requests = args.requests or REQUESTS
        load = offered_load(requests)
        default = EVALUATE_FROM if args.requests is None else _iso(math.ceil(load.end_s / DAY_S) * DAY_S - 6 * DAY_S)
        runs = grids_of(
            requests.name.split(".")[0], load, flag_time("--evaluate-from", args.evaluate_from or default), progress
        )
        if args.requests is None:
            taxi = regular(*read_signal(TAXI))
            assert taxi is not None
            runs.append(
                evaluated(
                    "NYC taxi by half hours",
                    taxi,
                    flag_time("--evaluate-from", TAXI_FROM),
                    48,
                    every_s=3 * HOUR_S,
                    progress=progress,
                )
            )
    except (InputError, ValueError) as error:
        print(f"benchmarks.forecasting: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(documented(runs), indent=2, allow_nan=False, default=float))
    else:
        text = "\n\n".join(told(run) for run in runs)
        if not available():
            text = f"Without the LSTM: PyTorch (`make lstm`) was not installed where this was measured.\n\n{text}"
        print(text)
        if args.requests is None and args.evaluate_from is None:
            report.write_section("forecasting", "Forecasts", "python -m benchmarks.forecasting", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
