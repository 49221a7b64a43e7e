"""What waiting costs: for each latency target of the first tier the smallest spend cap at which all terms hold."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from controller.core.capacity import DEFERRABLE_S
from controller.core.rehearsal import Case, Rehearsals, with_target
from controller.core.types import Envelope, FloatArray

LEVELS = (0.5, 0.9, 0.99)
"""Half of the futures, the line that counts, and nearly all."""
TARGETS = 7
CAPS = 9


@dataclass(frozen=True, slots=True)
class Frontier:
    """`caps_usd` (levels, targets): the smallest cap, dollars an hour, at which all terms hold in that share of
    futures; NaN: at none. Non-increasing along the targets, non-decreasing along the levels.
    """

    targets_ms: FloatArray
    levels: tuple[float, ...]
    caps_usd: FloatArray
    futures: int

    def cap_at(self, target_ms: float, level: float = 0.9) -> float | None:
        """On straight lines between the points; None outside of them, or where no cap holds."""
        line = self.caps_usd[self.levels.index(level)]
        if not self.targets_ms[0] <= target_ms <= self.targets_ms[-1]:
            return None
        cap = float(np.interp(target_ms, self.targets_ms, line))
        return cap if np.isfinite(cap) else None

    def usd_per_ms(self, target_ms: float, level: float = 0.9) -> float | None:
        """Dollars an hour that one millisecond less of the first tier's target costs around there, 0 or more.

        The slope of the line between the two points about the target; None where it is not known.
        """
        line = self.caps_usd[self.levels.index(level)]
        known = np.isfinite(line)
        at, caps = self.targets_ms[known], line[known]
        if len(at) < 2 or not at[0] <= target_ms <= at[-1]:
            return None
        after = int(np.clip(np.searchsorted(at, target_ms, side="right"), 1, len(at) - 1))
        return float((caps[after - 1] - caps[after]) / (at[after] - at[after - 1]))


def frontier(stage: Rehearsals, envelope: Envelope, targets: int = TARGETS) -> Frontier | None:
    """The frontier through an envelope whose other terms stay. None where nothing is known (`Prospect.why_unknown`).

    A stricter target that holds at a cap holds a looser one too: whoever is content with the looser may still state
    the stricter. So a line never rises to the right.
    """
    if stage.prospect.why_unknown(envelope) or not envelope.tiers:
        return None
    targets_ms = _targets(envelope.tiers[0].target_ms, targets)
    drafts = [
        replace(Case.of(envelope), tiers=with_target(envelope.tiers, 0, ms), cap_usd_per_hour=None) for ms in targets_ms
    ]
    most = float(stage.run([drafts[0], drafts[-1]]).usd.max()) * 1.1
    caps = np.geomspace(max(most / 20, 0.05), most, CAPS)
    cases = [replace(draft, cap_usd_per_hour=cap) for draft in drafts for cap in caps.tolist()]
    held = stage.run(cases).held.reshape(len(drafts), CAPS)
    # A larger cap allows all that a smaller one does; what the grid shows otherwise is the rounding to whole replicas.
    held = np.maximum.accumulate(held, axis=1)
    lines = np.array([[_crossing(caps, held[j], level) for j in range(len(drafts))] for level in LEVELS])
    lines = np.fmin.accumulate(lines, axis=1)
    return Frontier(np.array(targets_ms), LEVELS, lines, stage.futures.count)


def _targets(target_ms: float, count: int) -> list[float]:
    """Targets about the draft's, a tenth of it to ten times it, the draft's own among them, ascending. All are of the
    same kind: a tier that may be deferred is planned by other rules.
    """
    edge_ms = DEFERRABLE_S * 1000
    least, most = target_ms / 10, target_ms * 10
    if target_ms < edge_ms:
        most = min(most, max(edge_ms * 0.99, target_ms))
    else:
        least = max(least, edge_ms)
    below = np.geomspace(least, target_ms, count // 2 + 1)
    above = np.geomspace(target_ms, most, count - count // 2)
    around = {round(ms, 3) for ms in [*below.tolist()[:-1], *above[1:].tolist()]}
    return sorted({target_ms, *(ms for ms in around if abs(ms - target_ms) > 1e-3 * target_ms)})


def _crossing(caps: FloatArray, held: Sequence[float], level: float) -> float:
    """Where `held` first reaches the level, between two caps on a straight line; NaN where it never does."""
    reached = np.flatnonzero(np.asarray(held) >= level)
    if not len(reached):
        return float("nan")
    first = int(reached[0])
    if first == 0:
        return float(caps[0])
    share = (level - held[first - 1]) / (held[first] - held[first - 1])
    return float(caps[first - 1] + share * (caps[first] - caps[first - 1]))
