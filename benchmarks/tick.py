"""One tick's wall time and the process's memory, with 1 and with 10 services, every write to a real SQLite included.

Each service has a simulated cluster of its own under the trace at K = 20, in a process of its own per size, so that
memory is told apart.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import yaml

from benchmarks.closed_loop import DATA, FROM_S
from benchmarks.report import table, write_section
from controller.backends.simulated.arrivals import Feed, replicate
from controller.backends.simulated.cluster import SimulatedCluster, Site
from controller.core.envelope import parse_envelope
from controller.core.policies.heddle import Heddle
from controller.forecaster import Forecaster
from controller.journal import Journal
from controller.lease import acquire, check_epoch
from controller.metrics import Metrics
from controller.observe import Demand, Observer, OfferBook
from controller.reconcile import Ports, reconcile
from controller.replay import FittedInPlace, minute_loads, recorded
from controller.sources.offers import read_offers
from controller.sources.traces import read_load_times, read_requests
from controller.store import Store
from models.database import open_engine
from models.migrate import migrate

TICKS = 400
WARM_TICKS = 40
START_S = FROM_S + 20 * 3600.0


def measure(services: int) -> dict[str, float]:
    """Seconds of a tick of all services (median and p99, refits apart) and MiB of the process, in this process."""
    document = yaml.safe_load((DATA / "envelopes/sample.yaml").read_text())
    envelope = parse_envelope(document)
    offers, _ = read_offers(DATA / "prices/headline_offers.csv")
    load_times_s = read_load_times(DATA / "traces/gentd26_base_model_load_ms.csv.gz")
    trace = recorded(read_requests(DATA / "traces/gentd26_requests.csv.gz"), envelope)
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/bench.db"
        migrate(url)
        engine = open_engine(url)
        epoch = acquire(engine, "bench")
        store = Store(engine, lambda: epoch, check_epoch)
        ports = []
        for number in range(services):
            name = f"images-{number}"
            store.seed(name, document, now_s=START_S)
            site = Site(name, envelope.tiers, offers, load_times_s, {}, seed=number)
            feed = Feed(trace, 20, 300.0, number, FROM_S + 7 * 86400)
            cluster = SimulatedCluster(site, START_S, feed=feed)
            for _ in range(10):
                cluster.start(offers[0].id, ready_at_once=True)
            demand = Demand([tier.name for tier in envelope.tiers])
            past = replicate(trace, 20, 300.0, number, FROM_S - 5 * 86400, START_S)
            demand.load(minute_loads(past, envelope.tiers, FROM_S - 5 * 86400, START_S))
            book = OfferBook(tuple(replace(offer) for offer in offers))
            ports.append(
                Ports(
                    backend=cluster,
                    telemetry=cluster,
                    work=cluster.work,
                    record=Journal(name, store, cluster, Metrics()),
                    forecasts=FittedInPlace(Forecaster()),
                    observer=Observer(name, book, demand, 180.0, 42.0),
                    policy=Heddle(),
                )
            )
        seconds = []
        for tick in range(WARM_TICKS + TICKS):
            began = perf_counter()
            for each in ports:
                reconcile(START_S + 15.0 * tick, each)
            seconds.append(perf_counter() - began)
        engine.dispose()
    p50, p99 = np.percentile(seconds[WARM_TICKS:], [50, 99])
    return {"p50_s": float(p50), "p99_s": float(p99), "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main(argv: Sequence[str] | None = None) -> None:
    """Run, print, and rewrite this section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, help="measure this size in this process and print JSON")
    args = parser.parse_args(argv)
    if args.services:
        print(json.dumps(measure(args.services)))
        return
    rows = []
    for services in (1, 10):
        command = [sys.executable, "-m", "benchmarks.tick", "--services", str(services)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
        found = json.loads(done.stdout.splitlines()[-1])
        rows.append(
            [
                str(services),
                f"{found['p50_s'] * 1000:.0f} ms",
                f"{found['p99_s'] * 1000:.0f} ms",
                f"{found['mib']:.0f} MiB",
            ]
        )
    text = table(["services", "tick, median", "tick, p99", "peak memory of the process"], rows)
    text += (
        f"\n\n{TICKS} ticks of 15 s in the evening of 24 November, all services one after the other, SQLite on disk."
    )
    print(text)
    write_section("tick", "One tick", "python -m benchmarks.tick", text)


if __name__ == "__main__":
    main()
