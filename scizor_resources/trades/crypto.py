"""The trade histories of Kraken, Binance and Coinbase, each with the ids of its live feed.

Sources, read on 2026-11-21: Kraken GET /0/public/Trades (1000 a call after `since` in nanoseconds,
oldest first); Binance GET /api/v3/historicalTrades (1000 a call from an id on; the ids of the live
trades, which those of aggTrades are not) and GET /api/v3/aggTrades, which finds the id of a time;
Coinbase GET /api/v3/brokerage/market/products/{id}/ticker (the newest trades of an interval in
whole seconds).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol
from urllib.parse import urlencode

from scizor_core.errors import InvalidInputError
from scizor_core.stream.trades import MICROSECONDS, NO_TIME
from scizor_resources.errors import BadRequest
from scizor_resources.providers.ccxt_venues.exchange import Exchange
from scizor_resources.providers.ccxt_venues.kraken import TRADES_ENDPOINT
from scizor_resources.providers.ccxt_venues.markets import Markets, find_market, parse_markets
from scizor_resources.providers.ccxt_venues.trades import trade_pages
from scizor_resources.providers.ccxt_venues.venues import MARKET, Venue, get_venue
from scizor_resources.providers.gate import Gate
from scizor_resources.trades.base import TRADES_AT_ONCE, Listed, Trade, TradeColumns, columns_of
from scizor_resources.trades.values import micros_of_seconds, micros_of_text, number_of

_PAGE = 1000
_HISTORICAL = "/api/v3/historicalTrades"
_AGGREGATED = "/api/v3/aggTrades"
_TICKER = "/api/v3/brokerage/market/products/{id}/ticker"
#: Coinbase is asked for so much time at once at most, as it tells the newest first.
_COINBASE_WINDOW_US = 3600 * MICROSECONDS
#: An answer so short was not cut: it holds all there is.
_SURELY_WHOLE = 100
#: Trades of one order may stand under one number with a time a little before.
_BINANCE_BEFORE_US = MICROSECONDS


class _Tell(Protocol):
    """Fetches trades of a market; see `TradeSource.fetch_trades`."""

    def __call__(
        self, exchange: Exchange, pair: str, start_us: int, end_us: int
    ) -> TradeColumns: ...


class CryptoTrades:
    """A `TradeSource` of one crypto exchange; not for use by several threads at once.

    Args:
        name: kraken, binance or coinbase.
        gate: what every request passes.
        title: the exchange's name in sentences.
        base_url: scheme and host that stand in for the exchange's; None is the real ones.
        timeout_seconds: longest wait for one answer.
    """

    same_as_live = True

    def __init__(
        self,
        name: str,
        gate: Gate,
        *,
        title: str,
        base_url: str | None = None,
        timeout_seconds: float = 20.0,
    ) -> None:
        venue, self._tell = _VENUES[name]
        self.name, self._title = name, title
        self._venue: Venue = get_venue(venue)
        self._exchange = Exchange(
            self._venue.dialect,
            provider=name,
            title=title,
            gate=gate,
            base_url=base_url,
            timeout_seconds=timeout_seconds,
        )
        self._markets: Markets = {}

    def close(self) -> None:
        """Close the connections; the next call opens them anew."""
        self._exchange.close()

    def fetch_trades(self, stream: Listed, start_us: int, end_us: int) -> TradeColumns:
        """Fetch the trades of `[start_us, end_us)`, or of its first part.

        Raises:
            BadRequest: the exchange has no such market.
            ProviderError: a request failed.
        """
        if start_us >= end_us:
            return TradeColumns(end_us)
        if stream.symbol not in self._markets:
            # An exchange lists new ones at any time.
            self._markets = parse_markets(self._exchange.call(self._venue.list_markets), MARKET)
        try:
            market = find_market(
                self._markets, stream.market, stream.symbol, provider=self.name, title=self._title
            )
        except InvalidInputError as error:
            raise BadRequest(str(error), provider=self.name) from None
        return self._tell(self._exchange, market.venue_symbol, start_us, end_us)


# ---- Kraken


def _kraken(exchange: Exchange, pair: str, start_us: int, end_us: int) -> TradeColumns:
    found: list[Trade] = []
    try:
        for rows, last in trade_pages(partial(_kraken_page, exchange, pair), start_us):
            found += [_kraken_trade(exchange, row) for row in rows]
            reached = last // 1000
            if reached >= end_us or len(found) >= TRADES_AT_ONCE:
                return columns_of(found, start_us, end_us, reached)
    except ValueError as error:
        raise exchange.drift(TRADES_ENDPOINT, str(error)) from None
    return columns_of(found, start_us, end_us, end_us)


def _kraken_page(exchange: Exchange, pair: str, since: int) -> tuple[list[Any], int]:
    asked = {"pair": pair, "since": str(since), "count": _PAGE}
    answer = exchange.call(lambda sdk: sdk.publicGetTrades(asked))
    result = answer.get("result") if isinstance(answer, Mapping) else None
    if not isinstance(result, Mapping):
        raise exchange.drift(TRADES_ENDPOINT, "it has no result")
    lists = [value for value in result.values() if isinstance(value, list)]
    try:
        last = int(result["last"])
    except (KeyError, TypeError, ValueError):
        raise exchange.drift(TRADES_ENDPOINT, "'last' is not a whole number") from None
    if len(lists) != 1:
        raise exchange.drift(TRADES_ENDPOINT, "its result does not hold one list of rows")
    return lists[0], last


def _kraken_trade(exchange: Exchange, row: Any) -> Trade:
    # price, volume, time, side, type, misc, trade id
    if not isinstance(row, list) or len(row) < 7:  # noqa: PLR2004
        raise exchange.drift(TRADES_ENDPOINT, "a trade does not have seven values")
    return _trade(exchange, TRADES_ENDPOINT, micros_of_seconds(row[2]), row[0], row[1], row[6])


# ---- Binance


def _binance(exchange: Exchange, pair: str, start_us: int, end_us: int) -> TradeColumns:
    asked = {"symbol": pair, "startTime": (start_us - _BINANCE_BEFORE_US) // 1000, "limit": 1}
    first = _rows(exchange, _AGGREGATED, exchange.call(lambda sdk: sdk.publicGetAggTrades(asked)))
    if not first:
        return TradeColumns(end_us)
    position = _id_of(exchange, _AGGREGATED, first[0].get("f"))
    found: list[Trade] = []
    while True:
        rows = _binance_page(exchange, pair, position)
        for row in rows:
            ts = _millis(row.get("time"))
            found.append(
                _trade(exchange, _HISTORICAL, ts, row.get("price"), row.get("qty"), row.get("id"))
            )
        if len(rows) < _PAGE:
            return columns_of(found, start_us, end_us, end_us)
        position = _id_of(exchange, _HISTORICAL, rows[-1].get("id")) + 1
        # More trades of the millisecond in which the page ends may come.
        reached = found[-1].ts
        enough = len(found) >= TRADES_AT_ONCE and reached > found[0].ts and reached > start_us
        if reached >= end_us or enough:
            return columns_of(found, start_us, end_us, reached)


def _binance_page(exchange: Exchange, pair: str, from_id: int) -> list[dict[str, Any]]:
    query = urlencode({"symbol": pair, "fromId": from_id, "limit": _PAGE})

    def ask(sdk: Any) -> Any:
        # ccxt's own method insists on a key, which Binance no longer asks for.
        return sdk.fetch(f"{sdk.urls['api']['public']}/historicalTrades?{query}")

    return _rows(exchange, _HISTORICAL, exchange.call(ask))


def _millis(value: object) -> int:
    text = str(value)
    return int(text) * 1000 if text.isascii() and text.isdigit() and len(text) < 16 else NO_TIME  # noqa: PLR2004


# ---- Coinbase


def _coinbase(exchange: Exchange, pair: str, start_us: int, end_us: int) -> TradeColumns:
    stop = min(end_us, start_us + _COINBASE_WINDOW_US)
    first = start_us // MICROSECONDS
    last = -(-stop // MICROSECONDS)
    found: dict[str | int | None, Trade] = {}
    while True:
        asked = {"product_id": pair, "limit": _PAGE, "start": str(first), "end": str(last)}
        answer = exchange.call(_coinbase_ask(asked))
        rows = _rows(
            exchange, _TICKER, answer.get("trades") if isinstance(answer, Mapping) else None
        )
        page = [
            _trade(
                exchange,
                _TICKER,
                micros_of_text(row.get("time")),
                row.get("price"),
                row.get("size"),
                row.get("trade_id"),
            )
            for row in rows
        ]
        known = len(found)
        found.update((each.trade_id, each) for each in page)
        if page and 0 < known == len(found) - len(page):
            raise exchange.drift(_TICKER, "more trades in one second than it tells at once")
        if len(page) < _SURELY_WHOLE or len(found) == known:
            break
        # Whether the end of what is asked for is part of it is not said anywhere.
        oldest_end = min(each.ts for each in page) // MICROSECONDS + 1
        if oldest_end <= first:
            break
        if oldest_end >= last and len(page) >= _PAGE:
            raise exchange.drift(_TICKER, f"{len(page)} trades or more in one second")
        last = min(oldest_end, last - 1)
    return columns_of(list(found.values())[::-1], start_us, end_us, stop)


def _coinbase_ask(asked: dict[str, Any]) -> Callable[[Any], Any]:
    return lambda sdk: sdk.v3PublicGetBrokerageMarketProductsProductIdTicker(asked)


# ---- in common


def _rows(exchange: Exchange, endpoint: str, answer: Any) -> list[dict[str, Any]]:
    if not isinstance(answer, list) or not all(isinstance(each, dict) for each in answer):
        raise exchange.drift(endpoint, "its trades are not a list of objects")
    return answer


def _trade(
    exchange: Exchange, endpoint: str, ts: int, price: Any, size: Any, trade_id: Any
) -> Trade:
    if ts == NO_TIME:
        raise exchange.drift(endpoint, "a trade has no time")
    if not isinstance(trade_id, int | str) or isinstance(trade_id, bool):
        raise exchange.drift(endpoint, "a trade has no id")
    return Trade(ts, number_of(price), number_of(size), trade_id)


def _id_of(exchange: Exchange, endpoint: str, value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise exchange.drift(endpoint, "an id is not a whole number") from None


_VENUES: Mapping[str, tuple[str, _Tell]] = {
    "kraken": ("kraken", _kraken),
    "binance": ("binance", _binance),
    "coinbase": ("ccxt_coinbase", _coinbase),
}
CRYPTO_TRADES = tuple(_VENUES)
