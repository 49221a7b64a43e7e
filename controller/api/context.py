"""What every endpoint works with: the database, the controller's status and its metrics."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Query, Request
from pydantic import AwareDatetime
from sqlalchemy import Engine
from sqlmodel import Session

from controller.clock import to_datetime
from controller.metrics import Metrics


@dataclass(frozen=True, slots=True)
class ControllerStatus:
    """What only the running process knows. `now_s`: the controller's (virtual) now. `detail`: why it does not tick."""

    now_s: float
    ticking: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ApiContext:
    """Handed to the endpoints by `create_app`. `status` is called from several threads and must be quick."""

    engine: Engine
    status: Callable[[], ControllerStatus]
    metrics: Metrics

    def now(self) -> datetime:
        """The controller's now."""
        return to_datetime(self.status().now_s)


def _context(request: Request) -> ApiContext:
    context: ApiContext = request.app.state.context
    return context


def _session(request: Request) -> Iterator[Session]:
    with Session(_context(request).engine) as session:
        yield session


InContext = Annotated[ApiContext, Depends(_context)]
InSession = Annotated[Session, Depends(_session)]
Limit = Annotated[int, Query(ge=1, le=500, description="How many at most.")]
BeforeId = Annotated[int | None, Query(ge=1, description="Only older ones: `next` of the page before.")]
Before = Annotated[AwareDatetime | None, Query(description="Only older ones: `next` of the page before.")]
