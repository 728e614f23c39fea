"""The tape as a live feed: recorded trades, played as they happened, faster, or at once.

The tape's time begins with the first trade of what is wanted and runs on from there for as long as
the process lives, over reconnections too: a symbol that joins later joins at that time. Where
nothing of what is wanted trades for half an hour and more (nights, weekends) the tape skips ahead.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import numpy as np
import pandas as pd

from scizor_core.errors import InvalidInputError
from scizor_core.stream.trades import MICROSECONDS, Floats, Integers
from scizor_resources.errors import BadRequest
from scizor_resources.platform import Platform
from scizor_resources.settings import Settings
from scizor_sidecar.feeds.base import FeedLimits, Sink, Stream, Wanted

PROVIDER = "tape"
#: Trades that are handed over together at most.
CHUNK = 5_000
#: So much of the tape's time is read at once.
_WINDOW_US = 3_600 * MICROSECONDS
_LONGEST_SEARCH_US = 64 * _WINDOW_US
_LONGEST_PAUSE_US = 1_800 * MICROSECONDS
#: Longest sleep before it is looked again whether something else is wanted.
_NAP_SECONDS = 1.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TradeFiles(Protocol):
    """Where recorded trades are; `scizor_resources.providers.tape.TapeSource` is one."""

    def trades_span(self, market: str, symbol: str) -> tuple[datetime, datetime] | None:
        """Return the times of a symbol's first and last trade."""

    def trades(self, market: str, symbol: str, start: datetime, end: datetime) -> pd.DataFrame:
        """Return a symbol's trades in `[start, end)`, by ts."""


@dataclass(frozen=True)
class _Reel:
    """Trades of several symbols in the order of time, one per row."""

    streams: Sequence[Stream]
    owner: Integers
    ts: Integers
    price: Floats
    size: Floats
    ids: list[str | int | None]

    def __len__(self) -> int:
        return len(self.ts)


class TapeFeed:
    """Plays recorded trades.

    Args:
        files: where they are.
        speed: 1 is as they happened, 10 ten times as fast, 0 as fast as they are taken.
        monotonic: clock in seconds; None is the event loop's.
        sleep: waits so many seconds.
    """

    name = PROVIDER
    limits = FeedLimits()

    def __init__(
        self,
        files: TradeFiles,
        *,
        speed: float = 1.0,
        monotonic: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._files, self._speed = files, speed
        self._monotonic, self._sleep = monotonic, sleep
        #: Trades before this have been played.
        self._position: int | None = None

    async def run(self, wanted: Wanted, sink: Sink) -> None:
        """Play until nothing is wanted any more; at the tape's end it stays connected, idle.

        Raises:
            BadRequest: the tape has no trades of anything that is wanted.
        """
        player = _Player(sink, self._speed, self._clock(), self._sleep)
        spans: dict[Stream, tuple[int, int]] = {}
        known: frozenset[Stream] = frozenset()
        while streams := wanted.streams:
            version = wanted.version
            found, refused = await asyncio.to_thread(self._spans, streams - known)
            for stream, why in refused:
                sink.rejected(stream, why)
            spans |= found
            known |= streams
            mine = sorted(streams & spans.keys())
            if not mine:
                raise BadRequest(
                    "The tape has no trades of the symbols that are wanted of it: import some.",
                    provider=PROVIDER,
                )
            if self._position is None:
                self._position = min(spans[stream][0] for stream in mine)
            player.connect()
            last = max(spans[stream][1] for stream in mine)
            await self._play(mine, last, player, _another(wanted, version))
            if wanted.version == version:
                await _idle(wanted, version, sink)

    def _clock(self) -> Callable[[], float]:
        return self._monotonic or asyncio.get_running_loop().time

    async def _play(
        self,
        streams: Sequence[Stream],
        last: int,
        player: "_Player",
        is_over: Callable[[], bool],
    ) -> None:
        """Play from the position to the end, or until something else is wanted."""
        position, length = self._position or 0, _WINDOW_US
        while position <= last and not is_over():
            until = min(position + length, last + 1)
            reel = await asyncio.to_thread(self._read, streams, position, until)
            # Empty stretches are passed in larger and larger steps.
            length = _WINDOW_US if len(reel) else min(2 * length, _LONGEST_SEARCH_US)
            row = 0
            while row < len(reel) and not is_over():
                row = await player.play(reel, row)
                # After every piece, as the next run begins where this one is cut.
                self._position = until if row == len(reel) else int(reel.ts[row])
            position = until if row == len(reel) else int(reel.ts[row])
        self._position = position

    def _spans(
        self, streams: frozenset[Stream]
    ) -> tuple[dict[Stream, tuple[int, int]], list[tuple[Stream, str]]]:
        """Return first and last time of each that the tape has, and why it has not the others."""
        found: dict[Stream, tuple[int, int]] = {}
        refused: list[tuple[Stream, str]] = []
        for stream in sorted(streams):
            try:
                span = self._files.trades_span(stream.market, stream.symbol)
            except InvalidInputError as error:
                refused.append((stream, str(error)))
                continue
            if span is None:
                refused.append((stream, f"The tape has no trades of {stream.symbol}."))
            else:
                found[stream] = (_us(span[0]), _us(span[1]))
        return found, refused

    def _read(self, streams: Sequence[Stream], start: int, end: int) -> _Reel:
        frames = [
            self._files.trades(stream.market, stream.symbol, _at(start), _at(end))
            for stream in streams
        ]
        owner = np.repeat(np.arange(len(frames)), [len(frame) for frame in frames])
        whole = pd.concat(frames, ignore_index=True)
        ts = whole["ts"].dt.tz_localize(None).to_numpy(dtype="datetime64[us]").astype(np.int64)
        order = np.argsort(ts, kind="stable")
        ids = whole["trade_id"].astype(object).where(whole["trade_id"].notna(), None)
        return _Reel(
            streams,
            owner[order],
            ts[order],
            whole["price"].to_numpy(dtype=np.float64)[order],
            whole["size"].to_numpy(dtype=np.float64)[order],
            ids.to_numpy()[order].tolist(),
        )


class _Player:
    """Hands over trades when they are due."""

    def __init__(
        self,
        sink: Sink,
        speed: float,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._sink, self._speed = sink, speed
        self._monotonic, self._sleep = monotonic, sleep
        self._is_connected = False
        #: The tape's time at an instant of the clock.
        self._began: tuple[int, float] | None = None

    def connect(self) -> None:
        """Say once that the feed is connected."""
        if not self._is_connected:
            self._is_connected = True
            self._sink.connected()

    async def play(self, reel: _Reel, row: int) -> int:
        """Hand over the next piece, or wait a while for it; returns the row after it.

        Nothing is waited for after a piece: what was handed over is always known to be.
        """
        # Others may work between two pieces.
        await asyncio.sleep(0)
        await self._sink.room()
        end = self._due(reel, row)
        if end == row:
            await self._wait_for(int(reel.ts[row]))
            return row
        if end > row + CHUNK:
            # Trades of one instant stay together.
            end = int(np.searchsorted(reel.ts, reel.ts[row + CHUNK - 1], side="right"))
        self._sink.trades(
            [reel.streams[owner] for owner in reel.owner[row:end].tolist()],
            reel.ts[row:end].tolist(),
            reel.price[row:end].tolist(),
            reel.size[row:end].tolist(),
            reel.ids[row:end],
        )
        return end

    def _due(self, reel: _Reel, row: int) -> int:
        """Return the row before which everything is due."""
        if not self._speed:
            return len(reel)
        now, ts = self._monotonic(), int(reel.ts[row])
        if self._began is None or ts - self._time(now) > _LONGEST_PAUSE_US:
            self._began = (ts, now)
        return max(row, int(np.searchsorted(reel.ts, self._time(now), side="right")))

    def _time(self, now: float) -> int:
        """Return the tape's time at an instant of the clock."""
        ts, began = self._began or (0, now)
        return ts + round((now - began) * self._speed * MICROSECONDS)

    async def _wait_for(self, ts: int) -> None:
        self._sink.alive()
        left = (ts - self._time(self._monotonic())) / MICROSECONDS / self._speed
        await self._sleep(min(max(left, 0.001), _NAP_SECONDS))


def _another(wanted: Wanted, version: int) -> Callable[[], bool]:
    """Return what says whether something else is wanted than at a version."""
    return lambda: wanted.version != version


async def _idle(wanted: Wanted, version: int, sink: Sink) -> None:
    """Wait until something else is wanted."""
    while True:
        sink.alive()
        try:
            async with asyncio.timeout(5 * _NAP_SECONDS):
                await wanted.changed_since(version)
        except TimeoutError:
            continue
        return


def _us(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def _at(ts: int) -> datetime:
    return _EPOCH + timedelta(microseconds=ts)


def make_tape(settings: Settings, platform: Platform) -> TapeFeed:
    """Return the feed as the settings describe it."""
    return TapeFeed(platform.tape, speed=settings.tape_speed)
