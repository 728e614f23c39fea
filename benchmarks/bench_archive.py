"""Measure how fast bars go into the archive, and how fast one symbol comes back from it.

    python -m benchmarks.bench_archive [--runs N]

A year of one-minute bars of 20 symbols. First the files alone: rows that are in memory already are
written as the archive writes them, forced to disk and digested. Then a month on its whole way: out
of PostgreSQL, into the file, back from it and compared row by row. At last 100,000 bars of one
symbol come back as a frame, from the files alone and through `Warehouse.read_bars`, which asks
PostgreSQL too.

Peer of the last: the same rows from PostgreSQL, before the months were released.
"""

import argparse
import statistics
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path

import pandas as pd
import psycopg
import pyarrow as pa

from benchmarks.common import (
    Figure,
    embedded_servers,
    load_average,
    median_seconds,
    minute_bars,
    new_database,
    seconds,
)
from benchmarks.report import show
from scizor_resources.stores.archive import Archive
from scizor_resources.stores.archive_files import SCHEMA, ArchiveRoot, MonthKey
from scizor_resources.stores.cold import ColdTier, released_files
from scizor_resources.stores.warehouse import Warehouse

SYMBOLS = 20
SESSIONS = 257
ROWS = 100_000
RUNS = 25
_FIRST = datetime(2000, 1, 1, tzinfo=UTC)


def write_files(bars: pd.DataFrame, directory: Path, runs: int) -> float:
    """Return rows a second into files, one a month; the median of some runs."""
    stamped = bars.assign(symbol="SYM", ingested_at=pd.Timestamp("2026-11-01", tz="UTC"))
    table = pa.Table.from_pandas(stamped[SCHEMA.names], schema=SCHEMA, preserve_index=False)
    numbers = bars["ts"].dt.strftime("%Y-%m-01")
    months = {
        date.fromisoformat(str(month)): table.take(pa.array(rows))
        for month, rows in numbers.groupby(numbers).indices.items()
    }
    speeds = []
    for number in range(runs):
        root = ArchiveRoot(str(directory / str(number)))

        def write(root: ArchiveRoot = root) -> None:
            for month, rows in months.items():
                path = MonthKey("us", "1m", month).path(1)
                root.write(path, [rows], rows=len(rows), at_step=lambda _: None)

        speeds.append(len(table) / seconds(write))
    return statistics.median(speeds)


def measure(runs: int = RUNS) -> list[Figure]:
    """Return the figures."""
    bars = minute_bars(SYMBOLS, SESSIONS)
    end = bars["ts"].iloc[ROWS].to_pydatetime()
    with tempfile.TemporaryDirectory(prefix="scizor-bench-") as name, embedded_servers() as servers:
        written = write_files(bars, Path(name) / "files", max(3, runs // 8))
        database = new_database(servers, "bench_archive")
        with psycopg.connect(database.libpq_url) as connection:
            connection.execute(
                "INSERT INTO public.symbols (market, symbol, currency) "
                "SELECT 'us', 'SYM' || n, 'USD' FROM generate_series(1, %s) AS n",
                [SYMBOLS],
            )
        root = ArchiveRoot(str(Path(name) / "archive"))
        tier = ColdTier(root)
        warehouse = Warehouse(database.libpq_url, tier)
        warehouse.write_bars(bars)

        def read() -> pd.DataFrame:
            return warehouse.read_bars("1m", _FIRST, end, instrument_ids=[3])

        stored = read()
        warm = 1000 * median_seconds(read, max(3, runs // 3))
        archive = Archive(
            warehouse, root, now=lambda: datetime(2027, 6, 1, tzinfo=UTC), after_days=30
        )
        archived = len(bars) / seconds(archive.run)
        archive.run(release=True)
        size = sum(month.bytes for month in archive.months()) / len(bars)
        with warehouse.connect() as connection:
            files = released_files(connection, "1m", [3], _FIRST, end)
        symbols = {3: "SYM3"}
        if not tier.read(files, symbols, _FIRST, end).equals(stored) or len(stored) != ROWS:
            raise SystemExit("The archive's bars are not those of PostgreSQL.")
        cold = 1000 * median_seconds(lambda: tier.read(files, symbols, _FIRST, end), runs)
        through = 1000 * median_seconds(read, runs)
        warehouse.close()
    note = f"load {load_average():.1f}"
    median = f"median of {runs}; {note}"
    peer = "PostgreSQL, before the release"
    return [
        Figure("rows in memory into files", written, "rows/s", None, "", ">= 1,300,000", note),
        Figure("PostgreSQL to verified files", archived, "rows/s", None, "", "", note),
        Figure("size of a bar in the archive", size, "bytes", None, "", "", ""),
        Figure(f"{ROWS:,} bars of one symbol, files", cold, "ms", warm, peer, "<= 7", median),
        Figure(f"{ROWS:,} bars of one symbol, reader", through, "ms", warm, peer, "", median),
    ]


def main(arguments: list[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="Bars into the archive and back.")
    parser.add_argument("--runs", type=int, default=RUNS, help="reads of 100,000 bars")
    options = parser.parse_args(arguments)
    show({"archive": measure(options.runs)})


if __name__ == "__main__":
    main()
