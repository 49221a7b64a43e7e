import copy
from typing import Any

import pytest

from controller.core.envelope import EnvelopeFacts
from dashboard.components.confirm_envelope import diff_html
from dashboard.components.envelope_form import changed, difference, problem_html, problems, unit_of

from .conftest import document

FACTS = EnvelopeFacts(("premium", "standard", "background"), execution_mean_s=2.3, cheapest_usd_per_hour=0.4)


def with_(path: str, value: Any) -> dict[str, Any]:
    changed_document = copy.deepcopy(document())
    at: Any = changed_document
    *parents, last = path.split("/")
    for name in parents:
        at = at[name]
    at[last] = value
    return changed_document


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("spend_cap_usd_per_hour", -5, "spend_cap_usd_per_hour"),
        ("floors", {"images": 55}, "floors"),
        ("floors", {"images": 61}, "floors.images"),
        ("tiers/standard/tenants_percent", 60, "tiers"),
        ("tiers/standard/latency/target_ms", 0, "tiers.standard.latency.target_ms"),
    ],
)
def test_bad_input_is_refused_with_its_reason(path: str, value: Any, field: str) -> None:
    draft = with_(path, value)
    if field == "floors":
        draft["spend_cap_usd_per_hour"] = 20
    found = problems(draft, "images", FACTS)
    assert found and found[0].severity == "refuse" and found[0].field == field


def test_a_target_below_the_execution_is_warned_of_and_has_to_be_signed() -> None:
    draft = with_("tiers/premium/latency", {"of": "end_to_end", "statistic": "mean", "target_ms": 900})
    (problem,) = problems(draft, "images", FACTS)
    assert (problem.severity, problem.field) == ("warn", "tiers.premium.latency.target_ms")
    assert "below the execution itself" in problem_html(problem)


@pytest.mark.parametrize("path", ["spend_cap_usd_per_hour", "tiers/premium/latency/target_ms"])
def test_a_refusal_names_the_nearest_feasible_value(path: str) -> None:
    (problem,) = problems(with_(path, -1), "images", FACTS)
    assert problem.nearest and "Nearest feasible" in problem_html(problem)


def test_an_unknown_tier_is_refused() -> None:
    draft = document()
    draft["tiers"]["gold"] = draft["tiers"].pop("premium")
    draft["degrade"] = ["background", "standard", "gold"]
    assert {problem.severity for problem in problems(draft, "images", FACTS)} == {"refuse"}


def test_the_envelope_in_force_has_no_problem_and_no_difference() -> None:
    assert problems(document(), "images", FACTS) == ()
    assert not changed(document(), document())


def test_the_difference_names_before_and_after_and_same() -> None:
    rows = {name: (was, now) for name, was, now in difference(document(60, 220), document(50, 200))}
    assert rows["Spend cap"] == ("$60.00/h", "$50.00/h")
    assert rows["Premium"][1].startswith("mean 200 ms")
    assert rows["Standard"][1] == "same"
    assert changed(document(60), document(50))


def test_no_cap_is_a_value() -> None:
    assert ("Spend cap", "$50.00/h", "none") in difference(document(50), document(None))


def test_a_problem_cannot_carry_markup() -> None:
    draft = document()
    draft["<script>"] = 1
    (problem,) = problems(draft, "images", FACTS)
    assert "<script>" not in problem_html(problem)
    assert "<b>" in diff_html(document(60), document(50), "v1", "v2").replace("class='hd-b'", "").replace("<b >", "<b>")


def test_targets_are_edited_in_the_unit_of_their_size() -> None:
    assert [unit_of(ms) for ms in (200, 30_000, 7_200_000)] == ["ms", "s", "min"]
