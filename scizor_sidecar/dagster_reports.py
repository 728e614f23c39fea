"""What was streamed, told to Dagster: materializations of streaming/live_ticks and live_bars.

A bar is told of when it is stored, so that whoever is launched by it finds it. While the webserver
is away what is to be told is merged, kept over a restart, and told when it answers again.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import astuple, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from scizor_core.sources import without_sampled
from scizor_core.stream.engine import BarState, Intake
from scizor_core.stream.trades import MICROSECONDS, TradeBatch
from scizor_resources.health.processes import read_up
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.feeds.connection import FeedState
from scizor_sidecar.permit import ALWAYS, Permit
from scizor_sidecar.pipeline import Window
from scizor_sidecar.session_days import SessionDays
from scizor_sidecar.warm_batch import BarKey

LIVE_TICKS, LIVE_BARS = "streaming/live_ticks", "streaming/live_bars"
FILE_NAME = "reports.json"
#: Reports go out at most so often: a minute close is one of them.
EVERY_SECONDS = 5.0
_TIMEOUT_SECONDS = 10.0
#: At the end so long is waited for the store, and then for the webserver.
_LAST_SECONDS = 1.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DAY = date(1970, 1, 1).toordinal()
_ANSWER_OK = 200
_SETS = ("symbols", "sources", "sessions")


@dataclass
class Report:
    """What is to be told of a market.

    Attributes:
        trades: that came and count.
        quarantined: that came and do not.
        bars: timeframe -> bars closed or revised.
        symbols: of those bars.
        sources: the feeds.
        sessions: dates of the sessions of those bars, ISO.
        first: start of the earliest bar, microseconds UTC; 0 without one.
        last: start of the latest bar.
        latency_ms: longest time from a tick's arrival to its bar.
        windows: passes that are told of together.
    """

    trades: int = 0
    quarantined: int = 0
    bars: dict[str, int] = field(default_factory=dict)
    symbols: set[str] = field(default_factory=set)
    sources: set[str] = field(default_factory=set)
    sessions: set[str] = field(default_factory=set)
    first: int = 0
    last: int = 0
    latency_ms: float = 0.0
    windows: int = 0

    def merge(self, other: "Report") -> None:
        """Take in another report of the same market."""
        self.trades += other.trades
        self.quarantined += other.quarantined
        for timeframe, count in other.bars.items():
            self.bars[timeframe] = self.bars.get(timeframe, 0) + count
        self.symbols |= other.symbols
        self.sources |= other.sources
        self.sessions |= other.sessions
        starts = [each for each in (self.first, other.first) if each]
        self.first = min(starts, default=0)
        self.last = max(self.last, other.last)
        self.latency_ms = max(self.latency_ms, other.latency_ms)
        self.windows += other.windows

    @property
    def has_ticks(self) -> bool:
        """Whether there is something to tell of trades."""
        return bool(self.trades or self.quarantined)

    @property
    def is_news(self) -> bool:
        """Whether there is something to tell."""
        return self.has_ticks or bool(self.bars)

    def without_ticks(self) -> "Report":
        """Return what is left when the trades have been told of."""
        return replace(self, trades=0, quarantined=0, latency_ms=0.0, windows=0)

    def as_json(self) -> dict[str, Any]:
        """Return it for the file."""
        return {**vars(self), **{name: sorted(vars(self)[name]) for name in _SETS}}

    @classmethod
    def of_json(cls, told: Mapping[str, Any]) -> "Report":
        """Return what `as_json` gave."""
        return cls(**{**told, **{name: set(told.get(name, ())) for name in _SETS}})


async def _at_once() -> None:
    """Wait for nothing."""


class DagsterReports:
    """Listens to the pipelines and tells Dagster's webserver.

    Args:
        url: finds the webserver's; None where none runs now.
        folder: where what could not be told is kept over a restart.
        now: clock, aware.
        writes_indicators: the sidecar writes the indicators of its bars itself.
        waits_for_store: bars are told of only when `stored_until` has said that they are stored.
        settled: waits until what has been made so far is stored; asked at the end.
        stored_of: of some bars those of which no newer state waits to be stored.
        permit: whether this process may tell.
        client: what asks; one of its own where it is not given.
    """

    def __init__(
        self,
        url: Callable[[], str | None],
        folder: Path,
        now: Callable[[], datetime],
        *,
        writes_indicators: bool = False,
        waits_for_store: bool = True,
        settled: Callable[[], Awaitable[None]] = _at_once,
        stored_of: Callable[[Iterable[BarKey]], Collection[BarKey]] = set,
        permit: Permit = ALWAYS,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        self._url, self._path, self._now = url, folder / FILE_NAME, now
        self._writes_indicators, self._waits_for_store = writes_indicators, waits_for_store
        self.settled, self.stored_of, self._permit = settled, stored_of, permit
        self._days = SessionDays()
        self._client = client or httpx.AsyncClient(timeout=_TIMEOUT_SECONDS)
        self._stored: dict[tuple[str, str], int] = {}
        self._ready: dict[str, Report] = {}
        #: Bar -> its end and source, until it is stored.
        self._waiting: dict[tuple[Stream, str, int], tuple[int, str]] = {}
        self._has_file = self._path.exists()
        self._read()
        #: Why the webserver could not be told the last time, "" where it could.
        self.problem = ""
        self.told = 0

    # ---- what it is told

    def on_window(self, window: Window) -> None:
        """Note what a pass has made."""
        if window.intake is not None:
            self._count(window, window.intake)
        for each in window.bars:
            if each.bar.state in (BarState.CLOSED, BarState.REVISED):
                key = (each.stream, each.bar.timeframe, each.bar.start)
                self._waiting[key] = each.bar.end, each.source

    def _count(self, window: Window, intake: Intake) -> None:
        took_us = int(self._now().timestamp() * MICROSECONDS) - window.received_at[0]
        trades = _by_market(window, intake.trades)
        refused = _by_market(window, intake.quarantined)
        for market in trades | refused:
            one = Report(
                trades=trades.get(market, 0),
                quarantined=refused.get(market, 0),
                sources={window.feed},
                latency_ms=took_us / 1000 if window.received_at[0] else 0.0,
                windows=1,
            )
            self._report(market).merge(one)

    def on_state(self, feed: str, state: FeedState, why: str, at: int) -> None:
        """Nothing is told of a feed's state: `quality.outages` has it."""

    def stored_until(self, stream: Stream, ts_us: int) -> None:
        """Take note that all minutes of a stream before an instant are stored."""
        key = (stream.market, stream.symbol)
        self._stored[key] = max(ts_us, self._stored.get(key, 0))

    def _report(self, market: str) -> Report:
        return self._ready.setdefault(market, Report())

    # ---- what it tells

    async def run(self) -> None:
        """Tell what is stored every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            await self.tell()

    async def flush(self) -> None:
        """Tell what there is, or keep it for the next process."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_SECONDS):
                await self.settled()
        try:
            async with asyncio.timeout(_LAST_SECONDS):
                await self.tell()
        except TimeoutError:
            self.problem = "there was no time left to tell it"
        await self._keep()

    async def _keep(self) -> None:
        """Let the file say what is not told yet."""
        left = {market: each.as_json() for market, each in self._ready.items() if each.is_news}
        waiting = [
            [astuple(stream), timeframe, start, *about]
            for (stream, timeframe, start), about in self._waiting.items()
        ]
        self._has_file = bool(left or waiting)
        if self._has_file:
            text = json.dumps({"ready": left, "waiting": waiting})
            await asyncio.to_thread(self._path.write_text, text)
        else:
            await asyncio.to_thread(self._path.unlink, missing_ok=True)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def tell(self) -> None:
        """Tell the webserver of all that is stored; what it does not take is kept."""
        await self._permit.sure()
        self._take_stored()
        url = self._url()
        if url is None:
            self.problem = "Dagster's webserver does not run here" if self._ready else ""
            return
        before = self.told
        try:
            for market in [each for each, report in self._ready.items() if report.is_news]:
                await self._tell_of(url, market)
            self.problem = ""
        except httpx.HTTPError as error:
            self.problem = f"{type(error).__name__}: {error}"
        if self._has_file and self.told != before:
            # A process that is killed must not leave what has been told now.
            try:
                await self._keep()
            except OSError as error:
                self.problem = f"{self._path.name}: {error.strerror}"

    async def _tell_of(self, url: str, market: str) -> None:
        """Report both assets; raises httpx.HTTPError where the webserver does not take one."""
        left = self._ready.pop(market)
        try:
            if left.has_ticks:
                await self._post(url, LIVE_TICKS, self._ticks(market, left))
                left = left.without_ticks()
                self.told += 1
            if left.bars:
                await self._post(url, LIVE_BARS, self._bars(market, left))
                self.told += 1
            left = Report()
        finally:
            self._report(market).merge(left)

    def _take_stored(self) -> None:
        """Move bars that are stored into the reports."""
        keys = {
            (stream.instrument_id, timeframe, start): (stream, timeframe, start)
            for (stream, timeframe, start), (end, _) in self._waiting.items()
            if not self._waits_for_store
            or end <= self._stored.get((stream.market, stream.symbol), 0)
        }
        # A revised bar lies before that instant already.
        for each in self.stored_of(keys) if self._waits_for_store else keys:
            stream, timeframe, start = keys[each]
            _, source = self._waiting.pop(keys[each])
            day = self._days.day(stream.market, start)
            one = Report(
                bars={timeframe: 1},
                symbols={stream.symbol},
                sources=set(without_sampled(source).split("+")),
                sessions=set() if day is None else {_day_text(day)},
                first=start,
                last=start,
            )
            self._report(stream.market).merge(one)

    @staticmethod
    def _ticks(market: str, report: Report) -> dict[str, Any]:
        return {
            "market": market,
            "feeds": sorted(report.sources),
            "trades": report.trades,
            "quarantined": report.quarantined,
            "windows": report.windows,
            "longest_tick_to_bar_ms": round(report.latency_ms, 3),
        }

    def _bars(self, market: str, report: Report) -> dict[str, Any]:
        return {
            "market": market,
            "feeds": sorted(report.sources),
            "bars": sum(report.bars.values()),
            **{f"bars_{timeframe}": count for timeframe, count in sorted(report.bars.items())},
            "timeframes": sorted(report.bars),
            "symbols": sorted(report.symbols),
            "indicators_written": self._writes_indicators,
            "sessions": sorted(report.sessions),
            "first_ts": _text(report.first),
            "last_ts": _text(report.last),
        }

    async def _post(self, url: str, asset: str, metadata: Mapping[str, Any]) -> None:
        answer = await self._client.post(
            f"{url.rstrip('/')}/report_asset_materialization/{asset}",
            content=json.dumps({"metadata": metadata}),
            # With a charset behind it Dagster refuses it.
            headers={"content-type": "application/json"},
        )
        if answer.status_code != _ANSWER_OK:
            raise httpx.HTTPStatusError(
                f"{asset}: {answer.status_code} {answer.text[:200]}",
                request=answer.request,
                response=answer,
            )

    def _read(self) -> None:
        """Take in what an earlier process could not tell."""
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            ready = {market: Report.of_json(told) for market, told in kept["ready"].items()}
            waiting = {
                (Stream(*stream), str(timeframe), int(start)): (int(end), str(source))
                for stream, timeframe, start, end, source in kept["waiting"]
            }
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return
        self._ready, self._waiting = ready, waiting


def _by_market(window: Window, batch: TradeBatch) -> dict[str, int]:
    """Return market -> trades of it."""
    found: dict[str, int] = {}
    numbers, counts = np.unique(batch.symbol, return_counts=True)
    for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
        market = window.streams[number].market
        found[market] = found.get(market, 0) + count
    return found


def _text(us: int) -> str:
    return (_EPOCH + timedelta(microseconds=us)).isoformat().replace("+00:00", "Z")


def _day_text(day: int) -> str:
    return date.fromordinal(_FIRST_DAY + day).isoformat()


def webserver_of(home: Path) -> Callable[[], str | None]:
    """Return what finds the webserver of the `scizor up` that runs on a home.

    Args:
        home: SCIZOR_HOME.
    """

    def find() -> str | None:
        url = read_up(home).ui_url
        # A server that listens on all addresses is asked on this machine's own.
        if url is None:
            return None
        return url.replace("//0.0.0.0", "//127.0.0.1").replace("//[::]", "//[::1]")

    return find
