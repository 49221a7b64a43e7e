"""A chain of simulated clusters: a request that finishes in one stage arrives in the next at that instant.

The stages advance in order. When a stage has reached a time, every arrival of the next up to that time is known, so
that the chain is exact whatever the step. A request keeps its tier and tenant; what it executes in a stage follows from
its recorded execution.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from controller.backends.simulated.arrivals import Arrivals
from controller.backends.simulated.cluster import SimulatedCluster
from controller.core.types import FloatArray

# The request of the first stage that one of a later stage is, and its recorded execution seconds.
_ORIGIN = np.dtype([("number", np.int64), ("recorded", np.float64)])


@dataclass(frozen=True, slots=True)
class StageWork:
    """Execution seconds of a stage: `work_s` + `ratio` × the recorded execution."""

    work_s: float
    ratio: float

    def of(self, recorded_s: FloatArray) -> FloatArray:
        return self.work_s + self.ratio * recorded_s


class SimulatedPipeline:
    """The clusters of a chain, joined. The first is expected to get its requests from outside, by `expect`."""

    def __init__(self, clusters: Sequence[SimulatedCluster], work: Sequence[StageWork]) -> None:
        if len(clusters) != len(work):
            raise ValueError("a chain needs the work of every stage")
        self.clusters, self._work = tuple(clusters), tuple(work)
        self._origin = [np.empty(0, _ORIGIN) for _ in clusters]
        self._count = [0] * len(clusters)
        # Of each stage the first request that has not been handed on.
        self._open = [0] * len(clusters)
        self._handed_s = min((cluster.engine.now_s for cluster in clusters), default=0.0)

    def expect(self, recorded: Arrivals) -> None:
        """All requests that will ever come, with their recorded execution. ValueError when some are there already."""
        first = self.clusters[0].engine
        if first.requests:
            raise ValueError("the requests of a chain are given once")
        work_s = self._work[0].of(recorded.work_s)
        first.expect(Arrivals(recorded.arrived_s, work_s, recorded.tier, recorded.tenant))
        origin = np.empty(len(recorded), _ORIGIN)
        origin["number"], origin["recorded"] = np.arange(len(recorded)), recorded.work_s
        self._origin[0], self._count[0] = origin, len(recorded)

    @property
    def unfinished(self) -> bool:
        """Is a request still to arrive in a stage, or does one wait or run there?"""
        return any(cluster.engine.unfinished for cluster in self.clusters)

    def advance(self, now_s: float) -> None:
        """Let time pass in every stage, up to and including now_s."""
        for stage, cluster in enumerate(self.clusters):
            cluster.advance(now_s)
            if stage + 1 < len(self.clusters):
                self._hand_on(stage, now_s)
        self._handed_s = max(self._handed_s, now_s)

    def _hand_on(self, stage: int, now_s: float) -> None:
        """What finished since the last time becomes the next stage's arrivals."""
        engine = self.clusters[stage].engine
        first = self._open[stage]
        rows = engine.a.request[first : engine.arrived]
        finished = rows["finished"]
        fresh = np.flatnonzero((finished > self._handed_s) & (finished <= now_s))
        # A cluster may have been let run ahead of the chain: what finishes later is handed on later.
        still = np.flatnonzero(~(finished <= now_s))
        self._open[stage] = first + (int(still[0]) if len(still) else len(rows))
        if not len(fresh):
            return
        fresh = fresh[np.argsort(finished[fresh], kind="stable")]
        origin = self._origin[stage][first + fresh]
        at = self._count[stage + 1]
        if at + len(origin) > len(self._origin[stage + 1]):
            grown = np.empty(max(1024, 2 * (at + len(origin))), _ORIGIN)
            grown[:at] = self._origin[stage + 1][:at]
            self._origin[stage + 1] = grown
        self._origin[stage + 1][at : at + len(origin)] = origin
        self._count[stage + 1] = at + len(origin)
        work_s = self._work[stage + 1].of(origin["recorded"])
        tier, tenant = (rows[name][fresh].astype(np.int64) for name in ("tier", "tenant"))
        self.clusters[stage + 1].engine.expect(Arrivals(finished[fresh].copy(), work_s, tier, tenant))

    def times(self) -> npt.NDArray[np.float64]:
        """Arrival, start and finish of every request in every stage, epoch seconds. Shape (requests, stages, 3), in
        order of arrival at the first; NaN: it has not come to that.
        """
        count = self.clusters[0].engine.requests
        found = np.full((count, len(self.clusters), 3), np.nan)
        for stage, cluster in enumerate(self.clusters):
            rows = cluster.engine.a.request[: cluster.engine.requests]
            number = self._origin[stage][: len(rows)]["number"]
            for column, name in enumerate(("arrived", "started", "finished")):
                found[number, stage, column] = rows[name]
        return found
