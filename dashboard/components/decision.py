"""One decision: its timeline, why, the options beside it, what was done, what came of it, and the record."""

from typing import Any

import pandas as pd
import streamlit as st

from dashboard import charts, formats
from dashboard.components import cards, states
from dashboard.components.marks import heading, stat, table, text
from dashboard.components.plot import plot
from dashboard.queries import demand
from dashboard.queries.plans import Decision
from dashboard.queries.standing import read_standing
from models.enums import Limit, Mode


def timeline_html(decision: Decision) -> str:
    """Seen, forecast, decided, acted, ready, settled: even steps, the times written."""
    plan, acts = decision.plan, decision.actions
    made = formats.clock_time(plan.made_at)
    requested = acts["requested_at"].min() if len(acts) else None
    done = int(acts["status"].isin(["accepted", "confirmed"]).sum()) if len(acts) else 0
    load, settled = plan.numbers.get("load_now"), decision.settlement
    steps: list[tuple[str, str, str, str]] = [
        (
            "Seen",
            made,
            f"{formats.number(load)} GPUs busy, {plan.observed_ready} ready"
            if load is not None
            else f"{plan.observed_ready} ready, {plan.observed_coming} coming",
            "",
        ),
        ("Required", made, f"{formats.count(plan.required, 'replica')}, stabilized {plan.stabilized}", ""),
        ("Decided", made, f"{decision.before} → {plan.desired} replicas", "on"),
        (
            "Acted",
            formats.clock_time(requested) if requested is not None else formats.DASH,
            f"{done} of {len(acts)} accepted" if len(acts) else "Nothing to do",
            "" if len(acts) else "wait",
        ),
    ]
    if decision.started_count:
        ready = decision.ready_at
        told = f"{decision.ready_count} of {decision.started_count}" + (
            f", {formats.duration((ready - plan.made_at).total_seconds())}" if ready else ""
        )
        steps.append(("Ready", formats.clock_time(ready) if ready else formats.DASH, told, "" if ready else "wait"))
    if settled is not None:
        within = {True: "within the cap", False: "over the cap", None: "no cap"}[settled.within_cap]
        steps.append(
            (
                "Settled",
                f"{settled.hour:%H}:00 to {(settled.hour.hour + 1) % 24:02d}:00",
                f"{formats.money(settled.usd)}, {within}",
                "",
            )
        )
    else:
        steps.append(("Settled", formats.DASH, "When its hour has closed", "wait"))
    body = "".join(
        f'<div class="{kind}"><b>{word}</b><span class="hd-num">{text(when)}</span><br>'
        f'<span class="x">{text(what)}</span></div>'
        for word, when, what, kind in steps
    )
    return heading("Timeline") + f'<div class="hd-line">{body}</div>'


def _numbers(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{formats.label(name).lower()} {formats.measured(name, value)}"
        for name, value in values.items()
        if value is not None
    )


def stage(reason: dict[str, Any]) -> str:
    """What a stage is called: by its limit, and by its numbers where none bound it."""
    limit = str(reason.get("limit", ""))
    if limit != Limit.NONE.value:
        return formats.limit(limit)
    return "Mix" if "carried" in (reason.get("numbers") or {}) else "No limit"


def why_html(decision: Decision) -> str:
    """The limit that bound, then each stage with its numbers, then the inputs."""
    plan = decision.plan
    quote = (
        '<div class="hd-quote"><div class="k">Binding limit</div>'
        f'<div class="t">{text(formats.limit(plan.bound_limit))}</div>'
        f'<div class="x">{text(formats.sentence(plan.bound_text))}</div></div>'
    )
    stages = [
        [
            text(stage(r)),
            (
                f"{text(formats.sentence(str(r.get('text', ''))))}<br>"
                f"<span class='hd-2'>{text(_numbers(r.get('numbers') or {}))}</span>"
            ),
        ]
        for r in plan.reasons
    ]
    inputs = [[text(formats.label(name)), text(formats.measured(name, value))] for name, value in plan.numbers.items()]
    return (
        heading("Why", "The limit that bound, each stage that led there, and what it was computed from")
        + quote
        + (table([("Stage", "k"), ("Reason", "")], stages) if stages else "")
        + (f'<div style="height:12px"></div>{table([("Input", "k"), ("Value", "r")], inputs)}' if inputs else "")
    )


def options_html(decision: Decision) -> str:
    """What was considered, each with its price and reason; the chosen one stands out."""
    options = decision.plan.options
    if not options:
        return heading("Options considered", "None was recorded")
    chosen = next((n for n, option in enumerate(options) if str(option.get("why", "")).lower() == "chosen"), None)
    names = list(dict.fromkeys(key for option in options for key in option))
    numeric = {
        name
        for name in names
        if all(isinstance(option.get(name), int | float) or option.get(name) is None for option in options)
    }
    titles = {"usd_per_hour": "$/h", "option": "Option", "why": "Why"}
    rows = [
        [
            text(
                formats.sentence(str(option.get(name) or "")).rstrip(".")
                if name not in numeric
                else formats.measured(name, option.get(name))
            )
            for name in names
        ]
        for option in options
    ]
    return heading("Options considered") + table(
        [(titles.get(name, formats.words(name)), "r" if name in numeric else "") for name in names], rows, chosen
    )


def target_held(tier: Any) -> bool | None:
    """Whether a tier's target was held in a settled hour; None where there were no requests to hold it for."""
    return tier.get("held", tier.get("met", tier.get("target_met"))) if isinstance(tier, dict) else None


def settlement_html(decision: Decision) -> str:
    """What its clock hour came to."""
    settled = decision.settlement
    if settled is None:
        return heading("Settlement", "Its clock hour has not closed yet")
    known = [held for held in map(target_held, settled.tiers.values()) if held is not None]
    silent = len(settled.tiers) - len(known)
    if not known:
        targets = "no requests" if silent else formats.DASH
    else:
        targets = f"{sum(known)} of {len(known)}"
    cap = f"cap {formats.money(settled.cap_usd)}" if settled.cap_usd is not None else "no cap"
    stats = (
        stat("Spend, that hour", formats.money(settled.usd), cap)
        + stat("Targets held", targets, f"{formats.count(silent, 'tier')} without requests" if known and silent else "")
        + stat("Requests", formats.count(settled.requests))
    )
    return (
        heading("Settlement", text(formats.sentence(settled.text)))
        + f'<div class="hd-stats" style="margin-top:8px">{stats}</div>'
        + part_html(decision)
    )


def part_html(decision: Decision) -> str:
    """What this decision's own minutes cost and missed, beside the shadow's and hindsight's; unknown is a dash."""
    part = decision.part
    if part is None:
        return ""
    names = {"fleet": "The fleet that was there", "shadow": "Shadow HPA", "hindsight": "Hindsight"}
    if decision.plan.mode != Mode.ACT.value or decision.plan.would_by_offer is not None:
        names = {"fleet": names["fleet"], "planned": "As the planner decided", **names}
    rows = []
    for name, label in names.items():
        usd, missed, priced = (part[f"{name}_{what}"] for what in ("usd", "slo_minutes", "miss_usd"))
        rows.append(
            [
                text(label),
                formats.money(usd),
                formats.number(missed, 1),
                formats.money(usd + priced),
            ]
        )
    saved, regret, would = part["saved_usd"], part["regret_usd"], part["would_save_usd"]
    told = f"{formats.signed_money(saved)} saved against the shadow, {formats.money(regret)} of regret"
    if "planned" in names:
        told += f", {formats.signed_money(would)} had it been carried out"
    return (
        '<div style="height:12px"></div>'
        + heading(f"Its own {formats.duration(part['minutes'] * 60)}", f"Until the next decision. {text(told)}")
        + table([("Fleet", "k"), ("Replicas", "r"), ("SLO-min", "r"), ("With misses", "r")], rows)
    )


def would_html(decision: Decision) -> str:
    """What it would start and release, where it only advises."""
    change = decision.plan.would_change or {}
    if decision.plan.mode != Mode.ADVISE.value:
        return ""
    if not change:
        return heading("Advice", "Nothing to start or release: what is there is what it would hold")
    rows = [
        [text("Would start" if count > 0 else "Would release"), str(abs(count)), text(offer)]
        for offer, count in change.items()
    ]
    return heading("Advice", "Not done: the service is in mode advise") + table(
        [("", "k"), ("Replicas", "r"), ("Offer", "")], rows
    )


def record_html(decision: Decision) -> str:
    """Who decided, under which envelope, for how long, and the mix."""
    plan = decision.plan
    rows = [
        ("Plan", f"{plan.id}, {formats.count(plan.action_count, 'action')}"),
        ("Decided by", f"{plan.policy}, fencing epoch {plan.epoch}"),
        ("Envelope", f"v{plan.envelope_version}"),
        ("Held until", formats.exact(plan.held_until)),
        ("Gave way", ", ".join(plan.shed) or "nobody"),
        ("Mode", formats.words(plan.mode)),
        ("Mix", ", ".join(f"{n} × {offer}" for offer, n in plan.desired_by_offer.items() if n) or formats.DASH),
    ]
    return heading("Record") + table([("", "k"), ("", "")], [[text(name), text(value)] for name, value in rows])


def _around(decision: Decision) -> None:
    """Load, forecast and capacity around the decision."""
    made = pd.Timestamp(decision.plan.made_at)
    standing = read_standing()
    back = max(1.0, (standing.now - decision.plan.made_at).total_seconds() / 3600 + 1.0)
    if back > 168:
        return
    hours = 6.0 if back <= 6 else 24.0 if back <= 24 else 168.0
    since, until = made - pd.Timedelta(hours=1), made + pd.Timedelta(hours=1.5)
    load = demand.regular(demand.read_load(hours), demand.ALL, hours)
    paths, capacity = demand.read_paths(demand.ALL, 600, hours).table, demand.read_capacity(hours)
    load = load[(load.index >= since) & (load.index <= until)] if not load.empty else load
    paths = paths[(paths["at"] >= since) & (paths["at"] <= until)] if not paths.empty else paths
    capacity = capacity[(capacity["at"] >= since) & (capacity["at"] <= until)] if not capacity.empty else capacity
    if load.empty:
        return
    figure = charts.around(
        load,
        paths,
        capacity,
        since=since.to_pydatetime(),
        decided=decision.plan.made_at,
        until=until.to_pydatetime(),
        keep=decision.plan.id,
    )
    plot(
        figure,
        key="decision-around",
        alt=f"Load, forecast and capacity from an hour before the decision: {decision.title}.",
    )


def render(decision: Decision) -> None:
    """The page of one decision."""
    with cards.card("timeline"):
        st.html(timeline_html(decision))
    with st.container(key="wide-decision"):
        left, right = st.columns([1.25, 1], gap="small")
        with left:
            with cards.card("why"):
                st.html(why_html(decision))
            with cards.card("options"):
                st.html(options_html(decision))
        with right:
            if advice := would_html(decision):
                with cards.card("advice"):
                    st.html(advice)
            with cards.card("settlement"):
                st.html(settlement_html(decision))
                _around(decision)
            with cards.card("record"):
                st.html(record_html(decision))
    with cards.card("actions"):
        with cards.head("actions", "Actions", "Written before they were done, each at most once"):
            cards.csv(decision.actions, f"actions-{decision.plan.id}", "actions")
        if decision.actions.empty:
            if decision.plan.mode == Mode.ACT.value:
                states.empty(
                    "Nothing was to be done", "The replicas already were what was decided.", icon_name(decision)
                )
            else:
                mode = formats.words(decision.plan.mode).lower()
                states.empty("Nothing was done", f"The service was in mode {mode}.", "visibility")
            return
        acts = decision.actions.assign(
            kind=decision.actions["kind"].map(formats.words), status=decision.actions["status"].map(formats.words)
        )
        columns = {
            "id": cards.text_column("Action", 110),
            "kind": cards.text_column("What", 120),
            "offer_id": cards.text_column("Offer", 190),
            "replica_id": cards.text_column("Replica", 90),
            "status": cards.text_column("Status", 90),
            "requested_at": cards.time_column("Requested"),
            "confirmed_at": cards.time_column("Confirmed"),
            "detail": cards.text_column("Detail", 120),
        }
        cards.grid(acts, columns, key="decision-actions", alt="Actions of this decision", height="content")


def icon_name(decision: Decision) -> str:
    """The symbol of a decision without actions."""
    return "check" if decision.plan.desired == decision.plan.observed_ready else "pause"
