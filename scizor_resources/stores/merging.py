"""How rows get into a table that is partitioned by month: loaded, copied or merged."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from scizor_resources.stores.connection import KeptConnection, Row
from scizor_resources.stores.copy_format import copy_chunks
from scizor_resources.stores.tables import TableSpec, merge_statements

#: From so many rows on, a month without a partition is loaded before it becomes one.
LOAD_ROWS = 10_000


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


@dataclass(frozen=True)
class Month:
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


def _month_start(number: int) -> date:
    return date(number // 12, number % 12 + 1, 1)


def month_of(table: TableSpec, number: int, rows: pa.Table) -> Month:
    """Return the rows of one month with the name of the partition they belong to."""
    first = _month_start(number)
    return Month(number, f"{table.name}_y{first.year:04d}m{first.month:02d}", rows)


def months_of(table: TableSpec, frame: pd.DataFrame) -> list[Month]:
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
        month_of(table, int(numbers[start]), arrow.slice(start, end - start))
        for start, end in zip(starts, [*starts[1:], len(arrow)], strict=True)
    ]


def _is_sorted(ids: npt.NDArray[Any], timeframes: npt.NDArray[Any], ts: npt.NDArray[Any]) -> bool:
    earlier = ts[:-1] < ts[1:]
    same = timeframes[:-1] == timeframes[1:]
    earlier = (timeframes[:-1] < timeframes[1:]) | (same & earlier)
    return bool(((ids[:-1] < ids[1:]) | ((ids[:-1] == ids[1:]) & earlier)).all())


def take_turns(
    connection: psycopg.Connection[Row], table: TableSpec, months: Sequence[Month]
) -> None:
    """Wait until no other transaction writes to these months of the table, and keep it so."""
    connection.execute(
        "SELECT pg_advisory_xact_lock(%s, month) FROM unnest(%s::int[]) AS month",
        [table.lock, sorted(month.number for month in months)],
    )


def make_temporary(
    kept: KeptConnection, connection: psycopg.Connection[Row], table: TableSpec
) -> None:
    """Make the temporary tables of a merge, which stay as long as the connection."""
    if table.name not in kept.temporary:
        for statement in merge_statements(table).create:
            connection.execute(statement)
        kept.temporary.add(table.name)


def copy_rows(connection: psycopg.Connection[Row], name: str, rows: pa.Table) -> None:
    """Put rows into a table that has none of them."""
    columns = ", ".join(rows.column_names)
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY {name} ({columns}) FROM STDIN (FORMAT binary)") as copy,
    ):
        for chunk in copy_chunks(rows):
            copy.write(chunk)


def load_month(connection: psycopg.Connection[Row], table: TableSpec, month: Month) -> None:
    """Load a month into a new table, without an index and in nobody's way.

    Half the server's work of a COPY into the partition. Where nothing replicates
    (`wal_level = minimal`) the rows do not go through the log either, but to disk at commit.
    """
    name = f"market.{month.partition}"
    connection.execute(f"CREATE TABLE {name} (LIKE market.{table.name} INCLUDING DEFAULTS)")
    copy_rows(connection, name, month.rows)


def add_rows(
    connection: psycopg.Connection[Row], table: TableSpec, months: Sequence[Month]
) -> WriteResult:
    """Add rows to partitions that exist."""
    rows = pa.concat_tables([month.rows for month in months])
    limits = limits_of(rows)
    # History is mostly new, and a COPY is three times as fast as a merge.
    taken = connection.execute(
        f"SELECT EXISTS (SELECT 1 FROM market.{table.name} WHERE ts BETWEEN %s AND %s "  # noqa: S608  # names are constants, values are bound
        "AND timeframe = ANY(%s) AND instrument_id = ANY(%s)) AS taken",
        limits,
    ).fetchone()
    if taken is not None and taken["taken"]:
        return merge_rows(connection, table, rows, limits)
    if len(rows) >= LOAD_ROWS * len(months):
        for month in months:
            copy_rows(connection, f"market.{month.partition}", month.rows)
    else:
        copy_rows(connection, f"market.{table.name}", rows)
    return WriteResult(inserted=len(rows))


def limits_of(rows: pa.Table) -> list[Any]:
    """Return the first and last ts, the timeframes and the instruments of some rows."""
    times = pc.min_max(rows["ts"]).as_py()
    return [
        times["min"],
        times["max"],
        rows["timeframe"].unique().to_pylist(),
        rows["instrument_id"].unique().to_pylist(),
    ]


def merge_rows(
    connection: psycopg.Connection[Row], table: TableSpec, rows: pa.Table, limits: list[Any]
) -> WriteResult:
    """Put rows into a table that may have some of them; `limits` as of `limits_of`."""
    statements = merge_statements(table)
    copy_rows(connection, f"pg_temp.{table.staging}", rows)
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
