"""Minute bars out of streaming trades, in whatever order these come.

A minute is kept as what its trades add up to, with the time and order of the first and of the last
of them, so that a trade can be added at any time and the bar is the one that all its trades make.
Nothing is made where nothing traded.
"""

from dataclasses import dataclass

import numpy as np

from scizor_core.stream.trades import (
    MICROSECONDS,
    Condition,
    Integers,
    TradeBatch,
    run_ends,
    run_starts,
)

MINUTE_US = 60 * MICROSECONDS
#: (symbol, start of the minute in microseconds UTC).
MinuteKey = tuple[int, int]


@dataclass(slots=True)
class Minute:
    """What the trades of a symbol in a minute add up to.

    `first` and `last` are (time, order) of the trades that `open` and `close` come from; `volume`
    is their size in all, `priced` the part of it that was traded at known prices, `turnover` the
    money paid for that part.
    """

    open: float
    high: float
    low: float
    close: float
    volume: float
    priced: float
    turnover: float
    trades: int
    first: tuple[int, int]
    last: tuple[int, int]

    @property
    def has_price(self) -> bool:
        """Whether a trade of it may set a price; without one there is no bar."""
        return self.high > 0

    @property
    def vwap(self) -> float | None:
        """Mean price weighted by size, None where no size counts."""
        if self.priced <= 0:
            return None
        # A weighted mean lies between its extremes; rounding alone can carry it a hair outside.
        return min(max(self.turnover / self.priced, self.low), self.high)

    def add(self, other: "Minute") -> None:
        """Add the trades of another part of the same minute."""
        self.volume += other.volume
        self.trades += other.trades
        if other.high <= 0:
            return
        if self.high <= 0:
            self.open, self.close = other.open, other.close
            self.high, self.low = other.high, other.low
            self.first, self.last = other.first, other.last
        else:
            if other.first < self.first:
                self.open, self.first = other.open, other.first
            if other.last >= self.last:
                self.close, self.last = other.close, other.last
            if other.high > self.high:
                self.high = other.high
            if other.low < self.low:
                self.low = other.low
        self.priced += other.priced
        self.turnover += other.turnover


def minutes_of(batch: TradeBatch) -> dict[MinuteKey, Minute]:
    """Return what the trades of a batch add up to, minute by minute.

    Trades with one time are ordered by `order`, then as they came.
    """
    if not len(batch):
        return {}
    start = batch.ts - batch.ts % MINUTE_US
    # lexsort is stable: rows that agree in all three stay in the order of their arrival.
    rows = np.lexsort((batch.order, batch.ts, batch.symbol))
    sorted_ = batch.take(rows)
    start, symbol = start[rows], sorted_.symbol
    first = run_starts(symbol, start)
    if not sorted_.condition.any():
        return _simple(sorted_, start, first)
    return _with_conditions(sorted_, start, first)


def _simple(batch: TradeBatch, start: Integers, first: Integers) -> dict[MinuteKey, Minute]:
    last = run_ends(first, len(batch)) - 1
    price, size = batch.price, batch.size
    volume = np.add.reduceat(size, first).tolist()
    columns = zip(
        batch.symbol[first].tolist(),
        start[first].tolist(),
        price[first].tolist(),
        np.maximum.reduceat(price, first).tolist(),
        np.minimum.reduceat(price, first).tolist(),
        price[last].tolist(),
        volume,
        np.add.reduceat(price * size, first).tolist(),
        (last - first + 1).tolist(),
        zip(batch.ts[first].tolist(), batch.order[first].tolist(), strict=True),
        zip(batch.ts[last].tolist(), batch.order[last].tolist(), strict=True),
        strict=True,
    )
    return {
        (symbol, begin): Minute(o, h, lo, c, v, v, turnover, count, early, late)
        for symbol, begin, o, h, lo, c, v, turnover, count, early, late in columns
    }


def _with_conditions(
    batch: TradeBatch, start: Integers, first: Integers
) -> dict[MinuteKey, Minute]:
    out: dict[MinuteKey, Minute] = {}
    counted = (batch.condition & Condition.NOT_IN_VOLUME) == 0
    sets_price = (batch.condition & Condition.NOT_IN_PRICE) == 0
    for begin, end in zip(first.tolist(), [*first[1:].tolist(), len(batch)], strict=True):
        rows = np.arange(begin, end)
        mine, weighed = rows[sets_price[begin:end]], rows[counted[begin:end]]
        both = rows[sets_price[begin:end] & counted[begin:end]]
        size, price = batch.size, batch.price
        minute = Minute(
            0.0, 0.0, 0.0, 0.0,
            volume=float(size[weighed].sum()),
            priced=float(size[both].sum()),
            turnover=float((price[both] * size[both]).sum()),
            trades=len(rows),
            first=(0, 0),
            last=(0, 0),
        )  # fmt: skip
        if len(mine):
            minute.open, minute.close = float(price[mine[0]]), float(price[mine[-1]])
            minute.high, minute.low = float(price[mine].max()), float(price[mine].min())
            minute.first = int(batch.ts[mine[0]]), int(batch.order[mine[0]])
            minute.last = int(batch.ts[mine[-1]]), int(batch.order[mine[-1]])
        out[int(batch.symbol[begin]), int(start[begin])] = minute
    return out
