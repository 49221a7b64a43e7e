"""How well forecasts did: live, of who serves now, and in the backtest, of every model."""

from typing import Any

import pandas as pd
import streamlit as st

from controller.core.forecast.standing import demotion
from dashboard import formats, session
from dashboard.components import cards, states
from dashboard.queries import demand
from dashboard.queries.standing import read_standing

GRID_WORDS = {60: "Next hour", 600: "Next day", 3600: "Next day, hourly"}
LEVELS = (80, 90, 95)


@session.live
def render(tier: str) -> None:
    """Who forecasts and how well that came true; below, each model's score in the backtest."""
    lines, scores = _of(demand.read_lines(), tier), _of(demand.read_scores(), tier)
    sub = "What was issued against what came, live. Coverage over the last day: as the model gave it → as issued"
    with cards.head("accuracy", "Accuracy", sub):
        cards.csv(lines, "forecast-standings", "standings")
    if lines.empty and scores.empty:
        states.empty("No scores yet", "A model is scored when the time that it forecast has come.", "leaderboard")
        return
    if not lines.empty:
        _lines(lines)
    if not scores.empty:
        sub = "Every model over past origins. The least pinball loss leads; a combination unless clearly beaten"
        with cards.head("backtest", "In the backtest", sub):
            cards.csv(scores, "forecast-accuracy", "accuracy")
        _scores(scores)


def _of(table: pd.DataFrame, tier: str) -> pd.DataFrame:
    """The rows of the tier chosen; of all tiers together where that is told apart."""
    if table.empty:
        return table
    told = table[table["tier"] == ("+".join(read_standing().tiers) if tier == demand.ALL else tier)]
    shown = told if len(told) or tier != demand.ALL else table
    order = {name: number for number, name in enumerate(read_standing().tiers)}
    return shown.assign(order=shown["tier"].map(order)).sort_values(["step_s", "order", "tier"], ignore_index=True)


def _lines(lines: pd.DataFrame) -> None:
    for row in lines[lines["serving"] != lines["leader"]].itertuples():
        where = f"{_tier(str(row.tier))}, {GRID_WORDS.get(int(str(row.step_s)), '').lower()}"
        st.html(f'<p class="hd-sub">{where}: {_safe(demotion(str(row.leader), str(row.judgement or "")))}</p>')
    table = lines.assign(
        grid=lines["step_s"].map(GRID_WORDS),
        tier=lines["tier"].map(_tier),
        model=lines["serving"].map(formats.model),
        state=[
            "● Leads" if serving == leader else "▼ Stands in"
            for serving, leader in zip(lines["serving"], lines["leader"], strict=True)
        ],
        near=[covered(coverage, 7200.0) for coverage in lines["coverage"]],
        far=[
            covered(coverage, 86_400.0) if step > 60 else formats.DASH
            for coverage, step in zip(lines["coverage"], lines["step_s"], strict=True)
        ],
        signals=[
            _signals(names, dropped) for names, dropped in zip(lines["signals"], lines["signals_dropped"], strict=True)
        ],
        history=lines["history_s"] / 86_400.0,
    )
    levels = ", ".join(f"p{level}" for level in LEVELS)
    columns = {
        "grid": cards.text_column("Grid", 110),
        "tier": cards.text_column("Tier", 90),
        "model": cards.text_column("Serves", 150),
        "state": cards.text_column("", 110),
        "live_pinball": cards.number_column(
            "Pinball, live", 92, "%.3f", help="Of what was issued, over the last hours, busy GPUs. Lower is better"
        ),
        "live_naive_pinball": cards.number_column(
            "Seasonal naive", 104, "%.3f", help="The better of yesterday and last week, at the same steps"
        ),
        "pinball": cards.number_column("Backtest", 78, "%.3f", help="The leader's pinball loss when it was selected"),
        "near": cards.text_column("Covered to 2 h", 170, help=f"Share of steps at or under {levels}, raw → issued"),
        "far": cards.text_column("Covered to 24 h", 170, help=f"Share of steps at or under {levels}, raw → issued"),
        "signals": cards.text_column("Signals", 120),
        "fitted_at": cards.time_column("Fitted"),
        "history": cards.number_column("History", 76, "%.1f d"),
    }
    alt = "Who forecasts each tier on each grid, and how well it came true"
    cards.grid(table, columns, key="forecast-lines", alt=alt, height="content")


def covered(coverage: list[dict[str, Any]], ahead_s: float) -> str:
    """Coverage of the quantiles to a horizon: "76→80, 86→90, 92→95%", raw → issued; a dash before anything came."""
    found = next((each for each in coverage if each["ahead_s"] == ahead_s), None)
    if found is None or None in (*found["raw"], *found["issued"]):
        return formats.DASH
    pairs = zip(found["raw"], found["issued"], strict=True)
    return ", ".join(f"{raw * 100:.0f}→{issued * 100:.0f}" for raw, issued in pairs) + "%"


def _signals(names: list[str], dropped: str) -> str:
    if not names:
        return formats.DASH
    return ", ".join(names) + (" (dropped now)" if dropped else "")


def _tier(name: str) -> str:
    return "All tiers" if name == "+".join(read_standing().tiers) else formats.words(name)


def _safe(text: object) -> str:
    return formats.sentence(str(text)).replace("&", "&amp;").replace("<", "&lt;") if text else ""


def _scores(scores: pd.DataFrame) -> None:
    scores = scores.assign(wape=scores["wape"] * 100, coverage_p90=scores["coverage_p90"] * 100)
    scores = scores.sort_values(["step_s", "order", "tier", "pinball"], ignore_index=True)
    scores["leader"] = ["● Leads" if leads else "" for leads in scores["leads"]]
    scores["model"] = scores["model"].map(formats.model)
    scores["note"] = [formats.sentence(note or "") for note in scores["note"]]
    scores["grid"] = scores["step_s"].map(GRID_WORDS)
    scores["tier"] = scores["tier"].map(_tier)
    columns = {
        "grid": cards.text_column("Grid", 110),
        "tier": cards.text_column("Tier", 100),
        "model": cards.text_column("Model", 170),
        "leader": cards.text_column("", 80),
        "pinball": cards.number_column(
            "Pinball loss", 96, "%.3f", help="Mean over quantiles and steps, busy GPUs. Lower is better"
        ),
        "wape": cards.number_column("WAPE", 76, "%.1f%%", help="Sum of absolute errors of p50 over the sum of load"),
        "coverage_p90": cards.number_column(
            "Under p90", 84, "%.0f%%", help="Share of steps at or under the p90 forecast, before calibration. Aim 90%"
        ),
        "origins": cards.number_column("Origins", 70),
        "note": cards.text_column("Note", 200),
    }
    cards.grid(
        scores,
        columns,
        key="forecast-scores",
        alt="Accuracy of each forecasting model by grid and tier",
        height="content",
    )
