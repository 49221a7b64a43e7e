"""The operators' room. A thin router: looks, navigation, the strip, the page, and the dialog a page asked for."""

from pathlib import Path

import streamlit as st
from sqlalchemy.exc import SQLAlchemyError

from dashboard import session
from dashboard.components import dialogs, plot, states, strip

HERE = Path(__file__).parent

PAGES = {
    "Operate": [
        st.Page(
            "views/fleet.py",
            title="Fleet",
            icon=":material/grid_view:",
            url_path="home",
            default=True,
            help="Spend and latency against the envelope, demand and capacity, replicas, what needs you.",
        ),
        # The default page has the root address only: this is its address by name.
        st.Page("views/fleet.py", title="Fleet", url_path="fleet", visibility="hidden"),
        st.Page(
            "views/envelope.py",
            title="Envelope",
            icon=":material/tune:",
            url_path="envelope",
            help="Targets and the spend cap: change, compare, confirm, roll back.",
        ),
        st.Page(
            "views/what_if.py",
            title="What if",
            icon=":material/history:",
            url_path="what-if",
            help="A past window replayed under another policy, envelope or offers, compared side by side.",
        ),
        st.Page(
            "views/forecast.py",
            title="Forecast",
            icon=":material/insights:",
            url_path="forecast",
            help="Forecast bands against what came, and how well each model does.",
        ),
        st.Page(
            "views/scaling.py",
            title="Scaling",
            icon=":material/account_tree:",
            url_path="scaling",
            help="Decisions and why they were made; overrides and the fleet-wide pause.",
        ),
        st.Page(
            "views/guardrails.py",
            title="Guardrails",
            icon=":material/shield:",
            url_path="guardrails",
            help="Jobs and what they burn, the rules they run under, what was stopped.",
        ),
    ],
    "Account": [
        st.Page(
            "views/ledger.py",
            title="Ledger",
            icon=":material/receipt_long:",
            url_path="ledger",
            help="Everything that was decided, done and asked for, with settlements.",
        ),
    ],
}


def main() -> None:
    """One run of the page."""
    st.set_page_config(
        page_title="Heddle", page_icon=HERE / "static" / "heddle-mark.svg", layout="wide", initial_sidebar_state=208
    )
    st.html(HERE / "heddle.css")
    st.logo(HERE / "static" / "heddle-logo.svg", size="medium", icon_image=HERE / "static" / "heddle-mark.svg")
    page = st.navigation(PAGES)
    gone_to = st.session_state.pop("go", None)
    if gone_to:  # a decision clicked in a chart or opened from the ledger
        st.switch_page("views/scaling.py", query_params=session.address(plan=gone_to))
    plot.theme_sync()
    wrong = session.trouble()
    if wrong:
        states.page_of_trouble(wrong.title, wrong.text, wrong.advice, wrong.detail)
        _try_again()
        return
    try:
        strip.render()
        strip.banner_part()
        page.run()
        dialogs.open_asked()
    except SQLAlchemyError as error:
        states.page_of_trouble(
            "The database could not be read",
            "A query failed. The controller acts without this page.",
            "The page tries again by itself. If it stays, run python -m controller migrate.",
            str(error),
        )
        _try_again()
    for message, icon in session.told():
        st.toast(message, icon=icon)


@st.fragment(run_every=5)
def _try_again() -> None:
    """Look again every few seconds; the first look is not worth a whole run."""
    if st.session_state.get("troubled"):
        st.session_state["troubled"] = False
        st.rerun()
    st.session_state["troubled"] = True


main()
