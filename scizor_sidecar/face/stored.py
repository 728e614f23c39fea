"""Stored bars and indicators as the face shows them, and the instruments that names mean."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pandas as pd

from scizor_core.errors import InvalidInputError, UnknownSymbolError
from scizor_core.indicators import INDICATOR_COLUMNS
from scizor_core.instruments import Instrument
from scizor_core.markets import MARKETS, TIMEFRAME_MINUTES, Timeframe, check_timeframe, get_market
from scizor_core.stream.trades import MICROSECONDS
from scizor_resources.market_data import SESSION_VWAP, MarketData
from scizor_resources.platform import Platform
from scizor_sidecar.face.threads import Threads
from scizor_sidecar.face.topics import TopicName
from scizor_sidecar.face.wire import LONGEST_NAME, Item, iso, or_null

_PRICES = ("open", "high", "low", "close", "volume", "vwap")
#: Rows of an answer.
MOST_ROWS = 50_000


def bar_rows(
    frame: pd.DataFrame, timeframe: Timeframe, now: datetime
) -> list[tuple[int, dict[str, Any]]]:
    """Return bars of `MarketData.bars` with their start, microseconds UTC.

    Args:
        frame: what it returned.
        timeframe: of the bars.
        now: the present, aware.
    """
    starts = _starts(frame)
    now_us = int(now.timestamp() * MICROSECONDS)
    step = TIMEFRAME_MINUTES[timeframe] * 60 * MICROSECONDS
    prices = [frame[column].astype("float64").tolist() for column in _PRICES]
    counts = [None if pd.isna(each) else int(each) for each in frame["trade_count"]]
    rest = (frame["source"].tolist(), frame["is_final"].tolist(), counts)
    found: list[tuple[int, dict[str, Any]]] = []
    for start, *values, source, is_final, count in zip(starts, *prices, *rest, strict=True):
        o, h, low, c, v, w = (or_null(each) for each in values)
        state = "closed" if is_final else "forming" if start + step > now_us else "provisional"
        found.append(
            (
                start,
                {
                    "t": iso(start),
                    "o": o,
                    "h": h,
                    "l": low,
                    "c": c,
                    "v": v,
                    "w": w,
                    "n": count,
                    "state": state,
                    "source": source,
                    "revision": 0,
                },
            )
        )
    return found


def indicator_values(frame: pd.DataFrame) -> list[dict[str, float | None]]:
    """Return the indicators of each row of `MarketData.bars(..., indicators=True)`."""
    table = frame.rename(columns={"vwap": "bar_vwap", SESSION_VWAP: "vwap"})
    columns = [table[name].astype("float64").tolist() for name in INDICATOR_COLUMNS]
    return [
        dict(zip(INDICATOR_COLUMNS, map(or_null, values), strict=True))
        for values in zip(*columns, strict=True)
    ]


def indicator_rows(frame: pd.DataFrame) -> list[tuple[int, dict[str, Any]]]:
    """Return the indicators of bars with the bars' start, microseconds UTC."""
    return [
        (start, {"t": iso(start), "values": values})
        for start, values in zip(_starts(frame), indicator_values(frame), strict=True)
    ]


def _starts(frame: pd.DataFrame) -> list[int]:
    index = pd.DatetimeIndex(frame.index).as_unit("us")
    return [int(each) for each in index.asi8]


def find(data: MarketData, text: str, market: str | None) -> Instrument:
    """Return the instrument that a name of an address means: `CBA`, `asx:CBA`, `BTC-USD`.

    Raises:
        InvalidInputError: it cannot be a name, or several markets have it.
        UnknownMarketError: no such market.
        UnknownSymbolError: no such instrument.
    """
    if len(text) > LONGEST_NAME:
        raise InvalidInputError(f"A symbol has {LONGEST_NAME} characters at most.")
    named, colon, rest = text.partition(":")
    if colon and market is not None and get_market(market) != get_market(named):
        raise InvalidInputError(f"'{text}' is not of market '{market}': say one of the two.")
    market, code = (named, rest) if colon else (market, text)
    specs = list(MARKETS.values()) if market is None else [get_market(market)]
    unknown: UnknownSymbolError | None = None
    # A pair stands in an address with a dash, which a US code may have, too.
    for candidate in dict.fromkeys((code, code.replace("-", "/"))):
        fitting = [spec.name for spec in specs if _fits(spec.name, candidate)]
        if not fitting:
            continue
        try:
            return data.find(candidate, fitting[0] if len(fitting) == 1 else market)
        except UnknownSymbolError as error:
            unknown = unknown or error
    if unknown is not None:
        raise unknown
    forms = ", ".join(f"{spec.example} ({spec.name})" for spec in specs)
    raise InvalidInputError(f"'{text}' is not a symbol. Symbols look like {forms}.")


def _fits(market: str, code: str) -> bool:
    try:
        get_market(market).check_symbol(code)
    except InvalidInputError:
        return False
    return True


def parse_name(text: str) -> tuple[str, str]:
    """Return market and symbol of `asx:CBA`.

    Raises:
        InvalidInputError: it is not written so.
        UnknownMarketError: no such market.
    """
    market, colon, symbol = text.partition(":")
    if not colon:
        raise InvalidInputError(f"'{text}' names no market: write it as in asx:CBA.")
    spec = get_market(market)
    return spec.name, spec.check_symbol(symbol)


class StoredHistory:
    """What was before the stream, for the hub.

    Args:
        platform: the opened platform.
        threads: where it is asked.
    """

    def __init__(self, platform: Platform, threads: Threads | None = None) -> None:
        self._platform, self._threads = platform, threads or Threads()
        self._data = MarketData(platform)
        self._known: set[tuple[str, str]] = set()

    async def check(self, market: str, symbol: str) -> None:
        """Do nothing where the platform knows an instrument.

        Raises:
            UnknownSymbolError: it does not.
            WarehouseError: PostgreSQL cannot be asked.
        """
        if (market, symbol) in self._known:
            return
        found = await self._threads.ask(lambda: self._data.find(symbol, market))
        if found.symbol != symbol:
            raise UnknownSymbolError(f"{symbol} is called {found.symbol} now: ask for that.")
        self._known.add((market, symbol))

    async def rows(self, name: TopicName, last: int) -> Sequence[tuple[int, Item]]:
        """Return the last bars or indicators of an instrument.

        Raises:
            ScizorError: they cannot be read.
        """
        return await self._threads.ask(lambda: self._rows(name, last))

    def _rows(self, name: TopicName, last: int) -> Sequence[tuple[int, Item]]:
        timeframe = check_timeframe(name.timeframe or "")
        wants_indicators = name.channel == "indicators"
        frame = self._data.bars(
            name.symbol, timeframe, market=name.market, indicators=wants_indicators, last=last
        )
        if wants_indicators:
            return indicator_rows(frame)
        return bar_rows(frame, timeframe, self._platform.now())
