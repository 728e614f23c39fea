"""`FinnhubSource`: US equities, quotes, splits and the earnings calendar from Finnhub."""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

from pydantic import SecretStr

from scizor_core.markets import TIMEFRAMES, Timeframe
from scizor_resources.errors import AuthError, BadRequest
from scizor_resources.providers.actions import CorporateAction
from scizor_resources.providers.asking import ask_each
from scizor_resources.providers.base import BarBatch, BarRequest, Capabilities
from scizor_resources.providers.finnhub.api import TITLE, finnhub_api
from scizor_resources.providers.finnhub.refusals import NO_CANDLES
from scizor_resources.providers.finnhub.symbols import to_finnhub_symbol
from scizor_resources.providers.finnhub.wire import (
    CANDLE_PATH,
    QUOTE_PATH,
    SOURCE_NAME,
    SPLIT_PATH,
    Quote,
    parse_candles,
    parse_quote,
    parse_splits,
)
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.rows import AskWindow, ParsedBars

#: One call has at most a month of intraday bars; February is the shortest.
INTRADAY_WINDOW = timedelta(days=28)

#: `adjusted`: DAILY bars come adjusted for every split up to the day of the call (not for
#: dividends), so a split changes bars that were stored before it. Intraday bars are raw.
CAPABILITIES = Capabilities(
    markets=frozenset({"us"}),
    timeframes=frozenset(TIMEFRAMES),
    max_window={"1m": INTRADAY_WINDOW, "5m": INTRADAY_WINDOW, "15m": INTRADAY_WINDOW},
    adjusted=True,
    needs_key=True,
)

RESOLUTIONS: dict[Timeframe, str] = {"1m": "1", "5m": "5", "15m": "15", "1d": "D"}


class FinnhubSource:
    """A `BarSource` that asks Finnhub, with its quotes, splits and earnings calendar.

    Args:
        gate: what every request passes.
        base_url: address with its path, without a slash at the end; None for Finnhub's own.
        key: API key; goes in a header, never in an address.
        timeout_seconds: longest wait for one answer.
        now: clock, UTC; decides which bars are final.
    """

    def __init__(
        self,
        gate: Gate,
        *,
        base_url: str | None = None,
        key: SecretStr | None = None,
        timeout_seconds: float = 20.0,
        now: Callable[[], datetime],
    ) -> None:
        self.gate = gate
        self._now = now
        self._has_key = key is not None
        self._api = finnhub_api(gate, base_url, key, timeout_seconds, NO_CANDLES)

    @property
    def name(self) -> str:
        """The name of this source in chains and in the `source` column."""
        return SOURCE_NAME

    @property
    def capabilities(self) -> Capabilities:
        """What Finnhub serves; daily prices come adjusted for splits (see `CAPABILITIES`)."""
        return CAPABILITIES

    def close(self) -> None:
        """Close the connections; the next call opens them anew."""
        self._api.close()

    def fetch_bars(self, request: BarRequest) -> BarBatch:
        """Fetch the bars of a window, one call for each symbol and month.

        Raises:
            BadRequest: the market or timeframe is not served.
            UnknownMarketError: there is no such market.
            RateLimited, AuthError, TransientError, SchemaDrift: no symbol had an answer.
        """
        return ask_each(
            request,
            self._ask,
            gate=self.gate,
            title=TITLE,
            capabilities=CAPABILITIES,
            now=self._now(),
        )

    def fetch_quote(self, symbol: str) -> Quote:
        """Fetch the last price of a US equity.

        Args:
            symbol: the platform's symbol in market us.

        Raises:
            InvalidInputError: the symbol cannot be one of market us.
            BadRequest: Finnhub does not know the symbol, which it says with zeros.
            ProviderError: no answer could be had.
        """
        quote = parse_quote(self._get(QUOTE_PATH, {"symbol": _wire(symbol)}), symbol)
        if quote is None:
            raise BadRequest(
                f"Finnhub does not know the symbol '{symbol}': every field of its quote is zero. "
                "Check the symbol.",
                provider=SOURCE_NAME,
                endpoint=QUOTE_PATH,
                status=200,
            )
        return quote

    def fetch_splits(self, symbol: str, start: date, end: date) -> list[CorporateAction]:
        """Fetch the splits of a US equity with `start <= ex_date < end`, oldest first.

        Raises:
            InvalidInputError: the symbol cannot be one of market us.
            ProviderError: no answer could be had.
        """
        answer = self._get(SPLIT_PATH, {"symbol": _wire(symbol), **_days(start, end)})
        splits = [each for each in parse_splits(answer, symbol) if start <= each.ex_date < end]
        return sorted(splits, key=lambda split: split.ex_date)

    def _ask(self, window: AskWindow) -> ParsedBars:
        """Make one call for a symbol's window and read it; both ends are inclusive there."""
        answer = self._get(
            CANDLE_PATH,
            {
                "symbol": to_finnhub_symbol(window.market, window.symbol),
                "resolution": RESOLUTIONS[window.timeframe],
                "from": str(int(window.start.timestamp())),
                "to": str(int(window.end.timestamp()) - 1),
            },
        )
        return parse_candles(answer, window, now=self._now())

    def _get(self, path: str, params: dict[str, str]) -> Any:
        if not self._has_key:
            raise AuthError(
                f"Finnhub has no {path} without a key, and none is set. Set "
                "SCIZOR_FINNHUB_API_KEY, or take finnhub out of the provider chain.",
                provider=SOURCE_NAME,
                endpoint=path,
            )
        return self._api.get(path, dict(params))


def _wire(symbol: str) -> str:
    return to_finnhub_symbol("us", symbol)


def _days(start: date, end: date) -> dict[str, str]:
    """Return the query of a half-open window of days; Finnhub's last day is inclusive."""
    return {"from": start.isoformat(), "to": (end - timedelta(days=1)).isoformat()}
