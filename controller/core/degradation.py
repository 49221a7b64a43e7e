"""What gives way when capacity or money is short: the envelope's steps, which are in force, what they change."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from controller.core.types import Envelope, Override, Step
from models.enums import OverrideKind, StepKind


def order_of(envelope: Envelope) -> tuple[Step, ...]:
    """The steps in order; those of an envelope that only names tiers are their waits."""
    return envelope.steps or tuple(Step(StepKind.WAIT, name) for name in envelope.degrade)


def steps_in_force(envelope: Envelope, waiting: Sequence[str]) -> tuple[str, ...]:
    """The names of the steps up to the last tier that waits. Relaxing the cap is never among them: it asks first."""
    names = set(waiting)
    order = order_of(envelope)
    last = max((n for n, step in enumerate(order) if step.kind is StepKind.WAIT and step.tier in names), default=-1)
    return tuple(step.name for step in order[: last + 1] if step.kind is not StepKind.RELAX_CAP)


def speed_factors(envelope: Envelope, shed: Sequence[str]) -> Mapping[str, float]:
    """By how much faster each tier runs under the steps in force; tiers without one are not named."""
    factor = {variant.name: variant.speed_factor for variant in envelope.variants}
    found: dict[str, float] = {}
    for step in order_of(envelope):
        if step.kind is StepKind.VARIANT and step.name in shed:
            found[step.tier] = max(found.get(step.tier, 1.0), factor[step.variant])
    return found


def relaxation_of(envelope: Envelope) -> Step | None:
    """The step that an operator may approve; None where the envelope has none, or no cap."""
    if envelope.spend_cap_usd_per_hour is None:
        return None
    return next((step for step in order_of(envelope) if step.kind is StepKind.RELAX_CAP), None)


def relaxed_cap(envelope: Envelope, step: Step) -> float:
    """The cap, dollars an hour, while the step is in force. ValueError where there is no cap."""
    if envelope.spend_cap_usd_per_hour is None:
        raise ValueError("an envelope without a cap has none to relax")
    return envelope.spend_cap_usd_per_hour * (1 + step.percent / 100)


def relaxed(envelope: Envelope, overrides: Sequence[Override]) -> Envelope:
    """The envelope as it rules now: with the cap of an approved relaxation, where that is above its own."""
    caps = [each.cap_usd_per_hour for each in overrides if each.kind is OverrideKind.RELAX_CAP]
    cap = max((each for each in caps if each is not None), default=None)
    if cap is None or envelope.spend_cap_usd_per_hour is None or cap <= envelope.spend_cap_usd_per_hour:
        return envelope
    return replace(envelope, spend_cap_usd_per_hour=cap)
