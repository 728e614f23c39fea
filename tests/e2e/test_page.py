"""The page in a real browser: what a trader sees when data flows, and when it does not."""

import asyncio
import json
import os
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e import chromium
from tests.e2e.chromium import Tab
from tests.e2e.page_server import PageServer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.anyio,
    pytest.mark.skipif(chromium.find() is None, reason="there is no Chromium on this machine"),
]

#: Where pictures are written to: SCIZOR_PAGE_IMAGES=docs/images makes those of the documentation.
IMAGES = os.environ.get("SCIZOR_PAGE_IMAGES")
#: The issue's own limit for a cut feed.
SHOWN_WITHIN_SECONDS = 5
LAST_BAR = "window.scizor.chart.bars.at(-1)"
WIDE = (1440, 900)
PHONE = (390, 844)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Opened:
    """The page in a browser, and the server that it looks at."""

    tab: Tab
    server: PageServer
    url: str

    async def go(self) -> None:
        await self.tab.call("Page.navigate", url=self.url)
        await self.tab.until("window.scizor?.chart.bars.length > 300")
        await self.tab.until("window.scizor.wire.state === 'open'")

    async def picture(self, name: str) -> None:
        if IMAGES:
            # A second round of figures and the theme's last frame.
            count = await self.tab.value("window.scizor.wire.counts.messages")
            await self.tab.until(f"window.scizor.wire.counts.messages > {count + 600}")
            await self.tab.picture(Path(IMAGES) / name)


@asynccontextmanager
async def opened(profile: Path, api_key: str | None = None) -> AsyncIterator[Opened]:
    server = PageServer(api_key=api_key)
    runner, port = await server.start()
    trading = asyncio.create_task(server.run())
    try:
        async with chromium.tab(profile) as tab:
            await tab.viewport(*WIDE)
            yield Opened(tab, server, f"http://127.0.0.1:{port}/")
    finally:
        trading.cancel()
        with suppress(asyncio.CancelledError):
            await trading
        await runner.cleanup()


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Opened]:
    async with opened(tmp_path / "profile") as found:
        await found.go()
        yield found


async def test_the_running_candle_moves(page: Opened) -> None:
    state = f"JSON.stringify([{LAST_BAR}.c, {LAST_BAR}.v])"
    before = json.dumps(await page.tab.value(state))

    await page.tab.until(f"{LAST_BAR}.state === 'forming'")
    await page.tab.until(f"{state} !== {before}")

    pixels = "[...document.querySelectorAll('#plot canvas')].map((each) => each.toDataURL()).join()"
    await page.tab.value(f"window.before = {pixels}, 0")
    await page.tab.until(f"{pixels} !== window.before")


async def test_a_cut_feed_is_shown_within_five_seconds(page: Opened) -> None:
    await page.server.cut("ibkr", "socket closed by peer")

    await page.tab.until(
        "document.getElementById('banner-text').textContent.includes('ibkr (asx) is cut')"
        " && document.querySelector('#badges .cut')"
        " && document.querySelector('[data-id=\"asx:CBA\"]').dataset.fresh === 'cut'",
        SHOWN_WITHIN_SECONDS,
    )

    other = "document.querySelector('[data-id=\"crypto:BTC/USD\"]').dataset.fresh"
    assert await page.tab.value(other) == "fresh"


async def test_a_feed_that_is_back_takes_the_warning_away(page: Opened) -> None:
    await page.server.cut("ibkr", "socket closed by peer")
    await page.tab.until("!document.getElementById('banner').hidden")

    await page.server.restore("ibkr")

    await page.tab.until("document.getElementById('banner').hidden")
    await page.tab.until(
        "document.querySelector('[data-id=\"asx:CBA\"]').dataset.fresh === 'fresh'"
    )


async def test_a_sidecar_that_hangs_is_shown_within_five_seconds(page: Opened) -> None:
    page.server.is_silent = True

    await page.tab.until(
        "document.getElementById('banner-text').textContent.startsWith('No connection')",
        SHOWN_WITHIN_SECONDS,
    )


async def test_after_a_cut_the_page_asks_for_what_came_after_the_last_number(page: Opened) -> None:
    await page.tab.until("window.scizor.wire.sequences.has('bars|asx:CBA|1m')")
    page.server.resumed.clear()

    await page.server.drop_clients()

    await page.tab.until("window.scizor.wire.counts.reconnects > 0")
    await page.tab.until("window.scizor.wire.state === 'open'")
    assert {"bars|asx:CBA|1m", "ticks|crypto:BTC/USD", "book|asx:WBC"} <= page.server.resumed.keys()


async def test_simulated_and_sampled_prices_are_marked(page: Opened) -> None:
    kind = "document.querySelector('[data-id=\"{}\"]').dataset.kind"
    assert await page.tab.value(kind.format("asx:ZIP")) == "simulated"
    assert await page.tab.value(kind.format("crypto:SOL/USD")) == "sampled"

    await page.tab.value("document.querySelector('[data-id=\"asx:ZIP\"]').click()")

    await page.tab.until("document.querySelector('#badges .simulated')")


async def test_an_instrument_of_which_only_a_sample_comes_is_marked_at_once(page: Opened) -> None:
    kind = "document.querySelector('[data-id=\"{}\"]').dataset.kind"
    await page.tab.value("document.querySelector('[data-id=\"asx:CSL\"]').click()")
    await page.tab.until("window.scizor.chart.symbol === 'asx:CSL'")
    assert await page.tab.value(kind.format("asx:CSL")) == "real"

    await page.server.limit(["asx:CSL"], {})

    await page.tab.until(kind.format("asx:CSL") + " === 'sampled'", SHOWN_WITHIN_SECONDS)
    await page.tab.until("document.querySelector('#badges .sampled')")
    assert await page.tab.value(kind.format("asx:CBA")) == "real"


async def test_an_order_book_that_does_not_come_is_named_with_the_reason(page: Opened) -> None:
    await page.tab.until("document.querySelectorAll('#depth .ladder').length === 3")

    await page.server.limit([], {"asx:BHP": "ibkr: error 309 <b>no more</b>"})

    await page.tab.until(
        "document.querySelector('#depth .missing')?.textContent"
        ".includes('BHP no order book: ibkr: error 309 <b>no more</b>')",
        SHOWN_WITHIN_SECONDS,
    )
    await page.tab.until("document.querySelectorAll('#depth .ladder').length === 2")


async def test_markup_in_names_and_events_stays_text(page: Opened) -> None:
    text = "<img src=x onerror=window.broken=1>"
    page.server.papers["asx:BHP"].name = text
    await page.server.tell({**page.server.alerts[0], "id": 99, "title": text})

    await page.tab.value("document.querySelector('[data-id=\"asx:BHP\"]').click()")

    await page.tab.until("document.getElementById('alerts').textContent.includes('onerror')")
    await page.tab.until("document.getElementById('catalysts').textContent.includes('onerror')")
    assert await page.tab.value("window.broken ?? null") is None


async def test_nobody_else_is_asked_for_anything(page: Opened) -> None:
    await page.tab.until("window.scizor.wire.counts.messages > 500")

    asked = [each for each in page.tab.requested if not each.startswith("data:")]
    assert [each for each in asked if not each.startswith(page.url)] == []
    assert page.tab.errors == []


async def test_a_key_is_asked_for_and_kept(tmp_path: Path) -> None:
    async with opened(tmp_path / "profile", api_key="right") as page:
        await page.tab.call("Page.navigate", url=page.url)
        await page.tab.until("document.getElementById('key-dialog')?.open")

        await page.tab.value(
            "document.getElementById('key-input').value = 'right',"
            "document.querySelector('#key-dialog [value=ok]').click()"
        )

        await page.tab.until("window.scizor.wire.state === 'open'")
        await page.tab.until("window.scizor.chart.bars.length > 300")


async def test_every_view_fits_on_a_phone(page: Opened) -> None:
    await page.tab.viewport(*PHONE, scale=2, mobile=True)
    await page.go()

    wide = []
    for view in ("watch", "depth", "health", "chart"):
        await page.tab.value(f"document.querySelector('#tabs [data-view={view}]').click()")
        await page.tab.until(f"document.body.dataset.view === '{view}'")
        await page.tab.value("scrollTo(1000, 0)")
        if await page.tab.value("scrollX + document.documentElement.scrollWidth") > PHONE[0]:
            wide.append(view)

    assert wide == []
    await page.tab.until("window.scizor.wire.counts.messages > 100")
    await page.picture("page-phone.png")


async def test_it_follows_the_system_into_the_dark(page: Opened) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    await page.tab.until("window.scizor.wire.counts.messages > 400")
    await page.tab.scheme("light")
    light = await page.tab.value(ground)
    await page.picture("page.png")

    await page.tab.scheme("dark")

    await page.tab.until(f"{ground} !== {json.dumps(light)}")
    await page.picture("page-dark.png")


async def test_twenty_updates_a_second_of_eighteen_symbols_leave_time_to_draw(
    page: Opened, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = await page.tab.value(_MEASURE)

    frames = sorted(measured["frames"])
    seconds, (work, most_work) = measured["seconds"], measured["work"]
    figures = {
        "messages a second": measured["messages"] / seconds,
        "frames a second": len(frames) / seconds,
        "ms between frames, median": statistics.median(frames),
        "p95": frames[int(len(frames) * 0.95)],
        "longest": frames[-1],
        "ms of work in a frame, median": work,
        "work p95": most_work,
    }
    # Reported, not asserted.
    with capsys.disabled():
        print("\n" + ", ".join(f"{name} {value:.1f}" for name, value in figures.items()))  # noqa: T201
    assert measured["moved"] == len(page.server.papers)


#: Five seconds of frames: their distance, and what preparing one costs.
_MEASURE = """
new Promise((done) => {
  const { model, wire, spent } = window.scizor;
  const frames = [];
  const seen = new Map([...model.symbols].map(([id, one]) => [id, one.lastAt]));
  const begin = performance.now(), messages = wire.counts.messages;
  let before = begin;
  const look = (at) => {
    frames.push(at - before);
    before = at;
    if (at - begin < 5000) { requestAnimationFrame(look); return; }
    const work = [...spent].sort((a, b) => a - b);
    done({
      frames: frames.slice(1), seconds: (at - begin) / 1000,
      messages: wire.counts.messages - messages,
      work: [work[work.length >> 1], work[Math.floor(work.length * 0.95)]],
      moved: [...model.symbols].filter(([id, one]) => one.lastAt > seen.get(id)).length,
    });
  };
  requestAnimationFrame(look);
})
"""
