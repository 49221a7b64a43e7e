"""The envelope as a form, and as a difference.

A draft is a document; its problems are found by the same core that the controller uses.
"""

from typing import Any

import streamlit as st

from controller.core.envelope import EnvelopeError, EnvelopeFacts, EnvelopeProblem, check_envelope, parse_envelope
from dashboard import formats
from dashboard.components import degradation
from dashboard.components.marks import heading, icon, text
from models.enums import LatencyOf

STATISTICS = ["mean", "p50", "p90", "p95", "p99", "p100"]
UNITS = {"ms": 1.0, "s": 1000.0, "min": 60_000.0}

Document = dict[str, Any]
Change = tuple[str, str, str]


def unit_of(target_ms: float) -> str:
    """The unit a target is edited in."""
    return "ms" if target_ms < 10_000 else "s" if target_ms < 600_000 else "min"


def problems(document: Document, service: str, facts: EnvelopeFacts | None) -> tuple[EnvelopeProblem, ...]:
    """What stands against a draft, refusals first. Without facts only its own consistency is judged."""
    try:
        envelope = parse_envelope(document, service)
    except EnvelopeError as error:
        return (EnvelopeProblem(error.field, error.reason, error.nearest, "refuse"),)
    return check_envelope(envelope, facts) if facts else ()


def _replicas(document: Document, key: str) -> str:
    values = list((document.get(key) or {}).values())
    return formats.count(values[0], "replica") if values and values[0] is not None else "none"


def told(document: Document) -> list[tuple[str, str]]:
    """A document as rows of thing and value."""
    cap = document.get("spend_cap_usd_per_hour")
    rows = [("Spend cap", formats.rate(cap) if cap is not None else "none")]
    for name, body in (document.get("tiers") or {}).items():
        latency = body.get("latency") or {}
        target = float(latency.get("target_ms", 0))
        of = "" if latency.get("of", LatencyOf.WAIT.value) == LatencyOf.WAIT.value else ", end to end"
        window = formats.duration(float(latency.get("window_s", 3600)))
        rows.append(
            (
                formats.words(name),
                f"{latency.get('statistic', 'mean')} {formats.wait(target, target <= 1000)} over {window}{of}",
            )
        )
        rows.append((f"{formats.words(name)} tenants", f"{float(body.get('tenants_percent', 0)):g}%"))
    rows += [("Floor", _replicas(document, "floors")), ("Ceiling", _replicas(document, "ceilings"))]
    variants = document.get("variants") or {}
    rows.append(
        ("Gives way", ", then ".join(degradation.step_words(step, variants) for step in degradation.order_of(document)))
    )
    return rows


def difference(before: Document, after: Document) -> list[Change]:
    """Every row of either, in order: thing, before, after ("same" where nothing changed)."""
    old, new = dict(told(before)), dict(told(after))
    names = list(new) + [name for name in old if name not in new]
    return [
        (name, old.get(name, formats.DASH), "same" if old.get(name) == new.get(name) else new.get(name, "removed"))
        for name in names
    ]


def changed(before: Document, after: Document) -> bool:
    """Whether any row differs."""
    return any(after_text != "same" for _, _, after_text in difference(before, after))


def problem_html(problem: EnvelopeProblem) -> str:
    """Why a draft is refused (or only warned of), with the nearest value that would do."""
    kind, symbol = ("", "report") if problem.severity == "refuse" else ("warn", "warning")
    where = formats.label(problem.field.removeprefix("tiers.").replace(".latency", ""))
    nearest = f" Nearest feasible: <b>{text(problem.nearest)}</b>." if problem.nearest else ""
    return (
        f'<div class="hd-problem {kind}" role="alert">{icon(symbol)}<div><b>{text(where)}'
        f"</b>: {text(formats.sentence(problem.reason))}{nearest}</div></div>"
    )


def edit_tier(name: str, body: Document, key: str) -> Document:
    """One tier's line of the form."""
    latency = body.get("latency") or {}
    target = float(latency.get("target_ms", 1000))
    unit = unit_of(target)
    st.html(
        f'<div class="hd-row" style="gap:8px"><span class="hd-sw {text(name)}"></span>'
        f'<b class="hd-b hd-text">{text(formats.words(name))}</b></div>'
    )
    first, second, third, fourth, fifth = st.columns([1.15, 1, 1.05, 0.85, 0.85], gap="small")
    known = [
        *STATISTICS,
        *([str(latency["statistic"])] if latency.get("statistic") and latency["statistic"] not in STATISTICS else []),
    ]
    statistic = first.selectbox(
        "Statistic",
        known,
        index=known.index(str(latency.get("statistic", "mean"))),
        key=f"{key}-stat",
        help="p100 is a deadline: the longest wait of the window",
    )
    value = second.number_input(
        f"Target, {unit}",
        value=target / UNITS[unit],
        key=f"{key}-target",
        format="%g",
        step=10.0 if unit == "ms" else 1.0,
    )
    of = third.selectbox(
        "Of",
        [kind.value for kind in LatencyOf],
        index=[k.value for k in LatencyOf].index(latency.get("of", "wait")),
        format_func=lambda x: "wait" if x == "wait" else "end to end",
        key=f"{key}-of",
    )
    window = fourth.number_input(
        "Window, min", value=float(latency.get("window_s", 3600)) / 60, key=f"{key}-window", format="%g", step=5.0
    )
    share = fifth.number_input(
        "Tenants, %", value=float(body.get("tenants_percent", 0)), key=f"{key}-share", format="%g", step=5.0
    )
    return {
        "tenants_percent": share,
        "latency": {
            "of": of,
            "statistic": statistic,
            "target_ms": round((value or 0) * UNITS[unit], 6),
            "window_s": (window or 0) * 60,
        },
    }


def edit(document: Document, service: str, key: str, facts: EnvelopeFacts | None) -> Document:
    """The whole form over `document`.

    A new `key` starts it afresh. Returns the draft it states, refused parts named in place.
    """
    draft: Document = {
        "spend_cap_usd_per_hour": None,
        "tier_salt": document.get("tier_salt", ""),
        "tiers": {},
        "floors": {},
        "ceilings": {},
    }
    slots = {}
    for name, body in (document.get("tiers") or {}).items():
        draft["tiers"][name] = edit_tier(name, body, f"{key}-{name}")
        slots[f"tiers.{name}"] = st.empty()
    slots["tiers"] = st.empty()
    st.html(heading("Spend cap and replicas", "Dollars accrued in each clock hour, jobs included. Empty: none"))
    first, second, third = st.columns(3)
    cap = document.get("spend_cap_usd_per_hour")
    draft["spend_cap_usd_per_hour"] = first.number_input(
        "Cap, $ an hour",
        value=None if cap is None else float(cap),
        key=f"{key}-cap",
        format="%g",
        step=1.0,
        placeholder="none",
    )
    for slot, (part, label) in zip((second, third), (("floors", "Floor"), ("ceilings", "Ceiling")), strict=True):
        held = (document.get(part) or {}).get(service)
        number = slot.number_input(
            label, value=None if held is None else int(held), key=f"{key}-{part}", step=1, placeholder="none"
        )
        draft[part] = {} if number is None else {service: int(number)}
    for field in ("spend_cap_usd_per_hour", "floors", "ceilings"):
        slots[field] = st.empty()
    if document.get("variants"):
        draft["variants"] = document["variants"]
    draft["degrade"] = degradation.edit({**draft, "degrade": document.get("degrade")}, key)
    for field in ("degrade", "variants"):
        slots[field] = st.empty()
    found = problems(draft, service, facts)
    placed: set[str] = set()
    for field in sorted(slots, key=len, reverse=True):
        mine = tuple(
            p for p in found if p.field not in placed and (p.field == field or p.field.startswith(field + "."))
        )
        placed |= {problem.field for problem in mine}
        if mine:
            with slots[field]:
                st.html("".join(problem_html(problem) for problem in mine))
    return draft
