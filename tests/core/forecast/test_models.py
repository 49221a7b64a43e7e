"""Every model keeps the same laws, on days like this demand's: a daily rhythm, weekends, silent nights, bursts."""

import pickle

import numpy as np
import pytest

from controller.core.forecast.base import GRIDS, CannotFit, Fitted, model_named, names_for
from controller.core.series import DAY_S, clip, resample
from controller.core.types import QUANTILES, Series
from tests.core.forecast.demands import MONDAY_S, demand

ALL = [(name, step_s, steps) for step_s, steps in GRIDS for name in names_for(step_s)]
DAYS = 22  # three weeks: enough for what knows a week


@pytest.fixture(scope="module")
def history() -> Series:
    return demand(DAYS)


@pytest.fixture(scope="module")
def later() -> Series:
    return demand(DAYS + 2)


@pytest.fixture(scope="module")
def fits(history: Series) -> dict[tuple[str, float], Fitted]:
    return {(name, step_s): model_named(name).fit(resample(history, step_s), steps) for name, step_s, steps in ALL}


def test_the_grids_have_models_of_their_own() -> None:
    assert "self_exciting" in names_for(60.0) and "self_exciting" not in names_for(3600.0)
    slow = {"ets", "arima_fourier", "stl_ets", "components"}
    assert slow <= set(names_for(600.0)) and slow <= set(names_for(3600.0)) and not slow & set(names_for(60.0))
    everywhere = {"naive", "seasonal_naive_24h", "seasonal_naive_168h", "profile", "weekly_profile", "autoreg_fourier"}
    assert all(everywhere <= set(names_for(step_s)) for step_s, _ in GRIDS)


@pytest.mark.parametrize(("name", "step_s", "steps"), ALL)
def test_quantiles_do_not_cross_and_are_not_negative(
    name: str, step_s: float, steps: int, history: Series, fits: dict[tuple[str, float], Fitted]
) -> None:
    model = model_named(name)
    assert model.name == name and model.description
    found = model.predict(fits[name, step_s], resample(history, step_s), history.end_s, steps)
    assert found.shape == (len(QUANTILES), steps)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert (np.diff(found, axis=0) >= 0).all()
    assert found.max() < 3 * history.values.max()


@pytest.mark.parametrize(("name", "step_s", "steps"), ALL)
def test_one_origin_and_many_say_the_same(
    name: str, step_s: float, steps: int, later: Series, fits: dict[tuple[str, float], Fitted]
) -> None:
    """At the fit's end, just after it and a day after it, as the loop asks between two fits."""
    model, series = model_named(name), resample(later, step_s)
    first = round(DAYS * DAY_S / step_s)
    origins = np.array([first, first + 7, first + round(DAY_S / step_s)])
    many = model.predict_many(fits[name, step_s], series, origins, steps)
    for i, origin in enumerate(origins):
        made_s = series.start_s + origin * step_s
        one = model.predict(fits[name, step_s], clip(series, end_s=made_s), made_s, steps)
        np.testing.assert_allclose(one, many[i], rtol=1e-6, atol=1e-9)
        recent = clip(series, made_s - max(DAY_S, model.reach_s, made_s - fits[name, step_s].fitted_s), made_s)  # type: ignore[attr-defined]
        short = model.predict(fits[name, step_s], recent, made_s, steps)
        np.testing.assert_allclose(short, many[i], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("name", "step_s", "steps"), ALL)
def test_the_future_is_not_looked_at(
    name: str, step_s: float, steps: int, later: Series, fits: dict[tuple[str, float], Fitted]
) -> None:
    series = resample(later, step_s)
    made_s = MONDAY_S + DAYS * DAY_S + 6 * 3600
    model = model_named(name)
    known = model.predict(fits[name, step_s], clip(series, end_s=made_s), made_s, steps)
    np.testing.assert_array_equal(known, model.predict(fits[name, step_s], series, made_s, steps))


@pytest.mark.parametrize(("name", "step_s", "steps"), ALL)
def test_what_came_after_a_gap_does_not_tell_what_was_in_it(
    name: str, step_s: float, steps: int, later: Series, fits: dict[tuple[str, float], Fitted]
) -> None:
    """Origins in a gap, and just after it, in a backtest: the load that follows may be anything."""
    series = resample(later, step_s)
    first = round(DAYS * DAY_S / step_s)
    width = max(2, round(1500 / step_s))
    values = series.values.copy()
    values[first - width : first + width] = np.nan
    other = values.copy()
    other[first + width :] *= 7.0
    origins = np.arange(first, first + width + 1)
    model = model_named(name)
    one, two = (
        model.predict_many(fits[name, step_s], Series(series.start_s, step_s, each), origins, steps)
        for each in (values, other)
    )
    np.testing.assert_array_equal(one, two)
    made_s = series.start_s + origins[0] * step_s
    alone = model.predict(fits[name, step_s], Series(series.start_s, step_s, values[:first]), made_s, steps)
    np.testing.assert_allclose(alone, one[0], rtol=1e-6, atol=1e-9)


def test_before_anything_was_measured_nothing_is_forecast(later: Series) -> None:
    series = resample(later, 3600.0)
    values = series.values.copy()
    fitted = model_named("naive").fit(series, 24)
    values[:50] = np.nan
    found = model_named("naive").predict_many(fitted, Series(series.start_s, 3600.0, values), np.array([50, 51]), 24)
    assert np.isnan(found[0]).all() and np.isfinite(found[1]).all()


@pytest.mark.parametrize(("name", "step_s", "steps"), ALL)
def test_fits_are_plain_small_and_the_same_twice(
    name: str, step_s: float, steps: int, history: Series, fits: dict[tuple[str, float], Fitted]
) -> None:
    fitted = fits[name, step_s]
    again = model_named(name).fit(resample(history, step_s), steps)
    np.testing.assert_array_equal(fitted.spread, again.spread)
    assert len(pickle.dumps(fitted)) < 150_000
    assert all(isinstance(part, np.ndarray) and np.isfinite(part).all() for part in fitted.arrays.values())
    assert all(isinstance(number, float) and np.isfinite(number) for number in fitted.numbers.values())


@pytest.mark.parametrize(("name", "step_s", "steps"), ALL)
def test_a_day_never_seen_is_covered(
    name: str, step_s: float, steps: int, later: Series, fits: dict[tuple[str, float], Fitted]
) -> None:
    """Coverage of 0.9 on the day after the fit, a weekday after weekdays, within what a day can show."""
    series = resample(later, step_s)
    first = round(DAYS * DAY_S / step_s)
    origins = np.arange(first, first + round(DAY_S / step_s), max(1, round(1800 / step_s)))
    found = model_named(name).predict_many(fits[name, step_s], series, origins, steps)
    index = origins[:, None] + np.arange(steps)[None, :]
    known = index < len(series.values)
    covered = series.values[np.minimum(index, len(series.values) - 1)] <= found[:, QUANTILES.index(0.9), :]
    assert covered[known].mean() > 0.8


def test_a_model_without_enough_of_the_past_says_so(fits: dict[tuple[str, float], Fitted], history: Series) -> None:
    with pytest.raises(CannotFit, match="looks 24 h back"):
        model_named("profile").predict(fits["profile", 60.0], clip(history, history.end_s - 3600), history.end_s, 60)


@pytest.mark.parametrize("name", ["ets", "arima_fourier", "stl_ets", "components"])
def test_a_model_with_a_state_needs_what_came_since_its_fit(
    name: str, fits: dict[tuple[str, float], Fitted], later: Series
) -> None:
    series = resample(later, 600.0)
    with pytest.raises(CannotFit, match=f"{name} can't go back"):
        model_named(name).predict(fits[name, 600.0], clip(series, series.end_s - DAY_S), series.end_s, 144)
    with pytest.raises(CannotFit, match=f"{name} can't go back"):
        model_named(name).predict_many(fits[name, 600.0], series, np.array([DAYS * 144 - 1]), 144)
