"""The ledger's entries, failures and settlements among them."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func
from sqlmodel import select

from controller.store.convert import finite, moment, plain, seconds
from controller.store.transactions import Transactions
from models.enums import LedgerKind
from models.ledger import LedgerEntry, Settlement

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

    def settle_hour(
        self,
        service: str,
        hour_s: float,
        *,
        usd: float,
        cap_usd: float | None,
        requests: int,
        tiers: Mapping[str, Any],
        text: str,
        now_s: float,
    ) -> bool:
        """Closes a service's clock hour, once: False when it was settled before. Without a cap `within_cap` is None."""
        with self._write() as session:
            hour = moment(hour_s)
            known = select(Settlement.id).where(Settlement.service == service, Settlement.hour == hour)
            if session.exec(known).first() is not None:
                return False
            within = None if cap_usd is None else usd <= cap_usd + 1e-9
            session.add(
                Settlement(
                    service=service,
                    hour=hour,
                    usd=usd,
                    cap_usd=cap_usd,
                    within_cap=within,
                    requests=requests,
                    tiers=plain(tiers),
                    text=text,
                )
            )
            session.flush()
            self.enter(
                LedgerKind.SETTLEMENT,
                now_s=now_s,
                service=service,
                subject=f"{hour:%Y-%m-%d %H}:00 UTC",
                what=text,
                numbers={"usd": finite(usd), "cap_usd": cap_usd, "requests": requests},
            )
            return True

    def settled_until(self, service: str) -> float | None:
        """The end of the newest settled hour of a service, so that a restart settles what is due and nothing twice."""
        newest = select(func.max(Settlement.hour)).where(Settlement.service == service)
        with self._read() as session:
            hour = session.exec(newest).first()
        return None if hour is None else seconds(hour) + 3600.0
