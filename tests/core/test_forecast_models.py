"""Every model keeps the same laws, on days like this demand's: a daily rhythm, growth, quiet nights, bursts."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.forecast.base import GRIDS, CannotFit, Fitted, model_named, names_for
from controller.core.forecast.naive import persistence
from controller.core.forecast.paths import usable
from controller.core.forecast.seasonal import expected_profile
from controller.core.forecast.spread import knots, regress_quantiles
from controller.core.forecast.statistical import AUTOREG_FOURIER, ETS, calendar
from controller.core.series import DAY_S, clip, resample
from controller.core.types import QUANTILES, Series

MONDAY_S = 1_732_492_800.0  # 2024-11-25
ALL = [(name, step_s, steps) for step_s, steps in GRIDS for name in names_for(step_s)]
DAYS = 16


def demand(days: int, seed: int = 1) -> Series:
    """Evening peaks, silent nights, weekends at half, Poisson-like noise."""
    generator = np.random.default_rng(seed)
    at_s = MONDAY_S + 60.0 * np.arange(days * 1440)
    hour = (at_s % DAY_S) / 3600
    rate = np.clip(12 * np.sin((hour - 9) / 24 * 2 * np.pi), 0, None)
    rate = np.where((at_s - MONDAY_S) // DAY_S % 7 >= 5, rate / 2, rate)
    return Series(MONDAY_S, 60.0, generator.poisson(rate * 2.3) / 2.3)


@pytest.fixture(scope="module")
def history() -> Series:
    return demand(DAYS)


@pytest.fixture(scope="module")
def fits(history: Series) -> dict[tuple[str, float], Fitted]:
    return {(name, step_s): model_named(name).fit(resample(history, step_s), steps) for name, step_s, steps in ALL}


@pytest.mark.parametrize(("name", "step_s", "steps"), ALL)
def test_quantiles_do_not_cross_and_are_not_negative(
    name: str, step_s: float, steps: int, history: Series, fits: dict[tuple[str, float], Fitted]
) -> None:
    found = model_named(name).predict(fits[name, step_s], resample(history, step_s), history.end_s, steps)
    assert found.shape == (len(QUANTILES), steps)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert (np.diff(found, axis=0) >= 0).all()
    assert found.max() < 3 * history.values.max()


@pytest.mark.parametrize(("name", "step_s", "steps"), ALL)
def test_one_origin_and_many_say_the_same(
    name: str, step_s: float, steps: int, history: Series, fits: dict[tuple[str, float], Fitted]
) -> None:
    model, series = model_named(name), resample(demand(DAYS + 1), step_s)
    first = round(DAYS * DAY_S / step_s)
    origins = np.array([first, first + 7, first + 60])
    many = model.predict_many(fits[name, step_s], series, origins, steps)
    for i, origin in enumerate(origins):
        made_s = series.start_s + origin * step_s
        one = model.predict(fits[name, step_s], clip(series, end_s=made_s), made_s, steps)
        np.testing.assert_allclose(one, many[i], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("name", "step_s", "steps"), ALL)
def test_the_future_is_not_looked_at(
    name: str, step_s: float, steps: int, history: Series, fits: dict[tuple[str, float], Fitted]
) -> None:
    series = resample(demand(DAYS + 1), step_s)
    made_s = MONDAY_S + DAYS * DAY_S + 6 * 3600
    model = model_named(name)
    known = model.predict(fits[name, step_s], clip(series, end_s=made_s), made_s, steps)
    np.testing.assert_array_equal(known, model.predict(fits[name, step_s], series, made_s, steps))


@pytest.mark.parametrize(("name", "step_s", "steps"), ALL)
def test_fits_are_plain_small_and_the_same_twice(
    name: str, step_s: float, steps: int, history: Series, fits: dict[tuple[str, float], Fitted]
) -> None:
    fitted = fits[name, step_s]
    again = model_named(name).fit(resample(history, step_s), steps)
    np.testing.assert_array_equal(fitted.spread, again.spread)
    assert len(pickle.dumps(fitted)) < 150_000
    assert all(isinstance(part, np.ndarray) for part in fitted.arrays.values())


@pytest.mark.parametrize(("name", "step_s", "steps"), ALL)
def test_a_day_never_seen_is_covered(
    name: str, step_s: float, steps: int, fits: dict[tuple[str, float], Fitted]
) -> None:
    """Coverage of 0.9 on the day after the fit, a weekday after weekdays, within what a day can show."""
    series = resample(demand(DAYS + 2), step_s)
    first = round(DAYS * DAY_S / step_s)
    origins = np.arange(first, first + round(DAY_S / step_s), max(1, round(1800 / step_s)))
    found = model_named(name).predict_many(fits[name, step_s], series, origins, steps)
    index = origins[:, None] + np.arange(steps)[None, :]
    covered = (series.values[index] <= found[:, QUANTILES.index(0.9), :]).mean()
    assert covered > 0.8


@pytest.mark.parametrize("name", [name for name, step_s, _ in ALL if step_s == 60])
@pytest.mark.parametrize(
    "values",
    [[], [3.0], [np.nan] * 3000, [5.0] * 60, [np.nan, 2.0, np.nan]],
    ids=["nothing", "one sample", "no sample known", "an hour", "two gaps"],
)
def test_what_cannot_be_learned_from_is_declined_with_a_reason(name: str, values: list[float]) -> None:
    with pytest.raises(CannotFit, match=r"\d"):
        model_named(name).fit(Series(MONDAY_S, 60.0, np.array(values, dtype=np.float64)), 60)


@pytest.mark.parametrize(("name", "step_s", "steps"), ALL)
def test_a_constant_stays_the_constant_or_is_declined(name: str, step_s: float, steps: int) -> None:
    constant = Series(MONDAY_S, step_s, np.full(round(16 * DAY_S / step_s), 4.0))
    model = model_named(name)
    try:
        fitted = model.fit(constant, steps)
    except CannotFit as error:
        assert "constant" in str(error)
        return
    np.testing.assert_allclose(model.predict(fitted, constant, constant.end_s, steps), 4.0, rtol=0.02)


@pytest.mark.parametrize(("name", "step_s", "steps"), ALL)
def test_gaps_and_zeros_are_lived_with(name: str, step_s: float, steps: int, history: Series) -> None:
    values = history.values.copy()
    values[3000:3700] = np.nan
    values[9000:9020] = np.nan
    values[-15:] = np.nan
    series = resample(Series(history.start_s, 60.0, values), step_s)
    model = model_named(name)
    fitted = model.fit(series, steps)
    assert np.isfinite(model.predict(fitted, series, history.end_s + 600, steps)).all()


def test_a_model_without_enough_of_the_past_says_so(fits: dict[tuple[str, float], Fitted], history: Series) -> None:
    with pytest.raises(CannotFit, match="looks 24 h back"):
        model_named("profile").predict(fits["profile", 60.0], clip(history, history.end_s - 3600), history.end_s, 60)


def test_seasonal_naive_has_yesterday_for_its_median(fits: dict[tuple[str, float], Fitted], history: Series) -> None:
    found = model_named("seasonal_naive_24h").predict(fits["seasonal_naive_24h", 60.0], history, history.end_s, 60)
    yesterday = history.values[-1440:-1380]
    np.testing.assert_allclose(found[0], np.minimum(yesterday, found[1]))


def test_the_band_is_wider_where_the_load_is_higher(fits: dict[tuple[str, float], Fitted], history: Series) -> None:
    found = model_named("profile").predict(fits["profile", 600.0], resample(history, 600.0), history.end_s, 144)
    width = found[4] - found[0]
    assert width[found[0].argmax()] > 3 * width[found[0] < 0.1].mean()


def test_a_burst_now_raises_the_next_minutes_more_than_the_next_hour(
    fits: dict[tuple[str, float], Fitted], history: Series
) -> None:
    at_noon = clip(history, end_s=history.end_s - 12 * 3600)
    values = at_noon.values.copy()
    values[-5:] += 20.0
    model, fitted = model_named("profile"), fits["profile", 60.0]
    calm = model.predict(fitted, at_noon, at_noon.end_s, 60)
    burst = model.predict(fitted, Series(at_noon.start_s, 60.0, values), at_noon.end_s, 60)
    assert (burst >= calm - 1e-9).all()
    assert burst[0, 0] - calm[0, 0] > burst[0, 59] - calm[0, 59]


def test_a_profile_knows_weekends_and_only_days_before() -> None:
    series = demand(14)
    expected = expected_profile(series).reshape(-1, 1440)
    assert np.isnan(expected[0]).all()
    saturday, friday = expected[12], expected[11]  # of the second week
    assert np.nansum(saturday) < 0.85 * np.nansum(friday)
    changed = series.values.copy()
    changed[10 * 1440 :] = 99.0
    other = expected_profile(Series(series.start_s, 60.0, changed)).reshape(-1, 1440)
    np.testing.assert_array_equal(expected[:10], other[:10])


def test_our_exponential_smoothing_is_statsmodels(history: Series) -> None:
    """Only the parameters are kept; the recursion is ours, and must forecast what the library would."""
    import warnings

    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    series = clip(resample(history, 600.0), end_s=MONDAY_S + 5 * DAY_S)
    arrays, numbers = ETS.learn(series, 144)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ETSModel(
            series.values,
            error="add",
            trend="add",
            damped_trend=True,
            seasonal="add",
            seasonal_periods=144,
            initialization_method="heuristic",
        )
        theirs = np.asarray(model.fit(disp=False, maxiter=60).forecast(144))
    fitted = Fitted("ets", 600.0, 144, series.end_s, np.empty((0, 0, 0)), arrays, numbers)
    origins = np.array([len(series.values)])
    ours = ETS.features(fitted, series, origins, np.arange(144))[0, :, 1]
    np.testing.assert_allclose(ours, np.maximum(theirs, 0.0), rtol=1e-6, atol=1e-6)


def test_our_autoregression_is_statsmodels(history: Series) -> None:
    from statsmodels.tsa.ar_model import AutoReg

    series = resample(history, 600.0)
    arrays, numbers = AUTOREG_FOURIER.learn(series, 144)
    outside = calendar(series.start_s, 600.0, len(series.values))
    theirs = AutoReg(series.values, lags=[1, 2, 3, 6, 12, 144], trend="c", exog=outside).fit().params
    ours = np.concatenate([[numbers["constant"]], arrays["lag"], arrays["seasonal"]])
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_launch_days_are_left_out_once_and_for_all() -> None:
    values = np.concatenate([np.full(3 * 1440, 0.01), np.full(6 * 1440, 5.0)])
    known = usable(Series(MONDAY_S, 60.0, values))
    assert known.start_s == MONDAY_S + 3 * DAY_S
    assert usable(known).start_s == known.start_s
    values[-700] = 1e9
    assert usable(Series(MONDAY_S, 60.0, values)).start_s == known.start_s


def test_regression_finds_the_quantiles_of_noise_that_grows_with_level() -> None:
    generator = np.random.default_rng(5)
    level = generator.uniform(0, 10, 20_000)
    targets = level * generator.exponential(1.0, 20_000)
    features = np.stack([np.ones_like(level), level], axis=1)[None]
    found = regress_quantiles(features, targets[None], np.ones((1, 20_000)))[0]
    np.testing.assert_allclose(found[:, 1], -np.log1p(-np.array(QUANTILES)), rtol=0.1)
    covered = (targets[None, :] <= found @ features[0].T).mean(axis=1)
    np.testing.assert_allclose(covered, QUANTILES, atol=0.01)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_regression_scales_with_its_units_and_keeps_slopes_positive(seed: int, unit: float) -> None:
    generator = np.random.default_rng(seed)
    x = generator.exponential(1.0, (1, 200, 2))
    features = np.concatenate([np.ones((1, 200, 1)), x], axis=2)
    targets = np.maximum(3 - x[..., 0] + generator.normal(size=(1, 200)), 0)
    weights = np.ones((1, 200))
    found = regress_quantiles(features, targets, weights)
    assert (found[..., 1:] >= 0).all()
    scaled = features.copy()
    scaled[..., 1:] *= unit
    other = regress_quantiles(scaled, targets * unit, weights)
    np.testing.assert_allclose(other[..., 0], found[..., 0] * unit, rtol=1e-3, atol=1e-3 * unit)
    np.testing.assert_allclose(other[..., 1:], found[..., 1:], rtol=1e-3, atol=1e-3)


def test_knots_are_dense_at_first_and_reach_the_end() -> None:
    at = knots(144)
    assert at[0] == 0 and at[-1] == 143
    assert (np.diff(at) > 0).all() and np.diff(at)[0] < np.diff(at)[-1]
    np.testing.assert_array_equal(knots(5), range(5))


def test_persistence_needs_no_fit() -> None:
    values, why = persistence(Series(0, 60.0, np.array([np.nan, 3.0])), 4)
    np.testing.assert_array_equal(values, np.full((5, 4), 3.0))
    assert "level 3.00" in why
    values, why = persistence(Series(0, 60.0, np.array([np.nan])), 4)
    assert np.isnan(values).all() and "unknown" in why
