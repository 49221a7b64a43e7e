"""The operator's contract: what a document may say, what it may not, and how a term is measured."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.envelope import (
    EnvelopeError,
    EnvelopeFacts,
    check_envelope,
    measure,
    parse_envelope,
    percentile_of,
    to_document,
)
from controller.core.queueing import probability_of
from models.enums import LatencyOf

FACTS = EnvelopeFacts(("premium", "standard", "background"), 30.0, 0.43)


def latency(**changes: Any) -> dict[str, Any]:
    return {"of": "wait", "statistic": "mean", "target_ms": 200, **changes}


def document(**changes: Any) -> dict[str, Any]:
    tiers = {
        "premium": {"tenants_percent": 20, "latency": latency()},
        "standard": {"tenants_percent": 50, "latency": latency(statistic="p95", target_ms=30_000)},
        "background": {"tenants_percent": 30, "latency": latency(statistic="p100", target_ms=7_200_000)},
    }
    return {"spend_cap_usd_per_hour": 50, "tier_salt": "a", "tiers": tiers, **changes}


def with_tier(name: str = "premium", **changes: Any) -> dict[str, Any]:
    whole = document()
    whole["tiers"][name] = {**whole["tiers"][name], **changes}
    return whole


def test_the_sample_reads_as_written() -> None:
    read = parse_envelope(document(), "images", 3)
    assert read.spend_cap_usd_per_hour == 50.0
    assert (read.tier_salt, read.version, read.floor, read.ceiling) == ("a", 3, 0, None)
    assert [(t.name, t.priority, t.tenants_percent, t.statistic, t.target_ms) for t in read.tiers] == [
        ("premium", 0, 20.0, "mean", 200.0),
        ("standard", 1, 50.0, "p95", 30_000.0),
        ("background", 2, 30.0, "p100", 7_200_000.0),
    ]
    assert all(t.of is LatencyOf.WAIT and t.window_s == 3600.0 for t in read.tiers)
    assert read.degrade == ("background", "standard", "premium")


def test_one_tier_no_cap_and_a_fine_percentile() -> None:
    read = parse_envelope({"tiers": {"all": {"tenants_percent": 100, "latency": latency(statistic="p99.5")}}})
    assert read.spend_cap_usd_per_hour is None
    assert [(t.name, t.statistic) for t in read.tiers] == [("all", "p99.5")]
    assert parse_envelope(document(spend_cap_usd_per_hour=None)).spend_cap_usd_per_hour is None


def test_limits_and_order_are_optional() -> None:
    read = parse_envelope(document(floors={"images": 2}, ceilings={"images": 60}, degrade=["standard", "background"]))
    assert (read.floor, read.ceiling, read.degrade) == (2, 60, ("standard", "background"))


@pytest.mark.parametrize(
    ("changed", "field", "nearest"),
    [
        (document(spend_cap_usd_per_hour=-5), "spend_cap_usd_per_hour", "1"),
        (document(spend_cap_usd_per_hour=0), "spend_cap_usd_per_hour", "1"),
        (document(spend_cap_usd_per_hour="50"), "spend_cap_usd_per_hour", None),
        (document(spend_cap_usd_per_hour=math.nan), "spend_cap_usd_per_hour", None),
        (document(spend_cap_usd_per_hour=True), "spend_cap_usd_per_hour", None),
        (document(spend_cap_usd_per_hour=10**400), "spend_cap_usd_per_hour", None),
        (document(budget=7), "budget", "ceilings, degrade, floors, spend_cap_usd_per_hour, tier_salt, tiers, variants"),
        (document(tiers={}), "tiers", None),
        (document(tiers=["premium"]), "tiers", None),
        (with_tier(tenants_percent=30), "tiers", None),
        (with_tier(tenants_percent=-1), "tiers.premium.tenants_percent", "0"),
        (with_tier(tenants_percent=101), "tiers.premium.tenants_percent", "100"),
        (with_tier(latency=latency(of="start")), "tiers.premium.latency.of", "wait"),
        (with_tier(latency=latency(statistic="p0")), "tiers.premium.latency.statistic", "mean"),
        (with_tier(latency=latency(statistic="p0.0")), "tiers.premium.latency.statistic", "mean"),
        (with_tier(latency=latency(statistic="p101")), "tiers.premium.latency.statistic", "mean"),
        (with_tier(latency=latency(statistic="p100.5")), "tiers.premium.latency.statistic", "mean"),
        (with_tier(latency=latency(statistic="median")), "tiers.premium.latency.statistic", "mean"),
        (with_tier(latency=latency(statistic="p95\n")), "tiers.premium.latency.statistic", "mean"),
        (with_tier(latency=latency(target_ms=0)), "tiers.premium.latency.target_ms", "1"),
        (with_tier(latency=latency(target_ms=None)), "tiers.premium.latency.target_ms", None),
        (with_tier(latency=latency(window_s=10)), "tiers.premium.latency.window_s", "60"),
        (with_tier(latency=latency(budget=1)), "tiers.premium.latency.budget", "of, statistic, target_ms, window_s"),
        (with_tier(share=1), "tiers.premium.share", "tenants_percent, latency"),
        (document(floors={"images": -1}), "floors.images", "0"),
        (document(floors={"images": 1.5}), "floors.images", "2"),
        (document(floors={"videos": 1}), "floors.videos", "images"),
        (document(floors={"images": 9}, ceilings={"images": 3}), "floors.images", "3"),
        (document(degrade=["gold"]), "degrade", "background, standard, premium"),
        (document(degrade="background"), "degrade", "background, standard, premium"),
        ([], "envelope", None),
        (None, "envelope", None),
    ],
)
def test_what_is_wrong_is_named_with_the_nearest_that_would_do(changed: Any, field: str, nearest: str | None) -> None:
    with pytest.raises(EnvelopeError) as caught:
        parse_envelope(changed)
    assert caught.value.field == field
    assert caught.value.nearest == nearest
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{field}: ")


def test_no_salt_is_an_empty_one() -> None:
    assert parse_envelope(document(tier_salt=None)).tier_salt == ""


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.one_of(
        json_values,
        st.fixed_dictionaries({}, optional=dict.fromkeys(document(), json_values)).map(lambda some: document(**some)),
        json_values.map(lambda value: with_tier(latency=value)),
        st.sampled_from(["of", "statistic", "target_ms", "window_s"]).flatmap(
            lambda key: json_values.map(lambda value: with_tier(latency=latency(**{key: value})))
        ),
        st.sampled_from(["floors", "ceilings"]).flatmap(
            lambda key: json_values.map(lambda value: document(**{key: {"images": value}}))
        ),
    )
)
def test_a_document_is_read_or_refused_and_what_is_read_can_be_used(anything: Any) -> None:
    try:
        read = parse_envelope(anything)
    except EnvelopeError as error:
        assert str(error).startswith(error.field)
        return
    for tier in read.tiers:
        assert tier.statistic == "mean" or 0 < percentile_of(tier.statistic) <= 100
        probability_of(tier.statistic)
        assert 0 < tier.target_ms < math.inf


statistics = st.one_of(
    st.just("mean"), st.integers(1, 100).map(lambda n: f"p{n}"), st.decimals(1, 99, places=1).map(lambda n: f"p{n}")
)
finite = st.floats(1, 1e7, allow_nan=False)


@st.composite
def envelopes(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.integers(1, 4))
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=count - 1, max_size=count - 1)))
    shares = [high - low for low, high in zip([0, *cuts], [*cuts, 100], strict=True)]
    tiers = {
        f"tier {n}": {
            "tenants_percent": share,
            "latency": {
                "of": draw(st.sampled_from(["wait", "end_to_end"])),
                "statistic": draw(statistics),
                "target_ms": draw(finite),
                "window_s": draw(st.floats(60, 86400)),
            },
        }
        for n, share in enumerate(shares)
    }
    floor = draw(st.integers(0, 5))
    return {
        "spend_cap_usd_per_hour": draw(st.none() | finite),
        "tier_salt": draw(st.text(max_size=3)),
        "tiers": tiers,
        "floors": {"images": floor},
        "ceilings": draw(st.just({}) | st.integers(floor, 99).map(lambda n: {"images": n})),
        "degrade": draw(st.permutations(list(tiers))),
    }


@given(envelopes(), st.integers(0, 9))
def test_a_document_survives_the_round_trip(written: dict[str, Any], version: int) -> None:
    read = parse_envelope(written, "images", version)
    assert parse_envelope(to_document(read), "images", version) == read
    assert to_document(parse_envelope(to_document(read))) == to_document(read)


# --- against the facts ---


def problems(changed: dict[str, Any], facts: EnvelopeFacts = FACTS) -> list[tuple[str, str, str | None]]:
    return [(p.field, p.severity, p.nearest) for p in check_envelope(parse_envelope(changed), facts)]


def test_the_sample_is_feasible() -> None:
    assert problems(document()) == []


def test_an_end_to_end_target_below_the_execution_must_be_signed() -> None:
    impossible = with_tier(latency=latency(of="end_to_end", target_ms=20_000))
    assert problems(impossible) == [("tiers.premium.latency.target_ms", "warn", "30,000 ms")]
    assert problems(with_tier(latency=latency(of="end_to_end", target_ms=30_000))) == []
    assert problems(with_tier(latency=latency(of="wait", target_ms=20_000))) == []


def test_a_floor_above_the_caps_reach_is_refused() -> None:
    assert problems(document(spend_cap_usd_per_hour=4.3, floors={"images": 11})) == [("floors", "refuse", "10")]
    assert problems(document(spend_cap_usd_per_hour=4.3, floors={"images": 10})) == []
    assert problems(document(spend_cap_usd_per_hour=None, floors={"images": 1000})) == []


def test_a_cap_that_buys_nothing_may_be_signed() -> None:
    assert problems(document(spend_cap_usd_per_hour=0.4)) == [("spend_cap_usd_per_hour", "warn", "$0.43/h")]


def test_tiers_are_those_of_the_service() -> None:
    facts = EnvelopeFacts(("premium", "standard", "gold"), 30.0, 0.43)
    assert [(field, severity) for field, severity, _ in problems(document(), facts)] == [
        ("tiers.background", "refuse"),
        ("tiers", "refuse"),
    ]


@given(st.floats(0.5, 200), st.integers(0, 300))
def test_the_nearest_floor_is_feasible_and_one_more_is_not(cap: float, floor: int) -> None:
    asked = parse_envelope(document(spend_cap_usd_per_hour=cap, floors={"images": floor}))
    found = [problem for problem in check_envelope(asked, FACTS) if problem.field == "floors"]
    if not found:
        assert floor * 0.43 <= cap + 1e-9
        return
    nearest = int(found[0].nearest or "")
    assert nearest < floor
    assert problems(document(spend_cap_usd_per_hour=cap, floors={"images": nearest})) in (
        [],
        [("spend_cap_usd_per_hour", "warn", "$0.43/h")],
    )
    assert (nearest + 1) * 0.43 > cap - 1e-9


# --- measuring ---


def test_statistics_of_waits() -> None:
    waits = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    assert measure("mean", waits) == 2.0
    assert measure("p50", waits) == 2.0
    assert measure("p95", waits) == pytest.approx(3.8)
    assert measure("p100", waits) == 4.0
    assert measure("p99.5", waits) == pytest.approx(3.98)
    assert measure("p95", np.empty(0)) is None
    assert measure("mean", np.array([7.0])) == 7.0
    with pytest.raises(ValueError, match="mean"):
        percentile_of("mean")


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), statistics)
def test_a_statistic_lies_among_the_waits(waits: list[float], statistic: str) -> None:
    value = measure(statistic, np.array(waits))
    assert value is not None
    assert min(waits) - 1e-6 <= value <= max(waits) + 1e-6
