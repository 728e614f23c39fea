"""Binance's raw streams: one trade a frame, times in milliseconds, books as numbered changes."""

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
    as_mapping,
    as_text,
    millis_of,
    whole_number,
)

#: Streams whose changes come every 100 ms.
_BOOK_STREAM = "depth@100ms"
_SERVER_FAULT = 500


class BinanceWire:
    """How Binance speaks."""

    ccxt_id = "binance"
    book_limit: int | None = None

    def read(self, message: object) -> list[Heard]:
        """Return what a message says."""
        if not isinstance(message, dict):
            return [Unreadable("it is not an object")]
        event = message.get("e")
        if event == "trade":
            found = Trades()
            found.add(
                message.get("s"),
                millis_of(message.get("T")),
                message.get("p"),
                message.get("q"),
                message.get("t"),
            )
            return [found]
        if event == "depthUpdate":
            symbol = as_text(message.get("s"))
            if not symbol:
                return [Unreadable("a book without its symbol")]
            return [BookMoved(symbol, millis_of(message.get("E")))]
        if event == "serverShutdown":
            return [Ends(TransientError, "it closes this connection")]
        request = whole_number(message.get("id"))
        if "error" in message:
            return [_refusal(as_mapping(message["error"]), request)]
        if request is not None and "result" in message:
            return [Confirmed(request=request)]
        return [Unreadable("its event is not known")]

    def url(self, sdk: Any) -> str:
        """Return where the SDK connects to: one connection for all."""
        return f"{sdk.urls['api']['ws']['spot']}/0"

    def name(self, venue_id: str, symbol: str) -> str:
        """Return the venue's id."""
        del symbol
        return venue_id

    def leave(self, sdk: Any, names: list[str], symbols: list[str], *, book: bool) -> Any:
        """Forget subscriptions and return the message that ends them."""
        url = self.url(sdk)
        client = sdk.client(url)
        for symbol in symbols:
            client.subscriptions.pop(f"{'orderbook' if book else 'trade'}::{symbol}", None)
        stream = _BOOK_STREAM if book else "trade"
        streams = [f"{name.lower()}@{stream}" for name in names]
        return {"method": "UNSUBSCRIBE", "params": streams, "id": sdk.request_id(url)}

    def first_steps(self, sdk: Any, symbols: list[str]) -> Any:
        """Return None: the server pings by itself."""
        del sdk, symbols

    def checksum_of(self, market: Mapping[str, Any], bids: Levels, asks: Levels) -> int | None:
        """Return None: changes are numbered, which the SDK looks at."""
        del market, bids, asks
        return None


def _refusal(error: Mapping[str, Any], request: int | None) -> Heard:
    words, code = as_text(error.get("msg")), whole_number(error.get("code"))
    lower = words.lower()
    if "too many" in lower or "rate" in lower or code in (-1003, 429, 418):
        return Ends(RateLimited, words)
    if code is not None and code >= _SERVER_FAULT:
        return Ends(TransientError, words)
    return Refused(words or "no reason given", request=request)
