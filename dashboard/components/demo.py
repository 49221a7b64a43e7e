"""Demo controls: the simulated cluster's clock, and three ways to trouble it. Each is an intent like any other."""

import streamlit as st

from dashboard import intents, session
from dashboard.queries.fleet import zones
from dashboard.queries.standing import read_standing
from models.enums import IntentKind

SPEEDS = (1, 10, 60, 300, 600)


def ask(kind: IntentKind, told: str, **fields: str) -> None:
    """Write the intent and say so. Runs as a button's callback.

    `fields`: which widget holds each value. It is read now: what was changed just before the press may not have been
    drawn yet, so that a value given to the button would be the one before. `told` may name them in braces.
    """
    payload = {name: st.session_state[key] or 1 for name, key in fields.items()}
    number = intents.demo(kind, **payload)
    session.tell(f"{told.format(**payload)} Request {number} is pending.", ":material/science:")


def controls() -> None:
    """A popover, shown only where the cluster is simulated."""
    standing = read_standing()
    if not standing.simulated:
        return
    with st.popover("Demo controls", icon=":material/science:", key="demo", width="content"):
        st.caption("For the simulated cluster. Each is recorded in the ledger.")
        with st.container(horizontal=True, vertical_alignment="bottom"):
            st.button(
                "Pause",
                icon=":material/pause:",
                key="demo-pause",
                on_click=ask,
                args=(IntentKind.DEMO_PAUSE, "Pause of the clock asked for."),
            )
            st.button(
                "Resume",
                icon=":material/play_arrow:",
                key="demo-resume",
                on_click=ask,
                args=(IntentKind.DEMO_RESUME, "Resume of the clock asked for."),
            )
            st.selectbox(
                "Speed",
                SPEEDS,
                index=SPEEDS.index(60) if standing.speed not in SPEEDS else SPEEDS.index(int(standing.speed)),
                format_func=lambda x: f"{x}×",
                key="demo-speed",
                width=96,
            )
            st.button(
                "Set speed",
                key="demo-set-speed",
                on_click=ask,
                args=(IntentKind.DEMO_SPEED, "Speed {speed}× asked for."),
                kwargs={"speed": "demo-speed"},
            )
        with st.container(horizontal=True, vertical_alignment="bottom"):
            st.number_input(
                "Surge, times", min_value=1.1, max_value=10.0, value=3.0, step=0.5, key="demo-factor", width=120
            )
            st.number_input("for, minutes", min_value=1, max_value=240, value=20, step=5, key="demo-minutes", width=120)
            st.button(
                "Inject a surge",
                icon=":material/trending_up:",
                key="demo-surge",
                on_click=ask,
                args=(IntentKind.DEMO_SURGE, "Surge asked for."),
                kwargs={"factor": "demo-factor", "minutes": "demo-minutes"},
            )
        known = zones()
        with st.container(horizontal=True, vertical_alignment="bottom"):
            st.selectbox("Zone", known, key="demo-zone", width=150, disabled=not known)
            st.number_input("for, minutes", min_value=1, max_value=240, value=30, step=5, key="demo-lost", width=120)
            st.button(
                "Lose a zone",
                icon=":material/cloud_off:",
                key="demo-lose",
                on_click=ask,
                disabled=not known,
                args=(IntentKind.DEMO_LOSE_ZONE, "Loss of {zone} asked for."),
                kwargs={"zone": "demo-zone", "minutes": "demo-lost"},
            )
        with st.container(horizontal=True):
            st.button(
                "Start a runaway",
                icon=":material/all_inclusive:",
                key="demo-runaway",
                on_click=ask,
                args=(IntentKind.DEMO_RUNAWAY, "Runaway asked for."),
            )
            st.button(
                "Reset the demo",
                icon=":material/restart_alt:",
                key="demo-reset",
                on_click=ask,
                args=(IntentKind.DEMO_RESET, "Reset asked for."),
            )
