"""What providers say in their answers' headers about what is left of a limit."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

#: More than any provider allows in a window; a header that says so is a mistake.
_MOST_CALLS = 10_000_000
#: A reset below this is a number of seconds from now, above it an instant since 1970.
_LEAST_INSTANT = 1_000_000_000.0
_MILLISECONDS_FROM = 100_000_000_000.0
_PREFIXES = ("x-ratelimit-", "x-rate-limit-", "ratelimit-")


@dataclass(frozen=True)
class Remaining:
    """What is left of one window as the provider counts it.

    Attributes:
        remaining: calls (or units of weight) left; None where `used` is said instead.
        used: calls counted so far; None where `remaining` is said.
        limit: of the window, None where it is not said.
        seconds: length of the window, None where it is not said.
        resets_at: seconds since 1970, None where it is not said or makes no sense.
    """

    remaining: float | None
    used: float | None = None
    limit: float | None = None
    seconds: float | None = None
    resets_at: float | None = None


def parse_headers(headers: Mapping[str, str], now: float) -> Remaining | None:
    """Return what the headers say, None where they say nothing that can be believed.

    Understood are X-RateLimit-*, X-Rate-Limit-* and RateLimit-* with Limit, Remaining and Reset
    (numbers or texts like "590.0"; the reset as an instant or as seconds from now), and Binance's
    x-mbx-used-weight-1m.

    Args:
        headers: of an answer.
        now: seconds since 1970, to tell what the reset means.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    weight = _count(lower.get("x-mbx-used-weight-1m"))
    if weight is not None:
        return Remaining(None, used=weight, seconds=60.0)
    for prefix in _PREFIXES:
        remaining = _count(lower.get(prefix + "remaining"))
        if remaining is None:
            continue
        limit = _count(lower.get(prefix + "limit"))
        if limit is not None and (limit < 1 or remaining > limit):
            # One of the two is wrong, and nothing says which.
            return None
        return Remaining(
            remaining, limit=limit, resets_at=_instant(lower.get(prefix + "reset"), now)
        )
    return None


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else None
    except ValueError:
        return None
    return number if number is not None and math.isfinite(number) else None


def _count(text: str | None) -> float | None:
    number = _number(text)
    return number if number is not None and 0 <= number <= _MOST_CALLS else None


def _instant(text: str | None, now: float) -> float | None:
    number = _number(text)
    if number is None or number < 0:
        return None
    if number >= _MILLISECONDS_FROM:
        return number / 1000
    return number if number >= _LEAST_INSTANT else now + number
