"""Signals: aligned to the load's steps, lagged, used while they are fresh, admitted where they earn it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.forecast.admission import LEAST_GAIN, admit
from controller.core.forecast.base import CannotFit, model_named
from controller.core.forecast.regressors import columns, unfit, use_of
from controller.core.forecast.select import select
from controller.core.forecast.signals import Signal, regular
from controller.core.series import DAY_S, HOUR_S, clip, resample
from controller.core.types import FloatArray, Series

MONDAY_S = 1_732_492_800.0  # 2024-11-25
DAYS = 21
LEAD_H = 6


def world(seed: int, step_s: float = HOUR_S, days: int = DAYS) -> tuple[Series, Series, np.random.Generator]:
    """A daily rhythm, moved by a hidden influence, and a series that shows the influence LEAD_H hours early."""
    generator = np.random.default_rng(seed)
    count, lead, hour = round(days * DAY_S / step_s), round(LEAD_H * HOUR_S / step_s), max(1, round(HOUR_S / step_s))
    raw = generator.normal(size=(count + lead) // hour + 8)
    hidden = np.repeat(np.convolve(raw, np.ones(3) / np.sqrt(3), "valid"), hour)[: count + lead]
    at_s = MONDAY_S + step_s * np.arange(count)
    usual = 20.0 + 15.0 * np.sin((at_s % DAY_S / HOUR_S - 9) / 24 * 2 * np.pi)
    load = usual * np.exp(0.3 * hidden[:count] + 0.1 * generator.normal(size=count))
    return Series(MONDAY_S, step_s, load), Series(MONDAY_S, step_s, hidden[lead:]), generator


def signal(series: Series, name: str = "sentiment", known_ahead: bool = False, stale_h: float = 3.0) -> Signal:
    return Signal(name, series, known_ahead, stale_h * HOUR_S)


def like(series: Series, values: FloatArray) -> Series:
    return Series(series.start_s, series.step_s, values)


class TestRegular:
    def test_points_in_any_order_become_steps(self):
        series = regular([7200.0, 0.0, 3600.0, 10800.0], [3.0, 1.0, 2.0, 4.0])
        assert series is not None
        assert (series.start_s, series.step_s) == (0.0, 3600.0)
        np.testing.assert_array_equal(series.values, [1, 2, 3, 4])

    def test_the_later_of_two_counts_and_a_hole_is_unknown(self):
        series = regular([0.0, 60.0, 60.0, 240.0, 300.0, 360.0], [1.0, 9.0, 2.0, 5.0, 6.0, 7.0])
        assert series is not None
        np.testing.assert_array_equal(series.values, [1, 2, np.nan, np.nan, 5, 6, 7])

    def test_a_sender_that_jitters_leaves_no_holes(self):
        at_s = 300.0 * np.arange(500) + np.random.default_rng(1).uniform(100, 110, 500)
        series = regular(at_s, np.ones(500))
        assert series is not None
        assert series.step_s == 300.0
        assert np.isfinite(series.values).all()

    @pytest.mark.parametrize("values", [[], [np.nan], [np.inf], [1e300]])
    def test_nothing_is_nothing(self, values: list[float]):
        assert regular([float(i) for i in range(len(values))], values) is None


class TestUse:
    def test_the_lag_is_found(self):
        load, early, _ = world(1)
        use = use_of(signal(early), load, 24)
        assert use.lag_s == LEAD_H * HOUR_S
        assert use.sign == 1.0

    def test_a_signal_that_lowers_the_load_is_turned_around(self):
        load, early, _ = world(1)
        assert use_of(signal(like(early, -early.values)), load, 24).sign == -1.0

    @pytest.mark.parametrize("step_s", [600.0, 1800.0, 3600.0, 7200.0])
    def test_its_own_step_may_be_another(self, step_s: float):
        load, early, _ = world(2, step_s=600.0)
        use = use_of(signal(resample(early, step_s)), resample(load, HOUR_S), 24)
        assert abs(use.lag_s - LEAD_H * HOUR_S) <= HOUR_S

    def test_what_comes_is_not_looked_at(self):
        load, early, generator = world(3)
        origins, ahead = np.array([300, 400]), np.arange(24)
        use = use_of(signal(early), clip(load, end_s=MONDAY_S + 300 * HOUR_S), 24)
        known = columns([use], [signal(early)], load, np.ones(2), origins, ahead)
        values = np.array(early.values)
        values[400:] = generator.normal(size=len(values) - 400) * 100
        other = columns([use], [signal(like(early, values))], load, np.ones(2), origins, ahead)
        np.testing.assert_allclose(known, other, rtol=1e-9)

    def test_a_plan_is_looked_at_ahead(self):
        load, early, _ = world(3)
        ahead = np.arange(24)
        use = use_of(signal(early, known_ahead=True), clip(load, end_s=load.end_s - DAY_S), 24)
        use = replace(use, lag_s=0.0, mean=0.0, scale=1.0, sign=1.0)
        found = columns([use], [signal(early, known_ahead=True)], load, np.ones(1), np.array([100]), ahead)
        np.testing.assert_allclose(found[0, :, 0], np.clip(early.values[100:124], -5, 5))

    @pytest.mark.parametrize(
        ("values", "why"),
        [
            (np.ones(DAYS * 24), "constant"),
            (np.full(DAYS * 24, np.nan), "has no value"),
            (np.r_[np.full(DAYS * 24 - 8, np.nan), np.ones(8)], "known at"),
            (np.r_[np.arange(DAYS * 24 - 9.0), np.full(9, np.nan)], "stale: last value 9 h old, allowed 3 h"),
        ],
    )
    def test_what_cannot_be_used_is_named(self, values: FloatArray, why: str):
        load, early, _ = world(1)
        with pytest.raises(CannotFit, match=f"signal sentiment .*{why}"):
            use_of(signal(like(early, values)), load, 24)

    def test_a_series_of_the_future_only_is_refused(self):
        load, _, _ = world(1)
        future = Series(load.end_s, HOUR_S, np.arange(48.0))
        with pytest.raises(CannotFit, match="has no value of the past"):
            use_of(signal(future), load, 24)
        with pytest.raises(CannotFit, match="known at"):
            use_of(signal(future, known_ahead=True), load, 24)

    def test_a_plan_must_reach_the_horizon(self):
        load, early, _ = world(1)
        assert "short of the horizon" in unfit(signal(early, known_ahead=True), load, 24)


class TestModel:
    def test_one_origin_and_many_say_the_same(self):
        load, early, _ = world(4)
        model, sent = model_named("profile"), signal(early)
        fitted = model.fit(clip(load, end_s=MONDAY_S + 18 * DAY_S), 24, [sent])
        assert [use.name for use in fitted.uses] == ["sentiment"]
        origins = np.array([18 * 24, 18 * 24 + 5, 20 * 24])
        many = model.predict_many(fitted, load, origins, 24, [sent])
        for i, origin in enumerate(origins):
            made_s = MONDAY_S + origin * HOUR_S
            one = model.predict(fitted, clip(load, end_s=made_s), made_s, 24, [sent])
            np.testing.assert_allclose(one, many[i], rtol=1e-6, atol=1e-9)

    def test_a_rule_keeps_its_median_where_the_signal_says_nothing(self):
        load, early, _ = world(4)
        model = model_named("seasonal_naive_24h")
        plain, moved = model.fit(load, 24), model.fit(load, 24, [signal(early)])
        np.testing.assert_allclose(plain.spread[:, 0, :2], moved.spread[:, 0, :2], atol=1e-9)

    def test_a_stale_or_missing_signal_is_not_carried_forward(self):
        load, early, _ = world(4)
        model, sent = model_named("profile"), signal(early)
        fitted = model.fit(load, 24, [sent])
        later_s = load.end_s + 5 * HOUR_S
        with pytest.raises(CannotFit, match="signal sentiment is stale: last value 5 h old, allowed 3 h"):
            model.predict(fitted, load, later_s, 24, [sent])
        with pytest.raises(CannotFit, match="signal sentiment is missing"):
            model.predict(fitted, load, load.end_s, 24)
        assert np.isfinite(model.predict(fitted, load, load.end_s + 2 * HOUR_S, 24, [sent])).all()

    def test_many_origins_know_where_it_was_stale(self):
        load, early, _ = world(4)
        model = model_named("profile")
        values = np.array(early.values)
        values[19 * 24 : 20 * 24] = np.nan
        sent = signal(like(early, values))
        fitted = model.fit(clip(load, end_s=MONDAY_S + 18 * DAY_S), 24, [sent])
        many = model.predict_many(fitted, load, np.array([18 * 24 + 12, 19 * 24 + 12]), 24, [sent])
        assert np.isfinite(many[0]).all()
        assert np.isnan(many[1]).any()

    def test_an_absurd_spike_moves_a_forecast_no_further_than_what_was_learned_from(self):
        load, early, _ = world(5)
        model, sent = model_named("profile"), signal(early)
        fitted = model.fit(load, 24, [sent])
        values = np.array(early.values)
        values[-3:] = 1e9
        found = model.predict(fitted, load, load.end_s, 24, [signal(like(early, values))])
        assert found.max() < 4 * load.values.max()


class TestAdmission:
    def judged(self, load: Series, *signals: Signal, model: str = "profile") -> dict[str, tuple[bool, float]]:
        found = admit(load, 24, model, signals, hold_out_s=2 * DAY_S)
        assert [each.name for each in found] == [each.name for each in signals]
        return {each.name: (each.admitted, each.gain) for each in found}

    def test_a_leading_indicator_is_admitted_and_noise_beside_it_is_not(self):
        load, early, generator = world(1)
        noise = like(early, generator.normal(size=len(early.values)))
        verdict = self.judged(load, signal(noise, "noise"), signal(early))
        assert verdict["sentiment"][0]
        assert verdict["sentiment"][1] >= LEAST_GAIN
        assert not verdict["noise"][0]

    def test_the_same_signal_twice_adds_nothing_the_second_time(self):
        load, early, _ = world(1)
        verdict = self.judged(load, signal(early), signal(early, "copy"))
        assert sum(admitted for admitted, _ in verdict.values()) == 1

    def test_noise_is_admitted_rarely(self):
        """Of 40 worlds with white noise and a random walk each: at most two admissions (measured: none in 240)."""
        admitted = 0
        for seed in range(40):
            load, early, generator = world(seed)
            noise = generator.normal(size=len(early.values))
            for name, values in (("noise", noise), ("walk", np.cumsum(noise))):
                admitted += self.judged(load, signal(like(early, values), name))[name][0]
        assert admitted <= 2

    def test_a_leading_indicator_is_admitted_nearly_always(self):
        seeds = range(20)
        assert sum(self.judged(*(lambda w: (w[0], signal(w[1])))(world(seed)))["sentiment"][0] for seed in seeds) >= 18

    @pytest.mark.parametrize("days", [12, 14])
    def test_a_short_history_refuses_no_leading_indicator_for_finding_itself(self, days: int):
        """Rolled nearly all the way round it is the same signal, two days or less earlier."""
        seeds = range(5)
        worlds = [world(seed, days=days) for seed in seeds]
        assert sum(self.judged(load, signal(early))["sentiment"][0] for load, early, _ in worlds) >= 4

    @settings(max_examples=30, deadline=None)
    @given(
        st.sampled_from(["constant", "unknown", "short", "future", "empty", "wild", "holes", "minute", "weekly"]),
        st.booleans(),
        st.sampled_from(["profile", "naive", "seasonal_naive_168h"]),
    )
    def test_odd_signals_are_refused_and_nothing_is_raised(self, kind: str, known_ahead: bool, model: str):
        load, early, generator = world(6, days=12)
        count = len(early.values)
        series = {
            "constant": like(early, np.full(count, 3.0)),
            "unknown": like(early, np.full(count, np.nan)),
            "short": clip(early, load.end_s - 5 * HOUR_S),
            "future": Series(load.end_s + DAY_S, HOUR_S, np.arange(48.0)),
            "empty": Series(MONDAY_S, HOUR_S, np.empty(0)),
            "wild": like(early, np.where(generator.random(count) < 0.1, 1e14, np.inf)),
            "holes": like(early, np.where(generator.random(count) < 0.9, np.nan, early.values)),
            "minute": Series(MONDAY_S, 60.0, np.full(count * 60, 1.0)),
            "weekly": Series(MONDAY_S, 7 * DAY_S, np.array([1.0, 2.0])),
        }[kind]
        verdict = self.judged(load, signal(series, kind, known_ahead), model=model)
        assert not verdict[kind][0]

    def test_too_little_history_admits_nothing(self):
        load, early, _ = world(1, days=2)
        (found,) = admit(load, 24, "profile", [signal(early)], hold_out_s=2 * DAY_S)
        assert not found.admitted
        assert "too little history" in found.note
        assert admit(load, 24, "profile", [], hold_out_s=2 * DAY_S) == ()

    def test_a_signal_that_is_stale_now_is_not_admitted(self):
        load, early, _ = world(1)
        (found,) = admit(load, 24, "profile", [signal(clip(early, end_s=load.end_s - DAY_S))], hold_out_s=2 * DAY_S)
        assert not found.admitted
        assert "stale" in found.note


class TestServing:
    def test_when_the_signal_goes_stale_the_plain_fit_serves(self):
        load, early, _ = world(1)
        sent = signal(early)
        chosen = select(load, 24, names=["profile", "seasonal_naive_24h"], signals=[sent])
        assert chosen.fitted is not None and chosen.plain is not None
        assert [use.name for use in chosen.fitted.uses] == ["sentiment"]
        assert chosen.plain.uses == ()
        assert [each.admitted for each in chosen.admissions] == [True]
        model, later_s = model_named(chosen.fitted.model), load.end_s + 5 * HOUR_S
        with pytest.raises(CannotFit, match="signal sentiment is stale"):
            model.predict(chosen.fitted, load, later_s, 24, [sent])
        assert np.isfinite(model.predict(chosen.plain, load, later_s, 24)).all()

    def test_noise_leaves_the_selection_as_it_was(self):
        load, early, generator = world(2)
        noise = signal(like(early, generator.normal(size=len(early.values))), "noise")
        names = ["profile", "seasonal_naive_24h"]
        without, with_it = select(load, 24, names=names), select(load, 24, names=names, signals=[noise])
        assert with_it.fitted is not None and without.fitted is not None
        assert with_it.fitted.uses == () and with_it.plain is None
        np.testing.assert_array_equal(with_it.fitted.spread, without.fitted.spread)
        assert [each.admitted for each in with_it.admissions] == [False]
