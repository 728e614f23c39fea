"""One chart call to Yahoo through yfinance: session, cookie, crumb, and errors by name.

yfinance does what is hard about Yahoo: it looks like a browser (curl_cffi), fetches the cookie
and the crumb, passes the European consent page and swaps strategy when refused. Its data layer
`YfData.get` is used rather than `Ticker.history`, which needs one more request per symbol for the
time zone, answers a repeated question about the past from an in-process cache of 64 answers (so
that a retry would be given the same failure again) and hides rows (see `chart`).

One chart call passes the gate once, together with the calls for cookie and crumb that yfinance
makes for it: yfinance swallows what these raise and goes on without a crumb, so that a refusal of
the gate in their midst would be lost. They are few (up to three per `YahooClient`) and are counted
in the gate's ledgers under `SESSION_ENDPOINT`. yfinance itself would answer every status from 400
on with another cookie and another try; here a refusal of the chart is raised at once, and only
401 and 403, where another cookie can help, are left to it.
"""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlsplit

from scizor_resources.errors import (
    AuthError,
    BadRequest,
    ProviderError,
    RateLimited,
    SchemaDrift,
    TransientError,
)
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.http import retry_after
from scizor_resources.providers.yahoo.chart import CHART_ENDPOINT, SOURCE_NAME

YAHOO_CHART_URL = "https://query2.finance.yahoo.com"
#: Name under which calls for cookie and crumb are counted.
SESSION_ENDPOINT = "cookie and crumb"

_YAHOO_HOST = re.compile(r"^https?://([\w-]+\.)*yahoo\.com(?=[/?]|$)")
_DOWN_NOTICE = "Will be right back"
#: 999 is what Yahoo answered before it took to 429.
_RATE_LIMIT_STATUSES = (429, 999)
_COOKIE_STATUSES = (401, 403)


@dataclass(frozen=True, kw_only=True)
class YahooSettings:
    """How Yahoo is reached.

    Attributes:
        cache_dir: private directory in which yfinance keeps its cookie between processes. It is
            a setting of the whole process in yfinance: the first one used wins.
        base_url: address that stands in for every host below yahoo.com; None is the real Yahoo.
        timeout_seconds: longest wait for any one HTTP call.
    """

    cache_dir: Path
    base_url: str | None = None
    timeout_seconds: float = 20.0


class _Response(Protocol):
    """The part of an HTTP response that is used here."""

    status_code: int
    text: str


class YahooClient:
    """Chart calls with one cookie and one crumb; not for use by several threads at once.

    Args:
        gate: what every chart call passes.
        settings: how Yahoo is reached.
    """

    def __init__(self, gate: Gate, settings: YahooSettings) -> None:
        self._gate = gate
        self._settings = settings
        self._data: Any = None
        self._session: Any = None
        self._sent = 0

    def close(self) -> None:
        """Close the connections; the next call begins with a new cookie and crumb."""
        if self._session is not None:
            self._session.close()
        self._data = self._session = None

    def get_chart(self, ticker: str, params: Mapping[str, str]) -> Mapping[str, Any]:
        """Fetch and decode one chart.

        Args:
            ticker: Yahoo's ticker.
            params: query of the call, without the crumb.

        Returns:
            The decoded answer `{"chart": {...}}`, which holds no error.

        Raises:
            BadRequest: Yahoo says why it has no such chart: unknown ticker, range out of reach.
            RateLimited: 429, or no room in the budget.
            AuthError: cookie or crumb refused.
            TransientError: no connection, time out, 5xx, a cut body, or Yahoo is down.
            SchemaDrift: an answer of another kind.
        """
        return self._gate.call(CHART_ENDPOINT, lambda: self._get_chart(ticker, params))

    def _get_chart(self, ticker: str, params: Mapping[str, str]) -> Mapping[str, Any]:
        """Make one try, beginning with cookie and crumb where there are none."""
        sent_before = self._sent
        try:
            response = self._get(ticker, params)
            return read_chart_answer(response.status_code, response.text, ticker)
        except (RateLimited, AuthError, TransientError, SchemaDrift):
            # yfinance keeps whatever text came in place of a crumb; begin afresh.
            self.close()
            raise
        finally:
            # The gate counts one call and the time of all.
            for _ in range(self._sent - sent_before - 1):
                for ledger in (self._gate.counts, *self._gate.ledgers):
                    ledger.count(SESSION_ENDPOINT, "ok", 0.0)

    def _get(self, ticker: str, params: Mapping[str, str]) -> _Response:
        """Make the call, with everything that yfinance or curl can raise given its name."""
        from curl_cffi.requests.exceptions import RequestException
        from yfinance.exceptions import YFException

        endpoint = f"{CHART_ENDPOINT}/{ticker}"
        url = f"{YAHOO_CHART_URL}{CHART_ENDPOINT}/{quote(ticker, safe='')}"
        host = urlsplit(self._settings.base_url or YAHOO_CHART_URL).netloc
        try:
            if self._data is None:
                self._data = self._open()
            response: _Response = self._data.get(
                url, params=dict(params), timeout=self._settings.timeout_seconds
            )
        except RequestException as error:
            raise TransientError(
                f"{host} could not be reached for the chart of {ticker}: {_short(error)}. Check "
                "the network and, if it is set, the base URL of Yahoo; then try again.",
                provider=SOURCE_NAME,
                endpoint=endpoint,
            ) from error
        except (YFException, KeyError, TypeError) as error:
            # KeyError and TypeError: yfinance reads the cookie's fields without a check.
            raise AuthError(
                f"yfinance could not get a cookie and crumb from {host} for {ticker}: "
                f"{type(error).__name__} {error}. Empty the cache directory and try again.",
                provider=SOURCE_NAME,
                endpoint=endpoint,
            ) from error
        return response

    def _open(self) -> Any:
        """Return a data layer of yfinance with a session of its own.

        `YfData(...)` would hand out the one instance of the process, and the session passed last
        would serve everybody; `type.__call__` makes a separate one.
        """
        import yfinance
        from yfinance.data import YfData

        self._settings.cache_dir.mkdir(parents=True, exist_ok=True)
        yfinance.set_tz_cache_location(str(self._settings.cache_dir))
        logger = logging.getLogger("yfinance")
        if logger.level == logging.NOTSET:
            # It warns of each failure that is raised here anyway, once per call.
            logger.setLevel(logging.ERROR)
        self._session = self._new_session()
        return type.__call__(YfData, session=self._session)

    def _new_session(self) -> Any:
        """Return a curl session that counts, knows the stand-in for Yahoo, and raises refusals."""
        from curl_cffi.requests import Response, Session

        client = self
        base_url = (self._settings.base_url or "").rstrip("/")
        timeout_seconds = self._settings.timeout_seconds

        class YahooSession(Session[Response]):
            """Sends calls meant for yahoo.com to `base_url`, if there is one.

            A refused chart is raised from here, before yfinance can try again on its own.
            """

            def request(self, method: Any, url: str, *args: Any, **kwargs: Any) -> Any:
                client._sent += 1
                kwargs["timeout"] = timeout_seconds
                if base_url:
                    url = _YAHOO_HOST.sub(lambda _: base_url, url)
                    # A redirect is followed inside curl and could leave the stand-in.
                    kwargs["allow_redirects"] = False
                response = super().request(method, url, *args, **kwargs)
                _, is_chart, ticker = url.partition(f"{CHART_ENDPOINT}/")
                if is_chart:
                    client._judge(response, unquote(ticker))
                return response

        return YahooSession(impersonate="chrome")

    def _judge(self, response: Any, ticker: str) -> None:
        """Raise what a refused chart means, unless another cookie may change it."""
        headers = {name: value or "" for name, value in response.headers.items()}
        self._gate.learn(headers)
        status = response.status_code
        if status >= 400 and status not in _COOKIE_STATUSES:
            read_chart_answer(status, response.text, ticker, rest=retry_after(headers))


def _short(error: Exception) -> str:
    """Return curl's words without its advice to read its manual."""
    return str(error).partition(" See https://curl.se")[0].rstrip(".")


def read_chart_answer(
    status: int, text: str, ticker: str, *, rest: float | None = None
) -> Mapping[str, Any]:
    """Return the decoded chart of an answer, or raise what the answer says instead.

    Args:
        status: HTTP status.
        text: body.
        ticker: Yahoo's ticker, for the messages.
        rest: seconds that the answer asks to wait, None where it does not say.

    Raises:
        ProviderError: one of its kinds, as listed at `YahooClient.get_chart`.
    """
    if status in _RATE_LIMIT_STATUSES:
        raise _error(
            RateLimited,
            ticker,
            status,
            "too many requests",
            "Ask less often and wait some minutes.",
            rest,
        )
    if status >= 500 or _DOWN_NOTICE in text:
        raise _error(
            TransientError, ticker, status, "Yahoo is down or overloaded", "Try again later."
        )
    try:
        payload = json.loads(text)
    except ValueError:
        payload = None
    if not isinstance(payload, Mapping):
        if status == 200:
            raise _error(
                TransientError, ticker, status, "the body is cut or not JSON", "Try again."
            )
        raise _error(
            _kind_of(status), ticker, status, "the body is not JSON", "Check Yahoo's base URL."
        )

    reason = _error_in(payload)
    if status in _COOKIE_STATUSES or (reason and "chart" not in payload):
        raise _error(
            AuthError,
            ticker,
            status,
            f"Yahoo refused the cookie or crumb: {reason}",
            "Try again; if it stays so, empty the cache directory.",
        )
    if reason:
        raise _error(BadRequest, ticker, status, reason, "Check the symbol and the window.")
    if status != 200 or "chart" not in payload:
        raise _error(SchemaDrift, ticker, status, "there is no chart in it", "Look at the adapter.")
    return payload


def _kind_of(status: int) -> type[ProviderError]:
    return AuthError if status in _COOKIE_STATUSES else SchemaDrift


def _error_in(payload: Mapping[str, Any]) -> str:
    """Return the sentence of the answer's error object, empty where there is none."""
    for section in payload.values():
        error = section.get("error") if isinstance(section, Mapping) else None
        if error:
            described = error.get("description") if isinstance(error, Mapping) else None
            return str(described or error)
    return ""


def _error(
    kind: type[ProviderError],
    ticker: str,
    status: int,
    found: str,
    advice: str,
    rest: float | None = None,
) -> ProviderError:
    """Return an error of `kind` about one answer."""
    return kind(
        f"Yahoo answered {status} for {ticker}: {found.rstrip('.')}. {advice}",
        provider=SOURCE_NAME,
        endpoint=f"{CHART_ENDPOINT}/{ticker}",
        status=status,
        retry_after=rest,
    )
