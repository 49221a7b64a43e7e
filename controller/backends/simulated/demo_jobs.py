"""The batch jobs of the demonstration: a textile studio's pattern libraries, upscales and renders, for ever.

Each day is a function of the seed and its date, so the stream goes on as long as the clock does and needs no memory.
Most jobs behave. On the first day, and now and then later, one loops without end and one outgrows its own cost limit.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from controller.backends.simulated.jobs import START_DELAY_S, JobSpec
from controller.core.types import Offer
from models.enums import Market

SERVICE: Final = "images"
RUNAWAY_AFTER_S: Final = 50 * 60.0
OUTGROWS_AFTER_S: Final = 35 * 60.0

_DAY_S: Final = 86400.0
_FIRST_NUMBER: Final = 2000
_NUMBERS_A_DAY: Final = 16
_MOST_BUTTON_RUNAWAYS: Final = 399
_TENANTS: Final = (
    "loom-eu",
    "indigo-house",
    "atelier-kasuri",
    "marlow-textiles",
    "selvedge-and-co",
    "studio-ikat",
    "paisley-works",
    "nordic-weave",
)
# name, tier, most GPUs
_KINDS: Final = (
    ("Block-print repeat library", "background", 2),
    ("Jacquard texture upscale", "background", 2),
    ("Autumn catalogue renders", "standard", 4),
    ("Seamless tile set, linen", "background", 1),
    ("Colourway variations, silk", "standard", 2),
    ("Kilim motif library", "background", 2),
    ("Upholstery fabric swatches", "standard", 1),
    ("Archive scan restoration", "background", 4),
    ("Drape simulation renders", "standard", 4),
    ("Batik pattern exploration", "background", 1),
)
# the studio works by day and leaves long runs for the night; one weight an hour, UTC
_HOURS: Final = np.array([2, 1, 1, 1, 1, 2, 4, 6, 8, 9, 9, 8, 6, 8, 9, 9, 8, 7, 6, 5, 4, 4, 3, 3], dtype=float)


class DemoJobs:
    """The stream of the demonstration that starts at `start_s`. ValueError when there are no offers to run on."""

    def __init__(self, start_s: float, seed: int, offers: Sequence[Offer]) -> None:
        self._start_s, self._seed = start_s, seed
        self._offers = _sold(offers)
        self._first_day = math.floor(start_s / _DAY_S)
        self._drawn: dict[int, tuple[JobSpec, ...]] = {}

    def between(self, from_s: float, to_s: float) -> tuple[JobSpec, ...]:
        """The jobs submitted in (from_s, to_s], oldest first; days before the start have ordinary jobs too."""
        days = range(math.floor(from_s / _DAY_S), math.floor(to_s / _DAY_S) + 1)
        found = [one for day in days for one in self._day(day) if from_s < one.submit_s <= to_s]
        return tuple(sorted(found, key=lambda one: one.submit_s))

    def _day(self, day: int) -> tuple[JobSpec, ...]:
        # a live cluster asks for the same day every few seconds: only the last one is kept
        if day not in self._drawn:
            self._drawn = {day: (*self._ordinary(day), *self._special(day))}
        return self._drawn[day]

    def _id(self, day: int, number: int) -> str:
        return f"j-{_FIRST_NUMBER + _NUMBERS_A_DAY * (day - self._first_day) + number:04d}"

    def _ordinary(self, day: int) -> list[JobSpec]:
        if day < self._first_day - 100:
            return []  # numbers would run into those of `runaway_job`
        rng = np.random.default_rng((self._seed, day))
        count = int(rng.integers(6, 11))
        hours = np.sort(rng.choice(24, size=count, p=_HOURS / _HOURS.sum()))
        specs = []
        for number, hour in enumerate(hours):
            name, tier, most_gpus = _KINDS[rng.integers(len(_KINDS))]
            offer = self._offers[rng.integers(len(self._offers))]
            gpus = min(most_gpus, int(rng.choice([1, 2, 4], p=[0.6, 0.3, 0.1])))
            # between 12 minutes and 200, as many short as long ones on a log scale
            expected_s = math.exp(rng.uniform(math.log(12 * 60), math.log(200 * 60)))
            runs_s = expected_s * rng.uniform(0.85, 1.18)
            specs.append(
                JobSpec(
                    id=self._id(day, number),
                    name=f"{name} {rng.integers(1, 60):02d}",
                    service=SERVICE,
                    tenant=_TENANTS[rng.integers(len(_TENANTS))],
                    tier=tier,
                    submit_s=day * _DAY_S + hour * 3600.0 + float(np.round(rng.uniform(0, 3599))),
                    work_s=round(runs_s) * offer.speed_ratio,
                    offer_id=offer.id,
                    gpu_count=gpus,
                    checkpoints=bool(rng.uniform() < 0.7),
                    cost_limit_usd=_rounded_up(1.8 * _usd(offer, gpus, expected_s), 0.5),
                    expected_s=round(expected_s / 60) * 60.0,
                )
            )
        return specs

    def _special(self, day: int) -> list[JobSpec]:
        since = day - self._first_day
        if since == 0:
            runaway_s, outgrows_s = self._start_s + RUNAWAY_AFTER_S, self._start_s + OUTGROWS_AFTER_S
        else:
            runaway_s, outgrows_s = day * _DAY_S + 14 * 3600 + 600, day * _DAY_S + 9 * 3600 + 1800
        specs = []
        if since >= 0 and since % 4 == 0:
            specs.append(_runaway(self._id(day, 12), runaway_s, self._offers))
        if since >= 0 and since % 3 == 0:
            specs.append(self._outgrows(self._id(day, 13), outgrows_s))
        if since == 0:
            specs.append(self._opening(self._id(day, 14)))
        return specs

    def _outgrows(self, job_id: str, at_s: float) -> JobSpec:
        """Expected to take 40 minutes, within its limit; its work costs 1.4 × the limit: foreseen, then stopped."""
        offer, gpus, expected_s = self._offers[-1], 2, 2400.0
        limit_usd = _rounded_up(1.25 * _usd(offer, gpus, expected_s), 0.1)
        runs_s = 1.4 * limit_usd / (offer.price_usd_per_hour * gpus / offer.gpu_count) * 3600.0 - START_DELAY_S
        return JobSpec(
            id=job_id,
            name="Velvet texture upscale, 16k",
            service=SERVICE,
            tenant="marlow-textiles",
            tier="background",
            submit_s=at_s,
            work_s=runs_s * offer.speed_ratio,
            offer_id=offer.id,
            gpu_count=gpus,
            checkpoints=True,
            cost_limit_usd=limit_usd,
            expected_s=expected_s,
        )

    def _opening(self, job_id: str) -> JobSpec:
        """A well-behaved job in the first minutes, so that the page shows what a healthy one looks like."""
        offer, expected_s = self._offers[0], 5400.0
        return JobSpec(
            id=job_id,
            name="Winter catalogue renders 12",
            service=SERVICE,
            tenant="indigo-house",
            tier="standard",
            submit_s=self._start_s + 120.0,
            work_s=5100.0 * offer.speed_ratio,
            offer_id=offer.id,
            gpu_count=2,
            checkpoints=True,
            cost_limit_usd=_rounded_up(1.8 * _usd(offer, 2, expected_s), 0.5),
            expected_s=expected_s,
        )


def demo_jobs(start_s: float, seed: int, offers: Sequence[Offer], days: int = 7) -> tuple[JobSpec, ...]:
    """The demonstration's jobs from its start on, for so many days."""
    return DemoJobs(start_s, seed, offers).between(start_s, start_s + days * _DAY_S)


def runaway_job(at_s: float, number: int, offers: Sequence[Offer]) -> JobSpec:
    """A loop that never finishes, for the page's button. `number` makes its id; ValueError outside 1 to 399."""
    if not 1 <= number <= _MOST_BUTTON_RUNAWAYS:
        raise ValueError(f"a demonstration starts at most {_MOST_BUTTON_RUNAWAYS} runaways, not number {number}")
    return _runaway(f"j-{number:04d}", at_s, _sold(offers))


def _runaway(job_id: str, at_s: float, offers: Sequence[Offer]) -> JobSpec:
    """Ten minutes of work that stick at 35 %, on four of the fastest GPUs.

    Its limit is 72 minutes of its burn: the projection alerts on the way, and it is the lack of progress that stops it.
    """
    offer, gpus = offers[-1], 4
    return JobSpec(
        id=job_id,
        name="Seamless tile search, all seeds",
        service=SERVICE,
        tenant="nordic-weave",
        tier="background",
        submit_s=at_s,
        work_s=math.inf,
        offer_id=offer.id,
        gpu_count=gpus,
        cost_limit_usd=_rounded_up(1.2 * offer.price_usd_per_hour * gpus / offer.gpu_count, 0.1),
        expected_s=600.0,
        stall_at_ratio=0.35,
    )


def _sold(offers: Sequence[Offer]) -> tuple[Offer, ...]:
    """What batch jobs run on here, slowest first: on demand, as the simulated jobs are never interrupted."""
    known = [offer for offer in offers if math.isfinite(offer.price_usd_per_hour)]
    sold = [offer for offer in known if offer.market is Market.ON_DEMAND] or known
    if not sold:
        raise ValueError("the demonstration's jobs need at least one offer with a price")
    return tuple(sorted(sold, key=lambda offer: (offer.speed_ratio, offer.id)))


def _usd(offer: Offer, gpus: int, runs_s: float) -> float:
    return offer.price_usd_per_hour * gpus / offer.gpu_count * (START_DELAY_S + runs_s) / 3600.0


def _rounded_up(usd: float, step: float) -> float:
    return round(math.ceil(usd / step) * step, 2)
