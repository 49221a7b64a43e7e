"""Decisions, their actions, overrides: what Heddle did and why."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
from sqlmodel import col, func, select

from dashboard.queries.read import MAX_ROWS, brief, first, frame, pick, rows
from dashboard.queries.standing import read_standing
from models.enums import GuardAction, Mode
from models.fleet import ReplicaRow
from models.guardrails import GuardrailEvent
from models.intents import OverrideRow
from models.ledger import DecisionSettlement, LedgerEntry, Settlement, SideBySide
from models.plans import ActionRow, PlanRow


@brief
def read_decisions(hours: float) -> pd.DataFrame:
    """Newest first, at most 500: id, made_at, held_until, desired, before, required, ready, coming, limit, why,
    actions, mode, would (replicas by offer, where nothing was done), direction.

    `before` is the desired count of the decision before it; `direction` is "out", "in" or "hold".
    """
    standing = read_standing()
    found = frame(
        pick(
            PlanRow,
            "id",
            "made_at",
            "held_until",
            "desired",
            "required",
            ready="observed_ready",
            coming="observed_coming",
            limit="bound_limit",
            why="bound_text",
            actions="action_count",
            mode="mode",
            would="would_change",
        )
        .where(
            PlanRow.service == standing.service,
            PlanRow.made_at >= standing.now - timedelta(hours=hours),
            PlanRow.made_at <= standing.now,
        )
        .order_by(col(PlanRow.made_at).desc(), col(PlanRow.id).desc())
        .limit(MAX_ROWS + 1)
    )
    before = found["desired"].shift(-1)
    found["before"] = (
        before.where(before.notna(), found["ready"] + found["coming"]).astype(int) if not found.empty else before
    )
    found["direction"] = [
        "out" if d > b else "in" if d < b else "hold" for d, b in zip(found["desired"], found["before"], strict=True)
    ]
    return found.head(MAX_ROWS)


@brief
def read_marks(hours: float) -> pd.DataFrame:
    """What the decisions lane shows: at, kind (out, in, override, guardrail), text, id (a plan's, or empty)."""
    standing = read_standing()
    since = standing.now - timedelta(hours=hours)
    plans = read_decisions(hours)
    plans = plans[plans["direction"] != "hold"] if not plans.empty else plans
    marks = [
        {
            "at": row.made_at,
            "kind": row.direction,
            "text": f"{row.before} → {row.desired} replicas. {row.why}",
            "id": row.id,
        }
        for row in plans.itertuples()
    ]
    overrides = (
        select(OverrideRow).where(OverrideRow.starts_at >= since, OverrideRow.starts_at <= standing.now).limit(100)
    )
    for row in rows(overrides):
        pinned = f" at {row.replicas}" if row.replicas is not None else ""
        marks.append(
            {
                "at": row.starts_at,
                "kind": "override",
                "text": f"{row.kind}{pinned} by {row.author}: {row.reason}",
                "id": "",
            }
        )
    events = select(GuardrailEvent).where(
        GuardrailEvent.at >= since, GuardrailEvent.at <= standing.now, GuardrailEvent.action != GuardAction.ALERT.value
    )
    for row in rows(events.limit(100)):
        marks.append({"at": row.at, "kind": "guardrail", "text": row.text, "id": ""})
    return pd.DataFrame(marks, columns=["at", "kind", "text", "id"]).sort_values("at", ignore_index=True)


@dataclass(frozen=True)
class Decision:
    """A plan with its actions and what came of them. `part`: its own account over the settled hours that it stood in,
    with the `minutes` it covers; an amount that is unknown in one of them is NaN.
    """

    plan: Any
    before: int
    actions: pd.DataFrame
    ready_at: datetime | None
    ready_count: int
    started_count: int
    settlement: Any | None
    part: dict[str, float] | None
    ledger: pd.DataFrame

    @property
    def title(self) -> str:
        """The sentence of the decision."""
        plan = self.plan
        there = plan.observed_ready + plan.observed_coming
        if plan.mode == Mode.OBSERVE.value:
            return f"Noted for {plan.service}: {plan.desired} replicas wanted, {there} there"
        if plan.mode == Mode.ADVISE.value:
            return f"Would hold {plan.service} at {plan.desired} replicas, {there} there"
        if plan.desired == self.before:
            return f"Hold {plan.service} at {plan.desired} replicas"
        verb = "out" if plan.desired > self.before else "in"
        return f"Scale {verb} {plan.service}, {self.before} → {plan.desired} replicas"


@brief
def read_decision(plan_id: str) -> Decision | None:
    """One decision by its id; None when there is none."""
    plan = first(select(PlanRow).where(PlanRow.id == plan_id))
    if plan is None:
        return None
    earlier = first(
        select(PlanRow.desired)
        .where(PlanRow.service == plan.service, PlanRow.made_at < plan.made_at)
        .order_by(col(PlanRow.made_at).desc())
    )
    actions = frame(
        pick(
            ActionRow,
            "id",
            "kind",
            "offer_id",
            "replica_id",
            "reason",
            "status",
            "detail",
            "requested_at",
            "confirmed_at",
        )
        .where(ActionRow.plan_id == plan_id)
        .order_by(col(ActionRow.id))
        .limit(200)
    )
    started = [str(name) for name in actions.loc[actions["kind"] == "start_replica", "replica_id"].dropna()]
    ready = first(
        select(func.max(ReplicaRow.ready_at).label("at"), func.count(col(ReplicaRow.ready_at)).label("n")).where(
            col(ReplicaRow.id).in_(started)
        )
    )
    hour = plan.made_at.replace(minute=0, second=0, microsecond=0)
    settled = first(select(Settlement).where(Settlement.service == plan.service, Settlement.hour == hour))
    entries = frame(
        pick(LedgerEntry, "at", "kind", "actor", "what", "why")
        .where(LedgerEntry.plan_id == plan_id)
        .order_by(col(LedgerEntry.id))
        .limit(50)
    )
    ready_n = int(ready.n) if ready else 0
    before = int(earlier.desired) if earlier else plan.observed_ready + plan.observed_coming
    ready_at = pd.to_datetime(ready.at, utc=True).to_pydatetime() if ready and ready.at is not None else None
    return Decision(plan, before, actions, ready_at, ready_n, len(started), settled, _part(plan_id), entries)


def _part(plan_id: str) -> dict[str, float] | None:
    """A decision's settled hours added up; None while none is settled."""
    found = frame(select(DecisionSettlement).where(DecisionSettlement.plan_id == plan_id))
    if found.empty:
        return None
    amounts = {name: float(found[name].astype(float).sum(skipna=False)) for name in SideBySide.model_fields}
    lasted = pd.to_datetime(found["to_at"], utc=True) - pd.to_datetime(found["from_at"], utc=True)
    return {"minutes": lasted.sum().total_seconds() / 60, **amounts}


@brief
def read_steps_in_force() -> tuple[str, ...]:
    """The steps of giving way that the last plan has in force; none before the first plan."""
    service = read_standing().service
    newest = select(PlanRow.shed).where(PlanRow.service == service).order_by(col(PlanRow.made_at).desc())
    row = first(newest)
    return () if row is None else tuple(row.shed)


@brief
def read_overrides(active_only: bool = True) -> pd.DataFrame:
    """Overrides in force (or the last 200): id, service, kind, replicas, author, reason, starts_at, ends_at,
    ended_at, ended_why, signed_over_cap.
    """
    standing = read_standing()
    statement = pick(
        OverrideRow,
        "id",
        "service",
        "kind",
        "replicas",
        "author",
        "reason",
        "starts_at",
        "ends_at",
        "ended_at",
        "ended_why",
        "signed_over_cap",
    )
    if active_only:
        statement = statement.where(OverrideRow.ends_at > standing.now, col(OverrideRow.ended_at).is_(None))
    return frame(statement.order_by(col(OverrideRow.starts_at).desc()).limit(200))
