"""The seam behind which every bar provider stands: request, answer, capabilities, protocol.

A source answers with bars, or says why there are none, or raises a `ProviderError`. It never
turns an error into an empty answer.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

import pandas as pd

from scizor_core.markets import Timeframe

#: Columns of `BarBatch.bars`, in order. `ts` is the bar's START, datetime64[us, UTC]; prices are
#: raw (as traded), float64; `volume` float64; `vwap`, `adj_close` float64 or NaN; `trade_count`
#: Int64 or NA; `source` says who answered; `is_final` is False while the interval still runs.
SOURCE_BAR_COLUMNS: tuple[str, ...] = (
    "symbol",
    "ts",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "vwap",
    "trade_count",
    "adj_close",
    "source",
    "is_final",
)

#: Columns of `BarBatch.rejected`: rows that cannot become a bar. `row_number` is the 1-based data
#: row in `origin` (NA where there is none); `payload` is the row as received, a dict of strings.
REJECTED_COLUMNS: tuple[str, ...] = (
    "symbol",
    "ts",
    "reason",
    "source",
    "origin",
    "row_number",
    "payload",
)

#: Of the columns of `SOURCE_BAR_COLUMNS` that are not float64.
_DTYPES: dict[str, str] = {
    "symbol": "str",
    "ts": "datetime64[us, UTC]",
    "trade_count": "Int64",
    "source": "str",
    "is_final": "bool",
}


@dataclass(frozen=True)
class SymbolRef:
    """One instrument as a provider is asked for it (permanent id plus its code in the market)."""

    instrument_id: int
    symbol: str


@dataclass(frozen=True)
class BarRequest:
    """A half-open UTC window `[start, end)` of one timeframe for some instruments of a market.

    For `1d` the window is of session dates as UTC midnights: bars of sessions `start <= s < end`,
    whose `ts` is the session date at 00:00 UTC.
    """

    market: str
    timeframe: Timeframe
    start: datetime
    end: datetime
    symbols: tuple[SymbolRef, ...]


@dataclass
class BarBatch:
    """What a source answered.

    Attributes:
        bars: one row per bar, columns `SOURCE_BAR_COLUMNS`, ordered by symbol and ts.
        rejected: rows that could not become bars, columns `REJECTED_COLUMNS`.
        empty_reasons: symbol -> sentence, for each symbol asked that has no bar here.
        errors: symbol -> sentence, for each symbol that failed while others did not.
        causes: symbol -> the error itself, of those in `errors` where there is one.
        covered: (symbol, start, end) windows, half open UTC, in which the source has seen every
            trade there was, so that an absent bar means that nothing traded.
        ignored: reason -> how many sound rows were left because they were not asked for.
        requests: calls made to the provider.
        retries: of those, the ones that were not the first try.
        latency_seconds: time spent waiting for the provider.
    """

    bars: pd.DataFrame
    rejected: pd.DataFrame
    empty_reasons: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    causes: dict[str, Exception] = field(default_factory=dict)
    covered: list[tuple[str, datetime, datetime]] = field(default_factory=list)
    ignored: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    retries: int = 0
    latency_seconds: float = 0.0


@dataclass(frozen=True)
class Capabilities:
    """What a source can do, as data.

    Attributes:
        markets: names of the markets it serves.
        timeframes: timeframes it serves directly.
        max_age: how far back a timeframe reaches from now; absent = without limit.
        max_window: the longest window one request may span; absent = without limit.
        adjusted: True where prices come adjusted for splits by the provider.
        needs_key: True where nothing works without a key.
        whole_sessions_only: True where a session that has bars of another source is left alone;
            so it is with invented prices.
        batch_size: symbols that one call can ask for.
        own_files: True where it has what a user brought: that it lacks a bar does not mean that
            there was none.
    """

    markets: frozenset[str]
    timeframes: frozenset[Timeframe]
    max_age: dict[Timeframe, timedelta] = field(default_factory=dict)
    max_window: dict[Timeframe, timedelta] = field(default_factory=dict)
    adjusted: bool = False
    needs_key: bool = False
    whole_sessions_only: bool = False
    batch_size: int = 1
    own_files: bool = False


class BarSource(Protocol):
    """A provider of bars."""

    @property
    def name(self) -> str:
        """The provider's name, as used in chains and in the `source` column."""

    @property
    def capabilities(self) -> Capabilities:
        """What this source can serve."""

    def fetch_bars(self, request: BarRequest) -> BarBatch:
        """Fetch the bars of a window.

        Raises:
            ProviderError: nothing at all could be had; a symbol that fails while others succeed
                stands in `BarBatch.errors` instead.
        """


def empty_bars() -> pd.DataFrame:
    """Return a frame with no rows and the dtypes of `SOURCE_BAR_COLUMNS`."""
    frame = pd.DataFrame({column: pd.Series(dtype="float64") for column in SOURCE_BAR_COLUMNS})
    return normalise_bars(frame)


def empty_rejected() -> pd.DataFrame:
    """Return a frame with no rows and the columns of `REJECTED_COLUMNS`."""
    return pd.DataFrame(columns=list(REJECTED_COLUMNS), dtype="object")


def normalise_bars(frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` with exactly `SOURCE_BAR_COLUMNS`, in their dtypes, by symbol and ts.

    Columns that a source does not have are filled with missing values. Units of time differ
    between SDKs (datetime64[s], [ms], [ns]); here they all become microseconds UTC.
    """
    # Made at once: to add the columns one by one takes three times as long.
    columns = {column: _source_column(frame, column) for column in SOURCE_BAR_COLUMNS}
    out = pd.DataFrame(columns, index=frame.index)
    if _in_order(out):
        return out.reset_index(drop=True)
    return out.sort_values(["symbol", "ts"], kind="stable", ignore_index=True)


def _source_column(frame: pd.DataFrame, column: str) -> "pd.Series[Any]":
    """Return a column in its dtype; missing values where a source does not have it."""
    dtype = _DTYPES.get(column, "float64")
    if column not in frame:
        return pd.Series(True if column == "is_final" else None, index=frame.index, dtype=dtype)
    values = frame[column]
    if values.dtype == dtype:
        return values
    if column in ("symbol", "source"):
        return values.astype("str")
    if column == "ts":
        return pd.to_datetime(values, utc=True).astype("datetime64[us, UTC]")
    if column == "trade_count":
        return values.astype("Float64").astype("Int64")
    if column == "is_final":
        return values.astype("boolean").fillna(value=True).astype("bool")
    return pd.to_numeric(values, errors="raise").astype("float64")


def _in_order(bars: pd.DataFrame) -> bool:
    """Say whether bars are of one symbol and in the order of time already."""
    if bars.empty:
        return True
    symbols = bars["symbol"]
    return bool(bars["ts"].is_monotonic_increasing and (symbols == symbols.iloc[0]).all())
