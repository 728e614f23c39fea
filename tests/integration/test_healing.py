"""Holes of a real feed's connection, healed over its REST API, as PostgreSQL has the bars then.

The exchange is on loopback: it tells every trade that has happened over REST, also those that
nobody was sent. What is expected is computed from its tape.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from scizor_core.stream.engine import BarState
from scizor_core.stream.minutes import MINUTE_US
from scizor_core.stream.trades import MICROSECONDS, make_batch
from scizor_resources.platform import Platform
from scizor_sidecar.feeds.base import Stream, Wanted
from scizor_sidecar.feeds.connection import Connection, Patience
from scizor_sidecar.feeds.registry import FEEDS
from scizor_sidecar.halts import HaltBook
from scizor_sidecar.heal_work import HealPatience
from scizor_sidecar.healing import Healer
from scizor_sidecar.journal import Hole, Journal
from scizor_sidecar.mending import Mender
from scizor_sidecar.outage_book import OutageBook
from scizor_sidecar.pipeline import FeedPipeline, Listener, Window
from scizor_sidecar.spool import Spool
from scizor_sidecar.warm_writer import WarmWriter
from tests.contract.lab.trade_tape import START, TradeTape, make_tape
from tests.contract.lab.ws_exchanges import LoopbackExchange
from tests.integration.helpers import FixedSource, flat, query
from tests.integration.streamed import compare, is_right, stream_from

SYMBOLS = tuple(f"S{number}/USD" for number in range(4))


class Process:
    """The parts of a sidecar that healing needs, with one feed."""

    def __init__(self, platform: Platform, venue: str, folder: Path, streams: Sequence[Stream]):
        self.platform, self.wanted = platform, Wanted(frozenset(streams))
        self.journal = Journal(folder)
        self.warm = WarmWriter(platform, Spool(folder / "spool"), self.journal.stored_until)
        listeners: list[Listener] = []
        pipelines = {venue: FeedPipeline(venue, listeners, platform.now)}
        self.pipeline = pipelines[venue]
        self.healer = Healer(
            platform,
            pipelines,
            self.journal,
            wanted=lambda _: self.wanted.streams,
            stored=self.warm.settled,
            revised=self.warm.bars,
            patience=HealPatience(settle_seconds=0.05, joining_seconds=1),
        )
        listeners += [self.healer, self.warm]
        feed = FEEDS[venue](platform.settings, platform)
        self.connection = Connection(
            feed, self.wanted, self.pipeline, patience=Patience(first_seconds=0.05)
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run until the end, which is a kill: nothing is brought to its store any more."""
        parts = (self.pipeline.run, self.connection.keep, self.warm.run, self.healer.run)
        tasks = [asyncio.ensure_future(part()) for part in parts]
        try:
            yield
            assert not [task.exception() for task in tasks if task.done()]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.journal._file.close()  # noqa: SLF001  # `close` would write on, a kill does not
            await self.warm.close()

    async def healed(self) -> None:
        """Wait until no hole is left, and what heals them is stored."""
        async with asyncio.timeout(120):
            while self.healer.open_outages or self.pipeline.waiting:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def end_minutes(self, until: int) -> None:
        """End all minutes before an instant, and wait until they are stored."""
        self.pipeline.engine.close_until(until)
        self.pipeline.step()
        await self.warm.settled()


@pytest.fixture
def tape() -> TradeTape:
    return make_tape(SYMBOLS, 20_000, minutes=20, reorder_seconds=2, quiet_share=0.3)


def streams_of(platform: Platform) -> list[Stream]:
    found = platform.reference.instruments("crypto", list(SYMBOLS))
    return [Stream("crypto", each.symbol, each.instrument_id) for each in found]


def outages(platform: Platform) -> list[dict[str, Any]]:
    return query(
        platform,
        "SELECT feed, instrument_id, end_ts >= start_ts AS closed, reason, detail "
        "FROM quality.outages ORDER BY outage_id",
    )


async def until(holds: Any) -> None:
    async with asyncio.timeout(120):
        while not holds():  # noqa: ASYNC110  # the exchange lives in another thread
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "venue",
    ["kraken", *(pytest.param(each, marks=pytest.mark.slow) for each in ("binance", "coinbase"))],
)
def test_the_stored_bars_of_a_tape_with_cuts_are_those_of_all_of_its_trades(
    venue: str,
    tape: TradeTape,
    platform: Platform,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    platform.now = lambda: START + timedelta(hours=1)

    async def play(exchange: LoopbackExchange) -> Process:
        process = Process(platform, venue, tmp_path / "stream", streams_of(platform))
        async with process.running():
            await until(exchange.played.is_set)
            await asyncio.sleep(0.3)
            await process.healed()
            await process.end_minutes(int(tape.ts.max()) - 2 * MICROSECONDS)
            await process.healer.flush()
        return process

    with LoopbackExchange(venue, tape, repeat_share=0.01) as exchange:
        exchange.at(4_000, lambda: exchange.cut(missed=1_000))
        exchange.at(9_000, lambda: exchange.cut(missed=3_000))
        exchange.at(15_000, exchange.cut)
        stream_from(exchange, platform, monkeypatch, SYMBOLS)
        process = asyncio.run(play(exchange))

    bars = compare(platform, tape)
    assert is_right(bars), bars
    assert bars["1m"]["expected"] > 40
    rows = outages(platform)
    assert [row["closed"] for row in rows] == [True] * 3
    assert all("trades fetched were missing" in row["detail"] for row in rows)
    # Of the 4000 some are told again by the exchange when it is subscribed to.
    assert process.healer.counts.missed > 3_000
    # No history was taken for one that is behind.
    assert process.healer.counts.failures == 0


def test_after_a_kill_the_next_process_stores_the_bars_of_all_trades(
    tape: TradeTape,
    platform: Platform,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    platform.now = lambda: START + timedelta(hours=1)

    async def first(exchange: LoopbackExchange) -> None:
        process = Process(platform, "kraken", tmp_path / "stream", streams_of(platform))
        async with process.running():
            await until(lambda: exchange.position >= 9_000)
            await asyncio.sleep(0.8)

    async def second(exchange: LoopbackExchange) -> Process:
        exchange.cut(missed=2_000)
        exchange.resume()
        process = Process(platform, "kraken", tmp_path / "stream", streams_of(platform))
        async with process.running():
            await until(exchange.played.is_set)
            await asyncio.sleep(0.3)
            await process.healed()
            await process.end_minutes(int(tape.ts.max()) - 2 * MICROSECONDS)
            await process.healer.flush()
        return process

    with LoopbackExchange("kraken", tape, repeat_share=0.01) as exchange:
        exchange.at(9_000, exchange.hold)
        stream_from(exchange, platform, monkeypatch, SYMBOLS)
        asyncio.run(first(exchange))
        asyncio.run(second(exchange))

    bars = compare(platform, tape)
    assert is_right(bars), bars
    assert [row["reason"] for row in outages(platform)] == ["the sidecar was not running"]


def test_where_no_trades_are_told_bars_of_another_provider_take_their_place(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
):
    instrument, _ = platform.reference.ensure("crypto", "BTC/USD")
    stream = Stream("crypto", "BTC/USD", instrument.instrument_id)
    noon = int(START.timestamp()) * MICROSECONDS
    told = flat("BTC/USD", ["2026-03-02 12:01", "2026-03-02 12:02"], 50)
    sources = [FixedSource(told.assign(source="yahoo"), "yahoo")]
    monkeypatch.setattr(platform, "sources", lambda *_: sources)
    platform.now = lambda: START + timedelta(hours=1)
    windows: list[Window] = []

    class Recorder:
        def on_window(self, window: Window) -> None:
            windows.append(window)

        def on_state(self, *_: object) -> None:
            pass

    async def play() -> None:
        pipeline = FeedPipeline("finnhub", [Recorder()], platform.now)
        number = pipeline.number(stream)
        minutes = [noon + minute * MINUTE_US + MICROSECONDS for minute in range(5)]
        pipeline.process(make_batch([number] * 5, minutes, [99.0] * 5, [1.0] * 5))
        pipeline.engine.begin_outage([number], noon + MINUTE_US)
        pipeline.engine.resume([number], noon + 4 * MINUTE_US)
        pipeline.engine.close_until(noon + 5 * MINUTE_US)
        await Mender(platform, pipeline).by_bars(stream, noon + MINUTE_US, noon + 4 * MINUTE_US)
        pipeline.step()

    asyncio.run(play())
    bars = {
        (each.bar.start - noon) // MINUTE_US: (each.bar.close, each.bar.state, each.source)
        for each in windows[-1].bars
        if each.bar.timeframe == "1m"
    }
    assert bars == {
        0: (99.0, BarState.CLOSED, "finnhub"),
        1: (50.0, BarState.CLOSED, "yahoo"),
        2: (50.0, BarState.CLOSED, "yahoo"),
        3: (99.0, BarState.PROVISIONAL, "finnhub"),
        4: (99.0, BarState.CLOSED, "finnhub"),
    }


def test_an_outage_whose_reason_holds_what_postgresql_does_not_keep_is_written(
    platform: Platform,
):
    platform.now = lambda: START + timedelta(hours=1)
    noon = int(START.timestamp()) * MICROSECONDS
    instrument, _ = platform.reference.ensure("crypto", "BTC/USD")
    stream = Stream("crypto", "BTC/USD", instrument.instrument_id)
    hole = Hole(1, "kraken", "crypto", {stream: noon}, noon + MINUTE_US, "closed: \0bye")

    async def play() -> None:
        book, halts = OutageBook(platform), HaltBook(platform)
        book.ended(hole)
        halts.begin("kraken", stream, noon, "no \0news")
        await book.flush()
        await halts.flush()

    asyncio.run(play())

    assert [row["reason"] for row in outages(platform)] == ["closed: bye"]
    with platform.warehouse.connect() as connection:
        rows = connection.execute("SELECT note FROM quality.halts").fetchall()
    assert [row["note"] for row in rows] == ["no news"]
