"""Operators' hands on the fleet: pins, freezes, pauses and relaxed caps, each until its expiry."""

from sqlmodel import col, select

from controller.core.types import Override
from controller.store.convert import moment, seconds
from controller.store.ledger import CONTROLLER, Ledger
from models.enums import LedgerKind, OverrideKind
from models.intents import OverrideRow

FLEET = "*"


class Overrides(Ledger):
    """At most one override a service is in force, beside it one relaxed cap; the fleet's pause is that of "*"."""

    _open: dict[int, Override] | None = None

    def overrides(self, now_s: float) -> tuple[Override, ...]:
        """Those in force at now_s: begun, not past their end and not ended early."""
        with self._lock:
            return tuple(each for each in self._not_ended().values() if each.starts_s <= now_s < each.ends_s)

    def override(self, override_id: int) -> OverrideRow | None:
        """An override's row, ended or not."""
        with self._read() as session:
            return session.get(OverrideRow, override_id)

    def expire_overrides(self, now_s: float) -> tuple[Override, ...]:
        """Ends those whose time has come, each with its ledger entry, and returns them."""
        with self._lock:
            due = tuple(each for each in self._not_ended().values() if each.ends_s <= now_s)
            if due:
                with self._write():
                    for each in due:
                        self._end(each, each.ends_s, "ended by itself at its expiry", CONTROLLER, None, now_s)
            return due

    def add_override(
        self,
        service: str,
        kind: OverrideKind,
        *,
        replicas: int | None,
        author: str,
        reason: str,
        now_s: float,
        ends_s: float,
        signed_over_cap: bool = False,
        cap_usd_per_hour: float | None = None,
        intent_id: int | None = None,
    ) -> Override:
        """Puts an override in force from now; a former one of the same service ends, replaced."""
        relaxes = kind is OverrideKind.RELAX_CAP
        with self._write() as session:
            for former in [each for each in self._not_ended().values() if each.service == service]:
                if relaxes is not (former.kind is OverrideKind.RELAX_CAP):
                    continue
                why = f"replaced by {describe(kind, replicas)} of {author}"
                self._end(former, now_s, why, author, intent_id, now_s)
            row = OverrideRow(
                service=service,
                kind=kind.value,
                replicas=replicas,
                author=author,
                reason=reason,
                starts_at=moment(now_s),
                ends_at=moment(ends_s),
                signed_over_cap=signed_over_cap,
                cap_usd_per_hour=cap_usd_per_hour,
                intent_id=intent_id,
            )
            session.add(row)
            session.flush()
            added = _of(row)
            self._not_ended()[added.id] = added
            subject = "the fleet" if service == FLEET else service
            self.enter(
                LedgerKind.PAUSE if kind is OverrideKind.PAUSE else LedgerKind.OVERRIDE,
                now_s=now_s,
                actor=author,
                service="" if service == FLEET else service,
                subject=f"override {added.id}",
                what=f"{describe(kind, replicas).capitalize()} on {subject} until {row.ends_at:%Y-%m-%d %H:%M} UTC"
                + (", signed as exceeding the cap" if signed_over_cap else "")
                + (f": ${cap_usd_per_hour:,.2f}/h" if cap_usd_per_hour is not None else ""),
                why=reason,
                numbers={
                    "replicas": replicas,
                    "hours": round((ends_s - now_s) / 3600, 2),
                    "cap_usd_per_hour": cap_usd_per_hour,
                },
                intent_id=intent_id,
            )
            return added

    def end_override(
        self, override_id: int, *, author: str, reason: str, now_s: float, intent_id: int | None = None
    ) -> bool:
        """Ends an override before its time. False when there is none in force with that id."""
        with self._write():
            found = self._not_ended().get(override_id)
            if found is None:
                return False
            self._end(found, now_s, f"ended by {author}: {reason}", author, intent_id, now_s, reason)
            return True

    def _end(
        self,
        override: Override,
        ended_s: float,
        why: str,
        actor: str,
        intent_id: int | None,
        now_s: float,
        reason: str | None = None,
    ) -> None:
        self._pending.change(OverrideRow, (override.id,), {"ended_at": moment(ended_s), "ended_why": why})
        self._not_ended().pop(override.id, None)
        subject = "the fleet" if override.service == FLEET else override.service
        self.enter(
            LedgerKind.PAUSE if override.kind is OverrideKind.PAUSE else LedgerKind.OVERRIDE,
            now_s=now_s,
            actor=actor,
            service="" if override.service == FLEET else override.service,
            subject=f"override {override.id}",
            what=f"{describe(override.kind, override.replicas).capitalize()} on {subject} ended",
            why=why if reason is None else reason,
            numbers={"hours": round((ended_s - override.starts_s) / 3600, 2)},
            intent_id=intent_id,
        )

    def _not_ended(self) -> dict[int, Override]:
        if self._open is None:
            waiting = select(OverrideRow).where(col(OverrideRow.ended_at).is_(None)).order_by(col(OverrideRow.id))
            with self._read() as session:
                self._open = {each.id: each for each in map(_of, session.exec(waiting).all())}
        return self._open

    def _forget(self) -> None:
        self._open = None
        super()._forget()


def describe(kind: OverrideKind, replicas: int | None) -> str:
    """The override in words: "pin of 12 replicas", "freeze", "pause"."""
    if kind is OverrideKind.RELAX_CAP:
        return "relaxed cap"
    if kind is not OverrideKind.PIN:
        return kind.value
    return f"pin of {replicas} {'replica' if replicas == 1 else 'replicas'}"


def _of(row: OverrideRow) -> Override:
    assert row.id is not None
    return Override(
        id=row.id,
        service=row.service,
        kind=OverrideKind(row.kind),
        replicas=row.replicas,
        author=row.author,
        reason=row.reason,
        starts_s=seconds(row.starts_at),
        ends_s=seconds(row.ends_at),
        signed_over_cap=row.signed_over_cap,
        cap_usd_per_hour=row.cap_usd_per_hour,
    )
