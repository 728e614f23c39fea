"""What was streamed, told to Dagster: materializations of streaming/live_ticks and live_bars.

A bar is told of when it is stored, so that whoever is launched by it finds it. While the webserver
is away what is to be told is merged, kept over a restart, and told when it answers again.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from scizor_core.stream.engine import BarState, Intake
from scizor_core.stream.trades import MICROSECONDS, TradeBatch
from scizor_resources.health.processes import read_up
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.feeds.connection import FeedState
from scizor_sidecar.pipeline import Window

LIVE_TICKS, LIVE_BARS = "streaming/live_ticks", "streaming/live_bars"
FILE_NAME = "reports.json"
#: Reports go out at most so often: a minute close is one of them.
EVERY_SECONDS = 5.0
_TIMEOUT_SECONDS = 10.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ANSWER_OK = 200


@dataclass
class Report:
    """What is to be told of a market.

    Attributes:
        trades: that came and count.
        quarantined: that came and do not.
        bars: timeframe -> bars closed or revised.
        symbols: of those bars.
        sources: the feeds.
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
        starts = [each for each in (self.first, other.first) if each]
        self.first = min(starts, default=0)
        self.last = max(self.last, other.last)
        self.latency_ms = max(self.latency_ms, other.latency_ms)
        self.windows += other.windows

    def as_json(self) -> dict[str, Any]:
        """Return it for the file."""
        return {**vars(self), "symbols": sorted(self.symbols), "sources": sorted(self.sources)}

    @classmethod
    def of_json(cls, told: Mapping[str, Any]) -> "Report":
        """Return what `as_json` gave."""
        sets = {"symbols": set(told["symbols"]), "sources": set(told["sources"])}
        return cls(**{**told, **sets})


class DagsterReports:
    """Listens to the pipelines and tells Dagster's webserver.

    Args:
        url: finds the webserver's; None where none runs now.
        folder: where what could not be told is kept over a restart.
        now: clock, aware.
        writes_indicators: the sidecar writes the indicators of its bars itself.
        waits_for_store: bars are told of only when `stored_until` has said that they are stored.
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
        client: httpx.AsyncClient | None = None,
    ) -> None:
        self._url, self._path, self._now = url, folder / FILE_NAME, now
        self._writes_indicators, self._waits_for_store = writes_indicators, waits_for_store
        self._client = client or httpx.AsyncClient(timeout=_TIMEOUT_SECONDS)
        self._waiting: dict[tuple[Stream, str, int], int] = {}
        self._stored: dict[tuple[str, str], int] = {}
        self._ready: dict[str, Report] = self._read()
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
                self._waiting[each.stream, each.bar.timeframe, each.bar.start] = each.bar.end

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
        try:
            async with asyncio.timeout(1.0):
                await self.tell()
        except TimeoutError:
            self.problem = "there was no time left to tell it"
        if self._ready:
            text = json.dumps({market: each.as_json() for market, each in self._ready.items()})
            await asyncio.to_thread(self._path.write_text, text)
        else:
            await asyncio.to_thread(self._path.unlink, missing_ok=True)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def tell(self) -> None:
        """Tell the webserver of all that is stored; what it does not take is kept."""
        self._take_stored()
        url = self._url()
        if url is None:
            self.problem = "Dagster's webserver does not run here" if self._ready else ""
            return
        for market in [each for each, report in self._ready.items() if _is_news(report)]:
            report, is_told = self._ready.pop(market), False
            try:
                await self._post(url, market, report)
                is_told, self.problem = True, ""
                self.told += 1
            except httpx.HTTPError as error:
                self.problem = f"{type(error).__name__}: {error}"
                return
            finally:
                if not is_told:
                    self._report(market).merge(report)

    def _take_stored(self) -> None:
        """Move bars that are stored into the reports."""
        for key, end in list(self._waiting.items()):
            stream, timeframe, start = key
            is_stored = end <= self._stored.get((stream.market, stream.symbol), 0)
            if self._waits_for_store and not is_stored:
                continue
            del self._waiting[key]
            one = Report(bars={timeframe: 1}, symbols={stream.symbol}, first=start, last=start)
            self._report(stream.market).merge(one)

    async def _post(self, url: str, market: str, report: Report) -> None:
        """Report both assets; raises httpx.HTTPError where the webserver does not take it."""
        base = {"market": market, "feeds": sorted(report.sources)}
        ticks = {
            **base,
            "trades": report.trades,
            "quarantined": report.quarantined,
            "windows": report.windows,
            "longest_tick_to_bar_ms": round(report.latency_ms, 3),
        }
        bars: dict[str, Any] = {
            **base,
            "bars": sum(report.bars.values()),
            **{f"bars_{timeframe}": count for timeframe, count in sorted(report.bars.items())},
            "timeframes": sorted(report.bars),
            "symbols": sorted(report.symbols),
            "indicators_written": self._writes_indicators,
        }
        if report.first:
            bars |= {"first_ts": _text(report.first), "last_ts": _text(report.last)}
        bodies = [(LIVE_TICKS, ticks)] if report.trades or report.quarantined else []
        bodies += [(LIVE_BARS, bars)] if report.bars else []
        for asset, metadata in bodies:
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

    def _read(self) -> dict[str, Report]:
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            return {market: Report.of_json(told) for market, told in kept.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}


def _by_market(window: Window, batch: TradeBatch) -> dict[str, int]:
    """Return market -> trades of it."""
    found: dict[str, int] = {}
    numbers, counts = np.unique(batch.symbol, return_counts=True)
    for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
        market = window.streams[number].market
        found[market] = found.get(market, 0) + count
    return found


def _is_news(report: Report) -> bool:
    return bool(report.trades or report.quarantined or report.bars)


def _text(us: int) -> str:
    return (_EPOCH + timedelta(microseconds=us)).isoformat().replace("+00:00", "Z")


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
