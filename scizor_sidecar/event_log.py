"""The log of what the stream has made: closed and revised bars, states of feeds, numbered.

Whoever has been away asks for what came after the last number that he has. The numbers go on after
a restart; what is older than the log keeps is gone, and `first_version` says so.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from scizor_core.stream.engine import BarState
from scizor_core.stream.trades import MICROSECONDS
from scizor_sidecar.feeds.connection import FeedState
from scizor_sidecar.permit import ALWAYS, Permit
from scizor_sidecar.pipeline import StreamedBar, Window
from scizor_sidecar.records import RecordFile, read_records

#: Events wait so long for others and are then written together.
WRITE_SECONDS = 0.2
#: A file is closed at this size.
FILE_BYTES = 16 * 1024**2
#: Events that wait in memory where the disk takes none; then the oldest are lost, and counted.
MOST_WAITING = 100_000
_DAY_US = 86_400 * MICROSECONDS
_LOGGED = frozenset(set(BarState) - {BarState.FORMING})


class LogEvent(msgspec.Struct, array_like=True, frozen=True):
    """One event.

    Attributes:
        version: its number; each event has a higher one than those before.
        at: when it was logged, microseconds UTC.
        kind: "bar" or "state".
        data: of a bar market, symbol, timeframe, start (microseconds UTC), open, high, low, close,
            volume, vwap, trade_count, state, revision, source; of a state feed, state, why.
    """

    version: int
    at: int
    kind: str
    data: dict[str, Any]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(LogEvent).decode


class EventLog:
    """An append-only log; a listener of pipelines.

    Args:
        folder: directory of its files; made where it is not there.
        keep_days: files whose last event is older are deleted.
        keep_bytes: the oldest files are deleted where all together are larger.
        now_us: clock, microseconds UTC.
        file_bytes: size at which the next file is begun.
        permit: whether this process may write.

    Attributes:
        version: number of the newest event.
        lost: events that the disk did not take.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep_days: int = 7,
        keep_bytes: int = 2 * 1024**3,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        file_bytes: int = FILE_BYTES,
        permit: Permit = ALWAYS,
    ) -> None:
        self._permit = permit
        self._folder, self._now_us = folder, now_us
        self._keep_us, self._keep_bytes = keep_days * _DAY_US, keep_bytes
        self._file_bytes = file_bytes
        folder.mkdir(parents=True, exist_ok=True)
        self._file: RecordFile | None = None
        self._waiting: deque[LogEvent] = deque()
        self._work = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="event-log")
        self.version = self._written = self._last_version()
        self.lost = 0

    # ---- what comes in

    def on_window(self, window: Window) -> None:
        """Log the bars that are closed, revised, provisional or withdrawn."""
        for each in window.bars:
            if each.bar.state in _LOGGED:
                self._log("bar", _bar_data(each))

    def on_state(self, feed: str, state: FeedState, why: str, at: int) -> None:
        """Log a feed's new state."""
        self._log("state", {"feed": feed, "state": state.value, "why": why}, at)

    def _log(self, kind: str, data: dict[str, Any], at: int | None = None) -> None:
        self.version += 1
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self.lost += 1
        moment = self._now_us() if at is None else at
        self._waiting.append(LogEvent(self.version, moment, kind, data))
        self._work.set()

    # ---- to the disk

    async def run(self) -> None:
        """Write what comes, until cancelled."""
        while True:
            await self._work.wait()
            await asyncio.sleep(WRITE_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Write all that waits; what the disk does not take goes on waiting."""
        await self._permit.sure()
        self._work.clear()
        events = list(self._waiting)
        if not events:
            return
        loop = asyncio.get_running_loop()
        written = await loop.run_in_executor(self._thread, self._write, events)
        while self._waiting and self._waiting[0].version <= written:
            self._waiting.popleft()

    def close(self) -> None:
        """Close the file; call it after `flush`."""
        self._thread.shutdown(wait=True)
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, events: list[LogEvent]) -> int:
        """Write events; returns the version of the last one that is on the disk."""
        with contextlib.suppress(OSError):
            for event in events:
                if event.version <= self._written:
                    # By a call that was cancelled while it waited for this.
                    continue
                file = self._file_for(event.version)
                file.append(_encode(event))
                self._written = event.version
            if self._file is not None:
                self._file.sync()
        return self._written

    def _file_for(self, version: int) -> RecordFile:
        if self._file is None or self._file.size >= self._file_bytes:
            if self._file is not None:
                self._file.close()
            self._forget_old()
            self._file = RecordFile(self._folder / f"{version:016d}.events")
        return self._file

    def _forget_old(self) -> None:
        paths = self._paths()
        size = sum(path.stat().st_size for path in paths)
        horizon = self._now_us() - self._keep_us
        for path in paths:
            info = path.stat()
            if info.st_mtime_ns // 1000 >= horizon and size <= self._keep_bytes:
                return
            size -= info.st_size
            path.unlink()

    # ---- replay

    @property
    def first_version(self) -> int | None:
        """Number of the oldest event that is kept, None where there is none."""
        for path in self._paths():
            return int(path.stem)
        return None

    def replay(self, after: int = 0) -> Iterator[LogEvent]:
        """Return the events on disk with a higher number, in order. Blocks: read in a thread."""
        paths = self._paths()
        for place, path in enumerate(paths):
            if place + 1 < len(paths) and int(paths[place + 1].stem) <= after + 1:
                continue
            try:
                for _, record in read_records(path):
                    event = _decode(record)
                    if event.version > after:
                        yield event
            except FileNotFoundError:  # too old meanwhile
                continue

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("*.events"))

    def _last_version(self) -> int:
        for path in reversed(self._paths()):
            with RecordFile(path) as file:
                versions = [_decode(record).version for _, record in file.read()]
            if versions:
                return versions[-1]
            return int(path.stem) - 1
        return 0


def _bar_data(each: StreamedBar) -> dict[str, Any]:
    bar = each.bar
    return {
        "market": each.stream.market,
        "symbol": each.stream.symbol,
        "timeframe": bar.timeframe,
        "start": bar.start,
        "open": bar.open,
        "high": bar.high,
        "low": bar.low,
        "close": bar.close,
        "volume": bar.volume,
        "vwap": bar.vwap,
        "trade_count": bar.trade_count,
        "state": bar.state.value,
        "revision": bar.revision,
        "source": each.source,
    }
