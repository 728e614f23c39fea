"""What Dagster is told, by a webserver that is there, away, or refuses."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from scizor_sidecar.dagster_reports import DagsterReports
from scizor_sidecar.pipeline import FeedPipeline
from tests.unit.sidecar.fakes import BTC, ETH, Clock

SECOND = 1_000_000
Told = list[tuple[str, dict[str, Any]]]


class Webserver:
    """Keeps what it is told; away while it is told to be."""

    def __init__(self) -> None:
        self.told: Told = []
        self.types: set[str] = set()
        self.is_away = False
        self.status = 200

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.is_away:
            raise httpx.ConnectError("connection refused")
        if self.status == 200:
            asset = request.url.path.removeprefix("/report_asset_materialization/")
            self.types.add(request.headers["content-type"])
            self.told.append((asset, json.loads(request.content)["metadata"]))
        return httpx.Response(self.status, text="{}")


class Played:
    """A pipeline with reports behind it, at 12:00 UTC."""

    def __init__(self, folder: Path, webserver: Webserver) -> None:
        self.clock = Clock()
        client = httpx.AsyncClient(transport=httpx.MockTransport(webserver))
        self.reports = DagsterReports(
            lambda: "http://127.0.0.1:3000", folder, self.clock.now, client=client
        )
        self.pipeline = FeedPipeline("kraken", [self.reports], self.clock.now)
        self.noon = round(self.clock.at.timestamp()) * SECOND

    def trade(self, seconds: float, stream: Any = BTC, price: float = 10.0) -> None:
        at = self.noon + round(seconds * SECOND)
        self.pipeline.trades([stream], [at], [price], [1.0], [round(seconds * 10) + 1])

    def close_first_minute(self) -> None:
        self.pipeline.engine.close_until(self.noon + 60 * SECOND)
        self.pipeline.step()


def play(folder: Path, act: Callable[[Played, Webserver], Any]) -> Webserver:
    webserver = Webserver()

    async def go() -> None:
        played = Played(folder, webserver)
        await act(played, webserver)
        await played.reports.close()

    asyncio.run(go())
    return webserver


def of(webserver: Webserver, asset: str) -> list[dict[str, Any]]:
    return [told for each, told in webserver.told if each == asset]


def test_trades_and_the_bars_that_are_stored_are_told(tmp_path: Path):
    async def act(played: Played, _: Webserver) -> None:
        played.trade(1)
        played.trade(2, ETH)
        played.trade(3, price=-1)
        played.pipeline.step()
        played.close_first_minute()
        for stream in (BTC, ETH):
            played.reports.stored_until(stream, played.noon + 60 * SECOND)
        await played.reports.tell()

    webserver = play(tmp_path, act)

    (ticks,), (bars,) = of(webserver, "streaming/live_ticks"), of(webserver, "streaming/live_bars")
    assert (ticks["market"], ticks["trades"], ticks["quarantined"]) == ("crypto", 2, 1)
    assert (bars["bars"], bars["symbols"]) == (2, ["BTC/USD", "ETH/USD"])
    assert bars["first_ts"] == bars["last_ts"] == "2026-03-02T12:00:00Z"
    assert bars["timeframes"] == ["1m"]


def test_the_content_type_is_the_one_that_dagster_takes(tmp_path: Path):
    async def act(played: Played, _: Webserver) -> None:
        played.trade(1)
        played.pipeline.step()
        await played.reports.tell()

    assert play(tmp_path, act).types == {"application/json"}


def test_a_bar_is_not_told_of_before_it_is_stored(tmp_path: Path):
    async def act(played: Played, _: Webserver) -> None:
        played.trade(1)
        played.pipeline.step()
        played.close_first_minute()
        await played.reports.tell()

    assert of(play(tmp_path, act), "streaming/live_bars") == []


def test_what_could_not_be_told_is_told_together_later(tmp_path: Path):
    async def act(played: Played, webserver: Webserver) -> None:
        webserver.is_away = True
        for second in (1, 2, 3):
            played.trade(second)
            played.pipeline.step()
            await played.reports.tell()
        webserver.is_away = False
        await played.reports.tell()
        await played.reports.tell()

    webserver = play(tmp_path, act)

    assert [told["trades"] for told in of(webserver, "streaming/live_ticks")] == [3]


def test_a_refusal_is_kept_as_an_absence_is(tmp_path: Path):
    async def act(played: Played, webserver: Webserver) -> None:
        webserver.status = 500
        played.trade(1)
        played.pipeline.step()
        await played.reports.tell()
        assert "500" in played.reports.problem
        webserver.status = 200
        await played.reports.tell()
        assert played.reports.problem == ""

    assert len(of(play(tmp_path, act), "streaming/live_ticks")) == 1


def test_what_is_left_at_the_end_is_told_by_the_next_process(tmp_path: Path):
    async def ends(played: Played, webserver: Webserver) -> None:
        webserver.is_away = True
        played.trade(1)
        played.pipeline.step()
        await played.reports.flush()

    async def begins(played: Played, _: Webserver) -> None:
        await played.reports.tell()

    play(tmp_path, ends)

    assert [told["trades"] for told in of(play(tmp_path, begins), "streaming/live_ticks")] == [1]
