"""Kraken's WebSocket v2: trades with six or nine decimals of a second, books with checksums."""

import zlib
from collections.abc import Mapping
from typing import Any

from scizor_resources.errors import RateLimited, TransientError
from scizor_sidecar.feeds.ccxt_wire import (
    BookMoved,
    Confirmed,
    Ends,
    Heard,
    Levels,
    Refused,
    Trades,
    Unreadable,
    as_list,
    as_mapping,
    as_text,
    time_of,
    whole_number,
)

_CHECKED_LEVELS = 10
#: Channels and answers that say nothing about trades or books.
_NO_NEWS = ("heartbeat", "pong")


class KrakenWire:
    """How Kraken speaks."""

    ccxt_id = "kraken"
    book_limit: int | None = 10

    def read(self, message: object) -> list[Heard]:
        """Return what a message says."""
        if not isinstance(message, dict):
            return [Unreadable("it is not an object")]
        channel = message.get("channel")
        if channel == "trade":
            return _trades(message)
        if channel == "book":
            return _book(message)
        if channel == "status":
            return _status(message)
        if channel in _NO_NEWS or message.get("method") in _NO_NEWS:
            return []
        if message.get("method") in ("subscribe", "unsubscribe"):
            return _answer(message)
        if "error" in message:
            return [_refusal(as_text(message.get("error")))]
        return [Unreadable("neither channel nor method is known")]

    def url(self, sdk: Any) -> str:
        """Return where the SDK connects to."""
        return str(sdk.urls["api"]["ws"]["publicV2"])

    def name(self, venue_id: str, symbol: str) -> str:
        """Return the symbol: v2 knows the codes that everybody uses."""
        del venue_id
        return symbol

    def leave(self, sdk: Any, names: list[str], symbols: list[str], *, book: bool) -> Any:
        """Forget subscriptions and return the message that ends them."""
        client = sdk.client(self.url(sdk))
        for symbol in symbols:
            client.subscriptions.pop(f"{'orderbook' if book else 'trade'}@{symbol}", None)
        asked: dict[str, Any] = {"channel": "book" if book else "trade", "symbol": names}
        if book:
            asked["depth"] = self.book_limit
        return {"method": "unsubscribe", "params": asked, "req_id": sdk.request_id()}

    def first_steps(self, sdk: Any, symbols: list[str]) -> Any:
        """Return None: heartbeats come with any subscription."""
        del sdk, symbols

    def checksum_of(self, market: Mapping[str, Any], bids: Levels, asks: Levels) -> int | None:
        """Return the CRC32 of the best ten asks and bids, digits without point and first zeros."""
        info = as_mapping(market.get("info"))
        try:
            places = int(info["pair_decimals"]), int(info["lot_decimals"])
        except (KeyError, TypeError, ValueError):
            return None
        digits = [
            f"{value:.{decimals}f}".replace(".", "").lstrip("0")
            for level in (*asks[:_CHECKED_LEVELS], *bids[:_CHECKED_LEVELS])
            for value, decimals in zip(level, places, strict=True)
        ]
        return zlib.crc32("".join(digits).encode())


def _trades(message: dict[str, Any]) -> list[Heard]:
    rows = message.get("data")
    if not isinstance(rows, list):
        return [Unreadable("trades without a list of data")]
    found = Trades(is_snapshot=message.get("type") == "snapshot")
    for row in rows:
        if not isinstance(row, dict):
            return [Unreadable("a trade is not an object")]
        ts = time_of(row.get("timestamp"))
        found.add(row.get("symbol"), ts, row.get("price"), row.get("qty"), row.get("trade_id"))
    return [found]


def _book(message: dict[str, Any]) -> list[Heard]:
    data = as_list(message.get("data"))
    entry = as_mapping(data[0]) if data else {}
    symbol = as_text(entry.get("symbol"))
    if not symbol or len(data) != 1:
        return [Unreadable("a book without its symbol")]
    return [BookMoved(symbol, time_of(entry.get("timestamp")), whole_number(entry.get("checksum")))]


def _status(message: dict[str, Any]) -> list[Heard]:
    for entry in as_list(message.get("data")):
        if as_mapping(entry).get("system") == "maintenance":
            return [Ends(TransientError, "it is under maintenance")]
    return []


def _answer(message: dict[str, Any]) -> list[Heard]:
    result = as_mapping(message.get("result"))
    symbol = as_text(result.get("symbol")) or as_text(message.get("symbol"))
    if message.get("success") is not True:
        refusal = _refusal(as_text(message.get("error")), symbol)
        # What cannot be ended was not there; what else there is of the symbol goes on.
        is_over = message.get("method") == "unsubscribe" and isinstance(refusal, Refused)
        return [] if is_over else [refusal]
    if message.get("method") == "subscribe" and result.get("channel") == "trade":
        return [Confirmed(frozenset({symbol}))]
    return []


def _refusal(error: str, symbol: str = "") -> Heard:
    lower = error.lower()
    if "rate" in lower or "too many" in lower:
        return Ends(RateLimited, error)
    if "eservice" in lower or "unavailable" in lower or "maintenance" in lower:
        return Ends(TransientError, error)
    if symbol:
        # Already subscribed, or not known, in either case about this one only.
        if "already subscribed" in lower:
            return Confirmed(frozenset({symbol}))
        return Refused(error or "no reason given", frozenset({symbol}))
    return Unreadable(f"an error about no symbol: {error[:200]}")
