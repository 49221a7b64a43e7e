"""Closed clock hours: what they cost and missed, against a shadow HPA and against hindsight."""

import json
from datetime import timedelta
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import charts, formats, session
from dashboard.components import cards, states
from dashboard.components.marks import icon, stat, text
from dashboard.components.plot import plot
from dashboard.queries import records
from dashboard.queries.standing import Standing, read_standing
from models.enums import Mode

SHORTEST_H = 24.0


def total(values: Any) -> float | None:
    """The sum of what is known; None where nothing is."""
    known = pd.to_numeric(pd.Series(values), errors="coerce").dropna()
    return None if known.empty else float(known.sum())


def compared(found: pd.DataFrame) -> pd.DataFrame:
    """The hours whose comparison is known, all fleets."""
    return found[found["saved_usd"].notna() & found["regret_usd"].notna()]


def minutes(value: float | None) -> str:
    """SLO-minutes: "0", "4.2", "63"."""
    return formats.DASH if value is None else formats.number(value, 0 if value >= 10 or value == 0 else 1)


def cost(usd: float | None, miss_usd: float | None, missed: float | None) -> tuple[str, str]:
    """A fleet's dollars, and below it what it missed."""
    whole = None if usd is None or miss_usd is None else usd + miss_usd
    return formats.money(whole), f"{formats.money(usd)} replicas, {minutes(missed)} SLO-min"


def totals_html(found: pd.DataFrame, mode: str) -> str:
    """The range in numbers. What is compared is of the hours whose comparison is known, which are counted."""
    known = compared(found)
    hours = f"{len(found)} closed hours" if len(found) != 1 else "1 closed hour"
    measured = f"{minutes(total(found['slo_minutes']))} SLO-min measured"
    parts = [stat("Spent, jobs included", formats.money(total(found["usd"])), f"{hours}, {measured}")]
    names = {"fleet": "Heddle's fleet", "shadow": "Shadow HPA", "hindsight": "Hindsight"}
    if mode != Mode.ACT.value:
        names["fleet"] = "The fleet that was there"
    for name, label in names.items():
        sums = [total(known[f"{name}_{what}"]) for what in ("usd", "miss_usd", "slo_minutes")]
        parts.append(stat(label, *cost(*sums)))
    saved, regret = total(known["saved_usd"]), total(known["regret_usd"])
    parts.append(stat("Saved against the shadow", formats.signed_money(saved), "misses priced"))
    parts.append(stat("Regret against hindsight", formats.money(regret), "misses priced"))
    passive = known[known["mode"] != Mode.ACT.value]
    if len(passive):
        would = total(passive["would_save_usd"])
        parts.append(stat("Would have saved", formats.signed_money(would), f"{len(passive)} hours not acted in"))
    return f'<div class="hd-stats" style="margin-top:4px">{"".join(parts)}</div>'


def authority_html(standing: Standing) -> str:
    """Who leads, where there is something to say of it."""
    if not standing.authority:
        return ""
    kind, symbol = ("plain", "verified") if standing.planner_leads else ("stale", "undo")
    who = "The planner leads." if standing.planner_leads else "The reactive net leads."
    return (
        f'<div class="hd-banner {kind}" role="status">{icon(symbol)}<div><b>{who}</b> '
        f"{text(formats.sentence(standing.authority))}</div></div>"
    )


def unknown_html(found: pd.DataFrame) -> str:
    """How many hours can't be compared, or were never settled, and why."""
    told = []
    unknown = found[found["saved_usd"].isna() | found["regret_usd"].isna()]
    if len(unknown):
        gone = total(unknown["unknown_minutes"])
        why = f": {gone:,.0f} minutes were not measured" if gone else ""
        told.append(f"{formats.count(len(unknown), 'hour')} of {len(found)} can't be compared{why}.")
    spanned = (found["hour"].max() - found["hour"].min()) / timedelta(hours=1) + 1
    if spanned > len(found):
        told.append(f"{formats.count(spanned - len(found), 'hour')} closed while no controller ran.")
    if not told:
        return ""
    return f'<p class="hd-sub" style="margin-top:6px">{text(" ".join([*told, "The sums leave them out."]))}</p>'


@session.live
def render() -> None:
    """The account of the range: totals, a chart by hour, the table."""
    standing, hours = read_standing(), max(SHORTEST_H, session.hours())
    found = records.read_settlements(hours)
    with cards.head(
        "settlements",
        "Settlements",
        f"Closed clock hours, last {hours:g} h, beside a shadow HPA and hindsight on the same minutes. "
        "Bars: the fleet's replicas, and what it missed. Lines: the others, misses priced",
    ):
        cards.csv(
            found.assign(tiers=found["tiers"].map(json.dumps), authority=found["authority"].map(json.dumps)),
            "settlements",
            "settlements",
        )
    if found.empty:
        states.empty("No hour has closed yet", "Each clock hour is settled when it ends.", "request_quote")
        return
    st.html(totals_html(found, standing.mode) + unknown_html(found) + authority_html(standing))
    until = found["hour"].max() + timedelta(hours=1)
    figure = charts.settled(found, since=found["hour"].min(), until=until, keep=session.range_word())
    known = compared(found)
    fleet, shadow = (formats.money(total(known[f"{name}_usd"])) for name in ("fleet", "shadow"))
    over = int((found["within_cap"] == False).sum())  # noqa: E712  (None means no cap)
    alt = (
        f"Dollars by clock hour, misses priced: {fleet} for the fleet's replicas against {shadow} for the shadow's "
        f"over {len(known)} hours; {over} over the cap."
    )
    plot(figure, key="ledger-settled", alt=alt)
    grid(found)


def grid(found: pd.DataFrame) -> None:
    """A row an hour."""
    shown = found.assign(
        cap=[{True: "● Within", False: "■ Over"}.get(held, "no cap") for held in found["within_cap"]],
        led=[
            ("planner" if led else "reactive net") if mode == Mode.ACT.value else formats.words(mode)
            for led, mode in zip(found["planner_led"], found["mode"], strict=True)
        ],
        text=found["text"].map(formats.sentence),
    )
    would = cards.number_column("Would save", 78, "dollar", help="Had the decisions been carried out")
    unknown = cards.number_column("Unknown", 64, "%d min", help="Minutes that were not measured")
    columns = {
        "hour": st.column_config.DatetimeColumn("Hour, UTC", width=96, format="D MMM HH:mm", timezone="UTC"),
        "usd": cards.number_column("Spend", 64, "$%.2f", help="Measured, jobs included"),
        "cap": cards.text_column("Cap", 74),
        "slo_minutes": cards.number_column("SLO-min", 62, "%.1f", help="Measured by telemetry, all tiers"),
        "fleet_usd": cards.number_column("Fleet", 60, "$%.2f", help="Replicas of the fleet that was there"),
        "fleet_slo_minutes": cards.number_column("missed", 58, "%.1f", help="SLO-minutes of that fleet in the model"),
        "shadow_usd": cards.number_column("Shadow", 62, "$%.2f", help="Replicas of a Kubernetes HPA"),
        "shadow_slo_minutes": cards.number_column("missed", 58, "%.1f", help="SLO-minutes of the shadow in the model"),
        "hindsight_usd": cards.number_column("Hindsight", 72, "$%.2f", help="Replicas of the best known afterwards"),
        "saved_usd": cards.number_column("Saved", 64, "dollar", help="Against the shadow, misses priced"),
        "regret_usd": cards.number_column("Regret", 64, "$%.2f", help="Against hindsight, misses priced"),
        **({"would_save_usd": would} if (shown["mode"] != Mode.ACT.value).any() else {}),
        **({"unknown_minutes": unknown} if shown["unknown_minutes"].any() else {}),
        "led": cards.text_column("Led by", 84),
        "text": cards.text_column("Outcome", 320),
    }
    cards.grid(
        shown, columns, key="ledger-settlements", alt="Settled hours", height=300 if len(shown) > 8 else "content"
    )
