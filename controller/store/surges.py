"""Surges ahead and what became of them, and the last look for them."""

from collections.abc import Sequence

from sqlalchemy import delete

from controller.core.surge_verdicts import outcome
from controller.core.surges import SurgesAhead
from controller.core.types import Surge
from controller.store.convert import finite, moment, moment_or_none, plain
from controller.store.ledger import Ledger
from controller.store.pending import Row, table_of
from models.enums import LedgerKind, SurgeStatus
from models.surges import SurgeLook, SurgeRow


class Surges(Ledger):
    """One row a surge, by its start. What is only ahead is written anew at each look; what was prepared for stays."""

    _told: dict[tuple[str, float], SurgeStatus] | None = None

    def record_surges(self, service: str, look: SurgesAhead | None, tracked: Sequence[Surge], now_s: float) -> None:
        """Writes a look ahead (None: none is due) and the surges that the plan follows, with a ledger entry for each
        that begins to be prepared for or whose outcome is known.
        """
        told = self._told = self._told if self._told is not None else {}
        news = [surge for surge in tracked if told.get((service, surge.start_s)) is not surge.status]
        if look is None and not news:
            return
        with self._write() as session:
            if look is not None:
                self._pending.flush(session.connection())
                table = table_of(SurgeRow)
                old = (table.c.service == service) & (table.c.status == SurgeStatus.AHEAD.value)
                session.connection().execute(delete(table).where(old))
                self._pending.put(SurgeLook, _look(service, look))
            for surge in (*(look.surges if look is not None else ()), *tracked):
                self._pending.put(SurgeRow, _row(surge, now_s))
            for surge in news:
                told[service, surge.start_s] = surge.status
                what, why = outcome(surge)
                self.enter(
                    LedgerKind.FORECAST, now_s=now_s, service=service, subject="surge", what=what, why=why,
                    numbers={"level": surge.level, "expected": surge.expected, "observed": surge.observed},
                )  # fmt: skip
        self._told = {key: status for key, status in told.items() if key[1] > now_s - 14 * 86400.0}

    def _forget(self) -> None:
        self._told = None
        super()._forget()


def _row(surge: Surge, now_s: float) -> Row:
    facts = surge.evidence
    return {
        "service": surge.service,
        "start_at": moment(surge.start_s),
        "end_at": moment(surge.end_s),
        "peak_at": moment(surge.peak_s),
        "provision_by": moment(surge.provision_by_s),
        "made_at": moment(now_s),
        "tiers": surge.key,
        "need_gpus": surge.need,
        "ready_gpus": surge.ready,
        "coming_gpus": surge.coming,
        "level": surge.level,
        "expected": surge.expected,
        "observed": finite(surge.observed),
        "status": surge.status.value,
        "evidence": {
            "model": facts.model,
            "step_s": facts.step_s,
            "pinball": plain(facts.pinball),
            "coverage_p90": plain(facts.coverage_p90),
            "quantiles": plain(facts.quantiles),
            "loads": plain(facts.loads),
            "yesterday": plain(facts.yesterday),
            "last_week": plain(facts.last_week),
            "events": plain(facts.events),
        },
    }


def _look(service: str, look: SurgesAhead) -> Row:
    return {
        "service": service,
        "at": moment(look.made_s),
        "until": moment_or_none(look.until_s),
        "ready_gpus": look.ready,
        "coming_gpus": look.coming,
        "highest_gpus": look.highest,
    }
