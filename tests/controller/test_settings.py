import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controller.settings import READ_ELSEWHERE, Settings, SettingsError, allowed, load_settings, variable

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_defaults_need_no_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOGNAME", "ada")
    settings = load_settings()
    assert (settings.bind, settings.api_port, settings.dashboard_port) == ("127.0.0.1", 8000, 8501)
    assert settings.start == datetime(2024, 11, 25, 6, tzinfo=UTC)
    assert settings.speed == 60.0
    assert settings.user == "ada"


def test_the_files_of_the_defaults_are_shipped():
    assert load_settings().missing_files() is None


def test_a_missing_file_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HEDDLE_ENVELOPE", "nowhere.yaml")
    assert load_settings().missing_files() == "HEDDLE_ENVELOPE=nowhere.yaml: there is no such file"


def test_an_empty_variable_is_the_default(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HEDDLE_SPEED", "")
    assert load_settings().speed == 60.0


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HEDDLE_API_PORT", "99999", "HEDDLE_API_PORT=99999: must be 1 to 65535"),
        ("HEDDLE_API_PORT", "http", "HEDDLE_API_PORT=http: must be 1 to 65535"),
        ("HEDDLE_SPEED", "-60", "HEDDLE_SPEED=-60: must be above 0, up to 3600"),
        ("HEDDLE_SPEED", "nan", "HEDDLE_SPEED=nan: must be above 0, up to 3600"),
        ("HEDDLE_START", "2024-11-25T06:00:00", "HEDDLE_START=2024-11-25T06:00:00: must be an ISO time with its zone"),
        ("HEDDLE_MODE", "drive", "HEDDLE_MODE=drive: must be observe, advise or act"),
        ("HEDDLE_BIND", "everywhere", "HEDDLE_BIND=everywhere: must be an IP address, or localhost"),
        ("HEDDLE_SPOT_ZONES", "usw2-az1", "HEDDLE_SPOT_ZONES=usw2-az1: must be ZONE=SERIES,… or none"),
        (
            "HEDDLE_DATABASE_URL",
            "mysql://heddle:secret@db/heddle",
            "HEDDLE_DATABASE_URL=mysql://heddle:***@db/heddle: "
            "must be sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME",
        ),
    ],
)
def test_a_bad_value_is_one_line_with_variable_value_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert str(refused.value) == said


def test_a_typo_is_named_with_the_nearest_setting(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HEDDLE_SPED", "10")
    with pytest.raises(SettingsError, match=r"HEDDLE_SPED: there is no such setting; did you mean HEDDLE_SPEED\?"):
        load_settings()


def test_every_problem_is_said_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HEDDLE_SEED", "x")
    monkeypatch.setenv("HEDDLE_SCALE", "0")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert sorted(line.split("=")[0] for line in str(refused.value).splitlines()) == ["HEDDLE_SCALE", "HEDDLE_SEED"]


def test_what_kubernetes_announces_of_a_service_called_heddle_is_no_typo(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HEDDLE_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("HEDDLE_PORT", "tcp://10.0.0.1:8000")
    monkeypatch.setenv("HEDDLE_API_PORT_8000_TCP_ADDR", "10.0.0.1")
    assert load_settings().api_port == 8000


def test_spot_zones_are_a_map_or_none(monkeypatch: pytest.MonkeyPatch):
    for value in ("a=x, b=y", "none"):
        monkeypatch.setenv("HEDDLE_SPOT_ZONES", value)
        assert load_settings().spot_zones == value


def documented() -> dict[str, tuple[str, str, str]]:
    """Variable → (default, allowed, text), as the page's first table says."""
    row = re.compile(r"^\| `(HEDDLE_\w+)` \| (.*?) \| (.*?) \| (.*?) \|$", re.MULTILINE)
    return {name: (default, may, text) for name, default, may, text in row.findall(PAGE.read_text(encoding="utf-8"))}


def test_the_documented_settings_are_those_that_exist():
    assert list(documented()) == [variable(field) for field in Settings.model_fields]


@pytest.mark.parametrize("field", list(Settings.model_fields))
def test_the_page_says_what_the_code_does(field: str):
    default = Settings.model_fields[field].default
    shown = "the system's user name" if field == "user" else f"`{default}`"
    assert documented()[variable(field)] == (shown, allowed(field), Settings.model_fields[field].description)


def test_variables_read_elsewhere_are_documented_too():
    row = re.compile(r"^\| `(HEDDLE_\w+)` \| ([^|]*?) \| ([^|]*?) \|$", re.MULTILINE)
    found = {name: (reader, text) for name, reader, text in row.findall(PAGE.read_text(encoding="utf-8"))}
    assert found == READ_ELSEWHERE
