"""JSON over HTTP for providers without an SDK worth having: one GET, errors by name."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from scizor_resources.errors import (
    AuthError,
    BadRequest,
    ProviderError,
    RateLimited,
    SchemaDrift,
    TransientError,
)
from scizor_resources.providers.gate import Gate

if TYPE_CHECKING:
    import httpx

USER_AGENT = "scizor/0.1 (self-hosted market data platform)"


@dataclass
class JsonApi:
    """GET requests to one provider, each through its gate.

    Attributes:
        provider: name in chains, for errors.
        title: the provider's name in sentences.
        base_url: address, without a slash at the end.
        gate: what every call passes.
        timeout_seconds: longest wait for one answer.
        secret_headers: header -> secret, sent with each request and never shown.
        error_text: finds the provider's own words in a decoded error answer.
        kind_of: finds the kind of error that a status and the provider's words mean, None to go
            by the status alone.
    """

    provider: str
    title: str
    base_url: str
    gate: Gate
    timeout_seconds: float = 20.0
    secret_headers: Mapping[str, SecretStr] = field(default_factory=dict, repr=False)
    error_text: Callable[[Any], str] = field(default=lambda answer: error_words(answer))
    kind_of: Callable[[int, str], type[ProviderError] | None] = field(
        default=lambda _status, _words: None
    )
    _client: "httpx.Client | None" = field(default=None, repr=False)

    def close(self) -> None:
        """Close the connections; the next call opens them anew."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def get(
        self,
        path: str,
        params: Mapping[str, str | int] | None = None,
        *,
        endpoint: str | None = None,
        weight: int = 1,
        keys: tuple[str, ...] = (),
    ) -> Any:
        """Return the decoded answer of a GET.

        Args:
            path: path below the base URL, with a slash before it.
            params: query.
            endpoint: name for budget and accounts, by default the path.
            weight: what the call counts for.
            keys: what pacing rules look at.

        Raises:
            BadRequest: the provider says that this cannot be had.
            RateLimited: 429, or the provider's words for it.
            AuthError: 401 or 403.
            TransientError: no connection, time out, 5xx, a body cut short.
            SchemaDrift: an answer that is not JSON.
        """
        name = endpoint or path
        return self.gate.call(
            name, lambda: self._get(path, dict(params or {}), name), weight=weight, keys=keys
        )

    def _get(self, path: str, params: dict[str, str | int], endpoint: str) -> Any:
        import httpx

        if self._client is None:
            self._client = self._open()
        deadline = time.monotonic() + self.timeout_seconds
        try:
            with self._client.stream("GET", self.base_url + path, params=params) as response:
                body = b""
                for chunk in response.iter_bytes():
                    body += chunk
                    # httpx times each read; a body that drips would never end.
                    if time.monotonic() > deadline:
                        raise httpx.ReadTimeout("the body took too long")
        except httpx.HTTPError as error:
            self.close()
            host = urlsplit(self.base_url).netloc
            raise TransientError(
                f"{self.title} could not be reached at {host} for {endpoint}: "
                f"{type(error).__name__} {error}. Check the network and the base URL.",
                provider=self.provider,
                endpoint=endpoint,
            ) from None
        self.gate.learn(response.headers)
        return self._read(response.status_code, response.headers, body, endpoint)

    def _open(self) -> "httpx.Client":
        """Return a client that sends the secrets; apart, so that no frame of an error has them."""
        import httpx

        secrets = {name: each.get_secret_value() for name, each in self.secret_headers.items()}
        return httpx.Client(
            timeout=self.timeout_seconds,
            headers={"User-Agent": USER_AGENT, "Accept": "application/json", **secrets},
            # A redirect could lead the secret headers to another host.
            follow_redirects=False,
        )

    def _read(self, status: int, headers: Mapping[str, str], body: bytes, endpoint: str) -> Any:
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        words = self.error_text(answer) if answer is not None else ""
        kind = self.kind_of(status, words) or kind_of_status(status)
        if kind is not None:
            said = words or "no reason given"
            raise kind(
                f"{self.title} answered {status} for {endpoint}: {said.rstrip('.')}. "
                f"{_ADVICE[kind]}",
                provider=self.provider,
                endpoint=endpoint,
                status=status,
                retry_after=retry_after(headers),
            )
        if answer is None:
            cut = not body.lstrip().startswith(b"<")
            found = "the body is cut or not JSON" if cut else "the body is HTML, not JSON"
            raise TransientError(
                f"{self.title} answered {status} for {endpoint}, but {found}. Try again; if it "
                "stays so, check the base URL.",
                provider=self.provider,
                endpoint=endpoint,
                status=status,
            )
        return answer

    def drift(self, endpoint: str, found: str) -> SchemaDrift:
        """Return the error of an answer that does not have the agreed shape."""
        return SchemaDrift(
            f"The answer of {self.title} for {endpoint} does not have the agreed shape: {found}. "
            "The adapter has to be looked at before it can be used.",
            provider=self.provider,
            endpoint=endpoint,
            status=200,
        )


_LONGEST_RESET_SECONDS = 3600
_ADVICE: dict[type[ProviderError], str] = {
    RateLimited: "Calls to it pause for every process.",
    AuthError: "Check the key and the plan, or whether it serves this address.",
    BadRequest: "Check the symbol and the window.",
    TransientError: "Try again later.",
    SchemaDrift: "Check the base URL.",
}


def kind_of_status(status: int) -> type[ProviderError] | None:
    """Return the kind of error an HTTP status means, None where it is none."""
    if status in (429, 418):
        return RateLimited
    if status in (401, 403):
        return AuthError
    if status == 408 or status >= 500:  # noqa: PLR2004
        return TransientError
    if status >= 400:  # noqa: PLR2004
        return BadRequest
    return SchemaDrift if status >= 300 else None  # noqa: PLR2004  # redirects are not followed


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that an answer asks to wait, None where it does not say.

    Read from Retry-After (a number or a date), or else from X-RateLimit-Reset (epoch seconds).
    """
    value = headers.get("retry-after") or headers.get("Retry-After")
    if not value:
        return _until_reset(headers.get("x-ratelimit-reset") or headers.get("X-Ratelimit-Reset"))
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _until_reset(value: str | None) -> float | None:
    """Return the seconds until an epoch, None where it is none or hours away."""
    try:
        left = float(value or "") - time.time()
    except ValueError:
        return None
    return left if 0 < left < _LONGEST_RESET_SECONDS else None


def error_words(answer: Any) -> str:
    """Return the words of an error object `{"error": ...}` or `{"message": ...}`, empty if none."""
    if not isinstance(answer, Mapping):
        return ""
    for name in ("error", "message"):
        value = answer.get(name)
        if isinstance(value, str) and value:
            return value
    return ""
