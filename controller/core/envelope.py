"""The envelope: reading it, checking it against the facts, measuring a term's statistic.

A document is the form of an envelope file (YAML) and of a table's JSON; `parse_envelope` is the only way in.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from controller.core.degradation import order_of
from controller.core.types import Envelope, FloatArray, Step, TierTarget, Variant
from models.enums import LatencyOf, StepKind

_STATISTIC = re.compile(r"mean|p([0-9]{1,2}(\.[0-9]+)?|100(\.0+)?)")
_KEYS = {"spend_cap_usd_per_hour", "tier_salt", "tiers", "floors", "ceilings", "degrade", "variants"}
_STEPS = "a tier, {tier: …, use: a variant} or {relax_cap_percent: …, minutes: …}"
_MOST_RELAXED_PERCENT = 100.0
_LONGEST_RELAXED_MIN = 24 * 60.0
_DEFAULT_WINDOW_S = 3600.0
# Waits are kept for a day: a longer window would be judged on part of itself.
LONGEST_WINDOW_S = 86400.0
# Whole numbers of a document may be longer than a float can hold, and than Python will print.
_LARGEST = 1e300


class EnvelopeError(ValueError):
    """A document that can't be an envelope: which field, why, and the nearest value that would do."""

    def __init__(self, field: str, reason: str, nearest: str | None = None) -> None:
        self.field, self.reason, self.nearest = field, reason, nearest
        super().__init__(f"{field}: {reason}" + (f" (nearest: {nearest})" if nearest else ""))


@dataclass(frozen=True, slots=True)
class EnvelopeFacts:
    """What an envelope is checked against. Dollars an hour of the cheapest replica; seconds of a mean execution."""

    known_tiers: tuple[str, ...]
    execution_mean_s: float
    cheapest_usd_per_hour: float


@dataclass(frozen=True, slots=True)
class EnvelopeProblem:
    """`severity` "refuse": can't be saved. "warn": may be saved, knowingly."""

    field: str
    reason: str
    nearest: str | None
    severity: str


def _number(value: Any, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_LARGEST < value < _LARGEST:
        shown = f"{value!r:.40}" if isinstance(value, float | str | bool | None) else type(value).__name__
        raise EnvelopeError(field, f"must be a number, not {shown}")
    return float(value)


def _replicas(document: Mapping[str, Any], key: str, service: str) -> int | None:
    limits = document.get(key)
    if limits is None:
        return None
    if not isinstance(limits, Mapping):
        raise EnvelopeError(key, "must map a service to a number of replicas", f"{{{service}: 1}}")
    unknown = [name for name in limits if name != service]
    if unknown:
        raise EnvelopeError(f"{key}.{unknown[0]}", "no such service", service)
    value = limits.get(service)
    if value is None:
        return None
    number = _number(value, f"{key}.{service}")
    if number < 0 or number != int(number):
        raise EnvelopeError(
            f"{key}.{service}", f"must be a whole number of replicas, not {value}", str(max(0, round(number)))
        )
    return int(number)


def _tier(name: str, priority: int, body: Any) -> TierTarget:
    at = f"tiers.{name}"
    if not isinstance(body, Mapping):
        raise EnvelopeError(at, "must hold tenants_percent and latency")
    unknown = set(body) - {"tenants_percent", "latency"}
    if unknown:
        raise EnvelopeError(f"{at}.{min(unknown)}", "is not a known field", "tenants_percent, latency")
    percent = _number(body.get("tenants_percent"), f"{at}.tenants_percent")
    if not 0 <= percent <= 100:
        raise EnvelopeError(
            f"{at}.tenants_percent", f"must be 0 to 100, not {percent:g}", f"{min(max(percent, 0), 100):g}"
        )
    latency = body.get("latency")
    if not isinstance(latency, Mapping):
        raise EnvelopeError(f"{at}.latency", "must hold of, statistic and target_ms")
    unknown = set(latency) - {"of", "statistic", "target_ms", "window_s"}
    if unknown:
        raise EnvelopeError(
            f"{at}.latency.{min(unknown)}", "is not a known field", "of, statistic, target_ms, window_s"
        )
    of = latency.get("of", LatencyOf.WAIT.value)
    if of not in tuple(LatencyOf):
        raise EnvelopeError(f"{at}.latency.of", f"must be wait or end_to_end, not {of!r}", "wait")
    statistic = str(latency.get("statistic", "mean"))
    if not _STATISTIC.fullmatch(statistic) or (statistic != "mean" and percentile_of(statistic) == 0):
        raise EnvelopeError(
            f"{at}.latency.statistic", f"must be mean or a percentile such as p95, not {statistic!r}", "mean"
        )
    target = _number(latency.get("target_ms"), f"{at}.latency.target_ms")
    if target <= 0:
        raise EnvelopeError(f"{at}.latency.target_ms", f"must be above 0 ms, not {target:g}", "1")
    window = _number(latency.get("window_s", _DEFAULT_WINDOW_S), f"{at}.latency.window_s")
    if window < 60:
        raise EnvelopeError(f"{at}.latency.window_s", f"must be at least 60 s, not {window:g}", "60")
    if window > LONGEST_WINDOW_S:
        raise EnvelopeError(
            f"{at}.latency.window_s", f"must be at most a day, not {window:g} s", f"{LONGEST_WINDOW_S:g}"
        )
    return TierTarget(name, priority, percent, statistic, LatencyOf(of), target, window)


def parse_envelope(document: Any, service: str = "images", version: int = 0) -> Envelope:
    """The envelope that a document states. EnvelopeError names the first field that is wrong."""
    if not isinstance(document, Mapping):
        raise EnvelopeError("envelope", "must be a mapping with spend_cap_usd_per_hour and tiers")
    unknown = set(document) - _KEYS
    if unknown:
        raise EnvelopeError(str(min(map(str, unknown))), "is not a known field", ", ".join(sorted(_KEYS)))
    cap = document.get("spend_cap_usd_per_hour")
    if cap is not None:
        cap = _number(cap, "spend_cap_usd_per_hour")
        if cap <= 0:
            raise EnvelopeError("spend_cap_usd_per_hour", f"must be above $0, not {cap:g}; null means no cap", "1")
    bodies = document.get("tiers")
    if not isinstance(bodies, Mapping) or not bodies:
        raise EnvelopeError("tiers", "must name at least one tier")
    tiers = tuple(_tier(str(name), priority, body) for priority, (name, body) in enumerate(bodies.items()))
    share = sum(tier.tenants_percent for tier in tiers)
    if abs(share - 100) > 1e-6:
        raise EnvelopeError("tiers", f"tenants_percent must sum to 100, not {share:g}")
    floor, ceiling = _replicas(document, "floors", service), _replicas(document, "ceilings", service)
    if floor and ceiling is not None and floor > ceiling:
        raise EnvelopeError(f"floors.{service}", f"floor {floor} is above the ceiling {ceiling}", str(ceiling))
    names = tuple(tier.name for tier in tiers)
    variants = _variants(document.get("variants"))
    order = document.get("degrade") or tuple(reversed(names))
    if isinstance(order, str) or not isinstance(order, list | tuple):
        raise EnvelopeError("degrade", "must list tiers, first to give way first", ", ".join(reversed(names)))
    steps = tuple(_step(entry, names, tuple(variant.name for variant in variants)) for entry in order)
    if len({(step.kind, step.tier, step.variant) for step in steps}) < len(steps):
        raise EnvelopeError("degrade", "names a step twice")
    degrade = tuple(step.tier for step in steps if step.kind is StepKind.WAIT)
    plain = len(degrade) == len(steps)
    salt = "" if document.get("tier_salt") is None else str(document["tier_salt"])
    return Envelope(tiers, cap, salt, floor or 0, ceiling, degrade, version, () if plain else steps, variants)


def _variants(declared: Any) -> tuple[Variant, ...]:
    if declared is None:
        return ()
    if not isinstance(declared, Mapping):
        raise EnvelopeError("variants", "must map a name to speed_factor and quality", "{draft: {speed_factor: 1.5}}")
    found = []
    for name, body in declared.items():
        at = f"variants.{name}"
        if not isinstance(body, Mapping):
            raise EnvelopeError(at, "must hold speed_factor and quality")
        unknown = set(body) - {"speed_factor", "quality"}
        if unknown:
            raise EnvelopeError(f"{at}.{min(map(str, unknown))}", "is not a known field", "speed_factor, quality")
        factor = _number(body.get("speed_factor"), f"{at}.speed_factor")
        if not 1 < factor <= 100:
            raise EnvelopeError(f"{at}.speed_factor", f"must be above 1, at most 100, not {factor:g}", "1.5")
        quality = body.get("quality")
        found.append(Variant(str(name), factor, "" if quality is None else str(quality)))
    return tuple(found)


def _step(entry: Any, tiers: tuple[str, ...], variants: tuple[str, ...]) -> Step:
    if not isinstance(entry, Mapping):
        if entry not in tiers:
            raise EnvelopeError("degrade", f"unknown tier {entry!r:.40}", ", ".join(reversed(tiers)))
        return Step(StepKind.WAIT, str(entry))
    if set(entry) == {"relax_cap_percent", "minutes"}:
        percent = _number(entry["relax_cap_percent"], "degrade.relax_cap_percent")
        minutes = _number(entry["minutes"], "degrade.minutes")
        if not 0 < percent <= _MOST_RELAXED_PERCENT:
            reason = f"must be above 0, at most {_MOST_RELAXED_PERCENT:g}, not {percent:g}"
            raise EnvelopeError("degrade.relax_cap_percent", reason, "20")
        if not 1 <= minutes <= _LONGEST_RELAXED_MIN:
            reason = f"must be 1 to {_LONGEST_RELAXED_MIN:g}, not {minutes:g}"
            raise EnvelopeError("degrade.minutes", reason, "60")
        return Step(StepKind.RELAX_CAP, percent=percent, minutes=minutes)
    if set(entry) == {"tier", "use"}:
        if entry["tier"] not in tiers:
            raise EnvelopeError("degrade.tier", f"unknown tier {entry['tier']!r:.40}", ", ".join(reversed(tiers)))
        if entry["use"] not in variants:
            known = ", ".join(variants) or "declare it under variants"
            raise EnvelopeError("degrade.use", f"the service declares no variant {entry['use']!r:.40}", known)
        return Step(StepKind.VARIANT, str(entry["tier"]), str(entry["use"]))
    raise EnvelopeError("degrade", "a step is not a known one", _STEPS)


def step_document(step: Step) -> Any:
    """A step as `parse_envelope` reads it."""
    if step.kind is StepKind.RELAX_CAP:
        return {"relax_cap_percent": step.percent, "minutes": step.minutes}
    return {"tier": step.tier, "use": step.variant} if step.kind is StepKind.VARIANT else step.tier


def to_document(envelope: Envelope, service: str = "images") -> dict[str, Any]:
    """The document that parses to `envelope`."""
    variants = {each.name: {"speed_factor": each.speed_factor, "quality": each.quality} for each in envelope.variants}
    return {
        "spend_cap_usd_per_hour": envelope.spend_cap_usd_per_hour,
        "tier_salt": envelope.tier_salt,
        "tiers": {
            tier.name: {
                "tenants_percent": tier.tenants_percent,
                "latency": {
                    "of": tier.of.value,
                    "statistic": tier.statistic,
                    "target_ms": tier.target_ms,
                    "window_s": tier.window_s,
                },
            }
            for tier in envelope.tiers
        },
        "floors": {service: envelope.floor} if envelope.floor else {},
        "ceilings": {} if envelope.ceiling is None else {service: envelope.ceiling},
        "degrade": [step_document(step) for step in order_of(envelope)],
        **({"variants": variants} if variants else {}),
    }


def check_envelope(envelope: Envelope, facts: EnvelopeFacts) -> tuple[EnvelopeProblem, ...]:
    """What the facts say against an envelope, worst first. Empty: nothing."""
    problems: list[EnvelopeProblem] = []
    for tier in envelope.tiers:
        field = f"tiers.{tier.name}"
        if tier.name not in facts.known_tiers:
            known = ", ".join(facts.known_tiers)
            problems.append(EnvelopeProblem(field, f"the service has no tier {tier.name!r}", known, "refuse"))
        execution_ms = facts.execution_mean_s * 1000
        if tier.of is LatencyOf.END_TO_END and tier.target_ms < execution_ms:
            reason = (
                f"{tier.target_ms:,.0f} ms end to end is below the execution itself, {execution_ms:,.0f} ms on average"
            )
            nearest = f"{math.ceil(execution_ms):,} ms"
            problems.append(EnvelopeProblem(f"{field}.latency.target_ms", reason, nearest, "warn"))
    for name in facts.known_tiers:
        if name not in {tier.name for tier in envelope.tiers}:
            problems.append(EnvelopeProblem("tiers", f"tier {name!r} of the service is missing", name, "refuse"))
    given = [tier.name for tier in envelope.tiers if tier.name in facts.known_tiers]
    ordered = [name for name in facts.known_tiers if name in given]
    if given != ordered:
        reason = f"tiers are served in the service's order, {', '.join(ordered)}, not {', '.join(given)}"
        problems.append(EnvelopeProblem("tiers", reason, ", ".join(ordered), "refuse"))
    reverse = tuple(reversed([tier.name for tier in envelope.tiers]))
    if envelope.degrade != reverse:
        reason = (
            "tiers give way in the reverse of the order in which they are served; another order is not supported yet"
        )
        problems.append(EnvelopeProblem("degrade", reason, ", ".join(reverse), "refuse"))
    problems += _payers(envelope)
    cap = envelope.spend_cap_usd_per_hour
    price = facts.cheapest_usd_per_hour
    if cap is not None and envelope.floor * price > cap + 1e-9:
        reason = (
            f"{envelope.floor} replicas cost at least ${envelope.floor * price:.2f}/h, above the cap of ${cap:.2f}/h"
        )
        problems.append(EnvelopeProblem("floors", reason, str(int(cap / price)), "refuse"))
    elif cap is not None and cap < price:
        reason = f"${cap:.2f}/h buys no replica: the cheapest costs ${price:.2f}/h"
        problems.append(EnvelopeProblem("spend_cap_usd_per_hour", reason, f"${price:.2f}/h", "warn"))
    return tuple(sorted(problems, key=lambda problem: problem.severity != "refuse"))


def _payers(envelope: Envelope) -> list[EnvelopeProblem]:
    """Nobody pays for a tier below: a tier's step comes after all tiers below it wait."""
    names = [tier.name for tier in envelope.tiers]
    waiting: set[str] = set()
    for step in envelope.steps:
        below = names[names.index(step.tier) + 1 :] if step.tier in names else []
        spared = [name for name in below if name not in waiting]
        if step.kind is StepKind.VARIANT and spared:
            reason = f"{step.tier} would be served by {step.variant} before {spared[-1]} waits"
            return [EnvelopeProblem("degrade", reason, f"{spared[-1]} first", "refuse")]
        if step.kind is StepKind.WAIT:
            waiting.add(step.tier)
    return []


def percentile_of(statistic: str) -> float:
    """95.0 for "p95". ValueError for "mean"."""
    if statistic == "mean":
        raise ValueError("mean is not a percentile")
    return float(statistic[1:])


def measure(statistic: str, values_s: FloatArray) -> float | None:
    """The statistic of waits (n,) in seconds, in seconds; None where n is 0: unknown, not zero.

    Percentiles interpolate linearly (Hyndman and Fan 1996, type 7), as numpy and spreadsheets do.
    """
    if len(values_s) == 0:
        return None
    return float(values_s.mean()) if statistic == "mean" else float(np.percentile(values_s, percentile_of(statistic)))
