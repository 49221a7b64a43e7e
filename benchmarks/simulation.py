"""How many requests a second the simulation engine works off on one core: queues, preemption and all, no policy."""

from collections.abc import Sequence
from statistics import median
from time import perf_counter

import numpy as np

from benchmarks.report import table, write_section
from controller.backends.simulated.arrivals import Arrivals
from controller.backends.simulated.engine import Engine

RUNS = 5
ALLOWED = np.array([[False, True, True], [False, False, False], [False, False, False]])


def requests_per_second(replicas: int, use: float, requests: int, seed: int) -> float:
    """One run: Poisson arrivals of three tiers that keep `use` of the replicas busy."""
    rng = np.random.default_rng(seed)
    work = rng.gamma(2.0, 13.0, requests)
    arrived = np.sort(rng.uniform(0.0, requests * 26.0 / (replicas * use), requests))
    engine = Engine(0.0, [0, 1, 2], ALLOWED)
    engine.expect(Arrivals(arrived, work, rng.integers(0, 3, requests)))
    for number in range(replicas):
        engine.start(speed=1.0, spot=number % 2 == 0, zone=-1, cold_start_s=0.0, ready_at_once=True)
    began = perf_counter()
    engine.advance(float(arrived[-1]) + 1e6)
    taken = perf_counter() - began
    if engine.unfinished:
        raise AssertionError("the engine left requests unfinished")
    return requests / taken


def main(argv: Sequence[str] | None = None) -> None:
    """Run, print, and rewrite this section."""
    requests_per_second(10, 0.5, 1_000, 0)  # compiled, or loaded from the cache
    rows = []
    for replicas, use, requests in ((20, 0.7, 500_000), (50, 0.95, 500_000), (500, 0.7, 500_000)):
        speeds = [requests_per_second(replicas, use, requests, seed) for seed in range(RUNS)]
        cells = (f"{min(speeds):,.0f}", f"{median(speeds):,.0f}", f"{max(speeds):,.0f}")
        rows.append([f"{replicas} replicas, {use:.0%} busy", f"{requests:,}", *cells])
    text = table(["fleet", "requests", "slowest, req/s", "median, req/s", "fastest, req/s"], rows)
    text += "\n\nTarget: at least 100,000 requests a second on one core."
    print(text)
    write_section("simulation", "Simulation speed", "python -m benchmarks.simulation", text)


if __name__ == "__main__":
    main()
