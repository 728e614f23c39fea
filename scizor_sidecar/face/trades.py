"""The trades of a pass as they go over the wire, of those instruments that somebody follows."""

from collections.abc import Collection, Iterator, Mapping

import numpy as np

from scizor_core.stream.trades import TradeBatch
from scizor_sidecar.face.wire import Item

#: Windows with more trades are not taken apart row by row.
_MANY_TRADES = 5_000

Name = tuple[str, str]


def trades_by_instrument(
    trades: TradeBatch, numbers: Mapping[Name, int], followed_names: Collection[Name]
) -> dict[Name, tuple[list[Item], int]]:
    """Return the last trades of each instrument that somebody looks at, and how many are not."""
    followed = {numbers[name]: name for name in followed_names if name in numbers}
    if len(trades) > _MANY_TRADES:
        found: dict[Name, tuple[list[Item], int]] = {}
        for number, name in followed.items():
            rows = np.flatnonzero(trades.symbol == number)
            if len(rows):
                kept = trades.take(rows[-_MANY_TRADES:])
                found[name] = ([item for _, item in _items(kept)], len(rows) - len(kept))
        return found
    items: dict[int, list[Item]] = {}
    for number, item in _items(trades):
        if number in followed:
            items.setdefault(number, []).append(item)
    return {followed[number]: (each, 0) for number, each in items.items()}


def _items(trades: TradeBatch) -> Iterator[tuple[int, Item]]:
    # Tuples of numbers are no work for the garbage collector; a topic keeps thousands of them.
    columns = (trades.ts, trades.price, trades.size)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return zip(trades.symbol.tolist(), rows, strict=True)
