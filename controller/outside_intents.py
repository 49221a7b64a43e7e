"""Intents on what is known from outside: events entered or cancelled, signals uploaded or removed."""

from typing import Any

from controller.core.forecast.events import Event
from controller.core.points import KEPT_S, LONGEST_STALE_S, MOST_UPLOADED, NAME, BadPoint, Points, checked
from controller.payload import Payload, Refused
from controller.store import Store
from controller.store.convert import moment
from controller.store.events import describe
from controller.store.signals import TooManySignals
from models.intents import Intent

LEAST_FACTOR = 0.0
MOST_FACTOR = 20.0
LONGEST_EVENT_S = 31 * 86400.0
FARTHEST_S = 400 * 86400.0
MOST_EVENTS = 500


def add_event(store: Store, intent: Intent, payload: Payload, now_s: float) -> str:
    """Enters an event; a past one teaches what its kind does. Raises Refused."""
    _known(store, intent.service)
    start_s, end_s = payload.moment_s("starts_at"), payload.moment_s("ends_at")
    if end_s <= start_s:
        raise Refused("ends_at must be after starts_at")
    if end_s - start_s > LONGEST_EVENT_S:
        nearest = f"{moment(start_s + LONGEST_EVENT_S):%Y-%m-%d %H:%M} UTC"
        raise Refused(f"an event lasts 31 days at most (nearest: {nearest}); what lasts longer is the new usual")
    if start_s > now_s + FARTHEST_S:
        raise Refused("starts_at is more than 400 days ahead")
    if end_s < now_s - KEPT_S:
        raise Refused(f"the event ended more than {KEPT_S / 86400:.0f} days ago: nothing is left to learn from it")
    factor = None if payload.get("factor") is None else payload.number("factor", LEAST_FACTOR, MOST_FACTOR)
    event = Event(payload.text("name", 80), payload.text("kind", 40).lower(), start_s, end_s, factor)
    standing = store.events(intent.service)
    if any((each.name, each.start_s, each.end_s) == (event.name, start_s, end_s) for each in standing):
        raise Refused(f"the event {event.name} of that time is entered already; cancel it first to change it")
    if len(standing) >= MOST_EVENTS:
        raise Refused(f"{intent.service} has {MOST_EVENTS} events already; cancel some first")
    number = store.add_event(
        intent.service, event, author=intent.author, reason=intent.reason, now_s=now_s, intent_id=intent.id
    )
    size = "of unknown size" if factor is None else f"{factor:g} times the usual demand"
    return f"event {number} is entered, {size}"


def cancel_event(store: Store, intent: Intent, payload: Payload, now_s: float) -> str:
    """Cancels an event. Raises Refused."""
    event_id = payload.whole("event_id", 1)
    row = store.event(event_id)
    if row is None or row.service != intent.service:
        raise Refused(f"{intent.service} has no event {event_id}")
    if row.cancelled_at is not None:
        raise Refused(f"event {event_id} was cancelled at {row.cancelled_at:%Y-%m-%d %H:%M} UTC: {row.cancelled_why}")
    store.cancel_event(event_id, author=intent.author, reason=intent.reason, now_s=now_s, intent_id=intent.id)
    return describe(row).removesuffix(",") + " is cancelled"


def add_signal(store: Store, intent: Intent, payload: Payload, now_s: float) -> str:
    """Keeps an upload's values; its points then leave the intent, which is kept for good. Raises Refused."""
    _known(store, intent.service)
    name = payload.text("name", 64)
    if not NAME.fullmatch(name):
        raise Refused(f"name {name!r} must be letters, digits, '_', '-' and '.', beginning with a letter or a digit")
    unit = payload.get("unit")
    if not isinstance(unit, str) or len(unit) > 40:
        raise Refused(f"unit must be a text of at most 40 characters, not {unit!r:.60}")
    known_ahead = payload.flag("known_ahead")
    points = _points(payload.get("points"), now_s, known_ahead)
    try:
        taken = store.add_signal(
            intent.service,
            name,
            points,
            unit=unit.strip(),
            known_ahead=known_ahead,
            stale_after_s=payload.number("stale_after_s", 60.0, LONGEST_STALE_S),
            author=intent.author,
            reason=intent.reason,
            now_s=now_s,
            intent_id=intent.id,
        )
    except TooManySignals as error:
        raise Refused(str(error)) from error
    assert intent.id is not None
    store.shorten_intent(intent.id, {**intent.payload, "points": len(points)})
    return f"signal {name}: {taken.added} new values, {taken.changed} changed, {taken.unchanged} known already"


def remove_signal(store: Store, intent: Intent, payload: Payload, now_s: float) -> str:
    """Forgets a signal. Raises Refused."""
    name = payload.text("name", 64)
    if not store.remove_signal(
        intent.service, name, author=intent.author, reason=intent.reason, now_s=now_s, intent_id=intent.id
    ):
        raise Refused(f"{intent.service} has no signal {name!r}")
    return f"signal {name} is removed"


def _known(store: Store, service: str) -> None:
    if store.envelope(service) is None:
        raise Refused(f"there is no service {service!r}")


def _points(given: Any, now_s: float, known_ahead: bool) -> Points:
    if not isinstance(given, list) or len(given) > MOST_UPLOADED:
        raise Refused(f"points must be a list of at most {MOST_UPLOADED:,} pairs of epoch seconds and a number")
    pairs: list[tuple[float, float]] = []
    for index, pair in enumerate(given):
        sound = isinstance(pair, list) and len(pair) == 2
        if not sound or any(isinstance(part, bool) or not isinstance(part, int | float) for part in pair):
            raise Refused(f"points[{index}] must be a pair of epoch seconds and a number, not {pair!r:.60}")
        pairs.append((float(pair[0]), float(pair[1])))
    try:
        return checked(pairs, now_s, known_ahead)
    except BadPoint as bad:
        raise Refused(f"points[{bad.index}], {bad.column}: {bad}") from bad
