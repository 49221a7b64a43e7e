"""The charts of the pages, as Plotly specifications."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pandas as pd

from dashboard import formats
from dashboard.figures import (
    Figure,
    band,
    end_labels,
    gaps,
    hover_lines,
    layout_of,
    line,
    note,
    now_mark,
    numbers,
    spans,
    times,
)

MAIN, SECONDARY, SMALL = 316, 250, 210
MARKS = {
    "guardrail": ("square", "@breach", "guardrail"),
    "override": ("diamond", "@accent", "override"),
    "out": ("triangle-up", "@accent", "scale out"),
    "in": ("triangle-down", "@accent", "scale in"),
}

MARKET_TOKENS = {"on_demand": "od", "spot": "spot", "serverless": "sls"}

# The lane's share of the plot, the least distance of two markers, and the width of the plot they are told apart on.
_LANE, _MARK_PX, _PLOT_PX = 0.12, 14, 640


def _lane(data: list[dict[str, Any]], marks: pd.DataFrame, since: datetime, until: datetime) -> None:
    """Decisions in a lane under the plot. Those closer than 14 px are one marker, of the gravest kind, with a count."""
    if marks.empty:
        return
    slot = (until - since) * _MARK_PX / _PLOT_PX
    kinds = list(MARKS)
    groups: list[list[Any]] = []
    rows: list[Any] = list(marks.sort_values("at").itertuples())
    for row in rows:
        if groups and row.at - groups[-1][0].at < slot:
            groups[-1].append(row)
        else:
            groups.append([row])
    # The gravest of a group speaks for it, the newest of those; it stands where the group begins, clear of the next.
    shown = [max(group, key=lambda row: (-kinds.index(row.kind), row.at)) for group in groups]
    for kind, (symbol, colour, word) in MARKS.items():
        mine = [(row, len(group), group[0].at) for row, group in zip(shown, groups, strict=True) if row.kind == kind]
        if not mine:
            continue
        data.append(
            {
                "type": "scatter",
                "mode": "markers+text",
                "x": times([at for _, _, at in mine]),
                "y": [0.25] * len(mine),
                "yaxis": "y2",
                "name": word,
                "text": [str(count) if count > 1 else "" for _, count, _ in mine],
                # A count at the left edge is written to the right, clear of the axis label.
                "textposition": ["top right" if at - since < slot else "top center" for _, _, at in mine],
                "textfont": {"size": 11, "color": "@ink2"},
                "customdata": [row.id for row, _, _ in mine],
                "hovertext": [
                    f"{word}: {hover_lines(row.text)}" + (f"<br>and {count - 1} more near it" if count > 1 else "")
                    for row, count, _ in mine
                ],
                "hovertemplate": "%{hovertext}<extra></extra>",
                "marker": {"symbol": symbol, "size": 11, "color": colour, "line": {"width": 1.5, "color": "@card"}},
                "cliponaxis": False,
            }
        )


def demand_and_capacity(
    load: pd.Series,
    paths: pd.DataFrame,
    capacity: pd.DataFrame,
    marks: pd.DataFrame,
    *,
    since: datetime,
    now: datetime,
    until: datetime,
    keep: str,
) -> Figure:
    """Load as it was, the forecast band, capacity as steps, and a lane of decisions. `load` is regular, gaps NaN."""
    unit = "GPUs"
    layout = layout_of("busy GPUs", since, until, keep=keep, height=MAIN)
    layout["yaxis"]["domain"] = [_LANE, 1]
    layout["xaxis"]["anchor"] = "y2"
    layout["yaxis2"] = {"domain": [0, _LANE - 0.01], "range": [0, 1], "visible": False, "fixedrange": True}
    data: list[dict[str, Any]] = []
    ends: list[tuple[float, str, str]] = []
    peak = 1.0
    if not paths.empty:
        high = "p90" if "p90" in paths else str(paths.columns[-1])
        band(data, paths, unit, "p50", high)
        data.append(
            line(
                times(paths["at"]),
                numbers(paths["p50"]),
                "forecast p50",
                "@standard",
                1.5,
                unit,
                line={"dash": "4px,3px"},
            )
        )
        ends.append((float(paths["p50"].iloc[-1]), "forecast", "@ink2"))
        peak = max(peak, float(paths[high].max()))
    if not capacity.empty:
        steps = capacity.groupby("at")["capacity"].sum()
        data.append(line(times(steps.index), numbers(steps), "capacity", "@ink2", 1.5, unit, line={"shape": "hv"}))
        data.append(
            line(
                times([steps.index[-1], until]),
                [float(steps.iloc[-1])] * 2,
                "capacity held",
                "@ink2",
                1.5,
                unit,
                line={"dash": "2px,3px"},
                hoverinfo="skip",
                hovertemplate=None,
            )
        )
        ends.append((float(steps.iloc[-1]), "capacity", "@ink2"))
        peak = max(peak, float(steps.max()))
    if not load.empty:
        data.append(line(times(load.index), numbers(load), "actual", "@ink", 2.25, unit))
        peak = max(peak, float(load.max()))
    _lane(data, marks, since, until)
    top = peak * 1.08
    layout["yaxis"]["range"] = [0, top]
    end_labels(layout, ends, MAIN * (1 - _LANE), top)
    gaps(layout, load, "no telemetry")
    now_mark(layout, now)
    return Figure(data, layout, MAIN)


def forecast(
    load: pd.Series,
    paths: pd.DataFrame,
    *,
    since: datetime,
    now: datetime,
    until: datetime,
    keep: str,
    height: int = MAIN,
    events: Sequence[tuple[datetime, datetime, str]] = (),
) -> Figure:
    """One tier and grid: actual against p50, p50–p90 and p90–p99; `events` (from, until, name) are shaded."""
    unit = "GPUs"
    layout = layout_of("busy GPUs", since, until, keep=keep, height=height)
    data: list[dict[str, Any]] = []
    ends: list[tuple[float, str, str]] = []
    peak = 1e-3
    if not paths.empty:
        for low, high, colour in (("p90", "p99", "@standard/0.09"), ("p50", "p90", "@standard/0.18")):
            if low in paths and high in paths:
                band(data, paths, unit, low, high, colour)
                ends.append((float(paths[high].iloc[-1]), high, "@ink2"))
                peak = max(peak, float(paths[high].max()))
        data.append(
            line(
                times(paths["at"]),
                numbers(paths["p50"]),
                "forecast p50",
                "@standard",
                1.5,
                unit,
                line={"dash": "4px,3px"},
            )
        )
        ends.append((float(paths["p50"].iloc[-1]), "p50", "@ink2"))
        peak = max(peak, float(paths["p50"].max()))
    if not load.empty:
        data.append(line(times(load.index), numbers(load), "actual", "@ink", 2.25, unit))
        peak = max(peak, float(load.max()))
    top = peak * 1.08
    layout["yaxis"]["range"] = [0, top]
    end_labels(layout, ends, height, top)
    spans(layout, events, since, until)
    gaps(layout, load, "no telemetry")
    now_mark(layout, now)
    return Figure(data, layout, height)


def by_market(capacity: pd.DataFrame, *, since: datetime, until: datetime, keep: str) -> Figure:
    """Ready replicas by market as stacked steps: on demand, spot, serverless."""
    layout = layout_of("replicas", since, until, keep=keep, height=SMALL, small=True)
    data: list[dict[str, Any]] = []
    ready = (
        capacity.pivot_table(index="at", columns="market", values="ready", aggfunc="sum").fillna(0)
        if len(capacity)
        else capacity
    )
    for market, token in MARKET_TOKENS.items():
        if market not in ready or not ready[market].any():
            continue
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": times(ready.index),
                "y": numbers(ready[market]),
                "stackgroup": "all",
                "name": formats.market(market),
                "line": {"shape": "hv", "width": 1, "color": "@card"},
                "fillcolor": f"@{token}/0.92",
                "hovertemplate": "%{y:.0f}",
            }
        )
    layout["yaxis"]["range"] = (
        [0, max(2.0, float(capacity.groupby("at")["ready"].sum().max()) * 1.1)] if not capacity.empty else [0, 10]
    )
    return Figure(data, layout, SMALL)


def _cap_line(layout: dict[str, Any], cap: float) -> None:
    layout["shapes"].append(
        {
            "type": "line",
            "xref": "paper",
            "yref": "y",
            "x0": 0,
            "x1": 1,
            "y0": cap,
            "y1": cap,
            "line": {"color": "@ink", "width": 1.5},
        }
    )
    layout["annotations"].append(
        note(
            1,
            cap,
            f"cap {formats.rate(cap)}",
            xref="paper",
            xanchor="right",
            yanchor="bottom",
            font={"size": 11.5, "color": "@ink"},
        )
    )


def settled(hours: pd.DataFrame, *, since: datetime, until: datetime, keep: str) -> Figure:
    """Each closed clock hour in dollars: the fleet's replicas and what it missed, as bars; the shadow and hindsight,
    both with their misses, as lines. An hour that can't be compared stays open.

    `hours`: hour, and of each fleet usd and miss_usd.
    """
    layout = layout_of("$ per clock hour, misses priced", since, until, keep=keep, height=SECONDARY, right=84)
    hours = hours.sort_values("hour")
    middle = times(pd.to_datetime(hours["hour"], utc=True) + pd.Timedelta(minutes=30))
    totals = {name: hours[f"{name}_usd"] + hours[f"{name}_miss_usd"] for name in ("fleet", "shadow", "hindsight")}
    bar = {"type": "bar", "x": middle, "width": 3_600_000 * 0.72}
    data: list[dict[str, Any]] = [
        {
            **bar,
            "y": numbers(hours["fleet_usd"]),
            "name": "fleet, replicas",
            "marker": {"color": "@ink2/0.75", "line": {"width": 0}},
            "hovertemplate": "$%{y:,.2f}",
        },
        {
            **bar,
            "y": numbers(hours["fleet_miss_usd"]),
            "name": "fleet, misses",
            "marker": {"color": "@breach", "line": {"width": 0}},
            "hovertemplate": "$%{y:,.2f}",
        },
    ]
    layout["barmode"] = "stack"
    ends: list[tuple[float, str, str]] = []
    peak = max([1e-3, *(float(value.max()) for value in totals.values() if value.notna().any())])
    for name, colour, dash in (("shadow", "@accent", "solid"), ("hindsight", "@held", "4px,3px")):
        drawn = line(middle, numbers(totals[name]), name, colour, 2, "", line={"dash": dash, "shape": "hvh"})
        data.append({**drawn, "hovertemplate": "$%{y:,.2f}"})
        last = totals[name].dropna()
        if len(last):
            ends.append((float(last.iloc[-1]), name, colour))
    top = peak * 1.1
    layout["yaxis"] |= {"range": [0, top], "tickprefix": "$"}
    end_labels(layout, ends, SECONDARY, top)
    unknown = hours.set_index(pd.DatetimeIndex(pd.to_datetime(hours["hour"], utc=True)))["saved_usd"]
    for at in unknown.index[unknown.isna()]:
        first, last_ = times([at, at + pd.Timedelta(hours=1)])
        layout["shapes"].append(
            {
                "type": "rect",
                "xref": "x",
                "yref": "paper",
                "x0": first,
                "x1": last_,
                "y0": 0,
                "y1": 1,
                "fillcolor": "@stale/0.10",
                "line": {"width": 0},
                "layer": "below",
            }
        )
    return Figure(data, layout, SECONDARY)


def around(
    load: pd.Series,
    paths: pd.DataFrame,
    capacity: pd.DataFrame,
    *,
    since: datetime,
    decided: datetime,
    until: datetime,
    keep: str,
) -> Figure:
    """Load, band and capacity around one decision, small."""
    layout = layout_of("busy GPUs", since, until, keep=keep, height=SECONDARY)
    data: list[dict[str, Any]] = []
    peak = max(1.0, float(load.max()) if not load.empty else 1.0)
    ends: list[tuple[float, str, str]] = []
    if not paths.empty and "p90" in paths:
        band(data, paths, "GPUs", "p50", "p90")
        peak = max(peak, float(paths["p90"].max()))
        ends.append((float(paths["p50"].iloc[-1]), "forecast", "@ink2"))
    if not capacity.empty:
        steps = capacity.groupby("at")["capacity"].sum()
        data.append(line(times(steps.index), numbers(steps), "capacity", "@ink2", 1.5, "GPUs", line={"shape": "hv"}))
        peak = max(peak, float(steps.max()))
        ends.append((float(steps.iloc[-1]), "capacity", "@ink2"))
    data.append(line(times(load.index), numbers(load), "actual", "@ink", 2.25, "GPUs"))
    layout["yaxis"]["range"] = [0, peak * 1.08]
    end_labels(layout, ends, SECONDARY, peak * 1.08)
    at = times([decided])[0]
    layout["shapes"].append(
        {
            "type": "line",
            "xref": "x",
            "yref": "paper",
            "x0": at,
            "x1": at,
            "y0": 0,
            "y1": 1,
            "line": {"color": "@accent", "width": 1},
        }
    )
    layout["annotations"].append(
        note(
            at,
            1,
            f"decided {formats.hour_minute(decided)}",
            yref="paper",
            yanchor="bottom",
            yshift=3,
            font={"size": 11.5, "color": "@accent"},
        )
    )
    return Figure(data, layout, SECONDARY)


RUN_COLOURS = ("@ink", "@accent", "@risk", "@spot", "@held", "@background")


def spend_of_runs(hourly_usd: dict[str, list[float]], *, since: datetime, cap: float | None, keep: str) -> Figure:
    """Dollars of each clock hour from `since`, a line a run; what comes after the window is the drain."""
    hours = max(len(values) for values in hourly_usd.values())
    at = pd.date_range(since, periods=hours + 1, freq="h")
    layout = layout_of("$ per clock hour", at[0], at[-1], keep=keep, height=SECONDARY, right=96)
    data: list[dict[str, Any]] = []
    ends: list[tuple[float, str, str]] = []
    top = max([cap or 0.0, *(max(values) for values in hourly_usd.values())]) * 1.12
    for number, (name, values) in enumerate(hourly_usd.items()):
        colour = RUN_COLOURS[number % len(RUN_COLOURS)]
        # The last hour once more, so that its step has a width.
        data.append(
            line(
                times(at[: len(values) + 1]),
                numbers([*values, values[-1]]),
                name,
                colour,
                1.75,
                "$",
                line={"shape": "hv"},
                hovertemplate="$%{y:,.2f}",
            )
        )
        ends.append((values[-1], name, colour))
    layout["yaxis"] |= {"range": [0, top], "tickprefix": "$"}
    end_labels(layout, ends, SECONDARY, top)
    if cap is not None:
        _cap_line(layout, cap)
    return Figure(data, layout, SECONDARY)
