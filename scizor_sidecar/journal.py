"""What must be known after a kill -9 to lose nothing: how far trades are stored, and open holes.

The file is written on as things happen and made short again when it has grown; whatever byte it
ends at, what stands before is used. A little too old is no harm: then more is fetched again, and
trades that come again count once.
"""

import asyncio
import json
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scizor_core.stream.minutes import MINUTE_US
from scizor_core.stream.trades import NO_ID
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.permit import ALWAYS, Permit
from scizor_sidecar.records import RecordFile, replace_records

FILE_NAME = "journal.records"
#: The file is made short again when it is longer.
_LONGEST_FILE = 4 * 1024**2
#: Nothing is counted as heard until it is so old, microseconds: its trades have been counted too.
_HEARD_MARGIN_US = 10_000_000

#: (market, symbol).
_Key = tuple[str, str]


@dataclass(frozen=True)
class LastTrade:
    """The newest trade that has come of a stream.

    Attributes:
        ts: its time, microseconds UTC.
        trade_id: its identity, `NO_ID` where the feed gives none.
    """

    ts: int
    trade_id: int = NO_ID


@dataclass(frozen=True)
class Hole:
    """An interval in which trades of a feed may have been missed, until it is healed.

    Attributes:
        number: identity in the journal.
        feed: name of the feed.
        market: name of the market.
        starts: stream -> since when its trades may be missing, microseconds UTC.
        end: when the feed was back, microseconds UTC; None while it is away.
        reason: a sentence's worth: why.
        is_outage: whether the feed was away, which stands in `quality.outages`; a stream that is
            merely new has a hole and no outage.
        instrument_id: where the hole is of one stream alone.
    """

    number: int
    feed: str
    market: str
    starts: dict[Stream, int] = field(hash=False)
    end: int | None
    reason: str
    is_outage: bool = True
    instrument_id: int | None = None

    @property
    def start(self) -> int:
        """The earliest of the starts."""
        return min(self.starts.values())


class Journal:
    """How far each stream is stored, its last trade, and the holes that are not healed yet.

    Args:
        folder: directory of the journal's file; made where it is not there.
        longest_file: the file is made short again when it has more bytes.
        permit: whether this process may write; where that is not sure records wait until it is.

    Attributes:
        cut_bytes: bytes at the file's end that were half written.
        problem: why the disk does not take it, "" where it does; then all of it is written anew as
            soon as the disk takes that.
    """

    def __init__(
        self, folder: Path, *, longest_file: int = _LONGEST_FILE, permit: Permit = ALWAYS
    ) -> None:
        self._path = folder / FILE_NAME
        self._longest_file, self._permit = longest_file, permit
        self._waiting: deque[bytes] = deque()
        self._stored: dict[_Key, int] = {}
        self._seen: dict[tuple[str, str, str], LastTrade] = {}
        self._heard: dict[str, int] = {}
        #: Feed, market and symbol of what is streamed now.
        self._followed: set[tuple[str, str, str]] = set()
        self._holes: dict[int, Hole] = {}
        #: Feed, market and symbol -> the quarters of an hour whose bars are not all stored as they
        #: have to be.
        self._dirty: dict[tuple[str, str, str], set[int]] = {}
        self._numbers = 0
        self._changed_stored: set[_Key] = set()
        self._changed_seen: set[tuple[str, str, str]] = set()
        self._changed_heard: set[str] = set()
        self._lock = threading.Lock()
        self._file = RecordFile(self._path)
        self.cut_bytes = self._file.cut_bytes
        self.problem = ""
        self._unsynced = False
        for _, record in self._file.read():
            self._apply(record)
        if self._followed:
            # Nobody has heard anything since the process ended that wrote this.
            self._unfollow(self._followed.copy())
            self._append(["ended"])

    # ---- what has happened

    def begin(self, stream: Stream, ts_us: int) -> None:
        """Say since when a stream is to be had, where that is not known yet."""
        if (stream.market, stream.symbol) not in self._stored:
            self.stored_until(stream, ts_us)

    def stored_until(self, stream: Stream, ts_us: int) -> None:
        """Say that all minutes of a stream before an instant are durable in the database."""
        key = (stream.market, stream.symbol)
        if ts_us > self._stored.get(key, -1):
            self._stored[key] = ts_us
            self._changed_stored.add(key)

    def trade_seen(self, feed: str, stream: Stream, trade: LastTrade) -> None:
        """Note the newest trade of a stream."""
        key = (feed, stream.market, stream.symbol)
        before = self._seen.get(key)
        if before is None or trade.ts >= before.ts:
            self._seen[key] = trade
            self._changed_seen.add(key)

    def follow(self, feed: str, streams: Iterable[Stream]) -> None:
        """Say that a feed streams something from now on: what it hears counts for that."""
        keys = {(feed, each.market, each.symbol) for each in streams} - self._followed
        if keys:
            self._followed |= keys
            self._append(["follows", sorted(keys)])

    def leave(self, feed: str, stream: Stream) -> None:
        """Say that a feed no longer streams something: what it hears no longer counts for that."""
        key = (feed, stream.market, stream.symbol)
        if key in self._followed:
            self.write()
            self._unfollow({key})
            self._append(["leaves", key])

    def _unfollow(self, keys: Iterable[tuple[str, str, str]]) -> None:
        for feed, market, symbol in keys:
            until = self._whole_until(feed, market, symbol)
            self._followed.discard((feed, market, symbol))
            if until is not None:
                self._stored[market, symbol] = max(until, self._stored[market, symbol])

    def heard(self, feed: str, ts_us: int) -> None:
        """Note that a feed was there until an instant of its own time."""
        ts_us -= _HEARD_MARGIN_US
        if ts_us > self._heard.get(feed, -1):
            self._heard[feed] = ts_us
            self._changed_heard.add(feed)

    def open_hole(
        self,
        feed: str,
        market: str,
        starts: dict[Stream, int],
        reason: str,
        *,
        end: int | None = None,
        is_outage: bool = True,
        instrument_id: int | None = None,
    ) -> Hole:
        """Keep a new hole, at once, and return it."""
        self._numbers += 1
        hole = Hole(
            self._numbers, feed, market, dict(starts), end, reason, is_outage, instrument_id
        )
        self.keep_hole(hole)
        return hole

    def keep_hole(self, hole: Hole) -> None:
        """Keep a hole as it is now, at once."""
        self._holes[hole.number] = hole
        self._append(["hole", _hole_to_list(hole)])

    def close_hole(self, number: int) -> None:
        """Say that a hole is healed and what healed it is stored."""
        if self._holes.pop(number, None) is not None:
            self._append(["closed", number])

    def begin_anew(self, feed: str, stream: Stream, quarter: int) -> None:
        """Keep that a quarter of an hour is to be made anew, at once: its bars are not right."""
        key = (feed, stream.market, stream.symbol)
        quarters = self._dirty.setdefault(key, set())
        if quarter not in quarters:
            quarters.add(quarter)
            self._append(["anew", key, quarter])

    def end_anew(self, feed: str, stream: Stream, quarter: int) -> None:
        """Say that the bars of a quarter of an hour are stored as they have to be."""
        key = (feed, stream.market, stream.symbol)
        if quarter in self._dirty.get(key, ()):
            self._clean(key, quarter)
            self._append(["made", key, quarter])

    def _clean(self, key: tuple[str, str, str], quarter: int) -> None:
        quarters = self._dirty.get(key, set())
        quarters.discard(quarter)
        if not quarters:
            self._dirty.pop(key, None)

    # ---- what is known

    def to_make_anew(self, feed: str, stream: Stream) -> list[int]:
        """Return the starts of the quarters of an hour that are to be made anew."""
        return sorted(self._dirty.get((feed, stream.market, stream.symbol), ()))

    @property
    def holes(self) -> list[Hole]:
        """The holes that are not healed."""
        return list(self._holes.values())

    def hole(self, number: int) -> Hole | None:
        """Return a hole that is not healed."""
        return self._holes.get(number)

    def last_trade(self, feed: str, stream: Stream) -> LastTrade | None:
        """Return the newest trade of a stream, None before the first."""
        return self._seen.get((feed, stream.market, stream.symbol))

    def whole_until(self, feed: str, stream: Stream) -> int | None:
        """Return the start of the oldest minute that may not be stored as a whole.

        None for a stream that has never been streamed.
        """
        return self._whole_until(feed, stream.market, stream.symbol)

    def _whole_until(self, feed: str, market: str, symbol: str) -> int | None:
        stored = self._stored.get((market, symbol))
        if stored is None:
            return None
        last = self._seen.get((feed, market, symbol))
        if (feed, market, symbol) in self._followed and (last is None or last.ts < stored):
            # All that came is stored, and nothing came for as long as the feed was heard.
            stored = max(stored, self._heard.get(feed, stored))
        return stored - stored % MINUTE_US

    # ---- the file

    def write(self) -> None:
        """Hand what is new to the system: a kill of the process no longer loses it."""
        stored = [[*key, self._stored[key]] for key in sorted(self._changed_stored)]
        seen = [
            [*key, self._seen[key].ts, self._seen[key].trade_id]
            for key in sorted(self._changed_seen)
        ]
        heard = [[feed, self._heard[feed]] for feed in sorted(self._changed_heard)]
        self._changed_stored.clear()
        self._changed_seen.clear()
        self._changed_heard.clear()
        if stored or seen or heard:
            self._append(["far", stored, seen, heard])
        elif self._waiting:
            with self._lock:
                self._write_waiting()

    async def flush(self) -> None:
        """Bring all of it to the disk."""
        self.write()
        if self._unsynced or self.problem:
            await asyncio.to_thread(self._sync)

    def close(self) -> None:
        """Close the file; what is new is in it after `flush` alone."""
        self._file.close()

    def _append(self, record: list[Any]) -> None:
        with self._lock:
            self._waiting.append(json.dumps(record, separators=(",", ":")).encode())
            self._write_waiting()

    def _write_waiting(self) -> None:
        if self.problem:
            # What is written anew holds it too.
            self._waiting.clear()
        while self._waiting and self._permit.is_sure:
            try:
                self._file.append(self._waiting.popleft())
            except OSError as error:
                self.problem = str(error)
                return
            self._unsynced = True

    def _sync(self) -> None:
        with self._lock:
            self._unsynced = False
            try:
                self._bring_to_disk()
            except OSError as error:
                self.problem = str(error)

    def _bring_to_disk(self) -> None:
        is_short = self._file.size <= self._longest_file and not self.problem
        if is_short or not self._permit.is_sure:
            self._file.sync()
            return
        replace_records(self._path, self._all())
        self._file.close()
        self._file = RecordFile(self._path)
        self.problem = ""

    def _all(self) -> Iterator[bytes]:
        stored = [[*key, ts] for key, ts in self._stored.copy().items()]
        seen = [[*key, each.ts, each.trade_id] for key, each in self._seen.copy().items()]
        heard = [[*each] for each in self._heard.copy().items()]
        yield json.dumps(["far", stored, seen, heard]).encode()
        yield json.dumps(["follows", sorted(self._followed.copy())]).encode()
        yield json.dumps(["numbers", self._numbers]).encode()
        for hole in self.holes:
            yield json.dumps(["hole", _hole_to_list(hole)]).encode()
        for key, quarters in self._dirty.copy().items():
            for quarter in quarters.copy():
                yield json.dumps(["anew", key, quarter]).encode()

    def _apply(self, record: bytes) -> None:
        kind, *rest = json.loads(record)
        if kind == "far":
            stored, seen, heard = rest
            self._stored.update({(market, symbol): ts for market, symbol, ts in stored})
            self._seen.update({tuple(key): LastTrade(ts, identity) for *key, ts, identity in seen})
            self._heard.update(dict(heard))
        elif kind == "hole":
            hole = _hole_of(rest[0])
            self._holes[hole.number] = hole
            self._numbers = max(self._numbers, hole.number)
        elif kind == "closed":
            self._holes.pop(rest[0], None)
        elif kind == "anew":
            key, quarter = rest
            self._dirty.setdefault(tuple(key), set()).add(quarter)
        elif kind == "made":
            key, quarter = rest
            self._clean(tuple(key), quarter)
        elif kind == "follows":
            self._followed |= {(feed, market, symbol) for feed, market, symbol in rest[0]}
        elif kind == "leaves":
            feed, market, symbol = rest[0]
            self._unfollow({(feed, market, symbol)})
        elif kind == "ended":
            self._unfollow(self._followed.copy())
        elif kind == "numbers":
            self._numbers = max(self._numbers, rest[0])


def _hole_to_list(hole: Hole) -> list[Any]:
    starts = [
        [each.market, each.symbol, each.instrument_id, each.depth, start]
        for each, start in hole.starts.items()
    ]
    return [
        hole.number, hole.feed, hole.market, starts, hole.end, hole.reason, hole.is_outage,
        hole.instrument_id,
    ]  # fmt: skip


def _hole_of(values: list[Any]) -> Hole:
    starts = {Stream(*stream): start for *stream, start in values[3]}
    return replace(Hole(*values), starts=starts)
