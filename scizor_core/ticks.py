"""Trades: why one may be refused, and the bars they make.

Bars are built from trades alone. Nothing is invented where nothing traded, and the order in which
the rows arrive makes no difference: trades are put in order by time, then by trade id, then by row.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from scizor_core.markets import TIMEFRAME_MINUTES, Timeframe
from scizor_core.sessions import SessionCalendar

#: Columns of a frame of trades: `ts` datetime64[us, UTC], `price` and `size` float64 in the quote
#: and the base unit, `trade_id` text or NA, `row_number` the 1-based row of the file it came from.
TICK_COLUMNS: tuple[str, ...] = ("ts", "price", "size", "trade_id", "row_number")

#: Columns of `build_bars`, in order.
BUILT_BAR_COLUMNS: tuple[str, ...] = (
    "ts",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "vwap",
    "trade_count",
)

_MICROSECONDS_PER_MINUTE = 60_000_000


def tick_faults(ticks: pd.DataFrame, calendar: SessionCalendar) -> "pd.Series[str]":
    """Return for each row why it cannot be a trade, "" where it can.

    Args:
        ticks: columns ts (UTC), price, size; NaN where a value is missing or is not a number.
        calendar: the market's sessions.

    Returns:
        One sentence per row, all faults of the row joined by "; ", aligned with `ticks.index`.
    """
    reasons: pd.Series[str] = pd.Series("", index=ticks.index, dtype="str")
    checks: list[tuple[npt.NDArray[np.bool_], str]] = []
    for column in ("price", "size"):
        values = ticks[column].to_numpy(dtype="float64", na_value=np.nan)
        checks.append((np.isnan(values), f"{column} is missing or not a number"))
        checks.append((values <= 0, f"{column} is not above zero"))
        checks.append((np.isposinf(values), f"{column} is infinite"))
    unknown = ticks["ts"].isna().to_numpy()
    checks.append((unknown, "time is missing or cannot be read"))
    outside = calendar.place(ticks["ts"]).isna().to_numpy() & ~unknown
    checks.append((outside, f"outside every session of {calendar.market.calendar}"))
    for mask, reason in checks:
        if mask.any():
            before = reasons[mask]
            reasons[mask] = before.where(before == "", before + "; ") + reason
    return reasons


def repeated_ticks(ticks: pd.DataFrame) -> "pd.Series[bool]":
    """Mark every row whose trade id an earlier row has; rows without an id are never repeated."""
    return ticks["trade_id"].notna() & ticks["trade_id"].duplicated(keep="first")


def build_bars(
    ticks: pd.DataFrame, timeframe: Timeframe, calendar: SessionCalendar | None = None
) -> pd.DataFrame:
    """Return the bars that the trades of one instrument make.

    Args:
        ticks: columns `TICK_COLUMNS`; rows without faults (see `tick_faults`), in any order.
        timeframe: timeframe of the bars. Intraday buckets start at whole multiples of it in UTC.
        calendar: the market's sessions; needed for "1d" only, whose bars are sessions.

    Returns:
        Columns `BUILT_BAR_COLUMNS`, one row for each bucket in which something traded, ordered by
        ts (datetime64[us, UTC], the bar's start; for "1d" the session date at 00:00 UTC).

    Raises:
        ValueError: "1d" without a calendar.

    Note:
        Trades with one and the same time are ordered by trade id: as numbers where all ids of that
        time are whole numbers, otherwise as text, those without an id last. Trades without an id
        keep the order of their rows. The choice never looks at other times, so that a bar does not
        depend on the window that was read.
    """
    times = ticks["ts"].dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
    order = _order(ticks, times)
    price = ticks["price"].to_numpy(dtype="float64")[order]
    size = ticks["size"].to_numpy(dtype="float64")[order]
    bucket = _buckets(times[order], timeframe, calendar)
    starts = np.flatnonzero(np.r_[True, bucket[1:] != bucket[:-1]]) if len(bucket) else np.array([])
    starts = starts.astype("int64")
    ends = np.r_[starts[1:], len(bucket)].astype("int64") if len(starts) else starts
    if not len(starts):
        columns = {column: np.array([], dtype="float64") for column in BUILT_BAR_COLUMNS[1:7]}
    else:
        high = np.maximum.reduceat(price, starts)
        low = np.minimum.reduceat(price, starts)
        volume = np.add.reduceat(size, starts)
        # A weighted mean lies between its extremes; rounding alone can carry it a hair outside.
        vwap = np.clip(np.add.reduceat(price * size, starts) / volume, low, high)
        columns = {
            "open": price[starts],
            "high": high,
            "low": low,
            "close": price[ends - 1],
            "volume": volume,
            "vwap": vwap,
        }
    bars = pd.DataFrame(
        {"ts": pd.DatetimeIndex(bucket[starts]).tz_localize("UTC").as_unit("us"), **columns}
    )
    bars["trade_count"] = pd.Series(ends - starts, dtype="Int64")
    return bars


def _buckets(
    times: npt.NDArray[np.datetime64], timeframe: Timeframe, calendar: SessionCalendar | None
) -> npt.NDArray[np.datetime64]:
    if timeframe == "1d":
        if calendar is None:
            raise ValueError("Daily bars are sessions: build_bars needs the market's calendar.")
        placed = calendar.place(pd.Series(pd.DatetimeIndex(times).tz_localize("UTC")))
        dates: npt.NDArray[np.datetime64] = placed.to_numpy(dtype="datetime64[us]")
        return dates
    step = TIMEFRAME_MINUTES[timeframe] * _MICROSECONDS_PER_MINUTE
    stamps = times.view("int64")
    floored: npt.NDArray[np.datetime64] = (stamps - stamps % step).view("datetime64[us]")
    return floored


def _order(ticks: pd.DataFrame, times: npt.NDArray[np.datetime64]) -> npt.NDArray[np.intp]:
    """Return the positions in the order described at `build_bars`."""
    order = np.argsort(times, kind="stable")
    ordered = times[order]
    same = np.r_[False, ordered[1:] == ordered[:-1]] if len(ordered) else np.array([], dtype=bool)
    if not same.any():
        return order
    # Only trades that share their time need the costly keys.
    slots = np.flatnonzero(same | np.r_[same[1:], False])
    tied = ticks.iloc[order[slots]]
    group = ordered[slots].view("int64")
    keys = _id_keys(tied["trade_id"], group)
    inner = np.lexsort(
        (
            tied["size"].to_numpy(dtype="float64"),
            tied["price"].to_numpy(dtype="float64"),
            pd.to_numeric(tied["row_number"]).to_numpy(dtype="float64", na_value=np.inf),
            keys,
            group,
        )
    )
    order[slots] = order[slots][inner]
    return order


def _id_keys(ids: "pd.Series[str]", group: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return integers that sort like the ids do within each group, missing ones last."""
    known = ids.notna().to_numpy()
    keys = np.full(len(ids), len(ids), dtype="int64")
    if not known.any():
        return keys
    text = ids[known].astype("str")
    digits = text.str.fullmatch(r"[0-9]+").to_numpy(dtype=bool)
    mixed = np.isin(group[known], group[known][~digits])
    numeric = text.str.lstrip("0")
    # Numbers of any length sort like text once they are equally long.
    padded = numeric.str.zfill(int(numeric.str.len().max()))
    sortable = text.where(pd.Series(mixed, index=text.index), padded)
    keys[known] = np.unique(sortable.to_numpy(dtype=object), return_inverse=True)[1]
    return keys
