"""Last prices and their change since the previous close, for people who look every two seconds.

What changes once a session is not asked for every time: previous closes are kept, and so is the
last bar of a symbol that has had none for days.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from scizor_core.markets import MARKETS, Timeframe
from scizor_core.sessions import get_calendar
from scizor_resources.health import queries
from scizor_resources.health.database import Database, Row
from scizor_resources.health.report import SymbolFact

#: A close that is older than this is no previous close.
_PREVIOUS_WITHIN = timedelta(days=14)
#: Old bars may be imported, and closes be corrected, while somebody looks.
_KEPT_FOR = timedelta(minutes=10)


@dataclass(frozen=True)
class Quote:
    """A symbol's last price.

    Attributes:
        price: last close, None without any bar.
        session: of the bar.
        source: where it came from.
        change: against the previous close as a ratio (0.01 = 1 %); None where that is not known, or
            where a split lies between the two.
    """

    price: float | None = None
    session: date | None = None
    source: str = ""
    change: float | None = None


@dataclass(frozen=True)
class _Close:
    price: float | None
    asked_at: datetime


class PriceBoard:
    """Last prices of the watchlist.

    Args:
        database: where bars are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._old: dict[int, tuple[Row | None, datetime]] = {}
        self._closes: dict[tuple[int, date], _Close] = {}

    def quotes(self, symbols: Sequence[SymbolFact], now: datetime) -> dict[int, Quote]:
        """Return instrument id -> its quote.

        Raises:
            WarehouseError: PostgreSQL cannot be asked.
        """
        known = [each for each in symbols if each.instrument_id is not None]
        without = [each.instrument_id for each in known if each.price is None]
        self._read_old([each for each in without if each is not None], now)
        found: dict[int, tuple[Quote, Timeframe, str]] = {}
        for each in known:
            if each.instrument_id is not None:
                found[each.instrument_id] = self._last(each)
        self._read_closes(found, now)
        return {
            instrument_id: self._changed(instrument_id, quote)
            for instrument_id, (quote, _, _) in found.items()
        }

    def _last(self, symbol: SymbolFact) -> tuple[Quote, Timeframe, str]:
        if symbol.price is not None and symbol.price_timeframe is not None:
            quote = Quote(symbol.price, symbol.price_session, symbol.source)
            return quote, symbol.price_timeframe, symbol.market
        row, _ = self._old.get(symbol.instrument_id or 0, (None, None))
        if row is None:
            return Quote(), "1d", symbol.market
        quote = Quote(row["close"], row["session_date"], row["source"])
        return quote, row["timeframe"], symbol.market

    def _changed(self, instrument_id: int, quote: Quote) -> Quote:
        if quote.price is None or quote.session is None:
            return quote
        close = self._closes.get((instrument_id, quote.session))
        if close is None or not close.price:
            return quote
        return Quote(quote.price, quote.session, quote.source, quote.price / close.price - 1)

    def _read_old(self, instrument_ids: Sequence[int], now: datetime) -> None:
        asked = [
            each
            for each in instrument_ids
            if each not in self._old or now - self._old[each][1] > _KEPT_FOR
        ]
        if not asked:
            return
        rows = self._database.rows(queries.LAST_BARS, {"ids": asked, "now": now})
        found = {row["instrument_id"]: row for row in rows}
        self._old.update({each: (found.get(each), now) for each in asked})

    def _read_closes(self, found: dict[int, tuple[Quote, Timeframe, str]], now: datetime) -> None:
        asked: list[tuple[int, Timeframe, date, datetime]] = []
        for instrument_id, (quote, timeframe, market) in found.items():
            if quote.session is None:
                continue
            kept = self._closes.get((instrument_id, quote.session))
            if kept is None or now - kept.asked_at > _KEPT_FOR:
                opened = _opened(market, quote.session)
                asked.append((instrument_id, timeframe, quote.session, opened))
        if not asked:
            return
        opens = [each[3] for each in asked]
        rows = self._database.rows(
            queries.PREVIOUS_CLOSES,
            {
                "ids": [each[0] for each in asked],
                "timeframes": [each[1] for each in asked],
                "sessions": [each[2] for each in asked],
                "opens": opens,
                # Bounds for all of them, so that the months outside are left alone.
                "first": min(opens) - _PREVIOUS_WITHIN,
                "last": max(opens) + timedelta(days=1),
            },
        )
        closes = {row["instrument_id"]: row for row in rows}
        for instrument_id, _, session, _ in asked:
            row = closes.get(instrument_id)
            price = None if row is None else _previous(row, session)
            self._closes[instrument_id, session] = _Close(price, now)


def _previous(row: Row, session: date) -> float | None:
    """Return the later of the two closes, the daily bar's where both are of one session."""
    if row["is_split"]:
        return None
    candidates = [
        (row[f"{kind}_session"], kind == "day", row[f"{kind}_close"])
        for kind in ("day", "intraday")
        if row[f"{kind}_close"] is not None
    ]
    if not candidates:
        return None
    day, _, close = max(candidates)
    return float(close) if session - day <= _PREVIOUS_WITHIN else None


def _opened(market: str, session: date) -> datetime:
    """Return when a session opened; a date without one begins at midnight of the exchange."""
    found = get_calendar(market).session(session)
    if found is not None:
        return found.open
    return datetime.combine(session, time(), ZoneInfo(MARKETS[market].timezone))
