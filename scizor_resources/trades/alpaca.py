"""Alpaca's history of trades, with the identities and conditions of its live feed.

Source: docs.alpaca.markets, "Historical Trades" (read 2026-11-21): GET /v2/stocks/trades and GET
/v1beta3/crypto/us/trades, up to 10,000 a page, oldest first, `next_page_token` for the next one.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr

from scizor_core.errors import InvalidInputError
from scizor_core.gaps import from_micros
from scizor_resources.errors import AuthError, BadRequest
from scizor_resources.providers.alpaca.session import kind_of_refusal, refusal_words
from scizor_resources.providers.alpaca.source import DEFAULT_BASE_URL, TITLE
from scizor_resources.providers.alpaca.symbols import to_alpaca_symbol
from scizor_resources.providers.alpaca.trades import trade_of
from scizor_resources.providers.alpaca.wire import SOURCE_NAME, page_token
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.http import JsonApi
from scizor_resources.trades.base import TRADES_AT_ONCE, Listed, Trade, TradeColumns, columns_of
from scizor_resources.trades.values import nanos_of_text

_PAGE = 10_000
#: What `u` says of a trade that was cancelled, or corrected by another one.
_TAKEN_BACK = ("canceled", "incorrect")
_ENDPOINTS = {"us": "/v2/stocks/trades", "crypto": "/v1beta3/crypto/us/trades"}


class AlpacaTrades:
    """A `TradeSource` of US equities and crypto.

    Args:
        gate: what every request passes.
        base_url: address without a slash at the end; None for Alpaca's own.
        key: key id; None where only crypto is asked for.
        secret: the key's secret.
        feed: feed of equities; the one that is streamed.
        timeout_seconds: longest wait for one answer.
    """

    name = SOURCE_NAME
    same_as_live = True

    def __init__(
        self,
        gate: Gate,
        *,
        base_url: str | None = None,
        key: SecretStr | None = None,
        secret: SecretStr | None = None,
        feed: str = "iex",
        timeout_seconds: float = 20.0,
    ) -> None:
        headers: dict[str, SecretStr] = {}
        if key is not None and secret is not None:
            headers = {"APCA-API-KEY-ID": key, "APCA-API-SECRET-KEY": secret}
        hidden = tuple(each.get_secret_value() for each in headers.values())
        self._has_key, self._feed = bool(headers), feed
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

    def close(self) -> None:
        """Close the connections; the next call opens them anew."""
        self._api.close()

    def fetch_trades(self, stream: Listed, start_us: int, end_us: int) -> TradeColumns:
        """Fetch the trades of `[start_us, end_us)`, or of its first part.

        Raises:
            BadRequest: Alpaca does not serve the market or symbol.
            AuthError: equities need a key, and there is none.
            ProviderError: a request failed.
        """
        endpoint = _ENDPOINTS.get(stream.market)
        if endpoint is None:
            raise BadRequest(f"Alpaca has no trades of {stream.market}.", provider=SOURCE_NAME)
        if start_us >= end_us:
            return TradeColumns(end_us)
        if stream.market == "us" and not self._has_key:
            raise AuthError(
                f"Alpaca has no {endpoint} without a key, and none is set.",
                provider=SOURCE_NAME,
                endpoint=endpoint,
            )
        try:
            wire = to_alpaca_symbol(stream.market, stream.symbol)
        except InvalidInputError as error:
            raise BadRequest(str(error), provider=SOURCE_NAME) from None
        asked: dict[str, str | int] = {
            "symbols": wire,
            "start": _text(start_us),
            "end": _text(end_us),
            "limit": _PAGE,
            "sort": "asc",
        }
        if stream.market == "us":
            asked["feed"] = self._feed
        found: list[Trade] = []
        while True:
            page = self._api.get(endpoint, asked)
            rows = self._rows(page, wire, endpoint)
            found += [_trade(self._api, endpoint, row) for row in rows if _stands(row)]
            token = page_token(page, endpoint)
            if token is None:
                return columns_of(found, start_us, end_us, end_us)
            if token == asked.get("page_token"):
                raise self._api.drift(endpoint, "its next_page_token leads back to the same page")
            asked["page_token"] = token
            # More trades of the microsecond in which the page ends may come.
            if len(found) >= TRADES_AT_ONCE and found[-1].ts > start_us:
                return columns_of(found, start_us, end_us, found[-1].ts)

    def _rows(self, page: Any, wire: str, endpoint: str) -> list[Any]:
        trades = page.get("trades") if isinstance(page, Mapping) else None
        if trades is None and isinstance(page, Mapping) and "trades" in page:
            return []
        rows = trades.get(wire, []) if isinstance(trades, Mapping) else None
        if rows is None and isinstance(trades, Mapping):
            return []
        if not isinstance(rows, list):
            raise self._api.drift(endpoint, "its trades are not lists by symbol")
        return rows


def _stands(row: Any) -> bool:
    return not (isinstance(row, Mapping) and row.get("u") in _TAKEN_BACK)


def _trade(api: JsonApi, endpoint: str, row: Any) -> Trade:
    nanoseconds = nanos_of_text(row.get("t")) if isinstance(row, Mapping) else None
    if nanoseconds is None:
        raise api.drift(endpoint, "a trade has no time")
    found = trade_of(row, nanoseconds)
    return Trade(found.ts, found.price, found.size, found.trade_id, int(found.condition))


def _text(micros: int) -> str:
    at: datetime = from_micros(micros).astimezone(UTC)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")
