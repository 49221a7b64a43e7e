"""Selection: who leads and by how much, who is kept out and why, and what a leader brings with it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from controller.core.forecast import combine
from controller.core.forecast.base import CannotFit, Fitted, IntArray, model_named, names_for
from controller.core.forecast.calibrate import coverage
from controller.core.forecast.events import Event
from controller.core.forecast.select import (
    FAVOUR,
    FAVOUR_AFTER_A_WEEK,
    MARGIN,
    WITHOUT_EVIDENCE,
    Score,
    hold_out_s,
    ranked,
    refit,
    select,
    updated,
)
from controller.core.forecast.signals import Signal
from controller.core.series import DAY_S, HOUR_S, WEEK_S, clip, resample
from controller.core.types import FloatArray, Series
from tests.core.forecast.demands import MONDAY_S, busy, uneven

STEPS = 24
CHEAP = ("naive", "seasonal_naive_24h", "profile", "autoreg_fourier")
A_LITTLE = 0.001


def score(model: str, pinball: float | None) -> Score:
    return Score(model, pinball, None, None, 0 if pinball is None else 48)


@pytest.fixture(scope="module")
def history() -> Series:
    return resample(uneven(9), HOUR_S)


class TestRanked:
    def test_the_least_loss_leads(self):
        found = ranked([score("ets", 2.0), score("profile", 1.0), score("naive", 3.0)], None, 2 * DAY_S)
        assert found == ["profile", "ets", "naive"]

    @pytest.mark.parametrize("kept_s", [DAY_S, WEEK_S])
    def test_a_leader_is_not_displaced_by_a_toss_of_a_coin(self, kept_s: float):
        for better, leader in ((MARGIN - A_LITTLE, "ets"), (MARGIN + A_LITTLE, "profile")):
            scores = [score("ets", 1.0), score("profile", 1.0 - better)]
            assert ranked(scores, "ets", kept_s)[0] == leader
            assert ranked(scores, None, kept_s)[0] == "profile"

    @pytest.mark.parametrize(("kept_s", "favour"), [(2 * DAY_S, FAVOUR), (WEEK_S, FAVOUR_AFTER_A_WEEK)])
    def test_a_single_model_must_be_clearly_better_than_the_combination(self, kept_s: float, favour: float):
        for better, leader in ((favour - A_LITTLE, combine.NAME), (favour + A_LITTLE, "ets")):
            assert ranked([score("ets", 1.0 - better), score(combine.NAME, 1.0)], None, kept_s)[0] == leader

    def test_less_is_asked_once_a_week_was_held_out(self):
        better = (FAVOUR + FAVOUR_AFTER_A_WEEK) / 2
        scores = [score("ets", 1.0 - better), score(combine.NAME, 1.0)]
        assert ranked(scores, None, 2 * DAY_S)[0] == combine.NAME
        assert ranked(scores, None, WEEK_S)[0] == "ets"

    def test_a_combination_that_leads_has_both_on_its_side(self):
        better = FAVOUR + MARGIN / 2
        scores = [score("ets", 1.0 - better), score(combine.NAME, 1.0)]
        assert ranked(scores, combine.NAME, DAY_S)[0] == combine.NAME
        assert ranked(scores, "ets", DAY_S)[0] == "ets"

    def test_who_was_not_measured_does_not_lead_and_a_fallback_comes_last(self):
        scores = [score("ets", None), score(combine.NAME, None), score("naive", 2.0), score("components", 1.0)]
        assert ranked(scores, "ets", DAY_S) == ["components", "naive", "profile"]
        assert ranked([], None, 0.0) == list(WITHOUT_EVIDENCE)


class Broken:
    """A model whose library falls over."""

    name = "broken"
    description = "always fails"
    expensive = False

    def __init__(self, when: str) -> None:
        self.when = when

    def fit(self, history: Series, steps: int, signals: Sequence[Signal] = ()) -> Fitted:
        if self.when == "fit":
            raise ZeroDivisionError("nothing to divide by")
        if self.when == "decline":
            raise CannotFit("it is Monday")
        return replace(model_named("naive").fit(history, steps), model=self.name)

    def predict(
        self, fitted: Fitted, recent: Series, made_s: float, steps: int, signals: Sequence[Signal] = ()
    ) -> FloatArray:
        raise np.linalg.LinAlgError("singular")

    def predict_many(
        self, fitted: Fitted, history: Series, origins: IntArray, steps: int, signals: Sequence[Signal] = ()
    ) -> FloatArray:
        raise np.linalg.LinAlgError("singular")


class TestSelect:
    def test_the_combination_is_of_the_best_in_each_band_of_horizons(self, history: Series):
        found = select(history, STEPS)
        table = {each.model: each.pinball for each in found.scores if each.pinball is not None}
        assert found.fitted is not None and found.fitted.model == combine.NAME
        singles = sorted((name for name in table if name != combine.NAME), key=lambda name: table[name])
        names = [member.model for member in found.fitted.members]
        assert len(singles) > len(names) and names == [name for name in singles if name in names]
        weights = found.fitted.arrays["weights"]
        assert weights.any(axis=1).all() and (np.count_nonzero(weights, axis=0) == combine.BEST).all()
        assert all(member.fitted_s == history.end_s for member in found.fitted.members)
        assert weights[0].all(), "the best over all horizons is among the best in each"
        path = combine.COMBINATION.predict(found.fitted, history, history.end_s, STEPS)
        assert np.isfinite(path).all()

    def test_the_leader_brings_what_its_held_out_forecasts_teach(self, history: Series):
        found = select(history, STEPS, names=CHEAP)
        assert found.calibration is not None
        assert (found.calibration.step_s, found.calibration.steps) == (HOUR_S, STEPS)
        assert np.isfinite(coverage(found.calibration)).all()
        assert found.calibration.shift.any()

    @pytest.mark.parametrize(
        ("when", "why"),
        [("fit", "nothing to divide by"), ("predict", "singular"), ("decline", "it is Monday")],
    )
    def test_who_fails_is_kept_out_with_the_reason(self, when: str, why: str, history: Series):
        found = select(history, STEPS, names=CHEAP, given=[Broken(when)])
        mine = next(each for each in found.scores if each.model == "broken")
        assert mine.pinball is None and why in mine.note and not mine.leads
        assert found.fitted is not None
        assert "broken" not in {found.fitted.model, *(member.model for member in found.fitted.members)}
        without = select(history, STEPS, names=CHEAP)
        assert without.fitted is not None and found.fitted.model == without.fitted.model

    def test_a_single_model_is_no_combination(self, history: Series):
        found = select(history, STEPS, names=["profile"])
        assert found.fitted is not None and found.fitted.model == "profile"
        joint = next(each for each in found.scores if each.model == combine.NAME)
        assert joint.pinball is None and joint.note == "1 models to combine"

    def test_what_an_event_did_is_taken_out(self, history: Series):
        party = Event("party", "campaign", history.end_s - 30 * HOUR_S, history.end_s - 20 * HOUR_S, 5.0)
        values = history.values.copy()
        values[-30:-20] *= 5.0
        loud = Series(history.start_s, HOUR_S, values)
        calm, told, untold = (
            select(series, STEPS, names=CHEAP, events=events)
            for series, events in ((history, []), (loud, [party]), (loud, []))
        )
        assert calm.fitted is not None and told.fitted is not None and untold.fitted is not None
        assert told.fitted.model == calm.fitted.model
        for one, other in zip(told.scores, calm.scores, strict=True):
            assert one.pinball == pytest.approx(other.pinball, rel=1e-6)
        assert all(
            (each.pinball or 0.0) > 1.5 * (other.pinball or 0.0)
            for each, other in zip(untold.scores, calm.scores, strict=True)
        )

    def test_what_lies_ahead_of_the_held_out_does_not_fit(self, history: Series):
        """Scores are of fits that have not seen what they are judged by: with an unheard-of end they get worse."""
        values = history.values.copy()
        values[-round(hold_out_s(history) / HOUR_S) :] *= 3.0
        usual = {each.model: each.pinball for each in select(history, STEPS, names=CHEAP).scores}
        for each in select(Series(history.start_s, HOUR_S, values), STEPS, names=CHEAP).scores:
            assert each.pinball is not None and each.pinball > 1.5 * (usual[each.model] or 0.0)

    @pytest.mark.parametrize("count", [0, 1, 20])
    def test_next_to_nothing_selects_nothing_and_says_why(self, count: int):
        found = select(Series(MONDAY_S, HOUR_S, np.full(count, 3.0)), STEPS)
        assert found.fitted is None and found.plain is None and found.calibration is None
        assert "no model can be fitted" in found.note
        assert {each.model for each in found.scores} >= set(names_for(HOUR_S))
        assert all(each.pinball is None and each.note for each in found.scores)

    def test_a_short_history_has_a_leader_and_no_score(self):
        found = select(resample(busy(3), HOUR_S), STEPS)
        assert found.fitted is not None and found.calibration is None
        assert found.fitted.model == "profile"
        assert all(each.pinball is None for each in found.scores)

    def test_the_end_was_not_measured(self, history: Series):
        values = history.values.copy()
        values[-60:] = np.nan
        found = select(Series(history.start_s, HOUR_S, values), STEPS, names=CHEAP)
        assert found.fitted is not None and found.fitted.model in WITHOUT_EVIDENCE
        assert all("nothing was measured" in each.note for each in found.scores)


def led(days: int = 21) -> tuple[Series, Signal]:
    """A rhythm moved by an influence that a signal shows six hours early."""
    generator = np.random.default_rng(3)
    count, lead = days * 24, 6
    hidden = np.convolve(generator.normal(size=count + lead + 2), np.ones(3) / np.sqrt(3), "valid")
    at = np.arange(count)
    load = (20 + 15 * np.sin((at % 24 - 9) / 24 * 2 * np.pi)) * np.exp(
        0.3 * hidden[:count] + 0.1 * generator.normal(size=count)
    )
    shown = Series(MONDAY_S, HOUR_S, hidden[lead : lead + count])
    return Series(MONDAY_S, HOUR_S, load), Signal("bookings", shown, False, 3 * HOUR_S)


class TestSignals:
    def test_the_combination_uses_what_is_admitted_and_keeps_a_plain_fit(self):
        load, signal = led()
        found = select(load, STEPS, names=CHEAP, signals=[signal])
        assert found.fitted is not None and found.plain is not None
        assert found.fitted.model == combine.NAME and found.plain.model == combine.NAME
        assert [each.admitted for each in found.admissions] == [True]
        assert [use.name for use in found.fitted.uses] == ["bookings"] and found.plain.uses == ()
        assert all([use.name for use in member.uses] == ["bookings"] for member in found.fitted.members)
        assert "bookings saves" in found.note
        model = model_named(found.fitted.model)
        assert np.isfinite(model.predict(found.fitted, load, load.end_s, STEPS, [signal])).all()
        stale = replace(signal, series=clip(signal.series, end_s=load.end_s - 9 * HOUR_S))
        for signals in ([stale], []):
            with pytest.raises(CannotFit, match="signal bookings is"):
                model.predict(found.fitted, load, load.end_s, STEPS, signals)
        assert np.isfinite(model.predict(found.plain, load, load.end_s, STEPS)).all()

    def test_an_update_keeps_the_signal(self):
        load, signal = led()
        known = clip(load, end_s=load.end_s - DAY_S)
        found = select(known, STEPS, names=CHEAP, signals=[signal])
        assert found.fitted is not None
        again = updated(found.fitted, load, STEPS, [signal])
        assert [use.name for use in again.uses] == ["bookings"]
        assert all([use.name for use in member.uses] == ["bookings"] for member in again.members)


class TestUpdated:
    def test_cheap_members_are_fitted_anew_and_the_expensive_stay(self, history: Series):
        known = clip(history, end_s=history.end_s - DAY_S)
        names = ("naive", "ets", "profile")
        members = [model_named(name).fit(known, STEPS) for name in names]
        weights = np.ones((3, 6))
        fitted = combine.joined(members, weights)
        again = updated(fitted, history, STEPS)
        assert [member.model for member in again.members] == list(names)
        assert again.members[1] is members[1] and model_named("ets").expensive
        for place in (0, 2):
            assert again.members[place].fitted_s == history.end_s
            plain = refit(history, STEPS, names[place])
            np.testing.assert_array_equal(again.members[place].spread, plain.spread)
        assert again.fitted_s == history.end_s
        np.testing.assert_array_equal(again.arrays["weights"], fitted.arrays["weights"])

    def test_who_cannot_be_fitted_now_stays_as_it_was(self, history: Series):
        fitted = combine.joined(
            [model_named(name).fit(history, STEPS) for name in ("naive", "profile")], np.ones((2, 6))
        )
        short = clip(history, history.end_s - 5 * HOUR_S)
        again = updated(fitted, short, STEPS)
        assert all(one is other for one, other in zip(again.members, fitted.members, strict=True))
        with pytest.raises(CannotFit):
            updated(fitted.members[0], short, STEPS)

    def test_a_single_model_is_fitted_anew(self, history: Series):
        known = clip(history, end_s=history.end_s - DAY_S)
        again = updated(model_named("profile").fit(known, STEPS), history, STEPS)
        np.testing.assert_array_equal(again.spread, refit(history, STEPS, "profile").spread)
