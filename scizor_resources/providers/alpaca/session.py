"""The SDK's way to the wire: each of its requests becomes one call through the gate.

alpaca-py's session has no time-out, waits out a 429 in `time.sleep`, and its errors cannot be
read safely (`.message` and `.code` raise on most bodies). Its clients get this session instead:
they still make the addresses and parameters, the rest is done as for every other provider.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from scizor_resources.errors import AuthError, BadRequest, ProviderError, RateLimited
from scizor_resources.providers.http import JsonApi, error_words

#: Words of a 403 that is about the time asked for and not about the key.
_RECENT_SIP = "recent sip"
_RECENT_SIP_ADVICE = (
    "The plan of this key has SIP bars only from 15 minutes after they were made: end the window "
    "earlier, use the feed iex, or take a plan with real-time SIP"
)


@dataclass(frozen=True)
class Answer:
    """What the SDK needs of a response; only good answers come this far."""

    decoded: Any
    text: str = "decoded"

    def raise_for_status(self) -> None:
        """Return: a refusal has been raised as an error of ours before."""

    def json(self) -> Any:
        """Return the decoded body."""
        return self.decoded


@dataclass(frozen=True)
class GatedSession:
    """Stands in for the `requests.Session` of an alpaca-py client.

    Attributes:
        api: makes the requests; has the keys, so the headers of the SDK are not used.
    """

    api: JsonApi

    def request(self, method: str, url: str, **options: Any) -> Answer:
        """Make one GET below the base URL.

        Raises:
            ProviderError: as `JsonApi.get`.
        """
        if method != "GET":
            raise AssertionError(f"market data is only read, not {method}")
        path = url.removeprefix(self.api.base_url)
        return Answer(self.api.get(path, _plain(options.get("params") or {})))


def _plain(params: Mapping[str, Any]) -> dict[str, str | int]:
    """Return parameters as they go on the wire; those without a value are left out."""
    plain: dict[str, str | int] = {}
    for name, value in params.items():
        if isinstance(value, Enum):
            plain[name] = str(value.value)
        elif value is not None:
            plain[name] = value if isinstance(value, int) else str(value)
    return plain


def kind_of_refusal(status: int, words: str) -> type[ProviderError] | None:
    """Return the kind of error that Alpaca's words mean, None to go by the status."""
    lowered = words.lower()
    if _RECENT_SIP in lowered:
        return BadRequest
    if "too many requests" in lowered:
        return RateLimited
    return AuthError if status >= 400 and "unauthorized" in lowered else None  # noqa: PLR2004


def refusal_words(answer: Any, secrets: tuple[str, ...]) -> str:
    """Return Alpaca's words of a refusal, with what to do where they do not say, without keys."""
    words = error_words(answer)
    for secret in secrets:
        words = words.replace(secret, "***") if secret else words
    if _RECENT_SIP in words.lower():
        return f"{words.rstrip('.')}. {_RECENT_SIP_ADVICE}"
    return words
