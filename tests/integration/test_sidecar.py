"""The streaming process in one piece: a loopback exchange in, PostgreSQL and Valkey out."""

import asyncio
import contextlib
import json
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis.asyncio

from scizor_core.stream.engine import BarState
from scizor_resources.platform import Platform
from scizor_resources.settings import load_settings
from scizor_resources.streaming import STATE_KEY, read_state
from scizor_sidecar import app
from scizor_sidecar.app import Options, serve
from scizor_sidecar.building import Built, build, folder_of
from scizor_sidecar.event_log import EventLog
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.journal import Journal
from scizor_sidecar.lease import LEASE_SECONDS
from scizor_sidecar.warm_writer import WarmWriter
from tests.contract.lab.trade_tape import TradeTape, make_tape
from tests.contract.lab.ws_exchanges import LoopbackExchange
from tests.integration.streamed import (
    awaited,
    compare,
    is_right,
    recent_tape,
    sidecar,
    stored_bars,
    stream_from,
)
from tests.unit.sidecar.fakes import eventually
from tests.unit.sidecar.streamed import closed

NAMES = ("BTC/USD", "ETH/USD", "SOL/USD", "XRP/USD")
pytestmark = pytest.mark.timeout(240)


def test_what_an_exchange_trades_becomes_the_bars_of_an_independent_count(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape = make_tape(NAMES, 20_000, minutes=40, reorder_seconds=1.5)
    with LoopbackExchange("kraken", tape, repeat_share=0.05) as exchange:
        stream_from(exchange, platform, monkeypatch, NAMES)
        platform.now = lambda: datetime.now(UTC)
        said: list[str] = []

        async def stream() -> None:
            stopping = asyncio.Event()
            task = asyncio.create_task(serve(platform, Options(port=0), said.append, stopping))
            stopper = asyncio.create_task(
                asyncio.to_thread(awaited, lambda: is_right(compare(platform, tape)), 120, 1.0)
            )
            await asyncio.wait([task, stopper], return_when=asyncio.FIRST_COMPLETED)
            stopping.set()
            await asyncio.gather(task, stopper)

        asyncio.run(stream())

    assert is_right(compare(platform, tape)), (compare(platform, tape), said)
    assert is_right(compare(platform, tape, in_valkey=True)), compare(
        platform, tape, in_valkey=True
    )
    assert set(stored_bars(platform, "1m")["source"]) == {"kraken"}


@contextlib.contextmanager
def held_exchange(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[LoopbackExchange, TradeTape]]:
    """Run an exchange that the platform streams from, and that waits after 9,000 of 20,000."""
    tape = recent_tape(NAMES, 20_000, 40)
    with LoopbackExchange("kraken", tape) as exchange:
        exchange.at(9_000, exchange.hold)
        stream_from(exchange, platform, monkeypatch, NAMES)
        yield exchange, tape


@pytest.mark.slow
def test_the_first_signal_ends_it_with_everything_stored_and_another_one_goes_on(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with held_exchange(platform, monkeypatch) as (exchange, tape):
        with sidecar(tmp_path / "first.log") as first:
            assert awaited(lambda: first.streams() and exchange.position == 9_000, 90)
            code = first.terminate()
        stored = len(stored_bars(platform, "1m"))
        exchange.resume()
        with sidecar(tmp_path / "second.log") as second:
            assert awaited(lambda: is_right(compare(platform, tape)), 90), (
                compare(platform, tape),
                second.said(),
            )

    assert code == 0, first.said()
    # What is not done 4.7 s after the signal is broken off, and then nobody says so.
    assert first.said().endswith("Stopped.\n")
    assert stored > 0


@pytest.mark.slow
def test_of_two_sidecars_one_works_and_the_other_takes_over(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (
        held_exchange(platform, monkeypatch) as (exchange, tape),
        sidecar(tmp_path / "first.log") as first,
    ):
        assert awaited(first.streams, 90)
        with sidecar(tmp_path / "second.log") as second:
            assert awaited(lambda: "another sidecar works" in second.said(), 90)
            assert awaited(lambda: exchange.position == 9_000, 60)
            connections = exchange.connections
            first.kill()
            assert awaited(second.streams, 60), second.said()
            exchange.resume()
            assert awaited(lambda: is_right(compare(platform, tape)), 90), (
                compare(platform, tape),
                second.said(),
            )

    assert connections == 1


@pytest.mark.slow
def test_one_that_was_frozen_stands_by_when_it_wakes(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (
        held_exchange(platform, monkeypatch) as (exchange, tape),
        sidecar(tmp_path / "first.log") as first,
    ):
        assert awaited(lambda: first.streams() and exchange.position == 9_000, 90)
        with sidecar(tmp_path / "second.log") as second:
            assert awaited(lambda: "another sidecar works" in second.said(), 90)
            first.process.send_signal(signal.SIGSTOP)
            assert awaited(second.streams, 60), second.said()
            first.process.send_signal(signal.SIGCONT)
            stands_by = awaited(lambda: "Standing by: another sidecar" in first.said(), 60)
            exchange.resume()
            right = awaited(lambda: is_right(compare(platform, tape)), 90)

    assert stands_by, first.said()
    assert right, (compare(platform, tape), second.said())


@pytest.mark.slow
def test_one_that_was_frozen_stores_nothing_of_what_it_has_in_hand_when_it_wakes(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Built] = []

    async def build_and_show(*args: Any, **options: Any) -> Built:
        made.append(await build(*args, **options))
        return made[-1]

    monkeypatch.setattr(app, "build", build_and_show)
    platform.now = lambda: datetime.now(UTC)
    said: list[str] = []
    stored: list[int] = []

    async def stream(exchange: LoopbackExchange) -> None:
        stopping = asyncio.Event()
        task = asyncio.create_task(serve(platform, Options(port=0), said.append, stopping))
        assert await asyncio.to_thread(awaited, lambda: exchange.position == 9_000, 90)
        run: Any = made[0].work["warm writer"]
        warm: WarmWriter = run.__self__
        exchange.resume()
        await eventually(lambda: warm.waiting > 0)
        # While nothing of this process goes on another one begins.
        platform.link.call(lambda client: client.set("scizor:lease:sidecar", "the next"))
        threading.Event().wait(LEASE_SECONDS + 1)
        stored.append(warm.bars_written)
        assert await asyncio.to_thread(awaited, lambda: "Standing by" in "".join(said), 30)
        stored.append(warm.bars_written)
        stopping.set()
        await task

    with held_exchange(platform, monkeypatch) as (exchange, _):
        asyncio.run(stream(exchange))

    assert stored[1] == stored[0], said


def test_one_that_was_frozen_and_is_told_to_stop_leaves_everything_to_the_next(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape = make_tape(NAMES, 5_000, minutes=20)
    with LoopbackExchange("kraken", tape) as exchange:
        stream_from(exchange, platform, monkeypatch, NAMES)
        said: list[str] = []

        async def stream() -> None:
            stopping = asyncio.Event()
            task = asyncio.create_task(serve(platform, Options(port=0), said.append, stopping))
            told = asyncio.to_thread(awaited, lambda: read_state(platform.link.call), 90)
            await asyncio.wait(
                [task, asyncio.ensure_future(told)], return_when=asyncio.FIRST_COMPLETED
            )
            # While nothing of this process goes on: another one begins, and the signal comes.
            platform.link.call(lambda client: client.set("scizor:lease:sidecar", "the next"))
            platform.link.call(lambda client: client.set(STATE_KEY, '{"url": "the next"}'))
            stopping.set()
            await task

        asyncio.run(stream())

    assert read_state(platform.link.call) == {"url": "the next"}, said
    assert platform.link.call(lambda client: client.get("scizor:lease:sidecar")) == "the next"


def test_bars_that_healing_makes_beside_the_engine_are_told_like_others(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCIZOR_STREAM_CRYPTO", "kraken")
    platform.settings = load_settings()
    number = platform.reference.ensure("crypto", "BTC/USD")[0].instrument_id
    noon = 1_795_176_000_000_000
    made = closed(Stream("crypto", "BTC/USD", number), noon, state=BarState.REVISED)

    async def make() -> list[Any]:
        client = redis.asyncio.Redis.from_url(platform.endpoints.redis_url)
        built = await build(platform, client, lambda _: None, feeds={"kraken"}, port=0)
        healing: Any = built.work["healing"]
        healing.__self__._revised([made])
        await asyncio.gather(*(flush() for flush in built.flushes.values()))
        await built.close()
        await client.aclose()
        folder = folder_of(platform.settings.home, {"kraken"}, None)
        reports: Any = json.loads((folder / "reports.json").read_text())["ready"]["crypto"]["bars"]
        return [reports, [each.data["start"] for each in EventLog(folder / "events").replay()]]

    assert asyncio.run(make()) == [{"1m": 1}, [1_795_176_000_000_000]]


@pytest.mark.parametrize("key", [None, "a key"])
def test_without_a_key_it_says_that_other_machines_may_change_things(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    monkeypatch.setenv("SCIZOR_STREAM_CRYPTO", "kraken")
    if key is not None:
        monkeypatch.setenv("SCIZOR_API_KEY", key)
    platform.settings = load_settings()
    said: list[str] = []

    async def make() -> None:
        client = redis.asyncio.Redis.from_url(platform.endpoints.redis_url)
        built = await build(platform, client, said.append, host="0.0.0.0")  # noqa: S104  # never served
        await built.close()
        await client.aclose()

    asyncio.run(make())

    assert ["SCIZOR_API_KEY" in each for each in said] == ([True] if key is None else [])


def test_those_that_share_the_work_on_one_home_keep_their_files_apart(tmp_path: Path) -> None:
    choices: list[tuple[set[str] | None, set[str] | None]] = [
        (None, None),
        ({"kraken"}, None),
        ({"coinbase"}, None),
        (None, {"BTC/USD"}),
        ({"kraken"}, {"BTC/USD"}),
    ]
    bitcoin = Stream("crypto", "BTC/USD", 1)
    with contextlib.ExitStack() as together:
        for start, journal in enumerate([Journal(folder_of(tmp_path, *each)) for each in choices]):
            together.callback(journal.close)
            journal.open_hole("kraken", "crypto", {bitcoin: start}, "away")

    kept = []
    for each in choices:
        with contextlib.closing(Journal(folder_of(tmp_path, *each))) as journal:
            kept.append([hole.start for hole in journal.holes])

    assert kept == [[0], [1], [2], [3], [4]]


def test_it_tells_of_itself_over_http_and_in_valkey(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tape = make_tape(NAMES, 5_000, minutes=20)
    with LoopbackExchange("kraken", tape) as exchange:
        stream_from(exchange, platform, monkeypatch, NAMES)
        with sidecar(tmp_path / "one.log") as running:
            assert awaited(lambda: running.streams() and exchange.played.is_set(), 90)
            url = running.said().rpartition("Page and API: ")[2].split()[0]
            assert awaited(lambda: read_state(platform.link.call), 30)
            state = read_state(platform.link.call)
            figures = httpx.get(f"{url}/api/metrics").json()
            exposition = httpx.get(f"{url}/metrics").text
            health = httpx.get(f"{url}/health").status_code
            code = running.terminate()

    assert health == 200
    assert state is not None
    assert state["url"] == url
    assert set(state["feeds"]) == {"kraken"}
    assert {each["subject"] for each in state["kpis"]["connection_uptime_percent"]} == {"kraken"}
    assert figures["stream"]["feeds"]["kraken"]["counts"]["trades"] > 0
    assert 'scizor_feed_connected{feed="kraken"} 1.0' in exposition
    assert code == 0
    assert read_state(platform.link.call) is None
