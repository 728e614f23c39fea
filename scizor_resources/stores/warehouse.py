"""PostgreSQL: the one place that writes and reads bars, indicators and their quality.

A write is one transaction: new rows are inserted, rows that differ are updated and leave their old
values in `market.bar_revisions`, equal rows are not touched, so that a rerun changes nothing.
Writers of the same month of a table take turns (advisory locks, taken in the order of the months),
so that what a writer has found is still so when it writes.

Rows go in by binary COPY. A month without a partition is loaded into a table of its own, which
then becomes the partition: its index is built once, sorted, instead of row by row, and nobody
waits for it. Bars come out packed (`copy_format.PACKED_BAR`); other queries go through ADBC.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import numpy as np
import numpy.typing as npt
import pandas as pd
import psycopg
import pyarrow as pa

from scizor_core.archive import months_within
from scizor_core.markets import TIMEFRAME_MINUTES, Timeframe
from scizor_core.schemas.bars import BAR_COLUMNS, validate_bars
from scizor_core.schemas.indicators import INDICATOR_ROW_COLUMNS, validate_indicators
from scizor_resources.stores.archive_files import FileMissingError
from scizor_resources.stores.bar_frames import (
    bar_frame,
    bars_around,
    packed_bars,
    stored_times,
    symbols_of,
    times_of,
    to_pandas,
)
from scizor_resources.stores.cold import (
    ColdTier,
    ReleasedFile,
    merge_tiers,
    obv_before,
    released_files,
)
from scizor_resources.stores.connection import (
    KeptConnection,
    Row,
    database_errors,
    lost_connections,
)
from scizor_resources.stores.merging import (
    LOAD_ROWS,
    Month,
    WriteResult,
    add_rows,
    load_month,
    make_temporary,
    month_of,
    months_of,
    take_turns,
)
from scizor_resources.stores.pool import ConnectionPool
from scizor_resources.stores.tables import BARS, INDICATORS, TableSpec

# On-balance volume of all bars before a time, for each instrument, and the close before it.
_STORED_OBV = """
SELECT f.instrument_id, b.obv, b.previous_close
FROM unnest(%s::int[], %s::timestamptz[]) AS f (instrument_id, first_ts)
CROSS JOIN LATERAL (
    SELECT sum(CASE WHEN close < previous THEN -volume ELSE volume END) AS obv,
           (array_agg(close ORDER BY ts DESC))[1] AS previous_close
    FROM (
        SELECT ts, close, volume, lag(close) OVER (ORDER BY ts) AS previous FROM market.bars
        WHERE timeframe = %s AND instrument_id = f.instrument_id AND ts < f.first_ts
    ) AS a HAVING count(*) > 0
) AS b
"""


class Warehouse:
    """Access to the platform's tables.

    Args:
        url: libpq connection URL of the database.
        cold: where bars of released months are read from; None: PostgreSQL is all there is.
    """

    def __init__(self, url: str, cold: ColdTier | None = None) -> None:
        self._url = url
        self._cold = cold
        self._known_partitions: set[str] = set()
        self._connection: adbc.Connection | None = None
        self._owner = 0
        self._lock = threading.RLock()
        self._reader = KeptConnection(url)
        self._writer = KeptConnection(url)
        self._pool = ConnectionPool(url)

    def close(self) -> None:
        """Close the connections that are kept; they are opened anew when needed."""
        self._pool.close()
        self._reader.close()
        self._writer.close()
        self._close_arrow()

    def rest(self) -> None:
        """Close the connection that would not notice a restart of the server until it is used."""
        self._close_arrow()

    def _close_arrow(self) -> None:
        with self._lock:
            if self._connection is not None and self._owner == os.getpid():
                self._connection.close()
            self._connection = None

    @contextmanager
    def _arrow(self) -> Iterator[adbc.Connection]:
        """Lend the one ADBC connection of this process.

        Connecting reads all of pg_type, about 100 ms with a few hundred partitions, so it is kept.
        One that has seen an error is thrown away; a forked child makes its own.
        """
        with self._lock:
            if self._connection is None or self._owner != os.getpid():
                with database_errors():
                    self._connection = adbc.connect(self._url)
                self._owner = os.getpid()
            try:
                with database_errors():
                    yield self._connection
            except BaseException:
                self._close_arrow()
                raise

    def __repr__(self) -> str:
        return "Warehouse(<url hidden>)"

    @contextmanager
    def connect(self) -> Iterator[psycopg.Connection[dict[str, Any]]]:
        """Lend a connection whose rows are dicts; commits at the end, rolls back on an error.

        Raises:
            WarehouseAway: PostgreSQL cannot be reached, or the connection was lost.
        """
        with lost_connections(), self._pool.lend() as connection:
            yield connection

    def write_bars(self, bars: pd.DataFrame) -> WriteResult:
        """Validate and store bars (columns `BAR_COLUMNS`).

        Raises:
            ContractError: a row breaks the contract; nothing was written.
            WarehouseError: PostgreSQL refused.
        """
        return self._write(BARS, validate_bars(bars[list(BAR_COLUMNS)].reset_index(drop=True)))

    def write_indicators(self, indicators: pd.DataFrame) -> WriteResult:
        """Validate and store indicator rows (columns `INDICATOR_ROW_COLUMNS`).

        Raises:
            ContractError: a row breaks the contract; nothing was written.
            WarehouseError: PostgreSQL refused.
        """
        frame = indicators[list(INDICATOR_ROW_COLUMNS)].reset_index(drop=True)
        return self._write(INDICATORS, validate_indicators(frame))

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> pd.DataFrame:
        """Return the answer of a query with `$1`-style parameters, times as datetime64[us, UTC].

        Raises:
            WarehouseError: PostgreSQL refused the query or cannot be reached.
        """
        with self._arrow() as connection, connection.cursor() as cursor:
            cursor.execute(sql, tuple(parameters) or None)
            answer = cursor.fetch_arrow_table()
            connection.rollback()
        return to_pandas(answer)

    def read_bars(
        self,
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        *,
        market: str | None = None,
        instrument_ids: Sequence[int] | None = None,
    ) -> pd.DataFrame:
        """Return stored bars with `start <= ts < end` (UTC), columns `READ_BAR_COLUMNS`.

        Args:
            timeframe: timeframe of the bars.
            start: first bar start.
            end: first bar start no longer asked for.
            market: only this market's instruments.
            instrument_ids: only these; an empty list gives no rows.

        Returns:
            Rows ordered by instrument_id and ts; `attrs["tier"]` says where they come from:
            "warm" (PostgreSQL), "cold" (the archive) or "warm+cold".

        Raises:
            WarehouseError: PostgreSQL refused.
            ArchiveError: a file of a released month is missing or cannot be read.
        """
        return _again_if_moved(
            lambda: self._read_bars(timeframe, start, end, market, instrument_ids)
        )

    def _read_bars(
        self,
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        market: str | None,
        instrument_ids: Sequence[int] | None,
    ) -> pd.DataFrame:
        released: list[ReleasedFile] = []
        with self._snapshot() as connection:
            symbols = symbols_of(connection, market, instrument_ids)
            condition = "b.timeframe = %s AND b.ts >= %s AND b.ts < %s"
            parameters: list[Any] = [timeframe, start, end]
            if market is not None or instrument_ids is not None:
                condition += " AND b.instrument_id = ANY(%s)"
                parameters.append(list(symbols))
            rows = f"SELECT b.*, b.tableoid AS part FROM market.bars AS b WHERE {condition}"  # noqa: S608  # conditions are constants, values are bound
            blobs = packed_bars(connection, rows, parameters)
            if self._cold is not None:
                released = released_files(connection, timeframe, list(symbols), start, end)
        warm = bar_frame(blobs, symbols)
        if self._cold is None or not released:
            return _marked(warm, "warm")
        cold = self._cold.read(released, symbols, start, end)
        return _marked(merge_tiers(warm, cold), _tier(warm, cold))

    @contextmanager
    def _snapshot(self) -> Iterator[psycopg.Connection[Row]]:
        """Lend the reading connection; all it answers is of one instant.

        Between two statements a month could leave PostgreSQL, or come back.
        """
        with self._reader.lend() as connection:
            if self._cold is None:
                yield connection
                return
            with connection.transaction():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                yield connection

    def bar_times(
        self, timeframe: Timeframe, start: datetime, end: datetime, instrument_ids: Sequence[int]
    ) -> dict[int, npt.NDArray[np.int64]]:
        """Return instrument_id -> starts of its bars with `start <= ts < end`, keys only.

        Returns:
            Microseconds since 1970, UTC, ascending; instruments without bars are absent.

        Raises:
            WarehouseError: PostgreSQL refused.
            ArchiveError: a file of a released month is missing or cannot be read.
        """
        ids = list(instrument_ids)
        with self._snapshot() as connection:
            found = stored_times(connection, timeframe, start, end, ids)
            if self._cold is None or not released_files(connection, timeframe, ids, start, end):
                return found
        return times_of(self.read_bars(timeframe, start, end, instrument_ids=ids))

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[Row]]:
        """Lend the kept writing connection within a transaction."""
        with self._writer.lend() as connection, connection.transaction():
            yield connection

    def symbols_with_bars(
        self, market: str, timeframe: Timeframe, start: datetime, end: datetime
    ) -> list[str]:
        """Return the symbols of a market that have bars with `start <= ts < end`."""
        with self.connect() as connection:
            rows = connection.execute(
                "SELECT s.symbol FROM public.symbols AS s WHERE s.market = %s AND (EXISTS ("
                "SELECT 1 FROM market.bars AS b WHERE b.instrument_id = s.instrument_id "
                "AND b.timeframe = %s AND b.ts >= %s AND b.ts < %s) OR EXISTS ("
                "SELECT 1 FROM market.released_bars AS r WHERE r.instrument_id = s.instrument_id "
                "AND r.timeframe = %s AND r.last_ts >= %s AND r.first_ts < %s)) ORDER BY 1",
                [market, *[timeframe, start, end] * 2],
            ).fetchall()
        return [row["symbol"] for row in rows]

    def sessions_with_bars(
        self, timeframe: Timeframe, instrument_ids: Sequence[int]
    ) -> dict[int, tuple[date, date]]:
        """Return instrument_id -> first and last session with bars, released ones included."""
        with self._reader.lend() as connection:
            rows = connection.execute(
                "SELECT instrument_id, min(first) AS first, max(last) AS last FROM ("
                "SELECT instrument_id, min(session_date) AS first, max(session_date) AS last "
                "FROM market.bars WHERE timeframe = %s AND instrument_id = ANY(%s) GROUP BY 1 "
                "UNION ALL SELECT instrument_id, first_session, last_session "
                "FROM market.released_bars WHERE timeframe = %s AND instrument_id = ANY(%s)"
                ") AS parts GROUP BY 1",
                [timeframe, list(instrument_ids)] * 2,
            ).fetchall()
        return {row["instrument_id"]: (row["first"], row["last"]) for row in rows}

    def released_months(
        self, market: str, timeframe: Timeframe, start: datetime, end: datetime
    ) -> list[date]:
        """Return the months of `start <= ts < end` whose bars are in the archive only."""
        with self._reader.lend() as connection:
            rows = connection.execute(
                "SELECT month FROM market.archive_files WHERE state = 'released' "
                "AND market = %s AND timeframe = %s AND month = ANY(%s) ORDER BY 1",
                [market, timeframe, months_within(start, end)],
            ).fetchall()
        return [row["month"] for row in rows]

    def sources_between(
        self, timeframe: Timeframe, instrument_ids: Sequence[int], start: datetime, end: datetime
    ) -> list[str]:
        """Return the sources of the bars of some instruments with `start <= ts < end`."""
        with self._reader.lend() as connection:
            rows = connection.execute(
                "SELECT DISTINCT source FROM market.bars WHERE timeframe = %s "
                "AND instrument_id = ANY(%s) AND ts >= %s AND ts < %s",
                [timeframe, list(instrument_ids), start, end],
            ).fetchall()
        return [row["source"] for row in rows]

    def read_bars_around(
        self,
        timeframe: Timeframe,
        instrument_ids: Sequence[int],
        at: datetime,
        count: int,
        *,
        before: bool,
    ) -> pd.DataFrame:
        """Return per instrument the last `count` bars before `at`, or the first from `at` on.

        Returns:
            Columns `READ_BAR_COLUMNS`, ordered by instrument_id and ts; `attrs` as in `read_bars`.

        Raises:
            WarehouseError: PostgreSQL refused.
            ArchiveError: a file of a released month is missing or cannot be read.
        """
        return _again_if_moved(
            lambda: self._read_bars_around(timeframe, instrument_ids, at, count, before=before)
        )

    def _read_bars_around(
        self,
        timeframe: Timeframe,
        instrument_ids: Sequence[int],
        at: datetime,
        count: int,
        *,
        before: bool,
    ) -> pd.DataFrame:
        released: list[ReleasedFile] = []
        bounds = (None, at) if before else (at, None)
        with self._snapshot() as connection:
            symbols = symbols_of(connection, None, instrument_ids)
            warm = _stored_around(connection, timeframe, symbols, at, count, before=before)
            if self._cold is not None:
                released = released_files(connection, timeframe, list(symbols), *bounds)
        if self._cold is None or not released:
            return _marked(warm, "warm")
        frame = self._cold.around(warm, released, symbols, at, count, before=before)
        return _marked(frame, "warm" if frame is warm else "cold" if warm.empty else "warm+cold")

    def obv_before(self, timeframe: Timeframe, first_ts: "pd.Series[pd.Timestamp]") -> pd.DataFrame:
        """Return the on-balance volume of all bars before a bar, per instrument.

        Args:
            timeframe: timeframe of the bars.
            first_ts: bar start, indexed by instrument_id.

        Returns:
            Columns `obv` and `previous_close`, indexed by instrument_id; instruments without an
            earlier bar are absent. A close equal to the one before counts as a rise, as in `ta`.
        """
        starts = {int(str(key)): ts.to_pydatetime() for key, ts in first_ts.items()}
        released = self._released_before(timeframe, starts)
        stored = {key: at for key, at in starts.items() if key not in released}
        with self._reader.lend() as connection:
            rows = connection.execute(
                _STORED_OBV, [list(stored), list(stored.values()), timeframe]
            ).fetchall()
        found = [(row["instrument_id"], row["obv"], row["previous_close"]) for row in rows]
        for instrument_id in released:
            both = self._obv_of_all_tiers(timeframe, instrument_id, starts[instrument_id])
            found += [] if both is None else [(instrument_id, *both)]
        frame = pd.DataFrame(found, columns=["instrument_id", "obv", "previous_close"])
        return frame.set_index("instrument_id").astype("float64")

    def _released_before(self, timeframe: Timeframe, starts: Mapping[int, datetime]) -> set[int]:
        """Return the instruments some of whose bars up to these times may be in the archive."""
        if self._cold is None or not starts:
            return set()
        with self._reader.lend() as connection:
            files = released_files(connection, timeframe, list(starts), end=max(starts.values()))
        return {each for file in files for each in file.instrument_ids if each in starts}

    def _obv_of_all_tiers(
        self, timeframe: Timeframe, instrument_id: int, at: datetime
    ) -> tuple[float, float] | None:
        def read(start: datetime, end: datetime) -> pd.DataFrame:
            return self.read_bars(timeframe, start, end, instrument_ids=[instrument_id])

        with self.connect() as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return obv_before(connection, timeframe, instrument_id, at, read)

    @contextmanager
    def snapshot(self) -> Iterator[Callable[[str], pa.Table]]:
        """Lend a function that answers queries without parameters, all of one instant, read-only.

        Raises:
            WarehouseError: PostgreSQL refused or cannot be reached.
        """
        with self._arrow() as connection, connection.cursor() as cursor:

            def query(sql: str) -> pa.Table:
                cursor.execute(sql)
                return cursor.fetch_arrow_table()

            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                yield query
            finally:
                connection.rollback()

    def shift_obv(
        self, timeframe: Timeframe, instrument_id: int, start: datetime, shift: float
    ) -> int:
        """Add `shift` to the on-balance volume of every row from `start` on; returns the rows."""
        with self.connect() as connection:
            return connection.execute(
                "UPDATE market.indicators SET obv = obv + %s, computed_at = now() "
                "WHERE instrument_id = %s AND timeframe = %s AND ts >= %s",
                [shift, instrument_id, timeframe, start],
            ).rowcount

    def ensure_partitions(self, table: str, ts: "pd.Series[pd.Timestamp]") -> None:
        """Make the monthly partitions of `market.<table>` that these times need."""
        naive = ts.dt.tz_convert("UTC").dt.tz_localize(None)
        numbers = sorted({int(n) for n in (naive.dt.year * 12 + naive.dt.month - 1).unique()})
        spec = BARS if table == BARS.name else INDICATORS
        self._make_partitions(spec, [month_of(spec, number, None) for number in numbers])

    def _make_partitions(self, table: TableSpec, months: Sequence[Month]) -> None:
        absent = [month for month in months if month.partition not in self._known_partitions]
        if not absent:
            return
        with self.connect() as connection:
            # CREATE ... IF NOT EXISTS still races with itself: writers of a month take turns.
            take_turns(connection, table, absent)
            for month in absent:
                connection.execute(
                    f"CREATE TABLE IF NOT EXISTS market.{month.partition} "
                    f"PARTITION OF market.{table.name} {month.bounds}"
                )
        self._known_partitions.update(month.partition for month in absent)

    def _write(self, table: TableSpec, frame: pd.DataFrame) -> WriteResult:
        if frame.empty:
            return WriteResult()
        months = months_of(table, frame)
        self._make_partitions(table, [month for month in months if len(month.rows) < LOAD_ROWS])
        with self._writer.lend() as connection:
            make_temporary(self._writer, connection, table)
            with connection.transaction():
                take_turns(connection, table, months)
                fresh = self._without_partition(connection, months)
                for month in fresh:
                    load_month(connection, table, month)
                there = [month for month in months if month not in fresh]
                result = WriteResult(inserted=sum(len(month.rows) for month in fresh))
                if there:
                    result += add_rows(connection, table, there)
                # Last, as it makes others wait who have a partition to add.
                for month in fresh:
                    connection.execute(
                        f"ALTER TABLE market.{table.name} "
                        f"ATTACH PARTITION market.{month.partition} {month.bounds}"
                    )
        self._known_partitions.update(month.partition for month in months)
        return result

    def _without_partition(
        self, connection: psycopg.Connection[Row], months: Sequence[Month]
    ) -> list[Month]:
        unknown = [month for month in months if month.partition not in self._known_partitions]
        if not unknown:
            return []
        rows = connection.execute(
            "SELECT name FROM unnest(%s::text[]) AS name "
            "WHERE to_regclass('market.' || name) IS NULL",
            [[month.partition for month in unknown]],
        ).fetchall()
        absent = {row["name"] for row in rows}
        return [month for month in unknown if month.partition in absent]


def _stored_around(
    connection: psycopg.Connection[Row],
    timeframe: Timeframe,
    symbols: dict[int, str],
    at: datetime,
    count: int,
    *,
    before: bool,
) -> pd.DataFrame:
    if before:
        # Planning looks at every partition before `at`; mostly the last few are enough.
        span = 8 * count * timedelta(minutes=TIMEFRAME_MINUTES[timeframe])
        near = at - max(timedelta(days=10), span)
        blobs = packed_bars(connection, *bars_around(timeframe, symbols, count, near, at))
        frame = bar_frame(blobs, symbols)
        if len(frame) == count * len(symbols):
            return frame
    bounds = (None, at) if before else (at, None)
    blobs = packed_bars(connection, *bars_around(timeframe, symbols, count, *bounds))
    return bar_frame(blobs, symbols)


def _again_if_moved(read: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Read once more where a file was replaced by its next version in between."""
    try:
        return read()
    except FileMissingError:
        return read()


def _tier(warm: pd.DataFrame, cold: pd.DataFrame) -> str:
    if cold.empty:
        return "warm"
    return "cold" if warm.empty else "warm+cold"


def _marked(frame: pd.DataFrame, tier: str) -> pd.DataFrame:
    frame.attrs["tier"] = tier
    return frame
