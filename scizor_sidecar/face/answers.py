"""What routes return: JSON made in one piece, and how it is documented."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any

import msgspec
from fastapi import Query
from fastapi.responses import Response
from pydantic import BaseModel

from scizor_core.errors import InvalidInputError
from scizor_sidecar.face.problems import PROBLEMS

_encode = msgspec.json.Encoder().encode
_FIRST_YEAR, _LAST_YEAR = 1970, 2200
_LONGEST_TIME = 40

Market = Annotated[
    str | None,
    Query(
        max_length=20, description="Needed where several markets have that code.", examples=["asx"]
    ),
]
Start = Annotated[
    str | None,
    Query(
        max_length=_LONGEST_TIME,
        description="First session (a date) or instant (with its offset).",
        examples=["2026-11-20"],
    ),
]
End = Annotated[
    str | None,
    Query(
        max_length=_LONGEST_TIME,
        description="First session or instant no longer wanted.",
        examples=["2026-11-21T06:00:00Z"],
    ),
]


def respond(content: Any, status: int = 200) -> Response:
    """Return content as JSON; numbers that are none become null."""
    return Response(_encode(content), status, media_type="application/json")


def documented(
    model: type[BaseModel], status: int = 200, description: str = "What was asked for."
) -> dict[int | str, dict[str, Any]]:
    """Return the answers of a route for its documentation."""
    return {**PROBLEMS, status: {"model": model, "description": description}}


def moment(text: str | None, name: str) -> date | datetime | None:
    """Return the date or the aware instant of a text.

    Raises:
        InvalidInputError: it is none, has no offset, or lies outside of 1970 to 2200.
    """
    if text is None:
        return None
    cleaned = text.strip()
    value = _parse(cleaned)
    if value is None:
        raise InvalidInputError(
            f"{name} '{text}' is not a time: write 2026-11-20 or 2026-11-20T10:00:00Z."
        )
    if isinstance(value, datetime) and value.tzinfo is None:
        raise InvalidInputError(f"{name} '{text}' has no offset: add Z for UTC, or give the date.")
    if not _FIRST_YEAR < value.year < _LAST_YEAR:
        raise InvalidInputError(f"{name} '{text}' is not between {_FIRST_YEAR} and {_LAST_YEAR}.")
    return value


def _parse(text: str) -> date | datetime | None:
    # A plus that was not escaped arrives as a blank.
    escaped = text.replace(" ", "+") if "T" in text else text
    for parse in (date.fromisoformat, datetime.fromisoformat):
        try:
            return parse(escaped)
        except ValueError:
            continue
    return None


def without_nulls(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}
