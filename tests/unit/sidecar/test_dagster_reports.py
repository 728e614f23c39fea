"""What Dagster is told, by a webserver that is there, away, or refuses."""

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
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
        self.refuses = ""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.is_away:
            raise httpx.ConnectError("connection refused")
        asset = request.url.path.removeprefix("/report_asset_materialization/")
        if asset == self.refuses:
            return httpx.Response(500)
        if self.status == 200:
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
    assert ticks["feeds"] == bars["feeds"] == ["kraken"]


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


def test_what_was_told_is_not_told_again_because_the_rest_was_refused(tmp_path: Path):
    async def act(played: Played, webserver: Webserver) -> None:
        webserver.refuses = "streaming/live_bars"
        played.trade(1)
        played.pipeline.step()
        played.close_first_minute()
        played.reports.stored_until(BTC, played.noon + 60 * SECOND)
        await played.reports.tell()
        webserver.refuses = ""
        await played.reports.tell()

    webserver = play(tmp_path, act)

    assert [told["trades"] for told in of(webserver, "streaming/live_ticks")] == [1]
    assert [told["bars"] for told in of(webserver, "streaming/live_bars")] == [1]


def test_what_an_earlier_process_left_is_told_once_though_the_next_is_killed(tmp_path: Path):
    async def ends(played: Played, webserver: Webserver) -> None:
        webserver.is_away = True
        played.trade(1)
        played.pipeline.step()
        await played.reports.flush()

    async def is_killed(played: Played, _: Webserver) -> None:
        await played.reports.tell()

    play(tmp_path, ends)
    play(tmp_path, is_killed)

    assert play(tmp_path, is_killed).told == []


def test_bars_that_are_on_disk_at_the_end_are_told_when_the_next_process_stores_them(
    tmp_path: Path,
):
    async def ends(played: Played, _: Webserver) -> None:
        played.trade(1)
        played.pipeline.step()
        played.close_first_minute()
        await played.reports.flush()

    async def begins(played: Played, _: Webserver) -> None:
        await played.reports.tell()
        played.reports.stored_until(BTC, played.noon + 60 * SECOND)
        await played.reports.tell()

    play(tmp_path, ends)

    assert [
        (told["bars"], told["symbols"])
        for told in of(play(tmp_path, begins), "streaming/live_bars")
    ] == [(1, ["BTC/USD"])]


def test_a_revised_bar_is_not_told_of_before_the_revision_is_stored(tmp_path: Path):
    told: list[int] = []

    async def act(played: Played, webserver: Webserver) -> None:
        played.trade(1)
        played.pipeline.step()
        played.close_first_minute()
        played.reports.stored_until(BTC, played.noon + 60 * SECOND)
        await played.reports.tell()
        # A trade comes late.
        played.trade(2)
        played.pipeline.step()
        for stored in (set[Any](), {(BTC.instrument_id, "1m", played.noon)}):
            played.reports.stored_of = stored.intersection
            await played.reports.tell()
            told.append(len(of(webserver, "streaming/live_bars")))

    play(tmp_path, act)

    assert told == [1, 2]


def test_the_sessions_that_had_bars_are_told_and_none_between(tmp_path: Path):
    async def act(played: Played, webserver: Webserver) -> None:
        webserver.is_away = True
        for second in (1, 2):
            played.trade(second)
            played.pipeline.step()
            played.close_first_minute()
            played.reports.stored_until(BTC, played.noon + 60 * SECOND)
            await played.reports.flush()
            played.clock.at += timedelta(days=3)
            played.noon += 3 * 86_400 * SECOND
        webserver.is_away = False
        await played.reports.tell()

    (bars,) = of(play(tmp_path, act), "streaming/live_bars")

    assert bars["sessions"] == ["2026-03-02", "2026-03-05"]


def test_what_is_stored_in_the_last_moment_is_told(tmp_path: Path):
    async def act(played: Played, _: Webserver) -> None:
        async def store() -> None:
            played.reports.stored_until(BTC, played.noon + 60 * SECOND)

        played.reports.settled = store
        played.trade(1)
        played.pipeline.step()
        played.close_first_minute()
        await played.reports.flush()

    assert [told["bars"] for told in of(play(tmp_path, act), "streaming/live_bars")] == [1]


def test_a_disk_that_takes_nothing_does_not_end_the_telling(tmp_path: Path):
    async def ends(played: Played, webserver: Webserver) -> None:
        webserver.is_away = True
        played.trade(1)
        played.pipeline.step()
        await played.reports.flush()

    async def begins(played: Played, _: Webserver) -> None:
        file = tmp_path / "reports.json"
        file.unlink()
        # What cannot be unlinked nor written stands for a disk that takes nothing.
        file.mkdir()
        await played.reports.tell()
        assert "reports.json" in played.reports.problem

    play(tmp_path, ends)

    assert len(of(play(tmp_path, begins), "streaming/live_ticks")) == 1
