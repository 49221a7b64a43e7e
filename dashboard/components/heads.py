"""The head of a page: where one is, its title, and at the right the badge that says this cluster is simulated."""

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from dashboard import session
from dashboard.components.marks import page_head, tag
from dashboard.queries.standing import read_standing


@session.live
def _badge() -> None:
    standing = read_standing()
    if not standing.started:
        return
    moment = standing.now.strftime("%a %-d %b %Y %H:%M UTC")
    pace = "paused" if standing.paused else "real time" if standing.speed == 1 else f"{standing.speed:g}×"
    kind = tag("Simulated", "science") if standing.simulated else tag("Live", "sensors")
    st.html(
        f'<div class="hd-row hd-small hd-2" style="justify-content:flex-end;white-space:nowrap">{kind}'
        f'<span class="hd-num">{moment}, {pace}</span></div>'
    )


@contextmanager
def page(title: str, crumb: str = "") -> Iterator[None]:
    """The title at the left; what is drawn inside stands at the right, after the badge."""
    with st.container(
        horizontal=True, key="page-head", vertical_alignment="bottom", horizontal_alignment="distribute", wrap=False
    ):
        st.html(page_head(crumb or f"{read_standing().service} · Operate", title))
        with st.container(
            horizontal=True,
            width="content",
            vertical_alignment="center",
            horizontal_alignment="right",
            gap="small",
            wrap=False,
        ):
            with st.container(width="content"):
                _badge()
            yield
