"""A small HTTP server on loopback that speaks a provider's wire format, with faults to switch on.

A lab of a provider subclasses `HttpLab` and says how an answer, an error and a row look on its
wire. Faults of the transport (a cut body, silence) are the same for everybody and live here.
"""

import json
import socket
import threading
import time
from dataclasses import dataclass, field, replace
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

TransportFault = Literal[
    "rate_limited",
    "rate_limited_retry_after",
    "server_error",
    "cut_body",
    "slow_drip",
    "html",
    "invalid_credentials",
    "silence",
]
TRANSPORT_FAULTS: tuple[TransportFault, ...] = (
    "rate_limited",
    "rate_limited_retry_after",
    "server_error",
    "cut_body",
    "slow_drip",
    "html",
    "invalid_credentials",
    "silence",
)
DataFault = Literal[
    "null_rows",
    "nan_text",
    "duplicate_rows",
    "out_of_order",
    "empty_page",
]
RETRY_AFTER_SECONDS = 2
HTML_PAGE = b"<!DOCTYPE html><html><body><h1>Just a moment...</h1></body></html>"


@dataclass(frozen=True)
class Row:
    """One bar as a venue knows it: start (aware, UTC), prices, volume; None and "NaN" allowed."""

    ts: datetime
    open: Any = 10.0
    high: Any = 11.0
    low: Any = 9.0
    close: Any = 10.5
    volume: Any = 100.0

    @property
    def epoch(self) -> int:
        return int(self.ts.timestamp())


@dataclass(frozen=True)
class Seen:
    """A request as the server saw it."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    at: float
    body: bytes = b""


@dataclass(frozen=True)
class Reply:
    """An answer: a body (bytes, or anything that becomes JSON), a status, headers."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def payload(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class HttpLab:
    """The server; a context manager. `url` is its address without a slash at the end.

    Attributes:
        rows: (symbol on the wire, timeframe "1m" "5m" "15m" "1d") -> rows, in the order sent.
        fault: a fault that all answers have from now on, None for none.
        fault_times: how many more answers have it, None for all.
        data_faults: what is wrong with the rows of each answer.
        requests: what was asked so far.
    """

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], list[Row]] = {}
        self.fault: TransportFault | None = None
        self.fault_times: int | None = None
        self.data_faults: set[DataFault] = set()
        self.requests: list[Seen] = []
        self._released = threading.Event()
        self._server: ThreadingHTTPServer | None = None

    # ---- what a provider's lab says

    def respond(self, seen: Seen) -> Reply:
        """Answer a request in the provider's wire format."""
        raise NotImplementedError

    def error(self, kind: Literal["rate_limited", "server_error", "invalid_credentials"]) -> Reply:
        """Return the provider's own answer of that kind."""
        raise NotImplementedError

    def concerns_data(self, seen: Seen) -> bool:
        """Say whether faults apply: to data, not to cookies or lists of markets."""
        return bool(seen.path)

    # ---- for the tests

    def put(self, symbol: str, timeframe: str, rows: list[Row]) -> None:
        """Keep rows that the venue has."""
        self.rows[symbol, timeframe] = rows

    def inject(self, fault: TransportFault, times: int | None = None) -> None:
        """Give the next `times` answers about data a fault, all of them by default."""
        self.fault, self.fault_times = fault, times

    def faulty(self, rows: list[Row]) -> list[Row]:
        """Return rows as they are sent with the data faults that are switched on."""
        out = list(rows)
        if "null_rows" in self.data_faults and out:
            out[len(out) // 2] = replace(out[len(out) // 2], open=None, close=None)
        if "nan_text" in self.data_faults and out:
            out[len(out) // 2] = replace(out[len(out) // 2], high="NaN", low="NaN")
        if "duplicate_rows" in self.data_faults and out:
            out.append(replace(out[0], close=out[0].close))
        if "out_of_order" in self.data_faults:
            out.reverse()
        if "empty_page" in self.data_faults:
            out = []
        return out

    @property
    def data_requests(self) -> list[Seen]:
        """The requests that asked for data."""
        return [each for each in self.requests if self.concerns_data(each)]

    # ---- the server

    @property
    def url(self) -> str:
        assert self._server is not None, "the lab has not been started"
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "HttpLab":
        lab = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Header and body leave in two writes: with Nagle's algorithm the second would wait
            # for the client's delayed ACK, 40 ms an answer.
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                lab._handle(self)

            do_POST = do_GET  # noqa: N815  # the base class looks for this name

            def log_message(self, *_arguments: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_details: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop listening; later connections are refused."""
        self._released.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        length = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(length) if length else b""
        seen = Seen(
            handler.command,
            unquote(parts.path),
            dict(parse_qsl(parts.query, keep_blank_values=True)),
            {name.lower(): value for name, value in handler.headers.items()},
            time.monotonic(),
            body,
        )
        self.requests.append(seen)
        fault = self._next_fault(seen)
        try:
            self._send(handler, self._reply(seen, fault), fault)
        except (BrokenPipeError, ConnectionResetError):
            handler.close_connection = True

    def _next_fault(self, seen: Seen) -> TransportFault | None:
        if self.fault is None or not self.concerns_data(seen):
            return None
        if self.fault_times is not None:
            if self.fault_times == 0:
                return None
            self.fault_times -= 1
        return self.fault

    def _reply(self, seen: Seen, fault: TransportFault | None) -> Reply:
        if fault in ("rate_limited", "rate_limited_retry_after"):
            reply = self.error("rate_limited")
            if fault == "rate_limited_retry_after":
                return replace(
                    reply, headers={**reply.headers, "Retry-After": str(RETRY_AFTER_SECONDS)}
                )
            return reply
        if fault in ("server_error", "invalid_credentials"):
            return self.error(fault)
        if fault == "html":
            return Reply(HTML_PAGE, headers={"Content-Type": "text/html"})
        return self.respond(seen)

    def _send(
        self, handler: BaseHTTPRequestHandler, reply: Reply, fault: TransportFault | None
    ) -> None:
        if fault == "silence":
            self._released.wait(30)
            handler.close_connection = True
            return
        body = reply.payload
        handler.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if fault == "cut_body":
            handler.wfile.write(body[: len(body) // 2])
            handler.wfile.flush()
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        if fault == "slow_drip":
            for position in range(len(body)):
                handler.wfile.write(body[position : position + 1])
                handler.wfile.flush()
                if self._released.wait(0.2):
                    break
            handler.close_connection = True
            return
        handler.wfile.write(body)
