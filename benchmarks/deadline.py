"""A batch job with a deadline on the spot market of one zone: what it costs against on demand and against hindsight.

48 h of work, a deadline of 60 h, spot at 0.30 of on demand, a changeover of two ticks (paid, no progress) at every
start, random starts in each zone's series, the same for every policy; every tick tells whether the zone is up. Peers
from "Can't Be Late" (NSDI 2024): greedy with its safety net, and Uniform Progress with hysteresis. The omniscient one
knows the series: dynamic programming over ticks, work left and what it runs on. Heddle's rule is
`controller.core.deadline`, which learns a zone's rates in the job itself, from a prior that knows no zone.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.report import table, write_section
from benchmarks.spot_serving import SERIES, Up, read_up
from controller.core.deadline import IDLE, ON_DEMAND, SPOT, Deadline, UpDown, choose
from controller.core.types import FloatArray

WORK_H, DEADLINE_H, SPOT_PRICE, CHANGEOVER_TICKS, TICK_S = 48.0, 60.0, 0.30, 2, 195.0


@dataclass(frozen=True, slots=True)
class Job:
    """Work and deadline in ticks, and the tick's seconds."""

    work: int
    ticks: int
    gap_s: float


@dataclass(frozen=True, slots=True)
class Ran:
    """On-demand ticks' worth of money, whether it ended in time, and instance starts."""

    cost: float
    in_time: bool
    starts: int


# (tick, work left, what it is on, is the zone up) → what to be on in this tick.
Policy = Callable[[int, int, int, bool], int]


def carry_out(policy: Policy, up: Sequence[bool], job: Job) -> Ran:
    """Run a job over a series. Spot in a zone that has gone is lost with the tick."""
    on, changing, left, cost, starts = IDLE, 0, job.work, 0.0, 0
    for tick in range(job.ticks):
        if on == SPOT and not up[tick]:
            on, changing = IDLE, 0
        choice = policy(tick, left, on, up[tick])
        if choice != on:
            on, changing = choice, CHANGEOVER_TICKS
            starts += choice != IDLE
        if on == IDLE:
            continue
        cost += SPOT_PRICE if on == SPOT else 1.0
        if changing:
            changing -= 1
        else:
            left -= 1
            if not left:
                return Ran(cost, True, starts)
    return Ran(cost, False, starts)


def greedy(job: Job) -> Policy:
    """Spot whenever it is up; on demand to the end once the slack is used up."""
    late = False

    def policy(tick: int, left: int, on: int, up: bool) -> int:
        nonlocal late
        late = late or (on != SPOT and job.ticks - tick < left + 2 * CHANGEOVER_TICKS)
        return ON_DEMAND if late else SPOT if up else IDLE

    return policy


def uniform_progress(job: Job) -> Policy:
    """Greedy that never falls behind an even pace, with hysteresis: on demand until two changeovers ahead of it."""
    late = False

    def policy(tick: int, left: int, on: int, up: bool) -> int:
        nonlocal late
        late = late or (on != SPOT and job.ticks - tick < left + 2 * CHANGEOVER_TICKS)
        done = job.work - left
        if late:
            return ON_DEMAND
        if on == SPOT:
            return SPOT
        if on == ON_DEMAND and done < (tick + 2 * CHANGEOVER_TICKS) * job.work / job.ticks:
            return ON_DEMAND
        if up:
            return SPOT
        return ON_DEMAND if on == IDLE and done < tick * job.work / job.ticks else IDLE

    return policy


def heddle(job: Job) -> Policy:
    """`choose`, told each tick what became of the zone."""
    zone, before = UpDown(), None

    def policy(tick: int, left: int, on: int, up: bool) -> int:
        nonlocal zone, before
        if before is not None:
            zone = zone.seen(before, up, job.gap_s / 3600)
        before = up
        changeover_s = CHANGEOVER_TICKS * job.gap_s
        now = Deadline(left * job.gap_s, (job.ticks - tick) * job.gap_s, changeover_s, job.gap_s, SPOT_PRICE)
        return choose(now, on, up, zone, (job.work * job.gap_s, job.ticks * job.gap_s))[0]

    return policy


def omniscient(up: Sequence[bool], job: Job) -> float:
    """The least cost, in on-demand ticks: backwards over ticks, for every work left, by what it is on and how many
    ticks of the changeover remain.
    """
    never = 1e12
    price = {IDLE: 0.0, SPOT: SPOT_PRICE, ON_DEMAND: 1.0}
    # after[on][changing][work left]
    after = np.full((3, CHANGEOVER_TICKS + 1, job.work + 1), never)
    after[:, :, 0] = 0.0
    for tick in range(job.ticks - 1, -1, -1):

        def during(on: int, changing: int, tick: int = tick, after: FloatArray = after) -> FloatArray:
            if on == IDLE:
                idle: FloatArray = after[IDLE, 0]
                return idle
            if on == SPOT and not up[tick]:
                return np.full(job.work + 1, never)
            if changing:
                booting: FloatArray = price[on] + after[on, changing - 1]
                return booting
            return np.concatenate([[0.0], price[on] + after[on, 0, :-1]])

        fresh = {on: during(on, CHANGEOVER_TICKS) for on in (IDLE, SPOT, ON_DEMAND)}
        now = np.empty_like(after)
        for on in (IDLE, SPOT, ON_DEMAND):
            other = np.minimum.reduce([fresh[to] for to in fresh if to != on])
            for changing in range(CHANGEOVER_TICKS + 1):
                lost = fresh[SPOT] if on == SPOT else never
                now[on, changing] = np.minimum(np.minimum(during(on, changing), other), lost)
        now[:, :, 0] = 0.0
        after = now
    return float(after[IDLE, 0, job.work])


def read_ticks(name: str) -> tuple[list[str], Up, float]:
    """As `read_up`, every so many ticks of a series that is finer than the main one."""
    zones, up, gap_s = read_up(name)
    every = max(1, round(TICK_S / gap_s))
    return zones, up[:, ::every], gap_s * every


def compare(name: str, starts: int, seed: int = 1) -> dict[str, dict[str, list[Ran]]]:
    """By zone and policy, each from the same random starts."""
    zones, up, gap_s = read_ticks(name)
    rng = np.random.default_rng(seed)
    found: dict[str, dict[str, list[Ran]]] = {}
    job = Job(int(WORK_H * 3600 / gap_s), int(DEADLINE_H * 3600 / gap_s), gap_s)
    for zone, row in zip(zones, up, strict=True):
        twice = np.concatenate([row, row])
        mine = found.setdefault(zone, {})
        for start in rng.integers(0, len(row), starts).tolist():
            part = twice[start : start + job.ticks].tolist()
            for word, policy in (("greedy", greedy), ("Uniform Progress", uniform_progress), ("Heddle", heddle)):
                mine.setdefault(word, []).append(carry_out(policy(job), part, job))
            mine.setdefault("omniscient", []).append(Ran(omniscient(part, job), True, 0))
        print(
            zone,
            {word: f"{np.mean([ran.cost for ran in runs]) / job.work:.3f}" for word, runs in mine.items()},
            flush=True,
        )
    return found


def report(found: dict[str, dict[str, list[Ran]]], gap_s: float) -> str:
    """All zones together, then zone by zone."""
    work = int(WORK_H * 3600 / gap_s)
    words = list(next(iter(found.values())))
    costs = {word: np.array([[ran.cost for ran in mine[word]] for mine in found.values()]) / work for word in words}
    best = costs["omniscient"].mean()
    rows = []
    for word in words:
        runs = [ran for mine in found.values() for ran in mine[word]]
        starts = "—" if word == "omniscient" else f"{np.mean([ran.starts for ran in runs]):.1f}"
        missed = sum(not ran.in_time for ran in runs)
        mean = costs[word].mean()
        rows.append([word, f"{100 * mean:.1f}", f"{mean / best:.3f}", str(missed), starts])
    head = ["policy", "cost, % of on demand", "against omniscient", "deadlines missed", "starts a job"]
    by_zone = [
        [zone, *(f"{100 * costs[word][index].mean():.1f}" for word in words)] for index, zone in enumerate(found)
    ]
    return table(head, rows) + "\n\nBy zone, % of on demand:\n\n" + table(["zone", *words], by_zone)


def main(argv: Sequence[str] | None = None) -> None:
    """Run, print, and rewrite this section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=100, help="random starts in each zone")
    parser.add_argument("--series", default=SERIES, help="a file of data/traces; another is printed only")
    args = parser.parse_args(argv)
    text = report(compare(args.series, args.starts), read_ticks(args.series)[2])
    text += (
        f"\n\n{WORK_H:.0f} h of work, {DEADLINE_H:.0f} h to do it, a changeover of {CHANGEOVER_TICKS} ticks, spot at "
        f"{SPOT_PRICE:.2f} of on demand, `data/traces/{args.series}`, {args.starts} random starts in each zone."
    )
    print(text)
    if args.series == SERIES:
        write_section("deadline", "A batch with a deadline", "python -m benchmarks.deadline", text)


if __name__ == "__main__":
    main()
