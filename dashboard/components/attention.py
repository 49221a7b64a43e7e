"""Needs attention: at most five lines, worst first; nothing is said plainly, with the time of the look."""

import streamlit as st

from dashboard import formats, session
from dashboard.components.marks import STATUS_WORDS, heading, icon, text
from dashboard.queries.attention import Item, read_attention
from dashboard.queries.standing import Standing, read_standing

SHOWN = 5


def item_html(item: Item, standing: Standing) -> str:
    """One line: icon, word, thing, age; under it what happened and what was done."""
    symbol, word = STATUS_WORDS[item.status]
    age = formats.age((standing.now - item.at).total_seconds())
    why = item.why if len(item.why) <= 170 else item.why[:167].rsplit(" ", 1)[0] + "…"
    return (
        f'<div class="hd-att {item.status}">{icon(symbol)}<span class="what"><em>{word}</em> <span class="hd-2">·'
        f"</span> {text(item.thing)}</span>"
        f'<span class="age hd-num" title="{text(formats.exact(item.at))}">{age}</span>'
        f'<span class="why">{text(why)}</span></div>'
    )


@session.live
def render() -> None:
    """The list, or one quiet sentence."""
    standing = read_standing()
    items = read_attention() if standing.started else ()
    count = f'<span class="hd-small hd-2 hd-num">{len(items)} open</span>' if items else ""
    st.html(f'<div class="hd-row"><div class="hd-grow">{heading("Needs attention")}</div>{count}</div>')
    if not items:
        checked = (
            f"Last checked {formats.clock_time(standing.tick_at)}."
            if standing.tick_at
            else "Nothing has been checked yet."
        )
        st.html(
            f'<p class="hd-text hd-2" style="margin:0">{"Nothing needs you. " if standing.started else ""}{checked}</p>'
        )
        return
    more = (
        f'<p class="hd-small hd-2" style="margin:0 0 0 28px">and {len(items) - SHOWN} more</p>'
        if len(items) > SHOWN
        else ""
    )
    st.html("".join(item_html(item, standing) for item in items[:SHOWN]) + more)
    pages = [item.page for item in items[:SHOWN] if item.page in ("guardrails", "scaling", "forecast")]
    if pages:
        st.page_link(f"views/{pages[0]}.py", label=f"Open {pages[0]}", icon=":material/arrow_forward:")
