"""Errors as problem details (RFC 9457), each with the field, the reason and the nearest value that would do."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An answer that refuses. `members` are added to the document (field, reason, nearest)."""

    def __init__(self, status: int, title: str, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail, self.members = status, title, detail, members


def problem_response(status: int, title: str, detail: str, **members: Any) -> JSONResponse:
    """The document and its media type."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **members}
    return JSONResponse(body, status_code=status, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Makes every error of `app` a problem document."""

    @app.exception_handler(Problem)
    def _problem(_request: Request, error: Problem) -> JSONResponse:
        return problem_response(error.status, error.title, error.detail, **error.members)

    @app.exception_handler(RequestValidationError)
    def _invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path")) or "body"
        reason = str(first["msg"])
        return problem_response(422, "Invalid request", f"{field}: {reason}", field=field, reason=reason, nearest=None)

    @app.exception_handler(HTTPException)
    def _http(_request: Request, error: HTTPException) -> JSONResponse:
        return problem_response(error.status_code, "Refused", str(error.detail))

    @app.exception_handler(SQLAlchemyError)
    def _database(_request: Request, error: SQLAlchemyError) -> JSONResponse:
        return problem_response(503, "Database unavailable", type(error).__name__)
