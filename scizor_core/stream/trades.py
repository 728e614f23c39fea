"""Trades as they stream in: many at once, in columns, so that a guard is one pass over an array.

Belongs here: the columns and how a feed makes them. Not here: what is wrong with a trade
(`scizor_core.stream.guards`) and the bars that trades make (`scizor_core.stream.minutes`).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

MICROSECONDS = 1_000_000
_LONGEST_NUMBER = 18


class Condition(IntFlag):
    """What the sale conditions of a trade leave it out of."""

    NONE = 0
    NOT_IN_PRICE = 1
    NOT_IN_VOLUME = 2


@dataclass(frozen=True)
class TradeBatch:
    """Trades of one feed in the order of their arrival, one per row of equally long arrays.

    Attributes:
        symbol: number of the symbol in the engine, int64.
        ts: the exchange's time, microseconds since 1970 UTC, int64; `NO_TIME` where unreadable.
        price: in the quote unit, float64; NaN where it is missing or no number.
        size: in the base unit, float64; NaN where it is missing or no number.
        trade_id: identity within the symbol, int64; `NO_ID` where the feed gives none.
        order: which of the trades with one time is the earlier one, int64.
        condition: values of `Condition`, int64.
    """

    symbol: Integers
    ts: Integers
    price: Floats
    size: Floats
    trade_id: Integers
    order: Integers
    condition: Integers

    def __len__(self) -> int:
        return len(self.ts)

    def take(self, rows: Integers | Flags) -> "TradeBatch":
        """Return the trades at those positions, or where a mask is true."""
        return TradeBatch(
            self.symbol[rows],
            self.ts[rows],
            self.price[rows],
            self.size[rows],
            self.trade_id[rows],
            self.order[rows],
            self.condition[rows],
        )

    def split(self, out: Flags) -> tuple["TradeBatch", "TradeBatch"]:
        """Return the trades where a mask is false, and those where it is true."""
        if out.any():
            return self.take(~out), self.take(out)
        # Nearly always; positions cost a copy of each column, a slice costs nothing.
        return self, TradeBatch(*(column[:0] for column in vars(self).values()))


def run_starts(*columns: Integers) -> Integers:
    """Return the first positions of runs of equal rows, of columns that are not empty."""
    # `np.r_` would do as well and take as long as all the rest, for the few rows of a pass.
    is_first = np.ones(len(columns[0]), dtype=np.bool_)
    np.not_equal(columns[0][1:], columns[0][:-1], out=is_first[1:])
    for column in columns[1:]:
        is_first[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(is_first)


def run_ends(starts: Integers, count: int) -> Integers:
    """Return the positions after the last ones of runs, of so many rows in all."""
    ends = np.empty_like(starts)
    ends[:-1], ends[-1] = starts[1:], count
    return ends


#: Not a time; the smallest integer, as in NumPy's NaT.
NO_TIME = int(np.iinfo(np.int64).min)
NO_ID = -1


def make_batch(
    symbol: Sequence[int] | Integers,
    ts: Sequence[int] | Integers,
    price: Sequence[float] | Floats,
    size: Sequence[float] | Floats,
    trade_id: Sequence[str | int | None] | Integers | None = None,
    condition: Sequence[int] | Integers | None = None,
) -> TradeBatch:
    """Return a batch from columns as a feed has them.

    Args:
        symbol: numbers of the symbols.
        ts: microseconds since 1970 UTC.
        price: prices.
        size: sizes.
        trade_id: ids; whole numbers keep their value and order, other text is hashed and keeps
            the order of its first bytes.
        condition: values of `Condition`.

    Raises:
        ValueError: columns of different length.
    """
    count = len(ts)
    if isinstance(trade_id, np.ndarray):
        identity = order = np.asarray(trade_id, dtype=np.int64)
    elif trade_id is None:
        identity = np.full(count, NO_ID, dtype=np.int64)
        order = np.zeros(count, dtype=np.int64)
    else:
        pairs = [_identity(each) for each in trade_id]
        identity = np.array([pair[0] for pair in pairs], dtype=np.int64)
        order = np.array([pair[1] for pair in pairs], dtype=np.int64)
    batch = TradeBatch(
        np.asarray(symbol, dtype=np.int64),
        np.asarray(ts, dtype=np.int64),
        np.asarray(price, dtype=np.float64),
        np.asarray(size, dtype=np.float64),
        identity,
        order,
        np.zeros(count, dtype=np.int64)
        if condition is None
        else np.asarray(condition, dtype=np.int64),
    )
    lengths = {len(each) for each in vars(batch).values()}
    if len(lengths) > 1:
        raise ValueError(f"The columns of a batch have different lengths: {sorted(lengths)}.")
    return batch


def _identity(trade_id: str | int | None) -> tuple[int, int]:
    """Return identity and order of a trade id, both from 0 up."""
    if trade_id is None or trade_id == "":
        return NO_ID, 0
    if isinstance(trade_id, int):
        return (trade_id, trade_id) if 0 <= trade_id < 2**63 else _of_text(str(trade_id))
    if trade_id.isascii() and trade_id.isdigit() and len(trade_id) <= _LONGEST_NUMBER:
        number = int(trade_id)
        return number, number
    return _of_text(trade_id)


def _of_text(text: str) -> tuple[int, int]:
    data = text.encode()
    identity = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big") >> 1
    return identity, int.from_bytes(data[:8].ljust(8, b"\0"), "big") >> 1


def concatenate(batches: Sequence[TradeBatch]) -> TradeBatch:
    """Return the trades of several batches, one after the other."""
    if len(batches) == 1:
        return batches[0]
    return TradeBatch(
        *(
            np.concatenate([getattr(each, name) for each in batches])
            for name in TradeBatch.__dataclass_fields__
        )
    )
