"""Which symbols of a living connection are silent for longer than their usual rate explains.

Trades of a symbol come in bursts. What counts is therefore the mean of the pauses weighted by their
length, half of which is the mean pause where trades come independently of each other (Poisson) and
more where they come in bursts. A silence of 14 such means has a chance below one in a million.
"""

import math

import numpy as np

from scizor_core.stream.trades import MICROSECONDS, NO_ID, NO_TIME, Flags, TradeBatch

#: A silence is odd where its chance is below this.
CHANCE = 1e-6
#: No silence below this is odd, whatever the rate.
SHORTEST_US = 60 * MICROSECONDS
#: Of so many pauses the mean is taken (exponentially); before so many a symbol has no usual rate.
_PAUSES, _FEWEST_PAUSES = 200, 30
#: A longer pause is a night or a halt, and says nothing about the rate.
_LONGEST_PAUSE_US = 1800 * MICROSECONDS
_MEANS = math.log(1 / CHANCE)


class Liveness:
    """Learns how often the symbols of a feed trade and says which are oddly silent."""

    def __init__(self) -> None:
        #: Time and id of each symbol's newest trade.
        self.last = np.zeros(0, dtype=np.int64)
        self.last_id = np.zeros(0, dtype=np.int64)
        self._pauses = np.zeros(0, dtype=np.int64)
        self._mean = np.zeros(0)
        self._square = np.zeros(0)
        self._patience = np.zeros(0)
        self._since = np.zeros(0, dtype=np.int64)

    def seen(self, trades: TradeBatch) -> None:
        """Take trades that have come together.

        Args:
            trades: symbols are the engine's numbers.
        """
        if not len(trades):
            return
        self._grow(int(trades.symbol.max()) + 1)
        newest = np.full(len(self.last), NO_TIME, dtype=np.int64)
        np.maximum.at(newest, trades.symbol, trades.ts)
        is_newest = trades.ts == newest[trades.symbol]
        ids = np.full(len(self.last), NO_ID, dtype=np.int64)
        ids[trades.symbol[is_newest]] = trades.trade_id[is_newest]
        symbols = np.flatnonzero(newest > self.last)
        self.last_id[symbols] = ids[symbols]
        pause = (newest[symbols] - self.last[symbols]).astype(np.float64)
        known = (self.last[symbols] != NO_TIME) & (pause <= _LONGEST_PAUSE_US)
        self.last[symbols] = newest[symbols]
        self._patience[symbols] = 1.0
        symbols, pause = symbols[known], pause[known]
        self._pauses[symbols] += 1
        weight = 1 / np.minimum(self._pauses[symbols], _PAUSES)
        self._mean[symbols] += weight * (pause - self._mean[symbols])
        self._square[symbols] += weight * (pause * pause - self._square[symbols])

    def newest(self, symbol: int) -> tuple[int, int] | None:
        """Return time and id of a symbol's newest trade, None before the first."""
        if symbol >= len(self.last) or self.last[symbol] == NO_TIME:
            return None
        return int(self.last[symbol]), int(self.last_id[symbol])

    def listen_since(self, symbol: int, ts_us: int) -> None:
        """Count the silence of a symbol from an instant on: before it nobody listened."""
        self._grow(symbol + 1)
        self._since[symbol] = max(self._since[symbol], ts_us)

    def limit_us(self, symbol: int) -> float:
        """Return from which silence on a symbol is odd, infinite where its rate is not known."""
        if symbol >= len(self.last) or self._pauses[symbol] < _FEWEST_PAUSES:
            return math.inf
        scale = self._square[symbol] / (2 * max(self._mean[symbol], 1.0))
        return float(max(_MEANS * scale, SHORTEST_US) * self._patience[symbol])

    def silent(self, now_us: int, listened: Flags) -> list[int]:
        """Return the symbols that are oddly silent at an instant of the feed's own time.

        Each is told once; if it stays silent it is told again after twice the time.

        Args:
            now_us: microseconds UTC.
            listened: for each symbol whether it is to be heard now: subscribed, in session.
        """
        found = []
        for symbol in np.flatnonzero(listened[: len(self.last)]).tolist():
            since = max(int(self.last[symbol]), int(self._since[symbol]))
            if now_us - since > self.limit_us(symbol):
                self._patience[symbol] *= 2
                found.append(symbol)
        return found

    def _grow(self, count: int) -> None:
        more = count - len(self.last)
        if more <= 0:
            return
        self.last = np.append(self.last, np.full(more, NO_TIME, dtype=np.int64))
        self.last_id = np.append(self.last_id, np.full(more, NO_ID, dtype=np.int64))
        self._pauses = np.append(self._pauses, np.zeros(more, dtype=np.int64))
        self._mean = np.append(self._mean, np.zeros(more))
        self._square = np.append(self._square, np.zeros(more))
        self._patience = np.append(self._patience, np.ones(more))
        self._since = np.append(self._since, np.zeros(more, dtype=np.int64))
