"""Events that operators enter: campaigns, holidays, launches. They are cancelled, never deleted."""

from sqlmodel import col, select

from controller.core.forecast.events import Event
from controller.store.convert import moment, seconds
from controller.store.ledger import Ledger
from models.enums import LedgerKind
from models.signals import EventRow


class Events(Ledger):
    """Only the controller writes events, so what it read once stays true until it writes."""

    _events: dict[str, tuple[Event, ...]] | None = None

    def add_event(
        self,
        service: str,
        event: Event,
        *,
        author: str,
        reason: str,
        now_s: float,
        intent_id: int | None = None,
    ) -> int:
        """Enters an event and returns its number."""
        with self._write() as session:
            row = EventRow(
                service=service,
                name=event.name,
                kind=event.kind,
                starts_at=moment(event.start_s),
                ends_at=moment(event.end_s),
                factor=event.factor,
                author=author,
                reason=reason,
                created_at=moment(now_s),
                intent_id=intent_id,
            )
            session.add(row)
            session.flush()
            assert row.id is not None
            self._events = None
            self._enter(row, f"{describe(row)} entered", author, reason, now_s, intent_id)
            return row.id

    def cancel_event(
        self, event_id: int, *, author: str, reason: str, now_s: float, intent_id: int | None = None
    ) -> None:
        """An event counts no longer, neither ahead nor in what is learned from the past."""
        with self._write() as session:
            row = session.get(EventRow, event_id)
            if row is None or row.cancelled_at is not None:
                return
            row.cancelled_at, row.cancelled_why = moment(now_s), reason
            session.add(row)
            session.flush()
            self._events = None
            self._enter(row, f"{describe(row)} cancelled", author, reason, now_s, intent_id)

    def event(self, event_id: int) -> EventRow | None:
        """An event's row, cancelled or not."""
        with self._read() as session:
            return session.get(EventRow, event_id)

    def events(self, service: str) -> tuple[Event, ...]:
        """Those of a service that are not cancelled, past and ahead, by their beginning."""
        with self._lock:
            known = self._events = self._events or {}
            if service not in known:
                standing = select(EventRow).where(EventRow.service == service, col(EventRow.cancelled_at).is_(None))
                with self._read() as session:
                    rows = session.exec(standing.order_by(col(EventRow.starts_at), col(EventRow.id))).all()
                known[service] = tuple(
                    Event(row.name, row.kind, seconds(row.starts_at), seconds(row.ends_at), row.factor) for row in rows
                )
            return known[service]

    def _enter(self, row: EventRow, what: str, author: str, reason: str, now_s: float, intent_id: int | None) -> None:
        self.enter(
            LedgerKind.FORECAST,
            now_s=now_s,
            actor=author,
            service=row.service,
            subject=f"event {row.id}",
            what=what,
            why=reason,
            numbers={"factor": row.factor, "hours": (seconds(row.ends_at) - seconds(row.starts_at)) / 3600.0},
            intent_id=intent_id,
        )

    def _forget(self) -> None:
        self._events = None
        super()._forget()


def describe(row: EventRow) -> str:
    """The event in words: "Event Black Friday (campaign, x2.5), 2024-11-29 00:00 to 2024-11-30 00:00 UTC,"."""
    size = "unknown size" if row.factor is None else f"x{row.factor:g}"
    span = f"{moment(seconds(row.starts_at)):%Y-%m-%d %H:%M} to {moment(seconds(row.ends_at)):%Y-%m-%d %H:%M} UTC"
    return f"Event {row.name} ({row.kind}, {size}), {span},"
