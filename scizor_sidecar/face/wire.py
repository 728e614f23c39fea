"""The WebSocket's messages: what clients may send, and the items of what they get.

The whole wire is described in docs/streaming.md.
"""

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec

from scizor_core.stream.engine import STREAM_TIMEFRAMES, BarState
from scizor_sidecar.pipeline import Book, Quote, StreamedBar

VERSION = 1
Format = Literal["json", "msgpack"]
Channel = Literal["bars", "ticks", "indicators", "quality", "book"]
CHANNELS: tuple[Channel, ...] = ("bars", "ticks", "indicators", "quality", "book")
#: Channels of which there is one for each timeframe.
BY_TIMEFRAME: frozenset[str] = frozenset({"bars", "indicators"})

#: Bytes of a message of a client.
MOST_BYTES = 64 * 1024
MOST_SYMBOLS = 500
LONGEST_NAME = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LARGEST = 2**53

_Name = Annotated[str, msgspec.Meta(max_length=LONGEST_NAME)]
Item = dict[str, Any] | tuple[Any, ...]


class Request(msgspec.Struct, frozen=True):
    """A message of a client."""

    op: Literal["auth", "subscribe", "unsubscribe", "ping"]
    key: Annotated[str, msgspec.Meta(max_length=1024)] = ""
    symbols: Annotated[list[_Name], msgspec.Meta(max_length=MOST_SYMBOLS)] | None = None
    channels: Annotated[list[Channel], msgspec.Meta(max_length=16)] | None = None
    timeframes: Annotated[list[_Name], msgspec.Meta(max_length=16)] | None = None
    resume: dict[str, Annotated[int, msgspec.Meta(ge=0, le=_LARGEST)]] = {}
    format: Format | None = None
    interval_ms: Annotated[int, msgspec.Meta(ge=0, le=10_000)] | None = None
    batch: bool | None = None


class UnreadableError(ValueError):
    """A message of a client that cannot be read; its text says why."""


_from_json = msgspec.json.Decoder(Request).decode
_from_msgpack = msgspec.msgpack.Decoder(Request).decode


def read_request(message: str | bytes) -> Request:
    """Return what a client has sent: JSON as text, msgpack as bytes.

    Raises:
        UnreadableError: it is no such message.
    """
    try:
        return _from_json(message) if isinstance(message, str) else _from_msgpack(message)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise UnreadableError(str(error) or type(error).__name__) from None


_json = msgspec.json.Encoder().encode
_msgpack = msgspec.msgpack.Encoder().encode


def encode(message: Mapping[str, Any], form: Format) -> bytes:
    """Return a message as it goes over the wire."""
    return _json(message) if form == "json" else _msgpack(message)


def join(messages: list[bytes], form: Format) -> bytes:
    """Return several encoded messages as one array."""
    if form == "json":
        return b"[" + b",".join(messages) + b"]"
    return b"\xdd" + len(messages).to_bytes(4, "big") + b"".join(messages)


# ---- keys


def key_of(channel: str, market: str, symbol: str, timeframe: str | None) -> str:
    """Return the name of what can be subscribed to: `bars|asx:CBA|1m`."""
    name = f"{channel}|{market}:{symbol}"
    return f"{name}|{timeframe}" if timeframe is not None else name


def timeframes_of(channel: str, wanted: Iterable[str]) -> tuple[str | None, ...]:
    """Return the timeframes that a channel has, of those wanted; (None,) where it has none."""
    return tuple(dict.fromkeys(wanted)) if channel in BY_TIMEFRAME else (None,)


def is_streamed(timeframe: str) -> bool:
    """Say whether bars of that length are made of live trades."""
    return timeframe in STREAM_TIMEFRAMES


# ---- values


@lru_cache(maxsize=8192)
def iso(us: int) -> str:
    """Return microseconds UTC as ISO 8601 with a Z."""
    return as_iso(_EPOCH + timedelta(microseconds=us))


def as_iso(at: datetime) -> str:
    """Return an aware instant as ISO 8601 with a Z."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def or_null(value: float | None) -> float | None:
    """Return a number, None where it is none."""
    return value if value is not None and math.isfinite(value) else None


def bar_item(streamed: StreamedBar) -> dict[str, Any]:
    """Return a live bar as it goes over the wire; one that is withdrawn has no numbers."""
    bar = streamed.bar
    if bar.state is BarState.WITHDRAWN:
        return {"t": iso(bar.start), "state": bar.state.value, "source": streamed.source}
    return {
        "t": iso(bar.start),
        "o": bar.open,
        "h": bar.high,
        "l": bar.low,
        "c": bar.close,
        "v": bar.volume,
        "w": bar.vwap,
        "n": bar.trade_count,
        "state": bar.state.value,
        "source": streamed.source,
        "revision": bar.revision,
    }


def quote_item(quote: Quote) -> dict[str, Any]:
    """Return a quote as it goes over the wire."""
    return {
        "t": iso(quote.ts),
        "bid": or_null(quote.bid),
        "ask": or_null(quote.ask),
        "bid_size": or_null(quote.bid_size),
        "ask_size": or_null(quote.ask_size),
    }


def book_item(book: Book) -> dict[str, Any]:
    """Return an order book as it goes over the wire."""
    return {"t": iso(book.ts), "bids": book.bids, "asks": book.asks}
