"""Alpaca's streams on loopback: MessagePack, login, one answer to each request, error frames.

    with AlpacaExchange(make_tape(("AAPL", "MSFT"), 10_000, start=OPEN)) as exchange:
        exchange.urls.ws    # for SCIZOR_ALPACA_WS_URL
        exchange.urls.rest  # for SCIZOR_ALPACA_BASE_URL: trades that have happened so far

One server speaks for stocks (`/v2/iex`, `/v2/sip`) and for crypto (`/v1beta3/crypto/us`): symbols
with a slash are crypto.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgpack
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from tests.contract.lab.alpaca import KEY_ID, SECRET
from tests.contract.lab.trade_tape import TradeTape
from tests.contract.lab.ws_dialects import BookState, Order, Query, Rows
from tests.contract.lab.ws_exchanges import LoopbackExchange, _Client

CHANNELS = ("trades", "quotes", "bars", "updatedBars", "dailyBars", "statuses", "lulds")
_SECOND_US = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def stamp(ts: int) -> msgpack.Timestamp:
    """Return a time in microseconds as it goes on the wire."""
    return msgpack.Timestamp(ts // _SECOND_US, ts % _SECOND_US * 1000)


def packed(*messages: dict[str, Any]) -> bytes:
    """Return a frame of those messages."""
    return msgpack.packb(list(messages))


class AlpacaDialect:
    """Alpaca's frames, and its trades over REST."""

    def venue_id(self, symbol: str) -> str:
        return symbol

    def trades(self, tape: TradeTape, rows: Rows, *, snapshot: bool = False) -> list[bytes]:
        del snapshot
        symbol = tape.symbols[tape.symbol[rows[0]]]
        return [packed(*(self._trade(tape, row, symbol) for row in rows.tolist()))]

    def _trade(self, tape: TradeTape, row: int, symbol: str) -> dict[str, Any]:
        common = {
            "T": "t",
            "S": symbol,
            "i": int(tape.trade_id[row]),
            "p": float(tape.price[row]),
            "s": float(tape.size[row]),
            "t": stamp(int(tape.ts[row])),
        }
        if "/" in symbol:
            return {**common, "tks": "B"}
        return {**common, "x": "V", "c": ["@"], "z": "C"}

    def heartbeat(self) -> str | None:
        return None

    def markets(self, path: str, query: Query, symbols: Sequence[str]) -> Any:
        del path, query, symbols

    def depth(self, path: str, query: Query) -> str | None:
        del path, query

    def history(self, path: str, query: Query) -> tuple[str, dict[str, int]] | None:
        if path not in ("/v2/stocks/trades", "/v1beta3/crypto/us/trades"):
            return None
        asked = {"limit": int(query.get("limit", "1000")), "after": _us(query["start"]) - 1}
        if "end" in query:
            asked["until"] = _us(query["end"])
        if "page_token" in query:
            asked["after"] = int(query["page_token"])
        return query["symbols"], asked

    def history_answer(self, tape: TradeTape, rows: Rows, asked: dict[str, int]) -> Any:
        trades: dict[str, list[dict[str, Any]]] = {}
        for row in rows.tolist():
            symbol = tape.symbols[tape.symbol[row]]
            trade = self._trade(tape, row, symbol)
            ts = int(tape.ts[row])
            at = datetime.fromtimestamp(ts // _SECOND_US, tz=UTC)
            trade["t"] = f"{at:%Y-%m-%dT%H:%M:%S}.{ts % _SECOND_US:06d}000Z"
            del trade["T"], trade["S"]
            trades.setdefault(symbol, []).append(trade)
        is_last = len(rows) < asked["limit"]
        token = None if is_last else str(int(tape.ts[rows[-1]]))
        return {"trades": trades, "next_page_token": token}

    # A stream has neither of these here.

    def order(self, message: dict[str, Any]) -> Order | None:
        raise NotImplementedError

    def answer(self, message: dict[str, Any]) -> str | None:
        raise NotImplementedError

    def acks(self, order: Order, known: set[str], standing: set[str]) -> list[str]:
        raise NotImplementedError

    def book(self, symbol: str, book: BookState) -> str | None:
        raise NotImplementedError

    def change(self, symbol: str, book: BookState, bids: Any, asks: Any) -> str:
        raise NotImplementedError


def _us(text: str) -> int:
    at = datetime.fromisoformat(text)
    return round((at - _EPOCH).total_seconds() * _SECOND_US)


class AlpacaExchange(LoopbackExchange):
    """Alpaca's streams.

    Attributes:
        login_error: code and words of the answer to a login, None to take it.
        most_symbols: symbols of one channel that may be subscribed to at a time.
        no_room: channels that the plan does not have.
        paths: of the connections taken so far.
    """

    def __init__(self, tape: TradeTape, **settings: Any) -> None:
        super().__init__("alpaca", tape, snapshot=0, dialect=AlpacaDialect(), **settings)
        self.login_error: tuple[int, str] | None = None
        self.most_symbols = 10**9
        self.no_room: tuple[str, ...] = ()
        self.paths: list[str] = []

    def say(self, *messages: dict[str, Any]) -> None:
        """Send a frame of those messages to every client."""
        self.send_raw(packed(*messages))

    async def _client(self, socket: ServerConnection) -> None:
        client = _Client(socket)
        self.connections += 1
        try:
            await client.send(packed({"T": "success", "msg": "connected"}))
            if not await self._let_in(client):
                return
            self._clients.add(client)
            self.paths.append(socket.request.path)
            async for frame in socket:
                await self._answer(client, msgpack.unpackb(frame))
        except ConnectionClosed:
            pass
        finally:
            self._clients.discard(client)

    async def _let_in(self, client: _Client) -> bool:
        asked = msgpack.unpackb(await client.socket.recv())
        error = self.login_error
        if error is None and (asked.get("key"), asked.get("secret")) != (KEY_ID, SECRET):
            error = (402, "auth failed")
        if error is not None:
            await client.send(packed({"T": "error", "code": error[0], "msg": error[1]}))
            return False
        await client.send(packed({"T": "success", "msg": "authenticated"}))
        return True

    async def _answer(self, client: _Client, message: dict[str, Any]) -> None:
        begin = message["action"] == "subscribe"
        standing: dict[Any, set[str]] = {
            name: set(client.channels.get(name, ())) for name in CHANNELS
        }
        for channel in CHANNELS:
            symbols = {each for each in message.get(channel, ()) if each in self._symbol_of}
            standing[channel] = (
                standing[channel] | symbols if begin else standing[channel] - symbols
            )
        error = None
        if any(len(each) > self.most_symbols for each in standing.values()):
            error = {"T": "error", "code": 405, "msg": "symbol limit exceeded"}
        elif any(standing[channel] for channel in self.no_room):
            error = {"T": "error", "code": 409, "msg": "insufficient subscription"}
        if error is not None:
            await client.send(packed(error))
            return
        client.channels = {name: symbols for name, symbols in standing.items() if symbols}
        trades = sorted(standing["trades"])
        names = {name: sorted(symbols) for name, symbols in standing.items()}
        extra = {"corrections": trades, "cancelErrors": trades}
        await client.send(packed({"T": "subscription", **names, **extra}))
        for channel in CHANNELS:
            if message.get(channel):
                order = (begin, channel, tuple(sorted(message[channel])))
                self.subscriptions.append(order)
        self._moved.set()
