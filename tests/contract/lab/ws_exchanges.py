"""A crypto exchange on loopback: plays a tape over its WebSocket, tells its history over REST.

    with LoopbackExchange("kraken", make_tape(("BTC/USD",), 10_000)) as exchange:
        exchange.urls.ws, exchange.urls.rest   # for SCIZOR_KRAKEN_WS_URL and ..._BASE_URL
        exchange.at(4_000, lambda: exchange.cut(missed=500))
        exchange.played.wait(30)

It lives in a thread of its own, so it serves tests with and without an event loop, and processes.
Playing begins with the first client that has subscribed to trades. Without a pace the tape waits
while nobody is subscribed; with one it goes on, as the world does. REST tells every trade that has
happened so far, also those that nobody was sent.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import numpy as np
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tests.contract.lab.trade_tape import TradeTape
from tests.contract.lab.ws_dialects import DIALECTS, BookState, Channel, Dialect, Rows

#: Trades that are put into frames together.
CHUNK = 64


@dataclass(frozen=True)
class Urls:
    """Where an exchange is: settings `<venue>_ws_url` and `<venue>_base_url`."""

    ws: str
    rest: str


@dataclass(eq=False)
class _Client:
    """A connection and what it is subscribed to."""

    socket: ServerConnection
    channels: dict[Channel, set[str]] = field(default_factory=dict)
    sent: int = 0

    def has(self, channel: Channel, symbol: str) -> bool:
        return symbol in self.channels.get(channel, ())

    async def send(self, frame: str | bytes) -> None:
        if isinstance(frame, str):
            # Only Coinbase's frames are numbered, each connection's on its own.
            frame = frame.replace('"sequence_num":0', f'"sequence_num":{self.sent}', 1)
        self.sent += 1
        await self.socket.send(frame)


class LoopbackExchange:
    """One exchange; everything public may be called from any thread.

    Args:
        venue: kraken, binance or coinbase.
        tape: what it trades.
        per_second: trades a second, None for as fast as they are taken.
        repeat_share: share of the frames of trades that are sent a second time, a little later.
        snapshot: trades that a new subscription is sent first (Kraken, Coinbase).
        seed: decides which frames are repeated.
        dialect: how it speaks, by default as that venue.

    Attributes:
        played: set when the whole tape has happened.
        subscriptions: orders taken so far.
        connections: connections taken so far.
        refusal: HTTP status with which connections are refused, None for none.
    """

    def __init__(
        self,
        venue: str,
        tape: TradeTape,
        *,
        per_second: float | None = None,
        repeat_share: float = 0.0,
        snapshot: int = 50,
        seed: int = 1,
        dialect: Dialect | None = None,
    ) -> None:
        self.venue, self.tape = venue, tape
        self.played = threading.Event()
        self.subscriptions: list[tuple[bool, Channel, tuple[str, ...]]] = []
        self.connections = 0
        self.refusal: int | None = None
        self._dialect = dialect or DIALECTS[venue]
        self._per_second, self._repeat_share = per_second, repeat_share
        self._snapshot = snapshot
        self._chance = np.random.default_rng(seed)
        self._position = 0
        self._arrived_at = np.empty(len(tape), dtype=np.int64)
        self._arrived_at[tape.arrival] = np.arange(len(tape))
        self._rows_of = [np.flatnonzero(tape.symbol == each) for each in range(len(tape.symbols))]
        self._symbol_of = {self._dialect.venue_id(each): each for each in tape.symbols}
        self._symbol_of |= {each: each for each in tape.symbols}
        self._books = {each: BookState() for each in tape.symbols}
        self._clients: set[_Client] = set()
        self._script: dict[int, list[Callable[[], None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._silent = self._closed = 0
        self._held = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._live, daemon=True, name=f"{venue} loopback")
        self._up = threading.Event()
        self._down = asyncio.Event()
        self._moved = asyncio.Event()
        self.urls = Urls("", "")

    # ---- for tests

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Urls:
        """Open a port on 127.0.0.1 and return where it is."""
        self._thread.start()
        if not self._up.wait(10):
            raise TimeoutError("the loopback exchange did not start")
        return self.urls

    def stop(self) -> None:
        """Close everything."""
        self._loop.call_soon_threadsafe(self._down.set)
        self._thread.join(10)

    @property
    def position(self) -> int:
        """Number of trades that have happened."""
        return self._position

    def at(self, position: int, act: Callable[[], None]) -> None:
        """Do something when exactly so many trades have happened; before `start`, or while held."""
        self._script.setdefault(position, []).append(act)

    def hold(self) -> None:
        """Stop the tape."""
        self._do(lambda: self._set_held(True))

    def resume(self) -> None:
        """Let the tape go on."""
        self._do(lambda: self._set_held(False))

    def cut(self, seconds: float = 0.0, *, missed: int = 0, code: int | None = None) -> None:
        """Cut all connections.

        Args:
            seconds: no new connection is taken for so long.
            missed: so many trades happen before anybody can be back.
            code: close properly with that code, None for a cut in the middle.
        """
        self._do(lambda: self._cut(seconds, missed, code))

    def fall_silent(self, seconds: float) -> None:
        """Send nothing at all for so long, connections standing; the tape waits."""
        self._do(lambda: self._fall_silent(seconds))

    def send_raw(self, *frames: str | bytes) -> None:
        """Send frames as they are to every client."""
        self._do(lambda: self._spawn(self._send_raw(frames)))

    def skip_numbers(self, count: int) -> None:
        """Leave out numbers of frames, as if frames had been lost (Coinbase)."""
        self._do(lambda: self._skip(count))

    def change_book(
        self,
        symbol: str,
        bids: Sequence[tuple[float, float]] = (),
        asks: Sequence[tuple[float, float]] = (),
        *,
        lost: bool = False,
    ) -> None:
        """Change levels of a book (size 0 removes one); a lost change is not sent."""
        self._do(lambda: self._change(symbol, bids, asks, lost=lost))

    # ---- inside the thread

    def _do(self, act: Callable[[], None]) -> None:
        if threading.get_ident() == self._thread.ident:
            act()
        else:
            self._loop.call_soon_threadsafe(act)

    def _live(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        server = await serve(
            self._client,
            "127.0.0.1",
            0,
            process_request=self._request,
            compression=None,
            ping_interval=None,
            max_size=None,
        )
        self._name(server)
        tasks = [asyncio.ensure_future(each) for each in (self._play(), self._beat())]
        self._up.set()
        await self._down.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in list(self._clients):
            client.socket.transport.abort()
        server.close()
        await server.wait_closed()

    def _name(self, server: Server) -> None:
        port = next(iter(server.sockets)).getsockname()[1]
        self.urls = Urls(f"ws://127.0.0.1:{port}", f"http://127.0.0.1:{port}")

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _play(self) -> None:
        repeated: list[tuple[str, str]] = []
        began: float | None = None
        while self._position < len(self.tape):
            self._run_script()
            await self._wait_until_it_may_play(began)
            if began is None:
                began = self._loop.time() - self._position / (self._per_second or 1)
            end = min(self._position + CHUNK, len(self.tape))
            if self._per_second is not None:
                due = int((self._loop.time() - began) * self._per_second)
                if due <= self._position:
                    await asyncio.sleep(0.002)
                    continue
                end = min(end, due)
            end = min([end, *(each for each in self._script if each > self._position)])
            rows = self.tape.arrival[self._position : end]
            self._position = end
            frames = self._frames(rows)
            await self._broadcast([*frames, *repeated])
            picked = self._chance.random(len(frames)) < self._repeat_share
            repeated = [frame for frame, again in zip(frames, picked, strict=True) if again]
            await asyncio.sleep(0)
        self._run_script()
        await self._broadcast(repeated)
        self.played.set()

    def _run_script(self) -> None:
        for act in self._script.pop(self._position, []):
            act()

    async def _wait_until_it_may_play(self, began: float | None) -> None:
        while self._held or self._silent or not self._is_followed(began):
            self._moved.clear()
            await self._moved.wait()

    def _is_followed(self, began: float | None) -> bool:
        if began is not None and self._per_second is not None:
            return True
        return any(client.channels.get("trades") for client in self._clients)

    def _frames(self, rows: Rows) -> list[tuple[str, str]]:
        """Return (symbol, frame): of each symbol what comes together, in order."""
        out = []
        for number in dict.fromkeys(self.tape.symbol[rows].tolist()):
            mine = rows[self.tape.symbol[rows] == number]
            name = self.tape.symbols[number]
            out += [(name, frame) for frame in self._dialect.trades(self.tape, mine)]
        return out

    async def _broadcast(
        self, frames: Sequence[tuple[str, str]], channel: Channel = "trades"
    ) -> None:
        for client in list(self._clients):
            try:
                for symbol, frame in frames:
                    if client.has(channel, symbol):
                        await client.send(frame)
            except ConnectionClosed:
                self._clients.discard(client)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(1)
            if self._silent:
                continue
            frame = self._dialect.heartbeat()
            for client in list(self._clients):
                try:
                    if frame is None:
                        await client.socket.ping()
                    elif self.venue != "coinbase" or client.channels.get("heartbeats"):
                        await client.send(frame)
                except ConnectionClosed:
                    self._clients.discard(client)

    # ---- what tests do to it

    def _set_held(self, held: bool) -> None:
        self._held = held
        self._moved.set()

    def _cut(self, seconds: float, missed: int, code: int | None) -> None:
        self._closed += 1
        for client in list(self._clients):
            if code is None:
                client.socket.transport.abort()
            else:
                self._spawn(client.socket.close(code))
        self._clients.clear()
        self._position = min(self._position + missed, len(self.tape))
        self._loop.call_later(seconds, self._open)

    def _open(self) -> None:
        self._closed -= 1

    def _fall_silent(self, seconds: float) -> None:
        self._silent += 1
        self._loop.call_later(seconds, self._speak)

    def _speak(self) -> None:
        self._silent -= 1
        self._moved.set()

    async def _send_raw(self, frames: Sequence[str | bytes]) -> None:
        for client in list(self._clients):
            try:
                for frame in frames:
                    await client.socket.send(frame)
            except ConnectionClosed:
                self._clients.discard(client)

    def _skip(self, count: int) -> None:
        for client in self._clients:
            client.sent += count

    def _change(
        self,
        symbol: str,
        bids: Sequence[tuple[float, float]],
        asks: Sequence[tuple[float, float]],
        *,
        lost: bool,
    ) -> None:
        book = self._books[symbol]
        book.number += 1
        for side, levels in ((book.bids, bids), (book.asks, asks)):
            for price, size in levels:
                side[price] = size
                if not size:
                    del side[price]
        if not lost:
            frame = self._dialect.change(symbol, book, bids, asks)
            self._spawn(self._broadcast([(symbol, frame)], "book"))

    # ---- clients

    async def _client(self, socket: ServerConnection) -> None:
        client = _Client(socket)
        self._clients.add(client)
        self.connections += 1
        try:
            async for text in socket:
                await self._hear(client, json.loads(text))
        except ConnectionClosed:
            pass
        finally:
            self._clients.discard(client)

    async def _hear(self, client: _Client, message: dict[str, Any]) -> None:
        order = self._dialect.order(message)
        if order is None:
            if (answer := self._dialect.answer(message)) is not None and not self._silent:
                await client.send(answer)
            return
        known = {each for each in order.symbols if each in self._symbol_of}
        # An order names symbols as the platform does (Kraken) or by the exchange's ids.
        names = {self._symbol_of[each] for each in known}
        standing = client.channels.setdefault(order.channel, set())
        first: list[str] = []
        # No await in between: whatever happens after the confirmation is sent.
        if order.begin:
            for name in sorted(names - standing):
                first += self._first_frames(order.channel, name)
            standing |= names
        else:
            standing -= names
        for frame in [*self._dialect.acks(order, known, standing), *first]:
            await client.send(frame)
        self.subscriptions.append((order.begin, order.channel, tuple(sorted(names))))
        self._moved.set()

    def _first_frames(self, channel: Channel, name: str) -> list[str]:
        if channel == "book":
            frame = self._dialect.book(name, self._books[name])
            return [] if frame is None else [frame]
        happened = self._happened(name)
        rows = happened[len(happened) - min(self._snapshot, len(happened)) :]
        if channel == "heartbeats" or not len(rows):
            return []
        return self._dialect.trades(self.tape, rows, snapshot=True)

    # ---- REST

    def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        del connection
        if "Upgrade" in request.headers:
            if self.refusal is not None:
                return _response(self.refusal, {"error": "refused"})
            return _response(503, {"error": "closed"}) if self._closed else None
        parts = urlsplit(request.path)
        query = dict(parse_qsl(parts.query))
        path = unquote(parts.path)
        markets = self._dialect.markets(path, query, self.tape.symbols)
        if markets is not None:
            return _response(200, markets)
        if (book_of := self._dialect.depth(path, query)) is not None:
            return self._depth(book_of)
        if (asked := self._dialect.history(path, query)) is not None:
            return self._history(*asked)
        return _response(404, {"error": ["EGeneral:Unknown method"]})

    def _depth(self, venue_id: str) -> Response:
        book = self._books[self._symbol_of[venue_id]]
        sides: tuple[Literal["bids", "asks"], ...] = ("bids", "asks")
        levels = {
            side: [[str(price), str(size)] for price, size in book.best(side, 1000)]
            for side in sides
        }
        return _response(200, {"lastUpdateId": book.number, **levels})

    def _history(self, venue_id: str, asked: dict[str, int]) -> Response:
        name = self._symbol_of.get(venue_id)
        if name is None:
            return _response(200, {"error": ["EQuery:Unknown asset pair"]})
        rows = self._happened(name)
        ts = self.tape.ts[rows]
        keep = np.ones(len(rows), dtype=bool)
        if "after" in asked:
            keep &= ts > asked["after"]
        if "until" in asked:
            keep &= ts <= asked["until"]
        if "from_id" in asked:
            keep &= self.tape.trade_id[rows] >= asked["from_id"]
        rows = rows[keep]
        rows = rows[-asked["limit"] :] if "newest" in asked else rows[: asked["limit"]]
        return _response(200, self._dialect.history_answer(self.tape, rows, asked))

    def _happened(self, name: str) -> Rows:
        rows = self._rows_of[self.tape.symbols.index(name)]
        return rows[self._arrived_at[rows] < self._position]


def _response(status: int, body: Any) -> Response:
    data = json.dumps(body).encode()
    headers = Headers(
        {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            "Connection": "close",
        }
    )
    return Response(status, "", headers, data)
