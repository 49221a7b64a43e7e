"""The ledger's entries, failures among them."""

from collections.abc import Mapping
from typing import Any

from controller.store.convert import moment, plain
from controller.store.transactions import Transactions
from models.enums import LedgerKind
from models.ledger import LedgerEntry

CONTROLLER = "heddle"
_REPEAT_S = 600.0


class Ledger(Transactions):
    """Who or what did which thing, when, why, with numbers."""

    _failures: dict[tuple[str, str], tuple[float, int]] | None = None

    def enter(
        self,
        kind: LedgerKind,
        *,
        now_s: float,
        subject: str,
        what: str,
        actor: str = CONTROLLER,
        service: str = "",
        why: str = "",
        numbers: Mapping[str, Any] | None = None,
        plan_id: str | None = None,
        intent_id: int | None = None,
    ) -> None:
        """Writes one entry. It is never edited afterwards."""
        row = {
            "at": moment(now_s),
            "kind": kind.value,
            "service": service,
            "actor": actor,
            "subject": subject,
            "what": what,
            "why": why,
            "numbers": plain(numbers or {}),
            "plan_id": plan_id,
            "intent_id": intent_id,
            "epoch": self._epoch(),
        }
        with self._write():
            self._pending.add(LedgerEntry, row)

    def failure(self, what: str, error: BaseException | str, now_s: float) -> bool:
        """A FAILURE entry: `what` failed with `error`. False when the same failure was entered in the last 10 minutes.

        A fault that lasts would otherwise bury the ledger; the next entry says how often it came in between.
        """
        text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        known = self._failures = self._failures or {}
        since_s, repeats = known.get((what, text), (None, 0))
        if since_s is not None and 0 <= now_s - since_s < _REPEAT_S:
            known[what, text] = (since_s, repeats + 1)
            return False
        with self._write():
            self.enter(
                LedgerKind.FAILURE,
                now_s=now_s,
                subject=what,
                what=f"{what} failed",
                why=text[:2000],
                numbers={"repeats": repeats} if repeats else None,
            )
        self._failures = {key: kept for key, kept in known.items() if now_s - kept[0] < 6 * _REPEAT_S}
        self._failures[what, text] = (now_s, 0)
        return True
