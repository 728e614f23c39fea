"""Coinbase Advanced Trade's WebSocket: numbered messages, newest trade first."""

from collections.abc import Mapping
from typing import Any

from scizor_resources.errors import AuthError, RateLimited, TransientError
from scizor_sidecar.feeds.ccxt_wire import (
    BookMoved,
    Confirmed,
    Ends,
    Heard,
    Levels,
    Numbered,
    Trades,
    Unreadable,
    as_list,
    as_mapping,
    as_text,
    time_of,
    whole_number,
)


class CoinbaseWire:
    """How Coinbase speaks."""

    ccxt_id = "coinbase"
    book_limit: int | None = None

    def read(self, message: object) -> list[Heard]:
        """Return what a message says; its number comes first."""
        if not isinstance(message, dict):
            return [Unreadable("it is not an object")]
        if message.get("type") == "error":
            return [_refusal(as_text(message.get("message")))]
        number = whole_number(message.get("sequence_num"))
        first: list[Heard] = [] if number is None else [Numbered(number)]
        channel, events = message.get("channel"), message.get("events")
        if channel == "heartbeats":
            return first
        if not isinstance(events, list) or not all(isinstance(each, dict) for each in events):
            return [*first, Unreadable("its events are not a list of objects")]
        if channel == "market_trades":
            return [*first, *_trades(events)]
        if channel == "l2_data":
            return [*first, *_books(events, message)]
        if channel == "subscriptions":
            return [*first, _confirmed(events)]
        return [*first, Unreadable("its channel is not known")]

    def url(self, sdk: Any) -> str:
        """Return where the SDK connects to."""
        return str(sdk.urls["api"]["ws"])

    def name(self, venue_id: str, symbol: str) -> str:
        """Return the product's id."""
        del symbol
        return venue_id

    def leave(self, sdk: Any, names: list[str], symbols: list[str], *, book: bool) -> Any:
        """Forget subscriptions and return the message that ends them."""
        client = sdk.client(self.url(sdk))
        channel = "level2" if book else "market_trades"
        for symbol in symbols:
            client.subscriptions.pop(f"{channel}::{symbol}", None)
        return {"type": "unsubscribe", "product_ids": names, "channel": channel}

    def first_steps(self, sdk: Any, symbols: list[str]) -> Any:
        """Return what asks for heartbeats; without them quiet products are closed."""
        return sdk.subscribe_multiple("heartbeats", False, symbols)

    def checksum_of(self, market: Mapping[str, Any], bids: Levels, asks: Levels) -> int | None:
        """Return None: messages are numbered."""
        del market, bids, asks
        return None


def _trades(events: list[dict[str, Any]]) -> list[Heard]:
    out: list[Heard] = []
    for event in events:
        rows = event.get("trades")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            out.append(Unreadable("its trades are not a list of objects"))
            continue
        found = Trades(is_snapshot=event.get("type") == "snapshot")
        for row in reversed(rows):
            ts = time_of(row.get("time"))
            name, trade_id = row.get("product_id"), row.get("trade_id")
            found.add(name, ts, row.get("price"), row.get("size"), trade_id)
        out.append(found)
    return out


def _books(events: list[dict[str, Any]], message: dict[str, Any]) -> list[Heard]:
    ts = time_of(message.get("timestamp"))
    names = dict.fromkeys(as_text(event.get("product_id")) for event in events)
    return [BookMoved(name, ts) if name else Unreadable("a book of no product") for name in names]


def _confirmed(events: list[dict[str, Any]]) -> Heard:
    names = {
        name
        for event in events
        for name in as_list(as_mapping(event.get("subscriptions")).get("market_trades"))
        if isinstance(name, str)
    }
    return Confirmed(frozenset(names))


def _refusal(words: str) -> Heard:
    lower = words.lower()
    if "rate limit" in lower or "too many" in lower:
        return Ends(RateLimited, words)
    if "auth" in lower:
        return Ends(AuthError, words)
    # It does not say what it refuses; asking for all of it again is what can be done.
    return Ends(TransientError, words or "an error without a reason")
