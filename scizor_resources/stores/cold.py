"""The cold tier: bars of released months, read from the archive and merged with PostgreSQL's.

A month is released when its bars have left `market.bars`. What PostgreSQL has of such a month has
come late, and wins over the file.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from scizor_core.archive import (
    VolumeSegment,
    chain_segments,
    month_bounds,
    month_of_date,
    volume_segment,
)
from scizor_core.markets import Timeframe
from scizor_resources.stores.archive_files import ArchiveRoot
from scizor_resources.stores.bar_frames import READ_BAR_COLUMNS
from scizor_resources.stores.connection import Row

#: Files read at the same time.
_THREADS = 2
_COLUMNS = [column for column in READ_BAR_COLUMNS if column != "symbol"]
_RELEASED = (
    "SELECT path, sha256, month, array_agg(instrument_id) AS instrument_ids "
    "FROM market.released_bars WHERE timeframe = %s AND instrument_id = ANY(%s) "
    "AND (%s::timestamptz IS NULL OR last_ts >= %s) AND (%s::timestamptz IS NULL OR first_ts < %s) "
    "GROUP BY path, sha256, month ORDER BY month, path"
)
_STORED_SEGMENTS = """
SELECT month, (array_agg(close ORDER BY ts))[1] AS first_close,
       (array_agg(volume ORDER BY ts))[1] AS first_volume,
       (array_agg(close ORDER BY ts DESC))[1] AS last_close,
       sum(CASE WHEN previous IS NULL THEN 0 WHEN close < previous THEN -volume ELSE volume END)
           AS signed_volume
FROM (
    SELECT month, ts, close, volume, lag(close) OVER (PARTITION BY month ORDER BY ts) AS previous
    FROM (SELECT date_trunc('month', ts AT TIME ZONE 'UTC')::date AS month, ts, close, volume
          FROM market.bars WHERE timeframe = %s AND instrument_id = %s AND ts < %s) AS b
) AS c GROUP BY month
"""

ReadBars = Callable[[datetime, datetime], pd.DataFrame]


@dataclass(frozen=True)
class ReleasedFile:
    """A file that holds bars which are asked for.

    Attributes:
        path: where, below the archive's root.
        sha256: digest that it is known by.
        month: its month.
        instrument_ids: those of the instruments asked for that it has bars of.
    """

    path: str
    sha256: str
    month: date
    instrument_ids: list[int]


def released_files(
    connection: psycopg.Connection[Row],
    timeframe: Timeframe,
    instrument_ids: Sequence[int],
    start: datetime | None = None,
    end: datetime | None = None,
) -> list[ReleasedFile]:
    """Return the files with bars `start <= ts < end` of some instruments, by month."""
    rows = connection.execute(
        _RELEASED, [timeframe, list(instrument_ids), start, start, end, end]
    ).fetchall()
    return [ReleasedFile(**row) for row in rows]


class ColdTier:
    """Reads released bars.

    Args:
        root: where the files are.
    """

    def __init__(self, root: ArchiveRoot) -> None:
        self._root = root

    def read(
        self,
        files: Sequence[ReleasedFile],
        symbols: Mapping[int, str],
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> pd.DataFrame:
        """Return what the files hold with `start <= ts < end`, columns `READ_BAR_COLUMNS`.

        Args:
            files: files of different months or markets, in the order of the months.
            symbols: instrument_id -> symbol.
            start: first bar start, None for all.
            end: first bar start no longer asked for, None for all.

        Raises:
            FileMissingError: a file is not there.
            ArchiveError: a file cannot be read.
        """
        if len(files) == 1:
            return cold_frame(self._table(files[0], start, end), symbols)
        with ThreadPoolExecutor(_THREADS) as threads:
            tables = list(threads.map(lambda file: self._table(file, start, end), files))
        return cold_frame(pa.concat_tables(tables), symbols)

    def around(
        self,
        stored: pd.DataFrame,
        files: Sequence[ReleasedFile],
        symbols: Mapping[int, str],
        at: datetime,
        count: int,
        *,
        before: bool,
    ) -> pd.DataFrame:
        """Return per instrument the `count` bars next to `at`, of those stored and released.

        Args:
            stored: PostgreSQL's answer to the same question.
            files: files with bars on that side of `at`, in the order of the months.
            symbols: instrument_id -> symbol.
            at: as in `Warehouse.read_bars_around`.
            count: bars per instrument.
            before: the last ones before `at` if true, the first from `at` on if not.
        """
        frame = stored
        for file in reversed(files) if before else files:
            # Bars nearer to `at` than all of this file's.
            first, following = month_bounds(file.month)
            nearer = frame["ts"] >= following if before else frame["ts"] < first
            counts = frame.loc[nearer, "instrument_id"].value_counts()
            lacking = [each for each in file.instrument_ids if counts.get(each, 0) < count]
            if lacking:
                wanted = ReleasedFile(file.path, file.sha256, file.month, lacking)
                bounds = (None, at) if before else (at, None)
                frame = merge_tiers(frame, self.read([wanted], symbols, *bounds))
        if frame is stored:
            return stored
        groups = frame.groupby("instrument_id", sort=False)
        chosen = groups.tail(count) if before else groups.head(count)
        return chosen.reset_index(drop=True)

    def _table(self, file: ReleasedFile, start: datetime | None, end: datetime | None) -> pa.Table:
        table = self._root.read(file.path, file.sha256, _COLUMNS, file.instrument_ids)
        first, following = month_bounds(file.month)
        if start is not None and start > first:
            table = table.filter(pc.greater_equal(table["ts"], _instant(start)))
        if end is not None and end < following:
            table = table.filter(pc.less(table["ts"], _instant(end)))
        return table


def _instant(at: datetime) -> pa.Scalar:
    return pa.scalar(at.astimezone(UTC), pa.timestamp("us", tz="UTC"))


def merge_tiers(warm: pd.DataFrame, cold: pd.DataFrame) -> pd.DataFrame:
    """Return the bars of both, ordered by instrument_id and ts; of a bar in both, PostgreSQL's."""
    if warm.empty:
        both = cold
    elif cold.empty:
        return warm
    else:
        both = pd.concat([warm, cold], ignore_index=True)
    ids, ts = both["instrument_id"].to_numpy(), both["ts"].astype("int64").to_numpy()
    # Stable, so that of equal keys the warm row comes first.
    ascending = (ids[:-1] < ids[1:]) | ((ids[:-1] == ids[1:]) & (ts[:-1] < ts[1:]))
    if ascending.all():
        return both
    order = np.lexsort((ts, ids))
    ids, ts = ids[order], ts[order]
    is_first = np.ones(len(order), dtype=np.bool_)
    is_first[1:] = (ids[1:] != ids[:-1]) | (ts[1:] != ts[:-1])
    return both.iloc[order[is_first]].reset_index(drop=True)


def cold_frame(table: pa.Table, symbols: Mapping[int, str]) -> pd.DataFrame:
    """Return rows of a file as a frame of `READ_BAR_COLUMNS`, in the dtypes of PostgreSQL's."""
    counts = table["trade_count"]
    absent = counts.is_null().to_numpy() if counts.null_count else np.zeros(len(counts), np.bool_)
    dates = table["session_date"].cast(pa.timestamp("us"))
    plain = table.set_column(table.schema.get_field_index("session_date"), "session_date", dates)
    made: dict[str, Any] = {
        "symbol": _symbols(table["instrument_id"].to_numpy(), symbols),
        "trade_count": pd.arrays.IntegerArray(counts.fill_null(0).to_numpy(), absent),
        "source": _texts(table["source"].chunks),
    }
    names_of_plain = [name for name in READ_BAR_COLUMNS if name not in made]
    frame: pd.DataFrame = plain.select(names_of_plain).to_pandas()
    for name, values in made.items():
        frame.insert(READ_BAR_COLUMNS.index(name), name, values)
    return frame


def _symbols(ids: npt.NDArray[np.int32], symbols: Mapping[int, str]) -> "pd.Series[str]":
    if len(ids) and (ids == ids[0]).all():
        return _repeated(symbols[int(ids[0])], len(ids))
    known = np.array(sorted(symbols), dtype=np.int64)
    names = pa.array([symbols[each] for each in known.tolist()], pa.large_string())
    codes = pa.array(np.searchsorted(known, ids), pa.int32())
    return _texts([pa.DictionaryArray.from_arrays(codes, names)])


def _texts(chunks: Sequence[pa.DictionaryArray]) -> "pd.Series[str]":
    words = {word for chunk in chunks for word in chunk.dictionary.to_pylist()}
    if len(words) == 1:
        return _repeated(words.pop(), sum(len(chunk) for chunk in chunks))
    parts = [each.cast(pa.large_string()) for each in chunks]
    return pd.Series(pd.array(pa.chunked_array(parts, pa.large_string()), dtype="str"))


def _repeated(word: str, count: int) -> "pd.Series[str]":
    return pd.Series(pd.array(pa.repeat(pa.scalar(word, pa.large_string()), count), dtype="str"))


def obv_before(
    connection: psycopg.Connection[Row],
    timeframe: Timeframe,
    instrument_id: int,
    at: datetime,
    read_bars: ReadBars,
) -> tuple[float, float] | None:
    """Return on-balance volume and close of all bars before `at`, released ones included.

    A released month counts as its file says; where bars of it have come late, or `at` lies within
    it, its bars are read.

    Args:
        connection: PostgreSQL.
        timeframe: timeframe of the bars.
        instrument_id: whose bars.
        at: bar start.
        read_bars: reads the instrument's bars `start <= ts < end` from all tiers.

    Returns:
        None where there is no earlier bar.
    """
    stored = connection.execute(_STORED_SEGMENTS, [timeframe, instrument_id, at]).fetchall()
    released = connection.execute(
        "SELECT month, first_close, first_volume, last_close, signed_volume "
        "FROM market.released_bars WHERE timeframe = %s AND instrument_id = %s AND first_ts < %s",
        [timeframe, instrument_id, at],
    ).fetchall()
    late = {row["month"] for row in stored} & {row["month"] for row in released}
    late |= {row["month"] for row in released if row["month"] == month_of_date(at.date())}
    segments: dict[date, VolumeSegment] = {}
    for row in (*stored, *released):
        month = row.pop("month")
        if month not in late:
            segments[month] = VolumeSegment(**row)
    for month in late:
        start, end = month_bounds(month)
        bars = read_bars(start, min(end, at))
        segments[month] = volume_segment(bars["close"].to_numpy(), bars["volume"].to_numpy())
    return chain_segments(segments[month] for month in sorted(segments))
