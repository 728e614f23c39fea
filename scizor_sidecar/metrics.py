"""The sidecar's figures: latencies, rates, shares, uptime, queues, memory; as JSON, for Prometheus.

It listens to the pipelines; what it learns costs them microseconds. Every few seconds it tells
Valkey what the alert rules judge and what `scizor status` shows.
"""

import asyncio
import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psutil
import redis.asyncio
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from scizor_core.sessions import get_calendar
from scizor_core.stream.trades import MICROSECONDS
from scizor_resources.streaming import (
    CHOICES_KEY,
    STATE_SECONDS,
    UPTIME_SECONDS,
    state_key,
    uptime_key,
)
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.feeds.connection import FeedState
from scizor_sidecar.latency import BUCKETS_MS, Latency, bucket_names
from scizor_sidecar.permit import ALWAYS, Permit
from scizor_sidecar.pipeline import FeedPipeline, Window
from scizor_sidecar.uptime import Uptime

SAMPLE_SECONDS = 1.0
_PUBLISH_SECONDS = 5.0
_ASK_SECONDS = 2.0
_SHARES = (0.5, 0.95, 0.99)
#: Of a big batch so many trades tell of its latency.
_MOST_LOOKED_AT = 64
#: Rates are those of the last samples.
_RATE_SAMPLES = 10
#: A trade that is older did not come live: a snapshot, or a tape.
_LIVE_SECONDS = 3600
#: How fine latencies to clients are counted, and how many different ones until they are taken.
_HANDED_STEP_US = 100
_MOST_HANDED = 10_000


@dataclass
class _Symbol:
    """What is known of an instrument."""

    trades: int = 0
    to_bar: Latency = field(default_factory=Latency)
    to_client: Latency = field(default_factory=Latency)


@dataclass
class _Feed:
    """What is known of a feed."""

    since: int = 0
    data: Latency = field(default_factory=Latency)
    to_bar: Latency = field(default_factory=Latency)
    samples: list[tuple[float, int]] = field(default_factory=list)

    def rate(self) -> float:
        """Trades a second."""
        if len(self.samples) < 2:  # noqa: PLR2004  # a rate is between two
            return 0.0
        (first, before), (last, after) = self.samples[0], self.samples[-1]
        return (after - before) / (last - first) if last > first else 0.0


class Metrics(Collector):
    """Listens to the pipelines and knows their figures.

    Args:
        pipelines: feed -> its pipeline.
        now: clock, aware.
        client: Valkey, None where nobody is to be told.
        choice: what is streamed, as `choice_of` says it; each choice has a state of its own.
        permit: whether this process may write there.
        markets: feed -> the markets it is set up for.

    Attributes:
        gauges: figures of other parts, read when they are needed.
        identity: what the process says of itself in Valkey: pid, address.
    """

    def __init__(
        self,
        pipelines: Mapping[str, FeedPipeline],
        now: Callable[[], datetime],
        *,
        client: "redis.asyncio.Redis | None" = None,
        choice: str = "",
        permit: Permit = ALWAYS,
        markets: Mapping[str, Collection[str]] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pipelines, self._now, self._client = pipelines, now, client
        self._choice, self._permit = choice, permit
        self._monotonic, self._set_up = monotonic, dict(markets or {})
        self._began = monotonic()
        self._symbols: dict[tuple[str, str], _Symbol] = {}
        self._feeds: dict[str, _Feed] = {}
        self._to_client = Latency()
        #: (instrument, latency in steps) -> messages that were handed to clients so late.
        self._handed: dict[tuple[Stream, int], int] = {}
        self._process = psutil.Process(os.getpid())
        self._cpu_percent = 0.0
        self._uptime = Uptime()
        self.gauges: dict[str, Callable[[], float]] = {}
        self.identity: Callable[[], Mapping[str, Any]] = dict
        self._registry = CollectorRegistry()
        self._registry.register(self)

    # ---- what it is told

    def on_window(self, window: Window) -> None:
        """Take latencies and counts of a pass."""
        if window.intake is None or not window.received_at[0]:
            return
        at, feed = self._monotonic(), self._feed(window.feed)
        to_bar = (self._now_us() - window.received_at[0]) / 1000
        trades = window.intake.trades
        feed.to_bar.add(to_bar, at, max(len(trades), 1))
        numbers, counts = np.unique(trades.symbol, return_counts=True)
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            symbol = self._symbol(window.streams[number])
            symbol.trades += count
            symbol.to_bar.add(to_bar, at, count)
        step = max(len(trades) // _MOST_LOOKED_AT, 1)
        for ts in trades.ts[::step].tolist():
            late_ms = (window.received_at[1] - ts) / 1000
            if late_ms < _LIVE_SECONDS * 1000:
                feed.data.add(late_ms, at)

    def on_state(self, feed: str, state: FeedState, why: str, at: int) -> None:
        """Note since when a feed is as it is."""
        del state, why
        self._feed(feed).since = at

    def sent(self, stream: Stream, received_at: int, sent_at: int) -> None:
        """Take the latency from a tick's arrival to its being handed to a client's connection.

        Args:
            stream: the instrument.
            received_at: arrival of the tick, microseconds UTC.
            sent_at: when it was handed over, likewise.
        """
        # With many clients this is called more often than anything else: it only counts.
        key = (stream, max(sent_at - received_at, 0) // _HANDED_STEP_US)
        self._handed[key] = self._handed.get(key, 0) + 1
        if len(self._handed) > _MOST_HANDED:
            self._take_handed()

    def _take_handed(self) -> None:
        """Put what was handed to clients into the histograms."""
        handed, self._handed = self._handed, {}
        at = self._monotonic()
        for (stream, steps), times in handed.items():
            milliseconds = (steps + 0.5) * _HANDED_STEP_US / 1000
            self._to_client.add(milliseconds, at, times)
            self._symbol(stream).to_client.add(milliseconds, at, times)

    def _feed(self, name: str) -> _Feed:
        return self._feeds.setdefault(name, _Feed())

    def _symbol(self, stream: Stream) -> _Symbol:
        key = (stream.market, stream.symbol)
        found = self._symbols.get(key)
        if found is None:
            found = self._symbols[key] = _Symbol()
        return found

    def _now_us(self) -> int:
        return int(self._now().timestamp() * MICROSECONDS)

    # ---- its own rounds

    async def run(self) -> None:
        """Sample rates and uptime every second, tell Valkey every few, until cancelled."""
        await self._go_on()
        published = self._monotonic()
        while True:
            began = self._monotonic()
            await asyncio.sleep(SAMPLE_SECONDS)
            self.sample(self._monotonic() - began)
            if self._monotonic() - published >= _PUBLISH_SECONDS:
                published = self._monotonic()
                await self.publish()

    def sample(self, seconds: float) -> None:
        """Take what is to be sampled, and count that stretch of time."""
        at, minute = self._monotonic(), self._minute()
        self._take_handed()
        self._cpu_percent = self._process.cpu_percent(None)
        for name, pipeline in self._pipelines.items():
            feed = self._feed(name)
            feed.samples = [*feed.samples[-_RATE_SAMPLES:], (at, pipeline.counts.trades)]
            # A feed that has nothing to stream misses nothing.
            is_used = pipeline.state is not FeedState.IDLE
            if is_used and self._is_open(name, self._now()):
                self._uptime.add(name, minute, seconds, is_connected=pipeline.is_connected)

    def _minute(self) -> int:
        return int(self._now().timestamp() // 60)

    def _markets(self, feed: str) -> set[str]:
        return {stream.market for stream in self._pipelines[feed].streams}

    def _is_open(self, feed: str, at: datetime) -> bool:
        return feed != "tape" and _any_open(self._markets(feed), at)

    async def _go_on(self) -> None:
        """Go on counting the uptime from where an earlier process ended."""
        if self._client is None:
            return
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                kept = await self._client.get(uptime_key(self._choice))
            told = json.loads(kept) if kept else {}
        except (RedisError, OSError, ValueError):
            return
        self._uptime.go_on(
            told,
            self._minute(),
            lambda feed, minute: _any_open(
                self._set_up.get(feed, ()), datetime.fromtimestamp(minute * 60, UTC)
            ),
        )

    async def publish(self) -> None:
        """Tell Valkey how it stands."""
        if self._client is None:
            return
        await self._permit.sure()
        state = json.dumps({**self.identity(), "at": _text(self._now()), **self.state()})
        uptime = json.dumps(self._uptime.as_json())
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                await self._client.set(state_key(self._choice), state, ex=STATE_SECONDS)
                await self._client.set(uptime_key(self._choice), uptime, ex=UPTIME_SECONDS)
                if self._choice:
                    await self._client.sadd(CHOICES_KEY, self._choice)
                    await self._client.expire(CHOICES_KEY, UPTIME_SECONDS)
        except (RedisError, OSError):
            # Who looks finds nothing, which says as much.
            return

    async def withdraw(self) -> None:
        """Say that the process has ended."""
        if self._client is None:
            return
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                await self._client.delete(state_key(self._choice))
        except (RedisError, OSError):
            return

    # ---- what it tells

    def state(self) -> dict[str, Any]:
        """Return what others judge: the feeds and the KPIs of the alert rules."""
        return {"feeds": self._feed_states(), "kpis": self._kpis()}

    def as_json(self) -> dict[str, Any]:
        """Return all figures.

        Latencies are milliseconds over the last five minutes; buckets count since the start.
        """
        at = self._monotonic()
        self._take_handed()
        memory = self._process.memory_info().rss
        return {
            "uptime_seconds": round(at - self._began, 1),
            "memory_bytes": memory,
            "cpu_percent": self._cpu_percent,
            "trades_per_second": round(sum(each.rate() for each in self._feeds.values()), 1),
            "valid_share": self._valid_share(self._pipelines.values()),
            "queue_depth": sum(each.waiting for each in self._pipelines.values()),
            "feeds": self._feed_states(),
            "latency_ms": {
                "tick_to_bar": self._latency(self._all_to_bar(), at),
                "tick_to_client": self._latency([self._to_client], at),
            },
            "symbols": {
                f"{market}:{symbol}": {
                    "trades": each.trades,
                    "tick_to_bar": _percentiles(each.to_bar, at),
                    "tick_to_client": _percentiles(each.to_client, at),
                }
                for (market, symbol), each in sorted(self._symbols.items())
            },
            "parts": {name: gauge() for name, gauge in sorted(self.gauges.items())},
        }

    def exposition(self) -> bytes:
        """Return the figures as Prometheus reads them."""
        return generate_latest(self._registry)

    def _all_to_bar(self) -> list[Latency]:
        return [each.to_bar for each in self._feeds.values()]

    @staticmethod
    def _latency(latencies: Iterable[Latency], at: float) -> dict[str, Any]:
        known = [each for each in latencies if each.count]
        worst: dict[str, float | None] = {"p50": None, "p95": None, "p99": None}
        if known:
            worst = dict(_percentiles(max(known, key=lambda each: _p95(each, at)), at))
        buckets = [sum(row) for row in zip(*(each.totals for each in known), strict=True)]
        counts = dict(zip(bucket_names(), buckets or [0] * (len(BUCKETS_MS) + 1), strict=True))
        return {**worst, "count": sum(each.count for each in known), "buckets": counts}

    @staticmethod
    def _valid_share(pipelines: Iterable[FeedPipeline]) -> float | None:
        good = bad = 0
        for each in pipelines:
            good += each.counts.trades
            bad += each.counts.quarantined + each.counts.unreadable
        return good / (good + bad) if good + bad else None

    def _feed_states(self) -> dict[str, Any]:
        at, minute = self._monotonic(), self._minute()
        found = {}
        for name, pipeline in self._pipelines.items():
            feed = self._feed(name)
            found[name] = {
                "state": str(pipeline.state),
                "why": pipeline.why,
                "since": _text_us(feed.since),
                "markets": sorted(self._markets(name)),
                "streams": len(pipeline.streams),
                "silent_seconds": round(pipeline.silent_seconds, 1),
                "queue_depth": pipeline.waiting,
                "trades_per_second": round(feed.rate(), 1),
                "valid_share": self._valid_share([pipeline]),
                "uptime_percent": self._uptime.percent(name, minute),
                "data_latency_ms": _percentiles(feed.data, at),
                "counts": asdict(pipeline.counts),
            }
        return found

    def _kpis(self) -> dict[str, list[dict[str, Any]]]:
        at, minute = self._monotonic(), self._minute()
        latency, uptime = [], []
        for name in self._pipelines:
            markets = self._markets(name)
            if not markets or name == "tape":
                continue
            market = next(iter(markets)) if len(markets) == 1 else None
            (p95,) = self._feed(name).data.percentiles((0.95,), at)
            about = {"subject": name, "market": market}
            latency.append({**about, "value": p95, "note": "95 of 100 ticks in five minutes"})
            share = self._uptime.percent(name, minute)
            is_idle = self._pipelines[name].state is FeedState.IDLE
            missing = "nothing is to be streamed" if is_idle else "its market is closed"
            note = "of the last hour" if share is not None else missing
            uptime.append({**about, "value": share, "note": note})
        return {"data_latency_ms": latency, "connection_uptime_percent": uptime}

    # ---- Prometheus

    def collect(self) -> Iterator[Metric]:
        """Give the figures to the registry."""
        yield from self._of_feeds()
        yield from self._of_latencies()
        memory = GaugeMetricFamily("scizor_memory_bytes", "Resident memory.")
        memory.add_metric([], self._process.memory_info().rss)
        cpu = GaugeMetricFamily("scizor_cpu_percent", "Use of one core, percent.")
        cpu.add_metric([], self._cpu_percent)
        parts = GaugeMetricFamily("scizor_part", "Figures of the stores.", labels=["name"])
        for name, gauge in sorted(self.gauges.items()):
            parts.add_metric([name], gauge())
        yield from (memory, cpu, parts)

    def _of_feeds(self) -> Iterator[Metric]:
        connected = GaugeMetricFamily("scizor_feed_connected", "1 if it is.", labels=["feed"])
        waiting = GaugeMetricFamily("scizor_queue_depth", "Trades that wait.", labels=["feed"])
        uptime = GaugeMetricFamily(
            "scizor_feed_uptime_percent", "Of the last hour's market hours.", labels=["feed"]
        )
        counters = CounterMetricFamily(
            "scizor_feed_events", "What a feed has delivered.", labels=["feed", "what"]
        )
        rules = CounterMetricFamily(
            "scizor_rule_hits", "Trades and quotes by rule.", labels=["feed", "rule"]
        )
        for name, pipeline in self._pipelines.items():
            connected.add_metric([name], float(pipeline.is_connected))
            waiting.add_metric([name], pipeline.waiting)
            share = self._uptime.percent(name, self._minute())
            if share is not None:
                uptime.add_metric([name], share)
            counts = asdict(pipeline.counts)
            for rule, hits in counts.pop("by_rule").items():
                rules.add_metric([name, rule], hits)
            for what, number in counts.items():
                counters.add_metric([name, what], number)
        yield from (connected, waiting, uptime, counters, rules)

    def _of_latencies(self) -> Iterator[Metric]:
        self._take_handed()
        histogram = HistogramMetricFamily(
            "scizor_latency_seconds", "Latency of ticks.", labels=["stage", "feed"]
        )
        stages = [("tick_to_client", "", self._to_client)]
        for name, feed in self._feeds.items():
            stages += [("exchange_to_here", name, feed.data), ("tick_to_bar", name, feed.to_bar)]
        for stage, name, latency in stages:
            edges = [f"{edge / 1000:g}" for edge in BUCKETS_MS] + ["+Inf"]
            counts = [sum(latency.totals[: each + 1]) for each in range(len(edges))]
            pairs = [(edge, float(count)) for edge, count in zip(edges, counts, strict=True)]
            histogram.add_metric([stage, name], pairs, latency.sums / 1000)
        yield histogram


def _any_open(markets: Iterable[str], at: datetime) -> bool:
    return any(get_calendar(market).is_open(at) for market in markets)


def _percentiles(latency: Latency, at: float) -> dict[str, float | None]:
    p50, p95, p99 = latency.percentiles(_SHARES, at)
    return {"p50": p50, "p95": p95, "p99": p99}


def _p95(latency: Latency, at: float) -> float:
    (value,) = latency.percentiles((0.95,), at)
    return -1.0 if value is None else value


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _text_us(at: int) -> str | None:
    if not at:
        return None
    return _text(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at))
