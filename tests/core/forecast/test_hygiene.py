"""What real telemetry does to a series: every model forecasts on sanely, or declines with the reason.

No other error and no warning (warnings are errors here). Cheap models are tried on their finest grid, expensive ones by
the hour.
"""

from collections.abc import Callable

import numpy as np
import pytest

from controller.core.cleaning import cleaned
from controller.core.forecast.backtest import evaluate, targets_of
from controller.core.forecast.base import GRIDS, CannotFit, model_named, names_for
from controller.core.forecast.naive import persistence
from controller.core.series import DAY_S, HOUR_S, clip, load_series, resample
from controller.core.types import QUANTILES, FloatArray, Sample, Series
from tests.core.forecast.demands import MINUTES, MONDAY_S, busy

DAYS = 16
NAN = float("nan")


def _grid_of(name: str) -> tuple[str, float, int]:
    grids = [(step_s, steps) for step_s, steps in GRIDS if name in names_for(step_s)]
    return (name, *(grids[-1] if model_named(name).expensive else grids[0]))


MODELS = [_grid_of(name) for name in sorted({name for step_s, _ in GRIDS for name in names_for(step_s)})]


@pytest.fixture(scope="module")
def history() -> Series:
    return busy(DAYS)


def put(values: FloatArray, where: slice | int, what: float) -> FloatArray:
    out = values.copy()
    out[where] = what
    return out


NOON = 12 * MINUTES + 720
DIRT: dict[str, Callable[[FloatArray], FloatArray]] = {
    "a gap of a minute": lambda v: put(v, NOON, NAN),
    "a gap of a day": lambda v: put(v, slice(5 * MINUTES, 6 * MINUTES), NAN),
    "a gap at the start": lambda v: put(v, slice(0, 2000), NAN),
    "a gap at the end": lambda v: put(v, slice(-90, None), NAN),
    "every other minute": lambda v: put(v, slice(0, None, 2), NAN),
    "an outage": lambda v: put(v, slice(NOON, NOON + 120), 0.0),
    "an outage now": lambda v: put(v, slice(-60, None), 0.0),
    "silent since yesterday": lambda v: put(v, slice(-MINUTES, None), 0.0),
    "negative": lambda v: put(v, slice(NOON, NOON + 90), -7.0),
    "infinite": lambda v: put(v, slice(NOON, NOON + 90), float("inf")),
    "infinitely negative now": lambda v: put(v, slice(-5, None), float("-inf")),
    "a billion": lambda v: put(v, NOON, 1e9),
    "a billion now": lambda v: put(v, -1, 1e9),
    "the largest number": lambda v: put(v, NOON, float(np.finfo(np.float64).max)),
    "fortyfold for good": lambda v: np.concatenate([v[: 10 * MINUTES], 40 * v[10 * MINUTES :]]),
    "constant": lambda v: np.full_like(v, 4.0),
    "zero": np.zeros_like,
    "one job ever": lambda v: put(np.zeros_like(v), NOON, 3.0),
    "one sample": lambda v: put(np.full_like(v, NAN), NOON, 3.0),
    "all unknown": lambda v: np.full_like(v, NAN),
    "all infinite": lambda v: np.full_like(v, float("inf")),
    "a day": lambda v: v[:MINUTES],
    "a minute": lambda v: v[:1],
    "nothing": lambda v: v[:0],
    "summer time": lambda v: np.concatenate([v[: 12 * MINUTES], v[12 * MINUTES + 60 :], v[:60]]),
}


def sane(found: FloatArray, steps: int) -> None:
    assert found.shape == (len(QUANTILES), steps)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert (np.diff(found, axis=0) >= 0).all()


@pytest.mark.parametrize("dirt", DIRT)
@pytest.mark.parametrize(("name", "step_s", "steps"), MODELS)
def test_a_model_forecasts_sanely_or_declines(name: str, step_s: float, steps: int, dirt: str, history: Series) -> None:
    raw = Series(history.start_s, 60.0, DIRT[dirt](history.values))
    model, series = model_named(name), resample(cleaned(raw), step_s)
    try:
        fitted = model.fit(series, steps)
        now = model.predict(fitted, series, series.end_s, steps)
        later = model.predict(fitted, series, series.end_s + 2 * step_s, steps)
        many = model.predict_many(fitted, series, np.array([len(series.values)]), steps)
    except CannotFit as error:
        assert len(str(error)) > 10
        return
    for found in (now, later, many[0]):
        sane(found, steps)
    assert now[0].max() < 6 * max(float(np.nanmax(series.values)), 1.0)


@pytest.mark.parametrize(("name", "step_s", "steps"), MODELS)
def test_dirt_that_the_caller_left_in_is_survived(name: str, step_s: float, steps: int, history: Series) -> None:
    """Resampled without cleaning: an hour then has the billion, or the minus seven, of its minutes."""
    model = model_named(name)
    for dirt in ("negative", "a billion", "a billion now", "an outage now"):
        values = resample(history, step_s).values
        at = {"a billion now": -1, "an outage now": -1}.get(dirt, 12 * round(DAY_S / step_s) + 3)
        bad = {"negative": -7.0, "an outage now": 0.0}.get(dirt, 1e9)
        series = Series(history.start_s, step_s, put(values, at, bad))
        try:
            found = model.predict(model.fit(series, steps), series, series.end_s, steps)
        except CannotFit as error:
            assert len(str(error)) > 10
            continue
        sane(found, steps)
        assert found[0].max() < 12 * history.values.max()


@pytest.mark.parametrize(("name", "step_s", "steps"), MODELS)
def test_one_absurd_spike_changes_later_forecasts_little(name: str, step_s: float, steps: int, history: Series) -> None:
    model = model_named(name)
    clean = resample(history, step_s)
    dirty = resample(cleaned(Series(history.start_s, 60.0, put(history.values, NOON, 1e9))), step_s)
    usual = model.predict(model.fit(clean, steps), clean, clean.end_s, steps)
    found = model.predict(model.fit(dirty, steps), dirty, dirty.end_s, steps)
    assert np.abs(found[0] - usual[0]).mean() < 0.15 * usual[0].mean()
    assert found[-1].max() < 1.6 * usual[-1].max()


@pytest.mark.parametrize(("name", "step_s", "steps"), MODELS)
def test_a_spike_after_the_fit_is_bounded_by_what_the_fit_believed(
    name: str, step_s: float, steps: int, history: Series
) -> None:
    model, known = model_named(name), clip(history, end_s=history.end_s - DAY_S)
    fitted = model.fit(resample(known, step_s), steps)
    values = resample(history, step_s).values
    for bad in (1e9, float("inf"), -3.0):
        series = Series(history.start_s, step_s, put(values, -2, bad))
        found = model.predict(fitted, series, series.end_s, steps)
        sane(found, steps)
        assert found[0].max() < 12 * history.values.max()


@pytest.mark.parametrize(("name", "step_s", "steps"), MODELS)
def test_clock_jumps_and_moved_starts_break_nothing(name: str, step_s: float, steps: int, history: Series) -> None:
    """A forecast asked for in the past, one far in the future, and a history whose start was cut or is off the grid."""
    model, series = model_named(name), resample(history, step_s)
    fitted = model.fit(series, steps)
    for made_s in (series.start_s - DAY_S, series.start_s + 1.0, series.end_s - 5 * DAY_S, series.end_s + 3 * DAY_S):
        try:
            sane(model.predict(fitted, series, made_s, steps), steps)
        except CannotFit as error:
            assert len(str(error)) > 10
    aside = Series(series.start_s + 37.0, step_s, series.values)
    sane(model.predict(model.fit(aside, steps), aside, aside.end_s, steps), steps)
    cut = clip(series, series.start_s + 31 * HOUR_S)
    try:
        moved = model.fit(cut, steps)
    except CannotFit as error:
        assert "needs" in str(error)
        return
    sane(model.predict(moved, cut, cut.end_s, steps), steps)


@pytest.mark.parametrize(("name", "step_s", "steps"), MODELS)
def test_after_the_clocks_change_coverage_is_measured_and_comes_back(name: str, step_s: float, steps: int) -> None:
    """A local rhythm moves by an hour in UTC on the twelfth day; two days later a fresh fit covers the third day."""
    late = busy(DAYS, shift_s=HOUR_S)
    values = np.concatenate([busy(DAYS).values[: 11 * MINUTES], late.values[11 * MINUTES :]])
    series = resample(Series(MONDAY_S, 60.0, values), step_s)
    known = clip(series, end_s=MONDAY_S + 15 * DAY_S)
    model = model_named(name)
    try:
        fitted = model.fit(known, steps)
    except CannotFit as error:
        assert "needed" in str(error) or "needs" in str(error)
        return
    first = len(known.values)
    origins = np.arange(first, len(series.values) - 1, max(1, round(HOUR_S / step_s)))
    score = evaluate(model.predict_many(fitted, series, origins, steps), targets_of(series, origins, steps))
    assert score.points > 0
    assert score.coverage_of(0.95) > 0.6 and score.wape < 0.3


@pytest.mark.parametrize("dirt", DIRT)
def test_persistence_needs_no_model(dirt: str, history: Series) -> None:
    series = Series(history.start_s, 60.0, DIRT[dirt](history.values))
    found, why = persistence(series, 60)
    assert why
    if np.isfinite(cleaned(series).values).any():
        sane(found, 60)
        assert found.max() < 12 * max(40 * history.values.max(), 1.0)
    else:
        assert np.isnan(found).all() and "unknown" in why


def test_samples_twice_out_of_order_and_from_a_wrong_clock_make_the_same_series() -> None:
    samples = [Sample("images", "premium", MONDAY_S + 60.0 * i, 1, 60.0 + i, 0, None, None, None) for i in range(600)]
    wrong = [Sample("images", "premium", at_s, 1, 9e9, 0, None, None, None) for at_s in (0.0, MONDAY_S + 1e9, -1e12)]
    shuffled = [samples[i] for i in np.random.default_rng(1).permutation(600)]
    window = (MONDAY_S, MONDAY_S + 36_000.0)
    straight = load_series(samples, *window)["premium"]
    for mixed in (shuffled + samples, wrong + shuffled):
        np.testing.assert_array_equal(load_series(mixed, *window)["premium"].values, straight.values)
    by_ten = load_series(shuffled, *window, step_s=600.0)["premium"]
    np.testing.assert_allclose(by_ten.values, straight.values.reshape(-1, 10).mean(axis=1))
