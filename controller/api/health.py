"""What supervisors and Prometheus ask: is the process alive, does it tick, and its numbers."""

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from controller.api.context import InContext
from controller.api.problems import Problem
from controller.metrics import CONTENT_TYPE

router = APIRouter(tags=["health"])


@router.get("/healthz", response_class=PlainTextResponse)
def healthz() -> str:
    """The process answers. Says nothing of the loop: see /readyz."""
    return "ok\n"


@router.get("/readyz", response_class=PlainTextResponse)
def readyz(context: InContext) -> str:
    """The loop ticks; 503 with the reason when it does not."""
    status = context.status()
    if not status.ticking:
        raise Problem(503, "Not ticking", status.detail or "The control loop has not run yet.")
    return "ok\n"


@router.get("/metrics")
def metrics(context: InContext) -> Response:
    """The controller's numbers, in the text format of Prometheus."""
    return Response(context.metrics.exposition(), media_type=CONTENT_TYPE)
