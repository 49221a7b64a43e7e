"""Operators' intents, read in their order and settled once."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import update
from sqlmodel import col, select

from controller.store.convert import moment
from controller.store.ledger import Ledger
from models.enums import IntentStatus
from models.intents import Intent


class AlreadySettled(RuntimeError):
    """The intent is no longer pending: whatever is about to be done for it must not be."""


class Intents(Ledger):
    """The dashboard and the API write intents; only the controller settles them."""

    def pending_intents(self) -> tuple[Intent, ...]:
        """Those that wait, oldest first. The rows are detached: changing one changes nothing."""
        waiting = select(Intent).where(Intent.status == IntentStatus.PENDING.value).order_by(col(Intent.id))
        with self._read() as session:
            return tuple(session.exec(waiting).all())

    def settle_intent(self, intent_id: int, status: IntentStatus, reason: str, now_s: float) -> None:
        """Sets a pending intent's status and its plain reason. AlreadySettled when it is not pending, which undoes the
        transaction around it: call it in the one that holds the intent's effect.
        """
        settled = (
            update(Intent)
            .where(col(Intent.id) == intent_id, col(Intent.status) == IntentStatus.PENDING.value)
            .values(status=status.value, status_reason=reason, settled_at=moment(now_s))
        )
        with self._write() as session:
            if session.connection().execute(settled).rowcount != 1:
                raise AlreadySettled(f"intent {intent_id} is no longer pending")

    def shorten_intent(self, intent_id: int, payload: Mapping[str, Any]) -> None:
        """Replaces an intent's payload by what is worth keeping of it: an upload's values have gone to their table."""
        with self._write() as session:
            session.connection().execute(
                update(Intent).where(col(Intent.id) == intent_id).values(payload=dict(payload))
            )

    def note_intent(self, intent_id: int, reason: str) -> None:
        """Says why a pending intent still waits."""
        noted = update(Intent).where(col(Intent.id) == intent_id, col(Intent.status) == IntentStatus.PENDING.value)
        with self._write() as session:
            session.connection().execute(noted.values(status_reason=reason))
