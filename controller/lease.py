"""One controller per database: the lease row, and the fence that every write of the controller passes.

A holder renews its lease every few seconds of wall time. Another may take it when it was released, when the holder's
process is gone from this host, or after `LEASE_S` without renewal. A holder that was overtaken while it slept (a laptop
lid, a long GC, a lost network) still believes that it leads: so each change of holder raises `epoch`, and
`check_epoch` inside every writing transaction stops the older one.
"""

import os
import socket
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Engine, insert, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from controller.clock import wall_now
from models.fleet import ControllerLease

LEASE_S = 30.0
RENEW_EVERY_S = 10.0


class LeaseHeld(Exception):
    """Another controller holds this database. The message names it and what to do; it is meant for the operator."""


class LeaseLost(Exception):
    """This controller no longer holds the database: it must stop writing and end."""


def process_exists(pid: int) -> bool:
    """Whether a process of this host has this id (ours or another user's)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OverflowError:
        return False
    except PermissionError:
        return True
    return True


def acquire(
    engine: Engine,
    holder: str,
    *,
    host: str | None = None,
    pid: int | None = None,
    wall: Callable[[], datetime] = wall_now,
    alive: Callable[[int], bool] = process_exists,
) -> int:
    """Takes the lease and returns its epoch, one more than the last. LeaseHeld when another holds it.

    `holder` is a name for people. Two that try at once: one wins, by compare-and-swap on the epoch seen.
    """
    host, pid = host or socket.gethostname(), pid or os.getpid()
    now = wall()
    with Session(engine) as session:
        seen = session.get(ControllerLease, 1)
        values = {
            "holder": holder,
            "host": host,
            "pid": pid,
            "acquired_at": now,
            "renewed_at": now,
            "released": False,
        }
        if seen is None:
            if not _insert(session, values):
                raise LeaseHeld("Another controller took this database at the same moment.")
            return 1
        if not _may_take(seen, host, now, alive):
            raise LeaseHeld(_describe(seen, now))
        epoch = seen.epoch + 1
        swapped = session.execute(
            update(ControllerLease)
            .where(col(ControllerLease.id) == 1, col(ControllerLease.epoch) == seen.epoch)
            .values(**values, epoch=epoch)
        )
        session.commit()
    if _rows(swapped) != 1:
        raise LeaseHeld("Another controller took this database at the same moment.")
    return epoch


def renew(engine: Engine, epoch: int, *, wall: Callable[[], datetime] = wall_now) -> None:
    """Says that the holder of `epoch` is alive. LeaseLost when it no longer holds the lease."""
    with Session(engine) as session:
        check_epoch(session, epoch)
        session.execute(update(ControllerLease).where(col(ControllerLease.epoch) == epoch).values(renewed_at=wall()))
        session.commit()


def release(engine: Engine, epoch: int) -> None:
    """Gives the lease back, so that the next controller need not wait. Does nothing when it was lost already."""
    with Session(engine) as session:
        session.execute(
            update(ControllerLease)
            .where(col(ControllerLease.id) == 1, col(ControllerLease.epoch) == epoch)
            .values(released=True)
        )
        session.commit()


def check_epoch(session: Session, epoch: int) -> None:
    """The fence. Called in the transaction of every write of the controller; LeaseLost when `epoch` was overtaken.

    It writes the row it checks (with the value it has), and so holds its lock until the transaction ends: nobody can
    take the lease between this check and the commit. A plain read could not promise that.
    """
    fenced = session.execute(
        update(ControllerLease)
        .where(
            col(ControllerLease.id) == 1,
            col(ControllerLease.epoch) == epoch,
            col(ControllerLease.released).is_(False),
        )
        .values(epoch=epoch)
    )
    if _rows(fenced) != 1:
        holder = session.exec(select(ControllerLease)).first()
        by = "" if holder is None else f" to {holder.holder} (pid {holder.pid} on {holder.host}, epoch {holder.epoch})"
        raise LeaseLost(f"This controller (epoch {epoch}) lost the database{by}; it must not write any more.")


def _insert(session: Session, values: dict[str, object]) -> bool:
    try:
        session.execute(insert(ControllerLease).values(id=1, epoch=1, **values))
        session.commit()
    except IntegrityError:
        session.rollback()
        return False
    return True


def _may_take(lease: ControllerLease, host: str, now: datetime, alive: Callable[[int], bool]) -> bool:
    if lease.released or now - lease.renewed_at > timedelta(seconds=LEASE_S):
        return True
    return lease.host == host and not alive(lease.pid)


def _describe(lease: ControllerLease, now: datetime) -> str:
    silent_s = max(0.0, (now - lease.renewed_at).total_seconds())
    return (
        f"Another controller runs on this database: {lease.holder}, pid {lease.pid} on {lease.host}, "
        f"since {lease.acquired_at:%Y-%m-%d %H:%M:%S} UTC (last sign of life {silent_s:.0f} s ago). "
        "Stop it, or give this one a database of its own with HEDDLE_DATABASE_URL. "
        f"If it is gone, its lease ends {LEASE_S:.0f} s after its last sign of life."
    )


def _rows(result: object) -> int:
    count = getattr(result, "rowcount", None)
    if not isinstance(count, int):
        raise TypeError("the database reports no row count: the fence can't work")
    return count
