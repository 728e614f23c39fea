"""`CoinbaseSource`: crypto bars from Coinbase Advanced Trade's public market data, without a key.

Source: GET /api/v3/brokerage/market/products/{id}/candles and its neighbours, Coinbase Developer
Platform, Advanced Trade REST API, read on 2026-11-21.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

from scizor_resources.errors import SchemaDrift
from scizor_resources.providers.asking import ask_each
from scizor_resources.providers.base import BarBatch, BarRequest, Capabilities
from scizor_resources.providers.coinbase.candles import (
    GRANULARITIES,
    MAX_WINDOW,
    candle_params,
    parse_candles,
    seen_window,
)
from scizor_resources.providers.coinbase.markets import VenueMarket, parse_products
from scizor_resources.providers.coinbase.quotes import Book, Ticker, parse_book, parse_ticker
from scizor_resources.providers.coinbase.symbols import to_coinbase_symbol
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.http import JsonApi
from scizor_resources.providers.rows import AskWindow, ParsedBars, nothing_parsed

NAME = "coinbase"
TITLE = "Coinbase"
MARKET = "crypto"
BASE_URL = "https://api.coinbase.com"
PRODUCTS_PATH = "/api/v3/brokerage/market/products"
BOOK_PATH = "/api/v3/brokerage/market/product_book"
#: What calls about one product are called in accounts and messages.
CANDLES_ENDPOINT = f"{PRODUCTS_PATH}/{{id}}/candles"
TICKER_ENDPOINT = f"{PRODUCTS_PATH}/{{id}}/ticker"

CAPABILITIES = Capabilities(
    markets=frozenset({MARKET}),
    timeframes=frozenset(GRANULARITIES),
    max_window=MAX_WINDOW,
)

Parsed = TypeVar("Parsed")


def utc_now() -> datetime:
    """Return the present, UTC."""
    return datetime.now(tz=UTC)


class CoinbaseSource:
    """A `BarSource` that asks Coinbase directly; not for use by several threads at once.

    Args:
        gate: what every call passes.
        base_url: scheme and host that stand in for Coinbase's; None is the real one.
        timeout_seconds: longest wait for one answer.
        now: clock, UTC; decides which bars are final.
    """

    def __init__(
        self,
        gate: Gate,
        *,
        base_url: str | None = None,
        timeout_seconds: float = 20.0,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.gate = gate
        self._now = now
        self._api = JsonApi(
            provider=NAME,
            title=TITLE,
            base_url=(base_url or BASE_URL).rstrip("/"),
            gate=gate,
            timeout_seconds=timeout_seconds,
            error_text=error_text,
        )

    @property
    def name(self) -> str:
        """The name of this source in chains and in the `source` column."""
        return NAME

    @property
    def capabilities(self) -> Capabilities:
        """What Coinbase serves: all timeframes, 300 candles per call, back to each listing."""
        return CAPABILITIES

    def close(self) -> None:
        """Close the connections; the next call opens them anew."""
        self._api.close()

    def fetch_bars(self, request: BarRequest) -> BarBatch:
        """Fetch the bars of a window; see `scizor_resources.providers.asking.ask_each`.

        `covered` holds the windows of answers with at least one bar: there, an interval without
        a candle is one without a trade.

        Raises:
            ProviderError: the market is not served, or no symbol had an answer.
        """
        covered: list[tuple[str, datetime, datetime]] = []

        def ask(window: AskWindow) -> ParsedBars:
            parsed, seen = self._ask(window)
            if seen is not None:
                covered.append((window.symbol, *seen))
            return parsed

        batch = ask_each(
            request,
            ask,
            gate=self.gate,
            title=TITLE,
            capabilities=CAPABILITIES,
            now=self._now(),
        )
        batch.covered = covered
        return batch

    def fetch_products(self) -> list[VenueMarket]:
        """Fetch the spot products with the steps of their prices and amounts, by symbol.

        Raises:
            ProviderError: Coinbase did not answer with products.
        """
        answer = self._api.get(PRODUCTS_PATH, {"product_type": "SPOT"})
        return self._read(PRODUCTS_PATH, lambda: parse_products(answer, MARKET))

    def fetch_ticker(self, symbol: str, *, trades: int = 1) -> Ticker:
        """Fetch the best prices and the last trades of a symbol.

        Args:
            symbol: the platform's symbol.
            trades: how many trades, from 1 on.

        Raises:
            InvalidInputError: the symbol cannot be one of the market.
            ProviderError: Coinbase did not answer with a ticker.
        """
        path = f"{_product_path(symbol)}/ticker"
        answer = self._api.get(path, {"limit": trades}, endpoint=TICKER_ENDPOINT)
        return self._read(TICKER_ENDPOINT, lambda: parse_ticker(answer, symbol))

    def fetch_book(self, symbol: str, *, levels: int = 10) -> Book:
        """Fetch the order book of a symbol.

        Args:
            symbol: the platform's symbol.
            levels: how many prices of each side.

        Raises:
            InvalidInputError: the symbol cannot be one of the market.
            ProviderError: Coinbase did not answer with a book.
        """
        params: dict[str, str | int] = {"product_id": to_coinbase_symbol(MARKET, symbol)}
        params["limit"] = levels
        answer = self._api.get(BOOK_PATH, params)
        return self._read(BOOK_PATH, lambda: parse_book(answer, symbol))

    def _ask(self, window: AskWindow) -> tuple[ParsedBars, tuple[datetime, datetime] | None]:
        if window.start >= self._now():
            return nothing_parsed(), None
        path = f"{_product_path(window.symbol)}/candles"
        answer = self._api.get(path, candle_params(window), endpoint=CANDLES_ENDPOINT)
        now = self._now()
        parsed = self._read(
            CANDLES_ENDPOINT,
            lambda: parse_candles(answer, window, source=NAME, origin=CANDLES_ENDPOINT, now=now),
        )
        return parsed, seen_window(parsed, window, now=now)

    def _read(self, endpoint: str, parse: Callable[[], Parsed]) -> Parsed:
        """Return what a parser reads.

        Raises:
            SchemaDrift: it found another shape than the agreed one.
        """
        try:
            return parse()
        except ValueError as error:
            drift: SchemaDrift = self._api.drift(endpoint, str(error))
            raise drift from None


def _product_path(symbol: str) -> str:
    return f"{PRODUCTS_PATH}/{quote(to_coinbase_symbol(MARKET, symbol), safe='')}"


def error_text(answer: Any) -> str:
    """Return Coinbase's words of an error, empty where the answer is none.

    Errors are `{"error": "NOT_FOUND", "error_details": ..., "message": ...}`, of the gateway in
    front of it also `{"errors": [{"id": ..., "message": ...}]}`.
    """
    if not isinstance(answer, dict):
        return ""
    listed = answer.get("errors")
    if isinstance(listed, list) and listed and isinstance(listed[0], dict):
        answer = {"error": listed[0].get("id"), "message": listed[0].get("message")}
    code = answer.get("error")
    words = answer.get("message") or answer.get("error_details")
    return ": ".join(str(part) for part in (code, words) if part and isinstance(part, str))
