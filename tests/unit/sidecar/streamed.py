"""Bars and windows as pipelines hand them to their listeners."""

from scizor_core.markets import Timeframe
from scizor_core.stream.engine import BarState, LiveBar
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.pipeline import StreamedBar, Window

MINUTE = 60_000_000


def closed(
    stream: Stream,
    start: int,
    *,
    close: float = 10.0,
    volume: float = 1.0,
    trades: int = 1,
    timeframe: Timeframe = "1m",
    state: BarState = BarState.CLOSED,
    source: str = "kraken",
) -> StreamedBar:
    """Return a bar whose high and low lie one beside its close."""
    bar = LiveBar(
        0, timeframe, start, close, close + 1, close - 1, close, volume, close, trades, state
    )
    return StreamedBar(stream, bar, source, 0)


def window(*bars: StreamedBar, feed: str = "kraken") -> Window:
    """Return what a pass has made that made these bars."""
    return Window(feed, [], list(bars), [], [], None, (0, 0))
