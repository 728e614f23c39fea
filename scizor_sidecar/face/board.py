"""The watchlist with what is known of each symbol now: price, change, freshness, quality."""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from scizor_core.instruments import WatchlistEntry
from scizor_core.markets import MARKETS
from scizor_core.sources import is_sampled, without_sampled
from scizor_core.stream.trades import MICROSECONDS
from scizor_resources.health.clock import MarketClock, market_clocks
from scizor_resources.health.database import Database, Row
from scizor_resources.health.prices import PriceBoard, Quote
from scizor_resources.health.probe import default_thresholds
from scizor_resources.health.report import SymbolFact, Thresholds
from scizor_resources.health.warehouse_facts import read_symbols, read_thresholds
from scizor_resources.platform import Platform
from scizor_sidecar.face.limits import sampled_live, without_book
from scizor_sidecar.face.state import FaceState, Name
from scizor_sidecar.face.wire import as_iso, or_null
from scizor_sidecar.feeds.connection import FeedState
from scizor_sidecar.pipeline import StreamedBar

#: The database is asked at most so often, however many look.
_KEPT_FOR = timedelta(seconds=1)
_STALENESS = "staleness_minutes"
_NAMES = """
SELECT DISTINCT ON (market, symbol) market, symbol, instrument_id, name FROM public.symbols
ORDER BY market, symbol, delisted_on DESC NULLS FIRST
"""
_QUALITY = """
SELECT DISTINCT ON (instrument_id) instrument_id, session_date, score, coverage, missing
FROM quality.completeness
WHERE instrument_id = ANY(%(ids)s) AND timeframe IN ('1m', '5m') AND session_date >= %(since)s
    AND expected > 0
ORDER BY instrument_id, session_date DESC, timeframe
"""


class _Stored:
    """What PostgreSQL knows of the watchlist at one moment."""

    def __init__(
        self,
        entries: Sequence[WatchlistEntry],
        facts: Mapping[Name, SymbolFact],
        quotes: Mapping[int, Quote],
        quality: Mapping[int, Row],
        names: Mapping[Name, str],
        staleness: Thresholds,
        clocks: Mapping[str, MarketClock],
    ) -> None:
        self.entries, self.facts, self.quotes = entries, facts, quotes
        self.quality, self.names = quality, names
        self.staleness, self.clocks = staleness, clocks


class Board:
    """Reads the watchlist with its prices; blocks, so it is asked in a thread.

    Args:
        platform: the opened platform.
        now: clock, aware.
    """

    def __init__(self, platform: Platform, now: Callable[[], datetime]) -> None:
        self._platform, self._now = platform, now
        self._lock = threading.Lock()
        self._database = Database()
        self._prices = PriceBoard(self._database)
        self._kept: tuple[datetime, _Stored] | None = None

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._database.close()

    def forget(self) -> None:
        """Read anew next time: the watchlist has changed."""
        self._kept = None

    def stored(self) -> _Stored:
        """Return what PostgreSQL knows.

        Raises:
            WarehouseError: it cannot be asked.
        """
        with self._lock:
            now = self._now()
            if self._kept is None or now - self._kept[0] > _KEPT_FOR:
                self._kept = (now, self._read(now))
            return self._kept[1]

    def _read(self, now: datetime) -> _Stored:
        self._database.use(self._platform.endpoints.libpq_url)
        entries = self._platform.reference.watchlist()
        clocks = market_clocks(now)
        facts = read_symbols(self._database, clocks, now)
        ids = [each.instrument_id for each in facts if each.instrument_id is not None]
        since = (now - timedelta(days=14)).date()
        rows = self._database.rows(_QUALITY, {"ids": ids, "since": since}) if ids else []
        named = self._database.rows(_NAMES)
        return _Stored(
            entries,
            {(each.market, each.symbol): each for each in facts},
            self._prices.quotes(facts, now),
            {row["instrument_id"]: row for row in rows},
            {(row["market"], row["symbol"]): row["name"] for row in named},
            read_thresholds(self._database, default_thresholds())[_STALENESS],
            clocks,
        )


def entry_items(
    state: FaceState, stored: _Stored, market: str | None = None, name: str | None = None
) -> list[dict[str, Any]]:
    """Return the entries of the watchlist by tier, as they are now."""
    entries = [
        each
        for each in stored.entries
        if (market is None or each.market == market) and (name is None or each.name == name)
    ]
    entries.sort(key=lambda each: (each.priority, each.market, each.symbol, each.name))
    samples, bookless = sampled_live(state), without_book(state)
    return [_item(state, stored, each, samples, bookless) for each in entries]


def _item(
    state: FaceState,
    stored: _Stored,
    entry: WatchlistEntry,
    samples: Collection[Name],
    bookless: Mapping[Name, str],
) -> dict[str, Any]:
    key = (entry.market, entry.symbol)
    fact = stored.facts.get(key)
    feed = _feed_of(state, key)
    live = state.hub.last_bar(*key)
    price = _price(stored, fact, live)
    rest = asdict(entry)
    return {
        "market": rest.pop("market"),
        "symbol": rest.pop("symbol"),
        "name": stored.names.get(key, ""),
        "timezone": _timezone(entry.market),
        "list": rest.pop("name"),
        "tier": rest.pop("priority"),
        **rest,
        "depth": f"{entry.market}:{entry.symbol}" in state.platform.settings.stream_depth,
        "no_book": bookless.get(key),
        **price,
        "is_sampled": key in samples or is_sampled(price["source"]),
        "feed": feed,
        "is_live": feed is not None and state.pipelines[feed].state is FeedState.CONNECTED,
        **_freshness(state.now(), stored, entry.market, fact, price["price_at"], live),
        "quality": _quality(stored, fact),
    }


def _timezone(market: str) -> str:
    """Return a market's zone; a row that was written by SQL may name a market that is none."""
    return MARKETS[market].timezone if market in MARKETS else "UTC"


def _feed_of(state: FaceState, key: Name) -> str | None:
    if state.subscriptions is not None:
        feed = state.subscriptions.streamed.get(key)
        return feed if feed in state.pipelines else None
    live = state.hub.last_bar(*key)
    feed = None if live is None else without_sampled(live.source)
    return feed if feed in state.pipelines else None


def _price(stored: _Stored, fact: SymbolFact | None, live: StreamedBar | None) -> dict[str, Any]:
    quote = stored.quotes.get(fact.instrument_id or 0) if fact is not None else None
    price, source = (None, "") if quote is None else (quote.price, quote.source)
    change = None if quote is None else quote.change
    previous = None if price is None or change is None else price / (1 + change)
    at = None if fact is None else fact.price_at
    if live is not None and (at is None or _at(live) >= at):
        price, source, at = live.bar.close, live.source, _at(live)
    percent = None if price is None or not previous else 100 * (price / previous - 1)
    return {
        "price": or_null(price),
        "price_at": None if at is None else as_iso(at),
        "previous_close": or_null(previous),
        "change_percent": None if percent is None else round(percent, 4),
        "source": source,
        "is_simulated": "simulated" in source,
    }


def _at(live: StreamedBar) -> datetime:
    """Return until when a live bar has trades: when the last one came, or its end."""
    at = live.received_at or live.bar.end
    # A tape of last year has come just now; its price is of last year.
    return datetime.fromtimestamp(min(at, live.bar.end) / MICROSECONDS, tz=UTC)


def _freshness(
    now: datetime,
    stored: _Stored,
    market: str,
    fact: SymbolFact | None,
    price_at: str | None,
    live: StreamedBar | None,
) -> dict[str, Any]:
    clock = stored.clocks.get(market)
    is_open = clock is not None and clock.is_open
    heard = [each for each in (fact.heard_until if fact else None,) if each is not None]
    heard += [_at(live)] if live is not None else []
    age = (now - max(heard)).total_seconds() if heard else None
    if price_at is None and age is None:
        freshness = "none"
    elif not is_open:
        freshness = "closed"
    elif age is None or age > stored.staleness.fail * 60:
        freshness = "stale"
    else:
        freshness = "late" if age > stored.staleness.warn * 60 else "fresh"
    return {
        "freshness": freshness,
        "age_seconds": None if age is None else round(max(age, 0.0), 1),
        "market_open": is_open,
    }


def _quality(stored: _Stored, fact: SymbolFact | None) -> dict[str, Any] | None:
    row = stored.quality.get(fact.instrument_id or 0) if fact is not None else None
    if row is None:
        return None
    return {
        "session_date": row["session_date"].isoformat(),
        "score": or_null(row["score"]),
        "coverage": or_null(row["coverage"]),
        "missing": row["missing"],
    }
