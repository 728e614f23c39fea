"""A stand-in for Yahoo on loopback: cookie, crumb and chart, with faults to switch on.

It speaks the wire format only. What it answers are `Series` written by hand in the tests, or
whole bodies given with `put_body`. Like Yahoo it refuses a range that is too long or too far back
with 422, and like Yahoo it does not care about the crumb unless told to.
"""

import json
import threading
from dataclasses import dataclass, field, replace
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

CRUMB = "xT3oy.h/HqZ"
COOKIE = "A3=d=AQABBstandin&S=AQAAA"

DAY_SECONDS = 86_400
#: interval -> (longest range of one request, furthest reach back), in seconds.
LIMITS = {
    "1m": (8 * DAY_SECONDS, 30 * DAY_SECONDS),
    "5m": (60 * DAY_SECONDS, 60 * DAY_SECONDS),
    "15m": (60 * DAY_SECONDS, 60 * DAY_SECONDS),
}

#: timestamp, open, high, low, close, volume, adjusted close (daily only)
Row = tuple[Any, ...]


@dataclass
class Series:
    """The chart of one ticker and interval.

    `honour_window=False` sends every row whatever the range, as Yahoo does with its live row.
    """

    ticker: str
    interval: str
    rows: list[Row]
    timezone: str = "America/New_York"
    instrument: str = "EQUITY"
    meta: dict[str, Any] = field(default_factory=dict)
    honour_window: bool = True
    events: dict[str, Any] = field(default_factory=dict)

    def answer(self, period1: int, period2: int) -> dict[str, Any]:
        """Return the chart answer of a range."""
        rows = [row for row in self.rows if not self.honour_window or period1 <= row[0] < period2]
        meta = {
            "currency": "USD",
            "symbol": self.ticker,
            "instrumentType": self.instrument,
            "exchangeTimezoneName": self.timezone,
            "dataGranularity": self.interval,
            "priceHint": 2,
            "range": "",
            "validRanges": ["1d", "5d", "max"],
            **self.meta,
        }
        result: dict[str, Any] = {"meta": meta, "indicators": {"quote": [{}]}}
        if rows:
            columns = list(zip(*rows, strict=True))
            result["timestamp"] = list(columns[0])
            names = ("open", "high", "low", "close", "volume")
            result["indicators"]["quote"] = [
                {name: list(columns[place]) for place, name in enumerate(names, start=1)}
            ]
            if self.interval == "1d":
                result["indicators"]["adjclose"] = [{"adjclose": list(columns[6])}]
        if self.events:
            result["events"] = self.events
        return {"chart": {"result": [result], "error": None}}


@dataclass(frozen=True)
class Fault:
    """What to answer instead, `times` times (None is for ever), `after` so many good answers."""

    status: int
    body: str
    content_type: str = "application/json;charset=utf-8"
    times: int | None = None
    after: int = 0
    declared_length: int | None = None
    location: str | None = None


@dataclass
class Seen:
    """One request as it arrived."""

    path: str
    query: dict[str, str]
    cookie: str
    host: str


def chart_error(code: str, description: str) -> str:
    """Return the body with which the chart API explains itself."""
    return json.dumps(
        {"chart": {"result": None, "error": {"code": code, "description": description}}}
    )


TOO_MANY_REQUESTS = Fault(429, "Too Many Requests\r\n", "text/html")
INVALID_CRUMB = Fault(
    401,
    json.dumps(
        {
            "finance": {
                "result": None,
                "error": {"code": "Unauthorized", "description": "Invalid Crumb"},
            }
        }
    ),
)
SERVER_ERROR = Fault(500, "<html><body><h1>Internal error</h1></body></html>", "text/html")
CUT_JSON = Fault(200, '{"chart":{"result":[{"meta":{"currency":"USD","symb')
CUT_CONNECTION = Fault(200, '{"chart":{"result":[{"meta"', declared_length=5_000)
WILL_BE_BACK = Fault(200, "<html><title>Will be right back...</title></html>", "text/html")


class YahooServer:
    """The server; use as a context manager. `now` is the server's idea of the present."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.seen: list[Seen] = []
        self._charts: dict[tuple[str, str], Series | str] = {}
        self._faults: dict[str, Fault] = {}
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._http.daemon_threads = True
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )

    def __enter__(self) -> "YahooServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def charts_seen(self) -> list[Seen]:
        """The chart requests so far, in order."""
        return [seen for seen in self.seen if seen.path.startswith("/v8/finance/chart/")]

    def put(self, *series: Series) -> None:
        """Know these charts."""
        for one in series:
            self._charts[one.ticker, one.interval] = one

    def put_body(self, ticker: str, interval: str, body: str) -> None:
        """Answer with this body, whatever the range."""
        self._charts[ticker, interval] = body

    def fail(self, target: str, fault: Fault) -> None:
        """Switch a fault on: `target` is a ticker, "*" for all charts, or "crumb"."""
        self._faults[target] = fault

    def respond(self, path: str, query: dict[str, str]) -> Fault:
        """Return what to answer to a request."""
        with self._lock:
            if path == "/v1/test/getcrumb":
                return self._take_fault("crumb") or Fault(200, CRUMB, "text/plain")
            if not path.startswith("/v8/finance/chart/"):
                # fc.yahoo.com answers 404; only its cookie matters.
                return Fault(404, "", "text/html")
            ticker = unquote(path.rsplit("/", 1)[1])
            return self._take_fault(ticker) or self._take_fault("*") or self._chart(ticker, query)

    def _take_fault(self, target: str) -> Fault | None:
        fault = self._faults.get(target)
        if fault is None or fault.times == 0:
            return None
        if fault.after:
            self._faults[target] = replace(fault, after=fault.after - 1)
            return None
        if fault.times is not None:
            self._faults[target] = replace(fault, times=fault.times - 1)
        return fault

    def _chart(self, ticker: str, query: dict[str, str]) -> Fault:
        if "range" in query:  # the question for the time zone that `Ticker.history` begins with
            period1, period2 = 0, int(self.now.timestamp())
        else:
            period1, period2 = int(query["period1"]), int(query["period2"])
            refusal = self._refuse_range(query["interval"], period1, period2)
            if refusal:
                return Fault(422, chart_error("Unprocessable Entity", refusal))
        chart = self._charts.get((ticker, query["interval"]))
        if chart is None:
            return Fault(404, chart_error("Not Found", "No data found, symbol may be delisted"))
        if isinstance(chart, str):
            return Fault(200, chart)
        return Fault(200, json.dumps(chart.answer(period1, period2)))

    def _refuse_range(self, interval: str, period1: int, period2: int) -> str:
        longest, reach = LIMITS.get(interval, (None, None))
        if longest is None or reach is None:
            return ""
        what = f"{interval} data not available for startTime={period1} and endTime={period2}."
        if period2 - period1 > longest:
            days = longest // DAY_SECONDS
            return (
                f"{what} Only {days} days worth of {interval} granularity data are allowed to be "
                "fetched per request."
            )
        if period1 < self.now.timestamp() - reach:
            days = reach // DAY_SECONDS
            return f"{what} The requested range must be within the last {days} days."
        return ""


def _handler_of(server: YahooServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one packet an answer; two would wait for the client's delayed ACK

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            server.seen.append(
                Seen(
                    parts.path,
                    query,
                    self.headers.get("Cookie", ""),
                    self.headers.get("Host", ""),
                )
            )
            answer = server.respond(parts.path, query)
            body = answer.body.encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(answer.declared_length or len(body)))
            if parts.path == "/":
                self.send_header("Set-Cookie", f"{COOKIE}; Path=/; Max-Age=31536000")
            if answer.location:
                self.send_header("Location", answer.location)
            if answer.declared_length:
                self.send_header("Connection", "close")
                self.close_connection = True
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    return Handler
