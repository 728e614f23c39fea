"""Measure the hot store: the last 500 bars back, and how they are best written down.

    python -m benchmarks.bench_hot [--reads N]

The bars of 20 symbols are written by `HotWriter` into a Valkey of its own and read back through
`HotReader`, as arrays and as a frame. The formats are compared on the same 500 bars: the records
of fixed length that the store uses, msgpack (msgspec), and Arrow IPC. Peer of the read: a hash of
the bars in msgpack, one field each, as is usual.
"""

import argparse
import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import redis
import redis.asyncio

from benchmarks.common import Figure, embedded_servers, load_average, new_database
from benchmarks.report import show
from scizor_core.stream.engine import BarState, LiveBar
from scizor_resources.budget.link import ValkeyLink
from scizor_resources.endpoints import Endpoints
from scizor_resources.platform import Platform
from scizor_resources.settings import load_settings
from scizor_resources.stores.hot import KEPT_BARS, HotBar, HotReader, HotSeries, unpack_bars
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.hot_writer import HotWriter
from scizor_sidecar.pipeline import StreamedBar, Window

SYMBOLS = 20
READS = 5_000
WINDOW_SYMBOLS = 500
_FIRST = int(datetime(2026, 3, 2, 14, 30, tzinfo=UTC).timestamp()) * 1_000_000
_MINUTE = 60_000_000


def live_bar(number: int, price: float, state: BarState = BarState.CLOSED) -> LiveBar:
    """Return a bar of one minute."""
    return LiveBar(
        0, "1m", _FIRST + number * _MINUTE, price, price + 0.02, price - 0.01, price,
        1_000.0 + number, price, 7 + number % 80, state,
    )  # fmt: skip


def window(streams: list[Stream], number: int, state: BarState = BarState.CLOSED) -> Window:
    """Return a pass that has made one bar of each stream."""
    bars = [
        StreamedBar(stream, live_bar(number, 100.0 + 0.01 * (number + place), state), "alpaca", 0)
        for place, stream in enumerate(streams)
    ]
    return Window("alpaca", streams, bars, [], [], None, (0, 0))


def milliseconds(work: Callable[[], object], runs: int) -> np.ndarray:
    """Return how long each run takes, one before that does not count."""
    work()
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - began))
    return np.array(taken)


def rows() -> list[HotBar]:
    """Return the bars that the formats are compared on."""
    rng = np.random.default_rng(5)
    prices = np.round(100 * np.exp(rng.normal(0, 0.0005, KEPT_BARS).cumsum()), 2).tolist()
    return [
        HotBar(
            _FIRST + number * _MINUTE,
            price,
            price + 0.02,
            price - 0.01,
            price,
            1_000.0 + number,
            price,
            7 + number % 80,
            20_514,
            0,
            1,
            "alpaca",
        )  # fmt: skip
        for number, price in enumerate(prices)
    ]


def formats(runs: int) -> list[Figure]:
    """Return size and cost of 500 bars in each format."""
    bars = rows()
    series = HotSeries("key", 1)
    for bar in bars:
        series.put(bar)
    packed = series.whole()[2]
    columns = [list(column) for column in zip(*bars, strict=True)]
    table = pa.table(columns, HotBar._fields)
    encoded = msgspec.msgpack.encode(bars)
    decoder = msgspec.msgpack.Decoder(list[HotBar])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    arrow = sink.getvalue().to_pybytes()

    def from_msgpack() -> Any:
        return [np.array(column) for column in zip(*decoder.decode(encoded), strict=True)]

    def from_arrow() -> Any:
        whole = pa.ipc.open_stream(arrow).read_all()
        return [column.to_numpy() for column in whole.columns]

    note = f"median of {runs}; load {load_average():.1f}"
    found = []
    for name, data, decode in (
        ("records of fixed length", packed, lambda: unpack_bars(packed)),
        ("msgpack (msgspec)", encoded, from_msgpack),
        ("Arrow IPC", arrow, from_arrow),
    ):
        cost = 1000 * float(np.median(milliseconds(decode, runs)))
        found.append(Figure(f"{KEPT_BARS} bars to arrays, {name}", cost, "us", note=note))
        size = len(data) / KEPT_BARS
        found.append(Figure(f"size of a bar, {name}", size, "bytes"))
    return found


async def fill(platform: Platform, client: "redis.asyncio.Redis") -> tuple[list[Stream], float]:
    """Write the bars; return the streams and what a window of 500 symbols costs, ms."""
    writer = HotWriter(client, platform, publish=False)
    streams = [Stream("us", f"SYM{number}", number + 1) for number in range(SYMBOLS)]
    for number in range(KEPT_BARS + 30):
        writer.on_window(window(streams, number))
        if number % 50 == 0:
            await writer.flush()
    await writer.flush()
    many = [Stream("us", f"WIDE{number}", number + 1) for number in range(WINDOW_SYMBOLS)]
    taken = []
    for number in range(100):
        # A new bar each, then its next state: what a pass in the middle of a minute writes.
        writer.on_window(window(many, number))
        await writer.flush()
        again = window(many, number, BarState.REVISED)
        began = time.perf_counter()
        writer.on_window(again)
        await writer.flush()
        taken.append(1000 * (time.perf_counter() - began))
    return streams, float(np.median(taken[5:]))


def measure(reads: int = READS) -> list[Figure]:
    """Return the figures."""
    with embedded_servers() as servers:
        database = new_database(servers, "bench_hot")
        platform = Platform(load_settings(), Endpoints(database.libpq_url, servers.redis_url))
        streams, window_ms = asyncio.run(_filled(platform))
        reader, places = HotReader(ValkeyLink(servers.redis_url)), iter(range(10**9))

        def symbol() -> str:
            return streams[next(places) % SYMBOLS].symbol

        def arrays() -> None:
            bars = reader.bars("us", symbol(), "1m")
            if bars is None or len(bars) != KEPT_BARS:
                raise SystemExit("The hot store does not have the bars.")

        def frame() -> None:
            bars = reader.bars("us", symbol(), "1m")
            if bars is None or len(bars.frame()) != KEPT_BARS:
                raise SystemExit("The hot store does not have the bars.")

        as_arrays, as_frames = milliseconds(arrays, reads), milliseconds(frame, reads)
        peer = _hash_reads(servers, reads)
        platform.close()
    note = f"{reads} reads; load {load_average():.1f}"
    found = []
    for word, at, target in (("median", 50, ""), ("99th percentile", 99, "<= 1")):
        theirs = float(np.percentile(peer, at))
        for name, taken in (("arrays", as_arrays), ("frame", as_frames)):
            what = f"last {KEPT_BARS} bars as {name}, {word}"
            value = float(np.percentile(taken, at))
            found.append(
                Figure(what, value, "ms", theirs, "hash of msgpack, to a list", target, note)
            )
    what = f"one change of {WINDOW_SYMBOLS} symbols written, median"
    return [*found, Figure(what, window_ms, "ms", note=note), *formats(300)]


async def _filled(platform: Platform) -> tuple[list[Stream], float]:
    client = redis.asyncio.Redis.from_url(platform.endpoints.redis_url)
    try:
        return await fill(platform, client)
    finally:
        await client.aclose()


def _hash_reads(servers: Endpoints, reads: int) -> np.ndarray:
    client = redis.Redis.from_url(servers.redis_url)
    decode = msgspec.msgpack.Decoder(HotBar).decode
    client.hset("peer", mapping={bar.start: msgspec.msgpack.encode(bar) for bar in rows()})

    def read() -> None:
        found: Any = client.hgetall("peer")
        bars = sorted(decode(value) for value in found.values())
        if len(bars) != KEPT_BARS:
            raise SystemExit("The peer does not have the bars.")

    taken = milliseconds(read, max(reads // 10, 50))
    client.close()
    return taken


def main(arguments: list[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="The hot store.")
    parser.add_argument("--reads", type=int, default=READS, help="reads of the last 500 bars")
    options = parser.parse_args(arguments)
    show({"hot": measure(options.reads)})


if __name__ == "__main__":
    main()
