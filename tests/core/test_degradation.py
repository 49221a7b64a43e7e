"""What gives way: steps in order, nobody paying for a tier below, a cap that only an operator relaxes."""

from dataclasses import replace
from typing import Any

import pytest

from controller.core.degradation import order_of, relaxation_of, relaxed, relaxed_cap, speed_factors, steps_in_force
from controller.core.envelope import EnvelopeError, EnvelopeFacts, check_envelope, parse_envelope, to_document
from controller.core.types import Envelope
from models.enums import OverrideKind
from tests.core.observed import envelope, override

DRAFT = {"draft": {"speed_factor": 1.5, "quality": "fewer steps"}}
RELAX = {"relax_cap_percent": 20, "minutes": 30}
ORDER: list[Any] = ["background", {"tier": "standard", "use": "draft"}, "standard", RELAX, "premium"]
FACTS = EnvelopeFacts(("premium", "standard", "background"), 30.0, 0.43)


def ruling(order: list[Any] = ORDER, cap: float | None = 50.0, **changes: Any) -> Envelope:
    return parse_envelope({**to_document(envelope(cap)), "variants": DRAFT, "degrade": order, **changes})


def test_a_document_with_steps_survives_the_round_trip() -> None:
    assert parse_envelope(to_document(ruling())) == ruling()
    assert to_document(ruling())["degrade"] == ORDER
    assert [step.name for step in ruling().steps] == ["background", "standard:draft", "standard", "cap+20%", "premium"]
    assert ruling().degrade == ("background", "standard", "premium")


def test_a_document_that_names_tiers_alone_reads_as_before() -> None:
    plain = parse_envelope(to_document(envelope(50.0)))
    assert plain.steps == () and [step.name for step in order_of(plain)] == ["background", "standard", "premium"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"degrade": [{"tier": "gold", "use": "draft"}]}, "degrade.tier"),
        ({"degrade": [{"tier": "standard", "use": "tiny"}]}, "degrade.use"),
        ({"degrade": [{"tier": "standard"}]}, "degrade"),
        ({"degrade": [{"relax_cap_percent": 0, "minutes": 5}]}, "degrade.relax_cap_percent"),
        ({"degrade": [{"relax_cap_percent": 500, "minutes": 5}]}, "degrade.relax_cap_percent"),
        ({"degrade": [{"relax_cap_percent": 5, "minutes": 0}]}, "degrade.minutes"),
        ({"degrade": ["background", "background"]}, "degrade"),
        ({"variants": ["draft"]}, "variants"),
        ({"variants": {"draft": {"speed_factor": 0.5}}}, "variants.draft.speed_factor"),
        ({"variants": {"draft": {"speed": 2}}}, "variants.draft.speed"),
    ],
)
def test_a_step_that_can_not_be_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(EnvelopeError) as caught:
        ruling(**changes)
    assert caught.value.field == field


def test_nobody_pays_for_a_tier_below() -> None:
    assert check_envelope(ruling(), FACTS) == ()
    early = [{"tier": "premium", "use": "draft"}, "background", "standard", "premium"]
    (problem,) = check_envelope(ruling(early), FACTS)
    assert (problem.field, problem.severity) == ("degrade", "refuse")
    assert problem.reason == "premium would be served by draft before background waits"
    assert [p.severity for p in check_envelope(ruling(["premium", "standard", "background"]), FACTS)] == ["refuse"]


def test_steps_are_in_force_up_to_the_last_tier_that_waits_and_the_cap_asks_first() -> None:
    assert steps_in_force(ruling(), ()) == ()
    assert steps_in_force(ruling(), ("background",)) == ("background",)
    assert steps_in_force(ruling(), ("background", "standard")) == ("background", "standard:draft", "standard")
    everything = steps_in_force(ruling(), ("background", "standard", "premium"))
    assert everything == ("background", "standard:draft", "standard", "premium")


def test_a_variant_makes_its_tier_faster_only_while_its_step_is_in_force() -> None:
    assert speed_factors(ruling(), ("background", "standard:draft", "standard")) == {"standard": 1.5}
    assert speed_factors(ruling(), ("background",)) == {}


def test_the_cap_is_relaxed_while_the_approval_lasts_and_never_lowered() -> None:
    step = relaxation_of(ruling())
    assert step is not None and relaxed_cap(ruling(), step) == pytest.approx(60.0)
    approved = replace(override(OverrideKind.RELAX_CAP), cap_usd_per_hour=60.0)
    assert relaxed(ruling(), (approved,)).spend_cap_usd_per_hour == 60.0
    assert relaxed(ruling(cap=70.0), (approved,)).spend_cap_usd_per_hour == 70.0
    assert relaxed(ruling(), ()) == ruling()
    assert relaxation_of(ruling(cap=None)) is None and relaxation_of(envelope(50.0)) is None
    with pytest.raises(ValueError, match="without a cap"):
        relaxed_cap(ruling(cap=None), step)
