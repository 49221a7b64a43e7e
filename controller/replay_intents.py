"""Intents on what-if runs: one asked for, with what it is compared with, and one cancelled."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from controller.core.envelope import EnvelopeError, parse_envelope, to_document
from controller.core.types import Offer
from controller.core.what_if import (
    LEAST_FACTOR,
    MOST_FACTOR,
    OfferChange,
    WhatIf,
    WhatIfError,
    check_window,
    usual_window,
)
from controller.payload import Payload, Refused
from controller.store import Store
from controller.store.replays import OPEN
from models.enums import Market, ReplayStatus
from models.intents import Intent

MOST_OPEN = 20
BASELINES = ("heddle", "hpa")
"""What a run is compared with, under the envelope in force and the offers as they are."""


@dataclass(frozen=True)
class ReplayFacts:
    """What runs are asked against. `first_s`: when the record begins. `check_policy` raises ValueError, with the
    reason, for one that can't be made. The rest is how the embedded cluster is set up.
    """

    first_s: float
    offers: tuple[Offer, ...]
    check_policy: Callable[[str], object]
    scale: int
    jitter_s: float
    boot_s: float
    seed: int
    wall_s: Callable[[], float]


def ask_replay(store: Store, facts: ReplayFacts | None, intent: Intent, payload: Payload, now_s: float) -> str:
    """Writes the run, and where `baselines` says so those it is compared with that are not there. Raises Refused.

    Fields, all but `policy` may be null: policy, envelope (a document; null: the one in force), offers (without_spot,
    without_zones, price_factors by market), from and to (the last seven days), baselines.
    """
    if facts is None:
        raise Refused("replays are switched off here: HEDDLE_REPLAYS_AT_ONCE is 0")
    ruling = store.envelope(intent.service)
    if ruling is None:
        raise Refused(f"there is no service {intent.service!r}")
    asked = _what_if(store, facts, intent.service, payload, now_s)
    twins = store.same_replays(intent.service, asked, (ReplayStatus.PENDING, ReplayStatus.RUNNING))
    if twins:
        raise Refused(f"replay {twins[0]} is the same and has not ended yet")
    baselines: list[WhatIf] = []
    if payload.flag("baselines", False):
        document = to_document(ruling, intent.service)
        there = (ReplayStatus.PENDING, ReplayStatus.RUNNING, ReplayStatus.DONE)
        for policy in BASELINES:
            run = replace(
                asked, policy=policy, envelope=document, envelope_version=ruling.version, offers=OfferChange()
            )
            if run != asked and not store.same_replays(intent.service, run, there):
                baselines.append(run)
    waiting = len(store.open_replays())
    if waiting + 1 + len(baselines) > MOST_OPEN:
        raise Refused(f"{waiting} replays wait or run already, of at most {MOST_OPEN}: cancel some, or let them end")
    numbers = []
    for run in (asked, *baselines):
        usual = run.envelope_version == ruling.version and run.offers == OfferChange()
        numbers.append(
            store.add_replay(
                intent.service,
                run,
                baseline=usual and run.policy in BASELINES,
                author=intent.author,
                reason=intent.reason,
                now_s=now_s,
                intent_id=intent.id,
            )
        )
    more = f", and {_listed(numbers[1:])} to compare it with" if baselines else ""
    return f"replay {numbers[0]} waits for its turn{more}"


def cancel_replay(store: Store, facts: ReplayFacts | None, intent: Intent, payload: Payload, now_s: float) -> str:
    """Ends a run that waits or runs. Raises Refused."""
    replay_id = payload.whole("replay_id", 1, 2**31)
    row = store.replay(replay_id)
    if row is None:
        raise Refused(f"there is no replay {replay_id}")
    if row.status not in OPEN:
        raise Refused(f"replay {replay_id} has ended already: {row.status}")
    wall_s = now_s if facts is None else facts.wall_s()
    store.end_replay(
        replay_id,
        ReplayStatus.CANCELLED,
        f"cancelled by {intent.author}: {intent.reason}",
        wall_s=wall_s,
        now_s=now_s,
        author=intent.author,
        intent_id=intent.id,
    )
    return f"replay {replay_id} is cancelled"


def _what_if(store: Store, facts: ReplayFacts, service: str, payload: Payload, now_s: float) -> WhatIf:
    policy = payload.text("policy", 200)
    try:
        facts.check_policy(policy)
    except ValueError as error:
        raise Refused(f"policy: {error}") from error
    ruling = store.envelope(service)
    assert ruling is not None
    version: int | None = ruling.version
    document = to_document(ruling, service)
    given = payload.given("envelope")
    try:
        if given is not None:
            # In its full form, so that a document that says what is in force is the one in force.
            draft = to_document(parse_envelope(given, service), service)
            document, version = (document, version) if draft == document else (draft, None)
        offers = _offers(payload.given("offers"))
        offers.apply(facts.offers)
        if payload.given("from") is None and payload.given("to") is None:
            from_s, to_s = usual_window(facts.first_s, now_s)
        else:
            from_s, to_s = payload.moment_s("from"), payload.moment_s("to")
            check_window(from_s, to_s, facts.first_s, now_s)
    except (EnvelopeError, WhatIfError) as error:
        raise Refused(str(error)) from error
    return WhatIf(
        policy, document, version, offers, from_s, to_s, facts.scale, facts.jitter_s, facts.boot_s, facts.seed
    )


def _offers(given: Any) -> OfferChange:
    if given is None:
        return OfferChange()
    fields = Payload(given)
    if unknown := set(given) - {"without_spot", "without_zones", "price_factors"}:
        raise Refused(f"offers has no field {min(map(str, unknown))!r}: without_spot, without_zones, price_factors")
    zones = fields.given("without_zones") or []
    if not isinstance(zones, list) or not all(isinstance(zone, str) for zone in zones):
        raise Refused(f"without_zones must be a list of zones, not {zones!r:.60}")
    factors = fields.given("price_factors") or {}
    if not isinstance(factors, Mapping):
        raise Refused(f"price_factors must map a market to a factor, not {factors!r:.60}")
    prices = Payload(factors)
    for market in factors:
        if market not in tuple(Market):
            raise Refused(f"price_factors: there is no market {market!r:.60}; there are {', '.join(Market)}")
    changed = {str(market): prices.number(market, LEAST_FACTOR, MOST_FACTOR) for market in sorted(factors)}
    return OfferChange(
        fields.flag("without_spot", False),
        tuple(sorted(set(zones))),
        tuple((market, factor) for market, factor in changed.items() if factor != 1.0),
    )


def _listed(numbers: list[int]) -> str:
    return " and ".join(str(number) for number in numbers)
