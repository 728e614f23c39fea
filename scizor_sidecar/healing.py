"""Nothing is lost: every interval in which a feed may have missed trades is filled.

A hole begins when a connection ends, when the process was not running, when a symbol joins, or when
one is oddly silent. When the feed is back its trades are fetched over REST through the rate budget
and go through the same engine as live ones; until then the bars concerned are provisional. A hole
stays in the journal until the bars that heal it are durable.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from scizor_core.gaps import from_micros, to_micros
from scizor_core.stream.engine import LATENESS_US
from scizor_core.stream.minutes import MINUTE_US
from scizor_core.stream.trades import MICROSECONDS, NO_TIME, TradeBatch
from scizor_resources.platform import Platform
from scizor_resources.trades.base import TradeSource
from scizor_resources.trades.registry import trade_source
from scizor_sidecar.care import Care, Name, OpenOutage, by_market, name_of
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.feeds.connection import FeedState
from scizor_sidecar.heal_work import HealCounts, HealPatience, HealWork
from scizor_sidecar.journal import Hole, Journal, LastTrade
from scizor_sidecar.mending import QUARTER_US, session_parts
from scizor_sidecar.outage_book import OutageBook
from scizor_sidecar.pipeline import FeedPipeline, StreamedBar, Window

#: Feeds that go on where they were, so that they have no holes.
NEVER_MISSES = frozenset({"tape"})

_TICK_SECONDS = 0.5
_HOUR_US = 3600 * MICROSECONDS
#: A feed whose time is nearer to ours than this is live, and not a replay.
_LIVE_US = 600 * MICROSECONDS


class Healer:
    """Watches the feeds' pipelines, keeps the journal, fills holes; a listener of each pipeline.

    Args:
        platform: providers, budgets, PostgreSQL.
        pipelines: feed -> its pipeline; may be filled after this is made.
        journal: what survives a kill.
        wanted: feed -> what it is to stream now.
        stored: waits until all bars that were handed out are durable.
        revised: takes bars that were made apart from the engine.
        resubscribe: asks a feed for one stream again.
        sources: feed -> the provider's history of trades.
        book: writes outages and gaps.
        heal_hours: older holes are left to the repair of gaps; None: as the settings say.
        patience: how it is tried.
        monotonic: clock in seconds.
    """

    def __init__(
        self,
        platform: Platform,
        pipelines: Mapping[str, FeedPipeline],
        journal: Journal,
        *,
        wanted: Callable[[str], Collection[Stream]],
        stored: Callable[[], Awaitable[None]] | None = None,
        revised: Callable[[list[StreamedBar]], None] = lambda _: None,
        resubscribe: Callable[[str, Stream], None] = lambda *_: None,
        sources: Callable[[str, Platform], TradeSource | None] = trade_source,
        book: OutageBook | None = None,
        heal_hours: float | None = None,
        patience: HealPatience | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._platform, self._pipelines, self._journal = platform, pipelines, journal
        self._wanted, self._stored, self._revised = wanted, stored or _nothing, revised
        self._resubscribe, self._sources = resubscribe, sources
        hours = platform.settings.stream_heal_hours if heal_hours is None else heal_hours
        self._heal_us = int(hours * _HOUR_US)
        self._patience = patience or HealPatience()
        self._monotonic = monotonic
        self._book = book or OutageBook(platform)
        self._cares: dict[str, Care] = {}
        #: Holes of an earlier process that nobody has taken over yet.
        self._left = {each.number for each in journal.holes}
        self._tasks: asyncio.TaskGroup | None = None
        #: Feed, stream and quarter of an hour that has changed after it was closed.
        self._late: set[tuple[str, Stream, int]] = set()
        self.counts = HealCounts()

    # ---- what is told

    @property
    def open_outages(self) -> Sequence[OpenOutage]:
        """The holes that are not healed yet."""
        return [self._described(hole) for hole in self._journal.holes]

    def _described(self, hole: Hole) -> OpenOutage:
        care = self._cares.get(hole.feed)
        task = care.work.tasks.get(hole.number) if care is not None else None
        return OpenOutage(
            hole.feed,
            hole.market,
            tuple(sorted(each.symbol for each in hole.starts)),
            from_micros(hole.start),
            None if hole.end is None else from_micros(hole.end),
            hole.reason,
            0 if task is None else task.failures,
            "" if task is None else task.problem,
        )

    def added(self, feed: str, stream: Stream) -> None:
        """Say that a stream has joined a feed whose connection stands."""
        if feed not in NEVER_MISSES and self._pipelines[feed].is_connected:
            care = self._care(feed)
            if name_of(stream) not in care.known:
                self._join(care, stream, self._now_us())

    def lost(self, stream: Stream, start_us: int, end_us: int) -> None:
        """Say that bars of an interval could not be kept: they are made again.

        Args:
            stream: whose bars.
            start_us: start of the first one, microseconds UTC.
            end_us: end of the last one.
        """
        for care in self._cares.values():
            if name_of(stream) in care.known:
                for quarter in range(start_us // QUARTER_US * QUARTER_US, end_us, QUARTER_US):
                    care.work.make_anew(stream, quarter)

    def refetch(self, feed: str, stream: Stream, ts_us: int) -> None:
        """Say that a trade was taken back: its bars are to be made anew of all their trades."""
        self._care(feed).work.make_anew(stream, ts_us)

    # ---- listening

    def on_state(self, feed: str, state: FeedState, why: str, at: int) -> None:
        """Begin and end holes as the connection ends and stands again."""
        if feed in NEVER_MISSES:
            return
        care = self._care(feed)
        if state is FeedState.CONNECTED:
            self._back(care, at)
        elif state is FeedState.IDLE:
            self._leave(care, list(care.known))
        else:
            self._away(care, why, at)

    def on_window(self, window: Window) -> None:
        """Note which trades have come."""
        intake = window.intake
        if intake is None or window.feed in NEVER_MISSES:
            return
        care = self._care(window.feed)
        if len(intake.trades):
            self._heard(care, intake.trades)
        if intake.late:
            self._note_late(care, intake.trades)
        for number, ts in zip(
            intake.forgotten.symbol.tolist(), intake.forgotten.ts.tolist(), strict=True
        ):
            # What is older than the first minute that was streamed is nobody's.
            if ts >= care.begun.get(number, ts):
                care.work.make_anew(window.streams[number], ts)

    def _note_late(self, care: Care, trades: TradeBatch) -> None:
        """Keep which quarters have changed after they were closed, until that is stored."""
        engine = care.pipeline.engine
        rows = zip(trades.symbol.tolist(), (trades.ts // QUARTER_US).tolist(), strict=True)
        for number, quarter in set(rows):
            stream, start = care.pipeline.streams[number], quarter * QUARTER_US
            if name_of(stream) in care.known and start < engine.closed_until(number):
                self._journal.begin_anew(care.feed, stream, start)
                self._late.add((care.feed, stream, start))

    async def _keep_late(self) -> None:
        """Let go of quarters that have changed when that is stored."""
        late, self._late = self._late, set()
        await self._stored()
        for feed, stream, quarter in late - self._late:
            if not self._cares[feed].work.is_to_make(stream, quarter):
                self._journal.end_anew(feed, stream, quarter)

    def _heard(self, care: Care, trades: TradeBatch) -> None:
        care.liveness.seen(trades)
        if care.fresh:
            self._first_trades(care, trades)
        for number in [each for each in care.joining if (trades.symbol == each).any()]:
            self._joined(care, number)

    def _first_trades(self, care: Care, trades: TradeBatch) -> None:
        """Settle since when streams are whole, now that their first trades are here.

        A feed that replays another time than ours begins before what was thought.
        """
        for number in care.fresh.keys() & set(trades.symbol.tolist()):
            start = care.fresh.pop(number)
            stream = care.pipeline.streams[number]
            first = int(trades.ts[trades.symbol == number].min()) // QUARTER_US * QUARTER_US
            if first < start:
                self._open_and_fill(care, stream, first, "trades are older than the subscription")
            self._begin(care, stream, min(first, start))

    def _begin(self, care: Care, stream: Stream, start: int) -> None:
        """Keep since when a stream is whole: what is before is nobody's."""
        number = care.number(stream)
        care.begun[number] = start // QUARTER_US * QUARTER_US
        care.pipeline.engine.begin_at(number, care.begun[number])
        self._journal.begin(stream, start)

    # ---- holes begin and end

    def _care(self, feed: str) -> Care:
        care = self._cares.get(feed)
        if care is None:
            pipeline = self._pipelines[feed]
            work = HealWork(
                self._platform,
                pipeline,
                self._sources(feed, self._platform),
                self._journal,
                self._book,
                self.counts,
                stored=self._stored,
                revised=self._revised,
                heard=lambda stream: self._newest(feed, stream),
                patience=self._patience,
                monotonic=self._monotonic,
            )
            care = self._cares[feed] = Care(feed, pipeline, work)
            if self._tasks is not None:
                self._tasks.create_task(work.run(), name=f"healing of {feed}")
        return care

    def _newest(self, feed: str, stream: Stream) -> LastTrade | None:
        """Return the newest trade that has come live of a stream."""
        care = self._cares[feed]
        found = care.liveness.newest(care.number(stream))
        return None if found is None else LastTrade(*found)

    def _away(self, care: Care, why: str, at: int) -> None:
        """Begin a hole in each market of the feed, or let the one that lasts go on."""
        for number in list(care.joining):
            self._joined(care, number)
        for market, streams in by_market(self._wanted(care.feed)).items():
            lasts = self._journal.hole(care.away.get(market, 0))
            before = {} if lasts is None else lasts.starts
            names = {name_of(each) for each in before}
            new = [each for each in streams if name_of(each) not in names]
            if not new:
                continue
            was_there = any(name_of(each) in care.known for each in new)
            starts = {each: self._start(care, each, at) for each in new}
            was_stored = any(care.number(each) not in care.fresh for each in new)
            if lasts is None:
                lasts = self._journal.open_hole(
                    care.feed,
                    market,
                    starts,
                    why if was_there or not was_stored else "the sidecar was not running",
                    is_outage=was_stored,
                )
                self.counts.holes += 1
                self.counts.outages += lasts.is_outage
                care.away[market] = lasts.number
            else:
                lasts = replace(lasts, starts={**before, **starts})
                self._journal.keep_hole(lasts)
            for stream, start in starts.items():
                care.known[name_of(stream)] = stream
                care.pipeline.engine.begin_outage([care.number(stream)], start)
            self._journal.follow(care.feed, starts)
            self._forget_left(care.feed, market)
            self._book.began(lasts)

    def _back(self, care: Care, at: int) -> None:
        """End the holes that last, and fill them."""
        for number in care.away.values():
            hole = self._journal.hole(number)
            if hole is not None:
                self._close_and_fill(care, hole, at)
        care.away.clear()
        self._follow_wanted(care, at)

    def _close_and_fill(
        self,
        care: Care,
        hole: Hole,
        end: int,
        then: Callable[[Stream, int], None] = lambda *_: None,
    ) -> None:
        hole = replace(hole, end=end)
        self._journal.keep_hole(hole)
        care.pipeline.engine.resume([care.number(each) for each in hole.starts], end)
        self._book.ended(hole)

        def filled(stream: Stream, missed: int) -> None:
            self._filled(care, stream, end)
            then(stream, missed)

        care.work.fill(hole, filled)

    def _filled(self, care: Care, stream: Stream, end: int) -> None:
        """Keep since when a stream is whole that has not traded yet, where its time is ours."""
        care.liveness.listen_since(care.number(stream), end)
        start = care.fresh.get(care.number(stream))
        heard = care.pipeline.feed_time
        if start is not None and abs(heard - self._now_us()) < _LIVE_US:
            del care.fresh[care.number(stream)]
            self._begin(care, stream, start)

    def _open_and_fill(
        self,
        care: Care,
        stream: Stream,
        start: int,
        why: str,
        then: Callable[[Stream, int], None] = lambda *_: None,
    ) -> None:
        """Fill what a stream has had since an instant although its feed was there."""
        hole = self._journal.open_hole(
            care.feed,
            stream.market,
            {stream: start},
            why,
            is_outage=False,
            instrument_id=stream.instrument_id,
        )
        self.counts.holes += 1
        care.pipeline.engine.begin_outage([care.number(stream)], start)
        self._close_and_fill(care, hole, self._now_us(), then)

    def _start(self, care: Care, stream: Stream, at: int) -> int:
        """Return since when trades of a stream may be missing, now that its feed is away."""
        number, heard = care.number(stream), self._heard_until(care, at)
        if name_of(stream) in care.known:
            if number in care.fresh:
                return care.fresh[number]
            if heard != NO_TIME:
                start = heard - LATENESS_US - self._patience.overlap_us
                start -= start % MICROSECONDS
                return max(start, care.begun.get(number, start))
        return self._first_start(care, stream, at)

    @staticmethod
    def _heard_until(care: Care, at: int) -> int:
        """Return until when a feed has told all of its trades, as far as it can be known."""
        heard = care.pipeline.feed_time
        # What replays another time need not go on at our pace.
        return heard if abs(heard - at) < _LIVE_US else care.pipeline.engine.newest

    def _first_start(self, care: Care, stream: Stream, at: int) -> int:
        """Return since when trades are missing of a stream that this process has not had yet."""
        number = care.number(stream)
        for quarter in self._journal.to_make_anew(care.feed, stream):
            care.work.make_anew(stream, quarter)
        known = [self._journal.whole_until(care.feed, stream)]
        known += [
            start
            for each in self._journal.holes
            if each.number in self._left and each.feed == care.feed
            for other, start in each.starts.items()
            if name_of(other) == name_of(stream)
        ]
        stored = [each for each in known if each is not None]
        if not stored:
            # Its first minutes shall be whole, and so shall the bars above them.
            care.fresh[number] = at // QUARTER_US * QUARTER_US
            return care.fresh[number]
        # Not from the middle of a bar: what comes before is not known.
        horizon = (at - self._heal_us) // QUARTER_US * QUARTER_US
        start = max(min(*stored, at), horizon)
        start -= start % MINUTE_US
        care.begun[number] = start // QUARTER_US * QUARTER_US
        care.pipeline.engine.begin_at(number, care.begun[number])
        if care.begun[number] < start:
            care.work.restore(stream, start)
        return start

    def _forget_left(self, feed: str, market: str) -> None:
        """Let go of holes of an earlier process that are part of a new one now."""
        for hole in self._journal.holes:
            if hole.number in self._left and (hole.feed, hole.market) == (feed, market):
                self._left.discard(hole.number)
                self._journal.close_hole(hole.number)
                if hole.instrument_id is not None:
                    self._book.ended(replace(hole, end=hole.end or self._now_us()))

    # ---- streams come and go while the connection stands

    def _follow_wanted(self, care: Care, at: int) -> None:
        wanted = {name_of(each): each for each in self._wanted(care.feed)}
        self._leave(care, [name for name in care.known if name not in wanted])
        if care.pipeline.is_connected:
            for name, stream in wanted.items():
                if name not in care.known:
                    self._join(care, stream, at)

    def _join(self, care: Care, stream: Stream, at: int) -> None:
        """Begin a hole of a stream that is subscribed to while the connection stands."""
        start = self._first_start(care, stream, at)
        hole = self._journal.open_hole(
            care.feed,
            stream.market,
            {stream: start},
            "it was not streamed",
            is_outage=False,
            instrument_id=stream.instrument_id,
        )
        self.counts.holes += 1
        number = care.number(stream)
        care.known[name_of(stream)] = stream
        self._journal.follow(care.feed, [stream])
        care.pipeline.engine.begin_outage([number], start)
        care.joining[number] = hole.number, self._monotonic() + self._patience.joining_seconds

    def _joined(self, care: Care, number: int) -> None:
        hole = self._journal.hole(care.joining.pop(number)[0])
        if hole is not None:
            self._close_and_fill(care, hole, self._now_us())

    def _leave(self, care: Care, names: Iterable[Name]) -> None:
        for name in names:
            stream, now = care.known[name], self._now_us()
            number = care.number(stream)
            # Nobody hears the rest of the minute that runs.
            care.pipeline.engine.begin_outage([number], self._start(care, stream, now))
            del care.known[name]
            self._journal.leave(care.feed, stream)
            care.fresh.pop(number, None)
            care.joining.pop(number, None)
            care.work.leave(stream)
            care.pipeline.engine.resume([number], now)
            care.pipeline.engine.abandon([number], NO_TIME, now)
            for hole in self._journal.holes:
                if hole.feed == care.feed and stream in hole.starts:
                    self._leave_hole(care, hole, stream)

    def _leave_hole(self, care: Care, hole: Hole, stream: Stream) -> None:
        starts = {each: start for each, start in hole.starts.items() if each != stream}
        if starts:
            self._journal.keep_hole(replace(hole, starts=starts))
            return
        self._book.ended(replace(hole, end=hole.end or self._now_us()))
        self._journal.close_hole(hole.number)
        care.away = {key: number for key, number in care.away.items() if number != hole.number}

    # ---- silence

    def _look_for_silence(self, care: Care) -> None:
        """Fill what streams may have missed that are silent for longer than usual."""
        now = care.pipeline.feed_time
        if now == NO_TIME or care.pipeline.waiting:
            return
        trading = {
            market
            for market in {each.market for each in care.known.values()}
            if any(True for _ in session_parts(market, now, now + 1))
        }
        streams = care.pipeline.streams
        listened = np.array(
            [each.market in trading and name_of(each) in care.known for each in streams],
            dtype=np.bool_,
        )
        holes = [each for each in self._journal.holes if each.feed == care.feed]
        waiting = {care.number(stream) for hole in holes for stream in hole.starts}
        listened[list(waiting)] = False
        for number in care.liveness.silent(now, listened):
            self.counts.silences += 1
            self._open_and_fill(
                care,
                care.pipeline.streams[number],
                max(int(care.liveness.last[number]), care.begun.get(number, 0)),
                "it is silent for longer than it ever is",
                lambda stream, missed: self._was_silent(care, stream, missed),
            )

    def _was_silent(self, care: Care, stream: Stream, missed: int) -> None:
        if missed:
            self.counts.resubscribed += 1
            self._resubscribe(care.feed, stream)

    # ---- the task

    async def run(self) -> None:
        """Keep the journal and fill holes until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self._book.run(), name="outages")
            tasks.create_task(self._keep_late_on(), name="late trades")
            for care in self._cares.values():
                tasks.create_task(care.work.run(), name=f"healing of {care.feed}")
            while True:
                await self.tick()
                await asyncio.sleep(_TICK_SECONDS)

    async def _keep_late_on(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            if self._late:
                await self._keep_late()

    async def tick(self) -> None:
        """Look after what has changed since the last time, and bring the journal to the disk."""
        now = self._monotonic()
        for care in self._cares.values():
            self._follow_wanted(care, self._now_us())
            for number in [each for each, (_, until) in care.joining.items() if until <= now]:
                self._joined(care, number)
            if care.pipeline.is_connected and now - care.looked_at >= (
                self._patience.silence_seconds
            ):
                care.looked_at = now
                self._look_for_silence(care)
            for number in care.away.values():
                if (hole := self._journal.hole(number)) is not None:
                    self._book.began(hole)
            self._note(care)
        await self._journal.flush()

    def _note(self, care: Care) -> None:
        for number, ts in enumerate(care.liveness.last.tolist()):
            if ts != care.told.get(number, NO_TIME):
                care.told[number] = ts
                trade = LastTrade(ts, int(care.liveness.last_id[number]))
                self._journal.trade_seen(care.feed, care.pipeline.streams[number], trade)
        heard = self._heard_until(care, self._now_us())
        if care.pipeline.is_connected and heard != NO_TIME:
            self._journal.heard(care.feed, heard)

    async def flush(self) -> None:
        """Bring journal and outages to the disk and to PostgreSQL."""
        for care in self._cares.values():
            self._note(care)
        await self._journal.flush()
        try:
            async with asyncio.timeout(1.0):
                await self._book.flush()
        except TimeoutError:
            return

    def _now_us(self) -> int:
        return to_micros(self._platform.now())


async def _nothing() -> None:
    """Wait for nothing."""
