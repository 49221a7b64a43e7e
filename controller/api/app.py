"""The HTTP API for machines. It reads tables, writes intents as the dashboard does, takes the values of signals, and
never steers the loop."""

from collections.abc import Callable

from fastapi import FastAPI
from sqlalchemy import Engine

from controller.api import asking, health, problems, pushing, reading
from controller.api.context import ApiContext, ControllerStatus
from controller.api.origin import OriginCheck
from controller.metrics import Metrics


def create_app(
    engine: Engine,
    status: Callable[[], ControllerStatus],
    *,
    metrics: Metrics | None = None,
    bind: str = "127.0.0.1",
) -> FastAPI:
    """The application. `status` is asked at each request, from several threads; `bind` is where it will listen.

    The interactive pages of FastAPI are off: they load scripts from another site. /openapi.json is the reference.
    """
    app = FastAPI(title="Heddle", version="1", docs_url=None, redoc_url=None)
    app.state.context = ApiContext(engine, status, metrics or Metrics())
    app.add_middleware(OriginCheck, bind=bind)
    problems.install(app)
    for part in (health, reading, asking, pushing):
        app.include_router(part.router)
    return app
