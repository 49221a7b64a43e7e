"""Every module that has tables. Importing it registers them all with SQLModel's metadata."""

from models import (
    fleet,
    forecasts,
    guardrails,
    intents,
    jobs,
    ledger,
    offers,
    plans,
    prospects,
    replays,
    services,
    signals,
    surges,
    telemetry,
)

MODULES = (
    fleet, forecasts, guardrails, intents, jobs, ledger, offers, plans, prospects, replays, services, signals, surges,
    telemetry,
)  # fmt: skip
