"""JSON over HTTP for providers without an SDK worth having: one call, errors by name."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

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
    """Requests to one provider, each through its gate.

    Attributes:
        provider: name in chains, for errors.
        title: the provider's name in sentences.
        base_url: address, without a slash at the end.
        gate: what every call passes.
        timeout_seconds: longest wait for one answer.
        secret_headers: header -> secret, sent with each request and never shown.
        secret_params: query parameter -> secret, the same; httpx, which logs the address of every
            request at level INFO and whose errors carry the request, does not see them.
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
    secret_params: Mapping[str, SecretStr] = field(default_factory=dict, repr=False)
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
        secrets: Mapping[str, SecretStr] | None = None,
    ) -> Any:
        """Return the decoded answer of a GET.

        Args:
            path: path below the base URL, with a slash before it.
            params: query.
            endpoint: name for budget and accounts, by default the path.
            weight: what the call counts for.
            keys: what pacing rules look at.
            secrets: header -> secret, for this call alone.

        Raises:
            BadRequest: the provider says that this cannot be had.
            RateLimited: 429, or the provider's words for it.
            AuthError: 401 or 403.
            TransientError: no connection, time out, 5xx, a body cut short.
            SchemaDrift: an answer that is not JSON.
        """
        call = _Call("GET", path, dict(params or {}), secrets=dict(secrets or {}))
        return self._gated(call, endpoint or path, weight, keys)

    def get_text(
        self,
        path: str,
        params: Mapping[str, str | int] | None = None,
        *,
        endpoint: str | None = None,
        accept: str = "*/*",
    ) -> str:
        """Return the answer of a GET that is a document and not JSON, as text.

        Args:
            path: path below the base URL, with a slash before it.
            params: query.
            endpoint: name for budget and accounts, by default the path.
            accept: media types to ask for.

        Raises:
            ProviderError: as `get`.
        """
        call = _Call("GET", path, dict(params or {}), accept=accept, is_text=True)
        return str(self._gated(call, endpoint or path, 1, ()))

    def post(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        as_form: bool = False,
        endpoint: str | None = None,
        weight: int = 1,
        secrets: Mapping[str, SecretStr] | None = None,
    ) -> Any:
        """Return the decoded answer of a POST.

        Args:
            path: path below the base URL, with a slash before it.
            body: what is sent, as JSON.
            as_form: send it as a form instead.
            endpoint: name for budget and accounts, by default the path.
            weight: what the call counts for.
            secrets: header -> secret, for this call alone.

        Raises:
            ProviderError: as `get`.
        """
        sent = {"data": dict(body)} if as_form else {"json": dict(body)}
        call = _Call("POST", path, {}, sent=sent, secrets=dict(secrets or {}))
        return self._gated(call, endpoint or path, weight, ())

    def _gated(self, call: "_Call", endpoint: str, weight: int, keys: tuple[str, ...]) -> Any:
        return self.gate.call(
            endpoint, lambda: self._send(call, endpoint), weight=weight, keys=keys
        )

    def _send(self, call: "_Call", endpoint: str) -> Any:
        import httpx

        if self._client is None:
            self._client = self._open()
        deadline = time.monotonic() + self.timeout_seconds
        try:
            with self._client.stream(
                call.method,
                self.base_url + call.path,
                params=call.params,
                headers=call.headers(),
                **call.sent,
            ) as response:
                body = bytearray()
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
        answer = self._check(response.status_code, response.headers, bytes(body), endpoint)
        if call.is_text:
            return _document(bytes(body), response.charset_encoding)
        if answer is None:
            raise self._unreadable(response.status_code, bytes(body), endpoint)
        return answer

    def _open(self) -> "httpx.Client":
        """Return a client that sends the secrets; apart, so that no frame of an error has them."""
        import httpx

        secrets = {name: each.get_secret_value() for name, each in self.secret_headers.items()}
        return httpx.Client(
            timeout=self.timeout_seconds,
            headers={"User-Agent": USER_AGENT, "Accept": "application/json", **secrets},
            transport=_transport_with(self.secret_params, self.base_url),
            # A proxy of the environment would look for this machine on its own side.
            trust_env=not _is_loopback(self.base_url),
            # A redirect could lead the secret headers to another host.
            follow_redirects=False,
        )

    def _check(self, status: int, headers: Mapping[str, str], body: bytes, endpoint: str) -> Any:
        """Return the decoded body, None where it is not JSON; raise what the status means."""
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
        return answer

    def _unreadable(self, status: int, body: bytes, endpoint: str) -> TransientError:
        cut = not body.lstrip().startswith(b"<")
        found = "the body is cut or not JSON" if cut else "the body is HTML, not JSON"
        return TransientError(
            f"{self.title} answered {status} for {endpoint}, but {found}. Try again; if it "
            "stays so, check the base URL.",
            provider=self.provider,
            endpoint=endpoint,
            status=status,
        )

    def drift(self, endpoint: str, found: str) -> SchemaDrift:
        """Return the error of an answer that does not have the agreed shape."""
        return SchemaDrift(
            f"The answer of {self.title} for {endpoint} does not have the agreed shape: {found}. "
            "The adapter has to be looked at before it can be used.",
            provider=self.provider,
            endpoint=endpoint,
            status=200,
        )


@dataclass(frozen=True)
class _Call:
    """One call on the wire; secrets stay out of its repr."""

    method: str
    path: str
    params: dict[str, str | int]
    sent: dict[str, Any] = field(default_factory=dict, repr=False)
    secrets: dict[str, SecretStr] = field(default_factory=dict, repr=False)
    accept: str = ""
    is_text: bool = False

    def headers(self) -> dict[str, str]:
        """Return the headers of this call alone."""
        secrets = {name: each.get_secret_value() for name, each in self.secrets.items()}
        return {**({"Accept": self.accept} if self.accept else {}), **secrets}


def _transport_with(
    secrets: Mapping[str, SecretStr], base_url: str
) -> "httpx.BaseTransport | None":
    """Return a transport that adds secrets to the query, None for httpx' own if there are none."""
    if not secrets:
        return None
    import httpx

    class SigningTransport(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            return super().handle_request(
                httpx.Request(
                    request.method,
                    request.url.copy_merge_params(
                        {name: each.get_secret_value() for name, each in secrets.items()}
                    ),
                    headers=request.headers,
                    stream=request.stream,
                    extensions=request.extensions,
                )
            )

    return SigningTransport(proxy=_proxy_of(base_url))


def _proxy_of(base_url: str) -> str | None:
    """Return the proxy that the environment names; httpx asks for none with a transport given."""
    address = urlsplit(base_url)
    if _is_loopback(base_url) or proxy_bypass(address.hostname or ""):
        return None
    proxies = getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


def _is_loopback(base_url: str) -> bool:
    return urlsplit(base_url).hostname in ("localhost", "127.0.0.1", "::1")


def _document(body: bytes, charset: str | None) -> str:
    """Return a document's text; what its charset cannot read is replaced."""
    try:
        return body.decode(charset or "utf-8", "replace")
    except LookupError:
        return body.decode("utf-8", "replace")


_LONGEST_RESET_SECONDS = 3600
#: A reset below this is a number of seconds from now, above it an instant since 1970.
_LEAST_EPOCH = 1_000_000_000
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

    Read from Retry-After (a number or a date), or else from X-RateLimit-Reset or X-Rate-Limit-Reset
    (epoch seconds, or seconds from now).
    """
    lower = {name.lower(): value for name, value in headers.items()}
    value = lower.get("retry-after")
    if not value:
        return _until_reset(lower.get("x-ratelimit-reset") or lower.get("x-rate-limit-reset"))
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _until_reset(value: str | None) -> float | None:
    """Return the seconds until a reset, None where it is none or hours away."""
    try:
        number = float(value or "")
    except ValueError:
        return None
    left = number - time.time() if number >= _LEAST_EPOCH else number
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
