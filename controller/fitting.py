"""Where fits run: processes of this machine, or a Dask cluster, by one and the same code through joblib.

`Workers.each` is the one place that calls joblib. `FitPool` puts it behind `Executor`, for the live loop, which sends
fits and never waits; `controller/many_series.py` uses it for thousands of series at once. What a worker can do wrong
costs its own task only: a task that takes too long is given up, and of those that were under way when a worker died
each is tried once more by itself, so that the one that kills workers is told from the ones that were beside it.
"""

import itertools
import logging
import multiprocessing
import os
import platform
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, Generic, ParamSpec, TypeVar

from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor

from controller.settings import SettingsError

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")
Result = TypeVar("Result")

LOKY: Final = "loky"
DASK: Final = "dask"
TIME_LIMIT_S: Final = 120.0
IDLE_S: Final = 30.0
"""A worker without work for so long ends and gives its memory back; the next fit starts one within a second."""
DASK_WORKERS: Final = 2
_DASK_MEMORY: Final = "1GiB"
_CONNECT_S: Final = 30.0
_END_S: Final = 5.0
_PARENT_EVERY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Done(Generic[Item, Result]):
    """An item and what came of it: `error` None and a result, or why there is none."""

    item: Item
    result: Result | None
    error: Exception | None


class _NotInAWorker(Exception):
    """joblib makes a loop in this process of what it finds only one worker for."""


class FitsStopped(Exception):
    """The pool was shut down before the fit was done."""


def check_backend(backend: str) -> None:
    """SettingsError, naming what to install, when fits can't run on this backend. Cheap: nothing is imported."""
    if backend == DASK and (find_spec("dask") is None or find_spec("distributed") is None):
        raise SettingsError(
            "HEDDLE_FORECAST_BACKEND=dask: Dask is not installed; install it with "
            "`.venv/bin/pip install -r requirements-dask.txt`, or leave the variable out"
        )


class Workers:
    """So many processes, here or on a Dask cluster. One call of `each` at a time; `close` may come from any thread."""

    def __init__(
        self,
        count: int,
        backend: str = LOKY,
        scheduler: str = "",
        *,
        idle_s: float = IDLE_S,
        elapsed_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`count` 0 works in this process. `scheduler`: address of a Dask scheduler; "" starts a cluster of two workers
        or more on the loopback. Nothing starts before the first item. SettingsError when Dask is not installed."""
        check_backend(backend)
        self._backend, self._scheduler, self._idle_s, self._elapsed_s = backend, scheduler, idle_s, elapsed_s
        self._count = max(DASK_WORKERS, count) if count and backend == DASK else count
        self._parallel: Parallel | None = None
        self._client: Any = None
        self._cluster: Any = None
        self._closing = False

    def each(
        self, function: Callable[[Item], Result], items: Iterable[Item], limit_s: float | None = TIME_LIMIT_S
    ) -> Iterator[Done[Item, Result]]:
        """Results as they come, in any order. Items are taken one by one as workers become free, from any thread.

        `limit_s` bounds one item's time with a worker, in real seconds (not in this process, where nothing could end
        it). What the backend itself refuses, a cluster out of reach for one, is raised.
        """
        queue, alone = _Queue(items), deque[Item]()
        while not self._closing and (alone or queue.more()):
            self._connect()
            solo = bool(alone)
            taken: Iterator[Item] = iter([alone.popleft()]) if solo else queue
            wave = _Wave(function, taken, max(1, self._count), self._elapsed_s, in_place=not self._count)
            try:
                parallel = self._parallel = self._prepared(limit_s)
                if self._closing:  # `close` may have looked for it a moment too early
                    return
                for ticket, result, error in parallel(wave):
                    yield Done(wave.landed(ticket), result, error)
                    if limit_s is not None and wave.overdue(limit_s):
                        wave.closed, parallel.timeout = True, 0.0  # joblib looks at the clock while nothing comes
            except Exception as error:
                if self._closing:
                    return
                if not wave.flying:
                    raise
                lost, again, rest = self._sorted_out(error, wave, limit_s, solo=solo)
                alone.extend(again)
                queue.put_back(rest)
                yield from lost
            finally:
                self._parallel = None

    def _sorted_out(
        self, error: Exception, wave: "_Wave[Item, Result]", limit_s: float | None, *, solo: bool
    ) -> tuple[list[Done[Item, Result]], list[Item], list[Item]]:
        """After a broken wave: what is given up, what is tried by itself, and what never came to a worker."""
        under_way, rest = wave.close()
        if isinstance(error, _NotInAWorker):
            self._wait_for_workers()
            return [], [], under_way + rest
        if isinstance(error, TimeoutError | multiprocessing.TimeoutError):
            late = (wave.overdue(0.95 * limit_s) if limit_s is not None else []) or under_way[:1]
            innocent = [item for item in under_way if all(item is not one for one in late)]
            self._restart()
            text = f"no result after {limit_s:.0f} s, given up"
            return [Done(item, None, TimeoutError(text)) for item in late], [], innocent + rest
        if solo:
            return [Done(item, None, error) for item in under_way], [], rest
        return [], under_way, rest

    def close(self) -> None:
        """End the workers, whatever they do. `each` ends early, and the cluster too, if it was started here."""
        self._closing = True
        parallel = self._parallel
        if parallel is not None:
            parallel.timeout = 0.0
        if self._backend == LOKY and self._count:
            # joblib has one set of processes for the whole of this process; this is its documented handle.
            get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=True)
        if self._client is not None:
            self._client.close(timeout=_END_S)
            self._client = None
        if self._cluster is not None:
            self._cluster.close(timeout=_END_S)
            self._cluster = None

    def _prepared(self, limit_s: float | None) -> Parallel:
        shared: dict[str, Any] = {"return_as": "generator_unordered", "batch_size": 1, "max_nbytes": None}
        if not self._count:
            with parallel_config(backend="sequential"):
                return Parallel(n_jobs=1, **shared)
        setting: dict[str, Any] = {}
        own: dict[str, Any] = {}
        if self._backend == LOKY:
            own = {"idle_worker_timeout": self._idle_s, "initializer": end_with, "initargs": (os.getpid(),)}
        else:
            setting = {"client": self._client, "wait_for_workers_timeout": _CONNECT_S}
        with parallel_config(backend=self._backend, **setting):
            # Of one job joblib makes a loop in this process: two are asked for, and at most `count` sent at once.
            return Parallel(
                n_jobs=max(2, self._count),
                pre_dispatch=self._count,
                timeout=limit_s,
                **own,
                **shared,
            )

    def _connect(self) -> None:
        if self._backend != DASK or not self._count or self._client is not None:
            return
        distributed: Any = import_module("distributed")  # loads for a second, and has no types
        if self._scheduler:
            client = distributed.Client(self._scheduler, timeout=_CONNECT_S, set_as_default=False)
        else:
            self._cluster = distributed.LocalCluster(
                n_workers=self._count,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                scheduler_port=0,
                dashboard_address=None,
                memory_limit=_DASK_MEMORY,
            )
            client = distributed.Client(self._cluster, set_as_default=False)
        try:
            client.submit(check_backend, LOKY, pure=False).result(timeout=_CONNECT_S)
            threads = sum(client.ncores().values())
        except Exception as error:
            client.close(timeout=_END_S)
            raise BrokenExecutor(
                f"the Dask cluster at {self._scheduler or 'the loopback'} can't fit: {error!r}; its workers need "
                "Heddle's folder on their path and the packages of requirements.txt"
            ) from error
        if threads < DASK_WORKERS:
            client.close(timeout=_END_S)
            raise BrokenExecutor(f"the Dask cluster at {self._scheduler} has {threads} thread, 2 or more are needed")
        self._client, self._count = client, threads

    def _wait_for_workers(self) -> None:
        try:
            self._client.wait_for_workers(DASK_WORKERS, timeout=_CONNECT_S)
        except TimeoutError as error:
            raise BrokenExecutor(f"the Dask cluster has lost its workers: {error}") from error

    def _restart(self) -> None:
        """After a timeout joblib ends its own processes; Dask's would hang on. A cluster of others stays as it is."""
        if self._cluster is not None and not self._closing:
            self._client.restart(timeout=_CONNECT_S)


class _Queue(Generic[Item]):
    """An iterator that takes items back and can be asked whether there are more."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items, self._back = iter(items), deque[Item]()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        return self._back.popleft() if self._back else next(self._items)

    def put_back(self, items: Iterable[Item]) -> None:
        self._back.extend(items)

    def more(self) -> bool:
        if not self._back:
            self._back.extend(itertools.islice(self._items, 1))
        return bool(self._back)


class _Wave(Generic[Item, Result]):
    """The items of one call of joblib, and which of them are with a worker.

    joblib takes items ahead of need, in order, and has `count` of them with workers: the first that have not landed.
    """

    def __init__(
        self,
        function: Callable[[Item], Result],
        items: Iterator[Item],
        count: int,
        elapsed_s: Callable[[], float],
        *,
        in_place: bool,
    ) -> None:
        self._function, self._items, self._count, self._elapsed_s = function, items, count, elapsed_s
        self._home = None if in_place else _here()
        self._lock = threading.Lock()
        self._tickets = itertools.count()
        self._since_s: dict[int, float] = {}
        self.flying: dict[int, Item] = {}
        self.closed = False

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        with self._lock:
            if self.closed:
                raise StopIteration
            item, ticket = next(self._items), next(self._tickets)
            self.flying[ticket] = item
            self._stamp()
        return delayed(_guarded)(self._function, ticket, item, self._home)

    def landed(self, ticket: int) -> Item:
        """The item, which is with no worker any more."""
        with self._lock:
            item = self.flying.pop(ticket)
            self._stamp()
        return item

    def overdue(self, limit_s: float) -> list[Item]:
        """Items that have been with a worker for longer than this."""
        with self._lock:
            now_s = self._elapsed_s()
            return [item for ticket, item in self.flying.items() if now_s - self._since_s.get(ticket, now_s) > limit_s]

    def close(self) -> tuple[list[Item], list[Item]]:
        """Gives no more; those with a worker, and those that joblib had taken ahead."""
        with self._lock:
            self.closed = True
            items = list(self.flying.values())
        return items[: self._count], items[self._count :]

    def _stamp(self) -> None:
        for ticket in itertools.islice(self.flying, self._count):
            self._since_s.setdefault(ticket, self._elapsed_s())


def end_with(parent: int) -> None:
    """In a new worker: end when the process it works for is gone, however that went. (Dask sees to that itself.)"""

    def watch() -> None:
        while os.getppid() == parent:
            never.wait(_PARENT_EVERY_S)
        os._exit(1)

    never = threading.Event()
    threading.Thread(target=watch, name="parent", daemon=True).start()


def _here() -> tuple[str, int]:
    return platform.node(), os.getpid()


def _guarded(
    function: Callable[[Item], Result], ticket: int, item: Item, home: tuple[str, int] | None
) -> tuple[int, Result | None, Exception | None]:
    """In the worker: an error is a result, for joblib would end everything else that is under way. `home`: the process
    that must not do it."""
    if home == _here():
        raise _NotInAWorker
    try:
        return ticket, function(item), None
    except Exception as error:
        return ticket, None, error


_Call = tuple[int, Callable[..., Any], tuple[Any, ...], dict[str, Any]]
"""A number by which its future is found, and what to call."""


def _called(call: _Call) -> Any:
    _, function, args, kwargs = call
    return function(*args, **kwargs)


class FitPool(Executor):
    """Workers behind `Executor`: `submit` returns at once, and a thread of the pool sees to the rest.

    A worker that dies (out of memory, killed) costs its fit, and one that hangs is ended after `time_limit_s`, counted
    from when the worker got it; the others go on.
    """

    def __init__(
        self, workers: int, *, backend: str = LOKY, scheduler: str = "", time_limit_s: float = TIME_LIMIT_S
    ) -> None:
        """`workers` at least 1. SettingsError when Dask is asked for and not installed."""
        self._workers = Workers(workers, backend, scheduler)
        self._time_limit_s = time_limit_s
        self._numbers = itertools.count()
        self._waiting: deque[_Call] = deque()
        self._futures: dict[int, Future[Any]] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As `Executor.submit`. RuntimeError after `shutdown`."""
        future: Future[T] = Future()
        with self._changed:
            if self._stopping:
                raise RuntimeError("the pool of fits was shut down")
            number = next(self._numbers)
            self._futures[number] = future
            self._waiting.append((number, fn, args, kwargs))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="fits", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the workers. With `wait` what was sent is finished first, unless `cancel_futures`; without, it is given
        up at once: no process stays behind."""
        with self._changed:
            self._stopping = True
            if cancel_futures or not wait:
                for number, *_ in self._waiting:
                    self._futures.pop(number).cancel()
                self._waiting.clear()
            self._changed.notify_all()
        if self._thread is not None and wait:
            self._thread.join()
        self._workers.close()
        if self._thread is not None:
            self._thread.join(_END_S)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting) or self._stopping)
                if not self._waiting:
                    return
            try:
                for done in self._workers.each(_called, self._taken(), self._time_limit_s):
                    self._settle(done.item[0], done.result, done.error)
            except Exception as error:  # the backend itself: all that waits hears so, and the next fit tries it again
                log.exception("fits can't be sent to the workers")
                self._give_up(error)
            if self._stopping:
                self._give_up(FitsStopped("the pool of fits was shut down"))

    def _taken(self) -> Iterator[_Call]:
        while True:
            with self._changed:
                if not self._waiting:
                    return
                call = self._waiting.popleft()
                future = self._futures[call[0]]
                wanted = future.set_running_or_notify_cancel()
                if not wanted:
                    del self._futures[call[0]]
            if wanted:
                yield call

    def _settle(self, number: int, result: Any, error: Exception | None) -> None:
        with self._changed:
            future = self._futures.pop(number)
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def _give_up(self, error: Exception) -> None:
        with self._changed:
            self._waiting.clear()
            left, self._futures = list(self._futures.values()), {}
        for future in left:
            if not future.cancelled():
                future.set_exception(error)
