"""A month of bars as PostgreSQL has it: digested, and read in the order of the archive's files."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg
import pyarrow as pa

from scizor_core.archive import month_bounds
from scizor_core.errors import InvalidInputError
from scizor_core.markets import MARKETS, TIMEFRAMES
from scizor_resources.stores.archive_files import SCHEMA, MonthKey
from scizor_resources.stores.connection import Row
from scizor_resources.stores.merging import Month, month_of
from scizor_resources.stores.tables import BARS

#: Rows that are taken from PostgreSQL at a time.
CHUNK_ROWS = 250_000
STORED_COLUMNS = [name for name in SCHEMA.names if name != "symbol"]
_ROW = f"ROW({', '.join(f'b.{name}' for name in STORED_COLUMNS)})"
#: Rows and an order-independent digest of all their columns.
DIGEST = (
    "count(*)::bigint AS rows, "
    f"coalesce(sum(hash_record_extended({_ROW}, 0)), 0)::text AS content, "
    "max(b.ingested_at) AS last_ingested_at"
)
_OF_MONTH = (
    "FROM market.bars AS b JOIN public.symbols AS s USING (instrument_id) "
    "WHERE s.market = '{market}' AND b.timeframe = '{timeframe}' "
    "AND b.ts >= '{start}' AND b.ts < '{end}'"
)


#: Answers a query without parameters (`Warehouse.snapshot`).
Query = Callable[[str], pa.Table]


@dataclass(frozen=True)
class StoredMonth:
    """What PostgreSQL has of a month."""

    rows: int
    content: str
    last_ingested_at: datetime | None


def of_month(key: MonthKey) -> str:
    """Return FROM and WHERE of a month; ADBC is quick only where nothing is bound."""
    start, end = month_bounds(key.month)
    if key.market not in MARKETS or key.timeframe not in TIMEFRAMES:
        raise InvalidInputError(f"There is no market and timeframe {key.market} {key.timeframe}.")
    return _OF_MONTH.format(market=key.market, timeframe=key.timeframe, start=start, end=end)


def stored_in(connection: psycopg.Connection[Row], key: MonthKey) -> StoredMonth:
    """Return what PostgreSQL has of a month, as a transaction sees it."""
    row = connection.execute(f"SELECT {DIGEST} {of_month(key)}").fetchone()  # noqa: S608  # names are constants
    return _stored(row or {})


def stored_by(query: Query, key: MonthKey) -> StoredMonth:
    """Return what PostgreSQL has of a month, as a snapshot sees it."""
    return _stored(query(f"SELECT {DIGEST} {of_month(key)}").to_pylist()[0])  # noqa: S608  # names are constants


def _stored(row: Row) -> StoredMonth:
    return StoredMonth(int(row["rows"]), str(row["content"]), row["last_ingested_at"])


def instrument_chunks(query: Query, key: MonthKey) -> list[tuple[int, int, int]]:
    """Return ranges of instruments and their rows, about `CHUNK_ROWS` each."""
    counts = query(
        f"SELECT b.instrument_id, count(*)::bigint AS rows {of_month(key)} GROUP BY 1 ORDER BY 1"  # noqa: S608  # names are constants
    ).to_pylist()
    chunks: list[tuple[int, int, int]] = []
    for row in counts:
        instrument_id, rows = int(row["instrument_id"]), int(row["rows"])
        if chunks and chunks[-1][2] + rows <= CHUNK_ROWS:
            chunks[-1] = (chunks[-1][0], instrument_id, chunks[-1][2] + rows)
        else:
            chunks.append((instrument_id, instrument_id, rows))
    return chunks


def stored_tables(
    query: Query, key: MonthKey, chunks: Sequence[tuple[int, int, int]]
) -> Iterator[pa.Table]:
    """Yield a month's bars from PostgreSQL, columns `SCHEMA`, by instrument and ts."""
    columns = ", ".join(f"{'s' if name == 'symbol' else 'b'}.{name}" for name in SCHEMA.names)
    for first, last, _ in chunks:
        yield query(
            f"SELECT {columns} {of_month(key)} AND b.instrument_id BETWEEN {first} AND {last} "  # noqa: S608  # names and numbers
            "ORDER BY b.instrument_id, b.ts"
        ).cast(SCHEMA)


def together(tables: Iterator[pa.Table]) -> pa.Table:
    """Return tables of columns `SCHEMA` as one."""
    found = list(tables)
    return pa.concat_tables(found) if found else SCHEMA.empty_table()


def partition_of(key: MonthKey) -> Month:
    """Return the partition of `market.bars` that holds a month."""
    return month_of(BARS, key.month.year * 12 + key.month.month - 1, pa.table({}))
