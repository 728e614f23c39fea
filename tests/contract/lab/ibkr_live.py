"""The stand-in for IB Gateway, with live data: lines, tick-by-tick, order books, and its codes."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.contract.lab.ibkr import CONTRACT_FIELDS, Client, IbkrLab, Trade
from tests.contract.lab.trade_tape import SECOND_US, TradeTape

LINE, TICKS, BOOK = "line", "ticks", "book"
_ASKED = {"1": LINE, "97": TICKS, "10": BOOK}
_ENDED = {"2": LINE, "98": TICKS, "11": BOOK}
TOO_MANY = {
    LINE: (101, "Max number of tickers has been reached"),
    TICKS: (10190, "Max number of tick-by-tick requests has been reached"),
    BOOK: (309, "Max number (3) of market depth requests has been reached"),
}
NOT_SUBSCRIBED = (354, "Requested market data is not subscribed.")
_FRAMES_AT_ONCE = 500


@dataclass(frozen=True)
class Subscription:
    """Something that a client has subscribed."""

    client: Client
    request_id: str
    kind: str
    symbol: str


class LiveGateway(IbkrLab):
    """The gateway with live data of some symbols.

    Attributes:
        most: subscriptions of a kind that it allows.
        refusals: (kind, symbol) -> error in place of a subscription.
        delayed: symbols of which it sends delayed data.
        silent: (kind, symbol) of which it takes the subscription and says nothing.
        is_deaf: whether it takes all requests for live data and says nothing.
        peak: most subscriptions of all kinds at a time.
        asked_for: (kind, symbol) in the order in which they were asked for.
        at: its time, seconds since 1970.
        keeps_trades: whether the trades that it sends can be asked for later.
    """

    def __init__(self, symbols: tuple[str, ...]) -> None:
        super().__init__()
        self.listings = {
            name: [(1000 + number, "AUD", "ASX")] for number, name in enumerate(symbols)
        }
        self.most = {LINE: 100, TICKS: 3, BOOK: 3}
        self.refusals: dict[tuple[str, str], tuple[int, str]] = {}
        self.delayed: set[str] = set()
        self.silent: set[tuple[str, str]] = set()
        self.is_deaf = False
        self.peak = 0
        self.asked_for: list[tuple[str, str]] = []
        self.at = 1_700_000_000
        self.keeps_trades = False
        self.subscriptions: list[Subscription] = []
        self.totals: dict[str, float] = {}
        self._live = threading.RLock()

    def subscribed(self, kind: str) -> set[str]:
        """Symbols with a subscription of a kind."""
        with self._live:
            return {each.symbol for each in self.subscriptions if each.kind == kind}

    # ---- what clients ask for

    def _serve(self, client: Client) -> None:
        try:
            super()._serve(client)
        finally:
            with self._live:
                self.subscriptions = [
                    each for each in self.subscriptions if each.client is not client
                ]

    def _handle(self, client: Client, fields: list[str]) -> None:
        kind = fields[0]
        if kind == "49":
            if not self.is_deaf:
                client.send(49, 1, self.at)
        elif kind in _ASKED:
            if not self.is_deaf:
                self._subscribe(client, _ASKED[kind], fields)
        elif kind in _ENDED:
            self._end(client, _ENDED[kind], fields[1] if kind == "98" else fields[2])
        else:
            super()._handle(client, fields)

    def _subscribe(self, client: Client, kind: str, fields: list[str]) -> None:
        first = 2 if kind == TICKS else 3
        request_id = fields[first - 1]
        symbol = dict(zip(CONTRACT_FIELDS, fields[first:], strict=False))["symbol"]
        with self._live:
            self.asked_for.append((kind, symbol))
            mine = sum(each.kind == kind for each in self.subscriptions)
            refusal = self.refusals.get((kind, symbol))
            if refusal is None and mine >= self.most[kind]:
                refusal = TOO_MANY[kind]
            if refusal is not None:
                client.error(request_id, *refusal)
                return
            self.subscriptions.append(Subscription(client, request_id, kind, symbol))
            self.peak = max(self.peak, len(self.subscriptions))
            if kind == LINE and (kind, symbol) not in self.silent:
                client.send(81, request_id, 0.01, "a6", 3)
                client.send(58, 1, request_id, 3 if symbol in self.delayed else 1)

    def _end(self, client: Client, kind: str, request_id: str) -> None:
        with self._live:
            self.subscriptions = [
                each
                for each in self.subscriptions
                if (each.client, each.kind, each.request_id) != (client, kind, request_id)
            ]

    def lose_subscriptions(self) -> None:
        """Forget them all, as after an outage that ends with 1101."""
        with self._live:
            self.subscriptions = []

    # ---- what it sends

    def trade(
        self,
        symbol: str,
        ts: int,
        price: Any,
        size: Any,
        *,
        mask: int = 0,
        is_sampled: bool = True,
        is_sent: bool = True,
    ) -> None:
        """Send a trade by tick-by-tick, and by lines where it is one of the sample.

        Args:
            symbol: of what.
            ts: microseconds UTC.
            price: as it is sent.
            size: as it is sent.
            mask: 2 where the trade is not reported.
            is_sampled: whether lines tell of it; the day's volume grows all the same.
            is_sent: whether anybody is told.
        """
        frames = self._frames(symbol, ts, price, size, mask, is_sampled=is_sampled)
        for client, frame in frames if is_sent else ():
            with client.sending:
                client.connection.sendall(frame)

    def _frames(
        self, symbol: str, ts: int, price: Any, size: Any, mask: int = 0, *, is_sampled: bool = True
    ) -> list[tuple[Client, bytes]]:
        total = self.totals[symbol] = self.totals.get(symbol, 0.0) + float(size)
        if self.keeps_trades:
            at = datetime.fromtimestamp(ts // SECOND_US, tz=UTC)
            self.trades.setdefault(symbol, []).append(Trade(at, price, size, mask, "ASX"))
        text = f"{price};{size};{ts // 1000};{total};{price};true"
        found = []
        with self._live:
            for each in self.subscriptions:
                if each.symbol != symbol or (each.kind, symbol) in self.silent:
                    continue
                client, number = each.client, each.request_id
                if each.kind == TICKS:
                    fields = (99, number, 2, ts // SECOND_US, price, size, mask, "ASX", "")
                    found.append((client, client.frame(*fields)))
                elif each.kind == LINE and is_sampled:
                    found.append((client, client.frame(46, 6, number, 45, ts // SECOND_US)))
                    found.append((client, client.frame(1, 6, number, 4, price, size, 0)))
                    found.append((client, client.frame(46, 6, number, 48, text)))
        return found

    def play(self, tape: TradeTape, at: dict[int, Callable[[], None]] | None = None) -> None:
        """Send the trades of a tape as fast as they are taken, each in whole seconds.

        Args:
            tape: the trades.
            at: number of a trade -> what happens before it.
        """
        waiting: dict[Client, list[bytes]] = {}
        for place, row in enumerate(tape.arrival.tolist()):
            if at is not None and place in at:
                _send(waiting)
                at[place]()
            symbol = tape.symbols[tape.symbol[row]]
            price, size = float(tape.price[row]), float(tape.size[row])
            for client, frame in self._frames(symbol, int(tape.ts[row]), price, size):
                waiting.setdefault(client, []).append(frame)
            if place % _FRAMES_AT_ONCE == 0:
                _send(waiting)
        _send(waiting)

    def tell(self, kind: str, symbol: str, *fields: Any) -> None:
        """Send a message to who has subscribed; `None` stands for the id of the request."""
        for each in self._of(kind, symbol):
            each.client.send(*(each.request_id if field is None else field for field in fields))

    def quote(self, symbol: str, bid: Any, bid_size: Any, ask: Any, ask_size: Any) -> None:
        """Send the best bid and ask."""
        self.tell(LINE, symbol, 1, 6, None, 1, bid, bid_size, 1)
        self.tell(LINE, symbol, 1, 6, None, 2, ask, ask_size, 1)

    def book_row(
        self, symbol: str, position: int, operation: int, side: int, price: Any, size: Any
    ) -> None:
        """Send a change of an order book."""
        self.tell(BOOK, symbol, 12, 1, None, position, operation, side, price, size)

    def fail(self, kind: str, symbol: str, code: int, words: str) -> None:
        """Send an error about a subscription."""
        for each in self._of(kind, symbol):
            each.client.error(each.request_id, code, words)

    def send_raw(self, data: bytes) -> None:
        """Send bytes to every client."""
        for client in list(self._clients):
            _send({client: [data]})

    def frame(self, *fields: Any) -> bytes:
        """Return the frame of some fields."""
        return self._clients[0].frame(*fields)

    def _of(self, kind: str, symbol: str) -> list[Subscription]:
        with self._live:
            return [
                each for each in self.subscriptions if (each.kind, each.symbol) == (kind, symbol)
            ]


def _send(waiting: dict[Client, list[bytes]]) -> None:
    for client, frames in waiting.items():
        try:
            with client.sending:
                client.connection.sendall(b"".join(frames))
        except OSError:
            pass  # It has hung up.
    waiting.clear()
