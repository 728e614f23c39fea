"""The trades of a pass as they go over the wire, of those instruments that somebody follows."""

from collections.abc import Collection, Mapping

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
    rows: dict[int, list[int]] = {}
    if len(trades) > _MANY_TRADES:
        rows = {each: np.flatnonzero(trades.symbol == each).tolist() for each in followed}
    else:
        for row, number in enumerate(trades.symbol.tolist()):
            if number in followed:
                rows.setdefault(number, []).append(row)
    return {
        followed[number]: (_items(trades, each[-_MANY_TRADES:]), max(len(each) - _MANY_TRADES, 0))
        for number, each in rows.items()
        if each
    }


def _items(trades: TradeBatch, rows: list[int]) -> list[Item]:
    columns = (trades.ts[rows], trades.price[rows], trades.size[rows])
    return [list(each) for each in zip(*(column.tolist() for column in columns), strict=True)]
