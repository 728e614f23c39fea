"""What Alpaca's streams say: frames of MessagePack, each a list of maps.

No I/O; takes any bytes without an error. What is not as agreed becomes `Unreadable`, a trade whose
price, size or time cannot be read keeps its row, marked as none.

Source: docs.alpaca.markets, "Real-time Stock Data", "Real-time Crypto Data" (read 2026-11-21).
"""

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scizor_core.stream.trades import NO_TIME
from scizor_resources.errors import (
    AuthError,
    ProviderError,
    RateLimited,
    TransientError,
)
from scizor_resources.providers.alpaca.trades import nanoseconds_of, number_of, trade_of
from scizor_sidecar.feeds.ccxt_wire import Unreadable

CHANNELS = ("trades", "quotes", "statuses")

#: Codes of errors about what was asked for last; what stood before goes on.
_ABOUT_REQUEST = frozenset({400, 405, 408, 409, 410})
SLOW_CLIENT = 407
#: Codes and words of errors that end the connection.
_KINDS: Mapping[int, type[ProviderError]] = {
    401: AuthError,
    402: AuthError,
    404: TransientError,
    406: RateLimited,
    SLOW_CLIENT: TransientError,
    500: TransientError,
}
_KINDS_BY_WORDS: Mapping[str, type[ProviderError]] = {
    "auth failed": AuthError,
    "not authenticated": AuthError,
    "insufficient subscription": AuthError,
    "connection limit": RateLimited,
    "too many": RateLimited,
}
#: Kinds of message that are not asked for, or say nothing about trades.
_NO_NEWS = frozenset({"success", "o", "b", "u", "d", "l", "n"})
#: Codes of a trading status: CTA (tapes A and B), UTP (tape C). Others change no trading.
_HALTED = frozenset({"2", "H", "P"})
_RESUMED = frozenset({"3", "T"})


@dataclass(slots=True)
class Trades:
    """Trades of one frame, in equally long columns; ids and conditions as in `AlpacaTrade`."""

    names: list[str] = field(default_factory=list)
    ts: list[int] = field(default_factory=list)
    price: list[float] = field(default_factory=list)
    size: list[float] = field(default_factory=list)
    ids: list[str | int | None] = field(default_factory=list)
    conditions: list[int] = field(default_factory=list)
    #: What cancels and corrections call each trade by.
    keys: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class QuoteMoved:
    """The best bid and ask of a symbol; NaN for a side that is missing."""

    name: str
    ts: int
    bid: float
    ask: float
    bid_size: float | None
    ask_size: float | None


@dataclass(frozen=True)
class Standing:
    """The answer to a request: the symbols of each channel that is subscribed to now."""

    symbols: Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Refused:
    """A request was refused; what stood before stands."""

    words: str


@dataclass(frozen=True)
class Ends:
    """The connection is of no more use; `code` is Alpaca's."""

    kind: type[ProviderError]
    words: str
    code: int


@dataclass(frozen=True)
class TradingStatus:
    """Trading of a symbol has been stopped, or goes on."""

    name: str
    ts: int
    is_halted: bool
    reason: str


@dataclass(frozen=True)
class TakenBack:
    """A trade was cancelled or corrected; `key` is what it was called by."""

    name: str
    key: str
    ts: int
    why: str


Heard = Trades | QuoteMoved | Standing | Refused | Ends | TradingStatus | TakenBack | Unreadable


def read_frame(frame: str | bytes) -> list[Heard]:
    """Return what a frame says; its trades come together, where the first of them stood."""
    messages = _decoded(frame)
    if isinstance(messages, Unreadable):
        return [messages]
    trades = Trades()
    out: list[Heard] = []
    for message in messages:
        kind = message.get("T") if isinstance(message, dict) else None
        if kind == "t":
            if not trades.ts:
                out.append(trades)
            _add_trade(trades, message)
        elif not isinstance(kind, str):
            out.append(Unreadable("a message without its kind"))
        elif kind not in _NO_NEWS and (heard := _read(kind, message)) is not None:
            out.append(heard)
    return out


def kind_of_words(words: str) -> type[ProviderError]:
    """Return the kind of error that Alpaca's words mean; the SDK keeps the words alone."""
    lower = words.lower()
    found = [kind for part, kind in _KINDS_BY_WORDS.items() if part in lower]
    return found[0] if found else TransientError


def _decoded(frame: str | bytes) -> list[Any] | Unreadable:
    if isinstance(frame, str):
        return Unreadable("it is text, not MessagePack")
    msgpack = importlib.import_module("msgpack")
    try:
        messages = msgpack.unpackb(frame, strict_map_key=False)
    except (
        ValueError, TypeError, OverflowError, RecursionError, msgpack.exceptions.UnpackException,
    ):  # fmt: skip
        return Unreadable("it is not MessagePack")
    if isinstance(messages, dict):
        return [messages]
    return messages if isinstance(messages, list) else Unreadable("it is not a list of messages")


def _read(kind: str, message: Mapping[str, Any]) -> Heard | None:
    if kind == "subscription":
        return Standing({name: _symbols(message.get(name)) for name in CHANNELS})
    if kind == "error":
        return _error(message)
    name = message.get("S")
    if not isinstance(name, str) or not name:
        return Unreadable("a message without its symbol")
    if kind == "q":
        return _quote(name, message)
    if kind == "s":
        return _status(name, message)
    if kind in ("c", "x"):
        return _taken_back(name, message, is_correction=kind == "c")
    return Unreadable("its kind is not known")


def _add_trade(trades: Trades, message: Mapping[str, Any]) -> None:
    name = message.get("S")
    found = trade_of(message, _nanoseconds(message.get("t")))
    trades.names.append(name if isinstance(name, str) else "")
    trades.ts.append(found.ts)
    trades.price.append(found.price)
    trades.size.append(found.size)
    trades.ids.append(found.trade_id)
    trades.conditions.append(int(found.condition))
    trades.keys.append(_key(name, message.get("x"), message.get("i")))


def _quote(name: str, message: Mapping[str, Any]) -> Heard:
    ts = _ts(message)
    if ts == NO_TIME:
        return Unreadable("a quote without its time")
    bid, ask = number_of(message.get("bp")), number_of(message.get("ap"))
    bid_size, ask_size = number_of(message.get("bs")), number_of(message.get("as"))
    return QuoteMoved(
        name,
        ts,
        # A side without orders comes as 0.
        bid if bid > 0 else math.nan,
        ask if ask > 0 else math.nan,
        None if math.isnan(bid_size) else bid_size,
        None if math.isnan(ask_size) else ask_size,
    )


def _status(name: str, message: Mapping[str, Any]) -> Heard | None:
    ts, code = _ts(message), message.get("sc")
    if ts == NO_TIME or not isinstance(code, str):
        return Unreadable("a trading status without its time or code")
    if code not in _HALTED and code not in _RESUMED:
        return None
    words = [message.get(key) for key in ("sm", "rc", "rm")]
    reason = ", ".join(word for word in words if isinstance(word, str) and word)
    return TradingStatus(name, ts, code in _HALTED, reason or "no reason given")


def _taken_back(name: str, message: Mapping[str, Any], *, is_correction: bool) -> Heard:
    key = _key(name, message.get("x"), message.get("oi" if is_correction else "i"))
    why = "a trade was corrected" if is_correction else "a trade was cancelled"
    return TakenBack(name, key, _ts(message), why)


def _error(message: Mapping[str, Any]) -> Heard:
    code, words = message.get("code"), message.get("msg")
    text = words if isinstance(words, str) and words else "no reason given"
    if not isinstance(code, int):
        return Unreadable("an error without its code")
    if code in _ABOUT_REQUEST:
        return Refused(f"{text} ({code})")
    kind = _KINDS.get(code)
    return Unreadable(f"error {code}: {text[:200]}") if kind is None else Ends(kind, text, code)


def _key(name: object, exchange: object, number: object) -> str:
    return f"{name} {exchange} {number}"


def _symbols(value: object) -> frozenset[str]:
    found = value if isinstance(value, list) else []
    return frozenset(each for each in found if isinstance(each, str))


def _nanoseconds(stamp: object) -> int | None:
    return nanoseconds_of(getattr(stamp, "seconds", None), getattr(stamp, "nanoseconds", None))


def _ts(message: Mapping[str, Any]) -> int:
    found = _nanoseconds(message.get("t"))
    return NO_TIME if found is None else found // 1000
