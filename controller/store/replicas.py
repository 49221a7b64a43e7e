"""Replicas as observed, and what the cluster took back."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlmodel import col, select

from controller.backends.base import Notice
from controller.core.types import Replica
from controller.store.convert import finite, floored, moment, moment_or_none, seconds, seconds_or_none
from controller.store.ledger import Ledger
from controller.store.pools import market_of
from models.enums import LedgerKind, Market, ReplicaState
from models.fleet import ReplicaRow


class Replicas(Ledger):
    """Only what changed is written: an image in memory knows what the tables hold."""

    _replicas: dict[str, tuple[Replica, float | None]] | None = None
    _busy_s: float | None = None

    def record_replicas(
        self,
        replicas: Sequence[Replica],
        gone: Sequence[Replica],
        prices: Mapping[str, float | None],
        now_s: float,
    ) -> int:
        """Upserts the replicas that changed and returns how many. `replicas` is all there is, of every service.

        `gone` ended since the last call: at their `gone_s` where a notice gave one, else now. One that is neither in
        `replicas` nor in `gone` ended unseen, while no controller looked. The price is that of the first sight; an
        ended replica's cost is price × (end − request), None where the price is unknown. Whether a replica is busy
        changes all the time: that alone is written once a minute.
        """
        with self._lock:
            image = self._image()
            rows: list[dict[str, Any]] = []
            minute_s = floored(now_s, 60.0)
            with_busy, self._busy_s = minute_s != self._busy_s, minute_s
            for replica in replicas:
                known = image.get(replica.id)
                if known is not None and (known[0] is replica or not _differs(known[0], replica, with_busy)):
                    continue
                price = known[1] if known is not None else finite(prices.get(replica.offer_id))
                image[replica.id] = (replica, price)
                rows.append(_replica_row(replica, price, None))
            present = {replica.id for replica in replicas}
            ended = {replica.id: replica for replica in gone if replica.id not in present}
            for replica_id in image.keys() - present - ended.keys():
                unseen = image[replica_id][0]
                left = unseen.state is ReplicaState.DRAINING and unseen.gone_s is None
                ended[replica_id] = replace(
                    unseen, state=ReplicaState.RELEASED if left else ReplicaState.LOST, busy=False
                )
            for replica in ended.values():
                known = image.pop(replica.id, None)
                price = known[1] if known is not None else finite(prices.get(replica.offer_id))
                end_s = now_s if replica.gone_s is None else min(replica.gone_s, now_s)
                rows.append(_replica_row(replica, price, end_s))
            if rows:
                with self._write():
                    for row in rows:
                        self._pending.put(ReplicaRow, row)
            return len(rows)

    def record_notices(self, notices: Sequence[Notice], now_s: float) -> None:
        """Ledger entries for what the cluster did by itself, one for each offer and kind.

        Preemption of a request by a higher tier is scheduling, not an interruption, and stays out of the ledger.
        """
        counts: Counter[tuple[str, str, str]] = Counter(
            (notice.service, notice.offer_id, notice.kind) for notice in notices if notice.kind != "preempted"
        )
        if not counts:
            return
        with self._write():
            for (service, offer_id, kind), count in sorted(counts.items()):
                if kind == "interrupted" and (service, offer_id, "lost") in counts:
                    continue
                interrupted = counts[service, offer_id, "interrupted"] if kind in ("lost", "interrupted") else 0
                details = sorted(
                    {each.detail for each in notices if each.offer_id == offer_id and each.kind == kind} - {""}
                )
                self.enter(
                    LedgerKind.INTERRUPTION,
                    now_s=now_s,
                    actor="cluster",
                    service=service,
                    subject=offer_id,
                    what=_told(kind, offer_id, count, interrupted),
                    why="; ".join(details[:3]),
                    numbers={"replicas": count, "requests_interrupted": interrupted},
                )

    def _image(self) -> dict[str, tuple[Replica, float | None]]:
        if self._replicas is None:
            living = select(ReplicaRow).where(col(ReplicaRow.ended_at).is_(None))
            with self._read() as session:
                self._replicas = {
                    row.id: (_replica_of(row), row.price_usd_per_hour) for row in session.exec(living).all()
                }
        return self._replicas

    def _forget(self) -> None:
        self._replicas = self._busy_s = None
        super()._forget()


def _told(kind: str, offer_id: str, count: int, interrupted: int) -> str:
    parts = offer_id.split("/")
    market = {Market.ON_DEMAND.value: "On-demand"}.get(market_of(offer_id), market_of(offer_id).capitalize())
    where = f"{market} zone {parts[1]}" if len(parts) == 3 else offer_id
    noun = "replica" if count == 1 else "replicas"
    after = f"; {interrupted} running {'request starts' if interrupted == 1 else 'requests start'} again"
    if kind == "lost":
        return f"{where} took back {count} {noun}{after if interrupted else ''}"
    if kind == "notice":
        return f"{where} gave notice for {count} {noun}"
    return f"{where} interrupted {count} running {'request' if count == 1 else 'requests'}"


def _differs(known: Replica, seen: Replica, with_busy: bool) -> bool:
    """Whether a column changed. Which tier runs on a replica is not kept."""
    return (
        known.state is not seen.state
        or known.ready_s != seen.ready_s
        or known.gone_s != seen.gone_s
        or (with_busy and known.busy != seen.busy)
    )


def _replica_row(replica: Replica, price: float | None, end_s: float | None) -> dict[str, Any]:
    cost = None if price is None or end_s is None else price * max(0.0, end_s - replica.requested_s) / 3600
    return {
        "id": replica.id,
        "service": replica.service,
        "offer_id": replica.offer_id,
        "market": market_of(replica.offer_id),
        "state": replica.state.value,
        "requested_at": moment(replica.requested_s),
        "ready_at": moment_or_none(replica.ready_s),
        "gone_at": moment_or_none(replica.gone_s),
        "ended_at": moment_or_none(end_s),
        "busy": replica.busy,
        "price_usd_per_hour": price,
        "cost_usd": cost,
    }


def _replica_of(row: ReplicaRow) -> Replica:
    return Replica(
        id=row.id,
        service=row.service,
        offer_id=row.offer_id,
        state=ReplicaState(row.state),
        requested_s=seconds(row.requested_at),
        ready_s=seconds_or_none(row.ready_at),
        gone_s=seconds_or_none(row.gone_at),
        busy=row.busy,
    )
