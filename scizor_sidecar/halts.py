"""What feeds say of trading itself: halts, and trades that are taken back."""

import asyncio
from collections import deque
from collections.abc import Callable

from scizor_core.gaps import from_micros
from scizor_resources.errors import WarehouseError
from scizor_resources.platform import Platform
from scizor_sidecar.feeds.base import Stream

_AGAIN_SECONDS = 2.0
_BEGIN = """
    INSERT INTO quality.halts (instrument_id, start_ts, source, note) VALUES (%s, %s, %s, %s)
    ON CONFLICT DO NOTHING
"""
_END = """
    UPDATE quality.halts SET end_ts = %s
    WHERE instrument_id = %s AND source = %s AND end_ts IS NULL AND start_ts < %s
"""


class HaltBook:
    """Writes `quality.halts`; nothing here waits for PostgreSQL.

    Args:
        platform: PostgreSQL.
    """

    def __init__(self, platform: Platform) -> None:
        self._warehouse = platform.warehouse
        self._waiting: deque[tuple[str, list[object]]] = deque()
        self._more = asyncio.Event()

    def begin(self, feed: str, stream: Stream, ts: int, reason: str) -> None:
        """Note that an instrument is no longer traded."""
        self._add(_BEGIN, [stream.instrument_id, from_micros(ts), feed, reason])

    def end(self, feed: str, stream: Stream, ts: int) -> None:
        """Note that it is traded again."""
        at = from_micros(ts)
        self._add(_END, [at, stream.instrument_id, feed, at])

    def _add(self, sql: str, parameters: list[object]) -> None:
        self._waiting.append((sql, parameters))
        self._more.set()

    async def run(self) -> None:
        """Write what waits, until cancelled."""
        while True:
            await self._more.wait()
            self._more.clear()
            while self._waiting:
                if not await self._write_one():
                    await asyncio.sleep(_AGAIN_SECONDS)

    async def flush(self) -> None:
        """Write what waits, once."""
        while self._waiting and await self._write_one():
            pass

    async def _write_one(self) -> bool:
        first = self._waiting[0]
        try:
            await asyncio.to_thread(self._write, *first)
        except WarehouseError:
            return False
        if self._waiting and self._waiting[0] is first:
            self._waiting.popleft()
        return True

    def _write(self, sql: str, parameters: list[object]) -> None:
        with self._warehouse.connect() as connection:
            connection.execute(sql, parameters)


class FeedNotices:
    """What one feed says; a `NoticeSink`.

    Args:
        feed: name of the feed.
        book: keeps halts.
        refetch: told of the feed, an instrument and an instant whose bars are to be made anew.
    """

    def __init__(
        self, feed: str, book: HaltBook, refetch: Callable[[str, Stream, int], None]
    ) -> None:
        self._feed, self._book, self._refetch = feed, book, refetch

    def halted(self, stream: Stream, ts: int, reason: str) -> None:
        """Keep that trading of an instrument has been stopped."""
        self._book.begin(self._feed, stream, ts, reason)

    def resumed(self, stream: Stream, ts: int) -> None:
        """Keep that an instrument is traded again."""
        self._book.end(self._feed, stream, ts)

    def taken_back(self, stream: Stream, ts: int, why: str) -> None:
        """Have the bars of a trade made anew."""
        del why
        self._refetch(self._feed, stream, ts)
