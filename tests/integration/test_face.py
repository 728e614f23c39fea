"""The face as clients meet it: a real server, real stores, a pipeline that is fed by hand."""

import asyncio
import contextlib
import json
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import pandas as pd
import pytest
from dagster._core.definitions.assets.job.asset_job import IMPLICIT_ASSET_JOB_NAME
from pydantic import SecretStr
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from scizor_core.alerts import Severity
from scizor_resources.platform import Platform
from scizor_sidecar.face import realtime
from scizor_sidecar.face.app import make_app
from scizor_sidecar.face.hub import Hub
from scizor_sidecar.face.server import FaceServer
from scizor_sidecar.face.state import FaceState
from scizor_sidecar.face.stored import StoredHistory
from scizor_sidecar.face.threads import Threads
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.feeds.connection import FeedState
from scizor_sidecar.pipeline import FeedPipeline
from tests.integration.helpers import execute
from tests.unit.sidecar.fakes import eventually

pytestmark = pytest.mark.anyio

SECOND = 1_000_000
#: In the session of the ASX: Friday noon in Sydney.
NOON = datetime(2026, 11, 20, 1, 0, tzinfo=UTC)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Face:
    """A running face and what is behind it."""

    platform: Platform
    state: FaceState
    server: FaceServer
    pipeline: FeedPipeline
    http: httpx.AsyncClient
    number: int = 0
    streams: dict[str, Stream] = field(default_factory=dict)

    def stream(self, symbol: str) -> Stream:
        if symbol not in self.streams:
            (known,) = self.platform.reference.resolve("asx", [symbol])
            self.streams[symbol] = Stream("asx", symbol, known.instrument_id, symbol == "CBA")
        return self.streams[symbol]

    def trade(self, symbol: str, *prices: float, seconds: float = 0) -> None:
        rows, at = len(prices), round((NOON.timestamp() + seconds) * SECOND)
        numbers = range(self.number, self.number + rows)
        self.number += rows
        streams = [self.stream(symbol)] * rows
        self.pipeline.trades(streams, [at] * rows, prices, [100] * rows, numbers)
        self.pipeline.step(last=True)

    @asynccontextmanager
    async def socket(self, **kept: Any) -> AsyncIterator[ClientConnection]:
        url = self.server.url.replace("http", "ws") + "/ws/realtime"
        async with connect(url, **{"compression": None, "max_size": None, **kept}) as found:
            yield found


@asynccontextmanager
async def a_face(platform: Platform, **kept: Any) -> AsyncIterator[Face]:
    platform.now = lambda: NOON
    hub = Hub(platform.now, StoredHistory(platform))
    pipeline = FeedPipeline("ibkr", [hub], platform.now)
    pipeline.connecting()
    pipeline.connected()
    state = FaceState(platform, hub, {"ibkr": pipeline}, now=platform.now, **kept)
    app = make_app(state)
    server = FaceServer(app)
    tasks = [asyncio.ensure_future(hub.run()), asyncio.ensure_future(server.run())]
    try:
        await server.started.wait()
        async with httpx.AsyncClient(base_url=server.url, timeout=20) as http:
            yield Face(platform, state, server, pipeline, http)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def face(platform: Platform) -> AsyncIterator[Face]:
    async with a_face(platform) as running:
        yield running


async def subscribe(connection: ClientConnection, *symbols: str, **fields: Any) -> None:
    await connection.send(json.dumps({"op": "subscribe", "symbols": symbols, **fields}))


async def next_of(connection: ClientConnection, kind: str, **fields: Any) -> dict[str, Any]:
    """Return the next message of a type, and with those values."""
    async with asyncio.timeout(20):
        while True:
            message = json.loads(await connection.recv())
            if message["type"] == kind and fields.items() <= message.items():
                return message


def store_bars(platform: Platform, *times: str, symbol: str = "CBA", price: float = 100.0) -> None:
    """Store 1m bars with that close."""
    market = "crypto" if "/" in symbol else "asx"
    instrument, _ = platform.reference.ensure(market, symbol)
    rows = len(times)
    column = {name: [price] * rows for name in ("open", "high", "low", "close", "vwap")}
    ts = pd.DatetimeIndex(pd.to_datetime(list(times), utc=True)).as_unit("us")
    days = pd.DatetimeIndex(ts.date).as_unit("us")
    platform.warehouse.write_bars(
        pd.DataFrame(
            {
                "instrument_id": instrument.instrument_id,
                "timeframe": pd.Series(["1m"] * rows, dtype="str"),
                "ts": ts,
                "session_date": days,
                **column,
                "volume": [10.0] * rows,
                "trade_count": pd.Series([3] * rows, dtype="Int64"),
                "adj_close": [float("nan")] * rows,
                "source": pd.Series(["tape/test"] * rows, dtype="str"),
                "is_final": True,
            }
        )
    )


# ---- bars


async def test_the_last_bars_are_the_stored_ones_and_the_running_one(face: Face):
    store_bars(face.platform, "2026-11-20T00:58Z", "2026-11-20T00:59Z")
    face.trade("CBA", 170.5)

    answer = (await face.http.get("/api/market/symbols/CBA/latest?limit=2")).json()

    assert [bar["t"] for bar in answer["bars"]] == ["2026-11-20T00:59:00Z", "2026-11-20T01:00:00Z"]
    assert [bar["state"] for bar in answer["bars"]] == ["closed", "forming"]
    assert (answer["live"], answer["sources"]) == (1, {"tape/test": 1, "ibkr": 1})


async def test_a_bar_that_trades_are_missing_of_gives_way_to_one_that_is_stored_for_good(
    face: Face,
):
    face.trade("CBA", 170.5)
    number = face.pipeline.number(face.stream("CBA"))
    face.pipeline.engine.begin_outage([number], round(NOON.timestamp() * SECOND))
    face.pipeline.step(last=True)
    before = (await face.http.get("/api/market/symbols/CBA/latest")).json()
    store_bars(face.platform, "2026-11-20T01:00Z")

    after = (await face.http.get("/api/market/symbols/CBA/latest")).json()

    found = [[(bar["state"], bar["c"]) for bar in each["bars"]] for each in (before, after)]
    assert found == [[("provisional", 170.5)], [("closed", 100.0)]]
    assert after["sources"] == {"tape/test": 1}


async def test_a_window_says_which_tier_has_answered(face: Face):
    store_bars(face.platform, "2026-11-20T00:58Z", "2026-11-20T00:59Z")

    answer = (
        await face.http.get(
            "/api/market/symbols/asx:CBA/bars",
            params={"timeframe": "1m", "start": "2026-11-20", "end": "2026-11-20T00:59Z"},
        )
    ).json()

    assert answer["tier"] in ("warm", "hot")
    assert [bar["c"] for bar in answer["bars"]] == [100.0]


async def test_a_pair_can_be_written_in_an_address(face: Face):
    store_bars(face.platform, "2026-11-20T00:58Z", symbol="BTC/USD")
    names = ["BTC/USD", "BTC-USD", "crypto:BTC-USD", "btc%2Fusd"]

    answers = [(await face.http.get(f"/api/market/symbols/{name}/latest")).json() for name in names]

    assert [(each["symbol"], each["count"]) for each in answers] == [("BTC/USD", 1)] * len(names)


async def test_bars_come_with_their_indicators_where_asked(face: Face):
    store_bars(face.platform, "2026-11-20T00:58Z")

    answer = await face.http.get(
        "/api/market/symbols/CBA/bars?timeframe=1m&indicators=true&start=2026-11-20"
    )
    alone = await face.http.get("/api/market/symbols/CBA/indicators?timeframe=1m&names=sma_20,vwap")

    assert answer.json()["bars"][0]["i"]["sma_20"] is None
    assert alone.json()["indicators"] == [
        {"t": "2026-11-20T00:58:00Z", "values": {"sma_20": None, "vwap": None}}
    ]


async def test_an_empty_answer_says_why(face: Face):
    answer = (await face.http.get("/api/market/symbols/BHP/bars?timeframe=1m")).json()

    assert answer["count"] == 0
    assert "No 1m bar of BHP is stored" in answer["empty_reason"]


BAD_REQUESTS = [
    ("/api/market/symbols/NOSUCH/latest", 404),
    ("/api/market/symbols/CBA/latest?market=nyse", 404),
    ("/api/market/symbols/CBA/latest?limit=0", 422),
    ("/api/market/symbols/CBA/latest?limit=1e9", 422),
    ("/api/market/symbols/CBA/latest?timeframe=2m", 422),
    ("/api/market/symbols/CBA%00/latest", 422),
    ("/api/market/symbols/%F0%9F%90%83/latest", 422),
    ("/api/market/symbols/..%2F..%2Fetc%2Fpasswd/latest", 422),
    ("/api/market/symbols/" + "A" * 5000 + "/latest", 422),
    ("/api/market/symbols/CBA/bars?start=0001-01-01", 422),
    ("/api/market/symbols/CBA/bars?start=9999-12-31T23:59:59-23:59", 422),
    ("/api/market/symbols/CBA/bars?start=2026-11-20T10:00", 422),
    ("/api/market/symbols/CBA/bars?start=2026-11-20&end=2026-11-20", 422),
    ("/api/market/symbols/CBA/bars?start=yesterday", 422),
    ("/api/market/symbols/CBA/indicators?names=gold", 422),
    ("/api/market/symbols/CBA/catalysts?min_impact=11", 422),
    ("/api/v1/collectors/data/catalyst/events?hours=99999999999999999999", 422),
    ("/api/v1/collectors/data/glass/protocols?days=nan", 422),
    ("/api/v1/collectors/data/glass/protocols?protocol=%00", 422),
    ("/api/watchlist?market=lse", 404),
    ("/api/nothing", 404),
]


async def test_a_bad_request_is_told_what_is_wrong_and_what_to_do(face: Face):
    answers = {path: await face.http.get(path) for path, _ in BAD_REQUESTS}

    assert {path: each.status_code for path, each in answers.items()} == dict(BAD_REQUESTS)
    assert all(set(each.json()) == {"error", "what_to_do"} for each in answers.values())


# ---- watchlist


async def test_the_watchlist_has_live_prices_and_their_change(face: Face):
    store_bars(face.platform, "2026-11-19T04:59Z", price=100.0)
    face.trade("CBA", 171.0)

    answer = (await face.http.get("/api/watchlist")).json()

    (entry,) = [each for each in answer["entries"] if each["symbol"] == "CBA"]
    assert (entry["price"], entry["source"]) == (171.0, "ibkr")
    assert (entry["is_live"], entry["feed"], entry["depth"]) == (True, "ibkr", True)
    assert (entry["freshness"], entry["market_open"]) == ("fresh", True)
    assert entry["price_at"] == "2026-11-20T01:00:00Z"


async def test_samples_and_missing_order_books_are_told_over_every_way(face: Face):
    async with face.socket() as connection:
        first = await next_of(connection, "limits")
        face.pipeline.limited([face.stream("CSL")], {face.stream("CBA"): "error 309"})
        changed = await next_of(connection, "limits")
        face.trade("CSL", 300.0)
        await subscribe(connection, "asx:CSL")
        bars = await next_of(connection, "snapshot", key="bars|asx:CSL|1m")
    async with face.socket() as connection:
        later = await next_of(connection, "limits")
    answer = (await face.http.get("/api/watchlist?market=asx")).json()

    told = {"type": "limits", "sampled": ["asx:CSL"], "without_book": {"asx:CBA": "error 309"}}
    assert first == {"type": "limits", "sampled": [], "without_book": {}}
    assert (changed, later) == (told, told)
    assert bars["data"][-1]["source"] == "ibkr:sampled"
    entries = {each["symbol"]: each for each in answer["entries"]}
    assert [each for each, entry in entries.items() if entry["is_sampled"]] == ["CSL"]
    assert {each: entry["no_book"] for each, entry in entries.items() if entry["no_book"]} == {
        "CBA": "error 309"
    }
    assert (entries["CSL"]["feed"], entries["CSL"]["source"]) == ("ibkr", "ibkr:sampled")


async def test_a_symbol_is_added_changed_and_removed(face: Face):
    added = await face.http.post("/api/watchlist", json={"market": "us", "symbol": "aapl"})
    again = await face.http.post("/api/watchlist", json={"market": "us", "symbol": "AAPL"})
    changed = await face.http.patch("/api/watchlist/us/AAPL", json={"tier": 1, "notes": "x"})
    removed = await face.http.delete("/api/watchlist/us/AAPL")
    gone = await face.http.delete("/api/watchlist/us/AAPL")

    codes = [each.status_code for each in (added, again, changed, removed, gone)]
    assert codes == [201, 409, 200, 200, 404]
    assert (changed.json()["tier"], changed.json()["notes"]) == (1, "x")


async def test_of_several_who_add_one_symbol_at_once_one_has_added_it(face: Face):
    body = {"market": "us", "symbol": "MSFT"}

    answers = await asyncio.gather(*(face.http.post("/api/watchlist", json=body) for _ in range(8)))

    assert sorted(each.status_code for each in answers) == [201, *[409] * 7]
    listed = (await face.http.get("/api/watchlist?market=us")).json()["entries"]
    assert [each["symbol"] for each in listed].count("MSFT") == 1


async def test_a_pair_is_watched_by_an_address_with_a_dash(face: Face):
    await face.http.post("/api/watchlist", json={"market": "crypto", "symbol": "SOL/USD"})

    changed = await face.http.patch("/api/watchlist/crypto/SOL-USD", json={"active": False})

    assert (changed.json()["symbol"], changed.json()["active"]) == ("SOL/USD", False)


async def test_what_cannot_be_watched_is_refused(face: Face):
    bodies: list[Any] = [
        {},
        {"symbol": "TOO LONG A NAME"},
        {"symbol": "CBA", "tier": 4},
        {"symbol": "CBA", "market": 3},
        {"symbol": "CSL", "notes": "\x00"},
        {"symbol": "CSL", "unknown": 1},
        {"symbol": "CSL", "tier": True},
        {"symbol": "CSL", "active": "no"},
        [],
        "CBA",
    ]

    answers = [await face.http.post("/api/watchlist", json=body) for body in bodies]

    assert [each.status_code for each in answers] == [422] * len(bodies)
    assert all(set(each.json()) == {"error", "what_to_do"} for each in answers)


# ---- collectors, alerts, figures


async def test_events_come_with_the_bar_that_could_first_trade_on_them(face: Face):
    instrument_id = face.stream("CBA").instrument_id
    execute(
        face.platform,
        "WITH e AS (INSERT INTO public.catalyst_events (source, source_id, type, title, "
        "description, url, form, items, accepted_text, published_at, detected_at, impact, "
        "is_amendment, amends) VALUES ('edgar', '1', 'earnings', 'Results', '', '', '8-K', '', "
        "'', '2026-11-20T00:30Z', '2026-11-20T00:30Z', 8, false, '') RETURNING catalyst_event_id) "
        "INSERT INTO public.catalyst_event_instruments SELECT catalyst_event_id, %s, "
        "'2026-11-20T00:31Z' FROM e",
        instrument_id,
    )

    of_symbol = (await face.http.get("/api/market/symbols/CBA/catalysts?min_impact=8")).json()
    all_of_them = (
        await face.http.get("/api/v1/collectors/data/catalyst/events?min_impact=5&hours=2")
    ).json()

    assert [(each["t"], each["title"]) for each in of_symbol["events"]] == [
        ("2026-11-20T00:31:00Z", "Results")
    ]
    assert [each["symbols"] for each in all_of_them["events"]] == [["CBA"]]


async def test_collectors_say_how_they_are_and_feeds_too(face: Face):
    answer = (await face.http.get("/api/v1/collectors/health")).json()

    states = {each["name"]: each["state"] for each in answer["collectors"]}
    assert (states["defillama"], states["glassnode"]) == ("waiting", "not set up")
    assert [each["state"] for each in answer["feeds"]] == ["connected"]


async def test_a_collector_that_cannot_be_started_says_why(face: Face):
    # Not set up; unknown; the UI is away.
    wanted = {"glassnode": 409, "no_such": 422, "defillama": 503}

    answers = {name: await face.http.post(f"/api/v1/collectors/{name}/trigger") for name in wanted}

    assert {name: each.status_code for name, each in answers.items()} == wanted
    assert all(set(each.json()) == {"error", "what_to_do"} for each in answers.values())


async def test_a_collector_is_started_by_a_run_of_its_asset(
    face: Face,
):
    asked: list[dict[str, Any]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length:")[2].split()[0])
        asked.append(json.loads(await reader.readexactly(length))["variables"]["params"])
        told = {"__typename": "LaunchRunSuccess", "run": {"runId": "abc"}}
        body = json.dumps({"data": {"launchPipelineExecution": told}}).encode()
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as webserver:
        port = webserver.sockets[0].getsockname()[1]
        face.platform.settings = face.platform.settings.model_copy(update={"ui_port": port})
        answer = await face.http.post("/api/v1/collectors/defillama/trigger")
        again = await face.http.post("/api/v1/collectors/defillama/trigger")

    assert (answer.status_code, again.status_code) == (202, 429)
    assert answer.json()["run_id"] == "abc"
    (params,) = asked
    assert params["selector"]["pipelineName"] == IMPLICIT_ASSET_JOB_NAME
    assert params["selector"]["assetSelection"] == [{"path": ["glass", "protocol_fundamentals"]}]
    assert params["runConfigData"]["ops"] == {
        "glass__protocol_fundamentals": {"config": {"sources": ["defillama"], "lane": "live"}}
    }
    assert {"key": "dagster/partition", "value": "2026-11-20"} in params["executionMetadata"][
        "tags"
    ]


async def test_the_name_that_it_was_told_to_listen_on_is_a_name_of_it(platform: Platform):
    async with a_face(platform, host="box.lan") as face:
        answers = [
            await face.http.get("/api/watchlist", headers={"host": name})
            for name in ("box.lan:8790", "evil.example:8790")
        ]

    assert [each.status_code for each in answers] == [200, 403]


async def test_a_collector_whose_start_is_not_answered_in_time_is_not_started_again(
    platform: Platform,
):
    asked: list[int] = []
    goes_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.append(1)
        await goes_on.wait()
        writer.close()

    async with (
        await asyncio.start_server(serve, "127.0.0.1", 0) as webserver,
        a_face(platform, threads=Threads(timeout_seconds=0.5)) as face,
    ):
        port = webserver.sockets[0].getsockname()[1]
        face.platform.settings = face.platform.settings.model_copy(update={"ui_port": port})
        answer = await face.http.post("/api/v1/collectors/defillama/trigger")
        again = await face.http.post("/api/v1/collectors/defillama/trigger")
        await eventually(lambda: bool(asked))
        goes_on.set()

    assert (answer.status_code, again.status_code) == (503, 429)
    assert "database" not in answer.json()["error"]
    assert asked == [1]


async def test_an_alert_is_told_to_clients_and_can_be_acknowledged(face: Face):
    face.platform.alerts.raise_("run_failed", Severity.HIGH, "A run failed.", ("asx/bars_1m",))
    async with face.socket() as connection:
        alert = await next_of(connection, "alert")
        answer = await face.http.post(f"/api/alerts/{alert['id']}/acknowledge", json={"by": "me"})
        changed = await next_of(connection, "alert", acknowledged=True)

    assert answer.json() == {"id": alert["id"], "changed": True}
    assert changed["title"] == "A run failed."
    assert (await face.http.post("/api/alerts/999999/acknowledge")).status_code == 404


async def test_figures_have_thresholds_and_a_state(face: Face):
    answer = (await face.http.get("/api/metrics")).json()

    by_name = {each["name"]: each for each in answer["kpis"]}
    assert by_name["data_latency_ms"]["thresholds"] == {"high": 500.0, "critical": 2000.0}
    assert by_name["data_latency_ms"]["state"] == "unknown"
    assert "scizor_face_messages" in (await face.http.get("/metrics")).text


async def test_ready_says_what_is_away(platform: Platform):
    async with a_face(platform, why_not_ready=lambda: ["the lease is held by another"]) as face:
        answer = await face.http.get("/ready")

        assert answer.status_code == 503
        assert answer.json()["reasons"] == ["the lease is held by another"]
        assert (await face.http.get("/health")).status_code == 200


async def test_the_page_and_the_documentation_load_nothing_from_elsewhere(face: Face):
    page, docs = await face.http.get("/"), await face.http.get("/docs")

    assert page.status_code == docs.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "/api/watchlist" in docs.text
    assert (await face.http.get("/app.js")).status_code == 200


# ---- who may ask


@pytest.fixture
async def locked(platform: Platform) -> AsyncIterator[Face]:
    platform.settings = platform.settings.model_copy(update={"api_key": SecretStr("open sesame")})
    async with a_face(platform) as running:
        yield running


async def test_with_a_key_only_the_page_answers_without_it(locked: Face):
    paths = ["/", "/health", "/ready", "/app.js", "/api/watchlist", "/metrics", "/docs"]

    codes = [(await locked.http.get(path)).status_code for path in paths]

    assert codes == [200, 200, 200, 200, 401, 401, 401]
    for header in ({"X-API-Key": "open sesame"}, {"Authorization": "Bearer open sesame"}):
        assert (await locked.http.get("/api/watchlist", headers=header)).status_code == 200
    wrong = {"X-API-Key": "open sesamé".encode()}
    assert (await locked.http.get("/api/watchlist", headers=wrong)).status_code == 401


async def test_a_websocket_says_the_key_first(locked: Face):
    async with locked.socket() as connection:
        assert (await next_of(connection, "hello"))["auth"] == "needed"
        await subscribe(connection, "asx:CBA")
        await next_of(connection, "error", error="The key is missing.")
        await connection.send('{"op": "auth", "key": "open sesame"}')
        await next_of(connection, "hello", auth="done")
        await subscribe(connection, "asx:CBA")
        await next_of(connection, "snapshot")


async def test_a_wrong_key_ends_the_connection(locked: Face):
    async with locked.socket() as connection:
        await connection.send('{"op": "auth", "key": "sesame"}')
        with pytest.raises(ConnectionClosed):
            await next_of(connection, "never")

    assert connection.close_code == 4401


async def test_no_key_in_time_ends_the_connection(locked: Face, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(realtime, "AUTH_SECONDS", 0.05)
    async with locked.socket() as connection:
        with pytest.raises(ConnectionClosed):
            await next_of(connection, "never")

    assert connection.close_code == 4401


async def test_a_page_of_another_site_may_not_ask(face: Face):
    origin = {"Origin": "https://elsewhere.example"}

    codes = [
        (await face.http.post("/api/v1/collectors/defillama/trigger", headers=origin)).status_code,
        (await face.http.get("/api/watchlist", headers={"Host": "elsewhere.example"})).status_code,
    ]
    with pytest.raises(InvalidStatus) as refused:
        async with face.socket(additional_headers=origin):
            pass

    assert codes == [403, 403]
    assert refused.value.response.status_code == 403


# ---- the WebSocket


async def test_a_client_gets_a_snapshot_then_what_changes(face: Face):
    store_bars(face.platform, "2026-11-20T00:59Z")
    async with face.socket() as connection:
        await subscribe(connection, "asx:CBA", channels=["bars", "ticks"])
        snapshot = await next_of(connection, "snapshot", channel="bars")
        face.trade("CBA", 170.0, 171.0)
        bars = await next_of(connection, "delta", channel="bars")

        assert [bar["t"] for bar in snapshot["data"]] == ["2026-11-20T00:59:00Z"]
        assert [(bar["c"], bar["n"], bar["state"]) for bar in bars["data"]] == [
            (171.0, 2, "forming")
        ]
        assert bars["after"] == snapshot["seq"]


async def test_a_client_that_comes_back_goes_on_where_it_was(face: Face):
    async with face.socket() as connection:
        await subscribe(connection, "asx:CBA")
        await next_of(connection, "snapshot")
        face.trade("CBA", 170.0)
        seen = await next_of(connection, "delta")
    face.trade("CBA", 172.0)

    async with face.socket() as connection:
        await subscribe(connection, "asx:CBA", resume={seen["key"]: seen["seq"]})
        delta = await next_of(connection, "delta")

        assert delta["after"] == seen["seq"]
        assert [bar["h"] for bar in delta["data"]] == [172.0]


async def test_msgpack_batches_and_intervals_are_as_asked_for(face: Face):
    async with face.socket() as connection:
        await connection.send(
            msgspec.msgpack.encode(
                {
                    "op": "subscribe",
                    "symbols": ["asx:CBA"],
                    "channels": ["bars", "quality", "ticks"],
                    "format": "msgpack",
                    "batch": True,
                    "interval_ms": 5,
                }
            )
        )
        kinds: list[str] = []
        async with asyncio.timeout(20):
            while kinds.count("snapshot") < 3:
                frame = await connection.recv()
                if isinstance(frame, bytes):
                    kinds += [each["type"] for each in msgspec.msgpack.decode(frame)]

        assert kinds.count("snapshot") == 3


async def test_unsubscribing_ends_what_was_asked_for(face: Face):
    async with face.socket() as connection:
        await subscribe(connection, "asx:CBA", "asx:BHP", timeframes=["1m", "5m"])
        await next_of(connection, "notice", code="subscribed", count=4)
        await connection.send('{"op": "unsubscribe", "symbols": ["asx:CBA"], "timeframes": ["5m"]}')
        await next_of(connection, "notice", code="unsubscribed", count=1)
        await connection.send('{"op": "unsubscribe"}')
        await next_of(connection, "notice", code="unsubscribed", count=3)

    assert face.state.hub.wanted() == frozenset()


async def test_a_symbol_that_cannot_be_followed_is_named_in_an_error(face: Face):
    wrong = {"CBA", "asx:", "lse:CBA", "asx:A B", "asx:NOSUCH", "us:NOSUCH"}
    async with face.socket() as connection:
        await subscribe(connection, *wrong)
        named = {(await next_of(connection, "error"))["symbol"] for _ in wrong}

    assert named == wrong


async def test_a_feed_that_is_cut_is_told_at_once(face: Face):
    async with face.socket() as connection:
        await next_of(connection, "feed", state="connected")
        face.pipeline.disconnected(FeedState.WAITING, "the connection broke")
        cut = await next_of(connection, "feed")

    assert (cut["state"], cut["why"]) == ("waiting", "the connection broke")


async def test_a_client_that_takes_nothing_is_ended_and_holds_up_nobody(
    face: Face, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(realtime, "STALLED_SECONDS", 0.5)
    async with face.socket(max_queue=1) as slow, face.socket() as quick:
        slow.transport.pause_reading()
        slow.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF, 4096
        )
        for connection in (slow, quick):
            await subscribe(connection, "asx:CBA", channels=["ticks"])
        await next_of(quick, "snapshot")
        seen, price = 0, 100.0
        async with asyncio.timeout(60):
            while not face.state.hub.counts.closed_slow:
                price += 0.01
                face.trade("CBA", *[price] * 1000)
                delta = await next_of(quick, "delta")
                seen += len(delta["data"])
                assert delta["data"][-1][1] == price
        # What the quick one got is everything, whatever the slow one did.
        assert seen == face.number

        slow.transport.abort()


async def test_garbage_does_not_end_the_server_and_is_counted(face: Face):
    chance = random.Random(7)
    texts = [
        "",
        "nonsense",
        "{}",
        "[1, 2]",
        '{"op": "subscribe", "symbols": {"a": 1}}',
        '{"op": "subscribe", "symbols": ["asx:CBA"], "timeframes": ["1d"]}',
        "[" * 30_000,
        '{"op": "ping", "x": NaN}',
        "🦂" * 100,
    ]
    sent = 0
    for _ in range(8):
        async with face.socket() as connection:
            for _ in range(60):
                if chance.random() < 0.5:
                    await connection.send(chance.randbytes(chance.randrange(200)))
                else:
                    await connection.send(chance.choice(texts))
                sent += 1
            await connection.send('{"op": "ping"}')
            await next_of_either(connection, "pong")

    counts = face.state.hub.counts
    assert counts.requests == sent + 8
    assert counts.unreadable > 0.9 * sent
    assert (await face.http.get("/health")).json()["clients"] == 0


async def next_of_either(connection: ClientConnection, kind: str) -> None:
    """Wait for a message of a type, JSON or msgpack."""
    async with asyncio.timeout(20):
        while True:
            frame = await connection.recv()
            read = msgspec.json.decode if isinstance(frame, str) else msgspec.msgpack.decode
            if read(frame)["type"] == kind:
                return


async def test_a_huge_message_ends_its_connection_and_no_other(face: Face):
    async with face.socket() as other:
        async with face.socket() as connection:
            with contextlib.suppress(ConnectionClosed):
                await connection.send("x" * 2_000_000)
            await connection.wait_closed()
        assert connection.close_code == 1009

        await other.send('{"op": "ping"}')
        await next_of(other, "pong")


async def test_broken_http_does_not_end_the_server(face: Face):
    host, port = face.server.url.removeprefix("http://").split(":")
    for sent in (
        b"\x00" * 4096,
        b"GET /ws/realtime HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 100_000,
        b"POST /api/watchlist HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        writer.write_eof()
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(5):
                await reader.read()
        writer.close()

    assert (await face.http.get("/health")).status_code == 200


async def test_the_end_of_the_server_is_told_to_clients(platform: Platform):
    async with a_face(platform) as face:
        connection = await connect(face.server.url.replace("http", "ws") + "/ws/realtime")
        await next_of(connection, "hello")

    await connection.wait_closed()
    assert connection.close_code == 1012
