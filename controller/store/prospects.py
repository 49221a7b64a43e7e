"""What drafted envelopes are judged by: one row a service, which the page and the intake both read."""

from sqlmodel import select

from controller.core.prospect import Prospect, packed, unpacked
from controller.store.convert import moment, plain
from controller.store.ledger import Ledger
from models.prospects import ProspectRow


class Prospects(Ledger):
    """The newest prospect of each service."""

    def record_prospect(self, prospect: Prospect) -> None:
        """Written over the one before."""
        document, minutes = packed(prospect)
        with self._write():
            row = {
                "service": prospect.service,
                "at": moment(prospect.now_s),
                "document": plain(document),
                "minutes": minutes,
            }
            self._pending.put(ProspectRow, row)

    def prospect(self, service: str) -> Prospect | None:
        """As last recorded; None before the first."""
        with self._read() as session:
            row = session.exec(select(ProspectRow).where(ProspectRow.service == service)).first()
        return None if row is None else unpacked(row.document, row.minutes)
