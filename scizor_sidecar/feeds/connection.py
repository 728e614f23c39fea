"""Keeps a feed connected: tries again with growing pauses, and ends a connection gone silent."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from scizor_resources.errors import ProviderError, is_retryable
from scizor_sidecar.feeds.base import Feed, Sink, Wanted


class FeedState(StrEnum):
    """How a feed is."""

    IDLE = "idle"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    WAITING = "waiting"
    REFUSED = "refused"


@dataclass(frozen=True)
class Patience:
    """How a feed is tried again.

    Attributes:
        first_seconds: pause after the first failure; it doubles with each one that follows.
        longest_seconds: no pause is longer.
        steady_seconds: a connection that stood so long makes the next pause a first one again.
        silence_seconds: a connection from which nothing at all has come for so long is ended.
        refused_seconds: pause where trying again cannot help by itself (a wrong key); it ends
            sooner when an instrument is wanted that was not when the feed was refused.
    """

    first_seconds: float = 0.5
    longest_seconds: float = 30.0
    steady_seconds: float = 30.0
    silence_seconds: float = 30.0
    refused_seconds: float = 300.0


class Listener(Sink, Protocol):
    """A sink that knows when it has last heard anything, and is told of the connection's end."""

    @property
    def is_connected(self) -> bool:
        """Whether the feed has said since `connecting` that its subscription stands."""

    @property
    def silent_seconds(self) -> float:
        """Seconds since `connecting` or since anything was heard."""

    def connecting(self) -> None:
        """Begin to listen."""

    def disconnected(self, state: FeedState, why: str) -> None:
        """Note that the connection has ended, or was never made."""


class Connection:
    """One feed's connections, one after the other.

    Args:
        feed: the feed.
        wanted: what it is to stream.
        sink: what takes its messages.
        patience: how it is tried again.
        monotonic: clock in seconds.
        jitter: a number from 0 to 1; spreads the attempts of many processes.
    """

    def __init__(
        self,
        feed: Feed,
        wanted: Wanted,
        sink: Listener,
        *,
        patience: Patience | None = None,
        monotonic: Callable[[], float] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._feed, self._wanted, self._sink = feed, wanted, sink
        self._patience = patience or Patience()
        self._monotonic = monotonic or asyncio.get_running_loop().time
        self._jitter = jitter
        #: Market and symbol of what was wanted when the feed was refused, since it last stood.
        self._refused: set[tuple[str, str]] = set()
        self.failures = 0

    async def keep(self) -> None:
        """Connect whenever something is wanted; runs until it is cancelled."""
        while True:
            if not self._wanted.streams:
                self._sink.disconnected(FeedState.IDLE, "nothing is to be streamed")
                await self._wanted.changed_since(self._wanted.version)
                continue
            if await self._connect_once() is FeedState.REFUSED:
                await self._wait_for_others()
            else:
                await asyncio.sleep(self.pause(self.failures))

    async def _wait_for_others(self) -> None:
        """Wait until something else is wanted than what was refused, or it is time to ask again."""
        try:
            async with asyncio.timeout(self._patience.refused_seconds):
                version = self._wanted.version
                while self._names() <= self._refused:
                    version = await self._wanted.changed_since(version)
        except TimeoutError:
            return
        # A wrong key is wrong for every instrument.
        await asyncio.sleep(self.pause(self.failures))

    def _names(self) -> set[tuple[str, str]]:
        return {(each.market, each.symbol) for each in self._wanted.streams}

    async def _connect_once(self) -> FeedState:
        """Serve one connection; returns how it ended."""
        began, asked = self._monotonic(), self._names()
        self._sink.connecting()
        state, why = FeedState.WAITING, "the connection was closed"
        try:
            await self._run_until_silent()
        except ProviderError as error:
            why = str(error)
            if not is_retryable(error):
                state = FeedState.REFUSED
        except OSError as error:
            why = f"the connection broke: {error}"
        stood = self._sink.is_connected and (
            self._monotonic() - began >= self._patience.steady_seconds
        )
        self.failures = 1 if stood else self.failures + 1
        if stood:
            self._refused.clear()
        if state is FeedState.REFUSED:
            self._refused |= asked
        self._sink.disconnected(state, why)
        return state

    def pause(self, failures: int) -> float:
        """Return the seconds to wait after so many failures in a row: half of it is chance."""
        full = self._patience.first_seconds * 2.0 ** min(failures - 1, 16)
        full = min(full, self._patience.longest_seconds)
        return full / 2 + full / 2 * self._jitter()

    async def _run_until_silent(self) -> None:
        running = asyncio.ensure_future(self._feed.run(self._wanted, self._sink))
        try:
            while not running.done():
                left = self._patience.silence_seconds - self._sink.silent_seconds
                if left <= 0:
                    raise TimeoutError(
                        f"connected, but silent for {self._patience.silence_seconds:.0f} s"
                    )
                await asyncio.wait([running], timeout=left)
            running.result()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
