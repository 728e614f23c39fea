"""Hand-written stand-ins for what surrounds a feed."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from scizor_sidecar.feeds.base import FeedLimits, Sink, Stream, Wanted
from scizor_sidecar.feeds.connection import FeedState
from scizor_sidecar.pipeline import Window

BTC = Stream("crypto", "BTC/USD", 1)
ETH = Stream("crypto", "ETH/USD", 2)
CBA = Stream("asx", "CBA", 3)


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self, at: datetime = datetime(2026, 3, 2, 12, tzinfo=UTC)) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()


class ScriptedFeed:
    """A feed whose connections do, one after the other, what the script says."""

    name = "scripted"
    limits = FeedLimits()

    def __init__(self, *connections: Callable[[Wanted, Sink], Awaitable[None]]) -> None:
        self._connections = list(connections)
        self.started = 0

    async def run(self, wanted: Wanted, sink: Sink) -> None:
        self.started += 1
        if not self._connections:
            await asyncio.Event().wait()
        await self._connections.pop(0)(wanted, sink)


class Recorder:
    """Keeps what a pipeline tells."""

    def __init__(self) -> None:
        self.windows: list[Window] = []
        self.states: list[tuple[FeedState, str]] = []

    def on_window(self, window: Window) -> None:
        self.windows.append(window)

    def on_state(self, feed: str, state: FeedState, why: str, at: int) -> None:
        del feed, at
        self.states.append((state, why))


async def eventually(holds: Callable[[], bool]) -> None:
    """Let the other tasks work until something holds."""
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110  # what is waited for is many things, none an event
            await asyncio.sleep(0)
