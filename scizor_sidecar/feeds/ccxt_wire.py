"""What the crypto exchanges' messages say, whatever they look like on the wire.

A venue's reader (`ccxt_kraken`, `ccxt_binance`, `ccxt_coinbase`) turns one decoded message into
what is defined here; it does no I/O and takes any value without an error: what is not as agreed
becomes `Unreadable`, or a trade whose price, size or time is marked as none.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Protocol

from scizor_core.stream.trades import MICROSECONDS, NO_TIME
from scizor_resources.errors import ProviderError

ErrorKind = type[ProviderError]
Levels = list[tuple[float, float]]

_TIME = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(?:Z|\+00:00)", re.ASCII)
_LONGEST_NUMBER = 40


@dataclass(slots=True)
class Trades:
    """Trades of one message in the order in which they happened, in equally long columns.

    Attributes:
        symbols: the venue's names, "" where there was none.
        ts: microseconds since 1970 UTC, `NO_TIME` where unreadable.
        price: NaN where unreadable.
        size: NaN where unreadable.
        ids: the venue's, None where there was none.
        is_snapshot: they happened before the subscription.
    """

    symbols: list[str] = field(default_factory=list)
    ts: list[int] = field(default_factory=list)
    price: list[float] = field(default_factory=list)
    size: list[float] = field(default_factory=list)
    ids: list[str | int | None] = field(default_factory=list)
    is_snapshot: bool = False

    def add(self, symbol: object, ts: int, price: object, size: object, trade_id: object) -> None:
        """Take in one more trade as it came."""
        self.symbols.append(symbol if isinstance(symbol, str) else "")
        self.ts.append(ts)
        self.price.append(number_of(price))
        self.size.append(number_of(size))
        self.ids.append(trade_id if isinstance(trade_id, str) else whole_number(trade_id))


@dataclass(frozen=True)
class BookMoved:
    """An order book is new or has changed; the SDK keeps it.

    Attributes:
        symbol: the venue's name.
        ts: microseconds since 1970 UTC, `NO_TIME` where unreadable.
        checksum: the venue's, of the best ten levels of each side, None where it has none.
    """

    symbol: str
    ts: int
    checksum: int | None = None


@dataclass(frozen=True)
class Confirmed:
    """Subscriptions to trades stand: by the venue's names, or by the number of the request."""

    symbols: frozenset[str] = frozenset()
    request: int | None = None


@dataclass(frozen=True)
class Refused:
    """The venue does not serve what was asked for; as in `Confirmed`, and the venue's words."""

    why: str
    symbols: frozenset[str] = frozenset()
    request: int | None = None


@dataclass(frozen=True)
class Numbered:
    """The message's number in its connection; each is one more than the one before."""

    number: int


@dataclass(frozen=True)
class Ends:
    """The venue says that the connection is of no more use."""

    kind: ErrorKind
    why: str


@dataclass(frozen=True)
class Unreadable:
    """The message is not what was agreed."""

    what: str


Heard = Trades | BookMoved | Confirmed | Refused | Numbered | Ends | Unreadable


class Wire(Protocol):
    """How one venue speaks."""

    @property
    def ccxt_id(self) -> str:
        """Name of ccxt's class."""

    @property
    def book_limit(self) -> int | None:
        """Levels of a book that are asked for, None for what the SDK takes by itself."""

    def read(self, message: object) -> list[Heard]:
        """Return what a message says; a heartbeat or an answer without news says nothing."""

    def url(self, sdk: Any) -> str:
        """Return where the SDK connects to."""

    def name(self, venue_id: str, symbol: str) -> str:
        """Return how messages call a market: by its id or by the platform's symbol."""

    def leave(self, sdk: Any, names: list[str], symbols: list[str], *, book: bool) -> Any:
        """Forget subscriptions in the SDK and return the message that ends them at the venue."""

    def first_steps(self, sdk: Any, symbols: list[str]) -> Any:
        """Return an awaitable that asks for heartbeats, None where they come by themselves."""

    def checksum_of(self, market: Mapping[str, Any], bids: Levels, asks: Levels) -> int | None:
        """Return the checksum of a book, None where the venue has none."""


def number_of(value: object) -> float:
    """Return a price or size as a number, NaN where it is none."""
    if isinstance(value, bool):
        return math.nan
    if isinstance(value, float):
        return value
    if isinstance(value, int | str) and (
        not isinstance(value, str) or len(value) <= _LONGEST_NUMBER
    ):
        try:
            return float(value)
        except (ValueError, OverflowError):
            return math.nan
    return math.nan


def whole_number(value: object) -> int | None:
    """Return a whole number as it came in JSON, None where it is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def time_of(value: object) -> int:
    """Return an RFC 3339 time in UTC as microseconds; finer digits are cut off.

    Cut off and not rounded, so that no trade moves into the next bar.
    """
    if not isinstance(value, str):
        return NO_TIME
    found = _TIME.fullmatch(value)
    if found is None:
        return NO_TIME
    second = _second_of(found[1])
    if second is None:
        return NO_TIME
    return second * MICROSECONDS + int((found[2] or "0").ljust(6, "0")[:6])


@lru_cache(maxsize=4096)
def _second_of(text: str) -> int | None:
    try:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None


def millis_of(value: object) -> int:
    """Return a time in whole milliseconds since 1970 as microseconds."""
    number = whole_number(value)
    return number * 1000 if number is not None and 0 < number < 10**15 else NO_TIME


def as_mapping(value: object) -> Mapping[str, Any]:
    """Return a JSON object, an empty one where it is none."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """Return a JSON list, an empty one where it is none."""
    return value if isinstance(value, list) else []


def as_text(value: object) -> str:
    """Return a JSON text, an empty one where it is none."""
    return value if isinstance(value, str) else ""
