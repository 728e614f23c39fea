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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import numpy as np
import numpy.typing as npt
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg.rows import dict_row

from scizor_core.markets import TIMEFRAME_MINUTES, Timeframe
from scizor_core.schemas.bars import BAR_COLUMNS, validate_bars
from scizor_core.schemas.indicators import INDICATOR_ROW_COLUMNS, validate_indicators
from scizor_resources.errors import WarehouseError
from scizor_resources.stores.copy_format import (
    PACKED_BAR,
    PACKED_BAR_BYTES,
    copy_chunks,
    first_ts,
    unpack_bars,
)
from scizor_resources.stores.tables import BARS, INDICATORS, TableSpec, merge_statements

READ_BAR_COLUMNS: tuple[str, ...] = (
    "instrument_id",
    "symbol",
    *(column for column in BAR_COLUMNS if column not in ("instrument_id", "timeframe")),
    "ingested_at",
)

#: From so many rows on, a month without a partition is loaded before it becomes one.
LOAD_ROWS = 10_000
#: What a merge may use to hash the staged rows, and a read to gather bars; with the 4 MB that
#: servers have by default both go to disk.
_WORK_MEMORY = "128MB"

_Row = dict[str, Any]


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


class _KeptConnection:
    """One psycopg connection that is kept for the next caller; one caller at a time.

    Connecting costs 5 to 10 ms until the server's caches are warm, a read of a few rows 1 ms.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[_Row] | None = None
        self._owner = 0
        self._lock = threading.RLock()
        self._of_parents: list[psycopg.Connection[_Row]] = []
        #: Names of the temporary tables that the connection has.
        self.temporary: set[str] = set()

    def __del__(self) -> None:
        # Not every user of a warehouse closes it, and psycopg warns of connections left open.
        if getattr(self, "_connection", None) is not None:
            self.close()

    @contextmanager
    def lend(self) -> Iterator[psycopg.Connection[_Row]]:
        """Lend the connection (autocommit); one that has seen an error is not used again."""
        with self._lock, _errors():
            connection = self._alive()
            try:
                yield connection
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Close the connection; the next caller gets a new one."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is None:
                return
            if self._owner == os.getpid():
                connection.close()
            else:
                # The socket is the parent's too: to close it here would end the parent's.
                self._of_parents.append(connection)

    def _alive(self) -> psycopg.Connection[_Row]:
        if self._owner != os.getpid():
            self.close()
        if self._connection is not None:
            try:
                self._connection.execute("")
            except psycopg.OperationalError:  # the server was restarted meanwhile
                self.close()
        if self._connection is None:
            # Plans are made for the values asked: a generic one cannot leave partitions out.
            self._connection = psycopg.connect(
                self._url, autocommit=True, prepare_threshold=None, row_factory=dict_row
            )
            self._owner = os.getpid()
            self._connection.execute(f"SET work_mem = '{_WORK_MEMORY}'")
            # Workers would hand packed bars on at the price of packing them: no gain on two cores.
            self._connection.execute("SET max_parallel_workers_per_gather = 0")
            self.temporary = set()
        return self._connection


@dataclass(frozen=True)
class _Month:
    """The rows of one calendar month (UTC), sorted by key.

    Attributes:
        number: months since year 0.
        partition: name of the partition they belong to.
        rows: the rows.
    """

    number: int
    partition: str
    rows: pa.Table

    @property
    def bounds(self) -> str:
        """The partition's bounds in SQL."""
        first, following = _month_start(self.number), _month_start(self.number + 1)
        return f"FOR VALUES FROM ('{first} 00:00+00') TO ('{following} 00:00+00')"


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
        self._reader = _KeptConnection(url)
        self._writer = _KeptConnection(url)

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
                with _errors():
                    self._connection = adbc.connect(self._url)
                self._owner = os.getpid()
            try:
                with _errors():
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
            symbols = _symbols(connection, market, instrument_ids)
            condition = "b.timeframe = %s AND b.ts >= %s AND b.ts < %s"
            parameters: list[Any] = [timeframe, start, end]
            if market is not None or instrument_ids is not None:
                condition += " AND b.instrument_id = ANY(%s)"
                parameters.append(list(symbols))
            rows = f"SELECT b.*, b.tableoid AS part FROM market.bars AS b WHERE {condition}"  # noqa: S608  # conditions are constants, values are bound
            blobs = _packed(connection, rows, parameters)
        return _bar_frame(blobs, symbols)

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
            symbols = _symbols(connection, None, instrument_ids)
            if before:
                # Planning looks at every partition before `at`; mostly the last few are enough.
                span = 8 * count * timedelta(minutes=TIMEFRAME_MINUTES[timeframe])
                near = at - max(timedelta(days=10), span)
                blobs = _packed(connection, *_around(timeframe, symbols, count, near, at))
                frame = _bar_frame(blobs, symbols)
                if len(frame) == count * len(symbols):
                    return frame
            bounds = (None, at) if before else (at, None)
            blobs = _packed(connection, *_around(timeframe, symbols, count, *bounds))
        return _bar_frame(blobs, symbols)

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
        self._make_partitions(spec, [_month(spec, number, None) for number in numbers])

    def _make_partitions(self, table: TableSpec, months: Sequence[_Month]) -> None:
        absent = [month for month in months if month.partition not in self._known_partitions]
        if not absent:
            return
        with self.connect() as connection:
            # CREATE ... IF NOT EXISTS still races with itself: writers of a month take turns.
            _take_turns(connection, table, absent)
            for month in absent:
                connection.execute(
                    f"CREATE TABLE IF NOT EXISTS market.{month.partition} "
                    f"PARTITION OF market.{table.name} {month.bounds}"
                )
        self._known_partitions.update(month.partition for month in absent)

    def _write(self, table: TableSpec, frame: pd.DataFrame) -> WriteResult:
        if frame.empty:
            return WriteResult()
        months = _months(table, frame)
        self._make_partitions(table, [month for month in months if len(month.rows) < LOAD_ROWS])
        with self._writer.lend() as connection:
            _make_temporary(self._writer, connection, table)
            with connection.transaction():
                _take_turns(connection, table, months)
                fresh = self._without_partition(connection, months)
                for month in fresh:
                    _load(connection, table, month)
                there = [month for month in months if month not in fresh]
                result = WriteResult(inserted=sum(len(month.rows) for month in fresh))
                if there:
                    result += _add(connection, table, there)
                # Last, as it makes others wait who have a partition to add.
                for month in fresh:
                    connection.execute(
                        f"ALTER TABLE market.{table.name} "
                        f"ATTACH PARTITION market.{month.partition} {month.bounds}"
                    )
        self._known_partitions.update(month.partition for month in months)
        return result

    def _without_partition(
        self, connection: psycopg.Connection[_Row], months: Sequence[_Month]
    ) -> list[_Month]:
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


def _month_start(number: int) -> date:
    return date(number // 12, number % 12 + 1, 1)


def _month(table: TableSpec, number: int, rows: pa.Table) -> _Month:
    first = _month_start(number)
    return _Month(number, f"{table.name}_y{first.year:04d}m{first.month:02d}", rows)


def _months(table: TableSpec, frame: pd.DataFrame) -> list[_Month]:
    """Return the rows month by month, each sorted by key, in the order of the months."""
    ts = frame["ts"].to_numpy(dtype="datetime64[us]")
    numbers = ts.astype("datetime64[M]").astype(np.int32) + 1970 * 12
    ids = frame["instrument_id"].to_numpy()
    timeframes, _ = pd.factorize(frame["timeframe"], sort=True)
    arrow = to_arrow(frame, table)
    several = bool((numbers != numbers[0]).any())
    if several or not _is_sorted(ids, timeframes, ts):
        order = np.lexsort((ts, timeframes, ids, numbers))
        arrow, numbers = arrow.take(pa.array(order)), numbers[order]
    starts = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 1))
    return [
        _month(table, int(numbers[start]), arrow.slice(start, end - start))
        for start, end in zip(starts, [*starts[1:], len(arrow)], strict=True)
    ]


def _is_sorted(ids: npt.NDArray[Any], timeframes: npt.NDArray[Any], ts: npt.NDArray[Any]) -> bool:
    earlier = ts[:-1] < ts[1:]
    same = timeframes[:-1] == timeframes[1:]
    earlier = (timeframes[:-1] < timeframes[1:]) | (same & earlier)
    return bool(((ids[:-1] < ids[1:]) | ((ids[:-1] == ids[1:]) & earlier)).all())


def _take_turns(
    connection: psycopg.Connection[_Row], table: TableSpec, months: Sequence[_Month]
) -> None:
    """Wait until no other transaction writes to these months of the table, and keep it so."""
    connection.execute(
        "SELECT pg_advisory_xact_lock(%s, month) FROM unnest(%s::int[]) AS month",
        [table.lock, sorted(month.number for month in months)],
    )


def _make_temporary(
    kept: _KeptConnection, connection: psycopg.Connection[_Row], table: TableSpec
) -> None:
    """Make the temporary tables of a merge, which stay as long as the connection."""
    if table.name not in kept.temporary:
        for statement in merge_statements(table).create:
            connection.execute(statement)
        kept.temporary.add(table.name)


def _copy(connection: psycopg.Connection[_Row], name: str, rows: pa.Table) -> None:
    columns = ", ".join(rows.column_names)
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY {name} ({columns}) FROM STDIN (FORMAT binary)") as copy,
    ):
        for chunk in copy_chunks(rows):
            copy.write(chunk)


def _load(connection: psycopg.Connection[_Row], table: TableSpec, month: _Month) -> None:
    """Load a month into a new table, without an index and in nobody's way.

    Half the server's work of a COPY into the partition. Where nothing replicates
    (`wal_level = minimal`) the rows do not go through the log either, but to disk at commit.
    """
    name = f"market.{month.partition}"
    connection.execute(f"CREATE TABLE {name} (LIKE market.{table.name} INCLUDING DEFAULTS)")
    _copy(connection, name, month.rows)


def _add(
    connection: psycopg.Connection[_Row], table: TableSpec, months: Sequence[_Month]
) -> WriteResult:
    """Add rows to partitions that exist."""
    rows = pa.concat_tables([month.rows for month in months])
    limits = _limits(rows)
    # History is mostly new, and a COPY is three times as fast as a merge.
    taken = connection.execute(
        f"SELECT EXISTS (SELECT 1 FROM market.{table.name} WHERE ts BETWEEN %s AND %s "  # noqa: S608  # names are constants, values are bound
        "AND timeframe = ANY(%s) AND instrument_id = ANY(%s)) AS taken",
        limits,
    ).fetchone()
    if taken is not None and taken["taken"]:
        return _merge(connection, table, rows, limits)
    if len(rows) >= LOAD_ROWS * len(months):
        for month in months:
            _copy(connection, f"market.{month.partition}", month.rows)
    else:
        _copy(connection, f"market.{table.name}", rows)
    return WriteResult(inserted=len(rows))


def _limits(rows: pa.Table) -> list[Any]:
    """Return the first and last ts, the timeframes and the instruments of some rows."""
    times = pc.min_max(rows["ts"]).as_py()
    return [
        times["min"],
        times["max"],
        rows["timeframe"].unique().to_pylist(),
        rows["instrument_id"].unique().to_pylist(),
    ]


def _merge(
    connection: psycopg.Connection[_Row], table: TableSpec, rows: pa.Table, limits: list[Any]
) -> WriteResult:
    statements = merge_statements(table)
    _copy(connection, f"pg_temp.{table.staging}", rows)
    within = limits[:2]
    if len(rows) >= LOAD_ROWS:
        # Without statistics, as after a load, it may be chosen, and sorts both sides: four times
        # as slow as a hash.
        connection.execute("SET LOCAL enable_mergejoin = off")
        pending = connection.execute(statements.classify, limits).rowcount
    else:
        pending = connection.execute(statements.classify_by_key, within).rowcount
    if not pending:
        return WriteResult(unchanged=len(rows))
    counts = connection.execute(statements.count).fetchone() or {}
    if counts["changed"]:
        if counts["changed"] * 10 < len(rows):
            # The planner knows nothing of the pending rows; few are found quicker by their key.
            connection.execute("SET LOCAL enable_hashjoin = off")
            connection.execute("SET LOCAL enable_mergejoin = off")
        if statements.keep:
            connection.execute(statements.keep, within)
        connection.execute(statements.change, within)
    if counts["inserted"]:
        connection.execute(statements.insert)
    return WriteResult(unchanged=len(rows) - pending, **counts)


def to_arrow(frame: pd.DataFrame, table: TableSpec) -> pa.Table:
    """Return `frame` as Arrow in the column types of `table`; NaN becomes NULL."""
    return pa.Table.from_pandas(
        frame[[field.name for field in table.arrow_schema]],
        schema=table.arrow_schema,
        preserve_index=False,
    )


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """Return an Arrow answer as a frame: UTC microseconds, `str` text, dates as datetime64."""
    frame: pd.DataFrame = table.to_pandas(date_as_object=False, timestamp_as_object=False)
    return frame


def _symbols(
    connection: psycopg.Connection[_Row],
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


def _around(
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


def _packed(
    connection: psycopg.Connection[_Row], rows: str, parameters: Sequence[Any]
) -> list[_Row]:
    """Return the bars that query `rows` finds as blobs per instrument, source and partition."""
    with connection.cursor(binary=True) as cursor:
        return cursor.execute(
            f"SELECT b.instrument_id, b.source, string_agg({PACKED_BAR}, '') AS bars "  # noqa: S608  # `rows` holds constants and bound values
            f"FROM ({rows}) AS b GROUP BY b.instrument_id, b.source, b.part",
            parameters,
        ).fetchall()


def _bar_frame(blobs: list[_Row], symbols: Mapping[int, str]) -> pd.DataFrame:
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


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except (adbc.Error, psycopg.Error) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WarehouseError(f"PostgreSQL refused or did not answer: {first}.") from error
