"""What a TWS or IB Gateway says about live data: from the fields of a frame to what is heard. Pure.

ib_async decodes these messages too, but puts the time of arrival in place of the exchange's time of
a tick-by-tick trade, rounds nothing up into an error and keeps books by overwriting rows where they
have to be moved. So the fields are read here, as they came; any fields are taken without an error.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scizor_core.stream.trades import MICROSECONDS, NO_TIME, Condition
from scizor_sidecar.feeds.ccxt_wire import number_of

_LONGEST_INTEGER = 15
_EPOCH_DIGITS = 10
_MILLISECONDS = 1000
_UNREPORTED = 2
_BID, _ASK = "1", "2"
_BID_SIZE, _ASK_SIZE = "0", "3"
_RT_VOLUME = "48"
_RT_VOLUME_PARTS = 6
_LAST_TRADES = ("1", "2")


@dataclass(frozen=True, slots=True)
class LiveTrade:
    """A trade of a tick-by-tick subscription.

    Attributes:
        request: id of the subscription.
        ts: the exchange's time in whole seconds, as microseconds UTC; `NO_TIME` where unreadable.
        price: NaN where unreadable.
        size: NaN where unreadable.
        condition: of `Condition`.
    """

    request: int
    ts: int
    price: float
    size: float
    condition: int


@dataclass(frozen=True, slots=True)
class VolumeTick:
    """A trade of a market data line, of which IBKR sends a sample a few times a second.

    Attributes:
        request: id of the line.
        ts: the exchange's time, cut to whole seconds as those of tick-by-tick and of old trades
            are, so that one trade is the same by either way; microseconds UTC, `NO_TIME` where
            unreadable.
        price: NaN where unreadable.
        size: NaN where unreadable.
        total: volume of the day up to it, NaN where unreadable.
    """

    request: int
    ts: int
    price: float
    size: float
    total: float

    @property
    def is_trade(self) -> bool:
        """Whether it is one; IBKR also tells the day's volume alone, without a size."""
        return self.size != 0


@dataclass(frozen=True, slots=True)
class Side:
    """The best bid or ask of a market data line.

    Attributes:
        request: id of the line.
        is_bid: which side.
        price: NaN where there is nobody, None where only the size is told.
        size: None where there is none.
    """

    request: int
    is_bid: bool
    price: float | None
    size: float | None


@dataclass(frozen=True, slots=True)
class BookRow:
    """A change of one row of an order book.

    Attributes:
        request: id of the subscription.
        position: from the best on, from 0.
        operation: 0 inserts a row, 1 replaces it, 2 takes it out.
        is_bid: which side.
    """

    request: int
    position: int
    operation: int
    is_bid: bool
    price: float
    size: float


@dataclass(frozen=True, slots=True)
class DataType:
    """Which data a market data line has: 1 live, 2 frozen, 3 delayed, 4 delayed and frozen."""

    request: int
    kind: int

    @property
    def is_delayed(self) -> bool:
        """Whether it is not of the present."""
        return self.kind > 2  # noqa: PLR2004  # see above


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A message that only shows that a subscription stands."""

    request: int


@dataclass(frozen=True, slots=True)
class ServerTime:
    """The gateway's time in whole seconds, microseconds UTC."""

    ts: int


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The message is not what was agreed."""

    what: str


Heard = LiveTrade | VolumeTick | Side | BookRow | DataType | Confirmed | ServerTime | Unreadable

#: Messages that ib_async has to take: errors, next id, contract details, accounts, their ends.
FOR_SDK = frozenset({"4", "9", "10", "15", "52", "61", "62"})
_HIGHEST_KIND = 120


def read(fields: Sequence[str]) -> Heard | None:
    """Return what a message says; None where it is not about live data.

    Args:
        fields: of the frame, its kind first.
    """
    kind = fields[0] if fields else ""
    reader = _READERS.get(kind)
    if reader is not None:
        try:
            return reader(fields)
        except IndexError:
            return Unreadable(f"message {kind} has too few fields")
    if kind == "4" and (len(fields) < 5 or _whole(fields[2]) is None or _whole(fields[3]) is None):  # noqa: PLR2004
        return Unreadable("an error without its code")
    number = _whole(kind)
    if number is None or not 0 < number < _HIGHEST_KIND:
        return Unreadable("its kind is not known")
    return None


def _price(fields: Sequence[str]) -> Heard:
    request = _whole(fields[2])
    if request is None:
        return Unreadable("a price of no subscription")
    tick, price, size = fields[3], number_of(fields[4]), number_of(fields[5])
    if tick not in (_BID, _ASK):
        return Confirmed(request)
    if not size > 0:
        # A price without a size is IBKR's "nobody": it comes as -1 and 0.
        return Side(request, tick == _BID, math.nan, None)
    return Side(request, tick == _BID, price, size)


def _size(fields: Sequence[str]) -> Heard:
    request = _whole(fields[2])
    if request is None:
        return Unreadable("a size of no subscription")
    tick, size = fields[3], number_of(fields[4])
    if tick not in (_BID_SIZE, _ASK_SIZE):
        return Confirmed(request)
    is_bid = tick == _BID_SIZE
    return Side(request, is_bid, None, size) if size > 0 else Side(request, is_bid, math.nan, None)


def _text(fields: Sequence[str]) -> Heard:
    request = _whole(fields[2])
    if request is None:
        return Unreadable("a text of no subscription")
    if fields[3] != _RT_VOLUME:
        return Confirmed(request)
    parts = fields[4].split(";")
    if len(parts) != _RT_VOLUME_PARTS:
        return Unreadable("a trade of a line that does not have six parts")
    ts = _millis(parts[2])
    total = number_of(parts[3])
    return VolumeTick(request, ts, number_of(parts[0]), number_of(parts[1] or "0"), total)


def _trade(fields: Sequence[str]) -> Heard:
    request = _whole(fields[1])
    if request is None or fields[2] not in _LAST_TRADES:
        return Unreadable("a tick-by-tick message that is no trade")
    price, size, mask = number_of(fields[4]), number_of(fields[5]), _whole(fields[6])
    # As IBKR's bars do: neither for the last price nor for the volume.
    unreported = mask is not None and mask & _UNREPORTED
    condition = Condition.NOT_IN_PRICE | Condition.NOT_IN_VOLUME if unreported else Condition.NONE
    return LiveTrade(request, _seconds(fields[3]), price, size, int(condition))


def _row(fields: Sequence[str]) -> Heard:
    return _book_row(fields[2], *fields[3:5], *fields[5:8])


def _maker_row(fields: Sequence[str]) -> Heard:
    return _book_row(fields[2], fields[3], fields[5], *fields[6:9])


def _book_row(*fields: str) -> Heard:
    if len(fields) < 6:  # noqa: PLR2004
        raise IndexError
    request, position, operation, side = (_whole(each) for each in fields[:4])
    price, size = number_of(fields[4]), number_of(fields[5])
    is_sound = (
        request is not None
        and position is not None
        and position >= 0
        and operation in (0, 1, 2)
        and side in (0, 1)
        and (operation == 2 or (price > 0 and size >= 0 and math.isfinite(price + size)))  # noqa: PLR2004
    )
    if not is_sound or request is None or position is None or operation is None:
        return Unreadable("a row of a book that is none")
    return BookRow(request, position, operation, side == 1, price, size)


def _data_type(fields: Sequence[str]) -> Heard:
    request, kind = _whole(fields[2]), _whole(fields[3])
    if request is None or kind is None:
        return Unreadable("a kind of data that is none")
    return DataType(request, kind)


def _parameters(fields: Sequence[str]) -> Heard:
    request = _whole(fields[1])
    return Unreadable("parameters of no subscription") if request is None else Confirmed(request)


def _time(fields: Sequence[str]) -> Heard:
    ts = _seconds(fields[2])
    return Unreadable("a time that is none") if ts == NO_TIME else ServerTime(ts)


_READERS: dict[str, Callable[[Sequence[str]], Heard]] = {
    "1": _price,
    "2": _size,
    "12": _row,
    "13": _maker_row,
    "46": _text,
    "49": _time,
    "58": _data_type,
    "81": _parameters,
    "99": _trade,
}


def _whole(text: str) -> int | None:
    digits = text.removeprefix("-")
    if len(digits) <= _LONGEST_INTEGER and digits.isascii() and digits.isdigit():
        return int(text)
    return None


def _seconds(text: str) -> int:
    number = _whole(text) if len(text) <= _EPOCH_DIGITS else None
    return NO_TIME if number is None or number <= 0 else number * MICROSECONDS


def _millis(text: str) -> int:
    number = _whole(text)
    if number is None or number <= 0 or len(text) > _EPOCH_DIGITS + 3:
        return NO_TIME
    return number // _MILLISECONDS * MICROSECONDS
