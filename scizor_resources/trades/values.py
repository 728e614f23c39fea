"""Numbers and times as histories of trades write them."""

import math
import re
from datetime import UTC, datetime
from functools import lru_cache

from scizor_core.stream.trades import MICROSECONDS, NO_TIME

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(?:Z|\+00:00)")
_SECONDS = re.compile(r"(\d{1,11})(?:\.(\d+))?")
_LONGEST_NUMBER = 64
_NANOSECONDS = 1_000_000_000


def number_of(value: object) -> float:
    """Return a price or size as a number, NaN where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    if isinstance(value, str) and len(value) > _LONGEST_NUMBER:
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def nanos_of_text(value: object) -> int | None:
    """Return an RFC 3339 time in UTC as nanoseconds since 1970, None where it is none."""
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    second = _second_of(found[1]) if found is not None else None
    if found is None or second is None:
        return None
    return second * _NANOSECONDS + int((found[2] or "0").ljust(9, "0")[:9])


def micros_of_text(value: object) -> int:
    """Return an RFC 3339 time in UTC as microseconds; finer digits are cut off."""
    nanoseconds = nanos_of_text(value)
    return NO_TIME if nanoseconds is None else nanoseconds // 1000


def micros_of_seconds(value: object) -> int:
    """Return seconds since 1970 with a fraction as microseconds; finer digits are cut off.

    A number that has been read as a float is taken as the shortest decimal that it stands for.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return NO_TIME
    found = _SECONDS.fullmatch(value if isinstance(value, str) else repr(value))
    if found is None:
        return NO_TIME
    return int(found[1]) * MICROSECONDS + int((found[2] or "0").ljust(6, "0")[:6])


@lru_cache(maxsize=4096)
def _second_of(text: str) -> int | None:
    try:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None
