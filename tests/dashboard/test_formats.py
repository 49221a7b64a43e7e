from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import formats


@pytest.mark.parametrize(
    ("usd", "text"),
    [(0.93, "$0.93"), (41.2, "$41.20"), (99.99, "$99.99"), (948.4, "$948"), (-0.8, "−$0.80"), (-0.001, "$0.00")],
)
def test_money_shows_cents_under_a_hundred_dollars_only(usd: float, text: str) -> None:
    assert formats.money(usd) == text


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_unknown_is_a_dash_never_zero(value: float | None) -> None:
    for form in (
        formats.money,
        formats.rate,
        formats.cap,
        formats.signed_money,
        formats.wait,
        formats.duration,
        formats.age,
        formats.percent,
        formats.number,
    ):
        assert form(value) == "—", form.__name__


@pytest.mark.parametrize(
    ("ms", "in_ms", "text"),
    [
        (187, False, "187 ms"),
        (999, False, "999 ms"),
        (1000, True, "1,000 ms"),
        (2310, False, "2.31 s"),
        (38_000, False, "38 s"),
        (514_000, False, "8 min 34 s"),
        (7_200_000, False, "2 h"),
    ],
)
def test_waits_are_told_in_the_unit_of_their_size(ms: float, in_ms: bool, text: str) -> None:
    assert formats.wait(ms, in_ms) == text


def test_a_saving_and_a_cost_carry_their_sign() -> None:
    assert formats.signed_money(26) == "+$26.00"
    assert formats.signed_money(-0.8) == "−$0.80"
    assert formats.signed_money(0) == "$0.00"


def test_percent_has_a_decimal_only_where_it_matters() -> None:
    assert [formats.percent(x) for x in (0.93, 0.992, 1.0, 0.0)] == ["93%", "99.2%", "100%", "0%"]


def test_ages_have_one_unit() -> None:
    assert [formats.age(x) for x in (-3, 12, 360, 3 * 3600 + 5, 2 * 86400)] == ["0 s", "12 s", "6 min", "3 h", "2 d"]


@given(st.floats(0, 1e8))
def test_a_duration_never_shows_a_full_smaller_unit(seconds: float) -> None:
    text = formats.duration(seconds)
    assert " 60 " not in f" {text} " and " 24 h" not in f" {text} "


def test_sentences_start_large_but_ids_and_versions_stay() -> None:
    assert formats.sentence("projected $31 against $4") == "Projected $31 against $4."
    assert formats.sentence("j-0003 was killed") == "j-0003 was killed."
    assert formats.sentence("v2 is in force.") == "v2 is in force."
    assert formats.sentence("  ") == ""


def test_sentences_tell_models_and_moments_as_the_pages_do() -> None:
    assert formats.sentence("ets leads autoreg_fourier") == "ETS leads Autoregression + Fourier."
    for iso in ("2024-11-25 08:40 UTC", "2024-11-25T08:40:00+00:00", "2024-11-25T08:40:10Z"):
        assert formats.sentence(f"it is in force until {iso}") == "It is in force until 25 Nov 08:40."
    line = formats.sentence("images/premium+standard at 600 s: ets leads")
    assert line == "Premium + standard, next day: ETS leads."
    assert formats.model("ets") == "ETS" and formats.model("naive") == "Naive"


def test_numbers_of_a_record_are_told_by_the_unit_in_their_name() -> None:
    told = {
        "usd_per_hour": (18.0, "$18.00/h"),
        "accrued_usd": (11.2, "$11.20"),
        "target_ms": (200.0, "200 ms"),
        "telemetry_age_s": (8.0, "8 s"),
        "progress_ratio": (0.31, "31%"),
        "required_gpus": (30.0, "30"),
        "busy": (True, "yes"),
        "missing": (None, "—"),
        "zone": ("usw2", "usw2"),
    }
    for name, (value, text) in told.items():
        assert formats.measured(name, value) == text


def test_times_are_utc_and_say_so() -> None:
    at = datetime(2024, 11, 22, 13, 10, 4, tzinfo=UTC)
    assert formats.exact(at) == "22 Nov 13:10:04 UTC"
    assert formats.exact(None) == "—"


def test_every_limit_and_market_has_words() -> None:
    from models.enums import Limit, Market

    for told in [formats.limit(each.value) for each in Limit] + [formats.market(each.value) for each in Market]:
        assert told[0].isupper() and "_" not in told


def test_a_records_number_is_named_without_its_unit() -> None:
    told = {
        "telemetry_age_s": "Telemetry age",
        "required_gpus": "Required GPUs",
        "usd_per_hour": "Burn",
        "cost_usd": "Cost",
    }
    assert {name: formats.label(name) for name in told} == told
