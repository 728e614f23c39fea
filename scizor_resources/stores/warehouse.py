"""PostgreSQL: the one place that writes and reads bars, indicators and their quality.

Frames travel as Arrow through ADBC (binary COPY in, binary results out). A write is one
transaction: new rows are inserted, rows that differ are updated and leave their old values in
`market.bar_revisions`, equal rows are not touched, so that a rerun changes nothing.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import pandas as pd
import psycopg
import pyarrow as pa
from psycopg.rows import dict_row

from scizor_core.markets import Timeframe
from scizor_core.schemas.bars import BAR_COLUMNS, validate_bars
from scizor_core.schemas.indicators import INDICATOR_ROW_COLUMNS, validate_indicators
from scizor_resources.errors import WarehouseError
from scizor_resources.stores.tables import BARS, INDICATORS, TableSpec, merge_statements

READ_BAR_COLUMNS: tuple[str, ...] = (
    "instrument_id",
    "symbol",
    *(column for column in BAR_COLUMNS if column not in ("instrument_id", "timeframe")),
    "ingested_at",
)


@dataclass(frozen=True)
class WriteResult:
    """What a write did, in rows.

    Attributes:
        inserted: rows that were new.
        changed: rows whose values differed; their old values are in the revisions.
        unchanged: rows that were there already, value for value.
        protected: simulated rows that met a real one and were therefore not written.
    """

    inserted: int = 0
    changed: int = 0
    unchanged: int = 0
    protected: int = 0

    def __add__(self, other: "WriteResult") -> "WriteResult":
        return WriteResult(
            self.inserted + other.inserted,
            self.changed + other.changed,
            self.unchanged + other.unchanged,
            self.protected + other.protected,
        )


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

    def close(self) -> None:
        """Close the connection that Arrow results come through; it is opened anew when needed."""
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
                with _errors():
                    self._connection = adbc.connect(self._url)
                self._owner = os.getpid()
            try:
                with _errors():
                    yield self._connection
            except BaseException:
                self.close()
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
        conditions = ["b.timeframe = $1", "b.ts >= $2", "b.ts < $3"]
        parameters: list[Any] = [timeframe, start, end]
        if market is not None:
            parameters.append(market)
            conditions.append(f"s.market = ${len(parameters)}")
        if instrument_ids is not None:
            parameters.append(_int_array(instrument_ids))
            conditions.append(f"b.instrument_id = ANY(${len(parameters)}::text::int[])")
        frame = self.read(
            f"SELECT {_read_columns('s')} FROM market.bars AS b "  # noqa: S608  # column names are constants, values are bound
            "JOIN public.symbols AS s USING (instrument_id) "
            f"WHERE {' AND '.join(conditions)} ORDER BY b.instrument_id, b.ts",
            parameters,
        )
        return _bar_types(frame)

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
        side, order = ("<", "DESC") if before else (">=", "ASC")
        frame = self.read(
            f"SELECT {_read_columns('s')} FROM public.symbols AS s CROSS JOIN LATERAL ("  # noqa: S608  # operators and names are constants, values are bound
            "SELECT * FROM market.bars AS x WHERE x.instrument_id = s.instrument_id "
            f"AND x.timeframe = $1 AND x.ts {side} $2 ORDER BY x.ts {order} LIMIT $3) AS b "
            "WHERE s.instrument_id = ANY($4::text::int[]) ORDER BY b.instrument_id, b.ts",
            [timeframe, at, count, _int_array(instrument_ids)],
        )
        return _bar_types(frame)

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

    def next_indicators(
        self, timeframe: Timeframe, after: "pd.Series[pd.Timestamp]"
    ) -> list[dict[str, Any]]:
        """Return per instrument the first indicator row after a bar start, where there is one.

        Args:
            timeframe: timeframe of the rows.
            after: bar start, indexed by instrument_id.

        Returns:
            instrument_id, ts and obv of the row, close and volume of its bar.
        """
        with self.connect() as connection:
            return connection.execute(
                "SELECT i.instrument_id, i.ts, i.obv, b.close, b.volume "
                "FROM unnest(%s::int[], %s::timestamptz[]) AS a (instrument_id, ts) "
                "CROSS JOIN LATERAL (SELECT * FROM market.indicators AS x "
                "WHERE x.instrument_id = a.instrument_id AND x.timeframe = %s AND x.ts > a.ts "
                "ORDER BY x.ts LIMIT 1) AS i JOIN market.bars AS b "
                "ON b.instrument_id = i.instrument_id AND b.timeframe = %s AND b.ts = i.ts",
                [
                    [int(str(each)) for each in after.index],
                    [ts.to_pydatetime() for ts in after],
                    timeframe,
                    timeframe,
                ],
            ).fetchall()

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

    def last_stale_indicator(
        self,
        timeframe: Timeframe,
        instrument_ids: Sequence[int],
        at: datetime,
        count: int,
        newest: datetime,
    ) -> datetime | None:
        """Return the last of the next `count` rows from `at` on that are older than the bars.

        Args:
            timeframe: timeframe of the rows.
            instrument_ids: instruments to look at.
            at: first row start.
            count: how many rows per instrument bars before `at` can still move.
            newest: arrival of the newest bar before `at`; rows computed earlier are stale.

        Returns:
            Start of the last stale row, None where none is stale.
        """
        with self.connect() as connection:
            row = connection.execute(
                "SELECT max(i.ts) AS ts FROM unnest(%s::int[]) AS s (instrument_id) "
                "CROSS JOIN LATERAL (SELECT ts, computed_at FROM market.indicators AS x "
                "WHERE x.instrument_id = s.instrument_id AND x.timeframe = %s AND x.ts >= %s "
                "ORDER BY x.ts LIMIT %s) AS i WHERE i.computed_at < %s",
                [list(instrument_ids), timeframe, at, count, newest],
            ).fetchone()
        return None if row is None else row["ts"]

    def ensure_partitions(self, table: str, ts: "pd.Series[pd.Timestamp]") -> None:
        """Make the monthly partitions of `market.<table>` that these times need."""
        naive = ts.dt.tz_convert("UTC").dt.tz_localize(None)
        months = sorted(naive.dt.to_period("M").unique())
        wanted = {f"{table}_y{month.year:04d}m{month.month:02d}": month for month in months}
        absent = [name for name in wanted if name not in self._known_partitions]
        if not absent:
            return
        with self.connect() as connection:
            # CREATE ... IF NOT EXISTS still races with itself; one at a time.
            connection.execute("SELECT pg_advisory_xact_lock(7249002)")
            for name in absent:
                month = wanted[name]
                following = month + 1
                connection.execute(
                    f"CREATE TABLE IF NOT EXISTS market.{name} PARTITION OF market.{table} "
                    f"FOR VALUES FROM ('{month.year:04d}-{month.month:02d}-01 00:00+00') "
                    f"TO ('{following.year:04d}-{following.month:02d}-01 00:00+00')"
                )
        self._known_partitions.update(absent)

    def _write(self, table: TableSpec, frame: pd.DataFrame) -> WriteResult:
        if frame.empty:
            return WriteResult()
        self.ensure_partitions(table.name, frame["ts"])
        arrow = to_arrow(frame.sort_values(list(table.key), ignore_index=True), table)
        with self._arrow() as connection, connection.cursor() as cursor:
            if _range_is_free(cursor, table, frame):
                try:
                    cursor.adbc_ingest(table.name, arrow, mode="append", db_schema_name="market")
                    connection.commit()
                except adbc.Error:
                    # Another writer came first: what it wrote is merged with, not copied over.
                    connection.rollback()
                else:
                    return WriteResult(inserted=len(arrow))
            counts = _merge(cursor, table, arrow)
            connection.commit()
        return counts


def _range_is_free(cursor: Any, table: TableSpec, frame: pd.DataFrame) -> bool:
    """Say whether no row of these instruments lies in the time range of `frame`.

    A plain COPY into the table is about four times as fast as a merge, and history is mostly new.
    """
    cursor.execute(
        f"SELECT EXISTS (SELECT 1 FROM market.{table.name} WHERE ts BETWEEN $1 AND $2 "  # noqa: S608  # names are constants, values are bound
        "AND timeframe = ANY($3::text::text[]) AND instrument_id = ANY($4::text::int[]))",
        (
            frame["ts"].min().to_pydatetime(),
            frame["ts"].max().to_pydatetime(),
            "{" + ",".join(frame["timeframe"].unique()) + "}",
            _int_array(frame["instrument_id"].unique()),
        ),
    )
    return not cursor.fetch_arrow_table().column(0)[0].as_py()


def _merge(cursor: Any, table: TableSpec, arrow: pa.Table) -> WriteResult:
    """Write `arrow` into `table` inside the caller's transaction."""
    statements = merge_statements(table)
    cursor.execute(statements.create_staging)
    cursor.adbc_ingest(table.staging, arrow, mode="append", temporary=True)
    counts = []
    for statement in statements.merge:
        cursor.execute(statement)
        rows = cursor.fetch_arrow_table()
        counts.append(int(rows.column(0)[0].as_py()))
    cursor.execute(f"DROP TABLE pg_temp.{table.staging}")
    changed, protected, written = counts
    inserted = written - changed
    return WriteResult(inserted, changed, len(arrow) - written - protected, protected)


def to_arrow(frame: pd.DataFrame, table: TableSpec) -> pa.Table:
    """Return `frame` as Arrow in the column types of `table`; NaN becomes NULL."""
    return pa.Table.from_pandas(
        frame[[field.name for field in table.arrow_schema]],
        schema=table.arrow_schema,
        preserve_index=False,
    )


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """Return an Arrow answer as a frame: UTC microseconds, `str` text, dates as datetime64."""
    return table.to_pandas(date_as_object=False, timestamp_as_object=False)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except adbc.Error as error:
        first = str(error).strip().splitlines()[0]
        raise WarehouseError(f"PostgreSQL refused or did not answer: {first}.") from error


def _int_array(values: Sequence[int]) -> str:
    """Return integers as the text of a PostgreSQL array; ADBC 1.13 binds no arrays."""
    return "{" + ",".join(str(int(value)) for value in values) + "}"


def _read_columns(symbols: str) -> str:
    return ", ".join(
        f"{symbols if column == 'symbol' else 'b'}.{column}" for column in READ_BAR_COLUMNS
    )


def _bar_types(frame: pd.DataFrame) -> pd.DataFrame:
    frame["session_date"] = pd.to_datetime(frame["session_date"]).astype("datetime64[us]")
    frame["trade_count"] = frame["trade_count"].astype("Float64").astype("Int64")
    return frame
