"""Closing a clock hour: reads what is remembered of it, settles it, decides who leads, and writes both. Once an hour.

Everything is read from the tables, so that a restart settles what is due as if it had been there all along.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from controller.backends.base import ClusterState, HourSpend, Telemetry
from controller.core.authority import decide
from controller.core.finance import HOUR_S, dollars, hour_start
from controller.core.settle import (
    LEAD_IN_S,
    MINUTE_S,
    Accounts,
    Facts,
    MissPrice,
    Settled,
    measured_slo_minutes,
    settle,
)
from controller.core.terms import standing
from controller.core.types import Authority, FloatArray, Observation, Offer, OfferStanding, Sample
from controller.store import Store
from controller.store.settlements import Closed
from models.enums import EnvelopeStatus, LedgerKind


class Settler:
    """Closes the hours of one service. `step_back_hours` 0: whatever the score, the planner leads."""

    def __init__(
        self, service: str, store: Store, telemetry: Telemetry, *, miss: MissPrice, step_back_hours: int = 0
    ) -> None:
        self._service, self._store, self._telemetry = service, store, telemetry
        self._miss, self._step_back_hours = miss, step_back_hours
        self._settled_s: float | None = None

    @property
    def authority(self) -> Authority:
        return self._store.authority(self._service) if self._step_back_hours else Authority()

    def close_hour(self, state: ClusterState, seen: Observation) -> None:
        """Close the clock hour before this one, once, at the first tick after it."""
        hour_s = hour_start(seen.now_s) - HOUR_S
        if self._settled_s is None:
            self._settled_s = self._store.settled_until(self._service) or hour_s + HOUR_S
        before = next((hour for hour in state.hours if hour.hour_s == hour_s), None)
        if before is None or hour_s < self._settled_s:
            return
        self._settled_s = hour_s + HOUR_S
        self._close(before, seen)

    def _close(self, spent: HourSpend, seen: Observation) -> None:
        store, service, hour_s, led = self._store, self._service, spent.hour_s, self.authority.leads
        tiers = seen.envelope.tiers
        first_s, ends_s = hour_s - LEAD_IN_S, hour_s + HOUR_S
        minutes = {tier.name: store.minutes(service, tier.name, first_s, ends_s) for tier in tiers}
        settled = settle(self._facts(hour_s, seen, minutes))
        outcome = self._outcome(hour_s, seen, minutes)
        measured = [tier["slo_minutes"] for tier in outcome.values()]
        usd, cap = spent.replicas_usd + spent.jobs_usd, seen.envelope.spend_cap_usd_per_hour
        closed = Closed(
            service=service,
            hour_s=hour_s,
            usd=usd,
            cap_usd=cap,
            requests=sum(tier["requests"] for tier in outcome.values()),
            tiers=outcome,
            text=_told(usd, cap, seen.stale, outcome, settled),
            slo_minutes=None if None in measured else sum(measured),
            mode=seen.mode,
            led=led,
            overridden=store.overridden(service, hour_s, ends_s),
            settled=settled,
        )
        if store.settle_hour(closed, self.authority, seen.now_s):
            self._judge(closed, seen.now_s)

    def _facts(self, hour_s: float, seen: Observation, minutes: Mapping[str, tuple[Sample, ...]]) -> Facts:
        store, service = self._store, self._service
        first_s, ends_s = hour_s - LEAD_IN_S, hour_s + HOUR_S
        offers = {each.offer.id: each.offer for each in seen.offers}
        decided = store.decided(service, hour_s, ends_s)
        levels: tuple[tuple[float, Mapping[str, int]], ...] = ()
        if not all(each.carried_out for each in decided):
            before = store.decided(service, first_s, ends_s)
            levels = tuple((max(each.made_s, first_s), each.by_offer) for each in before)
        return Facts(
            hour_s=hour_s,
            from_s=first_s,
            envelope=seen.envelope,
            loads={name: _grid(rows, first_s, ends_s, "load") for name, rows in minutes.items()},
            requests={name: _grid(rows, first_s, ends_s, "arrivals") for name, rows in minutes.items()},
            fleet=store.held_fleet(service, first_s, ends_s, offers),
            offers=_priced(seen.offers),
            steady=frozenset(each.offer.id for each in seen.offers if _stood_open(each, hour_s)),
            lead_s=seen.boot_s + seen.load_model_s,
            work_mean_s=seen.work_mean_s,
            work_scv=seen.work_scv,
            miss=self._miss,
            levels=levels,
            decisions=tuple((each.plan_id, each.made_s) for each in decided),
        )

    def _outcome(
        self, hour_s: float, seen: Observation, minutes: Mapping[str, tuple[Sample, ...]]
    ) -> dict[str, dict[str, Any]]:
        """Each tier's hour as measured: its statistic against the target, and its SLO-minutes."""
        tiers = {}
        for tier in seen.envelope.tiers:
            # The hour's own figure, whatever window the target is judged over.
            reading = self._telemetry.latency(self._service, replace(tier, window_s=HOUR_S))
            held = standing(reading.value_ms, tier.target_ms, None, seen.stale)
            known = reading.value_ms is not None
            rows = [row for row in minutes[tier.name] if row.minute_s >= hour_s]
            tiers[tier.name] = {
                "statistic": tier.statistic,
                "of": tier.of.value,
                "value_ms": reading.value_ms,
                "target_ms": tier.target_ms,
                "held": held is EnvelopeStatus.HELD if known else None,
                "requests": reading.count,
                "slo_minutes": measured_slo_minutes(tier, rows, seen.work_mean_s, seen.work_scv),
            }
        return tiers

    def _judge(self, closed: Closed, now_s: float) -> None:
        """Who leads from here on, by the settled hours; a change is in the ledger with both scores."""
        if not self._step_back_hours:
            return
        store, service, before = self._store, self._service, self.authority
        after = decide(store.settled_hours(service, 24 * 14), before, self._step_back_hours)
        if after.leads is before.leads:
            return
        store.set_authority(service, closed.hour_s, after)
        store.enter(
            LedgerKind.MODE,
            now_s=now_s,
            service=service,
            subject="planner" if after.leads else "reactive net",
            what="The planner leads again" if after.leads else "The planner stepped back: the reactive net leads",
            why=after.reason,
            numbers=after.numbers,
        )


def _grid(rows: tuple[Sample, ...], from_s: float, to_s: float, what: str) -> FloatArray:
    """The minutes of [from_s, to_s) in order, NaN where one is missing."""
    values: FloatArray = np.full(round((to_s - from_s) / MINUTE_S), np.nan)
    for row in rows:
        value = row.work_s / MINUTE_S if what == "load" else float(row.arrivals)
        values[round((row.minute_s - from_s) / MINUTE_S)] = value
    return values


def _priced(standings: tuple[OfferStanding, ...]) -> dict[str, Offer]:
    return {each.offer.id: each.offer for each in standings if each.usable}


def _stood_open(standing_: OfferStanding, hour_s: float) -> bool:
    """Whether an offer has neither refused nor lost a replica since the hour began."""
    since = (standing_.refused_s, standing_.lost_s)
    return standing_.usable and not standing_.notice and all(at_s is None or at_s < hour_s for at_s in since)


def _told(
    usd: float, cap: float | None, stale: bool, outcome: Mapping[str, Mapping[str, Any]], settled: Settled
) -> str:
    words = []
    for name, tier in outcome.items():
        unknown = "unknown" if stale else "not asked"
        words.append(f"{name} {unknown if tier['held'] is None else 'held' if tier['held'] else 'missed'}")
    against = "" if cap is None else f" of ${cap:.2f}"
    return f"${usd:.2f}{against}; {', '.join(words)}; {_compared(settled.accounts)}"


def _compared(accounts: Accounts) -> str:
    saved, regret = accounts.saved_usd, accounts.regret_usd
    if saved is None or regret is None:
        return "saved and regret unknown"
    verb = "saved" if saved >= 0 else "lost"
    return f"{dollars(abs(saved))} {verb} against the shadow HPA, {dollars(regret)} of regret"
