"""Filling a hole: the trades of an interval out of a provider's history, into the bars.

Three ways, the best first. Where the history tells trades as the live feed does, they are added to
the minutes that are there, and those that came live are known again. Where it tells them
differently, whole minutes take the place of the live ones. Where there is no history of trades,
bars of the market's provider chain do.
"""

import asyncio
from collections.abc import AsyncIterator, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd

from scizor_core.gaps import from_micros, to_micros
from scizor_core.markets import Timeframe
from scizor_core.sessions import get_calendar
from scizor_core.sources import without_sampled
from scizor_core.stream.engine import STREAM_TIMEFRAMES, BarEngine, BarState, LiveBar
from scizor_core.stream.guards import SessionClock
from scizor_core.stream.minutes import MINUTE_US, Minute
from scizor_core.stream.trades import MICROSECONDS, NO_ID, TradeBatch, make_batch
from scizor_resources.errors import SchemaDrift, TransientError
from scizor_resources.platform import Platform
from scizor_resources.trades.base import TradeColumns, TradeSource
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.journal import LastTrade
from scizor_sidecar.pipeline import FeedPipeline, StreamedBar

QUARTER_US = 15 * MINUTE_US
_DAY = timedelta(days=1)
#: Sums of the same sizes in another order differ by less.
_ROUNDING = 1e-9


class HistoryBehind(TransientError):
    """A history does not tell yet what the live feed has told."""


@dataclass
class Mended:
    """What filling a hole came to.

    Attributes:
        fetched: trades, or bars, that the provider told.
        missed: of those, the ones that had not come live.
        forgotten: starts of quarters of an hour whose minutes the engine no longer has.
        behind: what the history does not tell yet although it came live, "" where nothing.
    """

    fetched: int = 0
    missed: int = 0
    forgotten: frozenset[int] = frozenset()
    behind: str = ""


def sessions_in(market: str, start_us: int, end_us: int) -> Iterator[tuple[date, int, int]]:
    """Yield date and bounds of the sessions of which a part lies in `[start_us, end_us)`.

    Their auctions count as part of them.
    """
    calendar = get_calendar(market)
    first, last = from_micros(start_us).date(), from_micros(end_us).date()
    auction = timedelta(minutes=calendar.market.closing_auction_minutes)
    for session in calendar.sessions(first - _DAY, last + 2 * _DAY):
        begin, end = to_micros(session.open), to_micros(session.close + auction)
        if begin < end_us and end > start_us:
            yield session.session_date, begin, end


def session_parts(market: str, start_us: int, end_us: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of `[start_us, end_us)` in which a market trades, auctions included."""
    for _, begin, end in sessions_in(market, start_us, end_us):
        yield max(begin, start_us), min(end, end_us)


class Mender:
    """Fills holes of one feed.

    Args:
        platform: the provider chain and what is stored.
        pipeline: the feed's.
    """

    def __init__(self, platform: Platform, pipeline: FeedPipeline) -> None:
        self._platform, self._pipeline = platform, pipeline

    async def by_trades(
        self,
        source: TradeSource,
        stream: Stream,
        start: int,
        end: int,
        beyond: int = 0,
        heard: LastTrade | None = None,
    ) -> Mended:
        """Fill `[start, end)` of a stream with trades.

        What is filled counts as whole piece by piece, so that a failure loses nothing: a history
        is whole as far as the newest trade that it tells. It is whole to the end of the interval
        where it tells what the live feed had told before it was asked, or where nothing is known
        to be asked for.

        Args:
            source: the history.
            stream: whose trades.
            start: microseconds UTC.
            end: microseconds UTC.
            beyond: so much more is fetched, microseconds, as clocks differ.
            heard: the newest trade that has come live.

        Raises:
            ProviderError: a piece could not be had.
        """
        if not source.same_as_live:
            return await self._by_whole_minutes(source, stream, start, end)
        engine, number = self._pipeline.engine, self._pipeline.number(stream)
        engine.begin_pass(healing=True)
        mended = Mended()
        forgotten: set[int] = set()
        missing, reach = _evidence(stream, start, heard), end + beyond
        if missing is not None:
            reach = max(reach, missing.ts + max(beyond, MICROSECONDS))
        async for batch, _, until in self._pieces(source, stream, number, start, reach):
            intake = self._pipeline.process(batch, healing=True)
            mended.fetched += len(batch)
            mended.missed += intake.kept
            forgotten |= {ts // QUARTER_US * QUARTER_US for ts in intake.forgotten.ts.tolist()}
            if len(batch):
                engine.end_outage([number], start, min(int(batch.ts.max()), until, end))
            if missing is not None and _tells(batch, missing):
                missing = None
        mended.forgotten = frozenset(forgotten)
        if missing is not None:
            mended.behind = _lacks(stream, missing)
        else:
            # Also what lies outside of sessions, where nothing was asked.
            engine.end_outage([number], start, end)
        return mended

    async def whole_minutes(
        self, source: TradeSource, stream: Stream, start: int, end: int
    ) -> tuple[BarEngine, int]:
        """Return an engine of its own with all trades of `[start, end)`, whole minutes.

        Returns:
            The engine, whose only symbol has number 0, and the trades fetched.

        Raises:
            ProviderError: a piece could not be had.
        """
        apart = BarEngine(self._pipeline.limits, keep_minutes=(end - start) // MINUTE_US + 30)
        apart.add_symbol(SessionClock(get_calendar(stream.market)))
        fetched = 0
        async for batch, _, _ in self._pieces(source, stream, 0, start, end):
            apart.process(batch, to_micros(self._platform.now()), healing=True)
            fetched += len(batch)
        apart.close_until(end)
        return apart, fetched

    async def anew(
        self,
        source: TradeSource,
        stream: Stream,
        start: int,
        end: int,
        heard: LastTrade | None = None,
    ) -> list[StreamedBar]:
        """Make a quarter of an hour of all of its trades, in place of what there is.

        A bar whose trades are all gone is withdrawn. Where that is so, or a minute has fewer trades
        than before, the history has to tell the newest live trade too: else it may be behind.

        Returns:
            Its bars, where the engine no longer has its minutes and cannot tell them itself.

        Raises:
            HistoryBehind: it tells fewer trades, and not the newest live one.
            ProviderError: a piece could not be had.
            WarehouseError: PostgreSQL refused.
        """
        engine, number = self._pipeline.engine, self._pipeline.number(stream)
        apart, _ = await self.whole_minutes(source, stream, start, end)
        before = {begin: minute.trades for begin, minute in self._own(number, start, end).items()}
        stored: dict[tuple[Timeframe, int], int] = {}
        if not engine.keeps(number, start):
            stored = await asyncio.to_thread(self.stored_own, stream, start, end)
            before = {begin: trades for (each, begin), trades in stored.items() if each == "1m"}
        told = apart.minutes(0)
        if any(begin not in told or told[begin].trades < before[begin] for begin in before):
            if not source.same_as_live and stored:
                # What is stored tells more.
                return []
            await self._must_tell(source, stream, heard)
            # What it lacked may have come meanwhile.
            apart, _ = await self.whole_minutes(source, stream, start, end)
            told = apart.minutes(0)
        if not engine.keeps(number, start):
            bars = [_revised(bar) for bar in apart.changed()]
            made = {(bar.timeframe, bar.start) for bar in bars}
            if source.same_as_live:
                bars += [LiveBar.withdrawn(0, *key) for key in stored if key not in made]
            return [StreamedBar(stream, bar, self._pipeline.feed, 0) for bar in bars]
        own = self._own(number, start, end)
        for begin, minute in told.items():
            if source.same_as_live or begin not in own or not _tells_less(minute, own[begin]):
                engine.replace(number, begin, minute)
                self._pipeline.mark_minute(number, begin, is_sampled=False)
        if source.same_as_live:
            for begin in own.keys() - told.keys():
                engine.withdraw(number, begin)
        return []

    def _own(self, number: int, start: int, end: int) -> dict[int, Minute]:
        """Return the minutes of an interval that the engine has made itself, by their start."""
        return {
            begin: minute
            for begin, minute in self._pipeline.engine.minutes(number).items()
            if start <= begin < end and (number, begin) not in self._pipeline.told_by
        }

    async def _must_tell(
        self, source: TradeSource, stream: Stream, heard: LastTrade | None
    ) -> None:
        """See that a history has come as far as the live feed.

        Raises:
            HistoryBehind: it has not.
            ProviderError: it could not be asked.
        """
        if heard is None or not source.same_as_live:
            return
        first, last = heard.ts - MICROSECONDS, heard.ts + MICROSECONDS
        async for batch, _, _ in self._pieces(source, stream, 0, first, last):
            if _tells(batch, heard):
                return
        raise HistoryBehind(_lacks(stream, heard), provider=source.name)

    async def _by_whole_minutes(
        self, source: TradeSource, stream: Stream, start: int, end: int
    ) -> Mended:
        engine, number = self._pipeline.engine, self._pipeline.number(stream)
        first, last = start - start % MINUTE_US, end + -end % MINUTE_US
        apart, fetched = await self.whole_minutes(source, stream, first, last)
        told = apart.minutes(0)
        live = {
            begin: minute
            for begin, minute in engine.minutes(number).items()
            if first <= begin < last
        }
        fuller = [begin for begin in sorted(live) if _tells_less(told.get(begin), live[begin])]
        mended = Mended(fetched)
        forgotten: set[int] = set()
        for begin, minute in told.items():
            if not engine.keeps(number, begin):
                forgotten.add(begin // QUARTER_US * QUARTER_US)
            elif begin not in fuller:
                known = live[begin].trades if begin in live else 0
                mended.missed += max(minute.trades - known, 0)
                engine.replace(number, begin, minute)
                self._pipeline.mark_minute(number, begin, is_sampled=False)
        self._end_outage_but(number, start, end, fuller)
        mended.forgotten = frozenset(forgotten)
        if fuller:
            mended.behind = (
                f"The history of {stream.symbol} tells less than came live of {len(fuller)} "
                f"minutes, the first at {from_micros(fuller[0]):%Y-%m-%d %H:%M} UTC."
            )
        return mended

    def _end_outage_but(self, number: int, start: int, end: int, minutes: Iterable[int]) -> None:
        """Let an interval count as whole but for some minutes, which come in order."""
        for begin in [*minutes, end]:
            if start < begin:
                self._pipeline.engine.end_outage([number], start, min(begin, end))
            start = begin + MINUTE_US

    async def _pieces(
        self, source: TradeSource, stream: Stream, number: int, start: int, end: int
    ) -> AsyncIterator[tuple[TradeBatch, int, int]]:
        """Yield the trades piece by piece, each with the interval that it is all of."""
        for begin, stop in session_parts(stream.market, start, end):
            cursor = begin
            while cursor < stop:
                columns = await asyncio.to_thread(source.fetch_trades, stream, cursor, stop)
                if columns.covered_until <= cursor:
                    raise SchemaDrift(
                        f"The trades of {stream.symbol} do not get further than "
                        f"{from_micros(cursor)}: more than one call brings have one time.",
                        provider=source.name,
                    )
                yield _batch(number, columns), cursor, columns.covered_until
                cursor = columns.covered_until

    async def by_bars(self, stream: Stream, start: int, end: int) -> Mended:
        """Fill `[start, end)` of a stream with minute bars of the market's provider chain.

        Minutes that no provider tells stay provisional: whoever repairs gaps takes them.

        Raises:
            ProviderError: no provider answered.
            WarehouseError: PostgreSQL refused.
        """
        first, last = start - start % MINUTE_US, end + -end % MINUTE_US
        minutes = await asyncio.to_thread(self._told_minutes, stream, first, last)
        engine, number = self._pipeline.engine, self._pipeline.number(stream)
        mended = Mended(len(minutes))
        for begin, (minute, source) in minutes.items():
            if engine.keeps(number, begin):
                self._pipeline.told_by[number, begin] = source
                engine.replace(number, begin, minute)
                mended.missed += 1
        # What nobody tells had no trade, unless the feed itself has heard one.
        untold = [
            each for each in engine.minutes(number) if first <= each < last and each not in minutes
        ]
        self._end_outage_but(number, first, last, sorted(untold))
        engine.abandon([number], start, end)
        return mended

    def _told_minutes(self, stream: Stream, start: int, end: int) -> dict[int, tuple[Minute, str]]:
        days = [day for day, _, _ in sessions_in(stream.market, start, end)]
        if not days:
            return {}
        collector = self._platform.collector(stream.market, "1m", "live")
        report = collector.collect(days[0], days[-1] + _DAY, [stream.symbol])
        minutes = self.stored_minutes(stream, start, end)
        own = {self._pipeline.feed}
        told = {
            begin: each for begin, each in minutes.items() if without_sampled(each[1]) not in own
        }
        if not told and report.error is not None:
            raise report.error
        if not told:
            raise TransientError(
                f"No provider of the chain has minute bars of {stream.symbol} yet, from "
                f"{from_micros(start):%Y-%m-%d %H:%M} to {from_micros(end):%H:%M} UTC.",
                provider=self._pipeline.feed,
            )
        return told

    def stored_minutes(self, stream: Stream, start: int, end: int) -> dict[int, tuple[Minute, str]]:
        """Return start -> minute and source, of the final minute bars in PostgreSQL. Blocks.

        Raises:
            WarehouseError: PostgreSQL refused.
        """
        bars = self._platform.warehouse.read_bars(
            "1m", from_micros(start), from_micros(end), instrument_ids=[stream.instrument_id]
        )
        return {
            to_micros(row["ts"].to_pydatetime()): (_minute_of(row), str(row["source"]))
            for row in bars[bars["is_final"]].to_dict(orient="records")
        }

    def stored_own(self, stream: Stream, start: int, end: int) -> dict[tuple[Timeframe, int], int]:
        """Return (timeframe, start) -> trades, of the feed's own bars in PostgreSQL. Blocks.

        Raises:
            WarehouseError: PostgreSQL refused.
        """
        found: dict[tuple[Timeframe, int], int] = {}
        for timeframe in STREAM_TIMEFRAMES:
            bars = self._platform.warehouse.read_bars(
                timeframe,
                from_micros(start),
                from_micros(end),
                instrument_ids=[stream.instrument_id],
            )
            own = bars[bars["source"].map(without_sampled) == self._pipeline.feed]
            for at, trades in zip(own["ts"], own["trade_count"].fillna(0), strict=True):
                found[timeframe, to_micros(at.to_pydatetime())] = int(trades)
        return found


def _evidence(stream: Stream, start: int, heard: LastTrade | None) -> LastTrade | None:
    """Return the live trade that the history has to tell, None where none says anything."""
    if heard is None or heard.ts <= start + MICROSECONDS:
        return None
    is_traded = any(True for _ in session_parts(stream.market, heard.ts, heard.ts + 1))
    return heard if is_traded else None


def _tells(batch: TradeBatch, trade: LastTrade) -> bool:
    """Say whether a trade is among others, by its id, or by its time where it has none."""
    if trade.trade_id != NO_ID:
        return bool((batch.trade_id == trade.trade_id).any())
    return bool((batch.ts == trade.ts).any())


def _lacks(stream: Stream, trade: LastTrade) -> str:
    return (
        f"The history of {stream.symbol} does not have the trade of "
        f"{from_micros(trade.ts):%Y-%m-%d %H:%M:%S} UTC yet, which has come live."
    )


def _tells_less(told: Minute | None, live: Minute) -> bool:
    """Say whether a history tells less of a minute than the live feed has."""
    if told is None:
        return True
    if live.priced < live.volume:
        # A sample: of the rest only the sum is known, a trade of the minute before may be in it.
        return (
            told.trades < live.trades - 1
            or told.priced < live.priced * (1 - _ROUNDING)
            or told.last[0] < live.last[0] - MICROSECONDS
        )
    return told.trades < live.trades or told.volume < live.volume * (1 - _ROUNDING)


def _minute_of(row: Mapping[Hashable, Any]) -> Minute:
    """Return a stored bar as a minute; its trades' times are not known, so it spans all of it."""
    begin = to_micros(row["ts"].to_pydatetime())
    priced = 0.0 if pd.isna(row["vwap"]) else float(row["volume"])
    return Minute(
        open=row["open"],
        high=row["high"],
        low=row["low"],
        close=row["close"],
        volume=row["volume"],
        priced=priced,
        turnover=float(row["vwap"]) * priced if priced else 0.0,
        trades=0 if pd.isna(row["trade_count"]) else int(row["trade_count"]),
        first=(begin, 0),
        last=(begin + MINUTE_US - 1, 0),
    )


def _batch(number: int, columns: TradeColumns) -> TradeBatch:
    numbers = np.full(len(columns), number, dtype=np.int64)
    return make_batch(
        numbers,
        columns.ts,
        columns.price,
        columns.size,
        columns.trade_id,
        columns.condition or None,
    )


def _revised(bar: LiveBar) -> LiveBar:
    return replace(bar, state=BarState.REVISED, revision=max(bar.revision, 1))
