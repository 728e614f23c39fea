"""An order book as IBKR tells it: by rows that are put in, replaced and taken out."""

from scizor_sidecar.feeds.ibkr_wire import BookRow

Levels = list[tuple[float, float]]

_REPLACE, _TAKE_OUT = 1, 2


class DepthBook:
    """Bids and asks, best first: (price, size).

    Args:
        rows: most rows of a side; what is pushed below them is gone.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self.bids: Levels = []
        self.asks: Levels = []

    def clear(self) -> None:
        """Forget all rows."""
        self.bids.clear()
        self.asks.clear()

    def apply(self, row: BookRow) -> bool:
        """Make a change; returns false where rows before it must have been missed."""
        side = self.bids if row.is_bid else self.asks
        if row.operation == _TAKE_OUT:
            # The last row is already gone where another one has pushed it out.
            if row.position < len(side):
                del side[row.position]
            return True
        if row.position > len(side):
            return False
        if row.operation == _REPLACE and row.position < len(side):
            side[row.position] = (row.price, row.size)
        else:
            side.insert(row.position, (row.price, row.size))
            del side[self._rows :]
        return True

    @property
    def is_ordered(self) -> bool:
        """Whether each side gets worse from row to row, and no bid reaches an ask."""
        bids, asks = [price for price, _ in self.bids], [price for price, _ in self.asks]
        if bids != sorted(bids, reverse=True) or asks != sorted(asks):
            return False
        return not (bids and asks and bids[0] >= asks[0])
