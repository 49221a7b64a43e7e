"""Real workers: what they do wrong costs the task it happened in, and nothing of them stays behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, CancelledError
from pathlib import Path

import pytest

from controller.fitting import DASK, LOKY, FitPool, FitsStopped, Workers, check_backend
from controller.settings import SettingsError
from tests.browser.product import alive, family_of, wait_for

ROOT = Path(__file__).parents[2]


def die(_: int = 0) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(seconds: float = 600.0) -> None:
    time.sleep(seconds)


def troubled(number: int) -> int:
    """Squares; of 3 the worker dies, and 7 is refused."""
    if number == 3:
        die()
    if number == 7:
        raise ValueError("seven")
    return number * number


@pytest.fixture(scope="module")
def pool() -> Iterator[FitPool]:
    pool = FitPool(1, time_limit_s=15)
    yield pool
    pool.shutdown(wait=False, cancel_futures=True)


def test_fits_run_in_another_process_and_one_at_a_time_is_enough(pool: FitPool) -> None:
    assert pool.submit(os.getpid).result(60) != os.getpid()
    assert [future.result(60) for future in [pool.submit(pow, i, 2) for i in range(6)]] == [0, 1, 4, 9, 16, 25]


def test_an_error_comes_back_as_it_was_raised(pool: FitPool) -> None:
    with pytest.raises(ValueError, match="seven"):
        pool.submit(troubled, 7).result(60)


def test_a_worker_that_dies_costs_its_fit_alone(pool: FitPool) -> None:
    killer, others = pool.submit(die), [pool.submit(abs, -i) for i in range(4)]
    with pytest.raises(BrokenExecutor):
        killer.result(120)
    assert [future.result(120) for future in others] == [0, 1, 2, 3]


def test_a_fit_that_hangs_is_ended_and_the_others_go_on(pool: FitPool) -> None:
    hanging, others = pool.submit(hang), [pool.submit(abs, -i) for i in range(4)]
    with pytest.raises(TimeoutError, match="no result after 15 s, given up"):
        hanging.result(120)
    assert [future.result(120) for future in others] == [0, 1, 2, 3]


def test_what_cannot_be_sent_is_an_error_of_that_fit(pool: FitPool) -> None:
    unsendable, other = pool.submit(print, sys.stdout), pool.submit(abs, -1)
    assert unsendable.exception(120) is not None
    assert other.result(120) == 1


def test_a_fit_that_is_cancelled_before_its_turn_is_not_run(pool: FitPool, tmp_path: Path) -> None:
    first, second = pool.submit(hang, 1.0), pool.submit((tmp_path / "ran").touch)
    third = pool.submit((tmp_path / "third").touch)
    assert third.cancel()
    first.result(60)
    second.result(60)
    pool.submit(abs, -1).result(60)
    assert (tmp_path / "ran").exists() and not (tmp_path / "third").exists()


def test_a_shutdown_that_waits_finishes_what_was_sent() -> None:
    with FitPool(1) as pool:
        sent = [pool.submit(abs, -i) for i in range(3)]
    assert [future.result(0) for future in sent] == [0, 1, 2]
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(abs, -1)


def test_a_shutdown_that_does_not_wait_ends_what_hangs_and_leaves_no_worker() -> None:
    pool = FitPool(1)
    worker = pool.submit(os.getpid).result(60)
    hanging, waiting = pool.submit(hang), pool.submit(abs, -1)
    wait_for(hanging.running, "the fit with a worker")
    pool.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(FitsStopped):
        hanging.result(30)
    with pytest.raises((CancelledError, FitsStopped)):
        waiting.result(30)
    wait_for(lambda: not alive(worker), "the worker's end")


@pytest.mark.parametrize("count", [0, 2])
def test_results_come_with_their_item_and_an_error_is_a_result(count: int) -> None:
    workers = Workers(count)
    try:
        found = {done.item: done.result for done in workers.each(troubled, [1, 2, 7, 8])}
    finally:
        workers.close()
    assert found == {1: 1, 2: 4, 7: None, 8: 64}


def test_among_many_items_only_the_bad_ones_are_lost() -> None:
    workers = Workers(2)
    try:
        found = {done.item: done for done in workers.each(troubled, range(12))}
    finally:
        workers.close()
    assert sorted(found) == list(range(12))
    assert {item: done.result for item, done in found.items() if done.error is None} == {
        number: number * number for number in range(12) if number not in (3, 7)
    }
    assert isinstance(found[3].error, BrokenExecutor)
    assert isinstance(found[7].error, ValueError)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_process_they_work_for(how: signal.Signals) -> None:
    script = (
        "import signal, sys, time; from controller.fitting import FitPool\n"
        "pool = FitPool(2)\n"
        "def stop(*_): pool.shutdown(wait=False, cancel_futures=True); sys.exit(0)\n"
        "signal.signal(signal.SIGINT, stop)\n"
        "pool.submit(abs, 1).result(120)\n"
        "sent = [pool.submit(time.sleep, 600) for _ in range(4)]\n"
        "while not sent[0].running(): time.sleep(0.05)\n"
        "print('ready', flush=True); time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout as said:
        assert said.readline() == b"ready\n"
    family = family_of(process.pid)
    assert len(family) >= 2
    if how is signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does: the workers hear it too
    else:
        process.kill()
    assert process.wait(30) == (0 if how is signal.SIGINT else -how)
    wait_for(lambda: not any(alive(pid) for pid in family), f"the end of {family}")


def test_without_dask_the_setting_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    check_backend(DASK)
    monkeypatch.setattr("controller.fitting.find_spec", lambda name: None)
    check_backend(LOKY)
    with pytest.raises(SettingsError, match=r"HEDDLE_FORECAST_BACKEND=dask: .* -r requirements-dask\.txt"):
        FitPool(1, backend=DASK)


def test_a_scheduler_out_of_reach_is_an_error_of_the_fit_not_of_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.fitting._CONNECT_S", 1.0)
    pool = FitPool(1, backend=DASK, scheduler="tcp://127.0.0.1:9")
    try:
        with pytest.raises(Exception, match=r"127\.0\.0\.1:9"):
            pool.submit(abs, -1).result(60)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
