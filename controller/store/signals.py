"""Outside signals: series that somebody pushes or uploads. Values are facts, idempotent by time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from controller.core.points import MOST_SIGNALS, Points
from controller.store.convert import moment, seconds
from controller.store.ledger import Ledger
from controller.store.pending import table_of
from models.enums import LedgerKind
from models.signals import SignalRow, SignalValue

_SIGNAL, _VALUE = table_of(SignalRow), table_of(SignalValue)
_IN = 500


class TooManySignals(ValueError):
    """A service has as many signals as it may have."""


@dataclass(frozen=True, slots=True)
class SignalFacts:
    """A signal as registered. `revision` grows with each write that changed it."""

    id: int
    service: str
    name: str
    unit: str
    known_ahead: bool
    stale_after_s: float
    created_at: datetime
    revision: int


@dataclass(frozen=True, slots=True)
class Taken:
    """What a write of points did: how many times were new, how many had another value, how many were known already."""

    added: int
    changed: int
    unchanged: int


def signal_named(connection: Connection, service: str, name: str) -> SignalFacts | None:
    """A service's signal; None: there is none of that name."""
    found = connection.execute(select(_SIGNAL).where(_SIGNAL.c.service == service, _SIGNAL.c.name == name)).first()
    return None if found is None else _facts(found)


def put_signal(
    connection: Connection,
    service: str,
    name: str,
    *,
    unit: str | None,
    known_ahead: bool | None,
    stale_after_s: float | None,
    author: str,
    now_s: float,
) -> SignalFacts:
    """Registers a signal, or changes what is said of it; None leaves that as it is (for a new one: no unit, not known
    ahead, stale after an hour). TooManySignals when the service has MOST_SIGNALS others."""
    before = signal_named(connection, service, name)
    if before is None:
        others = select(func.count()).select_from(_SIGNAL).where(_SIGNAL.c.service == service)
        if connection.execute(others).scalar_one() >= MOST_SIGNALS:
            raise TooManySignals(f"{service} has {MOST_SIGNALS} signals already; remove one first")
        row = {
            "service": service, "name": name, "unit": unit or "", "known_ahead": bool(known_ahead),
            "stale_after_s": stale_after_s or 3600.0, "author": author, "created_at": moment(now_s), "revision": 0,
        }  # fmt: skip
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        statement: Any = dialect.insert(_SIGNAL)  # somebody else's first push may come between
        connection.execute(statement.values(row).on_conflict_do_nothing())
    else:
        said = {"unit": unit, "known_ahead": known_ahead, "stale_after_s": stale_after_s}
        new = {key: value for key, value in said.items() if value is not None and value != getattr(before, key)}
        if new:
            connection.execute(update(_SIGNAL).where(_SIGNAL.c.id == before.id).values(new))
    after = signal_named(connection, service, name)
    assert after is not None
    return after


def put_values(connection: Connection, signal_id: int, points: Points) -> Taken:
    """Writes the points that are new or different. The same points twice change nothing the second time. Writers of
    one signal take turns: the first statement locks its row until the transaction ends."""
    bumped = update(_SIGNAL).where(_SIGNAL.c.id == signal_id).values(revision=_SIGNAL.c.revision + 1)
    connection.execute(bumped)
    revision = connection.execute(select(_SIGNAL.c.revision).where(_SIGNAL.c.id == signal_id)).scalar_one()
    known: dict[float, float] = {}
    times = [moment(at_s) for at_s, _ in points]
    for first in range(0, len(times), _IN):
        part = times[first : first + _IN]
        there = select(_VALUE.c.at, _VALUE.c.value).where(_VALUE.c.signal_id == signal_id, _VALUE.c.at.in_(part))
        known |= {seconds(at): value for at, value in connection.execute(there)}
    fresh, other = [], []
    for at, (_, value) in zip(times, points, strict=True):
        before = known.get(seconds(at))
        if before is None:
            fresh.append({"signal_id": signal_id, "at": at, "value": value, "revision": revision})
        elif before != value:
            other.append((at, value))
    if fresh:
        connection.execute(insert(_VALUE), fresh)
    for at, value in other:
        here = update(_VALUE).where(_VALUE.c.signal_id == signal_id, _VALUE.c.at == at)
        connection.execute(here.values(value=value, revision=revision))
    if not fresh and not other:
        connection.execute(update(_SIGNAL).where(_SIGNAL.c.id == signal_id).values(revision=revision - 1))
    return Taken(len(fresh), len(other), len(points) - len(fresh) - len(other))


class Signals(Ledger):
    """The controller's side: uploads by intent, removal, and reading for the forecaster."""

    def add_signal(
        self,
        service: str,
        name: str,
        points: Points,
        *,
        unit: str,
        known_ahead: bool,
        stale_after_s: float,
        author: str,
        reason: str,
        now_s: float,
        intent_id: int | None = None,
    ) -> Taken:
        """Registers the signal where it is new and writes its points, with one ledger entry. TooManySignals."""
        with self._write() as session:
            connection = session.connection()
            signal = put_signal(
                connection,
                service,
                name,
                unit=unit,
                known_ahead=known_ahead,
                stale_after_s=stale_after_s,
                author=author,
                now_s=now_s,
            )
            taken = put_values(connection, signal.id, points)
            self.enter(
                LedgerKind.FORECAST,
                now_s=now_s,
                actor=author,
                service=service,
                subject=f"signal {name}",
                what=f"Signal {name} uploaded: {taken.added} new values, {taken.changed} changed",
                why=reason,
                numbers={"added": taken.added, "changed": taken.changed, "unchanged": taken.unchanged},
                intent_id=intent_id,
            )
            return taken

    def remove_signal(
        self, service: str, name: str, *, author: str, reason: str, now_s: float, intent_id: int | None = None
    ) -> bool:
        """Forgets a signal and its values. False when there is none of that name."""
        with self._write() as session:
            connection = session.connection()
            signal = signal_named(connection, service, name)
            if signal is None:
                return False
            connection.execute(delete(_VALUE).where(_VALUE.c.signal_id == signal.id))
            connection.execute(delete(_SIGNAL).where(_SIGNAL.c.id == signal.id))
            self.enter(
                LedgerKind.FORECAST,
                now_s=now_s,
                actor=author,
                service=service,
                subject=f"signal {name}",
                what=f"Signal {name} removed",
                why=reason,
                intent_id=intent_id,
            )
            return True

    def signals(self, service: str) -> tuple[SignalFacts, ...]:
        """Those of a service, the oldest first."""
        found = select(_SIGNAL).where(_SIGNAL.c.service == service).order_by(_SIGNAL.c.id)
        with self._connection() as connection:
            return tuple(_facts(row) for row in connection.execute(found))

    def signal_values(self, signal_id: int, after_revision: int = -1) -> Sequence[tuple[float, float]]:
        """(time, value) written after a revision of the signal, by time."""
        found = select(_VALUE.c.at, _VALUE.c.value).where(
            _VALUE.c.signal_id == signal_id, _VALUE.c.revision > after_revision
        )
        with self._connection() as connection:
            return [(seconds(at), value) for at, value in connection.execute(found.order_by(_VALUE.c.at))]


def _facts(row: object) -> SignalFacts:
    return SignalFacts(*(getattr(row, name) for name in SignalFacts.__slots__))
