"""Measure how long a tick takes to the WebSocket clients, and whether all are served alike.

    python -m benchmarks.bench_face [--clients N] [--rate TICKS_PER_SECOND] [--seconds S]

One process takes trades of 50 symbols through the pipeline (guards, dedupe, bars) and serves them;
another one holds the clients, each of which follows the trades and 1m bars of five symbols. A trade
carries the time at which it was made, microseconds, which is compared with the time at which a
client has it in hand: what is measured is the way through all of SCIZOR and two sockets.
"""

import argparse
import asyncio
import gc
import json
import statistics
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import cast
from urllib.parse import urlsplit

import msgspec
import psutil
import uvloop
from fastapi import FastAPI

from benchmarks.common import Figure, load_average
from benchmarks.report import show
from scizor_sidecar.face.guard import Gatekeeper
from scizor_sidecar.face.hub import Hub
from scizor_sidecar.face.realtime import realtime_router
from scizor_sidecar.face.server import FaceServer
from scizor_sidecar.face.state import FaceState
from scizor_sidecar.face.topics import TopicName
from scizor_sidecar.face.wire import Item
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.pipeline import FeedPipeline

SYMBOLS, FOLLOWED = 50, 5
#: Trades come in little heaps, as from a socket.
_TURNS_PER_SECOND = 200
_SETTLE_SECONDS = 3.0
_TEXT, _PING, _PONG = 1, 9, 10


@dataclass(frozen=True)
class Measured:
    """What came of one measurement.

    Attributes:
        delivered: trades that clients have in hand.
        p50: milliseconds; of all trades that clients got.
        fewest: trades of the client that got the fewest, as a share of the most.
        left_out: trades that the server left out for a client that did not keep up.
        memory_growth: of the server after the first half, bytes.
        server_cpu: share of one core.
        client_cpu: the same of the process with the clients.
    """

    clients: int
    rate: int
    seconds: float
    made: int
    delivered: int
    p50: float
    p95: float
    p99: float
    fewest: float
    left_out: int
    closed: int
    memory: int
    memory_growth: int
    server_cpu: float
    client_cpu: float


class _NoHistory:
    """Nothing was before the stream."""

    async def check(self, market: str, symbol: str) -> None:
        """Know everything."""

    async def rows(self, name: TopicName, last: int) -> list[tuple[int, Item]]:
        """Return nothing."""
        del name, last
        return []


def _now() -> datetime:
    return datetime.now(UTC)


def _streams() -> list[Stream]:
    return [Stream("crypto", f"C{number}/USD", number) for number in range(SYMBOLS)]


async def _serve(pipe: Connection, rate: int, seconds: float) -> None:
    hub = Hub(_now, _NoHistory())
    pipeline = FeedPipeline("bench", [hub], _now)
    pipeline.connecting()
    pipeline.connected()
    state = FaceState(None, hub, {"bench": pipeline}, now=_now)  # type: ignore[arg-type]  # the WebSocket asks nothing of it
    app = FastAPI()
    app.include_router(realtime_router(state, Gatekeeper(None)))
    server = FaceServer(app)
    tasks = [asyncio.ensure_future(each.run()) for each in (hub, server, pipeline)]
    await server.started.wait()
    pipe.send(server.url)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, pipe.recv)
    # The first trade loads the calendar of its market, which takes a second.
    pipeline.trades(_streams(), [time.time_ns() // 1000] * SYMBOLS, [100.0] * SYMBOLS,
                    [1.0] * SYMBOLS, list(range(-SYMBOLS, 0)))  # fmt: skip
    process = psutil.Process()
    await asyncio.sleep(_SETTLE_SECONDS)
    # As the sidecar does when it has started.
    gc.collect()
    gc.freeze()
    process.cpu_percent(None)
    made, early = await _make_trades(pipeline, rate, seconds, process)
    told = {
        "made": made,
        "left_out": hub.counts.trades_left_out,
        "closed": hub.counts.closed_slow,
        "memory": process.memory_info().rss,
        "memory_growth": process.memory_info().rss - early,
        "server_cpu": process.cpu_percent(None) / 100,
    }
    await asyncio.sleep(1)
    pipe.send(told)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _make_trades(
    pipeline: FeedPipeline, rate: int, seconds: float, process: psutil.Process
) -> tuple[int, int]:
    """Make trades at a rate; returns how many, and the memory after the first half."""
    streams = _streams()
    loop = asyncio.get_running_loop()
    began, made, early = loop.time(), 0, 0
    while (passed := loop.time() - began) < seconds:
        due = int(passed * rate) - made
        if due:
            at = time.time_ns() // 1000
            numbers = range(made, made + due)
            pipeline.trades(
                [streams[n % SYMBOLS] for n in numbers],
                [at] * due,
                [100 + n % 7 / 100 for n in numbers],
                [1.0] * due,
                list(numbers),
            )
            made += due
            await pipeline.room()
        if not early and passed > seconds / 2:
            early = process.memory_info().rss
        await asyncio.sleep(1 / _TURNS_PER_SECOND)
    return made, early


class _Message(msgspec.Struct):
    """What is looked at of a message."""

    type: str
    channel: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")


_messages = msgspec.json.Decoder(list[_Message] | _Message).decode
_ticks = msgspec.json.Decoder(list[tuple[int, float, float]]).decode


class _Follower(asyncio.Protocol):
    """A client that does as little as one can: all of them share a process with each other.

    A client of a library takes three times as long for a frame, and fifty of them are no longer
    a measurement of the server.

    Args:
        number: which symbols it follows.
        interval_ms: how often it wants messages at most.
        seen: takes the microseconds that each trade was on its way.
    """

    def __init__(self, number: int, interval_ms: int, seen: list[int]) -> None:
        self._names = [f"crypto:C{(number + step) % SYMBOLS}/USD" for step in range(FOLLOWED)]
        self._interval_ms, self._seen = interval_ms, seen
        self._waiting = b""
        self._is_open = False
        self.ready, self.ended = asyncio.Event(), asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Shake hands."""
        # uvloop's transports are no subclass of it.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(
            b"GET /ws/realtime HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Key: c2Npem9yLWJlbmNobWFyaw==\r\n"
            b"Sec-WebSocket-Version: 13\r\n\r\n"
        )

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        now = time.time_ns() // 1000
        self._waiting += data
        if not self._is_open:
            self._open()
        while self._is_open and (frame := self._frame()) is not None:
            opcode, payload = frame
            if opcode == _PING:
                self._send(_PONG, payload)
            elif opcode == _TEXT:
                self._take(payload, now)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end."""
        del exc
        self.ended.set()

    def _open(self) -> None:
        head, found, rest = self._waiting.partition(b"\r\n\r\n")
        if not found:
            return
        if b" 101 " not in head:
            raise RuntimeError(f"No WebSocket: {head!r}")
        self._waiting, self._is_open = rest, True
        wanted = {
            "op": "subscribe",
            "symbols": self._names,
            "channels": ["ticks", "bars"],
            "batch": True,
            "interval_ms": self._interval_ms,
        }
        self._send(_TEXT, json.dumps(wanted).encode())

    def _frame(self) -> tuple[int, bytes] | None:
        """Return opcode and payload of the next whole frame; servers send them unmasked."""
        waiting = self._waiting
        if len(waiting) < 2:  # noqa: PLR2004  # RFC 6455, section 5.2, as all numbers here
            return None
        length, start = waiting[1], 2
        if length > 125:  # noqa: PLR2004
            start = 4 if length == 126 else 10  # noqa: PLR2004
            if len(waiting) < start:
                return None
            length = int.from_bytes(waiting[2:start], "big")
        if len(waiting) < start + length:
            return None
        self._waiting = waiting[start + length :]
        return waiting[0] & 15, waiting[start : start + length]

    def _send(self, opcode: int, payload: bytes) -> None:
        # A mask of zeros is one, too.
        length = (
            bytes([128 | len(payload)])
            if len(payload) <= 125  # noqa: PLR2004
            else b"\xfe" + len(payload).to_bytes(2, "big")
        )
        self._transport.write(bytes([128 | opcode]) + length + bytes(4) + payload)

    def _take(self, payload: bytes, now: int) -> None:
        told = _messages(payload)
        for message in told if isinstance(told, list) else [told]:
            if message.type == "snapshot":
                self.ready.set()
            elif message.type == "delta" and message.channel == "ticks":
                self._seen += [now - at for at, _, _ in _ticks(message.data)]


async def _clients(pipe: Connection, url: str, clients: int, interval_ms: int) -> None:
    seen: list[list[int]] = [[] for _ in range(clients)]
    loop, address = asyncio.get_running_loop(), urlsplit(url)
    host, port = address.hostname or "127.0.0.1", address.port or 80
    followers: list[_Follower] = []
    for number in range(clients):
        follower = _Follower(number, interval_ms, seen[number])
        await loop.create_connection(lambda made=follower: made, host, port)  # type: ignore[misc]  # mypy cannot infer lambdas with defaults
        followers.append(follower)
        async with asyncio.timeout(60):
            await follower.ready.wait()
    process = psutil.Process()
    pipe.send("ready")
    await asyncio.sleep(_SETTLE_SECONDS)
    process.cpu_percent(None)
    for each in seen:
        each.clear()
    await loop.run_in_executor(None, pipe.recv)
    cpu = process.cpu_percent(None) / 100
    if any(each.ended.is_set() for each in followers):
        raise RuntimeError("A client was cut off.")
    counts = [len(each) for each in seen]
    # Of 100 million trades a sample is enough.
    step = max(sum(counts) // 2_000_000, 1)
    cuts = statistics.quantiles([late for each in seen for late in each[::step]], n=100)
    pipe.send(
        {
            "delivered": sum(counts),
            "fewest": min(counts) / max(*counts, 1),
            "p50": cuts[49] / 1000,
            "p95": cuts[94] / 1000,
            "p99": cuts[98] / 1000,
            "client_cpu": cpu,
        }
    )


def _run_server(pipe: Connection, rate: int, seconds: float) -> None:
    uvloop.run(_serve(pipe, rate, seconds))


def _run_clients(pipe: Connection, url: str, clients: int, interval_ms: int) -> None:
    uvloop.run(_clients(pipe, url, clients, interval_ms))


def measure_one(clients: int, rate: int, seconds: float, interval_ms: int = 0) -> Measured:
    """Return what came of one measurement."""
    context = get_context("spawn")
    to_server, of_server = context.Pipe()
    to_clients, of_clients = context.Pipe()
    server = context.Process(target=_run_server, args=(of_server, rate, seconds))
    server.start()
    # Where a process dies, `recv` shall end and not wait for ever.
    of_server.close()
    url = to_server.recv()
    many = context.Process(target=_run_clients, args=(of_clients, url, clients, interval_ms))
    many.start()
    of_clients.close()
    to_clients.recv()
    to_server.send("go")
    told = to_server.recv()
    to_clients.send("enough")
    told |= to_clients.recv()
    server.join()
    many.join()
    return Measured(clients=clients, rate=rate, seconds=seconds, **told)


def measure(*, quick: bool = False) -> list[Figure]:
    """Return tick-to-client latencies at 1,000 and 10,000 ticks a second with 50 clients."""
    figures = []
    for rate in (1_000, 10_000):
        one = measure_one(50, rate, 5 if quick else 30)
        note = f"load {load_average():.1f}; server {one.server_cpu:.0%} of a core"
        for name, value, target in (
            ("p50", one.p50, ""),
            ("p95", one.p95, "< 5" if rate == 10_000 else ""),  # noqa: PLR2004  # DESIGN's goal
            ("p99", one.p99, "< 50" if rate == 10_000 else ""),  # noqa: PLR2004
        ):
            what = f"tick to WebSocket client, {rate:,} ticks/s, 50 clients, {name}"
            figures.append(Figure(what, value, "ms", target=target, note=note))
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--rate", type=int)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--interval-ms", type=int, default=0)
    given = parser.parse_args()
    if given.rate is None:
        show({"face": measure()})
        return
    one = measure_one(given.clients, given.rate, given.seconds, given.interval_ms)
    print(json.dumps(asdict(one), indent=1))


if __name__ == "__main__":
    main()
