"""Envelope versions, the service and its tiers, and what a database holds on its first day."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sqlmodel import col, select

from controller.core.degradation import order_of
from controller.core.envelope import parse_envelope, to_document
from controller.core.types import Envelope
from controller.store.convert import moment
from controller.store.guardrails import Guardrails
from controller.store.ledger import CONTROLLER
from models.enums import LedgerKind, Mode
from models.services import EnvelopeVersion, Service, Tier


class Envelopes(Guardrails):
    """An envelope is never edited: the greatest version of a service rules."""

    _ruling: dict[str, Envelope] | None = None
    _modes: dict[str, Mode] | None = None

    def envelope(self, service: str) -> Envelope | None:
        """The version that rules, or None before the first."""
        with self._lock:
            ruling = self._ruling = self._ruling or {}
            if service not in ruling:
                with self._read() as session:
                    newest = self._newest(service).limit(1)
                    row = session.exec(newest).first()
                if row is None:
                    return None
                ruling[service] = parse_envelope(row.document, service, row.version)
            return ruling[service]

    def envelope_history(self, service: str) -> tuple[EnvelopeVersion, ...]:
        """Every version, newest first."""
        with self._read() as session:
            return tuple(session.exec(self._newest(service)).all())

    @staticmethod
    def _newest(service: str) -> Any:
        return (
            select(EnvelopeVersion)
            .where(EnvelopeVersion.service == service)
            .order_by(col(EnvelopeVersion.version).desc())
        )

    def add_envelope(
        self,
        service: str,
        document: Mapping[str, Any],
        author: str,
        reason: str,
        now_s: float,
        intent_id: int | None = None,
        *,
        note: str = "",
        numbers: Mapping[str, Any] = MappingProxyType({}),
    ) -> int:
        """Makes `document` the next version, in its full form, with its ledger entry. Returns its number.

        `note` and `numbers` are added to the entry: what was signed, and how probable it was that all terms hold.

        Raises EnvelopeError.
        """
        with self._write() as session:
            before = self.envelope(service)
            version = (before.version if before else 0) + 1
            envelope = parse_envelope(document, service, version)
            session.add(
                EnvelopeVersion(
                    service=service,
                    version=version,
                    document=to_document(envelope, service),
                    spend_cap_usd_per_hour=envelope.spend_cap_usd_per_hour,
                    author=author,
                    reason=reason,
                    created_at=moment(now_s),
                    intent_id=intent_id,
                )
            )
            session.flush()
            self._ruling = {**(self._ruling or {}), service: envelope}
            for tier in envelope.tiers:
                self._put_tier(service, tier.name, tier.priority, tier.tenants_percent)
            self.enter(
                LedgerKind.ENVELOPE,
                now_s=now_s,
                actor=author,
                service=service,
                subject=f"v{version}",
                what=describe_change(before, envelope) + (f"; {note}" if note else ""),
                why=reason,
                numbers={
                    "version": version,
                    "spend_cap_usd_per_hour": envelope.spend_cap_usd_per_hour,
                    "spend_cap_before": before.spend_cap_usd_per_hour if before else None,
                    **{f"{tier.name}_target_ms": tier.target_ms for tier in envelope.tiers},
                    **numbers,
                },
                intent_id=intent_id,
            )
            return version

    def seed(
        self,
        service: str,
        document: Mapping[str, Any],
        *,
        now_s: float,
        author: str = CONTROLLER,
        reason: str = "the first start: the envelope that comes with Heddle",
        mode: Mode = Mode.ACT,
    ) -> bool:
        """What a new database needs: service, tiers, envelope v1, guardrail rules. True when v1 was written now.

        Whatever exists already is left as it is, so every start may call this. Raises EnvelopeError for `document`.
        """
        parse_envelope(document, service)
        with self._write() as session:
            if session.exec(select(Service.id).where(Service.name == service)).first() is None:
                session.add(Service(name=service, mode=mode.value, created_at=moment(now_s)))
                session.flush()
            self._seed_rules(now_s)
            if self.envelope(service) is not None:
                return False
            self.add_envelope(service, document, author, reason, now_s)
            return True

    def mode(self, service: str) -> Mode:
        """How far Heddle may go for a service, by its operators; ACT where nothing is said of it."""
        with self._lock:
            modes = self._modes = self._modes or {}
            if service not in modes:
                with self._read() as session:
                    found = session.exec(select(Service.mode).where(Service.name == service)).first()
                modes[service] = Mode(found) if found else Mode.ACT
            return modes[service]

    def set_mode(
        self, service: str, mode: Mode, *, author: str, reason: str, now_s: float, intent_id: int | None = None
    ) -> None:
        """From now on, with its ledger entry. LookupError for a service that isn't there."""
        with self._write() as session:
            row = session.exec(select(Service).where(Service.name == service)).first()
            if row is None:
                raise LookupError(f"there is no service {service!r}")
            before = Mode(row.mode)
            row.mode, row.mode_author, row.mode_reason, row.mode_at = mode.value, author, reason, moment(now_s)
            session.add(row)
            session.flush()
            self._modes = {**(self._modes or {}), service: mode}
            self.enter(
                LedgerKind.MODE,
                now_s=now_s,
                actor=author,
                service=service,
                subject=service,
                what=f"Mode {before.value} → {mode.value}",
                why=reason,
                intent_id=intent_id,
            )

    def tiers(self, service: str) -> tuple[str, ...]:
        """The names of the service's tiers, served first first."""
        with self._read() as session:
            return tuple(
                session.exec(select(Tier.name).where(Tier.service == service).order_by(col(Tier.priority))).all()
            )

    def _put_tier(self, service: str, name: str, priority: int, percent: float) -> None:
        row = {"service": service, "name": name, "priority": priority, "tenants_percent": percent}
        self._pending.put(Tier, row)

    def _forget(self) -> None:
        self._ruling = self._modes = None
        super()._forget()


def _money(cap: float | None) -> str:
    return "no cap" if cap is None else f"${cap:,.2f}/h"


def describe_change(before: Envelope | None, after: Envelope) -> str:
    """What a new version changes, in one line: "Envelope v15: spend cap $50.00/h → $40.00/h"."""
    head = f"Envelope v{after.version}"
    if before is None:
        return (
            f"{head}: spend cap {_money(after.spend_cap_usd_per_hour)}, tiers {', '.join(t.name for t in after.tiers)}"
        )
    changes: list[str] = []
    if before.spend_cap_usd_per_hour != after.spend_cap_usd_per_hour:
        changes.append(f"spend cap {_money(before.spend_cap_usd_per_hour)} → {_money(after.spend_cap_usd_per_hour)}")
    former = {tier.name: tier for tier in before.tiers}
    for tier in after.tiers:
        was = former.pop(tier.name, None)
        if was is None:
            changes.append(f"tier {tier.name} added")
            continue
        if (was.statistic, was.of, was.target_ms, was.window_s) != (
            tier.statistic,
            tier.of,
            tier.target_ms,
            tier.window_s,
        ):
            changes.append(
                f"{tier.name} {was.statistic} {was.of.value} {was.target_ms:,.0f} ms → "
                f"{tier.statistic} {tier.of.value} {tier.target_ms:,.0f} ms"
            )
        if was.tenants_percent != tier.tenants_percent:
            changes.append(f"{tier.name} {was.tenants_percent:g}% → {tier.tenants_percent:g}% of tenants")
    changes.extend(f"tier {name} removed" for name in former)
    for word, old, new in (("floor", before.floor, after.floor), ("ceiling", before.ceiling, after.ceiling)):
        if old != new:
            changes.append(f"{word} {'none' if old is None else old} → {'none' if new is None else new}")
    old_steps, new_steps = ([step.name for step in order_of(each)] for each in (before, after))
    if old_steps != new_steps or before.variants != after.variants:
        changes.append(f"gives way: {', '.join(new_steps)}")
    return f"{head}: {'; '.join(changes) or 'nothing changed'}"
