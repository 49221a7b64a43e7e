"""The verdict card: spend of the clock hour against the cap, and each tier's latency against its target."""

import streamlit as st

from dashboard import formats, session
from dashboard.components import states
from dashboard.components.bars import limit_bar, tier_row
from dashboard.components.marks import chip, heading
from dashboard.queries.fleet import Money, read_money
from dashboard.queries.standing import SPEND, Standing, read_standing
from models.enums import EnvelopeStatus, LatencyOf


def _promise(standing: Standing) -> str:
    """What the tiers' bars measure, said once: the statistic where all agree, per tier otherwise."""
    parts = []
    for tier in standing.tiers:
        latency = standing.latency(tier)
        statistic = str(latency.get("statistic", "mean"))
        parts.append("maximum" if statistic == "p100" else statistic)
    windows = {float(standing.latency(tier).get("window_s", 3600)) for tier in standing.tiers}
    window = formats.duration(windows.pop()) if len(windows) == 1 else "each tier's window"
    statistics = parts[0].capitalize() if len(set(parts)) == 1 else ", ".join(parts).capitalize()
    return f"{statistics} over {window}. Hatched: forecast p90. Line: the target, bars end at 125% of it"


def spend_html(standing: Standing, money: Money) -> str:
    """The clock hour: accrued, expected at its end, against the cap; then the burn, today and the month."""
    term = standing.term(SPEND)
    status = term.status if term else EnvelopeStatus.UNKNOWN.value
    if term is None and standing.cap is None and money.accrued is not None:
        status = EnvelopeStatus.HELD.value
    cap = f"of {formats.cap(standing.cap)} this clock hour" if standing.cap is not None else "this clock hour, no cap"
    bar = limit_bar(money.accrued, standing.cap, money.expected, big=True, old=standing.stale or standing.down)
    accrued = (
        f'Accrued since {formats.hour_minute(money.hour_start)} <b class="hd-num">{formats.money(money.accrued)}</b>'
    )
    burn = f'burning <b class="hd-num">{formats.rate(money.per_hour)}</b>'
    jobs = f", jobs {formats.rate(money.jobs_per_hour)}" if money.jobs_per_hour else ""
    dates = (
        f'Today <b class="hd-num">{formats.money(money.today)}'
        f'</b>, month to date <b class="hd-num">{formats.money(money.month)}</b>'
    )
    return (
        heading("Spend", "Expected at the end of the clock hour. Solid: accrued. Line: the cap")
        + '<div class="hd-row end" style="margin-top:10px">'
        + f'<span class="hd-hero hd-num">{formats.money(money.expected)}</span>'
        + f'<span class="hd-2 hd-grow">{cap}</span>{chip(standing.aged(status))}</div>'
        + f'<div style="margin:10px 0 12px">{bar}</div>'
        + f'<div class="hd-small hd-2">{accrued}, {burn}{jobs}</div>'
        + f'<div class="hd-small hd-2" style="margin-top:3px">{dates}</div>'
    )


def tiers_html(standing: Standing) -> str:
    """One row a tier, in order of priority."""
    of = {standing.latency(tier).get("of", LatencyOf.WAIT.value) for tier in standing.tiers}
    title = "End-to-end time per tier" if of == {LatencyOf.END_TO_END.value} else "Waiting time per tier"
    lines = ""
    for tier in standing.tiers:
        term = standing.term(tier)
        target = standing.latency(tier).get("target_ms")
        limit = term.limit if term and term.limit is not None else target
        status = term.status if term else EnvelopeStatus.UNKNOWN.value
        lines += tier_row(
            tier,
            term.value if term else None,
            limit,
            term.forecast_p90 if term else None,
            standing.aged(status),
            in_ms=bool(limit) and float(limit or 0) <= 1000,
            old=standing.stale or standing.down,
        )
    return heading(title, _promise(standing)) + f'<div style="margin-top:6px">{lines}</div>'


@session.live
def render() -> None:
    """Both halves; a designed emptiness before the first tick."""
    standing = read_standing()
    if standing.version is None:
        states.empty(
            "No envelope yet",
            "The controller loads the sample envelope at its first start. Or state one on the Envelope page.",
            "tune",
        )
        return
    with st.container(key="wide-verdict"):
        left, right = st.columns([1, 1.42], gap="large")
        left.html(spend_html(standing, read_money()))
        right.html(tiers_html(standing))
