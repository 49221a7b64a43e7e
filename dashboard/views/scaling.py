"""Scaling: what was decided and why; an operator's hand on it, and the way back to automatic."""

import streamlit as st

from dashboard import formats, session
from dashboard.components import cards, decision, heads, overrides, requests, states
from dashboard.queries import plans
from models.enums import Mode

PASSIVE = {Mode.ADVISE.value: "◇ advised", Mode.OBSERVE.value: "○ noted"}
ARROWS = {"out": "▲ out", "in": "▼ in", "hold": "— hold"}


def advice(mode: str, would: dict[str, int] | None) -> str:
    """What an advised decision would start and release; nothing where it was only noted."""
    if mode != Mode.ADVISE.value:
        return ""
    return ", ".join(
        f"{'start' if count > 0 else 'release'} {abs(count)} × {offer}" for offer, count in (would or {}).items()
    )


@session.live
def decisions() -> None:
    """The decisions of the range. One chosen opens as a page of its own, with its id in the URL."""
    found = plans.read_decisions(session.hours())
    with cards.head("decisions", "Decisions", f"Last {session.range_word()}, newest first. Choose one to see why"):
        cards.csv(found, "decisions", "decisions")
    if found.empty:
        states.empty(
            "No decision in this range",
            "A tick that changes nothing adds no row. Choose a longer range.",
            "account_tree",
        )
        return
    found["change"] = [
        f"{before} → {after}" if before != after else f"{after}"
        for before, after in zip(found["before"], found["desired"], strict=True)
    ]
    found["what"] = [
        ARROWS[direction] if mode == Mode.ACT.value else PASSIVE[mode]
        for direction, mode in zip(found["direction"], found["mode"], strict=True)
    ]
    found["would"] = [advice(mode, would) for mode, would in zip(found["mode"], found["would"], strict=True)]
    found["bound"] = found["limit"].map(formats.limit)
    found["why"] = found["why"].map(formats.sentence)
    columns = {
        "made_at": cards.time_column("Decided", 128),
        "what": cards.text_column("", 62),
        "change": cards.text_column("Replicas", 78),
        "bound": cards.text_column("Bound by", 116),
        "why": cards.text_column("Why", 400),
        "actions": cards.number_column("Actions", 68),
        **({"would": cards.text_column("Would start or release", 200)} if found["would"].any() else {}),
        "id": cards.text_column("Plan", 86),
    }
    row = cards.grid(
        found,
        columns,
        key="sc-decisions",
        alt="Scaling decisions, newest first, each with its reason",
        select="id",
        height=330,
    )
    chosen = str(found.iloc[row]["id"]) if row is not None else None
    if chosen:
        st.switch_page("views/scaling.py", query_params=session.address(plan=chosen))


@session.live
def detail(plan_id: str) -> None:
    """One decision, as it goes on: replicas become ready, its hour is settled."""
    found = plans.read_decision(plan_id)
    if found:
        decision.render(found)


def page() -> None:
    """The page from top to bottom."""
    plan_id = st.query_params.get("plan")
    found = plans.read_decision(str(plan_id)) if plan_id else None
    crumb = f"Scaling / {plan_id} · {formats.exact(found.plan.made_at)}" if found else ""
    with heads.page(found.title if found else "Scaling", crumb):
        if plan_id and st.button("All decisions", icon=":material/arrow_back:", key="sc-back"):
            st.switch_page("views/scaling.py", query_params=session.address())
    if plan_id and found is None:
        with cards.card("missing"):
            states.empty(
                f"There is no decision {plan_id}",
                "It may be of another database. All decisions are listed under Scaling.",
                "search_off",
            )
    elif plan_id:
        detail(plan_id)
        return
    with st.container(key="wide-scaling"):
        left, right = st.columns([1.6, 1], gap="small")
        with left, cards.card("overrides", stretch=True):
            overrides.in_force()
        with right, cards.card("requests", stretch=True):
            requests.recent(
                ("override", "end_override", "pause_fleet", "resume_fleet", "set_mode"), key="scaling", shown=3
            )
    with cards.card("decisions"):
        decisions()
    with cards.card("past"):
        overrides.past()


if __name__ == "__main__":
    page()
