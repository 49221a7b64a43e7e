"""How numbers, money, times and words are written on a page. Unknown is a dash, never zero and never blank."""

import math
import re
from datetime import UTC, datetime

from models.enums import Limit, Market

DASH = "—"
MINUS = "−"

MARKET_WORDS = {Market.ON_DEMAND.value: "On-demand", Market.SPOT.value: "Spot", Market.SERVERLESS.value: "Serverless"}

LIMIT_WORDS = {
    Limit.NONE.value: "Nothing bound",
    Limit.STALE_TELEMETRY.value: "Telemetry stale",
    Limit.FLEET_PAUSE.value: "Fleet paused",
    Limit.FREEZE.value: "Frozen",
    Limit.SPEND_CAP.value: "Spend cap",
    Limit.OVERRIDE.value: "Override",
    Limit.FLOOR.value: "Floor",
    Limit.CEILING.value: "Ceiling",
    Limit.LATENCY_TARGET.value: "Latency target",
    Limit.BACKLOG.value: "Backlog",
    Limit.FORECAST.value: "Forecast",
    Limit.SCALE_IN_CHECK.value: "Scale-in check",
    Limit.IDLE_COST.value: "Idle cost",
    Limit.BURST_RESERVE.value: "Burst reserve",
    Limit.SURGE_AHEAD.value: "Surge ahead",
    Limit.SURGE_MISSED.value: "Surge did not come",
    Limit.UPSTREAM.value: "Upstream",
    Limit.DEADLINE.value: "Deadline",
    Limit.VALLEY.value: "Valley",
    Limit.NO_CAPACITY.value: "No capacity",
    Limit.MODE.value: "Mode",
}

MODEL_WORDS = {
    "arima_fourier": "ARIMA + Fourier",
    "autoreg_fourier": "Autoregression + Fourier",
    "components": "Unobserved components",
    "ets": "ETS",
    "lstm": "LSTM",
    "seasonal_naive_168h": "Seasonal naive 168 h",
    "seasonal_naive_24h": "Seasonal naive 24 h",
    "self_exciting": "Self-exciting",
    "stl_ets": "STL + ETS",
    "weekly_profile": "Weekly profile",
}

# Not where it may be a plain word of a sentence.
_MODEL = re.compile(rf"\b({'|'.join(name for name in MODEL_WORDS if name != 'components')})\b")
_ISO = re.compile(r"\b(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d)(?::\d\d(?:\.\d+)?)?(?:Z|\+00:00| UTC)?(?![\d:+-])")

_LINE = re.compile(r"\b[\w-]+/([a-z][\w+-]*) at (60|600|3600) s\b")
GRID_WORDS = {60: "next hour", 600: "next day", 3600: "next day, hourly"}


def known(value: float | None) -> bool:
    """Whether there is a number to show."""
    return value is not None and math.isfinite(value)


def money(usd: float | None) -> str:
    """Dollars: cents under $100, none above, a true minus sign."""
    if usd is None or not math.isfinite(usd):
        return DASH
    sign = MINUS if usd < 0 and round(usd, 2) != 0 else ""
    size = abs(usd)
    return f"{sign}${size:,.2f}" if size < 100 else f"{sign}${size:,.0f}"


def rate(usd_per_hour: float | None) -> str:
    """Dollars an hour: "$41.20/h"."""
    return DASH if not known(usd_per_hour) else f"{money(usd_per_hour)}/h"


def cap(usd_per_hour: float | None) -> str:
    """A limit in dollars, without cents where it has none: "$50"."""
    if usd_per_hour is None or not math.isfinite(usd_per_hour):
        return DASH
    return f"${usd_per_hour:,.0f}" if usd_per_hour == int(usd_per_hour) else money(usd_per_hour)


def signed_money(usd: float | None) -> str:
    """A difference in dollars, with its sign: "+$26", "−$0.80"; "$0.00" has none."""
    if usd is None or not math.isfinite(usd):
        return DASH
    return f"+{money(usd)}" if round(usd, 2) > 0 else money(usd)


def wait(ms: float | None, in_ms: bool = False) -> str:
    """A waiting time: "187 ms" up to 999 ms or where the target is told in ms, then "2.31 s", "38 s", "8 min 34 s"."""
    if ms is None or not math.isfinite(ms):
        return DASH
    if ms < 999.5 or in_ms:
        return f"{ms:,.0f} ms"
    if ms < 9_995:
        return f"{ms / 1000:.2f} s"
    return duration(ms / 1000)


def duration(seconds: float | None) -> str:
    """A length of time in its two largest units: "38 s", "8 min 34 s", "2 h", "3 d 4 h"."""
    if seconds is None or not math.isfinite(seconds):
        return DASH
    whole = round(seconds)
    for size, unit, smaller, word in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            big, rest = divmod(whole, size)
            rest //= smaller
            return f"{big} {unit} {rest} {word}" if rest else f"{big} {unit}"
    return f"{whole} s"


def age(seconds: float | None) -> str:
    """How long ago, in one unit: "12 s", "6 min", "3 h", "2 d"."""
    if seconds is None or not math.isfinite(seconds):
        return DASH
    seconds = max(0.0, seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def percent(ratio: float | None) -> str:
    """A ratio as a percentage: "93%", one decimal only from 99 to under 100 ("99.2%")."""
    if ratio is None or not math.isfinite(ratio):
        return DASH
    value = ratio * 100
    return f"{value:.1f}%" if 99 <= value < 100 else f"{value:.0f}%"


def number(value: float | None, digits: int = 1) -> str:
    """A plain number with thousands apart."""
    return DASH if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def count(value: int | float | None, thing: str = "") -> str:
    """A whole number with its noun: "1 replica", "14 replicas"."""
    if value is None:
        return DASH
    if not thing:
        return f"{value:,.0f}"
    plural = thing[:-1] + "ies" if thing.endswith("y") else thing + "s"
    return f"{value:,.0f} {thing if value == 1 else plural}"


def hour_minute(at: datetime | None) -> str:
    """ "14:32", UTC."""
    return DASH if at is None else at.astimezone(UTC).strftime("%H:%M")


def clock_time(at: datetime | None) -> str:
    """ "14:32:10", UTC."""
    return DASH if at is None else at.astimezone(UTC).strftime("%H:%M:%S")


def exact(at: datetime | None) -> str:
    """A moment with its zone: "22 Nov 13:10:04 UTC"."""
    return DASH if at is None else at.astimezone(UTC).strftime("%-d %b %H:%M:%S UTC")


def day_time(at: datetime | None) -> str:
    """A moment to the minute: "22 Nov 13:10"."""
    return DASH if at is None else at.astimezone(UTC).strftime("%-d %b %H:%M")


def model(name: str) -> str:
    """A forecasting model's name."""
    return MODEL_WORDS.get(name, words(name))


def _plain(text: str) -> str:
    """A record's text without what only a program writes: lines of forecasts, model names and ISO moments."""
    text = _LINE.sub(lambda found: f"{found[1].replace('+', ' + ')}, {GRID_WORDS[int(found[2])]}", text)
    text = _ISO.sub(lambda found: day_time(datetime.fromisoformat(f"{found[1]}T{found[2]}").replace(tzinfo=UTC)), text)
    return _MODEL.sub(lambda found: MODEL_WORDS[found[0]], text)


def sentence(text: str) -> str:
    """First letter large (not of an id or a version), a full stop at the end; models and moments as on the pages."""
    text = _plain(text.strip())
    if not text:
        return ""
    if len(text) == 1 or not (text[1].isdigit() or text[1] == "-"):  # "v2 is in force" and "j-0003 was killed" stay
        text = text[0].upper() + text[1:]
    return text if text[-1] in ".!?" else text + "."


def words(name: str) -> str:
    """An identifier as words in sentence case: "no_progress" is "No progress"."""
    text = name.replace("_", " ").replace(".", " ").strip()
    return text[:1].upper() + text[1:]


def label(name: str) -> str:
    """A number's name without the unit that its value will carry: "telemetry_age_s" is "Telemetry age"."""
    if name == "usd_per_hour":
        return "Burn"
    for unit in ("_usd_per_hour", "_usd", "_ms", "_s", "_ratio", "_percent"):
        if name.endswith(unit) and name != unit:
            name = name.removesuffix(unit)
            break
    return words(name).replace("gpus", "GPUs").replace("Gpus", "GPUs")


def market(name: str) -> str:
    """A market's word."""
    return MARKET_WORDS.get(name, words(name))


def limit(name: str) -> str:
    """A limit's word."""
    return LIMIT_WORDS.get(name, words(name))


def measured(name: str, value: object) -> str:
    """A value of a record's `numbers`, told by the unit that its name ends in. Flags and text stay as they are."""
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return str(value)
    if not math.isfinite(value):
        return DASH
    if name.endswith("usd_per_hour"):
        return rate(value)
    if "usd" in name.split("_"):
        return money(value)
    if name.endswith("_ms"):
        return wait(value)
    if name.endswith("_s"):
        return duration(value) if value >= 60 or value == int(value) else f"{value:.2f} s"
    if name.endswith(("_ratio", "_percent")):
        return percent(value if name.endswith("_ratio") else value / 100)
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"
