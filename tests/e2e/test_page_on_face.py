"""The page on the face that serves it: a real server and real stores, trades fed by hand."""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import SecretStr

from scizor_core.stream.engine import LiveBar
from scizor_resources.platform import Platform
from scizor_sidecar.face.app import make_app
from scizor_sidecar.face.hub import Hub
from scizor_sidecar.face.server import FaceServer
from scizor_sidecar.face.state import FaceState
from scizor_sidecar.face.stored import StoredHistory
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.feeds.connection import FeedState
from scizor_sidecar.metrics import Metrics
from scizor_sidecar.pipeline import FeedPipeline, StreamedBar, Window
from tests.e2e import chromium
from tests.e2e.chromium import Tab

pytestmark = [
    pytest.mark.slow,
    pytest.mark.anyio,
    pytest.mark.skipif(chromium.find() is None, reason="there is no Chromium on this machine"),
]

#: In the session of the ASX: Friday, 12:30 in Sydney.
BEGIN = datetime(2026, 11, 20, 1, 30, tzinfo=UTC)
MINUTES = 150
SYMBOLS = ("CBA", "BHP", "WBC", "CSL")
LAST_BAR = "window.scizor.chart.bars.at(-1)"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Market:
    """A pipeline that is fed as fast as a busy feed would."""

    platform: Platform
    pipeline: FeedPipeline
    streams: list[Stream]
    prices: dict[str, float] = field(default_factory=dict)

    async def run(self) -> None:
        number = 0
        while True:
            await asyncio.sleep(0.05)
            if self.pipeline.state is not FeedState.CONNECTED:
                continue
            at = round(self.platform.now().timestamp() * 1_000_000)
            for stream in self.streams:
                number += 1
                price = round(170 + 2 * math.sin(number / 300), 2)
                self.prices[stream.symbol] = price
                self.pipeline.trades([stream], [at], [price], [10 + number % 7], [number])
                self.pipeline.quote(stream, at, price - 0.01, price + 0.01, 500, 700)
                if stream.depth:
                    sides = [
                        [
                            (round(price + way * 0.01 * each, 2), 100.0 * each)
                            for each in range(1, 11)
                        ]
                        for way in (-1, 1)
                    ]
                    self.pipeline.book(stream, at, *sides)


@dataclass
class Opened:
    """The page in a browser, and what is behind it."""

    tab: Tab
    hub: Hub
    pipeline: FeedPipeline
    url: str


def store_history(platform: Platform) -> None:
    """Store one-minute bars of the morning."""
    instrument, _ = platform.reference.ensure("asx", "CBA")
    ts = pd.date_range(BEGIN - timedelta(minutes=MINUTES), BEGIN, freq="min", inclusive="left")
    close = 170 + np.sin(np.arange(MINUTES) / 12)
    rows = pd.DataFrame(
        {
            "instrument_id": instrument.instrument_id,
            "timeframe": pd.Series(["1m"] * MINUTES, dtype="str"),
            "ts": ts.as_unit("us"),
            "session_date": pd.DatetimeIndex(["2026-11-20"] * MINUTES).as_unit("us"),
            "open": close,
            "high": close + 0.1,
            "low": close - 0.1,
            "close": close,
            "volume": 900.0,
            "vwap": close,
            "trade_count": pd.Series([3] * MINUTES, dtype="Int64"),
            "adj_close": [float("nan")] * MINUTES,
            "source": pd.Series(["tape/test"] * MINUTES, dtype="str"),
            "is_final": True,
        }
    )
    platform.warehouse.write_bars(rows)


@contextlib.asynccontextmanager
async def opened(platform: Platform, profile: Path) -> AsyncIterator[Opened]:
    began = time.monotonic()
    platform.now = lambda: BEGIN + timedelta(seconds=time.monotonic() - began)
    hub = Hub(platform.now, StoredHistory(platform))
    pipelines: dict[str, FeedPipeline] = {}
    metrics = Metrics(pipelines, platform.now)
    pipeline = FeedPipeline("ibkr", [hub, metrics], platform.now)
    pipelines["ibkr"] = pipeline
    pipeline.connecting()
    pipeline.connected()
    found = platform.reference.resolve("asx", list(SYMBOLS))
    streams = [
        Stream("asx", each.symbol, each.instrument_id, each.symbol != "CSL") for each in found
    ]
    server = FaceServer(make_app(FaceState(platform, hub, pipelines, metrics, now=platform.now)))
    market = Market(platform, pipeline, streams)
    parts = (hub.run(), server.run(), metrics.run(), pipeline.run(), market.run())
    tasks = [asyncio.ensure_future(each) for each in parts]
    try:
        await server.started.wait()
        async with chromium.tab(profile) as tab:
            await tab.viewport(1440, 900)
            await tab.call("Page.navigate", url=server.url + "/")
            yield Opened(tab, hub, pipeline, server.url + "/")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def page(platform: Platform, tmp_path: Path) -> AsyncIterator[Opened]:
    await asyncio.to_thread(store_history, platform)
    async with opened(platform, tmp_path / "profile") as found:
        await found.tab.until("window.scizor?.chosen.id && window.scizor.wire.state === 'open'")
        await found.tab.value("document.querySelector('[data-id=\"asx:CBA\"]').click()")
        yield found


async def test_stored_bars_and_the_running_one_are_one_chart(page: Opened) -> None:
    await page.tab.until("window.scizor.chart.bars.length > 150")
    await page.tab.until(f"{LAST_BAR}.state === 'forming' && {LAST_BAR}.source === 'ibkr'")

    before = await page.tab.value(f"{LAST_BAR}.v")
    await page.tab.until(f"{LAST_BAR}.v > {before}")

    await page.tab.until("document.querySelectorAll('#depth .ladder').length === 3")
    await page.tab.until("document.querySelectorAll('#kpis .tile').length > 6")
    assert [each for each in page.tab.requested if not each.startswith(page.url)] == []
    assert page.tab.errors == []


async def test_a_bar_that_is_withdrawn_leaves_the_chart(page: Opened) -> None:
    start = int((BEGIN - timedelta(minutes=10)).timestamp())
    is_there = f"window.scizor.chart.index.has({start})"
    await page.tab.until(is_there)
    count = await page.tab.value("window.scizor.chart.bars.length")
    (number,) = [n for n, each in enumerate(page.pipeline.streams) if each.symbol == "CBA"]
    gone = LiveBar.withdrawn(number, "1m", start * 1_000_000)

    told = StreamedBar(page.pipeline.streams[number], gone, "ibkr", 0)
    page.hub.on_window(Window("ibkr", page.pipeline.streams, [told], [], [], None, (0, 0)))

    await page.tab.until(f"!{is_there}")
    assert await page.tab.value("window.scizor.chart.bars.length") >= count - 1
    assert page.tab.errors == []


async def test_a_feed_that_is_cut_is_shown_within_five_seconds(page: Opened) -> None:
    await page.tab.until(
        "document.querySelector('[data-id=\"asx:CBA\"]').dataset.fresh === 'fresh'"
    )

    page.pipeline.disconnected(FeedState.WAITING, "socket closed by peer")

    await page.tab.until(
        "document.getElementById('banner-text').textContent.includes('ibkr (asx) is cut')"
        " && document.querySelector('#badges .cut')",
        5,
    )


async def test_a_symbol_is_added_to_the_watchlist_and_removed(page: Opened) -> None:
    await page.tab.value(
        "document.querySelector('#add [name=symbol]').value = 'crypto:BTC/USD',"
        "document.querySelector('#add button').click()"
    )
    row = "document.querySelector('[data-id=\"crypto:BTC/USD\"]')"
    await page.tab.until(row)

    await page.tab.value(f"{row}.click(), document.getElementById('remove').click()")

    await page.tab.until(f"!{row}")


async def test_with_a_key_the_page_opens_and_asks_for_it(
    platform: Platform, tmp_path: Path
) -> None:
    platform.settings = platform.settings.model_copy(update={"api_key": SecretStr("right")})
    async with opened(platform, tmp_path / "profile") as page:
        await page.tab.until("document.getElementById('key-dialog')?.open")

        await page.tab.value(
            "document.getElementById('key-input').value = 'right',"
            "document.querySelector('#key-dialog [value=ok]').click()"
        )

        await page.tab.until("window.scizor.wire.state === 'open' && window.scizor.chosen.id")
