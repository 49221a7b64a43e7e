"""Charts: token colours only, at most 2,000 points, gaps open, heights fixed."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dashboard import charts
from dashboard.figures import Figure, hover_lines
from dashboard.queries.read import MAX_POINTS, thin

NOW = datetime(2024, 11, 25, 14, 30, tzinfo=UTC)
CSS = (Path(__file__).parents[2] / "dashboard" / "heddle.css").read_text()


def series(hours: float, minutes: int = 5) -> pd.Series:
    at = pd.date_range(NOW - timedelta(hours=hours), NOW, freq=f"{minutes}min")
    return pd.Series(np.linspace(10, 20, len(at)), index=at)


def paths() -> pd.DataFrame:
    at = pd.date_range(NOW - timedelta(hours=2), NOW + timedelta(hours=6), freq="10min")
    return pd.DataFrame({"at": at, "p50": 15.0, "p80": 16.0, "p90": 17.0, "p95": 18.0, "p99": 20.0})


def capacity() -> pd.DataFrame:
    at = pd.date_range(NOW - timedelta(hours=6), NOW, freq="1min")
    one = pd.DataFrame({"at": at, "market": "spot", "ready": 8, "desired": 8, "capacity": 8.0, "usd_per_hour": 3.2})
    return pd.concat([one, one.assign(market="on_demand", ready=4, capacity=4.0)], ignore_index=True)


def marks(count: int = 3) -> pd.DataFrame:
    at = pd.date_range(NOW - timedelta(hours=5), NOW, periods=count)
    kinds = ["out", "in", "override", "guardrail"]
    return pd.DataFrame(
        {"at": at, "kind": [kinds[n % 4] for n in range(count)], "text": "why & <b>how</b>", "id": "p-000001"}
    )


def settled_hours() -> pd.DataFrame:
    """Nine hours, newest first; the third can't be compared."""
    hours = pd.DataFrame({"hour": pd.date_range(NOW - timedelta(hours=9), periods=9, freq="h")[::-1]})
    known = {"fleet": (18.0, 1.0), "shadow": (14.0, 9.0), "hindsight": (9.0, 0.0)}
    for name, (usd, miss_usd) in known.items():
        hours[f"{name}_usd"], hours[f"{name}_miss_usd"] = usd, miss_usd
    hours["saved_usd"] = 4.0
    hours.loc[2, hours.columns != "hour"] = np.nan
    return hours


def all_figures() -> dict[str, Figure]:
    since, until = NOW - timedelta(hours=6), NOW + timedelta(hours=2)
    span = {"since": since, "until": until, "keep": "6h"}
    return {
        "demand": charts.demand_and_capacity(series(6), paths(), capacity(), marks(), now=NOW, **span),
        "forecast": charts.forecast(series(6), paths(), now=NOW, **span),
        "market": charts.by_market(capacity(), **span),
        "settled": charts.settled(settled_hours(), **span),
        "around": charts.around(series(6), paths(), capacity(), decided=NOW - timedelta(hours=1), **span),
    }


@pytest.mark.parametrize("name", ["demand", "forecast", "market", "settled", "around"])
def test_a_chart_names_colours_by_token_and_every_token_exists(name: str) -> None:
    figure = all_figures()[name]
    text = json.dumps([figure.data, figure.layout])
    assert not re.search(r"#[0-9a-fA-F]{3,8}\b", text)
    used = set(re.findall(r'"@([a-z0-9]+)', text))
    defined = set(re.findall(r"--hd-([a-z0-9]+):", CSS))
    assert used and used <= defined


@pytest.mark.parametrize("name", ["demand", "forecast", "market", "settled", "around"])
def test_a_chart_has_no_legend_no_webgl_one_axis_and_a_fixed_height(name: str) -> None:
    figure = all_figures()[name]
    assert figure.layout["showlegend"] is False
    assert {trace["type"] for trace in figure.data} <= {"scatter", "bar"}
    assert figure.layout["height"] == figure.height
    assert figure.layout["yaxis"]["range"][0] == 0
    assert figure.layout["uirevision"] == "6h"
    assert figure.points <= MAX_POINTS


def test_gaps_stay_gaps_and_are_told() -> None:
    load = series(6)
    load.iloc[20:30] = np.nan
    figure = charts.forecast(load, paths(), since=NOW - timedelta(hours=6), now=NOW, until=NOW, keep="x")
    actual = next(trace for trace in figure.data if trace["name"] == "actual")
    assert actual["y"][20:30] == [None] * 10
    assert actual["connectgaps"] is False
    assert any(note["text"] == "no telemetry" for note in figure.layout["annotations"])


def test_an_hour_that_cant_be_compared_stays_open() -> None:
    figure = charts.settled(settled_hours(), since=NOW - timedelta(hours=9), until=NOW, keep="x")
    shadow = next(trace for trace in figure.data if trace["name"] == "shadow")
    assert shadow["y"] == [23.0] * 6 + [None] + [23.0] * 2 and shadow["connectgaps"] is False
    assert len(figure.layout["shapes"]) == 1


def test_a_chart_of_nothing_is_still_a_chart() -> None:
    empty = pd.DataFrame()
    figure = charts.forecast(
        pd.Series(dtype=float), empty, since=NOW, now=NOW, until=NOW + timedelta(hours=1), keep="x"
    )
    assert figure.data == []


def test_marks_close_together_become_one_with_a_count() -> None:
    at = [NOW - timedelta(minutes=n) for n in (3, 2, 1)]
    near = pd.DataFrame({"at": at, "kind": "out", "text": "more load", "id": ["p-1", "p-2", "p-3"]})
    figure = charts.demand_and_capacity(
        series(24), paths(), capacity(), near, since=NOW - timedelta(hours=24), now=NOW, until=NOW, keep="x"
    )
    lane = [trace for trace in figure.data if trace.get("yaxis") == "y2"]
    assert len(lane) == 1 and lane[0]["text"] == ["3"] and lane[0]["customdata"] == ["p-3"]


def test_a_hover_cannot_carry_markup() -> None:
    assert "<b>" not in hover_lines("a <b>tenant</b> & co") and "&lt;b>" in hover_lines("a <b>tenant</b>")


def test_thinning_keeps_the_peak_and_the_bound() -> None:
    values = np.zeros(50_000)
    values[31_415] = 99.0
    kept = thin(pd.DataFrame({"v": values}), "v")
    assert len(kept) <= MAX_POINTS and kept["v"].max() == 99.0
