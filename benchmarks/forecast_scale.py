"""Thousands of series on two workers: selecting, fitting and forecasting them all, and one update without a refit.

Each size is measured in a process of its own, with its workers, so that their memory is told apart: the sum of what
parent and workers hold, looked at every fifth of a second. The series are made here: level, daily and weekly rhythm,
bursts and noise, 28 days of hours.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from benchmarks.report import table, write_section
from controller.core.forecast.backtest import pinball
from controller.core.forecast.base import CannotFit, Fitted, model_named
from controller.core.forecast.earning import CHEAP, expensive_for
from controller.core.series import DAY_S, HOUR_S, WEEK_S, clip, is_weekend
from controller.core.types import QUANTILES, FloatArray, Series
from controller.many_series import BUDGET_S, fit_many

START_S = 1_729_468_800.0  # Monday 2024-10-21
DAYS = 28
STEPS = 24
SEEDS = (1, 2, 3)
SIZES = (1_000, 10_000)
WORKERS = 2
UPDATES = 2_000
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Measured:
    """One run. `seconds`: from the call to all forecasts, workers started within it. `core_s`: processor time of
    parent and workers. `loss`: mean pinball over quantiles and the 24 h after history, over the mean load, so that
    series of any size count alike. `busy`: load average of the machine at the end."""

    series: int
    seed: int
    seconds: float
    core_s: float
    mib: float
    earned: int
    leaders: dict[str, int]
    loss: float
    busy: float


def demand(number: int, seed: int, days: int) -> Series:
    """Hours of offered load: level × (day) × (weekend) + bursts, with noise that grows as its root."""
    generator = np.random.default_rng([seed, number])
    count = days * 24
    at_s = START_S + HOUR_S * np.arange(count)
    level = float(np.exp(generator.normal(1.0, 1.2)))
    hour = 2.0 * np.pi * (at_s % DAY_S) / DAY_S
    day = 1.0 + generator.uniform(0.2, 0.9) * np.sin(hour - generator.uniform(0.0, 2.0 * np.pi))
    day += generator.uniform(0.0, 0.3) * np.sin(2.0 * hour - generator.uniform(0.0, 2.0 * np.pi))
    week = np.where(is_weekend(np.asarray(at_s, dtype=np.float64)), generator.uniform(0.3, 1.2), 1.0)
    growth = np.exp(generator.normal(0.0, 0.15) * (at_s - START_S) / WEEK_S)
    bursts = np.zeros(count)
    for start in generator.integers(0, count, generator.poisson(days / 3.0)):
        length = int(generator.integers(1, 7))
        bursts[start : start + length] += generator.exponential(1.5) * 0.6 ** np.arange(length)[: count - start]
    mean = level * (np.maximum(day, 0.0) * week * growth + bursts)
    return Series(START_S, HOUR_S, generator.gamma(np.maximum(mean, 1e-9) * 8.0) / 8.0)


def _memory_mib(pids: Sequence[int]) -> float:
    """What these processes hold now, in MiB; those that are gone count 0."""
    total = 0.0
    for pid in pids:
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
    return total * os.sysconf("SC_PAGE_SIZE") / 2**20


def _family() -> list[int]:
    """This process and its children of children."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue
    family, grown = {os.getpid()}, True
    while grown:
        born = {pid for pid, parent in parents.items() if parent in family} - family
        family |= born
        grown = bool(born)
    return sorted(family)


def measure(count: int, seed: int, backend: str, budget_s: float) -> Measured:
    """One run in this process."""
    whole = {f"service-{number}": demand(number, seed, DAYS + 1) for number in range(count)}
    edge_s = START_S + DAYS * DAY_S
    histories = {key: clip(series, end_s=edge_s) for key, series in whole.items()}
    # What a service spends goes with its load: $0.60 for an hour of a reference GPU.
    spend = {key: float(series.values[-24 * 7 :].mean()) * 24 * 0.6 for key, series in histories.items()}
    peak, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            peak[0] = max(peak[0], _memory_mib(_family()))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    before_s = _core_s()
    began = perf_counter()
    found = fit_many(histories, STEPS, spend_usd=spend, workers=WORKERS, backend=backend, budget_s=budget_s)
    seconds = perf_counter() - began
    core_s = _core_s() - before_s
    done.set()
    watcher.join()
    losses = []
    for key, fit in found.items():
        actual = clip(whole[key], start_s=edge_s).values[:STEPS]
        losses.append(_loss(fit.forecast, actual) / float(histories[key].values.mean()))
    leaders = Counter(fit.fitted.model if fit.fitted else "none" for fit in found.values())
    return Measured(
        count,
        seed,
        seconds,
        core_s,
        peak[0],
        sum(fit.earned for fit in found.values()),
        dict(leaders.most_common()),
        float(np.mean(losses)),
        os.getloadavg()[0],
    )


def _core_s() -> float:
    """Processor time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _loss(forecast: FloatArray, actual: FloatArray) -> float:
    return float(np.mean([pinball(path, actual, q) for path, q in zip(forecast, QUANTILES, strict=True)]))


def updates() -> list[list[str]]:
    """What one series' forecast costs when an hour has come and nothing is fitted: median and p99 by model."""
    rows = []
    series = [demand(number, SEEDS[0], DAYS + 1) for number in range(40)]
    edge_s = START_S + DAYS * DAY_S
    for name in CHEAP:  # a combination costs the sum of its members
        model = model_named(name)
        fits: list[tuple[Series, Fitted]] = []
        for each in series:
            try:
                fits.append((each, model.fit(clip(each, end_s=edge_s), STEPS)))
            except CannotFit:
                continue
        seconds = []
        for i in range(UPDATES):
            each, fitted = fits[i % len(fits)]
            now_s = edge_s + HOUR_S * (i % 23)
            began = perf_counter()
            model.predict(fitted, clip(each, now_s - WEEK_S - DAY_S, now_s), now_s, STEPS)
            seconds.append(perf_counter() - began)
        p50, p99 = np.percentile(seconds, [50, 99]) * 1000.0  # with the cut of the last eight days out of history
        rows.append([name, f"{p50:.3f} ms", f"{p99:.3f} ms"])
    return rows


def _run(count: int, seed: int, backend: str, budget_s: float) -> Measured:
    command = [sys.executable, "-m", "benchmarks.forecast_scale", "--one", str(count), "--seed", str(seed)]
    command += ["--backend", backend, "--budget-s", str(budget_s)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def main(argv: Sequence[str] | None = None) -> None:
    """Run, print, and rewrite this section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", type=int, help="measure so many series in this process and print JSON")
    parser.add_argument("--seed", type=int, default=SEEDS[0])
    parser.add_argument("--backend", default="loky", choices=("loky", "dask"))
    parser.add_argument("--budget-s", type=float, default=BUDGET_S)
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="of the runs of 1,000 series")
    parser.add_argument("--largest", type=int, default=SIZES[1], help="how many series the last run has; 0: none")
    args = parser.parse_args(argv)
    if args.one:
        print(json.dumps(asdict(measure(args.one, args.seed, args.backend, args.budget_s))))
        return
    seeds = [int(seed) for seed in args.seeds.split(",")]
    runs = [_run(SIZES[0], seed, "loky", BUDGET_S) for seed in seeds]
    runs.append(_run(SIZES[0], seeds[0], "loky", 0.0))
    if args.largest:
        runs.append(_run(args.largest, seeds[0], "loky", BUDGET_S))
    head = [
        "series",
        "seed",
        "refit + forecast",
        "processor time",
        "peak memory, all processes",
        "with expensive models",
    ]
    head += ["pinball / load", "machine's load"]
    text = table(head, [_row(run) for run in runs])
    text += "\n\n" + table(["update without a refit, one series", "median", "p99"], updates())
    leaders = ", ".join(f"{name} {count}" for name, count in runs[0].leaders.items())
    text += (
        f"\n\n{DAYS} days of hours a series, {STEPS} h ahead, {WORKERS} workers (processes). Every series gets "
        f"{', '.join(CHEAP)}, scored on its last week, and the best, or their combination, fitted on all; "
        f"for {BUDGET_S:.0f} s more the series that spend most get {', '.join(expensive_for(HOUR_S))} too. "
        f"Leaders of the first row: "
        f"{leaders}. Pinball: mean over five quantiles of the 24 h after history, divided by the mean load. The "
        "machine's load is its one-minute average at the end of the run: above 2 others were using it too.\n\n"
        "Targets: 1,000 series in 60 s and 2 GB, 10,000 in 10 min, an update in 1 ms."
    )
    print(text)
    write_section("forecast-scale", "Forecasts of many series", "python -m benchmarks.forecast_scale", text)


def _row(run: Measured) -> list[str]:
    return [
        f"{run.series:,}",
        str(run.seed),
        f"{run.seconds:.0f} s",
        f"{run.core_s:.0f} s",
        f"{run.mib:.0f} MiB",
        str(run.earned),
        f"{run.loss:.4f}",
        f"{run.busy:.1f}",
    ]


if __name__ == "__main__":
    main()
