"""Coinbase's last trades and order book as records: pure functions from decoded JSON."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from scizor_resources.providers.coinbase.shapes import field_in, list_in


@dataclass(frozen=True)
class Trade:
    """One trade.

    Attributes:
        trade_id: Coinbase's number of it.
        ts: when, UTC.
        price: in the quote currency.
        size: in the base currency.
        side: "buy" or "sell", as Coinbase says it. Whether that is the side of the taker is not
            confirmed; do not build on it.
    """

    trade_id: str
    ts: datetime
    price: float
    size: float
    side: str


@dataclass(frozen=True)
class Ticker:
    """The best prices and the last trades, newest first; a side without orders is None."""

    symbol: str
    best_bid: float | None
    best_ask: float | None
    trades: tuple[Trade, ...]


@dataclass(frozen=True)
class BookLevel:
    """A price (quote currency) and what is offered or wanted at it (base currency)."""

    price: float
    size: float


@dataclass(frozen=True)
class Book:
    """The order book at one time (UTC): bids from the highest, asks from the lowest price."""

    symbol: str
    ts: datetime
    bids: tuple[BookLevel, ...]
    asks: tuple[BookLevel, ...]


def parse_ticker(answer: Any, symbol: str) -> Ticker:
    """Turn a decoded ticker into a record.

    Raises:
        ValueError: the answer has another shape; the message says what was found.
    """
    trades = list_in(answer, "trades")
    return Ticker(
        symbol=symbol,
        best_bid=_price(answer.get("best_bid")),
        best_ask=_price(answer.get("best_ask")),
        trades=tuple(
            Trade(
                trade_id=str(field_in(each, "trade_id")),
                ts=_instant(field_in(each, "time")),
                price=_number(field_in(each, "price")),
                size=_number(field_in(each, "size")),
                side=str(field_in(each, "side")).lower(),
            )
            for each in trades
        ),
    )


def parse_book(answer: Any, symbol: str) -> Book:
    """Turn a decoded order book into a record.

    Raises:
        ValueError: the answer has another shape; the message says what was found.
    """
    book = field_in(answer, "pricebook")
    return Book(
        symbol=symbol,
        ts=_instant(field_in(book, "time")),
        bids=tuple(sorted(_levels(book, "bids"), key=lambda level: -level.price)),
        asks=tuple(sorted(_levels(book, "asks"), key=lambda level: level.price)),
    )


def _levels(book: Any, side: str) -> list[BookLevel]:
    return [
        BookLevel(_number(field_in(each, "price")), _number(field_in(each, "size")))
        for each in list_in(book, side)
    ]


def _number(value: Any) -> float:
    try:
        return float(value)
    except TypeError:
        raise ValueError(f"{value!r} is not a number") from None


def _price(value: Any) -> float | None:
    return _number(value) if value not in (None, "") else None


def _instant(value: Any) -> datetime:
    instant = datetime.fromisoformat(str(value))
    if instant.tzinfo is None:
        raise ValueError(f"the time '{value}' has no zone")
    return instant.astimezone(UTC)
