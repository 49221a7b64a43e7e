"""The limit bar: linear, from 0 to 125% of the limit, the limit as a tick, the forecast hatched, the number beside
it.
"""

from dashboard import formats
from dashboard.components.marks import chip, text
from models.enums import EnvelopeStatus

END = 1.25


def limit_bar(
    value: float | None,
    limit: float | None,
    ahead: float | None = None,
    colour: str = "ink",
    *,
    big: bool = False,
    old: bool = False,
) -> str:
    """The bar alone.

    `ahead` is where the forecast p90 (or the hour's end) leads; past 125% it keeps its end with a break.
    """
    if value is None or not limit or limit <= 0:
        return f'<div class="hd-track{" big" if big else ""}" role="img" aria-label="No value"></div>'
    share = value / limit
    now = min(share / END, 1.0) * 100
    parts = f'<div class="now" style="width:{now:.1f}%"></div>'
    if ahead is not None and ahead > value:
        to = min(ahead / limit / END, 1.0) * 100
        parts += f'<div class="next" style="left:{now:.1f}%;width:{max(0.0, to - now):.1f}%"></div>'
    if share > END:
        parts += '<div class="break"></div>'
    parts += f'<div class="limit" style="left:{100 / END:.1f}%"></div>'
    classes = "hd-track" + (" big" if big else "") + (" old" if old else "")
    return (
        f'<div class="{classes}" style="--c:var(--hd-{colour})" role="img" aria-label="{share:.0%} of the '
        f'limit">{parts}</div>'
    )


def tier_row(
    name: str, value: float | None, limit: float | None, ahead: float | None, status: str, *, in_ms: bool, old: bool
) -> str:
    """One tier: swatch, name, bar, "187 ms of 200 ms", chip."""
    colour = name if name in ("premium", "standard", "background") else "ink"
    number = (
        f'<b class="hd-b hd-num">{formats.wait(value, in_ms)}'
        f'</b> <span class="hd-2 hd-num">of {formats.wait(limit, in_ms)}</span>'
    )
    if value is None and status == EnvelopeStatus.HELD.value:  # nobody asked: a promise that nobody tests is held
        number = f'<span class="hd-2 hd-num">no requests, target {formats.wait(limit, in_ms)}</span>'
    return (
        f'<div class="hd-tier"><span class="name"><span class="hd-sw {text(colour)}">'
        f"</span>{text(formats.words(name))}</span>"
        f'<span class="bar">{limit_bar(value, limit, ahead, colour, old=old)}</span><span class="value">{number}</span>'
        f'<span class="status">{chip(status)}</span></div>'
    )
