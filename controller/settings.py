"""Every setting of Heddle, each a `HEDDLE_*` variable, validated once at start.

The names, defaults and texts here are what `docs/configuration.md` prints; a test keeps the two alike.
"""

import difflib
import getpass
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import AwareDatetime, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from controller.core.settle import MissPrice, miss_price
from models.database import DEFAULT_URL
from models.enums import Mode

PREFIX: Final = "HEDDLE_"

# Variables that other parts read: known here, so that a typo is told from them. Name → (who reads it, what it does).
READ_ELSEWHERE: Final[Mapping[str, tuple[str, str]]] = {
    "HEDDLE_PYTHON": ("make", "The Python that `make setup` builds the environment with: 3.11, 3.12 or 3.13."),
    "HEDDLE_REQUIRE_BROWSER": ("make test", "1: a machine without Chromium fails the browser tests, not skips them."),
    "HEDDLE_CHROMIUM": ("make test", "The Chromium to drive in the browser tests and for the screenshots."),
    "HEDDLE_TEST_POSTGRES_URL": ("make test", "A PostgreSQL for the tests that need one; they are skipped without."),
}

# Kubernetes and Docker announce a service called "heddle" with variables like HEDDLE_SERVICE_HOST=10.0.0.1.
_SERVICE_LINK = re.compile(r"^HEDDLE_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP)(_\w+)?)?)$")


class SettingsError(Exception):
    """A `HEDDLE_*` variable that can't be used: one line for each, naming it, its value and what is allowed."""


def system_user() -> str:
    """The system's name of who runs this; "operator" where it has none (a container without a passwd entry)."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "operator"


def _setting(default: Any, allowed: str, description: str, **limits: Any) -> Any:
    return Field(default=default, description=description, json_schema_extra={"allowed": allowed}, **limits)


class Settings(BaseSettings):
    """What a person may set. Durations ending in `_s` are seconds of virtual time."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="ignore", validate_default=True
    )

    bind: str = _setting("127.0.0.1", "an IP address, or localhost", "The address that both servers listen on.")
    api_port: int = _setting(8000, "1 to 65535", "The controller's HTTP API.", ge=1, le=65535)
    dashboard_port: int = _setting(8501, "1 to 65535", "The dashboard.", ge=1, le=65535)
    database_url: str = _setting(
        DEFAULT_URL,
        "sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME",
        "The database that controller and dashboard share. A SQLite file is relative to the working directory.",
    )
    state_dir: Path = _setting(Path("var"), "a folder", "Where logs and the simulated cluster's state are kept.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = _setting(
        "INFO", "DEBUG, INFO, WARNING or ERROR", "How much the controller logs."
    )
    user: str = _setting("", "a name", "Author of what is done in the dashboard. Default: the system's user name.")

    mode: Mode = _setting(
        Mode.ACT, "observe, advise or act", "How far Heddle may go: only look, write plans, or carry them out."
    )
    policy: Literal["heddle", "hpa", "static"] = _setting(
        "heddle", "heddle, hpa or static", "Who decides: Heddle, or one of the two baselines it is compared with."
    )
    backend: Literal["simulated"] = _setting("simulated", "simulated", "The cluster that is controlled.")
    miss_usd_per_minute: str = _setting(
        "0.5",
        "dollars, or TIER=DOLLARS,… and dollars for the others",
        "What an SLO-minute costs: a minute's worth of a tier's requests that missed its target.",
    )
    step_back_hours: int = _setting(
        24,
        "0 to 168",
        "Settled hours by which the planner is judged against the shadow: it steps back, or leads again. 0: it leads.",
        ge=0,
        le=168,
    )
    tick_s: float = _setting(15.0, "1 to 3600", "Seconds between two decisions.", ge=1, le=3600)
    guard_s: float = _setting(10.0, "1 to 3600", "Seconds between two checks of the jobs.", ge=1, le=3600)
    stale_after_s: float = _setting(
        180.0, "15 to 86400", "Telemetry older than this is stale: nothing is scaled in on it.", ge=15, le=86400
    )
    forecast_workers: int = _setting(1, "0 to 16", "Processes that fit forecasts; 0 fits in the tick.", ge=0, le=16)
    forecast_backend: Literal["loky", "dask"] = _setting(
        "loky", "loky or dask", "Where forecasts are fitted: by processes of this machine, or by a Dask cluster."
    )
    dask_scheduler: str = _setting(
        "",
        "tcp://HOST:PORT, or nothing",
        "The Dask cluster to fit on. Nothing: two workers or more are started on this machine.",
    )
    forecast_lstm: Literal["auto", "on", "off"] = _setting(
        "auto", "auto, on or off", "Whether the LSTM is among the models. `auto`: where PyTorch is installed."
    )

    replays_at_once: int = _setting(
        1, "0 to 8", "What-if replays that run at once, each a process at low priority; 0 refuses them.", ge=0, le=8
    )

    speed: float = _setting(
        60.0, "above 0, up to 3600", "Virtual seconds a real second: 60 is a day in 24 minutes.", gt=0, le=3600
    )
    start: AwareDatetime = _setting(
        "2024-11-25T06:00:00Z",
        "an ISO time with its zone",
        "The virtual now of the first start.",
        validate_default=True,
    )
    warmup_hours: float = _setting(
        24.0, "0 to 168", "Hours before `HEDDLE_START` that are simulated on the first start.", ge=0, le=168
    )
    seed: int = _setting(7, "0 to 4294967295", "Seed of everything random in the simulation.", ge=0, le=2**32 - 1)
    scale: int = _setting(20, "1 to 10000", "How often each request of the trace is replicated.", ge=1, le=10000)
    jitter_s: float = _setting(
        300.0, "0 to 86400", "Each copy of a request arrives within ± this of the record, uniformly.", ge=0, le=86400
    )
    boot_s: float = _setting(180.0, "0 to 7200", "Seconds a machine boots before it loads the model.", ge=0, le=7200)
    envelope: Path = _setting(
        Path("data/envelopes/sample.yaml"), "an existing file", "The envelope of the first start."
    )
    offers: Path = _setting(Path("data/prices/headline_offers.csv"), "an existing file", "What can be bought.")
    requests: Path = _setting(
        Path("data/traces/gentd26_requests.csv.gz"), "an existing file", "The request trace that is served."
    )
    load_times: Path = _setting(
        Path("data/traces/gentd26_base_model_load_ms.csv.gz"),
        "an existing file",
        "Measured times that a model took to load; a replica's is drawn from them.",
    )
    spot: Path = _setting(
        Path("data/traces/spot_availability_aws_v100_2023-02-15_30d.csv"),
        "an existing file",
        "Availability of spot capacity by zone; past its end it repeats.",
    )
    spot_zones: str = _setting(
        "usw2-az1=us-west-2a,usw2-az2=us-west-2b,usw2-az3=us-west-2c",
        "ZONE=SERIES,… or none",
        "Which series of `HEDDLE_SPOT` a zone of the offers follows; a zone without one is always available.",
    )
    spot_offset_ticks: int = _setting(0, "0 or more", "Where in the series the first start begins.", ge=0)

    @field_validator("bind")
    @classmethod
    def _address(cls, value: str) -> str:
        if value != "localhost":
            ipaddress.ip_address(value)
        return value

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        try:
            backend = make_url(value).get_backend_name()
        except ArgumentError as error:
            raise ValueError("no database URL") from error
        if backend not in {"sqlite", "postgresql"}:
            raise ValueError("another database")
        return value

    @field_validator("dask_scheduler")
    @classmethod
    def _scheduler(cls, value: str) -> str:
        if value and not re.fullmatch(r"(tcp|tls)://[^/\s]+:\d{1,5}", value):
            raise ValueError("no address")
        return value

    @field_validator("spot_zones")
    @classmethod
    def _pairs(cls, value: str) -> str:
        for pair in filter(None, value.removeprefix("none").split(",")):
            zone, equals, series = pair.partition("=")
            if not (zone.strip() and equals and series.strip()):
                raise ValueError("no pair")
        return value

    @field_validator("miss_usd_per_minute")
    @classmethod
    def _priced(cls, value: str) -> str:
        miss_price(value)
        return value

    @property
    def miss_price(self) -> MissPrice:
        """`miss_usd_per_minute`, read."""
        return miss_price(self.miss_usd_per_minute)

    @field_validator("user")
    @classmethod
    def _somebody(cls, value: str) -> str:
        return value.strip() or system_user()

    def missing_files(self) -> str | None:
        """One line naming the first input file that does not exist; None when all do."""
        for name in ("envelope", "offers", "requests", "load_times", "spot"):
            path: Path = getattr(self, name)
            if not path.is_file():
                return f"{PREFIX}{name.upper()}={path}: there is no such file"
        return None


def variable(field: str) -> str:
    """The environment variable of a field."""
    return PREFIX + field.upper()


def allowed(field: str) -> str:
    """What a field may hold, in words."""
    extra = Settings.model_fields[field].json_schema_extra
    return str(extra["allowed"]) if isinstance(extra, dict) else ""


def load_settings() -> Settings:
    """The settings of this process's environment. SettingsError, one line a variable, when any is wrong or unknown."""
    lines = _unknown(os.environ)
    settings: Settings | None = None
    try:
        settings = Settings()
    except ValidationError as error:
        lines += [_line(str(problem["loc"][0]), problem.get("input")) for problem in error.errors()]
    if settings is None or lines:
        raise SettingsError("\n".join(lines))
    return settings


def _line(field: str, value: object) -> str:
    shown = re.sub(r"(://[^:/@]*:)[^@]*@", r"\1***@", str(value))
    return f"{variable(field)}={shown}: must be {allowed(field)}"


def _unknown(environment: Mapping[str, str]) -> list[str]:
    known = {variable(field) for field in Settings.model_fields} | set(READ_ELSEWHERE)
    lines = []
    for name in sorted(environment):
        # pydantic-settings reads variables in any case.
        if not name.upper().startswith(PREFIX) or name.upper() in known or _SERVICE_LINK.match(name.upper()):
            continue
        near = difflib.get_close_matches(name.upper(), sorted(known), n=1)
        hint = f"did you mean {near[0]}?" if near else "docs/configuration.md lists those that exist"
        lines.append(f"{name}: there is no such setting; {hint}")
    return lines
