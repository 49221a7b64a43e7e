"""What needs a person: the few things that are wrong or wait for a hand, worst first, then newest."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import col, select

from dashboard import formats
from dashboard.queries.jobs import ALIVE
from dashboard.queries.read import brief, rows
from dashboard.queries.standing import SPEND, Standing, Term, read_standing
from dashboard.queries.surges import read_surges
from models.enums import EnvelopeStatus, GuardAction, IntentStatus, Mode, SurgeStatus
from models.guardrails import GuardrailEvent
from models.intents import Intent
from models.jobs import JobRow
from models.offers import OfferRow

_ORDER = [
    EnvelopeStatus.BREACHED,
    EnvelopeStatus.AT_RISK,
    EnvelopeStatus.UNKNOWN,
    EnvelopeStatus.STALE,
    EnvelopeStatus.HELD,
]


@dataclass(frozen=True)
class Item:
    """One line: its status, the thing, one sentence of cause and of what was done, since when, and the page that
    helps.
    """

    status: str
    thing: str
    why: str
    at: datetime
    page: str


def _term_item(standing: Standing, term: Term) -> Item:
    if term.name == SPEND:
        value, limit, p90 = (formats.money(x) for x in (term.value, term.limit, term.forecast_p90))
        thing, of = "Spend", "this clock hour"
    else:
        value, limit, p90 = (formats.wait(x) for x in (term.value, term.limit, term.forecast_p90))
        promise = standing.latency(term.name)
        thing = f"{formats.words(term.name)} {'wait' if promise.get('of', 'wait') == 'wait' else 'end to end'}"
        of = f"{promise.get('statistic', 'mean')} over {formats.duration(promise.get('window_s', 3600))}"
    sentence = {
        EnvelopeStatus.BREACHED.value: f"{value} against {limit}, {of}.",
        EnvelopeStatus.AT_RISK.value: f"Forecast p90 reaches {p90} against {limit}; now {value}.",
        EnvelopeStatus.UNKNOWN.value: f"Nothing was measured over its window. The limit is {limit}.",
        EnvelopeStatus.STALE.value: f"Last value {value}. Scale-in is held until telemetry is fresh.",
    }.get(term.status, "")
    return Item(term.status, thing, sentence, term.at, "scaling")


def _surge_items(standing: Standing) -> list[Item]:
    """Surges whose provisioning must start within the hour and has not."""
    found = read_surges()
    items = []
    for surge in found.ahead:
        if surge.status != SurgeStatus.AHEAD.value or surge.provision_by > standing.now + timedelta(hours=1):
            continue
        who = "Heddle starts it" if standing.mode == Mode.ACT.value else f"Mode is {standing.mode}: it is up to you"
        why = (
            f"Needs {surge.need:.0f} GPUs, {surge.ready:.0f} are ready. Provisioning must start by "
            f"{formats.hour_minute(surge.provision_by)}. {who}."
        )
        thing = f"Surge at {formats.hour_minute(surge.start_at)}"
        items.append(Item(EnvelopeStatus.AT_RISK.value, thing, why, found.at or standing.now, "forecast"))
    return items


def _is_over(event: Any, job: Any, now: datetime) -> bool:
    """Whether an event of the guard waits for nobody: its job ended an hour ago, or is not known and it is old."""
    if job is None:
        return bool(event.at < now - timedelta(hours=2))
    return job.state not in ALIVE and bool((job.finished_at or event.at) < now - timedelta(hours=1))


@brief
def read_attention() -> tuple[Item, ...]:
    """All items, worst first, then newest. A page shows the first five and says how many there are."""
    standing = read_standing()
    items = [_term_item(standing, term) for term in standing.terms if term.status != EnvelopeStatus.HELD.value]
    items += _surge_items(standing)
    since = standing.now - timedelta(hours=6)
    events = select(GuardrailEvent).where(GuardrailEvent.at >= since).order_by(col(GuardrailEvent.at).desc()).limit(20)
    found, seen = rows(events), set[str]()
    jobs = {row.id: row for row in rows(select(JobRow).where(col(JobRow.id).in_({event.job_id for event in found})))}
    for event in found:
        if event.job_id in seen or _is_over(event, jobs.get(event.job_id), standing.now):
            continue
        seen.add(event.job_id)
        killed = event.action == GuardAction.KILL.value and not event.dry_run
        status = EnvelopeStatus.BREACHED if killed else EnvelopeStatus.AT_RISK
        items.append(Item(status.value, f"Job {event.job_id}", formats.sentence(event.text), event.at, "guardrails"))
    refused = (
        select(Intent)
        .where(Intent.status == IntentStatus.REFUSED.value, col(Intent.settled_at) >= standing.now - timedelta(hours=1))
        .order_by(col(Intent.settled_at).desc())
        .limit(5)
    )
    for intent in rows(refused):
        text = formats.sentence(intent.status_reason or "no reason was given")
        items.append(
            Item(
                EnvelopeStatus.AT_RISK.value, f"{formats.words(intent.kind)} refused", text, intent.settled_at, "ledger"
            )
        )
    for offer in rows(
        select(OfferRow).where(col(OfferRow.usable).is_(False)).order_by(col(OfferRow.read_at).desc()).limit(5)
    ):
        why = f"{formats.sentence(offer.why_not or 'it cannot be used')} Left out of new plans."
        items.append(Item(EnvelopeStatus.UNKNOWN.value, f"Offer {offer.id}", why, offer.read_at, "fleet"))
    lost = (
        select(OfferRow)
        .where(col(OfferRow.lost_at) >= standing.now - timedelta(minutes=30))
        .order_by(col(OfferRow.lost_at).desc())
        .limit(3)
    )
    for offer in rows(lost):
        why = (
            f"Spot capacity was taken back at {formats.hour_minute(offer.lost_at)}. Replacements are planned elsewhere."
        )
        items.append(
            Item(EnvelopeStatus.AT_RISK.value, f"{offer.instance_type} in {offer.zone}", why, offer.lost_at, "scaling")
        )
    if standing.last_error:
        items.append(
            Item(
                EnvelopeStatus.AT_RISK.value,
                "A tick failed",
                formats.sentence(standing.last_error),
                standing.tick_at or standing.now,
                "ledger",
            )
        )
    rank = {status.value: index for index, status in enumerate(_ORDER)}
    return tuple(sorted(items, key=lambda item: (rank.get(item.status, 9), -item.at.timestamp())))
