"""Plans, written with their actions before anything is done."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func
from sqlmodel import col, select

from controller.core.types import Plan
from controller.store.actions import Actions
from controller.store.convert import moment, plain
from models.enums import ActionKind, LedgerKind, Mode
from models.ledger import LedgerEntry
from models.plans import PlanRow


@dataclass(slots=True)
class _Held:
    """The last plan row of a service, as far as it decides whether the next plan says anything new."""

    id: str
    desired: int
    shed: tuple[str, ...]
    what: tuple[Any, ...]


class Plans(Actions):
    """Every decision; one that only repeats the last extends it."""

    _last: dict[str, _Held] | None = None
    _number: int | None = None

    def next_plan_id(self) -> str:
        """The id for the next plan: "p-000042". It is taken once a plan with it is recorded as a row."""
        with self._lock:
            return f"p-{self._last_number() + 1:06d}"

    def record_plan(
        self,
        plan: Plan,
        *,
        ready: int,
        coming: int,
        prices: Mapping[str, float | None],
        envelope_version: int,
        now_s: float,
        mode: Mode = Mode.ACT,
        would_change: Mapping[str, int] | None = None,
    ) -> str:
        """Writes a plan, its actions as REQUESTED and its ledger entry in one transaction, before any effect.

        A plan without actions that decides what the last one decided (desired replicas and their offers, the limit that
        bound, envelope version, tiers shed) adds no row: it extends the last one's `held_until`. Returns the id of the
        row that holds the plan. `prices`: the snapshot it saw, dollars per replica-hour; unknown ones are left out.
        `would_change`: what it would start (above 0) or release, by offer, where the mode lets nothing be done.
        """
        what = (
            plan.desired,
            plan.bound.limit.value,
            _some(plan.desired_by_offer),
            envelope_version,
            tuple(plan.shed),
            mode.value,
            _some(would_change or {}),
            None if plan.would_by_offer is None else _some(plan.would_by_offer),
        )
        with self._write():
            last = self._held(plan.service)
            if last is not None and not plan.actions and last.what == what:
                self._pending.change(PlanRow, (last.id,), {"held_until": moment(now_s)})
                return last.id
            row = self._plan_row(plan, ready, coming, prices, envelope_version, now_s)
            row |= {
                "mode": mode.value,
                "would_change": None if would_change is None else _some(would_change),
                "would_by_offer": None if plan.would_by_offer is None else _some(plan.would_by_offer),
            }
            self._pending.add(PlanRow, row)
            for action in plan.actions:
                self.request_action(action, now_s, plan_id=plan.id)
            self._number = max(self._last_number(), _number_of(plan.id))
            self._held_by(plan.service, _Held(plan.id, plan.desired, tuple(plan.shed), what))
            self.enter(
                LedgerKind.DECISION,
                now_s=now_s,
                actor=plan.policy,
                service=plan.service,
                subject=plan.id,
                what=describe_plan(plan, None if last is None else last.desired)
                if mode is Mode.ACT
                else describe_would(plan, mode, ready + coming, would_change or {}),
                why=plan.bound.text,
                numbers={
                    "required": plan.required,
                    "stabilized": plan.stabilized,
                    "desired": plan.desired,
                    "ready": ready,
                    "coming": coming,
                    "limit": plan.bound.limit.value,
                    **plan.bound.numbers,
                },
                plan_id=plan.id,
            )
            return plan.id

    def _plan_row(
        self, plan: Plan, ready: int, coming: int, prices: Mapping[str, float | None], version: int, now_s: float
    ) -> dict[str, Any]:
        return {
            "id": plan.id,
            "service": plan.service,
            "made_at": moment(plan.made_s),
            "held_until": moment(now_s),
            "epoch": self._epoch(),
            "policy": plan.policy,
            "envelope_version": version,
            "required": plan.required,
            "stabilized": plan.stabilized,
            "desired": plan.desired,
            "observed_ready": ready,
            "observed_coming": coming,
            "desired_by_offer": plain(plan.desired_by_offer),
            "bound_limit": plan.bound.limit.value,
            "bound_text": plan.bound.text,
            "reasons": [
                {"limit": each.limit.value, "text": each.text, "numbers": plain(each.numbers)} for each in plan.reasons
            ],
            "options": plain(plan.options),
            "numbers": plain(plan.numbers),
            "prices": {offer: price for offer, price in plain(prices).items() if price is not None},
            "shed": list(plan.shed),
            "action_count": len(plan.actions),
        }

    def in_force(self, service: str) -> tuple[str, ...]:
        """The steps of giving way that the last plan has in force; none before the first plan."""
        last = self._held(service)
        return () if last is None else last.shed

    def _last_number(self) -> int:
        if self._number is None:
            with self._read() as session:
                # The ledger outlives a demo's plans: a number that it names is not given twice.
                newest = (session.exec(_newest(ids)).first() for ids in (col(PlanRow.id), col(LedgerEntry.plan_id)))
                self._number = max(_number_of(plan_id or "") for plan_id in newest)
        return self._number

    def _held_by(self, service: str, held: _Held) -> None:
        self._last = {**(self._last or {}), service: held}

    def _held(self, service: str) -> _Held | None:
        if service not in (self._last or {}):
            newest = select(PlanRow).where(PlanRow.service == service)
            with self._read() as session:
                newest = newest.order_by(func.length(PlanRow.id).desc(), col(PlanRow.id).desc())
                row = session.exec(newest.limit(1)).first()
            if row is None:
                return None
            what = (
                row.desired,
                row.bound_limit,
                _some(row.desired_by_offer),
                row.envelope_version,
                tuple(row.shed),
                row.mode,
                _some(row.would_change or {}),
                None if row.would_by_offer is None else _some(row.would_by_offer),
            )
            self._held_by(service, _Held(row.id, row.desired, tuple(row.shed), what))
        return (self._last or {})[service]

    def _forget(self) -> None:
        self._last = self._number = None
        super()._forget()


def _newest(ids: Any) -> Any:
    """Ids are compared by length first: p-1000000 comes after p-999999."""
    return select(ids).where(ids.is_not(None)).order_by(func.length(ids).desc(), ids.desc()).limit(1)


def _some(counts: Mapping[str, int]) -> dict[str, int]:
    return {offer: count for offer, count in counts.items() if count}


def _number_of(plan_id: str) -> int:
    digits = plan_id.rpartition("-")[2]
    return int(digits) if digits.isdigit() else 0


def describe_plan(plan: Plan, before: int | None) -> str:
    """The decision in one line: "12 → 14 replicas: start 2 on g5.xlarge/usw2-az1/spot"."""
    counts = Counter((action.kind, action.offer_id or action.job_id or "") for action in plan.actions)
    verbs = {ActionKind.START_REPLICA: "start", ActionKind.RELEASE_REPLICA: "release"}
    acts = [
        f"{verbs.get(kind, kind.value.replace('_', ' '))} {count}{f' on {about}' if about else ''}"
        for (kind, about), count in counts.items()
    ]
    noun = "replica" if plan.desired == 1 else "replicas"
    change = before is not None and before != plan.desired
    head = f"{before} → {plan.desired} {noun}" if change else f"Keep {plan.desired} {noun}"
    return head + (f": {', '.join(acts)}" if acts else "")


def describe_would(plan: Plan, mode: Mode, there: int, change: Mapping[str, int]) -> str:
    """A decision that nothing follows from, in one line. Below advise it is a note, not advice."""
    noun = "replica" if plan.desired == 1 else "replicas"
    if mode is not Mode.ADVISE:
        return f"Noted: {plan.desired} {noun} wanted, {there} there"
    acts = [f"start {count} on {offer}" for offer, count in change.items() if count > 0]
    acts += [f"release {-count} on {offer}" for offer, count in change.items() if count < 0]
    if not acts:
        return f"Would keep {plan.desired} {noun}"
    return f"Would go {there} → {plan.desired} {noun}: would {', '.join(acts)}"
