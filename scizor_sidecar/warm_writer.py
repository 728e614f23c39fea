"""Closed bars, their indicators and refused trades into PostgreSQL, in batches and in order.

What a pass closes waits a quarter of a second for what other feeds close, then goes into the
database in one transaction. While the database is away the batches go to disk (`Spool`); when it
is back these come first, so that the newest state of a bar is always the last one written.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec

from scizor_core.errors import ContractError
from scizor_core.markets import MARKETS
from scizor_core.stream.engine import BarState
from scizor_core.stream.minutes import MINUTE_US
from scizor_core.stream.trades import NO_TIME
from scizor_resources.errors import WarehouseError
from scizor_resources.pipeline.reconcile import Reconciler
from scizor_resources.platform import Platform
from scizor_resources.stores.connection import database_errors
from scizor_resources.stores.live_bars import LiveBarRow, LiveBarStore
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.feeds.connection import FeedState
from scizor_sidecar.live_indicators import IndicatorValues
from scizor_sidecar.permit import ALWAYS, Permit
from scizor_sidecar.pipeline import StreamedBar, Window
from scizor_sidecar.session_days import SessionDays
from scizor_sidecar.spool import Spool, SpoolFull
from scizor_sidecar.warm_batch import (
    BarKey,
    KeptBar,
    KeptIndicators,
    RefusedTrade,
    WarmBatch,
    decode_batch,
    indicator_frame,
    join_batches,
    number_text,
    refused_frame,
)

#: A batch waits so long for more, unless it is full.
GATHER_SECONDS = 0.25
#: A batch of so many bars is full.
FULL_BARS = 5_000
#: Provisional bars change with each trade; they are written so often at most.
PROVISIONAL_SECONDS = 5.0
#: While the database is away it is tried so often.
RETRY_SECONDS = 1.0
#: Records of the spool that are stored in one piece.
_DRAIN_RECORDS = 50
#: Refused trades of a feed that are kept in a minute; the others are only counted.
REFUSED_A_MINUTE = 100
#: Bars that wait in memory where neither database nor disk take them.
MOST_BARS = 200_000
#: The database is given so long at the end; then all goes to disk.
FLUSH_SECONDS = 1.2
_CLOSE_SECONDS = 0.5
_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")
_FINAL = frozenset({BarState.CLOSED, BarState.REVISED})


class _NotSure(Exception):
    """Another process may have taken over while something was being stored."""


class WarmWriter:
    """Stores what is closed; a listener of pipelines and of indicators.

    Args:
        platform: the opened platform.
        spool: where batches wait while the database is away; what it holds already comes first.
        stored_until: told of an instrument and an instant (microseconds UTC) when all its minutes
            before that instant are durable and none of them is provisional.
        alert: takes a sentence when bars are about to be lost, and when the database is back.
        lost: told of bars that neither database nor disk took: instrument, start, end.
        permit: whether this process may write.
        monotonic: clock in seconds.
        flush_seconds: so long does `flush` wait for the database before all goes to disk.

    Attributes:
        bars_written: bars that were new or differed.
        held_back: bars not written because a better source's is stored.
        refused_bars: bars that break the contract.
        refused_indicators: rows of indicators that break theirs.
        refused_skipped: refused trades that were only counted.
        lost_bars: bars that neither database nor disk took.
        away: why the database cannot be written to, None while it can.
        last_seconds: what the last transaction took.
    """

    def __init__(
        self,
        platform: Platform,
        spool: Spool,
        stored_until: Callable[[Stream, int], None],
        *,
        alert: Callable[[str], None] = lambda _: None,
        lost: Callable[[Stream, int, int], None] = lambda _stream, _start, _end: None,
        permit: Permit = ALWAYS,
        monotonic: Callable[[], float] = time.monotonic,
        flush_seconds: float = FLUSH_SECONDS,
    ) -> None:
        self._permit = permit
        self._flush_seconds = flush_seconds
        self._platform, self._spool = platform, spool
        self._stored_until, self._alert, self._lost = stored_until, alert, lost
        self._monotonic = monotonic
        self._markets: dict[int, str] = {}
        self._ranks: dict[tuple[str, str], int] = {}
        self._chains = {
            name: Reconciler(platform.warehouse, platform.settings.chain(name)) for name in MARKETS
        }
        self._store = LiveBarStore(
            platform.endpoints.libpq_url, platform.warehouse.ensure_partitions, self._rank
        )
        self._days = SessionDays()
        self._streams: dict[tuple[str, str], Stream] = {}
        self._final: dict[BarKey, KeptBar] = {}
        self._provisional: dict[BarKey, KeptBar] = {}
        self._indicators: dict[BarKey, KeptIndicators] = {}
        self._refused: list[RefusedTrade] = []
        self._refused_in: dict[str, tuple[int, int]] = {}
        self._not_final: dict[tuple[str, str], set[int]] = {}
        self._until: dict[tuple[str, str], int] = {}
        self._under_way = WarmBatch()
        self._to_say = ""
        self._since: float | None = None
        self._provisional_at = float("-inf")
        self._work = asyncio.Event()
        self._lock = asyncio.Lock()
        self._settled = asyncio.Condition()
        # Of its own: a database that hangs must not keep other work from its threads.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="warm")
        self.bars_written = self.held_back = self.refused_bars = 0
        self.refused_skipped = self.lost_bars = self.refused_indicators = 0
        self.away: str | None = None
        self.last_seconds = 0.0

    # ---- what comes in

    def on_window(self, window: Window) -> None:
        """Take the bars that are closed, and the trades that were refused."""
        self.bars(window.bars)
        if window.intake is not None and len(window.intake.quarantined):
            self._take_refused(window)

    def on_state(self, feed: str, state: FeedState, why: str, at: int) -> None:
        """Take nothing: a feed's state is not stored here."""

    def bars(self, bars: Iterable[StreamedBar]) -> None:
        """Take bars; those that still form are left out."""
        taken = False
        for each in bars:
            if each.bar.state is BarState.FORMING:
                self._provisional.pop(
                    (each.stream.instrument_id, each.bar.timeframe, each.bar.start), None
                )
                continue
            taken |= self._take_bar(each)
        if taken:
            self._begin_waiting()

    def on_indicators(self, changed: Sequence[IndicatorValues]) -> None:
        """Take the indicators of closed bars."""
        for each in changed:
            if each.is_final:
                row = KeptIndicators(
                    each.stream.instrument_id, each.timeframe, each.start, each.session_day,
                    each.source, each.as_list(), each.warmup_bars,
                )  # fmt: skip
                self._indicators[row.key] = row
                self._begin_waiting()

    def _take_bar(self, streamed: StreamedBar) -> bool:
        stream, bar = streamed.stream, streamed.bar
        day = self._days.day(stream.market, bar.start)
        if day is None:
            self.refused_bars += 1
            return False
        place = (stream.market, stream.symbol)
        self._streams[place] = stream
        self._markets[stream.instrument_id] = stream.market
        is_withdrawn = bar.state is BarState.WITHDRAWN
        final = is_withdrawn or bar.state in _FINAL
        row = LiveBarRow(
            stream.instrument_id, bar.timeframe, bar.start, day, bar.open, bar.high, bar.low,
            bar.close, bar.volume, bar.vwap, bar.trade_count, streamed.source, final,
            is_withdrawn,
        )  # fmt: skip
        kept = KeptBar(stream.market, stream.symbol, row)
        if is_withdrawn:
            self._indicators.pop(kept.key, None)
        if final:
            self._provisional.pop(kept.key, None)
            self._final[kept.key] = kept
            return True
        self._final.pop(kept.key, None)
        self._provisional[kept.key] = kept
        if bar.timeframe == "1m":
            self._not_final.setdefault(place, set()).add(bar.start)
        return True

    def _take_refused(self, window: Window) -> None:
        assert window.intake is not None  # noqa: S101  # the caller has looked
        batch = window.intake.quarantined
        minute = int(self._monotonic() // 60)
        since, count = self._refused_in.get(window.feed, (minute, 0))
        count = count if since == minute else 0
        room = max(REFUSED_A_MINUTE - count, 0)
        self.refused_skipped += max(len(batch) - room, 0)
        self._refused_in[window.feed] = (minute, count + min(len(batch), room))
        for row in range(min(len(batch), room)):
            stream = window.streams[int(batch.symbol[row])]
            ts = int(batch.ts[row])
            self._refused.append(
                RefusedTrade(
                    stream.market,
                    stream.symbol,
                    None if ts == NO_TIME else ts,
                    window.intake.refused_by[row],
                    window.feed,
                    number_text(float(batch.price[row])),
                    number_text(float(batch.size[row])),
                    int(batch.trade_id[row]),
                )  # fmt: skip
            )
        if room:
            self._begin_waiting()

    def _begin_waiting(self) -> None:
        if self._since is None:
            self._since = self._monotonic()
        self._work.set()

    # ---- how it stands

    @property
    def waiting(self) -> int:
        """Bars that wait in memory."""
        return len(self._final) + len(self._provisional)

    @property
    def spooled(self) -> int:
        """Batches that wait on disk."""
        return self._spool.records

    @property
    def lag(self) -> float:
        """Seconds that the oldest of what is not stored yet has waited."""
        return 0.0 if self._since is None else max(self._monotonic() - self._since, 0.0)

    async def settled(self) -> None:
        """Wait until all that has been taken so far, provisional bars excepted, is stored."""
        keys = set(self._final)
        async with self._settled:
            await self._settled.wait_for(
                lambda: (
                    not self._spool.records
                    and not self._lock.locked()
                    and not keys & self._final.keys()
                )
            )

    def stored_of(self, bars: Iterable[BarKey]) -> set[BarKey]:
        """Return those bars of which no newer state waits to be stored."""
        if self._spool.records:
            return set()
        under_way = {each.key for each in self._under_way.bars}
        return {each for each in bars if each not in self._final and each not in under_way}

    # ---- what goes out

    async def run(self) -> None:
        """Store what comes, until cancelled."""
        while True:
            await self._wait()
            await self._write_out()
            if self._spool.records and await self._drain():
                continue
            if self._spool.records or self.away is not None:
                await asyncio.sleep(RETRY_SECONDS)

    async def _wait(self) -> None:
        if not self._spool.records and not self._provisional:
            await self._work.wait()
        if len(self._final) < FULL_BARS:
            await asyncio.sleep(GATHER_SECONDS)

    async def flush(self) -> None:
        """Store all that was taken, provisional bars too, or bring it to disk."""
        try:
            async with asyncio.timeout(self._flush_seconds):
                await self._write_out(all_of_it=True)
        except TimeoutError:
            # The one thread is busy with a database that hangs: the disk is asked from here.
            batch = join_batches([self._under_way, self._take(all_of_it=True)])
            self._under_way = WarmBatch()
            if batch:
                self._keep_at_the_end(batch)

    def _keep_at_the_end(self, batch: WarmBatch) -> None:
        try:
            self._spool.append(batch.encode())
        except (SpoolFull, OSError) as error:
            self.lost_bars += len(batch.bars)
            self._alert(
                f"{len(batch.bars)} bars could not be kept, healing makes them anew: {error}"
            )

    async def close(self) -> None:
        """Let go of the database and of the disk; call it after `flush`."""
        closing = asyncio.get_running_loop().run_in_executor(self._thread, self._store.close)
        # After what the thread is at; a database that hangs is left behind.
        await asyncio.wait([closing], timeout=_CLOSE_SECONDS)
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._spool.close()

    async def _write_out(self, *, all_of_it: bool = False) -> None:
        async with self._lock:
            await self._permit.sure()
            # Something is under way already where an earlier write was cancelled.
            batch = join_batches([self._under_way, self._take(all_of_it=all_of_it)])
            self._under_way = batch
            if batch and (self._spool.records or not await self._try_to_store(batch)):
                await self._to_disk(batch)
            self._under_way = WarmBatch()
        await self._tell_settled()

    def _take(self, *, all_of_it: bool) -> WarmBatch:
        self._work.clear()
        bars = list(self._final.values())
        now = self._monotonic()
        if all_of_it or now - self._provisional_at >= PROVISIONAL_SECONDS:
            if self._provisional:
                self._provisional_at = now
            bars += self._provisional.values()
            self._provisional = {}
        batch = WarmBatch(bars, list(self._indicators.values()), self._refused)
        self._final, self._indicators, self._refused = {}, {}, []
        self._since = now if self._provisional else None
        return batch

    async def _try_to_store(self, batch: WarmBatch) -> bool:
        await self._permit.sure()
        began = self._monotonic()
        try:
            await self._in_thread(self._store_safely, batch)
        except _NotSure:
            # All of it once more; what is stored already stays as it is.
            return await self._try_to_store(batch)
        except WarehouseError as error:
            if self.away is None:
                self._alert(f"Bars cannot be stored and go to disk until they can: {error}")
            self.away = str(error)
            return False
        self.last_seconds = self._monotonic() - began
        if self._to_say:
            self._alert(self._to_say)
            self._to_say = ""
        if self.away is not None:
            self._alert("Bars can be stored again.")
        self.away = None
        self._tell_stored(batch)
        return True

    def _store_safely(self, batch: WarmBatch) -> None:
        """Store a batch; whatever the driver says is a `WarehouseError`."""
        with database_errors():
            self._store_batch(batch)

    def _store_batch(self, batch: WarmBatch) -> None:
        if batch.bars:
            self._markets.update((each.bar.instrument_id, each.market) for each in batch.bars)
            outcome = self._store.write([each.bar for each in batch.bars], self._must_be_sure)
            self.bars_written += outcome.written.inserted + outcome.written.changed
            self.held_back += len(outcome.held_back)
            self.refused_bars += len(outcome.refused)
            left_out = {row[:3] for row in (*outcome.held_back, *outcome.refused)}
            left_out |= {each.key for each in batch.bars if each.bar.is_withdrawn}
        else:
            left_out = set()
        rows = [each for each in batch.indicators if each.key not in left_out]
        self._must_be_sure()
        if rows:
            self._store_indicators(rows)
        for market in {each.market for each in batch.refused}:
            mine = [each for each in batch.refused if each.market == market]
            self._platform.quality.quarantine("ticks", market, "tick", refused_frame(mine))

    def _must_be_sure(self) -> None:
        if not self._permit.is_sure:
            raise _NotSure

    def _store_indicators(self, rows: Sequence[KeptIndicators]) -> None:
        try:
            self._platform.warehouse.write_indicators(indicator_frame(rows))
        except ContractError as error:
            # They can be computed again; what must not happen is that they hold up bars.
            self.refused_indicators += len(rows)
            self._to_say = f"Indicators of {len(rows)} live bars were not stored: {error}"

    def _tell_stored(self, batch: WarmBatch) -> None:
        places: set[tuple[str, str]] = set()
        for market, symbol, bar in batch.bars:
            if bar.timeframe != "1m":
                continue
            place = (market, symbol)
            if bar.is_final:
                if (bar.instrument_id, bar.timeframe, bar.start) not in self._provisional:
                    # Else it has become provisional while it was stored.
                    self._not_final.get(place, set()).discard(bar.start)
                self._until[place] = max(self._until.get(place, 0), bar.start + MINUTE_US)
                places.add(place)
                self._streams.setdefault(place, Stream(market, symbol, bar.instrument_id))
        for place in places:
            open_ = self._not_final.get(place)
            until = min([self._until[place], *(open_ or ())])
            self._stored_until(self._streams[place], until)

    async def _to_disk(self, batch: WarmBatch) -> None:
        try:
            await self._in_thread(self._spool.append, batch.encode())
        except (SpoolFull, OSError) as error:
            self._alert(str(error))
            # Kept in memory under what may have come meanwhile.
            kept = {each.key: each for each in batch.bars}
            self._final = {**kept, **self._final}
            values = {each.key: each for each in batch.indicators}
            self._indicators = {**values, **self._indicators}
            self._refused = [*batch.refused, *self._refused]
            self._lose(len(self._final) - MOST_BARS)
            self._begin_waiting()

    def _lose(self, count: int) -> None:
        for key in list(self._final)[: max(count, 0)]:
            market, symbol, bar = self._final.pop(key)
            self._indicators.pop(key, None)
            self.lost_bars += 1
            if bar.timeframe == "1m":
                self._not_final.setdefault((market, symbol), set()).add(bar.start)
                stream = self._streams[market, symbol]
                self._lost(stream, bar.start, bar.start + MINUTE_US)

    async def _drain(self) -> bool:
        """Store the oldest of what waits on disk; false where the database is away."""
        async with self._lock:
            records = await self._in_thread(self._spool.peek, _DRAIN_RECORDS)
            batch = join_batches(_readable(records))
            if batch and not await self._try_to_store(batch):
                return False
            await self._in_thread(self._spool.take_off, len(records))
        await self._tell_settled()
        return True

    async def _in_thread(self, work: Callable[[_Asked], _Answer], asked: _Asked) -> _Answer:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, work, asked)

    async def _tell_settled(self) -> None:
        async with self._settled:
            self._settled.notify_all()

    def _rank(self, instrument_id: int, source: str) -> int:
        market = self._markets[instrument_id]
        key = (market, source)
        if key not in self._ranks:
            self._ranks[key] = self._chains[market].rank(source)
        return self._ranks[key]


def _readable(records: Iterable[bytes]) -> Iterable[WarmBatch]:
    for record in records:
        try:
            yield decode_batch(record)
        except msgspec.MsgspecError:
            # Of an earlier version; what it held is healed from the journal's watermark.
            continue
