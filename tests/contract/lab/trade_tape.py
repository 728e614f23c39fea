"""A tape of made-up trades that a loopback exchange plays and that tests know the bars of."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pandas as pd

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
START = datetime(2026, 3, 2, 12, tzinfo=UTC)


@dataclass(frozen=True)
class TradeTape:
    """Trades in the order of the exchange's time, one per row of equally long arrays.

    Attributes:
        symbols: the platform's symbols, for example BTC/USD.
        symbol: number of the row's symbol.
        ts: microseconds since 1970 UTC; no two trades have the same.
        price: two decimals.
        size: eight decimals.
        trade_id: 1, 2, 3, ... within the symbol.
        arrival: the rows in the order in which they are sent.
    """

    symbols: tuple[str, ...]
    symbol: npt.NDArray[np.int64]
    ts: npt.NDArray[np.int64]
    price: npt.NDArray[np.float64]
    size: npt.NDArray[np.float64]
    trade_id: npt.NDArray[np.int64]
    arrival: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ts)

    def frame(self) -> pd.DataFrame:
        """Return the trades with columns symbol, ts, price, size, trade_id."""
        return pd.DataFrame(
            {
                "symbol": np.array(self.symbols, dtype=object)[self.symbol],
                "ts": self.ts,
                "price": self.price,
                "size": self.size,
                "trade_id": self.trade_id,
            }
        )


def make_tape(
    symbols: tuple[str, ...],
    trades: int,
    *,
    minutes: int = 10,
    quiet_share: float = 0.2,
    reorder_seconds: float = 0.0,
    start: datetime = START,
    seed: int = 1,
) -> TradeTape:
    """Return a tape.

    Args:
        symbols: the platform's symbols.
        trades: number of rows.
        minutes: minutes over which they are spread.
        quiet_share: share of the minutes of each symbol in which nothing trades.
        reorder_seconds: trades are sent up to so much later than their time, in mixed order.
        start: time of the earliest trade at most.
        seed: the same seed makes the same tape.
    """
    chance = np.random.default_rng(seed)
    cells = np.flatnonzero(chance.random(len(symbols) * minutes) >= quiet_share)
    cell = chance.choice(cells if len(cells) else np.arange(len(symbols) * minutes), trades)
    moment = cell % minutes * MINUTE_US + chance.integers(0, MINUTE_US, trades)
    order = np.argsort(moment, kind="stable")
    number, moment = (cell // minutes)[order], moment[order]
    first = int(start.timestamp()) * SECOND_US
    # One microsecond more for each row before: every time is there once.
    ts = first + moment + np.arange(trades)
    price = np.empty(trades)
    trade_id = np.empty(trades, dtype=np.int64)
    for each in range(len(symbols)):
        rows = np.flatnonzero(number == each)
        walk = np.cumsum(chance.integers(-3, 4, len(rows)))
        price[rows] = np.maximum(10_000 * (each + 1) + walk, 1) / 100
        trade_id[rows] = np.arange(1, len(rows) + 1)
    size = chance.integers(1, 500_000_000, trades) / 100_000_000
    late = chance.integers(0, int(reorder_seconds * SECOND_US) + 1, trades)
    arrival = np.argsort(ts + late, kind="stable")
    return TradeTape(symbols, number, ts, price, size, trade_id, arrival)


def bars_of(frame: pd.DataFrame, minutes: int) -> pd.DataFrame:
    """Return the bars of trades, index (symbol, start); independent of the code under test."""
    step = minutes * MINUTE_US
    ordered = frame.sort_values(["ts", "trade_id"])
    ordered = ordered.assign(start=ordered["ts"] // step * step)
    ordered["turnover"] = ordered["price"] * ordered["size"]
    grouped = ordered.groupby(["symbol", "start"])
    bars = grouped.agg(
        open=("price", "first"),
        high=("price", "max"),
        low=("price", "min"),
        close=("price", "last"),
        volume=("size", "sum"),
        turnover=("turnover", "sum"),
        trade_count=("price", "size"),
    )
    bars["vwap"] = bars.pop("turnover") / bars["volume"]
    return bars
