"""Several replays of one window side by side: as a file, and as a table for people."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from controller.core.what_if import flat
from controller.replay import Summary


def write_comparison(summaries: Sequence[Summary], policies: Sequence[str], path: Path) -> None:
    """One row a policy, as it was named, put in place whole."""
    rows = [flat(asdict(summary)) | {"policy": policy} for summary, policy in zip(summaries, policies, strict=True)]
    part = path.with_name(f"{path.name}.part")
    pd.DataFrame(rows).to_csv(part, index=False)
    part.replace(path)


def side_by_side(summaries: Sequence[Summary], policies: Sequence[str]) -> str:
    """Summaries for people, a column each."""
    lines = [["", *policies]]
    for label, cell in _LINES:
        lines.append([label, *(cell(summary) for summary in summaries)])
    for tier in summaries[0].tiers:
        for label, name in (("mean", "wait_mean_s"), ("p95", "wait_p95_s")):
            waits = [getattr(summary.tiers[tier], name) for summary in summaries]
            lines.append([f"{tier} wait {label}, s", *("-" if wait is None else f"{wait:.3f}" for wait in waits)])
        met = [summary.tiers[tier].target_met for summary in summaries]
        lines.append([f"{tier} target", *("-" if held is None else "met" if held else "missed" for held in met)])
    first, *others = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rows = []
    for name, *cells in lines:
        rows.append("  ".join([name.ljust(first), *map(str.rjust, cells, others)]))
    return "\n".join(rows)


def _within(summary: Summary) -> str:
    ratio = summary.hours_within_cap_ratio
    return "-" if ratio is None else f"{ratio:.1%}"


_LINES: tuple[tuple[str, Callable[[Summary], str]], ...] = (
    ("cost, $", lambda summary: f"{summary.cost_usd:,.2f}"),
    ("costliest hour, $", lambda summary: f"{summary.costliest_hour_usd:.2f}"),
    ("hours within the cap", _within),
    ("GPU-hours", lambda summary: f"{summary.gpu_hours:,.1f}"),
    ("starts + stops", lambda summary: f"{summary.starts + summary.stops:,}"),
    ("requests interrupted", lambda summary: f"{summary.interrupted:,}"),
    ("requests unfinished", lambda summary: f"{summary.unfinished:,}"),
)
