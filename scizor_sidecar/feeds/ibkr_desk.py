"""From what a gateway says about an instrument to the sink: trades by the better of two ways.

An instrument has a market data line with quotes and a sample of its trades, and some have all of
their trades one by one (tick-by-tick). Until the first of these comes, what the line tells is held:
it is handed over where tick-by-tick turns out to be refused or silent.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime

from scizor_core.stream.trades import MICROSECONDS
from scizor_sidecar.feeds.base import Sink, Stream
from scizor_sidecar.feeds.ibkr_book import DepthBook
from scizor_sidecar.feeds.ibkr_line import Line, Row
from scizor_sidecar.feeds.ibkr_plan import Key
from scizor_sidecar.feeds.ibkr_wire import BookRow, LiveTrade, Side, VolumeTick

#: After so many trades it is looked whether the sink has room for more.
_ROWS_AT_ONCE = 5_000


class Desk:
    """Keeps quotes, books and trades of one connection until they are handed over.

    Args:
        sink: where to hand over.
        now: clock, aware; times of quotes and books, for which IBKR tells none.
        book_rows: rows of a side of an order book.

    Attributes:
        streams: the instruments that have a line.
        began: the gateway's time at the last subscription, microseconds UTC.
    """

    def __init__(self, sink: Sink, now: Callable[[], datetime], book_rows: int) -> None:
        self._sink, self._now, self._book_rows = sink, now, book_rows
        self.streams: dict[Key, Stream] = {}
        self.began = 0
        self._lines: dict[Key, Line] = {}
        self._books: dict[Key, DepthBook] = {}
        self._ticked: set[Key] = set()
        self._held: dict[Key, list[Row]] = {}
        self._trades: list[tuple[Stream, Row]] = []
        self._moved: dict[Key, None] = {}
        self._books_moved: dict[Key, None] = {}
        self._is_flush_due = False
        self._rows = 0

    # ---- what is subscribed

    def open_line(self, key: Key, *, is_new: bool, holds: bool) -> None:
        """Begin a line; `holds` where tick-by-tick is asked for too."""
        self._lines[key] = Line(is_new)
        if holds:
            self._held[key] = []

    def close_line(self, key: Key) -> None:
        """End a line, and with it all of its instrument."""
        self._lines.pop(key, None)
        self._held.pop(key, None)
        self._ticked.discard(key)
        self._moved.pop(key, None)

    def open_book(self, key: Key) -> None:
        """Begin an order book."""
        self._books[key] = DepthBook(self._book_rows)

    def close_book(self, key: Key) -> None:
        """End an order book."""
        self._books.pop(key, None)
        self._books_moved.pop(key, None)

    def clear_book(self, key: Key) -> None:
        """Begin an order book anew: all of its rows come again."""
        book = self._books.get(key)
        if book is not None:
            book.clear()
            self._books_moved[key] = None

    @property
    def sampled(self) -> frozenset[Key]:
        """Instruments whose trades are taken from the line: a sample."""
        return frozenset(self._lines.keys() - self._held.keys() - self._ticked)

    def is_holding(self, key: Key) -> bool:
        """Whether tick-by-tick has sent nothing yet while the line has told of trades."""
        return bool(self._held.get(key))

    def release(self, key: Key) -> None:
        """Take the trades from the line from now on, those held first."""
        self._ticked.discard(key)
        self._add(key, self._held.pop(key, []))
        self.flush_soon()

    def forget_totals(self) -> None:
        """Forget the days' volumes, as some of it was traded in an outage."""
        for line in self._lines.values():
            line.forget_total()

    # ---- what comes

    def trade(self, key: Key, trade: LiveTrade) -> None:
        """Take a trade of a tick-by-tick subscription."""
        held = self._held.pop(key, None)
        if held is not None:
            # It sends them in order: what is older, it has not sent.
            self._add(key, [row for row in held if row[0] < trade.ts])
        self._ticked.add(key)
        self._add(key, [(trade.ts, trade.price, trade.size, trade.condition)])

    def sampled_trade(self, key: Key, tick: VolumeTick) -> bool:
        """Take a trade of a line; returns whether it is the first one that has to be held."""
        line = self._lines.get(key)
        rows = line.take_trade(tick, self.began) if line is not None else []
        if key in self._ticked:
            return False
        held = self._held.get(key)
        if held is None:
            self._add(key, rows)
            return False
        was_holding = bool(held)
        held += rows
        return bool(held) and not was_holding

    def side(self, key: Key, side: Side) -> None:
        """Take a bid or ask."""
        line = self._lines.get(key)
        if line is not None:
            line.take_side(side)
            self._moved[key] = None

    def book_row(self, key: Key, row: BookRow) -> bool:
        """Take a change of an order book; returns false where the book broke."""
        book = self._books.get(key)
        if book is None:
            return True
        self._books_moved[key] = None
        return book.apply(row)

    def _add(self, key: Key, rows: list[Row]) -> None:
        stream = self.streams.get(key)
        if stream is not None:
            self._trades += [(stream, row) for row in rows]
            self._rows += len(rows)

    # ---- handing over

    def takes_a_pause(self) -> bool:
        """Return whether it is time to look whether the sink has room, and count anew if it is."""
        is_time = self._rows >= _ROWS_AT_ONCE
        if is_time:
            self._rows = 0
        return is_time

    def flush_soon(self) -> None:
        """Hand over when all messages that are here have been read."""
        if not self._is_flush_due:
            self._is_flush_due = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Hand over what waits."""
        self._is_flush_due = False
        waiting, self._trades = self._trades, []
        if waiting:
            self._sink.trades(
                [stream for stream, _ in waiting],
                [row[0] for _, row in waiting],
                [row[1] for _, row in waiting],
                [row[2] for _, row in waiting],
                [None] * len(waiting),
                [row[3] for _, row in waiting],
            )
        moved, self._moved = self._moved, {}
        books, self._books_moved = self._books_moved, {}
        if not moved and not books:
            return
        now = int(self._now().timestamp() * MICROSECONDS)
        for key in moved:
            self._hand_over_quote(key, now)
        for key in books:
            self._hand_over_book(key, now)

    def _hand_over_quote(self, key: Key, now: int) -> None:
        line, stream = self._lines[key], self.streams.get(key)
        if stream is not None:
            self._sink.quote(stream, now, line.bid, line.ask, line.bid_size, line.ask_size)

    def _hand_over_book(self, key: Key, now: int) -> None:
        book, stream = self._books[key], self.streams.get(key)
        # Before the open bids and asks overlap, and within a burst rows are on their way.
        if stream is not None and book.is_ordered:
            self._sink.book(stream, now, book.bids, book.asks)
