"""Finnhub's words of a refusal: what kind of error they mean, and what to do about it."""

from typing import Any

from scizor_resources.errors import AuthError, BadRequest, ProviderError, RateLimited
from scizor_resources.providers.http import error_words

#: What to do where the plan of a key does not have what was asked for.
NO_CANDLES = (
    "The plan of this key does not have it (candles and splits are not in the free plan): take "
    "finnhub out of the provider chain, or take a plan that has it"
)
NO_NEWS = (
    "The plan of this key does not have the news of this company (the free plan has that of North "
    "American ones): do not collect news from finnhub, or take a plan that has it"
)
NO_EARNINGS = (
    "The plan of this key does not have the earnings calendar, or not these days of it: do not "
    "collect earnings from finnhub, or take a plan that has it"
)
_NO_ACCESS = "access to this resource"


def kind_of_refusal(status: int, words: str) -> type[ProviderError] | None:
    """Return the kind of error that Finnhub's words mean, None to go by the status.

    Args:
        status: of the answer; Finnhub refuses with 200, too.
        words: as `refusal_words` gives them.
    """
    lowered = words.lower()
    if "limit reached" in lowered:
        return RateLimited
    if _NO_ACCESS in lowered or "invalid api key" in lowered:
        return AuthError
    return BadRequest if words and status < 300 else None  # noqa: PLR2004


def refusal_words(answer: Any, hidden: str, no_access: str) -> str:
    """Return Finnhub's words of a refusal without the key, empty where it is none.

    Args:
        answer: as decoded.
        hidden: the key, empty where there is none.
        no_access: put behind them where the plan does not have what was asked for.
    """
    words = error_words(answer)
    words = words.replace(hidden, "***") if hidden else words
    return f"{words.rstrip('.')}. {no_access}" if _NO_ACCESS in words.lower() else words
