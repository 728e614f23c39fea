"""How bars come out of PostgreSQL: packed per instrument, unpacked into a frame."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import psycopg
import pyarrow as pa

from scizor_core.markets import Timeframe
from scizor_core.schemas.bars import BAR_COLUMNS
from scizor_resources.stores.connection import Row
from scizor_resources.stores.copy_format import (
    PACKED_BAR,
    PACKED_BAR_BYTES,
    first_ts,
    unpack_bars,
    unpack_times,
)

READ_BAR_COLUMNS: tuple[str, ...] = (
    "instrument_id",
    "symbol",
    *(column for column in BAR_COLUMNS if column not in ("instrument_id", "timeframe")),
    "ingested_at",
)


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """Return an Arrow answer as a frame: UTC microseconds, `str` text, dates as datetime64."""
    frame: pd.DataFrame = table.to_pandas(date_as_object=False, timestamp_as_object=False)
    return frame


def symbols_of(
    connection: psycopg.Connection[Row],
    market: str | None,
    instrument_ids: Sequence[int] | None,
) -> dict[int, str]:
    """Return instrument_id -> symbol of the instruments asked for that exist."""
    rows = connection.execute(
        "SELECT instrument_id, symbol FROM public.symbols WHERE (%s::text IS NULL OR market = %s) "
        "AND (%s::int[] IS NULL OR instrument_id = ANY(%s))",
        [market, market, *([None if instrument_ids is None else _ints(instrument_ids)] * 2)],
    ).fetchall()
    return {row["instrument_id"]: row["symbol"] for row in rows}


def bars_around(
    timeframe: Timeframe,
    symbols: Mapping[int, str],
    count: int,
    start: datetime | None,
    end: datetime | None,
) -> tuple[str, list[Any]]:
    """Return the query of `count` bars per instrument, counted from the bound that is nearer."""
    conditions = ["x.timeframe = %s"]
    parameters: list[Any] = [timeframe]
    if start is not None:
        conditions.append("x.ts >= %s")
        parameters.append(start)
    if end is not None:
        conditions.append("x.ts < %s")
        parameters.append(end)
    order = "ASC" if end is None else "DESC"
    return (
        "SELECT b.* FROM unnest(%s::int[]) AS s (instrument_id) CROSS JOIN LATERAL ("  # noqa: S608  # conditions are constants, values are bound
        "SELECT x.*, x.tableoid AS part FROM market.bars AS x "
        f"WHERE x.instrument_id = s.instrument_id AND {' AND '.join(conditions)} "
        f"ORDER BY x.ts {order} LIMIT %s) AS b",
        [list(symbols), *parameters, count],
    )


def packed_bars(
    connection: psycopg.Connection[Row], rows: str, parameters: Sequence[Any]
) -> list[Row]:
    """Return the bars that query `rows` finds as blobs per instrument, source and partition."""
    with connection.cursor(binary=True) as cursor:
        return cursor.execute(
            f"SELECT b.instrument_id, b.source, string_agg({PACKED_BAR}, '') AS bars "  # noqa: S608  # `rows` holds constants and bound values
            f"FROM ({rows}) AS b GROUP BY b.instrument_id, b.source, b.part",
            parameters,
        ).fetchall()


def stored_times(
    connection: psycopg.Connection[Row],
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
    instrument_ids: Sequence[int],
) -> dict[int, npt.NDArray[np.int64]]:
    """Return instrument_id -> its stored bar starts in `[start, end)`, microseconds since 1970."""
    with connection.cursor(binary=True) as cursor:
        rows = cursor.execute(
            "SELECT instrument_id, string_agg(timestamptz_send(ts), '') AS times "
            "FROM market.bars WHERE timeframe = %s AND ts >= %s AND ts < %s "
            "AND instrument_id = ANY(%s) GROUP BY 1",
            [timeframe, start, end, _ints(instrument_ids)],
        ).fetchall()
    return {row["instrument_id"]: unpack_times(row["times"]) for row in rows}


def times_of(bars: pd.DataFrame) -> dict[int, npt.NDArray[np.int64]]:
    """Return instrument_id -> bar starts of a frame, microseconds since 1970."""
    ids = bars["instrument_id"].to_numpy()
    times = bars["ts"].dt.tz_localize(None).to_numpy(dtype="datetime64[us]").astype(np.int64)
    return {int(each): np.sort(times[ids == each]) for each in np.unique(ids)}


def bar_frame(blobs: list[Row], symbols: Mapping[int, str]) -> pd.DataFrame:
    """Return packed bars as a frame of `READ_BAR_COLUMNS`, ordered by instrument_id and ts."""
    known = [blob for blob in blobs if blob["instrument_id"] in symbols]
    known.sort(key=lambda blob: (blob["instrument_id"], first_ts(blob["bars"])))
    bars = unpack_bars([blob["bars"] for blob in known])
    lengths = np.array([len(blob["bars"]) for blob in known], dtype=np.int64) // PACKED_BAR_BYTES
    group = np.repeat(np.arange(len(known)), lengths)
    ids = np.array([blob["instrument_id"] for blob in known], dtype=np.int32)[group]
    earlier = (ids[:-1] < ids[1:]) | ((ids[:-1] == ids[1:]) & (bars["ts"][:-1] <= bars["ts"][1:]))
    if not earlier.all():
        order = np.lexsort((bars["ts"], ids))
        bars = {name: values[order] for name, values in bars.items()}
        group, ids = group[order], ids[order]
    names = [symbols[blob["instrument_id"]] for blob in known]
    columns: dict[str, Any] = {
        **{name: bars[name] for name in ("open", "high", "low", "close", "volume", "vwap")},
        "instrument_id": ids,
        "symbol": _texts(group, names),
        "ts": _instants(bars["ts"]),
        "session_date": bars["session_date"].astype("datetime64[D]").astype("datetime64[us]"),
        "trade_count": _counts(bars["trade_count"]),
        "adj_close": bars["adj_close"],
        "source": _texts(group, [blob["source"] for blob in known]),
        "is_final": bars["is_final"].astype(np.bool_),
        "ingested_at": _instants(bars["ingested_at"]),
    }
    return pd.DataFrame({name: columns[name] for name in READ_BAR_COLUMNS})


def _instants(microseconds: npt.NDArray[np.int64]) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(microseconds.astype("datetime64[us]")).tz_localize("UTC")


def _counts(numbers: npt.NDArray[np.float64]) -> pd.arrays.IntegerArray:
    absent = np.isnan(numbers)
    return pd.arrays.IntegerArray(np.where(absent, 0, numbers).astype(np.int64), absent)


def _texts(codes: npt.NDArray[np.int64], words: list[str]) -> "pd.Series[str]":
    """Return the words that `codes` stand for."""
    coded = pa.DictionaryArray.from_arrays(
        pa.array(codes, pa.int32()), pa.array(words, pa.large_string())
    )
    return pd.Series(pd.array(coded.cast(pa.large_string()), dtype="str"))


def _ints(values: Sequence[int]) -> list[int]:
    return [int(value) for value in values]
