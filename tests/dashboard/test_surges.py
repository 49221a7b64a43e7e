"""The card of surges ahead, in each of its states, and the line in the list of what needs attention."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from dashboard.components import surges
from dashboard.queries.attention import read_attention
from dashboard.queries.surges import read_surges
from models.enums import SurgeStatus
from models.surges import SurgeLook, SurgeRow
from tests.dashboard.conftest import NOW
from tests.dashboard.test_views import html, opened

EVIDENCE: dict[str, Any] = {
    "model": "weekly_profile",
    "step_s": 600.0,
    "pinball": 0.41,
    "coverage_p90": 0.912,
    "quantiles": [0.5, 0.8, 0.9, 0.95, 0.99],
    "loads": [30.0, 33.0, 34.0, 35.0, 41.0],
    "yesterday": 6.0,
    "last_week": 29.4,
    "events": ["Black <Friday>"],
}


def look(
    ready: float = 26.0, highest: float | None = 44.0, until: datetime | None = NOW + timedelta(days=1)
) -> SurgeLook:
    return SurgeLook(service="images", at=NOW, until=until, ready_gpus=ready, coming_gpus=2.0, highest_gpus=highest)


def surge(starts_in: timedelta, status: SurgeStatus = SurgeStatus.AHEAD, **changes: Any) -> SurgeRow:
    start = NOW.replace(second=0) + starts_in
    fields: dict[str, Any] = {
        "service": "images", "start_at": start, "end_at": start + timedelta(hours=2), "peak_at": start,
        "provision_by": start - timedelta(seconds=222), "made_at": NOW, "tiers": "premium+standard",
        "need_gpus": 44.0, "ready_gpus": 26.0, "coming_gpus": 2.0, "level": 6.1, "expected": 30.0,
        "observed": None, "status": status.value, "evidence": EVIDENCE,
    }  # fmt: skip
    return SurgeRow(**{**fields, **changes})


@pytest.fixture
def told(database: Callable[..., Engine]) -> Callable[..., None]:
    """`told(rows…)`: the day, with these rows of surges."""
    engine = database(filled=True, wall=datetime.now(UTC) + timedelta(days=1))

    def tell(*rows: Any) -> None:
        with Session(engine) as session:
            session.add_all(rows)
            session.commit()

    return tell


def test_a_surge_ahead_says_when_to_start_what_is_needed_and_why(told: Callable[..., None]) -> None:
    told(look(), surge(timedelta(minutes=38)))
    test = opened("forecast")
    assert not test.exception
    text = html(test)
    for words in (
        "Surges ahead",
        "25 Nov 15:10 to 17:10",
        "<b>44</b>",
        "26 + 2 coming",
        "15:06, in 34 min",
        "Weekly profile expects 30.0 GPUs in use (p50)",
        "p99 41.0",
        "29.4 a week before",
        "6.0 the day before",
        "91% lay under p90",
        "Black &lt;Friday&gt;",
        "Ahead",
    ):
        assert words.lower() in text.lower(), words


def test_none_ahead_says_how_much_is_ready(told: Callable[..., None]) -> None:
    told(look(highest=24.0))
    assert "None in the next 24 h: need stays at or below 28 GPUs ready." in html(opened("forecast"))


def test_quantiles_that_reach_higher_without_a_rise_are_told_as_such(told: Callable[..., None]) -> None:
    told(look(highest=51.0))
    text = html(opened("forecast"))
    assert "None in the next 24 h that the forecast is sure of" in text and "51 GPUs, 28 are ready" in text


def test_without_a_slow_forecast_nothing_is_claimed(told: Callable[..., None]) -> None:
    told(look(highest=None, until=None))
    assert "Nothing is known of the next day yet" in html(opened("forecast"))


def test_what_did_not_come_is_shown(told: Callable[..., None]) -> None:
    told(
        look(highest=24.0),
        surge(timedelta(minutes=-12), SurgeStatus.DID_NOT_COME, observed=6.4),
        surge(timedelta(hours=-30), SurgeStatus.CAME, observed=29.0),
    )
    text = html(opened("forecast"))
    assert "Did not come" in text and "6.4 GPUs in use since its start; expected 30.0, before it 6.1." in text
    assert "let go" in text
    assert "Came" not in text.replace("Came late", "")  # over since more than half a day


def test_a_surge_in_preparation_is_said_to_have_started(told: Callable[..., None]) -> None:
    told(look(), surge(timedelta(minutes=5), SurgeStatus.PREPARING))
    text = html(opened("forecast"))
    assert "Preparing" in text and "Started" in text


def test_many_surges_are_counted(told: Callable[..., None]) -> None:
    told(look(), *(surge(timedelta(hours=3 * n + 1)) for n in range(7)))
    assert "and 2 more in the next 24 h" in html(opened("forecast"))


def test_provisioning_due_within_the_hour_needs_attention(told: Callable[..., None]) -> None:
    told(
        look(),
        surge(timedelta(minutes=38)),
        surge(timedelta(hours=4)),
        surge(timedelta(minutes=5), SurgeStatus.PREPARING),
    )
    (item,) = (each for each in read_attention() if each.page == "forecast")
    assert item.thing == "Surge at 15:10"
    assert item.why == "Needs 44 GPUs, 26 are ready. Provisioning must start by 15:06. Heddle starts it."
    assert len(read_surges().ahead) == 3


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (timedelta(minutes=34), "in 34 min"),
        (timedelta(seconds=10), "now"),
        (timedelta(minutes=-12), "12 min ago"),
        (timedelta(hours=5), "in 5 h"),
    ],
)
def test_a_moment_against_now(after: timedelta, words: str) -> None:
    assert surges.relative(NOW + after, NOW) == words


def test_every_status_has_a_word() -> None:
    assert set(surges.STATUS) == {status.value for status in SurgeStatus}
