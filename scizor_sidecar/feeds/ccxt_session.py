"""One connection to a crypto exchange: subscriptions, and from messages to the sink."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from scizor_core.stream.trades import NO_TIME
from scizor_resources.errors import BadRequest, ProviderError, TransientError
from scizor_resources.providers.ccxt_venues.exchange import Dialect
from scizor_resources.providers.coinbase.markets import VenueMarket
from scizor_sidecar.feeds.base import Sink, Stream, Wanted
from scizor_sidecar.feeds.ccxt_sdk import keep_book, open_sdk, to_provider_error
from scizor_sidecar.feeds.ccxt_wire import (
    BookMoved,
    Confirmed,
    Ends,
    Levels,
    Numbered,
    Refused,
    Trades,
    Unreadable,
    Wire,
)

#: Levels of a book that are handed over.
BOOK_LEVELS = 20
#: Symbols in one request.
_SYMBOLS_AT_ONCE = 100
#: A subscription that is not confirmed within this time ends the connection.
_CONFIRMATION_SECONDS = 20.0
#: So much of a message that cannot be read is handed on.
_RAW_CHARACTERS = 500
#: Pause before a book that broke is asked for again.
_BOOK_PAUSE_SECONDS = 1.0


class CcxtSession:
    """One connection.

    Args:
        wire: how the venue speaks.
        dialect: what its HTTP statuses mean.
        sink: where to hand over.
        look_up: returns the venue's market of a stream or raises BadRequest.
        fetch_book: returns the book of a symbol, so many levels, as the SDK's own method does.
        provider: name of the feed, for errors.
        title: the venue's name in sentences.
        streamed: symbols whose snapshots are handed over, as they have been streamed before.

    Attributes:
        confirmed: symbols whose trades stood in this connection.
    """

    def __init__(
        self,
        wire: Wire,
        dialect: Dialect,
        sink: Sink,
        look_up: Callable[[Stream], VenueMarket],
        fetch_book: Callable[[str, int], Awaitable[Any]],
        *,
        provider: str,
        title: str,
        streamed: frozenset[str],
    ) -> None:
        self._wire, self._dialect, self._sink, self._look_up = wire, dialect, sink, look_up
        self._fetch_book = fetch_book
        self._provider, self._title, self._streamed = provider, title, streamed
        self.confirmed: set[str] = set()
        self._sdk: Any = None
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[Any]] = set()
        #: By the venue's name in messages.
        self._streams: dict[str, Stream] = {}
        self._books: dict[str, Stream] = {}
        self._former: set[str] = set()
        self._rejected: set[Stream] = set()
        #: Names that are not confirmed, and when they were asked for, by the loop's clock.
        self._pending: dict[str, float] = {}
        self._is_connected = False
        self._number: int | None = None
        self._ready: set[str] = set()
        self._moved: dict[str, int] = {}
        self._waiting: tuple[
            list[Stream], list[int], list[float], list[float], list[str | int | None]
        ] = ([], [], [], [], [])
        self._is_flush_due = False

    def open(
        self, loop: asyncio.AbstractEventLoop, markets: Sequence[Mapping[str, Any]], **settings: Any
    ) -> None:
        """Make the SDK's exchange (may run in a thread); see `open_sdk`."""
        self._sdk = open_sdk(self._wire.ccxt_id, loop, markets, self, **settings)
        self._sdk.fetch_rest_order_book_safe = self._fetch_first_book

    async def close(self) -> None:
        """Hand over what waits and close the connection."""
        self._flush()
        if not self._ended.done():
            self._ended.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._sdk.close()

    async def serve(self, wanted: Wanted) -> None:
        """Follow what is wanted until the connection ends.

        Raises:
            ProviderError: the connection ended, or the venue serves nothing of what is wanted.
        """
        while streams := wanted.streams:
            version = wanted.version
            self._follow(streams)
            change = asyncio.ensure_future(wanted.changed_since(version))
            waiting: set[asyncio.Future[Any]] = {change, self._ended}
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            finally:
                change.cancel()
            if self._ended.done():
                self._ended.result()

    # ---- subscriptions

    def _follow(self, streams: Iterable[Stream]) -> None:
        """Subscribe what is wanted and not there, end what is there and not wanted."""
        trades: dict[str, Stream] = {}
        for stream in sorted(streams):
            if stream in self._rejected:
                continue
            try:
                market = self._look_up(stream)
            except BadRequest as error:
                self._reject(stream, str(error))
                continue
            trades[self._wire.name(market.venue_symbol, market.symbol)] = stream
        books = {name: stream for name, stream in trades.items() if stream.depth}
        if not trades:
            raise BadRequest(
                f"{self._title} serves none of the symbols that are wanted of it.",
                provider=self._provider,
            )
        self._leave(self._streams.keys() - trades.keys(), book=False)
        self._leave(self._books.keys() - books.keys(), book=True)
        new = sorted(trades.keys() - self._streams.keys())
        new_books = sorted(books.keys() - self._books.keys())
        self._former -= trades.keys()
        self._streams, self._books = trades, books
        if new:
            loop = asyncio.get_running_loop()
            self._pending |= dict.fromkeys(new, loop.time())
            loop.call_later(_CONFIRMATION_SECONDS, self._check_pending, loop.time())
            self._ask(self._wire.first_steps(self._sdk, self._symbols(new)))
        self._subscribe(new, book=False)
        self._subscribe(new_books, book=True)

    def _symbols(self, names: Iterable[str]) -> list[str]:
        return [self._streams[name].symbol for name in names if name in self._streams]

    def _subscribe(self, names: Sequence[str], *, book: bool) -> None:
        symbols = self._symbols(names)
        for first in range(0, len(symbols), _SYMBOLS_AT_ONCE):
            some = symbols[first : first + _SYMBOLS_AT_ONCE]
            if book:
                self._ask(self._sdk.watch_order_book_for_symbols(some, self._wire.book_limit))
            else:
                self._ask(self._sdk.watch_trades_for_symbols(some))

    def _leave(self, names: Iterable[str], *, book: bool) -> None:
        leaving = sorted(names)
        if not leaving:
            return
        symbols = self._symbols(leaving)
        message = self._wire.leave(self._sdk, leaving, symbols, book=book)
        self._ask(self._send(message))
        for symbol in symbols if book else ():
            self._sdk.orderbooks.pop(symbol, None)
        if book:
            self._ready -= set(leaving)
        else:
            self._former |= set(leaving)
            self._forget_pending(leaving)
            self.confirmed -= set(symbols)

    async def _send(self, message: Any) -> None:
        client = self._sdk.client(self._wire.url(self._sdk))
        # Shielded: others wait for it too.
        await asyncio.shield(client.connected)
        await client.throttle(1)
        await client.send(message)

    def _ask(self, work: Any) -> None:
        """Let the SDK work; what it returns is not used, as every message is heard anyway."""
        if work is None:
            return
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._asked)

    def _asked(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        # Those are about a book, which begins again when the next message about it is heard.
        is_of_book = isinstance(error, ProviderError) or type(error).__name__ == "ChecksumError"
        if error is not None and not is_of_book:
            self.ended(error)

    def _reject(self, stream: Stream, why: str) -> None:
        self._rejected.add(stream)
        self._sink.rejected(stream, why)

    def _forget_pending(self, names: Iterable[str]) -> None:
        for name in names:
            self._pending.pop(name, None)

    def _check_pending(self, asked_until: float) -> None:
        late = sorted(name for name, at in self._pending.items() if at <= asked_until)
        if late:
            self.ended(
                TransientError(
                    f"{self._title} did not confirm {len(late)} subscriptions "
                    f"({', '.join(late[:5])}).",
                    provider=self._provider,
                )
            )

    # ---- what the SDK tells

    def frame(self) -> None:
        """Note that something came."""
        self._sink.alive()

    def garbage(self, what: str, raw: str) -> None:
        """Count a frame that could not be decoded."""
        self._sink.refused(what, raw[:_RAW_CHARACTERS])

    def ended(self, error: BaseException) -> None:
        """End the session."""
        if not self._ended.done():
            self._ended.set_exception(
                to_provider_error(error, self._dialect, provider=self._provider, title=self._title)
            )

    async def room(self) -> None:
        """Wait until the sink can take more."""
        self._flush()
        await self._sink.room()

    def message(self, client: Any, message: object) -> None:
        """Take a decoded message."""
        heard = self._wire.read(message)
        is_for_sdk = True
        for each in heard:
            if isinstance(each, Trades):
                self._take(each)
                is_for_sdk = False
            elif isinstance(each, BookMoved):
                self._keep_book(client, message, each)
                is_for_sdk = False
            elif isinstance(each, Unreadable):
                self.garbage(each.what, str(message))
                is_for_sdk = False
            elif isinstance(each, Numbered):
                self._count(each.number)
                is_for_sdk = False
            else:
                self._note(client, each)
        if is_for_sdk and (why := keep_book(self._sdk, client, message)):
            self.garbage(why, str(message))

    def _note(self, client: Any, heard: Confirmed | Refused | Ends) -> None:
        if isinstance(heard, Ends):
            self.ended(heard.kind(f"{self._title} says: {heard.why}.", provider=self._provider))
            return
        names = set(heard.symbols)
        if heard.request is not None:
            names |= self._asked_with(client, heard.request)
        if isinstance(heard, Refused):
            for stream in [self._streams[name] for name in names if name in self._streams]:
                self._reject(stream, f"{self._title} says: {heard.why}")
        else:
            self.confirmed |= set(self._symbols(names))
        self._forget_pending(names)
        if not self._pending and not self._is_connected and self.confirmed:
            self._is_connected = True
            self._sink.connected()

    def _asked_with(self, client: Any, request: int) -> set[str]:
        """Return the names whose trades were asked for with a request."""
        symbols = {
            key.partition("::")[2]
            for key, value in client.subscriptions.items()
            if key.startswith("trade::") and isinstance(value, dict) and value.get("id") == request
        }
        return {name for name, stream in self._streams.items() if stream.symbol in symbols}

    def _count(self, number: int) -> None:
        last, self._number = self._number, number
        if last is not None and number > last + 1:
            self._sink.gap(number - last - 1)
            # What was missed is fetched when the connection is made again.
            missed = f"{number - last - 1} messages of {self._title} never came."
            self.ended(TransientError(missed, provider=self._provider))

    # ---- trades

    def _take(self, trades: Trades) -> None:
        streams, ts, price, size, ids = self._waiting
        for row, name in enumerate(trades.symbols):
            stream = self._stream_of(name)
            if stream is None:
                if name not in self._former:
                    self.garbage("a trade of a symbol that was not asked for", repr(name))
                continue
            if trades.is_snapshot and stream.symbol not in self._streamed:
                continue
            streams.append(stream)
            ts.append(trades.ts[row])
            price.append(trades.price[row])
            size.append(trades.size[row])
            ids.append(trades.ids[row])
        self._flush_soon()

    def _stream_of(self, name: str) -> Stream | None:
        found = self._streams.get(name)
        if found is None and name.endswith("-USD"):
            # Coinbase has one book for both and calls it by the dollar.
            found = self._streams.get(f"{name}C")
        return found

    def _flush_soon(self) -> None:
        """Hand over when all messages that are here have been read."""
        if not self._is_flush_due:
            self._is_flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        waiting, self._waiting = self._waiting, ([], [], [], [], [])
        if waiting[0]:
            self._sink.trades(*waiting)
        moved, self._moved = self._moved, {}
        for name, ts in moved.items():
            self._hand_over_book(name, ts)

    # ---- books

    def _keep_book(self, client: Any, message: object, moved: BookMoved) -> None:
        why = keep_book(self._sdk, client, message)
        stream = self._books.get(moved.symbol)
        if stream is None:
            return
        if why:
            self.garbage(why, str(message))
        sides = self._sides(stream.symbol)
        if sides is None:
            if moved.symbol in self._ready:
                self._restart_book(moved.symbol)
            return
        if why or not self._is_sound(stream.symbol, moved, *sides):
            self._restart_book(moved.symbol)
            return
        self._ready.add(moved.symbol)
        self._moved[moved.symbol] = moved.ts
        self._flush_soon()

    async def _fetch_first_book(self, symbol: str, limit: int, params: object) -> Any:
        """Fetch the book that changes begin from; the SDK calls this."""
        del params
        try:
            return await self._fetch_book(symbol, limit)
        except ProviderError:
            for name in [each for each, stream in self._books.items() if stream.symbol == symbol]:
                self._restart_book(name)
            raise

    def _sides(self, symbol: str) -> tuple[Levels, Levels] | None:
        """Return bids and asks, best first; None where the SDK has no whole book."""
        book = self._sdk.orderbooks.get(symbol)
        if book is None or (self._wire.ccxt_id == "binance" and book["nonce"] is None):
            return None
        bids, asks = (
            [(float(level[0]), float(level[1])) for level in book[side][:BOOK_LEVELS]]
            for side in ("bids", "asks")
        )
        return bids, asks

    def _is_sound(self, symbol: str, moved: BookMoved, bids: Levels, asks: Levels) -> bool:
        if moved.checksum is None:
            return True
        expected = self._wire.checksum_of(self._sdk.markets[symbol], bids, asks)
        return expected is None or expected == moved.checksum

    def _restart_book(self, name: str) -> None:
        """Ask for a book from its beginning, as changes of it are missing."""
        self._sink.gap(1)
        self._moved.pop(name, None)
        self._leave([name], book=True)
        asyncio.get_running_loop().call_later(_BOOK_PAUSE_SECONDS, self._begin_book, name)

    def _begin_book(self, name: str) -> None:
        if name in self._books and not self._ended.done():
            self._subscribe([name], book=True)

    def _hand_over_book(self, name: str, ts: int) -> None:
        stream = self._books.get(name)
        sides = self._sides(stream.symbol) if stream is not None else None
        if stream is None or sides is None or ts == NO_TIME:
            return
        bids, asks = sides
        bid, bid_size = bids[0] if bids else (math.nan, None)
        ask, ask_size = asks[0] if asks else (math.nan, None)
        # The quote of a crossed book is counted as one, and the book is not shown.
        self._sink.quote(stream, ts, bid, ask, bid_size, ask_size)
        if not bid >= ask:
            self._sink.book(stream, ts, bids, asks)
