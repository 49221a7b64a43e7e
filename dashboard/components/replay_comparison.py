"""Finished replays of one window, side by side: money, waits and churn, each against one of them."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from controller.core.what_if import WhatIf, flat, what_if_of
from dashboard import charts, formats, session
from dashboard.components import cards, states
from dashboard.components.marks import table, tag, text
from dashboard.components.plot import plot
from dashboard.components.replays import envelope_word, short, window_word
from dashboard.queries.replays import read_runs
from models.enums import LatencyOf, ReplayStatus

MOST = 6
_MEASURED = {"mean": "wait_mean_s", "p50": "wait_p50_s", "p95": "wait_p95_s", "p99": "wait_p99_s", "p100": "wait_max_s"}
COUNTS = {
    "Requests interrupted": ("interrupted",),
    "Starts and stops": ("starts", "stops"),
    "Most replicas": ("peak_replicas",),
    "GPU-hours": ("gpu_hours",),
}
Runs = dict[int, tuple[WhatIf, pd.Series]]


def finished(found: pd.DataFrame) -> Runs:
    """Runs with a result by number, newest first; of runs that are equal the newest."""
    runs: Runs = {}
    seen: list[WhatIf] = []
    for _, row in found[found["status"] == ReplayStatus.DONE.value].iterrows():
        run = what_if_of(row["spec"])
        if run not in seen:
            seen.append(run)
            runs[int(row["id"])] = run, row
    return runs


def comparable(runs: Runs) -> dict[tuple[Any, ...], list[int]]:
    """Numbers of runs by what they have in common: window, copies, boot time and seed. The newest group first."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for number, (run, _) in runs.items():
        groups.setdefault((run.from_s, run.to_s, run.scale, run.jitter_s, run.boot_s, run.seed), []).append(number)
    return groups


@session.live
def render() -> None:
    """The comparison, with what is compared chosen above it."""
    runs = finished(read_runs())
    groups = comparable(runs)
    with cards.head("comparison", "Comparison", "Finished replays of one window, against one of them"):
        slot = st.container()
    if not groups:
        states.empty("No replay has finished yet", "What has come to an end is compared here.", "compare_arrows")
        return
    left, middle, right = st.columns([1.1, 2.2, 1.1], gap="small")
    group = left.selectbox(
        "Window", list(groups), key="wi-group", format_func=lambda key: window_word(runs[groups[key][0]][0])
    )
    numbers = sorted(groups[group])
    kept = numbers[-MOST:]
    chosen = middle.multiselect(
        "Replays",
        numbers,
        default=kept,
        # A run that has just finished joins: the choice begins anew.
        key=f"wi-compared-{hash(group)}-{numbers[-1]}",
        format_func=lambda number: short(number, runs[number][0]),
        max_selections=MOST,
    )
    if not chosen:
        states.empty("No replay is chosen", "Choose one or more above.", "compare_arrows")
        return
    usual = next((n for n in chosen if runs[n][1]["baseline"] and runs[n][0].policy == "heddle"), chosen[0])
    against = right.selectbox(
        "Against",
        chosen,
        index=chosen.index(usual),
        key=f"wi-against-{hash(tuple(chosen))}",
        format_func=lambda number: short(number, runs[number][0]),
    )
    with slot:
        cards.csv(rows_of({number: runs[number] for number in chosen}), "what-if", "what-if")
    side_by_side({number: runs[number] for number in chosen}, int(against))
    figure = charts.spend_of_runs(
        {f"{number} {runs[number][0].policy}": list(runs[number][1]["hourly_usd"]) for number in chosen},
        since=pd.Timestamp(group[0], unit="s", tz="UTC").to_pydatetime(),
        cap=runs[int(against)][0].envelope.get("spend_cap_usd_per_hour"),
        keep=f"{group}",
    )
    plot(figure, key="wi-spend", alt=f"Dollars of each clock hour of {len(chosen)} replays")


def rows_of(runs: Runs) -> pd.DataFrame:
    """One row a run, for a file."""
    return pd.DataFrame(
        [
            {
                "replay": number,
                "envelope": envelope_word(run),
                "spend_cap_usd_per_hour": run.envelope.get("spend_cap_usd_per_hour"),
                "offers": run.offers.told(),
                **flat(row["summary"]),
            }
            for number, (run, row) in runs.items()
        ]
    )


def side_by_side(runs: Runs, against: int) -> None:
    """The table: a column a run, a line a measure, differences below the numbers."""
    base = runs[against][1]["summary"]
    columns = [(run, row["summary"], number == against) for number, (run, row) in runs.items()]
    body: list[list[str]] = []

    def add(name: str, cells: list[tuple[str, str]]) -> None:
        body.append([text(name), *(_cell(text(value), below) for value, below in cells)])

    add("Envelope, offers", [(envelope_word(run), run.offers.told()) for run, _, _ in columns])

    for label, name in (("Cost of the window", "cost_usd"), ("Costliest hour", "costliest_hour_usd")):
        add(label, [(formats.money(s[name]), _money_off(s[name], base[name], same)) for _, s, same in columns])
    add("Hours within the cap", [_within(run, s, base, same) for run, s, same in columns])
    for tier in base["tiers"]:
        waits = [_wait(tier, run, s, base, same) for run, s, same in columns]
        body.append([text(f"{formats.words(tier)} wait"), *(_cell(_judged(*wait[:2]), wait[2]) for wait in waits)])
    if any(s["unfinished"] for _, s, _ in columns):
        add("Requests never finished", [(formats.count(s["unfinished"]), "") for _, s, _ in columns])
    for label, names in COUNTS.items():
        counts = [(sum(s[name] for name in names), same) for _, s, same in columns]
        usual = sum(base[name] for name in names)
        add(label, [(formats.count(count), _count_off(count, usual, same)) for count, same in counts])
    st.html(table([("", "k"), *((f"{number} {run.policy}", "r") for number, (run, _) in runs.items())], body))


def _cell(value: str, below: str) -> str:
    """A number (HTML) and what stands below it."""
    return f'{value}<div class="hd-small hd-2">{text(below)}</div>' if below else value


def _judged(value: str, met: bool | None) -> str:
    """A wait with its chip; without one where no target is judged by it."""
    if met is None:
        return text(value)
    chip = tag("Met", "check_circle", "held") if met else tag("Missed", "report", "breached")
    return f'<span class="hd-row" style="justify-content:flex-end;gap:6px">{chip}{text(value)}</span>'


def _money_off(value: float, base: float, same: bool) -> str:
    if same:
        return ""
    share = f", {_signed_percent(value / base - 1)}" if base else ""
    return f"{formats.signed_money(value - base)}{share}"


def _count_off(value: float, base: float, same: bool) -> str:
    off = round(value) - round(base)
    return "" if same else "the same" if not off else f"{'+' if off > 0 else formats.MINUS}{abs(off):,}"


def _signed_percent(ratio: float) -> str:
    percent = round(ratio * 100)
    return "0%" if not percent else f"{'+' if percent > 0 else formats.MINUS}{abs(percent)}%"


def _within(run: WhatIf, summary: Mapping[str, Any], base: Mapping[str, Any], same: bool) -> tuple[str, str]:
    ratio, before = summary["hours_within_cap_ratio"], base["hours_within_cap_ratio"]
    cap = run.envelope.get("spend_cap_usd_per_hour")
    if ratio is None:
        return "no cap", ""
    off = "" if same or before is None else f", {_points(ratio - before)}"
    return formats.percent(ratio), f"of {formats.cap(cap)}{off}"


def _points(ratio: float) -> str:
    points = round(ratio * 100, 1)
    return "the same" if not points else f"{'+' if points > 0 else formats.MINUS}{abs(points):g} points"


def _wait(
    tier: str, run: WhatIf, summary: Mapping[str, Any], base: Mapping[str, Any], same: bool
) -> tuple[str, bool | None, str]:
    """What the run's own target is judged by, where that is a wait that a summary has, and its mean otherwise; whether
    the target was met; the target and the difference.
    """
    mine = summary["tiers"].get(tier)
    if mine is None:
        return formats.DASH, None, "no such tier"
    statistic, target_ms = _target(run, tier)
    value, before = mine[_MEASURED[statistic]], base["tiers"][tier][_MEASURED[statistic]]
    if value is None:
        return formats.DASH, mine["target_met"], "no request" if not mine["requests"] else "none started"
    target = "" if target_ms is None else f" of {formats.wait(target_ms)}"
    off = ""
    if not same and before is not None:
        gap_ms = (value - before) * 1000
        gap = formats.wait(abs(gap_ms))
        off = ", the same" if gap == "0 ms" else f", {'+' if gap_ms > 0 else formats.MINUS}{gap}"
    return formats.wait(value * 1000), mine["target_met"], f"{statistic}{target}{off}"


def _target(run: WhatIf, tier: str) -> tuple[str, float | None]:
    latency = ((run.envelope.get("tiers") or {}).get(tier) or {}).get("latency") or {}
    statistic = str(latency.get("statistic", "mean"))
    if latency.get("of", LatencyOf.WAIT.value) != LatencyOf.WAIT.value or statistic not in _MEASURED:
        return "mean", None
    return statistic, float(latency["target_ms"])
