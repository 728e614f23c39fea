"""Embedded servers killed under the process that holds them: back where they were, unharmed."""

import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import redis

from scizor_resources.embedded.keeper import ServerKeeper, keeper_of
from scizor_resources.embedded.servers import EmbeddedServers
from scizor_resources.endpoints import Endpoints
from tests.e2e.shell import eventually


@dataclass
class Held:
    """Servers that this process holds, and who looks after them."""

    servers: EmbeddedServers
    endpoints: Endpoints
    keeper: ServerKeeper

    def kill(self, name: str) -> None:
        pid = self.pid(name)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: self.pid(name) is None, 10)

    def pid(self, name: str) -> int | None:
        return {each.name: each.pid for each in self.servers.status()}[name]


@pytest.fixture
def held() -> Iterator[Held]:
    with (
        tempfile.TemporaryDirectory(prefix="scizor keeper ") as home,
        EmbeddedServers(Path(home)) as servers,
    ):
        started = servers.start()
        endpoints = Endpoints(started.libpq_url, started.redis_url)
        yield Held(servers, endpoints, keeper_of(servers, endpoints))


def test_postgresql_is_back_at_its_address_with_what_was_committed(held: Held) -> None:
    with psycopg.connect(held.endpoints.libpq_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        held.kill("postgres")

    held.keeper.look()

    assert held.keeper.away == frozenset()
    with psycopg.connect(held.endpoints.libpq_url) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchall() == [(42,)]


def test_valkey_is_back_at_its_address_with_its_queues(held: Held) -> None:
    with redis.Redis.from_url(held.endpoints.redis_url) as client:
        client.lpush("queue", "message")
        # Its journal is written out every second.
        client.bgrewriteaof()
        eventually(lambda: not client.info("persistence")["aof_rewrite_in_progress"], 10)
        held.kill("valkey")

        held.keeper.look()

        assert client.lrange("queue", 0, -1) == [b"message"]
    assert held.keeper.away == frozenset()


def test_both_killed_at_once_are_both_back(held: Held) -> None:
    addresses = held.endpoints
    held.kill("postgres")
    held.kill("valkey")

    held.keeper.look()

    assert held.keeper.away == frozenset()
    started = held.servers.start()
    assert Endpoints(started.libpq_url, started.redis_url) == addresses
