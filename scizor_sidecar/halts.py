"""What feeds say of trading itself: halts, and trades that are taken back."""

from collections.abc import Callable

from scizor_core.gaps import from_micros
from scizor_resources.platform import Platform
from scizor_resources.stores.connection import database_errors
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.later import WriteLater, storable
from scizor_sidecar.permit import ALWAYS, Permit

_BEGIN = """
    INSERT INTO quality.halts (instrument_id, start_ts, source, note) VALUES (%s, %s, %s, %s)
    ON CONFLICT DO NOTHING
"""
_END = """
    UPDATE quality.halts SET end_ts = %s
    WHERE instrument_id = %s AND source = %s AND end_ts IS NULL AND start_ts < %s
"""


class HaltBook(WriteLater):
    """Writes `quality.halts`; nothing here waits for PostgreSQL.

    Args:
        platform: PostgreSQL.
        permit: whether this process may write.
    """

    def __init__(self, platform: Platform, permit: Permit = ALWAYS) -> None:
        super().__init__(permit)
        self._warehouse = platform.warehouse

    def begin(self, feed: str, stream: Stream, ts: int, reason: str) -> None:
        """Note that an instrument is no longer traded."""
        values = [stream.instrument_id, from_micros(ts), feed, storable(reason)]
        self.add(lambda: self._write(_BEGIN, values))

    def end(self, feed: str, stream: Stream, ts: int) -> None:
        """Note that it is traded again."""
        at = from_micros(ts)
        self.add(lambda: self._write(_END, [at, stream.instrument_id, feed, at]))

    def _write(self, sql: str, parameters: list[object]) -> None:
        with database_errors(), self._warehouse.connect() as connection:
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
