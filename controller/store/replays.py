"""What-if runs: asked for, begun, and ended once."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import update
from sqlmodel import col, select

from controller.core.what_if import WhatIf, what_if_of
from controller.store.convert import moment, plain
from controller.store.ledger import CONTROLLER, Ledger
from models.enums import LedgerKind, ReplayStatus
from models.replays import ReplayRun

OPEN = (ReplayStatus.PENDING.value, ReplayStatus.RUNNING.value)
MOST_ATTEMPTS = 2


class Replays(Ledger):
    """A run that has ended stays as it ended: each change names the status that it changes."""

    def add_replay(
        self,
        service: str,
        what_if: WhatIf,
        *,
        baseline: bool,
        author: str,
        reason: str,
        now_s: float,
        intent_id: int | None = None,
    ) -> int:
        """Asks for a run and returns its number."""
        with self._write() as session:
            row = ReplayRun(
                service=service,
                spec=what_if.document(),
                baseline=baseline,
                author=author,
                reason=reason,
                intent_id=intent_id,
                asked_at=moment(now_s),
            )
            session.add(row)
            session.flush()
            assert row.id is not None
            self._tell_replay(row, "asked for", what_if.told(), now_s, author=author, intent_id=intent_id)
            return row.id

    def replay(self, replay_id: int) -> ReplayRun | None:
        """A run's row, detached."""
        with self._read() as session:
            return session.get(ReplayRun, replay_id)

    def open_replays(self) -> tuple[ReplayRun, ...]:
        """Those that wait or run, oldest first."""
        with self._read() as session:
            found = select(ReplayRun).where(col(ReplayRun.status).in_(OPEN)).order_by(col(ReplayRun.id))
            return tuple(session.exec(found).all())

    def same_replays(self, service: str, what_if: WhatIf, statuses: Sequence[ReplayStatus]) -> tuple[int, ...]:
        """The numbers of a service's runs that are equal and of one of these statuses, oldest first."""
        words = [status.value for status in statuses]
        with self._read() as session:
            found = session.exec(
                select(ReplayRun.id, ReplayRun.spec)
                .where(ReplayRun.service == service, col(ReplayRun.status).in_(words))
                .order_by(col(ReplayRun.id))
            ).all()
        return tuple(number for number, spec in found if number is not None and what_if_of(spec) == what_if)

    def begin_replay(self, replay_id: int, wall_s: float) -> bool:
        """A run that waits begins. False when it does not wait any more."""
        return self._amend(
            replay_id,
            (ReplayStatus.PENDING,),
            status=ReplayStatus.RUNNING.value,
            status_reason="",
            started_at=moment(wall_s),
            progress_ratio=0.0,
            attempts=ReplayRun.attempts + 1,
        )

    def note_progress(self, ratios: Mapping[int, float]) -> None:
        """How far runs are, 0 to 1, in one transaction; one that does not run any more keeps what it has."""
        if not ratios:
            return
        with self._write():
            for replay_id, ratio in ratios.items():
                self._amend(replay_id, (ReplayStatus.RUNNING,), progress_ratio=ratio)

    def finish_replay(
        self,
        replay_id: int,
        summary: Mapping[str, Any],
        hourly_usd: Sequence[float],
        *,
        cpu_s: float,
        wall_s: float,
        now_s: float,
    ) -> bool:
        """Keeps what a run came to. False when it does not run any more."""
        with self._write():
            done = self._amend(
                replay_id,
                (ReplayStatus.RUNNING,),
                status=ReplayStatus.DONE.value,
                progress_ratio=1.0,
                finished_at=moment(wall_s),
                cpu_s=cpu_s,
                summary=plain(summary),
                hourly_usd=plain(list(hourly_usd)),
            )
            if done:
                row = self._replay_row(replay_id)
                numbers = {name: summary.get(name) for name in ("cost_usd", "costliest_hour_usd", "cpu_s")}
                what = f"finished: ${summary['cost_usd']:,.2f}, costliest hour ${summary['costliest_hour_usd']:,.2f}"
                self._tell_replay(row, what, what_if_of(row.spec).told(), now_s, numbers=numbers | {"cpu_s": cpu_s})
            return done

    def end_replay(
        self,
        replay_id: int,
        status: ReplayStatus,
        why: str,
        *,
        wall_s: float,
        now_s: float,
        author: str = CONTROLLER,
        intent_id: int | None = None,
    ) -> bool:
        """Ends a run that waits or runs as failed or cancelled, with the reason. False when it has ended already."""
        with self._write():
            open_ = (ReplayStatus.PENDING, ReplayStatus.RUNNING)
            done = self._amend(replay_id, open_, status=status.value, status_reason=why, finished_at=moment(wall_s))
            if done:
                self._tell_replay(
                    self._replay_row(replay_id), status.value, why, now_s, author=author, intent_id=intent_id
                )
            return done

    def take_up_replays(self, wall_s: float, now_s: float) -> None:
        """After a start: what ran when the last controller ended waits again, once; after that it has failed."""
        with self._write():
            for row in self.open_replays():
                if row.status != ReplayStatus.RUNNING.value or row.id is None:
                    continue
                if row.attempts >= MOST_ATTEMPTS:
                    why = f"the controller ended during each of its {row.attempts} attempts"
                    self.end_replay(row.id, ReplayStatus.FAILED, why, wall_s=wall_s, now_s=now_s)
                    continue
                why = "interrupted when the controller ended; it runs again from the start"
                waits = ReplayStatus.PENDING.value
                self._amend(row.id, (ReplayStatus.RUNNING,), status=waits, status_reason=why, progress_ratio=0.0)
                self._tell_replay(row, "interrupted", why, now_s)

    def _amend(self, replay_id: int, of: Sequence[ReplayStatus], **values: Any) -> bool:
        here = (col(ReplayRun.id) == replay_id, col(ReplayRun.status).in_([status.value for status in of]))
        with self._write() as session:
            return session.connection().execute(update(ReplayRun).where(*here).values(**values)).rowcount == 1

    def _replay_row(self, replay_id: int) -> ReplayRun:
        with self._read() as session:
            return session.exec(
                select(ReplayRun).where(ReplayRun.id == replay_id).execution_options(populate_existing=True)
            ).one()

    def _tell_replay(
        self,
        row: ReplayRun,
        what: str,
        why: str,
        now_s: float,
        *,
        author: str = CONTROLLER,
        intent_id: int | None = None,
        numbers: Mapping[str, Any] | None = None,
    ) -> None:
        self.enter(
            LedgerKind.REPLAY,
            now_s=now_s,
            actor=author,
            service=row.service,
            subject=f"replay {row.id}",
            what=f"Replay {row.id} {what}",
            why=why,
            numbers=numbers,
            intent_id=intent_id if intent_id is not None else row.intent_id,
        )
