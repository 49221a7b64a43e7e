"""The pieces that pages are made of: bars, chips, banners, tables that move under the pointer."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from streamlit.testing.v1 import AppTest

from dashboard.components import accuracy, attention, bars, marks, overrides, strip
from dashboard.components.cards import Mark, follow
from dashboard.components.decision import target_held
from dashboard.components.jobs import acts_for, standing_of
from dashboard.queries import plans
from dashboard.queries.attention import read_attention
from dashboard.queries.read import each
from dashboard.queries.standing import read_standing
from models.enums import EnvelopeStatus, JobState

DASHBOARD = Path(__file__).parents[2] / "dashboard"


@pytest.fixture
def standing(database: Callable[..., Engine]) -> object:
    database(filled=True, wall=datetime.now(UTC) + timedelta(days=1))
    return read_standing()


def test_a_bar_ends_at_125_percent_and_marks_the_limit() -> None:
    held = bars.limit_bar(100, 200, 150)
    assert "width:40.0%" in held and "left:40.0%;width:20.0%" in held and "left:80.0%" in held
    assert 'class="break"' not in held


def test_past_the_end_a_bar_breaks_and_the_number_tells() -> None:
    over = bars.limit_bar(900, 200, None)
    assert "width:100.0%" in over and 'class="break"' in over and "450% of the limit" in over


@pytest.mark.parametrize(("value", "limit"), [(None, 200), (100, None), (100, 0)])
def test_without_a_value_or_a_limit_a_bar_is_empty(value: float | None, limit: float | None) -> None:
    assert "No value" in bars.limit_bar(value, limit)


def test_coverage_is_told_raw_and_issued_and_unknown_is_a_dash() -> None:
    known = {"ahead_s": 7200.0, "raw": [0.76, 0.86, 0.92], "issued": [0.8, 0.9, 0.95]}
    unknown = {"ahead_s": 86_400.0, "raw": [None] * 3, "issued": [None] * 3}
    assert accuracy.covered([known, unknown], 7200.0) == "76→80, 86→90, 92→95%"
    assert accuracy.covered([known, unknown], 86_400.0) == "—"
    assert accuracy.covered([], 7200.0) == "—"


def test_every_status_has_a_word_an_icon_and_a_colour() -> None:
    css = (DASHBOARD / "heddle.css").read_text()
    for status in EnvelopeStatus:
        chip = marks.chip(status.value)
        assert marks.STATUS_WORDS[status.value][1] in chip and "aria-hidden" in chip
        assert f".hd-chip.{status.value}" in css


def test_a_tier_that_nobody_asked_is_said_so() -> None:
    row = bars.tier_row("premium", None, 200.0, None, "held", in_ms=True, old=False)
    assert "no requests, target 200 ms" in row


def test_a_tier_with_a_strange_name_is_drawn_and_escaped() -> None:
    assert "<i>" not in bars.tier_row("<i>gold", 1.0, 2.0, None, "held", in_ms=True, old=False).replace("<i class", "")


def test_attention_escapes_and_shortens(standing: object) -> None:
    item = read_attention()[0]
    long = type(item)(item.status, "<script>", "word " * 90, item.at, "fleet")
    html = attention.item_html(long, read_standing())
    assert "<script>" not in html and "…" in html and len(html) < 700


def test_an_override_shows_its_price_until_it_ends(standing: object) -> None:
    (row,) = each(plans.read_overrides())
    html = overrides.override_html(row, read_standing().now, 0.5)
    assert "Pin images at 22" in html and "about $12.83 until then" in html and "a.meyer" in html
    assert "until then" not in overrides.override_html(row, read_standing().now, None)


def test_a_controller_that_starts_is_not_called_dead(database: Callable[..., Engine]) -> None:
    from sqlmodel import Session

    from models.fleet import ControllerLease, ControllerPulse

    engine = database()
    wall = datetime.now(UTC)
    with Session(engine) as session:
        session.add(ControllerPulse(started_at=wall))
        session.add(ControllerLease(holder="c", host="h", pid=1, epoch=1, acquired_at=wall, renewed_at=wall))
        session.commit()
    found = read_standing()
    assert found.starting and not found.down
    assert "is starting" in strip.banners(found) and "has not reported" not in strip.banners(found)


def test_a_released_lease_is_a_controller_that_stopped(database: Callable[..., Engine]) -> None:
    from sqlmodel import Session, update

    from models.fleet import ControllerLease

    engine = database(filled=True, wall=datetime.now(UTC) + timedelta(days=1))
    with Session(engine) as session:
        session.execute(update(ControllerLease).values(released=True))
        session.commit()
    assert read_standing().down


AB = ("a", "b")


@pytest.mark.parametrize(
    ("row", "before", "names", "turn", "ticked", "chosen"),
    [
        (None, Mark(3, None, AB, (1, "b")), ["a", "b"], 3, None, None),  # the tick was taken away
        (1, Mark(3, None, AB), ["a", "b"], 3, None, (1, "b")),
        (1, Mark(3, None, AB, (1, "b")), ["a", "b"], 3, None, (1, "b")),
        (1, Mark(3, None, AB, (1, "b")), ["new", "a", "b"], 4, 2, (2, "b")),  # a row came in above: the tick follows
        (1, Mark(3, None, AB), ["new", "a", "b"], 4, 2, (2, "b")),  # what was clicked is what was shown
        (0, Mark(3, None, AB, (1, "b")), ["a", "b"], 3, None, (0, "a")),
        (1, Mark(3, None, AB, (1, "b")), ["a"], 4, None, None),  # the thing is gone: nothing is ticked
        (5, Mark(3, None, AB), ["a"], 4, None, None),
    ],
)
def test_a_choice_stays_with_the_thing_when_rows_move(  # type: ignore[no-untyped-def]
    row, before, names, turn, ticked, chosen
) -> None:
    assert follow(row, before, names) == Mark(turn, ticked, tuple(names), chosen)


def test_the_tick_moves_with_the_row_that_was_chosen() -> None:
    def script() -> None:
        import pandas as pd
        import streamlit as st

        from dashboard.components import cards

        names = st.session_state.get("names", ["a", "b"])
        columns = {"id": cards.text_column("Id", 60)}
        row = cards.grid(pd.DataFrame({"id": names}), columns, key="t", alt="Things", select="id")
        st.session_state["seen"] = None if row is None else names[row]

    def ticked() -> list[int]:
        state = test.session_state
        return list(state[f"t-{state['t-mark'].turn}"]["selection"]["rows"])

    test = AppTest.from_function(script).run()
    assert not test.exception and ticked() == []
    test.session_state[f"t-{test.session_state['t-mark'].turn}"] = {"selection": {"rows": [1]}}
    test.run()
    assert (test.session_state["seen"], ticked()) == ("b", [1])
    for names, seen, rows in ((["n", "a", "b"], "b", [2]), (["m", "n", "a", "b"], "b", [3]), (["m", "n"], None, [])):
        test.session_state["names"] = names
        test.run()
        assert not test.exception
        assert test.session_state["seen"] == seen
        assert ticked() == rows


def test_an_hour_without_requests_missed_no_target() -> None:
    assert [target_held({"held": held}) for held in (True, False, None)] == [True, False, None]
    assert target_held({"met": True}) is True and target_held({}) is None


def test_only_what_a_job_allows_is_offered() -> None:
    offered = {state: [label for _, label, _ in acts_for(state.value)] for state in JobState}
    assert offered[JobState.RUNNING] == ["Suspend", "Kill"]
    assert offered[JobState.SUSPENDED] == ["Resume", "Kill"]
    assert offered[JobState.QUEUED] == ["Kill"]
    assert not offered[JobState.KILLED] and not offered[JobState.SUCCEEDED] and not offered[JobState.FAILED]


def test_a_job_stands_to_its_own_limit() -> None:
    class Job:
        projected_usd: float | None = 5.0
        cost_usd: float | None = 2.0
        cost_limit_usd: float | None = 4.0

    job = Job()
    assert standing_of(job) == "▲ Projected over"
    job.cost_usd = 4.5
    assert standing_of(job) == "■ Over its limit"
    job.cost_limit_usd = None
    assert standing_of(job) == "? No limit"


def test_no_colour_is_written_in_python() -> None:
    import re

    for path in DASHBOARD.rglob("*.py"):
        assert not re.search(r"#[0-9A-Fa-f]{6}\b", path.read_text()), path.name


def test_only_intents_writes() -> None:
    for path in DASHBOARD.rglob("*.py"):
        if path.name != "intents.py":
            text = path.read_text()
            assert ".commit(" not in text and "session.add(" not in text, path.name


def test_the_face_is_shipped_with_its_licence() -> None:
    assert (DASHBOARD / "static" / "inter-latin.woff2").read_bytes()[:4] == b"wOF2"
    assert "SIL Open Font License" in (DASHBOARD / "static" / "inter-OFL.txt").read_text()
