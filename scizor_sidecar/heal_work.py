"""The work of healing one feed: holes that wait, are tried, tried again, filled or given up."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from scizor_core.errors import ScizorError
from scizor_core.gaps import to_micros
from scizor_core.sources import is_sampled
from scizor_core.stream.minutes import MINUTE_US
from scizor_core.stream.trades import MICROSECONDS
from scizor_resources.errors import WarehouseError, is_retryable
from scizor_resources.platform import Platform
from scizor_resources.trades.base import TradeSource
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.journal import Hole, Journal, LastTrade
from scizor_sidecar.mending import QUARTER_US, HistoryBehind, Mender
from scizor_sidecar.outage_book import OutageBook
from scizor_sidecar.pipeline import FeedPipeline, StreamedBar


@dataclass(frozen=True)
class HealPatience:
    """When holes are filled, and how often that is tried.

    Attributes:
        settle_seconds: a history may be so much behind the live feed.
        overlap_us: so much more is fetched before a hole.
        beyond_us: and so much after it, as clocks differ.
        joining_seconds: a stream that has joined is subscribed after so long, trades or not.
        bars_seconds: bars of other providers are there so long after their minute.
        first_seconds: pause after the first failure; it doubles with each that follows.
        longest_seconds: no pause is longer.
        tries: after so many failures bars have to do, and after as many again nothing.
        silence_seconds: so often it is looked whether a symbol is oddly silent.
    """

    settle_seconds: float = 2.0
    overlap_us: int = 5 * MICROSECONDS
    beyond_us: int = 5 * MICROSECONDS
    joining_seconds: float = 20.0
    bars_seconds: float = 90.0
    first_seconds: float = 5.0
    longest_seconds: float = 300.0
    tries: int = 8
    silence_seconds: float = 5.0


@dataclass
class HealCounts:
    """What healing has done since the start.

    Attributes:
        outages: times that a feed was away.
        holes: intervals that had to be filled, those of outages included.
        healed: of those, the ones that are.
        given_up: streams of holes that are left to the repair of gaps.
        failures: tries that failed.
        fetched: trades, or bars in their place, that were told.
        missed: of those, the ones that had not come live.
        silences: symbols that were oddly silent.
        resubscribed: of those, the ones that had indeed missed trades.
        anew: quarters of an hour that were made anew.
    """

    outages: int = 0
    holes: int = 0
    healed: int = 0
    given_up: int = 0
    failures: int = 0
    fetched: int = 0
    missed: int = 0
    silences: int = 0
    resubscribed: int = 0
    anew: int = 0


@dataclass
class HealTask:
    """A hole that is to be filled.

    Attributes:
        hole: its number.
        due: when, seconds of the loop's clock.
        left: the streams that are still to be filled.
        by_bars: of those, the ones for which bars have to do.
        then: told of each stream that is filled, with the number of trades that were missed.
        begins: stream -> since when it is filled, where that is before the hole.
        behind: stream -> how often its history was behind what has come live.
        missed_of: stream -> trades that were missed, of all tries together.
        gave_up_on: what the history lacked of a stream for which bars have to do therefore.
    """

    hole: int
    due: float
    left: list[Stream]
    by_bars: set[Stream] = field(default_factory=set)
    then: Callable[[Stream, int], None] = lambda *_: None
    failures: int = 0
    problem: str = ""
    fetched: int = 0
    missed: int = 0
    given_up: list[Stream] = field(default_factory=list)
    begins: dict[Stream, int] = field(default_factory=dict)
    behind: dict[Stream, int] = field(default_factory=dict)
    missed_of: dict[Stream, int] = field(default_factory=dict)
    gave_up_on: str = ""


class HealWork:
    """Fills the holes of one feed, one after the other.

    Args:
        platform: providers, budgets, PostgreSQL.
        pipeline: the feed's.
        source: the provider's history of trades, None where it tells none.
        journal: keeps the holes until what heals them is durable.
        book: writes outages and gaps.
        counts: of all feeds together.
        stored: waits until all bars that were handed out are durable.
        revised: takes bars that were made apart from the engine.
        heard: tells the newest trade that has come live of a stream.
        patience: how it is tried.
    """

    def __init__(
        self,
        platform: Platform,
        pipeline: FeedPipeline,
        source: TradeSource | None,
        journal: Journal,
        book: OutageBook,
        counts: HealCounts,
        *,
        stored: Callable[[], Awaitable[None]],
        revised: Callable[[list[StreamedBar]], None],
        heard: Callable[[Stream], LastTrade | None],
        patience: HealPatience,
        monotonic: Callable[[], float],
    ) -> None:
        self._platform, self._pipeline, self._source = platform, pipeline, source
        self._journal, self._book, self._counts = journal, book, counts
        self._stored, self._revised, self._patience = stored, revised, patience
        self._heard = heard
        self._monotonic = monotonic
        self._mender = Mender(platform, pipeline)
        self.tasks: dict[int, HealTask] = {}
        #: Stream -> the instant before which its quarter of an hour is to be read from PostgreSQL.
        self._restores: dict[Stream, int] = {}
        self._anew: dict[Stream, dict[int, float]] = {}
        self._wake = asyncio.Event()
        self._keeping: asyncio.TaskGroup | None = None

    # ---- what is to be done

    def fill(self, hole: Hole, then: Callable[[Stream, int], None] = lambda *_: None) -> None:
        """Fill a hole as soon as its trades can be had."""
        wait = self._patience.settle_seconds
        if self._source is None:
            wait = self._patience.bars_seconds + self._until_minute_ends(hole)
        elif not self._source.same_as_live:
            wait += self._until_minute_ends(hole)
        self.tasks[hole.number] = HealTask(
            hole.number, self._monotonic() + wait, sorted(hole.starts), then=then
        )
        self._wake.set()

    def restore(self, stream: Stream, before: int) -> None:
        """Read the minutes of a quarter of an hour before an instant from PostgreSQL first."""
        self._restores[stream] = before

    def make_anew(self, stream: Stream, ts_us: int) -> None:
        """Make the quarter of an hour of an instant anew, of all its trades."""
        quarter = ts_us // QUARTER_US * QUARTER_US
        quarters = self._anew.setdefault(stream, {})
        self._journal.begin_anew(self._pipeline.feed, stream, quarter)
        if quarter not in quarters:
            quarters[quarter] = self._monotonic() + self._patience.settle_seconds
            self._wake.set()

    def leave(self, stream: Stream) -> None:
        """Do nothing more for a stream."""
        for task in self.tasks.values():
            task.left = [each for each in task.left if each != stream]
        self._restores.pop(stream, None)
        self._anew.pop(stream, None)

    def _until_minute_ends(self, hole: Hole) -> float:
        now = to_micros(self._platform.now())
        end = hole.end or now
        return max((end + -end % MINUTE_US - now) / MICROSECONDS, 0.0)

    # ---- doing it

    async def run(self) -> None:
        """Fill what is due, again and again, until cancelled."""
        async with asyncio.TaskGroup() as self._keeping:
            while True:
                self._wake.clear()
                await self.step()
                due = self._next_due()
                if due is None:
                    await self._wake.wait()
                    continue
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(due - self._monotonic(), 0)):
                        await self._wake.wait()

    async def step(self) -> None:
        """Do what is due now."""
        now = self._monotonic()
        for task in sorted(self.tasks.values(), key=lambda each: each.due):
            if task.due <= now:
                await self._work_on(task)
        for stream, quarters in list(self._anew.items()):
            for quarter in [each for each, due in quarters.items() if due <= now]:
                await self._make_one_anew(stream, quarter)

    def _next_due(self) -> float | None:
        dues = [each.due for each in self.tasks.values()]
        dues += [due for quarters in self._anew.values() for due in quarters.values()]
        return min(dues) if dues else None

    async def _work_on(self, task: HealTask) -> None:
        hole = self._journal.hole(task.hole)
        if hole is None or hole.end is None:
            del self.tasks[task.hole]
            return
        for stream in list(task.left):
            if stream not in hole.starts:
                self.leave(stream)
                continue
            try:
                await self._fill_one(task, hole, stream)
            except ScizorError as error:
                if self._failed(task, hole, stream, error):
                    # The others would fail likewise.
                    return
            else:
                # It may have been left meanwhile.
                task.left = [each for each in task.left if each != stream]
        if task.left:
            return
        del self.tasks[task.hole]
        # As the next pass would: what has been filled is handed out.
        self._pipeline.step()
        if self._keeping is None:
            await self._finish(task, hole)
        else:
            # PostgreSQL may be away for long; other holes are filled meanwhile.
            self._keeping.create_task(self._finish(task, hole))

    async def _fill_one(self, task: HealTask, hole: Hole, stream: Stream) -> None:
        start, end = await self._begin_of(task, hole, stream), hole.end or 0
        if self._source is None or stream in task.by_bars:
            mended = await self._mender.by_bars(stream, start, end)
        else:
            mended = await self._mender.by_trades(
                self._source, stream, start, end, self._patience.beyond_us, self._heard(stream)
            )
        for quarter in mended.forgotten:
            self.make_anew(stream, quarter)
        task.fetched += mended.fetched
        task.missed += mended.missed
        self._counts.fetched += mended.fetched
        self._counts.missed += mended.missed
        task.missed_of[stream] = task.missed_of.get(stream, 0) + mended.missed
        if mended.behind:
            raise HistoryBehind(mended.behind, provider=self._pipeline.feed)
        task.then(stream, task.missed_of[stream])

    async def _begin_of(self, task: HealTask, hole: Hole, stream: Stream) -> int:
        """Put back the minutes before a hole; returns from when on trades are to be fetched."""
        start = task.begins.get(stream, hole.starts[stream])
        before = self._restores.pop(stream, None)
        if before is None:
            return start
        quarter = before // QUARTER_US * QUARTER_US
        try:
            minutes = await asyncio.to_thread(self._mender.stored_minutes, stream, quarter, before)
        except WarehouseError:
            # Then they are made of their trades, as if they had never been stored.
            task.begins[stream] = min(start, quarter)
            self._pipeline.engine.begin_outage([self._pipeline.number(stream)], quarter, start)
            return task.begins[stream]
        number = self._pipeline.number(stream)
        for begin, (minute, source) in minutes.items():
            self._pipeline.engine.restore(number, begin, minute)
            self._pipeline.mark_minute(number, begin, is_sampled=is_sampled(source))
        return start

    def _failed(self, task: HealTask, hole: Hole, stream: Stream, error: Exception) -> bool:
        """Decide how it goes on with a stream; says whether the others have to wait too."""
        task.problem = str(error)
        self._counts.failures += 1
        if stream not in task.left:
            # It was left meanwhile.
            return False
        if isinstance(error, HistoryBehind):
            # That says nothing of the others.
            tries = task.behind[stream] = task.behind.get(stream, 0) + 1
            if tries < self._patience.tries:
                task.due = self._monotonic() + self._pause(tries)
                return False
            task.gave_up_on = task.problem
        elif is_retryable(error):
            task.failures += 1
            if task.failures < self._patience.tries:
                task.due = self._monotonic() + self._pause(task.failures)
                return True
        if self._source is not None and stream not in task.by_bars:
            task.by_bars.add(stream)
            task.failures = 0
            task.due = self._monotonic() + self._patience.bars_seconds
            return False
        task.left.remove(stream)
        task.given_up.append(stream)
        self._counts.given_up += 1
        numbers = [self._pipeline.number(stream)]
        start = task.begins.get(stream, hole.starts[stream])
        self._pipeline.engine.abandon(numbers, start, hole.end or start)
        return False

    def _pause(self, failures: int) -> float:
        pause = self._patience.first_seconds * 2.0 ** (failures - 1)
        return min(pause, self._patience.longest_seconds)

    async def _finish(self, task: HealTask, hole: Hole) -> None:
        """Let go of a hole when the bars that heal it are durable."""
        await self._stored()
        self._journal.close_hole(hole.number)
        seconds = ((hole.end or hole.start) - hole.start) / MICROSECONDS
        detail = f"{seconds:.0f} s; {task.missed} of {task.fetched} trades fetched were missing"
        if task.given_up:
            names = ", ".join(each.symbol for each in task.given_up)
            why = " ".join(dict.fromkeys(each for each in (task.gave_up_on, task.problem) if each))
            detail += f"; left to the repair of gaps: {names} ({why})"
        else:
            self._counts.healed += 1
        self._book.told(hole, detail)

    async def _make_one_anew(self, stream: Stream, quarter: int) -> None:
        due = self._anew.get(stream, {})
        # Whoever asks for it again while it is made gets it once more.
        if due.pop(quarter, None) is None:
            return
        if self._source is None:
            self._journal.end_anew(self._pipeline.feed, stream, quarter)
            return
        left = quarter + QUARTER_US - to_micros(self._platform.now())
        if left > 0:
            due[quarter] = self._monotonic() + left / MICROSECONDS + self._patience.settle_seconds
            return
        try:
            bars = await self._mender.anew(
                self._source, stream, quarter, quarter + QUARTER_US, self._heard(stream)
            )
        except ScizorError as error:
            self._counts.failures += 1
            if is_retryable(error):
                due.setdefault(quarter, self._monotonic() + self._patience.longest_seconds)
            else:
                self._journal.end_anew(self._pipeline.feed, stream, quarter)
            return
        self._counts.anew += 1
        if bars:
            self._revised(bars)
        # As the next pass would.
        self._pipeline.step()
        if self._keeping is None:
            await self._finish_anew(stream, quarter)
        else:
            self._keeping.create_task(self._finish_anew(stream, quarter))

    async def _finish_anew(self, stream: Stream, quarter: int) -> None:
        """Let go of a quarter of an hour when its bars are durable."""
        await self._stored()
        if not self.is_to_make(stream, quarter):
            self._journal.end_anew(self._pipeline.feed, stream, quarter)

    def is_to_make(self, stream: Stream, quarter: int) -> bool:
        """Say whether a quarter of an hour is to be made anew."""
        return quarter in self._anew.get(stream, {})
