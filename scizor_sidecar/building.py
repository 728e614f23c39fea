"""The parts of the sidecar, made and tied to each other.

The order of the listeners is the order in which they learn of a pass.
"""

import asyncio
import importlib
import os
import socket
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import redis.asyncio

from scizor_core.errors import ConfigError
from scizor_core.markets import MARKETS
from scizor_core.sessions import get_calendar
from scizor_resources.platform import Platform
from scizor_sidecar.dagster_reports import DagsterReports, webserver_of
from scizor_sidecar.event_log import EventLog
from scizor_sidecar.face.app import make_app
from scizor_sidecar.face.hub import Hub
from scizor_sidecar.face.server import FaceServer, is_open_to_others
from scizor_sidecar.face.state import FaceState
from scizor_sidecar.face.stored import StoredHistory
from scizor_sidecar.face.threads import Threads
from scizor_sidecar.feeds.base import Stream, price_steps_of
from scizor_sidecar.feeds.ccxt_pro import WIRES
from scizor_sidecar.feeds.connection import Connection
from scizor_sidecar.feeds.registry import FEEDS
from scizor_sidecar.halts import FeedNotices, HaltBook
from scizor_sidecar.healing import Healer
from scizor_sidecar.hot_writer import HotWriter
from scizor_sidecar.journal import Journal
from scizor_sidecar.live_indicators import LiveIndicators
from scizor_sidecar.metrics import Metrics
from scizor_sidecar.outage_book import OutageBook
from scizor_sidecar.permit import ALWAYS, Permit
from scizor_sidecar.pipeline import FeedPipeline, Listener, StreamedBar, Window
from scizor_sidecar.spool import Spool
from scizor_sidecar.subscriptions import Subscriptions, feeds_of
from scizor_sidecar.warm_writer import WarmWriter

#: Feed -> its SDK. Importing one takes up to 20 s, in which a connection would seem silent.
_SDKS = {
    **dict.fromkeys(WIRES, "ccxt.pro"),
    "alpaca": "alpaca.data.live",
    "ibkr": "ib_async",
}

Work = Callable[[], Coroutine[Any, Any, None]]


def prepare(platform: Platform, only: Collection[str] | None = None) -> None:
    """Load what takes long: SDKs and calendars. Blocks; call it in a thread.

    Raises:
        ConfigError: nothing is to be streamed.
    """
    markets = chosen_feeds(platform, only)
    for name in dict.fromkeys(name for names in markets.values() for name in names):
        if name in _SDKS:
            importlib.import_module(_SDKS[name])
    for market in MARKETS:
        get_calendar(market)


def chosen_feeds(
    platform: Platform, only: Collection[str] | None = None
) -> dict[str, tuple[str, ...]]:
    """Return market -> its feeds in the order they are asked.

    Args:
        platform: for its settings.
        only: no others.

    Raises:
        ConfigError: no feed at all is left, or one of `only` is not set up; the message says
            what to set.
    """
    set_up = {market: feeds_of(platform, market, FEEDS) for market in MARKETS}
    if only is not None:
        known = {name for each in set_up.values() for name in each}
        if not known.issuperset(only):
            raise ConfigError(
                f"Not set up as a live feed: {', '.join(sorted(set(only) - known))}; set up are "
                f"{', '.join(sorted(known)) or 'none'}. See SCIZOR_STREAM_ASX, SCIZOR_STREAM_US, "
                "SCIZOR_STREAM_CRYPTO."
            )
    found = {
        market: tuple(name for name in names if only is None or name in only)
        for market, names in set_up.items()
    }
    if not any(found.values()):
        raise ConfigError(
            "No live feed is set up, so that there is nothing to stream. Name feeds in "
            f"SCIZOR_STREAM_ASX, SCIZOR_STREAM_US or SCIZOR_STREAM_CRYPTO: {', '.join(FEEDS)}."
        )
    return found


def choice_of(feeds: Collection[str] | None, symbols: Collection[str] | None) -> str:
    """Return as a text what is to be streamed, "" for everything."""
    return ":".join(
        f"{kind}={','.join(sorted(chosen))}"
        for kind, chosen in (("feeds", feeds), ("symbols", symbols))
        if chosen is not None
    )


def folder_of(home: Path, feeds: Collection[str] | None, symbols: Collection[str] | None) -> Path:
    """Return the directory of journal, spool, log and reports.

    Those that share the work run at the same time; each choice has files of its own.
    """
    folder, choice = home / "stream", choice_of(feeds, symbols)
    return folder / sha256(choice.encode()).hexdigest()[:16] if choice else folder


@dataclass
class Built:
    """The parts, ready to run.

    Attributes:
        markets: market -> its feeds.
        face: what serves page and API.
        pipelines: feed -> its pipeline.
        work: part -> what runs until it is cancelled.
        flushes: part -> what brings all that it keeps to its store.
        closes: what is closed in the end.
    """

    markets: dict[str, tuple[str, ...]]
    face: FaceServer
    pipelines: dict[str, FeedPipeline] = field(default_factory=dict)
    work: dict[str, Work] = field(default_factory=dict)
    flushes: dict[str, Work] = field(default_factory=dict)
    closes: list[Work] = field(default_factory=list)

    async def greeting(self) -> str:
        """Return what people are told when it has begun."""
        await self.face.started.wait()
        feeds = "; ".join(
            f"{market}: {', '.join(names)}" for market, names in self.markets.items() if names
        )
        return f"Streaming {feeds}. Page and API: {self.face.url}"

    def add(self, name: str, part: Any) -> None:
        """Take in a part: what of `run`, `flush` it has."""
        if hasattr(part, "run"):
            self.work[name] = part.run
        if hasattr(part, "flush"):
            self.flushes[name] = part.flush

    async def close(self) -> None:
        """Close connections and files."""
        for close in self.closes:
            await close()


async def build(
    platform: Platform,
    client: "redis.asyncio.Redis",
    tell: Callable[[str], None],
    *,
    feeds: Collection[str] | None = None,
    symbols: frozenset[str] | None = None,
    host: str | None = None,
    port: int | None = None,
    permit: Permit = ALWAYS,
) -> Built:
    """Make all parts of the sidecar.

    Args:
        platform: the opened platform.
        client: Valkey.
        tell: takes sentences for people.
        feeds: only these feeds.
        symbols: only these symbols.
        host: address of the face, by default that of the settings.
        port: its port, by default that of the settings; 0 takes a free one.
        permit: whether this process may write.

    Raises:
        ConfigError: nothing is to be streamed.
    """
    settings = platform.settings
    folder = folder_of(settings.home, feeds, symbols)
    markets = chosen_feeds(platform, feeds)
    names = list(dict.fromkeys(name for chosen in markets.values() for name in chosen))
    made = {name: FEEDS[name](settings, platform) for name in names}
    listeners: list[Listener] = []
    pipelines = {
        name: FeedPipeline(name, listeners, platform.now, price_steps=price_steps_of(made[name]))
        for name in names
    }

    journal = await asyncio.to_thread(partial(Journal, folder, permit=permit))
    spool = await asyncio.to_thread(Spool, folder / "spool", settings.spool_limit_mb * 1024**2)
    log = await asyncio.to_thread(
        partial(EventLog, folder / "events", keep_days=settings.event_log_days, permit=permit)
    )
    reports = DagsterReports(
        webserver_of(settings.home), folder, platform.now, writes_indicators=True, permit=permit
    )

    def stored_until(stream: Stream, ts_us: int) -> None:
        journal.stored_until(stream, ts_us)
        reports.stored_until(stream, ts_us)

    def revised(bars: list[StreamedBar]) -> None:
        warm.bars(bars)
        hot.bars(bars)
        indicators.bars(bars)
        window = window_of(bars, pipelines)
        for each in (hub, log, reports):
            each.on_window(window)

    def lost(stream: Stream, start: int, end: int) -> None:
        healer.lost(stream, start, end)

    warm = WarmWriter(platform, spool, stored_until, alert=tell, lost=lost, permit=permit)
    reports.settled, reports.stored_of = warm.settled, warm.stored_of
    hot = HotWriter(client, platform, permit=permit, streamed=lambda: subscriptions.streamed)
    halts = HaltBook(platform, permit)
    metrics = Metrics(
        pipelines,
        platform.now,
        client=client,
        choice=choice_of(feeds, symbols),
        permit=permit,
        markets={
            name: [market for market, chosen in markets.items() if name in chosen] for name in names
        },
    )
    threads = Threads()
    hub = Hub(platform.now, StoredHistory(platform, threads), on_sent=metrics.sent)
    subscriptions = Subscriptions(
        platform, made, markets, pipelines, clients=hub.wanted, only=symbols
    )
    book = OutageBook(platform, permit)
    healer = Healer(
        platform,
        pipelines,
        journal,
        wanted=lambda feed: subscriptions.wanted[feed].streams,
        stored=warm.settled,
        revised=revised,
        resubscribe=subscriptions.again,
        book=book,
    )
    subscriptions.on_added = healer.added
    for name, pipeline in pipelines.items():
        pipeline.notices = FeedNotices(name, halts, healer.refetch)

    indicators = LiveIndicators(
        platform,
        (warm.on_indicators, hot.on_indicators, hub.on_indicators),
        settled=warm.settled,
    )
    state = FaceState(
        platform,
        hub,
        pipelines,
        metrics=metrics,
        subscriptions=subscriptions,
        healer=healer,
        now=platform.now,
        threads=threads,
        host=host,
        why_not_ready=lambda: [
            each for each in (warm.away, subscriptions.problem) if each is not None and each
        ],
    )
    face = FaceServer(
        make_app(state),
        host or settings.sidecar_host,
        settings.sidecar_port if port is None else port,
    )
    if settings.api_key is None and is_open_to_others(face.host):
        tell(
            f"Whoever reaches {face.host} may read all of this and change the watchlist: set "
            "SCIZOR_API_KEY, or listen on 127.0.0.1."
        )
    metrics.identity = lambda: {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "url": face.url,
        "not_streamed": len(subscriptions.not_streamed),
        "open_outages": len(healer.open_outages),
        "bars_waiting": warm.waiting,
        "batches_on_disk": warm.spooled,
        "reports_problem": reports.problem,
    }
    metrics.gauges = {
        "bars_waiting": lambda: warm.waiting,
        "warm_lag_seconds": lambda: warm.lag,
        "batches_on_disk": lambda: warm.spooled,
        "hot_failures": lambda: hot.failures,
        "events_lost": lambda: log.lost,
        "bars_written": lambda: warm.bars_written,
        "bars_lost": lambda: warm.lost_bars,
        "open_outages": lambda: len(healer.open_outages),
        "clients": lambda: len(hub.clients),
        "reports_told": lambda: reports.told,
        "changes_refused": lambda: book.refused + halts.refused,
        "journal_is_away": lambda: bool(journal.problem),
    }
    # Healing first, for it says which minutes may be whole; indicators before those who keep them.
    listeners += [healer, indicators, warm, hot, hub, log, metrics, reports]
    built = Built(markets, face, pipelines)
    for name, part in {
        "subscriptions": subscriptions,
        "healing": healer,
        "warm writer": warm,
        "hot writer": hot,
        "event log": log,
        "halts": halts,
        "indicators": indicators,
        "hub": hub,
        "metrics": metrics,
        "reports": reports,
        "face": face,
    }.items():
        built.add(name, part)
    for name, feed in made.items():
        built.work[f"{name} pipeline"] = pipelines[name].run
        connection = Connection(feed, subscriptions.wanted[name], pipelines[name])
        built.work[f"{name} connection"] = connection.keep
    built.flushes["journal"] = journal.flush
    # Not where another has taken over: it tells of itself there by now.
    built.flushes["state"] = metrics.withdraw
    built.closes += [reports.close, warm.close]
    built.closes += [_in_thread(journal.close), _in_thread(log.close)]
    return built


def window_of(bars: list[StreamedBar], pipelines: Mapping[str, FeedPipeline]) -> Window:
    """Return bars that healing has made beside a feed's engine as if a pass had made them."""
    feed = bars[0].source
    return Window(feed, pipelines[feed].streams, bars, [], [], None, (0, 0))


def _in_thread(work: Callable[[], None]) -> Work:
    async def do() -> None:
        await asyncio.to_thread(work)

    return do
