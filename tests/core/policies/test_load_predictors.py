"""Dynamo's predictors: what they make of odd series, and of ordinary ones against the matrices they stand for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.tsa.arima.estimators.hannan_rissanen import hannan_rissanen
from statsmodels.tsa.arima.model import ARIMA

from controller.core.policies.load_predictors import Order, arima, arima_order, cleaned, constant, kalman

LOADS = st.lists(st.floats(0, 500), min_size=5, max_size=40)


def by_matrices(values: list[float]) -> float:
    f, h = np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[1.0, 0.0]])
    x, p = np.array([[values[0]], [0.0]]), 1000.0 * np.eye(2)
    for value in values:
        gain = p @ h.T / (h @ p @ h.T + 10.0)
        x, p = x + gain * (value - h @ x), (np.eye(2) - gain @ h) @ p
        x, p = f @ x, f @ p @ f.T + np.diag([1.0, 0.1])
    return float(x[0, 0])


@given(LOADS)
def test_the_kalman_filter_is_the_one_of_its_matrices(values: list[float]) -> None:
    wanted = values[-1] if len(set(values)) == 1 else max(0.0, by_matrices(values))
    assert kalman(np.array(values)) == pytest.approx(wanted, rel=1e-6, abs=1e-6)


def test_a_trend_goes_on() -> None:
    assert kalman(np.arange(1.0, 60.0)) == pytest.approx(60.0, abs=0.2)
    falling = np.linspace(20.0, 0.1, 40)
    assert kalman(falling) >= 0.0


def test_odd_series() -> None:
    assert cleaned([0.0, 0.0, 3.0, float("nan"), float("inf"), 2.0]).tolist() == [3.0, 0.0, 0.0, 2.0]
    assert cleaned([0.0, 0.0]).tolist() == [0.0]
    assert constant(np.array([])) == 0.0
    for predict in (constant, kalman, lambda values: arima(values, None)):
        assert predict(np.array([1.0, 9.0, 4.0])) == 4.0
        assert predict(np.full(30, 6.0)) == 6.0


def test_arima_finds_what_returns_to_its_mean() -> None:
    """An AR(1) of 0.8 around 20: from a value of 40 it expects about 20 + 0.8 · 20."""
    rng = np.random.default_rng(3)
    values = np.empty(400)
    values[0] = 20.0
    for i in range(1, 400):
        values[i] = 20.0 + 0.8 * (values[i - 1] - 20.0) + rng.normal(0, 2)
    order = arima_order(values)
    assert order is not None
    assert order.d == 0
    assert order.p or order.q
    assert arima(np.append(values[:-1], 40.0), order) == pytest.approx(36.0, abs=3.0)


def test_arima_differences_what_wanders() -> None:
    values = 100.0 + np.cumsum(np.random.default_rng(4).normal(0.0, 1.0, 400))
    order = arima_order(values)
    assert order is not None
    assert order.d == 1
    assert arima(values, order) == pytest.approx(values[-1], abs=1.5)


@pytest.mark.parametrize("order", [Order(1, 0, 0), Order(2, 0, 1), Order(1, 1, 1), Order(0, 1, 1)], ids=str)
def test_one_step_ahead_is_statsmodels_own(order: Order) -> None:
    """With the parameters of the same method, its filter forecasts the same."""
    values = 50.0 + np.cumsum(np.random.default_rng(5).normal(0.0, 1.0, 300)) * (0.3 if order.d else 0.05)
    values += np.random.default_rng(6).normal(0.0, 0.5, 300)
    given = np.diff(values, n=order.d)
    mean = 0.0 if order.d else given.mean()
    found, _ = hannan_rissanen(given - mean, order.p, order.q, demean=False)
    model = ARIMA(given - mean, order=(order.p, 0, order.q), trend="n")
    ahead = model.filter(np.r_[found.ar_params, found.ma_params, found.sigma2]).forecast(1)[0]
    wanted = ahead + mean + (values[-1] if order.d else 0.0)
    assert arima(values, order) == pytest.approx(wanted, abs=1e-4)


def test_arima_without_lags_is_taken_on_the_logarithm() -> None:
    values = np.random.default_rng(1).poisson(5.0, 200).astype(float)
    assert arima_order(values) == Order(0, 0, 0, logged=True)
    assert arima(values, Order(0, 0, 0, logged=True)) == pytest.approx(np.expm1(np.log1p(values).mean()))


@given(LOADS)
def test_arima_is_finite_and_not_negative_for_any_loads(values: list[float]) -> None:
    loads = cleaned(values)
    assert 0.0 <= arima(loads, arima_order(loads)) < np.inf
