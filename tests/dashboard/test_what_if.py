"""The What if page: a replay asked for, seen on its way, cancelled, and compared with others."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Engine
from sqlmodel import Session
from streamlit.testing.v1 import AppTest

from controller.core.what_if import OfferChange, WhatIf
from controller.replay import Summary, TierResult
from dashboard import intents
from dashboard.components import replay_comparison
from dashboard.components.replay_comparison import comparable, finished, rows_of
from dashboard.components.replays import envelope_word, short
from dashboard.queries.replays import read_runs
from models.replays import ReplayRun

from .conftest import NOW, document
from .test_outside import newest_intent
from .test_views import html, opened

TO = NOW.replace(minute=0, second=0, microsecond=0)
FROM = TO - timedelta(hours=24)


def what_if(policy: str = "heddle", **changes: Any) -> WhatIf:
    given: dict[str, Any] = {
        "envelope": document(), "envelope_version": 2, "offers": OfferChange(), "from_s": FROM.timestamp(),
        "to_s": TO.timestamp(), "scale": 20, "jitter_s": 300.0, "boot_s": 180.0, "seed": 7,
    }  # fmt: skip
    return WhatIf(policy, **{**given, **changes})


def summary(policy: str, cost: float, premium_s: float, within: float | None = 1.0) -> dict[str, Any]:
    tiers = {
        name: TierResult(1000, mean, mean / 2, mean * 3, mean * 5, mean * 9, mean <= limit)
        for name, mean, limit in (("premium", premium_s, 0.2), ("standard", 2.0, 30.0), ("background", 60.0, 7200.0))
    }
    told = Summary(
        policy, ("2024-11-24T14:00:00Z", "2024-11-25T14:00:00Z"), 7, 20, 3000, 4, 0, cost / 0.8, cost, 12, 3, 100, 90,
        40, within, cost / 20, tiers,
    )  # fmt: skip
    return asdict(told)


def run(asked: WhatIf, status: str, result: dict[str, Any] | None = None, **more: Any) -> ReplayRun:
    ended = status not in ("pending", "running")
    return ReplayRun(
        service="images", spec=asked.document(), author="ana", reason="for <b>the board</b>", asked_at=NOW,
        started_at=NOW if status != "pending" else None, finished_at=NOW + timedelta(seconds=94) if ended else None,
        status=status, summary=result, hourly_usd=[result["cost_usd"] / 24] * 24 if result else None,
        attempts=int(status != "pending"), **more,
    )  # fmt: skip


def add(engine: Engine, *rows: Any) -> None:
    with Session(engine) as session:
        session.add_all(rows)
        session.commit()


def dialog(which: str, **facts: Any) -> AppTest:
    """One dialog alone."""

    def script(which: str, facts: dict[str, object]) -> None:
        from dashboard.components import confirm_replay

        getattr(confirm_replay, which)(**facts)

    return AppTest.from_function(script, default_timeout=600, kwargs={"which": which, "facts": facts}).run()


@pytest.fixture
def filled(database: Callable[..., Engine]) -> Engine:
    engine = database(filled=True, wall=datetime.now(UTC) + timedelta(days=1))
    add(
        engine,
        run(what_if(), "done", summary("heddle", 480.0, 0.056), baseline=True),
        run(what_if("hpa"), "done", summary("hpa", 420.0, 1.062, 0.75), baseline=True),
        run(what_if(envelope=document(cap=30), envelope_version=None), "done", summary("heddle", 400.0, 0.9)),
    )
    add(
        engine,
        run(what_if(from_s=FROM.timestamp() + 3600), "failed", status_reason="no request arrives in the window"),
        run(what_if("static"), "running", progress_ratio=0.42),
        run(what_if(offers=OfferChange(without_spot=True)), "pending"),
    )
    return engine


def test_finished_runs_stand_side_by_side_against_the_baseline(filled: Engine) -> None:
    test = opened("what_if")
    assert not test.exception
    text = html(test)
    assert "1 heddle" in text and "2 hpa" in text and "Changed, cap $30" in text
    assert "3 heddle, changed, cap $30" in str(test.multiselect[1].options)
    assert "−$60.00, −12%" in text and "−$80.00, −17%" in text
    assert "Met</span>56 ms" in text and "mean of 200 ms" in text
    assert "Missed</span>1.06 s" in text and "mean of 200 ms, +1.01 s" in text
    assert "of $50, −25 points" in text and "of $30, the same" in text
    table = test.dataframe[0].value
    assert list(table["is"]) == ["◌ Pending", "▶ Running", "▲ Failed", "● Done", "● Done", "● Done"]
    assert table["progress"].iloc[1] == 42.0 and table["progress"].drop(1).isna().all()
    assert table["took"].iloc[2] == "1 min 34 s"
    assert "1 running, 1 waiting" in text


def test_against_another_run_the_differences_turn_round(filled: Engine) -> None:
    test = opened("what_if")
    next(box for box in test.selectbox if box.label == "Against").set_value(2).run()
    assert "+$60.00, +14%" in html(test) and "−1.01 s" in html(test)


def test_without_a_controller_what_runs_is_said_to_stand_still(database: Callable[..., Engine]) -> None:
    engine = database(filled=True, silent_s=94)
    add(engine, run(what_if(), "running", progress_ratio=0.4))
    text = html(opened("what_if"))
    assert "stand still while the controller is away" in text
    assert "The controller has not reported for" in text


def test_the_form_asks_for_the_last_week_as_far_as_it_is_recorded(filled: Engine) -> None:
    test = opened("what_if")
    # A day is recorded: of it an hour is left to learn from.
    assert "24 Nov 16:00 to 25 Nov 14:00 UTC, 22 h" in html(test)
    assert not test.button(key="wi-review").disabled


def test_a_window_that_is_not_over_is_refused_in_the_form(filled: Engine) -> None:
    test = opened("what_if")
    test.segmented_control(key="wi-window").set_value("Other").run()
    test.date_input(key="wi-to-day").set_value((NOW + timedelta(days=1)).date()).run()
    assert "Is not over yet" in html(test) and "nearest: 25 Nov 14:00" in html(test)
    assert test.button(key="wi-review").disabled


def test_a_changed_envelope_is_judged_and_shown(filled: Engine) -> None:
    test = opened("what_if")
    test.segmented_control(key="wi-envelope").set_value("Changed").run()
    test.number_input(key="wi-cap").set_value(-3.0).run()
    assert "Must be above $0, not -3" in html(test) and test.button(key="wi-review").disabled
    # What can't hold may be replayed: to see it is what a replay is for.
    test.number_input(key="wi-cap").set_value(0.1).run()
    assert "above the cap of $0.10/h" in html(test) and not test.button(key="wi-review").disabled


def test_run_writes_one_intent_with_what_was_stated(filled: Engine) -> None:
    test = dialog(
        "run", policy="hpa", window=(FROM, TO), envelope=document(cap=30), offers={"without_spot": True},
        offers_told="without spot", baselines=True,
    )  # fmt: skip
    text = html(test)
    assert "$50.00/h" in text and "$30.00/h" in text and "Without spot" in text
    assert test.button(key="do-wi").disabled
    test.text_input(key="wi-reason").set_value("for the board").run()
    test.button(key="do-wi").click().run()
    intent = newest_intent(filled)
    assert (intent.kind, intent.service, intent.reason) == ("ask_replay", "images", "for the board")
    assert intent.payload == {
        "policy": "hpa", "from": FROM.isoformat(), "to": TO.isoformat(), "envelope": document(cap=30),
        "offers": {"without_spot": True}, "baselines": True,
    }  # fmt: skip


def test_how_long_it_takes_goes_by_the_last_of_its_policy(filled: Engine) -> None:
    add(filled, run(what_if("kpa"), "done", summary("kpa", 1.0, 0.1), cpu_s=600.0))
    facts = {"envelope": None, "offers": {}, "offers_told": "as they are", "baselines": False}
    window = (FROM, FROM + timedelta(hours=12))
    assert "About 5 min of one processor" in html(dialog("run", policy="kpa", window=window, **facts))
    assert "Minutes of one processor" in html(dialog("run", policy="static", window=window, **facts))


def test_a_run_is_cancelled_with_a_reason(filled: Engine) -> None:
    test = dialog("cancel", replay_id=5, told="5 static, v2")
    test.text_input(key="wic-reason").set_value("too slow").run()
    test.button(key="do-wic").click().run()
    intent = newest_intent(filled)
    assert (intent.kind, intent.payload) == ("cancel_replay", {"replay_id": 5})
    with pytest.raises(ValueError, match="needs a policy"):
        intents.ask_replay(" ", (FROM, TO), "why")


def test_only_runs_that_differ_by_what_was_asked_are_compared(filled: Engine) -> None:
    again = run(what_if(), "done", summary("heddle", 480.0, 0.056))
    other = run(what_if(to_s=TO.timestamp() - 3600), "done", summary("heddle", 450.0, 0.05))
    add(filled, again, other)
    read_runs.clear()
    runs = finished(read_runs())
    assert sorted(runs) == [2, 3, 7, 8], "of equal runs the newest"
    assert [sorted(numbers) for numbers in comparable(runs).values()] == [[8], [2, 3, 7]]


def test_the_comparison_is_a_file(filled: Engine) -> None:
    read_runs.clear()
    told = rows_of(finished(read_runs())).set_index("replay")
    assert list(told.loc[2, ["policy", "cost_usd", "premium_wait_mean_s", "envelope", "offers"]]) == [
        "hpa", 420.0, 1.062, "v2", "as they are",
    ]  # fmt: skip
    assert told.loc[3, "spend_cap_usd_per_hour"] == 30


def test_words_for_a_run() -> None:
    assert short(4, what_if("hpa", offers=OfferChange(without_spot=True))) == "4 hpa, v2, without spot"
    no_cap = what_if(envelope=document(cap=None), envelope_version=None)
    assert envelope_word(no_cap) == "Changed, no cap"


def test_a_target_that_a_summary_does_not_have_shows_the_mean_and_no_limit() -> None:
    asked = document()
    asked["tiers"]["premium"]["latency"] |= {"of": "end_to_end", "statistic": "p95", "target_ms": 9000.0}
    told = summary("heddle", 1.0, 0.1)
    shown = replay_comparison._wait("premium", what_if(envelope=asked), told, told, False)
    assert shown == ("100 ms", True, "mean, the same")
    told["tiers"]["premium"] = asdict(TierResult(0, None, None, None, None, None, None))
    assert replay_comparison._wait("premium", what_if(), told, told, True) == ("—", None, "no request")


def test_a_chart_has_an_hour_a_step_and_one_colour_a_run() -> None:
    figure = replay_comparison.charts.spend_of_runs({"1 a": [1.0, 2.0], "2 b": [3.0]}, since=FROM, cap=5.0, keep="x")
    assert [len(trace["x"]) for trace in figure.data] == [3, 2]
    assert len({trace["line"]["color"] for trace in figure.data}) == 2
    assert pd.Timestamp(figure.data[0]["x"][-1], tz="UTC") == FROM + timedelta(hours=2)
