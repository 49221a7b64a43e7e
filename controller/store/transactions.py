"""How every write of the controller happens: one at a time, fenced by the epoch, all of it or nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock

from sqlalchemy import Connection, Engine
from sqlmodel import Session

from controller.store.pending import Pending

EpochCheck = Callable[[Session, int], None]


class BrokenBatch(RuntimeError):
    """A write inside a batch failed and was swallowed: nothing of the batch is kept."""


class Transactions:
    """The base of every part of the store.

    A write transaction begins with `check_epoch(session, epoch())`, which raises when another controller has taken
    over; nothing is written then. Any failure rolls back everything, and the parts forget what they had in memory
    (`_forget`), so that the next call reads the database's truth again. Safe to use from several threads: one write at
    a time. On SQLite a write begins IMMEDIATE: the lock comes before the check, so no other controller slips between.
    """

    def __init__(self, engine: Engine, epoch: Callable[[], int], check_epoch: EpochCheck) -> None:
        self._engine = engine
        self._epoch = epoch
        self._check_epoch = check_epoch
        self._lock = RLock()
        self._session: Session | None = None
        self._broken = False
        self._pending = Pending(engine.dialect.name)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Groups the writes of its block into one transaction, committed at its end. Batches nest into the outermost.

        Nothing inside is durable until then: never act on the cluster within a batch that records the plan for it.
        It keeps the database's write lock and the lease's row, whose renewal waits: a few seconds at most.
        """
        with self._write():
            yield
            if self._session is not None:
                self._check_epoch(self._session, self._epoch())

    @contextmanager
    def _write(self) -> Iterator[Session]:
        with self._lock:
            if self._session is not None:
                try:
                    yield self._session
                except BaseException:
                    self._broken = True
                    raise
                return
            with Session(self._engine, expire_on_commit=False) as session:
                self._session, self._broken = session, False
                try:
                    if self._engine.dialect.name == "sqlite":
                        session.connection().exec_driver_sql("BEGIN IMMEDIATE")
                    self._check_epoch(session, self._epoch())
                    yield session
                    if self._broken:
                        raise BrokenBatch("a write of this batch failed, so nothing of it is kept")
                    self._pending.flush(session.connection())
                    session.commit()
                except BaseException:
                    session.rollback()
                    self._pending.clear()
                    self._forget()
                    raise
                finally:
                    self._session = None

    @contextmanager
    def _read(self) -> Iterator[Session]:
        """A session to read with; inside a write it is the same one, and sees what was written so far."""
        with self._lock:
            if self._session is not None:
                self._pending.flush(self._session.connection())
                yield self._session
                return
            with Session(self._engine, expire_on_commit=False) as session:
                yield session

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        with self._read() as session:
            yield session.connection()

    def _forget(self) -> None:
        """Drops every image in memory. Parts that hold one extend this."""
