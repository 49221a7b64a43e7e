"""Empty, broken and missing: the same care as a page that has everything."""

import streamlit as st

from dashboard.components.marks import icon, text


def empty(title: str, advice: str = "", symbol: str = "inbox", height: int | None = None) -> None:
    """Nothing to show here yet: why, and what to do."""
    style = f' style="height:{height}px"' if height else ""
    below = f"<span>{text(advice)}</span>" if advice else ""
    st.html(f'<div class="hd-empty"{style}>{icon(symbol)}<b>{text(title)}</b>{below}</div>')


def failed_part(detail: str) -> None:
    """This part could not be read; the rest of the page stands. It tries again at the next refresh."""
    st.html(
        f'<div class="hd-banner breached" role="status">{icon("report")}<div><b>This part could not be read.</b> '
        "It tries again at the next refresh. Replicas stay under the controller."
        f'<details class="hd-small hd-2"><summary>Details</summary>{text(detail[:600])}</details></div></div>'
    )


def page_of_trouble(title: str, what: str, advice: str, detail: str = "") -> None:
    """A whole page that says what is wrong and what to do, in place of a traceback."""
    more = f"<details><summary>Details</summary>{text(detail[:1500])}</details>" if detail else ""
    st.html(
        f'<div class="hd-error" role="alert">{icon("database_off")}<h1>{text(title)}</h1><p>{text(what)}</p>'
        f'<p class="hd-2">{text(advice)}</p>{more}</div>'
    )
