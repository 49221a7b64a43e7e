"""The forecast benchmark: it measures what it says, sees no future, and refuses in one line what it can't use."""

import json
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import forecasting
from benchmarks.forecast_baselines import BASELINES, banded, points
from benchmarks.forecasting import (
    HORIZONS_S,
    RAW,
    SELECTED,
    Run,
    against_baselines,
    documented,
    evaluated,
    scored,
    told,
)
from controller.core.forecast.base import names_for
from controller.core.series import DAY_S, HOUR_S, MINUTE_S, resample
from controller.core.types import QUANTILES, Series
from tests.core.forecast.demands import MONDAY_S, uneven

MODELS = ("naive", "profile")
STEPS = 24
GRIDS = {"by hours": 3600.0, "by ten minutes": 600.0}


def stamp(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def request_file(folder: Path, hours: float, seed: int = 1) -> Path:
    """Requests of a daily rhythm, in no order."""
    generator = np.random.default_rng(seed)
    minutes = np.arange(round(hours * 60))
    rate = 0.3 * (1.2 - np.cos(minutes / 1440 * 2 * np.pi))
    at_s = MONDAY_S + 60.0 * np.repeat(minutes, generator.poisson(rate)).astype(np.float64)
    rows = [f"{stamp(at)},a,{work:.1f}" for at, work in zip(at_s, generator.gamma(3.0, 9.0, len(at_s)), strict=True)]
    generator.shuffle(rows)
    last = f"{stamp(MONDAY_S + hours * HOUR_S)},a,1.0"
    path = folder / "small.csv"
    path.write_text("\n".join(["arrived_at,tenant,exec_seconds", *rows, last]) + "\n")
    return path


def hours(days: float, seed: int = 6) -> Series:
    series = resample(uneven(8, seed), HOUR_S)
    return Series(series.start_s, HOUR_S, series.values[: round(days * 24)])


def finite(value: Any) -> bool:
    """No number in a document is unknown or infinite."""
    if isinstance(value, dict):
        return all(finite(each) for each in value.values())
    if isinstance(value, list):
        return all(finite(each) for each in value)
    return not isinstance(value, float) or bool(np.isfinite(value))


def refused(name: str) -> Any:
    raise AssertionError(f"the document has the number {name}")


class TestCommand:
    def test_everything_is_printed_as_json(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
        path = request_file(tmp_path, 56)
        code = forecasting.main(["--requests", str(path), "--evaluate-from", stamp(MONDAY_S + 54 * HOUR_S), "--json"])
        said = capsys.readouterr()
        assert code == 0
        document = json.loads(said.out, parse_constant=refused)
        assert list(document) == [f"small {grid}" for grid in GRIDS]
        for (name, run), step_s in zip(document.items(), GRIDS.values(), strict=True):
            assert run["step_s"] == step_s and run["origins"] == 2
            assert [each["from"] for each in run["leaders"]] == [stamp(MONDAY_S + 54 * HOUR_S)]
            assert set(run["horizons"]) == {"2 h", "24 h"}
            for horizon in run["horizons"].values():
                assert {*names_for(step_s), SELECTED, RAW, *BASELINES} <= set(horizon["forecasts"])
                best = horizon[SELECTED]
                assert best["best_baseline"] in BASELINES
                low, ratio, high = (best[f"pinball_90_ratio{end}"] for end in ("_low", "", "_high"))
                assert 0 <= low <= high and ratio > 0
                assert best["coverage_90_low"] <= best["coverage_90"] <= best["coverage_90_high"]
                mine = horizon["forecasts"][SELECTED]
                assert mine["points"] > 0 and mine["wape"] > 0 and 0 <= mine["coverage_90"] <= 1
            assert f"{name}: {SELECTED} in" in said.err

    @pytest.mark.parametrize(
        ("wrong", "why"),
        [
            ("no file", "there is no such file"),
            ("a folder", "this is a folder"),
            ("an empty file", "the file is empty"),
            ("one request", "outside the series"),
            ("too early", "outside the series"),
            ("too late", "outside the series"),
            ("no time", "is no time"),
            ("too short", "too little is known to forecast from"),
        ],
    )
    def test_what_cannot_be_used_is_said_in_one_line(
        self, wrong: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ):
        path = request_file(tmp_path, 5)
        at = {"too early": stamp(MONDAY_S - DAY_S), "too late": stamp(MONDAY_S + DAY_S), "no time": "tomorrow"}
        if wrong == "no file":
            path = tmp_path / "absent.csv"
        elif wrong == "a folder":
            path = tmp_path
        elif wrong == "an empty file":
            path.write_text("")
        elif wrong == "one request":
            path.write_text(f"arrived_at,tenant,exec_seconds\n{stamp(MONDAY_S)},a,5\n")
        arguments = ["--requests", str(path), "--evaluate-from", at.get(wrong, stamp(MONDAY_S + 3 * HOUR_S))]
        for flags in ([], ["--json"]):
            assert forecasting.main([*arguments, *flags]) == 2
            said = capsys.readouterr()
            lines = [line for line in said.err.splitlines() if not line.startswith("small ")]
            assert said.out == "" and len(lines) == 1
            assert lines[0].startswith("benchmarks.forecasting: ") and why in lines[0]


@pytest.fixture(scope="module")
def run() -> Run:
    series = hours(5.25)
    return evaluated("small", series, series.start_s + 4 * DAY_S, STEPS, models=MODELS)


class TestEvaluated:
    def test_every_forecast_is_there_for_every_origin(self, run: Run):
        assert set(run.forecasts) == {*MODELS, SELECTED, RAW, *BASELINES}
        np.testing.assert_array_equal(run.origins, np.arange(96, 126))
        for name, forecasts in run.forecasts.items():
            assert forecasts.shape == (30, len(QUANTILES), STEPS)
            if name == "seasonal naive 168 h":
                assert np.isnan(forecasts[:, :, 0]).all(), "no week is past yet"
            else:
                assert np.isfinite(forecasts).all() and (forecasts >= 0).all()
                assert (np.diff(forecasts, axis=1) >= 0).all()

    def test_a_leader_is_chosen_each_day(self, run: Run):
        assert [each["from"] for each in run.leaders] == [stamp(MONDAY_S + day * DAY_S) for day in (4, 5)]
        assert all(each["model"] in {*MODELS, "combination"} and "leads" in each["why"] for each in run.leaders)

    def test_calibration_moves_all_but_the_median(self, run: Run):
        shown, raw = run.forecasts[SELECTED], run.forecasts[RAW]
        assert (shown != raw).any()
        assert np.abs(shown[:, 0] - raw[:, 0]).max() <= np.abs(shown - raw).max()

    def test_no_forecast_sees_what_comes_after_its_origin(self, run: Run):
        series = hours(5.25)
        cut = 4 * 24 + 26  # on the second evaluated day
        values = series.values.copy()
        values[cut:] = 3.0 * values[cut:] + 7.0
        other = evaluated(
            "small", Series(series.start_s, HOUR_S, values), series.start_s + 4 * DAY_S, STEPS, models=MODELS
        )
        before = run.origins <= cut
        assert 24 < before.sum() < len(before)
        for name, forecasts in run.forecasts.items():
            np.testing.assert_array_equal(other.forecasts[name][before], forecasts[before], err_msg=name)
            if name != "seasonal naive 168 h":
                assert (other.forecasts[name][~before] != forecasts[~before]).any(), name

    def test_it_is_told_and_documented_without_an_unknown_number(self, run: Run):
        document = documented([run])
        assert finite(json.loads(json.dumps(document, allow_nan=False, default=float), parse_constant=refused))
        text = told(run)
        assert text.startswith("### small, 60-minute steps, 30 origins")
        for name in run.forecasts:
            assert f"| {name}" in text
        assert "nan" not in text and "Leaders:" in text
        for horizon_s in HORIZONS_S:
            best = against_baselines(run, horizon_s)
            assert best["pinball_90_ratio_low"] < best["pinball_90_ratio"] < best["pinball_90_ratio_high"]
            assert best["pinball_90_ratio"] == max(best["pinball_90_ratios"].values())
            ours, theirs = (scored(run, name, horizon_s)["pinball_90"] for name in (SELECTED, best["best_baseline"]))
            assert best["pinball_90_ratio"] == pytest.approx((ours or 0.0) / (theirs or 1.0))
            assert best["coverage_90"] == pytest.approx(scored(run, SELECTED, horizon_s)["coverage_90"])

    @pytest.mark.parametrize("what", ["constant", "silent", "silent at last"])
    def test_demand_without_any_doubt_is_measured_too(self, what: str, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(forecasting, "BASELINES", ("day-type profile",))  # the others need minutes for nothing
        values = {"constant": np.full(150, 3.0), "silent": np.zeros(150), "silent at last": hours(6.25).values.copy()}
        values["silent at last"][-30:] = 0.0
        series = Series(MONDAY_S, HOUR_S, values[what])
        found = evaluated("calm", series, MONDAY_S + 5 * DAY_S, STEPS, models=MODELS)
        assert finite(json.loads(json.dumps(documented([found]), allow_nan=False, default=float)))
        assert "nan" not in told(found)
        assert what != "silent" or against_baselines(found, DAY_S)["pinball_90_ratio"] == pytest.approx(1.0)

    @pytest.mark.parametrize("first", [-5, 0, 60, 500])
    def test_a_time_outside_is_refused(self, first: int):
        series = hours(2.5)
        with pytest.raises(ValueError, match="outside the series"):
            evaluated("small", series, series.start_s + first * HOUR_S, STEPS, models=MODELS)

    def test_nothing_measured_is_refused(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(forecasting, "BASELINES", ("day-type profile",))
        series = hours(6)
        series.values[5 * 24 :] = np.nan
        with pytest.raises(ValueError, match="too little is known"):
            evaluated("small", series, series.start_s + 5 * DAY_S, STEPS, models=MODELS)


def test_a_few_origins_are_no_certainty() -> None:
    """The interval of a handful of origins is wide, not of no width."""
    generator = np.random.default_rng(3)
    actual = generator.exponential(5.0, (8, STEPS))
    run = Run("few", HOUR_S, np.arange(8), actual, 1.0)
    for name in (SELECTED, *BASELINES):
        path = generator.exponential(5.0, (8, STEPS))
        run.forecasts[name] = path[:, None, :] + np.asarray(QUANTILES)[None, :, None]
    found = against_baselines(run, DAY_S)
    assert found["pinball_90_ratio_high"] - found["pinball_90_ratio_low"] > 0.02
    assert found["coverage_90_high"] > found["coverage_90_low"]


def test_offered_load_is_the_work_of_each_minute(tmp_path: Path) -> None:
    path = tmp_path / "requests.csv"
    at = [(30, 12.0), (3 * 60 + 59, 30.0), (3 * 60 + 1, 6.0), (2 * 3600 + 5, 99.0)]
    rows = [f"{stamp(MONDAY_S + 6 * HOUR_S + second)},a,{work}" for second, work in at]
    path.write_text("\n".join(["arrived_at,tenant,exec_seconds", *rows]) + "\n")
    load = forecasting.offered_load(path)
    assert (load.start_s, load.step_s, load.end_s) == (MONDAY_S, MINUTE_S, MONDAY_S + 8 * HOUR_S)
    wanted = np.zeros(480)
    wanted[360], wanted[363] = 12.0 / 60, 36.0 / 60
    np.testing.assert_allclose(load.values, wanted)


class TestBaselines:
    @pytest.mark.parametrize("name", BASELINES)
    def test_a_point_path_sees_no_future(self, name: str):
        series = hours(8)
        origins = np.array([60, 72, 100, 169, 180])
        found = points(name, series, origins, STEPS)
        assert found.shape == (5, STEPS)
        for i, origin in enumerate(origins.tolist()):
            values = series.values.copy()
            values[origin:] = 99.0
            other = points(name, Series(series.start_s, HOUR_S, values), origins[i : i + 1], STEPS)
            np.testing.assert_allclose(other[0], found[i], rtol=1e-9)

    @pytest.mark.parametrize("name", BASELINES)
    def test_a_rhythm_without_noise_is_forecast(self, name: str):
        at = np.arange(24 * 17)
        series = Series(MONDAY_S, HOUR_S, 10.0 + 5.0 * np.sin(at / 24 * 2 * np.pi))
        origins = np.array([24 * 16])
        found = points(name, series, origins, STEPS)
        level = 0.4 if name == "day-type profile" else 0.1  # it is smoothed over the hours around
        np.testing.assert_allclose(found[0], series.values[24 * 16 :], atol=level)

    def test_before_there_is_a_season_nothing_is_said(self):
        series = hours(8)
        none = partial(points, series=series, origins=np.array([10]), steps=STEPS)
        for name in BASELINES:
            assert np.isnan(none(name)).all()
        with pytest.raises(KeyError):
            none("crystal ball")

    def test_the_band_is_of_errors_known_at_the_origin(self):
        generator = np.random.default_rng(5)
        count, steps = 300, 6
        series = Series(MONDAY_S, HOUR_S, 10.0 + generator.normal(size=count))
        origins = np.arange(0, count - steps, dtype=np.int64)
        path = np.full((len(origins), steps), 10.0)
        found = banded(path, series, origins)
        assert (np.diff(found, axis=1) >= 0).all()
        np.testing.assert_array_equal(found[0], np.full((len(QUANTILES), steps), 10.0))
        for i in (40, 200):
            for j in (0, 5):
                known = [series.values[k + j] - 10.0 for k in range(i) if k + j < i]
                np.testing.assert_allclose(found[i, :, j], 10.0 + np.quantile(known, QUANTILES))
        covered = (series.values[origins[200:], None] <= found[200:, :, 0]).mean(axis=0)
        np.testing.assert_allclose(covered, QUANTILES, atol=0.1)
