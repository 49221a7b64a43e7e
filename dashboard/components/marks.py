"""Small pieces of HTML: icons, chips, titles. Everything that comes from a table is escaped here."""

from html import escape

from models.enums import EnvelopeStatus, IntentStatus, JobState, Mode, ReplayStatus

STATUS_WORDS = {
    EnvelopeStatus.HELD.value: ("check_circle", "Held"),
    EnvelopeStatus.AT_RISK.value: ("warning", "At risk"),
    EnvelopeStatus.BREACHED.value: ("report", "Breached"),
    EnvelopeStatus.STALE.value: ("history_toggle_off", "Stale"),
    EnvelopeStatus.UNKNOWN.value: ("help", "Unknown"),
}

# Canvas tables take text only: the shapes differ without colour.
INTENT_TEXT = {
    IntentStatus.PENDING.value: "◌ Pending",
    IntentStatus.APPLIED.value: "● Applied",
    IntentStatus.REFUSED.value: "■ Refused",
}
JOB_TEXT = {
    JobState.QUEUED.value: "○ Queued",
    JobState.RUNNING.value: "▶ Running",
    JobState.SUSPENDED.value: "‖ Suspended",
    JobState.SUCCEEDED.value: "● Succeeded",
    JobState.FAILED.value: "▲ Failed",
    JobState.KILLED.value: "■ Killed",
}
REPLAY_TEXT = {
    ReplayStatus.PENDING.value: "◌ Pending",
    ReplayStatus.RUNNING.value: "▶ Running",
    ReplayStatus.DONE.value: "● Done",
    ReplayStatus.FAILED.value: "▲ Failed",
    ReplayStatus.CANCELLED.value: "■ Cancelled",
}
MODE_WORDS = {
    Mode.ACT.value: ("smart_toy", "Act"),
    Mode.ADVISE.value: ("lightbulb", "Advise"),
    Mode.OBSERVE.value: ("visibility", "Observe"),
}


def text(value: object) -> str:
    """Anything as safe HTML text."""
    return escape(str(value))


def icon(name: str) -> str:
    """A Material symbol, silent to a screen reader: a word always stands beside it."""
    return f'<span class="hd-i" aria-hidden="true">{escape(name)}</span>'


def chip(status: str) -> str:
    """The status chip: icon, word and colour; its edge differs without colour."""
    symbol, word = STATUS_WORDS.get(status, STATUS_WORDS[EnvelopeStatus.UNKNOWN.value])
    return f'<span class="hd-chip {escape(status)}">{icon(symbol)}{word}</span>'


def tag(label: str, symbol: str = "", kind: str = "plain") -> str:
    """A chip that is not a status."""
    return f'<span class="hd-chip {kind}">{icon(symbol) if symbol else ""}{text(label)}</span>'


def heading(title: str, sub: str = "") -> str:
    """A card's title and what it shows; `sub` is HTML."""
    below = f'<p class="hd-sub">{sub}</p>' if sub else ""
    return f'<h2 class="hd-h" style="padding:0">{text(title)}</h2>{below}'


def page_head(crumb: str, title: str) -> str:
    """The breadcrumb and the page's title."""
    return f'<div class="hd-crumb">{text(crumb)}</div><h1 class="hd-title">{text(title)}</h1>'


def stat(label: str, value: str, below: str = "") -> str:
    """A label, a number, one line of comparison."""
    last = f'<div class="hd-small hd-2">{text(below)}</div>' if below else ""
    return (
        f'<div><div class="hd-small hd-2">{text(label)}</div><div class="hd-mid hd-num">{text(value)}</div>{last}</div>'
    )


def table(columns: list[tuple[str, str]], body: list[list[str]], bold: int | None = None) -> str:
    """A small fixed table.

    `columns`: (title, class); `body`: rows of HTML cells, escaped by the caller; row `bold` stands out.
    """
    head = "".join(f'<th class="{kind}">{text(title)}</th>' for title, kind in columns)
    lines = ""
    for number, row in enumerate(body):
        cells = "".join(f'<td class="{kind}">{cell}</td>' for (_, kind), cell in zip(columns, row, strict=True))
        lines += f'<tr class="{"on" if number == bold else ""}">{cells}</tr>'
    titles = f"<thead><tr>{head}</tr></thead>" if any(title for title, _ in columns) else ""
    return f'<div class="hd-scroll"><table class="hd-table">{titles}<tbody>{lines}</tbody></table></div>'
