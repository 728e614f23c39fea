"""One exchange of ccxt, each of its HTTP requests through the gate, its errors by our names.

ccxt knows how a venue's URLs are built, what the venue calls its markets and which of its error
codes means what. Its candles are not used in their unified form, which loses what some venues
tell besides (mean price, number of trades) and the rows as received.
"""

import importlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from scizor_resources.errors import (
    AuthError,
    BadRequest,
    ProviderError,
    RateLimited,
    SchemaDrift,
    TransientError,
)
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.http import kind_of_status, retry_after

ErrorKind = type[ProviderError]

_ADVICE: dict[ErrorKind, str] = {
    RateLimited: "Calls to it pause for every process.",
    AuthError: "It does not serve this caller: check its terms, the country and the base URL.",
    BadRequest: "Check the symbol and the window.",
    TransientError: "Try again later.",
    SchemaDrift: "Check the base URL; the adapter has to be looked at.",
}

_PRODUCT = re.compile(r"(/products)/[^/]+")


@dataclass(frozen=True)
class Dialect:
    """How one venue is reached and what it means by its refusals.

    Attributes:
        ccxt_id: name of ccxt's class.
        settings: settings of that class.
        words: part of the venue's own words -> kind of error, where ccxt or the status has none
            or another one. They go before everything else.
        statuses: HTTP status -> kind of error, where it differs from the usual one.
        weights: endpoint -> what a call counts for in the venue's own accounts; absent = 1.
    """

    ccxt_id: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    words: tuple[tuple[str, ErrorKind], ...] = ()
    statuses: Mapping[int, ErrorKind] = field(default_factory=dict)
    weights: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What came back, before ccxt has read it.

    Attributes:
        status: HTTP status.
        headers: of the answer.
        text: its body.
    """

    status: int
    headers: Mapping[str, str]
    text: str


class Exchange:
    """Calls to one venue; not for use by several threads at once (ccxt is not).

    Args:
        dialect: which venue, and its peculiarities.
        provider: name in chains, for errors.
        title: the venue's name in sentences.
        gate: what every call passes.
        base_url: scheme and host that stand in for all of the venue's; None is the real ones.
        timeout_seconds: longest wait for one answer.
    """

    def __init__(
        self,
        dialect: Dialect,
        *,
        provider: str,
        title: str,
        gate: Gate,
        base_url: str | None,
        timeout_seconds: float,
    ) -> None:
        self._dialect = dialect
        self._provider, self._title = provider, title
        self._gate = gate
        self._base_url = base_url.rstrip("/") if base_url else None
        self._timeout_seconds = timeout_seconds
        self._sdk: Any = None
        self._answer: Answer | None = None

    def close(self) -> None:
        """Close the connections; the next call opens them anew."""
        if self._sdk is not None:
            self._sdk.close()
            self._sdk = None

    def call(self, use: Callable[[Any], Any]) -> Any:
        """Return what `use` makes of the ccxt exchange it is given.

        Every HTTP request that ccxt makes on the way passes the gate on its own.

        Raises:
            ProviderError: one of the requests failed, or ccxt could not read the answer.
        """
        errors = importlib.import_module("ccxt.base.errors")
        if self._sdk is None:
            self._sdk = self._open()
        try:
            return use(self._sdk)
        except (errors.BaseError, LookupError, TypeError, AttributeError) as error:
            # Failed requests come as ProviderError from below; this is ccxt over an answer that it
            # cannot read, which it takes apart without looking.
            raise self.drift("its answer", f"ccxt says {type(error).__name__}") from None

    def drift(self, endpoint: str, found: str) -> SchemaDrift:
        """Return the error of an answer that does not have the agreed shape."""
        return SchemaDrift(
            f"The answer of {self._title} for {endpoint} does not have the agreed shape: {found}. "
            "The adapter has to be looked at before it can be used.",
            provider=self._provider,
            endpoint=endpoint,
        )

    def _open(self) -> Any:
        from scizor_resources.providers.ccxt_venues.transport import open_session

        ccxt = importlib.import_module("ccxt")
        sdk = getattr(ccxt, self._dialect.ccxt_id)(
            {
                "enableRateLimit": False,
                "timeout": self._timeout_seconds * 1000,
                "session": open_session(self._timeout_seconds, self._hear),
                **self._dialect.settings,
            }
        )
        # Currencies are several calls more, for deposits and withdrawals.
        sdk.has["fetchCurrencies"] = False
        if self._base_url:
            sdk.urls["api"] = moved_urls(sdk.urls["api"], self._base_url)
        fetch_once = sdk.fetch

        def fetch(url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
            parts = urlsplit(url)
            endpoint = _PRODUCT.sub(r"\1/{id}", parts.path)
            return self._gate.call(
                endpoint,
                lambda: self._fetch(
                    lambda: fetch_once(url, method, headers, body), endpoint, parts.netloc
                ),
                weight=self._dialect.weights.get(endpoint, 1),
            )

        sdk.fetch = fetch
        return sdk

    def _hear(self, answer: Answer) -> None:
        self._answer = answer
        self._gate.learn(answer.headers)

    def _fetch(self, fetch: Callable[[], Any], endpoint: str, host: str) -> Any:
        """Make one HTTP request through ccxt.

        Raises:
            ProviderError: it failed.
        """
        errors = importlib.import_module("ccxt.base.errors")
        self._answer = None
        try:
            decoded = fetch()
        except errors.BaseError as error:
            raise self._named(error, errors, endpoint, host) from None
        if isinstance(decoded, str):
            # ccxt hands out a body that is not JSON as it is.
            html = decoded.lstrip().startswith("<")
            found = "the body is HTML, not JSON" if html else "the body is cut or not JSON"
            raise TransientError(
                f"{self._title} answered {self._status()} for {endpoint}, but {found}. Try again; "
                "if it stays so, check the base URL.",
                provider=self._provider,
                endpoint=endpoint,
                status=self._status(),
            )
        return decoded

    def _status(self) -> int | None:
        return self._answer.status if self._answer is not None else None

    def _named(self, error: Exception, errors: Any, endpoint: str, host: str) -> ProviderError:
        """Return our error for one of ccxt's."""
        if self._answer is None:
            cause = error.__cause__ or error
            return TransientError(
                f"{self._title} could not be reached at {host} for {endpoint}: "
                f"{type(cause).__name__}. Check the network and the base URL.",
                provider=self._provider,
                endpoint=endpoint,
            )
        words = venue_words(self._answer.text)
        kind = self._kind(error, errors, words)
        said = (words or "no reason given").rstrip(".")
        return kind(
            f"{self._title} answered {self._answer.status} for {endpoint}: {said}. {_ADVICE[kind]}",
            provider=self._provider,
            endpoint=endpoint,
            status=self._answer.status,
            retry_after=retry_after(self._answer.headers),
        )

    def _kind(self, error: Exception, errors: Any, words: str) -> ErrorKind:
        status = self._status() or 200
        for part, kind in self._dialect.words:
            if part in words:
                return kind
        by_class: tuple[tuple[Any, ErrorKind], ...] = (
            ((errors.DDoSProtection, errors.RateLimitExceeded), RateLimited),
            (errors.AuthenticationError, AuthError),
            ((errors.BadRequest, errors.ArgumentsRequired), BadRequest),
        )
        for classes, kind in by_class:
            if isinstance(error, classes):
                return kind
        # ccxt takes 400, 403 and 404 for "not available", which would be tried again.
        by_status = self._dialect.statuses.get(status) or kind_of_status(status)
        if by_status is not None:
            return by_status
        return TransientError if isinstance(error, errors.OperationFailed) else SchemaDrift


def moved_urls(urls: Any, base_url: str) -> Any:
    """Return ccxt's table of addresses with another scheme and host, the paths kept."""
    if isinstance(urls, dict):
        return {name: moved_urls(value, base_url) for name, value in urls.items()}
    return base_url + urlsplit(urls).path if isinstance(urls, str) else urls


def venue_words(text: str) -> str:
    """Return the venue's own words in the body of an error, empty where there are none.

    Known bodies: Kraken `{"error": ["EQuery:..."]}`, Binance `{"code": -1121, "msg": ...}`,
    Coinbase `{"error": ..., "message": ...}` and `{"errors": [{"id": ..., "message": ...}]}`.
    """
    try:
        body = json.loads(text)
    except ValueError:
        return ""
    if not isinstance(body, Mapping):
        return ""
    found = body.get("errors") or body.get("error")
    if isinstance(found, list):
        return "; ".join(words for words in map(_entry_words, found) if words)
    return _entry_words(body)


def _entry_words(entry: Any) -> str:
    if isinstance(entry, str):
        return entry
    if not isinstance(entry, Mapping):
        return ""
    code = entry.get("error") or entry.get("id") or entry.get("code")
    text = entry.get("message") or entry.get("error_details") or entry.get("msg")
    return ": ".join(str(part) for part in (code, text) if part)
