"""Measure how fast one-minute bars go into PostgreSQL with their key.

    python -m benchmarks.bench_history_load [--rows N] [--runs N]

A year of bars goes through `Warehouse.write_bars`, validation and all: month by month (as a
backfill asks), in a second database symbol by symbol (as files are imported), then the same rows
once more (nothing may change, which is checked), then with one row in a hundred changed.

Peers, on the same rows: the CSV text of pandas through `COPY` into one unpartitioned table with
the same key, without validation; and `DataFrame.to_sql(method="multi")`, on a few rows whose
speed is taken to hold.
"""

import argparse
import io
import statistics
from collections.abc import Iterator

import pandas as pd
import psycopg
import sqlalchemy as sa

from benchmarks.common import (
    SESSION_BARS,
    Figure,
    embedded_servers,
    load_average,
    minute_bars,
    new_database,
    seconds,
)
from benchmarks.report import show
from scizor_resources.endpoints import Endpoints
from scizor_resources.stores.merging import WriteResult
from scizor_resources.stores.warehouse import Warehouse

ROWS = 2_000_000
RUNS = 3
SESSIONS = 256
TO_SQL_ROWS = 20_000
CSV_ROWS = 50_000


def by_month(bars: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield the bars of all symbols, one calendar month at a time."""
    month = bars["ts"].dt.tz_localize(None).to_numpy().astype("datetime64[M]")
    for _, group in bars.groupby(month):
        yield group.reset_index(drop=True)


def by_symbol(bars: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield all bars of one symbol after the other."""
    for _, group in bars.groupby("instrument_id"):
        yield group.reset_index(drop=True)


def write(warehouse: Warehouse, batches: list[pd.DataFrame], expected: WriteResult) -> float:
    """Return the seconds that all batches took.

    Raises:
        SystemExit: the result is not the expected one, so that the time would mean nothing.
    """
    results: list[WriteResult] = []
    taken = seconds(lambda: results.extend(warehouse.write_bars(batch) for batch in batches))
    result = sum(results, start=WriteResult())
    if result != expected:
        raise SystemExit(f"Expected {expected}, got {result}.")
    return taken


def fingerprint(database: Endpoints) -> object:
    """Return a hash of every row with its arrival and its place on disk."""
    with psycopg.connect(database.libpq_url) as connection:
        return connection.execute(
            "SELECT count(*), sum(hashtextextended(b::text || b.ctid::text, 0)::numeric) "
            "FROM market.bars AS b"
        ).fetchone()


def copy_csv(database: Endpoints, batches: list[pd.DataFrame]) -> float:
    """Return the seconds that `COPY` of CSV text takes, a transaction for each batch."""
    with psycopg.connect(database.libpq_url) as connection:
        connection.execute("CREATE TABLE public.peer (LIKE market.bars INCLUDING ALL)")
        connection.commit()
        columns = ", ".join(batches[0].columns)

        def work() -> None:
            for batch in batches:
                with connection.cursor().copy(
                    f"COPY public.peer ({columns}) FROM STDIN (FORMAT csv)"
                ) as copy:
                    for start in range(0, len(batch), CSV_ROWS):
                        text = io.StringIO()
                        part = batch.iloc[start : start + CSV_ROWS]
                        part.to_csv(text, index=False, header=False)
                        copy.write(text.getvalue())
                connection.commit()

        taken = seconds(work)
        connection.execute("DROP TABLE public.peer")
    return taken


def to_sql(database: Endpoints, bars: pd.DataFrame) -> float:
    """Return the seconds that pandas' own multi-row INSERT takes."""
    engine = sa.create_engine(database.sqlalchemy_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE public.peer (LIKE market.bars INCLUDING ALL)"))

    def work() -> None:
        with engine.begin() as connection:
            bars.to_sql(
                "peer", connection, if_exists="append", index=False, method="multi", chunksize=1000
            )

    return seconds(work)


def changed(batches: list[pd.DataFrame]) -> tuple[list[pd.DataFrame], int]:
    """Return the batches with one row in a hundred changed, and how many those are."""
    copies = [batch.copy() for batch in batches]
    for batch in copies:
        batch.loc[::100, "volume"] += 1
    return copies, sum(len(batch.iloc[::100]) for batch in copies)


def run_once(servers: Endpoints, bars: pd.DataFrame) -> dict[str, float]:
    """Return the seconds of each way, once."""
    count = len(bars)
    months = list(by_month(bars))
    found: dict[str, float] = {}
    database = new_database(servers, "bench_load")
    warehouse = Warehouse(database.libpq_url)
    found["by_month"] = write(warehouse, months, WriteResult(inserted=count))
    before = fingerprint(database)
    found["same"] = write(warehouse, months, WriteResult(unchanged=count))
    if fingerprint(database) != before:
        raise SystemExit("The same rows changed the table.")
    edited, edits = changed(months)
    expected = WriteResult(changed=edits, unchanged=count - edits)
    found["changed"] = write(warehouse, edited, expected)
    warehouse.close()
    database = new_database(servers, "bench_load")
    warehouse = Warehouse(database.libpq_url)
    found["by_symbol"] = write(warehouse, list(by_symbol(bars)), WriteResult(inserted=count))
    warehouse.close()
    found["csv"] = copy_csv(new_database(servers, "bench_load"), months)
    return found


def measure(rows: int = ROWS, runs: int = RUNS) -> list[Figure]:
    """Return the figures in rows per second, each the median of the runs."""
    symbols = max(1, round(rows / (SESSIONS * SESSION_BARS)))
    bars = minute_bars(symbols, SESSIONS)
    with embedded_servers() as servers:
        found = [run_once(servers, bars) for _ in range(runs)]
        sample = bars.head(TO_SQL_ROWS)
        database = new_database(servers, "bench_load")
        multi = len(sample) / to_sql(database, sample)

    def speed(name: str) -> float:
        return len(bars) / statistics.median(once[name] for once in found)

    csv, csv_name = speed("csv"), "COPY of CSV text, one table, same key, no validation"
    note = f"{len(bars):,} rows, {symbols} symbols, median of {runs}; load {load_average():.1f}"
    reach = ">= 350,000"
    return [
        Figure("new, month by month", speed("by_month"), "rows/s", csv, csv_name, reach, note),
        Figure("new, symbol by symbol", speed("by_symbol"), "rows/s", csv, csv_name, reach, note),
        Figure(
            "new, month by month",
            speed("by_month"),
            "rows/s",
            multi,
            f"DataFrame.to_sql(method='multi'), {TO_SQL_ROWS:,} rows",
            reach,
            note,
        ),
        Figure("the same again, nothing changes", speed("same"), "rows/s", note=note),
        Figure("again with 1 % changed, old values kept", speed("changed"), "rows/s", note=note),
    ]


def main(arguments: list[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="One-minute bars into PostgreSQL.")
    parser.add_argument("--rows", type=int, default=ROWS, help="how many bars, about")
    parser.add_argument("--runs", type=int, default=RUNS, help="runs of each way")
    options = parser.parse_args(arguments)
    show({"history_load": measure(options.rows, options.runs)})


if __name__ == "__main__":
    main()
