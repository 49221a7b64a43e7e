"""What-if runs in their processes: one replayed to its end, cancelled, cut short, killed; and what it replays."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sqlmodel import Session, SQLModel, select

from controller import embedded
from controller.clock import to_seconds, wall_s
from controller.core.envelope import parse_envelope, to_document
from controller.core.what_if import DAY_S, HOUR_S, OfferChange, WhatIf
from controller.lease import acquire, check_epoch
from controller.replay import recorded, run_replay
from controller.settings import Settings
from controller.store import Store
from controller.store.convert import plain
from controller.what_if import NICENESS, WhatIfs, as_served, spec_of
from models.database import open_engine
from models.enums import ReplayStatus
from models.ledger import LedgerEntry
from models.replays import ReplayRun
from tests.controller.replayed import ENVELOPE, OFFERS, START, rows, write_requests

PATIENCE_S = 120.0
DOCUMENT = to_document(parse_envelope(yaml.safe_load(ENVELOPE)))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[embedded.World, Settings]:
    folder = tmp_path_factory.mktemp("world")
    write_requests(folder / "requests.csv", rows())
    (folder / "offers.csv").write_text(OFFERS)
    (folder / "spot.csv").write_text("zone,gpu,gap_seconds,ticks,changes\na,V100,600,30,0:1 8:0 11:1\n")
    settings = Settings(
        requests=folder / "requests.csv", offers=folder / "offers.csv", spot=folder / "spot.csv",
        spot_zones="az1=a", start=START.isoformat(), warmup_hours=0, scale=2, jitter_s=60, boot_s=60, seed=3,
    )  # fmt: skip
    return embedded.read_world(settings), settings


def what_if(policy: str = "hpa", from_h: float = 3, to_h: float = 5, **changes: Any) -> WhatIf:
    begins_s = to_seconds(START)
    found = WhatIf(
        policy, DOCUMENT, 1, OfferChange(), begins_s + from_h * HOUR_S, begins_s + to_h * HOUR_S, 2, 60.0, 60.0, 3
    )
    return replace(found, **changes)


class Bench:
    """A database, and the processes of one controller on it."""

    def __init__(self, folder: Path, world: tuple[embedded.World, Settings], at_once: int = 1) -> None:
        self.world, self.settings = world
        self.engine = open_engine(f"sqlite:///{folder}/heddle.db")
        SQLModel.metadata.create_all(self.engine)
        self.epoch = acquire(self.engine, "test")
        self.at_once = at_once
        self.restart()

    def restart(self) -> None:
        """A controller that knows what the database does."""
        self.store = Store(self.engine, lambda: self.epoch, check_epoch)
        self.what_ifs = WhatIfs(
            self.store,
            self.settings,
            self.at_once,
            lambda: to_seconds(START) + 9 * HOUR_S,
            wall_s,
            wall_s,
        )
        self.what_ifs.take_up()

    def asks(self, asked: WhatIf) -> int:
        return self.store.add_replay(
            "images", asked, baseline=False, author="ana", reason="a test", now_s=to_seconds(START) + 9 * HOUR_S
        )

    def row(self, number: int) -> ReplayRun:
        with Session(self.engine) as session:
            return session.exec(select(ReplayRun).where(ReplayRun.id == number)).one()

    def until(self, holds: Callable[[], bool]) -> None:
        """Turn after turn until it holds."""
        ends_s, waiting = wall_s() + PATIENCE_S, threading.Event()
        while True:
            self.what_ifs.turn()
            if holds():
                return
            assert wall_s() < ends_s, "it did not come to that"
            waiting.wait(0.02)

    def ended(self, number: int) -> ReplayRun:
        self.until(lambda: self.row(number).status not in ("pending", "running"))
        return self.row(number)

    def pid(self, number: int) -> int:
        found = self.what_ifs._running[number].process.pid
        assert found is not None
        return found


@pytest.fixture
def bench(tmp_path: Path, world: tuple[embedded.World, Settings]) -> Iterator[Bench]:
    bench = Bench(tmp_path, world)
    yield bench
    bench.what_ifs.close()
    bench.engine.dispose()


LONG = {"policy": "hpa", "from_h": 1, "to_h": 9}


def test_a_run_comes_to_what_the_same_replay_comes_to_here(bench: Bench) -> None:
    asked = what_if()
    number = bench.asks(asked)
    seen: list[float] = []
    bench.until(lambda: seen.append(bench.row(number).progress_ratio) or bench.row(number).status == "done")
    run = bench.row(number)
    here = run_replay(spec_of(bench.world, bench.settings, asked))
    assert run.summary == plain(asdict(here.summary))
    assert run.hourly_usd == pytest.approx(here.hourly_usd.tolist())
    assert sum(run.hourly_usd or []) == pytest.approx(here.summary.cost_usd)
    assert (run.attempts, run.progress_ratio) == (1, 1.0)
    assert run.cpu_s is not None and run.cpu_s > 0 and run.finished_at is not None
    assert sorted(seen) == seen
    with Session(bench.engine) as session:
        told = [row.what for row in session.exec(select(LedgerEntry)).all()]
    assert told[0] == "Replay 1 asked for" and told[-1].startswith("Replay 1 finished: $")


def test_progress_is_seen_while_it_runs_at_low_priority_and_one_at_a_time(bench: Bench) -> None:
    first, second = bench.asks(what_if(**LONG)), bench.asks(what_if())
    bench.until(lambda: 0 < bench.row(first).progress_ratio < 1)
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, bench.pid(first)) == min(19, own + NICENESS)
    assert bench.row(second).status == ReplayStatus.PENDING
    assert bench.ended(first).status == ReplayStatus.DONE
    assert bench.ended(second).status == ReplayStatus.DONE


def test_a_cancelled_run_ends_at_once_and_its_place_is_free(bench: Bench) -> None:
    first, second = bench.asks(what_if(**LONG)), bench.asks(what_if())
    bench.until(lambda: bench.row(first).progress_ratio > 0)
    pid = bench.pid(first)
    bench.store.end_replay(first, ReplayStatus.CANCELLED, "not needed", wall_s=wall_s(), now_s=0.0)
    bench.what_ifs.turn()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert bench.ended(second).status == ReplayStatus.DONE
    run = bench.row(first)
    assert (run.status, run.summary) == (ReplayStatus.CANCELLED, None)


def test_a_restart_runs_it_again_and_keeps_one_result(bench: Bench) -> None:
    number = bench.asks(what_if(**LONG))
    bench.until(lambda: bench.row(number).progress_ratio > 0)
    pid = bench.pid(number)
    bench.what_ifs.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert bench.row(number).status == ReplayStatus.RUNNING
    bench.restart()
    assert bench.row(number).status == ReplayStatus.PENDING
    assert "runs again" in bench.row(number).status_reason
    run = bench.ended(number)
    assert (run.status, run.attempts, run.status_reason) == (ReplayStatus.DONE, 2, "")


def test_a_process_that_is_killed_fails_its_run_and_no_other(bench: Bench) -> None:
    first, second = bench.asks(what_if(**LONG)), bench.asks(what_if())
    bench.until(lambda: bench.row(first).progress_ratio > 0)
    os.kill(bench.pid(first), signal.SIGKILL)
    run = bench.ended(first)
    assert (run.status, run.status_reason) == (
        ReplayStatus.FAILED,
        "its process ended without a result (killed, as when memory runs out)",
    )
    assert bench.ended(second).status == ReplayStatus.DONE


def test_a_window_without_a_request_fails_with_the_reason(bench: Bench) -> None:
    run = bench.ended(bench.asks(what_if(from_h=60, to_h=62)))
    assert (run.status, run.attempts) == (ReplayStatus.FAILED, 1)
    assert "no request was recorded in the window" in run.status_reason


def test_offers_that_are_gone_since_it_was_asked_for_fail_it(bench: Bench) -> None:
    run = bench.ended(bench.asks(what_if(offers=OfferChange(without_zones=("az7",)))))
    assert run.status == ReplayStatus.FAILED and "no offer is in zone 'az7'" in run.status_reason


def test_a_run_that_could_not_be_started_fails_and_the_next_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = bench.asks(what_if()), bench.asks(what_if(to_h=4))

    def no_process(*_: Any, **__: Any) -> None:
        raise OSError("Resource temporarily unavailable")

    with monkeypatch.context() as patched:
        patched.setattr(bench.what_ifs._context, "Process", no_process)
        with pytest.raises(OSError, match="temporarily"):
            bench.what_ifs.turn()
    run = bench.ended(first)
    assert (run.status, run.status_reason) == (ReplayStatus.FAILED, "its process could not be started")
    assert bench.ended(second).status == ReplayStatus.DONE


def test_what_is_replayed_is_what_the_cluster_was_handed(world: tuple[embedded.World, Settings]) -> None:
    """After the trace's end its last week comes again: the same records as the cluster's feed, by their time."""
    given, settings = world
    settings = settings.model_copy(update={"scale": 1, "jitter_s": 0.0})
    envelope = parse_envelope(DOCUMENT)
    feed = embedded.build_cluster(given, settings, envelope)._feed
    assert feed is not None
    until_s = to_seconds(START) + 16 * DAY_S
    trace = as_served(given, until_s)
    of_feed = feed.between(0.0, until_s)
    mine = recorded(trace, envelope)
    order = np.argsort(mine.arrived_s, kind="stable")
    assert len(trace) == len(of_feed) == 3 * len(given.trace)
    np.testing.assert_allclose(mine.arrived_s[order], of_feed.arrived_s, atol=1e-6)
    np.testing.assert_array_equal(mine.work_s[order], of_feed.work_s)
    np.testing.assert_array_equal(mine.tier[order], of_feed.tier)


def test_spot_is_gone_when_it_was_gone_on_the_cluster(world: tuple[embedded.World, Settings]) -> None:
    given, settings = world
    cluster = embedded.build_cluster(given, settings, parse_envelope(DOCUMENT)).site.zones["az1"]
    replayed = spec_of(given, settings, what_if(from_h=7, to_h=12)).zones["az1"]
    for minute in range(5, 5 * 60, 10):
        at_s = to_seconds(START) + 7 * HOUR_S + minute * 60
        values = [zone.capacity[np.searchsorted(zone.change_s, at_s, side="right") - 1] for zone in (cluster, replayed)]
        assert values[0] == values[1], minute
    assert len(set(replayed.capacity[:10].tolist())) == 2, "it does go and come"
