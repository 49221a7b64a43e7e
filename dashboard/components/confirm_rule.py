"""Changing a guardrail rule: a new version, with its reason."""

from typing import Any

import streamlit as st

from dashboard import formats, intents
from dashboard.components import dialogs
from dashboard.queries.jobs import read_rules
from models.enums import GuardAction, RuleMetric

MONEY = (RuleMetric.COST.value, RuleMetric.PROJECTED_COST.value)
METRICS = {
    RuleMetric.COST.value: "Cost so far, $",
    RuleMetric.PROJECTED_COST.value: "Projected final cost, $",
    RuleMetric.DURATION.value: "Running time, minutes",
    RuleMetric.NO_PROGRESS.value: "Time without progress, minutes",
}
ACTIONS = {
    GuardAction.ALERT.value: "Alert only",
    GuardAction.THROTTLE.value: "Suspend",
    GuardAction.KILL.value: "Suspend, then kill",
}


def limit_text(metric: str, threshold: float | None) -> str:
    """A rule's limit in its own unit."""
    if threshold is None:
        return "the job's own limit"
    return formats.money(threshold) if metric in MONEY else formats.duration(threshold)


def edit(name: str = "") -> None:
    """Gather a new version of the rule `name`, or a new rule."""
    rules = read_rules()
    found = rules[rules["name"] == name]
    rule: dict[str, Any] = {str(k): v for k, v in found.iloc[0].items()} if len(found) else {}
    version = int(rule.get("version", 0))

    @st.dialog(f"Change rule {name}?" if rule else "Add a rule?", width="medium")
    def body() -> None:
        title = name or str(st.text_input("Name", key="rule-name", max_chars=60) or "").strip()
        left, right = st.columns(2)
        metric = str(
            left.selectbox(
                "Judged by",
                list(METRICS),
                index=_at(list(METRICS), rule.get("metric")),
                format_func=METRICS.__getitem__,
                key="rule-metric",
            )
        )
        action = str(
            right.selectbox(
                "Then",
                list(ACTIONS),
                index=_at(list(ACTIONS), rule.get("action")),
                format_func=ACTIONS.__getitem__,
                key="rule-action",
            )
        )
        in_money = metric in MONEY
        own = in_money and left.checkbox(
            "Each job's own cost limit", value=bool(rule) and _missing(rule.get("threshold")), key="rule-own"
        )
        threshold = None
        if not own:
            before = (
                None if _missing(rule.get("threshold")) or rule.get("metric") != metric else float(rule["threshold"])
            )
            shown = (before if in_money else before / 60) if before is not None else 25.0 if in_money else 60.0
            typed = left.number_input(
                "Limit, $" if in_money else "Limit, minutes", min_value=0.1, value=shown, key=f"rule-limit-{metric}"
            )
            threshold = float(typed or 0) * (1 if in_money else 60)
        grace = right.number_input(
            "Grace before the next step, s",
            min_value=0,
            max_value=86_400,
            value=int(rule.get("grace_s", 120)),
            step=10,
            key="rule-grace",
        )
        enabled = left.toggle("Enabled", value=bool(rule.get("enabled", True)), key="rule-enabled")
        dry = right.toggle("Dry run: judge, do not act", value=bool(rule.get("dry_run", False)), key="rule-dry")
        before_text = (
            limit_text(str(rule["metric"]), None if _missing(rule["threshold"]) else rule["threshold"])
            if rule
            else formats.DASH
        )
        dialogs.facts(
            [
                ("Version", f"v{version} → v{version + 1}"),
                ("Limit", f"{before_text} → {limit_text(metric, threshold)}"),
                ("Takes effect", "At the next guard check, for every job"),
            ]
        )
        reason = dialogs.reason_field("rule-reason", "Nightly runs take longer now")
        verb = f"Apply v{version + 1}"
        if dialogs.buttons(
            f"Keep v{version}" if rule else "Add nothing", verb, ready=bool(reason and title), key="rule"
        ):
            dialogs.perform(
                lambda: intents.set_rule(
                    title,
                    RuleMetric(metric),
                    threshold,
                    GuardAction(action),
                    float(grace or 0),
                    reason,
                    dry_run=dry,
                    enabled=enabled,
                ),
                f"Rule {title} v{version + 1} asked for.",
            )

    body()


def _at(options: list[str], value: Any) -> int:
    return options.index(value) if value in options else 0


def _missing(value: Any) -> bool:
    return value is None or value != value
