"""The guardrail rules in force, and the way to change one."""

import streamlit as st

from dashboard import formats, session
from dashboard.components import cards, states
from dashboard.components.confirm_rule import ACTIONS, METRICS, limit_text
from dashboard.components.marks import table, text
from dashboard.queries.jobs import read_rules
from dashboard.queries.read import each


@session.live
def render() -> None:
    """The rules in force."""
    found = read_rules()
    with cards.head("rules", "Rules", "A limit, what follows, and after which grace"):
        names = [str(name) for name in found["name"]] if not found.empty else []
        chosen = (
            st.selectbox("Rule", names, key="gr-rule", label_visibility="collapsed", disabled=not names, width=150)
            if names
            else None
        )
        if st.button(
            "Change", icon=":material/edit:", key="gr-change", disabled=not names, help=None if names else "No rule yet"
        ):
            session.ask("rule", name=str(chosen))
        if st.button("Add", icon=":material/add:", key="gr-add"):
            session.ask("rule")
        cards.csv(found, "rules", "rules")
    if found.empty:
        states.empty("No rule yet", "The controller writes its defaults at its first start.", "rule")
        return
    body = []
    for row in each(found):
        limit = limit_text(str(row.metric), row.threshold if formats.known(row.threshold) else None)
        how = "Off" if not row.enabled else "Dry run" if row.dry_run else "On"
        body.append(
            [
                text(f"{row.name} v{row.version}"),
                text(METRICS.get(row.metric, row.metric).split(",")[0]),
                text(limit),
                text(ACTIONS.get(row.action, row.action)),
                text(formats.duration(row.grace_s)),
                how,
            ]
        )
    st.html(table([("Rule", ""), ("Judged by", "q"), ("Limit", "r"), ("Then", ""), ("Grace", "r"), ("", "q")], body))
