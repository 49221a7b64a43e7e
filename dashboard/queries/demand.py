"""Offered load as it was and as it was forecast, in reference GPUs kept busy (work that arrived ÷ time)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
from sqlalchemy import Row
from sqlmodel import col, select

from dashboard.queries.read import MAX_POINTS, brief, frame, lasting, pick, rows, thin
from dashboard.queries.standing import read_standing
from models.forecasts import ForecastRow, ForecastScore, ForecastStanding
from models.telemetry import DemandMinute, FleetMinute

ALL = "all"
_SEGMENTS = 32


def bucket_s(hours: float) -> int:
    """The step a range is drawn with: a minute to 6 h, five to a day, ten beyond (a week is 1,008 points)."""
    return 60 if hours <= 6 else 300 if hours <= 24 else 600


def _load(hours: float) -> pd.DataFrame:
    standing = read_standing()
    since, until = standing.now - timedelta(hours=hours), standing.now
    step = bucket_s(hours)
    found = frame(
        pick(DemandMinute, "at", "tier", "step_s", "work_s", "arrivals")
        .where(DemandMinute.service == standing.service, DemandMinute.at >= since, DemandMinute.at <= until)
        .order_by(col(DemandMinute.at))
    )
    columns = ["at", "tier", "load", "arrivals"]
    if found.empty:
        return pd.DataFrame(columns=columns)
    found["at"] = pd.to_datetime(found["at"], utc=True).dt.floor(f"{step}s")
    # Where the same time is told in several steps, the finest counts.
    found = found[found["step_s"] == found.groupby(["at", "tier"])["step_s"].transform("min")]
    whole = found.groupby(["at", "tier"], as_index=False).agg(
        work_s=("work_s", "sum"), arrivals=("arrivals", "sum"), covered=("step_s", "sum")
    )
    whole["load"] = whole["work_s"] / whole["covered"]
    # A bucket that has hardly begun would look like a fall of demand.
    whole = whole[whole["covered"] >= 0.5 * step]
    return whole[columns]


@brief
def _load_brief(hours: float) -> pd.DataFrame:
    return _load(hours)


@lasting
def _load_lasting(hours: float) -> pd.DataFrame:
    return _load(hours)


def read_load(hours: float) -> pd.DataFrame:
    """Columns at, tier, load (reference GPUs), arrivals; at most 2,000 times, gaps left out (not zero)."""
    return _load_brief(hours) if hours <= 6 else _load_lasting(hours)


def regular(load: pd.DataFrame, tier: str, hours: float) -> pd.Series:
    """One tier's load (or all tiers' sum) on a regular grid, a gap as NaN, so that a chart leaves it open."""
    part = load if tier == ALL else load[load["tier"] == tier]
    if part.empty:
        return pd.Series(dtype=float)
    series = part.groupby("at")["load"].sum()
    grid = pd.date_range(series.index.min(), series.index.max(), freq=f"{bucket_s(hours)}s")
    return series.reindex(grid).iloc[-MAX_POINTS:]


@dataclass(frozen=True)
class Paths:
    """Forecast quantiles over time. `table`: at, one column a quantile ("p50", "p90", …). `made_at` of the newest.

    `summed`: the tiers' quantiles added, an upper bound of those above p50.
    """

    table: pd.DataFrame
    made_at: datetime | None
    model: str
    reason: str
    summed: bool = False


def _name(quantile: float) -> str:
    return f"p{quantile * 100:g}"


def _paths_of(
    service: str, tier: str, step_s: int, since: datetime, until: datetime
) -> tuple[pd.DataFrame, str, str, datetime | None]:
    """Forecasts as made at up to 32 moments, each shown until the next was made, the newest to its end."""
    made = rows(
        select(ForecastRow.id, ForecastRow.made_at)
        .where(ForecastRow.service == service, ForecastRow.tier == tier, ForecastRow.step_s == step_s)
        .where(ForecastRow.made_at >= since - timedelta(seconds=60 * step_s), ForecastRow.made_at <= until)
        .order_by(col(ForecastRow.made_at).desc())
        .limit(12_000)
    )
    if not made:
        return pd.DataFrame(), "", "", None
    apart = max((made[0].made_at - made[-1].made_at) / _SEGMENTS, timedelta(0))
    chosen = [made[0]]
    chosen += _spaced(made[1:], made[0].made_at, apart)
    picked = rows(
        select(ForecastRow)
        .where(col(ForecastRow.id).in_([row.id for row in chosen]))
        .order_by(col(ForecastRow.made_at))
    )
    pieces = []
    for row, later in zip(picked, [*picked[1:], None], strict=True):
        times = pd.date_range(row.start_at, periods=len(row.values[0]) if row.values else 0, freq=f"{step_s}s")
        piece = pd.DataFrame({_name(q): path for q, path in zip(row.quantiles, row.values, strict=False)}, index=times)
        pieces.append(piece if later is None else piece[piece.index < later.start_at])
    newest = picked[-1]
    return pd.concat(pieces).rename_axis("at"), newest.model, newest.reason, newest.made_at


def _spaced(newest_first: Sequence[Row[Any]], last: datetime, apart: timedelta) -> list[Row[Any]]:
    kept = []
    for row in newest_first:
        if last - row.made_at >= apart and last != row.made_at:
            kept.append(row)
            last = row.made_at
    return kept


def _told(
    table: pd.DataFrame, since: datetime, model: str, reason: str, made_at: datetime | None, *, summed: bool
) -> Paths:
    table = table[~table.index.duplicated(keep="last")]
    table = table[table.index >= since]
    every = max(1, -(-len(table) // MAX_POINTS))
    return Paths(table.iloc[::every].reset_index(), made_at, model, reason, summed)


@lasting
def read_paths(tier: str, step_s: int, hours: float) -> Paths:
    """Forecast quantiles of a tier, or of `ALL` tiers together."""
    standing = read_standing()
    since = standing.now - timedelta(hours=hours)
    if tier == ALL:
        # The controller forecasts the tiers together too: that band is narrower than the sum of theirs, and true.
        whole, model, reason, made_at = _paths_of(
            standing.service, "+".join(standing.tiers), step_s, since, standing.now
        )
        if not whole.empty:
            return _told(whole, since, model, reason, made_at, summed=False)
    tiers = standing.tiers if tier == ALL else (tier,)
    total: pd.DataFrame | None = None
    model, reason, made_at = "", "", None
    for name in tiers:
        table, model, reason, made_at = _paths_of(standing.service, name, step_s, since, standing.now)
        if table.empty:
            return Paths(pd.DataFrame(), None, "", "")
        table = table[~table.index.duplicated(keep="last")]
        total = table if total is None else total.add(table, fill_value=0)
    if total is None:
        return Paths(pd.DataFrame(), None, "", "")
    return _told(total, since, model, reason, made_at, summed=len(tiers) > 1)


@lasting
def read_scores() -> pd.DataFrame:
    """Each model's newest score for each tier and grid: tier, step_s, model, pinball, wape, coverage_p90, origins,
    leads, note, at.
    """
    standing = read_standing()
    found = frame(
        pick(
            ForecastScore,
            "tier",
            "step_s",
            "model",
            "pinball",
            "wape",
            "coverage_p90",
            "origins",
            "leads",
            "note",
            "at",
        )
        .where(ForecastScore.service == standing.service)
        .order_by(col(ForecastScore.at).desc())
        .limit(600)
    )
    return found.drop_duplicates(["tier", "step_s", "model"]) if not found.empty else found


@lasting
def read_lines() -> pd.DataFrame:
    """How each line of forecasts (a tier on a grid) stands: the columns of `ForecastStanding`."""
    standing = read_standing()
    names = (
        "tier", "step_s", "at", "leader", "serving", "pinball", "live_pinball", "live_naive_pinball", "live_points",
        "window_h", "coverage", "signals", "signals_dropped", "fitted_at", "selected_at", "history_s", "judgement",
    )  # fmt: skip
    return frame(pick(ForecastStanding, *names).where(ForecastStanding.service == standing.service).limit(600))


def _capacity(hours: float) -> pd.DataFrame:
    standing = read_standing()
    found = frame(
        pick(FleetMinute, "at", "market", "ready", "desired", "capacity", "usd_per_hour").where(
            FleetMinute.service == standing.service,
            FleetMinute.at >= standing.now - timedelta(hours=hours),
            FleetMinute.at <= standing.now,
        )
    )
    if found.empty:
        return found
    found["at"] = pd.to_datetime(found["at"], utc=True)
    summed = found.groupby(["at", "market"], as_index=False)[["ready", "desired", "capacity", "usd_per_hour"]].sum()
    kept = thin(summed.groupby("at")["ready"].sum().reset_index(), "ready")["at"]
    if len(kept) < summed["at"].nunique():
        summed = summed[summed["at"].isin(kept)]
    return summed


@brief
def _capacity_brief(hours: float) -> pd.DataFrame:
    return _capacity(hours)


@lasting
def _capacity_lasting(hours: float) -> pd.DataFrame:
    return _capacity(hours)


def read_capacity(hours: float) -> pd.DataFrame:
    """Ready and desired replicas, capacity (reference GPUs) and burn over time: at, market, ready, desired,
    capacity, usd_per_hour.
    """
    return _capacity_brief(hours) if hours <= 6 else _capacity_lasting(hours)


@brief
def read_execution_mean_s() -> float | None:
    """Mean execution of a request over the last day, seconds on the reference GPU; None when nothing arrived."""
    load = read_load(24.0)
    arrivals = float(load["arrivals"].sum()) if not load.empty else 0.0
    if not arrivals:
        return None
    return float((load["load"] * bucket_s(24.0)).sum()) / arrivals
