"""Parameters are stored as JSON and read back to the bit, for every model; what can't be read is refused in words."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from controller.core.forecast import calibrate, combine
from controller.core.forecast.base import GRIDS, Fitted, model_named, names_for
from controller.core.forecast.events import Effect
from controller.core.forecast.parameters import (
    SCHEMA,
    Parameters,
    ParametersError,
    fitted_from_json,
    fitted_to_json,
    from_json,
    to_json,
)
from controller.core.forecast.select import Score
from controller.core.forecast.signals import Admission, Signal
from controller.core.forecast.standing import begun, judged, scored
from controller.core.series import DAY_S, HOUR_S
from controller.core.types import QUANTILES, FloatArray, Series

START_S = 1_732_492_800.0
MODELS = [(name, step_s, steps) for step_s, steps in GRIDS for name in names_for(step_s)]


def history(step_s: float, days: float = 9.0) -> Series:
    generator = np.random.default_rng(3)
    at_s = START_S + step_s * np.arange(int(days * DAY_S / step_s))
    rate = 10.0 + 8.0 * np.sin(at_s / DAY_S * 2 * np.pi)
    return Series(START_S, step_s, generator.gamma(rate))


def through_json(fitted: Fitted) -> Fitted:
    return fitted_from_json(json.loads(json.dumps(fitted_to_json(fitted), allow_nan=False)))


def alike(one: Any, other: Any) -> bool:
    """Equal to the bit, NaN as NaN, inside any value class."""
    if isinstance(one, np.ndarray):
        return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if hasattr(one, "__dataclass_fields__"):
        return type(one) is type(other) and all(
            alike(getattr(one, each.name), getattr(other, each.name)) for each in fields(one)
        )
    if isinstance(one, dict):
        return list(one) == list(other) and all(alike(one[name], other[name]) for name in one)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == other) or (one != one and other != other)


@pytest.mark.parametrize(("name", "step_s", "steps"), MODELS)
def test_every_model_forecasts_the_same_from_what_was_stored(name: str, step_s: float, steps: int) -> None:
    series = history(step_s, 30.0 if name == "weekly_profile" else 9.0)
    fitted = model_named(name).fit(series, steps)
    again = through_json(fitted)
    assert alike(again, fitted)
    now_s = series.end_s
    np.testing.assert_array_equal(
        model_named(name).predict(again, series, now_s, steps), model_named(name).predict(fitted, series, now_s, steps)
    )


def test_a_combination_and_a_model_with_signals() -> None:
    series = history(3600.0)
    spend = Signal("spend", Series(START_S, HOUR_S, series.values + 1.0), False, 6 * HOUR_S)
    members = [model_named(name).fit(series, 24, (spend,)) for name in ("profile", "naive")]
    weights = np.array([[0.7], [0.3]]) * np.ones(len(calibrate.bucket_ends(3600.0, 24)))
    both = combine.joined(members, weights)
    assert both.members and members[0].uses
    assert alike(through_json(both), both)


@settings(max_examples=80, deadline=None)
@given(
    spread=arrays(np.float64, array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.floats(width=64)),
    extra=st.dictionaries(st.text(max_size=8), arrays(np.float64, array_shapes(max_dims=2, max_side=5)), max_size=3),
    numbers=st.dictionaries(st.text(max_size=8), st.floats(), max_size=4),
    note=st.text(max_size=40),
)
def test_any_parameters_survive(
    spread: FloatArray, extra: dict[str, FloatArray], numbers: dict[str, float], note: str
) -> None:
    fitted = Fitted("profile", 600.0, 144, START_S, spread, extra, numbers, note)
    again = through_json(fitted)
    assert again.spread.tobytes() == np.where(np.isnan(spread), spread, spread).tobytes()
    assert alike(replace(again, spread=spread, arrays=extra), replace(fitted, spread=spread))
    assert all(alike(again.arrays[name], extra[name]) for name in extra)


def whole() -> Parameters:
    """A line that has seen something of everything."""
    series = history(600.0)
    fitted = model_named("profile").fit(series, 144)
    naive = model_named("seasonal_naive_24h").fit(series, 144)
    standing = begun("profile")
    generator = np.random.default_rng(5)
    for i in range(60):
        at = START_S + 600.0 * i
        bad, good = (width + np.sort(generator.normal(size=(5, 2)), axis=0) for width in (9.0, 0.0))
        issued = {"profile": bad, "seasonal_naive_24h": good}
        ones = np.ones(2)
        standing = scored(standing, at * ones, 600.0 * ones, ones, generator.normal(size=2), issued, issued)
    standing, verdict = judged(standing, START_S + 36_000.0)
    assert verdict.changed
    learned = calibrate.observe(calibrate.fresh(600.0, 144), 3, np.arange(1.0, 6.0), 4.0)
    return Parameters(
        fitted=fitted,
        standing=standing,
        plain=fitted,
        beside=(naive,),
        scores=(Score("profile", 0.5, None, 0.9, 96, leads=True), Score("naive", None, None, None, 0, note="no")),
        calibrations={"profile": learned, "seasonal_naive_24h": calibrate.fresh(600.0, 144)},
        effects={"campaign": Effect("campaign", (1.0, 1.1, 1.2, 1.3, 1.4), (1.25,))},
        admissions=(Admission("spend", 1.0, 0.9, 0.1, True, "helps"), Admission("x", *3 * [float("nan")], False, "?")),
        note="profile leads",
        load=float("nan"),
        history_s=9 * DAY_S,
        selected_s=START_S,
    )


def test_a_line_goes_on_as_it_was() -> None:
    line = whole()
    again = from_json(json.loads(json.dumps(to_json(line), allow_nan=False)))
    assert alike(again, line)
    assert again.standing.demoted and again.fit_of("seasonal_naive_24h") is not None and again.fit_of("ets") is None


def test_a_line_is_small() -> None:
    assert len(json.dumps(to_json(whole()))) < 300_000


def spoil(document: dict[str, Any], *path: str | int) -> Callable[[Any], None]:
    place: Any = document
    for name in path[:-1]:
        place = place[name]

    def put(value: Any) -> None:
        place[path[-1]] = value

    return put


STORED = json.dumps(to_json(whole()))


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        (("schema",), SCHEMA + 1, "schema"),
        (("schema",), None, "schema"),
        (("fitted", "model"), "crystal_ball", "damaged"),
        (("fitted", "spread", "float64"), "not base64!", "can't be read"),
        (("fitted", "spread", "float64"), "AAAA", "bytes"),
        (("fitted", "spread", "shape"), [10**6, 10**6], "shape"),
        (("fitted", "spread", "shape"), [-1, 5, 2], "shape"),
        (("fitted", "members"), "none", "damaged"),
        (("standing", "hours"), [], "damaged"),
        (("standing", "leader"), "ets", "another leader"),
        (("calibrations", "profile"), {}, "damaged"),
        (("scores",), [{"model": "profile"}], "damaged"),
        (("effects", "campaign", "factors"), ["high"], "damaged"),
        (("selected_s",), "yesterday", "damaged"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_word(path: tuple[str, ...], value: Any, word: str) -> None:
    document = json.loads(STORED)
    spoil(document, *path)(value)
    with pytest.raises(ParametersError, match=word):
        from_json(document)


@pytest.mark.parametrize("document", [None, [], "text", 3, {}, {"schema": SCHEMA}])
def test_no_parameters_at_all(document: Any) -> None:
    with pytest.raises(ParametersError):
        from_json(document)


def test_members_without_end_are_refused() -> None:
    document = fitted_to_json(Fitted("profile", 600.0, 144, START_S, np.zeros((1, len(QUANTILES), 1))))
    for _ in range(10):
        document = {**document, "members": [document]}
    with pytest.raises(ParametersError, match="too deep"):
        fitted_from_json(document)


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, len(STORED) - 1), put=st.sampled_from(["0", "x", '"', "", "null", "-1"]))
def test_a_document_damaged_anywhere_is_read_or_refused_and_never_crashes(cut: int, put: str) -> None:
    try:
        document = json.loads(STORED[:cut] + put + STORED[cut + 1 :])
    except ValueError:
        return
    with suppress(ParametersError):
        assert isinstance(from_json(document), Parameters)
