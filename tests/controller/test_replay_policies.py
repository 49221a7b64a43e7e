"""Policies by name: what is asked for is what is run, and what can't be is refused in words."""

import re

import numpy as np
import pytest

from controller.core.policies.base import Memory
from controller.core.policies.heddle import Heddle
from controller.core.policies.hpa import Hpa
from controller.core.policies.kpa import Kpa
from controller.core.policies.static import Static
from controller.core.types import Series
from controller.replay_policies import (
    REGISTRY,
    PolicyContext,
    PolicyError,
    described,
    make_policy,
    parse_policy,
    peak_ten_minutes,
)
from tests.core.observed import A10G, fleet, observation

T0 = 1_732_406_400.0
NOTHING = PolicyContext()


def test_policies_by_name() -> None:
    flat = {"a": Series(T0, 60.0, np.full(60, 3.0)), "b": Series(T0, 60.0, np.full(60, 4.0))}
    assert isinstance(make_policy("heddle", NOTHING), Heddle)
    assert make_policy("hpa", NOTHING) == Hpa()
    assert make_policy("static", PolicyContext(flat)) == Static(pytest.approx(7.0))


def test_parameters_are_set_by_name() -> None:
    assert make_policy("hpa:target=0.5,down_s=900", NOTHING) == Hpa(target=0.5, down_s=900.0)
    assert make_policy("kpa:ceiling=100", NOTHING) == Kpa(ceiling=100)
    assert make_policy("kpa:ceiling=none", NOTHING) == Kpa()
    assert make_policy("static:utilisation=0.5", NOTHING) == Static(0.0, utilisation=0.5)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("magic", "there is no policy 'magic'; use heddle, hpa, kpa"),
        ("", "there is no policy ''"),
        ("hpa:", "'' is not parameter=value; hpa has target, down_s"),
        ("hpa:0.5", "'0.5' is not parameter=value"),
        ("hpa:goal=0.5", "hpa has no parameter 'goal'; hpa has target, down_s"),
        ("hpa:name=kpa", "hpa has no parameter 'name'"),
        ("heddle:target=1", "heddle has no parameters"),
        ("hpa:target=half", "hpa's target: 'half' is no number"),
        ("hpa:target=nan", "'nan' is not finite"),
        ("hpa:target=0", "0 is not above 0; it is requests in flight per ready replica"),
        ("hpa:ceiling=2.5", "'2.5' is no whole number"),
        ("hpa:ceiling=0", "0 is below 1"),
        ("kpa:target=1.5", "1.5 is over 1"),
        ("hpa:target=0.5,target=0.6", "target is given twice"),
    ],
)
def test_what_there_is_not_is_refused_with_what_there_is(asked: str, said: str) -> None:
    with pytest.raises(PolicyError, match=re.escape(said)):
        parse_policy(asked)


@pytest.mark.parametrize("name", REGISTRY)
def test_every_policy_is_described_and_plans_under_its_name(name: str) -> None:
    entry = REGISTRY[name]
    assert f"  {name} " in described()
    assert all(f"{key}=" in described() for key in entry.parameters)
    for parameter in entry.parameters.values():
        if isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool):
            assert parameter.read(str(parameter.default)) == parameter.default
    policy = make_policy(name, NOTHING)
    plan, _ = policy.plan(observation(replicas=fleet({A10G.id: 10})), Memory(), "p-1")
    assert plan.policy == policy.name == name


def test_the_peak_is_the_largest_ten_minutes_of_all_tiers_together() -> None:
    one, other = np.ones(120), np.ones(120)
    one[30:40] = 6.0
    one[90] = 40.0
    other[30:35] = 3.0
    assert peak_ten_minutes({"a": Series(T0, 60.0, one), "b": Series(T0, 60.0, other)}) == pytest.approx(8.0)
    assert peak_ten_minutes({}) == 0.0
    assert peak_ten_minutes({"a": Series(T0, 60.0, np.full(4, 2.0))}) == 2.0
    gaps = one.copy()
    gaps[50:70] = np.nan
    assert peak_ten_minutes({"a": Series(T0, 60.0, gaps)}) == pytest.approx(6.0)
