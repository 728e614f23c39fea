"""A sink that keeps what a feed tells it."""

from collections.abc import Sequence

from scizor_core.stream.trades import Condition
from scizor_sidecar.feeds.base import Stream

#: symbol, microseconds UTC, price, size.
Row = tuple[str, int, float, float]


class HeardTrades:
    """Keeps trades, quotes and notices."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.ids: list[str | int | None] = []
        self.conditions: list[Condition] = []
        self.quotes: list[tuple[str, float, float]] = []
        self.unreadable: list[str] = []
        self.rejections: dict[str, str] = {}
        self.notices: list[tuple[str, str, int, str]] = []
        self.gaps = self.connections = self.lives = 0

    def connected(self) -> None:
        self.connections += 1

    def lost(self, why: str) -> None:
        raise AssertionError(f"nothing is lost here: {why}")

    def alive(self) -> None:
        self.lives += 1

    def trades(
        self,
        streams: Sequence[Stream],
        ts: Sequence[int],
        price: Sequence[float],
        size: Sequence[float],
        trade_id: Sequence[str | int | None],
        condition: Sequence[int] | None = None,
    ) -> None:
        symbols = [stream.symbol for stream in streams]
        self.rows += zip(symbols, ts, price, size, strict=True)
        self.ids += trade_id
        self.conditions += [Condition(each) for each in condition or [0] * len(ts)]

    def quote(
        self,
        stream: Stream,
        ts: int,
        bid: float,
        ask: float,
        bid_size: float | None = None,
        ask_size: float | None = None,
    ) -> None:
        del ts, bid_size, ask_size
        self.quotes.append((stream.symbol, bid, ask))

    def book(self, *_: object) -> None:
        raise AssertionError("no book is asked for")

    def refused(self, what: str, raw: str) -> None:
        del raw
        self.unreadable.append(what)

    def gap(self, missed: int) -> None:
        self.gaps += missed

    def rejected(self, stream: Stream, why: str) -> None:
        self.rejections[stream.symbol] = why

    async def room(self) -> None:
        pass

    def halted(self, stream: Stream, ts: int, reason: str) -> None:
        self.notices.append(("halted", stream.symbol, ts, reason))

    def resumed(self, stream: Stream, ts: int) -> None:
        self.notices.append(("resumed", stream.symbol, ts, ""))

    def taken_back(self, stream: Stream, ts: int, why: str) -> None:
        self.notices.append(("taken back", stream.symbol, ts, why))
