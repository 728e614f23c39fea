"""Rows of a file into bars or trades: which column is what, which row is good, why others are not.

The importer and the tape read files through here, so that a file means the same to both.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from scizor_core.errors import InvalidInputError
from scizor_core.markets import Timeframe, get_market
from scizor_core.schemas.bars import bar_faults
from scizor_core.sessions import get_calendar
from scizor_core.ticks import TICK_COLUMNS, repeated_ticks, tick_faults
from scizor_resources.providers.base import REJECTED_COLUMNS
from scizor_resources.tape.columns import resolve_columns
from scizor_resources.tape.read import RawTable
from scizor_resources.tape.times import Times, is_blank, read_dates, read_numbers, read_times

#: A timeframe of bars, or trades.
TapeTimeframe = Literal["1m", "5m", "15m", "1d", "tick"]

#: Columns of parsed bars, in order; dtypes as in `SOURCE_BAR_COLUMNS`.
TAPE_BAR_COLUMNS: tuple[str, ...] = (
    "ts",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "vwap",
    "trade_count",
    "adj_close",
)

_UNREADABLE_TIME = "time is missing or cannot be read"


@dataclass(frozen=True)
class RowSpec:
    """What the rows of a file are.

    Attributes:
        market: name of the market.
        symbol: canonical symbol.
        timeframe: a bar timeframe, or "tick" for trades.
        columns: field -> column name, for columns that a guess would miss.
        timezone: IANA zone of times without an offset; None where there are none.
        source: the `source` of the rows.
    """

    market: str
    symbol: str
    timeframe: TapeTimeframe
    columns: dict[str, str] = field(default_factory=dict)
    timezone: str | None = None
    source: str = "tape"


@dataclass(frozen=True)
class ParsedRows:
    """What a file holds.

    Attributes:
        good: `TAPE_BAR_COLUMNS` or, for trades, `TICK_COLUMNS`; ordered by ts.
        rejected: columns `REJECTED_COLUMNS`, ordered by row_number.
        near: for each refused row the time of the row at or before it that can be read, which
            tells to which session an unreadable row belongs; NaT where no row can be read.
        columns: field -> column that was used.
        notes: sentences on choices that were made, for the user to check.
    """

    good: pd.DataFrame
    rejected: pd.DataFrame
    near: npt.NDArray[np.datetime64]
    columns: dict[str, str]
    notes: tuple[str, ...]


def parse_rows(raw: RawTable, spec: RowSpec, now: datetime) -> ParsedRows:
    """Return the good rows of a file and, with reasons, the others.

    Args:
        raw: the file's cells.
        spec: what they are.
        now: the present instant; rows after it are refused.

    Raises:
        InvalidInputError: a column is missing, no row is there, the times need a zone.
    """
    columns, notes = resolve_columns(raw.names, raw.origin, spec.timeframe, spec.columns)
    columns, notes = _split_date_and_time(raw, columns, notes, spec)
    raw = _rows_of_symbol(raw, columns, spec)
    if not len(raw.row_numbers) and not raw.broken:
        raise InvalidInputError(f"{raw.origin} has a header and no rows.")
    times = _times(raw, columns, spec)
    ts = pd.Series(pd.DatetimeIndex(times.utc).tz_localize("UTC").as_unit("us"))
    if spec.timeframe == "tick":
        frame = _tick_frame(raw, columns, ts)
        faults = tick_faults(frame, get_calendar(spec.market))
    else:
        frame, faults = _bar_frame(raw, columns, ts, spec.market, spec.timeframe)
    faults = _with_time_reasons(faults, times)
    future = ts.gt(pd.Timestamp(now)).fillna(value=False).astype(bool)
    faults = faults.mask(future & (faults == ""), "time lies in the future")
    faults = _with_repeats(faults, frame, raw.row_numbers, spec.timeframe)
    good = (faults == "").to_numpy(dtype=bool)
    rejected, near = _rejected(raw, ts, faults, spec)
    wanted = list(TICK_COLUMNS if spec.timeframe == "tick" else TAPE_BAR_COLUMNS)
    ordered = frame.loc[good, wanted].sort_values("ts", kind="stable", ignore_index=True)
    return ParsedRows(ordered, rejected, near, columns, notes)


def _split_date_and_time(
    raw: RawTable, columns: dict[str, str], notes: tuple[str, ...], spec: RowSpec
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Join a column of dates with its column of times of day, where the file has both."""
    by_name = {name.casefold(): name for name in raw.names}
    date_name, time_name = by_name.get("date"), by_name.get("time")
    guessed = "ts" not in spec.columns and columns["ts"] == date_name
    if not guessed or time_name is None or spec.timeframe == "1d":
        return columns, notes
    samples = [str(raw.column(name)[0].as_py()) for name in (date_name, time_name) if name]
    if not len(raw.row_numbers) or ":" in samples[0] or ":" not in samples[1]:
        return columns, notes
    joined = f"{date_name}+{time_name}"
    return {**columns, "ts": joined}, (*notes, f"the time was read from {joined}")


def _time_cells(raw: RawTable, column: str) -> pa.ChunkedArray:
    if column in raw.names:
        return raw.column(column)
    parts = [pc.cast(raw.column(name), pa.string()) for name in column.split("+")]
    trimmed = [pc.utf8_trim_whitespace(part) for part in parts]
    return pc.binary_join_element_wise(*trimmed, " ")


def _rows_of_symbol(raw: RawTable, columns: dict[str, str], spec: RowSpec) -> RawTable:
    if "symbol" in columns:
        codes = _codes(raw, columns["symbol"])
        positions = np.flatnonzero(codes == spec.symbol)
        if not len(positions):
            raise InvalidInputError(
                f"{raw.origin} has no row of {spec.symbol} in column '{columns['symbol']}'; "
                f"it has {_some(codes)}."
            )
        return raw.take(positions.astype("int64"))
    for name in raw.names:
        if name.casefold() in ("symbol", "ticker"):
            codes = _codes(raw, name)
            if len(np.unique(codes)) > 1:
                raise InvalidInputError(
                    f"{raw.origin} holds several symbols in column '{name}' ({_some(codes)}). "
                    f"Add the column 'symbol={name}' to take the rows of {spec.symbol} alone."
                )
    return raw


def _codes(raw: RawTable, name: str) -> npt.NDArray[np.object_]:
    text = pc.utf8_upper(pc.utf8_trim_whitespace(pc.cast(raw.column(name), pa.string())))
    return np.asarray(pc.fill_null(text, "").to_numpy(zero_copy_only=False), dtype=object)


def _some(codes: npt.NDArray[np.object_]) -> str:
    found = sorted(set(codes))
    return ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")


def _times(raw: RawTable, columns: dict[str, str], spec: RowSpec) -> Times:
    market_zone = ZoneInfo(get_market(spec.market).timezone)
    zone = ZoneInfo(spec.timezone) if spec.timezone else None
    cells = _time_cells(raw, columns["ts"])
    if spec.timeframe == "1d":
        return read_dates(cells, zone, market_zone)
    times = read_times(cells, zone)
    if zone is None and times.naive.any() and np.isnat(times.utc).all():
        first = int(np.flatnonzero(times.naive)[0])
        raise InvalidInputError(
            f"The times of {raw.origin} carry no offset (row {raw.row_numbers[first]}: "
            f"'{cells[first].as_py()}'). Say in which time zone they are, for example "
            f"timezone {market_zone.key}, or UTC."
        )
    return times


def _tick_frame(
    raw: RawTable, columns: dict[str, str], ts: "pd.Series[pd.Timestamp]"
) -> pd.DataFrame:
    ids: pd.Series[str] = pd.Series(pd.NA, index=ts.index, dtype="str")
    if "trade_id" in columns:
        text = pc.utf8_trim_whitespace(pc.cast(raw.column(columns["trade_id"]), pa.string()))
        blank = is_blank(raw.column(columns["trade_id"]))
        ids = text.to_pandas().astype("str").mask(blank)
    return pd.DataFrame(
        {
            "ts": ts,
            "price": _numbers(raw, columns["price"]),
            "size": _numbers(raw, columns["size"]),
            "trade_id": ids,
            "row_number": raw.row_numbers,
        }
    )


def _bar_frame(
    raw: RawTable,
    columns: dict[str, str],
    ts: "pd.Series[pd.Timestamp]",
    market: str,
    timeframe: Timeframe,
) -> tuple[pd.DataFrame, "pd.Series[str]"]:
    frame = pd.DataFrame({"ts": ts})
    for name in TAPE_BAR_COLUMNS[1:]:
        frame[name] = _numbers(raw, columns[name]) if name in columns else np.nan
    faults = bar_faults(frame, get_calendar(market), timeframe)
    for name in ("vwap", "trade_count", "adj_close"):
        if name not in columns:
            continue
        values = frame[name]
        if name == "vwap":
            # Feeds write 0 for the mean price of an interval in which nothing traded.
            frame[name] = values = values.mask((values == 0) & (frame["volume"] == 0))
        filled = ~is_blank(raw.column(columns[name])) & ~(values.isna() & (frame["volume"] == 0))
        if name == "trade_count":
            unfit = filled & ~((values >= 0) & (values % 1 == 0))
            text = "trade_count is not a whole number"
        else:
            unfit = filled & ~((values > 0) & np.isfinite(values))
            text = f"{name} is not a number above zero"
        faults = faults.mask(unfit, (faults + "; " + text).str.removeprefix("; "))
    whole = frame["trade_count"].where(faults == "")
    frame["trade_count"] = whole.astype("Float64").astype("Int64")
    return frame, faults


def _numbers(raw: RawTable, column: str) -> npt.NDArray[np.float64]:
    return read_numbers(raw.column(column), decimal_comma=raw.decimal_comma)


def _with_time_reasons(faults: "pd.Series[str]", times: Times) -> "pd.Series[str]":
    for reason in set(times.reasons) - {""}:
        hit = times.reasons == reason
        faults[hit] = faults[hit].str.replace(_UNREADABLE_TIME, reason, regex=False)
    return faults


def _with_repeats(
    faults: "pd.Series[str]",
    frame: pd.DataFrame,
    row_numbers: npt.NDArray[np.int64],
    timeframe: TapeTimeframe,
) -> "pd.Series[str]":
    good = frame[faults == ""]
    key, text = (
        ("trade_id", "trade id already seen in row")
        if timeframe == "tick"
        else (
            "ts",
            "same time as row",
        )
    )
    repeated = repeated_ticks(good) if timeframe == "tick" else good[key].duplicated(keep="first")
    if not repeated.any():
        return faults
    again = good[repeated]
    numbers = pd.Series(row_numbers, index=frame.index)[good.index]
    first = numbers[~repeated & good[key].notna()]
    lookup = pd.Series(first.to_numpy(), index=pd.Index(good.loc[first.index, key]))
    seen = lookup.reindex(pd.Index(again[key])).astype("int64").astype("str").to_numpy()
    faults[again.index] = pd.Series(seen, index=again.index, dtype="str").map(
        lambda row: f"{text} {row}"
    )
    return faults


def _rejected(
    raw: RawTable, ts: "pd.Series[pd.Timestamp]", faults: "pd.Series[str]", spec: RowSpec
) -> tuple[pd.DataFrame, npt.NDArray[np.datetime64]]:
    positions = np.flatnonzero((faults != "").to_numpy(dtype=bool)).astype("int64")
    naive = ts.dt.tz_localize(None)
    near_all = naive.ffill().bfill().to_numpy(dtype="datetime64[us]")
    after = np.searchsorted(raw.row_numbers, [row.row_number for row in raw.broken])
    unknown = np.full(len(raw.broken), np.datetime64("NaT", "us"))
    near_broken = near_all[np.clip(after - 1, 0, None)] if len(near_all) else unknown
    row_numbers = [*raw.row_numbers[positions].tolist(), *(row.row_number for row in raw.broken)]
    times = np.r_[naive.to_numpy(dtype="datetime64[us]")[positions], unknown]
    frame = pd.DataFrame(
        {
            "symbol": spec.symbol,
            "ts": pd.DatetimeIndex(times).tz_localize("UTC").as_unit("us"),
            "reason": [*faults.iloc[positions], *(row.reason for row in raw.broken)],
            "source": spec.source,
            "origin": raw.origin,
            "row_number": pd.array(row_numbers, dtype="Int64"),
            "payload": [*raw.payloads(positions), *(row.payload for row in raw.broken)],
        },
        columns=list(REJECTED_COLUMNS),
    )
    order = np.argsort(np.asarray(row_numbers, dtype="int64"), kind="stable")
    near = np.r_[near_all[positions], near_broken]
    return frame.iloc[order].reset_index(drop=True), near[order]
