"""What comes over one market data line: the best bid and ask, and a sample of the trades. Pure."""

import math
from dataclasses import dataclass, field

from scizor_core.stream.trades import NO_TIME, Condition
from scizor_sidecar.feeds.ibkr_wire import Side, VolumeTick

#: A trade: time in microseconds UTC, price, size, condition.
Row = tuple[int, float, float, int]

_ROUNDING = 1e-9


@dataclass
class Line:
    """A market data line.

    Attributes:
        is_new: its instrument has not been streamed before, so that what happened before the
            subscription would make minutes that are not whole.
    """

    is_new: bool
    bid: float = math.nan
    ask: float = math.nan
    bid_size: float | None = None
    ask_size: float | None = None
    _total: float = math.nan
    _last: VolumeTick | None = field(default=None)

    def take_side(self, side: Side) -> None:
        """Take a new bid or ask, or its size."""
        if side.is_bid:
            self.bid = self.bid if side.price is None else side.price
            self.bid_size = side.size
        else:
            self.ask = self.ask if side.price is None else side.price
            self.ask_size = side.size

    def forget_total(self) -> None:
        """Forget the day's volume: what was traded in an outage is not of the next trade's time."""
        self._total = math.nan

    def take_trade(self, tick: VolumeTick, began: int) -> list[Row]:
        """Return the trades that a tick tells of.

        The day's volume shows what was traded since the last tick and is not in this one. It is
        handed over as a trade that has a size and no price.

        Args:
            tick: a tick of this line.
            began: the gateway's time at the subscription, microseconds UTC.
        """
        before, last = self._total, self._last
        if not math.isnan(tick.total) and (last is None or tick.ts >= last.ts):
            self._total = tick.total
        if not tick.is_trade or tick == last:
            return []
        self._last = tick
        if last is None and self.is_new and NO_TIME != tick.ts < began:
            return []
        rows = [(tick.ts, tick.price, tick.size, int(Condition.NONE))]
        unseen = tick.total - before - tick.size
        if unseen > _ROUNDING * tick.total:
            rows.insert(0, (tick.ts, tick.price, unseen, int(Condition.NOT_IN_PRICE)))
        return rows
