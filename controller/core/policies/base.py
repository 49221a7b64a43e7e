"""The seam of policies: an observation in, a plan out, and what to remember until the next tick."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, Self, runtime_checkable

from controller.core.priced import Priced
from controller.core.types import Observation, Plan, Surge, TierTarget


@dataclass(frozen=True, slots=True)
class Memory:
    """What a policy carries from tick to tick: its recommendations (time, replicas or capacity), newest last. A policy
    that carries more returns a subclass of its own, and takes any other Memory for a fresh start.

    Empty after a restart: a policy then holds what it finds until its window has filled again. `reserves`: burst
    reserves per tier (reference GPUs), computed from history at `reserves_s`. `surges`: those that were prepared for,
    until they end. `learned`: the lead-time forecast of each urgent tier and the price of a miss, learned
    at `learned_s` for the targets `learned_for`.
    """

    recommendations: tuple[tuple[float, float], ...] = ()
    since_s: float | None = None
    bases: tuple[tuple[float, float, float], ...] = ()
    reserves: tuple[float, ...] = ()
    reserves_s: float | None = None
    surges: tuple[Surge, ...] = ()
    learned: Mapping[int, Priced] = field(default_factory=dict)
    learned_s: float | None = None
    learned_for: tuple[TierTarget, ...] = ()

    def recommend(self, now_s: float, value: float, keep_s: float) -> Self:
        kept = tuple(entry for entry in self.recommendations if entry[0] > now_s - keep_s)
        return replace(
            self,
            recommendations=(*kept, (now_s, value)),
            since_s=now_s if self.since_s is None else self.since_s,
        )

    def need_base(self, now_s: float, base: float, first: float, keep_s: float) -> Self:
        """Remember for keep_s what the first tier needs on demand, and whatever zone is lost: whole reference GPUs."""
        kept = tuple(entry for entry in self.bases if entry[0] > now_s - keep_s)
        whole = (float(math.ceil(base - 1e-9)), float(math.ceil(first - 1e-9)))
        return replace(self, bases=(*kept, (now_s, *whole)))

    def base(self) -> float:
        """The largest base remembered."""
        return max((base for _, base, _ in self.bases), default=0.0)

    def first(self) -> float:
        """The most that was to be left whatever zone is lost."""
        return max((first for *_, first in self.bases), default=0.0)

    def highest(self) -> float:
        """The largest value remembered; 0 where there is none."""
        return max((value for _, value in self.recommendations), default=0.0)


class Policy(Protocol):
    """Decides for one service. Pure: the same observation, memory and plan id give the same plan."""

    @property
    def name(self) -> str:
        """As on the command line and in the tables."""

    @property
    def fifo(self) -> bool:
        """True: the service's queue ignores tiers, as a plain deployment behind a load balancer does."""

    @property
    def forecasts(self) -> bool:
        """False: `Observation.forecasts` may stay empty."""

    def plan(self, seen: Observation, memory: Memory, plan_id: str) -> tuple[Plan, Memory]:
        """The plan for this tick. Actions are ids `a-<plan id>-<n>`, in the order in which they should be done."""


@runtime_checkable
class Paced(Protocol):
    """A policy with a cadence of its own. A replay ticks at it; a live loop ticks at its own."""

    @property
    def tick_s(self) -> float:
        """Seconds from tick to tick."""
