"""The hot store with a real Valkey: what is read back, what expires, Valkey away and back."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import msgspec
import numpy as np
import pandas as pd
import pytest
import redis.asyncio

from scizor_core.stream.engine import BarState
from scizor_core.stream.guards import Verdict
from scizor_resources.market_data import MarketData
from scizor_resources.platform import Platform
from scizor_resources.stores.hot import (
    KEPT_BARS,
    HotReader,
    bars_key,
    changes_channel,
    quote_key,
)
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.feeds.connection import FeedState
from scizor_sidecar.hot_writer import HotWriter
from scizor_sidecar.live_indicators import IndicatorValues
from scizor_sidecar.pipeline import Quote, Window
from scizor_sidecar.spool import Spool
from scizor_sidecar.warm_writer import WarmWriter
from tests.unit.sidecar.fakes import eventually
from tests.unit.sidecar.streamed import MINUTE, closed, window

NOON = int(datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp()) * 1_000_000
KEY = bars_key("crypto", "BTC/USD", "1m")


@pytest.fixture
def btc(platform: Platform) -> Stream:
    instrument, _ = platform.reference.ensure("crypto", "BTC/USD")
    return Stream("crypto", "BTC/USD", instrument.instrument_id)


class Setup:
    """A writer and a reader on a real Valkey."""

    def __init__(self, platform: Platform, client: "redis.asyncio.Redis") -> None:
        self.platform, self.client = platform, client
        self.writer = HotWriter(client, platform)
        self.reader = HotReader(platform.link)

    def closes(self) -> list[float] | None:
        bars = self.reader.bars("crypto", "BTC/USD", "1m")
        return None if bars is None else bars.records["close"].tolist()


def run(platform: Platform, work: Callable[[Setup], Awaitable[None]]) -> None:
    async def inside() -> None:
        client = redis.asyncio.Redis.from_url(platform.endpoints.redis_url)
        try:
            await work(Setup(platform, client))
        finally:
            await client.aclose()

    asyncio.run(inside())


def bars(stream: Stream, first: int, count: int) -> Window:
    return window(
        *(
            closed(stream, NOON + number * MINUTE, close=100.0 + number)
            for number in range(first, first + count)
        )
    )


def store(platform: Platform, folder: Path, *windows: Window) -> None:
    async def inside() -> None:
        writer = WarmWriter(
            platform, Spool(folder / uuid4().hex), lambda _stream, _ts: None, flush_seconds=30
        )
        for each in windows:
            writer.on_window(each)
        await writer.flush()
        await writer.close()

    asyncio.run(inside())


def test_bars_come_back_as_they_were_taken_the_newest_state_of_each(
    platform: Platform, btc: Stream
) -> None:
    async def work(setup: Setup) -> None:
        setup.writer.on_window(bars(btc, 0, 3))
        await setup.writer.flush()
        setup.writer.on_window(
            window(
                closed(btc, NOON + MINUTE, close=50.0, state=BarState.REVISED),
                closed(btc, NOON + 3 * MINUTE, close=103.0, state=BarState.FORMING),
            )
        )
        setup.writer.on_window(
            window(closed(btc, NOON + 3 * MINUTE, close=104.0, state=BarState.FORMING))
        )
        await setup.writer.flush()

        found = setup.reader.bars("crypto", "BTC/USD", "1m")
        assert found is not None
        frame = found.frame()
        assert frame["close"].tolist() == [100, 50, 102, 104]
        assert frame["state"].tolist() == ["closed", "revised", "closed", "forming"]
        assert frame["is_final"].tolist() == [True, True, True, False]
        assert frame["source"].tolist() == ["kraken"] * 4
        assert frame.index[0] == pd.Timestamp("2026-03-02T12:00Z")
        assert set(frame["session_date"]) == {pd.Timestamp("2026-03-02")}

    run(platform, work)


def test_only_the_last_bars_are_kept(platform: Platform, btc: Stream) -> None:
    async def work(setup: Setup) -> None:
        for number in range(0, 700, 7):
            setup.writer.on_window(bars(btc, number, 7))
            await setup.writer.flush()

        expected = [100.0 + number for number in range(700 - KEPT_BARS, 700)]
        assert setup.closes() == expected
        assert await setup.client.strlen(KEY) <= 98 * 601

    run(platform, work)


def test_a_bar_of_a_minute_before_is_put_in_its_place(platform: Platform, btc: Stream) -> None:
    async def work(setup: Setup) -> None:
        setup.writer.on_window(window(closed(btc, NOON, close=1.5), closed(btc, NOON + 2 * MINUTE)))
        await setup.writer.flush()
        setup.writer.on_window(window(closed(btc, NOON + MINUTE, close=2.5)))
        await setup.writer.flush()

        assert setup.closes() == [1.5, 2.5, 10.0]

    run(platform, work)


def test_keys_expire_after_the_length_of_a_bar_and_the_setting(
    platform: Platform, btc: Stream
) -> None:
    async def work(setup: Setup) -> None:
        setup.writer.on_window(window(closed(btc, NOON), closed(btc, NOON, timeframe="5m")))
        await setup.writer.flush()

        lives = [
            await setup.client.pttl(bars_key("crypto", "BTC/USD", each)) for each in ("1m", "5m")
        ]
        # 60 s and 60 s beyond, 300 s and 300 s beyond; asked a moment later.
        assert [round(each / 10_000) for each in lives] == [12, 60]

    run(platform, work)


def test_the_keys_of_what_is_no_longer_streamed_expire(platform: Platform, btc: Stream) -> None:
    instrument, _ = platform.reference.ensure("crypto", "ETH/USD")
    eth = Stream("crypto", "ETH/USD", instrument.instrument_id)
    streamed = {("crypto", "BTC/USD"), ("crypto", "ETH/USD")}

    def both(start: int) -> Window:
        rows = [closed(each, start, close=100.0) for each in (btc, eth)]
        quotes = [
            Quote(each, start, 9.5, 9.6, 3.0, 4.0, Verdict.ACCEPT, None) for each in (btc, eth)
        ]
        return Window("kraken", [btc, eth], window(*rows).bars, quotes, [], None, (0, 0))

    async def work(setup: Setup) -> None:
        setup.writer = HotWriter(setup.client, platform, streamed=lambda: streamed)
        keys = [
            key
            for symbol in ("BTC/USD", "ETH/USD")
            for key in (bars_key("crypto", symbol, "1m"), quote_key("crypto", symbol))
        ]

        async def touched() -> list[bool]:
            for key in keys:
                await setup.client.pexpire(key, 30_000)
            await setup.writer.touch()
            return [await setup.client.pttl(key) > 30_000 for key in keys]

        setup.writer.on_window(both(NOON))
        # What is not written yet is not forgotten.
        streamed.remove(("crypto", "ETH/USD"))
        await setup.writer.touch()
        await setup.writer.flush()
        assert await setup.client.exists(*keys) == 4

        assert await touched() == [True, True, False, False]

        streamed.add(("crypto", "ETH/USD"))
        setup.writer.on_window(both(NOON + MINUTE))
        await setup.writer.flush()
        assert await touched() == [True] * 4

    run(platform, work)


def test_strings_that_valkey_has_lost_are_written_anew(platform: Platform, btc: Stream) -> None:
    async def work(setup: Setup) -> None:
        setup.writer.on_window(bars(btc, 0, 5))
        await setup.writer.flush()
        await setup.client.delete(KEY)
        setup.writer.on_window(bars(btc, 5, 1))
        await setup.writer.flush()
        assert setup.closes() is None
        await setup.writer.flush()

        assert setup.closes() == [100.0 + number for number in range(6)]

    run(platform, work)


def test_after_an_outage_of_valkey_all_is_there_again(platform: Platform, btc: Stream) -> None:
    async def work(setup: Setup) -> None:
        writer = setup.writer
        running = asyncio.ensure_future(writer.run())
        writer.on_window(bars(btc, 0, 2))
        await eventually(lambda: setup.closes() == [100, 101])
        # A server that is gone, for all that the client can tell.
        pool, away = setup.client.connection_pool, redis.asyncio.Redis(port=1)
        setup.client.connection_pool = away.connection_pool
        writer.on_window(bars(btc, 2, 2))
        await eventually(lambda: writer.away is not None)
        await setup.client.aclose()
        setup.client.connection_pool = pool
        await setup.client.flushdb()
        await eventually(lambda: setup.closes() == [100, 101, 102, 103])
        running.cancel()

    run(platform, work)


def test_bars_of_before_come_from_the_database(
    platform: Platform, btc: Stream, tmp_path: Path
) -> None:
    store(platform, tmp_path, bars(btc, 0, 3))

    async def work(setup: Setup) -> None:
        running = asyncio.ensure_future(setup.writer.run())
        setup.writer.on_window(window(closed(btc, NOON + 3 * MINUTE, close=103.0)))
        await eventually(lambda: setup.closes() == [100, 101, 102, 103])
        running.cancel()

    run(platform, work)


def test_a_bar_that_trades_are_missing_of_becomes_what_the_database_knows_for_good(
    platform: Platform, btc: Stream, tmp_path: Path
) -> None:
    store(platform, tmp_path, bars(btc, 0, 3))

    async def work(setup: Setup) -> None:
        running = asyncio.ensure_future(setup.writer.run())
        setup.writer.on_window(
            window(
                # Of the same source: the copy is newer than what is stored.
                closed(btc, NOON, close=99.0, state=BarState.REVISED),
                closed(btc, NOON + MINUTE, close=50.0, state=BarState.PROVISIONAL),
            )
        )
        await eventually(lambda: setup.closes() == [99, 101, 102])
        running.cancel()

    run(platform, work)


def test_the_last_quote_and_the_newest_indicators_are_there(
    platform: Platform, btc: Stream
) -> None:
    async def work(setup: Setup) -> None:
        quote = Quote(btc, NOON, 9.5, float("nan"), 3.0, None, Verdict.ACCEPT, None)
        setup.writer.on_window(Window("kraken", [btc], [], [quote], [], None, (0, 0)))
        row = np.arange(30, dtype=np.float64)
        row[0] = np.nan
        setup.writer.on_indicators(
            [IndicatorValues(btc, "1m", NOON, 20_514, "kraken", row, 9, is_final=True)]
        )
        await setup.writer.flush()

        assert setup.reader.quote("crypto", "BTC/USD") == {
            "ts": NOON, "bid": 9.5, "ask": None, "bid_size": 3.0, "ask_size": None, "verdict": 0,
        }  # fmt: skip
        found = setup.reader.indicators("crypto", "BTC/USD", "1m")
        assert found is not None
        assert (found[0], found[1]["sma_10"], found[1]["sma_20"]) == (NOON, None, 1.0)

    run(platform, work)


def test_changes_are_published_for_other_processes(platform: Platform, btc: Stream) -> None:
    async def work(setup: Setup) -> None:
        heard = setup.client.pubsub(ignore_subscribe_messages=True)
        await heard.subscribe(changes_channel("crypto"))
        await heard.get_message(timeout=5)
        setup.writer.on_window(window(closed(btc, NOON, close=12.5)))
        await setup.writer.flush()

        message = await heard.get_message(timeout=5)
        await heard.aclose()
        ((symbol, timeframe, bar),) = msgspec.msgpack.decode(message["data"])
        assert (symbol, timeframe, bar[0], bar[4]) == ("BTC/USD", "1m", NOON, 12.5)

    run(platform, work)


def test_what_is_not_of_this_layout_is_not_read(platform: Platform, btc: Stream) -> None:
    async def work(setup: Setup) -> None:
        for damaged in (b"x", b"x" * 98, bytes(196), b"x" * 196):
            await setup.client.set(KEY, damaged)
            assert setup.reader.bars(btc.market, btc.symbol, "1m") is None
        await setup.client.set(quote_key(btc.market, btc.symbol), b"x")
        assert setup.reader.quote(btc.market, btc.symbol) is None

    run(platform, work)


def test_the_reader_of_market_data_takes_the_newest_bars_from_the_hot_store(
    platform: Platform, btc: Stream, tmp_path: Path
) -> None:
    store(platform, tmp_path, bars(btc, 0, 3))
    data = MarketData(platform)
    forming = closed(btc, NOON + 3 * MINUTE, close=103.0, state=BarState.FORMING)

    def latest(limit: int) -> tuple[list[float], str]:
        frame = data.latest("BTC/USD", "1m", limit, market="crypto")
        return frame["close"].tolist(), frame.attrs["tier"]

    async def work(setup: Setup) -> None:
        assert latest(2) == ([101, 102], "warm")
        setup.writer.on_window(window(forming))
        await setup.writer.flush()
        assert latest(1) == ([103], "hot")
        assert latest(3) == ([101, 102, 103], "hot+warm")

    run(platform, work)

    frame = data.latest("BTC/USD", "1m", 2, market="crypto")
    assert frame["state"].tolist() == ["closed", "forming"]
    assert frame["is_final"].tolist() == [True, False]


def tier_of(platform: Platform) -> Callable[[int], tuple[str, int]]:
    """Return what tells which tier answers for the time since a minute, and with how many bars."""
    data = MarketData(platform)

    def tier(minute: int) -> tuple[str, int]:
        since = datetime.fromtimestamp((NOON + minute * MINUTE) / 1e6, UTC)
        frame = data.bars("BTC/USD", "1m", since, market="crypto")
        return frame.attrs["tier"], len(frame)

    return tier


def test_a_window_is_read_from_the_hot_store_only_where_the_feed_was_there_all_the_time(
    platform: Platform, btc: Stream
) -> None:
    tier = tier_of(platform)

    async def work(setup: Setup) -> None:
        setup.writer.on_state("kraken", FeedState.CONNECTED, "subscribed", NOON + 30_000_000)
        setup.writer.on_window(bars(btc, 0, 4))
        setup.writer.on_window(window(closed(btc, NOON + 4 * MINUTE, state=BarState.FORMING)))
        await setup.writer.flush()
        # The first minute was under way when the feed came.
        assert tier(0) == ("warm", 0)
        assert tier(2) == ("hot", 2)
        setup.writer.on_state("kraken", FeedState.WAITING, "cut", NOON + 5 * MINUTE)
        await setup.writer.flush()
        assert tier(2) == ("warm", 0)

    run(platform, work)


def test_a_stream_that_comes_back_later_than_its_feed_is_whole_from_then_on_only(
    platform: Platform, btc: Stream
) -> None:
    tier = tier_of(platform)

    async def work(setup: Setup) -> None:
        setup.writer.on_state("kraken", FeedState.CONNECTED, "subscribed", NOON - MINUTE)
        setup.writer.on_window(bars(btc, 0, 4))
        # It was not streamed for an hour, of which healing has brought one minute so far.
        setup.writer.on_window(window(closed(btc, NOON + 60 * MINUTE, state=BarState.PROVISIONAL)))
        setup.writer.on_window(window(closed(btc, NOON + 4 * MINUTE)))
        await setup.writer.flush()
        assert tier(2) == ("warm", 0)
        setup.writer.on_window(bars(btc, 61, 3))
        setup.writer.on_window(window(closed(btc, NOON + 5 * MINUTE)))
        await setup.writer.flush()
        assert tier(2) == ("warm", 0)
        assert tier(62) == ("hot", 2)

    run(platform, work)


def test_a_window_from_before_the_bars_that_are_kept_is_not_read_from_the_hot_store(
    platform: Platform, btc: Stream
) -> None:
    tier = tier_of(platform)

    async def work(setup: Setup) -> None:
        setup.writer.on_state("kraken", FeedState.CONNECTED, "subscribed", NOON - MINUTE)
        for number in range(0, 700, 7):
            setup.writer.on_window(bars(btc, number, 7))
        await setup.writer.flush()
        assert tier(700 - KEPT_BARS) == ("hot", KEPT_BARS)
        assert tier(700 - KEPT_BARS - 1) == ("warm", 0)

    run(platform, work)


def test_a_bar_that_is_withdrawn_is_gone_for_good_although_it_is_stored_still(
    platform: Platform, btc: Stream, tmp_path: Path
) -> None:
    store(platform, tmp_path, bars(btc, 0, 3))

    async def work(setup: Setup) -> None:
        setup.writer.on_window(bars(btc, 0, 3))
        await setup.writer.flush()
        setup.writer.on_window(window(closed(btc, NOON + MINUTE, state=BarState.WITHDRAWN)))
        await setup.writer.flush()
        assert setup.closes() == [100, 102]

        assert await setup.writer._take_stored(list(setup.writer._series))  # noqa: SLF001
        await setup.writer.flush()
        assert setup.closes() == [100, 102]

    run(platform, work)
