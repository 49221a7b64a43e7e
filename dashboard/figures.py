"""What every chart is made of: the layout, lines, bands, labels. Colours are token names ("@premium",
"@standard/0.18"): the browser resolves them in its theme.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from dashboard import formats


@dataclass(frozen=True)
class Figure:
    """Traces and layout as Plotly takes them, and the height that never changes."""

    data: list[dict[str, Any]]
    layout: dict[str, Any]
    height: int

    @property
    def points(self) -> int:
        """The most points in one trace."""
        return max((len(trace["x"]) for trace in self.data if "x" in trace), default=0)


def times(values: Any) -> list[str]:
    """Moments as Plotly reads them: UTC, no offset."""
    return list(pd.DatetimeIndex(pd.to_datetime(values, utc=True)).strftime("%Y-%m-%d %H:%M:%S"))


def numbers(values: Any) -> list[float | None]:
    """Three digits are enough for a pixel; NaN is a gap."""
    return [None if value is None or not math.isfinite(value) else round(float(value), 3) for value in values]


def layout_of(
    unit: str, since: datetime, until: datetime, *, keep: str, height: int, small: bool = False, right: int = 66
) -> dict[str, Any]:
    """The layout of a chart over time, `since` to `until`; `keep` names the view whose zoom is kept."""
    axis = {"tickangle": 0, "tickfont": {"size": 11.5, "color": "@ink2"}, "zeroline": False, "fixedrange": False}
    window = times([since, until])
    return {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": False,
        "height": height,
        "font": {"size": 12, "color": "@ink2"},
        "uirevision": keep,
        "hovermode": "x unified",
        "dragmode": "zoom",
        "margin": {"l": 34, "r": 8, "t": 22, "b": 26} if small else {"l": 40, "r": right, "t": 30, "b": 34},
        "hoverlabel": {
            "bgcolor": "@card",
            "bordercolor": "@line",
            "font": {"size": 12, "color": "@ink"},
            "namelength": -1,
        },
        "xaxis": {
            **axis,
            "type": "date",
            "range": window,
            "showgrid": False,
            "showline": True,
            "linecolor": "@line",
            "ticks": "outside",
            "ticklen": 4,
            "tickcolor": "@line",
            "nticks": 5 if small else 8,
            "hoverformat": "%-d %b %H:%M UTC",
            "tickformatstops": [
                {"dtickrange": [None, 43_200_000], "value": "%H:%M\n%-d %b"},
                {"dtickrange": [43_200_000, None], "value": "%-d %b"},
            ],
        },
        "yaxis": {
            **axis,
            "rangemode": "tozero",
            "gridcolor": "@line2",
            "gridwidth": 1,
            "nticks": 5,
            "showline": False,
            "fixedrange": True,
            "title": None,
        },
        "annotations": [
            note(
                0,
                1,
                unit,
                xref="paper",
                yref="paper",
                xanchor="left",
                yanchor="bottom",
                xshift=-34 if not small else -30,
                yshift=8,
            )
        ],
        "shapes": [],
    }


def note(x: Any, y: Any, text: str, **more: Any) -> dict[str, Any]:
    """A small text at a point."""
    return {"x": x, "y": y, "text": text, "showarrow": False, "font": {"size": 11.5, "color": "@ink2"}, **more}


def line(
    x: Sequence[Any], y: Sequence[Any], name: str, colour: str, width: float, unit: str, **more: Any
) -> dict[str, Any]:
    """A line that leaves gaps open."""
    line = {"color": colour, "width": width, **more.pop("line", {})}
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "name": name,
        "line": line,
        "connectgaps": False,
        "hovertemplate": f"%{{y:,.1f}} {unit}",
        **more,
    }


def end_labels(layout: dict[str, Any], ends: list[tuple[float, str, str]], height: float, top: float) -> None:
    """Names at the right end of lines, moved apart to 13 px at least."""
    room = height - layout["margin"]["t"] - layout["margin"]["b"]
    placed: list[float] = []
    for value, label, colour in sorted(ends):
        y = value / top * room if top else 0.0
        shifted = max([y, *(p + 13 for p in placed[-1:])])
        placed.append(shifted)
        layout["annotations"].append(
            note(
                1,
                value,
                label,
                xref="paper",
                xanchor="left",
                xshift=6,
                yshift=shifted - y,
                font={"size": 11.5, "color": colour},
            )
        )


def now_mark(layout: dict[str, Any], now: datetime) -> None:
    """The line that parts what was from what is expected."""
    at = times([now])[0]
    layout["shapes"].append(
        {
            "type": "line",
            "xref": "x",
            "yref": "paper",
            "x0": at,
            "x1": at,
            "y0": 0,
            "y1": 1,
            "line": {"color": "@ink2", "width": 1},
        }
    )
    layout["annotations"].append(
        note(
            at,
            1,
            f"now {formats.hour_minute(now)}",
            yref="paper",
            yanchor="bottom",
            yshift=3,
            font={"size": 11.5, "color": "@ink"},
        )
    )


_NAME_SHARE = 0.011
"""What a letter of an event's name takes of a chart's width, at about 600 px."""
_NAME_PX = 15


def spans(
    layout: dict[str, Any], events: Sequence[tuple[datetime, datetime, str]], since: datetime, until: datetime
) -> None:
    """Events as shaded spans, each with its name at the top, clipped to the chart's time.

    A name goes a line lower where it would run into an earlier one.
    """
    taken: list[datetime] = []  # until when each line of names is taken
    for start, end, name in sorted(events[:8], key=lambda event: event[0]):
        begins = max(start, since)
        level = next((number for number, ends in enumerate(taken) if ends <= begins), len(taken))
        ends_at = begins + (until - since) * min(len(name) * _NAME_SHARE, 1.0)
        taken[level : level + 1] = [ends_at]
        first, last = times([max(start, since), min(end, until)])
        layout["shapes"].append(
            {
                "type": "rect",
                "xref": "x",
                "yref": "paper",
                "x0": first,
                "x1": last,
                "y0": 0,
                "y1": 1,
                "fillcolor": "@accent/0.08",
                "line": {"width": 0},
                "layer": "below",
            }
        )
        layout["annotations"].append(
            note(
                first,
                1,
                name,
                yref="paper",
                xanchor="left",
                yanchor="top",
                yshift=-_NAME_PX * level,
                font={"size": 11.5, "color": "@accent"},
            )
        )


def gaps(layout: dict[str, Any], series: pd.Series, words: str) -> None:
    """A grey band where telemetry is missing for 10 minutes or more."""
    if series.empty:
        return
    missing = series.isna()
    runs = (missing != missing.shift()).cumsum()[missing]
    widest = sorted((group.index for _, group in runs.groupby(runs)), key=len, reverse=True)[:8]
    for number, index in enumerate(widest):
        if (index[-1] - index[0]).total_seconds() < 600:
            continue
        start, end = times([index[0], index[-1]])
        layout["shapes"].append(
            {
                "type": "rect",
                "xref": "x",
                "yref": "paper",
                "x0": start,
                "x1": end,
                "y0": 0,
                "y1": 1,
                "fillcolor": "@stale/0.10",
                "line": {"width": 0},
                "layer": "below",
            }
        )
        if number == 0:
            middle = times([index[0] + (index[-1] - index[0]) / 2])[0]
            layout["annotations"].append(
                note(middle, 0.92, words, yref="paper", font={"size": 11.5, "color": "@stale"})
            )


def band(
    data: list[dict[str, Any]], paths: pd.DataFrame, unit: str, low: str, high: str, colour: str = "@standard/0.18"
) -> None:
    """The area between two quantiles, without an edge."""
    at = times(paths["at"])
    edge = {"width": 0, "color": colour}
    data.append(
        {
            "type": "scatter",
            "mode": "lines",
            "x": at,
            "y": numbers(paths[low]),
            "line": edge,
            "hoverinfo": "skip",
            "name": low,
        }
    )
    data.append(
        {
            "type": "scatter",
            "mode": "lines",
            "x": at,
            "y": numbers(paths[high]),
            "line": edge,
            "fill": "tonexty",
            "fillcolor": colour,
            "name": f"forecast {high}",
            "hovertemplate": f"%{{y:,.1f}} {unit}",
        }
    )


def hover_lines(text: str, width: int = 60) -> str:
    """A text in lines for a hover, HTML characters made harmless."""
    lines, line = [], ""
    for word in text.replace("&", "&amp;").replace("<", "&lt;").split():
        if len(line) + len(word) > width:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return "<br>".join([*lines, line][:5])
