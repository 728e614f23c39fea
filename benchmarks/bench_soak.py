"""Measure the whole streaming process over a long time by the clock: memory, latencies, bars.

    python -m benchmarks.bench_soak [--minutes M] [--rate TRADES_PER_SECOND] [--clients N]

`scizor sidecar` runs as a user runs it, with PostgreSQL and Valkey of its own, on a loopback
exchange that speaks Kraken's wire; clients follow trades and bars of five symbols each over the
WebSocket. At the end the bars in PostgreSQL are compared with those of the tape. The first third
fills what is kept on purpose (ids of trades, the last bars); after it memory should stay.
"""

import argparse
import asyncio
import json
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import httpx
import psutil
import uvloop
from rich.console import Console
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from benchmarks.common import Figure, load_average
from benchmarks.report import show
from benchmarks.streamed import START_SECONDS, live_platform
from scizor_resources.platform import Platform
from tests.contract.lab.trade_tape import TradeTape
from tests.contract.lab.ws_exchanges import LoopbackExchange
from tests.integration.streamed import (
    Sidecar,
    awaited,
    compare,
    recent_tape,
    sidecar,
)

SYMBOLS, FOLLOWED = 50, 5
MINUTES, RATE, CLIENTS = 25.0, 5_000, 50
_SAMPLE_SECONDS = 15.0
_SETTLE_SECONDS = 180.0
_MIB = 1024 * 1024
_NAMES = tuple(f"C{number:02}/USD" for number in range(SYMBOLS))


@dataclass(frozen=True)
class Soaked:
    """What came of it.

    Attributes:
        memory: of the sidecar, bytes, every quarter of a minute.
        metrics: what GET /api/metrics told at the end.
        comparison: bars expected, missing, fabricated and wrong by timeframe.
    """

    trades: int
    memory: list[int]
    metrics: dict[str, Any]
    comparison: dict[str, dict[str, int]]

    @property
    def after_a_third(self) -> int:
        """Memory when what is kept has filled up, bytes."""
        return self.memory[len(self.memory) // 3]


def soak(minutes: float, rate: int, clients: int) -> Soaked:
    """Run it."""
    trades = int(minutes * 60 * rate)
    tape = recent_tape(_NAMES, trades, max(int(minutes), 1))
    with (
        live_platform(tape, rate) as (platform, exchange, folder),
        sidecar(folder / "sidecar.log") as process,
    ):
        return _watch(platform, exchange, process, tape, clients)


def _watch(
    platform: Platform, exchange: LoopbackExchange, process: Sidecar, tape: TradeTape, clients: int
) -> Soaked:
    if not awaited(process.streams, START_SECONDS):
        raise RuntimeError(f"The sidecar did not start:\n{process.said()}")
    found = re.search(r"http://[\w.:]+", process.said())
    if found is None:
        raise RuntimeError(f"The sidecar does not say where it is:\n{process.said()}")
    url = found.group()
    following = get_context("spawn").Process(target=_run_clients, args=(url, clients), daemon=True)
    following.start()
    watched, memory, console = psutil.Process(process.process.pid), [], Console()
    exchange.resume()
    while not exchange.played.is_set():
        time.sleep(_SAMPLE_SECONDS)
        memory.append(watched.memory_info().rss)
        console.print(
            f"{exchange.position:>12,} trades, {memory[-1] / _MIB:.1f} MiB, "
            f"{watched.cpu_percent(None):.0f} % of a core, "
            f"{'' if following.is_alive() else 'clients have gone'}"
        )
    metrics = httpx.get(f"{url}/api/metrics", timeout=30).json()
    comparison = compare(platform, tape)

    def is_complete() -> bool:
        nonlocal comparison
        comparison = compare(platform, tape)
        return not any(each["missing"] or each["wrong"] for each in comparison.values())

    awaited(is_complete, _SETTLE_SECONDS, 5.0)
    following.terminate()
    following.join()
    process.terminate()
    return Soaked(len(tape), memory, metrics, comparison)


async def _follow(url: str, number: int) -> None:
    names = [f"crypto:{_NAMES[(number + step) % SYMBOLS]}" for step in range(FOLLOWED)]
    wanted = {"op": "subscribe", "symbols": names, "channels": ["ticks", "bars"], "batch": True}
    async with connect(f"{url.replace('http', 'ws')}/ws/realtime", compression=None) as connection:
        await connection.send(json.dumps(wanted))
        with suppress(ConnectionClosed):
            while True:
                await connection.recv()


async def _clients(url: str, clients: int) -> None:
    await asyncio.gather(*(_follow(url, number) for number in range(clients)))


def _run_clients(url: str, clients: int) -> None:
    uvloop.run(_clients(url, clients))


def figures_of(soaked: Soaked, clients: int) -> list[Figure]:
    """Return what was measured as figures."""
    what = f"whole process, {soaked.trades:,} trades, {clients} clients: "
    grown = (soaked.memory[-1] - soaked.after_a_third) / _MIB
    note = f"load {load_average():.1f}"
    figures = [
        Figure(f"{what}memory", soaked.memory[-1] / _MIB, "MiB", note=note),
        Figure(f"{what}growth over the last two thirds", grown, "MiB", target="0", note=note),
    ]
    for stage in ("tick_to_bar", "tick_to_client"):
        told = soaked.metrics["stream"]["latency_ms"][stage]
        figures += [
            Figure(f"{what}{stage.replace('_', ' ')}, {name}", told[name], "ms", note=note)
            for name in ("p50", "p95", "p99")
        ]
    figures += [
        Figure(f"{what}bars of {timeframe} {kind}", counts[kind], "bars", target="0", note=note)
        for timeframe, counts in soaked.comparison.items()
        for kind in ("missing", "fabricated", "wrong")
    ]
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The whole streaming process over a long time.")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--rate", type=int, default=RATE)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    given = parser.parse_args()
    soaked = soak(given.minutes, given.rate, given.clients)
    show({"soak": figures_of(soaked, given.clients)})


if __name__ == "__main__":
    main()
