"""The bars that a pipeline has made of a tape, beside those of the tape's own trades."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from scizor_core.stream.engine import STREAM_TIMEFRAMES
from scizor_sidecar.pipeline import Window

from .trade_tape import bars_of

#: Trades of a tape: few every time, a million where there is time.
SIZES = [pytest.param(20_000, id="20k"), pytest.param(1_000_000, id="1M", marks=pytest.mark.slow)]
_COLUMNS = ["open", "high", "low", "close", "volume", "trade_count", "vwap"]


class LastBars:
    """A listener that keeps the last state of each bar."""

    def __init__(self) -> None:
        self.last: dict[tuple[str, str, int], Sequence[float]] = {}

    def on_window(self, window: Window) -> None:
        for each in window.bars:
            bar = each.bar
            values = (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.trade_count)
            vwap = math.nan if bar.vwap is None else bar.vwap
            self.last[each.stream.symbol, bar.timeframe, bar.start] = (*values, vwap)

    def on_state(self, feed: str, state: object, why: str, at: int) -> None:
        pass


def assert_bars_are_those_of(trades: pd.DataFrame, bars: LastBars) -> None:
    """Compare bars of all timeframes with those that pandas makes of the trades.

    Args:
        trades: as `TradeTape.frame`.
        bars: what the pipeline has made.
    """
    for timeframe in STREAM_TIMEFRAMES:
        expected = bars_of(trades, int(timeframe[:-1]))[_COLUMNS]
        found = {(key[0], key[2]): row for key, row in bars.last.items() if key[1] == timeframe}
        actual = pd.DataFrame.from_dict(found, orient="index", columns=_COLUMNS)
        actual.index = pd.MultiIndex.from_tuples(list(found), names=["symbol", "start"])
        actual = actual.sort_index()
        assert list(actual.index) == list(expected.index)
        exact = [*_COLUMNS[:4], "trade_count"]
        np.testing.assert_array_equal(actual[exact].to_numpy(), expected[exact].to_numpy())
        rest = ["volume", "vwap"]
        np.testing.assert_allclose(actual[rest].to_numpy(), expected[rest].to_numpy(), rtol=1e-9)
