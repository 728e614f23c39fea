"""The contract of `market.bars`: its columns, and why a row may be refused.

`BARS` is the pandera contract that every frame passes before it is written and that the asset
checks apply to what is stored. `bar_faults` says row by row what is wrong, so that one bad row is
quarantined with its reason and loses nothing else.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.pandas as pa
from pandera.engines.pandas_engine import DateTime

from scizor_core.markets import TIMEFRAME_MINUTES, TIMEFRAMES, Timeframe
from scizor_core.schemas.failures import contract_error
from scizor_core.sessions import SessionCalendar

PRICE_COLUMNS: tuple[str, ...] = ("open", "high", "low", "close")

_UTC = DateTime(unit="us", tz="UTC")  # type: ignore[call-arg]  # pandera's engine types are dynamic


def _price(*, nullable: bool = False) -> pa.Column:
    return pa.Column(
        float, [pa.Check.gt(0), pa.Check.lt(float("inf"))], nullable=nullable, required=True
    )


BARS = pa.DataFrameSchema(
    {
        "instrument_id": pa.Column(int, pa.Check.gt(0), coerce=True),
        "timeframe": pa.Column(str, pa.Check.isin(list(TIMEFRAMES))),
        "ts": pa.Column(_UTC),
        "session_date": pa.Column(DateTime(unit="us")),  # type: ignore[call-arg]
        "open": _price(),
        "high": _price(),
        "low": _price(),
        "close": _price(),
        "volume": pa.Column(float, [pa.Check.ge(0), pa.Check.lt(float("inf"))]),
        "vwap": _price(nullable=True),
        "trade_count": pa.Column("Int64", pa.Check.ge(0), nullable=True),
        "adj_close": _price(nullable=True),
        "source": pa.Column(str, pa.Check.str_length(1, 64)),
        "is_final": pa.Column(bool),
    },
    checks=[
        pa.Check(
            lambda frame: frame["high"] >= frame[["open", "low", "close"]].max(axis=1),
            name="high_is_highest",
        ),
        pa.Check(
            lambda frame: frame["low"] <= frame[["open", "high", "close"]].min(axis=1),
            name="low_is_lowest",
        ),
    ],
    unique=["instrument_id", "timeframe", "ts"],
    strict=True,
    ordered=True,
    name="market.bars",
)

BAR_COLUMNS: tuple[str, ...] = tuple(BARS.columns)

#: What each column's type is called when nothing has to be converted.
_DTYPES: dict[str, str] = {
    "instrument_id": "int64",
    "timeframe": "str",
    "ts": "datetime64[us, UTC]",
    "session_date": "datetime64[us]",
    **dict.fromkeys(("open", "high", "low", "close", "volume", "vwap"), "float64"),
    "trade_count": "Int64",
    "adj_close": "float64",
    "source": "str",
    "is_final": "bool",
}


def validate_bars(frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` if it keeps the contract.

    Raises:
        ContractError: it does not; the message names the columns, checks and first values.
    """
    if _is_plainly_valid(frame):
        return frame
    try:
        return BARS.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        raise contract_error("market.bars", error) from error


def _is_plainly_valid(frame: pd.DataFrame) -> bool:
    """Say whether `frame` keeps the contract, in a tenth of pandera's time.

    False means only that pandera has to look, for the message or because it may convert a type.
    """
    if list(frame.columns) != list(BARS.columns) or frame.dtypes.astype(str).to_dict() != _DTYPES:
        return False
    words = frame["timeframe"].unique(), frame["source"].unique()
    counts = frame["trade_count"]
    prices = {name: frame[name].to_numpy() for name in PRICE_COLUMNS}
    return bool(
        (frame["instrument_id"].to_numpy() > 0).all()
        and set(words[0]) <= set(TIMEFRAMES)
        and all(isinstance(word, str) and 1 <= len(word) <= 64 for word in words[1])
        and frame["ts"].notna().all()
        and frame["session_date"].notna().all()
        and all(_is_price(values) for values in prices.values())
        and all(_is_price(values[~np.isnan(values)]) for values in _optional_prices(frame))
        and (frame["volume"].to_numpy() >= 0).all()
        and (frame["volume"].to_numpy() < np.inf).all()
        and not (counts < 0).any()
        and all((prices["high"] >= prices[name]).all() for name in ("open", "low", "close"))
        and all((prices["low"] <= prices[name]).all() for name in ("open", "close"))
        and keys_are_unique(frame)
    )


def _is_price(values: npt.NDArray[np.float64]) -> bool:
    return bool((values > 0).all() and (values < np.inf).all())


def _optional_prices(frame: pd.DataFrame) -> list[npt.NDArray[np.float64]]:
    return [frame[name].to_numpy() for name in ("vwap", "adj_close")]


def keys_are_unique(frame: pd.DataFrame) -> bool:
    """Say whether no instrument_id, timeframe and ts occur twice; sorted rows show it at once."""
    ids, ts = frame["instrument_id"].to_numpy(), frame["ts"].to_numpy(dtype="datetime64[us]")
    timeframes, _ = pd.factorize(frame["timeframe"])
    if not _increase(ids, timeframes, ts):
        order = np.lexsort((ts, timeframes, ids))
        return _increase(ids[order], timeframes[order], ts[order])
    return True


def _increase(
    ids: npt.NDArray[np.int64],
    timeframes: npt.NDArray[np.int64],
    ts: npt.NDArray[np.datetime64],
) -> bool:
    later = timeframes[1:] > timeframes[:-1]
    later |= (timeframes[1:] == timeframes[:-1]) & (ts[1:] > ts[:-1])
    return bool(((ids[1:] > ids[:-1]) | ((ids[1:] == ids[:-1]) & later)).all())


def bar_faults(
    bars: pd.DataFrame, calendar: SessionCalendar, timeframe: Timeframe
) -> "pd.Series[str]":
    """Return for each row why it cannot be a bar, "" where it can.

    Args:
        bars: columns symbol, ts (UTC), open, high, low, close, volume; one symbol or several.
        calendar: the market's sessions.
        timeframe: timeframe of all rows.

    Returns:
        One sentence per row, all faults of the row joined by "; ", aligned with `bars.index`.
    """
    reasons = _Reasons(bars.index)
    prices = bars[list(PRICE_COLUMNS)]
    absent = [column for column in (*PRICE_COLUMNS, "volume") if bars[column].isna().any()]
    for column in absent:
        reasons.add(bars[column].isna(), f"{column} is missing or not a number")
    reasons.add(bars["ts"].isna(), "time is missing or cannot be read")
    for column in PRICE_COLUMNS:
        reasons.add(bars[column] <= 0, f"{column} is not above zero")
        reasons.add(np.isinf(bars[column]), f"{column} is infinite")
    reasons.add(bars["volume"] < 0, "volume is negative")
    reasons.add(np.isinf(bars["volume"]), "volume is infinite")
    reasons.add(prices["high"] < prices["low"], "high is below low")
    reasons.add(prices["high"] < prices["open"], "high is below open")
    reasons.add(prices["high"] < prices["close"], "high is below close")
    reasons.add(prices["low"] > prices["open"], "low is above open")
    reasons.add(prices["low"] > prices["close"], "low is above close")
    known = bars["ts"].notna()
    market = calendar.market
    if timeframe == "1d":
        off_grid = known & (bars["ts"] != bars["ts"].dt.floor("D"))
        reasons.add(off_grid, "daily time is not a session date at 00:00 UTC")
        closed = known & calendar.is_session_date(bars["ts"]).eq(other=False)
        reasons.add(closed, f"{market.calendar} has no session on that date")
    else:
        step = f"{TIMEFRAME_MINUTES[timeframe]}min"
        reasons.add(
            known & (bars["ts"] != bars["ts"].dt.floor(step)),
            f"time is not the start of a {timeframe} bar",
        )
        reasons.add(
            known & calendar.place(bars["ts"]).isna(), f"outside every session of {market.calendar}"
        )
    return reasons.series


def repeated_bars(bars: pd.DataFrame) -> "pd.Series[bool]":
    """Mark every row whose symbol and ts an earlier row has; the first one is kept."""
    return bars.duplicated(["symbol", "ts"], keep="first")


class _Reasons:
    """Collects sentences per row."""

    def __init__(self, index: pd.Index) -> None:
        self.series: pd.Series[str] = pd.Series("", index=index, dtype="str")

    def add(self, mask: "pd.Series[bool]", reason: str) -> None:
        hit = mask.fillna(value=False).astype(bool)
        if hit.any():
            before = self.series[hit]
            self.series[hit] = before.where(before == "", before + "; ") + reason
