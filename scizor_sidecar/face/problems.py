"""Errors as answers: what went wrong, what helps, with the status that fits."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from scizor_core.errors import (
    ConfigError,
    InvalidInputError,
    ScizorError,
    UnknownMarketError,
    UnknownSymbolError,
)
from scizor_resources.errors import ServerError, WarehouseAway, WarehouseError


class Problem(BaseModel):
    """Why a request was not answered."""

    error: str = Field(examples=["There is no XYZ here."])
    what_to_do: str = Field(examples=["See GET /api/watchlist for what there is, or add it."])


class AlreadyThere(InvalidInputError):
    """What was to be made stands there already."""


class TooSoon(ScizorError):
    """The same was asked a moment ago."""


class NotFound(ScizorError):
    """There is no such thing."""


#: The first that fits counts, so the narrower ones come first.
_ANSWERS: tuple[tuple[type[ScizorError], HTTPStatus, str], ...] = (
    (UnknownMarketError, HTTPStatus.NOT_FOUND, "Use asx, us or crypto."),
    (
        UnknownSymbolError,
        HTTPStatus.NOT_FOUND,
        "See GET /api/watchlist for what there is, or add it there.",
    ),
    (NotFound, HTTPStatus.NOT_FOUND, "See /docs for what there is."),
    (AlreadyThere, HTTPStatus.CONFLICT, "Change it with PATCH instead."),
    (ConfigError, HTTPStatus.CONFLICT, "Set what is missing and start the sidecar again."),
    (TooSoon, HTTPStatus.TOO_MANY_REQUESTS, "Wait a moment."),
    (InvalidInputError, HTTPStatus.UNPROCESSABLE_ENTITY, "Correct the request; see /docs."),
    (
        WarehouseAway,
        HTTPStatus.SERVICE_UNAVAILABLE,
        "Try again; live data goes on. `scizor health` shows what is away.",
    ),
    (WarehouseError, HTTPStatus.SERVICE_UNAVAILABLE, "See `scizor health`."),
    (ServerError, HTTPStatus.SERVICE_UNAVAILABLE, "Start it with `scizor up`, then try again."),
    (ScizorError, HTTPStatus.SERVICE_UNAVAILABLE, "See `scizor health`."),
)

#: For the documentation of routes.
PROBLEMS: Mapping[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "The key is missing or wrong."},
    404: {"model": Problem, "description": "There is no such thing."},
    422: {"model": Problem, "description": "The request cannot be read."},
    503: {"model": Problem, "description": "What has to be asked is away; live data goes on."},
}


def answer(status: int, error: str, what_to_do: str) -> JSONResponse:
    """Return a problem as an answer."""
    headers = {"retry-after": "5"} if status in (429, 503) else None
    return JSONResponse({"error": error, "what_to_do": what_to_do}, status, headers)


def advice(error: ScizorError) -> tuple[int, str]:
    """Return the status of an error, and what helps."""
    for kind, status, what_to_do in _ANSWERS:
        if isinstance(error, kind):
            return int(status), what_to_do
    raise AssertionError("ScizorError is the last of them")


def add_handlers(app: FastAPI) -> None:
    """Let an app answer with problems."""

    @app.exception_handler(ScizorError)
    async def _ours(request: Request, error: ScizorError) -> JSONResponse:
        del request
        status, what_to_do = advice(error)
        return answer(status, str(error), what_to_do)

    @app.exception_handler(RequestValidationError)
    async def _unreadable(request: Request, error: RequestValidationError) -> JSONResponse:
        del request
        problems = "; ".join(
            f"{'.'.join(str(part) for part in each['loc'][1:]) or 'body'}: {each['msg']}"
            for each in error.errors()
        )
        return answer(422, f"The request cannot be read: {problems}.", "See /docs for its form.")

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        del request
        return answer(error.status_code, str(error.detail), "See /docs for what there is.")
