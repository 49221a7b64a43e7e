"""Entering and cancelling an event, uploading and removing a signal: always with a reason for the record."""

from datetime import UTC, datetime

import streamlit as st

from controller.core.points import NAME, BadFile, BadPoint, checked, points_of
from dashboard import formats, intents
from dashboard.components import dialogs
from dashboard.queries import outside
from dashboard.queries.read import each
from dashboard.queries.standing import read_standing

KINDS = ("campaign", "holiday", "launch")
SIZES = ("Unknown size", "Known factor")
STALE_H = {"15 min": 0.25, "1 h": 1.0, "3 h": 3.0, "6 h": 6.0, "24 h": 24.0, "3 d": 72.0}
MOST_BYTES = 5_000_000


def _kinds() -> list[str]:
    known = {str(kind) for kind in outside.read_events(cancelled=True)["kind"]}
    return [*KINDS, *sorted(known - set(KINDS))]


def _moment(name: str, key: str, at: datetime) -> datetime:
    left, right = st.columns(2)
    day = left.date_input(f"{name}, day", value=at.date(), key=f"{key}-day")
    time = right.time_input(f"{name}, UTC", value=at.time(), key=f"{key}-time", step=900)
    return datetime.combine(day, time, UTC)


def add_event() -> None:
    """Gather an event: name, kind, when, how large."""
    start, end = outside.until_default(read_standing().now)

    @st.dialog("Add an event?", width="medium")
    def body() -> None:
        left, right = st.columns(2)
        name = str(left.text_input("Name", key="ev-name", max_chars=80, placeholder="Black Friday") or "").strip()
        kind = right.selectbox(
            "Kind", _kinds(), key="ev-kind", accept_new_options=True, help="Past events of a kind teach what to expect"
        )
        starts_at, ends_at = _moment("From", "ev-from", start), _moment("Until", "ev-until", end)
        size = st.segmented_control("Demand", SIZES, default=SIZES[0], required=True, key="ev-size")
        factor = None
        if size == SIZES[1]:
            factor = float(
                st.number_input("Times the usual demand", 0.0, 20.0, 2.0, 0.1, key="ev-factor", help="Below 1: less")
            )
        past = sum(1 for row in each(outside.read_events()) if row.kind == kind and row.ends_at < read_standing().now)
        lasts_s = (ends_at - starts_at).total_seconds()
        dialogs.facts(
            [
                ("Effect", _effect(factor, past, str(kind))),
                ("Lasts", formats.duration(lasts_s) if lasts_s > 0 else "Not at all"),
                ("Takes effect", "At the next tick"),
                ("Undo", "Cancel it"),
            ]
        )
        reason = dialogs.reason_field("ev-reason", "Announced by marketing")
        ready = bool(reason and name and kind and ends_at > starts_at)
        why = "Needs a name, an end after its beginning, and a reason"
        if dialogs.buttons("Add nothing", "Add the event", ready=ready, why_not=why, key="ev"):
            dialogs.perform(
                lambda: intents.add_event(name, str(kind), starts_at, ends_at, factor, reason),
                f"Event {name} asked for.",
            )

    body()


def _effect(factor: float | None, past: int, kind: str) -> str:
    if factor is not None:
        return f"Every quantile × {factor:g}"
    if not past:
        return "Only the upper quantiles widen: none of its kind is past"
    return f"Learned from {formats.count(past, 'past event')} of kind {kind}, cautiously while they are few"


def cancel_event(event_id: int, name: str, size: str) -> None:
    """Ask once more before an event is forgotten."""

    @st.dialog(f"Cancel {name}?")
    def body() -> None:
        dialogs.facts(
            [
                ("What", f"{name}, {size.lower()}: it counts no longer, neither ahead nor in what was learned"),
                ("Takes effect", "At the next tick"),
                ("Undo", "Enter it again"),
            ]
        )
        reason = dialogs.reason_field("evc-reason", "Postponed")
        if dialogs.buttons("Keep the event", "Cancel the event", ready=bool(reason), key="evc"):
            dialogs.perform(lambda: intents.cancel_event(event_id, reason), f"Cancelling {name} asked for.")

    body()


def add_signal() -> None:
    """Gather a signal: its name, its file, how long it stays fresh."""

    @st.dialog("Upload a signal?", width="medium")
    def body() -> None:
        left, right = st.columns(2)
        name = str(left.text_input("Name", key="sg-name", max_chars=64, placeholder="bookings") or "").strip()
        unit = str(right.text_input("Unit", key="sg-unit", max_chars=40, placeholder="orders") or "").strip()
        ahead = left.toggle("Known ahead", key="sg-ahead", help="Future values are known too, as with booked spend")
        stale = STALE_H[str(right.selectbox("Stale after", list(STALE_H), index=1, key="sg-stale"))]
        file = st.file_uploader("CSV with columns at (ISO 8601 with its zone) and value", type=["csv"], key="sg-file")
        points: list[tuple[float, float]] = []
        if file is not None:
            points = _read(file.name, file.getvalue(), ahead)
        named = NAME.fullmatch(name) is not None
        if name and not named:
            st.error("A name is letters, digits, _ - and ., without blanks.", icon=":material/report:")
        if points:
            first, last = (datetime.fromtimestamp(points[i][0], UTC) for i in (0, -1))
            dialogs.facts(
                [
                    ("Values", f"{len(points):,}, {formats.exact(first)} to {formats.exact(last)}"),
                    ("Used", "Only where the next selection finds that it helps"),
                    ("Takes effect", "At the next tick; a value of the same time is replaced"),
                ]
            )
        reason = dialogs.reason_field("sg-reason", "Bookings of the shop")
        ready = bool(reason and named and points)
        why = "Needs a name, a file and a reason"
        if dialogs.buttons("Upload nothing", "Upload", ready=ready, why_not=why, key="sg"):
            dialogs.perform(
                lambda: intents.add_signal(
                    name, points, reason, unit=unit, known_ahead=ahead, stale_after_s=stale * 3600
                ),
                f"Signal {name} asked for.",
            )

    body()


def remove_signal(name: str) -> None:
    """Ask once more before a signal is forgotten."""

    @st.dialog(f"Remove {name}?")
    def body() -> None:
        dialogs.facts(
            [
                ("What", f"Signal {name} and all its values"),
                ("Takes effect", "At the next tick; forecasts go on without it"),
                ("Undo", "None: upload or push it again"),
            ]
        )
        reason = dialogs.reason_field("sgr-reason", "No longer sent")
        if dialogs.buttons("Keep the signal", "Remove the signal", ready=bool(reason), key="sgr", final=True):
            dialogs.perform(lambda: intents.remove_signal(name, reason), f"Removing {name} asked for.")

    body()


def _read(name: str, content: bytes, known_ahead: bool) -> list[tuple[float, float]]:
    """The file's points, or none and the reason on the page."""
    try:
        if len(content) > MOST_BYTES:
            raise BadFile(name, None, None, "the file is over 5 MB", "upload it in parts")
        found = points_of(content.decode(), name)
        return list(checked(found, read_standing().now.timestamp(), known_ahead))
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        bad_text = BadFile(name, row, None, "this is no UTF-8 text", "save it as CSV in UTF-8")
        st.error(f"{bad_text}.", icon=":material/report:")
    except BadPoint as bad:
        st.error(f"{name}: value {bad.index + 1}, column {bad.column}: {bad}.", icon=":material/report:")
    except BadFile as bad:
        st.error(f"{bad}.", icon=":material/report:")
    return []
