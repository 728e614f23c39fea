"""Measure the stream's core: trades through validation, dedupe and bars on one core.

    python -m benchmarks.bench_stream [--trades N] [--rounds N] [--hours H]

Beside it, in the same run, cryptofeed's aggregator on as many trades, where `.venv-peers` has
cryptofeed (`make bench` brings it along). And the memory of the pipeline over an hour of exchange
time at 5,000 trades a second, sent as fast as it takes them.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil

from benchmarks.common import Figure, load_average
from benchmarks.report import show
from scizor_core.sessions import get_calendar
from scizor_core.stream.engine import BarEngine
from scizor_core.stream.guards import Limits, SessionClock
from scizor_core.stream.trades import MICROSECONDS, TradeBatch, make_batch
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.pipeline import FeedPipeline, Window

SYMBOLS = 50
TRADES = 1_000_000
ROUNDS = 5
PER_SECOND = 5_000
#: Trades that a pass of the pipeline takes at once: few where little happens, many in a burst.
BATCHES = (64, 1_024, 4_096, 16_384)
CRYPTOFEED_TRADES = 200_000
PEER_PYTHON = Path(".venv-peers/bin/python")
_START_US = 1_763_640_000 * MICROSECONDS
_MARKET = "crypto"
_KIB = 1024


def tape(trades: int, symbols: int, *, first: int = 0, seed: int = 7) -> TradeBatch:
    """Return trades, 5,000 a second in the order of their times, each 50th of them twice.

    Args:
        trades: how many.
        symbols: of so many instruments.
        first: number of the first trade; times and ids go on from there.
        seed: of the prices.
    """
    rng = np.random.default_rng(seed + first)
    number = np.arange(first, first + trades, dtype=np.int64)
    number[49::50] = number[48::50][: len(number[49::50])]
    # What is repeated is the same in all columns.
    symbol = number * 7 % symbols
    walk = np.round(100 + 5 * np.sin(number / 50_000) + rng.normal(0, 0.01, trades), 2)
    walk[49::50] = walk[48::50][: len(walk[49::50])]
    size = (number % 997 + 1) / 100
    ts = _START_US + number * MICROSECONDS // PER_SECOND
    return make_batch(symbol, ts, walk, size, number)


def throughput(batches: list[TradeBatch], symbols: int) -> tuple[float, float]:
    """Return trades per second of processor time, and those kept, with `changed` per batch."""
    engine = BarEngine(Limits())
    clock = SessionClock(get_calendar(_MARKET))
    for _ in range(symbols):
        engine.guard.set_price_steps(engine.add_symbol(clock), ((0.0, 0.01),))
    kept = rows = 0
    began = time.process_time()
    for batch in batches:
        intake = engine.process(batch, int(batch.ts[-1]) + MICROSECONDS)
        engine.close_until(engine.newest - 2 * MICROSECONDS)
        engine.changed()
        kept += intake.kept
        rows += len(batch)
    return rows / (time.process_time() - began), kept


def cryptofeed(trades: int, rounds: int) -> float | None:
    """Return trades per second of cryptofeed's aggregator, None where it is not installed."""
    if not PEER_PYTHON.exists():
        return None
    script = str(Path(__file__).with_name("peer_cryptofeed.py"))
    ran = subprocess.run(
        [str(PEER_PYTHON), script, str(trades), str(SYMBOLS), str(rounds)],
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        return None
    found: list[float] = json.loads(ran.stdout)
    return statistics.median(found)


class _Counting:
    """Counts what it is told, and keeps nothing."""

    def __init__(self) -> None:
        self.bars = 0

    def on_window(self, window: Window) -> None:
        """Count bars."""
        self.bars += len(window.bars)

    def on_state(self, *_: object) -> None:
        """Nothing to count."""


def memory(hours: float) -> tuple[list[int], int]:
    """Return the process's memory after each twelfth of the time, bytes, and the trades sent."""

    async def run() -> tuple[list[int], int]:
        streams = [Stream(_MARKET, f"S{each}", each + 1) for each in range(SYMBOLS)]
        now = datetime.fromtimestamp(_START_US / MICROSECONDS, UTC)
        pipeline = FeedPipeline("tape", [_Counting()], lambda: now)
        for stream in streams:
            pipeline.number(stream)
        pipeline.connecting()
        pipeline.connected()
        process, seen, sent = psutil.Process(), [], 0
        total = int(hours * 3_600 * PER_SECOND)
        for part in range(12):
            until = total * (part + 1) // 12
            while sent < until:
                batch = tape(PER_SECOND, SYMBOLS, first=sent)
                now = datetime.fromtimestamp(int(batch.ts[-1]) / MICROSECONDS, UTC)
                pipeline.take(batch)
                pipeline.step()
                sent += PER_SECOND
            seen.append(process.memory_info().rss)
            await asyncio.sleep(0)
        return seen, sent

    return asyncio.run(run())


def measure(trades: int = TRADES, rounds: int = ROUNDS, hours: float = 1.0) -> list[Figure]:
    """Return throughput by size of batch, beside cryptofeed's, and memory over the time."""
    whole = tape(trades, SYMBOLS)
    peer = cryptofeed(CRYPTOFEED_TRADES, min(rounds, 3))
    figures = []
    for size in BATCHES:
        rows = min(trades, size * 2_000)
        batches = [
            whole.take(np.arange(start, min(start + size, rows))) for start in range(0, rows, size)
        ]
        rate = statistics.median(throughput(batches, SYMBOLS)[0] for _ in range(rounds))
        figures.append(
            Figure(
                f"trades through guards, dedupe and bars, {size:,} at once",
                rate,
                "trades/s",
                peer,
                "cryptofeed's OHLCV, no guards" if peer else "",
                ">= 700,000" if size == 4_096 else "",
                f"one core, median of {rounds}; load {load_average():.1f}",
            )
        )
    seen, sent = memory(hours)
    mib = _KIB * _KIB
    figures.append(Figure(f"memory after {sent:,} trades of {hours:g} h", seen[-1] / mib, "MiB"))
    # The first third fills what is kept: ids of a million trades, minutes of each symbol.
    figures.append(
        Figure("growth over the last two thirds of it", (seen[-1] - seen[3]) / mib, "MiB")
    )
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Trades through the stream's core.")
    parser.add_argument("--trades", type=int, default=TRADES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--hours", type=float, default=1.0)
    options = parser.parse_args()
    show({"stream": measure(options.trades, options.rounds, options.hours)})


if __name__ == "__main__":
    main()
