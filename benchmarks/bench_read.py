"""Measure how fast stored bars come back as a frame.

    python -m benchmarks.bench_read [--runs N] [--reads N]

Four symbols with a year of one-minute bars are stored; 100,000 bars of one are read through
`Warehouse.read_bars`, then the last 500 bars before a random instant through
`Warehouse.read_bars_around`. Every table is vacuumed and analysed first, as PostgreSQL does by
itself within minutes.

Peers, on the same rows and columns: `pandas.read_sql` over SQLAlchemy, and ADBC's Arrow results.
"""

import argparse
import statistics
from datetime import UTC, datetime

import adbc_driver_postgresql.dbapi as adbc
import numpy as np
import pandas as pd
import psycopg
import sqlalchemy as sa

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
from scizor_resources.endpoints import Endpoints
from scizor_resources.stores.bar_frames import READ_BAR_COLUMNS
from scizor_resources.stores.warehouse import Warehouse

SYMBOLS = 4
SESSIONS = 257
ROWS = 100_000
LAST = 500
RUNS = 15
READS = 500

_COLUMNS = ", ".join(f"{'s' if name == 'symbol' else 'b'}.{name}" for name in READ_BAR_COLUMNS)
_QUERY = (
    f"SELECT {_COLUMNS} FROM market.bars AS b JOIN public.symbols AS s USING (instrument_id) "
    "WHERE b.timeframe = '1m' AND b.instrument_id = 3 AND b.ts < '{end}' "
)


def prepare(servers: Endpoints, bars: pd.DataFrame) -> Endpoints:
    """Return a database that holds the bars and their symbols."""
    database = new_database(servers, "bench_read")
    with psycopg.connect(database.libpq_url) as connection:
        connection.execute(
            "INSERT INTO public.symbols (market, symbol, currency) "
            "SELECT 'us', 'SYM' || n, 'USD' FROM generate_series(1, %s) AS n",
            [SYMBOLS],
        )
    warehouse = Warehouse(database.libpq_url)
    warehouse.write_bars(bars)
    warehouse.close()
    with psycopg.connect(database.libpq_url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    return database


def read_all(database: Endpoints, end: datetime, runs: int) -> tuple[float, float, float]:
    """Return the median seconds of 100,000 bars: ours, ADBC's, and pandas over SQLAlchemy."""
    warehouse = Warehouse(database.libpq_url)
    first = datetime(2000, 1, 1, tzinfo=UTC)

    def ours() -> pd.DataFrame:
        return warehouse.read_bars("1m", first, end, instrument_ids=[3])

    query = _QUERY.format(end=end) + "ORDER BY b.instrument_id, b.ts"
    engine = sa.create_engine(database.sqlalchemy_url)
    with adbc.connect(database.libpq_url) as arrow, engine.connect() as connection:

        def through_arrow() -> pd.DataFrame:
            with arrow.cursor() as cursor:
                cursor.execute(query)
                frame: pd.DataFrame = cursor.fetch_arrow_table().to_pandas()
            return frame

        def through_sqlalchemy() -> pd.DataFrame:
            return pd.read_sql(sa.text(query), connection)

        if not len(ours()) == len(through_arrow()) == len(through_sqlalchemy()) == ROWS:
            raise SystemExit("The three ways differ in their rows.")
        found = (
            median_seconds(ours, runs),
            median_seconds(through_arrow, runs),
            median_seconds(through_sqlalchemy, max(3, runs // 5)),
        )
    engine.dispose()
    warehouse.close()
    return found


def read_last(database: Endpoints, bars: pd.DataFrame, reads: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the seconds of each read of the last 500 bars: ours, and pandas over SQLAlchemy."""
    rng = np.random.default_rng(11)
    times = bars["ts"].iloc[: SESSIONS * 390]
    ends = [times.iloc[int(n)].to_pydatetime() for n in rng.integers(LAST, len(times), reads)]
    warehouse = Warehouse(database.libpq_url)
    ours, theirs = [], []
    engine = sa.create_engine(database.sqlalchemy_url)
    with engine.connect() as connection:
        for end in (ends[0], *ends):
            ours.append(
                seconds(
                    lambda end=end: warehouse.read_bars_around("1m", [3], end, LAST, before=True)
                )
            )
            query = sa.text(_QUERY.format(end=end) + f"ORDER BY b.ts DESC LIMIT {LAST}")
            theirs.append(seconds(lambda query=query: pd.read_sql(query, connection)))
    engine.dispose()
    warehouse.close()
    return np.array(ours[1:]), np.array(theirs[1:])


def measure(runs: int = RUNS, reads: int = READS) -> list[Figure]:
    """Return the figures in milliseconds."""
    bars = minute_bars(SYMBOLS, SESSIONS)
    end = bars["ts"].iloc[ROWS].to_pydatetime()
    with embedded_servers() as servers:
        database = prepare(servers, bars)
        ours, arrow, alchemy = (1000 * each for each in read_all(database, end, runs))
        last, last_peer = (1000 * each for each in read_last(database, bars, reads))
    note = f"median of {runs}; load {load_average():.1f}"
    peer, each = "pandas.read_sql over SQLAlchemy", f"{reads} reads; load {load_average():.1f}"
    return [
        Figure(f"{ROWS:,} bars of one symbol", ours, "ms", alchemy, peer, "<= 60", note),
        Figure(f"{ROWS:,} bars of one symbol", ours, "ms", arrow, "ADBC", "<= 60", note),
        Figure(
            f"last {LAST} bars, median",
            statistics.median(last),
            "ms",
            statistics.median(last_peer),
            peer,
            "",
            each,
        ),
        Figure(
            f"last {LAST} bars, 99th percentile",
            float(np.percentile(last, 99)),
            "ms",
            float(np.percentile(last_peer, 99)),
            peer,
            "<= 5",
            each,
        ),
    ]


def main(arguments: list[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="Stored bars back as a frame.")
    parser.add_argument("--runs", type=int, default=RUNS, help="reads of 100,000 bars")
    parser.add_argument("--reads", type=int, default=READS, help="reads of the last 500 bars")
    options = parser.parse_args(arguments)
    show({"read": measure(options.runs, options.reads)})


if __name__ == "__main__":
    main()
