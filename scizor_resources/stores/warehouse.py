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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import pandas as pd
import psycopg
from psycopg.rows import dict_row

from scizor_core.markets import TIMEFRAME_MINUTES, Timeframe
from scizor_core.schemas.bars import BAR_COLUMNS, validate_bars
from scizor_core.schemas.indicators import INDICATOR_ROW_COLUMNS, validate_indicators
from scizor_resources.errors import WarehouseError
from scizor_resources.stores.bar_frames import (
    bar_frame,
    bars_around,
    packed_bars,
    symbols_of,
    to_pandas,
)
from scizor_resources.stores.connection import KeptConnection, Row, database_errors
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
from scizor_resources.stores.tables import BARS, INDICATORS, TableSpec


class Warehouse:
    """Access to the platform's tables.

    Args:
        url: libpq connection URL of the database.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._known_partitions: set[str] = set()
        self._connection: adbc.Connection | None = None
        self._owner = 0
        self._lock = threading.RLock()
        self._reader = KeptConnection(url)
        self._writer = KeptConnection(url)

    def close(self) -> None:
        """Close the connections that are kept; they are opened anew when needed."""
        self._reader.close()
        self._writer.close()
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
        """Open a connection whose rows are dicts; commits at the end, rolls back on an error.

        Raises:
            WarehouseError: PostgreSQL cannot be reached.
        """
        try:
            connection = psycopg.connect(self._url, row_factory=dict_row)
        except psycopg.OperationalError as error:
            raise WarehouseError(
                f"PostgreSQL cannot be reached: {str(error).strip().splitlines()[0]}. Check that "
                "the server runs (`scizor status`) and SCIZOR_DATABASE_URL."
            ) from error
        with connection:
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
            Rows ordered by instrument_id and ts.
        """
        with self._reader.lend() as connection:
            symbols = symbols_of(connection, market, instrument_ids)
            condition = "b.timeframe = %s AND b.ts >= %s AND b.ts < %s"
            parameters: list[Any] = [timeframe, start, end]
            if market is not None or instrument_ids is not None:
                condition += " AND b.instrument_id = ANY(%s)"
                parameters.append(list(symbols))
            rows = f"SELECT b.*, b.tableoid AS part FROM market.bars AS b WHERE {condition}"  # noqa: S608  # conditions are constants, values are bound
            blobs = packed_bars(connection, rows, parameters)
        return bar_frame(blobs, symbols)

    def symbols_with_bars(
        self, market: str, timeframe: Timeframe, start: datetime, end: datetime
    ) -> list[str]:
        """Return the symbols of a market that have bars with `start <= ts < end`."""
        with self.connect() as connection:
            rows = connection.execute(
                "SELECT s.symbol FROM public.symbols AS s WHERE s.market = %s AND EXISTS ("
                "SELECT 1 FROM market.bars AS b WHERE b.instrument_id = s.instrument_id "
                "AND b.timeframe = %s AND b.ts >= %s AND b.ts < %s) ORDER BY 1",
                [market, timeframe, start, end],
            ).fetchall()
        return [row["symbol"] for row in rows]

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
            Columns `READ_BAR_COLUMNS`, ordered by instrument_id and ts.
        """
        with self._reader.lend() as connection:
            symbols = symbols_of(connection, None, instrument_ids)
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

    def obv_before(self, timeframe: Timeframe, first_ts: "pd.Series[pd.Timestamp]") -> pd.DataFrame:
        """Return the on-balance volume of all bars before a bar, per instrument.

        Args:
            timeframe: timeframe of the bars.
            first_ts: bar start, indexed by instrument_id.

        Returns:
            Columns `obv` and `previous_close`, indexed by instrument_id; instruments without an
            earlier bar are absent. A close equal to the one before counts as a rise, as in `ta`.
        """
        parts = [
            self.read(
                "SELECT $2::int AS instrument_id, sum(CASE WHEN close < previous THEN -volume "
                "ELSE volume END) AS obv, (array_agg(close ORDER BY ts DESC))[1] AS previous_close "
                "FROM (SELECT ts, close, volume, lag(close) OVER (ORDER BY ts) AS previous "
                "FROM market.bars WHERE timeframe = $1 AND instrument_id = $2::int AND ts < $3) "
                "AS b HAVING count(*) > 0",
                [timeframe, int(str(instrument_id)), ts.to_pydatetime()],
            )
            for instrument_id, ts in first_ts.items()
        ]
        return pd.concat(parts).set_index("instrument_id")

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
