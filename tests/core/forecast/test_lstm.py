"""The network's arithmetic against its equations written out, and the model around it, without PyTorch."""

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest

from controller.core.forecast import lstm
from controller.core.forecast.base import CannotFit, Fitted, model_named, names_for
from controller.core.forecast.lstm import AHEAD, CALENDAR, LARGEST, READ, Lstm, Weights
from controller.core.series import DAY_S, HOUR_S, clip
from controller.core.types import QUANTILES, FloatArray, Series

MONDAY_S = 1_732_492_800.0  # 2024-11-25
LAST_WEEK, KNOWN_LAST_WEEK, EARLIER_DAYS = CALENDAR + 2, CALENDAR + 3, CALENDAR + 4


def demand(days: int, seed: int = 1) -> Series:
    generator = np.random.default_rng(seed)
    hour = np.arange(days * 24) % 24
    return Series(MONDAY_S, HOUR_S, generator.poisson(40 + 30 * np.sin(hour / 24 * 2 * np.pi)) / 4.0)


def drawn(units: int = 3, hidden: int = 4, seed: int = 5) -> dict[str, FloatArray]:
    """Random weights of the shapes that `Weights` describes."""
    draw = np.random.default_rng(seed)
    shapes = {
        "read": (4 * units, READ),
        "carried": (4 * units, units),
        "bias": (4 * units,),
        "state": (hidden, units),
        "ahead": (hidden, AHEAD),
        "hidden_bias": (hidden,),
        "hidden": (len(QUANTILES), hidden),
        "straight": (len(QUANTILES), AHEAD),
        "out_bias": (len(QUANTILES),),
    }
    return {name: draw.normal(0, 0.5, shape) for name, shape in shapes.items()}


def like_earlier_days() -> Weights:
    """Weights of a network that says the mean of the earlier days at that time, and 30 % more as the 0.9 quantile."""
    arrays = {name: np.zeros_like(part) for name, part in drawn().items()}
    arrays["straight"][:, EARLIER_DAYS] = 1.0
    arrays["straight"][QUANTILES.index(0.9), EARLIER_DAYS] = 1.3
    return Weights(HOUR_S, 48, MONDAY_S, arrays)


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def test_the_cell_is_that_of_the_equations() -> None:
    """Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000, one number at a time."""
    units, arrays = 3, drawn(3)
    inputs = np.random.default_rng(2).normal(size=(4, 6, READ))
    for sequence, found in zip(inputs, lstm.encoded(arrays, inputs), strict=True):
        hidden, cell = [0.0] * units, [0.0] * units
        for x in sequence:

            def gate(kind: int, unit: int, x: FloatArray = x, hidden: list[float] = hidden) -> float:
                row = kind * units + unit
                heard = sum(w * v for w, v in zip(arrays["read"][row], x, strict=True))
                carried = sum(w * v for w, v in zip(arrays["carried"][row], hidden, strict=True))
                return float(heard + carried + arrays["bias"][row])

            cell = [sigmoid(gate(1, u)) * cell[u] + sigmoid(gate(0, u)) * math.tanh(gate(2, u)) for u in range(units)]
            hidden = [sigmoid(gate(3, u)) * math.tanh(cell[u]) for u in range(units)]
        np.testing.assert_allclose(found, hidden, rtol=0, atol=1e-12)


def test_the_head_is_one_hidden_layer_and_a_straight_way_past_it() -> None:
    arrays, draw = drawn(), np.random.default_rng(3)
    state, ahead = draw.normal(size=(2, 3)), draw.normal(size=(2, 5, AHEAD))
    found = lstm.decoded(arrays, state, ahead)
    for i in range(2):
        for j in range(5):
            inner = arrays["state"] @ state[i] + arrays["ahead"] @ ahead[i, j] + arrays["hidden_bias"]
            said = arrays["hidden"] @ np.maximum(inner, 0) + arrays["straight"] @ ahead[i, j] + arrays["out_bias"]
            np.testing.assert_allclose(found[i, j], said, atol=1e-12)


def test_what_is_known_of_a_step_ahead_is_what_was_then_on_earlier_days() -> None:
    series = Series(MONDAY_S, HOUR_S, np.arange(1.0, 10 * 24 + 1))
    origins, ahead = np.array([9 * 24]), np.array([0, 5])
    known = lstm.known_ahead(series, origins, ahead, np.array([10.0]))[0]
    wanted = 9 * 24 + ahead
    np.testing.assert_allclose(known[:, CALENDAR], np.log1p([1.0, 6.0]))
    np.testing.assert_allclose(known[:, CALENDAR + 1], series.values[wanted - 24] / 10)
    np.testing.assert_allclose(known[:, LAST_WEEK], series.values[wanted - 168] / 10)
    np.testing.assert_allclose(known[:, EARLIER_DAYS], series.values[wanted - 4 * 24] / 10)
    assert (known[:, KNOWN_LAST_WEEK] == 1).all()


def test_a_day_before_the_series_or_before_its_use_is_unknown_and_not_zero_load() -> None:
    series = Series(MONDAY_S, HOUR_S, np.full(10 * 24, 5.0))
    origins, ahead, scale = np.array([3 * 24, 9 * 24]), np.array([0]), np.array([5.0, 5.0])
    first, second = lstm.known_ahead(series, origins, ahead, scale)[:, 0]
    assert (first[KNOWN_LAST_WEEK], first[LAST_WEEK], first[EARLIER_DAYS]) == (0, 0, pytest.approx(1.0))
    assert (second[KNOWN_LAST_WEEK], second[LAST_WEEK]) == (1, pytest.approx(1.0))
    launched = lstm.known_ahead(series, origins[1:], ahead, scale[1:], begin=4 * 24)[0, 0]
    assert (launched[KNOWN_LAST_WEEK], launched[EARLIER_DAYS]) == (0, pytest.approx(1.0))


def test_nothing_after_the_origin_is_read() -> None:
    series, origins, ahead = demand(10), np.array([200, 210]), np.arange(24)
    later = np.array(series.values)
    later[210:] = 1e6
    other = Series(series.start_s, series.step_s, later)
    scale = lstm.level(series, origins, 48)
    np.testing.assert_array_equal(scale, lstm.level(other, origins, 48))
    np.testing.assert_array_equal(lstm.read(series, origins, 48, scale), lstm.read(other, origins, 48, scale))
    one, two = (lstm.known_ahead(each, origins, ahead, scale) for each in (series, other))
    np.testing.assert_array_equal(one[1], two[1])


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return Lstm(like_earlier_days()).fit(demand(14), 24)


def test_it_predicts_from_what_was_fitted_alone(fitted: Fitted) -> None:
    series = demand(15)
    origins = np.arange(14 * 24, 15 * 24, 3)
    many = model_named("lstm").predict_many(fitted, series, origins, 24)
    assert many.shape == (len(origins), len(QUANTILES), 24)
    assert (many >= 0).all()
    assert (np.diff(many, axis=1) >= 0).all()
    for i, origin in enumerate(origins):
        made_s = series.start_s + origin * HOUR_S
        for recent in (clip(series, end_s=made_s), clip(series, made_s - Lstm.reach_s, made_s)):
            one = model_named("lstm").predict(fitted, recent, made_s, 24)
            np.testing.assert_allclose(one, many[i], rtol=1e-9)


def test_its_quantiles_cover_a_day_never_seen(fitted: Fitted) -> None:
    series, origins = demand(16), np.arange(14 * 24, 15 * 24)
    found = model_named("lstm").predict_many(fitted, series, origins, 24)
    came = series.values[origins[:, None] + np.arange(24)]
    assert 0.8 < (came <= found[:, QUANTILES.index(0.9)]).mean() < 0.98


def test_a_series_ten_times_as_large_has_paths_ten_times_as_large(fitted: Fitted) -> None:
    arrays = drawn()
    random = replace(fitted, arrays=arrays)
    series, origins, ahead = demand(10), np.array([100, 200]), np.arange(24)
    large = Series(series.start_s, series.step_s, 10 * series.values)
    one, ten = (model_named("lstm").features(random, each, origins, ahead) for each in (series, large))  # type: ignore[attr-defined]
    np.testing.assert_allclose(10 * one[:, :, 1:], ten[:, :, 1:], rtol=1e-6)


@pytest.mark.parametrize("values", [np.zeros(300), np.r_[np.full(299, 1.0), 1e12], np.r_[np.zeros(299), 1e12]])
def test_silence_and_absurd_loads_give_numbers(fitted: Fitted, values: FloatArray) -> None:
    series = Series(MONDAY_S, HOUR_S, values)
    inputs = lstm.read(series, np.array([300]), 48, lstm.level(series, np.array([300]), 48))
    assert np.isfinite(inputs).all() and inputs[:, :, 0].max() <= np.log1p(LARGEST)
    found = model_named("lstm").predict(fitted, series, series.end_s, 24)
    assert np.isfinite(found).all()


def test_it_competes_only_where_it_is_given() -> None:
    assert "lstm" not in names_for(HOUR_S)
    with pytest.raises(CannotFit, match=r"requirements-lstm\.txt"):
        model_named("lstm").fit(demand(14), 24)


def test_weights_of_another_grid_are_declined() -> None:
    with pytest.raises(CannotFit, match="steps of 600 s, not 3600 s"):
        Lstm(replace(like_earlier_days(), step_s=600.0)).fit(demand(14), 24)


def test_weights_that_have_seen_what_they_would_be_judged_by_are_declined() -> None:
    """A selection that holds out the last two days can't be won by having learned them."""
    history = demand(14)
    weights = replace(like_earlier_days(), until_s=history.end_s - DAY_S)
    with pytest.raises(CannotFit, match=r"seen 24\.0 h"):
        Lstm(weights).fit(clip(history, end_s=history.end_s - 2 * DAY_S), 24)
    Lstm(weights).fit(history, 24)


def test_too_little_of_the_past_is_declined(fitted: Fitted) -> None:
    with pytest.raises(CannotFit, match="looks 48 h back"):
        model_named("lstm").predict(fitted, clip(demand(14), end_s=MONDAY_S + DAY_S), MONDAY_S + DAY_S, 24)


def test_a_fit_is_plain_and_small(fitted: Fitted) -> None:
    assert all(isinstance(part, np.ndarray) for part in fitted.arrays.values())
    assert len(pickle.dumps(fitted)) < 150_000
