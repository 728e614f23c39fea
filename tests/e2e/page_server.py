"""A loopback stand-in for the sidecar's face: the page's files, the wire, and a scripted market.

It speaks what docs/streaming.md says the face speaks, of a Friday in Sydney that never was. Run it
by hand with `python -m tests.e2e.page_server` to look at the page.
"""

import asyncio
import json
import math
import random
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

PAGE = Path(__file__).parents[2] / "scizor_sidecar" / "face" / "page"
#: When the scripted day is opened: 13:32 in Sydney.
BEGIN = datetime(2026, 11, 20, 2, 32, 20, tzinfo=UTC)
_OPEN, _SESSION_MINUTES = timedelta(hours=23), 360
_EVERY_SECONDS = 0.05
_SECONDS = {"1m": 60, "5m": 300, "15m": 900, "1d": 86400}
_LEVELS = 10

Item = dict[str, Any]


@dataclass
class Paper:
    """One instrument of the scripted market."""

    market: str
    symbol: str
    name: str
    tier: int
    price: float
    step: float = 0.01
    depth: bool = False
    has_book: bool = True
    source: str = "ibkr"
    timezone: str = "Australia/Sydney"
    previous_close: float = 0.0
    bars: dict[str, list[Item]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.market}:{self.symbol}"


def papers() -> list[Paper]:
    """Return the watchlist: 18 instruments, one simulated and one sampled among them."""
    asx = [
        ("CBA", "Commonwealth Bank of Australia", 1, 171.2, True),
        ("BHP", "BHP Group", 1, 43.18, True),
        ("CSL", "CSL", 1, 214.6, False),
        ("WBC", "Westpac Banking Corporation", 1, 38.42, True),
        ("ANZ", "ANZ Group Holdings", 1, 35.07, False),
        ("NAB", "National Australia Bank", 1, 42.31, False),
        ("WOW", "Woolworths Group", 1, 28.9, False),
        ("WES", "Wesfarmers", 1, 83.44, False),
        ("RIO", "Rio Tinto", 2, 131.75, False),
        ("MQG", "Macquarie Group", 2, 205.3, False),
        ("FMG", "Fortescue", 2, 20.64, False),
        ("TLS", "Telstra Group", 2, 4.93, False),
        ("TCL", "Transurban Group", 2, 14.82, False),
        ("XRO", "Xero", 3, 148.2, False),
        ("WTC", "WiseTech Global", 3, 71.05, False),
    ]
    listed = [Paper("asx", *each[:4], depth=each[4]) for each in asx]
    return [
        *listed,
        Paper("crypto", "BTC/USD", "Bitcoin", 2, 91240.0, 0.1, source="kraken", timezone="UTC"),
        Paper("crypto", "SOL/USD", "Solana", 3, 132.4, source="coinspot:sampled", timezone="UTC"),
        Paper("asx", "ZIP", "Zip Co", 3, 3.31, 0.005, source="simulated"),
    ]


def iso(at: datetime) -> str:
    """Return an instant as the wire writes it."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _minutes(until: datetime) -> list[datetime]:
    """Return the minutes of Thursday's and Friday's session up to an instant."""
    found = []
    for days in (2, 1):
        day = until.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days)
        opened = day + _OPEN
        found += [opened + timedelta(minutes=each) for each in range(_SESSION_MINUTES)]
    return [each for each in found if each <= until]


def history(paper: Paper, until: datetime, chance: random.Random) -> list[Item]:
    """Return one-minute bars that lead up to the paper's price."""
    minutes = _minutes(until)
    wild, value, closes = 0.0006, 0.0, []
    for _ in minutes:
        wild = max(0.0002, min(0.0016, wild * math.exp(chance.gauss(0, 0.12))))
        value += chance.gauss(0, wild)
        closes.append(value)
    scale = paper.price / math.exp(closes[-1])
    bars, before = [], scale
    for at, close in zip(minutes, closes, strict=True):
        end = _tick(scale * math.exp(close), paper)
        reach = abs(end - before) * 0.4 + paper.price * 0.0003
        of_day = (at - at.replace(hour=2, minute=0)).total_seconds() / 10800
        bars.append(
            {
                "t": iso(at),
                "o": _tick(before, paper),
                "h": _tick(max(before, end) + chance.random() * reach, paper),
                "l": _tick(min(before, end) - chance.random() * reach, paper),
                "c": end,
                "v": 0
                if "sampled" in paper.source
                else round(abs(chance.gauss(900, 500)) * (1 + of_day * of_day * 3) + 60),
                "w": None,
                "n": chance.randrange(4, 90),
                "state": "closed",
                "source": paper.source,
                "revision": 0,
            }
        )
        before = end
    return bars


def _tick(value: float, paper: Paper) -> float:
    return round(round(value / paper.step) * paper.step, 4)


def grouped(bars: list[Item], seconds: int) -> list[Item]:
    """Return longer bars made of one-minute bars."""
    found: dict[float, Item] = {}
    for bar in bars:
        start = datetime.fromisoformat(bar["t"]).timestamp() // seconds * seconds
        into = found.get(start)
        if into is None:
            found[start] = {**bar, "t": iso(datetime.fromtimestamp(start, UTC))}
            continue
        into.update(h=max(into["h"], bar["h"]), l=min(into["l"], bar["l"]), c=bar["c"])
        into.update(v=into["v"] + bar["v"], n=into["n"] + bar["n"], state=bar["state"])
    return list(found.values())


def days_before(paper: Paper, until: datetime, chance: random.Random) -> list[Item]:
    """Return daily bars."""
    bars, close = [], paper.price * 0.82
    for back in range(260, 0, -1):
        day = (until - timedelta(days=back)).replace(hour=0, minute=0, second=0, microsecond=0)
        if day.weekday() > 4:  # noqa: PLR2004  # Saturday and Sunday
            continue
        begin, close = close, close * math.exp(chance.gauss(0.001, 0.012))
        bars.append(
            {
                "t": iso(day),
                "o": begin,
                "h": max(begin, close) * 1.006,
                "l": min(begin, close) * 0.994,
                "c": close,
                "v": chance.randrange(2_000_000, 6_000_000),
                "w": None,
                "n": None,
                "state": "closed",
                "source": "yahoo",
                "revision": 0,
            }
        )
    return bars


@dataclass(eq=False)
class Client:
    """A WebSocket and what it has subscribed to."""

    socket: web.WebSocketResponse
    keys: set[str] = field(default_factory=set)
    is_batched: bool = False


class PageServer:
    """The scripted face.

    Args:
        seed: of the market.
        api_key: the key that is asked for, None for none.
    """

    def __init__(self, seed: int = 7, api_key: str | None = None) -> None:
        self._chance = random.Random(seed)  # noqa: S311  # a scripted market, not a secret
        self.api_key = api_key
        self.papers = {each.id: each for each in papers()}
        self.clients: set[Client] = set()
        #: Key -> the number after which a client has asked to go on.
        self.resumed: dict[str, int] = {}
        #: The process hangs: sockets stay open, nothing comes.
        self.is_silent = False
        self.feeds: dict[str, Item] = {}
        self._seq = 1000
        self._began = asyncio.get_running_loop().time()
        for name, markets in (("ibkr", ["asx"]), ("kraken", ["crypto"]), ("coinspot", ["crypto"])):
            self.feeds[name] = {
                "type": "feed",
                "feed": name,
                "market": markets[0],
                "markets": markets,
                "state": "connected",
                "why": "subscribed",
                "since": iso(BEGIN - timedelta(hours=3)),
            }
        self.feeds["alpaca"] = {
            **self.feeds["ibkr"],
            "feed": "alpaca",
            "market": "us",
            "markets": ["us"],
            "state": "idle",
            "why": "its market is closed",
        }
        #: What comes of some instruments less than of others.
        self.limits: Item = {"type": "limits", "sampled": [], "without_book": {}}
        self.alerts = [
            {
                "type": "alert",
                "id": 41,
                "severity": "medium",
                "kind": "kpi",
                "market": "asx",
                "title": "Staleness of asx/XRO 5m is 47 minutes, beyond 45",
                "acknowledged": False,
                "raised_at": iso(BEGIN - timedelta(minutes=12)),
                "resolved_at": None,
            },
            {
                "type": "alert",
                "id": 38,
                "severity": "low",
                "kind": "kpi",
                "market": None,
                "title": "Yahoo's limit is used by 83 %",
                "acknowledged": False,
                "raised_at": iso(BEGIN - timedelta(minutes=51)),
                "resolved_at": None,
            },
        ]
        for paper in self.papers.values():
            minutes = history(paper, BEGIN, self._chance)
            minutes[-1]["state"] = "forming"
            self._spoil(paper, minutes)
            paper.bars = {
                "1m": minutes,
                "5m": grouped(minutes, 300),
                "15m": grouped(minutes, 900),
                "1d": days_before(paper, BEGIN, self._chance),
            }
            paper.previous_close = minutes[_SESSION_MINUTES - 1]["c"]

    def _spoil(self, paper: Paper, bars: list[Item]) -> None:
        """Let a few minutes be other than closed."""
        if paper.symbol == "CBA":
            for bar in bars[-31:-25]:
                bar["state"] = "provisional"
            for back in (12, 40):
                bars[-back].update(state="revised", revision=1)

    def now(self) -> datetime:
        """Return the scripted time."""
        return BEGIN + timedelta(seconds=asyncio.get_running_loop().time() - self._began)

    # ---- what a test does to it

    async def cut(self, feed: str, why: str) -> None:
        """Let a feed lose its connection."""
        await self._set_feed(feed, "waiting", why)

    async def restore(self, feed: str) -> None:
        """Let a feed connect again."""
        await self._set_feed(feed, "connected", "subscribed")

    async def _set_feed(self, feed: str, state: str, why: str) -> None:
        self.feeds[feed] = {
            **self.feeds[feed],
            "state": state,
            "why": why,
            "since": iso(self.now()),
        }
        await self.tell(self.feeds[feed])

    async def limit(self, sampled: list[str], without_book: dict[str, str]) -> None:
        """Let only samples of some instruments' trades come, and no order books of others."""
        self.limits = {"type": "limits", "sampled": sampled, "without_book": without_book}
        for each in sampled:
            self.papers[each].source += ":sampled"
        for each in without_book:
            self.papers[each].has_book = False
        await self.tell(self.limits)

    async def drop_clients(self) -> None:
        """Close all WebSockets."""
        for client in [*self.clients]:
            await client.socket.close(code=1012)

    async def tell(self, message: Item) -> None:
        """Send everybody a message."""
        for client in [*self.clients]:
            await self._send(client, [message])

    # ---- the market

    async def run(self) -> None:
        """Trade twenty times a second in every instrument whose feed is connected."""
        rounds = 0
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            rounds += 1
            changed: dict[str, Item] = {}
            for paper in self.papers.values():
                if self._is_connected(paper):
                    self._trade(paper, changed, with_book=rounds % 2 == 0)
            if rounds % 80 == 0:
                self._doubt(changed)
            if rounds % 40 == 0:
                await self.tell(
                    {
                        "type": "kpi",
                        "time": iso(self.now()),
                        "data": self._kpis(),
                        "stream": self._stream(),
                    }
                )
            for client in [*self.clients]:
                messages = [each for key, each in changed.items() if key in client.keys]
                if messages:
                    await self._send(client, messages)

    def _is_connected(self, paper: Paper) -> bool:
        name = paper.source.split(":")[0]
        return name == "simulated" or self.feeds[name]["state"] == "connected"

    def _trade(self, paper: Paper, changed: dict[str, Item], *, with_book: bool) -> None:
        chance, at = self._chance, self.now()
        drift = chance.gauss(0, paper.price * 0.00006)
        paper.price = _tick(max(paper.step, paper.price + drift), paper)
        size = chance.randrange(1, 4)
        quote = {
            "t": iso(at),
            "bid": _tick(paper.price - paper.step, paper),
            "ask": _tick(paper.price + paper.step, paper),
            "bid_size": chance.randrange(100, 4000),
            "ask_size": chance.randrange(100, 4000),
        }
        trade = [int(at.timestamp() * 1e6), paper.price, size]
        self._put(changed, "ticks", paper, None, [trade, quote])
        for timeframe in ("1m", "5m", "15m"):
            self._put(changed, "bars", paper, timeframe, self._extend(paper, timeframe, at, size))
        if paper.depth and paper.has_book and with_book:
            self._put(changed, "book", paper, None, [self._book(paper, at)])

    def _extend(self, paper: Paper, timeframe: str, at: datetime, size: int) -> list[Item]:
        bars = paper.bars[timeframe]
        seconds = _SECONDS[timeframe]
        start = iso(datetime.fromtimestamp(at.timestamp() // seconds * seconds, UTC))
        last = bars[-1]
        price = paper.price
        if last["t"] == start:
            last.update(h=max(last["h"], price), l=min(last["l"], price), c=price, state="forming")
            last.update(v=last["v"] + size, n=last["n"] + 1)
            return [last]
        last["state"] = "closed"
        bars.append(
            {
                "t": start,
                "o": price,
                "h": price,
                "l": price,
                "c": price,
                "v": size,
                "w": price,
                "n": 1,
                "state": "forming",
                "source": paper.source,
                "revision": 0,
            }
        )
        return bars[-2:]

    def _book(self, paper: Paper, at: datetime) -> Item:
        def side(way: int) -> list[list[float]]:
            return [
                [
                    _tick(paper.price + way * paper.step * each, paper),
                    self._chance.randrange(200, 3000) * each,
                ]
                for each in range(1, _LEVELS + 1)
            ]

        return {"t": iso(at), "bids": side(-1), "asks": side(1)}

    def _doubt(self, changed: dict[str, Item]) -> None:
        for symbol, rule, verdict in (
            ("asx:TLS", "volume_spike", "flag"),
            ("asx:FMG", "price_jump", "quarantine"),
        ):
            row = {
                "t": iso(self.now()),
                "rule": rule,
                "verdict": verdict,
                "count": self._chance.randrange(1, 4),
            }
            self._put(changed, "quality", self.papers[symbol], None, [row])

    def _put(
        self,
        changed: dict[str, Item],
        channel: str,
        paper: Paper,
        timeframe: str | None,
        data: list[Any],
    ) -> None:
        message = self._message("delta", channel, paper, timeframe, data)
        changed[message["key"]] = message

    def _message(
        self, kind: str, channel: str, paper: Paper, timeframe: str | None, data: list[Any]
    ) -> Item:
        self._seq += 1
        key = f"{channel}|{paper.id}" + (f"|{timeframe}" if timeframe else "")
        return {
            "type": kind,
            "key": key,
            "channel": channel,
            "market": paper.market,
            "symbol": paper.symbol,
            "timeframe": timeframe,
            "seq": self._seq,
            "data": data,
        }

    # ---- the wire

    async def _send(self, client: Client, messages: list[Item]) -> None:
        if self.is_silent:
            return
        frames: list[Any] = [messages] if client.is_batched else messages
        with suppress(ConnectionError):
            for frame in frames:
                await client.socket.send_str(json.dumps(frame))

    async def realtime(self, request: web.Request) -> web.WebSocketResponse:
        """Serve one WebSocket."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        client = Client(socket)
        self.clients.add(client)
        await self._welcome(client, "none" if self.api_key is None else "needed")
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT and not self.is_silent:
                    await self._answer(client, json.loads(message.data))
        finally:
            self.clients.discard(client)
        return socket

    async def _welcome(self, client: Client, auth: str) -> None:
        hello = {"type": "hello", "version": 1, "time": iso(self.now()), "auth": auth, "limits": {}}
        rest = [] if auth == "needed" else [*self.feeds.values(), self.limits, *self.alerts]
        await self._send(client, [hello, *rest])

    async def _answer(self, client: Client, request: Item) -> None:
        if request["op"] == "ping":
            await self._send(client, [{"type": "pong", "time": iso(self.now())}])
            return
        if request["op"] == "auth":
            if request["key"] == self.api_key:
                await self._welcome(client, "done")
            return
        self.resumed |= request.get("resume", {})
        keys = [
            (channel, self.papers[symbol], timeframe)
            for channel in request["channels"]
            for symbol in request["symbols"]
            for timeframe in (
                request["timeframes"] if channel in {"bars", "indicators"} else [None]
            )
        ]
        names = {f"{c}|{p.id}" + (f"|{t}" if t else "") for c, p, t in keys}
        if request["op"] == "unsubscribe":
            client.keys -= names
            return
        client.is_batched = request.get("batch", False)
        client.keys |= names
        for channel, paper, timeframe in keys:
            data = paper.bars[timeframe][-500:] if channel == "bars" and timeframe else []
            await self._send(client, [self._message("snapshot", channel, paper, timeframe, data)])

    # ---- the routes

    def _entry(self, paper: Paper) -> Item:
        return {
            "market": paper.market,
            "symbol": paper.symbol,
            "name": paper.name,
            "list": "default",
            "tier": paper.tier,
            "active": True,
            "collect_1min": True,
            "collect_5min": True,
            "notes": "",
            "depth": paper.depth,
            "no_book": self.limits["without_book"].get(paper.id),
            "price": paper.price,
            "price_at": iso(self.now()),
            "previous_close": paper.previous_close,
            "timezone": paper.timezone,
            "source": paper.source,
            "change_percent": (paper.price / paper.previous_close - 1) * 100,
            "feed": None if paper.source == "simulated" else paper.source.split(":")[0],
            "is_live": True,
            "is_simulated": paper.source == "simulated",
            "is_sampled": "sampled" in paper.source,
            "freshness": "fresh",
            "age_seconds": 0.1,
            "market_open": True,
            "quality": {
                "session_date": "2026-11-19",
                "score": 98.5,
                "coverage": 0.997,
                "missing": 1,
            },
        }

    def _kpis(self) -> list[Item]:
        cut = any(each["state"] == "waiting" for each in self.feeds.values())
        rows = [
            (
                "data_latency_ms",
                "Data latency",
                84 + self._chance.random() * 30,
                "ms",
                "above",
                {"high": 500, "critical": 2000},
                "ok",
                "ibkr",
            ),
            (
                "connection_uptime_percent",
                "Connection uptime",
                99.41 if cut else 99.96,
                "percent",
                "below",
                {"medium": 99.9, "high": 99, "critical": 95},
                "medium" if cut else "ok",
                "ibkr",
            ),
            (
                "completeness_percent",
                "Completeness",
                99.72,
                "percent",
                "below",
                {"medium": 99.5, "high": 98, "critical": 95},
                "ok",
                "asx/XRO 5m",
            ),
            (
                "staleness_minutes",
                "Staleness",
                47,
                "minutes",
                "above",
                {"medium": 45, "high": 90},
                "medium",
                "asx/XRO 5m",
            ),
            (
                "rate_limit_use_percent",
                "Rate limit use",
                83.0,
                "percent",
                "above",
                {"low": 80, "medium": 90, "high": 95},
                "low",
                "yahoo",
            ),
            (
                "disk_use_percent",
                "Disk use",
                41.3,
                "percent",
                "above",
                {"medium": 85, "high": 90, "critical": 95},
                "ok",
                "SCIZOR_HOME",
            ),
        ]
        names = ("name", "label", "value", "unit", "direction", "thresholds", "state", "subject")
        return [
            {
                **dict(zip(names, row, strict=True)),
                "subjects": 3,
                "note": "",
                "measured_at": iso(self.now()),
            }
            for row in rows
        ]

    def _stream(self) -> Item:
        buckets = {"<10": 91000, "<25": 5200, "<50": 1400, "<100": 420, ">=100": 60}
        latency = {"p50": 3.1, "p95": 11.7, "p99": 31.2, "count": 98080, "buckets": buckets}
        return {
            "uptime_seconds": 11000,
            "memory_bytes": 214_000_000,
            "cpu_percent": 7.4,
            "trades_per_second": 20 * len(self.papers),
            "valid_share": 0.99987,
            "queue_depth": 0,
            "latency_ms": {"tick_to_bar": {**latency, "p95": 6.4}, "tick_to_client": latency},
        }

    async def answer(self, request: web.Request) -> web.Response:
        """Answer a route of the face."""
        if self.api_key is not None and request.headers.get("X-API-Key") != self.api_key:
            return web.json_response({"error": "No key.", "what_to_do": "Send it."}, status=401)
        path, query = request.path, request.query
        if path == "/api/watchlist":
            return web.json_response(
                {
                    "time": iso(self.now()),
                    "count": len(self.papers),
                    "entries": [self._entry(each) for each in self.papers.values()],
                }
            )
        if path == "/api/metrics":
            return web.json_response(
                {"time": iso(self.now()), "kpis": self._kpis(), "stream": self._stream()}
            )
        paper = self.papers[f"{query['market']}:{path.split('/')[4].replace('-', '/')}"]
        if path.endswith("/catalysts"):
            return web.json_response({"events": self._catalysts(paper)})
        bars = [
            each for each in paper.bars[query["timeframe"]] if each["t"] < query.get("end", "9")
        ]
        return web.json_response(
            {"tier": "hot", "bars": bars[-int(query["limit"]) :], "empty_reason": None}
        )

    def _catalysts(self, paper: Paper) -> list[Item]:
        rows = [
            (74, "earnings", "Quarterly trading update", 8),
            (188, "dividend", "Interim dividend of 2.25 goes ex", 5),
            (255, "insider", "Director buys 4,000 shares on market", 3),
        ]
        bars = paper.bars["1m"]
        return [
            {
                "t": bars[-back]["t"],
                "published_at": bars[-back]["t"],
                "type": kind,
                "title": f"{paper.name}: {title}",
                "description": "",
                "impact": impact,
                "url": "https://example.org/",
                "source": "edgar",
                "is_sample": kind == "insider",
            }
            for back, kind, title, impact in rows
        ]

    async def start(self, port: int = 0) -> tuple[web.AppRunner, int]:
        """Listen on the loopback; returns the runner to clean up and the port."""

        async def index(_: web.Request) -> web.FileResponse:
            return web.FileResponse(PAGE / "index.html")

        app = web.Application()
        app.router.add_get("/", index)
        app.router.add_get("/ws/realtime", self.realtime)
        app.router.add_get("/api/{path:.*}", self.answer)
        app.router.add_static("/", PAGE)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        found: int = runner.addresses[0][1]
        return runner, found


async def _serve(port: int) -> None:
    server = PageServer()
    _, port = await server.start(port)
    sys.stdout.write(f"http://127.0.0.1:{port}/\n")
    await server.run()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]) if len(sys.argv) > 1 else 8788))
