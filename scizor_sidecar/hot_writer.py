"""What is newest into the hot store: bars, quotes, indicators; a window at a time, coalesced.

The copy in memory (`HotSeries`) is what Valkey has to have. A pass tells which bytes differ; of a
bar that changes several times before it is written the newest state wins. While Valkey is away
the copy goes on, and all of it is written when Valkey is back.
"""

import asyncio
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import cast

import msgspec
import pandas as pd
import redis.asyncio
from redis.exceptions import RedisError

from scizor_core.markets import MARKETS, TIMEFRAME_MINUTES, Timeframe
from scizor_core.sessions import get_calendar
from scizor_core.stream.engine import STREAM_TIMEFRAMES, BarState
from scizor_core.stream.guards import SessionClock
from scizor_core.stream.minutes import MINUTE_US
from scizor_resources.errors import ArchiveError, WarehouseError
from scizor_resources.platform import Platform
from scizor_resources.stores.hot import (
    KEPT_BARS,
    STATES,
    WRITE_SCRIPT,
    Change,
    HotBar,
    HotSeries,
    bars_key,
    changes_channel,
    indicators_key,
    pack_indicators,
    pack_quote,
    quote_key,
    script_arguments,
    stored_bars,
)
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.feeds.connection import FeedState
from scizor_sidecar.live_indicators import IndicatorValues
from scizor_sidecar.permit import ALWAYS, Permit
from scizor_sidecar.pipeline import Quote, StreamedBar, Window

#: Valkey is written to so often at most; what changes in between is written once.
WRITE_SECONDS = 0.1
#: Changes in one step; Valkey serves nobody else while it makes them.
_CHANGES_AT_ONCE = 500
#: While Valkey is away it is tried so often.
RETRY_SECONDS = 0.5
#: Keys of instruments that do not trade are made to live on so often.
TOUCH_SECONDS = 20.0
#: What is stored is compared with the copy so often: other writers repair bars too.
REFRESH_SECONDS = 300.0
_GATHER_SECONDS = 0.2
_FLUSH_SECONDS = 1.5
_FIRST_DAY = date(1970, 1, 1).toordinal()
_CODES = {state: STATES.index(state.value) for state in BarState}
#: A Valkey that takes longer hangs; it counts as away.
_ANSWER_SECONDS = 5.0
_FAR = datetime(9999, 1, 1, tzinfo=UTC)

#: Market and symbol.
_Name = tuple[str, str]
#: Instrument and timeframe, by names.
_Place = tuple[str, str, Timeframe]


@dataclass
class _Series:
    """The copy of an instrument's bars.

    Attributes:
        stream: the instrument.
        feed: the feed that its newest bar came from.
        bars: what Valkey has to have.
        unsent: changes that are not written yet, by offset; the newest of each.
        is_whole_due: all of it is to be written.
    """

    stream: Stream
    feed: str
    bars: HotSeries
    unsent: dict[int, Change] = field(default_factory=dict)
    is_whole_due: bool = True


class HotWriter:
    """Keeps the hot store; a listener of pipelines and of indicators.

    Args:
        client: Valkey; its answers are bytes.
        platform: the opened platform; the bars of before are read from it.
        publish: whether changed bars are published for other processes (`changes_channel`).
        permit: whether this process may write.
        streamed: market and symbol of what is streamed; the keys of others expire. None for all.

    Attributes:
        away: why Valkey cannot be written to, None while it can.
        failures: how often it could not.
        written: changes that Valkey has taken.
        rewritten: strings that it had lost, and that were written anew.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        platform: Platform,
        *,
        publish: bool = True,
        permit: Permit = ALWAYS,
        streamed: Callable[[], Container[_Name]] | None = None,
    ) -> None:
        self._permit, self._streamed = permit, streamed
        self._client, self._platform, self._publish = client, platform, publish
        settings = platform.settings
        beyond: dict[Timeframe, int] = {
            "1m": settings.hot_expiry_seconds_1m,
            "5m": settings.hot_expiry_seconds_5m,
            "15m": settings.hot_expiry_seconds_15m,
        }
        self._live_ms = {
            timeframe: 1000 * (60 * TIMEFRAME_MINUTES[timeframe] + seconds)
            for timeframe, seconds in beyond.items()
        }
        self._clocks = {name: SessionClock(get_calendar(name)) for name in MARKETS}
        self._days: dict[tuple[str, int], int] = {}
        self._series: dict[_Place, _Series] = {}
        self._dirty: dict[_Place, None] = {}
        self._values: dict[str, Change] = {}
        #: Key of a value -> whose it is.
        self._owners: dict[str, _Name] = {}
        self._unsent_values: dict[str, None] = {}
        self._published: dict[_Place, dict[int, HotBar]] = {}
        self._back_since: dict[str, int] = {}
        self._to_seed: dict[_Place, None] = {}
        self._work, self._seeding = asyncio.Event(), asyncio.Event()
        self._lock = asyncio.Lock()
        self.away: str | None = None
        self.failures = self.written = self.rewritten = 0

    # ---- what comes in

    def on_window(self, window: Window) -> None:
        """Take bars and quotes."""
        for each in window.bars:
            self._take_bar(each, window.feed)
        for quote in window.quotes:
            self._take_quote(quote)
        if window.bars or window.quotes:
            self._work.set()

    def bars(self, bars: Sequence[StreamedBar]) -> None:
        """Take bars that healing has made beside the engine."""
        for each in bars:
            self._take_bar(each)
        if bars:
            self._work.set()

    def on_state(self, feed: str, state: FeedState, why: str, at: int) -> None:
        """Note since when a feed misses nothing."""
        del why
        if state is FeedState.CONNECTED:
            self._back_since[feed] = at
        else:
            self._back_since.pop(feed, None)
            for place, series in self._series.items():
                if series.feed == feed:
                    self._note(place, series, series.bars.set_complete_from(None))
            self._work.set()

    def on_indicators(self, changed: Sequence[IndicatorValues]) -> None:
        """Take indicators; of several of one series the last one counts."""
        for each in changed:
            stream = each.stream
            key = indicators_key(stream.market, stream.symbol, each.timeframe)
            value = pack_indicators(each.start, each.row)
            self._set_value(stream, key, value, self._live_ms[each.timeframe])
        if changed:
            self._work.set()

    def _take_bar(self, streamed: StreamedBar, feed: str | None = None) -> None:
        stream, bar = streamed.stream, streamed.bar
        place = (stream.market, stream.symbol, bar.timeframe)
        series = self._series.get(place)
        if series is None:
            hot = HotSeries(bars_key(*place), self._live_ms[bar.timeframe])
            series = self._series[place] = _Series(stream, feed or "", hot)
            self._to_seed[place] = None
            self._seeding.set()
        series.feed = feed or series.feed
        row = HotBar(
            bar.start, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.vwap,
            bar.trade_count, self._session_day(stream.market, bar.start), bar.revision,
            _CODES[bar.state], streamed.source,
        )  # fmt: skip
        if bar.state is BarState.WITHDRAWN:
            change = series.bars.withdraw(bar.start, streamed.source)
        else:
            change = series.bars.put(row)
        self._note(place, series, change)
        since = None if feed is None else self._back_since.get(feed)
        if bar.state is BarState.PROVISIONAL:
            # A stream may have a hole although its feed is there.
            self._note(place, series, series.bars.set_complete_from(None))
        elif (
            series.bars.complete_from is None
            and since is not None
            and series.bars.last == bar.start
        ):
            # The bar that was under way when the feed came may lack trades: from the next one on.
            # Older ones are brought by healing, piece by piece.
            whole_from = max(since, bar.start) + TIMEFRAME_MINUTES[bar.timeframe] * MINUTE_US
            self._note(place, series, series.bars.set_complete_from(whole_from))
        if self._publish:
            self._published.setdefault(place, {})[bar.start] = row

    def _note(self, place: _Place, series: _Series, change: Change | None) -> None:
        if change is None:
            return
        self._dirty[place] = None
        if change[1] < 0:
            series.is_whole_due = True
        else:
            series.unsent[change[1]] = change

    def _take_quote(self, quote: Quote) -> None:
        packed = pack_quote(
            quote.ts, quote.bid, quote.ask, quote.bid_size, quote.ask_size, int(quote.verdict)
        )
        key = quote_key(quote.stream.market, quote.stream.symbol)
        self._set_value(quote.stream, key, packed, self._live_ms["1m"])

    def _set_value(self, stream: Stream, key: str, value: bytes, live_ms: int) -> None:
        self._owners[key] = (stream.market, stream.symbol)
        self._values[key] = (key, -1, value, live_ms)
        self._unsent_values[key] = None

    def _session_day(self, market: str, start: int) -> int:
        key = (market, start)
        if key not in self._days:
            if len(self._days) > 10_000:
                self._days.clear()
            found = self._clocks[market].session_date(start)
            self._days[key] = 0 if found is None else found.toordinal() - _FIRST_DAY
        return self._days[key]

    # ---- what goes out

    async def run(self) -> None:
        """Write what changes, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write_on())
            tasks.create_task(self._touch_on())
            tasks.create_task(self._seed_on())
            tasks.create_task(self._refresh_on())

    async def flush(self) -> None:
        """Write what is not written yet, if Valkey takes it."""
        try:
            async with asyncio.timeout(_FLUSH_SECONDS):
                await self._write_out()
        except TimeoutError:
            self.failures += 1

    async def _write_on(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            if await self._write_out():
                await asyncio.sleep(WRITE_SECONDS)
            else:
                await asyncio.sleep(RETRY_SECONDS)
                self._work.set()

    async def _touch_on(self) -> None:
        while True:
            await asyncio.sleep(TOUCH_SECONDS)
            await self.touch()

    async def touch(self) -> None:
        """Let the keys live on of all that is streamed, and forget the rest: it expires."""
        self._forget_left()
        await self._send(
            [
                *(series.bars.touch() for series in self._series.values()),
                *((key, -2, b"", change[3]) for key, change in self._values.items()),
            ]
        )

    def _forget_left(self) -> None:
        """Forget what is not streamed any more, when what came last of it is written."""
        if self._streamed is None:
            return
        streamed = self._streamed()
        for place in [each for each in self._series if each[:2] not in streamed]:
            if place not in self._dirty:
                del self._series[place]
                self._to_seed.pop(place, None)
        for key in [key for key, owner in self._owners.items() if owner not in streamed]:
            if key not in self._unsent_values:
                del self._values[key], self._owners[key]

    async def _write_out(self) -> bool:
        """Write what is not written yet; false where Valkey is away."""
        async with self._lock:
            dirty, self._dirty = list(self._dirty), {}
            values, self._unsent_values = list(self._unsent_values), {}
            published, self._published = self._published, {}
            changes = [self._values[key] for key in values]
            for place in dirty:
                series = self._series[place]
                changes += [series.bars.whole()] if series.is_whole_due else series.unsent.values()
                series.unsent, series.is_whole_due = {}, False
            if not await self._send(changes):
                return False
            return not self._publish or await self._tell_others(published)

    async def _send(self, changes: Sequence[Change]) -> bool:
        for begin in range(0, len(changes), _CHANGES_AT_ONCE):
            part = changes[begin : begin + _CHANGES_AT_ONCE]
            await self._permit.sure()
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    lost = await cast(
                        "Awaitable[list[int]]",
                        self._client.eval(WRITE_SCRIPT, len(part), *script_arguments(part)),
                    )
            except (RedisError, OSError) as error:
                self._lose(error)
                return False
            self.written += len(part)
            self._write_again({part[number - 1][0] for number in lost})
        self.away = None
        return True

    async def _tell_others(self, published: Mapping[_Place, Mapping[int, HotBar]]) -> bool:
        by_market: dict[str, list[tuple[str, Timeframe, HotBar]]] = {}
        for (market, symbol, timeframe), bars in published.items():
            rows = by_market.setdefault(market, [])
            rows += [(symbol, timeframe, bars[start]) for start in sorted(bars)]
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                for market, rows in by_market.items():
                    told = msgspec.msgpack.encode(rows)
                    await self._client.publish(changes_channel(market), told)
        except (RedisError, OSError) as error:
            self._lose(error)
            return False
        return True

    def _lose(self, error: Exception) -> None:
        """Valkey is away, or was: nothing is known of what it has."""
        self.away = f"Valkey cannot be written to: {error}"
        self.failures += 1
        for place, series in self._series.items():
            series.is_whole_due = True
            self._dirty[place] = None
        self._unsent_values = dict.fromkeys(self._values)
        self._work.set()

    def _write_again(self, keys: set[str]) -> None:
        if not keys:
            return
        self.rewritten += len(keys)
        for place, series in self._series.items():
            if series.bars.key in keys:
                series.is_whole_due = True
                self._dirty[place] = None
        self._unsent_values.update(dict.fromkeys(keys & self._values.keys()))
        self._work.set()

    # ---- the bars of before

    async def _seed_on(self) -> None:
        while True:
            await self._seeding.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            self._seeding.clear()
            places, self._to_seed = list(self._to_seed), {}
            if not await self._take_stored(places):
                self._to_seed = dict.fromkeys([*places, *self._to_seed])
                await asyncio.sleep(RETRY_SECONDS * 4)
                self._seeding.set()

    async def _refresh_on(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            await self._take_stored(list(self._series))

    async def _take_stored(self, places: Sequence[_Place]) -> bool:
        """Take in what PostgreSQL has; false where it is away."""
        for timeframe in STREAM_TIMEFRAMES:
            mine = {
                self._series[place].stream.instrument_id: place
                for place in places
                if place[2] == timeframe and place in self._series
            }
            if not mine:
                continue
            try:
                stored = await asyncio.to_thread(self._read, timeframe, list(mine))
            except (WarehouseError, ArchiveError):
                return False
            for instrument_id, bars in stored.items():
                place = mine[instrument_id]
                series = self._series.get(place)
                # It may have been left meanwhile.
                if series is not None and series.bars.put_stored(bars):
                    series.is_whole_due = True
                    self._dirty[place] = None
                # Half a millisecond each: others go on in between.
                await asyncio.sleep(0)
            self._work.set()
        return True

    def _read(self, timeframe: Timeframe, instrument_ids: list[int]) -> dict[int, list[HotBar]]:
        frame: pd.DataFrame = self._platform.warehouse.read_bars_around(
            timeframe, instrument_ids, _FAR, KEPT_BARS, before=True
        )
        return stored_bars(frame)
