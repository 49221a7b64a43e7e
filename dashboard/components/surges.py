"""Surges ahead: when more is needed than is ready, when provisioning must start, and why that is believed."""

from datetime import datetime

import streamlit as st

from dashboard import formats, session
from dashboard.components import cards, states
from dashboard.components.marks import icon, table, tag, text
from dashboard.queries.standing import read_standing
from dashboard.queries.surges import Surge, Surges, read_surges
from models.enums import SurgeStatus

SHOWN = 5
STATUS = {
    SurgeStatus.AHEAD.value: ("schedule", "Ahead"),
    SurgeStatus.PREPARING.value: ("rocket_launch", "Preparing"),
    SurgeStatus.CAME.value: ("check_circle", "Came"),
    SurgeStatus.CAME_LATE.value: ("check_circle", "Came late"),
    SurgeStatus.DID_NOT_COME.value: ("event_busy", "Did not come"),
    SurgeStatus.WITHDRAWN.value: ("undo", "No longer forecast"),
}
COLUMNS = [("When", "k"), ("Need", "r"), ("Ready", "r"), ("Start provisioning by", ""), ("Evidence", ""), ("", "c")]


def gpus(value: float | None) -> str:
    """Reference GPUs, whole where they are."""
    return formats.number(value, 0 if value is None or value == int(value) else 1)


def relative(at: datetime, now: datetime) -> str:
    """A moment against now: "in 34 min", "now", "12 min ago"."""
    seconds = (at - now).total_seconds()
    if abs(seconds) < 30:
        return "now"
    return f"in {formats.age(seconds)}" if seconds > 0 else f"{formats.age(-seconds)} ago"


def interval(surge: Surge) -> str:
    """ "26 Nov 09:00 to 11:00"; the second day is told where it is another."""
    same = surge.start_at.date() == surge.end_at.date()
    end = formats.hour_minute(surge.end_at) if same else formats.day_time(surge.end_at)
    return f"{formats.day_time(surge.start_at)} to {end}"


def evidence(surge: Surge) -> str:
    """The model that leads, what it expects and how well it did, what was measured before, and events by name."""
    facts = surge.evidence
    words = [
        f"{formats.model(str(facts.get('model')))} expects {surge.expected:.1f} GPUs in use (p50); "
        f"{surge.level:.1f} over the hour before"
    ]
    loads = dict(zip(facts.get("quantiles") or [], facts.get("loads") or [], strict=False))
    if loads:
        peak = ", ".join(f"p{100 * quantile:.0f} {load:.1f}" for quantile, load in loads.items())
        words.append(f"at {formats.hour_minute(surge.peak_at)}: {peak}")
    past = [
        f"{facts[name]:.1f} {when}"
        for name, when in (("last_week", "a week before"), ("yesterday", "the day before"))
        if facts.get(name) is not None
    ]
    if past:
        words.append(f"measured at that time {', '.join(past)}")
    if facts.get("coverage_p90") is not None:
        words.append(f"of past steps {formats.percent(facts['coverage_p90'])} lay under p90")
    if facts.get("events"):
        words.append(f"event {', '.join(str(name) for name in facts['events'])}")
    return ". ".join(word[:1].upper() + word[1:] for word in words) + "."


def outcome(surge: Surge) -> str:
    """What was seen of a surge that was judged, in a sentence."""
    if surge.status == SurgeStatus.WITHDRAWN.value:
        return "A later forecast no longer expects it."
    seen = formats.number(surge.observed)
    words = f"{seen} GPUs in use since its start; expected {surge.expected:.1f}, before it {surge.level:.1f}."
    return words + (" What was made ready for it has been let go." if _missed(surge) else "")


def _missed(surge: Surge) -> bool:
    return surge.status == SurgeStatus.DID_NOT_COME.value


def none_ahead(found: Surges) -> str:
    """The sentence of a day without a surge."""
    ready = gpus((found.ready or 0.0) + (found.coming or 0.0))
    if found.highest is None or found.highest <= (found.ready or 0.0) + (found.coming or 0.0):
        return f"None in the next 24 h: need stays at or below {ready} GPUs ready."
    return (
        f"None in the next 24 h that the forecast is sure of. Its upper quantiles reach a need of "
        f"{gpus(found.highest)} GPUs, {ready} are ready; the minute forecast and the burst reserve answer those."
    )


def _row(surge: Surge, now: datetime) -> list[str]:
    symbol, word = STATUS.get(surge.status, ("help", surge.status))
    coming = f" + {gpus(surge.coming)} coming" if surge.coming else ""
    by = f"{formats.hour_minute(surge.provision_by)}, {relative(surge.provision_by, now)}"
    begun = surge.status == SurgeStatus.PREPARING.value
    return [
        text(interval(surge)),
        f"<b>{text(gpus(surge.need))}</b>",
        text(f"{gpus(surge.ready)}{coming}"),
        text("Started" if begun else by),
        f'<span class="hd-small">{text(evidence(surge))}</span>',
        tag(word, symbol),
    ]


def _over(surge: Surge) -> str:
    symbol, word = STATUS.get(surge.status, ("help", surge.status))
    return f'<p class="hd-sub">{icon(symbol)} <b>{text(word)}</b>: {text(interval(surge))}. {text(outcome(surge))}</p>'


@session.live
def render() -> None:
    """The card: what is ahead, or that nothing is; and what became of what was."""
    standing, found = read_standing(), read_surges()
    looked = f", looked at {formats.hour_minute(found.at)}" if found.at else ""
    with cards.head("surges", "Surges ahead", f"Intervals that need more GPUs than are ready{looked}"):
        pass
    if found.at is None or found.until is None:
        states.empty(
            "Nothing is known of the next day yet",
            "Surges are read from the ten-minute forecast, which comes with the first ticks.",
            "schedule",
        )
    elif found.ahead:
        rows = [_row(surge, standing.now) for surge in found.ahead[:SHOWN]]
        more = len(found.ahead) - SHOWN
        below = f'<p class="hd-sub">and {more} more in the next 24 h</p>' if more > 0 else ""
        st.html(table(COLUMNS, rows) + below)
    else:
        st.html(f'<p class="hd-text" style="margin:0">{text(none_ahead(found))}</p>')
    if found.over:
        st.html("".join(_over(surge) for surge in found.over[:SHOWN]))
