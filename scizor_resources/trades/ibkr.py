"""IBKR's historical ticks as a history of trades."""

import math
from datetime import datetime
from typing import Any

import pandas as pd

from scizor_core.errors import InvalidInputError
from scizor_core.gaps import from_micros
from scizor_core.stream.trades import MICROSECONDS, Condition
from scizor_resources.errors import BadRequest
from scizor_resources.providers.ibkr.source import IbkrSource
from scizor_resources.trades.base import Listed, TradeColumns

#: IBKR's ticks are asked for in pieces of this length: up to 1000 a call, one session at a time.
_IBKR_WINDOW_US = 1800 * MICROSECONDS


class IbkrTrades:
    """A `TradeSource` of IBKR's historical ticks: whole seconds, without ids.

    The live feed tells other times, so that whole minutes are put in place of the live ones.
    """

    name = "ibkr"
    same_as_live = False

    def __init__(self, source: IbkrSource) -> None:
        self._source = source

    def fetch_trades(self, stream: Listed, start_us: int, end_us: int) -> TradeColumns:
        """Fetch the trades of `[start_us, end_us)`, or of its first part.

        Raises:
            ProviderError: a request failed, or IBKR does not serve the symbol.
        """
        end_us = min(end_us, start_us + _IBKR_WINDOW_US)
        try:
            frame = self._source.fetch_ticks(
                stream.symbol, *_window(start_us, end_us), market=stream.market
            )
        except InvalidInputError as error:
            raise BadRequest(str(error), provider=self.name) from None
        left_out = int(Condition.NOT_IN_PRICE | Condition.NOT_IN_VOLUME)
        conditions = [0 if each else left_out for each in frame["is_reported"]]
        return _columns(frame, end_us, conditions)


def _window(start_us: int, end_us: int) -> tuple[datetime, datetime]:
    return from_micros(start_us), from_micros(end_us)


def _columns(frame: pd.DataFrame, covered_until: int, conditions: list[int]) -> TradeColumns:
    ts = frame["ts"].astype("datetime64[us, UTC]").astype("int64")
    return TradeColumns(
        covered_until,
        ts.tolist(),
        frame["price"].astype("float64").tolist(),
        frame["size"].astype("float64").tolist(),
        [_identity(each) for each in frame["trade_id"].tolist()],
        conditions,
    )


def _identity(value: Any) -> str | None:
    is_missing = value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA
    return None if is_missing else str(value)
