"""One line through days of minutes: it learns from each forecast once, says who serves and why, and goes on after a
restart. Fits are of the cheap models; nothing is selected here."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from controller.advance import advance
from controller.core.forecast import calibrate
from controller.core.forecast.base import MINUTE_GRID, TEN_MINUTE_GRID, Fitted, model_named
from controller.core.forecast.events import Event
from controller.core.forecast.select import Score, select
from controller.core.forecast.signals import Outside, Signal
from controller.core.forecast.standing import coverage, live
from controller.core.series import DAY_S, HOUR_S, clip, resample
from controller.core.types import QUANTILES, FloatArray, Forecast, Series
from controller.fits import FitOutcome, Refit
from controller.lines import Change, Line, keep

START_S = 1_732_492_800.0
NOW_S = START_S + 6 * DAY_S
NAIVE = "seasonal_naive_24h"
NOTHING = Outside()


def demand(days: float = 12.0, level: Callable[[FloatArray], FloatArray] = np.ones_like) -> Series:
    """Busy by day, quiet by night, in minutes; `level` multiplies, by days since the start."""
    generator = np.random.default_rng(7)
    at_s = START_S + 60.0 * np.arange(int(days * 1440))
    rate = (10.0 + 8.0 * np.sin(at_s / DAY_S * 2 * np.pi)) * level((at_s - START_S) / DAY_S)
    return Series(START_S, 60.0, generator.gamma(rate * 2.0) / 2.0)


LOAD = demand()


def fit(name: str, series: Series, now_s: float, grid: tuple[float, int], signals: tuple[Signal, ...] = ()) -> Fitted:
    return model_named(name).fit(resample(clip(series, end_s=now_s), grid[0]), grid[1], signals)


def outcome(line: Line, fitted: Fitted, kind: Refit = Refit.SELECT, **more: Any) -> FitOutcome:
    scores = (Score(fitted.model, 1.0, 0.2, 0.9, 96, leads=True),)
    return FitOutcome(line.service, line.key, line.step_s, kind, fitted, scores, f"{fitted.model} leads", **more)


def started(
    leader: str = "profile",
    beside: tuple[str, ...] = (NAIVE,),
    series: Series = LOAD,
    now_s: float = NOW_S,
    grid: tuple[float, int] = TEN_MINUTE_GRID,
    spoilt: float = 1.0,
) -> Line:
    line = Line("images", "premium", *grid)
    fitted = fit(leader, series, now_s, grid)
    rivals = tuple(fit(name, series, now_s, grid) for name in beside)
    keep(line, outcome(line, replace(fitted, spread=spoilt * fitted.spread), beside=rivals, load=10.0), now_s)
    return line


def run(
    line: Line, series: Series, from_s: float, hours: float, outside: Outside = NOTHING, every_s: float = 600.0
) -> list[tuple[float, Change]]:
    """Ticks of ten minutes, the load as known at each; what changed when, in hours from from_s."""
    said = []
    for i in range(round(hours * HOUR_S / every_s) + 1):
        now_s = from_s + i * every_s
        _, changes = advance(line, clip(series, end_s=now_s), now_s, outside)
        said += [((now_s - from_s) / HOUR_S, change) for change in changes]
    return said


def shown(line: Line, series: Series, now_s: float, outside: Outside = NOTHING) -> Forecast:
    line.forecast = None
    forecast, _ = advance(line, clip(series, end_s=now_s), now_s, outside)
    return forecast


def known(line: Line) -> Any:
    assert line.parameters is not None
    return line.parameters


# --- calibration ---


@pytest.mark.parametrize("grid", [MINUTE_GRID, TEN_MINUTE_GRID])
def test_every_step_of_every_origin_teaches_once_and_as_known(
    grid: tuple[float, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outcomes that the calibration is given are those of the load, whatever the clock does."""
    taught: list[tuple[int, float]] = []
    real = calibrate.observe_many

    def spy(calibration: Any, steps: Any, raw: Any, actual: Any) -> Any:
        taught.extend(zip(steps.tolist(), actual.tolist(), strict=True))
        return real(calibration, steps, raw, actual)

    monkeypatch.setattr(calibrate, "observe_many", spy)
    series = demand()
    values = series.values.copy()
    values[6 * 1440 + 100 : 6 * 1440 + 160] = np.nan
    line = started(beside=(), grid=grid)
    steady = Series(series.start_s, 60.0, values)
    run(line, steady, NOW_S, 2)
    run(line, steady, NOW_S - HOUR_S, 2.5)  # the clock was set back
    run(line, steady, NOW_S + 2 * HOUR_S, 30)
    assert np.isfinite([actual for _, actual in taught]).all()
    coarse = set(np.round(resample(steady, grid[0]).values, 9).tolist())
    assert {round(actual, 9) for _, actual in taught} <= coarse
    # 32 h of origins, those of the last ones not over yet, and an hour missing; 600 s steps far ahead count sixfold.
    per_step = np.bincount([step for step, _ in taught], minlength=grid[1])
    assert (per_step[:6] <= 33 * (6 if grid[0] == 60.0 else 1)).all()
    assert per_step[0] >= 26 * (6 if grid[0] == 60.0 else 1)


def test_what_is_issued_is_calibrated_and_covers_while_demand_grows() -> None:
    """Demand that grows by 40 % a week, and a fit that is too low and never renewed: raw quantiles fall behind."""
    series = demand(14.0, lambda day: np.exp2(day * 0.485 / 7))
    line = started("seasonal_naive_24h", (), series, spoilt=0.9)
    run(line, series, NOW_S, 7 * 24)
    near, far = coverage(known(line).standing, NAIVE, NOW_S + 7 * DAY_S, 48)
    assert far.issued[1] > far.raw[1] + 0.05 and near.issued[1] > near.raw[1] + 0.05
    assert near.issued[1] > 0.85


def test_a_leader_that_stays_keeps_its_calibration_and_a_new_one_starts_from_its_backtest() -> None:
    line = started()
    run(line, LOAD, NOW_S, 30)
    learned = known(line).calibrations["profile"]
    assert (learned.weight > 0).all()
    at_s = NOW_S + 30 * HOUR_S
    again = fit("profile", LOAD, at_s, TEN_MINUTE_GRID)
    seed = calibrate.observe(calibrate.fresh(*TEN_MINUTE_GRID), 0, np.arange(1.0, 6.0), 9.0)
    naive = fit(NAIVE, LOAD, at_s, TEN_MINUTE_GRID)
    keep(line, outcome(line, again, calibration=seed, beside=(naive,)), at_s)
    assert known(line).calibrations["profile"] is learned and known(line).standing.hours
    keep(line, outcome(line, again, Refit.UPDATE), at_s)
    assert known(line).calibrations["profile"] is learned and known(line).beside == (naive,)
    keep(line, outcome(line, naive, calibration=seed, beside=(again,)), at_s)
    assert known(line).calibrations[NAIVE] is seed
    assert known(line).standing.leader == NAIVE and not known(line).standing.hours and not line.pending


def test_a_forecast_into_silence_teaches_nothing() -> None:
    line = started()
    cut = clip(LOAD, end_s=NOW_S)
    for i in range(1, 12):
        advance(line, cut, NOW_S + i * HOUR_S, NOTHING)
    assert line.pending == ()


# --- who serves ---


def test_a_leader_that_breaks_is_demoted_and_promoted_when_it_recovers() -> None:
    line = started(spoilt=0.2)
    said = run(line, LOAD, NOW_S, 8)
    told = [(hours, change) for hours, change in said if "demoted" in change.what]
    assert len(told) == 1 and told[0][0] <= 7
    assert "profile is demoted, seasonal_naive_24h serves: live pinball" in told[0][1].what
    assert told[0][1].numbers["loser_pinball"] > told[0][1].numbers["winner_pinball"]
    assert told[0][1].numbers["points"] >= 24 and told[0][1].numbers["window_h"] == 6.0
    now_s = NOW_S + 8 * HOUR_S
    forecast = shown(line, LOAD, now_s)
    assert forecast.model == NAIVE
    assert "profile is demoted" in forecast.reason.text
    keep(line, outcome(line, fit("profile", LOAD, now_s, TEN_MINUTE_GRID), Refit.UPDATE), now_s)
    said = run(line, LOAD, now_s, 60)  # what it issued before counts against it for a day
    assert ["promoted" in change.what for _, change in said if "serves" in change.what] == [True]
    assert shown(line, LOAD, now_s + 60 * HOUR_S).model == "profile"


def test_a_change_of_level_demotes_what_does_not_follow_it() -> None:
    """From one minute to the next demand triples. A day later yesterday knows, last week does not."""
    series = demand(12.0, lambda day: np.where(day < 9.0, 1.0, 3.0))
    line = started("seasonal_naive_168h", (NAIVE, "profile"), series, NOW_S + 3 * DAY_S - HOUR_S)
    said = run(line, series, NOW_S + 3 * DAY_S - HOUR_S, 35)
    changes = [(hours, change.what) for hours, change in said if "serves" in change.what]
    assert "seasonal_naive_168h is demoted" in changes[0][1]
    assert 25 <= changes[0][0] <= 25 + 7
    assert known(line).standing.serving != "seasonal_naive_168h"


def test_drift_asks_for_a_new_selection_after_half_a_day_and_once_a_day() -> None:
    line = started(beside=(), spoilt=0.2)
    said = run(line, LOAD, NOW_S, 20)
    told = [(hours, change.what) for hours, change in said if "drift" in change.what]
    assert len(told) == 1 and "the models are selected anew" in told[0][1]
    assert 12 <= told[0][0] <= 13, "not sooner than half a day after a selection"
    keep(line, outcome(line, known(line).fitted, Refit.DRIFT), NOW_S + 20 * HOUR_S)
    assert line.drift == ""
    said = run(line, LOAD, NOW_S + 20 * HOUR_S, 20)
    assert [16 <= hours <= 17 for hours, change in said if "drift" in change.what] == [True], "a day after the last one"


def test_a_busy_evening_is_no_drift() -> None:
    """Six busy hours err by more than the mean of the backtest's whole days, every day; that is their nature."""
    series = demand(12.0, lambda day: np.where(np.mod(day, 1.0) < 0.25, 3.0, 0.3))
    line = started("profile", (), series)
    assert line.parameters is not None
    coarse = resample(series, TEN_MINUTE_GRID[0])
    court = select(clip(coarse, end_s=NOW_S), TEN_MINUTE_GRID[1], names=("profile",))
    line.parameters = replace(line.parameters, scores=court.scores, load=float(coarse.values[: 6 * 144].mean()))
    said = run(line, series, NOW_S, 72)
    assert not [change.what for _, change in said if "drift" in change.what]


# --- what is known from outside ---


def bookings(until_s: float) -> Signal:
    """The load's level an hour later, as something else knows it; it ends at until_s."""
    hourly = resample(LOAD, HOUR_S)
    return Signal("bookings", clip(Series(START_S - HOUR_S, HOUR_S, hourly.values), end_s=until_s), False, 3 * HOUR_S)


def test_a_stale_signal_is_dropped_and_said_and_said_again_when_it_is_back() -> None:
    line = Line("images", "premium", *TEN_MINUTE_GRID)
    fitted = fit("profile", LOAD, NOW_S, TEN_MINUTE_GRID, (bookings(NOW_S),))
    assert fitted.uses
    keep(line, outcome(line, fitted, plain=fit("profile", LOAD, NOW_S, TEN_MINUTE_GRID)), NOW_S)
    fresh = Outside((bookings(START_S + 12 * DAY_S),))
    assert run(line, LOAD, NOW_S, 1, fresh) == []
    with_it = shown(line, LOAD, NOW_S + HOUR_S, fresh)
    stale = Outside((bookings(NOW_S),))
    said = [change for _, change in run(line, LOAD, NOW_S + HOUR_S, 8, stale) if "signal" in change.what]
    assert len(said) == 1 and "signal bookings is stale" in said[0].what
    assert "profile goes on without signals" in said[0].what
    assert shown(line, LOAD, NOW_S + 9 * HOUR_S, stale).model == "profile"
    said = [change for _, change in run(line, LOAD, NOW_S + 9.5 * HOUR_S, 1) if "signal" in change.what]
    assert said == [], "gone altogether is no news"
    said = [change for _, change in run(line, LOAD, NOW_S + 11 * HOUR_S, 1, fresh) if "signal" in change.what]
    assert [change.what for change in said] == [
        "images/premium at 600 s: signal bookings is back: profile uses it again"
    ]
    assert with_it.values.shape == (len(QUANTILES), 144)


def test_events_multiply_what_is_issued_and_teach_nothing() -> None:
    campaign = Event("sale", "campaign", NOW_S + 6 * HOUR_S, NOW_S + 12 * HOUR_S, 3.0)
    line, plain = started(), started()
    outside = Outside((), (campaign,))
    without, with_it = shown(plain, LOAD, NOW_S), shown(line, LOAD, NOW_S, outside)
    inside = slice(36, 72)
    np.testing.assert_allclose(with_it.values[:, inside], 3.0 * without.values[:, inside])
    np.testing.assert_array_equal(with_it.values[:, :36], without.values[:, :36])
    assert "event 'sale' (campaign, x3 as entered)" in with_it.reason.text
    lifted = LOAD.values.copy()
    first = round((campaign.start_s - START_S) / 60)
    lifted[first : first + 360] *= 3.0
    run(plain, LOAD, NOW_S, 24)
    run(line, Series(START_S, 60.0, lifted), NOW_S, 24, outside)
    now_s = NOW_S + DAY_S
    usual, after = live(known(plain).standing, "profile", now_s, 24), live(known(line).standing, "profile", now_s, 24)
    assert after.pinball == pytest.approx(usual.pinball, rel=1e-3)
    np.testing.assert_allclose(
        known(line).calibrations["profile"].shift, known(plain).calibrations["profile"].shift, atol=1e-6
    )


# --- robustness ---


def test_a_clock_far_ahead_that_is_set_right_learns_on() -> None:
    line = started()
    run(line, LOAD, NOW_S, 2)
    run(line, LOAD, NOW_S + 900 * DAY_S, 2)
    run(line, LOAD, NOW_S + 3 * HOUR_S, 6)
    assert line.issued_s == NOW_S + 9 * HOUR_S
    assert len(line.pending) == 7
    assert known(line).calibrations["profile"].weight[0] > 3


def test_memory_is_bounded() -> None:
    line = started(beside=(NAIVE, "naive", "autoreg_fourier"))
    run(line, LOAD, NOW_S, 4 * 24)
    size = sum(array.nbytes for each in line.pending for part in (each.raw, each.shown) for array in part.values())
    assert len(line.pending) <= 26 and size < 150_000
    assert len(known(line).standing.hours) <= 48


def test_a_failed_fit_leaves_all_as_it_was() -> None:
    line = started()
    before = known(line)
    failed = FitOutcome("images", "premium", 600.0, Refit.SELECT, None, (), "no model can be fitted")
    assert [change.what for change in keep(line, failed, NOW_S)] == ["images/premium at 600 s: no model can be fitted"]
    assert known(line) is before
    assert "no model can be fitted" in shown(line, LOAD, NOW_S).reason.text
