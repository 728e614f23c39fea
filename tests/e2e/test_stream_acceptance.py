"""A known tape through the streaming process, with everything that can go wrong on the way.

The bars in PostgreSQL are compared with bars counted independently from the tape: none missing,
none fabricated, none wrong.
"""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scizor_resources.embedded.servers import EmbeddedServers
from scizor_resources.platform import Platform
from scizor_resources.settings import load_settings
from tests.contract.lab.ws_exchanges import LoopbackExchange
from tests.integration.streamed import (
    Sidecar,
    awaited,
    compare,
    is_right,
    recent_tape,
    sidecar,
    stream_from,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

NAMES = tuple(f"C{number:02}/USD" for number in range(50))


@dataclass
class Lab:
    """Servers of their own, so that they can be killed, and a platform on them."""

    servers: EmbeddedServers
    platform: Platform

    def kill(self, name: str) -> None:
        """Kill a server at once."""
        (pid,) = [each.pid for each in self.servers.status() if each.name == name]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    with EmbeddedServers(tmp_path / "servers") as servers:
        started = servers.start()
        monkeypatch.setenv("SCIZOR_DATABASE_URL", started.libpq_url)
        monkeypatch.setenv("SCIZOR_REDIS_URL", started.redis_url)
        monkeypatch.setenv("SCIZOR_HOME", str(tmp_path / "home"))
        monkeypatch.chdir(tmp_path)
        with Platform.open(load_settings(), migrate=True) as platform:
            yield Lab(servers, platform)


def play(
    lab: Lab,
    monkeypatch: pytest.MonkeyPatch,
    log: Path,
    *,
    trades: int,
    symbols: int,
    per_second: float,
    script: Callable[[LoopbackExchange, list[Sidecar]], None],
    meanwhile: Callable[[LoopbackExchange, list[Sidecar]], None] = lambda *_: None,
    venue: str = "kraken",
) -> None:
    """Stream a tape and wait until its bars are right.

    Args:
        lab: servers and platform.
        monkeypatch: for the environment.
        log: of the sidecars.
        trades: of the tape.
        symbols: of the tape.
        per_second: its pace.
        script: gives the exchange what happens at which trade.
        meanwhile: what is done while it plays.
        venue: whose wire format it is.
    """
    names = NAMES[:symbols]
    tape = recent_tape(names, trades, 60)
    running: list[Sidecar] = []
    with LoopbackExchange(venue, tape, per_second=per_second, repeat_share=0.03) as exchange:
        script(exchange, running)
        stream_from(exchange, lab.platform, monkeypatch, names)
        with sidecar(log) as first:
            running.append(first)
            meanwhile(exchange, running)
            assert awaited(exchange.played.is_set, 60 + 3 * trades / per_second, 1.0), (
                log.read_text()
            )
            # PostgreSQL may have been another process when the connections were made.
            lab.platform.warehouse.close()
            right = awaited(lambda: is_right(compare(lab.platform, tape)), 180, 2.0)
            found = compare(lab.platform, tape)
            (log.parent / "compared.txt").write_text(f"{found}\n{log.read_text()}")
            assert right, (found, log.read_text())
            running[-1].terminate()


@pytest.mark.parametrize("venue", ["kraken", "coinbase", "binance"])
def test_a_hundred_thousand_trades_with_two_cuts(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, venue: str
) -> None:
    def script(exchange: LoopbackExchange, _: list[Sidecar]) -> None:
        exchange.at(30_000, lambda: exchange.cut(2))
        exchange.at(50_000, lambda: exchange.fall_silent(5))
        exchange.at(70_000, lambda: exchange.cut(5, code=1001))

    play(
        lab, monkeypatch, tmp_path / "sidecar.log", trades=100_000, symbols=10, per_second=4_000,
        script=script, venue=venue,
    )  # fmt: skip


def test_a_sidecar_that_is_killed_in_the_middle_goes_on_where_it_was(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = tmp_path / "sidecar.log"

    def meanwhile(exchange: LoopbackExchange, running: list[Sidecar]) -> None:
        for position in (30_000, 60_000):
            assert awaited(lambda at=position: exchange.position >= at, 120), log.read_text()  # type: ignore[misc]
            running[-1].kill()
            running.append(Sidecar(log))

    play(
        lab, monkeypatch, log, trades=100_000, symbols=10, per_second=4_000,
        script=lambda *_: None, meanwhile=meanwhile,
    )  # fmt: skip


@pytest.mark.parametrize("server", ["postgres", "valkey"])
def test_a_server_may_be_away_for_half_a_minute(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: str
) -> None:
    log = tmp_path / "sidecar.log"

    def meanwhile(exchange: LoopbackExchange, running: list[Sidecar]) -> None:
        assert awaited(lambda: exchange.position >= 20_000, 120), log.read_text()
        lab.kill(server)
        assert not awaited(lambda: running[-1].process.poll() is not None, 30), log.read_text()
        lab.servers.start()

    play(
        lab, monkeypatch, log, trades=150_000, symbols=10, per_second=3_000,
        script=lambda *_: None, meanwhile=meanwhile,
    )  # fmt: skip


def five_cuts(exchange: LoopbackExchange, _: list[Sidecar]) -> None:
    """Cut the socket five times, once for 90 s, and fall silent once."""
    exchange.at(100_000, lambda: exchange.cut(1))
    exchange.at(200_000, lambda: exchange.cut(90))
    exchange.at(650_000, lambda: exchange.cut(3))
    exchange.at(720_000, lambda: exchange.fall_silent(10))
    exchange.at(800_000, lambda: exchange.cut(5, code=1012))
    exchange.at(900_000, lambda: exchange.cut(0.5))


def test_a_million_trades_with_five_cuts_one_of_ninety_seconds(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    play(
        lab, monkeypatch, tmp_path / "sidecar.log", trades=1_000_000, symbols=50, per_second=4_000,
        script=five_cuts,
    )  # fmt: skip


def test_a_million_trades_while_everything_is_killed_in_turn(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = tmp_path / "sidecar.log"

    def meanwhile(exchange: LoopbackExchange, running: list[Sidecar]) -> None:
        for position, server in ((60_000, "postgres"), (700_000, "valkey")):
            assert awaited(lambda at=position: exchange.position >= at, 300), log.read_text()  # type: ignore[misc]
            lab.kill(server)
            assert not awaited(lambda: running[-1].process.poll() is not None, 30), log.read_text()
            lab.servers.start()
            if server == "postgres":
                assert awaited(lambda: exchange.position >= 450_000, 300), log.read_text()
                running[-1].kill()
                running.append(Sidecar(log))

    play(
        lab, monkeypatch, log, trades=1_000_000, symbols=50, per_second=4_000,
        script=five_cuts, meanwhile=meanwhile,
    )  # fmt: skip
