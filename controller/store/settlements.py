"""Closed clock hours: what is remembered of them, and what they settled to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, or_
from sqlmodel import col, select

from controller.core.authority import SettledHour
from controller.core.settle import Accounts, Settled
from controller.core.shadow import Held
from controller.core.types import Authority, Offer, Sample
from controller.store.convert import finite, moment, plain, seconds, seconds_or_none
from controller.store.ledger import Ledger
from models.enums import LedgerKind, Mode
from models.fleet import ReplicaRow
from models.intents import OverrideRow
from models.ledger import DecisionSettlement, Settlement
from models.plans import PlanRow
from models.telemetry import DemandMinute


@dataclass(frozen=True, slots=True)
class Decided:
    """A plan as the ledger settles it: what it wanted, and whether that was carried out as the planner would have."""

    plan_id: str
    made_s: float
    by_offer: Mapping[str, int]
    carried_out: bool


@dataclass(frozen=True, slots=True)
class Closed:
    """A clock hour as it is written: measured dollars and SLO-minutes, what held, and what was settled."""

    service: str
    hour_s: float
    usd: float
    cap_usd: float | None
    requests: int
    tiers: Mapping[str, Any]
    text: str
    slo_minutes: float | None
    mode: Mode
    led: bool
    overridden: bool
    settled: Settled


class Settlements(Ledger):
    """An hour is settled once."""

    _authority: dict[str, Authority] | None = None

    def minutes(self, service: str, tier: str, from_s: float, to_s: float) -> tuple[Sample, ...]:
        """A tier's measured minutes in [from_s, to_s), oldest first."""
        rows = (
            select(DemandMinute)
            .where(DemandMinute.service == service, DemandMinute.tier == tier, DemandMinute.step_s == 60)
            .where(DemandMinute.at >= moment(from_s), DemandMinute.at < moment(to_s))
            .order_by(col(DemandMinute.at))
        )
        with self._read() as session:
            return tuple(
                Sample(
                    service,
                    tier,
                    seconds(row.at),
                    row.arrivals,
                    row.work_s,
                    row.started,
                    row.wait_mean_s,
                    row.wait_p95_s,
                    row.wait_max_s,
                )
                for row in session.exec(rows)
            )

    def held_fleet(self, service: str, from_s: float, to_s: float, offers: Mapping[str, Offer]) -> tuple[Held, ...]:
        """Replicas that were there in [from_s, to_s). One of an offer that `offers` lacks has no known price."""
        rows = (
            select(ReplicaRow)
            .where(ReplicaRow.service == service, ReplicaRow.requested_at < moment(to_s))
            .where(or_(col(ReplicaRow.ended_at).is_(None), col(ReplicaRow.ended_at) > moment(from_s)))
            .order_by(col(ReplicaRow.id))
        )
        with self._read() as session:
            found = session.exec(rows).all()
        fleet = []
        for row in found:
            offer = offers.get(row.offer_id)
            price = row.price_usd_per_hour if offer is not None else None
            fleet.append(
                Held(
                    row.offer_id,
                    float("nan") if price is None else price,
                    1.0 if offer is None else offer.speed_ratio,
                    seconds(row.requested_at),
                    seconds_or_none(row.ready_at),
                    seconds_or_none(row.ended_at),
                )
            )
        return tuple(fleet)

    def decided(self, service: str, from_s: float, to_s: float) -> tuple[Decided, ...]:
        """The plan in force at from_s and those made until to_s, oldest first."""
        of_service = select(PlanRow).where(PlanRow.service == service)
        newest = (col(PlanRow.made_at).desc(), func.length(PlanRow.id).desc(), col(PlanRow.id).desc())
        with self._read() as session:
            before = session.exec(of_service.where(PlanRow.made_at < moment(from_s)).order_by(*newest).limit(1)).all()
            within = session.exec(
                of_service.where(PlanRow.made_at >= moment(from_s), PlanRow.made_at < moment(to_s)).order_by(*newest)
            ).all()
        return tuple(
            Decided(
                row.id,
                seconds(row.made_at),
                row.desired_by_offer if row.would_by_offer is None else row.would_by_offer,
                row.mode == Mode.ACT.value and row.would_by_offer is None,
            )
            for row in (*before, *reversed(within))
        )

    def overridden(self, service: str, from_s: float, to_s: float) -> bool:
        """Whether an operator's hand was on the service, or the fleet, in [from_s, to_s)."""
        ends = func.coalesce(OverrideRow.ended_at, OverrideRow.ends_at)
        rows = select(OverrideRow.id).where(
            col(OverrideRow.service).in_((service, "*")), OverrideRow.starts_at < moment(to_s), ends > moment(from_s)
        )
        with self._read() as session:
            return session.exec(rows.limit(1)).first() is not None

    def settle_hour(self, closed: Closed, authority: Authority, now_s: float) -> bool:
        """Writes a closed hour and its decisions' parts, once: False when it was settled before."""
        service, settled = closed.service, closed.settled
        with self._write() as session:
            hour = moment(closed.hour_s)
            known = select(Settlement.id).where(Settlement.service == service, Settlement.hour == hour)
            if session.exec(known).first() is not None:
                return False
            session.add(
                Settlement(
                    service=service,
                    hour=hour,
                    usd=closed.usd,
                    cap_usd=closed.cap_usd,
                    within_cap=None if closed.cap_usd is None else closed.usd <= closed.cap_usd + 1e-9,
                    requests=closed.requests,
                    tiers=_tiers(closed),
                    text=closed.text,
                    slo_minutes=finite(closed.slo_minutes),
                    unknown_minutes=settled.unknown_minutes,
                    mode=closed.mode.value,
                    planner_led=closed.led,
                    overridden=closed.overridden,
                    authority=_document(authority),
                    notes="; ".join(settled.notes),
                    **_side_by_side(settled.accounts),
                )
            )
            for part in settled.decisions:
                row = {
                    "service": service,
                    "plan_id": part.plan_id,
                    "hour": hour,
                    "from_at": moment(part.from_s),
                    "to_at": moment(part.to_s),
                    **_side_by_side(part.accounts),
                }
                self._pending.add(DecisionSettlement, row)
            session.flush()
            self._authority = {**(self._authority or {}), service: authority}
            self.enter(
                LedgerKind.SETTLEMENT,
                now_s=now_s,
                service=service,
                subject=f"{hour:%Y-%m-%d %H}:00 UTC",
                what=closed.text,
                why="; ".join(settled.notes),
                numbers={
                    "usd": finite(closed.usd),
                    "cap_usd": closed.cap_usd,
                    "requests": closed.requests,
                    "slo_minutes": finite(closed.slo_minutes),
                    "saved_usd": settled.accounts.saved_usd,
                    "regret_usd": settled.accounts.regret_usd,
                    "unknown_minutes": settled.unknown_minutes,
                },
            )
            return True

    def settled_until(self, service: str) -> float | None:
        """The end of the newest settled hour of a service, so that a restart settles what is due and nothing twice."""
        newest = select(func.max(Settlement.hour)).where(Settlement.service == service)
        with self._read() as session:
            hour = session.exec(newest).first()
        return None if hour is None else seconds(hour) + 3600.0

    def authority(self, service: str) -> Authority:
        """Who leads, by the newest settled hour; the planner where none is."""
        with self._lock:
            known = self._authority = self._authority or {}
            if service not in known:
                newest = select(Settlement.authority).where(Settlement.service == service)
                with self._read() as session:
                    found = session.exec(newest.order_by(col(Settlement.hour).desc()).limit(1)).first()
                known[service] = Authority(**found) if found else Authority()
            return known[service]

    def set_authority(self, service: str, hour_s: float, authority: Authority) -> None:
        """What a settled hour has decided: who leads from here on."""
        with self._write() as session:
            known = select(Settlement).where(Settlement.service == service, Settlement.hour == moment(hour_s))
            row = session.exec(known).one()
            row.authority = _document(authority)
            session.add(row)
            session.flush()
            self._authority = {**(self._authority or {}), service: authority}

    def settled_hours(self, service: str, count: int) -> tuple[SettledHour, ...]:
        """The newest settled hours, oldest first."""
        rows = select(Settlement).where(Settlement.service == service).order_by(col(Settlement.hour).desc())
        with self._read() as session:
            newest = session.exec(rows.limit(count)).all()
        return tuple(
            SettledHour(
                seconds(row.hour),
                row.planner_led,
                None if row.overridden else _total(row.planned_usd, row.planned_miss_usd),
                _total(row.shadow_usd, row.shadow_miss_usd),
            )
            for row in reversed(newest)
        )

    def _forget(self) -> None:
        self._authority = None
        super()._forget()


def _side_by_side(accounts: Accounts) -> dict[str, Any]:
    fleets = {
        "fleet": accounts.fleet,
        "planned": accounts.planned,
        "shadow": accounts.shadow,
        "hindsight": accounts.hindsight,
    }
    columns: dict[str, Any] = {}
    for name, account in fleets.items():
        columns[f"{name}_usd"] = None if account is None else account.usd
        columns[f"{name}_slo_minutes"] = None if account is None else account.minutes
        columns[f"{name}_miss_usd"] = None if account is None else account.miss_usd
    return columns | {
        "saved_usd": accounts.saved_usd,
        "regret_usd": accounts.regret_usd,
        "would_save_usd": accounts.would_save_usd,
    }


def _tiers(closed: Closed) -> dict[str, Any]:
    """Each tier's outcome, with its SLO-minutes in the model's fleets beside what was measured."""
    accounts = closed.settled.accounts
    fleets = {"fleet": accounts.fleet, "shadow": accounts.shadow, "hindsight": accounts.hindsight}
    tiers = {}
    for tier, outcome in closed.tiers.items():
        modelled = {
            f"{name}_slo_minutes": None if account is None else account.slo_minutes.get(tier)
            for name, account in fleets.items()
        }
        tiers[tier] = {**outcome, **modelled}
    plain_tiers: dict[str, Any] = plain(tiers)
    return plain_tiers


def _document(authority: Authority) -> dict[str, Any]:
    return {"leads": authority.leads, "reason": authority.reason, "numbers": plain(authority.numbers)}


def _total(usd: float | None, miss_usd: float | None) -> float | None:
    return None if usd is None or miss_usd is None else usd + miss_usd
