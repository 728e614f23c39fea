"""Sinks that keep what a feed tells them, and how a test waits for it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

from scizor_core.stream.trades import Condition
from scizor_sidecar.feeds.base import Feed, Sink, Stream, Wanted

#: symbol, microseconds UTC, price, size.
Row = tuple[str, int, float, float]


async def until(holds: Callable[[], object]) -> None:
    """Wait until something holds; the other side lives in another thread."""
    # Before the limit of a whole test, so that the wait that failed is named.
    async with asyncio.timeout(280):
        while not holds():  # noqa: ASYNC110  # it has no event of this loop
            await asyncio.sleep(0.005)


@asynccontextmanager
async def connection_of(
    feed: Feed, sink: Sink, wanted: Wanted
) -> AsyncIterator["asyncio.Task[None]"]:
    """Run one connection of a feed until the block is left."""
    task = asyncio.ensure_future(feed.run(wanted, sink))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def error_of_joining(
    task: "asyncio.Task[None]",
    sink: "HeardState",
    wanted: Wanted,
    streams: frozenset[Stream],
    seconds: float,
) -> BaseException | None:
    """Let more be wanted of a connection that has stood for a while; returns how it ends."""
    await until(lambda: sink.connections == 1)
    joins_at = asyncio.get_running_loop().time() + seconds
    await until(lambda: asyncio.get_running_loop().time() > joins_at)
    await wanted.set(streams)
    async with asyncio.timeout(10):
        (error,) = await asyncio.gather(task, return_exceptions=True)
    return error


class HeardState:
    """Keeps what a feed says of itself; its heirs keep the data."""

    def __init__(self) -> None:
        self.unreadable: list[str] = []
        self.rejections: dict[str, str] = {}
        self.gaps = self.connections = self.lives = 0
        #: Symbols of whose trades only a sample comes; symbol -> why its order book does not.
        self.sampled: set[str] = set()
        self.without_book: dict[str, str] = {}

    def connected(self) -> None:
        self.connections += 1

    def lost(self, why: str) -> None:
        raise AssertionError(f"nothing is lost here: {why}")

    def alive(self) -> None:
        self.lives += 1

    def refused(self, what: str, raw: str) -> None:
        del raw
        self.unreadable.append(what)

    def gap(self, missed: int) -> None:
        self.gaps += missed

    def rejected(self, stream: Stream, why: str) -> None:
        self.rejections[stream.symbol] = why

    def limited(self, sampled: Collection[Stream], without_book: Mapping[Stream, str]) -> None:
        self.sampled = {each.symbol for each in sampled}
        self.without_book = {each.symbol: why for each, why in without_book.items()}

    async def room(self) -> None:
        pass


class HeardTrades(HeardState):
    """Keeps trades, quotes and notices."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []
        self.ids: list[str | int | None] = []
        self.conditions: list[Condition] = []
        self.quotes: list[tuple[str, float, float]] = []
        self.notices: list[tuple[str, str, int, str]] = []

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

    def halted(self, stream: Stream, ts: int, reason: str) -> None:
        self.notices.append(("halted", stream.symbol, ts, reason))

    def resumed(self, stream: Stream, ts: int) -> None:
        self.notices.append(("resumed", stream.symbol, ts, ""))

    def taken_back(self, stream: Stream, ts: int, why: str) -> None:
        self.notices.append(("taken back", stream.symbol, ts, why))
