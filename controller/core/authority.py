"""Who leads, the planner or the reactive net, by what the settled hours say: forecasts have to earn their authority."""

from collections.abc import Sequence
from dataclasses import dataclass

from controller.core.finance import dollars
from controller.core.types import Authority

MARGIN_RATIO = 0.1
"""The planner has lost when its dollars, misses priced, are over the shadow's by more than this."""


@dataclass(frozen=True, slots=True)
class SettledHour:
    """The planner's and the shadow's dollars of an hour, misses priced. `planner_led`: it was asked in that hour; where
    it was not, its figure is that of the fleet that it would have held. None: unknown, or not the planner's doing.
    """

    hour_s: float
    planner_led: bool
    planner_usd: float | None
    shadow_usd: float | None


def decide(history: Sequence[SettledHour], now: Authority, hours: int) -> Authority:
    """Who leads from here on. `history`: settled hours, oldest first. `hours` 0: the planner always leads.

    The newest known hours are judged together, as many as `hours`: a reserve is paid for in the hours in which nothing
    comes, and earned back in the one in which something does. The planner steps back when they cost more than the
    shadow's by over the margin, and returns when its plans would have cost no more. Only hours since the last change
    count, and an unknown hour says nothing.
    """
    if hours < 1:
        return Authority()
    since: list[tuple[float, float]] = []
    for each in reversed(history):
        if each.planner_led != now.leads or len(since) == hours:
            break
        if each.planner_usd is not None and each.shadow_usd is not None:
            since.append((each.planner_usd, each.shadow_usd))
    if len(since) < hours:
        return now
    planner, shadow = sum(usd for usd, _ in since), sum(usd for _, usd in since)
    scores = f"{dollars(planner)} against the shadow's {dollars(shadow)} over {hours} settled hours, misses priced"
    numbers = {"planner_usd": planner, "shadow_usd": shadow, "hours": float(hours)}
    if now.leads and planner > shadow * (1 + MARGIN_RATIO):
        return Authority(False, f"the planner stepped back to the reactive net: {scores}", numbers)
    if not now.leads and planner <= shadow:
        return Authority(True, f"the planner leads again: its plans would have cost {scores}", numbers)
    return now
