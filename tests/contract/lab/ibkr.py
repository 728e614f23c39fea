"""A stand-in for IB Gateway: frames of text over TCP, as ib_async reads and writes them.

It speaks the handshake, contract details, historical bars and historical trades. Rows are kept
under "SYMBOL" and their timeframe; a symbol without rows is not known to it.
"""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from scizor_resources.providers.ibkr.source import IbkrSource
from tests.contract.lab.labs import Provider
from tests.contract.lab.server import HttpLab, Row, Seen, TransportFault

TIMEFRAMES = {"1 min": "1m", "5 mins": "5m", "15 mins": "15m", "1 day": "1d"}
ZONES = {"AUD": ZoneInfo("Australia/Sydney"), "USD": ZoneInfo("America/New_York")}
HOMES = {"AUD": "ASX", "USD": "NASDAQ"}
#: Names of the fields of a contract on the wire, in order.
CONTRACT_FIELDS = (
    "conId", "symbol", "secType", "expiry", "strike", "right", "multiplier", "exchange",
    "primaryExchange", "currency", "localSymbol", "tradingClass",
)  # fmt: skip
#: How the gateway words what the faults stand for.
FAULT_ANSWERS = {
    "rate_limited": (
        162,
        "Historical Market Data Service error message:Historical data request pacing violation",
    ),
    "server_error": (
        162,
        "Historical Market Data Service error message:HMDS server connection is inactive",
    ),
    "invalid_credentials": (
        354,
        "Requested market data is not subscribed.Delayed market data is not enabled",
    ),
}
NO_DATA = (162, "Historical Market Data Service error message:HMDS query returned no data")


@dataclass(frozen=True)
class Trade:
    """One trade: whole seconds UTC, price, shares, mask (2 = unreported), venue, conditions."""

    ts: datetime
    price: Any = 10.0
    size: Any = 100
    mask: int = 0
    venue: str = "NYSE"
    conditions: str = ""


@dataclass(eq=False)
class Client:
    """A connection as the gateway sees it."""

    connection: socket.socket
    client_id: int | None = None
    sending: threading.Lock = field(default_factory=threading.Lock)

    def frame(self, *fields: Any) -> bytes:
        body = "".join(f"{each}\0" for each in fields).encode()
        return struct.pack(">I", len(body)) + body

    def send(self, *fields: Any) -> None:
        with self.sending:
            self.connection.sendall(self.frame(*fields))

    def error(self, request_id: Any, code: int, words: str) -> None:
        self.send(4, 2, request_id, code, words, "")


class IbkrLab(HttpLab):
    """The gateway; `url` is `tcp://127.0.0.1:PORT`.

    Attributes:
        server_version: what it says it speaks.
        taken_client_ids: ids under which other programs are connected.
        connections: connections made so far.
        answers: symbol -> error that its data requests get in place of rows.
        listings: symbol -> contracts known under it, (contract id, currency, primary exchange);
            by default one at the home exchange.
        messages: what it says of its own accord before it answers a data request: (code, words),
            under the request's id, or under -1 for those in `general`.
        days_are_sessions: whether "2 D" are two days on which something traded, or 48 hours.
        trades: symbol -> trades, in the order of time.
        raw_answer: fields sent in place of an answer to a data request.
    """

    def __init__(self) -> None:
        super().__init__()
        self.server_version = 178
        self.taken_client_ids: set[int] = set()
        self.connections = 0
        self.answers: dict[str, tuple[int, str]] = {}
        self.listings: dict[str, list[tuple[int, str, str]]] = {}
        self.messages: list[tuple[int, str]] = []
        self.general: set[int] = set()
        self.days_are_sessions = False
        self.trades: dict[str, list[Trade]] = {}
        self.raw_answer: tuple[Any, ...] | None = None
        self.closed = threading.Event()
        self._listener: socket.socket | None = None
        self._clients: list[Client] = []
        self._threads: list[threading.Thread] = []

    # ---- the server

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        assert self._listener is not None, "the lab has not been started"
        port: int = self._address[1]
        return port

    def __enter__(self) -> "IbkrLab":
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._address = self._listener.getsockname()
        self._start(self._accept)
        return self

    def stop(self) -> None:
        """Stop listening and hang up; later connections are refused."""
        self._released.set()
        assert self._listener is not None
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            return
        self._listener.close()
        self.hang_up()
        for thread in self._threads:
            thread.join()

    def hang_up(self) -> None:
        """Close every connection."""
        for client in list(self._clients):
            try:
                client.connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def say(self, code: int, words: str) -> None:
        """Send a message that concerns no request to every client."""
        for client in list(self._clients):
            client.error(-1, code, words)

    @property
    def client_ids(self) -> list[int]:
        """Ids under which clients are connected."""
        return [each.client_id for each in self._clients if each.client_id is not None]

    def asked(self, message: str) -> list[Seen]:
        """The requests of one kind: "9" contract details, "20" bars, "96" trades."""
        return [each for each in self.requests if each.path == message]

    def concerns_data(self, seen: Seen) -> bool:
        return seen.path in ("20", "96")

    def _start(self, work: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        assert self._listener is not None
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            # What was said has to be there when the test goes on.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            client = Client(connection)
            self._clients.append(client)
            self._start(self._serve, client)

    def _serve(self, client: Client) -> None:
        try:
            with client.connection:
                if _exactly(client.connection, 4) != b"API\0":
                    return
                for fields in _frames(client.connection):
                    self._handle(client, fields)
        except (OSError, EOFError):
            pass
        finally:
            self._clients.remove(client)
            self.closed.set()

    # ---- the protocol

    def _handle(self, client: Client, fields: list[str]) -> None:
        kind = fields[0]
        if kind.startswith("v"):
            client.send(self.server_version, "20261120 10:00:00 AEDT")
        elif kind == "71":
            self._welcome(client, int(fields[2]))
        elif kind == "61":
            client.send(62, 1)
        elif kind == "9":
            self._details(client, fields)
        elif kind in ("20", "96"):
            self._data(client, kind, fields)

    def _welcome(self, client: Client, client_id: int) -> None:
        if client_id in self.taken_client_ids | set(self.client_ids):
            client.error(-1, 326, "Unable to connect as the client id is already in use.")
            raise EOFError
        client.client_id = client_id
        client.send(15, 1, "DU123")
        client.send(9, 1, 1)

    def _details(self, client: Client, fields: list[str]) -> None:
        request_id = fields[2]
        contract = dict(zip(CONTRACT_FIELDS, fields[3:15], strict=True))
        self.requests.append(Seen("TCP", "9", contract, {}, time.monotonic()))
        symbol, currency = contract["symbol"], contract["currency"]
        known = {name for name, _ in self.rows} | set(self.trades) | set(self.listings)
        if symbol not in known:
            client.error(request_id, 200, "No security definition has been found for the request")
            return
        default = [(sum(symbol.encode()), currency, HOMES[currency])]
        for number, money, home in self.listings.get(symbol, default):
            client.send(
                10, request_id, symbol, "STK", "", 0, "", contract["exchange"], money, symbol,
                "NMS", "NMS", number, 0.01, "", "ACTIVETIM,LMT", "SMART,ASX", 1, 0,
                f"{symbol} LIMITED", home, "", "Financial", "Banks", "Commercial", ZONES[currency],
                "", "", "", "", 1, "ISIN", "AU000000XXX0", 1, "", "", "26", "", "COMMON",
                1, 1, 100,
            )  # fmt: skip
        client.send(52, 1, request_id)

    def _data(self, client: Client, kind: str, fields: list[str]) -> None:
        request_id = fields[1]
        contract = dict(zip(CONTRACT_FIELDS, fields[2:14], strict=True))
        names = (
            ("expired", "end", "barSize", "duration", "useRTH", "whatToShow", "formatDate", "keep")
            if kind == "20"
            else ("expired", "start", "end", "count", "whatToShow", "useRTH", "ignoreSize")
        )
        query = {**contract, **dict(zip(names, fields[14:], strict=False))}
        seen = Seen("TCP", kind, query, {}, time.monotonic())
        self.requests.append(seen)
        fault = self._next_fault(seen)
        for code, words in self.messages:
            client.error(-1 if code in self.general else request_id, code, words)
        refusal = FAULT_ANSWERS.get(fault or "") or self.answers.get(query["symbol"])
        if refusal is not None:
            client.error(request_id, *refusal)
        elif kind == "20":
            self._send_answer(client, self._bars(request_id, query), fault)
        else:
            self._send_answer(client, self._ticks(request_id, query), fault)

    def _send_answer(
        self, client: Client, answer: tuple[Any, ...], fault: TransportFault | None
    ) -> None:
        frame = client.frame(*(self.raw_answer or answer))
        if fault == "silence":
            return
        if fault == "cut_body":
            client.connection.sendall(frame[: len(frame) // 2])
            raise EOFError
        if fault == "slow_drip":
            for position in range(len(frame)):
                client.connection.sendall(frame[position : position + 1])
                if self._released.wait(0.2):
                    return
        with client.sending:
            client.connection.sendall(frame)

    def _bars(self, request_id: str, query: dict[str, str]) -> tuple[Any, ...]:
        timeframe = TIMEFRAMES[query["barSize"]]
        rows = self._within(self.rows[query["symbol"], timeframe], query, timeframe)
        rows = self.faulty(rows)
        if not rows:
            return (4, 2, request_id, *NO_DATA, "")
        fields = [
            each
            for row in rows
            for each in (
                f"{row.ts:%Y%m%d}" if timeframe == "1d" else row.epoch,
                *(_number(value) for value in (row.open, row.high, row.low, row.close)),
                _number(row.volume),
                _number(row.close if row.volume else 0.0),
                7 if row.volume else 0,
            )
        ]
        return (17, request_id, "20261120 00:00:00", query["end"], len(rows), *fields)

    def _within(self, rows: list[Row], query: dict[str, str], timeframe: str) -> list[Row]:
        """Return the rows between the end asked for and the duration before it."""
        zone = ZONES[query["currency"]]
        end = _instant(query["end"]) or max(row.ts for row in rows) + timedelta(days=1)
        days = int(query["duration"].removesuffix(" D"))
        if timeframe == "1d":
            dates = sorted({row.ts.date() for row in rows if row.ts.date() < _after(end, zone)})
            first = _after(end, zone) - timedelta(days=days)
            if self.days_are_sessions:
                first = min(dates[-days:], default=first)
            return [row for row in rows if first <= row.ts.date() < _after(end, zone)]
        before = [row for row in rows if row.ts < end]
        start = (_instant(query["end"]) or max(row.ts for row in rows)) - timedelta(days=days)
        if self.days_are_sessions:
            dates = sorted({row.ts.astimezone(zone).date() for row in before})[-days:]
            return [row for row in before if row.ts.astimezone(zone).date() in dates]
        return [row for row in before if row.ts >= start]

    def _ticks(self, request_id: str, query: dict[str, str]) -> tuple[Any, ...]:
        """Return trades of one session, the last second complete."""
        start = _instant(query["start"])
        assert start is not None
        zone = ZONES[query["currency"]]
        later = [each for each in self.trades[query["symbol"]] if each.ts >= start]
        session = [
            each
            for each in later
            if each.ts.astimezone(zone).date() == later[0].ts.astimezone(zone).date()
        ]
        count = int(query["count"])
        while 0 < count < len(session) and session[count].ts == session[count - 1].ts:
            count += 1
        page = session[:count]
        fields = [
            field
            for each in page
            for field in (
                int(each.ts.timestamp()),
                each.mask,
                _number(each.price),
                _number(each.size),
                each.venue,
                each.conditions,
            )
        ]
        return (98, request_id, len(page), *fields, 1)


def _after(end: datetime, zone: ZoneInfo) -> Any:
    """Return the first date that is over at `end`: midnight belongs to the day before."""
    local = end.astimezone(zone)
    return (local - timedelta(microseconds=1)).date() + timedelta(days=1)


def _number(value: Any) -> str:
    """Return a number as the gateway writes it; it has -1 where there is none."""
    return "-1" if value is None else str(value)


def _instant(text: str) -> datetime | None:
    """Return the instant of an `endDateTime`, None for "now"."""
    return datetime.strptime(text, "%Y%m%d-%H:%M:%S").replace(tzinfo=UTC) if text else None


def _exactly(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        more = connection.recv(count - len(received))
        if not more:
            raise EOFError
        received += more
    return received


def _frames(connection: socket.socket) -> Iterator[list[str]]:
    while True:
        (length,) = struct.unpack(">I", _exactly(connection, 4))
        fields = _exactly(connection, length).decode().split("\0")
        yield fields if len(fields) == 1 else fields[:-1]


PROVIDERS = tuple(
    Provider(
        name=f"ibkr-{market}",
        lab=IbkrLab,
        source=lambda lab, gate, now, timeout: IbkrSource(
            gate, base_url=lab.url, timeout_seconds=timeout, now=now
        ),
        market=market,
        symbols=symbols,
        wire_symbols=wire_symbols,
        skips=(
            ("page_limit", "an answer is limited by its span and not by its rows"),
            ("rate_limited_retry_after", "the gateway never says how long to wait"),
            ("html", "the gateway speaks frames over TCP, not HTTP"),
        ),
    )
    for market, symbols, wire_symbols in (
        ("us", ("AAPL", "BRK.B"), ("AAPL", "BRK B")),
        ("asx", ("CBA", "BHP"), ("CBA", "BHP")),
    )
)
