"""PostgreSQL and Valkey are killed in the middle of a stream: nothing is lost, nothing doubled."""

import asyncio
import os
import signal
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
import redis.asyncio
import sqlalchemy as sa

from scizor_core.stream.engine import BarState
from scizor_resources.embedded.servers import EmbeddedServers
from scizor_resources.endpoints import Endpoints
from scizor_resources.platform import Platform
from scizor_resources.settings import load_settings
from scizor_resources.stores import schema
from scizor_resources.stores.hot import HotReader
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.hot_writer import HotWriter
from scizor_sidecar.pipeline import Window
from scizor_sidecar.spool import Spool
from scizor_sidecar.warm_writer import WarmWriter
from tests.unit.sidecar.streamed import MINUTE, closed, window

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SYMBOLS, MINUTES = 20, 60
FIRST = int(datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp()) * 1_000_000


def close_of(symbol: int, minute: int) -> float:
    return 100.0 + symbol + minute / 100


def minute(streams: list[Stream], number: int) -> Window:
    """Return a minute that forms, is closed, and revises the one before."""
    start = FIRST + number * MINUTE
    made = []
    for place, stream in enumerate(streams):
        made += [
            closed(stream, start, close=1.0, state=BarState.FORMING),
            closed(stream, start, close=close_of(place, number) + 7),
            closed(
                stream, start - MINUTE, close=close_of(place, number - 1), state=BarState.REVISED
            ),
        ]
    return window(*made)


def kill(servers: EmbeddedServers, name: str) -> None:
    pid = {each.name: each.pid for each in servers.status()}[name]
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


async def play(platform: Platform, servers: EmbeddedServers, folder: Path) -> tuple[int, int]:
    """Stream an hour in some seconds; return batches on disk and failures of Valkey."""
    streams = [Stream("crypto", f"C{number}/USD", number + 1) for number in range(SYMBOLS)]
    client = redis.asyncio.Redis.from_url(platform.endpoints.redis_url)
    warm = WarmWriter(platform, Spool(folder), lambda _stream, _ts: None)
    hot = HotWriter(client, platform)
    most_on_disk = 0
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(each.run()) for each in (warm, hot)]
        for number in range(MINUTES):
            if number == 15:
                kill(servers, "postgres")
            if number == 20:
                kill(servers, "valkey")
            if number == 45:
                await asyncio.to_thread(servers.start)
            for listener in (hot, warm):
                listener.on_window(minute(streams, number))
            # A minute every tenth of a second; the servers are away for the time of thirty.
            await asyncio.sleep(0.1)
            most_on_disk = max(most_on_disk, warm.spooled)
        await warm.settled()
        await hot.flush()
        await hot.flush()
        for task in running:
            task.cancel()
    await warm.close()
    await client.aclose()
    return most_on_disk, hot.failures


def test_servers_killed_in_the_middle_of_a_stream_lose_and_double_nothing(tmp_path: Path) -> None:
    with EmbeddedServers(tmp_path / "servers") as servers:
        started = servers.start()
        endpoints = Endpoints(started.libpq_url, started.redis_url)
        schema.upgrade(sa.create_engine(endpoints.sqlalchemy_url, poolclass=sa.NullPool))
        platform = Platform(load_settings(home=tmp_path / "home"), endpoints)

        most_on_disk, failures = asyncio.run(play(platform, servers, tmp_path / "spool"))

        assert most_on_disk > 0
        assert failures > 0
        with psycopg.connect(endpoints.libpq_url) as connection:
            stored = connection.execute(
                "SELECT instrument_id, extract(epoch FROM ts)::bigint, close FROM market.bars"
            ).fetchall()
        # The last minute was not revised; the one before the first was revised only.
        expected = {
            (place + 1, (FIRST + number * MINUTE) // 1_000_000): close_of(place, number)
            + (7 if number == MINUTES - 1 else 0)
            for place in range(SYMBOLS)
            for number in range(-1, MINUTES)
        }
        assert len(stored) == len(expected)
        assert {(one, ts): close for one, ts, close in stored} == expected
        for place in range(SYMBOLS):
            bars = HotReader(platform.link).bars("crypto", f"C{place}/USD", "1m")
            assert bars is not None
            found = zip(bars.records["start"].tolist(), bars.records["close"].tolist(), strict=True)
            assert dict(found) == {
                1_000_000 * ts: close for (one, ts), close in expected.items() if one == place + 1
            }
        platform.close()
