"""The frontier as a figure: what waiting costs, the draft as a frame, where the fleet stands now."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from controller.core.frontier import Frontier
from dashboard import formats
from dashboard.figures import Figure, line, note, numbers

HEIGHT = 400


@dataclass(frozen=True)
class Spot:
    """A point of the chart: the first tier's statistic in ms and dollars an hour. None: not known."""

    ms: float | None
    usd: float | None

    @property
    def known(self) -> bool:
        return self.ms is not None and self.usd is not None


def frontier_figure(
    found: Frontier, draft: Spot, now: Spot, before: Spot, versions: tuple[str, str], what: str
) -> Figure:
    """`before`: the version in force, drawn where it differs; `versions` names it and the draft, `what` the axis."""
    x = [float(ms) for ms in found.targets_ms]
    half, nine, most = (found.caps_usd[found.levels.index(level)] for level in (0.5, 0.9, 0.99))
    values = [*half[np.isfinite(half)], *nine[np.isfinite(nine)], *most[np.isfinite(most)]]
    top = 1.2 * max([1.0, *values, draft.usd or 0.0, before.usd or 0.0, now.usd or 0.0])
    data = [
        _edge(x, [0.0] * len(x), "floor"),
        {**_edge(x, numbers(nine), "below"), "fill": "tonexty", "fillcolor": "@ink2/0.08"},
        {**_edge(x, numbers(most), "to 99%"), "fill": "tonexty", "fillcolor": "@standard/0.16"},
        line(x, numbers(half), "holds in 50%", "@accent", 1.5, "$/h", line={"dash": "4px,3px"}),
        line(x, numbers(nine), "holds in 90%", "@accent", 2.25, "$/h"),
    ]
    for trace in data[3:]:
        trace["hovertemplate"] = "%{x:,.0f} ms: cap $%{y:,.2f}/h"
    layout = _layout(x, top, what)
    for label, path in (("90%", nine), ("50%", half)):
        if np.isfinite(path[-1]):
            layout["annotations"].append(note(1, float(path[-1]), label, xref="paper", xanchor="left", xshift=6))
    _frame(layout, draft, x, top, versions[1])
    if np.isfinite(nine).any():
        words = "below the line: not held in 90% of futures with today's offers"
        layout["annotations"].append(
            note(1, 0, words, xref="paper", xanchor="right", yanchor="bottom", xshift=-8, yshift=6)
        )
    if before.known and (before.ms, before.usd) != (draft.ms, draft.usd):
        data.append(_mark(before, x, versions[0], "square-open", "@ink2", "top right"))
    if now.known:
        data.append(_mark(now, x, "now", "circle", "@ink", "middle right"))
    return Figure(data, layout, HEIGHT)


def told(found: Frontier, draft: Spot, what: str) -> str:
    """What the chart shows, in a sentence."""
    cap = None if draft.ms is None else found.cap_at(draft.ms)
    if cap is None or draft.ms is None:
        return f"No cap holds {what} with 90% probability."
    stated = "no cap" if draft.usd is None else f"{formats.rate(draft.usd)} of the draft"
    return (
        f"{what} of {formats.wait(draft.ms, True)} holds with 90% from a cap of {formats.rate(cap)}, against {stated}."
    )


def _edge(x: list[float], y: list[float | None] | list[float], name: str) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines", "x": x, "y": y, "name": name, "hoverinfo": "skip", "line": {"width": 0},
    }  # fmt: skip


def _inside(ms: float, x: list[float]) -> float:
    return min(max(ms, x[0]), x[-1])


def _mark(spot: Spot, x: list[float], label: str, symbol: str, colour: str, place: str) -> dict[str, Any]:
    ms, usd = spot.ms or 0.0, spot.usd or 0.0
    return {
        "type": "scatter", "mode": "markers+text", "x": [_inside(ms, x)], "y": [round(usd, 3)], "name": label,
        "text": [label], "textposition": place, "textfont": {"size": 11.5, "color": colour},
        "marker": {"symbol": symbol, "size": 10, "color": colour, "line": {"width": 1.5, "color": colour}},
        "hovertemplate": f"{label}: {formats.wait(ms, True)}, {formats.rate(usd)}<extra></extra>",
    }  # fmt: skip


def _frame(layout: dict[str, Any], draft: Spot, x: list[float], top: float, name: str) -> None:
    """The draft: what it allows is inside."""
    if draft.ms is None:
        return
    usd = top if draft.usd is None else draft.usd
    right = _inside(draft.ms, x)
    layout["shapes"].append(
        {
            "type": "rect", "xref": "x", "yref": "y", "x0": x[0], "x1": right, "y0": 0, "y1": usd,
            "line": {"color": "@ink", "width": 1.5}, "fillcolor": "@ink/0.03", "layer": "below",
        }
    )  # fmt: skip
    cap = "no cap" if draft.usd is None else formats.rate(draft.usd)
    words = f"{name}: {formats.wait(draft.ms, True)}, {cap}"
    place = {"xanchor": "left", "yanchor": "bottom", "xshift": 4, "font": {"size": 11.5, "color": "@ink"}}
    layout["annotations"].append(note(math.log10(x[0]), min(usd, top * 0.97), words, **place))


def _layout(x: list[float], top: float, what: str) -> dict[str, Any]:
    ticks = [n * 10.0**e for e in range(-1, 8) for n in (1, 2, 5) if x[0] <= n * 10.0**e <= x[-1]]
    corner = {"xref": "paper", "yref": "paper"}
    axis = {"tickfont": {"size": 11.5, "color": "@ink2"}, "zeroline": False, "fixedrange": True, "title": None}
    return {
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "showlegend": False, "height": HEIGHT,
        "font": {"size": 12, "color": "@ink2"}, "hovermode": "closest", "dragmode": False, "uirevision": "frontier",
        "margin": {"l": 44, "r": 44, "t": 30, "b": 50},
        "hoverlabel": {"bgcolor": "@card", "bordercolor": "@line", "font": {"size": 12, "color": "@ink"}},
        "xaxis": {
            **axis, "type": "log", "range": [math.log10(x[0]), math.log10(x[-1])], "tickvals": ticks, "showgrid": False,
            "ticktext": [f"{tick:,g}" for tick in ticks], "showline": True, "linecolor": "@line", "ticks": "outside",
            "ticklen": 4, "tickcolor": "@line",
        },
        "yaxis": {**axis, "range": [0, top], "tickprefix": "$", "gridcolor": "@line2", "nticks": 6},
        "annotations": [
            note(0, 1, "spend cap per hour", **corner, xanchor="left", yanchor="bottom", xshift=-36, yshift=8),
            note(0.5, 0, what, **corner, yanchor="top", yshift=-26),
        ],
        "shapes": [],
    }  # fmt: skip
