"""The lead-time forecast: what it learns of a process that is known, and what it may not have seen."""

import numpy as np
import pytest

from controller.core.activity import BIN_S
from controller.core.forecast.lead import FOLDS, LEAST_BINS, expect, lead_bins_of, learn, smoothed_rate
from tests.core.shots import DAY, activity, of_sessions, sessions

LEAD, WORK = 16, 2
BINS = 3 * DAY


@pytest.fixture(scope="module")
def values():
    return of_sessions(sessions(BINS, tiers=2))


@pytest.fixture(scope="module")
def learned(values):
    found = learn(activity(values), 1, LEAD, WORK)
    assert found is not None
    return found


def test_a_lead_time_is_rounded_up_to_whole_bins() -> None:
    assert [lead_bins_of(each) for each in (0.0, 15.0, 15.1, 240.0, 241.0)] == [1, 1, 2, 16, 17]


def test_too_little_is_not_learned_from() -> None:
    values = of_sessions(sessions(LEAST_BINS + LEAD))
    assert learn(activity(values[:, :, :-1]), 0, LEAD, WORK) is None
    assert learn(activity(values), 0, LEAD, WORK) is not None
    known = np.ones(LEAST_BINS + LEAD)
    known[100] = 0
    assert learn(activity(values, known), 0, LEAD, WORK) is None


def test_who_began_tells_what_comes_better_than_the_last_value(values, learned) -> None:
    _, past = learned
    ends = np.arange(DAY, BINS - LEAD)
    come = past.rate[ends + LEAD]
    foreseen = float(np.mean((past.mean[ends] - come) ** 2))
    # The last value, seen at the beginning of a bin, is that of the bin before.
    last = min(
        float(np.mean((smoothed_rate(activity(values), 1, over)[ends - 1] - come) ** 2)) for over in (2, 4, 8, 16)
    )
    assert foreseen < 0.6 * last


def test_of_a_process_without_chance_nearly_all_is_known() -> None:
    """What those who began will ask for is fixed; only those who begin within the lead time are not known."""
    made = of_sessions(sessions(BINS, seed=9), counted=False)
    # Nobody begins in the last lead time.
    begun = sessions(BINS, seed=9)
    begun[:, -LEAD:] = 0.0
    calm = of_sessions(begun, counted=False)
    found = learn(activity(made), 0, LEAD, 1)
    assert found is not None
    model, _ = found
    until = activity(calm[:, :, :-LEAD])
    mean, deviation = expect(model, until)
    newcomers = float(made[1, 0].mean()) * LEAD * float(np.linspace(0.2, 1.0, 30)[:LEAD].mean())
    come = float(calm[0, 0, -1])
    assert mean == pytest.approx(come + newcomers, abs=2 * deviation)
    assert deviation < 0.5 * float(made[0, 0].std())


def test_the_deviation_is_that_of_the_errors_and_grows_with_the_mean(learned) -> None:
    model, past = learned
    ends = np.arange(DAY, BINS - LEAD)
    score = (past.rate[ends + LEAD] - past.mean[ends]) / past.deviation[ends]
    assert float(np.sqrt(np.mean(score**2))) == pytest.approx(1.0, abs=0.2)
    assert model.spread > 0
    means = model.deviation(np.array([0.0, 1.0, 10.0]))
    assert (np.diff(means) > 0).all()
    busy = past.mean[ends] > np.quantile(past.mean[ends], 0.8)
    assert float(np.sqrt(np.mean(score[busy] ** 2))) == pytest.approx(1.0, abs=0.3)


def test_a_rehearsal_is_of_the_rate_in_each_bin(values, learned) -> None:
    model, past = learned
    assert past.mean.shape == past.deviation.shape == past.rate.shape == (BINS,)
    assert past.rate == pytest.approx(smoothed_rate(activity(values), 1, WORK))
    assert past.deviation == pytest.approx(model.deviation(past.mean))
    assert (past.mean >= 0).all()


def test_what_is_rehearsed_was_expected_by_weights_that_had_not_seen_it(values, learned) -> None:
    """Other loads at the end of the last fold change what is expected in the others, not earlier in their own."""
    altered = values.copy()
    late = slice(BINS - 300, BINS)
    altered[0, :, late] = altered[0, :, late][:, ::-1] * 1.5
    again = learn(activity(altered), 1, LEAD, WORK)
    assert again is not None
    moved = np.abs(again[1].mean - learned[1].mean)
    fold = BINS // FOLDS
    own, others = moved[BINS - fold + 50 : BINS - 300], moved[: BINS - fold - 50]
    assert own.max() < 0.1 * np.quantile(others, 0.5)
    assert np.quantile(others, 0.5) > 1e-6


def test_noise_is_not_foreseen() -> None:
    """Weights that had seen it would seem to know some of it."""
    rng = np.random.default_rng(2)
    values = np.zeros_like(of_sessions(sessions(LEAST_BINS + 400)))
    values[:2] = rng.poisson(4.0, values[:2].shape) / BIN_S
    found = learn(activity(values), 0, LEAD, 1)
    assert found is not None
    past = found[1]
    ends = np.arange(1000, len(past.rate) - LEAD)
    come = past.rate[ends + LEAD]
    assert float(np.mean((past.mean[ends] - come) ** 2)) > float(come.var())


def test_bins_that_nobody_measured_are_not_learned_from(values) -> None:
    """Whatever stands in them as what came."""
    known = np.ones(BINS)
    gap = slice(DAY, DAY + 700)
    known[gap] = 0.0
    zero, wild = values.copy(), values.copy()
    zero[:, :, gap] = 0.0
    wild[0, :, gap] = 50.0
    blank, loud = (learn(activity(each, known), 1, LEAD, WORK) for each in (zero, wild))
    whole = learn(activity(values), 1, LEAD, WORK)
    assert blank is not None
    assert loud is not None
    assert whole is not None
    far = slice(2 * DAY, BINS)
    of_whole = float(np.sqrt(np.mean((whole[1].mean[far] - whole[1].rate[far]) ** 2)))
    for found in (blank, loud):
        off = float(np.sqrt(np.mean((found[1].mean[far] - whole[1].mean[far]) ** 2)))
        assert off < 0.1 * of_whole
    seen = learn(activity(wild), 1, LEAD, WORK)
    assert seen is not None
    assert float(np.sqrt(np.mean((seen[1].mean[far] - whole[1].mean[far]) ** 2))) > 0.1 * of_whole


def test_ten_times_the_requests_are_foreseen_ten_times_as_large(values, learned) -> None:
    _, past = learned
    tenfold = learn(activity(10 * values), 1, LEAD, WORK)
    assert tenfold is not None
    assert tenfold[1].mean == pytest.approx(10 * past.mean, rel=1e-6, abs=1e-6)
    assert tenfold[1].deviation == pytest.approx(10 * past.deviation, rel=1e-4, abs=1e-6)


def test_what_is_expected_now_is_never_negative_nor_certain(values, learned) -> None:
    model, _ = learned
    quiet = values.copy()
    quiet[:, :, -1000:] = 0.0
    mean, deviation = expect(model, activity(quiet))
    assert mean >= 0
    assert deviation > 0
