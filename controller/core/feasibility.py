"""Can a drafted envelope be held over the next day: how probable each term is, what breaks first, what would help.

A probability is the share of futures (`futures`) in which a rehearsal (`rehearsal`) keeps the term in every window that
it is judged by: a tier's statistic in each stretch of whole clock hours as long as its window, the spend in each clock
hour, from now to a day ahead. With n futures its standard error is √(p(1−p)/n), at most 5 points for 100. The same
seed gives the same futures, so that two drafts differ by what they say and not by chance.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from controller.core.capacity import deferrable
from controller.core.envelope import LONGEST_WINDOW_S
from controller.core.futures import draw_futures
from controller.core.prospect import Prospect
from controller.core.queueing import target_wait_s
from controller.core.rehearsal import BoolArray, Case, Rehearsals, with_target
from controller.core.terms import SPEND
from controller.core.types import Envelope, FloatArray
from models.enums import LatencyOf

SIGNED_BELOW = 0.5
"""An envelope less probable than this is saved only if knowingly signed."""
FEASIBLE_FROM = 0.9
"""What a change must reach to be offered, and what the frontier's line stands for."""
FUTURES = 100
SEED = 7
# Looser targets that are tried go up to this many times the draft's, in so many steps.
LARGEST_RELAXATION, RELAXATIONS = 50.0, 6


@dataclass(frozen=True, slots=True)
class TermChance:
    """A tier, or "spend". `breaks_s`: the clock hour in which it most often breaks first; None: in no future.

    `hours_missed`: clock hours of the day out of its limit, expected.
    """

    name: str
    probability: float
    breaks_s: float | None
    hours_missed: float


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the draft that makes it feasible. `field` as in the document: "spend_cap_usd_per_hour", "floors",
    "ceilings" or "tiers.<name>.latency.target_ms". `value` None: no limit. `ratio`: by how much it differs, at least 1.
    """

    field: str
    value: float | None
    probability: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Feasibility:
    """The verdict on a draft. `probability` None: unknown, and `why_unknown` says why.

    `impossible`: targets that no fleet reaches, in words. `first` breaks first in most of the futures that break,
    in the hour `first_s`. `capped`: share of futures in which the cap cuts the fleet; dollars: the day's median and the
    dearest clock hour's p90; `peak_gpus`: the median future's most reference GPUs.
    """

    probability: float | None
    why_unknown: str = ""
    impossible: tuple[str, ...] = ()
    terms: tuple[TermChance, ...] = ()
    first: str | None = None
    first_s: float | None = None
    capped: float | None = None
    usd_day: float | None = None
    dearest_hour_usd: float | None = None
    peak_gpus: float | None = None
    futures: int = 0

    @property
    def must_be_signed(self) -> bool:
        """Is it infeasible, so that it is saved only if knowingly signed? Unknown is not infeasible."""
        return bool(self.impossible) or (self.probability is not None and self.probability < SIGNED_BELOW)


def stage_of(prospect: Prospect, count: int = FUTURES, seed: int = SEED) -> Rehearsals | None:
    """Where drafts are rehearsed; None where there is no forecast, no measured minute or no offer to buy."""
    if prospect.why_nothing():
        return None
    return Rehearsals(prospect, draw_futures(prospect, count, np.random.default_rng(seed)))


def judge(prospect: Prospect, envelope: Envelope, stage: Rehearsals | None = None) -> Feasibility:
    """The verdict on an envelope. A stage of the same prospect may be handed in; else one is made."""
    impossible = impossible_targets(envelope, prospect.work_mean_s, prospect.work_scv)
    if why := prospect.why_unknown(envelope):
        return Feasibility(None, why, impossible)
    stage = stage or stage_of(prospect)
    assert stage is not None, "what is known can be rehearsed"
    found = stage.run([Case.of(envelope)])
    kept = found.kept[:, :, 0, :]
    names = [*(tier.name for tier in envelope.tiers), SPEND]
    terms = []
    for name, mine in zip(names, kept, strict=True):
        hour = _commonest((~mine).argmax(axis=0)[~mine.all(axis=0)])
        breaks_s = None if hour is None else float(found.hours_s[hour])
        terms.append(TermChance(name, float(mine.all(axis=0).mean()), breaks_s, float((~mine).sum(axis=0).mean())))
    first, first_s = _first(kept, found.hours_s, names)
    usd = found.usd[:, 0, :]
    return Feasibility(
        probability=0.0 if impossible else float(found.held[0]),
        impossible=impossible,
        terms=tuple(terms),
        first=first,
        first_s=first_s,
        capped=float(found.capped[:, 0, :].any(axis=0).mean()),
        usd_day=float(np.median(usd.sum(axis=0))) - prospect.accrued_usd,
        dearest_hour_usd=float(np.quantile(usd.max(axis=0), 0.9)),
        peak_gpus=float(np.median(found.peak[0])),
        futures=stage.futures.count,
    )


def impossible_targets(envelope: Envelope, work_mean_s: float, work_scv: float) -> tuple[str, ...]:
    """Targets end to end below the execution itself, each in words: no fleet reaches them, whatever it costs."""
    return tuple(
        f"{tier.name}: {tier.statistic} {tier.target_ms:,.0f} ms end to end is below the execution itself, "
        f"{tier.target_ms - target_wait_s(tier, work_mean_s, work_scv) * 1000:,.0f} ms"
        for tier in envelope.tiers
        if tier.of is LatencyOf.END_TO_END and target_wait_s(tier, work_mean_s, work_scv) < 0
    )


def in_words(verdict: Feasibility) -> str:
    """The verdict in one sentence, without its full stop."""
    if verdict.impossible:
        return verdict.impossible[0]
    if verdict.probability is None:
        return f"whether it holds is not known: {verdict.why_unknown}"
    text = f"all terms hold over the next day with a probability of {percent(verdict.probability)}"
    if verdict.first is None or verdict.first_s is None:
        return text
    at = datetime.fromtimestamp(verdict.first_s, UTC)
    return f"{text}; {verdict.first} breaks first, most often in the hour from {at:%H:%M} UTC"


def percent(probability: float) -> str:
    """A probability from futures, which can't tell 99.9% from certain: "over 99%", "under 1%"."""
    if probability > 0.99:
        return "over 99%"
    return "under 1%" if probability < 0.01 else f"{probability * 100:.0f}%"


def _commonest(hours: npt.NDArray[np.intp]) -> int | None:
    return int(np.bincount(hours).argmax()) if len(hours) else None


def _first(kept: BoolArray, hours_s: FloatArray, names: Sequence[str]) -> tuple[str | None, float | None]:
    """Which term of `kept` (terms, hours, futures) breaks first most often, and in which hour. Of those that break in
    the same hour the most important: a lower tier is what gives way, a higher one that goes with it the graver news.
    """
    broken = ~kept
    lost = broken.any(axis=(0, 1))
    if not lost.any():
        return None, None
    hours = broken.any(axis=0).argmax(axis=0)[lost]
    terms = broken[:, :, lost][:, hours, np.arange(len(hours))].argmax(axis=0)
    term = int(np.bincount(terms).argmax())
    hour = _commonest(hours[terms == term])
    return names[term], None if hour is None else float(hours_s[hour])


def changes(
    prospect: Prospect, envelope: Envelope, stage: Rehearsals | None = None, wanted: float = FEASIBLE_FROM
) -> tuple[Change, ...]:
    """Single changes after which the draft holds with at least `wanted`, the smallest first; each was rehearsed.

    Empty: it holds already, nothing is known, or no single change does it.
    """
    stage = stage or stage_of(prospect)
    if stage is None or prospect.why_unknown(envelope) or not envelope.tiers:
        return ()
    # An impossible target is mended by a possible one, and by nothing else.
    possible = not impossible_targets(envelope, prospect.work_mean_s, prospect.work_scv)
    found = stage.run([Case.of(envelope), replace(Case.of(envelope), cap_usd_per_hour=None)])
    held = found.held.tolist()
    if possible and held[0] >= wanted:
        return ()
    # A looser target of a tier that holds already changes nothing that matters.
    short = found.kept[:-1, :, 0].all(axis=1).mean(axis=-1) < wanted
    tried = [*_other_targets(envelope, prospect, short.tolist()), *(_other_limits(envelope) if possible else ())]
    shares = stage.run([Case.of(changed(envelope, change)) for change in tried]).held.tolist() if tried else []
    good: dict[str, Change] = {}
    for change, probability in zip(tried, shares, strict=True):
        after = changed(envelope, change)
        if probability >= wanted and not impossible_targets(after, prospect.work_mean_s, prospect.work_scv):
            good.setdefault(change.field, replace(change, probability=probability))
    cap = envelope.spend_cap_usd_per_hour
    if possible and cap is not None and held[1] >= wanted:
        raised = _cap_that_holds(stage, envelope, cap, max(float(found.usd[:, 1].max()), cap) * 1.1, wanted)
        if raised is not None:
            good[raised.field] = raised
    return tuple(sorted(good.values(), key=lambda change: change.ratio))


def _other_targets(envelope: Envelope, prospect: Prospect, short: Sequence[bool]) -> list[Change]:
    """Looser targets of each tier that is `short` of what is wanted, or impossible, to two digits, the nearest first.
    None moves a tier between what is deferred and what is not: that is another promise, not a looser one.
    """
    found = []
    for tier, lacks in zip(envelope.tiers, short, strict=True):
        least = tier.target_ms - min(0.0, target_wait_s(tier, prospect.work_mean_s, prospect.work_scv)) * 1000
        if not lacks and least == tier.target_ms:
            continue
        for ratio in np.geomspace(1.1, LARGEST_RELAXATION, RELAXATIONS).tolist():
            target_ms = _two_digits(least * ratio)
            other = replace(tier, target_ms=target_ms)
            if deferrable(other) == deferrable(tier) and target_ms / 1000 <= LONGEST_WINDOW_S:
                found.append(Change(_field(tier.name), target_ms, 0.0, target_ms / tier.target_ms))
    return list(dict.fromkeys(found))


def _other_limits(envelope: Envelope) -> list[Change]:
    """A lower floor, which may be what spends the cap; no ceiling."""
    floors = sorted({int(envelope.floor * share) for share in (0.75, 0.5, 0.0)}, reverse=True)
    capped = envelope.floor and envelope.spend_cap_usd_per_hour is not None
    found = [Change("floors", float(floor), 0.0, envelope.floor / max(floor, 0.5)) for floor in floors if capped]
    if envelope.ceiling is not None:
        found.append(Change("ceilings", None, 0.0, LARGEST_RELAXATION))
    return found


def _cap_that_holds(stage: Rehearsals, envelope: Envelope, low: float, high: float, wanted: float) -> Change | None:
    """The smallest cap in whole dollars (in dimes below $10) between the draft's and one that holds."""
    cap, step, change = low, 1.0 if high >= 10 else 0.1, None
    for _ in range(2):
        tried = sorted({math.ceil(value / step - 1e-9) * step for value in np.linspace(low, high, 9)[1:].tolist()})
        held = stage.run([replace(Case.of(envelope), cap_usd_per_hour=each) for each in tried]).held.tolist()
        best = next((number for number, share in enumerate(held) if share >= wanted), None)
        if best is None:
            break
        change = Change("spend_cap_usd_per_hour", round(tried[best], 2), held[best], tried[best] / cap)
        low, high = (tried[best - 1] if best else low), tried[best]
    return change


def _field(tier: str) -> str:
    return f"tiers.{tier}.latency.target_ms"


def changed(envelope: Envelope, change: Change) -> Envelope:
    """The envelope with the change made. ValueError for a field that no change has."""
    if change.field == "spend_cap_usd_per_hour":
        return replace(envelope, spend_cap_usd_per_hour=change.value)
    if change.field == "floors":
        return replace(envelope, floor=int(change.value or 0))
    if change.field == "ceilings":
        return replace(envelope, ceiling=None if change.value is None else int(change.value))
    for k, tier in enumerate(envelope.tiers):
        if change.field == _field(tier.name) and change.value is not None:
            return replace(envelope, tiers=with_target(envelope.tiers, k, change.value))
    raise ValueError(f"no change of {change.field}")


def _two_digits(value: float) -> float:
    """Rounded up to two significant digits: a target that people would write."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return round(math.ceil(value / step - 1e-9) * step, 6)
