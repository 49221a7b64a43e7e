"""What if: a past window replayed under another policy, envelope or offers, compared side by side."""

import streamlit as st

from dashboard import session
from dashboard.components import cards, heads, replay_comparison, replay_form, replays, requests, states
from dashboard.queries.replays import read_first_recorded
from dashboard.queries.standing import read_standing

WHAT_IT_TELLS = (
    "Each replay serves the same recorded requests by the demo's simulator, so that replays of one window differ by "
    "what you changed and nothing else. It can't tell of customers whom long waits would have driven away, of a market "
    "that would have answered otherwise, or of the surges, lost zones, jobs and overrides of the live demo, which are "
    "not replayed."
)


def ask() -> None:
    """The form and its button."""
    standing, first = read_standing(), read_first_recorded()
    with cards.card("ask", "Replay", "A past window, under something else"):
        if standing.document is None or first is None:
            states.empty("Nothing is recorded yet", "The controller records demand from its first start.", "history")
            return
        draft = replay_form.edit(standing, first)
        with st.container(horizontal=True, vertical_alignment="center"):
            pressed = st.button(
                "Review and run", type="primary", key="wi-review", disabled=bool(draft.wrong), help=draft.wrong or None
            )
        if pressed and draft.window is not None:
            session.ask(
                "replay",
                policy=draft.policy,
                window=draft.window,
                envelope=draft.envelope,
                offers={
                    "without_spot": draft.offers.without_spot,
                    "without_zones": list(draft.offers.without_zones),
                    "price_factors": dict(draft.offers.price_factors),
                },
                offers_told=draft.offers.told(),
                baselines=draft.baselines,
            )


def page() -> None:
    """The page from top to bottom."""
    with heads.page("What if"):
        pass
    st.html(f'<p class="hd-sub" style="max-width:960px">{WHAT_IT_TELLS}</p>')
    with st.container(key="wide-what-if"):
        left, right = st.columns([1, 1.6], gap="small")
        with left:
            ask()
        with right:
            with cards.card("replays"):
                replays.render()
            with cards.card("asked"):
                requests.recent(("ask_replay", "cancel_replay"), key="what-if")
    with cards.card("comparison"):
        replay_comparison.render()


if __name__ == "__main__":
    page()
