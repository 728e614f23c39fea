"""One feed from its messages to bars: a bounded queue, the engine, and who is told.

Feeds hand over trades as they come; they wait in a queue that slows the feed down when it is full
and never drops a trade. Every few milliseconds what has come is taken through the engine in one
piece, which costs a thousandth of taking it trade by trade.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from scizor_core.markets import MARKETS, PriceSteps
from scizor_core.sessions import get_calendar
from scizor_core.sources import sampled as sampled_source
from scizor_core.stream.engine import LATENESS_US, BarEngine, BarState, Intake, LiveBar
from scizor_core.stream.guards import Limits, SessionClock, Verdict, judge_quote
from scizor_core.stream.minutes import MINUTE_US
from scizor_core.stream.trades import MICROSECONDS, NO_TIME, TradeBatch, concatenate, make_batch
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.feeds.connection import FeedState
from scizor_sidecar.feeds.notices import NoticeSink

#: Trades that may wait; the feed is not read on while there are more.
MOST_WAITING = 200_000
#: After a pass as much time as it has taken is left to others, but no more than this; what comes
#: meanwhile is taken together. The first trade after a rest waits for nothing.
REST_SECONDS = 0.003
#: A minute that still forms is given out so often at most, fifty times a second: nobody looks
#: closer, and of a lively instrument each pass would make a bar, a message and a frame of it.
FORMING_SECONDS = 0.02
#: Bars of 5m and 15m that still form come more rarely: each is put together anew of its minutes.
ABOVE_SECONDS = 0.05
_PHASES = 8
#: So many minutes that are made of samples are noted before those are forgotten that make no bars
#: any more.
_MOST_SAMPLED = 4096
#: Minutes end by the clock where no trade comes: so often is it looked at.
TIMER_SECONDS = 0.25


@dataclass(frozen=True)
class Quote:
    """Best bid and ask of an instrument; NaN for a side that is missing."""

    stream: Stream
    ts: int
    bid: float
    ask: float
    bid_size: float | None
    ask_size: float | None
    verdict: Verdict
    rule: str | None


@dataclass(frozen=True)
class Book:
    """The order book of an instrument as it stands, best first: (price, size)."""

    stream: Stream
    ts: int
    bids: tuple[tuple[float, float], ...]
    asks: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class StreamedBar:
    """A bar with what it is a bar of.

    Attributes:
        received_at: when the last of the trades that made it came, microseconds UTC; 0 where it
            was ended by the clock.
    """

    stream: Stream
    bar: LiveBar
    source: str
    received_at: int


@dataclass(frozen=True)
class Window:
    """What one pass of the pipeline has made of the trades that waited.

    Attributes:
        feed: name of the feed.
        streams: the feed's instruments by number.
        bars: bars that are new or different.
        quotes: the last quote of each instrument that had one.
        books: the last book of each instrument that had one.
        intake: what became of the trades, None where none had come; symbols are numbers of
            `streams`.
        received_at: arrival of the first and of the last message, microseconds UTC.
    """

    feed: str
    streams: Sequence[Stream]
    bars: list[StreamedBar]
    quotes: list[Quote]
    books: list[Book]
    intake: Intake | None
    received_at: tuple[int, int]


class Listener(Protocol):
    """Who is told what a pipeline makes. Called in the event loop: it must not wait."""

    def on_window(self, window: Window) -> None:
        """Take what a pass has made."""

    def on_state(self, feed: str, state: FeedState, why: str, at: int) -> None:
        """Take the feed's new state; `at` is microseconds UTC."""


@dataclass
class FeedCounts:
    """What a feed has delivered since the start."""

    messages: int = 0
    trades: int = 0
    repeated: int = 0
    quarantined: int = 0
    flagged: int = 0
    late: int = 0
    unreadable: int = 0
    gaps: int = 0
    quotes: int = 0
    books: int = 0
    books_conflated: int = 0
    connections: int = 0
    by_rule: dict[str, int] = field(default_factory=dict)


class FeedPipeline:
    """A feed's queue, engine and counts; it is the sink that the feed hands its messages to.

    Args:
        feed: name of the feed.
        listeners: who is told, in order.
        now: clock, aware.
        limits: where odd begins.
        price_steps: of an instrument, as far as they are known.
    """

    def __init__(
        self,
        feed: str,
        listeners: Sequence[Listener],
        now: Callable[[], datetime],
        *,
        limits: Limits | None = None,
        price_steps: Callable[[Stream], PriceSteps] = lambda _: (),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.feed, self._listeners, self._now = feed, listeners, now
        self._price_steps, self._monotonic = price_steps, monotonic
        self.limits = limits or Limits()
        self.engine = BarEngine(self.limits)
        self.counts = FeedCounts()
        self.state, self.why = FeedState.IDLE, "not started"
        self.streams: list[Stream] = []
        #: Number and start of a minute -> who told its bar, where that was not the feed.
        self.told_by: dict[tuple[int, int], str] = {}
        #: Market and symbol -> why the provider does not serve it.
        self.rejections: dict[tuple[str, str], str] = {}
        #: Market and symbol of the instruments of whose trades only a sample comes.
        self.sampled: frozenset[tuple[str, str]] = frozenset()
        #: Market and symbol -> why the order book that is wanted does not come.
        self.without_book: dict[tuple[str, str], str] = {}
        #: Takes halts and trades that are taken back.
        self.notices: NoticeSink | None = None
        #: Number and start of the minutes that hold trades of a sample.
        self._sampled_minutes: set[tuple[int, int]] = set()
        self._numbers: dict[tuple[str, str], int] = {}
        self._clocks = {name: SessionClock(get_calendar(name)) for name in MARKETS}
        self._waiting: list[TradeBatch] = []
        self._rows = 0
        self._quotes: dict[Stream, Quote] = {}
        self._books: dict[Stream, Book] = {}
        self._first_at = self._last_at = 0
        self._heard = monotonic()
        self._newest_heard = monotonic()
        #: Number -> when its last trade came, microseconds UTC.
        self._came: dict[int, int] = {}
        #: Number -> when a minute that forms was given out last, if that is not long ago.
        self._given: dict[int, float] = {}
        self._given_above: dict[int, float] = {}
        self._work = asyncio.Event()
        self._space = asyncio.Event()
        self._space.set()

    # ---- what the feed hands over

    @property
    def is_connected(self) -> bool:
        """Whether the feed's subscription stands."""
        return self.state is FeedState.CONNECTED

    @property
    def silent_seconds(self) -> float:
        """Seconds since anything was heard."""
        return self._monotonic() - self._heard

    def connecting(self) -> None:
        """Begin to listen."""
        self._heard = self._monotonic()
        self.engine.begin_pass()
        self._set_state(FeedState.CONNECTING, "connecting")

    def connected(self) -> None:
        """Note that the subscription stands."""
        self.alive()
        self.counts.connections += 1
        # Now the feed knows its markets.
        for number, stream in enumerate(self.streams):
            self.engine.guard.set_price_steps(number, self._price_steps(stream))
        self._set_state(FeedState.CONNECTED, "subscribed")

    def lost(self, why: str) -> None:
        """Note that things are missed although the connection stands."""
        self.engine.begin_pass()
        self._set_state(FeedState.WAITING, why)

    def disconnected(self, state: FeedState, why: str) -> None:
        """Note that the connection has ended."""
        self._set_state(state, why)

    def alive(self) -> None:
        """Note that the connection lives."""
        self._heard = self._monotonic()

    def trades(
        self,
        streams: Sequence[Stream],
        ts: Sequence[int],
        price: Sequence[float],
        size: Sequence[float],
        trade_id: Sequence[str | int | None],
        condition: Sequence[int] | None = None,
    ) -> None:
        """Queue trades."""
        if not len(ts):
            return
        numbers = [self.number(stream) for stream in streams]
        if self.sampled:
            self._note_samples(streams, numbers, ts)
        self.take(make_batch(numbers, ts, price, size, trade_id, condition))

    def take(self, batch: TradeBatch) -> None:
        """Queue trades whose symbols are numbers of `streams` already."""
        self._arrived()
        self._waiting.append(batch)
        self._rows += len(batch)
        if self._rows >= MOST_WAITING:
            self._space.clear()
        self._work.set()

    def quote(
        self,
        stream: Stream,
        ts: int,
        bid: float,
        ask: float,
        bid_size: float | None = None,
        ask_size: float | None = None,
    ) -> None:
        """Take a quote; of several before the next pass the last one counts."""
        self._arrived()
        self.counts.quotes += 1
        verdict, rule = judge_quote(bid, ask, self.limits)
        if rule is not None:
            self.counts.by_rule[rule] = self.counts.by_rule.get(rule, 0) + 1
        if verdict is not Verdict.QUARANTINE:
            self._quotes[stream] = Quote(stream, ts, bid, ask, bid_size, ask_size, verdict, rule)
        self._work.set()

    def book(
        self,
        stream: Stream,
        ts: int,
        bids: Sequence[tuple[float, float]],
        asks: Sequence[tuple[float, float]],
    ) -> None:
        """Take a book; of several before the next pass the last one counts."""
        self._arrived()
        self.counts.books += 1
        self.counts.books_conflated += stream in self._books
        self._books[stream] = Book(stream, ts, tuple(bids), tuple(asks))
        self._work.set()

    def refused(self, what: str, raw: str) -> None:
        """Count a message that could not be read."""
        del what, raw
        self.alive()
        self.counts.unreadable += 1

    def gap(self, missed: int) -> None:
        """Count messages that never came."""
        self.alive()
        self.counts.gaps += missed

    def rejected(self, stream: Stream, why: str) -> None:
        """Note that the provider does not serve an instrument."""
        self.rejections[stream.market, stream.symbol] = why

    def limited(self, sampled: Collection[Stream], without_book: Mapping[Stream, str]) -> None:
        """Note of which instruments less comes than is wanted."""
        self.sampled = frozenset((each.market, each.symbol) for each in sampled)
        self.without_book = {(each.market, each.symbol): why for each, why in without_book.items()}

    def halted(self, stream: Stream, ts: int, reason: str) -> None:
        """Hand on that trading of an instrument has been stopped."""
        if self.notices is not None:
            self.notices.halted(stream, ts, reason)

    def resumed(self, stream: Stream, ts: int) -> None:
        """Hand on that an instrument is traded again."""
        if self.notices is not None:
            self.notices.resumed(stream, ts)

    def taken_back(self, stream: Stream, ts: int, why: str) -> None:
        """Hand on that a trade was cancelled or corrected."""
        if self.notices is not None:
            self.notices.taken_back(stream, ts, why)

    async def room(self) -> None:
        """Wait while the queue is full."""
        await self._space.wait()

    def number(self, stream: Stream) -> int:
        """Return the engine's number of an instrument, taking it in where it is new."""
        key = (stream.market, stream.symbol)
        found = self._numbers.get(key)
        if found is None:
            found = self.engine.add_symbol(self._clocks[stream.market])
            self.engine.guard.set_price_steps(found, self._price_steps(stream))
            self._numbers[key] = found
            self.streams.append(stream)
        return found

    def mark_minute(self, number: int, start: int, *, is_sampled: bool) -> None:
        """Note of a minute that was not made of live trades whether it is one of a sample."""
        if is_sampled:
            self._sampled_minutes.add((number, start))
        else:
            self._sampled_minutes.discard((number, start))

    def _note_samples(
        self, streams: Sequence[Stream], numbers: Sequence[int], ts: Sequence[int]
    ) -> None:
        self._sampled_minutes |= {
            (number, at - at % MINUTE_US)
            for stream, number, at in zip(streams, numbers, ts, strict=True)
            if (stream.market, stream.symbol) in self.sampled
        }
        if len(self._sampled_minutes) > _MOST_SAMPLED:
            self._sampled_minutes = {
                each for each in self._sampled_minutes if self.engine.keeps(*each)
            }

    @property
    def feed_time(self) -> int:
        """The feed's own time when it was last heard, microseconds UTC; `NO_TIME` before a trade.

        The time of its newest trade, and what had passed since.
        """
        if self.engine.newest == NO_TIME:
            return NO_TIME
        passed = max(self._heard - self._newest_heard, 0.0)
        return self.engine.newest + math.floor(passed * MICROSECONDS)

    @property
    def waiting(self) -> int:
        """Trades in the queue."""
        return self._rows

    def _arrived(self) -> None:
        self.alive()
        self.counts.messages += 1
        self._last_at = self._now_us()
        self._first_at = self._first_at or self._last_at

    # ---- the passes

    async def run(self) -> None:
        """Take what waits through the engine, again and again, until cancelled."""
        while True:
            # Python 3.11's `wait_for` loses a cancellation that comes together with work.
            limit = FORMING_SECONDS if self.engine.has_waiting else TIMER_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit):
                    await self._work.wait()
            began = self._monotonic()
            self.step()
            taken = self._monotonic() - began
            await asyncio.sleep(min(taken, REST_SECONDS))

    def step(self, *, last: bool = False) -> None:
        """Make one pass: all that waits, then the clock.

        Args:
            last: no other pass follows; what would be given out a little later is given out now.
        """
        self._work.clear()
        batches, self._waiting, self._rows = self._waiting, [], 0
        self._space.set()
        received, self._first_at, self._last_at = (self._first_at, self._last_at), 0, 0
        intake = None
        if batches:
            intake = self.process(concatenate(batches))
            self._came.update(dict.fromkeys(intake.trades.symbol.tolist(), received[1]))
        if self.is_connected:
            self._end_minutes()
        quotes, self._quotes = list(self._quotes.values()), {}
        books, self._books = list(self._books.values()), {}
        bars = self._bars(last=last)
        if not (intake or quotes or books or bars):
            return
        arrived = received[1] if intake else 0
        window = Window(
            self.feed,
            self.streams,
            [
                StreamedBar(
                    self.streams[bar.symbol],
                    bar,
                    self._source_of(bar),
                    # One that forms may have waited since an earlier pass.
                    self._came.get(bar.symbol, 0) if bar.state is BarState.FORMING else arrived,
                )
                for bar in bars
            ],
            quotes,
            books,
            intake,
            received,
        )
        for listener in self._listeners:
            listener.on_window(window)

    def _bars(self, *, last: bool) -> list[LiveBar]:
        """Return the bars to give out now."""
        if last:
            return self.engine.changed()
        now = self._monotonic()
        self._given = _not_long_ago(self._given, now, FORMING_SECONDS)
        self._given_above = _not_long_ago(self._given_above, now, ABOVE_SECONDS)
        bars = self.engine.changed(resting=self._given, resting_above=self._given_above)
        for bar in bars:
            if bar.state is BarState.FORMING:
                given = self._given if bar.timeframe == "1m" else self._given_above
                given[bar.symbol] = now
        return bars

    def _source_of(self, bar: LiveBar) -> str:
        """Return who a bar is of: the feed, and those who told minutes in its place.

        A part that is a sample makes all that is the feed's a sample.
        """
        if not self.told_by and not self._sampled_minutes:
            return self.feed
        minutes = {(bar.symbol, start) for start in range(bar.start, bar.end, MINUTE_US)}
        own = self.feed if self._sampled_minutes.isdisjoint(minutes) else sampled_source(self.feed)
        return "+".join(sorted({self.told_by.get(each, own) for each in minutes}))

    def process(self, batch: TradeBatch, *, healing: bool = False) -> Intake:
        """Take trades through the engine and count what becomes of them."""
        newest = self.engine.newest
        intake = self.engine.process(batch, self._now_us(), healing=healing)
        if self.engine.newest != newest:
            self._newest_heard = self._monotonic()
        counts = self.counts
        counts.trades += intake.kept
        counts.repeated += intake.repeated
        counts.quarantined += len(intake.quarantined)
        counts.late += intake.late
        for rule, rows in intake.by_rule.items():
            counts.by_rule[rule] = counts.by_rule.get(rule, 0) + rows
        return intake

    def _end_minutes(self) -> None:
        """End minutes by the feed's own time: its newest trade, and what has passed since.

        The wall clock would do for a live feed; a tape that is replayed has a time of its own.
        """
        if self.engine.newest == NO_TIME:
            return
        passed = math.floor((self._monotonic() - self._newest_heard) * MICROSECONDS)
        self.engine.close_until(self.engine.newest + passed - LATENESS_US)

    def _set_state(self, state: FeedState, why: str) -> None:
        if (state, why) == (self.state, self.why):
            return
        self.state, self.why = state, why
        for listener in self._listeners:
            listener.on_state(self.feed, state, why, self._now_us())

    def _now_us(self) -> int:
        return int(self._now().timestamp() * MICROSECONDS)


def _not_long_ago(given: Mapping[int, float], now: float, seconds: float) -> dict[int, float]:
    """Return those of the instruments that still rest.

    Not all rest equally long: what began in one pass shall not come in one pass for ever.
    """
    return {
        number: at
        for number, at in given.items()
        if now - at < seconds * (1 + number % _PHASES / _PHASES)
    }


def bars_by_stream(bars: Iterable[StreamedBar]) -> Mapping[Stream, list[StreamedBar]]:
    """Return the bars of each instrument, in the order given."""
    found: dict[Stream, list[StreamedBar]] = {}
    for bar in bars:
        found.setdefault(bar.stream, []).append(bar)
    return found
