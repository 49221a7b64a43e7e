"""When a job with a deadline runs on spot, on demand or waits: the cheapest choice for a zone that comes and goes.

The zone is taken for a Markov chain, up or down, whose rates are learned as the job runs. For a pair of rates the
expected cost is minimised by dynamic programming over work left, time left, and what the job runs on; a safety net
makes a miss impossible whatever the zone does. Peer: Uniform Progress (Wu et al., "Can't Be Late", NSDI 2024).
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from controller.core.types import FloatArray, Reason
from models.enums import Limit

IDLE, SPOT, ON_DEMAND = 0, 1, 2
NAMES = ("idle", "spot", "on demand")

_NEVER = 1e12
# Rates are rounded to this factor, so that a table serves until the estimate has moved.
_RATE_STEP = 1.25
_SLOWEST_UNITS = 2000.0


@dataclass(frozen=True, slots=True)
class UpDown:
    """What has been seen of a zone: hours up and down and how often it changed. The first values are what is believed
    before anything was seen: one change each way, up for two hours and down for one.
    """

    up_h: float = 2.0
    falls: float = 1.0
    down_h: float = 1.0
    rises: float = 1.0

    def seen(self, was_up: bool, is_up: bool, hours: float) -> "UpDown":
        """After `hours` in which it was up or down, and what it is now."""
        if was_up:
            return UpDown(self.up_h + hours, self.falls + (not is_up), self.down_h, self.rises)
        return UpDown(self.up_h, self.falls, self.down_h + hours, self.rises + is_up)

    @property
    def falls_per_hour(self) -> float:
        return self.falls / self.up_h

    @property
    def rises_per_hour(self) -> float:
        return self.rises / self.down_h


@dataclass(frozen=True, slots=True)
class Deadline:
    """A job: work left and time left, the changeover (paid, without progress) and the decision's step, in seconds.
    `spot_price_ratio`: spot over on demand.
    """

    work_s: float
    time_s: float
    changeover_s: float
    step_s: float
    spot_price_ratio: float

    @property
    def must_run(self) -> bool:
        """One more step without progress, and on demand could not end it in time."""
        return self.time_s < self.work_s + self.changeover_s + self.step_s


def choose(job: Deadline, now_on: int, up: bool, zone: UpDown, total_s: tuple[float, float]) -> tuple[int, Reason]:
    """IDLE, SPOT or ON_DEMAND for the next step, and why.

    `now_on`: what the job is on now, its changeover done or under way; a job whose spot was lost is IDLE. `up`: can
    spot be had. `total_s`: work and time of the whole job, the size of the table (the same for all its decisions).
    Never SPOT where not `up`. As long as time_s ≥ work_s + changeover_s + step_s when it begins, on time whatever the
    zone does.
    """
    slack_s = job.time_s - job.work_s
    numbers = {"work_s": job.work_s, "slack_s": slack_s, "falls_per_hour": zone.falls_per_hour}
    if job.work_s <= 0:
        return IDLE, Reason(Limit.NONE, "the work is done", numbers)
    if job.must_run:
        text = f"{slack_s / 60:.0f} min of slack are all that a changeover needs: on demand to the end"
        return ON_DEMAND, Reason(Limit.FLOOR, text, numbers)
    unit_h = job.changeover_s / 3600
    table = _table(
        _rounded(zone.falls_per_hour * unit_h),
        _rounded(zone.rises_per_hour * unit_h),
        round(job.spot_price_ratio, 4),
        math.ceil(total_s[0] / job.changeover_s),
        math.ceil(total_s[1] / job.changeover_s),
    )
    work, left = math.ceil(job.work_s / job.changeover_s - 1e-9), math.floor(job.time_s / job.changeover_s + 1e-9)
    left = min(max(left, work + 1), table.shape[0] - 1)
    choice = int(table[left, min(work, table.shape[1] - 1), int(up), now_on])
    text = (
        f"{NAMES[choice]}: {job.work_s / 3600:.1f} h of work and {slack_s / 3600:.1f} h of slack left, spot is "
        f"{'up' if up else 'down'}, falls {zone.falls_per_hour:.2f} and returns {zone.rises_per_hour:.2f} times an hour"
    )
    return choice, Reason(Limit.NONE, text, numbers)


def _rounded(rate: float) -> float:
    """Probability of a change in one unit, on a grid of factors."""
    rate = min(max(rate, 1 / _SLOWEST_UNITS), 8.0)
    return round(math.log(rate) / math.log(_RATE_STEP)) * 1.0


@lru_cache(maxsize=512)
def _table(fall: float, rise: float, price: float, work: int, left: int) -> npt.NDArray[np.uint8]:
    """The best choice at [time left, work left, up, on], in changeovers; rates as exponents of the grid's factor.

    Bellman backwards in time: a unit on spot or on demand makes one unit of progress, unless it is a changeover; the
    zone changes at a unit's end; spot that is lost leaves the job idle. Cost in on-demand units.
    """
    falls, rises = 1 - math.exp(-(_RATE_STEP**fall)), 1 - math.exp(-(_RATE_STEP**rise))
    choice = np.zeros((left + 1, work + 1, 2, 3), np.uint8)
    # value[up, on, w]; SPOT while down is IDLE.
    value = np.full((2, 3, work + 1), _NEVER)
    value[:, :, 0] = 0.0
    for r in range(1, left + 1):
        down, up = value[0], value[1]
        soon = np.empty((2, 3, work + 1))
        soon[0] = (1 - rises) * down + rises * up
        soon[0, SPOT] = (1 - rises) * down[IDLE] + rises * up[IDLE]
        soon[1] = (1 - falls) * up + falls * down
        soon[1, SPOT] = (1 - falls) * up[SPOT] + falls * down[IDLE]
        done = np.empty_like(soon)
        done[:, :, 1:] = soon[:, :, :-1]
        done[:, :, 0] = 0.0
        fresh = np.empty_like(value)
        for is_up in (0, 1):
            for on in (IDLE, SPOT, ON_DEMAND):
                options: list[FloatArray] = [soon[is_up, IDLE]]
                spot = done if on == SPOT else soon
                options.append(price + spot[is_up, SPOT] if is_up else np.full(work + 1, 2 * _NEVER))
                options.append(1.0 + (done if on == ON_DEMAND else soon)[is_up, ON_DEMAND])
                stacked = np.array(options)
                best = stacked.argmin(axis=0)
                choice[r, :, is_up, on] = best
                fresh[is_up, on] = stacked[best, np.arange(work + 1)]
        fresh[:, :, 0] = 0.0
        value = np.minimum(fresh, _NEVER)
    return choice
