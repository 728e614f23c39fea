"""A stand-in for Yahoo on loopback with bars of any ASX ticker and time, by formula.

It speaks the wire of the chart calls: limits of a window and of the reach back, session times in
the exchange's zone. About one five-minute bar in a hundred is missing, as in a thin stock.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from scizor_core.sessions import Session, get_calendar

DAY_SECONDS = 86_400
#: interval -> (seconds, longest range of one request, furthest reach back), in seconds.
LIMITS = {
    "1m": (60, 8 * DAY_SECONDS, 30 * DAY_SECONDS),
    "5m": (300, 60 * DAY_SECONDS, 60 * DAY_SECONDS),
    "1d": (DAY_SECONDS, 10_000 * DAY_SECONDS, 20_000 * DAY_SECONDS),
}
_ZONE = "Australia/Sydney"
_ABSENT_ONE_IN = 97


@lru_cache(maxsize=8)
def _sessions(until: date) -> list[Session]:
    return get_calendar("asx").sessions(date(2015, 1, 1), until + timedelta(days=2))


@lru_cache(maxsize=64)
def starts(interval: str, period1: int, period2: int, until: date) -> tuple[int, ...]:
    """Return the starts of the bars of a range, seconds since 1970."""
    seconds = LIMITS[interval][0]
    found: list[int] = []
    for session in _sessions(until):
        first, last = int(session.open.timestamp()), int(session.close.timestamp())
        if last <= period1 or first >= period2:
            continue
        times = [first] if interval == "1d" else range(first, last, seconds)
        found += [at for at in times if period1 <= at < period2]
    return tuple(found)


def chart(ticker: str, interval: str, times: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return the answer for bars of a ticker that begin then."""
    seed = sum(map(ord, ticker))
    steps = times // 60
    base = 20 + seed % 80 + (steps // 1440 % 250) / 25 + steps * 7 % 61 / 100
    volume = 1000 + (steps * 31 + seed) % 9000
    meta = {
        "currency": "AUD",
        "symbol": ticker,
        "instrumentType": "EQUITY",
        "exchangeTimezoneName": _ZONE,
        "dataGranularity": interval,
        "priceHint": 2,
    }
    close = np.round(base + 0.05, 2)
    quote = {
        "open": np.round(base, 2).tolist(),
        "high": np.round(base + 0.2, 2).tolist(),
        "low": np.round(base - 0.1, 2).tolist(),
        "close": close.tolist(),
        "volume": volume.tolist(),
    }
    indicators: dict[str, Any] = {"quote": [quote]}
    if interval == "1d":
        indicators["adjclose"] = [{"adjclose": close.tolist()}]
    result = {"meta": meta, "timestamp": times.tolist(), "indicators": indicators}
    return {"chart": {"result": [result], "error": None}}


class YahooStandIn:
    """The server; use as a context manager.

    Args:
        latency_seconds: what an answer takes.
        now: the server's clock; bars that begin after it do not exist.
        knows: says whether there is such a ticker; by default there are all.
        on_call: called with the number of each chart call, before it is answered.

    Attributes:
        charts: (ticker, interval) of each chart call so far, in order.
    """

    def __init__(
        self,
        latency_seconds: float = 0.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        knows: Callable[[str], bool] = lambda _ticker: True,
        on_call: Callable[[int], None] = lambda _number: None,
    ) -> None:
        self.charts: list[tuple[str, str]] = []
        self._latency_seconds, self._now = latency_seconds, now
        self._knows, self._on_call = knows, on_call
        self._http = _Server(("127.0.0.1", 0), _handler_of(self))
        self._http.daemon_threads = True

    def __enter__(self) -> "YahooStandIn":
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def base_url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, str, str]:
        """Return status, content type and body of a request."""
        if path == "/v1/test/getcrumb":
            return 200, "text/plain", "xT3oy.hHqZ"
        if not path.startswith("/v8/finance/chart/"):
            return 404, "text/html", ""
        time.sleep(self._latency_seconds)
        ticker, interval = unquote(path.rsplit("/", 1)[1]), query["interval"]
        self.charts.append((ticker, interval))
        self._on_call(len(self.charts))
        now = self._now()
        period1, period2 = int(query["period1"]), int(query["period2"])
        _, longest, reach = LIMITS[interval]
        if period2 - period1 > longest or period1 < now.timestamp() - reach:
            return _refusal(422, "Unprocessable Entity", f"{interval} data not available")
        if not self._knows(ticker):
            return _refusal(404, "Not Found", "No data found, symbol may be delisted")
        end = min(period2, int(now.timestamp()))
        times = np.array(starts(interval, period1, end, now.date()), dtype=np.int64)
        if interval != "1d":
            times = times[(times // 300 + sum(map(ord, ticker))) % _ABSENT_ONE_IN != 0]
        return 200, "application/json;charset=utf-8", json.dumps(chart(ticker, interval, times))


class _Server(ThreadingHTTPServer):
    """Does not mind clients that are killed."""

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def _refusal(status: int, code: str, description: str) -> tuple[int, str, str]:
    error = {"code": code, "description": description}
    body = json.dumps({"chart": {"result": None, "error": error}})
    return status, "application/json;charset=utf-8", body


def _handler_of(server: YahooStandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_GET(self) -> None:
            """Answer."""
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            status, kind, text = server.answer(parts.path, query)
            body = text.encode()
            # A client that was killed does not wait for its answer.
            with suppress(OSError):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                if parts.path == "/":
                    self.send_header("Set-Cookie", "A3=d=stand&S=in; Path=/; Max-Age=31536000")
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
