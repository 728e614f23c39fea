"""What a feed may say beside trades and quotes: halts, and trades that are taken back.

A sink that has these methods is told; to any other the feed is silent about them.
"""

from typing import Protocol, runtime_checkable

from scizor_sidecar.feeds.base import Stream


@runtime_checkable
class NoticeSink(Protocol):
    """Takes what a feed says about an instrument. All times are microseconds since 1970 UTC."""

    def halted(self, stream: Stream, ts: int, reason: str) -> None:
        """Say that trading of an instrument has been stopped."""

    def resumed(self, stream: Stream, ts: int) -> None:
        """Say that an instrument is traded again."""

    def taken_back(self, stream: Stream, ts: int, why: str) -> None:
        """Say that a trade of the minute of `ts` was cancelled or corrected.

        The trade stands in its bar: the minute has to be made anew of all of its trades, as they
        are asked for.
        """
