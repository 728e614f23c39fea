"""Measure the close of a minute: the bars of 500 symbols, durable, none twice.

    python -m benchmarks.bench_minute_close [--minutes N]

The minutes of a session are closed one after the other through `LiveBarStore.write`, which is what
the sidecar's warm writer does; then each is closed once more with other values, as healing does,
which keeps the old values in `market.bar_revisions`. Afterwards the rows are counted and compared.

Peers, on a table of the same columns and key, in a transaction each: an upsert of 500 rows by
`executemany`, and one upsert of arrays (`INSERT ... SELECT FROM unnest ... ON CONFLICT`).
"""

import argparse
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np
import psycopg

from benchmarks.common import Figure, embedded_servers, load_average, new_database
from benchmarks.report import show
from scizor_resources.endpoints import Endpoints
from scizor_resources.stores.live_bars import LiveBarRow, LiveBarStore
from scizor_resources.stores.warehouse import Warehouse

SYMBOLS = 500
MINUTES = 200
_FIRST = int(datetime(2026, 3, 2, 14, 30, tzinfo=UTC).timestamp()) * 1_000_000
_DAY = 20_514
_COLUMNS = (
    "instrument_id, timeframe, ts, session_date, open, high, low, close, volume, vwap, "
    "trade_count, source, is_final"
)
_TYPES = (
    *("int", "text", "timestamptz", "date"),
    *("float8",) * 6,
    *("bigint", "text", "bool"),
)
_UPDATE = ", ".join(
    f"{name} = excluded.{name}"
    for name in ("open", "high", "low", "close", "volume", "vwap", "trade_count", "is_final")
)


def minute(number: int, rng: np.random.Generator, shift: float = 0.0) -> list[LiveBarRow]:
    """Return the bars of all symbols in one minute."""
    close = np.round(rng.uniform(20, 400, SYMBOLS), 2) + shift
    volume = rng.integers(1, 9_000, SYMBOLS).astype(float)
    counts = rng.integers(1, 90, SYMBOLS)
    return [
        LiveBarRow(
            each + 1,
            "1m",
            _FIRST + number * 60_000_000,
            _DAY,
            price,
            price + 0.02,
            price - 0.01,
            price,
            size,
            price,
            trades,
            "alpaca",
            True,  # noqa: FBT003  # a row, not a flag
        )  # fmt: skip
        for each, (price, size, trades) in enumerate(
            zip(close.tolist(), volume.tolist(), counts.tolist(), strict=True)
        )
    ]


def closes(
    write: Callable[[Sequence[LiveBarRow]], object], minutes: Sequence[list[LiveBarRow]]
) -> np.ndarray:
    """Return the milliseconds of each close, those of the first ten left out."""
    taken = []
    for rows in minutes:
        began = time.perf_counter()
        write(rows)
        taken.append(1000 * (time.perf_counter() - began))
    return np.array(taken[10:])


def peers(
    database: Endpoints, minutes: Sequence[list[LiveBarRow]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the milliseconds of each close by the two usual ways."""
    with psycopg.connect(database.libpq_url, autocommit=True) as connection:
        for name in ("peer_many", "peer_arrays"):
            connection.execute(f"CREATE TABLE {name} (LIKE market.bars INCLUDING ALL)")
        slots = ", ".join(["%s"] * len(_TYPES))
        one = (
            f"INSERT INTO peer_many ({_COLUMNS}) VALUES ({slots}) "  # noqa: S608  # constants
            f"ON CONFLICT (instrument_id, timeframe, ts) DO UPDATE SET {_UPDATE}"
        )
        arrays = ", ".join(f"%s::{kind}[]" for kind in _TYPES)
        all_at_once = (
            f"INSERT INTO peer_arrays ({_COLUMNS}) SELECT * FROM unnest({arrays}) "  # noqa: S608
            f"ON CONFLICT (instrument_id, timeframe, ts) DO UPDATE SET {_UPDATE}"
        )

        def values(rows: Sequence[LiveBarRow]) -> list[tuple[object, ...]]:
            at = datetime.fromtimestamp(rows[0].start / 1e6, UTC)
            # The peers know no bar that is withdrawn.
            return [(row[0], row[1], at, at.date(), *row[4:13]) for row in rows]

        def many(rows: Sequence[LiveBarRow]) -> None:
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(one, values(rows))

        def by_arrays(rows: Sequence[LiveBarRow]) -> None:
            with connection.transaction():
                connection.execute(
                    all_at_once, [list(each) for each in zip(*values(rows), strict=True)]
                )

        return closes(many, minutes), closes(by_arrays, minutes)


def check(database: Endpoints, minutes: Sequence[list[LiveBarRow]], closed_twice: int) -> None:
    """Compare what is stored with what was closed.

    Raises:
        SystemExit: a bar is missing, there twice, or has other values.
    """
    with psycopg.connect(database.libpq_url) as connection:
        stored = connection.execute(
            "SELECT instrument_id, extract(epoch FROM ts)::bigint * 1000000, close, volume "
            "FROM market.bars"
        ).fetchall()
        kept = connection.execute("SELECT count(*) FROM market.bar_revisions").fetchone()
    expected = {
        (row.instrument_id, row.start, row.close, row.volume) for rows in minutes for row in rows
    }
    if len(stored) != len(expected) or set(stored) != expected:
        raise SystemExit("What is stored is not what was closed.")
    if kept is None or kept[0] != closed_twice:
        raise SystemExit(f"{kept} old values were kept, not {closed_twice}.")


def measure(minutes: int = MINUTES) -> list[Figure]:
    """Return the figures in milliseconds."""
    rng = np.random.default_rng(3)
    first = [minute(number, rng) for number in range(minutes)]
    again = [minute(number, rng, 0.5) for number in range(minutes)]
    with embedded_servers() as servers:
        database = new_database(servers, "bench_minute_close")
        warehouse = Warehouse(database.libpq_url)
        store = LiveBarStore(
            database.libpq_url, warehouse.ensure_partitions, lambda _instrument, _source: 0
        )
        new, changed = closes(store.write, first), closes(store.write, again)
        store.close()
        warehouse.close()
        check(database, again, minutes * SYMBOLS)
        many, arrays = peers(database, first)
    note = f"{minutes - 10} closes; load {load_average():.1f}"
    figures = []
    for name, mine, target in (("new", new, True), ("changed, old values kept", changed, False)):
        for word, at, limit in (("median", 50, "<= 15"), ("99th percentile", 99, "<= 50")):
            what = f"close of a minute, {SYMBOLS} symbols, {name}, {word}"
            value = float(np.percentile(mine, at))
            reach = limit if target else ""
            peer = float(np.percentile(many, at))
            figures.append(Figure(what, value, "ms", peer, "upsert by executemany", reach, note))
            if target:
                peer = float(np.percentile(arrays, at))
                figures.append(Figure(what, value, "ms", peer, "upsert of arrays", reach, note))
    return figures


def main(arguments: list[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="The close of a minute into PostgreSQL.")
    parser.add_argument("--minutes", type=int, default=MINUTES, help="minutes that are closed")
    options = parser.parse_args(arguments)
    show({"minute_close": measure(options.minutes)})


if __name__ == "__main__":
    main()
