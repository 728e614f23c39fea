"""`AlpacaSource`: US equities and crypto from Alpaca's market data API through alpaca-py.

One request serves many symbols, and the limit of a page counts the bars of all of them. So
symbols are asked in batches, a batch when the first of its symbols comes up.

Pages are asked one by one (the SDK's public `get`) rather than by `get_stock_bars` with
`raw_data`, which ends in an AttributeError where a page says `{"bars": null}`, never ends where
a page repeats its token, and stops after 1000 corporate actions.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from pydantic import SecretStr

from scizor_core.errors import ConfigError, InvalidInputError
from scizor_core.markets import TIMEFRAME_MINUTES, TIMEFRAMES, get_market
from scizor_resources.errors import AuthError, BadRequest, ProviderError
from scizor_resources.providers.actions import CorporateAction
from scizor_resources.providers.alpaca.session import (
    GatedSession,
    kind_of_refusal,
    refusal_words,
)
from scizor_resources.providers.alpaca.symbols import to_alpaca_symbol
from scizor_resources.providers.alpaca.wire import (
    SOURCE_NAME,
    drift,
    is_made_of_hours,
    page_rows,
    page_token,
    parse_actions,
    parse_bars,
)
from scizor_resources.providers.asking import ask_each
from scizor_resources.providers.base import BarBatch, BarRequest, Capabilities
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.http import JsonApi
from scizor_resources.providers.rows import AskWindow, ParsedBars

if TYPE_CHECKING:
    from alpaca.common.rest import RESTClient

TITLE = "Alpaca"
DEFAULT_BASE_URL = "https://data.alpaca.markets"
#: "iex" is free and has the trades of one exchange, 2 to 3 % of the volume; "sip" has all.
FEEDS: tuple[str, ...] = ("iex", "sip", "delayed_sip", "otc")

#: `needs_key` is False because crypto works without one; equities do not. `max_window` is ours:
#: it keeps what one symbol's window can bring below 45,000 rows.
SYMBOLS_PER_REQUEST = 100
CAPABILITIES = Capabilities(
    markets=frozenset({"us", "crypto"}),
    timeframes=frozenset(TIMEFRAMES),
    max_window={
        "1m": timedelta(days=31),
        "5m": timedelta(days=155),
        "15m": timedelta(days=465),
    },
    batch_size=SYMBOLS_PER_REQUEST,
)

#: Rows that the symbols of one batch may bring together: 10 pages, about 60 MB decoded.
ROWS_PER_BATCH = 100_000
PAGE_ROWS = 10_000
ACTIONS_PAGE_ROWS = 1_000

#: Alpaca looks for corporate actions by the day on which it processes them, which for a dividend
#: is the day it is paid, weeks after the ex-date. Asked for is this much more on both sides.
PROCESSED_BEFORE = timedelta(days=10)
PROCESSED_AFTER = timedelta(days=92)

_STOCK_PATH, _CRYPTO_PATH, _ACTIONS_PATH = "/stocks/bars", "/crypto/us/bars", "/corporate-actions"
_ENDPOINTS = {"us": "/v2/stocks/bars", "crypto": "/v1beta3/crypto/us/bars"}
_ACTIONS_ENDPOINT = "/v1/corporate-actions"


class AlpacaSource:
    """A `BarSource` that asks Alpaca, and its corporate actions.

    The rows of equities carry the feed: their `source` is "alpaca" for SIP and "alpaca-iex" (or
    another feed's name) otherwise, because bars of one exchange are not those of the market.

    Args:
        gate: what every request passes.
        base_url: address without a slash at the end; None for Alpaca's own.
        key: key id; None where only crypto is asked for.
        secret: the key's secret.
        feed: feed of equities, one of `FEEDS`.
        timeout_seconds: longest wait for one answer.
        now: clock, UTC; decides which bars are final.

    Raises:
        ConfigError: there is no such feed, or only one half of the key is set.
    """

    def __init__(
        self,
        gate: Gate,
        *,
        base_url: str | None = None,
        key: SecretStr | None = None,
        secret: SecretStr | None = None,
        feed: str = "iex",
        timeout_seconds: float = 20.0,
        now: Callable[[], datetime],
    ) -> None:
        if feed not in FEEDS:
            raise ConfigError(f"'{feed}' is not a feed of Alpaca. Use one of {', '.join(FEEDS)}.")
        if (key is None) != (secret is None):
            raise ConfigError(
                "SCIZOR_ALPACA_API_KEY and SCIZOR_ALPACA_SECRET belong together, and only one of "
                "them is set. Set both, or none for crypto alone."
            )
        self.gate = gate
        self._feed, self._now = feed, now
        self._has_key = key is not None
        headers: dict[str, SecretStr] = {}
        if key is not None and secret is not None:
            headers = {"APCA-API-KEY-ID": key, "APCA-API-SECRET-KEY": secret}
        hidden = tuple(each.get_secret_value() for each in headers.values())
        self._api = JsonApi(
            SOURCE_NAME,
            TITLE,
            (base_url or DEFAULT_BASE_URL).rstrip("/"),
            gate,
            timeout_seconds,
            secret_headers=headers,
            error_text=lambda answer: refusal_words(answer, hidden),
            kind_of=kind_of_refusal,
        )

    @property
    def name(self) -> str:
        """The name of this source in chains; the `source` column begins with it."""
        return SOURCE_NAME

    @property
    def capabilities(self) -> Capabilities:
        """What Alpaca serves; prices are raw (see `CAPABILITIES`)."""
        return CAPABILITIES

    def close(self) -> None:
        """Close the connections; the next call opens them anew."""
        self._api.close()

    def fetch_bars(self, request: BarRequest) -> BarBatch:
        """Fetch the bars of a window, many symbols in one request.

        A symbol that Alpaca does not know is absent from its answers and has an empty reason. When
        a page fails, all symbols of its batch do.

        Raises:
            BadRequest: the market or timeframe is not served.
            UnknownMarketError: there is no such market.
            RateLimited, AuthError, TransientError, SchemaDrift: no symbol had an answer.
        """
        batches = _Batches([ref.symbol for ref in request.symbols], self._fetch)
        return ask_each(
            request,
            batches.ask,
            gate=self.gate,
            title=TITLE,
            capabilities=CAPABILITIES,
            now=self._now(),
        )

    def fetch_corporate_actions(
        self, symbols: Sequence[str], start: date, end: date
    ) -> list[CorporateAction]:
        """Fetch splits, stock dividends and cash dividends of US equities.

        Unit splits, spin-offs, mergers and changes of name are not asked for.

        Args:
            symbols: the platform's symbols.
            start: first ex-date.
            end: first ex-date no longer wanted.

        Returns:
            Actions with `start <= ex_date < end`, by symbol and ex-date.

        Raises:
            InvalidInputError: a symbol is not one of market us.
            ProviderError: an answer could not be had; nothing is returned then.
        """
        from alpaca.data.enums import CorporateActionsType as Kind
        from alpaca.data.historical.corporate_actions import CorporateActionsClient
        from alpaca.data.requests import CorporateActionsRequest

        wires = sorted({to_alpaca_symbol("us", symbol) for symbol in symbols})
        kinds = [Kind.FORWARD_SPLIT, Kind.REVERSE_SPLIT, Kind.STOCK_DIVIDEND, Kind.CASH_DIVIDEND]
        client = self._client(CorporateActionsClient, _ACTIONS_ENDPOINT)
        found: list[CorporateAction] = []
        for first in range(0, len(wires), SYMBOLS_PER_REQUEST):
            params = CorporateActionsRequest(
                start=start - PROCESSED_BEFORE, end=end + PROCESSED_AFTER, limit=ACTIONS_PAGE_ROWS
            ).to_request_fields()
            params["symbols"] = ",".join(wires[first : first + SYMBOLS_PER_REQUEST])
            params["types"] = ",".join(kind.value for kind in kinds)
            for page in _pages(client, _ACTIONS_PATH, params, _ACTIONS_ENDPOINT):
                found += parse_actions(page, _ACTIONS_ENDPOINT)
        wanted = [action for action in found if start <= action.ex_date < end]
        return sorted(wanted, key=lambda action: (action.symbol, action.ex_date, action.kind))

    def _fetch(self, window: AskWindow, symbols: Sequence[str]) -> dict[str, ParsedBars]:
        """Fetch all pages of a window for some symbols and read them."""
        wires = {symbol: to_alpaca_symbol(window.market, symbol) for symbol in symbols}
        endpoint = _ENDPOINTS[window.market]
        rows: dict[str, list[Any]] = {}
        asked = sorted(set(wires.values()))
        for page in self._bar_pages(window, asked):
            for wire, more in page_rows(page, asked, endpoint).items():
                rows.setdefault(wire, []).extend(more)
        now, source = self._now(), self._source(window.market)
        return {
            symbol: parse_bars(
                rows.get(wire, ()),
                AskWindow(window.market, symbol, window.timeframe, window.start, window.end),
                source=source,
                endpoint=endpoint,
                now=now,
            )
            for symbol, wire in wires.items()
        }

    def _bar_pages(self, window: AskWindow, wires: list[str]) -> Iterator[Any]:
        from alpaca.data.enums import Adjustment, DataFeed
        from alpaca.data.historical.crypto import CryptoHistoricalDataClient
        from alpaca.data.historical.stock import StockHistoricalDataClient
        from alpaca.data.requests import CryptoBarsRequest, StockBarsRequest
        from alpaca.data.timeframe import TimeFrame, TimeFrameUnit

        if is_made_of_hours(window):
            frame = TimeFrame(1, TimeFrameUnit.Hour)
        elif window.timeframe == "1d":
            frame = TimeFrame(1, TimeFrameUnit.Day)
        else:
            frame = TimeFrame(TIMEFRAME_MINUTES[window.timeframe], TimeFrameUnit.Minute)
        start, end = _bounds(window)
        endpoint = _ENDPOINTS[window.market]
        if window.market == "crypto":
            crypto = self._client(CryptoHistoricalDataClient, endpoint, anonymous=True)
            request = CryptoBarsRequest(
                symbol_or_symbols=wires, timeframe=frame, start=start, end=end, limit=PAGE_ROWS
            )
            yield from _pages(crypto, _CRYPTO_PATH, request.to_request_fields(), endpoint)
            return
        stocks = self._client(StockHistoricalDataClient, endpoint)
        bars = StockBarsRequest(
            symbol_or_symbols=wires,
            timeframe=frame,
            start=start,
            end=end,
            limit=PAGE_ROWS,
            adjustment=Adjustment.RAW,
            feed=DataFeed(self._feed),
        )
        yield from _pages(stocks, _STOCK_PATH, bars.to_request_fields(), endpoint)

    def _client(
        self, kind: "Callable[..., RESTClient]", endpoint: str, *, anonymous: bool = False
    ) -> "RESTClient":
        """Return a client of the SDK that goes through the gate; it holds no secret itself."""
        if not self._has_key and not anonymous:
            raise AuthError(
                f"Alpaca has no {endpoint} without a key, and none is set. Set "
                "SCIZOR_ALPACA_API_KEY and SCIZOR_ALPACA_SECRET (the free plan will do), or take "
                "alpaca out of the provider chain.",
                provider=SOURCE_NAME,
                endpoint=endpoint,
            )
        client: Any = kind("unused", "unused", url_override=self._api.base_url)
        # The SDK takes no session from outside (0.44.0): this is where it keeps its own.
        client._session = GatedSession(self._api)
        stand_in: RESTClient = client
        return stand_in

    def _source(self, market: str) -> str:
        if market == "crypto" or self._feed == "sip":
            return SOURCE_NAME
        return f"{SOURCE_NAME}-{self._feed}"


def _bounds(window: AskWindow) -> tuple[datetime, datetime]:
    """Return the instants to ask for, both inclusive.

    Daily bars of equities begin at midnight in New York.
    """
    start, end = window.start, window.end
    spec = get_market(window.market)
    if window.timeframe == "1d" and spec.calendar != "24/7":
        zone = ZoneInfo(spec.timezone)
        start, end = start.replace(tzinfo=zone), end.replace(tzinfo=zone)
    return start.astimezone(UTC), end.astimezone(UTC) - timedelta(seconds=1)


def _pages(
    client: "RESTClient", path: str, params: Mapping[str, Any], endpoint: str
) -> Iterator[Any]:
    """Yield the pages of an answer, one request each.

    Raises:
        ProviderError: a page could not be had.
        SchemaDrift: a page names one that was there already, which would never end.
    """
    token: str | None = None
    seen: set[str] = set()
    while True:
        page = client.get(path, {**params, "page_token": token})
        yield page
        token = page_token(page, endpoint)
        if token is None:
            return
        if token in seen:
            raise drift(endpoint, "its next_page_token leads back to a page that was there")
        seen.add(token)


@dataclass
class _Batches:
    """Answers symbol by symbol out of requests for many.

    Attributes:
        symbols: all symbols of the request, in its order.
        fetch: fetches a window for some symbols; raises where any page fails.
        answers: (start, end) -> symbol -> its bars, or why there are none.
    """

    symbols: list[str]
    fetch: Callable[[AskWindow, Sequence[str]], dict[str, ParsedBars]]
    answers: dict[tuple[datetime, datetime], dict[str, ParsedBars | ProviderError]] = field(
        default_factory=dict
    )

    def ask(self, window: AskWindow) -> ParsedBars:
        """Return the bars of a window; asks for the next symbols with it.

        Raises:
            InvalidInputError: the symbol cannot be one of the market.
            ProviderError: the batch with this symbol failed.
        """
        to_alpaca_symbol(window.market, window.symbol)
        answered = self.answers.setdefault((window.start, window.end), {})
        if window.symbol not in answered:
            self._fill(window, answered)
        answer = answered[window.symbol]
        if isinstance(answer, ProviderError):
            raise answer
        return answer

    def _fill(self, window: AskWindow, answered: dict[str, ParsedBars | ProviderError]) -> None:
        waiting = [
            symbol
            for symbol in dict.fromkeys(self.symbols)
            if symbol not in answered and _is_valid(window.market, symbol)
        ]
        batch = waiting[: symbols_per_batch(window)]
        while batch:
            try:
                answered.update(self.fetch(window, batch))
            except ProviderError as error:
                # One symbol that Alpaca refuses to read spoils the request for all of them.
                culprits = _named(error, window.market, batch) if len(batch) > 1 else []
                failed = culprits or batch
                answered.update(dict.fromkeys(failed, error))
                batch = [symbol for symbol in batch if symbol not in failed]
            else:
                return


def symbols_per_batch(window: AskWindow) -> int:
    """Return how many symbols one batch asks for, so that what it brings fits into memory."""
    minutes = 60 if is_made_of_hours(window) else TIMEFRAME_MINUTES[window.timeframe]
    rows = max(1, int((window.end - window.start) / timedelta(minutes=minutes)))
    return max(1, min(SYMBOLS_PER_REQUEST, ROWS_PER_BATCH // rows))


def _is_valid(market: str, symbol: str) -> bool:
    try:
        to_alpaca_symbol(market, symbol)
    except InvalidInputError:
        return False
    return True


def _named(error: ProviderError, market: str, symbols: Iterable[str]) -> list[str]:
    """Return the symbols that a refusal calls invalid."""
    _, phrase, words = str(error).partition("invalid symbol")
    if not phrase or not isinstance(error, BadRequest):
        return []
    named = {word.rstrip(".") for word in re.split(r"[\s,;:\"']+", words)}
    return [symbol for symbol in symbols if to_alpaca_symbol(market, symbol) in named]
